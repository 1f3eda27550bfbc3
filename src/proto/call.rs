//! The calls of a channel: names, parameters and results, in CouchDB's JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::limits::BULK_ROWS_MAX_MAX;

/// Names of the methods.
pub mod method {
    /// What the database tells of itself. Reply: [`Info`](super::super::message::Info).
    pub const INFO: &str = "info";
    /// One document, or some of its branches. [`GetParams`](super::GetParams).
    pub const GET: &str = "get";
    /// Writes one document. [`PutParams`](super::PutParams).
    pub const PUT: &str = "put";
    /// Deletes one document. [`DeleteParams`](super::DeleteParams).
    pub const DELETE: &str = "delete";
    /// Changes a part of one document. [`PatchParams`](super::PatchParams).
    pub const PATCH: &str = "patch";
    /// Changes counters and sets of one document. [`OpsParams`](super::OpsParams).
    pub const OPS: &str = "ops";
    /// Writes documents. [`BulkDocsParams`](super::BulkDocsParams).
    pub const BULK_DOCS: &str = "bulk_docs";
    /// Reads documents; streams. [`BulkGetParams`](super::BulkGetParams).
    pub const BULK_GET: &str = "bulk_get";
    /// Which revisions are missing. [`RevsDiffParams`](super::RevsDiffParams).
    pub const REVS_DIFF: &str = "revs_diff";
    /// Documents by key or range; streams. [`AllDocsParams`](super::AllDocsParams).
    pub const ALL_DOCS: &str = "all_docs";
    /// The changes feed; streams. [`ChangesParams`](super::ChangesParams).
    pub const CHANGES: &str = "changes";
    /// An attachment's bytes; streams pieces. [`AttachmentParams`](super::AttachmentParams).
    pub const ATTACHMENT: &str = "attachment";
    /// Takes an attachment's bytes in pieces. [`UploadParams`](super::UploadParams).
    pub const UPLOAD: &str = "upload";
    /// Destroys the database, if the grant allows it.
    pub const DESTROY: &str = "destroy";
}

fn yes() -> bool {
    true
}

/// Reads a list that some bound will be held against, and no more of it than one element over the
/// highest bound there can be: a message of tiny elements takes many times its bytes once parsed.
pub(crate) fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    struct Few<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Vec<T>, A::Error> {
            let mut few = Vec::new();
            while few.len() <= BULK_ROWS_MAX_MAX {
                let Some(element) = all.next_element()? else { return Ok(few) };
                few.push(element);
            }
            while all.next_element::<IgnoredAny>()?.is_some() {}
            Ok(few)
        }
    }
    from.deserialize_seq(Few(PhantomData))
}

/// A list read as [`few`] does.
struct FewStrings(Vec<String>);

impl<'de> Deserialize<'de> for FewStrings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        few(from).map(Self)
    }
}

pub(crate) fn few_if_any<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<String>>, D::Error> {
    Ok(Option::<FewStrings>::deserialize(from)?.map(|few| few.0))
}

/// `rows` messages a stream may send before the first `more`, where a call does not say.
pub const CREDIT_DEFAULT: u32 = 8;

fn credit() -> u32 {
    CREDIT_DEFAULT
}

/// Parameters of `get`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GetParams {
    /// The document; `_local/…` reads a local document.
    pub id: String,
    /// This revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// The best leaf below `rev`.
    pub latest: bool,
    /// `_revisions`.
    pub revs: bool,
    /// `_revs_info`.
    pub revs_info: bool,
    /// `_conflicts`.
    pub conflicts: bool,
    /// `_deleted_conflicts`.
    pub deleted_conflicts: bool,
    /// `_local_seq`.
    pub local_seq: bool,
    /// These branches instead of one document: the reply is `[{"ok": DOC} | {"missing": REV}, ...]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_revs: Option<OpenRevsParam>,
}

/// `"all"` or a list of revisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum OpenRevsParam {
    /// `"all"`
    Word(AllWord),
    /// `["1-a", ...]`
    Revs(Vec<String>),
}

impl<'de> Deserialize<'de> for OpenRevsParam {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Param;
        impl<'de> Visitor<'de> for Param {
            type Value = OpenRevsParam;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"all\" or an array of revisions")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Self::Value, E> {
                match word {
                    "all" => Ok(OpenRevsParam::Word(AllWord::All)),
                    _ => Err(E::custom("open_revs must be \"all\" or an array of revisions")),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, all: A) -> Result<Self::Value, A::Error> {
                few(serde::de::value::SeqAccessDeserializer::new(all)).map(OpenRevsParam::Revs)
            }
        }
        from.deserialize_any(Param)
    }
}

/// The word `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AllWord {
    /// `"all"`
    All,
}

/// Parameters of `put`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutParams {
    /// The document.
    pub doc: Box<RawValue>,
    /// Whether to make a revision.
    #[serde(default = "yes")]
    pub new_edits: bool,
    /// Whether an edit that says what the winning rev says makes no revision.
    #[serde(default)]
    pub if_changed: bool,
}

