//! Bodies in parts (RFC 2046 section 5.1), both ways, as CouchDB's replicator sends and takes them:
//! a document, then its attachments, each streamed.

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::header::CONTENT_TYPE;
use memchr::memmem;
use serde_json::{Value, json};

use crate::doc::json::object_members;
use crate::doc::{AttachmentData, AttachmentDigest, BlobHasher, Document};
use crate::limits::Limits;
use crate::proto::message::WireError;
use crate::server::error::{HttpRefusal, Refusal, ToWire as _, bad_request};
use crate::store::{Database, StoreError};

use super::answer::{JSON, Out, Stop};
use super::gzip::Gunzip;
use super::request::{Pieces, Request};
use super::shown::{self, write_document};

pub(super) const RELATED: &str = "multipart/related";
pub(super) const MIXED: &str = "multipart/mixed";

/// Bytes of the headers of one part.
const PART_HEADER_BYTES_MAX: usize = 8 * 1024;

/// A boundary that no content can hold but by guessing 128 bits.
pub(super) fn boundary() -> String {
    let random = crate::store::Uuid::random();
    random.expect("the system has randomness once it has booted").to_string()
}

/// The headers of one part.
pub(super) struct Part {
    pub file_name: Option<String>,
    gzip: bool,
}

/// A body in parts, read piece by piece.
pub(super) struct Parts {
    source: Pieces,
    buffer: BytesMut,
    /// Line break, dashes and boundary.
    delimiter: Vec<u8>,
    /// Whether the current part has been read to its end.
    between: bool,
    ended: bool,
}

impl Parts {
    pub(super) fn of(request: &mut Request) -> Result<Self, WireError> {
        let bad = || HttpRefusal::BadMultipart.to_wire();
        let content_type = request.header(&CONTENT_TYPE)?.ok_or_else(bad)?;
        let boundary = parameter(content_type, "boundary").ok_or_else(bad)?;
        if boundary.is_empty() || boundary.len() > 200 {
            return Err(bad());
        }
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first delimiter needs no line break before it.
        let buffer = BytesMut::from(&b"\r\n"[..]);
        let source = request.take_body();
        Ok(Self { source, buffer, delimiter, between: false, ended: false })
    }

    /// The first part, which is the document's JSON; `hold` takes room in memory for so many bytes.
    pub(super) async fn document(
        &mut self,
        bytes_max: usize,
        mut hold: impl FnMut(usize) -> Result<(), WireError>,
    ) -> Result<String, WireError> {
        let bad = || HttpRefusal::BadMultipart.to_wire();
        // What stands before the first delimiter is nobody's.
        while self.next_piece().await?.is_some() {}
        self.next_part().await?.ok_or_else(bad)?;
        let mut text = Vec::new();
        while let Some(piece) = self.next_piece().await? {
            if text.len() + piece.len() > bytes_max {
                return Err(HttpRefusal::BodyTooLarge { max: bytes_max }.to_wire());
            }
            hold(text.len() + piece.len())?;
            text.extend_from_slice(&piece);
        }
        String::from_utf8(text).map_err(|_| HttpRefusal::InvalidJson.to_wire())
    }

