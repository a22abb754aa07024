//! The road of an image: pushed, converted, started, read.

use std::fs;

use serde_json::Value;

use crate::support::{Sample, Server, mounts_below, run, start, wait_for};

fn timeline_of(errors: &str) -> Value {
    let line = errors.lines().find(|line| line.starts_with('{')).unwrap();
    serde_json::from_str(line).unwrap()
}

/// Every byte of the image, by this road, converted and not.
fn read_by(road: &str) {
    let server = Server::start_with(&["--road", road]);
    let sample = Sample::whole();
    let accelerated = server.push_accelerated(sample, "team/app:1.0");
    let plain = accelerated.trim_end_matches("_accelerated");
    for (image, kind) in [(accelerated.as_str(), "accelerated"), (plain, "plain")] {
        let arguments = [
            "run",
            "--timeline=json",
            image,
            "sh",
            "-c",
            Sample::READ_ALL,
        ];
        let outcome = server.slipway(&arguments);
        assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
        assert_eq!(outcome.code(), 0);
        let timeline = timeline_of(&outcome.stderr);
        assert_eq!(timeline["kind"], kind);
        assert_eq!(timeline["road"], road);
        let shown = server.slipway(&["run", image, "stat", "-c", "%a %u %g %Y", "/data/tagged"]);
        assert_eq!(shown.expect_success(), "4711 1000 100000 1600000000\n");
        let linked = server.slipway(&["run", image, "stat", "-c", "%h", "/data/link"]);
        assert_eq!(linked.expect_success(), "2\n");
    }
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_every_byte_arrives_through_files() {
    read_by("erofs-file");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_every_byte_arrives_through_loop_devices() {
    read_by("erofs-loop");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_the_road_can_be_set_in_the_configuration() {
    for road in ["erofs-file", "erofs-loop"] {
        let server = Server::start_configured(&format!("[node]\nroad = \"{road}\"\n"), &[]);
        assert_eq!(server.node_status().unwrap().road, road);
    }
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_the_exit_code_is_the_containers() {
    let server = Server::start();
    let image = server.push_accelerated(Sample::small(), "app:1");
    let run = |script: &str| server.slipway(&["run", &image, "sh", "-c", script]);
    assert_eq!(run("exit 0").code(), 0);
    assert_eq!(run("exit 42").code(), 42);
    // The first process of a container cannot kill itself.
    assert_eq!(run("sh -c 'kill -9 $$'; exit $?").code(), 137);
    let outcome = run("echo to-output; echo to-error >&2; exit 3");
    assert_eq!(outcome.stdout, "to-output\n");
    assert!(outcome.stderr.contains("to-error\n"));
    assert_eq!(outcome.code(), 3);
    let default = server.slipway(&["run", &image]);
    assert_eq!(default.expect_success(), "hello\n");
    let unknown = server.slipway(&["run", &image, "no-such-program"]);
    assert_ne!(unknown.code(), 0);
    assert!(unknown.stderr.contains("no-such-program"), "{unknown:?}");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_container_gets_what_the_command_line_says() {
    let server = Server::start();
    let image = server.push_accelerated(Sample::small(), "app:1");
    let run = |options: &[&str], script: &str| {
        let arguments = [&["run"], options, &[&image, "sh", "-c", script]].concat();
        server.slipway(&arguments)
    };
    let printed = |options: &[&str], script: &str| run(options, script).expect_success();
    let env = printed(&["-e", "GIVEN=1 2", "-e", "ABSENT_HERE"], "env");
    assert!(env.contains("FROM_IMAGE=yes\n"), "{env}");
    assert!(env.contains("GIVEN=1 2\n"), "{env}");
    assert!(!env.contains("ABSENT_HERE"), "{env}");
    assert_eq!(printed(&["-w", "/data"], "pwd"), "/data\n");
    let ids = "id -u; id -g; id -G";
    assert_eq!(printed(&["-u", "app"], ids), "1000\n1001\n1001 1002\n");
    assert_eq!(printed(&["-u", "7:8"], ids), "7\n8\n8\n");
    let interfaces = "ls /sys/class/net";
    assert_eq!(printed(&["--network", "none"], interfaces), "lo\n");
    let ours: Vec<_> = fs::read_dir("/sys/class/net").unwrap().collect();
    let theirs = printed(&["--network", "host"], interfaces);
    assert_eq!(theirs.lines().count(), ours.len(), "{theirs}");

    let shared = server.scratch().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("given"), "from outside\n").unwrap();
    let writable = format!("{}:/shared", shared.display());
    let shown = printed(
        &["-v", &writable],
        "cat /shared/given; echo back > /shared/made",
    );
    assert_eq!(shown, "from outside\n");
    assert_eq!(fs::read_to_string(shared.join("made")).unwrap(), "back\n");
    let readable = format!("{}:/shared:ro", shared.display());
    let refused = run(&["-v", &readable], "touch /shared/other");
    assert_ne!(refused.code(), 0);
    assert!(!shared.join("other").exists());
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_second_run_fetches_nothing_and_sees_nothing_of_the_first() {
    let server = Server::start();
    let sample = Sample::small();
    let image = server.push_accelerated(sample, "app:1");
    let script = format!(
        "{}; echo changed > /data/first; rm /data/second",
        Sample::READ_ALL
    );
    let read_all = ["run", &image, "sh", "-c", &script];
    assert_eq!(server.slipway(&read_all).stdout, sample.listing());
    let fetched = server.usage().fetched_bytes;
    assert!(fetched > 0);
    assert_eq!(server.slipway(&read_all).stdout, sample.listing());
    assert_eq!(server.usage().fetched_bytes, fetched);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_container_starts_before_its_image_is_here() {
    let server = Server::start();
    let image = server.push_accelerated(Sample::whole(), "app:1");
    let first = server.slipway(&["run", &image, "cat", "/etc/passwd"]);
    assert!(first.expect_success().starts_with("root:"));
    let held = server
        .slipway(&["cache", "list", "--output", "json"])
        .json();
    let number = |name: &str| held["images"][0][name].as_u64().unwrap();
    assert!(number("present_bytes") < number("tar_bytes"), "{held:#}");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_containers_of_an_image_share_its_mount() {
    let server = Server::start();
    let sample = Sample::small();
    let image = server.push_accelerated(sample, "app:1");
    let shared = server.scratch().join("shared");
    fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let run = |name: &str| {
        let script = format!(
            "touch /shared/{name}; until test -e /shared/go; do sleep 0.05; done; {}",
            Sample::READ_ALL
        );
        let arguments = [
            "run", "-v", &volume, "--name", name, &image, "sh", "-c", &script,
        ];
        server.spawn(&arguments)
    };
    let containers = [run("one"), run("two")];
    for name in ["one", "two"] {
        wait_for("the container", || shared.join(name).exists().then_some(()));
    }
    let images = server.data().join("node/images");
    assert_eq!(mounts_below(&images).len(), 1);
    let held = server
        .slipway(&["cache", "list", "--output", "json"])
        .json();
    assert_eq!(held["images"][0]["containers"], 2);
    let pruned = server
        .slipway(&["cache", "prune", "--output", "json"])
        .json();
    assert_eq!(
        (&pruned["images"], &pruned["in_use"]),
        (&0.into(), &1.into())
    );
    let taken = server.slipway(&["run", "--name", "one", &image, "true"]);
    let errors = taken.expect_failure();
    assert!(
        errors.contains("there is a container one already"),
        "{errors}"
    );
    fs::write(shared.join("go"), "").unwrap();
    for container in containers {
        let outcome = container.wait();
        assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
    }
    let pruned = server
        .slipway(&["cache", "prune", "--output", "json"])
        .json();
    assert_eq!(
        (&pruned["images"], &pruned["layers"]),
        (&1.into(), &2.into())
    );
    assert_eq!(mounts_below(&images).len(), 0);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_signals_reach_the_container() {
    let server = Server::start();
    let image = server.push(Sample::small(), "app:1");
    let ready = server.scratch().join("ready");
    let volume = format!("{}:/shared", server.scratch().display());
    let script = "trap 'exit 7' TERM; touch /shared/ready; while true; do sleep 0.05; done";
    let arguments = ["run", "-v", &volume, &image, "sh", "-c", script];
    let container = server.spawn(&arguments);
    wait_for("the container", || ready.exists().then_some(()));
    crate::support::kill(container.pid(), rustix::process::Signal::TERM);
    assert_eq!(container.wait().code(), 7);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_container_gets_a_terminal_when_asked() {
    let server = Server::start();
    let image = server.push(Sample::small(), "app:1");
    let line = format!(
        "{} --data {} run -t {image} sh -c 'test -t 0 && test -t 1 && exit 9'",
        env!("CARGO_BIN_EXE_slipway"),
        server.data().display(),
    );
    let arguments = ["--quiet", "--return", "--command", &line, "/dev/null"];
    let outcome = start(std::process::Command::new("script").args(arguments)).wait();
    assert_eq!(outcome.code(), 9, "{outcome:?}");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_an_image_of_a_hundred_and_thirty_layers_runs() {
    let image = Sample::of_layers(130);
    for road in ["erofs-file", "erofs-loop"] {
        let server = Server::start_with(&["--road", road]);
        let accelerated = server.push_accelerated(&image, "deep:1");
        for image_name in [
            accelerated.as_str(),
            accelerated.trim_end_matches("_accelerated"),
        ] {
            let outcome = server.slipway(&["run", image_name, "sh", "-c", Sample::READ_ALL]);
            assert_eq!(outcome.stdout, image.listing(), "{}", outcome.stderr);
        }
    }
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_docker_image_is_converted_and_runs() {
    let server = Server::start();
    server
        .slipway(&["repo", "accelerate", "app", "on"])
        .expect_success();
    let sample = Sample::small();
    let layout = tempfile::tempdir_in(server.scratch()).unwrap();
    sample.image.write_layout(layout.path(), "latest").unwrap();
    let source = format!("oci:{}:latest", layout.path().display());
    let image = format!("{}/app:1", server.address());
    let target = format!("docker://{image}");
    let copy = [
        "copy",
        "--quiet",
        "--format",
        "v2s2",
        "--dest-tls-verify=false",
        &source,
        &target,
    ];
    run("skopeo", &copy).expect_success();
    let pushed = server.manifest("app:1");
    let media_type = "application/vnd.docker.distribution.manifest.v2+json";
    assert_eq!(pushed["mediaType"], media_type);
    server
        .slipway(&["task", "list", "--watch"])
        .expect_success();
    for image in [&image, &format!("{image}_accelerated")] {
        let outcome = server.slipway(&["run", image, "sh", "-c", Sample::READ_ALL]);
        assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
    }
}
