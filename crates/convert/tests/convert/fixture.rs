//! Directories, images and checks that several tests use.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use convert::{ConvertError, ConvertOptions, Converted, LayoutSide, NoProgress, convert_image};
use image_format::{AcceleratedManifest, ChunkTable, UntrustedChunk};
use oci::{Descriptor, Digest, ImageManifest, Manifest, OciLayout};
use test_images::LayerBuilder;

/// The tag of source and target.
pub(crate) const TAG: &str = "latest";

/// A source layout, a target layout and a work directory, all empty.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for name in ["source", "target", "work"] {
            fs::create_dir(place.dir.path().join(name)).unwrap();
        }
        place
    }

    pub(crate) fn source_dir(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub(crate) fn work_dir(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub(crate) fn source(&self) -> LayoutSide {
        LayoutSide::new(OciLayout::open(self.source_dir()).unwrap(), TAG)
    }

    pub(crate) fn target(&self) -> OciLayout {
        OciLayout::create(self.dir.path().join("target")).unwrap()
    }

    pub(crate) fn options(&self) -> ConvertOptions {
        ConvertOptions::in_dir(self.work_dir())
    }

    /// Converts source to target and checks that the work directory is empty again.
    pub(crate) async fn convert(&self) -> Result<Converted, ConvertError> {
        let target = LayoutSide::new(self.target(), TAG);
        let converted = convert_image(&self.source(), &target, &self.options(), &NoProgress).await;
        assert_eq!(files_in(&self.work_dir()), Vec::<PathBuf>::new());
        converted
    }

    /// The file of a source blob.
    pub(crate) fn source_blob(&self, digest: &str) -> PathBuf {
        self.source_dir()
            .join("blobs/sha256")
            .join(digest.trim_start_matches("sha256:"))
    }

    /// What the target holds besides the empty layout.
    pub(crate) fn target_blobs(&self) -> Vec<PathBuf> {
        files_in(&self.target().directory().join("blobs/sha256"))
    }

    /// The body of a manifest of the target.
    pub(crate) fn target_manifest(&self, manifest: &Descriptor) -> Manifest {
        let body = self.target().read_blob(manifest, 1 << 20).unwrap();
        Manifest::parse(Some(&manifest.media_type), &body).unwrap()
    }

    /// The body of an image manifest of the target.
    pub(crate) fn target_image(&self, manifest: &Descriptor) -> ImageManifest {
        match self.target_manifest(manifest) {
            Manifest::Image(image) => image,
            Manifest::Index(_) => panic!("{} is an index", manifest.digest),
        }
    }
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(len)
    .collect()
}

/// A layer of a few small files.
pub(crate) fn small_layer() -> Vec<u8> {
    LayerBuilder::new()
        .dir("etc")
        .file("etc/hostname", "slipway\n")
        .symlink("etc/name", "hostname")
        .hardlink("etc/link", "etc/hostname")
        .file("empty", "")
        .build()
}

/// A layer of some megabytes in many chunks, partly compressible.
pub(crate) fn large_layer(seed: u64) -> Vec<u8> {
    LayerBuilder::new()
        .file("noise", noise(seed, 3_000_000))
        .file("zeros", vec![0; 2_500_000])
        .file(
            "text",
            "all work and no play makes jack a dull boy\n".repeat(40_000),
        )
        .build()
}

/// Checks everything that the manifest of an accelerated image promises about its layers: that `zstd -d` of
/// each gives its tar, and that each chunk of each table verifies and is that part of the tar.
pub(crate) fn check_layers(place: &Place, manifest: &ImageManifest, tars: &[Vec<u8>]) {
    let accelerated = AcceleratedManifest::from_manifest(manifest)
        .unwrap()
        .unwrap();
    assert_eq!(accelerated.layers.len(), tars.len());
    let layout = place.target();
    for (layer, tar) in accelerated.layers.iter().zip(tars) {
        let path = layout.blob_path(&layer.stored.digest);
        let stored = fs::read(&path).unwrap();
        assert_eq!(Digest::of(&stored), layer.stored.digest);
        assert_eq!(stored.len() as u64, layer.stored.size);
        assert_eq!(decode_with_the_command(&path), *tar);
        let table = layout.read_blob(&layer.chunk_table, 1 << 24).unwrap();
        let table = ChunkTable::decode(&table).unwrap();
        assert_eq!(table.diff_id(), Digest::of(tar));
        assert_eq!(table.tar_len(), tar.len() as u64);
        for chunk in table.iter() {
            let frame = &stored[to_usize(&chunk.stored_range)];
            let verified = UntrustedChunk::decode(frame, &chunk)
                .unwrap()
                .verify(&chunk)
                .unwrap();
            assert_eq!(verified.bytes()[..], tar[to_usize(&chunk.tar_range)]);
        }
    }
}

/// Decodes with the zstd program, which knows nothing of us.
fn decode_with_the_command(path: &Path) -> Vec<u8> {
    let mut child = Command::new("zstd")
        .args(["-d", "-c", "-q"])
        .arg(path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the zstd program is installed");
    let mut decoded = Vec::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut decoded)
        .unwrap();
    assert!(child.wait().unwrap().success());
    decoded
}

fn to_usize(range: &std::ops::Range<u64>) -> std::ops::Range<usize> {
    usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()
}

/// An error and its causes, as a person reads them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
