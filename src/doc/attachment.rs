//! Attachments: what a document's record holds of them, and how they look in JSON.
//!
//! The wire names an attachment by its MD5 digest (`md5-` and base64), as CouchDB and PouchDB do. On
//! disk its bytes are found by their SHA-256, since nobody must be able to make two different
//! contents that share a name there.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use serde::Deserialize;
use sha2::Sha256;

use super::error::{ParseError, printable};
use super::json;
use super::varint::{self, Reader};
use crate::limits::Limits;

/// An MD5 digest of an attachment's bytes, written `md5-BASE64`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentDigest([u8; 16]);

impl AttachmentDigest {
    /// Reads `md5-BASE64`.
    ///
    /// # Errors
    /// [`ParseError::Digest`] for any other text.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let encoded = text.strip_prefix("md5-").ok_or(ParseError::Digest)?;
        let bytes = BASE64.decode(encoded).map_err(|_| ParseError::Digest)?;
        Ok(Self(bytes.try_into().map_err(|_| ParseError::Digest)?))
    }
}

impl fmt::Display for AttachmentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "md5-{}", BASE64.encode(self.0))
    }
}

impl fmt::Debug for AttachmentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The SHA-256 of an attachment's bytes: their name within one database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey([u8; 32]);

impl BlobKey {
    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The name that these 32 bytes are.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The name that [`Display`](fmt::Display) writes; `None` for any other text.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
        if pairs.len() != bytes.len() {
            return None;
        }
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Attachment bytes that a database holds: their names and their length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRef {
    /// Where the bytes are stored.
    pub key: BlobKey,
    /// What the wire calls them.
    pub digest: AttachmentDigest,
    /// How many there are.
    pub length: u64,
}

/// Both digests and the length of bytes that pass by in pieces.
#[derive(Clone, Default)]
pub struct BlobHasher {
    md5: Md5,
    sha256: Sha256,
    length: u64,
}

impl BlobHasher {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.md5.update(piece);
        self.sha256.update(piece);
        self.length += piece.len() as u64;
    }

    /// Bytes seen so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The names of all that passed.
    #[must_use]
    pub fn finish(self) -> BlobRef {
        BlobRef {
            key: BlobKey(self.sha256.finalize().into()),
            digest: AttachmentDigest(self.md5.finalize().into()),
            length: self.length,
        }
    }

    /// The names of bytes at hand.
    #[must_use]
    pub fn of(bytes: &[u8]) -> BlobRef {
        let mut hasher = Self::default();
        hasher.update(bytes);
        hasher.finish()
    }
}

/// Where an attachment's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachmentData {
    /// Not here: what the document's earlier revision, or an upload, has under this name or digest.
    Stub {
        /// The digest, where the sender told it.
        digest: Option<AttachmentDigest>,
        /// The length in bytes, where the sender told it.
        length: Option<u64>,
    },
    /// In this document.
    Inline(Bytes),
    /// In the database that this document was read from or is written to.
    Stored(BlobRef),
}

/// One attachment of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its media type.
    pub content_type: String,
    /// The generation in which it was added; 0 where the sender did not tell.
    pub revpos: u64,
    /// Its bytes, or where to find them.
    pub data: AttachmentData,
}

impl Attachment {
    /// An attachment with its bytes.
    #[must_use]
    pub fn inline(content_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self {
            content_type: content_type.into(),
            revpos: 0,
            data: AttachmentData::Inline(bytes.into()),
        }
    }

    /// The digest, where it is known without reading the bytes.
    #[must_use]
    pub fn digest(&self) -> Option<AttachmentDigest> {
        match &self.data {
            AttachmentData::Stub { digest, .. } => *digest,
            AttachmentData::Inline(bytes) => Some(BlobHasher::of(bytes).digest),
            AttachmentData::Stored(blob) => Some(blob.digest),
        }
    }

