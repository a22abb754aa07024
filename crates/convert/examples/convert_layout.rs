//! Converts an image from one OCI layout to another and says how long it took.
//!
//! `convert_layout SOURCE_DIR SOURCE_TAG TARGET_DIR TARGET_TAG [LEVEL [THREADS [CHUNK_LEN]]]`

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use convert::{ConvertOptions, LayoutSide, NoProgress, convert_image};
use image_format::ChunkSizes;
use oci::OciLayout;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the example's output")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source_dir, source_tag, target_dir, target_tag, rest @ ..] = arguments.as_slice() else {
        anyhow::bail!(
            "usage: convert_layout SOURCE_DIR SOURCE_TAG TARGET_DIR TARGET_TAG [LEVEL [THREADS [CHUNK_LEN]]]"
        );
    };
    let source = LayoutSide::new(OciLayout::open(Path::new(source_dir))?, source_tag);
    let target = LayoutSide::new(OciLayout::create(Path::new(target_dir))?, target_tag);
    let mut options = ConvertOptions::in_dir(target_dir);
    if let Some(level) = rest.first() {
        options.zstd_level = level.parse().context("LEVEL is a number")?;
    }
    if let Some(threads) = rest.get(1) {
        options.threads = threads.parse().context("THREADS is a number")?;
    }
    if let Some(average) = rest.get(2) {
        let average = average.parse().context("CHUNK_LEN is a number")?;
        options.chunk_sizes = ChunkSizes::around(average)?;
    }
    let started = Instant::now();
    let converted = convert_image(&source, &target, &options, &NoProgress).await?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{}", serde_json::to_string_pretty(&converted)?);
    let (source_len, stored_len) = (converted.source_len(), converted.stored_len());
    let gigabytes = to_gigabytes(source_len);
    println!("seconds          {seconds:.2}");
    println!("seconds per GB   {:.2}", seconds / gigabytes);
    println!(
        "stored / source  {:.4}",
        to_gigabytes(stored_len) / gigabytes
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a length for a person to read")]
fn to_gigabytes(len: u64) -> f64 {
    len as f64 / 1e9
}
