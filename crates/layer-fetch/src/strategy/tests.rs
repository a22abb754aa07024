//! Tests of the plan of fetches: examples, and properties of any sequence of reads.

use std::collections::BTreeSet;

use proptest::prelude::{prop, prop_assert, proptest};

use super::*;

const CHUNK_LEN: u64 = 256 << 10;

/// A layer of equal chunks, some of which are there.
struct Plain {
    chunk_count: u32,
    present: BTreeSet<u32>,
}

impl Plain {
    fn empty(chunk_count: u32) -> Self {
        Self {
            chunk_count,
            present: BTreeSet::new(),
        }
    }

    fn take(&mut self, runs: impl IntoIterator<Item = Range<u32>>) {
        self.present.extend(runs.into_iter().flatten());
    }
}

impl Terrain for Plain {
    fn chunk_count(&self) -> u32 {
        self.chunk_count
    }

    fn tar_range(&self, index: u32) -> Range<u64> {
        u64::from(index) * CHUNK_LEN..u64::from(index + 1) * CHUNK_LEN
    }

    fn is_wanted(&self, index: u32) -> bool {
        !self.present.contains(&index)
    }
}

fn near() -> Line {
    Line {
        round_trip: Duration::from_micros(300),
        bytes_per_second: 120e6,
        expansion: 2.0,
    }
}

fn far() -> Line {
    Line {
        round_trip: Duration::from_millis(10),
        ..near()
    }
}

/// Options under which unproven streams are guessed behind, as the defaults do not.
fn guessing() -> StrategyOptions {
    StrategyOptions {
        guess_len_max: 2 << 20,
        idle_len_max: 4 << 20,
        window_max: 8 << 20,
        ..StrategyOptions::default()
    }
}

#[test]
fn a_lone_miss_fetches_the_mebibyte_around_it_its_own_part_first() {
    let mut strategy = Strategy::new(StrategyOptions::default());
    let plan = strategy.on_miss(10..11, &Plain::empty(1000), &near());
    assert_eq!(plan.demand, vec![10..12]);
    assert_eq!(plan.ahead, vec![(Likelihood::Proven, 8..10)]);
    assert_eq!(plan.marker, None);
}

#[test]
fn a_guess_lies_behind_the_block_of_a_lone_miss() {
    let mut strategy = Strategy::new(guessing());
    let plan = strategy.on_miss(10..11, &Plain::empty(1000), &near());
    let guess = plan
        .ahead
        .iter()
        .find(|(likelihood, _)| *likelihood == Likelihood::Guess);
    assert_eq!(guess.map(|(_, run)| run.start), Some(12));
    assert_eq!(plan.marker, Some(12));
}

#[test]
fn a_long_round_trip_makes_misses_longer() {
    let mut strategy = Strategy::new(StrategyOptions::default());
    let plan = strategy.on_miss(10..11, &Plain::empty(1000), &far());
    // Twice 10 ms of 240 MB of tar a second: the block is the first 4.8 MB.
    assert_eq!(plan.demand, vec![10..18]);
    assert_eq!(plan.ahead, vec![(Likelihood::Proven, 0..10)]);
}

/// Reads these chunks one after the other and returns how often the reader missed.
fn misses_of(options: StrategyOptions, chunks: impl IntoIterator<Item = u32>) -> usize {
    let mut strategy = Strategy::new(options);
    let mut terrain = Plain::empty(100_000);
    let mut markers = BTreeSet::new();
    let mut misses = 0;
    for chunk in chunks {
        let plan = if !terrain.is_wanted(chunk) && markers.remove(&chunk) {
            strategy.on_marker(chunk, &terrain)
        } else if terrain.is_wanted(chunk) {
            misses += 1;
            strategy.on_miss(chunk..chunk + 1, &terrain, &near())
        } else {
            continue;
        };
        markers.extend(plan.marker);
        terrain.take(plan.demand);
        terrain.take(plan.ahead.into_iter().map(|(_, run)| run));
    }
    misses
}

#[test]
fn a_sequential_reader_misses_once_where_guesses_are_made_and_twice_where_not() {
    assert_eq!(misses_of(guessing(), 100..600), 1);
    assert_eq!(misses_of(StrategyOptions::default(), 100..600), 2);
}

