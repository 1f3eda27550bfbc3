//! Making an archive: a stream that reads the store at its own reader's pace.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;

use super::BackupError;
use super::frame::FrameWriter;
use super::manifest::{Manifest, Reached};
use super::record::{ArchivedDoc, Record};
use crate::doc::{BlobKey, BodyRecord, DbName, DocId, LocalId, Rev, RevTree};
use crate::store::Store;
use crate::store::backend::{
    ChangesRange, Counts, Order, ReadBody, ReadDoc, Snapshot, StoredDoc, Uuid,
};
use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::pace::Pace;

/// Rows, local documents and names that are read at a time.
const PAGE: usize = 100;
/// Documents that are read between two commits, at the end of a database.
const LAST_DOCS_MAX: usize = 100;
/// Bytes that are handed on at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Times that the feed's end is caught up with before it counts as running away.
const CATCHING_UP_MAX: u32 = 100;
/// Times that a database is begun.
const BEGINNINGS_MAX: u32 = 5;

/// What a backup holds and how fast it is read.
#[derive(Debug, Clone, Default)]
pub struct BackupOptions {
    /// Only what changed since this archive was made; all by default.
    pub since: Option<Manifest>,
    /// Bytes of the archive in a second, on the average; as fast as it is read by default. Does not
    /// hold for what changed while the backup was taken, which must be caught up with.
    pub bytes_per_second_max: Option<u64>,
}

/// What an archive holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupReport {
    /// Databases.
    pub databases: u64,
    /// Documents, deleted ones included; those that changed meanwhile more than once.
    pub docs: u64,
    /// Attachments, each content once for each database.
    pub attachments: u64,
    /// Bytes of the archive.
    pub bytes: u64,
}

impl Store {
    /// Begins a backup of everything. The stream gives the archive's bytes in pieces; only an
    /// archive whose stream came to its end can be restored. Nothing is read ahead of the reader, and
    /// nobody who writes meanwhile waits for it, except compaction of the database that is being read.
    ///
    /// Each database is archived as it was at one update seq, some time between the beginning and
    /// the end; databases that are made meanwhile may be left out. Bodies of old revisions are left
    /// out.
    #[must_use]
    pub fn backup(&self, options: BackupOptions) -> Backup {
        let (sender, pieces) = mpsc::channel(1);
        let report = Arc::new(Mutex::new(BackupReport::default()));
        let work = write(self.clone(), options, sender, Arc::clone(&report));
        Backup { work: Mutex::new(Some(Box::pin(work))), pieces, report }
    }
}

type Work = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// A backup under way: a stream of bytes, at most 256 KiB or so at a time.
///
/// Dropping it ends it. An error ends it too; the archive is useless then.
pub struct Backup {
    /// In a mutex that is never locked, so that streams are `Sync`, as bodies of HTTP must be.
    work: Mutex<Option<Work>>,
    pieces: mpsc::Receiver<Bytes>,
    report: Arc<Mutex<BackupReport>>,
}

impl Backup {
    /// What was archived so far.
    #[must_use]
    pub fn report(&self) -> BackupReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup").field("report", &self.report()).finish_non_exhaustive()
    }
}

