//! A document's own content: JSON text without the reserved `_` members.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::attachment::{AttachmentData, Attachments, BlobHasher, StoredAttachment};
use super::canonical::push_canonical;
use super::error::{ParseError, printable};
use super::json::{self, Member};
use super::rev::{Rev, RevHash};
use super::varint::{self, Reader};
use crate::limits::Limits;

/// A JSON object's text, as its writer wrote it: numbers keep every digit, unknown members stay.
///
/// Names that begin with `_` never occur in it at the top, save `_replication_…`, which CouchDB
/// lets pass.
#[derive(Clone, PartialEq, Eq)]
pub struct Body(Arc<str>);

impl Body {
    /// `{}`.
    #[must_use]
    pub fn empty() -> Self {
        Self("{}".into())
    }

    /// Checks an object that must have no reserved member.
    ///
    /// # Errors
    /// [`ParseError`] for text that is no JSON object, is over a bound, or has a member that begins
    /// with `_`.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, ParseError> {
        let members = json::object_members(text, limits)?;
        if let Some(member) = members.iter().find(|m| is_reserved(&m.key)) {
            return Err(ParseError::SpecialMember { name: printable(&member.key) });
        }
        Self::from_members(members.iter(), text.len(), limits)
    }

    /// The JSON form of a value that serialises to an object.
    ///
    /// # Errors
    /// As [`Body::parse`]; a value that does not serialise counts as no object.
    pub fn from_value<T: Serialize + ?Sized>(value: &T) -> Result<Self, ParseError> {
        let text = serde_json::to_string(value).map_err(|_| ParseError::NotAnObject)?;
        Self::parse(&text, &Limits::default())
    }

    pub(crate) fn from_members<'m, 'a: 'm>(
        members: impl Iterator<Item = &'m Member<'a>>,
        bytes: usize,
        limits: &Limits,
    ) -> Result<Self, ParseError> {
        let mut text = String::with_capacity(bytes + 2);
        text.push('{');
        for member in members {
            if text.len() > 1 {
                text.push(',');
            }
            json::push_string(&mut text, &member.key);
            text.push(':');
            text.push_str(&member.value);
        }
        text.push('}');
        if text.len() > limits.doc_bytes_max {
            return Err(ParseError::TooLarge { bytes: text.len(), max: limits.doc_bytes_max });
        }
        Ok(Self(text.into()))
    }

    /// Takes text that was checked before it was stored.
    pub(crate) fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The members as they stand between the braces; empty for `{}`.
    pub(crate) fn inner(&self) -> &str {
        self.0.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or_default()
    }

    /// Reads the body into a type of the caller's.
    ///
    /// # Errors
    /// serde's, when the body has another shape.
    pub fn to<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(&self.0)
    }
}

impl fmt::Debug for Body {
    /// Shows the size only: bodies do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.0.len())
    }
}

/// Whether a top-level name is the database's, not the document's.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with('_') && !name.starts_with("_replication_")
}

/// What is stored for one revision: its attachments and its text.
///
/// A varint count of attachments, the attachments, then the text to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyRecord {
    /// Attachments by name.
    pub attachments: Vec<StoredAttachment>,
    /// The body.
    pub body: Body,
}

impl BodyRecord {
    /// The bytes to store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.0.len() + 1);
        varint::push(&mut out, self.attachments.len() as u64);
        for attachment in &self.attachments {
            attachment.encode(&mut out);
        }
        out.extend_from_slice(self.body.0.as_bytes());
        out
    }

    /// How many bytes [`BodyRecord::encode`] makes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        if self.attachments.is_empty() { 1 + self.body.0.len() } else { self.encode().len() }
    }

    /// [`BodyRecord::encoded_len`] as the state of its revision has it
    /// ([`RevState::body_bytes`](super::RevState::body_bytes)).
    #[must_use]
    pub fn body_bytes(&self) -> Option<u32> {
        u32::try_from(self.encoded_len()).ok()
    }

    /// Reads stored bytes; `None` if they are damaged.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let count = reader.varint()?;
        let mut attachments = Vec::new();
        for _ in 0..count {
            attachments.push(StoredAttachment::decode(&mut reader)?);
        }
        let text = std::str::from_utf8(reader.0).ok()?;
        (text.starts_with('{') && text.ends_with('}'))
            .then(|| Self { attachments, body: Body::from_stored(text) })
    }
}

