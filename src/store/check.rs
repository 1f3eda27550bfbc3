//! Reads everything a database holds and says what does not fit together.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::backend::{ChangesRange, Order, ReadBody, ReadDoc, StoredDoc};
use super::database::Database;
use super::error::StoreError;
use super::pages::Pages;
use crate::doc::{BlobHasher, BlobKey, BodyRecord, DocId, Rev};

/// Rows read at a time.
const PAGE_ROWS: usize = 500;

/// What was read of a database, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Documents, deleted ones included.
    pub docs: u64,
    /// Revisions whose bodies were read.
    pub bodies: u64,
    /// Attachments whose bytes were read, each content once.
    pub attachments: u64,
    /// Attachments that no revision names. Nothing is wrong with them: their uploads may wait for a
    /// document, or their revisions were removed; compaction removes them.
    pub unnamed_attachments: u64,
    /// Indexes whose rows are not those of the documents. No document is lost with them:
    /// [`Database::rebuild_indexes`] makes them anew.
    pub damaged_indexes: u64,
    /// Everything that is wrong.
    pub problems: Vec<CheckProblem>,
}

/// One thing that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckProblem {
    /// A record cannot be read.
    Unreadable {
        /// What the store said.
        error: String,
    },
    /// A document's last change is not in the by-seq index as it should be.
    SeqIndex {
        /// The document.
        id: DocId,
        /// The seq that the document names.
        seq: u64,
        /// What is there.
        found: &'static str,
    },
    /// The by-seq index has a row that no document names.
    StraySeq {
        /// The document that the row names.
        id: DocId,
        /// The row.
        seq: u64,
    },
    /// A counter differs from what was counted.
    Counter {
        /// Which.
        name: &'static str,
        /// What the store says.
        stored: u64,
        /// What was counted.
        counted: u64,
    },
    /// A leaf's body, or a body that the tree says is stored, is not there.
    BodyMissing {
        /// The document.
        id: DocId,
        /// The revision.
        rev: Rev,
    },
    /// Attachment bytes are missing or are not those of their digest.
    Attachment {
        /// The document.
        id: DocId,
        /// The attachment.
        name: String,
        /// Missing, or damaged.
        found: &'static str,
    },
}

impl fmt::Display for CheckProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { error } => write!(f, "{error}"),
            Self::SeqIndex { id, seq, found } => {
                write!(f, "document {id:?}: seq index {found} at its last change, {seq}")
            }
            Self::StraySeq { id, seq } => {
                write!(f, "seq index: row {seq} names {id:?}, whose last change is another")
            }
            Self::Counter { name, stored, counted } => {
                write!(f, "counter {name}: {stored} stored, {counted} counted")
            }
            Self::BodyMissing { id, rev } => {
                write!(f, "document {id:?}: the body of {rev} is missing")
            }
            Self::Attachment { id, name, found } => {
                write!(f, "document {id:?}: attachment {name:?} is {found}")
            }
        }
    }
}

