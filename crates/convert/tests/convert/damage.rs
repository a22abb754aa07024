//! Images that are wrong, disks that are full, and conversions that are given up.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use convert::{ConvertError, LayerError, LayoutSide, NoProgress, convert_image};
use serde_json::{Value, json};
use test_images::{Compression, Entry, Image, ImageBuilder, LayerBuilder, gzip, sha256};
use tokio::sync::Notify;

use crate::fixture::{Place, TAG, chain, large_layer, small_layer};
use crate::ports::{BreaksOff, FailsAt, Stalls};
use crate::shapes::replace_top;

fn write_image(place: &Place, compression: Compression) -> Image {
    ImageBuilder::new()
        .layer(small_layer(), compression)
        .layer(large_layer(5), compression)
        .write_layout(&place.source_dir(), TAG)
        .unwrap()
}

/// Converts, and gives the error of the layer that must fail; nothing may be left in the target.
async fn layer_error(place: &Place) -> (usize, LayerError) {
    let error = place.convert().await.unwrap_err();
    assert!(place.target_blobs().is_empty());
    assert_eq!(place.target().find_tag(TAG).unwrap(), None);
    let message = chain(&error);
    let ConvertError::Layer { index, source, .. } = error else {
        panic!("{message}");
    };
    (index, *source)
}

#[tokio::test]
async fn a_truncated_blob_is_named_with_both_lengths() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let place = Place::new();
        let image = write_image(&place, compression);
        let path = place.source_blob(&image.layers[1].digest);
        let bytes = fs::read(&path).unwrap();
        for len in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, &bytes[..len]).unwrap();
            let (index, error) = layer_error(&place).await;
            assert_eq!(index, 1);
            assert!(
                matches!(error, LayerError::BlobLength { actual, .. } if actual == len as u64),
                "{}",
                chain(&error)
            );
        }
        fs::write(&path, [&bytes[..], b"tail"].concat()).unwrap();
        let (_, error) = layer_error(&place).await;
        assert!(
            matches!(error, LayerError::BlobLength { .. }),
            "{}",
            chain(&error)
        );
    }
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_a_wrong_digest_whatever_the_decoder_says() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let place = Place::new();
        let image = write_image(&place, compression);
        let path = place.source_blob(&image.layers[1].digest);
        let bytes = fs::read(&path).unwrap();
        for at in [0, 3, 100, bytes.len() / 2, bytes.len() - 1] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x20;
            fs::write(&path, flipped).unwrap();
            let (index, error) = layer_error(&place).await;
            assert_eq!(index, 1);
            assert!(
                matches!(error, LayerError::BlobDigest { .. }),
                "{at}: {}",
                chain(&error)
            );
        }
    }
}

/// Writes an image of one layer whose blob is `blob`, with right digest and size, and `diff_id`.
fn write_blob_as_layer(place: &Place, blob: &[u8], diff_id: &str) {
    let image = ImageBuilder::new().layer(small_layer(), Compression::Gzip);
    let image = image.write_layout(&place.source_dir(), TAG).unwrap();
    let mut config: Value = serde_json::from_slice(&image.config.bytes).unwrap();
    config["rootfs"]["diff_ids"] = json!([diff_id]);
    let config = config.to_string().into_bytes();
    let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    for (entry, body) in [("config", &config[..]), ("layer", blob)] {
        fs::write(place.source_blob(&sha256(body)), body).unwrap();
        let descriptor = match entry {
            "config" => &mut manifest["config"],
            _ => &mut manifest["layers"][0],
        };
        descriptor["digest"] = json!(sha256(body));
        descriptor["size"] = json!(body.len());
    }
    replace_top(
        place,
        "application/vnd.oci.image.manifest.v1+json",
        &manifest,
    );
}

