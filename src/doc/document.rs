//! A document as it is written and read: reserved members parsed, the rest as text.

use serde::Serialize;

use super::attachment::{Attachment, Attachments, parse_attachments, push_attachments};
#[cfg(feature = "http-peer")]
use super::attachment::{push_attachment, push_following};
use super::body::{Body, is_reserved};
use super::equal::same;
use super::error::{ParseError, printable};
use super::id::{AnyId, DocId, LocalId};
use super::json::{self, Member};
use super::rev::{Rev, RevHash, RevPath};
use super::value::Json;
use crate::limits::Limits;

/// A document: to be written, or as it was read.
///
/// ```
/// use settee::Document;
/// let todo = Document::new("buy-milk", &serde_json::json!({"done": false}))?;
/// assert_eq!(todo.to_json(), r#"{"_id":"buy-milk","done":false}"#);
/// # Ok::<(), settee::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its id.
    pub id: DocId,
    /// `_rev`. In an edit: the leaf to replace, `None` for a new document. In a replicated write:
    /// the revision itself. In a read: the revision read.
    pub rev: Option<Rev>,
    /// `_revisions`: the revision and its ancestors. Needed for replicated writes that have any.
    pub revisions: Option<RevPath>,
    /// `_deleted`: whether this revision is a tombstone.
    pub deleted: bool,
    /// The members that are the document's own.
    pub body: Body,
    /// `_attachments`.
    pub attachments: Attachments,
    /// What a read was asked to add; a write ignores it.
    pub extra: ReadExtra,
}

/// Members that a read adds when asked. A write ignores them, as CouchDB does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadExtra {
    /// `_conflicts`: open leaves that do not win.
    pub conflicts: Vec<Rev>,
    /// `_deleted_conflicts`: deleted leaves that do not win.
    pub deleted_conflicts: Vec<Rev>,
    /// `_revs_info`: this revision and its ancestors, newest first.
    pub revs_info: Vec<RevInfo>,
    /// `_local_seq`: the update seq of the document's last change here.
    pub local_seq: Option<u64>,
}

/// One line of `_revs_info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevInfo {
    /// The revision.
    pub rev: Rev,
    /// Whether its body can be read.
    pub status: RevStatus,
}

/// Whether a revision's body can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevStatus {
    /// It can.
    Available,
    /// It can, and it is a tombstone.
    Deleted,
    /// Only its id is known.
    Missing,
}

impl RevStatus {
    /// CouchDB's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Deleted => "deleted",
            Self::Missing => "missing",
        }
    }
}

impl Document {
    /// A document with a body and nothing else, under the default bounds.
    ///
    /// # Errors
    /// [`ParseError`] for an id or a body that is not allowed.
    pub fn new<T: Serialize + ?Sized>(id: &str, body: &T) -> Result<Self, ParseError> {
        let id = DocId::parse(id, Limits::default().doc_id_bytes_max)?;
        Ok(Self::with_body(id, Body::from_value(body)?))
    }

    /// A document with a checked id and body.
    #[must_use]
    pub fn with_body(id: DocId, body: Body) -> Self {
        Self {
            id,
            rev: None,
            revisions: None,
            deleted: false,
            body,
            attachments: Attachments::new(),
            extra: ReadExtra::default(),
        }
    }

    /// A tombstone for a revision.
    #[must_use]
    pub fn tombstone(id: DocId, rev: Rev) -> Self {
        Self { rev: Some(rev), deleted: true, ..Self::with_body(id, Body::empty()) }
    }

    /// The same document as an edit of a revision.
    #[must_use]
    pub fn with_rev(self, rev: Rev) -> Self {
        Self { rev: Some(rev), ..self }
    }

    /// The same document with one more attachment.
    #[must_use]
    pub fn with_attachment(mut self, name: impl Into<String>, attachment: Attachment) -> Self {
        self.attachments.insert(name.into(), attachment);
        self
    }

