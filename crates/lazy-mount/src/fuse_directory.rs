//! The directory without its mount: a request in, an answer out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustix::io::Errno;

use crate::layer_files::{FileEntry, LayerFiles};
use crate::protocol::{
    Attributes, DIRECTORY_LEN_MAX, DirectoryEntry, Operation, READ_LEN_MAX, ROOT_NODE, Request,
    answer_init, attributes_reply, entry_reply, open_reply, statistics_reply,
};

/// What goes back to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing: the kernel does not wait.
    Silence,
    /// An error.
    Error(Errno),
    /// A body of its own.
    Body(Vec<u8>),
    /// This many bytes of the buffer that came with the request.
    Filled(usize),
}

/// Answers requests out of [`LayerFiles`].
pub(crate) struct FuseDirectory {
    files: Arc<dyn LayerFiles>,
}

impl FuseDirectory {
    pub(crate) fn new(files: Arc<dyn LayerFiles>) -> Self {
        Self { files }
    }

    /// Answers one request; `buffer` is where the bytes of a read go. It grows as needed.
    ///
    /// A panic of the files behind it is an error for this reader, and for nobody else.
    pub(crate) fn answer(&self, request: &Request<'_>, buffer: &mut Vec<u8>) -> Answer {
        catch_unwind(AssertUnwindSafe(|| self.dispatch(request, buffer))).unwrap_or_else(|_panic| {
            tracing::error!(request.node, "a request made the worker panic");
            Answer::Error(Errno::IO)
        })
    }

    fn dispatch(&self, request: &Request<'_>, buffer: &mut Vec<u8>) -> Answer {
        let outcome = match request.operation {
            Operation::Init { version, flags } => {
                answer_init(version, flags).map(|answer| Answer::Body(answer.body))
            }
            Operation::Lookup { name } => self.lookup(request.node, name),
            Operation::GetAttributes => self
                .attributes(request.node)
                .map(|found| Answer::Body(attributes_reply(found))),
            Operation::Read { offset, len } => self.read(request.node, offset, len, buffer),
            Operation::OpenDirectory => Ok(Answer::Body(open_reply())),
            Operation::ReadDirectory { offset, len } => {
                self.read_directory(request.node, offset, len)
            }
            Operation::Statistics => Ok(Answer::Body(statistics_reply())),
            Operation::Close => Ok(Answer::Body(Vec::new())),
            Operation::Forget => Ok(Answer::Silence),
            Operation::Unsupported => Err(Errno::NOSYS),
        };
        outcome.unwrap_or_else(Answer::Error)
    }

    fn lookup(&self, parent: u64, name: &[u8]) -> Result<Answer, Errno> {
        if parent != ROOT_NODE {
            return Err(Errno::NOTDIR);
        }
        let entry = self.files.lookup(name).ok_or(Errno::NOENT)?;
        Ok(Answer::Body(entry_reply(file_attributes(entry)?)))
    }

    fn attributes(&self, node: u64) -> Result<Attributes, Errno> {
        if node == ROOT_NODE {
            return Ok(Attributes::Directory);
        }
        file_attributes(self.files.attributes(node).ok_or(Errno::STALE)?)
    }

    fn read(
        &self,
        node: u64,
        offset: u64,
        len: u32,
        buffer: &mut Vec<u8>,
    ) -> Result<Answer, Errno> {
        if node == ROOT_NODE {
            return Err(Errno::ISDIR);
        }
        let entry = self.files.attributes(node).ok_or(Errno::STALE)?;
        let wanted = entry
            .len
            .saturating_sub(offset)
            .min(u64::from(len.min(READ_LEN_MAX)));
        let wanted = usize::try_from(wanted).map_err(|_too_long| Errno::INVAL)?;
        if wanted == 0 {
            return Ok(Answer::Filled(0));
        }
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        let filled = self.files.read(node, offset, &mut buffer[..wanted])?;
        // Invariant 3 of the crate: what is missing would become zeros in the kernel.
        if filled != wanted {
            tracing::error!(
                node,
                offset,
                wanted,
                filled,
                "a layer file gave fewer bytes than it has"
            );
            return Err(Errno::IO);
        }
        Ok(Answer::Filled(wanted))
    }

    fn read_directory(&self, node: u64, offset: u64, len: u32) -> Result<Answer, Errno> {
        if node != ROOT_NODE {
            return Err(Errno::NOTDIR);
        }
        let len_max =
            usize::try_from(len.min(DIRECTORY_LEN_MAX)).map_err(|_too_long| Errno::INVAL)?;
        let start = usize::try_from(offset).map_err(|_too_far| Errno::INVAL)?;
        let dots = [(b".".to_vec(), ROOT_NODE), (b"..".to_vec(), ROOT_NODE)];
        let names = dots.into_iter().chain(self.files.names());
        let mut body = Vec::with_capacity(len_max);
        for ((name, node), next_offset) in names.zip(1_u64..).skip(start) {
            let entry = DirectoryEntry {
                node,
                next_offset,
                name: &name,
            };
            if !entry.append_to(&mut body, len_max) {
                break;
            }
        }
        Ok(Answer::Body(body))
    }
}

fn file_attributes(entry: FileEntry) -> Result<Attributes, Errno> {
    if entry.node <= ROOT_NODE {
        tracing::error!(entry.node, "a layer file has the node of the directory");
        return Err(Errno::IO);
    }
    Ok(Attributes::File {
        node: entry.node,
        len: entry.len,
    })
}

#[cfg(test)]
mod tests;
