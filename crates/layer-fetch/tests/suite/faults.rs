//! Reads over a source, a disk or a cache file that fails.

use std::error::Error;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use layer_fetch::ReadError;

use crate::fixture::{Answer, CHUNK_LEN, Fixture, demand_only, options, soon};

// S6
#[test]
fn a_source_that_comes_back_costs_a_pause() {
    let script = [
        Answer::Unavailable,
        Answer::Cut(0),
        Answer::Cut(700),
        Answer::Hang(100),
    ];
    let fixture = Fixture::with_options(demand_only(), &script, |source| source);
    fixture.read(0..4 * CHUNK_LEN).unwrap();
    assert_eq!(fixture.engine.stats().source_errors, 4);
}

#[test]
fn what_came_before_the_cut_is_not_fetched_again() {
    let fixture = Fixture::with_options(demand_only(), &[Answer::Cut(20_000)], |source| source);
    fixture.read(0..4 * CHUNK_LEN).unwrap();
    let requests = fixture.source.requests.lock().clone();
    let second = fixture.stored.table.chunk(2).unwrap().stored_range.start;
    assert_eq!(requests[1].start, second);
}

// S6
#[test]
fn a_source_that_stays_away_fails_the_read_at_its_deadline_and_says_why() {
    let fixture = Fixture::with(&[], |source| source.then(Answer::Unavailable));
    let mut buffer = [0; 1];
    let deadline = Instant::now() + Duration::from_millis(100);
    let error = fixture
        .layer
        .read_into(&mut buffer, 0, deadline)
        .unwrap_err();
    assert!(matches!(error, ReadError::Deadline { .. }), "{error:?}");
    let cause = error.source().unwrap();
    assert!(cause.source().unwrap().to_string().contains("503"));
    // And the next reader succeeds when the source is back.
    fixture.source.answer_from_now(Answer::Good);
    fixture.read(0..1).unwrap();
}

// S7
#[test]
fn what_is_present_is_read_while_the_source_is_away() {
    let fixture = Fixture::with_options(demand_only(), &[], |source| source);
    fixture.read(0..CHUNK_LEN).unwrap();
    fixture.source.answer_from_now(Answer::Unavailable);
    fixture.read(0..CHUNK_LEN).unwrap();
}

#[test]
fn a_refusal_is_not_retried() {
    let fixture = Fixture::with_options(demand_only(), &[], |source| source.then(Answer::Refused));
    assert!(matches!(
        fixture.read_error(0..1),
        ReadError::Refused { .. }
    ));
    assert_eq!(fixture.source.requests.lock().len(), 1);
}

#[test]
fn a_byte_flipped_on_the_way_costs_one_more_request() {
    let fixture = Fixture::with_options(demand_only(), &[Answer::Flipped(4000)], |source| source);
    fixture.read(0..3 * CHUNK_LEN).unwrap();
    let stats = fixture.engine.stats();
    assert_eq!((stats.mismatches, stats.demand_requests), (1, 2));
}

// S3
#[test]
fn a_byte_flipped_in_the_blob_fails_the_reads_of_its_chunk_and_no_other() {
    let fixture = Fixture::with_options(demand_only(), &[], |source| source);
    let wrong = fixture.stored.table.chunk(7).unwrap();
    let byte = usize::try_from(wrong.stored_range.start).unwrap() + 100;
    *fixture.source.wrong_at.lock() = Some(byte);
    for _ in 0..2 {
        let error = fixture.read_error(0..20 * CHUNK_LEN);
        assert!(
            matches!(error, ReadError::Mismatch { chunk: 7, .. }),
            "{error:?}"
        );
        assert!(
            error
                .to_string()
                .contains(&fixture.layer.cached().key().to_string())
        );
    }
    fixture.read(0..7 * CHUNK_LEN).unwrap();
    fixture.read(8 * CHUNK_LEN..20 * CHUNK_LEN).unwrap();
    assert!(!fixture.layer.cached().is_claimed(7));
    *fixture.source.wrong_at.lock() = None;
    fixture.read(0..20 * CHUNK_LEN).unwrap();
}

