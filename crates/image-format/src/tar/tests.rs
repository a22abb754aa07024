//! Every dialect and every lie, as tables.

use proptest::prelude::*;
use test_images::{Dialect, Entry, LayerBuilder};

use super::*;

fn scan(tar: &[u8]) -> Result<LayerScan, ScanError> {
    let mut scanner = TarScanner::new();
    scanner.feed(tar)?;
    scanner.finish()
}

fn only(tar: &[u8]) -> TarEntry {
    let mut entries = scan(tar).unwrap().entries;
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

fn one(entry: Entry) -> TarEntry {
    only(&LayerBuilder::new().entry(entry).build())
}

fn refusal(tar: &[u8]) -> ScanErrorKind {
    scan(tar).unwrap_err().kind
}

fn content<'a>(tar: &'a [u8], entry: &TarEntry) -> Vec<u8> {
    let EntryKind::File { data } = &entry.kind else {
        panic!("{entry:?} is not a file");
    };
    let mut whole = vec![0; usize::try_from(data.size).unwrap()];
    let at = |offset: u64| usize::try_from(offset).unwrap();
    for segment in &data.segments {
        let bytes: &'a [u8] = &tar[at(segment.tar_offset)..at(segment.tar_offset + segment.len)];
        whole[at(segment.file_offset)..at(segment.file_offset + segment.len)]
            .copy_from_slice(bytes);
    }
    whole
}

#[test]
fn a_file_is_where_its_data_begins() {
    let tar = LayerBuilder::new().dir("d").file("d/f", "hello").build();
    let scan = scan(&tar).unwrap();
    assert_eq!(scan.tar_len, tar.len() as u64);
    assert_eq!(scan.entries[0].path, b"d/");
    assert_eq!(scan.entries[0].kind, EntryKind::Directory);
    let data = DataMap::contiguous(1024, 5);
    assert_eq!(scan.entries[1].kind, EntryKind::File { data });
}

#[test]
fn each_dialect_gives_the_same_names_and_numbers() {
    let long = format!("{}/{}", "d".repeat(180), "f".repeat(200));
    for (dialect, path) in [
        (Dialect::V7, "short"),
        (Dialect::Gnu, "short"),
        (Dialect::Pax, "short"),
        (Dialect::Gnu, long.as_str()),
        (Dialect::Pax, long.as_str()),
    ] {
        let entry = one(Entry::symlink(path, path)
            .owner(3_000_000_000, 100_000)
            .mode(0o4755)
            .mtime(1_234_567_890, 0)
            .dialect(dialect));
        assert_eq!(entry.path, path.as_bytes(), "{dialect:?}");
        let target = path.as_bytes().to_vec();
        assert_eq!(entry.kind, EntryKind::Symlink { target }, "{dialect:?}");
        assert_eq!(
            (entry.uid, entry.gid),
            (3_000_000_000, 100_000),
            "{dialect:?}"
        );
        assert_eq!(
            (entry.mode, entry.mtime.seconds),
            (0o4755, 1_234_567_890),
            "{dialect:?}"
        );
    }
}

#[test]
fn a_ustar_prefix_is_put_in_front() {
    let path = format!("{}/{}", "p".repeat(120), "n".repeat(90));
    let tar = LayerBuilder::new().file(&path, "").build();
    assert_eq!(tar.len(), 3 * 512, "no pax header was needed");
    assert_eq!(only(&tar).path, path.as_bytes());
}

#[test]
fn names_need_not_be_utf_8() {
    assert_eq!(one(Entry::file(b"\xff\xfe\x80", "")).path, b"\xff\xfe\x80");
    let long = [b"\xff".repeat(255), b"/\xfe".to_vec()].concat();
    assert_eq!(one(Entry::file(&long, "")).path, long);
}

