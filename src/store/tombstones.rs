//! Purging tombstones that are old and that every known replica has seen.
//!
//! A tombstone tells replicas that a document was deleted. Once all of them know it is only space.
//! Who knows it is told by the checkpoints that replicas leave here when they pull: local documents
//! that name a place in this database's feed. How old a tombstone is is told by marks, which say
//! that a seq had been reached at a time; they are made whenever tombstones are looked at, so a
//! tombstone counts as younger than it is, never as older.
//!
//! The hard case is a replica that stays away. For `client_age` it holds up everything that it
//! lacks. Then its checkpoint is removed, so that it begins anew when it comes back. It will not
//! learn of what was purged meanwhile, and may send such documents again; see `docs/STORAGE.md`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Store;
use super::backend::{
    COMMIT_DOCS_ATOMIC_MAX, ChangeRow, ChangesRange, DocPurge, LocalCommit, LocalOutcome, Order,
    ReadBody, ReadDoc,
};
use super::checkpoints::Checkpoint;
use super::database::Database;
use super::error::StoreError;
use super::purge::purge_of;
use super::seq::Seq;
use super::upkeep::Marks;
use crate::doc::{DbName, DocId, LocalId, Rev};

/// Rows and local documents that are read at a time.
const PAGE: usize = 500;

/// Which tombstones are purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TombstonePolicy {
    /// How old a tombstone must be; 90 days by default.
    pub age: Duration,
    /// How long a replica that lacks a change holds it up; 90 days by default.
    pub client_age: Duration,
    /// How often [`Store::keep_tombstones_purged`] looks at all databases; every 6 hours by default.
    pub interval: Duration,
}

impl Default for TombstonePolicy {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { age: 90 * day, client_age: 90 * day, interval: day / 4 }
    }
}

/// What was purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TombstoneReport {
    /// Documents that are gone.
    pub purged: u64,
    /// Checkpoints of replicas that stayed away too long, which were removed.
    pub checkpoints_removed: u64,
    /// Replicas that hold up tombstones which are old enough.
    pub holding: u64,
}

impl Store {
    /// Purges tombstones of all databases as the policy says, now and then; runs until the store is
    /// closed. Spawn it. A database that is being backed up is left for the next time.
    ///
    /// # Cancel safety
    /// Dropping the future ends it.
    pub async fn keep_tombstones_purged(&self, policy: TombstonePolicy) {
        self.keep_tombstones_purged_telling(policy, |_, _| {}).await;
    }

    /// The same, and tells of each database whose tombstones could not be purged. It is tried again
    /// the next time.
    ///
    /// # Cancel safety
    /// Dropping the future ends it.
    pub async fn keep_tombstones_purged_telling(
        &self,
        policy: TombstonePolicy,
        failed: impl Fn(&DbName, &StoreError) + Send + Sync,
    ) {
        let mut ticks = interval_at(Instant::now(), policy.interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut after: Option<DbName> = None;
            loop {
                let Ok(names) = self.names(after.as_ref(), PAGE).await else { return };
                let Some(last) = names.last() else { break };
                after = Some(last.clone());
                for name in names {
                    match self.purge_tombstones_of(&name, policy).await {
                        Ok(())
                        | Err(
                            StoreError::DatabaseMissing { .. }
                            | StoreError::DatabaseDestroyed { .. },
                        ) => {}
                        Err(StoreError::Closed | StoreError::Poisoned) => return,
                        Err(error) => {
                            tracing::warn!(database = %name, %error, "purging tombstones failed");
                            failed(&name, &error);
                        }
                    }
                }
            }
        }
    }

    async fn purge_tombstones_of(
        &self,
        name: &DbName,
        policy: TombstonePolicy,
    ) -> Result<(), StoreError> {
        let database = self.database(name).await?;
        if database.is_being_backed_up() {
            return Ok(());
        }
        let report = database.purge_tombstones(policy, SystemTime::now()).await?;
        if report != TombstoneReport::default() {
            tracing::info!(database = %name, ?report, "purged tombstones");
        }
        Ok(())
    }
}