/// The revision that an edit makes: its parent's generation plus one, and a digest of the content.
///
/// The digest is the first 16 bytes of the SHA-256 over the parent's text, the deleted flag, each
/// attachment's name, type and MD5 digest, and the canonical text of the body (see
/// [`push_canonical`]). The same edit on the same parent is therefore one revision, on
/// whatever replica and however often it is made.
///
/// # Errors
/// [`ParseError::Rev`] when the parent has the highest generation there is.
pub(crate) fn next_rev(
    parent: Option<&Rev>,
    deleted: bool,
    attachments: &Attachments,
    body: &Body,
) -> Result<Rev, ParseError> {
    let mut text = String::with_capacity(body.0.len() + 64);
    if let Some(parent) = parent {
        parent.push_to(&mut text);
    }
    text.push_str(if deleted { "\nd\n" } else { "\n\n" });
    for (name, attachment) in attachments {
        json::push_string(&mut text, name);
        json::push_string(&mut text, &attachment.content_type);
        if let Some(digest) = attachment.digest() {
            text.push_str(&digest.to_string());
        }
        text.push('\n');
    }
    push_canonical(&mut text, &body.0);
    let digest = BlobHasher::of(text.as_bytes()).key;
    let (hash, _) = digest.as_bytes().split_first_chunk().expect("32 bytes hold 16");
    Rev::new(parent.map_or(0, Rev::generation) + 1, RevHash::from_digest(*hash))
}

/// Attachments as a document shows them: by name, with their place in the database.
pub(crate) fn shown_attachments(stored: &[StoredAttachment]) -> Attachments {
    let shown = |a: &StoredAttachment| {
        let data = AttachmentData::Stored(a.blob);
        let attachment =
            super::Attachment { content_type: a.content_type.clone(), revpos: a.revpos, data };
        (a.name.clone(), attachment)
    };
    stored.iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::Attachment;

    fn body(text: &str) -> Body {
        Body::parse(text, &Limits::default()).expect(text)
    }

    #[test]
    fn text_stays_as_written() {
        let text = r#"{"big":11037754778148512814851267060610,"f":1.10,"s":"\u00e9","o":{ "k" : [1 ,2] }}"#;
        assert_eq!(body(text).as_str(), text);
        assert_eq!(body("{ }").as_str(), "{}");
        assert_eq!(body(r#"{"_replication_state":1}"#).as_str(), r#"{"_replication_state":1}"#);
        assert!(matches!(
            Body::parse(r#"{"_x":1}"#, &Limits::default()),
            Err(ParseError::SpecialMember { .. })
        ));
    }

    #[test]
    fn records_round_trip_and_damage_is_seen() {
        let record = BodyRecord {
            attachments: vec![StoredAttachment {
                name: "a".into(),
                content_type: "text/plain".into(),
                revpos: 3,
                blob: BlobHasher::of(b"hi"),
            }],
            body: body(r#"{"a":1}"#),
        };
        let bytes = record.encode();
        assert_eq!(BodyRecord::decode(&bytes), Some(record));
        for cut in 0..bytes.len() {
            assert_eq!(BodyRecord::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn the_same_edit_is_the_same_revision() {
        let rev = |parent: Option<&str>, deleted, text: &str| {
            let parent = parent.map(|p| Rev::parse(p).unwrap());
            next_rev(parent.as_ref(), deleted, &Attachments::new(), &body(text))
                .unwrap()
                .to_string()
        };
        let first = rev(None, false, r#"{"a":1,"b":"x"}"#);
        assert_eq!(first, rev(None, false, r#"{ "b":"\u0078", "a":1 }"#));
        assert!(first.starts_with("1-"));
        for other in [
            rev(None, false, r#"{"a":1.0,"b":"x"}"#),
            rev(None, true, r#"{"a":1,"b":"x"}"#),
            rev(Some("1-a"), false, r#"{"a":1,"b":"x"}"#),
        ] {
            assert_ne!(first, other);
        }
        let with = |content_type: &str, bytes: &'static [u8]| {
            let attachments = [("f".to_owned(), Attachment::inline(content_type, bytes))].into();
            next_rev(None, false, &attachments, &Body::empty()).unwrap()
        };
        assert_eq!(with("a/b", b"x"), with("a/b", b"x"));
        assert_ne!(with("a/b", b"x"), with("a/c", b"x"));
        assert_ne!(with("a/b", b"x"), with("a/b", b"y"));
        let last = Rev::parse("9007199254740991-x").unwrap();
        assert!(next_rev(Some(&last), false, &Attachments::new(), &Body::empty()).is_err());
    }
}