impl Database {
    /// Reads every document, body, attachment and index row, and compares them. Nothing may be
    /// written meanwhile.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`], [`StoreError::Closed`]. Damage is in the report.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn check(&self) -> Result<CheckReport, StoreError> {
        let mut check = Check { report: CheckReport::default(), blobs: BTreeSet::new() };
        let counts = self.counts().await?;
        let mut counted = super::backend::Counts::default();
        let mut pages = Pages::new(ReadDoc::whole(ReadBody::No));
        loop {
            let page = match pages.next(self).await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(error) => {
                    check.unreadable(&error);
                    break;
                }
            };
            for (id, state) in &page {
                check.report.docs += 1;
                match state.tree.winner() {
                    Some(winner) if winner.state.deleted => counted.deleted_docs += 1,
                    _ => counted.docs += 1,
                }
                counted.body_bytes += body_bytes(state);
                counted.leaf_bytes += state.tree.leaf_bytes();
                counted.update_seq = counted.update_seq.max(state.version.seq);
                self.check_bodies(id, state, &mut check).await?;
            }
        }
        self.check_seq_index(&mut check).await?;
        match self.damaged_indexes().await {
            Ok(damaged) => check.report.damaged_indexes = damaged.len() as u64,
            Err(error) => check.unreadable(&error),
        }
        let stored = self.backend().blobs(self.key(), Duration::ZERO).await?;
        let unnamed: BTreeSet<BlobKey> =
            stored.into_iter().filter(|key| !check.blobs.contains(key)).collect();
        check.report.unnamed_attachments = unnamed.len() as u64;
        let counters = [
            ("docs", counts.docs, counted.docs),
            ("deleted_docs", counts.deleted_docs, counted.deleted_docs),
            ("body_bytes", counts.body_bytes, counted.body_bytes),
            ("leaf_bytes", counts.leaf_bytes, counted.leaf_bytes),
        ];
        for (name, stored, counted) in counters {
            if stored != counted {
                check.report.problems.push(CheckProblem::Counter { name, stored, counted });
            }
        }
        // A document that was purged may have had the newest change.
        let (stored, counted) = (counts.update_seq, counted.update_seq);
        if stored < counted || stored != counted && counts.purge_seq == 0 {
            let name = "update_seq";
            check.report.problems.push(CheckProblem::Counter { name, stored, counted });
        }
        Ok(check.report)
    }

    async fn check_bodies(
        &self,
        id: &DocId,
        state: &StoredDoc,
        check: &mut Check,
    ) -> Result<(), StoreError> {
        let leaves = state.tree.leaves();
        for leaf in leaves.iter().filter(|leaf| leaf.state.body_bytes.is_none()) {
            let rev = leaf.rev.clone();
            check.report.problems.push(CheckProblem::BodyMissing { id: id.clone(), rev });
        }
        let stored = state.tree.revs().filter(|(_, state)| state.body_bytes.is_some());
        let revs: Vec<(DocId, Rev)> = stored.map(|(rev, _)| (id.clone(), rev.clone())).collect();
        for revs in revs.chunks(PAGE_ROWS) {
            let records = match self.backend().bodies(self.key(), revs).await {
                Ok(records) => records,
                Err(error) => {
                    check.unreadable(&error);
                    continue;
                }
            };
            for ((_, rev), record) in revs.iter().zip(records) {
                let whole = record.filter(|record| {
                    let told = state.tree.state(rev).and_then(|s| s.body_bytes);
                    told == record.body_bytes()
                });
                let Some(record) = whole else {
                    let rev = rev.clone();
                    check.report.problems.push(CheckProblem::BodyMissing { id: id.clone(), rev });
                    continue;
                };
                check.report.bodies += 1;
                self.check_attachments(id, &record, check).await?;
            }
        }
        Ok(())
    }

    async fn check_attachments(
        &self,
        id: &DocId,
        record: &BodyRecord,
        check: &mut Check,
    ) -> Result<(), StoreError> {
        for attachment in &record.attachments {
            if !check.blobs.insert(attachment.blob.key) {
                continue;
            }
            let found = match self.backend().read_blob(self.key(), &attachment.blob.key).await? {
                None => Some("missing"),
                Some(mut reader) => {
                    let mut hasher = BlobHasher::default();
                    loop {
                        match reader.next().await {
                            Ok(Some(piece)) => hasher.update(&piece),
                            Ok(None) => break,
                            Err(error) => {
                                check.unreadable(&error);
                                break;
                            }
                        }
                    }
                    (hasher.finish() != attachment.blob).then_some("damaged")
                }
            };
            check.report.attachments += 1;
            if let Some(found) = found {
                let (id, name) = (id.clone(), attachment.name.clone());
                check.report.problems.push(CheckProblem::Attachment { id, name, found });
            }
        }
        Ok(())
    }

    /// Every row of the index must be the last change of its document; with as many rows as
    /// documents, every document then has its row.
    async fn check_seq_index(&self, check: &mut Check) -> Result<(), StoreError> {
        let mut since = 0;
        let mut rows = 0;
        loop {
            let range = ChangesRange { since, limit: PAGE_ROWS, order: Order::Ascending };
            let page = match self.backend().changes(self.key(), range).await {
                Ok(page) => page,
                Err(error) => {
                    check.unreadable(&error);
                    return Ok(());
                }
            };
            let ids: Vec<DocId> = page.rows.iter().map(|row| row.id.clone()).collect();
            let states =
                match self.backend().read(self.key(), &ids, ReadDoc::recent(ReadBody::No)).await {
                    Ok(states) => states,
                    Err(error) => {
                        check.unreadable(&error);
                        return Ok(());
                    }
                };
            for (row, state) in page.rows.iter().zip(states) {
                rows += 1;
                let (id, seq) = (row.id.clone(), row.seq);
                let state = state.filter(|state| state.version.seq == seq);
                let Some(state) = state else {
                    check.report.problems.push(CheckProblem::StraySeq { id, seq });
                    continue;
                };
                let leaves = state.tree.leaves().into_iter().map(|l| (l.rev, l.state.deleted));
                if !leaves.eq(row.leaves.iter().cloned()) {
                    let found = "has other leaves";
                    check.report.problems.push(CheckProblem::SeqIndex { id, seq, found });
                }
            }
            since = page.last_seq;
            if !page.more {
                break;
            }
        }
        if rows != check.report.docs {
            let name = "rows of the seq index";
            let (stored, counted) = (rows, check.report.docs);
            check.report.problems.push(CheckProblem::Counter { name, stored, counted });
        }
        Ok(())
    }
}

fn body_bytes(state: &StoredDoc) -> u64 {
    state.tree.revs().filter_map(|(_, state)| state.body_bytes).map(u64::from).sum()
}

struct Check {
    report: CheckReport,
    blobs: BTreeSet<BlobKey>,
}

impl Check {
    fn unreadable(&mut self, error: &StoreError) {
        self.report.problems.push(CheckProblem::Unreadable { error: error.to_string() });
    }
}
