//! Compaction: bodies of old revisions go, then the attachments that no document names any more.
//!
//! It runs beside readers and writers. Documents are compacted as they are when it happens; a
//! write that was merged against a document with more bodies is merged again.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::backend::{COMMIT_DOCS_ATOMIC_MAX, Compacted, ReadBody, ReadDoc, StoredDoc, SweptBlobs};
use super::database::Database;
use super::error::StoreError;
use super::pace::Pace;
use super::pages::Pages;
use super::upkeep::Upkeep;
use crate::doc::{BlobKey, BodyRecord, DocId, Rev};

/// Attachments removed at a time.
const PAGE_BLOBS: usize = 100;

/// How to compact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactOptions {
    /// Attachment bytes that were taken in more recently than this stay, although no document
    /// names them: a client may be about to write that document. An hour by default.
    pub upload_age: Duration,
    /// Whether to rest after each step for as long as the step took, so that at least half of the
    /// disk's time is left to others. True by default.
    pub gently: bool,
    /// Bytes of bodies and attachments that are read or removed in a second, on the average; no
    /// bound by default.
    pub bytes_per_second_max: Option<u64>,
}

impl CompactOptions {
    /// For who has a database alone: no upload waits for its document, and nobody for the disk.
    pub const ALONE: Self =
        Self { upload_age: Duration::ZERO, gently: false, bytes_per_second_max: None };
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self { upload_age: Duration::from_secs(3600), gently: true, bytes_per_second_max: None }
    }
}

/// What compaction removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactReport {
    /// Documents looked at, deleted ones included.
    pub docs: u64,
    /// Bodies of old revisions.
    pub bodies: u64,
    /// Their bytes.
    pub body_bytes: u64,
    /// Attachments that no document named.
    pub attachments: u64,
    /// Their bytes.
    pub attachment_bytes: u64,
}

impl Database {
    /// Removes the bodies of revisions that are no leaves, attachments that only they named, and
    /// the rows of indexes that nobody defines any more.
    /// Leaves, tombstones among them, keep theirs, and revision trees stay as they are.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`], [`StoreError::Io`], [`StoreError::Damaged`],
    /// [`StoreError::Poisoned`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the database partly compacted; what was removed stays removed.
    pub async fn compact(&self, options: CompactOptions) -> Result<CompactReport, StoreError> {
        let _removing = self.shared.removing.write().await;
        let groups = self.shared.groups_written();
        let until = self.counts().await?.update_seq;
        let mut report = CompactReport::default();
        let mut pace = Pace::new(options.bytes_per_second_max);
        let mut pages = Pages::new(ReadDoc::recent(ReadBody::No));
        while let Some(page) = pages.next(self).await? {
            report.docs += page.len() as u64;
            let has_old = |stored: &StoredDoc| {
                stored.older.body_bytes > 0 || !stored.tree.old_bodies().is_empty()
            };
            let ids = page.into_iter().filter(|(_, stored)| has_old(stored));
            let ids: Vec<DocId> = ids.map(|(id, _)| id).collect();
            for ids in ids.chunks(COMMIT_DOCS_ATOMIC_MAX) {
                let began = Instant::now();
                let Compacted { bodies, bytes } =
                    self.named(self.backend().compact(self.key(), ids.to_vec()).await)?;
                report.bodies += bodies;
                report.body_bytes += bytes;
                pace.take(bytes).await;
                rest(options, began).await;
            }
        }
        self.forget_groups(until).await?;
        self.shared.note_groups_looked_at(groups);
        self.clean_indexes().await?;
        let swept = self.sweep(options).await?;
        (report.attachments, report.attachment_bytes) = (swept.blobs, swept.bytes);
        self.shared.note_compaction();
        Ok(report)
    }

    /// Removes attachment bytes that no stored revision names, and nothing else: the part of
    /// [`Database::compact`] that comes last.
    ///
    /// # Errors
    /// As [`Database::compact`].
    ///
    /// # Cancel safety
    /// As [`Database::compact`].
    pub async fn sweep_attachments(
        &self,
        options: CompactOptions,
    ) -> Result<SweptBlobs, StoreError> {
        let _removing = self.shared.removing.write().await;
        self.sweep(options).await
    }

    async fn sweep(&self, options: CompactOptions) -> Result<SweptBlobs, StoreError> {
        let mut swept = SweptBlobs::default();
        let mut pace = Pace::new(options.bytes_per_second_max);
        let mut sweep = self.named(self.backend().sweep_blobs(self.key()).await)?;
        let stored = self.backend().blobs(self.key(), options.upload_age).await?;
        let mut unnamed: HashSet<BlobKey> = stored.into_iter().collect();
        let mut pages = Pages::new(ReadDoc::whole(ReadBody::SmallWinner));
        while !unnamed.is_empty()
            && let Some(page) = pages.next(self).await?
        {
            for (id, stored) in page {
                let read = self.remove_named(&id, stored, &mut unnamed).await?;
                pace.take(read).await;
            }
        }
        let unnamed: Vec<BlobKey> = unnamed.into_iter().collect();
        for keys in unnamed.chunks(PAGE_BLOBS) {
            let began = Instant::now();
            let SweptBlobs { blobs, bytes } = self.named(sweep.remove(keys.to_vec()).await)?;
            swept.blobs += blobs;
            swept.bytes += bytes;
            pace.take(bytes).await;
            rest(options, began).await;
        }
        let left = self.attachment_bytes().await?;
        let upkeep = self.upkeep().await?;
        if upkeep.swept_bytes != left {
            self.set_upkeep(&Upkeep { swept_bytes: left, ..upkeep }).await?;
        }
        Ok(swept)
    }

    /// Takes what a document's stored revisions name out of `unnamed`; answers the bytes of the
    /// bodies.
    async fn remove_named(
        &self,
        id: &DocId,
        stored: StoredDoc,
        unnamed: &mut HashSet<BlobKey>,
    ) -> Result<u64, StoreError> {
        let mut read = 0;
        let mut remove = |body: &BodyRecord| {
            read += body.encoded_len() as u64;
            body.attachments.iter().for_each(|attachment| {
                unnamed.remove(&attachment.blob.key);
            });
        };
        let winner = stored.winner_body.as_ref().and_then(|_| stored.tree.winner());
        stored.winner_body.iter().for_each(&mut remove);
        let revs: Vec<(DocId, Rev)> = stored
            .tree
            .revs()
            .filter(|(_, state)| state.body_bytes.is_some())
            .filter(|(rev, _)| winner.as_ref().is_none_or(|winner| winner.rev != **rev))
            .map(|(rev, _)| (id.clone(), rev.clone()))
            .collect();
        for revs in revs.chunks(COMMIT_DOCS_ATOMIC_MAX) {
            let bodies = self.backend().bodies(self.key(), revs).await?;
            bodies.iter().flatten().for_each(&mut remove);
        }
        Ok(read)
    }
}

/// Leaves others as much time as the last step took.
async fn rest(options: CompactOptions, began: Instant) {
    if options.gently {
        tokio::time::sleep(began.elapsed()).await;
    }
}
