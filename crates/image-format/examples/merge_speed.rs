//! Measures scan, merge, write and check of a tree: `merge_speed TAR…`, layers lowest first. Without
//! arguments, of 60,000 made-up files of 100 KB each, whose data is all the same.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::time::Instant;

use image_format::erofs::{ErofsTree, write_erofs};
use image_format::tar::{LayerScan, TarScanner};
use image_format::tree::merge_layers;
use test_images::Entry;

const FILE_COUNT: usize = 60_000;

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<_> = std::env::args_os().skip(1).collect();
    let started = Instant::now();
    let scans = if paths.is_empty() {
        vec![scan_made_up()?]
    } else {
        paths
            .iter()
            .map(|path| scan_file(File::open(path)?))
            .collect::<Result<Vec<_>, _>>()?
    };
    let bytes: u64 = scans.iter().map(|scan| scan.tar_len).sum();
    println!("scanned {bytes} bytes in {:?}", started.elapsed());
    let lens: Vec<u64> = scans.iter().map(|scan| scan.tar_len).collect();
    let started = Instant::now();
    let tree = merge_layers(&scans)?;
    println!(
        "merged {} inodes in {:?}",
        tree.inode_count(),
        started.elapsed()
    );
    let started = Instant::now();
    let image = write_erofs(&tree, &lens)?;
    println!("wrote {} bytes in {:?}", image.len(), started.elapsed());
    let started = Instant::now();
    let read = ErofsTree::parse(image, &lens)?;
    println!(
        "checked {} inodes in {:?}",
        read.inode_count(),
        started.elapsed()
    );
    Ok(())
}

fn scan_made_up() -> Result<LayerScan, Box<dyn Error>> {
    let content = vec![7; 100_000];
    let mut scanner = TarScanner::new();
    for index in 0..FILE_COUNT {
        let path = format!(
            "usr/lib/python/site-packages/p{}/m{}/{index}.py",
            index / 500,
            index % 7
        );
        let entry = Entry::file(path, "").lying_size(content.len() as u64);
        scanner.feed(&entry.encode())?;
        scanner.feed(&content)?;
        scanner.feed(&[0; 512][..content.len().next_multiple_of(512) - content.len()])?;
    }
    Ok(scanner.finish()?)
}

fn scan_file(mut file: File) -> Result<LayerScan, Box<dyn Error>> {
    let mut scanner = TarScanner::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let len = file.read(&mut buffer)?;
        if len == 0 {
            return Ok(scanner.finish()?);
        }
        scanner.feed(&buffer[..len])?;
    }
}
