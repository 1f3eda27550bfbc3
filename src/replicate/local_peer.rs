//! A local database as one end of a replication.

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::doc::{Attachment, AttachmentData, Body, DocId, Document, LocalId, Rev, RevsDiff};
use crate::proto::message::WireError;
use crate::store::{
    BulkGetItem, BulkGetOptions, BulkGetResult, ChangesOptions, Database, DocError, EditMode, Feed,
    OpenRev, Since, StoreError, Style, WriteOutcome,
};

use super::peer::{
    AttachmentBytes, ChangeBatch, ChangeStream, ChangedDoc, ChangesRequest, Fetched, Peer,
    PeerError, RefusedDoc, WriteAnswer,
};

/// Bodies of documents that are read at a time; the last one may be as large as a document is.
pub(crate) const FETCH_BYTES_TARGET: usize = 8 * 1024 * 1024;

/// A local database.
#[derive(Debug, Clone)]
pub struct LocalPeer(pub Database);

#[async_trait]
impl Peer for LocalPeer {
    fn identity(&self) -> String {
        self.0.incarnation().to_string()
    }

    fn view(&self) -> Option<String> {
        None
    }

    fn staged_max(&self) -> usize {
        usize::MAX
    }

    async fn changes(&self, request: ChangesRequest) -> Result<ChangeStream, PeerError> {
        let (live, rows_max) = (request.live, request.batch_size);
        let feed = self.0.feed(feed_options(request)?).await?;
        Ok(batches(feed, rows_max, live))
    }

    async fn revs_diff(
        &self,
        wanted: Vec<(DocId, Vec<Rev>)>,
    ) -> Result<Vec<(DocId, RevsDiff)>, PeerError> {
        Ok(self.0.revs_diff(&wanted).await?)
    }

    async fn fetch(&self, wanted: Vec<(DocId, Rev)>) -> Result<Fetched, PeerError> {
        let (items, options) = read_of(&wanted);
        let found = self.0.bulk_get_page(&items, options, FETCH_BYTES_TARGET).await?;
        Ok(fetched(found, &wanted))
    }

    async fn write(&self, docs: Vec<Document>) -> Result<WriteAnswer, PeerError> {
        Ok(answer_of(self.0.bulk_docs(docs, EditMode::Replicated).await?))
    }

    async fn write_group(&self, docs: Vec<Document>) -> Result<WriteAnswer, PeerError> {
        Ok(answer_of(self.0.write_group(docs, EditMode::Replicated).await?))
    }

    async fn attachment(
        &self,
        _: &Document,
        _: &str,
        attachment: &Attachment,
    ) -> Result<AttachmentBytes, PeerError> {
        let reader = self.0.open_attachment(attachment.clone()).await?;
        let pieces = futures::stream::try_unfold(reader, |mut reader| async move {
            let piece = reader.next().await?;
            Ok(piece.map(|piece| (piece, reader)))
        });
        Ok(pieces.map_err(|error: StoreError| error.into()).boxed())
    }

    async fn stage(
        &self,
        _: &Attachment,
        bytes: AttachmentBytes,
    ) -> Result<AttachmentData, PeerError> {
        // The store's error type has no place for the other side's, so that one is kept aside.
        let failed = std::sync::Mutex::new(None);
        let bytes = bytes.map_err(|error| {
            *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            StoreError::Closed
        });
        let staged = self.0.stage_attachment(bytes).await;
        let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        match failed {
            Some(error) => Err(error),
            None => Ok(staged?),
        }
    }

    async fn local(&self, id: &LocalId) -> Result<Option<Body>, PeerError> {
        Ok(self.0.local(id).await?.map(|document| document.body))
    }

    async fn set_local(&self, id: &LocalId, body: Body) -> Result<(), PeerError> {
        self.0.set_local(id, body).await?;
        Ok(())
    }
}

