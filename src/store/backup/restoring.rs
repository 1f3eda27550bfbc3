//! Restoring: an archive, and those with the changes since, become a data directory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::BackupError;
use super::manifest::{Manifest, Reached};
use super::record::{ArchiveReader, ArchivedDoc, Record};
use crate::doc::{BlobKey, Body, DbName, DocId, LocalId, LocalRev, Rev};
use crate::limits::Limits;
use crate::store::backend::{
    BlobWriter, Commit, DocCommit, LocalCommit, OlderCommit, ReadBody, ReadDoc, StagedBlob,
    StoredDoc,
};
use crate::store::checkpoints::Checkpoint;
use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::{SledBackend, Store};

/// Bytes of records that are read ahead at a time.
const READ_AHEAD_BYTES: usize = 256 * 1024;
/// Documents, and bytes of their bodies and small attachments, that are written at a time.
const COMMIT_DOCS: usize = 1_000;
const COMMIT_BYTES: usize = 4 * 1024 * 1024;
/// Local documents that are written at the same time.
const LOCALS_AT_ONCE: usize = 64;

/// What to restore.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Only these databases; all if empty.
    pub only: Vec<DbName>,
}

/// What was restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// How far each database had been backed up by the last archive, under its incarnation then.
    pub databases: BTreeMap<DbName, Reached>,
    /// Documents that were written, deleted ones included.
    pub docs: u64,
    /// Local documents that were left out, since they are checkpoints.
    pub checkpoints: u64,
}

impl Store {
    /// Restores archives to a directory that is not there or empty: a whole one, then those with the
    /// changes since, in the order they were made.
    ///
    /// Until this has returned, opening the directory fails with [`StoreError::Unfinished`], also
    /// after a crash. Databases get new incarnations, and checkpoints are left out, so that clients
    /// compare everything anew.
    ///
    /// # Errors
    /// [`StoreError::Backup`] for an archive that is cut, damaged or out of order; [`StoreError::Io`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves a directory that is not opened; restoring to it begins anew.
    pub async fn restore<R: Read + Send + 'static>(
        path: impl AsRef<Path>,
        archives: Vec<R>,
        options: RestoreOptions,
    ) -> Result<Restored, StoreError> {
        make_anew(path.as_ref(), |store| restore_to(store, archives, options)).await
    }
}

/// Makes a data directory with a store in it, which can be opened only after `fill` has filled it.
pub(super) async fn make_anew<T, F: Future<Output = Result<T, StoreError>>>(
    path: &Path,
    fill: impl FnOnce(Store) -> F,
) -> Result<T, StoreError> {
    let backend = Arc::new(SledBackend::begin_restoring(path)?);
    let store = Store::with_backend(backend, Limits::default());
    let filled = fill(store.clone()).await;
    store.close().await?;
    let filled = filled?;
    SledBackend::finish_restoring(path, store.uuid())?;
    Ok(filled)
}

async fn restore_to<R: Read + Send + 'static>(
    store: Store,
    archives: Vec<R>,
    options: RestoreOptions,
) -> Result<Restored, StoreError> {
    let mut restoring = Restoring {
        store,
        only: options.only.into_iter().collect(),
        last: None,
        restored: Restored::default(),
    };
    for archive in archives {
        restoring.archive(archive).await?;
    }
    let last = restoring.last.ok_or(BackupError::Nothing)?;
    let mut restored = restoring.restored;
    restored.databases = last.databases;
    if !restoring.only.is_empty() {
        restored.databases.retain(|name, _| restoring.only.contains(name));
    }
    Ok(restored)
}

type Batch = Result<Vec<(u64, Record)>, BackupError>;

/// Reads records ahead, in the order of the archive.
fn read_ahead<R: Read + Send + 'static>(archive: R) -> mpsc::Receiver<Batch> {
    let (sender, batches) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let mut reader = match ArchiveReader::begin(archive) {
            Ok(reader) => reader,
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        loop {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while bytes < READ_AHEAD_BYTES {
                match reader.record() {
                    Ok(record) => {
                        bytes += size(&record);
                        let ended = matches!(record, Record::End(_));
                        batch.push((reader.frame(), record));
                        if ended {
                            return drop(sender.blocking_send(Ok(batch)));
                        }
                    }
                    Err(error) => return drop(sender.blocking_send(Err(error))),
                }
            }
            if sender.blocking_send(Ok(batch)).is_err() {
                return;
            }
        }
    });
    batches
}

