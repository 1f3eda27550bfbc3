//! Salvaging: what can still be read of a damaged data directory becomes a new one.
//!
//! It goes the way of a restore, without an archive in between, and without its demands: what cannot
//! be read is left out and told. The hard case is a row that is named in one index alone, so the
//! documents are those that either names.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt as _;

use super::record::{ArchivedDoc, Record};
use super::restoring::{Section, make_anew};
use crate::doc::{BlobKey, BodyRecord, DbName, DocId, LocalId};
use crate::limits::Limits;
use crate::store::backend::{ChangesRange, Counts, Order, ReadBody, ReadDoc, StoredDoc};
use crate::store::compact::CompactOptions;
use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::pages::Pages;
use crate::store::{SledBackend, Store};

/// Rows and documents that are read at a time, as long as all of them can be.
const PAGE: usize = 100;
/// Rows that are skipped in an index, before the rest of it counts as unreadable.
const SKIPPED_MAX: u64 = 10_000;
/// A copy of the damaged directory, in the new one while that is made.
const COPY_DIR: &str = "damaged";

/// What was salvaged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// The number of the last group of writes that could be read. Groups come one after the other.
    pub group: u64,
    /// The number of the last group of which the directory still says that it was acknowledged;
    /// `None` if it does not say. After a power loss it may be an earlier one.
    pub acknowledged: Option<u64>,
    /// What is wrong with the log of writes, if it is damaged: then something of any group may be
    /// missing that nothing else tells of. Mostly nothing is where a power loss tore its end.
    pub log_damage: Option<String>,
    /// The databases, in the order of their names.
    pub databases: Vec<SalvagedDatabase>,
}

/// What was salvaged of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SalvagedDatabase {
    /// Its name.
    pub name: DbName,
    /// Documents that are in the new directory, deleted ones included.
    pub docs: u64,
    /// What could not be read.
    pub lost: Vec<Lost>,
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The document that is left out; `None` for what is of no one document.
    pub id: Option<DocId>,
    /// Why.
    pub problem: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "document {id:?}: {}", self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

impl Store {
    /// Makes a data directory of what can still be read of one that is refused as
    /// [damaged](StoreError::Damaged), which stays as it is and must not be in use. `to` must not be
    /// there, or be empty. Needs as much disk as the damaged directory without its attachments in files,
    /// beside the new one.
    ///
    /// What cannot be read is told, as far as anything names it; see [`Salvaged`]. As with
    /// [`Store::restore`] databases get new incarnations, and checkpoints and bodies of old
    /// revisions are left out, so that clients compare everything anew and push what is missing.
    /// Until this has returned, opening `to` fails with [`StoreError::Unfinished`].
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if nothing can be read; [`StoreError::Locked`] if the damaged directory
    /// is in use; [`StoreError::Io`], also where there is none, or something is in `to`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a directory that is not opened; salvaging to it begins anew.
    pub async fn salvage(
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
    ) -> Result<Salvaged, StoreError> {
        let (from, to) = (from.as_ref().to_owned(), to.as_ref().to_owned());
        if !SledBackend::is_left_at(&from) {
            let source = io::Error::new(io::ErrorKind::NotFound, "there is no store in it");
            return Err(StoreError::Io { doing: "read the damaged data directory", source });
        }
        let copy = to.join(COPY_DIR);
        make_anew(&to, |store| async move {
            let salvaged = salvage_to(&store, from, copy.clone()).await;
            let removed = std::fs::remove_dir_all(copy);
            let salvaged = salvaged?;
            removed.map_err(|source| StoreError::Io { doing: "remove a copy", source })?;
            Ok(salvaged)
        })
        .await
    }
}

async fn salvage_to(store: &Store, from: PathBuf, copy: PathBuf) -> Result<Salvaged, StoreError> {
    let opening = tokio::task::spawn_blocking(move || SledBackend::open_copy(&from, &copy));
    let (backend, reaches) = read(crate::store::joined(opening)).await?;
    let damaged = Store::with_backend(Arc::new(backend), Limits::default());
    let mut salvaged = Salvaged {
        group: reaches.group,
        acknowledged: reaches.acknowledged,
        log_damage: reaches.log_damage,
        databases: Vec::new(),
    };
    let done = salvage_all(&damaged, store, &mut salvaged.databases).await;
    // So that nobody writes to its files any more. What it could not bring to the disk nobody needs.
    let _ = damaged.close().await;
    done.map(|()| salvaged)
}

