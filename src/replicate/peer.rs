//! One end of a replication: a local database, a channel of a gateway, a CouchDB over HTTP.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::doc::{
    Attachment, AttachmentData, Body, DocId, Document, LocalId, Rev, RevsDiff, Selector,
};
use crate::proto::message::WireError;
use crate::store::StoreError;

/// Why a peer could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The connection is not there or was lost. Trying again later may help.
    #[error("not connected: {cause}")]
    Disconnected {
        /// What happened to it.
        cause: String,
    },
    /// The other side refused.
    #[error(transparent)]
    Refused(WireError),
    /// The other side answered with something that is not its protocol.
    #[error("the peer broke the protocol: {problem}")]
    Protocol {
        /// What it did.
        problem: String,
    },
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PeerError {
    /// Whether other credentials might help.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused(error) if error.status == 401)
    }

    /// Whether trying again later might help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Disconnected { .. } => true,
            Self::Refused(error) => matches!(error.status, 408 | 429 | 500..),
            Self::Protocol { .. } | Self::Store(_) => false,
        }
    }

    /// What is wrong with the document alone that was being written, if that is what failed: too
    /// large an attachment must not keep the documents after it from being written.
    pub(crate) fn about_document(&self) -> Option<WireError> {
        match self {
            Self::Refused(error) if matches!(error.status, 400 | 403 | 404 | 412 | 413) => {
                Some(error.clone())
            }
            Self::Store(error @ StoreError::TooLarge { .. }) => Some(WireError {
                status: 413,
                error: "too_large".into(),
                reason: error.to_string(),
            }),
            _ => None,
        }
    }
}

/// A changed document, as a source tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedDoc {
    /// The document.
    pub id: DocId,
    /// All its leaves, or those that were asked for.
    pub leaves: Vec<Rev>,
    /// Leaves that came along, with their histories. A source that sends none is asked for them.
    pub docs: Vec<Document>,
    /// The group that it was written in at the source: the same number for all of its documents,
    /// which follow one another in one batch. `None` from a source that tells no groups.
    pub group: Option<u64>,
}

/// A part of a source's changes feed.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeBatch {
    /// The documents.
    pub rows: Vec<ChangedDoc>,
    /// The place after them.
    pub last_seq: String,
    /// Changes still to come, as far as is known; 0 at the end.
    pub pending: u64,
}

/// What to read of a source's changes feed.
#[derive(Debug, Clone, Default)]
pub struct ChangesRequest {
    /// The place to begin after; `None` for the start.
    pub since: Option<String>,
    /// Only these documents.
    pub doc_ids: Option<Vec<DocId>>,
    /// Only leaves that it lets pass.
    pub selector: Option<Selector>,
    /// Whether to go on when there is nothing more.
    pub live: bool,
    /// Whether documents that were deleted before this feed is opened may be left out, since the
    /// reader has nothing yet.
    pub skip_tombstones: bool,
    /// Documents in a batch, at most.
    pub batch_size: usize,
    /// Whether the target is likely to have what is read, so that no documents shall come along.
    pub compare: bool,
}

/// A revision that a target did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedDoc {
    /// The document.
    pub id: DocId,
    /// The revision.
    pub rev: Option<Rev>,
    /// Why.
    pub error: WireError,
}

/// What a source gave of the revisions that it was asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fetched {
    /// The revisions, with their histories.
    pub docs: Vec<Document>,
    /// Revisions that are there and cannot be taken, since they are over a bound or not shown.
    pub refused: Vec<RefusedDoc>,
    /// Revisions that did not fit beside the others, to be asked for next. Fewer than were asked
    /// for.
    pub rest: Vec<(DocId, Rev)>,
}

impl From<Vec<Document>> for Fetched {
    fn from(docs: Vec<Document>) -> Self {
        Self { docs, ..Self::default() }
    }
}

/// What became of a write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteAnswer {
    /// Revisions that the target did not take.
    pub refused: Vec<RefusedDoc>,
    /// Revisions that were not written, and need not be: the target had them already, as far as it
    /// tells, or the source has them no longer.
    pub known: Vec<(DocId, Rev)>,
}

impl WriteAnswer {
    /// Adds what became of another part of the same write.
    pub fn extend(&mut self, other: Self) {
        self.refused.extend(other.refused);
        self.known.extend(other.known);
    }
}

/// A source's changes feed.
pub type ChangeStream = BoxStream<'static, Result<ChangeBatch, PeerError>>;

/// The bytes of an attachment.
pub type AttachmentBytes = BoxStream<'static, Result<Bytes, PeerError>>;

/// One end of a replication.
///
/// Every method may be called concurrently. Dropping a future may leave its write made or not; since
/// revisions are written as they are, making it again changes nothing.
#[async_trait]
pub trait Peer: Send + Sync + 'static {
    /// Names the database for ever, and another one made in its place differently.
    fn identity(&self) -> String;

    /// Names the part of the database that is shown, where it is not all.
    fn view(&self) -> Option<String>;

    /// Attachments that may be staged before they must be written.
    fn staged_max(&self) -> usize;

    /// Opens the changes feed.
    async fn changes(&self, request: ChangesRequest) -> Result<ChangeStream, PeerError>;

    /// Which of these revisions are missing; documents that lack nothing are left out.
    async fn revs_diff(
        &self,
        wanted: Vec<(DocId, Vec<Rev>)>,
    ) -> Result<Vec<(DocId, RevsDiff)>, PeerError>;

    /// Revisions with their histories; those that are not stored any more are left out. What would
    /// be too much to have in memory at once is given back as the rest.
    async fn fetch(&self, wanted: Vec<(DocId, Rev)>) -> Result<Fetched, PeerError>;

    /// Writes revisions as they are, on disk when this returns.
    async fn write(&self, docs: Vec<Document>) -> Result<WriteAnswer, PeerError>;

    /// Writes revisions that were written together: all of them, or none. A target that knows no
    /// groups writes them as any other documents.
    async fn write_group(&self, docs: Vec<Document>) -> Result<WriteAnswer, PeerError> {
        self.write(docs).await
    }

    /// Opens an attachment of a revision that was read here.
    async fn attachment(
        &self,
        document: &Document,
        name: &str,
        attachment: &Attachment,
    ) -> Result<AttachmentBytes, PeerError>;

    /// Takes in attachment bytes for a revision that is written next.
    async fn stage(
        &self,
        attachment: &Attachment,
        bytes: AttachmentBytes,
    ) -> Result<AttachmentData, PeerError>;

    /// Reads a local document.
    async fn local(&self, id: &LocalId) -> Result<Option<Body>, PeerError>;

    /// Writes a local document over whatever is there.
    async fn set_local(&self, id: &LocalId, body: Body) -> Result<(), PeerError>;
}