#[test]
fn sixteen_interleaved_sequential_readers_miss_once_each() {
    let chunks = (0..200).flat_map(|step| (0..16).map(move |reader| reader * 5000 + step));
    assert_eq!(misses_of(guessing(), chunks), 16);
}

#[test]
fn windows_double_up_to_their_limit() {
    let mut strategy = Strategy::new(guessing());
    let mut terrain = Plain::empty(10_000);
    let mut plan = strategy.on_miss(0..1, &terrain, &near());
    let mut lengths = Vec::new();
    for _ in 0..6 {
        terrain.take(plan.demand);
        terrain.take(plan.ahead.iter().map(|(_, run)| run.clone()));
        plan = strategy.on_marker(plan.marker.unwrap(), &terrain);
        lengths.push(plan.ahead.iter().map(|(_, run)| run.len()).sum::<usize>());
    }
    assert_eq!(lengths, [8, 16, 32, 32, 32, 32]);
}

#[test]
fn guesses_that_never_come_true_stop() {
    let mut strategy = Strategy::new(guessing());
    let terrain = Plain::empty(1_000_000);
    let mut last = Plan::default();
    for miss in 0..100 {
        last = strategy.on_miss(miss * 1000..miss * 1000 + 1, &terrain, &near());
    }
    assert_eq!(last.ahead, []);
    assert_eq!(last.demand.len(), 1);
}

#[test]
fn an_idle_line_guesses_only_so_far() {
    let options = StrategyOptions::default();
    let limit = options.idle_len_max;
    let mut strategy = Strategy::new(options);
    let mut terrain = Plain::empty(10_000);
    let plan = strategy.on_miss(0..1, &terrain, &near());
    terrain.take(plan.demand);
    terrain.take(plan.ahead.into_iter().map(|(_, run)| run));
    let mut guessed = 0;
    for _ in 0..100 {
        let plan = strategy.on_idle(&terrain);
        let chunks: usize = plan.ahead.iter().map(|(_, run)| run.len()).sum();
        guessed += chunks as u64 * CHUNK_LEN;
        terrain.take(plan.ahead.into_iter().map(|(_, run)| run));
    }
    assert_eq!(guessed, limit);
}

proptest! {
    /// Whatever was asked before: a plan is what its comment says, compared chunk by chunk.
    #[test]
    fn every_plan_fetches_what_is_needed_and_nothing_twice(
        chunk_count in 1_u32..200,
        present in prop::collection::btree_set(0_u32..200, 0..100),
        asks in prop::collection::vec((0_u32..200, 1_u32..8, 0_u8..4), 1..40),
    ) {
        let mut strategy = Strategy::new(StrategyOptions { streams_max: 4, ..StrategyOptions::default() });
        let mut terrain = Plain { chunk_count, present };
        let mut markers: Vec<u32> = Vec::new();
        for (start, len, kind) in asks {
            let start = start % chunk_count;
            let needed = start..(start + len).min(chunk_count);
            let plan = match kind {
                0 => strategy.on_idle(&terrain),
                1 if !markers.is_empty() => strategy.on_marker(markers.swap_remove(0), &terrain),
                _ => strategy.on_miss(needed.clone(), &terrain, &far()),
            };
            markers.extend(plan.marker);
            let mut seen = BTreeSet::new();
            let ahead = plan.ahead.iter().map(|(_, run)| run);
            for run in plan.demand.iter().chain(ahead) {
                prop_assert!(!run.is_empty());
                for chunk in run.clone() {
                    prop_assert!(chunk < chunk_count);
                    prop_assert!(terrain.is_wanted(chunk), "{chunk} is there");
                    prop_assert!(seen.insert(chunk), "{chunk} twice");
                }
            }
            if kind >= 2 {
                let demand: BTreeSet<u32> = plan.demand.iter().cloned().flatten().collect();
                for chunk in needed.filter(|chunk| terrain.is_wanted(*chunk)) {
                    prop_assert!(demand.contains(&chunk));
                }
                terrain.take(plan.demand);
            }
        }
    }
}
