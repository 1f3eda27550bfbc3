//! How a database comes to be open: the authorizer's judgement, the grant's time, the user's
//! connections, and the database itself. Every protocol of the gateway opens databases here.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use serde_json::Value;

use crate::doc::DbName;
use crate::proto::message::{ChannelId, WireError};
use crate::store::{Database, StoreError};

use super::Shared;
use super::auth::{AccessRequest, Credentials, Grant};
use super::census::Seat;
use super::channel::{Channel, Enlisted};
use super::error::{Refusal, ToWire as _};
use super::observe::Act;
use super::security::narrowed;
use super::socket::Socket;

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
            seat.belongs_to(user).map_err(|refusal| {
                self.observed.limit_hit(refusal.limit());
                refusal.to_wire()
            })?;
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

impl Socket {
    pub(super) fn access_request(
        &self,
        credentials: Value,
        database: DbName,
        create: bool,
    ) -> AccessRequest {
        AccessRequest {
            credentials: Credentials::new(credentials),
            database,
            create,
            peer: self.peer.address,
            headers: Arc::clone(&self.peer.headers),
        }
    }

    /// Asks the authorizer and opens what it grants.
    pub(super) async fn open(
        &self,
        id: ChannelId,
        access: AccessRequest,
    ) -> Result<Arc<Channel>, WireError> {
        let create = access.create;
        let grant = self.shared.judge(access, &self.peer.seat).await?;
        let (database, grant) = self.shared.open(grant, create).await?;
        let uploads_max = self.shared.limits.uploads_per_channel_max;
        let (store, tails) = (self.shared.store.clone(), Arc::clone(&self.shared.tails));
        let link = Arc::clone(&self.link);
        Ok(Channel::new(id, store, database, grant, uploads_max, tails, link))
    }

    /// Makes an open channel known to the gateway, so that its grant can be revoked. `revocations` is
    /// their number before the authorizer was asked.
    pub(super) async fn enlist(
        &self,
        channel: &Arc<Channel>,
        access: AccessRequest,
        revocations: u64,
    ) -> Enlisted {
        let enlisted = Enlisted::new(&self.shared, channel);
        channel.with_grant(|grant| self.link.did(grant, Act::Opened));
        if self.shared.revocations() != revocations {
            // A revocation that came while this channel was not yet known passed it by.
            if let Err(error) = self.grant_again(channel, access).await {
                channel.end(Some(error));
            }
        }
        self.opened_one();
        enlisted
    }

    /// Asks the authorizer for a channel that is open; once more if grants were revoked meanwhile,
    /// since a revocation judges only what it finds.
    pub(super) async fn grant_again(
        &self,
        channel: &Channel,
        access: AccessRequest,
    ) -> Result<(), WireError> {
        loop {
            let revocations = self.shared.revocations();
            let grant = self.shared.judge(access.clone(), &self.peer.seat).await?;
            channel.grant_anew(narrowed(grant, &channel.granted().database)?)?;
            if self.shared.revocations() == revocations {
                return Ok(());
            }
        }
    }
}

/// Turns a panic of a function of the application into a refusal.
///
/// No `async fn`, which would have room for the work twice: a call's task is about as large as this.
pub(super) fn unwinding<T>(
    work: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Refusal>> {
    AssertUnwindSafe(work).catch_unwind().map(|done| done.map_err(|_| Refusal::Panicked))
}
