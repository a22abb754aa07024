//! Root trees that the kernel mounts, by both roads, over plain files and over the FUSE directory.

use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Served, content, wait_until};
use image_format::erofs::write_erofs;
use image_format::tar::TarScanner;
use image_format::tree::merge_layers;
use lazy_mount::{
    MountErofsError, OverlayLayout, Road, Unmount, is_mounted, mount_erofs, mount_overlay,
    probe_roads, unmount,
};
use rustix::fs::{Advice, fadvise};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use test_images::{Entry, LayerBuilder};

const ROADS: [Road; 2] = [Road::File, Road::Loop];
const BIG_LEN: usize = 5 << 20;

/// A folder `source` with layer tars, and their root tree beside it.
struct Image {
    folder: tempfile::TempDir,
    layers: Vec<String>,
}

impl Image {
    fn new(tars: &[Vec<u8>]) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        std::fs::create_dir(folder.path().join("source")).unwrap();
        let mut scans = Vec::new();
        let mut layers = Vec::new();
        for (index, tar) in tars.iter().enumerate() {
            let mut scanner = TarScanner::new();
            scanner.feed(tar).unwrap();
            scans.push(scanner.finish().unwrap());
            let name = format!("layer-{index}");
            std::fs::write(folder.path().join("source").join(&name), tar).unwrap();
            layers.push(name);
        }
        let lens: Vec<u64> = scans.iter().map(|scan| scan.tar_len).collect();
        let tree = write_erofs(&merge_layers(&scans).unwrap(), &lens).unwrap();
        std::fs::write(folder.path().join("tree"), tree).unwrap();
        Self { folder, layers }
    }

    fn devices_in(&self, folder: &Path) -> Vec<PathBuf> {
        self.layers.iter().map(|layer| folder.join(layer)).collect()
    }
}

/// A mounted image; unmounted when dropped.
struct Mounted {
    target: PathBuf,
}

impl Mounted {
    fn new(road: Road, folder: &Path, devices: &[PathBuf]) -> Self {
        let target = folder.join(format!("root-{road:?}"));
        std::fs::create_dir_all(&target).unwrap();
        let mount = mount_erofs(road, &folder.join("tree"), devices, &target).unwrap();
        assert_eq!((&mount.target, mount.road), (&target, road));
        Self { target }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.target, Unmount::Lazy).unwrap();
    }
}

fn two_layers() -> Image {
    let lower = LayerBuilder::new()
        .file("big", content("big", 0, BIG_LEN))
        .file("gone", "lower")
        .dir("bin")
        .entry(Entry::file("bin/true", std::fs::read("/bin/true").unwrap()).mode(0o755))
        .build();
    let upper = LayerBuilder::new()
        .whiteout("gone")
        .file("small", "small")
        .symlink("link", "small")
        .build();
    Image::new(&[lower, upper])
}

#[test]
#[ignore = "needs root and EROFS"]
fn privileged_every_way_to_read_gives_the_layers_bytes() {
    let image = two_layers();
    let served = Served::start_in(image.folder, "100", "plain".to_owned());
    let folder = served.folder.path();
    for devices in [folder.join("source"), served.mount_point.clone()] {
        let devices: Vec<_> = image
            .layers
            .iter()
            .map(|layer| devices.join(layer))
            .collect();
        for road in ROADS {
            let mounted = Mounted::new(road, folder, &devices);
            if road == Road::Loop {
                println!("direct I/O on loop devices: {:?}", direct_io_of(folder));
            }
            read_in_every_way(&mounted.target);
        }
    }
}