    /// The length in bytes, where it is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match &self.data {
            AttachmentData::Stub { length, .. } => *length,
            AttachmentData::Inline(bytes) => Some(bytes.len() as u64),
            AttachmentData::Stored(blob) => Some(blob.length),
        }
    }
}

/// The attachments of a document by name.
pub type Attachments = BTreeMap<String, Attachment>;

#[derive(Deserialize)]
struct AttachmentJson {
    content_type: Option<String>,
    revpos: Option<u64>,
    digest: Option<String>,
    length: Option<u64>,
    #[serde(default)]
    stub: bool,
    #[serde(default)]
    follows: bool,
    data: Option<String>,
}

/// Reads the value of `_attachments`.
pub(crate) fn parse_attachments(text: &str, limits: &Limits) -> Result<Attachments, ParseError> {
    let members = json::object_members(text, limits).map_err(|_| ParseError::SpecialValue {
        member: "_attachments",
        problem: "it must be an object of attachments",
    })?;
    if members.len() > limits.attachments_per_doc_max {
        return Err(ParseError::SpecialValue {
            member: "_attachments",
            problem: "there are more attachments than are allowed",
        });
    }
    let one = |member: json::Member<'_>| {
        let name = member.key.into_owned();
        match parse_attachment(&name, &member.value, limits) {
            Ok(attachment) => Ok((name, attachment)),
            Err(STUB_DIGEST) => Err(ParseError::StubDigest { name: printable(&name) }),
            Err(problem) => Err(ParseError::Attachment { name: printable(&name), problem }),
        }
    };
    members.into_iter().map(one).collect()
}

const STUB_DIGEST: &str = "its digest must be md5-BASE64";

fn parse_attachment(name: &str, text: &str, limits: &Limits) -> Result<Attachment, &'static str> {
    if name.is_empty() || name.starts_with('_') {
        return Err("its name must not be empty or start with an underscore");
    }
    let told: AttachmentJson = serde_json::from_str(text)
        .map_err(|_| "it must be an object with content_type and data, stub or follows")?;
    let data = match told.data {
        // Bytes that are here have the digest they have, whatever is told of it.
        Some(encoded) => {
            let bytes = BASE64.decode(encoded).map_err(|_| "its data must be base64")?;
            if bytes.len() as u64 > limits.attachment_bytes_max {
                return Err("it is larger than an attachment may be");
            }
            AttachmentData::Inline(bytes.into())
        }
        None if told.stub || told.follows => {
            let digest = told.digest.map(|text| AttachmentDigest::parse(&text));
            let digest = digest.transpose().map_err(|_| STUB_DIGEST)?;
            AttachmentData::Stub { digest, length: told.length }
        }
        None => return Err("it has neither data nor stub nor follows"),
    };
    Ok(Attachment {
        content_type: told.content_type.unwrap_or_else(|| "application/octet-stream".into()),
        revpos: told.revpos.unwrap_or(0),
        data,
    })
}

/// Appends the value of `_attachments`.
pub(crate) fn push_attachments(out: &mut String, attachments: &Attachments) {
    out.push('{');
    for (index, (name, attachment)) in attachments.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        json::push_string(out, name);
        out.push(':');
        push_attachment(out, attachment);
    }
    out.push('}');
}

/// Appends one attachment: with its bytes if they are here, else as a stub.
pub(crate) fn push_attachment(out: &mut String, attachment: &Attachment) {
    use fmt::Write as _;
    push_told(out, attachment, attachment.digest());
    if let AttachmentData::Inline(bytes) = &attachment.data {
        let _ = write!(out, ",\"data\":\"{}\"", BASE64.encode(bytes));
    } else {
        if let Some(length) = attachment.length() {
            let _ = write!(out, ",\"length\":{length}");
        }
        out.push_str(",\"stub\":true");
    }
    out.push('}');
}

