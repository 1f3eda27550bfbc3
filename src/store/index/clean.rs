//! Removing the rows of indexes that nobody defines any more.

use std::collections::HashSet;

use super::Index;
use crate::store::backend::IndexKey;
use crate::store::database::Database;
use crate::store::error::StoreError;

impl Database {
    /// Removes the rows of indexes that no design document defines; answers how many indexes went.
    /// Compaction does so too.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`], [`StoreError::Io`], [`StoreError::Poisoned`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves some rows, which mean nothing; the next call removes them.
    pub async fn clean_indexes(&self) -> Result<u64, StoreError> {
        let mut removed = 0;
        for (key, _) in self.backend().indexes(self.key()).await? {
            let lock = self.shared.index_lock(key);
            let _building = lock.lock().await;
            // Under the lock, so that an index which is defined meanwhile is built after this.
            let defined: HashSet<IndexKey> = self.indexes().await?.iter().map(Index::key).collect();
            if !defined.contains(&key) {
                self.remove_rows(key).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes the rows of all indexes; each is built again by the next query that uses it.
    ///
    /// # Errors
    /// As [`Database::clean_indexes`].
    ///
    /// # Cancel safety
    /// As [`Database::clean_indexes`].
    pub async fn rebuild_indexes(&self) -> Result<(), StoreError> {
        for (key, _) in self.backend().indexes(self.key()).await? {
            let lock = self.shared.index_lock(key);
            let _building = lock.lock().await;
            self.remove_rows(key).await?;
        }
        Ok(())
    }

    /// Called under the index's lock.
    pub(super) async fn remove_rows(&self, key: IndexKey) -> Result<(), StoreError> {
        while self.named(self.backend().remove_index(self.key(), key).await)? {}
        Ok(())
    }
}
