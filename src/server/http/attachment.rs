//! One attachment: its bytes in and out, as they come.

use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_RANGE, RANGE,
};
use http::{Method, StatusCode};

use crate::doc::{AnyDocument, Attachment, Body, DocId, Document};
use crate::proto::message::WireError;
use crate::server::error::{HttpRefusal, ToWire as _, bad_request};
use crate::store::{AttachmentReader, DocError, GetOptions, StoreError};

use super::answer::{Answer, Out, Stop, set};
use super::database::written_answer;
use super::db::{AsyncStream, Db, rev};
use super::document::{matches, not_modified, write};
use super::multipart::stage;
use super::{only, reads};

const TYPE_DEFAULT: &str = "application/octet-stream";

pub(super) async fn route(db: Db, id: DocId, name: String) -> Answer {
    match &db.request.method {
        method if reads(method) => read(db, id, &name).await,
        &Method::PUT => put(db, id, name).await,
        &Method::DELETE => delete(db, id, &name).await,
        _ => only("DELETE,GET,HEAD,PUT"),
    }
}

async fn read(db: Db, id: DocId, name: &str) -> Answer {
    db.check_read()?;
    let revision = db.request.query.text("rev").map(rev).transpose()?;
    let reader = db.granted.attachment(&id, name, revision.as_ref()).await;
    let reader = reader.map_err(|error| error.to_wire())?;
    let tag = format!("\"{}\"", reader.digest());
    if matches(&db, &tag)? {
        return Ok(not_modified(&tag));
    }
    let content_type = reader.attachment.content_type.clone();
    let length = reader.length();
    let range = range_of(&db, &tag, length)?;
    let (first, count) = range.unwrap_or((0, length));
    let mut response = db.streamed(TYPE_DEFAULT, Slice { reader, first, count });
    set(&mut response, CONTENT_TYPE, &content_type);
    set(&mut response, ETAG, &tag);
    set(&mut response, ACCEPT_RANGES, "bytes");
    set(&mut response, CONTENT_LENGTH, &count.to_string());
    set(&mut response, CONTENT_SECURITY_POLICY, "sandbox");
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let last = first + count - 1;
        set(&mut response, CONTENT_RANGE, &format!("bytes {first}-{last}/{length}"));
    }
    Ok(response)
}

/// The first byte and the number of bytes asked for. What is no single range of bytes means the
/// whole, as RFC 9110 section 14.2 allows.
fn range_of(db: &Db, tag: &str, length: u64) -> Result<Option<(u64, u64)>, WireError> {
    let Some(range) = db.request.header(&RANGE)? else { return Ok(None) };
    if db.request.header(&IF_RANGE)?.is_some_and(|known| known != tag) {
        return Ok(None);
    }
    parse_range(range, length)
}

fn parse_range(range: &str, length: u64) -> Result<Option<(u64, u64)>, WireError> {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|r| r.trim().split_once('-'))
    else {
        return Ok(None);
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let unsatisfiable = || HttpRefusal::Range.to_wire();
    let (first, last) = match (number(first), number(last)) {
        (Some(first), None) if last.trim().is_empty() => (first, length.saturating_sub(1)),
        (Some(first), Some(last)) if first <= last => (first, last.min(length.saturating_sub(1))),
        (None, Some(0)) if first.trim().is_empty() => return Err(unsatisfiable()),
        (None, Some(count)) if first.trim().is_empty() => {
            (length.saturating_sub(count), length.saturating_sub(1))
        }
        _ => return Ok(None),
    };
    if first >= length { Err(unsatisfiable()) } else { Ok(Some((first, last - first + 1))) }
}

/// Some of an attachment's bytes.
struct Slice {
    reader: AttachmentReader,
    first: u64,
    count: u64,
}

impl AsyncStream for Slice {
    async fn write(mut self, _: &Db, out: &mut Out) -> Result<(), Stop> {
        let (mut skip, mut left) = (self.first, self.count);
        while left > 0 {
            let Some(mut piece) = self.reader.next().await? else { break };
            let passed = skip.min(piece.len() as u64);
            skip -= passed;
            let mut piece = piece.split_off(usize::try_from(passed).unwrap_or(usize::MAX));
            piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= piece.len() as u64;
            if !piece.is_empty() {
                out.piece(piece).await?;
            }
        }
        Ok(())
    }
}

async fn put(mut db: Db, id: DocId, name: String) -> Answer {
    db.check_write()?;
    if name.is_empty() || name.starts_with('_') {
        return Err(bad_request(
            "Attachment name must not be empty or start with an underscore: '_'",
        ));
    }
    let content_type = db.request.header(&CONTENT_TYPE)?.unwrap_or(TYPE_DEFAULT).to_owned();
    let mut document = leaf_to_edit(&db, id).await?;
    let body = db.request.take_body();
    let data = db.while_granted(stage(db.database(), body)).await?;
    document.attachments.insert(name, Attachment { content_type, revpos: 0, data });
    let written = write(&db, AnyDocument::Doc(document)).await?;
    written_answer(&db, &written, StatusCode::CREATED)
}

async fn delete(db: Db, id: DocId, name: &str) -> Answer {
    db.check_write()?;
    if db.request.rev()?.is_none() {
        // What is not there is missing; what is there cannot be changed without its revision.
        let found = db.granted.get(&id, &GetOptions::default()).await;
        found.map_err(|error| error.to_wire())?;
        return Err(StoreError::from(DocError::Conflict).to_wire());
    }
    let mut document = leaf_to_edit(&db, id.clone()).await?;
    if document.attachments.remove(name).is_none() {
        return Err(StoreError::AttachmentMissing { id, name: name.to_owned() }.to_wire());
    }
    let written = write(&db, AnyDocument::Doc(document)).await?;
    written_answer(&db, &written, StatusCode::OK)
}

/// The document as it is at the revision named; a new one where none is named.
async fn leaf_to_edit(db: &Db, id: DocId) -> Result<Document, WireError> {
    let Some(text) = db.request.rev()? else {
        return Ok(Document::with_body(id, Body::empty()));
    };
    let options = GetOptions { rev: Some(rev(&text)?), ..GetOptions::default() };
    db.granted.get_to_edit(&id, &options, false).await.map_err(|error| match error {
        StoreError::DocMissing { .. } => StoreError::from(DocError::Conflict).to_wire(),
        other => other.to_wire(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |range: &str, expected: Option<Option<(u64, u64)>>| {
            assert_eq!(parse_range(range, 10).ok(), expected, "{range}");
        };
        check("bytes=0-", Some(Some((0, 10))));
        check("bytes=0-0", Some(Some((0, 1))));
        check("bytes=3-5", Some(Some((3, 3))));
        check("bytes=3-500", Some(Some((3, 7))));
        check("bytes=-4", Some(Some((6, 4))));
        check("bytes=-400", Some(Some((0, 10))));
        check("bytes=10-", None);
        check("bytes=-0", None);
        check("bytes=99999999999999999-", None);
        for whole in [
            "",
            "bytes=",
            "bytes=-",
            "bytes=5-3",
            "bytes=1-2,4-5",
            "lines=1-2",
            "bytes=x-y",
            "bytes=99999999999999999999999-",
        ] {
            check(whole, Some(None));
        }
        assert!(parse_range("bytes=0-", 0).is_err());
    }
}
