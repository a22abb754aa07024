//! What stacks of layers make, one rule each, and against the model.

use proptest::prelude::*;
use test_images::{Entry, LayerBuilder, ReferenceContent, ReferenceTree, random_stack};

use super::*;
use crate::tar::{LayerScan, TarScanner};

fn scan(tar: &[u8]) -> LayerScan {
    let mut scanner = TarScanner::new();
    scanner.feed(tar).unwrap();
    scanner.finish().unwrap()
}

fn merge<const N: usize>(layers: [LayerBuilder; N]) -> Result<RootTree, MergeError> {
    let scans: Vec<LayerScan> = layers
        .into_iter()
        .map(|layer| scan(&layer.build()))
        .collect();
    merge_layers(&scans)
}

fn layer() -> LayerBuilder {
    LayerBuilder::new()
}

/// All paths, sorted, directories with a slash behind them.
fn paths(tree: &RootTree) -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead = vec![(String::new(), RootTree::ROOT)];
    while let Some((path, id)) = ahead.pop() {
        for (name, child) in tree.children(id) {
            let path = format!("{path}{}", String::from_utf8_lossy(name));
            if matches!(tree.inode(child).kind, InodeKind::Directory { .. }) {
                found.push(format!("{path}/"));
                ahead.push((format!("{path}/"), child));
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn inode<'a>(tree: &'a RootTree, path: &str) -> &'a Inode {
    tree.inode(tree.lookup(path.as_bytes()).unwrap())
}

fn refusal<const N: usize>(layers: [LayerBuilder; N]) -> MergeErrorKind {
    merge(layers).unwrap_err().kind
}

#[test]
fn a_whiteout_hides_the_lower_name_and_all_below_it() {
    let lower = layer().file("a/b/c", "").file("a/d", "");
    let tree = merge([lower, layer().whiteout("a/b")]).unwrap();
    assert_eq!(paths(&tree), ["a/", "a/d"]);
}

// D7
#[test]
fn a_whiteout_spares_its_own_layer_in_either_order() {
    let lower = || layer().file("x/old", "");
    for upper in [
        layer().whiteout("x").file("x/new", ""),
        layer().file("x/new", "").whiteout("x"),
    ] {
        assert_eq!(paths(&merge([lower(), upper]).unwrap()), ["x/", "x/new"]);
    }
}

#[test]
fn an_opaque_directory_hides_what_is_below_in_either_order() {
    let lower = || layer().file("d/old", "").file("d/sub/old", "");
    for upper in [
        layer().opaque("d").file("d/new", ""),
        layer().file("d/new", "").opaque("d"),
    ] {
        assert_eq!(paths(&merge([lower(), upper]).unwrap()), ["d/", "d/new"]);
    }
    let root = merge([lower(), layer().opaque("").file("only", "")]).unwrap();
    assert_eq!(paths(&root), ["only"]);
}

#[test]
fn leftovers_of_aufs_are_ignored() {
    let tree = merge([layer()
        .file(".wh..wh.plnk/1.2", "")
        .file(".wh..wh.aufs", "")])
    .unwrap();
    assert_eq!(paths(&tree), Vec::<String>::new());
}

#[test]
fn a_character_device_without_a_number_is_a_whiteout() {
    let tree = merge([layer().file("a", ""), layer().char_device("a", 0, 0)]).unwrap();
    assert_eq!(paths(&tree), Vec::<String>::new());
}

#[test]
fn whiteouts_of_nothing_are_refused() {
    for name in [".wh.", ".wh..", ".wh..."] {
        assert_eq!(
            refusal([layer().file(name, "")]),
            MergeErrorKind::WhiteoutOfNothing
        );
    }
}

#[test]
fn files_replace_directories_and_directories_files() {
    let lower = layer().file("a/b", "").file("c", "");
    let tree = merge([lower, layer().file("a", "").file("c/d", "")]).unwrap();
    assert_eq!(paths(&tree), ["a", "c/", "c/d"]);
}

#[test]
fn a_later_entry_of_a_layer_replaces_an_earlier_one() {
    let tree = merge([layer()
        .dir("a")
        .file("a/b", "")
        .symlink("a", "x")
        .file("c", "1")
        .dir("c")]);
    let tree = tree.unwrap();
    assert_eq!(paths(&tree), ["a", "c/"]);
    assert!(matches!(inode(&tree, "a").kind, InodeKind::Symlink { .. }));
}

#[test]
fn a_directory_over_a_directory_changes_its_attributes_only() {
    let lower = layer()
        .entry(Entry::dir("d").owner(1, 2).xattr("user.a", "b"))
        .file("d/f", "");
    let tree = merge([lower, layer().entry(Entry::dir("d").mode(0o700))]).unwrap();
    assert_eq!(paths(&tree), ["d/", "d/f"]);
    let attributes = &inode(&tree, "d").attributes;
    assert_eq!((attributes.mode, attributes.uid), (0o700, 0));
    assert!(attributes.xattrs.is_empty());
}

// D3
#[test]
fn implied_parents_keep_lower_attributes_or_get_the_same_ones_always() {
    let lower = layer().entry(Entry::dir("known").mode(0o711).owner(5, 6).mtime(77, 8));
    let tree = merge([lower, layer().file("known/f", "").file("new/f", "")]).unwrap();
    let known = &inode(&tree, "known").attributes;
    assert_eq!((known.mode, known.uid, known.gid), (0o711, 5, 6));
    assert_eq!(
        known.mtime,
        Timestamp {
            seconds: 77,
            nanos: 8
        }
    );
    assert_eq!(
        inode(&tree, "new").attributes,
        Attributes::implied_directory()
    );
    assert_eq!(inode(&tree, "").attributes, Attributes::implied_directory());
}

#[test]
fn the_root_itself_has_no_entry() {
    let tree = merge([layer().entry(Entry::dir("./").mode(0o777).owner(9, 9))]).unwrap();
    assert_eq!(inode(&tree, "").attributes, Attributes::implied_directory());
}

#[test]
fn names_are_cleaned_and_stay_in_the_root() {
    let tree = merge([layer().file("/../../a/./x/../b", "").file("./c//d", "")]).unwrap();
    assert_eq!(paths(&tree), ["a/", "a/b", "c/", "c/d"]);
}

#[test]
fn parents_follow_links_of_their_own_layer() {
    let tree = merge([layer()
        .symlink("up", "../../real")
        .file("up/f", "")
        .dir("dir/deep")
        .symlink("dir/deep/abs", "/dir/./x/../y")
        .file("dir/deep/abs/g", "")])
    .unwrap();
    assert_eq!(
        paths(&tree),
        [
            "dir/",
            "dir/deep/",
            "dir/deep/abs",
            "dir/y/",
            "dir/y/g",
            "real/",
            "real/f",
            "up"
        ]
    );
}

#[test]
fn a_lower_layers_link_is_replaced_by_a_directory() {
    let tree = merge([layer().symlink("lib", "usr/lib"), layer().file("lib/f", "")]).unwrap();
    assert_eq!(paths(&tree), ["lib/", "lib/f"]);
}

#[test]
fn loops_of_links_end() {
    let kind = refusal([layer().symlink("a", "b").symlink("b", "a").file("a/f", "")]);
    assert_eq!(kind, MergeErrorKind::TooManySymlinks);
}

#[test]
fn a_file_cannot_be_a_parent() {
    let error = merge([layer(), layer().file("a", "").file("a/b", "")]).unwrap_err();
    assert_eq!(
        error.kind,
        MergeErrorKind::ParentNotDirectory(b"a".to_vec())
    );
    assert_eq!(
        (error.layer_index, error.entry.to_string().as_str()),
        (1, "\"a/b\"")
    );
}

#[test]
fn hard_links_share_an_inode_and_set_its_attributes() {
    let tree = merge([layer()
        .entry(Entry::file("a", "x").mode(0o4711).owner(1, 1))
        .entry(
            Entry::hardlink("b", "/./a")
                .mode(0o600)
                .owner(2, 3)
                .mtime(5, 6)
                .xattr("user.l", "v"),
        )
        .symlink("s", "a")
        .hardlink("t", "s")])
    .unwrap();
    assert_eq!(tree.lookup(b"a"), tree.lookup(b"b"));
    let shared = inode(&tree, "a");
    assert_eq!(shared.link_count, 2);
    let attributes = &shared.attributes;
    assert_eq!(
        (attributes.mode, attributes.uid, attributes.gid),
        (0o600, 2, 3)
    );
    assert_eq!(
        attributes.mtime,
        Timestamp {
            seconds: 5,
            nanos: 6
        }
    );
    assert_eq!(attributes.xattrs[&b"user.l"[..]], b"v");
    assert_eq!(
        tree.lookup(b"s"),
        tree.lookup(b"t"),
        "a link to a symlink is to the symlink itself"
    );
}

#[test]
fn a_group_survives_the_loss_of_its_first_name() {
    let lower = layer().file("a", "x").hardlink("b", "a").hardlink("c", "a");
    let tree = merge([lower, layer().whiteout("a")]).unwrap();
    assert_eq!(inode(&tree, "b").link_count, 2);
    assert_eq!(tree.lookup(b"b"), tree.lookup(b"c"));
}

#[test]
fn hard_links_reach_their_own_layer_only() {
    let kind = refusal([layer().file("a", ""), layer().hardlink("b", "a")]);
    assert_eq!(kind, MergeErrorKind::LinkTargetMissing(b"a".to_vec()));
    let kind = refusal([layer().file("a", "").hardlink("a", "a")]);
    assert_eq!(kind, MergeErrorKind::LinkTargetMissing(b"a".to_vec()));
    let kind = refusal([layer().dir("d").hardlink("b", "d")]);
    assert_eq!(kind, MergeErrorKind::LinkToDirectory(b"d".to_vec()));
}

// D1
#[test]
fn times_out_of_range_become_0() {
    for (seconds, wanted) in [
        (-1, 0),
        (0, 0),
        (9_223_372_036, 9_223_372_036),
        (9_223_372_037, 0),
    ] {
        let tree = merge([layer().entry(Entry::file("f", "").mtime(seconds, 1))]).unwrap();
        assert_eq!(inode(&tree, "f").attributes.mtime.seconds, wanted);
    }
}

// D2
#[test]
fn attributes_that_linux_would_not_take_are_dropped() {
    let decorated = |entry: Entry| {
        entry
            .xattr("user.a", "1")
            .xattr("security.b", "2")
            .xattr("trusted.c", "3")
            .xattr("system.posix_acl_access", "4")
            .xattr("system.other", "5")
            .xattr("user.", "6")
    };
    let tree = merge([layer()
        .entry(decorated(Entry::file("file", "")))
        .entry(decorated(Entry::symlink("link", "x")))])
    .unwrap();
    let names = |path| -> Vec<String> {
        let keys = inode(&tree, path).attributes.xattrs.keys();
        keys.map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    };
    assert_eq!(
        names("file"),
        ["security.b", "system.posix_acl_access", "user.a"]
    );
    assert_eq!(names("link"), ["security.b", "system.posix_acl_access"]);
}

#[test]
fn what_is_too_long_is_refused() {
    let name = "n".repeat(256);
    assert_eq!(
        refusal([layer().file(name, "")]),
        MergeErrorKind::NameTooLong
    );
    let through_a_link = layer().symlink("s", "t".repeat(300)).file("s/f", "");
    assert_eq!(refusal([through_a_link]), MergeErrorKind::NameTooLong);
    let path = "d/".repeat(2100);
    assert_eq!(
        refusal([layer().file(path, "")]),
        MergeErrorKind::PathTooLong
    );
    let target = "t".repeat(4096);
    assert_eq!(
        refusal([layer().symlink("s", target)]),
        MergeErrorKind::TargetLen(4096)
    );
    assert_eq!(
        refusal([layer().symlink("s", "")]),
        MergeErrorKind::TargetLen(0)
    );
    let long = Entry::file("f", "").xattr("user.x", vec![b'x'; 65_536]);
    assert_eq!(
        refusal([layer().entry(long)]),
        MergeErrorKind::XattrsTooLong
    );
}

#[test]
fn hundreds_of_layers_merge() {
    let scans: Vec<LayerScan> = (0..300)
        .map(|index| {
            scan(
                &layer()
                    .file(format!("d/{index:03}"), "x")
                    .file("last", "")
                    .build(),
            )
        })
        .collect();
    let tree = merge_layers(&scans).unwrap();
    assert_eq!(tree.children(tree.lookup(b"d").unwrap()).count(), 300);
    assert!(matches!(
        inode(&tree, "last").kind,
        InodeKind::File {
            layer_index: 299,
            ..
        }
    ));
    let too_many = vec![scan(&layer().build()); LAYERS_MAX + 1];
    assert_eq!(
        merge_layers(&too_many).unwrap_err().kind,
        MergeErrorKind::TooManyLayers
    );
}

/// Compares a tree with the model: everything but the bytes of files, which `erofs` compares.
fn assert_equals_model(tree: &RootTree, model: &ReferenceTree) -> Result<(), TestCaseError> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![(Vec::new(), RootTree::ROOT)];
    while let Some((path, id)) = ahead.pop() {
        for (name, child) in tree.children(id) {
            let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
            ahead.push(([&path, separator, name].concat(), child));
        }
        found.insert(path, id);
    }
    let names: Vec<&Vec<u8>> = found.keys().collect();
    prop_assert_eq!(names, model.0.keys().collect::<Vec<_>>());
    for (path, wanted) in &model.0 {
        let inode = tree.inode(found[path]);
        let attributes = &inode.attributes;
        prop_assert_eq!(attributes.mode, wanted.mode);
        prop_assert_eq!((attributes.uid, attributes.gid), wanted.owner);
        let mtime = (attributes.mtime.seconds, attributes.mtime.nanos);
        prop_assert_eq!(mtime, wanted.mtime);
        prop_assert_eq!(&attributes.xattrs, &wanted.xattrs);
        let device = |device: &DeviceNumber| (device.major, device.minor);
        let is_same = match (&inode.kind, &wanted.content) {
            (InodeKind::File { data, .. }, ReferenceContent::File(bytes)) => {
                data.size == bytes.len() as u64
            }
            (InodeKind::Symlink { target }, ReferenceContent::Symlink(wanted)) => target == wanted,
            (InodeKind::CharDevice { device: d }, ReferenceContent::CharDevice(major, minor))
            | (InodeKind::BlockDevice { device: d }, ReferenceContent::BlockDevice(major, minor)) => {
                device(d) == (*major, *minor)
            }
            (InodeKind::Directory { .. }, ReferenceContent::Directory)
            | (InodeKind::Fifo, ReferenceContent::Fifo) => true,
            _ => false,
        };
        prop_assert!(is_same, "{:?}: {:?} is not {:?}", path, inode, wanted);
        let group = model
            .0
            .iter()
            .filter(|(_, other)| other.link_group == wanted.link_group);
        let group: Vec<InodeId> = group.map(|(path, _)| found[path]).collect();
        if wanted.content != ReferenceContent::Directory {
            prop_assert!(group.iter().all(|id| *id == found[path]));
            prop_assert_eq!(inode.link_count as usize, group.len());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_stacks_merge_like_the_model(decisions in prop::collection::vec(any::<u8>(), 0..600)) {
        let stack = random_stack(&decisions);
        let scans: Vec<LayerScan> = stack.tars.iter().map(|tar| scan(tar)).collect();
        assert_equals_model(&merge_layers(&scans).unwrap(), &stack.tree)?;
    }
}