/// Parameters of `delete`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteParams {
    /// The document.
    pub id: String,
    /// The leaf to delete.
    pub rev: String,
}

/// Parameters of `patch`; one of `merge` and `operations` must be there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchParams {
    /// The document.
    pub id: String,
    /// The leaf to change; the winning rev where missing, again and again while others write.
    #[serde(default)]
    pub rev: Option<String>,
    /// A JSON Merge Patch (RFC 7396).
    #[serde(default)]
    pub merge: Option<Box<RawValue>>,
    /// A JSON Patch (RFC 6902).
    #[serde(default)]
    pub operations: Option<Box<RawValue>>,
    /// As in [`PutParams`].
    #[serde(default)]
    pub if_changed: bool,
}

/// Parameters of `ops`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpsParams {
    /// The document, which is made if it is not there.
    pub id: String,
    /// What is to be done, as [`Operations::parse`](crate::doc::Operations::parse) reads it.
    pub ops: Box<RawValue>,
}

/// Parameters of `bulk_docs`. Reply: an array; with `new_edits` a row for each document, else only
/// the refused ones.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkDocsParams {
    /// The documents.
    #[serde(deserialize_with = "few")]
    pub docs: Vec<Box<RawValue>>,
    /// Whether to make revisions.
    #[serde(default = "yes")]
    pub new_edits: bool,
    /// Whether they are a group: all of them are stored, or none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub atomic: bool,
    /// As in [`PutParams`], for each document.
    #[serde(default)]
    pub if_changed: bool,
}

/// A row of `bulk_docs`' reply, and the reply of `put`, `patch`, `ops` and `delete`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WriteRow {
    /// True for a stored document, else absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ok: bool,
    /// The document.
    #[serde(default)]
    pub id: String,
    /// Its revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// For a refused document: the HTTP status with the same meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// For a refused document: CouchDB's name of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// For a refused document: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Parameters of `bulk_get`. Each row is CouchDB's `{"id", "docs": [{"ok": DOC} | {"error": {...}}]}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkGetParams {
    /// What to read.
    #[serde(deserialize_with = "few")]
    pub docs: Vec<BulkGetParam>,
    /// `_revisions`.
    #[serde(default)]
    pub revs: bool,
    /// The leaves below each revision.
    #[serde(default)]
    pub latest: bool,
    /// Messages before the first `more`.
    #[serde(default = "credit")]
    pub credit: u32,
}

/// One thing to read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BulkGetParam {
    /// The document.
    pub id: String,
    /// One revision, or every leaf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
}

/// A row of `bulk_get`.
#[derive(Debug, Serialize, Deserialize)]
pub struct BulkGetRow {
    /// The document.
    pub id: String,
    /// Its revisions.
    pub docs: Vec<BulkGetDoc>,
}

/// One revision of a row of `bulk_get`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BulkGetDoc {
    /// The document.
    Ok(Box<RawValue>),
    /// Why there is none.
    Error(WriteRow),
}

/// Parameters of `revs_diff`: revisions by document.
pub type RevsDiffParams = BTreeMap<String, Vec<String>>;

/// [`RevsDiffParams`] as a gateway reads them: refused when there are more revisions or documents
/// than any bound allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevsDiffAsked(pub RevsDiffParams);

impl<'de> Deserialize<'de> for RevsDiffAsked {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Asked;
        impl<'de> Visitor<'de> for Asked {
            type Value = RevsDiffAsked;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of arrays of revisions")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
                let mut asked = RevsDiffParams::new();
                let mut revs_count = 0;
                while let Some((id, revs)) = all.next_entry::<String, FewStrings>()? {
                    revs_count += revs.0.len();
                    if revs_count > BULK_ROWS_MAX_MAX || asked.len() > BULK_ROWS_MAX_MAX {
                        return Err(A::Error::custom("more revisions than any bound allows"));
                    }
                    asked.insert(id, revs.0);
                }
                Ok(RevsDiffAsked(asked))
            }
        }
        from.deserialize_map(Asked)
    }
}

/// Reply of `revs_diff`: documents of which something is missing.
pub type RevsDiffReply = BTreeMap<String, RevsDiffRow>;

/// What is missing of one document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RevsDiffRow {
    /// Revisions that are not known.
    pub missing: Vec<String>,
    /// Leaves that may be their ancestors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub possible_ancestors: Vec<String>,
}

/// Parameters of `all_docs`. Rows are CouchDB's; `end` has `{"total_rows"}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AllDocsParams {
    /// Where to begin.
    #[serde(skip_serializing_if = "Option::is_none", alias = "start_key")]
    pub startkey: Option<String>,
    /// Where to end.
    #[serde(skip_serializing_if = "Option::is_none", alias = "end_key")]
    pub endkey: Option<String>,
    /// Whether `endkey` itself belongs to the range; true where not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inclusive_end: Option<bool>,
    /// One id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// These ids.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "few_if_any")]
    pub keys: Option<Vec<String>>,
    /// From high to low.
    pub descending: bool,
    /// Rows at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Rows to leave out at the front.
    pub skip: u64,
    /// Whether rows have `doc`.
    pub include_docs: bool,
    /// Whether documents have `_conflicts`.
    pub conflicts: bool,
    /// Messages before the first `more`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit: Option<u32>,
}

