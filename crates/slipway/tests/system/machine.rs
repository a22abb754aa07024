//! Machines that lack something.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::{Outcome, Sample, Server, SmallDisk, mounts_below, slipway, start};

/// Runs `slipway up`, which must not get ready, with its data in a new directory.
fn refused(configuration: &str, wrap: &[&str], arguments: &[&str]) -> Outcome {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    // Whoever is not root must be able to come here too.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(directory.path().join("slipway.toml"), configuration).unwrap();
    let mut command = wrapped(wrap);
    command
        .args(["up", "--listen", "127.0.0.1:0", "--data"])
        .arg(directory.path())
        .args(arguments);
    let outcome = start(&mut command).wait();
    assert!(mounts_below(directory.path()).is_empty());
    assert!(!outcome.stdout.contains("ready"), "{outcome:?}");
    outcome
}

/// The program, started by another one.
fn wrapped(wrap: &[&str]) -> Command {
    let Some((program, arguments)) = wrap.split_first() else {
        return slipway::<&str>([]);
    };
    let mut command = Command::new(program);
    command.args(arguments).arg(env!("CARGO_BIN_EXE_slipway"));
    command
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_without_a_fuse_device_the_error_names_it() {
    let errors = refused("[node]\nfuse_device = \"/nonexistent\"\n", &[], &[]).expect_failure();
    assert!(errors.contains("/nonexistent"), "{errors}");
    assert!(errors.contains("hint: load the module"), "{errors}");
    let hide = "mount -t tmpfs none /dev && exec \"$0\" \"$@\"";
    let hidden = ["unshare", "--mount", "sh", "-c", hide];
    let errors = refused("", &hidden, &[]).expect_failure();
    assert!(errors.contains("/dev/fuse"), "{errors}");
    assert!(errors.contains("hint: "), "{errors}");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_fuse_device_that_is_none_is_named() {
    let errors = refused("[node]\nfuse_device = \"/dev/null\"\n", &[], &[]).expect_failure();
    assert!(errors.contains("/dev/null"), "{errors}");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_without_root_the_error_says_so() {
    // The program may lie below a directory that only root can enter.
    let copied = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(copied.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = copied.path().join("slipway");
    fs::copy(env!("CARGO_BIN_EXE_slipway"), &program).unwrap();
    let program = program.to_str().unwrap();
    let nobody = [
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        program,
    ];
    let run = |arguments: &[&str]| {
        crate::support::run("setpriv", &[&nobody[..], arguments].concat()).expect_failure()
    };
    let data = copied.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
    let data = data.to_str().unwrap();
    for arguments in [
        &["up", "--data", data, "--listen", "127.0.0.1:0"][..],
        &["node", "--data", data],
        &["run", "--data", data, "127.0.0.1:1/app:1"],
    ] {
        let errors = run(arguments);
        assert!(errors.contains("root"), "{errors}");
        assert!(errors.contains("hint: use sudo"), "{errors}");
    }
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_without_a_runtime_nothing_is_fetched() {
    let server = Server::start();
    let image = server.push_accelerated(Sample::small(), "app:1");
    for runtime in ["nope", "/does/not/exist/runc"] {
        let errors = server
            .slipway(&["run", "--runtime", runtime, &image])
            .expect_failure();
        assert!(errors.contains(runtime), "{errors}");
        assert!(errors.contains("apt-get install runc"), "{errors}");
    }
    assert_eq!(server.node_status().unwrap().images, 0);
    let errors = server
        .slipway(&["run", "--runtime", "/etc/passwd", &image])
        .expect_failure();
    assert!(errors.contains("/etc/passwd"), "{errors}");
    server
        .slipway(&["run", "--runtime", "/usr/sbin/runc", &image])
        .expect_success();
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_where_files_cannot_be_mounted_loop_devices_are_taken() {
    let disk = SmallDisk::tmpfs(256);
    let server = Server::start_in(&disk.path().join("data"), &[]);
    assert_eq!(server.node_status().unwrap().road, "erofs-loop");
    let sample = Sample::whole();
    let image = server.push_accelerated(sample, "app:1");
    let outcome = server.slipway(&["run", &image, "sh", "-c", Sample::READ_ALL]);
    assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
    drop(server);

    let data = disk.path().join("forced");
    let data = data.to_str().unwrap();
    let listen = "127.0.0.1:0";
    let forced = [
        "up",
        "--data",
        data,
        "--listen",
        listen,
        "--road",
        "erofs-file",
    ];
    let errors = start(&mut slipway(forced)).wait().expect_failure();
    assert!(
        errors.contains("cannot mount images: erofs-file: "),
        "{errors}"
    );
    assert!(errors.contains("hint: "), "{errors}");
    assert!(mounts_below(disk.path()).is_empty());
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_configuration_that_is_wrong_is_named() {
    let errors = refused("[node]\nraod = \"auto\"\n", &[], &[]).expect_failure();
    assert!(errors.contains("slipway.toml"), "{errors}");
    assert!(errors.contains("raod"), "{errors}");
    let errors = refused("", &[], &["--config", "/does/not/exist"]).expect_failure();
    assert!(errors.contains("/does/not/exist"), "{errors}");
}