impl Stream for Backup {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { work, pieces, .. } = self.get_mut();
        let work = work.get_mut().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Poll::Ready(Some(piece)) = pieces.poll_recv(cx) {
                return Poll::Ready(Some(Ok(piece)));
            }
            let Some(running) = work else { return Poll::Ready(None) };
            match running.as_mut().poll(cx) {
                Poll::Ready(done) => {
                    *work = None;
                    if let Err(error) = done {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                // It may have filled the queue on its way.
                Poll::Pending => {
                    return match pieces.poll_recv(cx) {
                        Poll::Ready(Some(piece)) => Poll::Ready(Some(Ok(piece))),
                        Poll::Ready(None) | Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }
}

async fn write(
    store: Store,
    options: BackupOptions,
    sender: mpsc::Sender<Bytes>,
    report: Arc<Mutex<BackupReport>>,
) -> Result<(), StoreError> {
    if let Some(since) = options.since.as_ref().filter(|since| since.store != store.uuid()) {
        return Err(BackupError::OtherStore { found: since.store }.into());
    }
    let base = options.since.as_ref().map(|since| since.archive);
    let earlier = options.since.map(|since| since.databases).unwrap_or_default();
    let mut buffer = Vec::with_capacity(2 * PIECE_BYTES);
    let frames = FrameWriter::begin(&mut buffer);
    let pace = Pace::new(options.bytes_per_second_max);
    let mut out = Out { frames, buffer, sender, pace, hurry: false, report };
    let archive = Uuid::random()?;
    let begun_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    out.record(Record::Header { archive, store: store.uuid(), base, begun_s }).await?;
    let mut databases = BTreeMap::new();
    let mut after: Option<DbName> = None;
    loop {
        let names = store.names(after.as_ref(), PAGE).await?;
        let Some(last) = names.last() else { break };
        after = Some(last.clone());
        for name in names {
            let database = match store.database(&name).await {
                Err(StoreError::DatabaseMissing { .. }) => continue,
                found => found?,
            };
            if let Some(reached) = out.database(&database, earlier.get(&name)).await? {
                out.report().databases += 1;
                databases.insert(name, reached);
            }
        }
    }
    out.record(Record::End(Manifest { archive, store: store.uuid(), databases })).await?;
    out.flush().await
}

/// Where records go.
struct Out {
    frames: FrameWriter,
    buffer: Vec<u8>,
    sender: mpsc::Sender<Bytes>,
    pace: Pace,
    /// Whether the pace does not count, since the feed's end must be caught up with.
    hurry: bool,
    report: Arc<Mutex<BackupReport>>,
}

impl Out {
    fn report(&self) -> std::sync::MutexGuard<'_, BackupReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn record(&mut self, record: Record) -> Result<(), StoreError> {
        record.write(&mut self.frames, &mut self.buffer);
        if self.buffer.len() >= PIECE_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(2 * PIECE_BYTES));
        let bytes = piece.len() as u64;
        if !self.hurry {
            self.pace.take(bytes).await;
        }
        self.report().bytes += bytes;
        // The receiver lives as long as this future is polled.
        self.sender.send(piece.into()).await.map_err(|_| StoreError::Closed)
    }

    /// Archives a database; `None` if it was destroyed meanwhile.
    async fn database(
        &mut self,
        database: &Database,
        earlier: Option<&Reached>,
    ) -> Result<Option<Reached>, StoreError> {
        let name = database.name().clone();
        let shared = Arc::clone(&database.shared);
        // Nothing that a document named when it was read may go before it was archived.
        let _removing = shared.removing.read().await;
        let counts = match database.counts().await {
            Err(StoreError::DatabaseDestroyed { .. }) => return Ok(None),
            counts => counts?,
        };
        let incarnation = database.incarnation();
        // What was purged cannot be told by what changed.
        let goes_on = |earlier: &&Reached| {
            earlier.incarnation == incarnation
                && earlier.purge_seq == counts.purge_seq
                && earlier.seq <= counts.update_seq
        };
        let since = earlier.filter(goes_on).map(|earlier| earlier.seq);
        self.record(Record::Database { name: name.clone(), incarnation, since }).await?;
        match self.contents(database, since, counts).await {
            Ok(reached) => Ok(Some(reached)),
            Err(StoreError::DatabaseDestroyed { .. }) => {
                self.record(Record::Destroyed).await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn contents(
        &mut self,
        database: &Database,
        mut since: Option<u64>,
        mut began: Counts,
    ) -> Result<Reached, StoreError> {
        for _ in 0..BEGINNINGS_MAX {
            let settings = database.shared.settings().clone();
            self.record(Record::Settings(settings)).await?;
            self.locals(database).await?;
            let mut reading = Reading { database, named: HashSet::new() };
            let end = reading.feed(self, since.unwrap_or(0), began.update_seq).await;
            self.hurry = false;
            let end = end?;
            if end.purge_seq == began.purge_seq {
                let Counts { update_seq: seq, purge_seq, docs, deleted_docs, .. } = end;
                let reached = Reached { incarnation: database.incarnation(), seq, purge_seq };
                self.record(Record::DatabaseEnd { reached, docs, deleted_docs }).await?;
                return Ok(reached);
            }
            (since, began) = (None, database.counts().await?);
            self.record(Record::Again).await?;
        }
        Err(BackupError::FellBehind { name: database.name().clone() }.into())
    }

    /// Local documents are read before the documents, so that no checkpoint among them is ahead of
    /// what is archived.
    async fn locals(&mut self, database: &Database) -> Result<(), StoreError> {
        let mut after: Option<LocalId> = None;
        loop {
            let page = database.backend().locals(database.key(), after.as_ref(), PAGE).await?;
            let Some((last, ..)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (id, rev, body) in page {
                self.record(Record::Local { id, rev, body }).await?;
            }
        }
    }
}

/// A database whose feed is read.
struct Reading<'a> {
    database: &'a Database,
    /// Attachments that are in the archive.
    named: HashSet<BlobKey>,
}

impl Reading<'_> {
    /// Reads what changed after `since` until there is nothing more; answers the counters then.
    async fn feed(
        &mut self,
        out: &mut Out,
        mut since: u64,
        mut end: u64,
    ) -> Result<Counts, StoreError> {
        let (backend, key) = (self.database.backend(), self.database.key());
        let mut ends = 0;
        loop {
            let last = self.database.named(backend.snapshot(key, since, LAST_DOCS_MAX).await)?;
            if !last.more && self.last(out, &last).await? {
                return Ok(last.counts);
            }
            if since >= end {
                ends += 1;
                (end, out.hurry) = (last.counts.update_seq, true);
            }
            if ends > CATCHING_UP_MAX {
                return Err(BackupError::FellBehind { name: self.database.name().clone() }.into());
            }
            since = self.pages(out, since, end).await?;
        }
    }

    /// Reads pages until one reaches `until`; answers where the last one ended.
    async fn pages(
        &mut self,
        out: &mut Out,
        mut since: u64,
        until: u64,
    ) -> Result<u64, StoreError> {
        let (backend, key) = (self.database.backend(), self.database.key());
        loop {
            self.database.alive()?;
            let range = ChangesRange { since, limit: PAGE, order: Order::Ascending };
            let page = backend.changes(key, range).await?;
            let ids: Vec<DocId> = page.rows.iter().map(|row| row.id.clone()).collect();
            let stored = backend.read(key, &ids, ReadDoc::whole(ReadBody::SmallWinner)).await?;
            for (row, stored) in page.rows.into_iter().zip(stored) {
                // One that has changed meanwhile comes again.
                let Some(stored) = stored.filter(|stored| stored.version.seq == row.seq) else {
                    continue;
                };
                if !self.doc(out, &row.id, &stored).await? {
                    self.check_gone(&row.id, row.seq).await?;
                }
            }
            since = page.last_seq;
            if !page.more || since >= until {
                return Ok(since);
            }
        }
    }

    /// Archives the documents that are the last ones; answers whether all of them were still there.
    async fn last(&mut self, out: &mut Out, last: &Snapshot) -> Result<bool, StoreError> {
        for (id, stored) in &last.docs {
            if !self.doc(out, id, stored).await? {
                self.check_gone(id, stored.version.seq).await?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A body that is missing although its document has not changed is damage.
    async fn check_gone(&self, id: &DocId, seq: u64) -> Result<(), StoreError> {
        self.database.alive()?;
        let ids = std::slice::from_ref(id);
        let read = ReadDoc::recent(ReadBody::No);
        let found = self.database.backend().read(self.database.key(), ids, read).await?;
        if found.into_iter().flatten().any(|stored| stored.version.seq == seq) {
            let what = format!("document {id:?} of {} lacks a body", self.database.name());
            return Err(StoreError::Damaged { what });
        }
        Ok(())
    }

    /// Archives a document as it was read; answers whether its leaves' bodies were still there.
    async fn doc(
        &mut self,
        out: &mut Out,
        id: &DocId,
        stored: &StoredDoc,
    ) -> Result<bool, StoreError> {
        let leaves = stored.tree.leaves();
        let mut bodies = Vec::with_capacity(leaves.len());
        for (place, leaf) in leaves.into_iter().enumerate() {
            let body = match &stored.winner_body {
                Some(body) if place == 0 => Some(body.clone()),
                _ => self.body(id, leaf.rev).await?,
            };
            let Some(body) = body else { return Ok(false) };
            if leaf.state.body_bytes != body.body_bytes() {
                return Ok(false);
            }
            bodies.push(body);
        }
        self.attachments(out, &bodies).await?;
        let tree: RevTree = stored.tree.clone();
        out.report().docs += 1;
        out.record(Record::Doc(ArchivedDoc::new(id.clone(), tree, bodies))).await?;
        Ok(true)
    }

    async fn body(&self, id: &DocId, rev: Rev) -> Result<Option<BodyRecord>, StoreError> {
        let asked = [(id.clone(), rev)];
        let found = self.database.backend().bodies(self.database.key(), &asked).await?;
        Ok(found.into_iter().flatten().next())
    }

    async fn attachments(
        &mut self,
        out: &mut Out,
        bodies: &[BodyRecord],
    ) -> Result<(), StoreError> {
        for attachment in bodies.iter().flat_map(|body| &body.attachments) {
            let (key, length) = (attachment.blob.key, attachment.blob.length);
            if !self.named.insert(key) {
                continue;
            }
            let reader = self.database.backend().read_blob(self.database.key(), &key).await?;
            self.database.alive()?;
            let mut reader = reader.ok_or(StoreError::BlobMissing { key })?;
            out.report().attachments += 1;
            out.record(Record::Blob { key, length }).await?;
            let mut left = length;
            while let Some(piece) = reader.next().await? {
                left = left.saturating_sub(piece.len() as u64);
                out.record(Record::Piece(piece)).await?;
            }
            if left > 0 {
                let what = format!("attachment bytes {key} are fewer than {length}");
                return Err(StoreError::Damaged { what });
            }
        }
        Ok(())
    }
}