    /// Whether two documents have the same content: body, attachments, and whether it is a
    /// tombstone. Numbers are compared by their value, and members may stand in any order.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let body = || same(&Json::of_body(&self.body), &Json::of_body(&other.body));
        self.deleted == other.deleted && self.has_attachments_of(other) && body()
    }

    pub(crate) fn has_attachments_of(&self, other: &Self) -> bool {
        let same = |a: &Attachment, b: &Attachment| {
            a.content_type == b.content_type && a.digest().is_some() && a.digest() == b.digest()
        };
        let mut pairs = self.attachments.iter().zip(&other.attachments);
        self.attachments.len() == other.attachments.len()
            && pairs.all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
    }

    /// Reads the body into a type of the caller's.
    ///
    /// # Errors
    /// serde's, when the body has another shape.
    pub fn to<T: serde::de::DeserializeOwned>(&self) -> serde_json::Result<T> {
        self.body.to()
    }

    /// Reads a replicated document from JSON.
    ///
    /// # Errors
    /// [`ParseError`], also for a `_local/` id or no id.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, ParseError> {
        match AnyDocument::parse(text, limits)? {
            AnyDocument::Doc(document) => Ok(document),
            AnyDocument::Local(local) => Err(ParseError::DocIdReserved {
                id: printable(&format!("_local/{}", local.id.as_str())),
            }),
            AnyDocument::WithoutId(_) => Err(ParseError::DocIdNotString),
        }
    }

    /// The path of this revision: `_revisions` if given, else `_rev` alone.
    #[must_use]
    pub fn path(&self) -> Option<RevPath> {
        self.revisions.clone().or_else(|| self.rev.clone().map(RevPath::single))
    }

    /// CouchDB's JSON of the document, on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::with_capacity(self.body.as_str().len() + 128);
        out.push_str("{\"_id\":");
        json::push_string(&mut out, self.id.as_str());
        if let Some(rev) = &self.rev {
            out.push_str(",\"_rev\":");
            push_rev(&mut out, rev);
        }
        if self.deleted {
            out.push_str(",\"_deleted\":true");
        }
        if let Some(path) = &self.revisions {
            push_revisions(&mut out, path);
        }
        if !self.attachments.is_empty() {
            out.push_str(",\"_attachments\":");
            push_attachments(&mut out, &self.attachments);
        }
        push_rev_list(&mut out, "_conflicts", &self.extra.conflicts);
        push_rev_list(&mut out, "_deleted_conflicts", &self.extra.deleted_conflicts);
        if !self.extra.revs_info.is_empty() {
            out.push_str(",\"_revs_info\":[");
            for (index, info) in self.extra.revs_info.iter().enumerate() {
                out.push_str(if index == 0 { "{\"rev\":" } else { ",{\"rev\":" });
                push_rev(&mut out, &info.rev);
                let _ = write!(out, ",\"status\":\"{}\"}}", info.status.as_str());
            }
            out.push(']');
        }
        if let Some(seq) = self.extra.local_seq {
            let _ = write!(out, ",\"_local_seq\":{seq}");
        }
        push_body_and_end(&mut out, &self.body);
        out
    }

    /// The same with `follows` for attachments whose bytes come after the document, in a body in
    /// parts.
    #[cfg(feature = "http-peer")]
    pub(crate) fn to_json_with_following(
        &self,
        follows: impl Fn(&str, &Attachment) -> bool,
    ) -> String {
        let without = Self { attachments: Attachments::new(), ..self.clone() }.to_json();
        if self.attachments.is_empty() {
            return without;
        }
        let mut out = without.strip_suffix('}').unwrap_or(&without).to_owned();
        out.push_str(",\"_attachments\":{");
        for (index, (name, attachment)) in self.attachments.iter().enumerate() {
            out.push_str(if index > 0 { "," } else { "" });
            json::push_string(&mut out, name);
            out.push(':');
            if follows(name, attachment) {
                push_following(&mut out, attachment);
            } else {
                push_attachment(&mut out, attachment);
            }
        }
        out.push_str("}}");
        out
    }
}

/// Ends a document that has a member already.
fn push_body_and_end(out: &mut String, body: &Body) {
    if !body.inner().is_empty() {
        out.push(',');
        out.push_str(body.inner());
    }
    out.push('}');
}

fn push_rev(out: &mut String, rev: &Rev) {
    if rev.hash().packed().is_ok() {
        out.push('"');
        rev.push_to(out);
        out.push('"');
    } else {
        json::push_string(out, &rev.to_string());
    }
}

fn push_revisions(out: &mut String, path: &RevPath) {
    use std::fmt::Write as _;
    let _ = write!(out, ",\"_revisions\":{{\"start\":{},\"ids\":[", path.start());
    for (index, hash) in path.hashes().iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        if hash.packed().is_ok() {
            out.push('"');
            hash.push_to(out);
            out.push('"');
        } else {
            json::push_string(out, &hash.to_string());
        }
    }
    out.push_str("]}");
}

fn push_rev_list(out: &mut String, member: &str, revs: &[Rev]) {
    if revs.is_empty() {
        return;
    }
    out.push_str(",\"");
    out.push_str(member);
    out.push_str("\":[");
    for (index, rev) in revs.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_rev(out, rev);
    }
    out.push(']');
}

/// The revision of a local document: `0-N`, where N counts its writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalRev(pub u64);