fn read_in_every_way(root: &Path) {
    let big = File::open(root.join("big")).unwrap();
    // At random, from the middle, before anything was read ahead.
    for offset in [3_999_999, 1, 5_242_870, 777_777] {
        let len = (BIG_LEN - offset).min(12_345);
        let mut buffer = vec![0; len];
        big.read_exact_at(&mut buffer, offset as u64).unwrap();
        assert!(buffer == content("big", offset, len), "pread at {offset}");
    }
    fadvise(&big, 0, None, Advice::DontNeed).unwrap();
    assert!(mapped(&big) == content("big", 0, BIG_LEN), "mmap");
    fadvise(&big, 0, None, Advice::DontNeed).unwrap();
    assert!(
        std::fs::read(root.join("big")).unwrap() == content("big", 0, BIG_LEN),
        "sequential"
    );
    assert!(
        Command::new(root.join("bin/true"))
            .status()
            .unwrap()
            .success(),
        "exec"
    );
    assert_eq!(std::fs::read(root.join("link")).unwrap(), b"small");
    assert!(!root.join("gone").exists());
    assert!(
        File::create(root.join("new")).is_err(),
        "the tree is read-only"
    );
    let mode = std::fs::metadata(root.join("bin/true"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[expect(unsafe_code, reason = "a mapping is what is tested")]
fn mapped(file: &File) -> Vec<u8> {
    // JUSTIFICATION: there is no safe mmap.
    // SAFETY: a new mapping of a read-only file, copied and unmapped before anybody else sees it.
    unsafe {
        let address = std::ptr::null_mut();
        let start = mmap(
            address,
            BIG_LEN,
            ProtFlags::READ,
            MapFlags::PRIVATE,
            file,
            0,
        )
        .unwrap();
        let copy = std::slice::from_raw_parts(start.cast::<u8>(), BIG_LEN).to_vec();
        munmap(start, BIG_LEN).unwrap();
        copy
    }
}

#[test]
#[ignore = "needs root and EROFS"]
fn privileged_an_image_of_120_layers_is_mounted_and_leaves_nothing_behind() {
    let tars: Vec<_> = (0..120)
        .map(|index| {
            LayerBuilder::new()
                .file(format!("file-{index}"), format!("layer {index}"))
                .build()
        })
        .collect();
    let image = Image::new(&tars);
    let folder = image.folder.path();
    for road in ROADS {
        let nodes_before = loop_nodes();
        let mounted = Mounted::new(road, folder, &image.devices_in(&folder.join("source")));
        for index in 0..120 {
            let bytes = std::fs::read(mounted.target.join(format!("file-{index}"))).unwrap();
            assert_eq!(bytes, format!("layer {index}").into_bytes(), "{road:?}");
        }
        if road == Road::Loop {
            assert!(loops_of(folder) >= 121, "{}", loops_of(folder));
        }
        let target = mounted.target.clone();
        drop(mounted);
        assert!(!is_mounted(&target).unwrap());
        // The kernel clears loop devices a moment after their last user is gone.
        wait_until(Duration::from_secs(20), || loops_of(folder) == 0);
        let left: Vec<_> = loop_nodes()
            .into_iter()
            .filter(|name| !nodes_before.contains(name))
            .collect();
        println!("{road:?}: nodes left {left:?}");
    }
}

/// The direct I/O settings of the loop devices that have a file of this folder.
fn direct_io_of(folder: &Path) -> Vec<String> {
    let settings = loop_settings(folder).map(|settings| {
        std::fs::read_to_string(settings.join("dio"))
            .unwrap()
            .trim()
            .to_owned()
    });
    settings.collect()
}

/// How many loop devices have a file of this folder.
fn loops_of(folder: &Path) -> usize {
    loop_settings(folder).count()
}

fn loop_settings(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
    devices
        .map(|device| device.path().join("loop"))
        .filter(move |settings| {
            std::fs::read(settings.join("backing_file")).is_ok_and(|file| {
                String::from_utf8_lossy(&file).starts_with(folder.to_str().unwrap())
            })
        })
}

fn loop_nodes() -> Vec<String> {
    let entries = std::fs::read_dir("/dev").unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("loop")).collect()
}

#[test]
#[ignore = "needs root and EROFS"]
fn privileged_a_mount_that_is_refused_says_why_and_leaves_nothing_behind() {
    let image = two_layers();
    let folder = image.folder.path();
    std::fs::write(folder.join("tree"), vec![7; 4096]).unwrap();
    for road in ROADS {
        let devices = image.devices_in(&folder.join("source"));
        let error = mount_erofs(road, &folder.join("tree"), &devices, folder).unwrap_err();
        let MountErofsError::Mount { source, .. } = &error else {
            panic!("{error}");
        };
        assert!(source.to_string().contains("erofs refused"), "{source}");
        assert!(!is_mounted(folder).unwrap());
        wait_until(Duration::from_secs(20), || loops_of(folder) == 0);
    }
    std::fs::write(folder.join("odd"), [0; 513]).unwrap();
    let error = mount_erofs(Road::Loop, &folder.join("odd"), &[], folder).unwrap_err();
    assert!(
        matches!(error, MountErofsError::PartialBlock { len: 513, .. }),
        "{error}"
    );
}

#[test]
#[ignore = "needs root and EROFS"]
fn privileged_readers_of_the_tree_do_not_notice_workers_that_are_killed() {
    let image = two_layers();
    let layers = image.layers.clone();
    let served = Arc::new(Served::start_in(image.folder, "200", "plain".to_owned()));
    for road in ROADS {
        let devices: Vec<_> = layers
            .iter()
            .map(|layer| served.mount_point.join(layer))
            .collect();
        let mounted = Mounted::new(road, served.folder.path(), &devices);
        let stop = Arc::new(AtomicBool::new(false));
        let read_count = Arc::new(AtomicU64::new(0));
        let readers: Vec<_> = (0..8)
            .map(|seed| {
                let root = mounted.target.clone();
                let layer = devices[0].clone();
                let (stop, read_count) = (Arc::clone(&stop), Arc::clone(&read_count));
                thread::spawn(move || read_at_random(&root, &layer, seed, &stop, &read_count))
            })
            .collect();
        let kill_count = served.kill_workers(Duration::from_millis(20), Duration::from_secs(10));
        stop.store(true, Ordering::Relaxed);
        let longest = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .max()
            .unwrap();
        let read_count = read_count.load(Ordering::Relaxed);
        println!("{road:?}: {kill_count} kills, {read_count} reads, longest {longest:?}");
        assert!(
            longest < Duration::from_secs(5),
            "a reader was hanging for {longest:?}"
        );
        assert!(kill_count > 100 && read_count > 200);
    }
}

fn read_at_random(
    root: &Path,
    layer: &Path,
    seed: u64,
    stop: &AtomicBool,
    read_count: &AtomicU64,
) -> Duration {
    let big = File::open(root.join("big")).unwrap();
    let layer = File::open(layer).unwrap();
    let mut random = seed + 1;
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let len = usize::try_from(1 + (random >> 40) % 100_000).unwrap();
        let offset = usize::try_from(random >> 16).unwrap() % (BIG_LEN - len);
        // Out of both page caches, so that the worker is asked.
        fadvise(&big, 0, None, Advice::DontNeed).unwrap();
        fadvise(&layer, 0, None, Advice::DontNeed).unwrap();
        let mut buffer = vec![0; len];
        let began = Instant::now();
        big.read_exact_at(&mut buffer, offset as u64)
            .expect("a read failed");
        longest = longest.max(began.elapsed());
        assert!(
            buffer == content("big", offset, len),
            "wrong bytes at {offset}"
        );
        read_count.fetch_add(1, Ordering::Relaxed);
    }
    longest
}

// S9
#[test]
#[ignore = "needs root and EROFS"]
fn privileged_a_container_writes_to_its_upper_directory_only() {
    let image = two_layers();
    let folder = image.folder.path();
    let lower = Mounted::new(
        Road::File,
        folder,
        &image.devices_in(&folder.join("source")),
    );
    let odd_names = folder.join("a:b\\c");
    let [upper, work, target] = ["upper", "work", "target"].map(|name| odd_names.join(name));
    for directory in [&upper, &work, &target] {
        std::fs::create_dir_all(directory).unwrap();
    }
    let layout = OverlayLayout {
        lower: &lower.target,
        upper: &upper,
        work: &work,
        target: &target,
    };
    mount_overlay(layout).unwrap();
    std::fs::write(target.join("small"), "changed").unwrap();
    std::fs::write(target.join("new"), "new").unwrap();
    std::fs::remove_file(target.join("big")).unwrap();
    let executed = Command::new(target.join("bin/true")).status().unwrap();
    unmount(&target, Unmount::Unused).unwrap();
    assert!(executed.success());
    assert_eq!(std::fs::read(upper.join("small")).unwrap(), b"changed");
    assert_eq!(std::fs::read(lower.target.join("small")).unwrap(), b"small");
    assert!(lower.target.join("big").exists());
    let missing = OverlayLayout {
        upper: Path::new("/does/not/exist"),
        ..layout
    };
    assert!(
        mount_overlay(missing)
            .unwrap_err()
            .to_string()
            .contains("/does/not/exist")
    );
}

#[test]
#[ignore = "needs root and EROFS"]
fn privileged_the_read_ahead_of_both_roads_can_be_set() {
    let image = two_layers();
    let folder = image.folder.path();
    for road in ROADS {
        let target = folder.join("root");
        std::fs::create_dir_all(&target).unwrap();
        let devices = image.devices_in(&folder.join("source"));
        let mount = mount_erofs(road, &folder.join("tree"), &devices, &target).unwrap();
        let outcome = mount.read_ahead.as_ref().map(|read_ahead| {
            read_ahead.set_kib(32).unwrap();
            let knob = format!("/sys/class/bdi/{}/read_ahead_kb", read_ahead.bdi_name());
            std::fs::read_to_string(knob).unwrap()
        });
        unmount(&target, Unmount::Lazy).unwrap();
        // Another test may mount at the same moment, and then it is not known which is which.
        assert!(
            matches!(outcome.as_deref(), None | Some("32\n")),
            "{road:?}: {outcome:?}"
        );
        println!("{road:?}: {:?}", mount.read_ahead);
    }
}

#[test]
#[ignore = "needs root and EROFS"]
fn privileged_the_probe_finds_the_roads_and_says_why_one_is_missing() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let report = probe_roads(folder.path(), Path::new("/dev/fuse"));
    assert!(
        report.fuse.is_ok() && report.loop_devices.is_ok(),
        "{report:?}"
    );
    assert_eq!(report.best(), Some(Road::File), "{report:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    let in_memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let report = probe_roads(in_memory.path(), &in_memory.path().join("no-fuse"));
    println!("{report:?}");
    assert!(report.fuse.unwrap_err().to_string().contains("no-fuse"));
}
