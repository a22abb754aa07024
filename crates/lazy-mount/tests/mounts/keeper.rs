//! Readers of the FUSE directory, and of EROFS on top of it, while its workers are killed.
//!
//! The keeper and the worker are `examples/serve_folder.rs`.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{self, Served, content, wait_until};
use rustix::fs::{Advice, fadvise};

#[test]
#[ignore = "needs root and /dev/fuse"]
fn privileged_the_directory_shows_the_files_and_their_bytes() {
    let served = Served::start(&[("a", 3_000_001), ("b", 0)], "0", "plain");
    let mut names: Vec<_> = std::fs::read_dir(&served.mount_point)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(
        std::fs::read(served.mount_point.join("a")).unwrap(),
        content("a", 0, 3_000_001)
    );
    assert_eq!(std::fs::read(served.mount_point.join("b")).unwrap(), b"");
    assert!(std::fs::metadata(served.mount_point.join("c")).is_err());
    assert!(File::create(served.mount_point.join("c")).is_err());
    assert!(std::fs::metadata(&served.mount_point).unwrap().is_dir());
    let file = File::open(served.mount_point.join("a")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 3_000_001);
}

// S5
#[test]
#[ignore = "needs root and /dev/fuse"]
fn privileged_no_reader_notices_workers_that_are_killed_all_the_time() {
    const LEN: usize = 16 << 20;
    let served = Arc::new(Served::start(&[("a", LEN), ("b", LEN)], "200", "plain"));
    let stop = Arc::new(AtomicBool::new(false));
    let read_count = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..8_u64)
        .map(|seed| {
            let (served, stop, read_count) = (
                Arc::clone(&served),
                Arc::clone(&stop),
                Arc::clone(&read_count),
            );
            thread::spawn(move || read_at_random(&served.mount_point, seed, &stop, &read_count))
        })
        .collect();
    let kill_count = served.kill_workers(Duration::from_millis(20), Duration::from_secs(10));
    stop.store(true, Ordering::Relaxed);
    let asked = Instant::now();
    let longest = readers
        .into_iter()
        .map(|reader| reader.join().unwrap())
        .max()
        .unwrap();
    println!(
        "{kill_count} kills, {} reads, longest {longest:?}",
        read_count.load(Ordering::Relaxed)
    );
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "a reader was hanging"
    );
    assert!(kill_count > 100, "only {kill_count} workers were killed");
    assert!(read_count.load(Ordering::Relaxed) > 1000);
}

/// Reads until told to stop; every read must give the right bytes. Returns how long the longest took.
fn read_at_random(
    mount_point: &Path,
    seed: u64,
    stop: &AtomicBool,
    read_count: &AtomicU64,
) -> Duration {
    const LEN: u64 = 16 << 20;
    let name = if seed.is_multiple_of(2) { "a" } else { "b" };
    let file = File::open(mount_point.join(name)).unwrap();
    let mut random = seed + 1;
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let len = usize::try_from(1 + (random >> 40) % 200_000).unwrap();
        let offset = (random >> 16) % (LEN - len as u64);
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        let mut buffer = vec![0; len];
        let began = Instant::now();
        file.read_exact_at(&mut buffer, offset)
            .expect("a read failed");
        longest = longest.max(began.elapsed());
        let offset = usize::try_from(offset).unwrap();
        assert!(
            buffer == content(name, offset, len),
            "wrong bytes at {offset}"
        );
        read_count.fetch_add(1, Ordering::Relaxed);
    }
    longest
}

#[test]
#[ignore = "needs root and /dev/fuse"]
fn privileged_readers_wait_for_a_worker_that_is_stopped() {
    let served = Arc::new(Served::start(&[("a", 1 << 20)], "0", "plain"));
    let worker = served.worker_pid();
    support::signal(worker, rustix::process::Signal::STOP);
    let reader = {
        let served = Arc::clone(&served);
        thread::spawn(move || std::fs::read(served.mount_point.join("a")).unwrap())
    };
    thread::sleep(Duration::from_secs(2));
    assert!(!reader.is_finished(), "the reader did not wait");
    support::signal(worker, rustix::process::Signal::CONT);
    assert!(reader.join().unwrap() == content("a", 0, 1 << 20));
}

