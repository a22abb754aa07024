//! The judge of what an image's tree is: containerd's own unpack of it.

use std::collections::BTreeMap;
use std::fs;

use rustix::mount::UnmountFlags;
use test_images::{Compression, Dialect, Entry, Image, ImageBuilder, LayerBuilder};

use crate::support::{Containerd, Server, TreeEntry, mounts_below, noise, read_tree};

/// One of everything that a tar can say and that containerd takes.
fn tricky_image() -> Image {
    ImageBuilder::new()
        .layer(lower_layer(), Compression::Gzip)
        .layer(upper_layer(), Compression::Zstd)
        .layer(top_layer(), Compression::None)
        .command(["none"])
        .build()
}

fn lower_layer() -> Vec<u8> {
    LayerBuilder::new()
        .dir("etc")
        .file("etc/passwd", "root:x:0:0:root:/:/bin/sh\n")
        .entry(
            Entry::dir("secret")
                .mode(0o700)
                .owner(7, 8)
                .mtime(1_500_000_000, 5),
        )
        .file("secret/file", "lower")
        .file("secret/gone", "lower")
        .dir("opaque")
        .dir("opaque/sub")
        .file("opaque/sub/lower", "lower")
        .file("becomes-dir", "a file below")
        .dir("becomes-file")
        .file("becomes-file/inner", "inner")
        .file("becomes-link", "file")
        .symlink("link-to-etc", "etc")
        .entry(Entry::file("fraction", "x").mtime(1_600_000_000, 987_654_321))
        .entry(
            Entry::file("special-bits", "x")
                .mode(0o6755)
                .owner(70_000, 4_000_000_000),
        )
        .entry(Entry::dir("sticky").mode(0o1777))
        .entry(
            Entry::file("attributes", "x")
                .xattr("user.one", "1")
                .xattr("user.two", vec![0, 255]),
        )
        .entry(Entry::dir("attributed").xattr("user.dir", "yes"))
        .char_device("null", 1, 3)
        .block_device("disk", 7, 200)
        .fifo("pipe")
        .build()
}

fn upper_layer() -> Vec<u8> {
    let long = "long".repeat(50);
    let hole = noise(8192, 1);
    LayerBuilder::new()
        .whiteout("secret/gone")
        .dir("opaque")
        .opaque("opaque")
        .file("opaque/upper", "upper")
        .dir("becomes-dir")
        .file("becomes-dir/inner", "upper")
        .file("becomes-file", "a file above")
        .symlink("becomes-link", "etc/passwd")
        .entry(
            Entry::dir("secret")
                .mode(0o750)
                .owner(9, 10)
                .mtime(1_600_000_001, 0),
        )
        .file("hard/one", noise(5000, 2))
        .hardlink("hard/two", "hard/one")
        .hardlink("hard-three", "hard/two")
        .symlink("target", "hard/one")
        .hardlink("hard-symlink", "target")
        .fifo("hard-pipe")
        .hardlink("hard-pipe-again", "hard-pipe")
        .file("twice", "first")
        .file("twice", "second")
        .file(format!("{long}/{long}/name"), "deep")
        .entry(Entry::file(format!("gnu/{long}"), "gnu").dialect(Dialect::Gnu))
        .entry(Entry::symlink("gnu/link", &long).dialect(Dialect::Gnu))
        .entry(Entry::file("old", "v7").dialect(Dialect::V7))
        .file(b"not-utf-8-\xff\xfe", "bytes")
        .file("x".repeat(255), "long name")
        .file("./dotted/../dotted/file", "cleaned")
        .file("/absolute", "root")
        .file("../../outside", "bounded")
        .entry(Entry::sparse(
            "sparse",
            1 << 20,
            &[(4096, &hole), (524_288, &hole)],
        ))
        .sparse_map_record("sparse-map", 99_331, &[(0, &hole[..512]), (99_328, b"end")])
        .sparse_repeated_records("sparse-records", 50_000, &[(10_240, &hole[..1024])])
        .global_pax("comment", "ignored")
        .file("empty", "")
        .build()
}

