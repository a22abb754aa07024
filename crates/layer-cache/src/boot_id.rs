//! Which boot of the machine the cache's unsynced state belongs to.

use std::io;

use serde::{Deserialize, Serialize};

/// Where Linux tells it.
const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";

/// The kernel's random name for one boot of this machine.
///
/// What a killed process wrote is still in the page cache as long as this is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(String);

impl BootId {
    /// Reads the id of the running boot.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub fn read_current() -> io::Result<Self> {
        Ok(Self::new(&std::fs::read_to_string(BOOT_ID_PATH)?))
    }

    /// Names a boot by any text; tests make reboots with it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
