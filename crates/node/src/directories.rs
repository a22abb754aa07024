//! Where the node keeps things on disk.
//!
//! ```text
//! DATA/node/
//! ├── FORMAT                 the number of this layout
//! ├── control.sock           where the worker answers
//! ├── files/                 mount point of the FUSE directory: one file for each lazy layer
//! ├── cache/                 layer tars (crate layer-cache)
//! ├── images/<hex>/          one prepared image, named by the digest of its manifest
//! │   ├── image.json         its record, written last
//! │   ├── config.json        the image's configuration blob
//! │   ├── tree.erofs         its root tree
//! │   └── root/              mount point of the tree
//! └── containers/<id>/       one container: bundle, upper and work directories, lock
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use oci::Digest;

/// The number of the layout above.
const FORMAT: &str = "1\n";

/// The node's directory and the names inside it.
#[derive(Debug, Clone)]
pub struct NodeDirectories {
    root: PathBuf,
}

impl NodeDirectories {
    /// Names the directories of the node whose data is at `data`. Creates nothing.
    pub fn of_data(data: &Path) -> Self {
        Self {
            root: data.join("node"),
        }
    }

    /// Creates what is absent.
    ///
    /// # Errors
    ///
    /// The operating system's error, or `InvalidData` if another layout is there.
    pub fn create(&self) -> io::Result<()> {
        for directory in [self.images(), self.containers(), self.cache(), self.files()] {
            // A mount point whose server died can be neither created nor looked at; it exists.
            if let Err(error) = fs::create_dir_all(&directory)
                && error.raw_os_error() != Some(rustix::io::Errno::NOTCONN.raw_os_error())
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(error);
            }
        }
        let format = self.root.join("FORMAT");
        match fs::read_to_string(&format) {
            Ok(text) if text == FORMAT => Ok(()),
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the directory has another layout",
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::write(&format, FORMAT),
            Err(error) => Err(error),
        }
    }

    /// The node's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// Where the FUSE directory is mounted.
    pub fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// The layer cache.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// All prepared images.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The prepared image whose manifest has this digest.
    pub fn image(&self, manifest: &Digest) -> PathBuf {
        self.images().join(manifest.to_hex())
    }

    /// All containers.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }
}

/// A path to `socket` short enough for a socket address, which holds 107 bytes.
///
/// A longer one is reached through the opened directory. The directory stays open for as long as
/// the returned guard lives.
///
/// # Errors
///
/// The operating system's error if the directory cannot be opened.
pub(crate) fn short_socket_path(socket: &Path) -> io::Result<(PathBuf, Option<fs::File>)> {
    use std::os::{fd::AsRawFd, unix::ffi::OsStrExt};

    /// Longest path in `sockaddr_un`, without its final NUL (unix(7)).
    const SOCKET_PATH_LEN_MAX: usize = 107;
    if socket.as_os_str().as_bytes().len() <= SOCKET_PATH_LEN_MAX {
        return Ok((socket.to_owned(), None));
    }
    let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a path of a socket",
        ));
    };
    let directory = fs::File::open(parent)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((path, Some(directory)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_socket_path_is_reached_through_its_directory() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let (path, guard) = short_socket_path(&deep.join("control.sock")).unwrap();
        assert!(guard.is_some());
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        drop(listener);
        assert!(deep.join("control.sock").exists());
    }

    #[test]
    fn another_layout_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let directories = NodeDirectories::of_data(data.path());
        directories.create().unwrap();
        directories.create().unwrap();
        fs::write(directories.root().join("FORMAT"), "99\n").unwrap();
        assert_eq!(
            directories.create().unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
