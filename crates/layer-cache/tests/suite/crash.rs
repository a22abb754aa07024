//! What is left when the process, the machine or the disk fails at any write.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::small_layer::{Fault, FaultyDisk, SmallLayer, open_in_boot, open_with};
use layer_cache::{Completion, LayerKey, LayerWrites};

/// Names the directory to the child that is to be killed.
const DIRECTORY: &str = "LAYER_CACHE_CRASH_DIRECTORY";

/// Says at which write the child is to be killed.
const NTH: &str = "LAYER_CACHE_CRASH_NTH";

#[test]
fn a_kill_at_any_write_leaves_no_wrong_byte_and_nothing_that_does_not_open() {
    let layer = SmallLayer::new(1);
    for nth in 1.. {
        let directory = tempfile::tempdir().unwrap();
        let status = run_child(directory.path(), nth);
        for boot in ["one", "two"] {
            let cache = open_in_boot(directory.path(), boot);
            layer.check(&layer.open(&cache));
            let opened = layer.open(&cache);
            (0..layer.table.len()).for_each(|index| layer.admit(&opened, index));
            assert_eq!(
                opened.try_complete().unwrap(),
                Completion::Complete,
                "kill at {nth}"
            );
            assert_eq!(std::fs::read(opened.path()).unwrap(), layer.tar);
        }
        if status.success() {
            assert!(nth > 15, "the child wrote only {nth} times");
            return;
        }
    }
}

#[test]
fn bits_follow_their_data() {
    let layer = SmallLayer::new(1);
    for nth in 1.. {
        let directory = tempfile::tempdir().unwrap();
        let status = run_child(directory.path(), nth);
        let cache = open_in_boot(directory.path(), "one");
        let opened = layer.open(&cache);
        let claimed = (0..layer.table.len())
            .filter(|index| opened.is_claimed(*index))
            .count();
        // Every claim holds: nothing was claimed before its bytes were written.
        assert_eq!(layer.check(&opened), claimed, "kill at {nth}");
        if status.success() {
            return;
        }
    }
}

#[test]
#[ignore = "needs to be started by the tests above: it kills itself"]
fn child_that_is_killed_at_a_write() {
    let arguments = (std::env::var_os(DIRECTORY), std::env::var_os(NTH));
    let (Some(directory), Some(nth)) = arguments else {
        return;
    };
    let nth = nth.to_str().unwrap().parse().unwrap();
    let cache = open_with(
        Path::new(&directory),
        "one",
        FaultyDisk::new(nth, Fault::Kill),
    );
    let layer = SmallLayer::new(1);
    let opened = layer.open(&cache);
    for index in 0..layer.table.len() {
        layer.admit(&opened, index);
        opened.checkpoint().unwrap();
    }
    assert_eq!(opened.try_complete().unwrap(), Completion::Complete);
}

fn run_child(directory: &Path, nth: usize) -> std::process::ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::child_that_is_killed_at_a_write",
            "--ignored",
        ])
        .env(DIRECTORY, directory)
        .env(NTH, OsStr::new(&nth.to_string()))
        .output()
        .unwrap()
        .status
}

#[test]
fn a_full_disk_at_any_write_claims_nothing_that_is_not_there() {
    let layer = SmallLayer::new(2);
    for nth in 1.. {
        let directory = tempfile::tempdir().unwrap();
        drop(open_in_boot(directory.path(), "one"));
        let disk = FaultyDisk::new(nth, Fault::Full);
        let cache = open_with(
            directory.path(),
            "one",
            Arc::clone(&disk) as Arc<dyn LayerWrites>,
        );
        if let Ok(opened) = cache.open_lazy(&layer.digest(), &layer.encoded) {
            for index in 0..layer.table.len() {
                let (chunk, bytes) = layer.chunk(index);
                let admitted = opened.admit(&chunk, &bytes).is_ok();
                assert_eq!(opened.is_present(chunk.tar_range), admitted);
            }
            drop(opened.checkpoint());
            layer.check(&opened);
        }
        drop(cache);
        for boot in ["one", "two"] {
            let cache = open_in_boot(directory.path(), boot);
            layer.check(&layer.open(&cache));
        }
        if disk.is_fresh() {
            return;
        }
    }
}