impl std::fmt::Display for LocalRev {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0-{}", self.0)
    }
}

impl LocalRev {
    /// Reads `0-N`.
    ///
    /// # Errors
    /// [`ParseError::Rev`] for anything else.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let refused = || ParseError::Rev { rev: printable(text) };
        let count = text.strip_prefix("0-").ok_or_else(refused)?;
        let plain = count.len() <= 15
            && (count == "0" || !count.starts_with('0'))
            && count.bytes().all(|b| b.is_ascii_digit());
        if !plain {
            return Err(refused());
        }
        count.parse().map(Self).map_err(|_| refused())
    }
}

/// A `_local/` document: never replicated, no history. Checkpoints live in them.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalDocument {
    /// Its id.
    pub id: LocalId,
    /// In a write: the revision to replace. In a read: the revision read.
    pub rev: Option<LocalRev>,
    /// In a write: whether to remove it.
    pub deleted: bool,
    /// Its members.
    pub body: Body,
}

impl LocalDocument {
    /// CouchDB's JSON of it.
    #[must_use]
    pub fn to_json(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::from("{\"_id\":");
        json::push_string(&mut out, &format!("_local/{}", self.id.as_str()));
        if let Some(rev) = self.rev {
            let _ = write!(out, ",\"_rev\":\"{rev}\"");
        }
        push_body_and_end(&mut out, &self.body);
        out
    }
}

/// A document of either kind, as one element of a bulk write.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyDocument {
    /// A replicated one.
    Doc(Document),
    /// A local one.
    Local(LocalDocument),
    /// One without `_id`: the receiver makes an id and calls [`Unnamed::named`].
    WithoutId(Unnamed),
}

/// A document that has no id yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Unnamed(Document);

impl Unnamed {
    /// The document under an id.
    #[must_use]
    pub fn named(self, id: DocId) -> Document {
        Document { id, ..self.0 }
    }
}

/// `_` members that a read may have added; a write passes over them.
const READ_ONLY_MEMBERS: [&str; 4] =
    ["_conflicts", "_deleted_conflicts", "_revs_info", "_local_seq"];

impl AnyDocument {
    /// Reads a document from JSON. `_` members are checked, everything else is kept as text.
    ///
    /// # Errors
    /// [`ParseError`] with CouchDB's words.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, ParseError> {
        let members = json::object_members(text, limits)?;
        let member = |name: &str| members.iter().find(|m| m.key == name).map(|m| &*m.value);
        let known = ["_id", "_rev", "_revisions", "_deleted", "_attachments"];
        let unknown = members.iter().map(|m| &*m.key).find(|name| {
            is_reserved(name) && !known.contains(name) && !READ_ONLY_MEMBERS.contains(name)
        });
        if let Some(name) = unknown {
            return Err(ParseError::SpecialMember { name: printable(name) });
        }
        let id = member("_id").map(|text| parse_id(text, limits)).transpose()?;
        let deleted = member("_deleted").map(parse_deleted).transpose()?.unwrap_or(false);
        let rev = member("_rev").map(parse_rev_text).transpose()?;
        let own = |m: &&Member<'_>| !is_reserved(&m.key);
        let body = Body::from_members(members.iter().filter(own), text.len(), limits)?;
        if let Some(AnyId::Local(id)) = id {
            let rev = rev.as_deref().map(LocalRev::parse).transpose()?;
            return Ok(Self::Local(LocalDocument { id, rev, deleted, body }));
        }
        let rev = rev.as_deref().map(Rev::parse).transpose()?;
        let revisions = member("_revisions").map(parse_revisions).transpose()?;
        if let (Some(rev), Some(path)) = (&rev, &revisions)
            && *rev != path.leaf()
        {
            let problem = "it does not begin with _rev";
            return Err(ParseError::SpecialValue { member: "_revisions", problem });
        }
        let rev = rev.or_else(|| revisions.as_ref().map(RevPath::leaf));
        let attachments = member("_attachments").map(|text| parse_attachments(text, limits));
        let attachments = attachments.transpose()?.unwrap_or_default();
        let document = |id| Document {
            id,
            rev,
            revisions,
            deleted,
            body,
            attachments,
            extra: ReadExtra::default(),
        };
        Ok(match id {
            Some(AnyId::Doc(id)) => Self::Doc(document(id)),
            _ => Self::WithoutId(Unnamed(document(DocId::from_stored("")))),
        })
    }
}

fn parse_id(text: &str, limits: &Limits) -> Result<AnyId, ParseError> {
    let id: String = serde_json::from_str(text).map_err(|_| ParseError::DocIdNotString)?;
    AnyId::parse(&id, limits.doc_id_bytes_max)
}

