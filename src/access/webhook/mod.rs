//! The webhook: the application's own server says who may open what.
//!
//! Each request for access is posted to it as JSON, and its answer is the grant. An answer is
//! remembered for a while; equal requests that come meanwhile wait for the same answer. Requests are
//! equal if all that is sent of them is. Whatever goes wrong is a refusal.

mod answer;
mod memo;
mod settings;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use hmac::Mac as _;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::server::{AccessRequest, Denied, Grant, ServerGrant, ServerRequest};

use super::chain::Source;
use super::error::AccessError;
use super::secret::{Digester, Secret, hex, mac};
use answer::Answer;
use memo::Memo;
pub use settings::WebhookSettings;

/// The header that proves that a request is the gateway's: `t=SECONDS,v1=HEX`, where HEX is the
/// HMAC-SHA256 of `SECONDS.BODY` under the secret.
const SIGNATURE_HEADER: &str = "settee-signature";

/// How long the first retry waits; each further one waits twice as long.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Answers that are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// Asks the application's own server.
#[derive(Debug)]
pub struct Webhook {
    client: reqwest::Client,
    url: reqwest::Url,
    secret: Option<Secret>,
    headers: Vec<HeaderName>,
    retries: u32,
    answer_bytes_max: usize,
    digester: Digester,
    memo: Memo,
}

/// Why there is no answer. Told to the log; the client learns only that there is none.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it did not answer: {0}")]
    Network(reqwest::Error),
    #[error("it answered with status {0}")]
    Status(StatusCode),
    #[error("its answer is too large")]
    TooLarge,
    #[error("its answer is not what docs/ACCESS.md says: {0}")]
    Malformed(String),
}

impl Failure {
    /// Whether the same request may fare better.
    fn is_transient(&self) -> bool {
        match self {
            Self::Network(_) => true,
            Self::Status(status) => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::TooLarge | Self::Malformed(_) => false,
        }
    }
}

impl Webhook {
    /// Prepares to ask; nothing is sent before a client comes.
    ///
    /// # Errors
    /// [`AccessError`] for an address that is not http or https, a time of zero, or a secret that
    /// cannot be read.
    pub fn new(settings: &WebhookSettings) -> Result<Self, AccessError> {
        let refuse = |key, reason: &str| AccessError::Setting { key, reason: reason.to_owned() };
        let url: Option<reqwest::Url> = settings.url.parse().ok();
        let url = url.filter(|url| {
            // A password in it would be shown wherever the address is.
            matches!(url.scheme(), "http" | "https") && url.password().is_none()
        });
        let url = url.ok_or_else(|| {
            refuse(
                "access.webhook.url",
                "it must be an address with http:// or https://, without a password in it",
            )
        })?;
        if settings.timeout_ms == 0 {
            return Err(refuse("access.webhook.timeout_ms", "it must be at least 1"));
        }
        let secret = Secret::of(settings.secret.as_ref(), settings.secret_file.as_deref())
            .map_err(|error| error.of_entry("setting", "access.webhook.secret"))?;
        let headers = settings.headers.iter().map(|name| name.parse());
        let headers = headers
            .collect::<Result<_, _>>()
            .map_err(|_| refuse("access.webhook.headers", "each must be the name of a header"))?;
        let client = reqwest::Client::builder()
            .timeout(Duration::from_millis(settings.timeout_ms))
            // Credentials go to the address that was configured, and to no other.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| refuse("access.webhook", &error.without_url().to_string()))?;
        Ok(Self {
            client,
            url,
            secret,
            headers,
            retries: settings.retries,
            answer_bytes_max: settings.answer_bytes_max,
            digester: Digester::new(),
            memo: Memo::new(Duration::from_secs(settings.cache_s), REMEMBERED_MAX),
        })
    }

    /// The answer to all that is sent, and to nothing else: a request that differs in anything that
    /// the application may judge by is another one.
    async fn ask(&self, body: &Value) -> Answer {
        let body = body.to_string();
        let key = self.digester.of(&[body.as_bytes()]);
        self.memo.get(key, || self.fetch(body)).await
    }