async fn salvage_all(
    damaged: &Store,
    store: &Store,
    databases: &mut Vec<SalvagedDatabase>,
) -> Result<(), StoreError> {
    let mut after: Option<DbName> = None;
    loop {
        let names = read(damaged.names(after.as_ref(), PAGE)).await?;
        let Some(last) = names.last() else { return Ok(()) };
        after = Some(last.clone());
        for name in names {
            let mut lost = Losses::default();
            let docs = match read(damaged.database(&name)).await {
                Ok(database) => salvage_database(&database, store, &mut lost).await?,
                Err(error) => {
                    lost.note(None, format!("the database is left out: {error}"));
                    0
                }
            };
            databases.push(SalvagedDatabase { name, docs, lost: lost.0 });
        }
    }
}

/// What is read of the damaged directory: sled panics where pages do not fit together.
async fn read<T>(reading: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let done = AssertUnwindSafe(reading).catch_unwind().await;
    done.unwrap_or_else(|_| {
        let what = "sled's pages do not fit together".to_owned();
        Err(StoreError::Damaged { what })
    })
}

#[derive(Default)]
struct Losses(Vec<Lost>);

impl Losses {
    fn note(&mut self, id: Option<&DocId>, problem: impl fmt::Display) {
        self.0.push(Lost { id: id.cloned(), problem: problem.to_string() });
    }
}

/// Answers how many documents were written. What fails here is the new directory; what cannot be read
/// is lost.
async fn salvage_database(
    from: &Database,
    to: &Store,
    lost: &mut Losses,
) -> Result<u64, StoreError> {
    let to = Section::begin(to, from.name().clone(), false).await?;
    let mut salvage = Salvage { from, to, lost, named: HashSet::new() };
    let settings = from.shared.settings().clone();
    salvage.put(Record::Settings(settings)).await?;
    salvage.locals().await?;
    let ids = salvage.ids().await;
    for ids in ids.chunks(PAGE) {
        salvage.docs(ids).await?;
    }
    salvage.to.flush().await?;
    if !salvage.lost.0.is_empty() {
        // Attachments of documents that were left out after all.
        salvage.to.database().sweep_attachments(CompactOptions::ALONE).await?;
    }
    Ok(salvage.to.docs())
}

/// A database that is being salvaged.
struct Salvage<'a> {
    from: &'a Database,
    to: Section,
    lost: &'a mut Losses,
    /// Attachments that are in the new directory.
    named: HashSet<BlobKey>,
}

/// Why a document is left out.
type Unreadable = String;

