//! An HTTP server of the application that judges documents.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use hmac::Mac as _;
use percent_encoding::utf8_percent_encode;
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::access::{hex, mac};
use crate::doc::{AttachmentData, BlobHasher, DbName, Document};
use crate::server::{Denied, ProposedWrite, Validator};
use crate::store::Database;

use super::error::ValidateError;
use super::pattern::DbPattern;

/// Documents in one question.
const DOCS_MAX: usize = 1_000;

/// Bytes of documents in one question, save that there is always one document.
const QUESTION_BYTES_MAX: usize = 4 << 20;

/// Bytes of an answer for each document asked about, and beside them; updates not counted.
const ANSWER_BYTES_PER_DOC: usize = 1 << 10;

/// Bytes of updates in an answer.
const UPDATES_BYTES_MAX: usize = 4 << 20;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest reason in characters.
const REASON_CHARS_MAX: usize = 300;

/// Left as they are in an address. All else is encoded, so that a name is one segment of a path.
const PLAIN: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The header that proves who asks: `sha256=` and the HMAC-SHA-256 of the body in hex.
const SIGNATURE: &str = "x-settee-signature";

/// What becomes of documents that the service does not judge: it cannot be reached, takes too long,
/// or does not answer as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unreachable {
    /// They are refused (403); a client lists them as denied.
    #[default]
    Deny,
    /// They are stored.
    Allow,
    /// The whole call fails (503) and nothing of it is stored; a client makes it again later.
    Retry,
}

/// Asks an HTTP server about the documents of some databases, those of one call together.
///
/// `POST` with `{"database", "user", "roles", "changes": [{"id", "rev", "deleted", "doc"}]}`, where
/// `doc` is the document as it would be written, its attachments as stubs. The answer is 200 with
/// `{"verdicts": [{"ok": true}, {"ok": false, "reason": "…"}]}`: one for each change, in their order.
/// A verdict may have `updates`, documents that are written once that one is stored: see
/// [`Validator::judge_all`].
/// Many documents are asked about in several questions of at most 1,000 documents.
///
/// Unlike a [`Rule`](super::Rule) it is asked about tombstones and design documents too.
#[derive(Clone)]
pub struct Service {
    databases: DbPattern,
    address: Address,
    client: Client,
    secret: Option<Vec<u8>>,
    unreachable: Unreachable,
}

/// A question.
#[derive(Serialize)]
struct Question<'a> {
    database: &'a str,
    user: Option<&'a str>,
    roles: &'a [String],
    changes: &'a [Change<'a>],
}

#[derive(Serialize)]
struct Change<'a> {
    id: &'a str,
    rev: Option<String>,
    deleted: bool,
    doc: Box<RawValue>,
}

#[derive(Deserialize)]
struct Answer {
    verdicts: Vec<Verdict>,
}

#[derive(Deserialize)]
struct Verdict {
    ok: bool,
    reason: Option<String>,
    #[serde(default)]
    updates: Vec<Box<RawValue>>,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("the service cannot be reached or did not answer in time")]
    Failed(#[source] reqwest::Error),
    #[error("there is no address for this database: {problem}")]
    Address { problem: String },
    #[error("the service answered with status {status}")]
    Status { status: u16 },
    #[error("the service's answer is longer than {max} bytes")]
    TooLong { max: usize },
    #[error("the service's answer is not as it should be: {problem}")]
    Answer { problem: String },
    #[error("the service gave {verdicts} verdicts on {changes} changes")]
    Count { verdicts: usize, changes: usize },
}

/// Where a service is asked, which may depend on the database.
#[derive(Clone)]
struct Address {
    template: String,
    host: String,
}

impl Address {
    fn parse(template: &str) -> Result<Self, ValidateError> {
        let bad = || ValidateError::Url { url: template.to_owned() };
        // A name must not choose who is asked.
        let [one, other] = ["a", "b"].map(|name| Url::parse(&filled(template, name)));
        let (one, other) = (one.map_err(|_| bad())?, other.map_err(|_| bad())?);
        if !matches!(one.scheme(), "http" | "https") || one.origin() != other.origin() {
            return Err(bad());
        }
        let host = one.host_str().unwrap_or_default().to_owned();
        Ok(Self { template: template.to_owned(), host })
    }