fn answer_of(outcomes: Vec<WriteOutcome>) -> WriteAnswer {
    let mut answer = WriteAnswer::default();
    for outcome in outcomes {
        match outcome {
            Ok(written) if written.seq.is_none() => {
                answer.known.push((written.id, written.rev));
            }
            Ok(_) => {}
            Err(refused) => {
                let error = as_wire(&refused.error);
                answer.refused.push(RefusedDoc { id: refused.id, rev: refused.rev, error });
            }
        }
    }
    answer
}

/// What a request asks of a database's feed.
pub(crate) fn feed_options(request: ChangesRequest) -> Result<ChangesOptions, PeerError> {
    let since = request.since.as_deref().map_or(Some(Since::Start), Since::parse);
    let problem = "its checkpoint names a place that is no seq";
    let since = since.ok_or_else(|| PeerError::Protocol { problem: problem.into() })?;
    Ok(ChangesOptions {
        since,
        style: Style::AllDocs,
        doc_ids: request.doc_ids,
        selectors: request.selector.into_iter().collect(),
        skip_tombstones: request.skip_tombstones,
        groups: true,
        ..ChangesOptions::default()
    })
}

/// A database's feed in batches of at most `rows_max` documents.
pub(crate) fn batches(feed: Feed, rows_max: usize, live: bool) -> ChangeStream {
    let rows_max = rows_max.max(1);
    futures::stream::unfold(Some(feed), move |feed| next_batch(feed, rows_max, live)).boxed()
}

/// How revisions are read to be sent.
pub(crate) fn read_of(wanted: &[(DocId, Rev)]) -> (Vec<BulkGetItem>, BulkGetOptions) {
    let item = |(id, rev): &(DocId, Rev)| BulkGetItem { id: id.clone(), rev: Some(rev.clone()) };
    let options = BulkGetOptions { revs: true, ..BulkGetOptions::default() };
    (wanted.iter().map(item).collect(), options)
}

/// The documents that were found; those that did not fit the page are the rest.
pub(crate) fn fetched(found: Vec<BulkGetResult>, wanted: &[(DocId, Rev)]) -> Fetched {
    let document = |rev| match rev {
        OpenRev::Found(document) => Some(*document),
        OpenRev::Missing(_) => None,
    };
    let rest = wanted[found.len()..].to_vec();
    let docs = found.into_iter().flat_map(|result| result.revs).filter_map(document).collect();
    Fetched { docs, rest, ..Fetched::default() }
}

type Next = Option<(Result<ChangeBatch, PeerError>, Option<Feed>)>;

async fn next_batch(feed: Option<Feed>, rows_max: usize, live: bool) -> Next {
    let mut feed = feed?;
    let page = match feed.next_page(rows_max, usize::MAX).await {
        Ok(page) => page,
        Err(error) => return Some((Err(error.into()), None)),
    };
    let row = |change: crate::store::Change| ChangedDoc {
        id: change.id,
        leaves: change.leaves.into_iter().map(|(rev, _)| rev).collect(),
        docs: Vec::new(),
        group: change.group,
    };
    let batch = ChangeBatch {
        rows: page.rows.into_iter().map(row).collect(),
        last_seq: page.last_seq.to_string(),
        pending: page.pending,
    };
    let ended = !live && batch.pending == 0;
    Some((Ok(batch), (!ended).then_some(feed)))
}

/// A refusal of the local store in the words that a gateway would use.
pub(super) fn as_wire(error: &DocError) -> WireError {
    let (status, name) = match error {
        DocError::Conflict => (409, "conflict"),
        DocError::Forbidden { .. } | DocError::OverQuota { .. } => (403, "forbidden"),
        DocError::Unjudged { .. } => (503, "service_unavailable"),
        DocError::MissingStub { .. } => (412, MISSING_STUB),
        DocError::TooManyLeaves { .. } => (413, "too_large"),
        DocError::GroupRefused { .. } => (424, "group_refused"),
        DocError::RevMissing | DocError::LastGeneration { .. } => (400, "bad_request"),
    };
    WireError { status, error: name.into(), reason: error.to_string() }
}

/// The name of the error that asks for an attachment's bytes.
pub(super) const MISSING_STUB: &str = "missing_stub";