impl Salvage<'_> {
    async fn put(&mut self, record: Record) -> Result<(), StoreError> {
        let taken = self.to.take(record).await?;
        taken.map_err(|problem| StoreError::Damaged { what: format!("a record that {problem}") })
    }

    async fn locals(&mut self) -> Result<(), StoreError> {
        let mut after: Option<LocalId> = None;
        loop {
            let (backend, key) = (self.from.backend(), self.from.key());
            let page = match read(backend.locals(key, after.as_ref(), PAGE)).await {
                Ok(page) => page,
                Err(error) => {
                    let place =
                        after.map_or("are".into(), |id| format!("after {:?} are", id.as_str()));
                    self.lost.note(None, format!("local documents {place} left out: {error}"));
                    return Ok(());
                }
            };
            let Some((last, ..)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (id, rev, body) in page {
                self.put(Record::Local { id, rev, body }).await?;
            }
        }
    }

    /// The documents that any index names, in the order of their last changes.
    async fn ids(&mut self) -> Vec<DocId> {
        let counts = match read(self.from.counts()).await {
            Ok(counts) => Some(counts),
            Err(error) => {
                self.lost.note(None, format!("the counters cannot be read: {error}"));
                None
            }
        };
        let mut seqs = HashMap::new();
        self.ids_by_id(&mut seqs).await;
        let newest = seqs.values().copied().max().unwrap_or(0);
        let newest = newest.max(counts.map_or(0, |counts| counts.update_seq));
        self.ids_by_seq(&mut seqs, newest).await;
        if let Some(Counts { docs, deleted_docs, .. }) = counts {
            let nameless = (docs + deleted_docs).saturating_sub(seqs.len() as u64);
            if nameless > 0 {
                self.lost.note(None, format!("{nameless} documents that nothing names"));
            }
        }
        let mut ids: Vec<(u64, DocId)> = seqs.into_iter().map(|(id, seq)| (seq, id)).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    async fn ids_by_id(&mut self, seqs: &mut HashMap<DocId, u64>) {
        let mut pages = Pages::new(ReadDoc::recent(ReadBody::No));
        loop {
            match read(pages.next(self.from)).await {
                Ok(Some(page)) => {
                    seqs.extend(page.into_iter().map(|(id, doc)| (id, doc.version.seq)));
                }
                Ok(None) => return,
                Err(_) if pages.limit > 1 => pages.limit = 1,
                Err(error) => {
                    let after = pages.after.map(|id| format!(" after {:?}", id.as_str()));
                    let place = after.unwrap_or_default();
                    self.lost.note(None, format!("documents{place} are not listed: {error}"));
                    return;
                }
            }
        }
    }

    /// Rows may be skipped in this index: their keys are numbers.
    async fn ids_by_seq(&mut self, seqs: &mut HashMap<DocId, u64>, newest: u64) {
        let (mut since, mut limit, mut skipped) = (0, PAGE, 0);
        // Where a gap begins, and why.
        let mut gap: Option<(u64, StoreError)> = None;
        while since < newest && skipped < SKIPPED_MAX {
            let range = ChangesRange { since, limit, order: Order::Ascending };
            match read(self.from.backend().changes(self.from.key(), range)).await {
                Ok(page) => {
                    self.note_gap(gap.take(), since);
                    for row in page.rows {
                        seqs.entry(row.id).or_insert(row.seq);
                    }
                    if !page.more {
                        return;
                    }
                    since = page.last_seq;
                }
                Err(_) if limit > 1 => limit = 1,
                Err(error) => {
                    since += 1;
                    skipped += 1;
                    gap.get_or_insert((since, error));
                }
            }
        }
        self.note_gap(gap, newest);
    }

    fn note_gap(&mut self, gap: Option<(u64, StoreError)>, until: u64) {
        if let Some((from, error)) = gap {
            self.lost.note(None, format!("changes {from} to {until} are not listed: {error}"));
        }
    }

    async fn docs(&mut self, ids: &[DocId]) -> Result<(), StoreError> {
        let (backend, key) = (self.from.backend(), self.from.key());
        if let Ok(found) = read(backend.read(key, ids, ReadDoc::whole(ReadBody::No))).await {
            for (id, stored) in ids.iter().zip(found) {
                self.doc(id, stored).await?;
            }
            return Ok(());
        }
        for id in ids {
            let one = std::slice::from_ref(id);
            match read(backend.read(key, one, ReadDoc::whole(ReadBody::No))).await {
                Ok(found) => self.doc(id, found.into_iter().flatten().next()).await?,
                Err(error) => self.lost.note(Some(id), error),
            }
        }
        Ok(())
    }

    async fn doc(&mut self, id: &DocId, stored: Option<StoredDoc>) -> Result<(), StoreError> {
        let Some(stored) = stored else {
            self.lost.note(Some(id), "only the feed names it");
            return Ok(());
        };
        let bodies = match bodies(self.from, id, &stored).await {
            Ok(bodies) => bodies,
            Err(problem) => {
                self.lost.note(Some(id), problem);
                return Ok(());
            }
        };
        for attachment in bodies.iter().flat_map(|body| &body.attachments) {
            let (key, length) = (attachment.blob.key, attachment.blob.length);
            if self.named.contains(&key) {
                continue;
            }
            if let Err(problem) = self.attachment(key, length).await? {
                self.to.give_up_attachment();
                self.lost.note(Some(id), problem);
                return Ok(());
            }
            self.named.insert(key);
        }
        self.put(Record::Doc(ArchivedDoc::new(id.clone(), stored.tree, bodies))).await
    }

    /// The outer error is of the new directory.
    async fn attachment(
        &mut self,
        key: BlobKey,
        length: u64,
    ) -> Result<Result<(), Unreadable>, StoreError> {
        let found = read(self.from.backend().read_blob(self.from.key(), &key)).await;
        let mut reader = match found {
            Ok(Some(reader)) => reader,
            Ok(None) => return Ok(Err(StoreError::BlobMissing { key }.to_string())),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut left = length;
        let mut taken = self.to.take(Record::Blob { key, length }).await?;
        while left > 0 && taken.is_ok() {
            let piece = match read(reader.next()).await {
                Ok(Some(piece)) if piece.len() as u64 <= left => piece,
                Ok(_) => return Ok(Err(format!("attachment bytes {key} are not {length}"))),
                Err(error) => return Ok(Err(error.to_string())),
            };
            left -= piece.len() as u64;
            taken = self.to.take(Record::Piece(piece)).await?;
        }
        Ok(taken.map_err(|_| format!("attachment bytes {key} have another digest")))
    }
}

/// The bodies of the leaves.
async fn bodies(
    from: &Database,
    id: &DocId,
    stored: &StoredDoc,
) -> Result<Vec<BodyRecord>, Unreadable> {
    let leaves = stored.tree.leaves();
    let asked: Vec<_> = leaves.iter().map(|leaf| (id.clone(), leaf.rev.clone())).collect();
    let found = read(from.backend().bodies(from.key(), &asked)).await;
    let found = found.map_err(|error| error.to_string())?;
    let whole = leaves.iter().zip(found).map(|(leaf, body)| {
        let is_whole = |body: &BodyRecord| leaf.state.body_bytes == body.body_bytes();
        body.filter(is_whole).ok_or_else(|| format!("the body of {} is missing", leaf.rev))
    });
    whole.collect()
}
