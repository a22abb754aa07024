//! What is mounted where, from `/proc/self/mountinfo`, and unmounting.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use thiserror::Error;

const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// One line of the mount table (proc(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Number of the mount.
    pub id: u64,
    /// Number of the mount it is attached to.
    pub parent_id: u64,
    /// Major and minor device number of the filesystem.
    pub device: (u32, u32),
    /// Directory of the filesystem that is the root of the mount.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Type of the filesystem, such as `erofs`.
    pub fs_type: String,
    /// What the filesystem says it was mounted from.
    pub source: OsString,
}

/// Reads the mount table of this process, in the order of mounting.
///
/// # Errors
///
/// [`ReadMountTableError`] if it cannot be read or has a line of an unknown form.
pub fn read_mount_table() -> Result<Vec<MountEntry>, ReadMountTableError> {
    let table = std::fs::read(MOUNT_TABLE).map_err(ReadMountTableError::Read)?;
    table
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            parse_line(line).ok_or_else(|| ReadMountTableError::Line {
                line: String::from_utf8_lossy(line).into_owned(),
            })
        })
        .collect()
}

/// Says whether something is mounted at exactly this absolute path.
///
/// Reads the mount table only: a mount whose server is gone cannot block or fail it.
///
/// # Errors
///
/// As [`read_mount_table`].
pub fn is_mounted(target: &Path) -> Result<bool, ReadMountTableError> {
    Ok(read_mount_table()?
        .iter()
        .any(|mount| mount.target == target))
}

/// Why the mount table could not be read.
#[derive(Debug, Error)]
pub enum ReadMountTableError {
    /// The file cannot be read.
    #[error("the mount table {MOUNT_TABLE} cannot be read")]
    Read(#[source] io::Error),
    /// A line is not what proc(5) says.
    #[error("the mount table {MOUNT_TABLE} has a line of unknown form: {line:?}")]
    Line {
        /// The line.
        line: String,
    },
}

/// What happens to a mount that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Unmounting fails with [`UnmountError::Busy`].
    Unused,
    /// It leaves the tree at once and ends when its last user does.
    Lazy,
}

/// Unmounts what is mounted at `target`; the topmost, if several are.
///
/// # Errors
///
/// [`UnmountError`].
pub fn unmount(target: &Path, mode: Unmount) -> Result<(), UnmountError> {
    let flags = match mode {
        Unmount::Unused => UnmountFlags::NOFOLLOW,
        Unmount::Lazy => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    rustix::mount::unmount(target, flags).map_err(|errno| {
        let target = target.to_owned();
        match errno {
            Errno::BUSY => UnmountError::Busy { target },
            Errno::INVAL | Errno::NOENT => UnmountError::NotMounted {
                target,
                source: errno,
            },
            source => UnmountError::Refused { target, source },
        }
    })
}

/// Why something could not be unmounted.
#[derive(Debug, Error)]
pub enum UnmountError {
    /// It is in use.
    #[error("{target} is in use", target = target.display())]
    Busy {
        /// The path as given.
        target: PathBuf,
    },
    /// Nothing is mounted there.
    #[error("nothing is mounted at {target}", target = target.display())]
    NotMounted {
        /// The path as given.
        target: PathBuf,
        /// What the kernel said.
        source: Errno,
    },
    /// The kernel refused.
    #[error("{target} cannot be unmounted", target = target.display())]
    Refused {
        /// The path as given.
        target: PathBuf,
        /// What the kernel said.
        source: Errno,
    },
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent_id = number(fields.next()?)?;
    let mut device = fields.next()?.split(|byte| *byte == b':');
    let device = (number(device.next()?)?, number(device.next()?)?);
    let root = unescape(fields.next()?).into();
    let target = unescape(fields.next()?).into();
    // Mount options, then optional fields up to a lone hyphen.
    fields.by_ref().find(|field| *field == b"-")?;
    let fs_type = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let source = unescape(fields.next()?);
    Some(MountEntry {
        id,
        parent_id,
        device,
        root,
        target,
        fs_type,
        source,
    })
}

fn number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Undoes the kernel's `\040` for space, tab, newline, backslash and `#`.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let escaped = match rest {
            [
                b'\\',
                high @ b'0'..=b'3',
                mid @ b'0'..=b'7',
                low @ b'0'..=b'7',
                ..,
            ] => Some((high - b'0') << 6 | (mid - b'0') << 3 | (low - b'0')),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &rest[4..] } else { after };
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart_and_its_escapes_undone() {
        let line = br"36 35 0:98 / /mnt/a\040b\134c\012 ro,noatime shared:1 master:2 - erofs /dev/loop\0431 ro";
        let entry = parse_line(line).unwrap();
        assert_eq!(entry.id, 36);
        assert_eq!(entry.parent_id, 35);
        assert_eq!(entry.device, (0, 98));
        assert_eq!(entry.target, Path::new("/mnt/a b\\c\n"));
        assert_eq!(entry.fs_type, "erofs");
        assert_eq!(entry.source, "/dev/loop#1");
    }

    #[test]
    fn lines_of_other_forms_are_refused() {
        for line in [
            "",
            "36",
            "36 35 98 / /m rw - t s",
            "36 35 0:1 / /m rw t s",
            "x 35 0:1 / /m - t s",
        ] {
            assert_eq!(parse_line(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn the_root_is_mounted_and_nothing_is_mounted_at_a_plain_directory() {
        assert!(is_mounted(Path::new("/")).unwrap());
        let plain = tempfile::tempdir().unwrap();
        assert!(!is_mounted(plain.path()).unwrap());
        assert!(matches!(
            unmount(plain.path(), Unmount::Unused),
            Err(UnmountError::NotMounted { .. } | UnmountError::Refused { .. })
        ));
    }
}
