//! Random stacks of layers, made from bytes.
//!
//! The bytes are decisions: shorter ones make smaller stacks, so a property test that shrinks them
//! shrinks the stack. Names are few, so that entries meet.

use crate::{Dialect, Entry, LayerBuilder, ReferenceLayer, ReferenceTree, lay_over};

/// Most layers of a random stack.
const LAYERS_MAX: usize = 5;

/// Layers, and what they make.
#[derive(Debug, Clone)]
pub struct RandomStack {
    /// The layers' tars, lowest first.
    pub tars: Vec<Vec<u8>>,
    /// Their root filesystem.
    pub tree: ReferenceTree,
}

/// Makes a stack of layers that can be unpacked.
pub fn random_stack(decisions: &[u8]) -> RandomStack {
    let mut decisions = Decisions { rest: decisions };
    let layer_count = 1 + decisions.below(LAYERS_MAX);
    let (mut tars, mut layers) = (Vec::new(), Vec::new());
    for index in 0..layer_count {
        let entry_count = decisions.rest.len() / 6 / (layer_count - index);
        let mut builder = LayerBuilder::new();
        let mut layer = ReferenceLayer::new();
        for _ in 0..entry_count {
            let entry = decisions.entry();
            // What containerd would refuse is left out.
            if layer.apply(&entry).is_ok() {
                builder = builder.entry(entry);
            }
        }
        tars.push(builder.build());
        layers.push(layer);
    }
    RandomStack {
        tree: lay_over(&layers),
        tars,
    }
}

#[derive(Debug)]
struct Decisions<'a> {
    rest: &'a [u8],
}

impl Decisions<'_> {
    /// Returns a number below `limit`; 0 when there is nothing left.
    fn below(&mut self, limit: usize) -> usize {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        usize::from(*first) % limit
    }

    fn entry(&mut self) -> Entry {
        let path = self.path();
        let entry = match self.below(16) {
            0..=3 => Entry::file(path, self.content()),
            4..=6 => Entry::dir(path),
            7 | 8 => Entry::symlink(path, self.target()),
            9 | 10 => Entry::hardlink(path, self.path()),
            11 => Entry::fifo(path),
            12 => Entry::char_device(path, 5 * u32::from(self.below(4) > 0), 1),
            13 => Entry::block_device(path, 259, 70_000),
            14 => self.sparse(path),
            _ => Entry::char_device(path, 0, 0),
        };
        self.decorated(entry)
    }

    fn decorated(&mut self, entry: Entry) -> Entry {
        let choice = self.below(64);
        let entry = match choice % 4 {
            0 => entry,
            1 => entry.mode(0o4751).owner(1000, 100_000),
            2 => entry.owner(3_000_000_000, 7),
            _ => entry.mode(0o1700).mtime(1_600_000_000, 123_456_789),
        };
        match choice / 4 {
            0 => entry.xattr("user.color", "red"),
            1 => entry.xattr("user.color", "blue").xattr("user.empty", ""),
            2 => entry.xattr(
                "security.capability",
                b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ),
            3 => entry.xattr("trusted.overlay.opaque", "y"),
            4 => entry.mtime(-5, 500_000_000),
            5 => entry.dialect(Dialect::Gnu),
            6 => entry.xattr("user.long", vec![b'x'; 600]),
            _ => entry,
        }
    }

    fn path(&mut self) -> Vec<u8> {
        let depth = 1 + self.below(3);
        let names: Vec<Vec<u8>> = (0..depth).map(|_| self.name()).collect();
        let path = names.join(&b'/');
        match self.below(40) {
            0 => [b"./", path.as_slice()].concat(),
            1 => [b"/", path.as_slice()].concat(),
            2 => [b"../x/../", path.as_slice()].concat(),
            3 => [path.as_slice(), b"/.wh..wh..opq"].concat(),
            4..=6 => {
                let (last, parents) = names
                    .split_last()
                    .map_or((&[][..], &[][..]), |(last, parents)| {
                        (last.as_slice(), parents)
                    });
                let marker = [b".wh.", last].concat();
                [parents, &[marker]].concat().join(&b'/')
            }
            7 => [path.as_slice(), b"/.wh..wh.aufs"].concat(),
            _ => path,
        }
    }

    fn name(&mut self) -> Vec<u8> {
        match self.below(12) {
            0..=2 => b"a".to_vec(),
            3..=5 => b"b".to_vec(),
            6 | 7 => b"c".to_vec(),
            8 => b"!before-the-dots".to_vec(),
            9 => b"\xff\xfe".to_vec(),
            10 => vec![b'n'; 230],
            _ => format!("file-{}", self.below(200)).into_bytes(),
        }
    }

    fn target(&mut self) -> Vec<u8> {
        match self.below(6) {
            0 => b"a".to_vec(),
            1 => b"../b".to_vec(),
            2 => b"/a/b".to_vec(),
            3 => b"c".to_vec(),
            4 => vec![b't'; 700],
            _ => b"../../../a".to_vec(),
        }
    }

    fn content(&mut self) -> Vec<u8> {
        let len = [0, 1, 511, 512, 513, 5000, 70_000][self.below(7)];
        let seed = self.below(256);
        let bytes = (0..len).map(|index| u8::try_from((index * 31 + index / 251 + seed) % 251));
        bytes.map(Result::unwrap_or_default).collect()
    }

    fn sparse(&mut self, path: Vec<u8>) -> Entry {
        let first = vec![1; 512 * (1 + self.below(3))];
        let tail = vec![2; 100 + self.below(200)];
        match self.below(4) {
            0 => Entry::sparse(path, 1 << 20, &[]),
            1 => Entry::sparse(path, 8192, &[(0, &first)]),
            2 => Entry::sparse(
                path,
                65_536 + tail.len(),
                &[(4096, &first), (65_536, &tail)],
            ),
            _ => Entry::sparse(path, 4096, &[(512, &first[..512]), (1024, &first[..512])]),
        }
    }
}
