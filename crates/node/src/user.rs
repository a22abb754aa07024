//! Who a container's process is: `user[:group]` of an image's configuration, looked up in its files.
//!
//! SPEC: image configuration, "User": a user and a group, each a name or a number; the names are
//! those of the image's own `/etc/passwd` and `/etc/group`.

use std::{
    fs, io,
    io::Read,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
};
use thiserror::Error;

use crate::runtime_spec::ProcessUser;

/// Most bytes read of `/etc/passwd` or `/etc/group`.
const ACCOUNTS_LEN_MAX: u64 = 4 << 20;

/// Why a user was not found.
#[derive(Debug, Error)]
pub enum ResolveUserError {
    /// The name is in no file.
    #[error("{kind} {name:?} is not in the image's {}", file.display())]
    Unknown {
        /// User or group.
        kind: &'static str,
        /// The name.
        name: String,
        /// Where it was looked up.
        file: PathBuf,
    },
    /// The file cannot be read.
    #[error("{} of the image could not be read", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Finds the numbers for `text` in the files below `root`. Empty text is root.
///
/// Files are read only if a name has to be looked up, or a user's own group.
///
/// # Errors
///
/// [`ResolveUserError`].
pub(crate) fn resolve_user(root: &Path, text: &str) -> Result<ProcessUser, ResolveUserError> {
    if text.is_empty() {
        return Ok(ProcessUser::default());
    }
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let account = find_account(root, user)?;
    let gid = match group {
        Some(group) => find_group(root, group)?,
        None => account.gid,
    };
    let additional_gids = match (&account.name, group) {
        (Some(name), None) => groups_with_member(root, name)?,
        _ => Vec::new(),
    };
    Ok(ProcessUser {
        uid: account.uid,
        gid,
        additional_gids,
    })
}

struct Account {
    name: Option<String>,
    uid: u32,
    gid: u32,
}

fn find_account(root: &Path, user: &str) -> Result<Account, ResolveUserError> {
    let number = user.parse::<u32>().ok();
    let text = read_accounts(root, "etc/passwd")?;
    let found = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        let is_wanted = fields[0] == user || number == Some(uid);
        is_wanted.then(|| Account {
            name: Some(fields[0].to_owned()),
            uid,
            gid,
        })
    });
    // A number need not be known to the image.
    found
        .or_else(|| {
            number.map(|uid| Account {
                name: None,
                uid,
                gid: 0,
            })
        })
        .ok_or_else(|| ResolveUserError::Unknown {
            kind: "user",
            name: user.to_owned(),
            file: "/etc/passwd".into(),
        })
}

fn find_group(root: &Path, group: &str) -> Result<u32, ResolveUserError> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let text = read_accounts(root, "etc/group")?;
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == group)
        .and_then(|(_, rest)| rest.split(':').nth(1)?.parse().ok())
        .ok_or_else(|| ResolveUserError::Unknown {
            kind: "group",
            name: group.to_owned(),
            file: "/etc/group".into(),
        })
}

fn groups_with_member(root: &Path, user: &str) -> Result<Vec<u32>, ResolveUserError> {
    let text = read_accounts(root, "etc/group")?;
    let gid_if_member = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_member = fields.get(3)?.split(',').any(|member| member == user);
        is_member.then(|| fields[2].parse().ok()).flatten()
    };
    Ok(text.lines().filter_map(gid_if_member).collect())
}

/// An absent file is an empty one: images without accounts exist.
fn read_accounts(root: &Path, name: &str) -> Result<String, ResolveUserError> {
    let failed = |source| ResolveUserError::Read {
        file: Path::new("/").join(name),
        source,
    };
    let Some(file) = open_below(root, name).map_err(failed)? else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    file.take(ACCOUNTS_LEN_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Opens a regular file; links are followed as the container would, with `root` as `/`.
fn open_below(root: &Path, name: &str) -> io::Result<Option<fs::File>> {
    let directory = fs::File::open(root)?;
    // NONBLOCK: the image may have put a fifo there.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match openat2(
        &directory,
        name,
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT,
    ) {
        Ok(descriptor) => {
            let file = fs::File::from(descriptor);
            Ok(file.metadata()?.is_file().then_some(file))
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\n";
        fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        fs::write(
            root.path().join("etc/group"),
            "web:x:34:\nlogs:x:40:root,web\n",
        )
        .unwrap();
        root
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let image = image();
        let cases: [(&str, u32, u32, &[u32]); 7] = [
            ("", 0, 0, &[]),
            ("web", 33, 34, &[40]),
            ("33", 33, 34, &[40]),
            ("web:logs", 33, 40, &[]),
            ("web:7", 33, 7, &[]),
            ("1000", 1000, 0, &[]),
            ("1000:1001", 1000, 1001, &[]),
        ];
        for (text, uid, gid, more) in cases {
            let wanted = ProcessUser {
                uid,
                gid,
                additional_gids: more.to_vec(),
            };
            assert_eq!(resolve_user(image.path(), text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn an_unknown_name_says_where_it_was_looked_up() {
        let error = resolve_user(image().path(), "nobody-here").unwrap_err();
        assert_eq!(
            error.to_string(),
            "user \"nobody-here\" is not in the image's /etc/passwd"
        );
    }

    #[test]
    fn a_link_out_of_the_image_is_not_followed() {
        let image = image();
        fs::remove_file(image.path().join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", image.path().join("etc/passwd")).unwrap();
        assert!(resolve_user(image.path(), "root").is_err());
    }
}
