//! Reads over a source that works.

use std::time::Duration;

use proptest::prelude::{ProptestConfig, prop, prop_assert, proptest};

use layer_fetch::ReadError;

use crate::fixture::{Answer, CHUNK_COUNT, CHUNK_LEN, Fixture, Pace, demand_only, options, soon};

#[test]
fn a_read_anywhere_gives_the_tars_bytes() {
    let fixture = Fixture::new(&[]);
    let tar_len = fixture.layer.tar_len();
    for range in [
        0..1,
        5000..70_000,
        tar_len - 1..tar_len,
        0..0,
        tar_len..tar_len,
        0..tar_len,
    ] {
        fixture.read(range).unwrap();
    }
    let beyond = fixture.read_error(tar_len - 1..tar_len + 1);
    assert!(matches!(beyond, ReadError::BeyondEnd { .. }));
}

#[test]
fn a_hit_asks_nobody() {
    let fixture = Fixture::with_options(demand_only(), &[], |source| source);
    fixture.read(0..CHUNK_LEN).unwrap();
    let before = fixture.source.requests.lock().len();
    for offset in 0..CHUNK_LEN {
        fixture.read(offset..offset + 1).unwrap();
    }
    assert_eq!(fixture.source.requests.lock().len(), before);
    assert_eq!(fixture.engine.stats().waits, 1);
}

#[test]
fn readers_of_one_chunk_share_one_flight() {
    let slow = |mut source: crate::fixture::ScriptedSource| {
        source.delay = Duration::from_millis(5);
        source
    };
    let fixture = Fixture::with_options(demand_only(), &[], slow);
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| fixture.read(3 * CHUNK_LEN..5 * CHUNK_LEN).unwrap());
        }
    });
    let stored: u64 = (3..5)
        .map(|index| fixture.stored.table.chunk(index).unwrap().stored_len())
        .sum();
    assert_eq!(fixture.engine.stats().network_bytes, stored);
    assert_eq!(fixture.source.requests.lock().len(), 1);
}

#[test]
fn adjacent_chunks_come_in_one_request() {
    let mut options = options();
    options.strategy.miss_len_max = 4 * CHUNK_LEN;
    let fixture = Fixture::with_options(options, &[], |source| source);
    fixture.read(0..1).unwrap();
    let first = fixture.source.requests.lock()[0].clone();
    let last = fixture.stored.table.chunk(3).unwrap();
    assert_eq!(first, 0..last.stored_range.end);
}

#[test]
fn a_reader_does_not_wait_for_the_read_ahead_behind_its_chunk() {
    // The first chunk arrives and the rest never does.
    let stored = crate::fixture::Stored::new();
    let first_len = usize::try_from(stored.table.chunk(0).unwrap().stored_len()).unwrap();
    let fixture = Fixture::with(&[Answer::Hang(first_len)], |source| {
        source.then(Answer::Hang(0))
    });
    fixture.read(0..CHUNK_LEN).unwrap();
}

#[test]
fn demand_is_limited_to_its_connections() {
    let mut options = demand_only();
    options.demand_requests_max = 3;
    let fixture = Fixture::with_options(options, &[], |mut source| {
        source.delay = Duration::from_millis(2);
        source
    });
    std::thread::scope(|scope| {
        for reader in 0..32_u64 {
            let fixture = &fixture;
            scope.spawn(move || {
                fixture
                    .read(reader * 3 * CHUNK_LEN..reader * 3 * CHUNK_LEN + 1)
                    .unwrap();
            });
        }
    });
    let most = fixture
        .source
        .most_running
        .load(std::sync::atomic::Ordering::SeqCst);
    assert!(most <= 3, "{most} at once");
}

#[test]
fn most_of_a_sequential_read_is_there_or_on_its_way_before_it_is_asked_for() {
    let fixture = Fixture::new(&[]);
    let tar_len = fixture.layer.tar_len();
    for start in (0..tar_len).step_by(512) {
        fixture.read(start..(start + 512).min(tar_len)).unwrap();
    }
    let stats = fixture.engine.stats();
    assert!(
        stats.demand_chunks * 2 < u64::from(CHUNK_COUNT),
        "{stats:?}"
    );
    let stored = fixture.stored.table.stored_len();
    assert_eq!(stats.network_bytes, stored, "every chunk once: {stats:?}");
}

#[test]
fn what_a_killed_process_left_is_used_after_a_look() {
    let fixture = Fixture::with_options(demand_only(), &[], |source| source);
    fixture.read(0..3 * CHUNK_LEN).unwrap();
    let fixture = fixture.into_next_process();
    fixture.read(0..3 * CHUNK_LEN).unwrap();
    assert_eq!(fixture.engine.stats().network_bytes, 0);
}

#[test]
fn a_task_that_gives_up_leaves_the_flight_to_others() {
    let fixture = Fixture::at(Pace::Real, demand_only(), &[], |mut source| {
        source.delay = Duration::from_millis(100);
        source
    });
    let layer = fixture.layer.clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        fixture.time.handle.spawn(async move {
            let wait = layer.ensure(0..CHUNK_LEN, soon());
            sender.send(
                tokio::time::timeout(Duration::from_millis(30), wait)
                    .await
                    .is_err(),
            )
        });
        while fixture.source.requests.lock().is_empty() {
            std::thread::yield_now();
        }
        scope.spawn(|| fixture.read(0..CHUNK_LEN).unwrap());
    });
    assert!(receiver.recv().unwrap(), "the task was to give up first");
    assert_eq!(fixture.source.requests.lock().len(), 1);
}

#[test]
fn a_task_waits_as_a_thread_does() {
    let fixture = Fixture::at(Pace::Real, options(), &[], |source| source);
    let layer = fixture.layer.clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    fixture
        .time
        .handle
        .spawn(async move { sender.send(layer.ensure(5..60_000, soon()).await) });
    receiver.recv().unwrap().unwrap();
    assert!(fixture.layer.cached().is_present(5..60_000));
}

#[test]
fn a_stopped_engine_ends_every_wait() {
    let fixture = Fixture::with(&[], |source| source.then(Answer::Hang(0)));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| fixture.read(0..1));
        while fixture.source.requests.lock().is_empty() {
            std::thread::yield_now();
        }
        let engine = fixture.engine.clone();
        let (sender, receiver) = std::sync::mpsc::channel();
        fixture.time.handle.spawn(async move {
            engine.stop().await;
            sender.send(())
        });
        receiver.recv().unwrap();
        assert!(matches!(reader.join().unwrap(), Err(ReadError::Stopped)));
    });
    assert!(matches!(fixture.read(0..1), Err(ReadError::Stopped)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any reads in any order, by four threads, over any retryable faults, read like the tar.
    #[test]
    fn reads_equal_the_tar_whatever_the_source_does(
        reads in prop::collection::vec((0_u64..800_000, 1_u64..100_000), 1..24),
        script in prop::collection::vec(prop::sample::select(vec![
            Answer::Good, Answer::Cut(0), Answer::Cut(5000), Answer::Unavailable, Answer::Hang(9000),
        ]), 0..12),
    ) {
        let fixture = Fixture::with_options(options(), &script, |source| source);
        let tar_len = fixture.layer.tar_len();
        std::thread::scope(|scope| {
            for part in reads.chunks(reads.len().div_ceil(4)) {
                let fixture = &fixture;
                scope.spawn(move || {
                    for (start, len) in part {
                        let start = start % tar_len;
                        fixture.read(start..(start + len).min(tar_len)).unwrap();
                    }
                });
            }
        });
        prop_assert!(fixture.engine.stats().failed_reads == 0);
    }
}