    /// An answer, whatever happens.
    async fn fetch(&self, body: String) -> Answer {
        let mut retries = 0;
        loop {
            let failure = match self.post(&body).await {
                Ok(answer) => return answer,
                Err(failure) => failure,
            };
            if retries >= self.retries || !failure.is_transient() {
                tracing::error!(%failure, "the webhook of access failed");
                return Answer::Failed;
            }
            sleep(RETRY_PAUSE.saturating_mul(1 << retries.min(10))).await;
            retries += 1;
        }
    }

    async fn post(&self, body: &str) -> Result<Answer, Failure> {
        let network = |error: reqwest::Error| Failure::Network(error.without_url());
        let mut request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .body(body.to_owned());
        if let Some(secret) = &self.secret {
            request = request.header(SIGNATURE_HEADER, signature(secret, body, now_s()));
        }
        let mut response = request.send().await.map_err(network)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NO_CONTENT => return Ok(Answer::Unknown),
            status => return Err(Failure::Status(status)),
        }
        let mut text = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(network)? {
            if text.len() + piece.len() > self.answer_bytes_max {
                return Err(Failure::TooLarge);
            }
            text.extend_from_slice(&piece);
        }
        Answer::parse(&text).map_err(Failure::Malformed)
    }

    /// The headers that are configured, as an object of texts.
    fn shown(&self, headers: &HeaderMap) -> Value {
        let mut shown = Map::new();
        for name in self.headers.iter().filter(|name| headers.contains_key(*name)) {
            let values = headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            let values: Vec<String> = values.collect();
            shown.insert(name.to_string(), Value::String(values.join(", ")));
        }
        Value::Object(shown)
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn signature(secret: &Secret, body: &str, now_s: u64) -> String {
    let mut mac = mac(secret.expose().as_bytes());
    mac.update(format!("{now_s}.{body}").as_bytes());
    format!("t={now_s},v1={}", hex(&mac.finalize().into_bytes()))
}

/// Without the port, which is another one for each connection.
fn address(peer: Option<SocketAddr>) -> Option<IpAddr> {
    peer.map(|peer| peer.ip().to_canonical())
}

fn unavailable() -> Denied {
    Denied::unavailable("access cannot be judged at the moment; try again later")
}

#[async_trait]
impl Source for Webhook {
    async fn judge(&self, request: &AccessRequest) -> Option<Result<Grant, Denied>> {
        let body = json!({
            "request": "database",
            "credentials": request.credentials.value(),
            "database": request.database.as_str(),
            "create": request.create,
            "peer": address(request.peer),
            "headers": self.shown(&request.headers),
        });
        match self.ask(&body).await {
            Answer::Unknown => None,
            Answer::Failed => Some(Err(unavailable())),
            Answer::Denied { denied, .. } => Some(Err(denied)),
            Answer::Granted(granted) => Some(granted.grant(&request.database)),
        }
    }

    async fn judge_server(&self, request: &ServerRequest) -> Option<Result<ServerGrant, Denied>> {
        let body = json!({
            "request": "server",
            "credentials": request.credentials.value(),
            "peer": address(request.peer),
            "headers": self.shown(&request.headers),
        });
        match self.ask(&body).await {
            Answer::Unknown => None,
            Answer::Failed => Some(Err(unavailable())),
            Answer::Denied { denied, .. } => Some(Err(denied)),
            Answer::Granted(granted) => Some(Ok(granted.server_grant())),
        }
    }

    fn forget(&self) {
        self.memo.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_the_time_and_the_body() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
        let of = |secret: &str, body: &str, now_s| signature(&Secret::new(secret), body, now_s);
        let one = of("secret", r#"{"a":1}"#, 1_700_000_000);
        assert!(one.starts_with("t=1700000000,v1="), "{one}");
        assert_eq!(one.len(), "t=1700000000,v1=".len() + 64);
        for other in [
            of("other", r#"{"a":1}"#, 1_700_000_000),
            of("secret", r#"{"a":2}"#, 1_700_000_000),
            of("secret", r#"{"a":1}"#, 1_700_000_001),
        ] {
            assert_ne!(one, other);
        }
    }
}