    /// The next part, after what is left of this one.
    pub(super) async fn next_part(&mut self) -> Result<Option<Part>, WireError> {
        while !self.between && self.next_piece().await?.is_some() {}
        if self.ended {
            return Ok(None);
        }
        self.between = false;
        while self.buffer.len() < 2 {
            self.fill().await?;
        }
        if self.buffer.starts_with(b"--") {
            self.ended = true;
            // What follows the last delimiter is nobody's, but the client must be rid of it.
            while self.source.next().await.transpose()?.is_some() {}
            return Ok(None);
        }
        let head = self.head().await?;
        let header = |wanted: &str| {
            head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
            })
        };
        let disposition = header("content-disposition");
        let file_name = disposition.as_deref().and_then(|value| parameter(value, "filename"));
        let gzip = match header("content-encoding") {
            None => false,
            Some(encoding) if encoding.eq_ignore_ascii_case("identity") => false,
            Some(encoding) if encoding.eq_ignore_ascii_case("gzip") => true,
            Some(_) => return Err(HttpRefusal::ContentEncoding.to_wire()),
        };
        Ok(Some(Part { file_name, gzip }))
    }

    /// The lines between a delimiter and the part's content.
    async fn head(&mut self) -> Result<String, WireError> {
        loop {
            // The delimiter's own line end, and an empty line.
            let end = memmem::find(&self.buffer, b"\r\n\r\n");
            if let Some(end) = end {
                let head = self.buffer.split_to(end + 4);
                let head = String::from_utf8(head.to_vec());
                return head.map_err(|_| HttpRefusal::BadMultipart.to_wire());
            }
            if self.buffer.len() > PART_HEADER_BYTES_MAX {
                return Err(HttpRefusal::BadMultipart.to_wire());
            }
            self.fill().await?;
        }
    }

    /// The next bytes of the current part.
    async fn next_piece(&mut self) -> Result<Option<Bytes>, WireError> {
        if self.between || self.ended {
            return Ok(None);
        }
        loop {
            if let Some(end) = memmem::find(&self.buffer, &self.delimiter) {
                if end > 0 {
                    return Ok(Some(self.buffer.split_to(end).freeze()));
                }
                let _ = self.buffer.split_to(self.delimiter.len());
                self.between = true;
                return Ok(None);
            }
            // The end of what is here may be the beginning of a delimiter.
            let sure = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
            if sure > 0 {
                return Ok(Some(self.buffer.split_to(sure).freeze()));
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), WireError> {
        match self.source.next().await.transpose()? {
            Some(piece) => {
                self.buffer.extend_from_slice(&piece);
                Ok(())
            }
            None => Err(HttpRefusal::BadMultipart.to_wire()),
        }
    }

    /// Takes the current part's bytes into a database.
    pub(super) async fn stage(
        &mut self,
        database: &Database,
        part: &Part,
    ) -> Result<AttachmentData, WireError> {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, WireError>>(1);
        let pieces = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece| (piece, receiver))
        });
        let pieces: Pieces =
            if part.gzip { Box::pin(Gunzip::pieces(pieces)) } else { Box::pin(pieces) };
        let reading = async move {
            while let Some(piece) = self.next_piece().await? {
                if sender.send(Ok(piece)).await.is_err() {
                    // The database takes no more, and says why.
                    break;
                }
            }
            Ok(())
        };
        let (read, staged) = tokio::join!(reading, stage(database, pieces));
        read?;
        staged
    }
}

/// Takes bytes into a database; what the body failed with is told as it was.
pub(super) async fn stage(
    database: &Database,
    pieces: Pieces,
) -> Result<AttachmentData, WireError> {
    let failed = std::sync::Mutex::new(None);
    let bytes = pieces.map(|piece| {
        piece.map_err(|error| {
            *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            StoreError::Closed
        })
    });
    let staged = database.stage_attachment(bytes).await;
    let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    staged.map_err(|error| failed.unwrap_or_else(|| error.to_wire()))
}

/// The attachments of a document whose bytes are parts, in the document's order.
pub(super) struct Following(Vec<Follower>);

struct Follower {
    name: String,
    told: Told,
}

/// What the document tells of the bytes that follow. Those of compressed ones are told of the
/// compressed bytes, which nobody here keeps.
#[derive(Default, serde::Deserialize)]
struct Told {
    #[serde(default)]
    follows: bool,
    length: Option<u64>,
    digest: Option<String>,
    encoding: Option<String>,
}

