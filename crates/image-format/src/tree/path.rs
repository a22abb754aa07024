//! Names of entries, cleaned.

/// Splits a path into its cleaned components: no empty ones, no `.`, and each `..` has taken
/// the component before it with it. At the root `..` goes nowhere.
///
/// This is Go's `filepath.Clean` bounded to the root, as containerd applies it to entry names.
pub(super) fn clean(path: &[u8]) -> Vec<&[u8]> {
    let mut components = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            _ => components.push(component),
        }
    }
    components
}

/// What an entry's last component says about deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker<'a> {
    /// `.wh..wh..opq`: everything that lower layers have in the directory.
    Opaque,
    /// `.wh.NAME`: what lower layers have under `NAME`.
    Whiteout(&'a [u8]),
    /// Another name that begins with `.wh..wh.`: a leftover of aufs, without meaning.
    Ignored,
    /// No marker.
    None,
}

impl<'a> Marker<'a> {
    pub(super) fn of(name: &'a [u8]) -> Self {
        if name == b".wh..wh..opq" {
            return Self::Opaque;
        }
        if name.starts_with(b".wh..wh.") {
            return Self::Ignored;
        }
        name.strip_prefix(b".wh.")
            .map_or(Self::None, Self::Whiteout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_stay_in_the_root() {
        let table: &[(&str, &str)] = &[
            ("", ""),
            ("/", ""),
            (".", ""),
            ("./a//b/", "a/b"),
            ("a/./b/../c", "a/c"),
            ("../../a", "a"),
            ("a/../../b", "b"),
            ("...", "..."),
        ];
        for (path, wanted) in table {
            assert_eq!(
                clean(path.as_bytes()).join(&b'/'),
                wanted.as_bytes(),
                "{path}"
            );
        }
    }

    #[test]
    fn markers_are_told_by_the_name() {
        assert_eq!(Marker::of(b".wh..wh..opq"), Marker::Opaque);
        assert_eq!(Marker::of(b".wh..wh.plnk"), Marker::Ignored);
        assert_eq!(Marker::of(b".wh.a"), Marker::Whiteout(b"a"));
        assert_eq!(Marker::of(b".wh."), Marker::Whiteout(b""));
        assert_eq!(Marker::of(b"a.wh.b"), Marker::None);
    }
}