// S4
#[test]
fn a_byte_flipped_in_the_cache_file_is_fetched_again() {
    let fixture = Fixture::with_options(demand_only(), &[], |source| source);
    fixture.read(0..4 * CHUNK_LEN).unwrap();
    let path = fixture.layer.cached().path();
    let fixture = fixture.into_next_process();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"\0\0\0\0\0\0\0\0", 2 * CHUNK_LEN + 10)
        .unwrap();
    fixture.read(0..4 * CHUNK_LEN).unwrap();
    let stats = fixture.engine.stats();
    assert_eq!((stats.rechecked_wrong, stats.demand_chunks), (1, 1));
}

// S8
#[test]
fn a_full_disk_costs_speed_and_no_read() {
    let fixture = Fixture::new(&[]);
    fixture.disk.is_full.store(true, Ordering::SeqCst);
    let tar_len = fixture.layer.tar_len();
    for start in (0..tar_len).step_by(5000) {
        fixture.read(start..(start + 5000).min(tar_len)).unwrap();
    }
    assert_eq!(fixture.layer.cached().present_bytes(), 0);
    let stats = fixture.engine.stats();
    assert!(stats.admit_errors > 0);
    assert_eq!(
        stats.network_bytes,
        fixture.stored.table.stored_len(),
        "kept in memory: {stats:?}"
    );
    fixture.disk.is_full.store(false, Ordering::SeqCst);
    fixture.read(0..tar_len).unwrap();
}

#[test]
fn guesses_that_fail_fail_no_reader() {
    for failing in [Answer::Unavailable, Answer::Cut(100), Answer::Flipped(50)] {
        for nth in 0..12 {
            let mut script = vec![Answer::Good; nth];
            script.push(failing);
            let fixture = Fixture::with_options(options(), &script, |source| source);
            for start in (0..fixture.layer.tar_len() - 512).step_by(512) {
                fixture.read(start..start + 512).unwrap();
            }
            assert_eq!(
                fixture.engine.stats().failed_reads,
                0,
                "{failing:?} at {nth}"
            );
        }
    }
}

#[test]
fn one_readers_deadline_is_not_anothers() {
    let fixture = Fixture::with_options(demand_only(), &[], |source| {
        source.then(Answer::Unavailable)
    });
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| fixture.read(0..1));
        let mut buffer = [0; 1];
        let hasty = Instant::now() + Duration::from_millis(20);
        assert!(fixture.layer.read_into(&mut buffer, 0, hasty).is_err());
        fixture.source.answer_from_now(Answer::Good);
        patient.join().unwrap().unwrap();
    });
}

// S2
#[test]
fn a_table_that_differs_from_the_blob_gives_no_byte() {
    let fixture = Fixture::with_options(demand_only(), &[], |source| source);
    // A table of the same shape with one other digest: an honest blob does not match it.
    let mut encoded = fixture.stored.table.encode();
    let digest = *fixture.stored.table.chunk(2).unwrap().digest.as_bytes();
    let position = encoded.windows(32).position(|part| part == digest).unwrap();
    encoded[position] ^= 1;
    let cache = layer_cache::LayerCache::open(fixture.directory.path()).unwrap();
    let cached = cache
        .open_lazy(&oci::Digest::of(&encoded), &encoded)
        .unwrap();
    let source = Arc::clone(&fixture.source);
    let layer = fixture.engine.layer(cached, source);
    let mut buffer = [0; 16];
    layer.read_into(&mut buffer, 0, soon()).unwrap();
    let error = layer
        .read_into(&mut buffer, 2 * CHUNK_LEN, soon())
        .unwrap_err();
    assert!(matches!(error, ReadError::Mismatch { chunk: 2, .. }));
}
