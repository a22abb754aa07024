//! `slipway up` itself: killed, stopped, started again, several side by side.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    Sample, Server, kill, mounts_below, skopeo_push, slipway, start, wait_for, worker_of,
};

fn tags(server: &Server) -> Vec<String> {
    let list = server
        .slipway(&["image", "list", "--output", "json"])
        .json();
    let images = list["images"].as_array().unwrap();
    let name = |image: &Value| {
        let part = |key: &str| image[key].as_str().unwrap().to_owned();
        format!("{}:{}", part("repository"), part("tag"))
    };
    images.iter().map(name).collect()
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_stopped_server_leaves_nothing_mounted_and_is_found_again() {
    let mut server = Server::start();
    let sample = Sample::small();
    let image = server.push_accelerated(sample, "app:1");
    let read_all = ["run", &image, "sh", "-c", Sample::READ_ALL];
    assert_eq!(server.slipway(&read_all).stdout, sample.listing());
    server.stop();
    assert!(mounts_below(server.data()).is_empty());
    assert!(server.node_status().is_none());
    let errors = server.slipway(&["image", "list"]).expect_failure();
    assert!(
        errors.contains("hint: start it with `slipway up`"),
        "{errors}"
    );
    let errors = server.slipway(&read_all).expect_failure();
    assert!(errors.contains("hint: start the server"), "{errors}");

    server.start_again();
    assert_eq!(tags(&server), ["app:1", "app:1_accelerated"]);
    assert_eq!(server.slipway(&read_all).stdout, sample.listing());
    assert_eq!(server.usage().fetched_bytes, 0, "the cache was forgotten");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_killed_server_is_taken_over_and_its_containers_go_on() {
    let mut server = Server::start();
    let sample = Sample::whole();
    let image = server.push_accelerated(sample, "app:1");
    let shared = server.scratch().join("shared");
    fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let script = format!(
        "touch /shared/ready; until test -e /shared/go; do sleep 0.05; done; {}",
        Sample::READ_ALL
    );
    let container = server.spawn(&["run", "-v", &volume, &image, "sh", "-c", &script]);
    wait_for("the container", || {
        shared.join("ready").exists().then_some(())
    });
    let keeper = server.keeper();

    server.kill_up();
    assert_eq!(server.keeper(), keeper, "the node went with it");
    server.start_again();
    assert_eq!(server.keeper(), keeper, "the node was not taken over");
    assert_eq!(tags(&server), ["app:1", "app:1_accelerated"]);
    fs::write(shared.join("go"), "").unwrap();
    let outcome = container.wait();
    assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
    let again = server.slipway(&["run", &image, "sh", "-c", Sample::READ_ALL]);
    assert_eq!(again.stdout, sample.listing());
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_read_waits_for_a_registry_that_is_away() {
    let mut server = Server::start();
    let sample = Sample::whole();
    let image = server.push_accelerated(sample, "app:1");
    let shared = server.scratch().join("shared");
    fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let script = format!(
        "touch /shared/ready; until test -e /shared/go; do sleep 0.05; done; {}",
        Sample::READ_ALL
    );
    let container = server.spawn(&["run", "-v", &volume, &image, "sh", "-c", &script]);
    wait_for("the container", || {
        shared.join("ready").exists().then_some(())
    });
    server.kill_up();
    fs::write(shared.join("go"), "").unwrap();
    // The node asks again and again, in vain, until the registry is back.
    let asked = server.usage().requests;
    wait_for("failed requests", || {
        (server.usage().requests > asked + 3).then_some(())
    });
    server.start_again();
    let outcome = container.wait();
    assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_conversion_that_was_killed_ends_after_the_next_start() {
    let mut server = Server::start();
    let sample = Sample::whole();
    server
        .slipway(&["repo", "accelerate", "app", "on"])
        .expect_success();
    server.push(sample, "app:1");
    server.kill_up();
    server.start_again();
    let tasks = server
        .slipway(&["task", "list", "--watch", "--output", "json"])
        .json();
    assert_eq!(tasks["tasks"][0]["state"], "SUCCEEDED", "{tasks:#}");
    assert_eq!(tags(&server), ["app:1", "app:1_accelerated"]);
    let work: Vec<_> = fs::read_dir(server.data().join("registry/work"))
        .unwrap()
        .collect();
    assert!(work.is_empty(), "{work:?}");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_node_that_was_killed_whole_is_replaced() {
    let mut server = Server::start();
    let sample = Sample::small();
    let image = server.push_accelerated(sample, "app:1");
    server.slipway(&["run", &image]).expect_success();
    let keeper = server.keeper();
    let worker = worker_of(keeper).unwrap();
    server.kill_up();
    // The keeper first, or it starts another worker.
    kill(keeper, Signal::KILL);
    kill(worker, Signal::KILL);
    wait_for("the end of the node", || {
        server.node_status().is_none().then_some(())
    });
    server.start_again();
    let outcome = server.slipway(&["run", &image, "sh", "-c", Sample::READ_ALL]);
    assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_an_image_in_use_at_a_stop_is_fresh_at_the_next_start() {
    let mut server = Server::start();
    let sample = Sample::small();
    let image = server.push_accelerated(sample, "app:1");
    let shared = server.scratch().join("shared");
    fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let script = "touch /shared/ready; until test -e /shared/go; do sleep 0.05; done";
    let container = server.spawn(&["run", "-v", &volume, &image, "sh", "-c", script]);
    wait_for("the container", || {
        shared.join("ready").exists().then_some(())
    });
    server.stop();
    server.start_again();
    let outcome = server.slipway(&["run", &image, "sh", "-c", Sample::READ_ALL]);
    assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
    fs::write(shared.join("go"), "").unwrap();
    container.wait();
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_container_whose_program_was_killed_is_cleaned_up() {
    let server = Server::start();
    let image = server.push_accelerated(Sample::small(), "app:1");
    let shared = server.scratch().join("shared");
    fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let script = "touch /shared/ready; until test -e /shared/go; do sleep 0.05; done";
    let arguments = [
        "run", "-v", &volume, "--name", "one", &image, "sh", "-c", script,
    ];
    let container = server.spawn(&arguments);
    wait_for("the container", || {
        shared.join("ready").exists().then_some(())
    });
    kill(container.pid(), Signal::KILL);
    // Its process goes on, and holds the name and the image.
    let taken = server.slipway(&["run", "--name", "one", &image, "true"]);
    assert!(
        taken
            .expect_failure()
            .contains("there is a container one already")
    );
    let pruned = server
        .slipway(&["cache", "prune", "--output", "json"])
        .json();
    assert_eq!(pruned["in_use"], 1);
    fs::write(shared.join("go"), "").unwrap();
    let pruned = wait_for("the end of the container", || {
        let pruned = server
            .slipway(&["cache", "prune", "--output", "json"])
            .json();
        (pruned["images"] == 1).then_some(pruned)
    });
    assert_eq!(pruned["in_use"], 0);
    assert!(
        fs::read_dir(server.data().join("node/containers"))
            .unwrap()
            .next()
            .is_none()
    );
    server
        .slipway(&["run", "--name", "one", &image, "true"])
        .expect_success();
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_the_name_of_a_dead_container_is_free_and_its_writes_are_gone() {
    let server = Server::start();
    let image = server.push_accelerated(Sample::small(), "app:1");
    let shared = server.scratch().join("shared");
    fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let script = "test -e /marker && exit 9; touch /marker /shared/ready; until test -e /shared/go; do sleep 0.05; done";
    let run = [
        "run", "-v", &volume, "--name", "one", &image, "sh", "-c", script,
    ];
    let container = server.spawn(&run);
    wait_for("the container", || {
        shared.join("ready").exists().then_some(())
    });
    kill(container.pid(), Signal::KILL);
    fs::write(shared.join("go"), "").unwrap();
    let again = wait_for("the name", || {
        let outcome = server.slipway(&run);
        let is_taken = outcome.stderr.contains("there is a container one already");
        (!is_taken).then_some(outcome)
    });
    assert_eq!(again.code(), 0, "{again:?}");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_several_servers_run_side_by_side() {
    let servers = [Server::start(), Server::start(), Server::start()];
    let sample = Sample::small();
    let images: Vec<_> = servers
        .iter()
        .map(|server| server.push_accelerated(sample, "app:1"))
        .collect();
    for (server, image) in servers.iter().zip(&images) {
        let read_all = ["run", image, "sh", "-c", Sample::READ_ALL];
        assert_eq!(server.slipway(&read_all).stdout, sample.listing());
        assert_eq!(tags(server).len(), 2);
    }
    // A node runs images of any registry.
    let foreign = servers[0].slipway(&["run", &images[1]]);
    assert_eq!(foreign.expect_success(), "hello\n");
    let [first, second, _third] = servers;
    drop(first);
    assert_eq!(second.slipway(&["run", &images[1]]).code(), 0);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_second_server_on_the_same_data_or_port_is_refused() {
    let server = Server::start();
    let data = server.data().to_str().unwrap();
    let same_data = slipway(["up", "--data", data, "--listen", "127.0.0.1:0"]);
    let errors = start(&mut { same_data }).wait().expect_failure();
    assert!(errors.contains(data), "{errors}");
    let other = server.scratch().join("other");
    let other = other.to_str().unwrap();
    let same_port = slipway(["up", "--data", other, "--listen", server.address()]);
    let errors = start(&mut { same_port }).wait().expect_failure();
    assert!(errors.contains("cannot listen on"), "{errors}");
    assert!(errors.contains("hint: choose another address"), "{errors}");
    assert!(server.node_status().is_some());
    assert_eq!(tags(&server).len(), 0);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_what_was_pushed_before_a_kill_can_be_run_after_it() {
    let mut server = Server::start();
    let sample = Sample::small();
    let layout = tempfile::tempdir_in(server.scratch()).unwrap();
    sample.image.write_layout(layout.path(), "latest").unwrap();
    for round in 0..5 {
        let image = format!("{}/app:{round}", server.address());
        skopeo_push(layout.path(), "latest", &image).expect_success();
        server.kill_up();
        server.start_again();
        let outcome = server.slipway(&["run", &image, "sh", "-c", Sample::READ_ALL]);
        assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
    }
    assert_eq!(tags(&server).len(), 5);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_registry_and_node_run_alone() {
    let server = Server::start();
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let data = directory.path().to_str().unwrap();
    let mut registry: Command = slipway(["registry", "--data", data, "--listen", "127.0.0.1:0"]);
    let registry = start(&mut registry);
    let file = directory.path().join("server.json");
    wait_for("the registry", || fs::read(&file).ok());
    let listed = slipway(["image", "list", "--output", "json", "--data", data]);
    assert_eq!(
        start(&mut { listed }).wait().json()["images"],
        Value::Array(vec![])
    );
    kill(registry.pid(), Signal::TERM);
    let outcome = registry.wait();
    assert!(outcome.stdout.ends_with("ready\n"), "{outcome:?}");
    assert_eq!(outcome.code(), 0);

    let node = start(&mut slipway(["node", "--data", data]));
    let image = server.push_accelerated(Sample::small(), "app:1");
    let socket = directory.path().join("node/control.sock");
    wait_for("the node", || socket.exists().then_some(()));
    let ran = start(&mut slipway(["run", "--data", data, &image])).wait();
    assert_eq!(ran.expect_success(), "hello\n");
    kill(node.pid(), Signal::TERM);
    assert_eq!(node.wait().code(), 0);
    assert!(mounts_below(directory.path()).is_empty());
}
