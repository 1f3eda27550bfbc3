//! A database under a grant as one end of a replication.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::doc::{
    AnyDocument, Attachment, AttachmentData, Body, DocId, Document, LocalId, Rev, RevsDiff,
};
use crate::proto::message::WireError;
use crate::replicate::local_peer::{FETCH_BYTES_TARGET, batches, feed_options, fetched, read_of};
use crate::replicate::peer::{
    AttachmentBytes, ChangeStream, ChangesRequest, Fetched, RefusedDoc, WriteAnswer,
};
use crate::replicate::{LocalPeer, Peer, PeerError};
use crate::server::batch::How;
use crate::server::channel::Channel;
use crate::server::error::{Refusal, ToWire as _, of_row};
use crate::server::granted::Granted;
use crate::store::backend::Grouping;
use crate::store::{EditMode, Written};

/// A database that a grant opened.
pub(super) struct GrantedPeer(pub Arc<Channel>);

impl GrantedPeer {
    fn granted(&self) -> Granted {
        self.0.granted()
    }

    /// The database itself, for what every grant may do with it.
    fn database(&self) -> LocalPeer {
        LocalPeer(self.granted().database)
    }

    fn readable(&self) -> Result<Granted, PeerError> {
        let granted = self.granted();
        granted.check_read().map_err(PeerError::Refused)?;
        Ok(granted)
    }

    async fn write_as(
        &self,
        docs: Vec<Document>,
        grouping: Grouping,
    ) -> Result<WriteAnswer, PeerError> {
        let named: Vec<(DocId, Option<Rev>)> =
            docs.iter().map(|document| (document.id.clone(), document.rev.clone())).collect();
        let known = Mutex::new(Vec::new());
        let note = |written: &Written| {
            if written.seq.is_none() {
                let one = (written.id.clone(), written.rev.clone());
                known.lock().unwrap_or_else(PoisonError::into_inner).push(one);
            }
        };
        let proposed = docs.into_iter().map(|document| Ok(AnyDocument::Doc(document))).collect();
        let how = How { grouping, ..How::from(EditMode::Replicated) };
        let rows = self.granted().write(proposed, how, note).await;
        let rows = rows.map_err(PeerError::Refused)?;
        let refused = named
            .into_iter()
            .zip(&rows)
            .filter_map(|((id, rev), row)| of_row(row).map(|error| RefusedDoc { id, rev, error }));
        let refused = refused.collect();
        Ok(WriteAnswer {
            refused,
            known: known.into_inner().unwrap_or_else(PoisonError::into_inner),
        })
    }

    /// Whether the grant is enough for a target, or for a source.
    pub(super) fn check(&self, is_target: bool) -> Result<(), WireError> {
        match (is_target, self.granted().grant.write) {
            (false, _) => self.granted().check_read(),
            (true, true) => Ok(()),
            (true, false) => Err(Refusal::MayNotWrite.to_wire()),
        }
    }
}

#[async_trait]
impl Peer for GrantedPeer {
    fn identity(&self) -> String {
        self.database().identity()
    }

    fn view(&self) -> Option<String> {
        self.granted().grant.view()
    }

    fn staged_max(&self) -> usize {
        usize::MAX
    }

    async fn changes(&self, request: ChangesRequest) -> Result<ChangeStream, PeerError> {
        let (live, rows_max) = (request.live, request.batch_size);
        let feed = self.readable()?.feed(feed_options(request)?).await?;
        Ok(batches(feed, rows_max, live))
    }

    async fn revs_diff(
        &self,
        wanted: Vec<(DocId, Vec<Rev>)>,
    ) -> Result<Vec<(DocId, RevsDiff)>, PeerError> {
        Ok(self.granted().revs_diff(&wanted).await?)
    }

    async fn fetch(&self, wanted: Vec<(DocId, Rev)>) -> Result<Fetched, PeerError> {
        let (items, options) = read_of(&wanted);
        let granted = self.readable()?;
        let found = granted.bulk_get_page(&items, options, FETCH_BYTES_TARGET).await?;
        Ok(fetched(found, &wanted))
    }

    async fn write(&self, docs: Vec<Document>) -> Result<WriteAnswer, PeerError> {
        self.write_as(docs, Grouping::Apart).await
    }

    async fn write_group(&self, docs: Vec<Document>) -> Result<WriteAnswer, PeerError> {
        self.write_as(docs, Grouping::Together).await
    }

    async fn attachment(
        &self,
        document: &Document,
        name: &str,
        attachment: &Attachment,
    ) -> Result<AttachmentBytes, PeerError> {
        // The document was read under the grant, and names the bytes.
        self.database().attachment(document, name, attachment).await
    }

    async fn stage(
        &self,
        attachment: &Attachment,
        bytes: AttachmentBytes,
    ) -> Result<AttachmentData, PeerError> {
        self.check(true).map_err(PeerError::Refused)?;
        self.database().stage(attachment, bytes).await
    }

    async fn local(&self, id: &LocalId) -> Result<Option<Body>, PeerError> {
        self.database().local(id).await
    }

    async fn set_local(&self, id: &LocalId, body: Body) -> Result<(), PeerError> {
        self.database().set_local(id, body).await
    }
}
