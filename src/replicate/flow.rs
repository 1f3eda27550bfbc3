//! One direction of a sync: changes → what is missing → fetch → write → checkpoint.
//!
//! Several batches are in flight, and end in the order in which they began. A checkpoint is written
//! only for a place up to which every document is durable on the target or stands in the list of
//! denied ones; first on the target, then on the source, so that neither is ahead of the documents.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use tokio::sync::{Notify, watch};

use crate::doc::{AttachmentData, DocId, Document, Rev, Selector};
use crate::proto::recent::RecentRevs;

use super::checkpoints::{Checkpoints, Reach};
use super::denied::DeniedList;
use super::events::{ChangeEvent, DeniedEvent, Direction, Reporter, WrittenRev};
use super::groups::refuse_others;
use super::local_peer::MISSING_STUB;
use super::peer::{
    ChangeBatch, ChangedDoc, ChangesRequest, Fetched, Peer, PeerError, RefusedDoc, WriteAnswer,
};
use super::tally::Tally;

/// Batches in flight.
const BATCHES_IN_FLIGHT: usize = 4;

/// A live batch of at most this many documents is written without asking what is missing: one
/// round trip instead of two, at the risk of sending what is known.
const OPTIMISTIC_DOCS_MAX: usize = 16;

/// Documents fetched and written at a time within a batch; bounds what is in memory.
pub(super) const FETCH_DOCS_MAX: usize = 100;

/// What both directions of a sync share.
#[derive(Clone)]
pub(crate) struct FlowContext {
    pub reporter: Reporter,
    pub denied: Arc<DeniedList>,
    pub session_id: String,
    pub live: bool,
    pub checkpoints: bool,
    pub batch_size: usize,
    pub doc_ids: Option<Vec<DocId>>,
    pub selector: Option<Selector>,
    /// True when the sync was cancelled.
    pub stop: watch::Receiver<bool>,
    /// Told when denied documents shall be tried again; one for each direction.
    pub retry: Arc<[Notify; 2]>,
    /// How far each direction came, for the next connection: newer than its checkpoint.
    pub reached: Reach,
    /// Where to begin, whatever the checkpoints say.
    pub since: Option<String>,
    /// What was done, for whoever looks.
    pub tally: Arc<Mutex<Tally>>,
}

impl FlowContext {
    pub(super) fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the sync is cancelled.
    pub(crate) async fn until_stopped(&self) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|stop| *stop).await.is_err() {
            // The handle is gone, and this task is about to be aborted.
            std::future::pending::<()>().await;
        }
    }
}

/// Whether a direction runs for the first time over its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    First,
    Again,
}

/// Revisions that one direction moved, for the other not to send back.
pub(crate) type Moved = Arc<Mutex<RecentRevs>>;

pub(crate) struct Flow {
    pub context: FlowContext,
    pub direction: Direction,
    pub source: Arc<dyn Peer>,
    pub target: Arc<dyn Peer>,
    pub moved_here: Moved,
    pub moved_there: Moved,
    progress: Mutex<Progress>,
    /// Held from the first attachment staged for a write until the write: a target keeps only so
    /// many staged attachments, whichever batch they are for.
    pub(super) staging: tokio::sync::Mutex<()>,
    /// Batches whose groups are written, and those of all batches before.
    grouped: watch::Sender<u64>,
}

/// How far a direction is.
#[derive(Default)]
struct Progress {
    /// Batches and retries under way.
    in_flight: usize,
    /// Whether the last batch that ended said that nothing follows.
    caught_up: bool,
    last_seq: String,
    pending: u64,
}

/// A batch that has been written.
#[derive(Default)]
pub(super) struct Done {
    docs: Vec<WrittenRev>,
    docs_read: u64,
    pub(super) failures: u64,
    last_seq: String,
    pending: u64,
}

impl Done {
    /// Adds what became of a part of the batch.
    pub(super) fn add(&mut self, part: Self) {
        self.docs.extend(part.docs);
        self.docs_read += part.docs_read;
        self.failures += part.failures;
    }
}

