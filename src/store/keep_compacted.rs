//! Compacting databases when enough of them has become old.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::compact::CompactOptions;
use super::error::StoreError;
use super::{DatabaseInfo, DbUpdate, DbUpdateKind, DbUpdates, Store};
use crate::doc::DbName;

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

impl CompactionPolicy {
    fn wants(&self, info: &DatabaseInfo) -> bool {
        let old = info.body_bytes.saturating_sub(info.leaf_bytes);
        old >= self.old_bytes_min && old as f64 >= self.old_part_min * info.body_bytes as f64
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
    /// until the store is closed; spawn it. Databases are compacted one after another.
    ///
    /// # Cancel safety
    /// Dropping the future ends it; a database may be left partly compacted.
    pub async fn keep_compacted(&self, policy: CompactionPolicy) {
        let mut updates = self.updates();
        let mut changed = Changed::All;
        let first = Instant::now() + policy.interval;
        let mut ticks = interval_at(first, policy.interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let looked = self.look(&policy, changed).await;
            // A store that was closed has nothing to look at, and nothing happens in it any more.
            if looked.is_err() || self.names(None, 1).await.is_err() {
                return;
            }
            changed = Changed::These(BTreeSet::new());
            if !gather(&mut updates, &mut changed, ticks.tick()).await {
                return;
            }
        }
    }

    async fn look(&self, policy: &CompactionPolicy, changed: Changed) -> Result<(), StoreError> {
        const PAGE_NAMES: usize = 500;
        match changed {
            Changed::These(names) => {
                for name in names {
                    self.compact_if_wanted(&name, policy).await?;
                }
            }
            Changed::All => {
                let mut after: Option<DbName> = None;
                loop {
                    let names = self.names(after.as_ref(), PAGE_NAMES).await?;
                    let Some(last) = names.last() else { break };
                    after = Some(last.clone());
                    for name in names {
                        self.compact_if_wanted(&name, policy).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Fails only if the whole store does.
    async fn compact_if_wanted(
        &self,
        name: &DbName,
        policy: &CompactionPolicy,
    ) -> Result<(), StoreError> {
        let compact = async {
            let database = self.database(name).await?;
            if !policy.wants(&database.info().await?) {
                return Ok(None);
            }
            database.compact(policy.options).await.map(Some)
        };
        match compact.await {
            Ok(Some(report)) => {
                let (bodies, attachments) = (report.bodies, report.attachments);
                tracing::info!(database = %name, bodies, attachments, "compacted");
            }
            Ok(None)
            | Err(StoreError::DatabaseMissing { .. } | StoreError::DatabaseDestroyed { .. }) => {}
            Err(error @ (StoreError::Closed | StoreError::Poisoned)) => return Err(error),
            Err(error) => tracing::warn!(database = %name, %error, "compaction failed"),
        }
        Ok(())
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