#[test]
fn times_have_fractions_and_may_be_before_1970() {
    for (seconds, nanos) in [
        (1, 1),
        (0, 999_999_999),
        (-1, 0),
        (-1, 500_000_000),
        (-7, 1),
    ] {
        let entry = one(Entry::file("f", "").mtime(seconds, nanos));
        assert_eq!(entry.mtime, Timestamp { seconds, nanos });
    }
    let digits = one(Entry::file("f", "").pax("mtime", "5.12345678999999"));
    assert_eq!(
        digits.mtime,
        Timestamp {
            seconds: 5,
            nanos: 123_456_789
        }
    );
    let gnu = one(Entry::file("f", "").mtime(-5, 0).dialect(Dialect::Gnu));
    assert_eq!(
        gnu.mtime,
        Timestamp {
            seconds: -5,
            nanos: 0
        }
    );
}

#[test]
fn attributes_keep_every_byte_and_the_last_one_counts() {
    let value = b"\x01\0\0\x02=\n\xff";
    let entry = one(Entry::file("f", "")
        .xattr("user.b", "first")
        .xattr("security.capability", value)
        .xattr("user.b", "last"));
    let wanted = vec![
        (b"security.capability".to_vec(), value.to_vec()),
        (b"user.b".to_vec(), b"last".to_vec()),
    ];
    assert_eq!(entry.xattrs, wanted);
}

#[test]
fn pax_records_override_the_header_but_empty_ones_do_not() {
    let entry = one(Entry::file("f", "abc")
        .pax("path", "")
        .pax("uid", "7")
        .pax("comment", "no"));
    assert_eq!((entry.path.as_slice(), entry.uid), (&b"f"[..], 7));
    let tar = LayerBuilder::new()
        .entry(Entry::file("f", "abc").lying_size(0).pax("size", "3"))
        .build();
    assert_eq!(content(&tar, &only(&tar)), b"abc");
}

#[test]
fn global_headers_are_skipped() {
    let tar = LayerBuilder::new()
        .global_pax("path", "everything")
        .file("f", "")
        .build();
    assert_eq!(only(&tar).path, b"f");
}

#[test]
fn devices_and_pipes_have_no_data() {
    let device = DeviceNumber {
        major: 259,
        minor: 70_000,
    };
    let kind = one(Entry::block_device("d", 259, 70_000)).kind;
    assert_eq!(kind, EntryKind::BlockDevice { device });
    let kind = one(Entry::char_device("d", 259, 70_000)).kind;
    assert_eq!(kind, EntryKind::CharDevice { device });
    // A size in the header of anything but a file means nothing.
    let tar = LayerBuilder::new()
        .entry(Entry::fifo("p").lying_size(5000))
        .entry(Entry::hardlink("h", "p").lying_size(77))
        .build();
    assert_eq!(scan(&tar).unwrap().entries.len(), 2);
}

#[test]
fn a_slash_makes_an_old_entry_a_directory() {
    assert_eq!(
        one(Entry::new(0, "d/").dialect(Dialect::V7)).kind,
        EntryKind::Directory
    );
    let file = one(Entry::new(0, "d").content("x").dialect(Dialect::V7)).kind;
    assert!(matches!(file, EntryKind::File { .. }));
}

#[test]
fn sparse_files_of_every_pax_version_read_the_same() {
    let (a, b) = ([b'a'; 512], [b'b'; 700]);
    let parts: [(u64, &[u8]); 3] = [(1024, &a), (8192, &b), (9000, b"")];
    let mut wanted = vec![0; 9000];
    wanted[1024..1536].copy_from_slice(&a);
    wanted[8192..8892].copy_from_slice(&b);
    let indexed: [(usize, &[u8]); 3] = [(1024, &a), (8192, &b), (9000, b"")];
    for tar in [
        LayerBuilder::new().sparse("s", 9000, &indexed).build(),
        LayerBuilder::new()
            .sparse_map_record("s", 9000, &parts)
            .build(),
        LayerBuilder::new()
            .sparse_repeated_records("s", 9000, &parts)
            .build(),
    ] {
        let entry = only(&tar);
        assert_eq!(entry.path, b"s");
        assert_eq!(content(&tar, &entry), wanted);
    }
}