fn top_layer() -> Vec<u8> {
    LayerBuilder::new()
        .file("implied/parent/file", "x")
        .file("etc/added", "its directory keeps its attributes")
        .file("link-to-etc/inside", "a lower link becomes a directory")
        .entry(Entry::file("capable", "x").xattr(
            "security.capability",
            [
                1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
        ))
        .entry(Entry::file("before-1970", "x").mtime(-1000, 0))
        .build()
}

/// Directories that some layer has no entry for, only entries below it: there containerd shows the
/// moment of its unpack.
fn is_implied(name: &str) -> bool {
    let long = "long".repeat(50);
    let implied = [
        "",
        "etc",
        "hard",
        "gnu",
        "dotted",
        "implied",
        "implied/parent",
        "link-to-etc",
    ];
    implied.contains(&name) || name == long || name == format!("{long}/{long}")
}

type Tree = BTreeMap<Vec<u8>, TreeEntry>;

/// Replaces what is known to differ, and documented: times of implied parents, and times before 1970.
fn without_known_differences(mut tree: Tree) -> Tree {
    for (name, entry) in &mut tree {
        if is_implied(&String::from_utf8_lossy(name)) || name == b"before-1970" {
            entry.mtime = (0, 0);
        }
    }
    tree
}

/// The mounted tree of the only image that the node has.
fn mounted_tree(server: &Server) -> Tree {
    let mounts = mounts_below(&server.data().join("node/images"));
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    read_tree(&mounts[0])
}

fn assert_same(ours: &Tree, theirs: &Tree) {
    let names = ours.keys().chain(theirs.keys());
    let differences: Vec<_> = names
        .filter(|name| ours.get(*name) != theirs.get(*name))
        .map(|name| {
            let shown = String::from_utf8_lossy(name);
            format!(
                "{shown}: ours {:?}, theirs {:?}",
                ours.get(name),
                theirs.get(name)
            )
        })
        .collect();
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
#[ignore = "needs root, /dev/fuse, runc, skopeo and containerd"]
fn privileged_the_tree_is_what_containerd_unpacks() {
    let layout = tempfile::tempdir_in("/var/tmp").unwrap();
    tricky_image()
        .write_layout(layout.path(), "latest")
        .unwrap();
    let containerd = Containerd::start();
    let unpacked = containerd.directory().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let mut theirs = None;
    for road in ["erofs-file", "erofs-loop"] {
        let server = Server::start_with(&["--road", road]);
        server
            .slipway(&["repo", "accelerate", "app", "on"])
            .expect_success();
        let image = format!("{}/app:1", server.address());
        crate::support::skopeo_push(layout.path(), "latest", &image).expect_success();
        server
            .slipway(&["task", "list", "--watch"])
            .expect_success();
        let theirs = theirs.get_or_insert_with(|| {
            let pull = [
                "images",
                "pull",
                "--plain-http",
                "--snapshotter",
                "overlayfs",
            ];
            containerd
                .ctr(&[&pull[..], &[&image]].concat())
                .expect_success();
            let target = unpacked.to_str().unwrap();
            let mount = [
                "images",
                "mount",
                "--snapshotter",
                "overlayfs",
                &image,
                target,
            ];
            containerd.ctr(&mount).expect_success();
            let tree = without_known_differences(read_tree(&unpacked));
            rustix::mount::unmount(&unpacked, UnmountFlags::DETACH).unwrap();
            tree
        });
        assert!(theirs.len() > 45, "{}", theirs.len());
        let accelerated = format!("{image}_accelerated");
        for image in [&accelerated, &image] {
            // Nothing in it can run: it is mounted all the same.
            server.slipway(&["run", image, "none"]);
            let ours = without_known_differences(mounted_tree(&server));
            assert_same(&ours, theirs);
            server.slipway(&["cache", "prune"]).expect_success();
        }
    }
}

#[test]
#[ignore = "needs root, containerd and skopeo"]
fn privileged_containerd_refuses_what_we_refuse() {
    let server = Server::start();
    let containerd = Containerd::start();
    let holes = LayerBuilder::new().sparse_old_gnu("holes", 100_000, &[(50_000, b"data")]);
    let contiguous = LayerBuilder::new().entry(Entry::new(b'7', "old").content("data"));
    for (number, layer) in [holes, contiguous].into_iter().enumerate() {
        let layout = tempfile::tempdir_in(server.scratch()).unwrap();
        let image = ImageBuilder::new().layer(layer.build(), Compression::Gzip);
        image.write_layout(layout.path(), "latest").unwrap();
        let image = format!("{}/bad:{number}", server.address());
        crate::support::skopeo_push(layout.path(), "latest", &image).expect_success();
        let pull = [
            "images",
            "pull",
            "--plain-http",
            "--snapshotter",
            "native",
            &image,
        ];
        assert_ne!(containerd.ctr(&pull).code(), 0);
        assert_ne!(server.slipway(&["run", &image, "sh"]).code(), 0);
    }
}