impl Database {
    /// Purges documents that are deleted, whose last change is at least `age` old, and that every
    /// replica with a checkpoint here has seen; a replica whose oldest lacking change is at least
    /// `client_age` old does not count any more, and its checkpoint is removed.
    ///
    /// How old changes are is known from the first call on only: each notes the time.
    ///
    /// # Errors
    /// As [`Database::purge`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves each document either purged or not.
    pub async fn purge_tombstones(
        &self,
        policy: TombstonePolicy,
        now: SystemTime,
    ) -> Result<TombstoneReport, StoreError> {
        let _removing = self.shared.removing.write().await;
        let now_s = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let marks = self.mark_time(now_s).await?;
        let old = marks.reached_before(now_s.saturating_sub(policy.age.as_secs()));
        let silent = marks.reached_before(now_s.saturating_sub(policy.client_age.as_secs()));
        let mut report = TombstoneReport::default();
        let until = self.held_up(old, silent, &mut report).await?;
        let mut since = 0;
        while since < until {
            self.alive()?;
            let range = ChangesRange { since, limit: PAGE, order: Order::Ascending };
            let page = self.backend().changes(self.key(), range).await?;
            let gone = |row: &ChangeRow| row.leaves.iter().all(|(_, deleted)| *deleted);
            let rows = page.rows.into_iter().filter(|row| row.seq <= until && gone(row));
            let rows: Vec<ChangeRow> = rows.collect();
            for rows in rows.chunks(COMMIT_DOCS_ATOMIC_MAX) {
                report.purged += self.purge_rows(rows).await?;
            }
            if !page.more {
                break;
            }
            since = page.last_seq;
        }
        if report.purged > 0 {
            self.shared.tell_updated();
        }
        Ok(report)
    }

    /// Whether a backup reads it, so that nothing may be removed.
    pub(super) fn is_being_backed_up(&self) -> bool {
        self.shared.removing.try_write().is_err()
    }

    /// Notes how far the database is at this time.
    async fn mark_time(&self, now_s: u64) -> Result<Marks, StoreError> {
        let update_seq = self.counts().await?.update_seq;
        let mut upkeep = self.upkeep().await?;
        if upkeep.marks.note(update_seq, now_s) {
            self.set_upkeep(&upkeep).await?;
        }
        Ok(upkeep.marks)
    }

    /// How far every replica is that counts, at most `old`; removes the checkpoints of the others.
    async fn held_up(
        &self,
        old: u64,
        silent: u64,
        report: &mut TombstoneReport,
    ) -> Result<u64, StoreError> {
        let mut until = old;
        let mut after: Option<LocalId> = None;
        loop {
            let page = self.backend().locals(self.key(), after.as_ref(), PAGE).await?;
            let Some((last, ..)) = page.last() else { return Ok(until) };
            after = Some(last.clone());
            for (id, rev, body) in page {
                let Some(Checkpoint { reached: Some(reached) }) = Checkpoint::of(&body) else {
                    continue;
                };
                // Another seq is a place in another database, which pushed to this one.
                if reached != Seq::new(reached.number, self.incarnation()) || reached.number >= old
                {
                    continue;
                }
                if self.lacks_since(reached.number).await?.is_none_or(|lacks| lacks > silent) {
                    until = until.min(reached.number);
                    report.holding += 1;
                    continue;
                }
                let commit = LocalCommit { id, expected: Some(rev), content: None };
                let removed = self.backend().commit_local(self.key(), commit).await;
                match self.named(removed)? {
                    LocalOutcome::Done => report.checkpoints_removed += 1,
                    // It has just come back.
                    LocalOutcome::Stale(_) => until = until.min(reached.number),
                }
            }
        }
    }

    /// The first change that a replica lacks.
    async fn lacks_since(&self, reached: u64) -> Result<Option<u64>, StoreError> {
        let range = ChangesRange { since: reached, limit: 1, order: Order::Ascending };
        let page = self.backend().changes(self.key(), range).await?;
        Ok(page.rows.first().map(|row| row.seq))
    }

    /// Purges documents that have not changed since these rows were read; answers how many.
    async fn purge_rows(&self, rows: &[ChangeRow]) -> Result<u64, StoreError> {
        let ids: Vec<DocId> = rows.iter().map(|row| row.id.clone()).collect();
        let read = ReadDoc::whole(ReadBody::No);
        let found = self.backend().read(self.key(), &ids, read).await?;
        let batch = rows.iter().zip(found).filter_map(|(row, stored)| {
            let stored = stored.filter(|stored| stored.version.seq == row.seq)?;
            let leaves: Vec<Rev> = row.leaves.iter().map(|(rev, _)| rev.clone()).collect();
            Some(purge_of(&row.id, stored, &leaves)?.0)
        });
        let batch: Vec<DocPurge> = batch.collect();
        let asked = batch.len();
        Ok((asked - self.purge_unchanged(batch).await?.len()) as u64)
    }
}
