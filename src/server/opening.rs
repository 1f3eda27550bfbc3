//! Opening databases for a connection: the authorizer, the limits by user, revocations that come
//! meanwhile.

use std::sync::Arc;

use serde_json::Value;

use crate::doc::DbName;
use crate::proto::message::{ChannelId, WireError};
use crate::store::StoreError;

use super::auth::{AccessRequest, Credentials, Grant};
use super::channel::{Channel, Enlisted};
use super::error::{Refusal, ToWire as _};
use super::socket::{Socket, unwinding};

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
        let opening = unwinding(self.open_unguarded(id, access)).await;
        opening.unwrap_or_else(|panicked| Err(panicked.to_wire()))
    }

    async fn open_unguarded(
        &self,
        id: ChannelId,
        access: AccessRequest,
    ) -> Result<Arc<Channel>, WireError> {
        let create = access.create;
        let grant = self.shared.authorizer.authorize(access).await.map_err(|e| e.to_wire())?;
        if grant.time_left().is_some_and(|left| left.is_zero()) {
            return Err(Refusal::GrantExpired.to_wire());
        }
        if let Some(user) = grant.user_name() {
            self.peer.seat.belongs_to(user).map_err(|refusal| refusal.to_wire())?;
        }
        let store = &self.shared.store;
        let database = match store.database(&grant.database).await {
            Err(StoreError::DatabaseMissing { .. }) if grant.create && create => {
                store.open_or_create(&grant.database).await
            }
            found => found,
        };
        let database = database.map_err(|error| error.to_wire())?;
        let uploads_max = self.shared.limits.uploads_per_channel_max;
        Ok(Channel::new(id, store.clone(), database, grant, uploads_max))
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
            let judged = unwinding(self.shared.authorizer.authorize(access.clone())).await;
            let grant: Grant = judged
                .map_err(|panicked| panicked.to_wire())?
                .map_err(|denied| denied.to_wire())?;
            if let Some(user) = grant.user_name() {
                self.peer.seat.belongs_to(user).map_err(|refusal| refusal.to_wire())?;
            }
            channel.grant_anew(grant)?;
            if self.shared.revocations() == revocations {
                return Ok(());
            }
        }
    }
}