/// Appends one attachment whose bytes follow the document.
#[cfg(feature = "http-peer")]
pub(crate) fn push_following(out: &mut String, attachment: &Attachment) {
    use fmt::Write as _;
    // What another store tells may be the digest of compressed bytes, which are not what follows.
    let known = !matches!(attachment.data, AttachmentData::Stub { .. });
    push_told(out, attachment, attachment.digest().filter(|_| known));
    let length = attachment.length().unwrap_or_default();
    let _ = write!(out, ",\"length\":{length},\"follows\":true}}");
}

/// Appends what is told of every attachment, from the brace that opens it.
fn push_told(out: &mut String, attachment: &Attachment, digest: Option<AttachmentDigest>) {
    use fmt::Write as _;
    out.push_str("{\"content_type\":");
    json::push_string(out, &attachment.content_type);
    if attachment.revpos > 0 {
        let _ = write!(out, ",\"revpos\":{}", attachment.revpos);
    }
    if let Some(digest) = digest {
        let _ = write!(out, ",\"digest\":\"{digest}\"");
    }
}

/// One attachment in a stored body record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAttachment {
    /// Its name.
    pub name: String,
    /// Its media type.
    pub content_type: String,
    /// The generation in which it was added.
    pub revpos: u64,
    /// Its bytes.
    pub blob: BlobRef,
}

impl StoredAttachment {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        varint::push_bytes(out, self.name.as_bytes());
        varint::push_bytes(out, self.content_type.as_bytes());
        varint::push(out, self.revpos);
        out.extend_from_slice(&self.blob.key.0);
        out.extend_from_slice(&self.blob.digest.0);
        varint::push(out, self.blob.length);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            name: reader.text()?.to_owned(),
            content_type: reader.text()?.to_owned(),
            revpos: reader.varint()?,
            blob: BlobRef {
                key: BlobKey(reader.array()?),
                digest: AttachmentDigest(reader.array()?),
                length: reader.varint()?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_that_of_couchdb_and_pouchdb() {
        let blob = BlobHasher::of(b"hi");
        assert_eq!(blob.digest.to_string(), "md5-SfaKXIST7CwL9ImCHCH8Ow==");
        assert_eq!(AttachmentDigest::parse("md5-SfaKXIST7CwL9ImCHCH8Ow=="), Ok(blob.digest));
        for bad in
            ["", "md5-", "md5-xx", "sha1-SfaKXIST7CwL9ImCHCH8Ow==", "md5-SfaKXIST7CwL9ImCHCH8"]
        {
            assert_eq!(AttachmentDigest::parse(bad), Err(ParseError::Digest), "{bad}");
        }
    }

    #[test]
    fn json_round_trips() {
        let limits = Limits::default();
        let text = r#"{"a.txt":{"content_type":"text/plain","revpos":2,"digest":"md5-SfaKXIST7CwL9ImCHCH8Ow==","length":2,"stub":true},"b":{"content_type":"x/y","data":"aGk="}}"#;
        let parsed = parse_attachments(text, &limits).unwrap();
        let mut printed = String::new();
        push_attachments(&mut printed, &parsed);
        assert_eq!(
            printed,
            r#"{"a.txt":{"content_type":"text/plain","revpos":2,"digest":"md5-SfaKXIST7CwL9ImCHCH8Ow==","length":2,"stub":true},"b":{"content_type":"x/y","digest":"md5-SfaKXIST7CwL9ImCHCH8Ow==","data":"aGk="}}"#
        );
        for bad in [
            "[]",
            "1",
            r#"{"a":1}"#,
            r#"{"a":{}}"#,
            r#"{"_a":{"stub":true}}"#,
            r#"{"":{"stub":true}}"#,
            r#"{"a":{"data":"%"}}"#,
            r#"{"a":{"stub":true,"digest":"x"}}"#,
            r#"{"a":{"data":7}}"#,
            r#"{"a":{"stub":true,"length":-1}}"#,
        ] {
            assert!(parse_attachments(bad, &limits).is_err(), "{bad}");
        }
    }
}
