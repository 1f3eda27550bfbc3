//! What a server answers, as far as it is read.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::proto::message::WireError;

/// `GET /{db}`.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub db_name: String,
    /// The database's own, of a gateway of this kind.
    uuid: Option<String>,
    /// The part of the database that is shown, of a gateway of this kind.
    pub view: Option<String>,
    instance_start_time: Option<Value>,
}

/// More seconds than the clock of any server tells, and fewer milliseconds.
const SECONDS_MAX: u64 = 100_000_000_000;

impl Info {
    /// What names the database for ever.
    pub(super) fn incarnation(&self) -> Option<&str> {
        let uuid = self.uuid.as_deref();
        uuid.filter(|text| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }

    /// When the database was made, in seconds, of CouchDB 3.3 and newer. Older ones tell 0, or like
    /// PouchDB's server when it was opened, in finer units: that would be new at each start.
    pub(super) fn made_at(&self) -> Option<u64> {
        let seconds = place(self.instance_start_time.as_ref()?).parse().ok()?;
        (1..SECONDS_MAX).contains(&seconds).then_some(seconds)
    }
}

/// `GET /`.
#[derive(Debug, Deserialize)]
pub(super) struct Welcome {
    pub uuid: Option<String>,
}

/// `_changes`.
#[derive(Debug, Deserialize)]
pub(super) struct Changes {
    pub results: Vec<ChangeRow>,
    pub last_seq: Value,
    pub pending: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ChangeRow {
    pub id: String,
    pub changes: Vec<ChangedRev>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ChangedRev {
    pub rev: String,
}

/// A place in a feed as it is shown to its server again: CouchDB's is a text, PouchDB's a number.
pub(super) fn place(seq: &Value) -> String {
    seq.as_str().map_or_else(|| seq.to_string(), str::to_owned)
}

/// `_bulk_get`.
#[derive(Debug, Deserialize)]
pub(super) struct BulkGet {
    pub results: Vec<BulkGetResult>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BulkGetResult {
    pub id: String,
    pub docs: Vec<Branch>,
}

/// One revision, of `_bulk_get` or `open_revs`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Branch {
    Ok(Box<RawValue>),
    Missing(String),
    Error(Row),
}

impl Branch {
    /// The length of a document's text.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Ok(text) => text.get().len(),
            Self::Missing(_) | Self::Error(_) => 0,
        }
    }
}

/// What became of one document.
#[derive(Debug, Deserialize)]
pub(super) struct Row {
    pub id: Option<String>,
    pub rev: Option<String>,
    pub error: Option<String>,
    pub reason: Option<String>,
}

impl Row {
    /// Why the document was refused, if it was.
    pub(super) fn refusal(&self) -> Option<WireError> {
        let error = self.error.clone()?;
        let reason = self.reason.clone().unwrap_or_default();
        Some(WireError { status: status_of(&error), error, reason })
    }
}

/// The status of an error that came in a row, which tells its name alone.
fn status_of(error: &str) -> u16 {
    match error {
        "bad_request" | "doc_validation" | "illegal_docid" | "invalid_json" => 400,
        "unauthorized" => 401,
        "forbidden" => 403,
        "not_found" => 404,
        "conflict" => 409,
        "missing_stub" | "file_exists" => 412,
        "too_large"
        | "document_too_large"
        | "attachment_too_large"
        | "max_document_size_exceeded" => 413,
        _ => 500,
    }
}
