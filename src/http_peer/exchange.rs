//! One request and its answer: bounded in bytes and time, tried again where that may help.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{Method, StatusCode};
use reqwest::redirect::Policy;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::limits::Limits;
use crate::proto::message::WireError;
use crate::replicate::{Backoff, PeerError};

use super::remote::Remote;
use super::sync::HttpOptions;

/// Bytes of one answer that is read whole; several may be in memory.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of an answer that tells of an error.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// Time for a connection and its TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest pause that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

pub(super) const JSON: &str = "application/json";

/// How to speak with one server.
pub(super) struct Exchange {
    client: reqwest::Client,
    pub remote: Remote,
    pub limits: Limits,
    /// Nothing coming for so long is the end of an exchange.
    pub silence: Duration,
    retries: u32,
    pub backoff: Backoff,
}

/// A request that can be sent again.
pub(super) struct Ask {
    pub method: Method,
    pub url: String,
    pub body: Option<String>,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// The answer has more bytes than are taken.
    TooLarge,
    Other {
        error: PeerError,
        /// What the server asks for.
        wait: Option<Duration>,
    },
}

impl From<PeerError> for Failure {
    fn from(error: PeerError) -> Self {
        Self::Other { error, wait: None }
    }
}

impl From<Failure> for PeerError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Other { error, .. } => error,
            Failure::TooLarge => broke("an answer is too large"),
        }
    }
}

pub(super) fn broke(problem: impl Into<String>) -> PeerError {
    PeerError::Protocol { problem: problem.into() }
}

pub(super) fn disconnected(cause: impl Into<String>) -> PeerError {
    PeerError::Disconnected { cause: cause.into() }
}

/// An error of the connection in words, without the address.
pub(super) fn cause(error: reqwest::Error) -> PeerError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    disconnected(text)
}

impl Ask {
    pub(super) fn get(url: String) -> Self {
        Self { method: Method::GET, url, body: None }
    }

    pub(super) fn post(url: String, body: String) -> Self {
        Self { method: Method::POST, url, body: Some(body) }
    }

    pub(super) fn put(url: String, body: String) -> Self {
        Self { method: Method::PUT, url, body: Some(body) }
    }
}

