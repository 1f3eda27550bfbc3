//! How a database comes to be open: the authorizer's judgement, the grant's time, the user's
//! connections, and the database itself. Every protocol of the gateway opens databases here.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;

use crate::proto::message::WireError;
use crate::store::{Database, StoreError};

use super::Shared;
use super::auth::{AccessRequest, Grant};
use super::census::Seat;
use super::error::{Refusal, ToWire as _};
use super::security::narrowed;

impl Shared {
    /// Asks the authorizer; a grant that has ended counts as none.
    pub(super) async fn judge(
        &self,
        access: AccessRequest,
        seat: &Seat,
    ) -> Result<Grant, WireError> {
        let judged = unwinding(self.authorizer.authorize(access)).await;
        let grant =
            judged.map_err(|panicked| panicked.to_wire())?.map_err(|denied| denied.to_wire())?;
        if grant.time_left().is_some_and(|left| left.is_zero()) {
            return Err(Refusal::GrantExpired.to_wire());
        }
        if let Some(user) = grant.user_name() {
            seat.belongs_to(user).map_err(|refusal| refusal.to_wire())?;
        }
        Ok(grant)
    }

    /// Opens the database that a grant names; makes it if the grant allows that and `create` asks
    /// for it. The grant comes back as the database's security object leaves it.
    pub(super) async fn open(
        &self,
        grant: Grant,
        create: bool,
    ) -> Result<(Database, Grant), WireError> {
        let database = match self.store.database(&grant.database).await {
            Err(StoreError::DatabaseMissing { .. }) if grant.create && create => {
                self.store.open_or_create(&grant.database).await
            }
            found => found,
        };
        let database = database.map_err(|error| error.to_wire())?;
        let grant = narrowed(grant, &database)?;
        Ok((database, grant))
    }
}

/// Turns a panic of a function of the application into a refusal.
pub(super) async fn unwinding<T>(work: impl Future<Output = T>) -> Result<T, Refusal> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| Refusal::Panicked)
}
