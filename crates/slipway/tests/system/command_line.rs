//! What the program says to people and to programs.

use serde_json::Value;

use crate::support::{Outcome, Sample, Server, slipway, start};

/// Every command that is there.
const COMMANDS: [&[&str]; 12] = [
    &["up"],
    &["registry"],
    &["node"],
    &["run"],
    &["image", "convert"],
    &["image", "list"],
    &["repo", "accelerate"],
    &["repo", "list"],
    &["task", "list"],
    &["task", "retry"],
    &["cache", "list"],
    &["cache", "prune"],
];

fn run(arguments: &[&str]) -> Outcome {
    start(&mut slipway(arguments)).wait()
}

#[test]
fn every_command_has_an_example_in_its_help() {
    for command in COMMANDS {
        let help = run(&[command, &["--help"]].concat()).expect_success();
        assert!(help.contains("Example:\n  slipway "), "{command:?}: {help}");
        for option in ["--data", "--output"] {
            assert!(help.contains(option), "{command:?} does not take {option}");
        }
    }
    let help = run(&["--help"]).expect_success();
    for command in COMMANDS {
        let noun = command[0];
        assert!(
            help.contains(&format!("\n  {noun} ")),
            "{noun} is not in: {help}"
        );
    }
    assert!(run(&["--version"]).expect_success().starts_with("slipway "));
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completion", shell]).expect_success();
        assert!(script.contains("accelerate"), "{shell}");
    }
}

#[test]
fn misuse_is_exit_code_2() {
    let lines: [&[&str]; 16] = [
        &[],
        &["no-such-command"],
        &["up", "--listen", "nowhere"],
        &["up", "--road", "dirt"],
        &["run"],
        &["run", "--network", "bridge", "a.b/c:1"],
        &["image"],
        &["image", "convert", "a.b/c:1"],
        &["image", "convert", "a.b/c:1", "oci:d:t"],
        &["image", "convert", "oci:d", "oci:d:t"],
        &["image", "convert", "--level", "99", "oci:d:t", "oci:e:t"],
        &["repo", "accelerate", "UPPER", "on"],
        &["repo", "accelerate", "app", "maybe"],
        &["task", "retry", "first"],
        &["cache", "prune", "--output", "xml"],
        &["completion", "tcl"],
    ];
    for line in lines {
        let outcome = run(line);
        assert_eq!(outcome.code(), 2, "{line:?}: {outcome:?}");
        assert!(outcome.stdout.is_empty(), "{line:?}: {outcome:?}");
        assert!(!outcome.stderr.is_empty(), "{line:?}: {outcome:?}");
    }
}

#[test]
fn without_a_server_the_commands_say_how_to_start_one() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    let lines: [&[&str]; 8] = [
        &["image", "list"],
        &["repo", "list"],
        &["repo", "accelerate", "app", "on"],
        &["task", "list"],
        &["task", "list", "--watch"],
        &["task", "retry", "1"],
        &["cache", "list"],
        &["cache", "prune"],
    ];
    for line in lines {
        let errors = run(&[line, &["--data", data]].concat()).expect_failure();
        assert!(errors.contains(data), "{line:?}: {errors}");
        assert!(errors.contains("hint: start "), "{line:?}: {errors}");
        let as_json = [line, &["--data", data, "--output", "json"]].concat();
        let errors = run(&as_json).expect_failure();
        let error: Value = serde_json::from_str(&errors).unwrap();
        assert!(error["error"]["message"].is_string(), "{line:?}: {errors}");
        assert!(error["error"]["hint"].is_string(), "{line:?}: {errors}");
    }
}