#[test]
#[ignore = "needs root and /dev/fuse"]
fn privileged_what_cannot_be_read_is_an_error_for_that_range_only() {
    let served = Served::start(&[("a", 4 << 20)], "0", "broken");
    let file = File::open(served.mount_point.join("a")).unwrap();
    let (broken, page) = (1 << 20, 4096);
    for round in 0..3 {
        let mut buffer = vec![0; page];
        let error = file.read_exact_at(&mut buffer, broken).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "round {round}");
        for offset in [0, broken - 4096, broken + 4096, 3 << 20] {
            file.read_exact_at(&mut buffer, offset).unwrap();
            assert!(
                buffer == content("a", usize::try_from(offset).unwrap(), page),
                "{offset}"
            );
        }
    }
}

#[test]
#[ignore = "needs root and /dev/fuse"]
fn privileged_a_worker_that_waits_for_itself_can_be_killed() {
    let served = Served::start_selfish(&[("a", 1 << 20)], "2000");
    for _ in 0..20 {
        let worker = served.worker_pid();
        support::signal(worker, rustix::process::Signal::KILL);
        wait_until(Duration::from_secs(5), || {
            served.try_worker_pid().is_some_and(|pid| pid != worker)
        });
    }
    assert!(std::fs::read(served.mount_point.join("a")).unwrap() == content("a", 0, 1 << 20));
}

#[test]
#[ignore = "needs root and /dev/fuse"]
fn privileged_connections_to_the_control_socket_wait_for_the_next_worker() {
    let served = Served::start(&[("a", 1)], "0", "plain");
    let mut previous = served.greeting();
    for _ in 0..5 {
        support::signal(previous.parse().unwrap(), rustix::process::Signal::KILL);
        let next = served.greeting();
        assert_ne!(next, previous);
        previous = next;
    }
}

#[test]
#[ignore = "needs root and /dev/fuse"]
fn privileged_a_stopped_keeper_leaves_no_mount_and_no_process() {
    let mut served = Served::start(&[("a", 1 << 20)], "0", "plain");
    let worker = served.worker_pid();
    let file = File::open(served.mount_point.join("a")).unwrap();
    served.stop();
    assert!(!lazy_mount::is_mounted(&served.mount_point).unwrap());
    assert!(!Path::new(&format!("/proc/{worker}")).exists());
    assert!(!served.control.exists());
    let mut rest = Vec::new();
    assert!((&file).read_to_end(&mut rest).is_err());
}

#[test]
#[ignore = "needs root and /dev/fuse"]
fn privileged_the_mount_of_a_dead_keeper_is_replaced() {
    let mut served = Served::start(&[("a", 1 << 20)], "0", "plain");
    served.kill_keeper_and_worker();
    assert!(lazy_mount::is_mounted(&served.mount_point).unwrap());
    served.restart();
    assert!(std::fs::read(served.mount_point.join("a")).unwrap() == content("a", 0, 1 << 20));
}

// S5
#[test]
#[ignore = "needs root and /dev/fuse"]
fn privileged_readers_do_not_notice_that_the_keeper_itself_is_killed() {
    const LEN: usize = 16 << 20;
    let mut served = Served::start(&[("a", LEN), ("b", LEN)], "200", "plain");
    let stop = Arc::new(AtomicBool::new(false));
    let read_count = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..8_u64)
        .map(|seed| {
            let mount_point = served.mount_point.clone();
            let (stop, read_count) = (Arc::clone(&stop), Arc::clone(&read_count));
            thread::spawn(move || read_at_random(&mount_point, seed, &stop, &read_count))
        })
        .collect();
    let mut greeting = served.greeting();
    for _ in 0..10 {
        served.kill_keeper();
        assert_eq!(
            served.greeting(),
            greeting,
            "the worker goes on without its keeper"
        );
        served.restart();
        let next = served.greeting();
        assert_ne!(next, greeting);
        greeting = next;
    }
    stop.store(true, Ordering::Relaxed);
    let longest = readers
        .into_iter()
        .map(|reader| reader.join().unwrap())
        .max()
        .unwrap();
    println!(
        "{} reads, longest {longest:?}",
        read_count.load(Ordering::Relaxed)
    );
    assert!(
        longest < Duration::from_secs(5),
        "a reader was hanging for {longest:?}"
    );
}

#[test]
#[ignore = "needs root and /dev/fuse"]
fn privileged_a_second_keeper_for_the_same_mount_point_is_refused() {
    let served = Served::start(&[("a", 1)], "0", "plain");
    assert!(!served.second_keeper().success());
    assert_eq!(
        std::fs::read(served.mount_point.join("a")).unwrap(),
        content("a", 0, 1)
    );
}