impl Flow {
    pub(crate) fn new(
        context: FlowContext,
        direction: Direction,
        source: Arc<dyn Peer>,
        target: Arc<dyn Peer>,
        moved: (Moved, Moved),
    ) -> Self {
        let (moved_here, moved_there) = moved;
        Self {
            context,
            direction,
            source,
            target,
            moved_here,
            moved_there,
            progress: Mutex::default(),
            staging: tokio::sync::Mutex::default(),
            grouped: watch::Sender::new(0),
        }
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs until the source's feed ends, the sync is stopped, or something fails.
    pub(crate) async fn run(self, look: Look) -> Result<(), PeerError> {
        let mut checkpoints = Checkpoints::open(&self).await?;
        let began = checkpoints.since().unwrap_or_default();
        self.progress().last_seq.clone_from(&began);
        {
            let mut tally = self.context.tally();
            (tally.source_seq, tally.through_seq) = (began.clone(), began.clone());
            tally.start_seq = began;
        }
        self.context.denied.load(self.direction, &checkpoints.id).await?;
        self.context.reporter.denied_count(self.context.denied.len());
        if look == Look::First {
            self.retry_denied().await?;
        }
        let changes = self
            .source
            .changes(ChangesRequest {
                since: checkpoints.since(),
                doc_ids: self.context.doc_ids.clone(),
                selector: self.context.selector.clone(),
                live: self.context.live,
                skip_tombstones: checkpoints.since().is_none() && self.target_is_empty().await?,
                batch_size: self.context.batch_size,
                compare: look == Look::Again,
            })
            .await?;
        // A sync that is stopped reads no more, and finishes what it has read.
        let changes = changes.take_until(self.context.until_stopped());
        let batches = changes.enumerate().map(|(number, batch)| self.process(number as u64, batch));
        let batches = batches.buffered(BATCHES_IN_FLIGHT);
        let mut batches = std::pin::pin!(batches);
        let mut retries = std::pin::pin!(self.retry_when_told());
        loop {
            tokio::select! {
                done = batches.next() => match done {
                    Some(done) => {
                        let done = done?;
                        checkpoints.reach(&done.last_seq);
                        self.report(done);
                    }
                    None => break,
                },
                () = checkpoints.due() => checkpoints.save().await?,
                failed = &mut retries => return Err(failed),
            }
        }
        checkpoints.save().await?;
        self.context.reporter.rest(self.direction);
        Ok(())
    }

    /// Runs beside the batches, since a retry may wait for the attachments of one of them.
    async fn retry_when_told(&self) -> PeerError {
        loop {
            self.context.retry[self.direction as usize].notified().await;
            if let Err(error) = self.retry_denied().await {
                return error;
            }
        }
    }

    /// Only a pull into an empty database may do without tombstones: there they mean nothing.
    async fn target_is_empty(&self) -> Result<bool, PeerError> {
        if self.direction == Direction::Push {
            return Ok(false);
        }
        let request = ChangesRequest { batch_size: 1, ..ChangesRequest::default() };
        let first = self.target.changes(request).await?.next().await;
        Ok(first.transpose()?.is_none_or(|batch| batch.rows.is_empty()))
    }

    fn report(&self, done: Done) {
        let (reporter, direction) = (&self.context.reporter, self.direction);
        if direction == Direction::Push {
            let number = done.last_seq.split('-').next().and_then(|n| n.parse().ok());
            reporter.pushed(number.unwrap_or(0));
        }
        {
            let mut progress = self.progress();
            progress.last_seq.clone_from(&done.last_seq);
            (progress.pending, progress.caught_up) = (done.pending, done.pending == 0);
        }
        self.tell(done);
        self.settle();
    }

    fn tell(&self, done: Done) {
        {
            let mut tally = self.context.tally();
            tally.docs_read += done.docs_read;
            tally.docs_written += done.docs.len() as u64;
            tally.doc_write_failures += done.failures;
            tally.through_seq.clone_from(&done.last_seq);
            tally.pending = done.pending;
        }
        self.context.reporter.change(ChangeEvent {
            direction: self.direction,
            docs_written: done.docs.len() as u64,
            docs: done.docs,
            docs_read: done.docs_read,
            doc_write_failures: done.failures,
            last_seq: done.last_seq,
            pending: done.pending,
        });
    }

    /// Rests if nothing follows and nothing is under way.
    fn settle(&self) {
        let rests = {
            let progress = self.progress();
            progress.caught_up && progress.in_flight == 0
        };
        if rests {
            self.context.reporter.rest(self.direction);
        }
    }

    async fn process(
        &self,
        number: u64,
        batch: Result<ChangeBatch, PeerError>,
    ) -> Result<Done, PeerError> {
        let batch = batch?;
        self.progress().in_flight += 1;
        let (last_seq, pending) = (batch.last_seq, batch.pending);
        self.context.tally().source_seq.clone_from(&last_seq);
        let mut done = Done { last_seq, pending, ..Done::default() };
        let rows: Vec<ChangedDoc> =
            batch.rows.into_iter().filter(|row| !self.came_from_target(row)).collect();
        self.groups_written_before(number).await;
        let rows = self.write_groups(rows, pending, &mut done).await?;
        self.grouped.send_replace(number + 1);
        let mut at_hand = Vec::new();
        let wanted = self.wanted(rows, batch.pending, &mut at_hand).await?;
        self.write(at_hand.into(), &mut done).await?;
        for wanted in wanted.chunks(FETCH_DOCS_MAX) {
            let mut wanted = wanted.to_vec();
            while !wanted.is_empty() {
                let mut fetched = self.source.fetch(wanted).await?;
                wanted = std::mem::take(&mut fetched.rest);
                self.write(fetched, &mut done).await?;
            }
        }
        self.progress().in_flight -= 1;
        Ok(done)
    }

    /// Returns when the groups of all batches before this one are written.
    async fn groups_written_before(&self, number: u64) {
        let mut grouped = self.grouped.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = grouped.wait_for(|batches| *batches >= number).await;
    }

    fn came_from_target(&self, row: &ChangedDoc) -> bool {
        let moved = self.moved_there.lock().unwrap_or_else(PoisonError::into_inner);
        moved.contains_all(&row.id, &row.leaves)
    }

    /// Revisions to fetch; what came along is put into `at_hand`.
    pub(super) async fn wanted(
        &self,
        rows: Vec<ChangedDoc>,
        pending: u64,
        at_hand: &mut Vec<Document>,
    ) -> Result<Vec<(DocId, Rev)>, PeerError> {
        let mut leaves: Vec<(DocId, Vec<Rev>)> = Vec::new();
        for row in rows {
            let missing = row.leaves.into_iter();
            let missing =
                missing.filter(|rev| row.docs.iter().all(|d| d.rev.as_ref() != Some(rev)));
            let missing: Vec<Rev> = missing.collect();
            at_hand.extend(row.docs);
            if !missing.is_empty() {
                leaves.push((row.id, missing));
            }
        }
        self.context.tally().revs_checked +=
            leaves.iter().map(|(_, revs)| revs.len() as u64).sum::<u64>();
        let small = leaves.len() <= OPTIMISTIC_DOCS_MAX;
        let optimistic = self.context.live && pending == 0 && small;
        if !leaves.is_empty() && !optimistic {
            let diff = self.target.revs_diff(leaves).await?;
            leaves = diff.into_iter().map(|(id, diff)| (id, diff.missing)).collect();
        }
        let pairs = leaves
            .into_iter()
            .flat_map(|(id, revs)| revs.into_iter().map(move |rev| (id.clone(), rev)));
        let pairs: Vec<(DocId, Rev)> = pairs.collect();
        self.context.tally().revs_missing += pairs.len() as u64;
        Ok(pairs)
    }

    async fn write(&self, fetched: Fetched, done: &mut Done) -> Result<(), PeerError> {
        self.write_as(fetched, None, done).await
    }

    /// Writes documents, as a group if they are one.
    pub(super) async fn write_as(
        &self,
        fetched: Fetched,
        group: Option<u64>,
        done: &mut Done,
    ) -> Result<(), PeerError> {
        let Fetched { docs, refused: unreadable, .. } = fetched;
        if docs.is_empty() && unreadable.is_empty() {
            return Ok(());
        }
        self.context.reporter.work(self.direction);
        done.docs_read += docs.len() as u64;
        // Before the write, which the other direction may see before this one has its answer.
        self.note_moved(&docs);
        let answer = match group {
            Some(_) if !unreadable.is_empty() => refuse_others(&docs, unreadable),
            Some(_) => self.write_group(&docs).await?,
            None => {
                let mut answer = self.write_with_attachments(&docs).await?;
                answer.refused.extend(unreadable);
                answer
            }
        };
        let WriteAnswer { refused, known } = answer;
        let known: HashSet<(DocId, Rev)> = known.into_iter().collect();
        let news = self.context.denied.note(self.direction, &docs, &refused, group).await?;
        self.context.reporter.denied_count(self.context.denied.len());
        for one in news {
            self.context.reporter.denied(DeniedEvent {
                direction: self.direction,
                id: one.id,
                rev: one.rev,
                error: one.error,
            });
        }
        done.failures += refused.len() as u64;
        for document in docs {
            let Some(rev) = document.rev else { continue };
            let is_refused = |r: &RefusedDoc| r.id == document.id && r.rev.as_ref() == Some(&rev);
            let was_known = known.contains(&(document.id.clone(), rev.clone()));
            if !was_known && !refused.iter().any(is_refused) {
                done.docs.push(WrittenRev { id: document.id, rev, deleted: document.deleted });
            }
        }
        Ok(())
    }

    /// The source has these revisions: whatever becomes of them, they need not be sent back to it.
    fn note_moved(&self, docs: &[Document]) {
        let mut moved = self.moved_here.lock().unwrap_or_else(PoisonError::into_inner);
        for document in docs {
            if let Some(rev) = &document.rev {
                moved.insert(&document.id, rev);
            }
        }
    }

    /// Writes documents, with the bytes of attachments that are new in them. A target that turns
    /// out to lack the bytes of an older one gets them in a second write.
    async fn write_with_attachments(&self, docs: &[Document]) -> Result<WriteAnswer, PeerError> {
        let mut answer = WriteAnswer::default();
        for part in self.parts(docs) {
            let has_attachments = part.iter().any(|document| !document.attachments.is_empty());
            let _staging = if has_attachments { Some(self.staging.lock().await) } else { None };
            let mut first = self.write_part(part, Bytes::New).await?;
            let lacking = |r: &RefusedDoc| r.error.error == MISSING_STUB;
            if first.refused.iter().any(lacking) {
                let again: Vec<Document> = part
                    .iter()
                    .filter(|d| {
                        let same = |r: &&RefusedDoc| r.id == d.id && r.rev == d.rev;
                        first.refused.iter().filter(same).any(lacking)
                    })
                    .cloned()
                    .collect();
                first.refused.retain(|r| !lacking(r));
                for part in self.parts(&again) {
                    first.extend(self.write_part(part, Bytes::All).await?);
                }
            }
            answer.extend(first);
        }
        Ok(answer)
    }

    /// Cuts documents so that no part has more attachments than the target can have waiting.
    fn parts<'a>(&self, docs: &'a [Document]) -> Vec<&'a [Document]> {
        let max = self.target.staged_max();
        let mut parts = Vec::new();
        let (mut from, mut attachments) = (0, 0usize);
        for (index, document) in docs.iter().enumerate() {
            attachments += document.attachments.len();
            if attachments > max && index > from {
                parts.push(&docs[from..index]);
                (from, attachments) = (index, document.attachments.len());
            }
        }
        if from < docs.len() {
            parts.push(&docs[from..]);
        }
        parts
    }

    async fn write_part(&self, docs: &[Document], which: Bytes) -> Result<WriteAnswer, PeerError> {
        let mut answer = WriteAnswer::default();
        let mut prepared = Vec::with_capacity(docs.len());
        for document in docs {
            match self.prepare(document, which).await {
                Ok(document) => prepared.push(document),
                Err(error) => match error.about_document() {
                    Some(error) if error.status == 404 && self.is_gone(document).await? => {
                        answer
                            .known
                            .extend(document.rev.clone().map(|rev| (document.id.clone(), rev)));
                    }
                    Some(error) => answer.refused.push(RefusedDoc {
                        id: document.id.clone(),
                        rev: document.rev.clone(),
                        error,
                    }),
                    None => return Err(error),
                },
            }
        }
        if !prepared.is_empty() {
            answer.extend(self.target.write(prepared).await?);
        }
        Ok(answer)
    }

    /// Whether the source no longer has a revision that it told of: it was purged, or edited and
    /// compacted. What came after it is told further on.
    async fn is_gone(&self, document: &Document) -> Result<bool, PeerError> {
        let Some(rev) = &document.rev else { return Ok(false) };
        let found = self.source.fetch(vec![(document.id.clone(), rev.clone())]).await?;
        let is_there = found.docs.iter().any(|found| found.rev.as_ref() == Some(rev));
        Ok(!is_there && found.refused.is_empty() && found.rest.is_empty())
    }

    /// A document as it is written: the bytes of its attachments are at the target.
    pub(super) async fn prepare(
        &self,
        original: &Document,
        which: Bytes,
    ) -> Result<Document, PeerError> {
        let mut document = original.clone();
        let generation = original.rev.as_ref().map_or(0, Rev::generation);
        for (name, attachment) in &mut document.attachments {
            let new = attachment.revpos == 0 || attachment.revpos >= generation;
            if new || which == Bytes::All {
                let bytes = self.source.attachment(original, name, attachment).await?;
                attachment.data = self.target.stage(attachment, bytes).await?;
            } else {
                let (digest, length) = (attachment.digest(), attachment.length());
                attachment.data = AttachmentData::Stub { digest, length };
            }
        }
        Ok(document)
    }

    /// Tries again what was refused earlier.
    async fn retry_denied(&self) -> Result<(), PeerError> {
        let denied =
            self.context.denied.list().into_iter().filter(|d| d.direction == self.direction);
        let wanted: Vec<_> =
            denied.filter_map(|denied| Some((denied.id, denied.rev?, denied.group))).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut done = {
            let mut progress = self.progress();
            progress.in_flight += 1;
            let (last_seq, pending) = (progress.last_seq.clone(), progress.pending);
            Done { last_seq, pending, ..Done::default() }
        };
        let wanted = self.retry_groups(wanted, &mut done).await?;
        for wanted in wanted.chunks(FETCH_DOCS_MAX) {
            let mut wanted = wanted.to_vec();
            while !wanted.is_empty() {
                let mut fetched = self.source.fetch(wanted.clone()).await?;
                let rest = std::mem::take(&mut fetched.rest);
                let gone: Vec<(DocId, Rev)> = wanted
                    .into_iter()
                    .filter(|one| {
                        let (id, rev) = one;
                        let same = |of: &DocId, other: Option<&Rev>| of == id && other == Some(rev);
                        !fetched.docs.iter().any(|d| same(&d.id, d.rev.as_ref()))
                            && !fetched.refused.iter().any(|r| same(&r.id, r.rev.as_ref()))
                            && !rest.contains(one)
                    })
                    .collect();
                self.context.denied.forget(self.direction, &gone).await?;
                self.write(fetched, &mut done).await?;
                wanted = rest;
            }
        }
        self.context.reporter.denied_count(self.context.denied.len());
        self.progress().in_flight -= 1;
        self.tell(done);
        self.settle();
        Ok(())
    }
}

/// Which attachments are sent with their bytes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Bytes {
    New,
    All,
}