#[test]
fn a_failed_sync_is_never_followed_by_a_checkpoint() {
    let layer = SmallLayer::new(3);
    let directory = tempfile::tempdir().unwrap();
    {
        let opened = layer.open(&open_in_boot(directory.path(), "one"));
        layer.admit(&opened, 0);
    }
    // The one write of the open layer is the sync of its tar.
    let cache = open_with(directory.path(), "one", FaultyDisk::new(1, Fault::Full));
    let opened = layer.open(&cache);
    assert!(opened.checkpoint().is_err());
    assert!(opened.checkpoint().is_err());
    drop((opened, cache));
    let after_reboot = layer.open(&open_in_boot(directory.path(), "two"));
    assert_eq!(after_reboot.present_bytes(), 0);
}

#[test]
fn a_new_process_finds_what_a_dead_one_admitted() {
    let layer = SmallLayer::new(4);
    let directory = tempfile::tempdir().unwrap();
    {
        let opened = layer.open(&open_in_boot(directory.path(), "one"));
        layer.admit(&opened, 1);
        layer.admit(&opened, 3);
    }
    let opened = layer.open(&open_in_boot(directory.path(), "one"));
    assert_eq!(layer.check(&opened), 2);
}

#[test]
fn after_a_reboot_only_the_last_checkpoint_counts() {
    let layer = SmallLayer::new(5);
    let directory = tempfile::tempdir().unwrap();
    {
        let opened = layer.open(&open_in_boot(directory.path(), "one"));
        layer.admit(&opened, 1);
        opened.checkpoint().unwrap();
        layer.admit(&opened, 3);
    }
    let opened = layer.open(&open_in_boot(directory.path(), "two"));
    let claimed: Vec<u32> = (0..layer.table.len())
        .filter(|i| opened.is_claimed(*i))
        .collect();
    assert_eq!(claimed, [1]);
    layer.admit(&opened, 2);
    drop(opened);
    // The same boot again: its own bits count, and those of the boot before do not come back.
    let opened = layer.open(&open_in_boot(directory.path(), "two"));
    let claimed: Vec<u32> = (0..layer.table.len())
        .filter(|i| opened.is_claimed(*i))
        .collect();
    assert_eq!(claimed, [1, 2]);
}

// S4
#[test]
fn a_whole_layer_survives_a_reboot_only_if_its_bytes_did() {
    let layer = SmallLayer::new(6);
    let diff_id = layer.table.diff_id();
    let directory = tempfile::tempdir().unwrap();
    {
        let cache = open_in_boot(directory.path(), "one");
        let mut writer = cache.import_whole(&diff_id).unwrap();
        std::io::Write::write_all(&mut writer, &layer.tar).unwrap();
        writer.finish().unwrap();
    }
    let in_next_boot = open_in_boot(directory.path(), "two")
        .whole(&diff_id)
        .unwrap();
    assert!(in_next_boot.unwrap().verify().unwrap());
    let tar = directory
        .path()
        .join("layers")
        .join(LayerKey::DiffId(diff_id).to_string())
        .join("tar");
    std::fs::write(&tar, vec![0; layer.tar.len()]).unwrap();
    let lost = open_in_boot(directory.path(), "three")
        .whole(&diff_id)
        .unwrap();
    assert!(lost.is_none());
    // And it can be imported again, over what is in the way.
    let cache = open_in_boot(directory.path(), "three");
    let mut writer = cache.import_whole(&diff_id).unwrap();
    std::io::Write::write_all(&mut writer, &layer.tar).unwrap();
    let whole = writer.finish().unwrap();
    whole.sync().unwrap();
    drop(whole);
    assert!(
        open_in_boot(directory.path(), "four")
            .whole(&diff_id)
            .unwrap()
            .is_some()
    );
}
