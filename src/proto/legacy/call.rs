//! Requests, calls, their options, and what is answered.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::mux::BadRequest;
use super::record::data_text;
use crate::doc::printable;
use crate::proto::call::{OpenRevsParam, SinceParam, few, few_if_any};
use crate::proto::message::{CREDENTIALS_BYTES_MAX, Elements, WireError};

/// Names of the methods that a sync needs. There are no others.
pub mod method {
    /// Identity of the database; it goes into the names of checkpoints.
    pub const ID: &str = "_id";
    /// What the database tells of itself.
    pub const INFO: &str = "_info";
    /// One document, some of its branches, or a local document.
    pub const GET: &str = "get";
    /// Documents by key or range.
    pub const ALL_DOCS: &str = "allDocs";
    /// Writes documents.
    pub const BULK_DOCS: &str = "_bulkDocs";
    /// The whole revision tree of a document.
    pub const REVISION_TREE: &str = "_getRevisionTree";
    /// The changes feed, as events.
    pub const CHANGES: &str = "_changes";
}

/// Bytes of a call's number, or of a listener's, at most: both come back.
const NUMBER_BYTES_MAX: usize = 32;

/// `{"database", "credentials"}`. Printing it for debugging leaves the credentials out.
#[derive(Clone, PartialEq, Deserialize)]
pub struct Request {
    /// The database's name as the client knows it.
    pub database: String,
    /// Any JSON; `null` if there is none.
    #[serde(default)]
    pub credentials: Value,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// [`BadRequest`].
    pub fn parse(value: &RawValue) -> Result<Self, BadRequest> {
        // A parsed value may take many times its text.
        if value.get().len() > CREDENTIALS_BYTES_MAX {
            return Err(BadRequest::TooLarge);
        }
        serde_json::from_str(value.get()).map_err(|_| BadRequest::Malformed)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("database", &self.database).finish_non_exhaustive()
    }
}

/// `[SEQ, DATABASE, METHOD, ARGS]`
#[derive(Debug, Clone)]
pub struct Call {
    /// Comes back with the answer.
    pub seq: Box<RawValue>,
    /// The database it names; `None` for `null`, which PouchDB sends from version 6 on.
    pub database: Option<String>,
    /// What to do.
    pub method: String,
    /// With what.
    pub args: Vec<Box<RawValue>>,
    /// Bytes that it takes.
    pub bytes: usize,
}

impl Call {
    /// Reads a call. `None` if it has no number to answer under.
    #[must_use]
    pub fn parse(value: &RawValue) -> Option<Self> {
        let Elements(elements) = serde_json::from_str(value.get()).ok()?;
        let seq = elements.first().filter(|seq| is_number(seq))?;
        // A name that is no text is some other database's or method's.
        let name = |place: usize| {
            let text: &str =
                elements.get(place).map_or("null", |element: &&RawValue| element.get());
            serde_json::from_str(text).unwrap_or_else(|_| Some(printable(text)))
        };
        let args = elements.get(3).map(|args| serde_json::from_str(args.get()));
        let args = args.and_then(Result::ok).map_or_else(Vec::new, |Elements(args)| args);
        Some(Self {
            seq: (*seq).to_owned(),
            database: name(1),
            method: name(2).unwrap_or_else(|| "null".into()),
            args: args.into_iter().map(ToOwned::to_owned).collect(),
            bytes: value.get().len(),
        })
    }

    /// An argument; `T`'s default where it is missing or `null`.
    ///
    /// # Errors
    /// serde's, if it has another shape.
    pub fn arg<'a, T: Deserialize<'a> + Default>(&'a self, place: usize) -> serde_json::Result<T> {
        let arg = self.args.get(place).map_or("null", |arg| arg.get());
        serde_json::from_str::<Option<T>>(arg).map(Option::unwrap_or_default)
    }

    /// The number of the listener that a feed's events are for.
    #[must_use]
    pub fn listener(&self) -> Option<&RawValue> {
        self.args.first().map(|listener| &**listener).filter(|listener| is_number(listener))
    }
}

fn is_number(value: &RawValue) -> bool {
    let text = value.get();
    text.len() <= NUMBER_BYTES_MAX && text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// Options of `get`. Unknown ones mean nothing, here and below.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct GetOptions {
    /// This revision.
    pub rev: Option<String>,
    /// The best leaf below `rev`; with `open_revs`, every leaf below each.
    pub latest: bool,
    /// `_revisions`.
    pub revs: bool,
    /// `_revs_info`.
    pub revs_info: bool,
    /// `_conflicts`.
    pub conflicts: bool,
    /// These branches instead of one document.
    pub open_revs: Option<OpenRevsParam>,
}

/// Options of `allDocs`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AllDocsOptions {
    /// These ids, in this order.
    #[serde(deserialize_with = "few_if_any")]
    pub keys: Option<Vec<String>>,
    /// This id.
    pub key: Option<String>,
    /// Where to begin.
    pub startkey: Option<String>,
    /// Where to end.
    pub endkey: Option<String>,
    /// Whether `endkey` belongs to it.
    pub inclusive_end: Option<bool>,
    /// Direction.
    pub descending: bool,
    /// Rows at most.
    pub limit: Option<u64>,
    /// Rows to leave out at the front.
    pub skip: u64,
    /// Whether rows have their documents.
    pub include_docs: bool,
}

/// The first argument of `_bulkDocs`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct BulkDocs {
    /// The documents.
    pub docs: Option<Docs>,
    /// Whether to make revisions.
    pub new_edits: Option<bool>,
}