fn parse_deleted(text: &str) -> Result<bool, ParseError> {
    let problem = "it must be true or false";
    serde_json::from_str(text).map_err(|_| ParseError::SpecialValue { member: "_deleted", problem })
}

fn parse_rev_text(text: &str) -> Result<String, ParseError> {
    serde_json::from_str(text).map_err(|_| ParseError::Rev { rev: printable(text) })
}

#[derive(serde::Deserialize)]
struct RevisionsJson {
    start: u64,
    ids: Vec<String>,
}

fn parse_revisions(text: &str) -> Result<RevPath, ParseError> {
    let problem = "it must be {\"start\": NUMBER, \"ids\": [HASH, ...]}";
    let told: RevisionsJson = serde_json::from_str(text)
        .map_err(|_| ParseError::SpecialValue { member: "_revisions", problem })?;
    let hashes: Result<Vec<RevHash>, ParseError> =
        told.ids.iter().map(|hash| RevHash::parse(hash)).collect();
    RevPath::new(told.start, hashes?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AnyDocument, ParseError> {
        AnyDocument::parse(text, &Limits::default())
    }

    #[test]
    fn prints_what_it_read() {
        for text in [
            r#"{"_id":"a"}"#,
            r#"{"_id":"a","_rev":"1-x","n":1.0}"#,
            r#"{"_id":"a","_rev":"3-\"x","_deleted":true,"_revisions":{"start":3,"ids":["\"x","b","967a00dff5e02add41819138abb3284d"]},"é":[1e400]}"#,
            r#"{"_id":"_design/x","_attachments":{"f":{"content_type":"a/b","revpos":1,"digest":"md5-SfaKXIST7CwL9ImCHCH8Ow==","length":2,"stub":true}},"v":{}}"#,
        ] {
            assert_eq!(Document::parse(text, &Limits::default()).expect(text).to_json(), text);
        }
    }

    #[test]
    fn reserved_members_are_checked() {
        for (text, part) in [
            (r#"{"_id":1}"#, "must be a string"),
            (r#"{"_id":""}"#, "empty"),
            (r#"{"_id":"_x"}"#, "underscore"),
            (r#"{"_id":"a","_foo":1}"#, "Bad special document member: _foo"),
            (r#"{"_id":"a","_deleted":1}"#, "_deleted"),
            (r#"{"_id":"a","_rev":1}"#, "Invalid rev format"),
            (r#"{"_id":"a","_rev":"x"}"#, "Invalid rev format"),
            (r#"{"_id":"a","_rev":"2-b","_revisions":{"start":2,"ids":["c"]}}"#, "does not begin"),
            (r#"{"_id":"a","_revisions":{"start":1,"ids":["b","a"]}}"#, "smaller"),
            (r#"{"_id":"a","_revisions":{"start":1}}"#, "_revisions"),
            (r#"{"_id":"_local/a","_rev":"1-x"}"#, "Invalid rev"),
            (r#"{"_id":"_local/a","_rev":"0-"}"#, "Invalid rev"),
            (r#"{"_id":"_local/a","_rev":"0-01"}"#, "Invalid rev"),
            (r#"{"_id":"a","_attachments":[]}"#, "_attachments"),
            ("[]", "must be a JSON object"),
            ("{", "invalid UTF-8 JSON"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn what_a_read_added_is_passed_over() {
        let text = r#"{"_id":"a","_conflicts":["1-x"],"_deleted":false,"_local_seq":3,"_revs_info":[],"n":1}"#;
        let read = Document::parse(text, &Limits::default()).unwrap();
        assert_eq!(read.to_json(), r#"{"_id":"a","n":1}"#);
    }

    #[test]
    fn a_repeated_reserved_member_counts_once() {
        let text = r#"{"_id":"a","_id":"b","x":1,"x":2}"#;
        assert_eq!(
            Document::parse(text, &Limits::default()).unwrap().to_json(),
            r#"{"_id":"b","x":2}"#
        );
    }

    #[test]
    fn kinds_are_told_apart() {
        assert!(matches!(parse(r#"{"a":1}"#), Ok(AnyDocument::WithoutId(_))));
        let Ok(AnyDocument::Local(local)) = parse(r#"{"_id":"_local/c","_rev":"0-7","h":[]}"#)
        else {
            panic!()
        };
        assert_eq!(local.to_json(), r#"{"_id":"_local/c","_rev":"0-7","h":[]}"#);
        assert!(Document::parse(r#"{"_id":"_local/c"}"#, &Limits::default()).is_err());
        assert!(Document::parse("{}", &Limits::default()).is_err());
    }
}
