//! The same image gives the same bytes, and nothing is lost on the way.

use convert::{ConvertOptions, LayoutSide, NoProgress, convert_image};
use image_format::ChunkSizes;
use oci::Digest;
use proptest::prelude::*;
use test_images::{Compression, ImageBuilder, LayerBuilder};

use crate::fixture::{Place, TAG, check_layers, large_layer, noise, small_layer};

fn image() -> ImageBuilder {
    ImageBuilder::new()
        .layer(large_layer(7), Compression::Gzip)
        .layer(small_layer(), Compression::Gzip)
        .annotation("org.opencontainers.image.title", "same")
}

async fn converted_with(change: impl FnOnce(&mut ConvertOptions)) -> Digest {
    converted_from(image(), change).await
}

async fn converted_from(image: ImageBuilder, change: impl FnOnce(&mut ConvertOptions)) -> Digest {
    let place = Place::new();
    image.write_layout(&place.source_dir(), TAG).unwrap();
    let mut options = place.options();
    change(&mut options);
    let target = LayoutSide::new(place.target(), TAG);
    let converted = convert_image(&place.source(), &target, &options, &NoProgress)
        .await
        .unwrap();
    converted.target.digest
}

#[tokio::test]
async fn the_number_of_threads_does_not_change_a_byte() {
    let one = converted_with(|options| options.threads = 1).await;
    for threads in [2, 3, 8] {
        assert_eq!(
            converted_with(|options| options.threads = threads).await,
            one
        );
    }
}

/// Pinned: whoever changes chunk borders, frames, tables, tree or manifest changes the digest of every
/// converted image, and so may a new release of zstd. Then this line changes, and the changelog says so.
#[tokio::test]
async fn the_same_image_gives_these_bytes_on_every_machine() {
    // Not compressed: what gzip makes of a tar depends on the processor.
    let image = ImageBuilder::new().layer(large_layer(7), Compression::None);
    let digest = converted_from(image, |_| {}).await.to_string();
    assert_eq!(
        digest,
        "sha256:66016fbff5928838d3570072e580338fc89132994440890f48cb90dde95d6f05"
    );
}

#[tokio::test]
async fn level_and_chunk_sizes_change_the_bytes() {
    let usual = converted_with(|_| {}).await;
    let sizes = ChunkSizes::around(64 << 10).unwrap();
    assert_ne!(
        converted_with(|options| options.zstd_level = 1).await,
        usual
    );
    assert_ne!(
        converted_with(|options| options.chunk_sizes = sizes).await,
        usual
    );
}

fn layer() -> impl Strategy<Value = Vec<u8>> {
    let file = (0_u8..6, 0_usize..40_000, any::<u64>());
    prop::collection::vec(file, 0..6).prop_map(|files| {
        let mut layer = LayerBuilder::new().dir("d");
        for (name, len, seed) in files {
            layer = match name {
                0 => layer.whiteout("d/1"),
                1 => layer.opaque("d"),
                name => layer.file(format!("d/{name}"), noise(seed, len)),
            };
        }
        layer.build()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_stacks_come_back_bit_by_bit(
        tars in prop::collection::vec(layer(), 1..5),
        compression in prop::sample::select(vec![Compression::None, Compression::Gzip, Compression::Zstd]),
    ) {
        let place = Place::new();
        let image = tars.iter().fold(ImageBuilder::new(), |image, tar| image.layer(tar.clone(), compression));
        image.write_layout(&place.source_dir(), TAG).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let converted = runtime.block_on(place.convert()).unwrap();
        check_layers(&place, &place.target_image(&converted.target), &tars);
    }
}
