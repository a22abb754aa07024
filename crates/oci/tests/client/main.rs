//! The client against real servers on this machine: one that behaves, and some that do not.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test that fails fails the test"
)]

mod authorization;
mod canned;
mod fake_registry;
mod fetching;
mod listing;
mod pushing;
mod refusing;

use std::time::Duration;

use oci::{ClientOptions, RegistryClient, RegistryHost, RepositoryClient};

/// Makes a client of the repository `team/app` at `host`.
fn repository(host: &RegistryHost) -> RepositoryClient {
    repository_with(host, ClientOptions::default())
}

fn repository_with(host: &RegistryHost, options: ClientOptions) -> RepositoryClient {
    let client = RegistryClient::new(options).unwrap();
    client.repository(host, &"team/app".parse().unwrap())
}

/// Options of a client that soon loses patience.
fn impatient() -> ClientOptions {
    ClientOptions {
        read_timeout: Duration::from_millis(50),
        ..ClientOptions::default()
    }
}