#[tokio::test]
async fn a_blob_that_is_what_it_claims_but_no_gzip_is_named() {
    let place = Place::new();
    let mut blob = gzip(&large_layer(6));
    blob.truncate(blob.len() - 5);
    write_blob_as_layer(&place, &blob, &sha256(&large_layer(6)));
    let (_, error) = layer_error(&place).await;
    assert!(
        matches!(error, LayerError::Decompress { .. }),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn a_wrong_diff_id_is_named_with_the_right_one() {
    let place = Place::new();
    let tar = large_layer(8);
    write_blob_as_layer(&place, &gzip(&tar), &sha256(b"another tar"));
    let (_, error) = layer_error(&place).await;
    let LayerError::DiffId { wanted, actual } = error else {
        panic!("{}", chain(&error));
    };
    assert_eq!(wanted.to_string(), sha256(b"another tar"));
    assert_eq!(actual.to_string(), sha256(&tar));
}

#[tokio::test]
async fn a_tar_that_lies_about_a_size_is_refused_with_the_entry() {
    let lie = Entry::file("usr/liar", b"short").lying_size(1 << 40);
    let tar = LayerBuilder::new()
        .file("etc/honest", b"yes")
        .entry(lie)
        .build();
    let place = Place::new();
    write_blob_as_layer(&place, &gzip(&tar), &sha256(&tar));
    let (_, error) = layer_error(&place).await;
    assert!(matches!(error, LayerError::Scan(_)), "{}", chain(&error));
    assert!(chain(&error).contains("usr/liar"), "{}", chain(&error));
}

#[tokio::test]
async fn a_config_with_other_bytes_and_a_wrong_count_of_diff_ids_are_refused() {
    let place = Place::new();
    let image = write_image(&place, Compression::Gzip);
    fs::write(place.source_blob(&image.config.digest), b"{}").unwrap();
    let error = place.convert().await.unwrap_err();
    assert!(
        matches!(error, ConvertError::WrongContent { .. }),
        "{}",
        chain(&error)
    );

    let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    manifest["layers"].as_array_mut().unwrap().pop();
    fs::write(place.source_blob(&image.config.digest), &image.config.bytes).unwrap();
    replace_top(
        &place,
        "application/vnd.oci.image.manifest.v1+json",
        &manifest,
    );
    let error = chain(&place.convert().await.unwrap_err());
    assert!(error.contains("1 layers, its config 2 diff IDs"), "{error}");
}

#[tokio::test]
async fn a_source_that_breaks_off_is_the_error_and_not_what_follows_from_it() {
    let place = Place::new();
    write_image(&place, Compression::Gzip);
    let source = BreaksOff(place.source());
    let target = LayoutSide::new(place.target(), TAG);
    let error = convert_image(&source, &target, &place.options(), &NoProgress)
        .await
        .unwrap_err();
    assert!(
        chain(&error).ends_with("connection reset"),
        "{}",
        chain(&error)
    );
    assert!(place.target_blobs().is_empty());
}

#[tokio::test]
async fn a_target_that_fails_at_any_write_is_not_tagged() {
    for failing_write in 0.. {
        let place = Place::new();
        write_image(&place, Compression::Gzip);
        let target = FailsAt::new(LayoutSide::new(place.target(), TAG), failing_write);
        let converted =
            convert_image(&place.source(), &target, &place.options(), &NoProgress).await;
        let tag = place.target().find_tag(TAG).unwrap();
        assert_eq!(tag.is_some(), converted.is_ok(), "write {failing_write}");
        assert_eq!(fs::read_dir(place.work_dir()).unwrap().count(), 0);
        match converted {
            // Config, empty config, tree, two tables, two layers, artifact, manifest, tag.
            Ok(_) => return assert_eq!(failing_write, 10),
            Err(error) => assert!(matches!(error, ConvertError::Target { .. })),
        }
    }
}

#[tokio::test]
async fn a_conversion_that_failed_half_way_is_finished_by_the_next_one() {
    let place = Place::new();
    write_image(&place, Compression::Gzip);
    let target = FailsAt::new(LayoutSide::new(place.target(), TAG), 7);
    convert_image(&place.source(), &target, &place.options(), &NoProgress)
        .await
        .unwrap_err();
    place.convert().await.unwrap();
}

#[tokio::test]
async fn a_dropped_conversion_stops_its_threads_and_removes_its_files() {
    let place = Place::new();
    write_image(&place, Compression::Gzip);
    let stalled = Arc::new(Notify::new());
    let source = Stalls {
        inner: place.source(),
        stalled: Arc::clone(&stalled),
    };
    let target = LayoutSide::new(place.target(), TAG);
    let options = place.options();
    {
        let conversion = convert_image(&source, &target, &options, &NoProgress);
        tokio::select! {
            _ = conversion => panic!("it stalls for ever"),
            () = stalled.notified() => {}
        }
    }
    // The threads hold the work directory: it goes when the last of them has ended.
    while fs::read_dir(place.work_dir()).unwrap().count() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(place.target_blobs().is_empty());
}

#[tokio::test]
async fn a_work_directory_that_does_not_exist_is_named() {
    let place = Place::new();
    write_image(&place, Compression::Gzip);
    let mut options = place.options();
    options.work_dir = place.dir.path().join("nowhere");
    let target = LayoutSide::new(place.target(), TAG);
    let error = convert_image(&place.source(), &target, &options, &NoProgress)
        .await
        .unwrap_err();
    assert!(chain(&error).contains("nowhere"), "{}", chain(&error));
}

#[tokio::test]
#[ignore = "needs root and tmpfs"]
async fn privileged_a_full_work_disk_is_said_and_leaves_nothing() {
    let place = Place::new();
    write_image(&place, Compression::Gzip);
    let disk = SmallDisk::mount(place.work_dir(), "size=1m");
    let error = place.convert().await.unwrap_err();
    assert!(
        chain(&error).contains("No space left on device"),
        "{}",
        chain(&error)
    );
    assert!(place.target_blobs().is_empty());
    drop(disk);
}

/// A tmpfs that is unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, options: &str) -> Self {
        let mut command = std::process::Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&path);
        assert!(command.status().unwrap().success());
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}