    fn of(&self, database: &str) -> Result<Url, Unanswered> {
        Url::parse(&filled(&self.template, database))
            .map_err(|error| Unanswered::Address { problem: error.to_string() })
    }
}

/// An address with the name of a database where `{database}` stands.
fn filled(template: &str, database: &str) -> String {
    let name = utf8_percent_encode(database, PLAIN).to_string();
    template.replace("{database}", &name)
}

impl From<reqwest::Error> for Unanswered {
    fn from(error: reqwest::Error) -> Self {
        // The address may hold a key.
        Self::Failed(error.without_url())
    }
}

impl Service {
    /// A service at an http or https address, asked about the documents of some databases. It has
    /// 5 s to answer; what it does not answer is denied. `{database}` in the path or the query of
    /// the address stands for the database's name.
    ///
    /// # Errors
    /// [`ValidateError::Url`], [`ValidateError::Client`].
    pub fn new(databases: DbPattern, url: &str) -> Result<Self, ValidateError> {
        let address = Address::parse(url)?;
        let (client, unreachable) = (client(TIMEOUT)?, Unreachable::default());
        Ok(Self { databases, address, client, secret: None, unreachable })
    }

    /// The same with another time to answer.
    ///
    /// # Errors
    /// [`ValidateError::Client`].
    pub fn timeout(self, timeout: Duration) -> Result<Self, ValidateError> {
        Ok(Self { client: client(timeout)?, ..self })
    }

    /// The same with questions signed: the header `X-Settee-Signature` is `sha256=` and the
    /// HMAC-SHA-256 of the body under this secret, in hex.
    #[must_use]
    pub fn signed(self, secret: impl Into<Vec<u8>>) -> Self {
        Self { secret: Some(secret.into()), ..self }
    }

    /// The same with another fate of documents that are not judged.
    #[must_use]
    pub fn unreachable(self, unreachable: Unreachable) -> Self {
        Self { unreachable, ..self }
    }

    /// A verdict for each of some changes to one database by one user.
    async fn ask(
        &self,
        write: &ProposedWrite<'_>,
        changes: &[Change<'_>],
    ) -> Result<Vec<Result<Vec<Document>, Denied>>, Unanswered> {
        let database = write.database.name().as_str();
        let question = Question { database, user: write.user, roles: write.roles, changes };
        let body = serde_json::to_vec(&question)
            .map_err(|error| Unanswered::Answer { problem: error.to_string() })?;
        let mut request = self
            .client
            .post(self.address.of(database)?)
            .header(http::header::CONTENT_TYPE, "application/json");
        if let Some(secret) = &self.secret {
            request = request.header(SIGNATURE, signature(secret, &body));
        }
        let mut response = request.body(body).send().await?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(Unanswered::Status { status });
        }
        let max = ANSWER_BYTES_PER_DOC * (changes.len() + 1) + UPDATES_BYTES_MAX;
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await? {
            if bytes.len() + piece.len() > max {
                return Err(Unanswered::TooLong { max });
            }
            bytes.extend_from_slice(&piece);
        }
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|error| Unanswered::Answer { problem: error.to_string() })?;
        if answer.verdicts.len() != changes.len() {
            let verdicts = answer.verdicts.len();
            return Err(Unanswered::Count { verdicts, changes: changes.len() });
        }
        let judged = |verdict| judged(verdict, write.database);
        Ok(answer.verdicts.into_iter().map(judged).collect())
    }

    fn unjudged(&self, error: &Unanswered, database: &DbName) -> Result<(), Denied> {
        tracing::warn!(%database, error = error as &dyn std::error::Error, "documents are not judged");
        let reason = "the service that judges documents gave no answer";
        match self.unreachable {
            Unreachable::Allow => Ok(()),
            Unreachable::Deny => Err(Denied::forbidden(reason)),
            Unreachable::Retry => Err(Denied::unavailable(reason)),
        }
    }
}

fn client(timeout: Duration) -> Result<Client, ValidateError> {
    // Documents go to the address that was given and to no other.
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    client
        .timeout(timeout)
        .build()
        .map_err(|error| ValidateError::Client { problem: error.to_string() })
}