impl Exchange {
    pub(super) fn new(
        remote: Remote,
        options: &HttpOptions,
        limits: Limits,
    ) -> Result<Self, PeerError> {
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .user_agent(concat!("settee/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(cause)?;
        let (silence, retries, backoff) =
            (options.silence_timeout, options.request_retries, options.backoff);
        Ok(Self { client, remote, limits, silence, retries, backoff })
    }

    /// Bytes of an answer that is read whole; a document fits twice.
    pub(super) fn answer_bytes_max(&self) -> usize {
        ANSWER_BYTES_MAX.max(self.limits.doc_bytes_max.saturating_mul(2))
    }

    /// The address of something in the database.
    pub(super) fn url(&self, below: &str) -> String {
        format!("{}/{below}", self.remote.url())
    }

    pub(super) fn request(&self, method: Method, url: &str) -> reqwest::RequestBuilder {
        self.client.request(method, url).headers(self.remote.headers().clone())
    }

    /// The answer as JSON. What is refused for a while is asked again after growing pauses.
    pub(super) async fn json<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T, Failure> {
        let mut failures = 0;
        loop {
            let failed = match self.json_once(ask).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            self.pause_after(failed, &mut failures).await?;
        }
    }

    /// An answer whose body is read as it comes.
    pub(super) async fn stream(&self, ask: &Ask) -> Result<reqwest::Response, PeerError> {
        let mut failures = 0;
        loop {
            let failed = match self.send(ask).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            self.pause_after(failed, &mut failures).await?;
        }
    }

    /// Waits until it is time to ask again, or gives the failure back.
    async fn pause_after(&self, failed: Failure, failures: &mut u32) -> Result<(), Failure> {
        let wait = match &failed {
            Failure::Other { error, wait } if may_pass(error) && *failures < self.retries => *wait,
            _ => return Err(failed),
        };
        *failures += 1;
        sleep(wait.unwrap_or_else(|| self.backoff.jittered(*failures))).await;
        Ok(())
    }

    async fn json_once<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T, Failure> {
        let response = self.send(ask).await?;
        let text = self.text(response, self.answer_bytes_max()).await?;
        serde_json::from_str(&text).map_err(|error| {
            // A connection that closes may end an answer without another sign.
            if error.is_eof() {
                return disconnected("an answer was cut").into();
            }
            broke(format!("an answer was malformed: {error}")).into()
        })
    }

    async fn send(&self, ask: &Ask) -> Result<reqwest::Response, Failure> {
        let mut request = self.request(ask.method.clone(), &ask.url).header(ACCEPT, JSON);
        if let Some(body) = &ask.body {
            request = request.header(CONTENT_TYPE, JSON).body(body.clone());
        }
        self.finish(request, &Activity::default()).await
    }

    /// Sends a request and takes the head of its answer, which must be of success.
    pub(super) async fn finish(
        &self,
        request: reqwest::RequestBuilder,
        activity: &Activity,
    ) -> Result<reqwest::Response, Failure> {
        let response = tokio::select! {
            sent = request.send() => sent.map_err(cause)?,
            () = activity.until_silent(self.silence) => return Err(self.silent().into()),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    fn silent(&self) -> PeerError {
        disconnected(format!("nothing came for {} ms", self.silence.as_millis()))
    }

    /// The next piece of an answer's body.
    pub(super) async fn piece(
        &self,
        response: &mut reqwest::Response,
    ) -> Result<Option<bytes::Bytes>, PeerError> {
        let piece = timeout(self.silence, response.chunk()).await;
        piece.map_err(|_| self.silent())?.map_err(cause)
    }

    async fn text(&self, mut response: reqwest::Response, max: usize) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece(&mut response).await? {
            if bytes.len() + piece.len() > max {
                return Err(Failure::TooLarge);
            }
            bytes.extend_from_slice(&piece);
        }
        String::from_utf8(bytes).map_err(|_| broke("an answer is not UTF-8").into())
    }

    async fn refusal(&self, response: reqwest::Response) -> Failure {
        let status = response.status();
        if status.is_redirection() {
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let to = crate::doc::printable(to.unwrap_or("nowhere"));
            let problem = format!("the server redirects to {to}, which is not followed");
            return broke(problem).into();
        }
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let seconds = header.and_then(|text| text.trim().parse().ok());
        let wait = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
        let body = self.text(response, ERROR_BYTES_MAX).await.unwrap_or_default();
        Failure::Other { error: PeerError::Refused(told(status, &body)), wait }
    }
}

/// What an answer of failure says.
fn told(status: StatusCode, body: &str) -> WireError {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Told {
        error: Option<String>,
        reason: Option<String>,
    }
    let Told { error, reason } = serde_json::from_str(body).unwrap_or_default();
    let words = || status.canonical_reason().unwrap_or("error").to_ascii_lowercase();
    let plain = |text: String| crate::doc::printable(&text.replace(char::is_control, " "));
    WireError {
        status: status.as_u16(),
        error: error.map_or_else(|| words().replace(' ', "_"), plain),
        reason: reason.map_or_else(|| format!("the server answered {status}"), plain),
    }
}

/// Whether the same request may succeed in a while.
fn may_pass(error: &PeerError) -> bool {
    match error {
        PeerError::Disconnected { .. } => true,
        PeerError::Refused(error) => matches!(error.status, 408 | 429 | 500 | 502 | 503 | 504),
        PeerError::Protocol { .. } | PeerError::Store(_) => false,
    }
}

/// When something last moved in a request whose body is long.
pub(super) struct Activity(Mutex<Instant>);

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Activity {
    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    async fn until_silent(&self, silence: Duration) {
        loop {
            let end = self.last() + silence;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}