impl Following {
    pub(super) fn find(text: &str, limits: &Limits) -> Result<Self, WireError> {
        let members = object_members(text, limits).map_err(|error| error.to_wire())?;
        let Some(all) = members.iter().find(|member| member.key == "_attachments") else {
            return Ok(Self(Vec::new()));
        };
        let all = object_members(&all.value, limits).map_err(|error| error.to_wire())?;
        let follower = |member: crate::doc::json::Member<'_>| {
            let told: Told = serde_json::from_str(&member.value).unwrap_or_default();
            told.follows.then(|| Follower { name: member.key.into_owned(), told })
        };
        Ok(Self(all.into_iter().filter_map(follower).collect()))
    }

    /// The attachment that a part is: the one of its name, or the next.
    pub(super) fn take(&mut self, part: &Part) -> Result<String, WireError> {
        let named = part.file_name.as_ref();
        let by_name = self.0.iter().position(|follower| Some(&follower.name) == named);
        let place = by_name.unwrap_or(0);
        if self.0.is_empty() {
            return Err(bad_request("there are more parts than attachments that follow"));
        }
        // Kept at the end until its bytes have been compared with what was told.
        let follower = self.0.remove(place);
        let name = follower.name.clone();
        self.0.push(follower);
        Ok(name)
    }

    /// Compares bytes with what the document told of them.
    pub(super) fn check(&mut self, name: &str, data: &AttachmentData) -> Result<(), WireError> {
        let told = match self.0.pop() {
            Some(follower) if follower.name == name => follower.told,
            _ => return Ok(()),
        };
        if told.encoding.is_some() {
            return Ok(());
        }
        let blob = match data {
            AttachmentData::Inline(bytes) => BlobHasher::of(bytes),
            AttachmentData::Stored(blob) => *blob,
            AttachmentData::Stub { .. } => return Ok(()),
        };
        let digest = told.digest.as_deref().and_then(|text| AttachmentDigest::parse(text).ok());
        let other = told.length.is_some_and(|length| length != blob.length)
            || digest.is_some_and(|digest| digest != blob.digest);
        if other { Err(Refusal::UploadMismatch.to_wire()) } else { Ok(()) }
    }

    pub(super) fn check_none_left(&self) -> Result<(), WireError> {
        match self.0.first() {
            None => Ok(()),
            Some(left) => Err(bad_request(format!(
                "the attachment {:?} follows, and there is no part for it",
                crate::doc::printable(&left.name)
            ))),
        }
    }
}

/// A parameter of a header's value, quoted or not.
fn parameter(value: &str, name: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (found, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (content, next) = if let Some(quoted) = after.strip_prefix('"') {
            let mut content = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next()? {
                    (_, '\\') => content.push(chars.next()?.1),
                    (at, '"') => break at,
                    (_, c) => content.push(c),
                }
            };
            (content, quoted[end + 1..].split_once(';').map_or("", |(_, next)| next))
        } else {
            let (content, next) = after.split_once(';').unwrap_or((after, ""));
            (content.trim().to_owned(), next)
        };
        if found.trim().eq_ignore_ascii_case(name) {
            return Some(content);
        }
        rest = next;
    }
}

/// Writes a document and the attachments whose bytes are asked for, a part each.
pub(super) async fn write_related(
    out: &mut Out,
    database: &Database,
    document: Document,
    bytes: shown::Bytes,
    boundary: &str,
) -> Result<(), Stop> {
    let following: Vec<_> = document
        .attachments
        .iter()
        .filter(|(_, attachment)| bytes.includes(attachment))
        .map(|(name, attachment)| (name.clone(), attachment.clone()))
        .collect();
    out.text(&format!("--{boundary}\r\nContent-Type: {JSON}\r\n\r\n")).await?;
    let text = document.to_json_with_following(|_, attachment| bytes.includes(attachment));
    out.text(&text).await?;
    for (name, attachment) in following {
        let length = attachment.length().unwrap_or_default();
        let content_type = header_text(&attachment.content_type);
        out.text(&format!(
            "\r\n--{boundary}\r\nContent-Disposition: attachment; filename={}\r\n\
             Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n",
            quoted(&name),
        ))
        .await?;
        let mut reader = database.open_attachment(attachment).await?;
        while let Some(piece) = reader.next().await? {
            out.piece(piece).await?;
        }
    }
    out.text(&format!("\r\n--{boundary}--")).await
}

