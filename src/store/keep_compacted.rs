//! Compacting databases when enough of them has become old.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::compact::{CompactOptions, CompactReport};
use super::error::StoreError;
use super::{DatabaseInfo, DbUpdate, DbUpdateKind, DbUpdates, Store};
use crate::doc::DbName;

/// Groups written since the last compaction, at least, that make a database be compacted for them.
const GROUPS_MIN: u64 = 10_000;

/// When a database is compacted by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionPolicy {
    /// Bytes that old revisions must take at least; 16 MiB by default.
    pub old_bytes_min: u64,
    /// Their part of all bytes that bodies take, at least; a half by default.
    pub old_part_min: f64,
    /// How often the databases that changed are looked at; every 30 s by default.
    pub interval: Duration,
    /// How it is done.
    pub options: CompactOptions,
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        Self {
            old_bytes_min: 16 << 20,
            old_part_min: 0.5,
            interval: Duration::from_secs(30),
            options: CompactOptions::default(),
        }
    }
}

/// A setting of a [`CompactionPolicy`] that cannot work.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CompactionPolicyError {
    /// No part of a whole.
    #[error("old_part_min is {0}; it must be from 0 to 1")]
    OldPart(f64),
    /// No time between two looks.
    #[error("the interval between two looks must not be 0")]
    Interval,
}

impl CompactionPolicy {
    /// Checks that the policy can be kept.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), CompactionPolicyError> {
        if !(0.0..=1.0).contains(&self.old_part_min) {
            return Err(CompactionPolicyError::OldPart(self.old_part_min));
        }
        if self.interval.is_zero() {
            return Err(CompactionPolicyError::Interval);
        }
        Ok(())
    }

    fn wants(&self, info: &DatabaseInfo) -> bool {
        self.is_much(info.body_bytes.saturating_sub(info.leaf_bytes), info.body_bytes)
    }

    fn is_much(&self, old: u64, all: u64) -> bool {
        old >= self.old_bytes_min && old as f64 >= self.old_part_min * all as f64
    }
}

/// Databases to look at.
#[derive(Debug, PartialEq, Eq)]
enum Changed {
    These(BTreeSet<DbName>),
    /// More happened than was noted.
    All,
}

impl Store {
    /// Compacts databases as the policy says: all that need it now, later those that changed. Runs
    /// until the store is closed; spawn it. Databases are compacted one after another; one that is
    /// being backed up is left for the next look.
    ///
    /// How many attachments nothing names is not known without reading everything, so a database is
    /// compacted also when its attachments have grown, since the last time, by as much as old bodies
    /// would have to; and when 10,000 groups were written since then or since it was opened, or half as
    /// many as it has documents if that is more.
    ///
    /// # Cancel safety
    /// Dropping the future ends it; a database may be left partly compacted.
    pub async fn keep_compacted(&self, policy: CompactionPolicy) {
        self.keep_compacted_telling(policy, |_, _| {}).await;
    }

    /// The same, and tells of each database that could not be compacted. It is looked at again when
    /// it changes.
    ///
    /// # Cancel safety
    /// As [`keep_compacted`](Self::keep_compacted).
    pub async fn keep_compacted_telling(
        &self,
        policy: CompactionPolicy,
        failed: impl Fn(&DbName, &StoreError) + Send + Sync,
    ) {
        let mut updates = self.updates();
        let failed = &failed;
        let keeper = Keeper { store: self, policy, failed };
        let mut changed = Changed::All;
        let first = Instant::now() + policy.interval;
        let mut ticks = interval_at(first, policy.interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let looked = keeper.look(changed).await;
            // A store that was closed has nothing to look at, and nothing happens in it any more.
            let (Ok(later), Ok(_)) = (looked, self.names(None, 1).await) else { return };
            changed = Changed::These(later);
            if !gather(&mut updates, &mut changed, ticks.tick()).await {
                return;
            }
        }
    }
}

struct Keeper<'a> {
    store: &'a Store,
    policy: CompactionPolicy,
    failed: &'a (dyn Fn(&DbName, &StoreError) + Send + Sync),
}

impl Keeper<'_> {
    /// Answers the databases that are to be looked at again.
    async fn look(&self, changed: Changed) -> Result<BTreeSet<DbName>, StoreError> {
        const PAGE_NAMES: usize = 500;
        let mut later = BTreeSet::new();
        match changed {
            Changed::These(names) => {
                for name in names {
                    self.compact_if_wanted(name, &mut later).await?;
                }
            }
            Changed::All => {
                let mut after: Option<DbName> = None;
                loop {
                    let names = self.store.names(after.as_ref(), PAGE_NAMES).await?;
                    let Some(last) = names.last() else { break };
                    after = Some(last.clone());
                    for name in names {
                        self.compact_if_wanted(name, &mut later).await?;
                    }
                }
            }
        }
        Ok(later)
    }

    /// Fails only if the whole store does.
    async fn compact_if_wanted(
        &self,
        name: DbName,
        later: &mut BTreeSet<DbName>,
    ) -> Result<(), StoreError> {
        match self.compact(&name, later).await {
            Ok(Some(report)) => {
                let (bodies, attachments) = (report.bodies, report.attachments);
                tracing::info!(database = %name, bodies, attachments, "compacted");
            }
            Ok(None) => {}
            Err(StoreError::DatabaseMissing { .. } | StoreError::DatabaseDestroyed { .. }) => {}
            Err(error @ (StoreError::Closed | StoreError::Poisoned)) => return Err(error),
            Err(error) => {
                tracing::warn!(database = %name, %error, "compaction failed");
                (self.failed)(&name, &error);
            }
        }
        Ok(())
    }

    async fn compact(
        &self,
        name: &DbName,
        later: &mut BTreeSet<DbName>,
    ) -> Result<Option<CompactReport>, StoreError> {
        let database = self.store.database(name).await?;
        let bytes = database.attachment_bytes().await?;
        let grown = bytes >= self.policy.old_bytes_min && {
            let swept = database.upkeep().await?.swept_bytes;
            self.policy.is_much(bytes.saturating_sub(swept), bytes)
        };
        let info = database.info().await?;
        // Only compaction forgets groups, however little their documents take.
        let groups = database.shared.groups_written();
        let many_groups = groups >= GROUPS_MIN && groups >= info.doc_count / 2;
        if !grown && !many_groups && !self.policy.wants(&info) {
            return Ok(None);
        }
        if database.is_being_backed_up() {
            later.insert(name.clone());
            return Ok(None);
        }
        database.compact(self.policy.options).await.map(Some)
    }
}

/// Notes what changes until a tick; answers whether the store is still there.
async fn gather(
    updates: &mut DbUpdates,
    changed: &mut Changed,
    tick: impl Future<Output = Instant>,
) -> bool {
    let mut tick = std::pin::pin!(tick);
    loop {
        let update = tokio::select! {
            _ = &mut tick => return true,
            update = updates.next() => update,
        };
        match (update, &mut *changed) {
            (None, _) => return false,
            (Some(Err(_)), _) => *changed = Changed::All,
            (Some(Ok(DbUpdate { name, kind: DbUpdateKind::Updated })), Changed::These(names)) => {
                names.insert(name);
            }
            (Some(Ok(_)), _) => {}
        }
    }
}
