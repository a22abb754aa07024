//! What the cache promises while nothing crashes.

use std::collections::HashSet;
use std::io::Write;
use std::os::unix::fs::FileExt;

use crate::small_layer::{SmallLayer, open_in_boot};
use layer_cache::{
    AdmitError, Completion, ImportError, LayerCache, LayerKey, OpenCacheError, OpenLayerError,
    Recheck, Removed,
};
use oci::Digest;

#[test]
fn only_what_was_admitted_is_present() {
    let layer = SmallLayer::new(1);
    let directory = tempfile::tempdir().unwrap();
    let opened = layer.open(&LayerCache::open(directory.path()).unwrap());
    let everything = 0..opened.tar_len();
    assert_eq!(opened.missing_in(everything.clone()), vec![everything]);
    layer.admit(&opened, 1);
    assert!(opened.is_present(1024..5120));
    assert!(opened.is_present(1030..1040));
    assert!(!opened.is_present(1023..1025));
    assert!(!opened.is_present(5119..5121));
    assert_eq!(opened.present_bytes(), 4096);
    assert_eq!(
        opened.missing_in(0..opened.tar_len()),
        [0..1024, 5120..opened.tar_len()]
    );
    layer.admit(&opened, 5);
    let tar_len = opened.tar_len();
    assert!(opened.is_present(tar_len - 777..tar_len));
    assert!(!opened.is_present(tar_len - 777..tar_len + 1));
}

#[test]
fn the_last_chunk_makes_the_layer_complete() {
    let layer = SmallLayer::new(1);
    let directory = tempfile::tempdir().unwrap();
    let cache = LayerCache::open(directory.path()).unwrap();
    let opened = layer.open(&cache);
    for index in 0..layer.table.len() {
        assert_eq!(opened.try_complete().unwrap(), Completion::Partial);
        assert!(cache.whole(&layer.table.diff_id()).unwrap().is_none());
        layer.admit(&opened, index);
    }
    assert_eq!(opened.try_complete().unwrap(), Completion::Complete);
    let whole = cache.whole(&layer.table.diff_id()).unwrap().unwrap();
    assert_eq!(std::fs::read(whole.path()).unwrap(), layer.tar);
}

#[test]
fn a_table_that_lies_about_its_diff_id_completes_nothing() {
    let mut layer = SmallLayer::new(1);
    // The diff ID is the one place of the encoded table that says so: rebuild it with another.
    let honest = layer.table.diff_id();
    let position = layer
        .encoded
        .windows(32)
        .position(|part| part == honest.as_bytes())
        .unwrap();
    layer.encoded[position] ^= 1;
    layer.table = image_format::ChunkTable::decode(&layer.encoded).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let cache = LayerCache::open(directory.path()).unwrap();
    let opened = layer.open(&cache);
    (0..layer.table.len()).for_each(|index| layer.admit(&opened, index));
    assert!(opened.try_complete().is_err());
    assert!(cache.whole(&honest).unwrap().is_none());
    assert!(cache.whole(&layer.table.diff_id()).unwrap().is_none());
}

#[test]
fn a_byte_flipped_in_the_cache_file_is_found_before_it_is_used() {
    let layer = SmallLayer::new(1);
    let directory = tempfile::tempdir().unwrap();
    let opened = layer.open(&open_in_boot(directory.path(), "one"));
    (0..layer.table.len()).for_each(|index| layer.admit(&opened, index));
    let path = opened.path();
    drop(opened);
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"\xff", 6000).unwrap();
    let opened = layer.open(&open_in_boot(directory.path(), "one"));
    assert!(!opened.is_present(0..512));
    assert_eq!(opened.recheck(0), Recheck::Right);
    assert!(opened.is_present(0..1024));
    let wrong = layer.table.chunk_at(6000).unwrap().index;
    assert_eq!(opened.recheck(wrong), Recheck::Wrong);
    assert_eq!(opened.recheck(wrong), Recheck::Absent);
    assert_eq!(layer.check(&opened), 5);
}

#[test]
fn a_scrub_finds_what_changed_under_a_running_process() {
    let layer = SmallLayer::new(1);
    let directory = tempfile::tempdir().unwrap();
    let opened = layer.open(&open_in_boot(directory.path(), "one"));
    (0..3).for_each(|index| layer.admit(&opened, index));
    opened.file().write_all_at(b"\xff", 100).unwrap();
    let report = opened.scrub();
    assert_eq!((report.right, report.wrong), (2, vec![0]));
}

#[test]
fn a_tar_that_somebody_cut_is_read_as_missing() {
    let layer = SmallLayer::new(1);
    let directory = tempfile::tempdir().unwrap();
    let opened = layer.open(&open_in_boot(directory.path(), "one"));
    (0..layer.table.len()).for_each(|index| layer.admit(&opened, index));
    opened.file().set_len(3000).unwrap();
    drop(opened);
    let opened = layer.open(&open_in_boot(directory.path(), "one"));
    assert_eq!(layer.check(&opened), 1);
}