/// About how much memory a record takes.
fn size(record: &Record) -> usize {
    const LEAST: usize = 200;
    LEAST
        + match record {
            Record::Piece(bytes) => bytes.len(),
            Record::Local { body, .. } => body.as_str().len(),
            Record::Doc(doc) => doc_bytes(doc) + doc.tree.len() * 64,
            _ => 0,
        }
}

fn doc_bytes(doc: &ArchivedDoc) -> usize {
    doc.bodies.iter().map(|(_, body)| body.body.as_str().len()).sum()
}

struct Restoring {
    store: Store,
    only: HashSet<DbName>,
    /// The archive that was restored last.
    last: Option<Manifest>,
    restored: Restored,
}

impl Restoring {
    async fn archive<R: Read + Send + 'static>(&mut self, archive: R) -> Result<(), StoreError> {
        let mut batches = read_ahead(archive);
        let mut section: Option<Section> = None;
        loop {
            let batch = batches.recv().await.unwrap_or_else(|| {
                Err(BackupError::Io(std::io::Error::other("the reader has stopped")))
            })?;
            for (frame, record) in batch {
                let damaged = |problem| StoreError::from(BackupError::Damaged { frame, problem });
                match record {
                    Record::Header { archive, base, .. } => self.check_base(archive, base)?,
                    Record::Database { name, incarnation, since } => {
                        let wanted = self.only.is_empty() || self.only.contains(&name);
                        if let Some(since) = since {
                            let known =
                                self.last.as_ref().and_then(|last| last.databases.get(&name));
                            let follows = |known: &Reached| {
                                known.incarnation == incarnation && known.seq == since
                            };
                            if !known.is_some_and(follows) {
                                return Err(damaged("goes on from another state"));
                            }
                        }
                        section = if wanted {
                            Some(Section::begin(&self.store, name, since.is_some()).await?)
                        } else {
                            None
                        };
                    }
                    Record::End(manifest) => {
                        self.drop_others(&manifest).await?;
                        self.last = Some(manifest);
                        return Ok(());
                    }
                    Record::Destroyed => {
                        if let Some(section) = section.take() {
                            self.store.destroy(section.database.name()).await?;
                        }
                    }
                    Record::Again => {
                        if let Some(begun) = section.take() {
                            let name = begun.database.name().clone();
                            drop(begun);
                            section = Some(Section::begin(&self.store, name, false).await?);
                        }
                    }
                    Record::DatabaseEnd { docs, deleted_docs, .. } => {
                        let Some(mut section) = section.take() else { continue };
                        section.flush().await?;
                        let counts = section.database.counts().await?;
                        if (counts.docs, counts.deleted_docs) != (docs, deleted_docs) {
                            return Err(damaged("counts other documents than there are"));
                        }
                        self.restored.docs += section.docs;
                        self.restored.checkpoints += section.checkpoints;
                    }
                    other => {
                        if let Some(section) = &mut section {
                            section.take(other).await?.map_err(damaged)?;
                        }
                    }
                }
            }
        }
    }

    fn check_base(
        &self,
        archive: crate::store::Uuid,
        base: Option<crate::store::Uuid>,
    ) -> Result<(), BackupError> {
        match (base, &self.last) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(BackupError::NotAnIncrement { archive }),
            (Some(base), last) if last.as_ref().is_some_and(|last| last.archive == base) => Ok(()),
            (Some(base), _) => Err(BackupError::WrongBase { archive, base }),
        }
    }

    /// Databases that were gone when the archive was made go.
    async fn drop_others(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let Some(last) = &self.last else { return Ok(()) };
        for name in last.databases.keys().filter(|name| !manifest.databases.contains_key(*name)) {
            match self.store.destroy(name).await {
                Ok(()) | Err(StoreError::DatabaseMissing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A database that is being restored.
pub(super) struct Section {
    database: Database,
    /// Whether there are documents of an earlier archive.
    goes_on: bool,
    docs: u64,
    checkpoints: u64,
    blob: Option<(BlobKey, u64, Box<dyn BlobWriter>)>,
    /// Small attachments that wait for a document which names them.
    small: HashMap<BlobKey, StagedBlob>,
    small_bytes: usize,
    waiting: Vec<ArchivedDoc>,
    waiting_ids: HashSet<DocId>,
    waiting_bytes: usize,
    locals: Vec<(LocalId, LocalRev, Body)>,
}

impl Section {
    pub(super) async fn begin(
        store: &Store,
        name: DbName,
        goes_on: bool,
    ) -> Result<Self, StoreError> {
        let database = if goes_on {
            store.database(&name).await?
        } else {
            match store.destroy(&name).await {
                Ok(()) | Err(StoreError::DatabaseMissing { .. }) => {}
                Err(error) => return Err(error),
            }
            store.create(&name).await?
        };
        let mut section = Self {
            database,
            goes_on,
            docs: 0,
            checkpoints: 0,
            blob: None,
            small: HashMap::new(),
            small_bytes: 0,
            waiting: Vec::new(),
            waiting_ids: HashSet::new(),
            waiting_bytes: 0,
            locals: Vec::new(),
        };
        if goes_on {
            section.remove_locals().await?;
        }
        Ok(section)
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// How many documents were written.
    pub(super) fn docs(&self) -> u64 {
        self.docs
    }

    /// Forgets an attachment that has begun and does not come to its end.
    pub(super) fn give_up_attachment(&mut self) {
        self.blob = None;
    }

    /// An archive has all local documents, whatever it goes on from.
    async fn remove_locals(&mut self) -> Result<(), StoreError> {
        let (backend, key) = (self.database.backend(), self.database.key());
        loop {
            let page = backend.locals(key, None, LOCALS_AT_ONCE).await?;
            if page.is_empty() {
                return Ok(());
            }
            let removals = page.into_iter().map(|(id, rev, _)| {
                backend.commit_local(key, LocalCommit { id, expected: Some(rev), content: None })
            });
            futures::future::try_join_all(removals).await?;
        }
    }

    /// Takes a record of the database; the inner error says what is wrong with the archive.
    pub(super) async fn take(
        &mut self,
        record: Record,
    ) -> Result<Result<(), &'static str>, StoreError> {
        match record {
            Record::Settings(settings) => {
                self.database.change_settings(|kept| *kept = settings).await?;
            }
            Record::Local { id, rev, body } => {
                if Checkpoint::of(&body).is_some() {
                    self.checkpoints += 1;
                } else {
                    self.locals.push((id, rev, body));
                }
                if self.locals.len() >= COMMIT_DOCS {
                    self.write_locals().await?;
                }
            }
            Record::Blob { key, length } => {
                let writer = self.database.backend().write_blob(self.database.key()).await?;
                self.blob = Some((key, length, writer));
                if length == 0 {
                    return self.end_blob().await;
                }
            }
            Record::Piece(bytes) => return self.piece(bytes).await,
            Record::Doc(doc) => {
                if self.waiting_ids.contains(&doc.id) {
                    self.flush().await?;
                }
                self.waiting_bytes += doc_bytes(&doc);
                self.waiting_ids.insert(doc.id.clone());
                self.waiting.push(doc);
                let bytes = self.waiting_bytes + self.small_bytes;
                if self.waiting.len() >= COMMIT_DOCS || bytes >= COMMIT_BYTES {
                    self.flush().await?;
                }
            }
            Record::Header { .. }
            | Record::Database { .. }
            | Record::Again
            | Record::DatabaseEnd { .. }
            | Record::Destroyed
            | Record::End(_) => return Ok(Err("is not in its place")),
        }
        Ok(Ok(()))
    }

    async fn piece(&mut self, bytes: Bytes) -> Result<Result<(), &'static str>, StoreError> {
        let Some((_, left, writer)) = &mut self.blob else { return Ok(Err("is of no attachment")) };
        *left = left.saturating_sub(bytes.len() as u64);
        writer.write(bytes).await?;
        if *left == 0 { self.end_blob().await } else { Ok(Ok(())) }
    }

    async fn end_blob(&mut self) -> Result<Result<(), &'static str>, StoreError> {
        let Some((key, _, writer)) = self.blob.take() else { return Ok(Ok(())) };
        let staged = writer.finish().await?;
        if staged.blob.key != key {
            return Ok(Err("ends an attachment that has other bytes than its name says"));
        }
        if let Some(small) = &staged.small {
            let bytes = small.len();
            if self.small.insert(key, staged).is_none() {
                self.small_bytes += bytes;
            }
        }
        Ok(Ok(()))
    }

    async fn write_locals(&mut self) -> Result<(), StoreError> {
        let (backend, key) = (self.database.backend(), self.database.key());
        let writes = std::mem::take(&mut self.locals).into_iter().map(|(id, rev, body)| {
            let content = Some((rev, body));
            backend.commit_local(key, LocalCommit { id, expected: None, content })
        });
        let mut writes = futures::stream::iter(writes).buffer_unordered(LOCALS_AT_ONCE);
        while let Some(written) = writes.next().await {
            written?;
        }
        Ok(())
    }

    /// Writes everything that waits.
    pub(super) async fn flush(&mut self) -> Result<(), StoreError> {
        self.write_locals().await?;
        if self.waiting.is_empty() {
            return Ok(());
        }
        let docs = std::mem::take(&mut self.waiting);
        self.waiting_ids.clear();
        self.waiting_bytes = 0;
        let (backend, key) = (self.database.backend(), self.database.key());
        let mut states: Vec<Option<StoredDoc>> = if self.goes_on {
            let ids: Vec<DocId> = docs.iter().map(|doc| doc.id.clone()).collect();
            backend.read(key, &ids, ReadDoc::whole(ReadBody::No)).await?
        } else {
            vec![None; docs.len()]
        };
        loop {
            let batch =
                docs.iter().zip(&states).map(|(doc, state)| self.commit(doc, state.as_ref()));
            match backend.commit(key, batch.collect()).await? {
                Commit::Done(_) => break,
                Commit::Stale(stale) => {
                    for (place, state) in stale {
                        states[place] = state;
                    }
                }
                Commit::BlobsMissing(_) => {
                    let what = "the backup: a document names an attachment that is not in it";
                    return Err(StoreError::Damaged { what: what.into() });
                }
            }
        }
        self.docs += docs.len() as u64;
        // Others came for a document that is still to follow.
        for (_, body) in docs.iter().flat_map(|doc| &doc.bodies) {
            for attachment in &body.attachments {
                let written = self.small.remove(&attachment.blob.key);
                let bytes = written.and_then(|staged| staged.small);
                self.small_bytes -= bytes.map_or(0, |bytes| bytes.len());
            }
        }
        Ok(())
    }

    /// A document in place of whatever is there.
    fn commit(&self, doc: &ArchivedDoc, state: Option<&StoredDoc>) -> DocCommit {
        let replaced = |rev: &Rev| doc.bodies.iter().all(|(given, _)| given != rev);
        let old = state.into_iter().flat_map(|state| state.tree.revs());
        let dropped = old.filter(|(rev, state)| state.body_bytes.is_some() && replaced(rev));
        let named = doc.bodies.iter().flat_map(|(_, body)| &body.attachments);
        let blobs = named.filter_map(|attachment| self.small.get(&attachment.blob.key));
        DocCommit {
            id: doc.id.clone(),
            expected: state.map(|state| state.version).unwrap_or_default(),
            dropped: dropped.map(|(rev, _)| rev.clone()).collect(),
            older: OlderCommit::default(),
            leaves: doc.tree.leaves(),
            tree: doc.tree.clone(),
            bodies: doc.bodies.clone(),
            blobs: blobs.cloned().collect(),
        }
    }
}
