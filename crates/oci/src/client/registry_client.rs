//! The shared part of all clients: connections, options, and who we are where.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::HeaderValue;
use reqwest::redirect::{Action, Attempt, Policy};
use tracing::warn;

use super::auth::Access;
use super::error::BuildClientError;
use super::options::{ClientOptions, Credentials};
use super::repository_client::RepositoryClient;
use crate::{ImageReference, RegistryHost, RepositoryName};

/// Idle connections kept for each registry: as many as a node's parallel fetches at most.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// How long an idle connection is kept; less than common servers keep theirs (60 s and more), so
/// that we seldom write into one that is being closed.
const IDLE_TIME_MAX: Duration = Duration::from_secs(45);

/// Redirects followed for one request: registry, storage, and its region.
const REDIRECTS_MAX: usize = 5;

/// Authorizations remembered; all are forgotten when there are more, which costs a token each.
const AUTHORIZATIONS_MAX: usize = 4096;

/// A client of any number of registries. Clones share connections and tokens.
#[derive(Clone)]
pub struct RegistryClient {
    shared: Arc<Shared>,
}

/// What all clones have in common.
pub(super) struct Shared {
    pub(super) http: reqwest::Client,
    pub(super) options: ClientOptions,
    authorizations: Mutex<HashMap<AuthorizationKey, HeaderValue>>,
}

type AuthorizationKey = (RegistryHost, RepositoryName, Access);

impl RegistryClient {
    /// Makes a client. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`BuildClientError`] if TLS cannot be set up.
    pub fn new(options: ClientOptions) -> Result<Self, BuildClientError> {
        // Whoever installed a provider before us keeps it: theirs serves as well.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let http = match http_client(&options).build() {
            Ok(http) => http,
            Err(cause) => {
                // A machine without CA certificates can still speak plain HTTP; over HTTPS each
                // request then fails and says why.
                warn!(error = %cause, "no trusted certificates: only plain http will work");
                http_client(&options).tls_certs_only([]).build()?
            }
        };
        let authorizations = Mutex::new(HashMap::new());
        Ok(Self {
            shared: Arc::new(Shared {
                http,
                options,
                authorizations,
            }),
        })
    }

    /// Returns a client of one repository.
    pub fn repository(
        &self,
        registry: &RegistryHost,
        repository: &RepositoryName,
    ) -> RepositoryClient {
        RepositoryClient::new(
            Arc::clone(&self.shared),
            registry.clone(),
            repository.clone(),
        )
    }

    /// Returns a client of the repository that `image` is in.
    pub fn for_image(&self, image: &ImageReference) -> RepositoryClient {
        self.repository(&image.registry, &image.repository)
    }
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RegistryClient")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Returns the credentials for `registry`, if there are any.
    pub(super) fn credentials(&self, registry: &RegistryHost) -> Option<&Credentials> {
        self.options
            .credentials
            .iter()
            .find(|credentials| credentials.registry == *registry)
    }

    /// Returns the authorization that worked before.
    pub(super) fn remembered(&self, key: &AuthorizationKey) -> Option<HeaderValue> {
        self.authorizations.lock().get(key).cloned()
    }

    /// Remembers an authorization for the next request.
    pub(super) fn remember(&self, key: AuthorizationKey, authorization: HeaderValue) {
        let mut authorizations = self.authorizations.lock();
        if authorizations.len() >= AUTHORIZATIONS_MAX {
            authorizations.clear();
        }
        authorizations.insert(key, authorization);
    }
}

fn http_client(options: &ClientOptions) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(&options.user_agent)
        .connect_timeout(options.connect_timeout)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .pool_idle_timeout(IDLE_TIME_MAX)
        .tcp_nodelay(true)
        .http1_only()
        .no_proxy()
        .referer(false)
        .redirect(Policy::custom(follow))
}

/// Follows a redirect, but never from HTTPS to HTTP.
fn follow(attempt: Attempt<'_>) -> Action {
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error("too many redirects");
    }
    let came_from = attempt.previous().last().map(reqwest::Url::scheme);
    if came_from == Some("https") && attempt.url().scheme() != "https" {
        return attempt.error("redirect from https to http");
    }
    attempt.follow()
}
