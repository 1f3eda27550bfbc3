//! Attachments on their way to the other side: small ones within their document, larger ones after
//! it in one body of parts (`multipart/related`, RFC 2387), as CouchDB's replicator writes them.
//!
//! The API has no place for bytes without a document, so bytes that are staged wait here as the
//! source's stream, and are read when their document is written.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::Method;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};

use crate::doc::{Attachment, AttachmentData, AttachmentDigest, BlobHasher, Document};
use crate::proto::message::WireError;
use crate::replicate::PeerError;
use crate::replicate::peer::AttachmentBytes;
use crate::store::Uuid;

use super::changes::path_of;
use super::exchange::{Activity, Exchange, Failure, JSON, broke};

/// Attachments up to this many bytes stand within their document.
const INLINE_BYTES_MAX: usize = 32 * 1024;

/// Streams that wait for their document.
pub(super) const STAGED_MAX: usize = 64;

/// More than a document may have; what is beyond it was staged for a write that never came.
const KEPT_MAX: usize = 1_024;

/// Bytes that wait for the document that names them.
#[derive(Default)]
pub(super) struct Staged(Mutex<VecDeque<(AttachmentDigest, AttachmentBytes)>>);

impl Staged {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(AttachmentDigest, AttachmentBytes)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in an attachment: read whole if it is small, else kept as a stream under its digest.
    pub(super) async fn stage(
        &self,
        attachment: &Attachment,
        mut bytes: AttachmentBytes,
    ) -> Result<AttachmentData, PeerError> {
        let length = attachment.length();
        if length.is_none_or(|length| length <= INLINE_BYTES_MAX as u64) {
            let mut small = BytesMut::new();
            while let Some(piece) = bytes.next().await.transpose()? {
                small.extend_from_slice(&piece);
                if small.len() > INLINE_BYTES_MAX {
                    return Err(PeerError::Refused(other_length()));
                }
            }
            return Ok(AttachmentData::Inline(small.freeze()));
        }
        let digest = attachment.digest().unwrap_or_else(|| {
            let random = Uuid::random().expect("the system has randomness once it has booted");
            BlobHasher::of(random.to_string().as_bytes()).digest
        });
        let mut staged = self.lock();
        staged.push_back((digest, bytes));
        if staged.len() > KEPT_MAX {
            staged.pop_front();
        }
        Ok(AttachmentData::Stub { digest: Some(digest), length })
    }

    fn take(&self, data: &AttachmentData) -> Option<AttachmentBytes> {
        let AttachmentData::Stub { digest: Some(digest), length: Some(_) } = data else {
            return None;
        };
        let mut staged = self.lock();
        let place = staged.iter().position(|(known, _)| known == digest)?;
        staged.remove(place).map(|(_, bytes)| bytes)
    }
}

fn other_length() -> WireError {
    WireError {
        status: 412,
        error: "attachment_length".into(),
        reason: "the source gave an attachment that has not the length it told".into(),
    }
}

/// A part that follows the document.
struct Follower {
    name: String,
    head: String,
    length: u64,
    bytes: AttachmentBytes,
}

/// Writes one document as it is, with the bytes that were staged for it.
pub(super) async fn put(
    exchange: &Exchange,
    staged: &Staged,
    document: &Document,
) -> Result<(), PeerError> {
    let url = exchange.url(&format!("{}?new_edits=false", path_of(&document.id)));
    let boundary = Uuid::random().expect("the system has randomness once it has booted");
    let followers = followers(staged, document, &boundary.to_string());
    let names: Vec<String> = followers.iter().map(|follower| follower.name.clone()).collect();
    let text = document.to_json_with_following(|name, _| names.iter().any(|known| known == name));
    let request = exchange.request(Method::PUT, &url).header(ACCEPT, JSON);
    let activity = Arc::new(Activity::default());
    let failed = Arc::new(Mutex::new(None));
    let request = if followers.is_empty() {
        request.header(CONTENT_TYPE, JSON).body(text)
    } else {
        let first = format!("--{boundary}\r\nContent-Type: {JSON}\r\n\r\n{text}");
        let last = format!("\r\n--{boundary}--");
        let around = first.len() + last.len();
        let parts = followers.iter().map(|part| part.head.len() as u64 + part.length);
        let length = around as u64 + parts.sum::<u64>();
        let body = body(first, followers, last, Arc::clone(&activity), Arc::clone(&failed));
        request
            .header(CONTENT_TYPE, format!("multipart/related; boundary=\"{boundary}\""))
            .header(CONTENT_LENGTH, length)
            .body(reqwest::Body::wrap_stream(body))
    };
    let written = exchange.finish(request, &activity).await;
    match written {
        Ok(_) => Ok(()),
        Err(failure) => {
            // Whatever the connection says of a body that ended early, the source is the reason.
            let source = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
            Err(source.unwrap_or_else(|| match failure {
                Failure::TooLarge => broke("an answer is too large"),
                Failure::Other { error, .. } => error,
            }))
        }
    }
}

fn followers(staged: &Staged, document: &Document, boundary: &str) -> Vec<Follower> {
    let mut followers = Vec::new();
    for (name, attachment) in &document.attachments {
        let Some(bytes) = staged.take(&attachment.data) else { continue };
        let length = attachment.length().unwrap_or_default();
        let content_type: String =
            attachment.content_type.chars().filter(|c| !c.is_control()).collect();
        let head = format!(
            "\r\n--{boundary}\r\nContent-Disposition: attachment; filename={}\r\n\
             Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n",
            // JSON quotes as a quoted string is.
            serde_json::json!(name),
        );
        followers.push(Follower { name: name.clone(), head, length, bytes });
    }
    followers
}

/// The pieces of a body in parts. What the source fails with is kept in `failed`.
fn body(
    first: String,
    followers: Vec<Follower>,
    last: String,
    activity: Arc<Activity>,
    failed: Arc<Mutex<Option<PeerError>>>,
) -> BoxStream<'static, Result<Bytes, std::io::Error>> {
    let one = |text: String| futures::stream::once(async move { Ok(Bytes::from(text)) });
    let parts = futures::stream::iter(followers).flat_map(move |follower| {
        let Follower { head, length, bytes, .. } = follower;
        let other = || PeerError::Refused(other_length());
        one(head).chain(measured(bytes, length, other))
    });
    let pieces = one(first).chain(parts).chain(one(last));
    let pieces = pieces.map(move |piece: Result<Bytes, PeerError>| {
        activity.note();
        piece.map_err(|error| {
            let told = std::io::Error::other(error.to_string());
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            told
        })
    });
    pieces.boxed()
}

/// The same bytes, which must be as many as were announced, or end with the error of `other`.
pub(super) fn measured(
    bytes: AttachmentBytes,
    length: u64,
    other: fn() -> PeerError,
) -> impl futures::Stream<Item = Result<Bytes, PeerError>> + Send + use<> {
    futures::stream::unfold(Some((bytes, length)), move |state| async move {
        let (mut bytes, left) = state?;
        match bytes.next().await {
            Some(Ok(piece)) => match left.checked_sub(piece.len() as u64) {
                Some(left) => Some((Ok(piece), Some((bytes, left)))),
                None => Some((Err(other()), None)),
            },
            Some(Err(error)) => Some((Err(error), None)),
            None if left > 0 => Some((Err(other()), None)),
            None => None,
        }
    })
}
