//! A node whose worker is killed all the time, while containers read everything.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Sample, Server, kill, pause, wait_for, within, worker_of};

/// How long the worker is killed.
const KILLING_TIME: Duration = Duration::from_secs(5);

/// How long one worker after the other lives, in milliseconds: some die before they have answered
/// anything, some in the middle of their answers. A debug build needs some 30 to 80 to start.
const LIVES_MS: [u64; 8] = [50, 150, 0, 100, 250, 20, 120, 180];

/// Kills one worker after the other. Returns how many.
fn kill_workers(keeper: u32, time: Duration) -> usize {
    let mut lives = LIVES_MS.iter().cycle();
    let (mut killed, mut count) = (0, 0);
    within(time, || {
        let worker = wait_for("a worker", || {
            worker_of(keeper).filter(|pid| *pid != killed)
        });
        drop_page_cache();
        pause(Duration::from_millis(*lives.next().unwrap()));
        kill(worker, Signal::KILL);
        killed = worker;
        count += 1;
    });
    count
}

/// Makes the kernel forget what it read, so that it has to ask again (proc(5), `drop_caches`).
fn drop_page_cache() {
    fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
}

/// Containers read everything, over and over; whoever reads a wrong byte stops and says so.
fn read_while_workers_die(road: &str) {
    let server = Server::start_with(&["--road", road]);
    let sample = Sample::whole();
    let image = server.push_accelerated(sample, "team/app:1.0");
    let shared = server.scratch().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("wanted"), sample.listing()).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let script = format!(
        "rounds=0; while true; do {} > /tmp/read || exit 10; cmp /tmp/read /shared/wanted || exit 11; \
         rounds=$((rounds + 1)); touch /shared/read; if test -e /shared/stop; then break; fi; done; echo $rounds",
        Sample::READ_ALL
    );
    let run = ["run", "-v", &volume, &image, "sh", "-c", &script];
    let containers = [server.spawn(&run), server.spawn(&run)];
    let keeper = server.keeper();
    let kills = kill_workers(keeper, KILLING_TIME);
    assert!(kills >= 20, "only {kills} workers were killed");
    fs::write(shared.join("stop"), "").unwrap();
    for container in containers {
        let outcome = container.wait();
        assert_eq!(outcome.code(), 0, "{outcome:?}");
    }
    assert_eq!(server.keeper(), keeper);
    let again = ["run", &image, "sh", "-c", Sample::READ_ALL];
    assert_eq!(server.slipway(&again).stdout, sample.listing());
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_killed_worker_is_a_pause_through_files() {
    read_while_workers_die("erofs-file");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_killed_worker_is_a_pause_through_loop_devices() {
    read_while_workers_die("erofs-loop");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_containers_start_while_workers_die() {
    let server = Server::start();
    let sample = Sample::small();
    let image = server.push_accelerated(sample, "app:1");
    let keeper = server.keeper();
    let read_all = ["run", &image, "sh", "-c", Sample::READ_ALL];
    let runs: Vec<_> = (0..6).map(|_| server.spawn(&read_all)).collect();
    kill_workers(keeper, Duration::from_secs(3));
    for run in runs {
        let outcome = run.wait();
        assert_eq!(outcome.stdout, sample.listing(), "{outcome:?}");
    }
}
