//! What is kept for a database beside its documents: its `revs_limit`, its security object.

use std::num::NonZeroU32;

use super::backend::DatabaseSettings;
use super::database::Database;
use super::error::StoreError;
use super::merging::TreeBounds;

impl Database {
    /// Revisions that are remembered on each branch of a document.
    #[must_use]
    pub fn revs_limit(&self) -> u32 {
        let own = self.shared.settings().revs_limit;
        own.map_or(self.limits().revs_limit, NonZeroU32::get)
    }

    /// Sets how many revisions are remembered on each branch, for this database. Documents are
    /// stemmed to it when they are written next.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`], [`StoreError::Io`], [`StoreError::Poisoned`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the limit either set or not.
    pub async fn set_revs_limit(&self, limit: NonZeroU32) -> Result<(), StoreError> {
        self.change_settings(|settings| settings.revs_limit = Some(limit)).await
    }

    /// The JSON text of the security object that was kept, if one was.
    #[must_use]
    pub fn security(&self) -> Option<String> {
        self.shared.settings().security.clone()
    }

    /// Keeps a security object: JSON text, which is not looked at. `None` removes it.
    ///
    /// # Errors
    /// As [`Database::set_revs_limit`].
    ///
    /// # Cancel safety
    /// As [`Database::set_revs_limit`].
    pub async fn set_security(&self, security: Option<String>) -> Result<(), StoreError> {
        self.change_settings(|settings| settings.security = security).await
    }

    pub(super) async fn change_settings(
        &self,
        change: impl FnOnce(&mut DatabaseSettings),
    ) -> Result<(), StoreError> {
        self.alive()?;
        let _setting = self.shared.setting.lock().await;
        let mut settings = self.shared.settings().clone();
        change(&mut settings);
        self.named(self.backend().commit_settings(self.key(), settings.clone()).await)?;
        self.shared.keep_settings(settings);
        Ok(())
    }

    pub(super) fn tree_bounds(&self) -> TreeBounds {
        TreeBounds { revs_limit: self.revs_limit(), leaves_max: self.limits().leaves_per_doc_max }
    }
}