#[test]
fn a_sparse_map_over_several_blocks_is_read() {
    let byte = [7_u8; 512];
    let parts: Vec<(usize, &[u8])> = (0..300).map(|index| (index * 4096, &byte[..])).collect();
    let tar = LayerBuilder::new()
        .sparse("s", 300 * 4096, &parts)
        .file("after", "x")
        .build();
    let scan = scan(&tar).unwrap();
    let EntryKind::File { data } = &scan.entries[0].kind else {
        panic!()
    };
    assert_eq!(data.segments.len(), 300);
    assert_eq!(scan.entries[1].path, b"after");
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    let map = |map: &str, realsize: &str| {
        let entry = Entry::file("f", [1; 512])
            .pax("GNU.sparse.numblocks", "1")
            .pax("GNU.sparse.size", realsize)
            .pax("GNU.sparse.map", map);
        refusal(&LayerBuilder::new().entry(entry).build())
    };
    for text in ["0,511", "0,513", "0", "512,512", "0,256,128,256"] {
        assert!(
            matches!(map(text, "1000"), ScanErrorKind::Sparse(_)),
            "{text}"
        );
    }
    assert!(matches!(map("0,x", "1000"), ScanErrorKind::Pax(_)));
    assert!(matches!(
        map("18446744073709551615,2", "1"),
        ScanErrorKind::Sparse(_)
    ));
    let in_data = |content: &str| {
        let entry = Entry::file("f", content)
            .pax("GNU.sparse.major", "1")
            .pax("GNU.sparse.minor", "0");
        refusal(&LayerBuilder::new().entry(entry).build())
    };
    for text in [
        "",
        "x\n",
        "99999999999999999999\n",
        "1\n0\n",
        &"1".repeat(512),
    ] {
        assert!(matches!(in_data(text), ScanErrorKind::Sparse(_)), "{text}");
    }
}

#[test]
fn what_containerd_refuses_is_refused_by_name() {
    let old_sparse = LayerBuilder::new()
        .sparse_old_gnu("s", 4096, &[(0, b"x")])
        .build();
    assert_eq!(refusal(&old_sparse), ScanErrorKind::UnsupportedType('S'));
    let contiguous = LayerBuilder::new()
        .file("a", "b")
        .entry(Entry::new(b'7', "c"))
        .build();
    let error = scan(&contiguous).unwrap_err();
    assert_eq!(error.kind, ScanErrorKind::UnsupportedType('7'));
    assert_eq!(
        (error.entry.to_string().as_str(), error.offset),
        ("\"c\"", 1024)
    );
}

#[test]
fn an_error_names_the_entry_by_its_long_name() {
    let path = "l".repeat(300);
    for dialect in [Dialect::Gnu, Dialect::Pax] {
        let tar = LayerBuilder::new()
            .entry(Entry::new(b'V', &path).dialect(dialect))
            .build();
        let error = scan(&tar).unwrap_err();
        assert_eq!(
            (error.entry.0.as_slice(), error.offset),
            (path.as_bytes(), 0)
        );
    }
}

#[test]
fn a_tar_that_announces_more_than_it_has_is_truncated() {
    let lies = LayerBuilder::new()
        .entry(Entry::file("f", "x").lying_size(10_000))
        .build();
    assert!(matches!(refusal(&lies), ScanErrorKind::Truncated { .. }));
    let tar = LayerBuilder::new().file("f", vec![1; 2000]).build();
    for len in [1, 511, 513, 2000] {
        assert!(
            matches!(refusal(&tar[..len]), ScanErrorKind::Truncated { .. }),
            "{len}"
        );
    }
    let huge = LayerBuilder::new()
        .entry(Entry::file("f", "").lying_size(i64::MAX as u64))
        .build();
    assert_eq!(refusal(&huge), ScanErrorKind::TooLong);
}

