//! What a client can be told.

use std::fmt;
use std::time::Duration;

use crate::RegistryHost;

/// Options of a [`RegistryClient`](crate::RegistryClient).
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// What the client calls itself.
    pub user_agent: String,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest time in which no byte moves in either direction.
    pub read_timeout: Duration,
    /// When HTTP is spoken without TLS.
    pub plain_http: PlainHttp,
    /// At most one for each registry; the first one counts.
    pub credentials: Vec<Credentials>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            user_agent: concat!("slipway/", env!("CARGO_PKG_VERSION")).to_owned(),
            // Two lost SYN packets: the third is sent 3 s after the first.
            connect_timeout: Duration::from_secs(5),
            // A registry syncs a large upload to its disk before it answers.
            read_timeout: Duration::from_mins(1),
            plain_http: PlainHttp::Loopback,
            credentials: Vec::new(),
        }
    }
}

/// When HTTP is spoken without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlainHttp {
    /// To this machine only.
    #[default]
    Loopback,
    /// To everybody.
    Always,
    /// To nobody.
    Never,
}

impl PlainHttp {
    /// Returns the URL scheme for `host`.
    pub(super) fn scheme(self, host: &RegistryHost) -> &'static str {
        match self {
            Self::Always => "http",
            Self::Loopback if host.is_loopback() => "http",
            Self::Loopback | Self::Never => "https",
        }
    }
}

/// Who we are at a registry. `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The registry they are for.
    pub registry: RegistryHost,
    /// The name of the user.
    pub user: String,
    /// The password or token of the user.
    pub password: String,
}

impl Credentials {
    /// Makes credentials for `registry`.
    pub fn new(
        registry: RegistryHost,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        Self {
            registry,
            user: user.into(),
            password: password.into(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            registry,
            user,
            password: _,
        } = self;
        write!(formatter, "Credentials({user:?} at {registry})")
    }
}