#[test]
fn a_conversion_that_fails_leaves_no_target() {
    let directory = tempfile::tempdir().unwrap();
    let side = |name: &str| format!("oci:{}:latest", directory.path().join(name).display());
    let line = ["image", "convert", &side("absent"), &side("target")];
    let errors = run(&line).expect_failure();
    assert!(errors.contains("absent"), "{errors}");
    assert!(!directory.path().join("target").exists());
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_every_command_that_prints_data_prints_json() {
    let server = Server::start();
    let image = server.push_accelerated(Sample::small(), "team/app:1");
    server.slipway(&["run", &image]).expect_success();
    let json = |line: &[&str]| {
        server
            .slipway(&[line, &["--output", "json"]].concat())
            .json()
    };
    let images = json(&["image", "list"]);
    assert_eq!(images["images"][0]["tag"], "1");
    assert_eq!(images["images"][0]["accelerated"]["freshness"], "fresh");
    let tasks = json(&["task", "list"]);
    assert_eq!(tasks["tasks"][0]["state"], "SUCCEEDED");
    assert_eq!(json(&["task", "list", "--watch"]), tasks);
    json(&["repo", "list"]);
    json(&["repo", "accelerate", "team/app", "off"]);
    let held = json(&["cache", "list"]);
    assert_eq!(held["images"][0]["reference"].as_str(), Some(&*image));
    assert_eq!(held["layers"].as_array().unwrap().len(), 2);
    let source = format!("docker://{}", image.trim_end_matches("_accelerated"));
    let target = format!("oci:{}:latest", server.scratch().join("out").display());
    let converted = json(&["image", "convert", &source, &target]);
    assert_eq!(
        converted["platforms"][0]["layers"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let errors = server
        .slipway(&["task", "retry", "1", "--output", "json"])
        .expect_failure();
    let error: Value = serde_json::from_str(&errors).unwrap();
    assert!(error["error"]["message"].is_string(), "{errors}");
    assert_eq!(json(&["cache", "prune"])["images"], 1);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_the_tables_show_what_is_there() {
    let server = Server::start();
    let image = server.push_accelerated(Sample::small(), "team/app:1");
    server.slipway(&["run", &image]).expect_success();
    let lines = [
        (&["image", "list"][..], "team/app:1_accelerated"),
        (&["task", "list"], "SUCCEEDED"),
        (&["repo", "list"], "team/app"),
        (&["cache", "list"], &image),
        (&["cache", "prune"], "FREED"),
    ];
    for (line, word) in lines {
        let table = server.slipway(line).expect_success();
        assert!(table.contains(word), "{line:?}: {table}");
    }
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_the_server_is_found_through_the_environment() {
    let server = Server::start();
    let mut command = slipway(["image", "list", "--output", "json"]);
    let listed = start(command.env("SLIPWAY_DATA", server.data())).wait();
    assert_eq!(listed.json()["images"], Value::Array(vec![]));
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_push_to_a_converted_tag_is_refused_while_acceleration_is_on() {
    let server = Server::start();
    let sample = Sample::small();
    let accelerated = server.push_accelerated(sample, "app:1");
    let layout = tempfile::tempdir_in(server.scratch()).unwrap();
    sample.image.write_layout(layout.path(), "latest").unwrap();
    let push = || crate::support::skopeo_push(layout.path(), "latest", &accelerated);
    let errors = push().expect_failure();
    assert!(errors.contains("acceleration"), "{errors}");
    server
        .slipway(&["repo", "accelerate", "app", "off"])
        .expect_success();
    push().expect_success();
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_images_are_converted_from_registry_to_registry_and_back() {
    let server = Server::start();
    let sample = Sample::small();
    let source = format!("docker://{}", server.push(sample, "app:1"));
    let image = format!("{}/fast:1", server.address());
    let convert = |source: &str, target: &str| {
        let line = ["image", "convert", source, target, "--output", "json"];
        server.slipway(&line)
    };
    let pushed = convert(&source, &format!("docker://{image}")).json();
    let written = server.scratch().join("layout");
    let target = format!("oci:{}:fast", written.display());
    let stored = convert(&source, &target).json();
    assert_eq!(pushed["target"]["digest"], stored["target"]["digest"]);
    assert!(pushed["target"]["digest"].is_string(), "{pushed:#}");
    let outcome = server.slipway(&["run", &image, "sh", "-c", Sample::READ_ALL]);
    assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
    let again = convert(&target, &format!("docker://{image}_again"));
    assert!(again.expect_failure().contains("is accelerated already"));
}
