//! A client of the management API of the server whose data is in a directory.

use std::{net::SocketAddr, path::Path, time::Duration};

use reqwest::Method;
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Runtime;

use crate::{failure::Failure, server_file::ServerFile};

/// How long one answer may take. The API answers from its catalog: longer means that it hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one server.
#[derive(Debug)]
pub(crate) struct ApiClient {
    base: String,
    client: reqwest::Client,
    runtime: Runtime,
}

impl ApiClient {
    /// Finds the server whose data is in `data`.
    ///
    /// # Errors
    ///
    /// A failure that says how to start one.
    pub(crate) fn find(data: &Path) -> Result<Self, Failure> {
        let server = ServerFile::find(data)?;
        // The API of a server on this machine is plain HTTP; the client is built with TLS all the same.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(ANSWER_TIMEOUT)
            .build()
            .map_err(|error| Failure::of(&error))?;
        Ok(Self {
            base: format!("http://{}", reachable(server.registry)),
            client,
            runtime: current_thread_runtime()?,
        })
    }

    /// Asks for what is at `path`.
    ///
    /// # Errors
    ///
    /// What the server says, or that it says nothing.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(Method::GET, path, None::<&()>)
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    ///
    /// What the server says, or that it says nothing.
    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let url = format!("{}{path}", self.base);
        let asked = async {
            let mut request = self.client.request(method, &url);
            if let Some(body) = body {
                let json = serde_json::to_vec(body).map_err(|error| Failure::of(&error))?;
                request = request
                    .header("content-type", "application/json")
                    .body(json);
            }
            let unreachable = |error: reqwest::Error| {
                Failure::while_doing(
                    &error.without_url(),
                    format!("the server at {url} does not answer"),
                )
                .hint("is it still running? `slipway up` starts it")
            };
            let answer = request.send().await.map_err(unreachable)?;
            let is_success = answer.status().is_success();
            let status = answer.status();
            let body = answer.bytes().await.map_err(unreachable)?;
            if is_success {
                return serde_json::from_slice(&body).map_err(|error| Failure::of(&error));
            }
            Err(refusal(status, &body))
        };
        self.runtime.block_on(asked)
    }
}

fn refusal(status: reqwest::StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice::<api::Failure>(body) {
        Ok(api::Failure { error }) => {
            let failure = Failure::message(error.message);
            match error.hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        Err(_) => Failure::message(format!("the server answered {status}")),
    }
}

/// Where a server that listens at `address` can be reached from this machine.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let loopback = match address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(loopback, address.port())
}

/// A runtime for a command that waits for one thing at a time.
pub(crate) fn current_thread_runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::while_doing(&error, "the program could not start its event loop"))
}
