//! What the `object_store` crate has no word for, on a local disk: the layout's number, what a dead
//! process left, and a file that becomes a blob without being copied.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use uuid::Uuid;

use crate::OpenStoreError;

/// The number of the layout that this program writes.
const FORMAT: &str = "slipway-blobs 1";

/// Makes the directories, so that no blob has to sync a directory it just made.
pub(super) fn prepare(directory: &Path) -> Result<(), OpenStoreError> {
    let failed = |source| OpenStoreError::Directory {
        path: directory.to_owned(),
        source,
    };
    fs::create_dir_all(directory).map_err(failed)?;
    check_format(directory)?;
    make_shards(directory).map_err(failed)?;
    empty_uploads(directory).map_err(failed)
}

/// Makes the file at `source` also the blob at `target` (relative to `directory`), synced, and
/// returns its length.
pub(super) fn adopt_file(directory: &Path, source: &Path, target: &str) -> io::Result<u64> {
    let file = File::open(source)?;
    file.sync_all()?;
    let len = file.metadata()?.len();
    let staged = directory.join("uploads").join(Uuid::new_v4().to_string());
    fs::hard_link(source, &staged)?;
    let target = directory.join(target);
    let published = publish(&staged, &target);
    // A rename onto another name of the same file does nothing and leaves both names.
    match fs::remove_file(&staged) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => published?,
    }
    Ok(len)
}

fn publish(staged: &Path, target: &Path) -> io::Result<()> {
    fs::rename(staged, target)?;
    target.parent().map_or(Ok(()), sync_directory)
}

fn check_format(directory: &Path) -> Result<(), OpenStoreError> {
    let path = directory.join("FORMAT");
    let failed = |source| OpenStoreError::Directory {
        path: path.clone(),
        source,
    };
    match fs::read_to_string(&path) {
        Ok(actual) if actual.trim() == FORMAT => Ok(()),
        Ok(actual) => Err(OpenStoreError::Format {
            path: directory.to_owned(),
            actual: actual.trim().to_owned(),
            known: FORMAT,
        }),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            write_format(directory, &path).map_err(failed)
        }
        Err(cause) => Err(failed(cause)),
    }
}

/// Writes the number under a temporary name first: an empty `FORMAT` would lock everybody out.
fn write_format(directory: &Path, path: &Path) -> io::Result<()> {
    let staged = directory.join("FORMAT.new");
    fs::write(&staged, format!("{FORMAT}\n"))?;
    File::open(&staged)?.sync_all()?;
    fs::rename(&staged, path)?;
    sync_directory(directory)
}

fn make_shards(directory: &Path) -> io::Result<()> {
    let blobs = directory.join("blobs").join("sha256");
    fs::create_dir_all(&blobs)?;
    // The last one is made last: if it is there, all are.
    if blobs.join("ff").is_dir() {
        return Ok(());
    }
    for shard in 0..=u8::MAX {
        fs::create_dir_all(blobs.join(format!("{shard:02x}")))?;
    }
    sync_directory(&blobs)?;
    sync_directory(&directory.join("blobs"))?;
    sync_directory(directory)
}

fn empty_uploads(directory: &Path) -> io::Result<()> {
    let uploads = directory.join("uploads");
    match fs::remove_dir_all(&uploads) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => fs::create_dir(&uploads)?,
    }
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
