//! Sends requests as somebody: answers a 401 once, with a token or a password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::blob_body::Body;
use super::challenge::{BearerChallenge, Challenge};
use super::error::{ClientError, RequestFault};
use super::exchange::Call;
use super::repository_client::RepositoryClient;

/// Longest answer of a token service, in bytes; tokens of several KiB are common.
const TOKEN_ANSWER_LEN_MAX: u64 = 256 << 10;

/// What a request wants to do; a token is for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

impl RepositoryClient {
    /// Sends a request, as somebody if the registry asks for it.
    ///
    /// # Errors
    ///
    /// If no answer comes, or no token. An answer of any status is not an error here.
    pub(super) async fn send(&self, call: &Call, access: Access) -> Result<Body, ClientError> {
        // Invariant 2: an upload may be sent to another host, which must not see who we are.
        let is_ours = call.url.origin() == self.base.origin();
        let key = (self.registry.clone(), self.repository.clone(), access);
        let remembered = self.shared.remembered(&key).filter(|_| is_ours);
        let body = self.send_as(call, remembered.as_ref()).await?;
        if !is_ours || body.response.status() != StatusCode::UNAUTHORIZED {
            return Ok(body);
        }
        // One of many refused requests asks for a token; the others find it here.
        let turn = self.authorizing.lock().await;
        let known = self
            .shared
            .remembered(&key)
            .filter(|known| Some(known) != remembered.as_ref());
        let fresh = match known {
            Some(known) => Some(known),
            None => self.authorize(body.response.headers(), access).await?,
        };
        let Some(fresh) = fresh.filter(|fresh| Some(fresh) != remembered.as_ref()) else {
            return Ok(body);
        };
        self.shared.remember(key, fresh.clone());
        drop(turn);
        self.send_as(call, Some(&fresh)).await
    }

    async fn send_as(
        &self,
        call: &Call,
        authorization: Option<&HeaderValue>,
    ) -> Result<Body, ClientError> {
        let silence_max = self.shared.options.read_timeout;
        let response = call
            .send(&self.shared.http, authorization, silence_max)
            .await?;
        let (method, url) = (call.method.clone(), call.url.clone());
        Ok(Body {
            response,
            method,
            url,
            silence_max,
        })
    }

    /// Answers the challenges of a 401; `None` if there is nothing to answer with.
    async fn authorize(
        &self,
        headers: &HeaderMap,
        access: Access,
    ) -> Result<Option<HeaderValue>, ClientError> {
        let lines = headers.get_all(WWW_AUTHENTICATE).iter();
        for challenge in lines.filter_map(|line| Challenge::parse(line.to_str().ok()?)) {
            match challenge {
                Challenge::Bearer(bearer) => {
                    return self.fetch_token(&bearer, access).await.map(Some);
                }
                Challenge::Basic => {
                    if let Some(basic) = self.basic() {
                        return Ok(Some(basic));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Returns the header with user and password, if we have them for this registry.
    fn basic(&self) -> Option<HeaderValue> {
        let credentials = self.shared.credentials(&self.registry)?;
        let pair = format!("{}:{}", credentials.user, credentials.password);
        secret_header(&format!("Basic {}", STANDARD.encode(pair)))
    }

    async fn fetch_token(
        &self,
        bearer: &BearerChallenge,
        access: Access,
    ) -> Result<HeaderValue, ClientError> {
        let url = self.token_url(bearer, access)?;
        let basic = self.basic().filter(|_| may_know_us(&url, &self.base));
        let call = Call::new(Method::GET, url);
        let answer = self.send_as(&call, basic.as_ref()).await?;
        let mut answer = self.expect(answer, &[StatusCode::OK]).await?;
        let json = answer.read_all(TOKEN_ANSWER_LEN_MAX).await?;
        let token: TokenAnswer = serde_json::from_slice(&json)
            .map_err(|source| call.failed(RequestFault::Json { source }))?;
        let header = token
            .text()
            .and_then(|text| secret_header(&format!("Bearer {text}")));
        header.ok_or_else(|| {
            let reason = "the token service sent no token".to_owned();
            call.failed(RequestFault::Malformed { reason })
        })
    }

    // SPEC: distribution, token authentication: service and scope are query parameters of the
    // realm, account too if somebody asks.
    fn token_url(&self, bearer: &BearerChallenge, access: Access) -> Result<Url, ClientError> {
        let mut url = self.base.join(&bearer.realm).map_err(|_| {
            let fault = RequestFault::Header {
                name: "WWW-Authenticate",
                value: bearer.realm.clone(),
            };
            ClientError::new(&Method::GET, &self.base, fault)
        })?;
        let default_scope = || match access {
            Access::Pull => format!("repository:{}:pull", self.repository),
            Access::Push => format!("repository:{}:pull,push", self.repository),
        };
        let scope = bearer.scope.clone().filter(|scope| !scope.is_empty());
        let mut query = url.query_pairs_mut();
        if let Some(service) = &bearer.service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", &scope.unwrap_or_else(default_scope));
        if let Some(credentials) = self.shared.credentials(&self.registry) {
            query.append_pair("account", &credentials.user);
        }
        drop(query);
        Ok(url)
    }
}

/// Says whether a token service may see the credentials of the registry at `base`.
///
/// It is the same host, or a neighbour under one domain (`auth.docker.io` of
/// `registry-1.docker.io`), and not over a line that is easier to listen to. A registry that
/// passes on another one's challenge must not make us tell our password to a stranger.
fn may_know_us(token_service: &Url, base: &Url) -> bool {
    if token_service.scheme() != "https" && base.scheme() == "https" {
        return false;
    }
    let same_host = token_service.host() == base.host();
    let neighbours = match (token_service.domain(), base.domain()) {
        (Some(one), Some(other)) => parent_domain(one) == parent_domain(other),
        _ => false,
    };
    same_host || (neighbours && token_service.scheme() == "https")
}

/// Returns the last two labels; the whole name if it has fewer.
fn parent_domain(domain: &str) -> (&str, Option<&str>) {
    let mut labels = domain.rsplit('.');
    (labels.next().unwrap_or_default(), labels.next())
}

/// Makes a header that is not shown in logs; `None` if the text cannot be one.
fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What a token service answers: one name for the token, or the other.
#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl TokenAnswer {
    fn text(&self) -> Option<&str> {
        let both = [self.token.as_deref(), self.access_token.as_deref()];
        both.into_iter().flatten().find(|token| !token.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_registry_and_its_neighbours_see_credentials() {
        for (token_service, base, expected) in [
            (
                "https://auth.docker.io/token",
                "https://registry-1.docker.io/v2/",
                true,
            ),
            ("http://127.0.0.1:81/token", "http://127.0.0.1:80/v2/", true),
            ("http://10.0.0.1/token", "http://9.9.0.1/v2/", false),
            (
                "http://r.example.com/token",
                "https://r.example.com/v2/",
                false,
            ),
            (
                "https://evil.example.org/token",
                "https://r.example.com/v2/",
                false,
            ),
            (
                "http://auth.example.com/token",
                "http://r.example.com/v2/",
                false,
            ),
        ] {
            let parse = |text| Url::parse(text).unwrap();
            assert_eq!(
                may_know_us(&parse(token_service), &parse(base)),
                expected,
                "{base}"
            );
        }
    }
}
