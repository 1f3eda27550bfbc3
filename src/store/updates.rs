//! What happens to the databases of a store, for those who watch all of them.

use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};

use crate::doc::DbName;

/// Updates that wait for a slow listener; older ones are dropped, and it is told so.
const WAITING_MAX: usize = 1024;

/// What happened to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DbUpdateKind {
    /// It was made.
    Created,
    /// Documents of it changed.
    Updated,
    /// It was destroyed.
    Deleted,
}

/// Something that happened to a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbUpdate {
    /// Which.
    pub name: DbName,
    /// What happened.
    pub kind: DbUpdateKind,
}

/// The updates of a store as they happen.
#[derive(Debug)]
pub struct DbUpdates(broadcast::Receiver<Arc<DbUpdate>>);

impl DbUpdates {
    /// The next update; [`Err`] with a number if the listener was so slow that as many were
    /// dropped, and it must look at all databases again. `None` when the store is gone.
    ///
    /// # Errors
    /// The number of updates that were dropped.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<DbUpdate, u64>> {
        match self.0.recv().await {
            Ok(update) => Some(Ok((*update).clone())),
            Err(RecvError::Lagged(dropped)) => Some(Err(dropped)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Tells the listeners of a store.
#[derive(Debug, Clone)]
pub(super) struct UpdateSender(broadcast::Sender<Arc<DbUpdate>>);

impl Default for UpdateSender {
    fn default() -> Self {
        Self(broadcast::Sender::new(WAITING_MAX))
    }
}

impl UpdateSender {
    pub(super) fn subscribe(&self) -> DbUpdates {
        DbUpdates(self.0.subscribe())
    }

    pub(super) fn tell(&self, name: &DbName, kind: DbUpdateKind) {
        if self.0.receiver_count() > 0 {
            // Whoever listened may have left in between.
            drop(self.0.send(Arc::new(DbUpdate { name: name.clone(), kind })));
        }
    }
}