#[test]
fn damaged_small_files_cost_a_fetch_or_say_their_path() {
    let layer = SmallLayer::new(1);
    for name in ["present", "layer.json", "table", "present.synced"] {
        for content in [&b""[..], &[0xff; 9], &[0xff; 5000]] {
            let directory = tempfile::tempdir().unwrap();
            let opened = layer.open(&open_in_boot(directory.path(), "one"));
            layer.admit(&opened, 0);
            let path = opened.path().with_file_name(name);
            drop(opened);
            std::fs::write(path, content).unwrap();
            let cache = open_in_boot(directory.path(), "one");
            let opened = layer.open(&cache);
            layer.check(&opened);
            assert_eq!(
                cache.read_table(&layer.digest()).unwrap(),
                Some(layer.encoded.clone())
            );
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = layer.open(&open_in_boot(directory.path(), "one")).path();
    std::fs::write(&path, vec![0; 100_000]).unwrap();
    let cache = open_in_boot(directory.path(), "one");
    let refused = cache.open_lazy(&layer.digest(), &layer.encoded);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains(path.to_str().unwrap())
    );
}

#[test]
fn a_damaged_table_is_not_handed_out() {
    let layer = SmallLayer::new(1);
    let directory = tempfile::tempdir().unwrap();
    let cache = open_in_boot(directory.path(), "one");
    let table = layer.open(&cache).path().with_file_name("table");
    assert_eq!(
        cache.read_table(&layer.digest()).unwrap(),
        Some(layer.encoded.clone())
    );
    let mut bytes = layer.encoded.clone();
    bytes[20] ^= 1;
    std::fs::write(table, &bytes).unwrap();
    assert_eq!(cache.read_table(&layer.digest()).unwrap(), None);
    let refused = cache.open_lazy(&layer.digest(), &bytes);
    assert!(matches!(refused, Err(OpenLayerError::OtherTable { .. })));
}

#[test]
fn a_foreign_directory_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("thesis.txt"), "ten years").unwrap();
    let refused = LayerCache::open(directory.path());
    assert!(matches!(refused, Err(OpenCacheError::Foreign { .. })));
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("FORMAT"), "slipway layer cache 9\n").unwrap();
    let refused = LayerCache::open(directory.path());
    assert!(matches!(refused, Err(OpenCacheError::Format { .. })));
}

#[test]
fn two_openers_share_one_layer() {
    let layer = SmallLayer::new(1);
    let directory = tempfile::tempdir().unwrap();
    let cache = LayerCache::open(directory.path()).unwrap();
    let (first, second) = (layer.open(&cache), layer.open(&cache));
    layer.admit(&first, 0);
    assert!(second.is_present(0..1024));
}

#[test]
fn a_chunk_of_another_layer_is_refused() {
    let (layer, other) = (SmallLayer::new(1), SmallLayer::new(2));
    let directory = tempfile::tempdir().unwrap();
    let opened = layer.open(&LayerCache::open(directory.path()).unwrap());
    let (chunk, bytes) = other.chunk(0);
    assert!(matches!(
        opened.admit(&chunk, &bytes),
        Err(AdmitError::Foreign { .. })
    ));
    assert_eq!(opened.present_bytes(), 0);
}

// S2
#[test]
fn an_import_of_other_bytes_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let cache = LayerCache::open(directory.path()).unwrap();
    let mut writer = cache.import_whole(&Digest::of(b"wanted")).unwrap();
    writer.write_all(b"other").unwrap();
    assert!(matches!(
        writer.finish(),
        Err(ImportError::OtherDiffId { .. })
    ));
    drop(cache.import_whole(&Digest::of(b"given up")).unwrap());
    assert_eq!(
        std::fs::read_dir(directory.path().join("incoming"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(cache.usage().unwrap(), []);
}

#[test]
fn a_layer_imported_twice_is_there_once() {
    let directory = tempfile::tempdir().unwrap();
    let cache = LayerCache::open(directory.path()).unwrap();
    let diff_id = Digest::of(b"tar");
    let mut writers = [
        cache.import_whole(&diff_id).unwrap(),
        cache.import_whole(&diff_id).unwrap(),
    ];
    for writer in &mut writers {
        writer.write_all(b"tar").unwrap();
    }
    for writer in writers {
        let mut bytes = [0; 3];
        writer.finish().unwrap().read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"tar");
    }
    assert_eq!(cache.usage().unwrap().len(), 1);
}

#[test]
fn pruning_spares_what_is_kept_or_open() {
    let layers = [SmallLayer::new(1), SmallLayer::new(2), SmallLayer::new(3)];
    let directory = tempfile::tempdir().unwrap();
    let cache = LayerCache::open(directory.path()).unwrap();
    let keys = layers
        .each_ref()
        .map(|layer| LayerKey::ChunkTable(layer.digest()));
    for layer in &layers {
        layer.admit(&layer.open(&cache), 0);
    }
    let open = layers[0].open(&cache);
    let report = cache.prune(&HashSet::from([keys[1]])).unwrap();
    assert_eq!(report.removed, [keys[2]]);
    assert_eq!(report.in_use, [keys[0]]);
    assert!(report.freed_bytes > 0);
    layers[0].check(&open);
    drop(open);
    assert_eq!(cache.remove(&keys[0]).unwrap(), Removed::Gone);
    assert_eq!(cache.remove(&keys[0]).unwrap(), Removed::Absent);
    let left: Vec<LayerKey> = cache
        .usage()
        .unwrap()
        .iter()
        .map(|usage| usage.key)
        .collect();
    assert_eq!(left, [keys[1]]);
}
