//! `server.json`: how the commands find the server whose data is in a directory.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Where a running server can be reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServerFile {
    /// Address of the registry.
    pub(crate) registry: SocketAddr,
    /// Process number of the server.
    pub(crate) pid: u32,
}

impl ServerFile {
    fn path(data: &Path) -> PathBuf {
        data.join("server.json")
    }

    /// Writes the file whole.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub(crate) fn write(&self, data: &Path) -> io::Result<()> {
        let path = Self::path(data);
        let new = path.with_extension("json.new");
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, path)
    }

    /// Removes the file: nobody can be reached any more.
    pub(crate) fn remove(data: &Path) {
        drop(fs::remove_file(Self::path(data)));
    }

    /// Finds the server whose data is in `data`.
    ///
    /// # Errors
    ///
    /// A failure that says how to start one.
    pub(crate) fn find(data: &Path) -> Result<Self, Failure> {
        let hint = "start it with `slipway up`, or say with --data or SLIPWAY_DATA where it keeps its data";
        let bytes = fs::read(Self::path(data)).map_err(|error| {
            Failure::while_doing(
                &error,
                format!("no server runs with its data in {}", data.display()),
            )
            .hint(hint)
        })?;
        serde_json::from_slice(&bytes).map_err(|error| Failure::of(&error).hint(hint))
    }
}
