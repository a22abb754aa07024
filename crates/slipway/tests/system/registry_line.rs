//! A registry behind a line that breaks, dawdles or is gone.

use std::time::Duration;

use crate::support::{Fault, Line, Sample, Server};

/// The same image, named by way of the line.
fn through(line: &Line, server: &Server, image: &str) -> String {
    image.replace(server.address(), line.address())
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_line_that_is_cut_again_and_again_costs_time_only() {
    let server = Server::start();
    let sample = Sample::whole();
    let accelerated = server.push_accelerated(sample, "app:1");
    let line = Line::to(server.address(), Fault::Cut { after: 700_000 });
    let image = through(&line, &server, &accelerated);
    let outcome = server.slipway(&["run", &image, "sh", "-c", Sample::READ_ALL]);
    assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
    assert!(line.cuts() > 0, "nothing was cut");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_plain_image_whose_layer_is_cut_says_which_and_leaves_nothing() {
    let server = Server::start();
    let sample = Sample::small();
    let plain = server.push(sample, "app:1");
    let line = Line::to(server.address(), Fault::Cut { after: 100_000 });
    let image = through(&line, &server, &plain);
    // Every other connection is good: one attempt of a few gets a bad one for a layer.
    let outcomes: Vec<_> = (0..4)
        .map(|_| {
            let outcome = server.slipway(&["run", &image, "sh", "-c", Sample::READ_ALL]);
            server.slipway(&["cache", "prune"]).expect_success();
            outcome
        })
        .collect();
    assert!(line.cuts() > 0, "nothing was cut");
    for outcome in outcomes {
        if outcome.code() == 0 {
            assert_eq!(outcome.stdout, sample.listing());
            continue;
        }
        let errors = outcome.expect_failure();
        assert!(errors.contains(&image), "{errors}");
        let is_named = sample
            .image
            .diff_ids
            .iter()
            .any(|id| errors.contains(id.as_str()));
        assert!(is_named, "{errors}");
    }
    assert_eq!(server.node_status().unwrap().images, 0);
    let outcome = server.slipway(&["run", &plain, "sh", "-c", Sample::READ_ALL]);
    assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_slow_line_is_waited_for() {
    let server = Server::start();
    let sample = Sample::small();
    let accelerated = server.push_accelerated(sample, "app:1");
    let by = Duration::from_millis(5);
    let line = Line::to(server.address(), Fault::Slow { by });
    let image = through(&line, &server, &accelerated);
    let outcome = server.slipway(&[
        "run",
        "--timeline=json",
        &image,
        "sh",
        "-c",
        Sample::READ_ALL,
    ]);
    assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_registry_that_stays_away_is_an_error_and_what_is_here_can_be_read() {
    let mut origin = Server::start();
    let sample = Sample::small();
    let image = origin.push_accelerated(sample, "app:1");
    let server = Server::start_configured("[node]\nread_deadline_seconds = 2\n", &[]);
    let shared = server.scratch().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let script = format!(
        "sha256sum /data/third; touch /shared/ready; until test -e /shared/go; do sleep 0.05; done; \
         cat /data/first > /tmp/first; echo $?; sha256sum /data/third; {}",
        Sample::READ_ALL
    );
    let container = server.spawn(&["run", "-v", &volume, &image, "sh", "-c", &script]);
    crate::support::wait_for("the container", || {
        shared.join("ready").exists().then_some(())
    });
    origin.stop();
    std::fs::write(shared.join("go"), "").unwrap();
    let outcome = container.wait();
    let third = outcome.stdout.lines().next().unwrap();
    let again = outcome.stdout.lines().filter(|line| *line == third).count();
    assert!(again >= 2, "what was here could not be read: {outcome:?}");
    for line in outcome
        .stdout
        .lines()
        .filter(|line| line.contains("/data/"))
    {
        assert!(sample.listing().contains(line), "a wrong byte: {line}");
    }
    if outcome.stdout != format!("{third}\n0\n{third}\n{}", sample.listing()) {
        assert!(
            server.log().contains("did not arrive in time"),
            "{}",
            server.log()
        );
    }
    let errors = server.slipway(&["run", &image, "true"]).expect_failure();
    assert!(errors.contains("check that the registry runs"), "{errors}");
}
