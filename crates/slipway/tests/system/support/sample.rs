//! Images that can be run: a static busybox, and files whose every byte is known.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::OnceLock;

use test_images::{Compression, Entry, Image, ImageBuilder, LayerBuilder, sha256};

/// Programs of busybox that the tests use in a container.
const PROGRAMS: [&str; 23] = [
    "cat",
    "cmp",
    "dd",
    "echo",
    "env",
    "false",
    "find",
    "head",
    "id",
    "ifconfig",
    "ls",
    "pwd",
    "readlink",
    "rm",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "test",
    "touch",
    "true",
    "xargs",
];

/// An image, and what is in its `/data`.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) image: Image,
    /// Paths of all files in `/data` with the SHA-256 of their bytes.
    files: BTreeMap<String, String>,
}

impl Sample {
    /// Files of 1 byte to 20 MB in three layers, with whiteouts, hard links, holes and attributes.
    pub(crate) fn whole() -> &'static Self {
        static WHOLE: OnceLock<Sample> = OnceLock::new();
        WHOLE.get_or_init(whole)
    }

    /// Two layers of a few chunks each.
    pub(crate) fn small() -> &'static Self {
        static SMALL: OnceLock<Sample> = OnceLock::new();
        SMALL.get_or_init(small)
    }

    /// As many small layers, each of which changes one file of the layer below.
    pub(crate) fn of_layers(count: usize) -> Self {
        let mut files = Files::default();
        let mut image = configured().layer(base_layer().dir("data").build(), Compression::Gzip);
        for number in 1..count {
            let own = format!("data/{number:03}");
            let layer = files.add(LayerBuilder::new(), &own, noise(number * 10, number as u64));
            let layer = files.add(layer, "data/changed", noise(1000, number as u64));
            image = image.layer(layer.build(), Compression::Gzip);
        }
        Self {
            image: image.build(),
            files: files.digests,
        }
    }

    /// What [`Self::READ_ALL`] must print.
    pub(crate) fn listing(&self) -> String {
        let line = |(path, digest): (&String, &String)| format!("{digest}  {path}\n");
        self.files.iter().map(line).collect()
    }

    /// A command for `sh -c` that reads every byte of every file in `/data`.
    pub(crate) const READ_ALL: &str = "find /data -type f | LC_ALL=C sort | xargs sha256sum";
}

fn whole() -> Sample {
    let mut files = Files::default();
    let mut base = base_layer()
        .dir("data")
        .dir("data/hidden")
        .file("data/hidden/lower", noise(700_000, 90))
        .file("data/gone", noise(500_000, 91))
        .file("data/replaced", noise(400_000, 92));
    let sizes = [
        1, 511, 512, 513, 4095, 4096, 4097, 65_537, 300_000, 1_048_577, 5_000_000, 20_000_000,
    ];
    for (seed, size) in (1..).zip(sizes) {
        base = files.add(base, &format!("data/size-{size}"), noise(size, seed));
    }
    base = files.add(base, "data/text", words(3_000_000));
    let holes = noise(900_000, 50);
    let parts = [
        (1 << 20, &holes[..307_200]),
        (6 << 20, &holes[307_200..614_400]),
    ];
    let mut whole = vec![0; 9 << 20];
    for (offset, bytes) in parts {
        whole[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    let mut changes = LayerBuilder::new()
        .whiteout("data/gone")
        .opaque("data/hidden")
        .sparse("data/sparse", whole.len(), &parts);
    files.note("data/sparse", &whole);
    changes = files.add(changes, "data/hidden/upper", noise(200_000, 60));
    changes = files.add(changes, "data/replaced", noise(350_000, 61));
    changes = files.add(changes, "data/linked", noise(600_000, 62));
    changes = changes.hardlink("data/link", "data/linked");
    files.note("data/link", &noise(600_000, 62));
    let tagged = noise(100_000, 63);
    files.note("data/tagged", &tagged);
    let tagged = Entry::file("data/tagged", tagged)
        .mode(0o4711)
        .owner(1000, 100_000)
        .mtime(1_600_000_000, 123_456_789)
        .xattr("user.note", "kept")
        .xattr("security.capability", CAPABILITY);
    let mut many = LayerBuilder::new().entry(tagged);
    for number in 0..200_usize {
        let path = format!("data/many/{number:03}");
        many = files.add(many, &path, noise(number * 97, 1000 + number as u64));
    }
    Sample {
        image: configured()
            .layer(base.build(), Compression::Gzip)
            .layer(changes.build(), Compression::Gzip)
            .layer(many.build(), Compression::Zstd)
            .build(),
        files: files.digests,
    }
}

fn small() -> Sample {
    let mut files = Files::default();
    let base = files.add(base_layer().dir("data"), "data/first", noise(3_000_000, 7));
    let top = files.add(LayerBuilder::new(), "data/second", noise(1_500_000, 8));
    let top = files.add(top, "data/third", words(400_000));
    Sample {
        image: configured()
            .layer(base.build(), Compression::Gzip)
            .layer(top.build(), Compression::Gzip)
            .build(),
        files: files.digests,
    }
}

/// `cap_net_raw+ep` as the kernel stores it (`vfs_cap_data`, version 2).
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

fn configured() -> ImageBuilder {
    ImageBuilder::new()
        .env(["PATH=/bin", "FROM_IMAGE=yes"])
        .command(["/bin/sh", "-c", "echo hello"])
}

/// The busybox of this machine, which must be the static one.
fn base_layer() -> LayerBuilder {
    let busybox = fs::read("/bin/busybox").unwrap();
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/:/bin/sh\n";
    let mut layer = LayerBuilder::new()
        .dir("bin")
        .entry(Entry::file("bin/busybox", busybox).mode(0o755))
        .dir("etc")
        .file("etc/passwd", passwd)
        .file("etc/group", "root:x:0:\napp:x:1001:\nmore:x:1002:app\n")
        .entry(Entry::dir("tmp").mode(0o1777));
    for program in PROGRAMS {
        layer = layer.symlink(format!("bin/{program}"), "busybox");
    }
    layer
}

#[derive(Default)]
struct Files {
    digests: BTreeMap<String, String>,
}

impl Files {
    fn add(&mut self, layer: LayerBuilder, path: &str, content: Vec<u8>) -> LayerBuilder {
        self.note(path, &content);
        layer.file(path, content)
    }

    fn note(&mut self, path: &str, content: &[u8]) {
        let digest = sha256(content);
        let hex = digest.trim_start_matches("sha256:");
        self.digests.insert(format!("/{path}"), hex.to_owned());
    }
}

/// Bytes that cannot be compressed, the same for the same seed (xorshift64*).
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let word = state.wrapping_mul(0x2545_F491_4F6C_DD1D);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Bytes that can be compressed.
fn words(len: usize) -> Vec<u8> {
    let mut text = String::with_capacity(len + 32);
    let mut number = 0_u32;
    while text.len() < len {
        writeln!(text, "line {number} of some text").unwrap();
        number += 1;
    }
    text.truncate(len);
    text.into_bytes()
}