/// Parameters of `changes`. Rows are CouchDB's, with `docs` as asked; `end` has
/// `{"last_seq", "pending"}`; a live stream ends only by `cancel` or with an error.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChangesParams {
    /// Where to begin: a `last_seq`, `"0"` or `"now"`; from the start where not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<SinceParam>,
    /// Rows at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// From new to old.
    pub descending: bool,
    /// Whether to go on when there is nothing more.
    pub live: bool,
    /// `main_only` or `all_docs`.
    pub style: StyleParam,
    /// Whether rows have `doc`, the winning rev.
    pub include_docs: bool,
    /// Whether rows have `docs`, every leaf with `_revisions`.
    pub docs: bool,
    /// Only these documents.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "few_if_any")]
    pub doc_ids: Option<Vec<String>>,
    /// Only leaves that this selector lets pass, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Box<RawValue>>,
    /// Leaves out documents that were deleted before the call.
    pub skip_tombstones: bool,
    /// Whether documents that were written as a group stay together: their rows have the same
    /// `group`, follow one another, and come in one message.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub groups: bool,
    /// Whether revisions that this channel wrote come back to it. They are left out only where
    /// `docs` and `style: all_docs` ask for every leaf.
    pub echo: bool,
    /// Messages before the first `more`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit: Option<u32>,
}

/// A seq as a client may send it: text, or a bare number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SinceParam {
    /// `"17-…"`, `"0"`, `"now"`
    Text(String),
    /// `17`
    Number(u64),
}

// Not derived: the derived reader of an untagged enum takes the whole value in before it judges it.
impl<'de> Deserialize<'de> for SinceParam {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Param;
        impl Visitor<'_> for Param {
            type Value = SinceParam;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a last_seq, 0 or \"now\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(SinceParam::Text(text.to_owned()))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(SinceParam::Number(number))
            }
        }
        from.deserialize_any(Param)
    }
}

/// Which revisions a row of `changes` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StyleParam {
    /// The winning rev.
    #[default]
    MainOnly,
    /// Every leaf.
    AllDocs,
}

/// A row of `changes`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChangeRowJson {
    /// Its place.
    pub seq: String,
    /// The document.
    pub id: String,
    /// Leaves.
    pub changes: Vec<ChangeRev>,
    /// True if the winning rev is a tombstone, else absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// With `groups`: the group that it was written in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u64>,
    /// With `include_docs`: the winning rev.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc: Option<Box<RawValue>>,
    /// With `docs`: every leaf whose body is stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub docs: Vec<Box<RawValue>>,
}

/// A revision in a row of `changes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRev {
    /// The revision.
    pub rev: String,
}

/// Parameters of `attachment`. Pieces come as binary messages; `end` has
/// `{"content_type", "digest", "length"}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentParams {
    /// The document.
    pub id: String,
    /// The revision, or the winning one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// The attachment.
    pub name: String,
    /// Pieces before the first `more`.
    #[serde(default = "credit")]
    pub credit: u32,
}

/// What an `attachment` stream ends with, and the reply of `upload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobNote {
    /// `md5-BASE64`
    pub digest: String,
    /// Bytes.
    pub length: u64,
    /// Its media type, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// Parameters of `upload`: the client then sends pieces, the last one marked. Documents written on
/// this channel afterwards refer to the bytes by a stub with their digest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadParams {
    /// Bytes that will come, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Their digest, where known: other bytes are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_parameters_are_refused_by_name() {
        let error = serde_json::from_str::<ChangesParams>(r#"{"sinse":0}"#).expect_err("must fail");
        assert!(error.to_string().contains("sinse"));
    }

    #[test]
    fn since_is_text_or_a_number() {
        let since = |text| serde_json::from_str::<ChangesParams>(text).map(|p| p.since);
        assert_eq!(since(r#"{"since":"now"}"#).unwrap(), Some(SinceParam::Text("now".into())));
        assert_eq!(since(r#"{"since":7}"#).unwrap(), Some(SinceParam::Number(7)));
        assert_eq!(since("{}").unwrap(), None);
        assert!(since(r#"{"since":-1}"#).is_err());
    }

    #[test]
    fn rows_are_couchdbs() {
        let ok =
            WriteRow { ok: true, id: "a".into(), rev: Some("1-x".into()), ..WriteRow::default() };
        assert_eq!(serde_json::to_string(&ok).unwrap(), r#"{"ok":true,"id":"a","rev":"1-x"}"#);
        let row =
            r#"{"id":"a","docs":[{"ok":{"_id":"a"}},{"error":{"id":"a","error":"not_found"}}]}"#;
        let read: BulkGetRow = serde_json::from_str(row).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), row);
    }
}