#[test]
fn the_end_may_be_missing_or_followed_by_anything() {
    let whole = LayerBuilder::new().file("f", "x").build();
    // Without the zero blocks, with one of them, and even without the padding of the data.
    for len in [513, 1024, 1536, 2048] {
        let scan = scan(&whole[..len]).unwrap();
        assert_eq!((scan.entries.len(), scan.tar_len), (1, len as u64));
    }
    let trailing = [whole.as_slice(), b"garbage"].concat();
    assert_eq!(scan(&trailing).unwrap().tar_len, 2055);
}

#[test]
fn damaged_headers_are_told() {
    let tar = LayerBuilder::new().file("f", "x").build();
    let flipped = |offset: usize| {
        let mut tar = tar.clone();
        tar[offset] ^= 1;
        refusal(&tar)
    };
    assert_eq!(flipped(0), ScanErrorKind::Checksum);
    assert_eq!(flipped(130), ScanErrorKind::Checksum);
    assert_eq!(refusal(&[b'x'; 1024]), ScanErrorKind::Checksum);
    let lonely = [&[0; 512][..], &tar].concat();
    assert_eq!(refusal(&lonely), ScanErrorKind::LonelyZeroBlock);
}

#[test]
fn malformed_pax_headers_are_told() {
    for body in [
        "5 a=b\n", "x a=b\n", "6 a=b", "7 abcd\n", "4 =\n", "99 a=b\n", "nothing",
    ] {
        let tar = LayerBuilder::new()
            .entry(Entry::new(b'x', "p").content(body))
            .file("f", "")
            .build();
        assert!(matches!(refusal(&tar), ScanErrorKind::Pax(_)), "{body:?}");
    }
    let nul = Entry::file("f", "").pax("path", b"a\0b");
    assert_eq!(
        refusal(&LayerBuilder::new().entry(nul).build()),
        ScanErrorKind::NulInName
    );
    let long = Entry::new(b'L', "p").lying_size(2 << 20);
    let kind = refusal(&LayerBuilder::new().entry(long).build());
    assert_eq!(
        kind,
        ScanErrorKind::HeaderTooLong {
            len: 2 << 20,
            limit: 1 << 20
        }
    );
}

#[test]
fn owners_that_do_not_fit_are_refused() {
    let pax = Entry::file("f", "").pax("uid", "4294967296");
    let kind = refusal(&LayerBuilder::new().entry(pax).build());
    assert_eq!(kind, ScanErrorKind::Number { field: "uid" });
}

proptest! {
    /// The pieces in which a tar arrives make no difference.
    #[test]
    fn pieces_of_any_length_give_the_same_scan(
        decisions in prop::collection::vec(any::<u8>(), 0..200),
        piece_len in 1_usize..1500,
    ) {
        for tar in test_images::random_stack(&decisions).tars {
            let mut scanner = TarScanner::new();
            for piece in tar.chunks(piece_len) {
                scanner.feed(piece).unwrap();
            }
            prop_assert_eq!(scanner.finish().unwrap(), scan(&tar).unwrap());
        }
    }

    /// Damaged tars are refused or read, and what is read lies within them.
    #[test]
    fn damaged_tars_never_lead_outside(
        decisions in prop::collection::vec(any::<u8>(), 0..120),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for mut tar in test_images::random_stack(&decisions).tars {
            for (index, value) in &damage {
                let index = index.index(tar.len());
                tar[index] = *value;
            }
            let Ok(scan) = scan(&tar) else { continue };
            for entry in &scan.entries {
                if let EntryKind::File { data } = &entry.kind {
                    let ends = data.segments.iter().map(|segment| segment.tar_offset + segment.len);
                    prop_assert!(ends.max().unwrap_or(0) <= scan.tar_len);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_scanned_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        drop(scan(&bytes));
    }
}