/// Writes one revision as a part of `multipart/mixed`, from its headers on.
pub(super) async fn write_part(
    out: &mut Out,
    database: &Database,
    document: Document,
    bytes: shown::Bytes,
    names: Option<(&str, &str)>,
) -> Result<(), Stop> {
    if !document.attachments.values().any(|attachment| bytes.includes(attachment)) {
        out.text(&format!("Content-Type: {JSON}\r\n\r\n")).await?;
        return write_document(out, database, document, bytes).await;
    }
    if let Some((id, rev)) = names {
        let (id, rev) = (header_text(id), header_text(rev));
        out.text(&format!("X-Doc-Id: {id}\r\nX-Rev-Id: {rev}\r\n")).await?;
    }
    let inner = boundary();
    out.text(&format!("Content-Type: {RELATED}; boundary=\"{inner}\"\r\n\r\n")).await?;
    write_related(out, database, document, bytes, &inner).await
}

pub(super) async fn write_error(out: &mut Out, error: &Value) -> Result<(), Stop> {
    out.text(&format!("Content-Type: {JSON}; error=\"true\"\r\n\r\n{error}")).await
}

/// A text that cannot end its header.
fn header_text(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn quoted(name: &str) -> String {
    // JSON's way to quote escapes quotes and line ends, and is a quoted string otherwise.
    json!(name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(body: &str, cut: usize) -> Parts {
        let pieces: Vec<Result<Bytes, WireError>> =
            body.as_bytes().chunks(cut).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        Parts {
            source: Box::pin(futures::stream::iter(pieces)),
            buffer: BytesMut::from(&b"\r\n"[..]),
            delimiter: b"\r\n--x".to_vec(),
            between: false,
            ended: false,
        }
    }

    async fn rest(parts: &mut Parts) -> Result<Vec<u8>, WireError> {
        let mut all = Vec::new();
        while let Some(piece) = parts.next_piece().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn parts_are_found_however_they_are_cut() {
        let body = "--x\r\nContent-Type: application/json\r\n\r\n{}\r\n--x\r\n\
            Content-Disposition: attachment; filename=\"a \\\"b\\\"\"\r\n\r\n\r\n-\r\n--\r\n--\
            \r\n--x\r\n\r\nbare\r\n--x\r\nA: b\r\n\r\n\r\n--x--\r\nafter";
        for cut in 1..body.len() {
            let mut parts = parts(body, cut);
            assert_eq!(parts.document(100, |_| Ok(())).await.unwrap(), "{}", "{cut}");
            let first = parts.next_part().await.unwrap().unwrap();
            assert_eq!(first.file_name.as_deref(), Some("a \"b\""));
            assert_eq!(rest(&mut parts).await.unwrap(), b"\r\n-\r\n--\r\n--");
            assert!(parts.next_part().await.unwrap().unwrap().file_name.is_none());
            assert_eq!(rest(&mut parts).await.unwrap(), b"bare");
            assert!(parts.next_part().await.unwrap().is_some());
            assert_eq!(rest(&mut parts).await.unwrap(), b"");
            assert!(parts.next_part().await.unwrap().is_none());
            assert!(parts.next_part().await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn a_body_that_ends_early_is_refused() {
        for body in ["", "--x", "--x\r\n", "--x\r\n\r\n{}", "nothing", "--x--"] {
            assert!(parts(body, 3).document(100, |_| Ok(())).await.is_err(), "{body}");
        }
        let long = format!("--x\r\nA: {}", "b".repeat(20_000));
        assert!(parts(&long, 100).document(100, |_| Ok(())).await.is_err());
        assert_eq!(
            parts("--x\r\n\r\n{   }\r\n--x--", 9).document(4, |_| Ok(())).await.unwrap_err().status,
            413
        );
    }

    #[test]
    fn parameters_are_quoted_or_not() {
        for (value, found) in [
            ("multipart/related; boundary=abc", Some("abc")),
            ("multipart/related;type=\"a;b\"; boundary=\"a b\"", Some("a b")),
            ("multipart/related; boundary=\"abc", None),
            ("multipart/related", None),
            ("multipart/related; boundaryx=1; Boundary = y ", Some("y")),
        ] {
            assert_eq!(parameter(value, "boundary").as_deref(), found, "{value}");
        }
    }
}