/// A bounded list of documents.
#[derive(Debug, Deserialize)]
pub struct Docs(#[serde(deserialize_with = "few")] pub Vec<Box<RawValue>>);

/// The second argument of `_bulkDocs`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct BulkDocsOptions {
    /// Whether to make revisions.
    pub new_edits: Option<bool>,
}

/// Options of `_changes`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ChangesOptions {
    /// Where to begin.
    pub since: Option<SinceParam>,
    /// Changes at most, in a feed that is not live.
    pub limit: Option<u64>,
    /// `all_docs`: every leaf.
    pub style: Option<String>,
    /// From new to old.
    pub descending: bool,
    /// Whether changes have the winning rev's document.
    pub include_docs: bool,
    /// Whether to go on.
    pub live: bool,
    /// The same.
    pub continuous: bool,
    /// Only these documents.
    #[serde(deserialize_with = "few_if_any")]
    pub doc_ids: Option<Vec<String>>,
}

/// An error as the client makes one of its own from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorObject {
    /// What is wrong.
    pub message: String,
    /// The HTTP status with the same meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// PouchDB's name of the error.
    pub name: String,
    /// True in PouchDB's errors.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub error: bool,
}

impl ErrorObject {
    /// An error of the server's program and not of the database: `new Error(message)`.
    #[must_use]
    pub fn plain(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: None, name: "Error".into(), error: false }
    }

    /// Its JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }
}

impl From<WireError> for ErrorObject {
    /// PouchDB's form of an error.
    ///
    /// A deleted document is a missing one: the client compares the message, and a sync that is told
    /// `deleted` where it wants `missing` ends.
    fn from(error: WireError) -> Self {
        let message = match (error.status, &*error.reason) {
            (404, "deleted") => "missing".into(),
            (409, _) => "Document update conflict".into(),
            _ => error.reason,
        };
        Self { message, status: Some(error.status), name: error.error, error: true }
    }
}

/// A refused document in the answer to `_bulkDocs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureRow {
    /// The document, by which the client finds it again.
    pub id: String,
    /// The revision it came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// The error.
    #[serde(flatten)]
    pub error: ErrorObject,
}

/// The answer to a call; `result` is JSON text.
#[must_use]
pub fn reply_text(stream: &str, seq: &RawValue, result: &str) -> String {
    data_text(stream, &format!("[{},[null,{result}]]", seq.get()))
}

/// The answer to a call that failed.
#[must_use]
pub fn failure_text(stream: &str, seq: &RawValue, error: &ErrorObject) -> String {
    data_text(stream, &format!("[{},[{},null]]", seq.get(), error.to_json()))
}

/// The answer to what is no call.
#[must_use]
pub fn not_a_call_text(stream: &str) -> String {
    data_text(stream, "[-1,[{\"message\":\"require an array\"}]]")
}

/// The answer to a request that was refused.
#[must_use]
pub fn refused_text(stream: &str, error: &ErrorObject) -> String {
    data_text(stream, &format!("[{}]", error.to_json()))
}

/// An event of a feed; `payload` is JSON text.
#[must_use]
pub fn event_text(stream: &str, event: &str, listener: &RawValue, payload: &str) -> String {
    data_text(stream, &format!("[\"_event\",\"{event}\",[{},{payload}]]", listener.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).expect(text)
    }

    #[test]
    fn calls_are_read_however_little_they_hold() {
        let check = |text: &str, expected: Option<(&str, Option<&str>, &str, usize)>| {
            let call = Call::parse(&raw(text));
            let found = call.as_ref().map(|call| {
                (call.seq.get(), call.database.as_deref(), &*call.method, call.args.len())
            });
            assert_eq!(found, expected, "{text}");
        };
        check(r#"[0,"todos","_id",[]]"#, Some(("0", Some("todos"), "_id", 0)));
        check(r#"[7,null,"get",["a",{"revs":true}]]"#, Some(("7", None, "get", 2)));
        check("[7]", Some(("7", None, "null", 0)));
        check(r#"[7,{},3,"x"]"#, Some(("7", Some("{}"), "3", 0)));
        for no_call in ["true", "{}", "[]", r#"["7","todos","_id",[]]"#, "[[]]", "null"] {
            check(no_call, None);
        }
        check(&format!("[{}]", "1".repeat(33)), None);
    }

    #[test]
    fn requests_need_a_database() {
        let check = |text: &str, expected: Result<&str, BadRequest>| {
            let found = Request::parse(&raw(text)).map(|request| request.database);
            assert_eq!(found.as_deref(), expected.as_deref(), "{text}");
        };
        check(r#"{"database":"todos","credentials":{"token":"x"}}"#, Ok("todos"));
        check(r#"{"database":"todos"}"#, Ok("todos"));
        for malformed in ["null", "\"todos\"", "[]", "{}", r#"{"database":1}"#] {
            check(malformed, Err(BadRequest::Malformed));
        }
        let large = format!(r#"{{"database":"todos","credentials":"{}"}}"#, "x".repeat(70_000));
        check(&large, Err(BadRequest::TooLarge));
    }

    #[test]
    fn errors_have_the_words_that_the_client_compares() {
        let check = |status, error: &str, reason: &str, expected: &str| {
            let wire = WireError { status, error: error.into(), reason: reason.into() };
            assert_eq!(ErrorObject::from(wire).to_json(), expected);
        };
        let missing = r#"{"message":"missing","status":404,"name":"not_found","error":true}"#;
        check(404, "not_found", "missing", missing);
        check(404, "not_found", "deleted", missing);
        check(
            409,
            "conflict",
            "Document update conflict.",
            r#"{"message":"Document update conflict","status":409,"name":"conflict","error":true}"#,
        );
        assert_eq!(
            ErrorObject::plain("No method named fly").to_json(),
            r#"{"message":"No method named fly","name":"Error"}"#
        );
    }
}