#[async_trait]
impl Validator for Service {
    async fn validate(&self, write: &ProposedWrite<'_>) -> Result<(), Denied> {
        let verdicts = self.judge_all(std::slice::from_ref(write)).await;
        verdicts.into_iter().next().map_or(Ok(()), |verdict| verdict.map(drop))
    }

    async fn validate_all(&self, writes: &[ProposedWrite<'_>]) -> Vec<Result<(), Denied>> {
        let verdicts = self.judge_all(writes).await;
        verdicts.into_iter().map(|verdict| verdict.map(drop)).collect()
    }

    async fn judge_all(&self, writes: &[ProposedWrite<'_>]) -> Vec<Result<Vec<Document>, Denied>> {
        let Some(first) = writes.first() else { return Vec::new() };
        if !self.databases.matches(first.database.name()) {
            return vec![Ok(Vec::new()); writes.len()];
        }
        let mut verdicts = Vec::with_capacity(writes.len());
        while verdicts.len() < writes.len() {
            let changes = question(&writes[verdicts.len()..]);
            match self.ask(first, &changes).await {
                Ok(answered) => verdicts.extend(answered),
                Err(error) => {
                    // What is left is not asked for: each question more would wait as long.
                    let unjudged = self.unjudged(&error, first.database.name());
                    verdicts.resize(writes.len(), unjudged.map(|()| Vec::new()));
                }
            }
        }
        verdicts
    }
}

/// As many of the writes as one question holds, at least one.
fn question<'a>(writes: &[ProposedWrite<'a>]) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    let mut bytes = 0;
    for write in writes.iter().take(DOCS_MAX) {
        let document = write.document;
        let text = with_stubs(document).to_json();
        bytes += text.len();
        if bytes > QUESTION_BYTES_MAX && !changes.is_empty() {
            break;
        }
        let doc = RawValue::from_string(text).expect("a document prints as JSON");
        changes.push(Change {
            id: document.id.as_str(),
            rev: document.rev.as_ref().map(ToString::to_string),
            deleted: document.deleted,
            doc,
        });
    }
    changes
}

/// The document without the bytes of its attachments.
fn with_stubs(document: &Document) -> Cow<'_, Document> {
    let inline = |data: &AttachmentData| matches!(data, AttachmentData::Inline(_));
    if !document.attachments.values().any(|attachment| inline(&attachment.data)) {
        return Cow::Borrowed(document);
    }
    let mut shown = document.clone();
    for attachment in shown.attachments.values_mut() {
        if let AttachmentData::Inline(bytes) = &attachment.data {
            attachment.data = AttachmentData::Stored(BlobHasher::of(bytes));
        }
    }
    Cow::Owned(shown)
}

fn judged(verdict: Verdict, database: &Database) -> Result<Vec<Document>, Denied> {
    if verdict.ok {
        // One that is none must not take the verdicts on others with it.
        let update = |text: Box<RawValue>| {
            Document::parse(text.get(), database.limits())
                .inspect_err(|error| {
                    let database = database.name();
                    tracing::warn!(%database, %error, "an update of a service is no document");
                })
                .ok()
        };
        return Ok(verdict.updates.into_iter().filter_map(update).collect());
    }
    let mut reason = verdict.reason.unwrap_or_else(|| "not allowed".into());
    if let Some((end, _)) = reason.char_indices().nth(REASON_CHARS_MAX) {
        reason.truncate(end);
    }
    Err(Denied::forbidden(reason))
}

fn signature(secret: &[u8], body: &[u8]) -> String {
    let mut mac = mac(secret);
    mac.update(body);
    format!("sha256={}", hex(&mac.finalize().into_bytes()))
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An address may hold a password.
        f.debug_struct("Service")
            .field("databases", &self.databases)
            .field("host", &self.address.host)
            .field("unreachable", &self.unreachable)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_does_not_show_the_address() {
        let client = client(TIMEOUT).unwrap();
        let failed = client.get("http://127.0.0.1:1/judge?key=secret").send().await.unwrap_err();
        let told = format!("{:?}", Unanswered::from(failed));
        assert!(!told.contains("secret") && !told.contains("judge"), "{told}");
    }
}
