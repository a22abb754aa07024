//! Tests of the FUSE directory's answers, without a kernel: requests in, replies out.

use proptest::prelude::*;

use super::*;

/// Two files; the second one misbehaves.
struct TwoFiles;

const GOOD: FileEntry = FileEntry { node: 2, len: 1000 };
const SHORT: FileEntry = FileEntry { node: 3, len: 1000 };
const PANICS: FileEntry = FileEntry {
    node: 4,
    len: u64::MAX,
};

impl LayerFiles for TwoFiles {
    fn lookup(&self, name: &[u8]) -> Option<FileEntry> {
        match name {
            b"good" => Some(GOOD),
            b"short" => Some(SHORT),
            b"panics" => Some(PANICS),
            b"impostor" => Some(FileEntry {
                node: ROOT_NODE,
                len: 0,
            }),
            _ => None,
        }
    }

    fn attributes(&self, node: u64) -> Option<FileEntry> {
        [GOOD, SHORT, PANICS]
            .into_iter()
            .find(|entry| entry.node == node)
    }

    fn names(&self) -> Vec<(Vec<u8>, u64)> {
        vec![
            (b"good".to_vec(), 2),
            (b"short".to_vec(), 3),
            (b"panics".to_vec(), 4),
        ]
    }

    fn read(&self, node: u64, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        match node {
            2 => {
                buffer.fill(u8::try_from(offset % 251).unwrap());
                Ok(buffer.len())
            }
            3 => Ok(buffer.len() - 1),
            _ => panic!("nobody reads this"),
        }
    }
}

fn ask(node: u64, operation: Operation<'_>) -> (Answer, Vec<u8>) {
    let mut buffer = Vec::new();
    let directory = FuseDirectory::new(Arc::new(TwoFiles));
    let answer = directory.answer(
        &Request {
            unique: 1,
            node,
            operation,
        },
        &mut buffer,
    );
    (answer, buffer)
}

#[test]
fn a_read_is_cut_at_the_end_of_the_file() {
    let (answer, buffer) = ask(
        2,
        Operation::Read {
            offset: 900,
            len: 4096,
        },
    );
    assert_eq!(answer, Answer::Filled(100));
    assert!(
        buffer[..100]
            .iter()
            .all(|byte| u64::from(*byte) == 900 % 251)
    );
    assert_eq!(
        ask(
            2,
            Operation::Read {
                offset: 1000,
                len: 1
            }
        )
        .0,
        Answer::Filled(0)
    );
    assert_eq!(
        ask(
            2,
            Operation::Read {
                offset: u64::MAX,
                len: u32::MAX
            }
        )
        .0,
        Answer::Filled(0)
    );
}

#[test]
fn fewer_bytes_than_the_file_has_are_an_error_not_zeros() {
    assert_eq!(
        ask(3, Operation::Read { offset: 0, len: 10 }).0,
        Answer::Error(Errno::IO)
    );
}

#[test]
fn a_panic_is_one_readers_error() {
    assert_eq!(
        ask(4, Operation::Read { offset: 0, len: 10 }).0,
        Answer::Error(Errno::IO)
    );
}

#[test]
fn what_does_not_exist_is_not_found() {
    assert_eq!(
        ask(1, Operation::Lookup { name: b"nothing" }).0,
        Answer::Error(Errno::NOENT)
    );
    assert_eq!(
        ask(2, Operation::Lookup { name: b"good" }).0,
        Answer::Error(Errno::NOTDIR)
    );
    assert_eq!(
        ask(9, Operation::GetAttributes).0,
        Answer::Error(Errno::STALE)
    );
    assert_eq!(
        ask(1, Operation::Lookup { name: b"impostor" }).0,
        Answer::Error(Errno::IO)
    );
}

#[test]
fn the_directory_is_read_in_pieces_of_any_size() {
    let mut offset = 0;
    let mut entry_count = 0;
    loop {
        let (Answer::Body(body), _) = ask(1, Operation::ReadDirectory { offset, len: 32 }) else {
            panic!("the directory cannot be read");
        };
        if body.is_empty() {
            break;
        }
        entry_count += 1;
        offset += 1;
    }
    assert_eq!(entry_count, 5);
}

proptest! {
    #[test]
    fn no_request_makes_the_directory_panic_or_answer_without_end(
        opcode in 0_u32..60,
        node in 0_u64..6,
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&u32::try_from(40 + body.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&opcode.to_le_bytes());
        bytes.extend_from_slice(&9_u64.to_le_bytes());
        bytes.extend_from_slice(&node.to_le_bytes());
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&body);
        if let Ok(request) = Request::parse(&bytes) {
            let (answer, buffer) = ask(node, request.operation);
            prop_assert!(buffer.len() <= READ_LEN_MAX as usize);
            if let Answer::Body(body) = answer {
                prop_assert!(body.len() <= DIRECTORY_LEN_MAX as usize);
            }
        }
    }
}
