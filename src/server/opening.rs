//! How a database comes to be open: the authorizer's judgement, the grant's time, the user's
//! connections, and the database itself. Every protocol of the gateway opens databases here.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use serde_json::Value;

use crate::doc::DbName;
use crate::proto::message::{ChannelId, WireError};
use crate::store::{Database, StoreError};

use super::Shared;
use super::auth::{
    AccessRequest, Credentials, Denied, DeniedKind, Grant, ServerGrant, ServerRequest,
};
use super::bounds::Attempt;
use super::census::Seat;
use super::channel::{Channel, Enlisted, Renewal};
use super::error::{Refusal, ToWire as _};
use super::handler::picked;
use super::life::{Asked, IgnoredIn, Stay, caught};
use super::observe::{Act, Link};
use super::security::narrowed;
use super::socket::Socket;

/// A database that is open for a client.
pub(super) struct Opened {
    pub database: Database,
    /// As the database's security object leaves it.
    pub grant: Grant,
    pub stay: Stay,
}

impl Shared {
    /// Asks the authorizer; a grant that has ended counts as none. The connection counts as one of
    /// the grant's user.
    pub(super) async fn judge(
        &self,
        access: AccessRequest,
        seat: &Seat,
    ) -> Result<Grant, WireError> {
        let grant = self.judge_access(access).await?;
        if let Some(user) = grant.user_name() {
            seat.belongs_to(user).map_err(|refusal| {
                self.observed.limit_hit(refusal.limit());
                refusal.to_wire()
            })?;
        }
        Ok(grant)
    }

    /// The same for what is no connection.
    pub(super) async fn judge_access(&self, access: AccessRequest) -> Result<Grant, WireError> {
        let login = self.login(&access.credentials, access.peer).await?;
        let database = Some(access.database.clone());
        let judged = self.judged(database, self.authorizer.authorize(access)).await;
        let grant = verdict(login, judged)?.map_err(|denied| denied.to_wire())?;
        self.usable(grant)
    }

    /// The same for a connection that has been counted, with credentials that were good before:
    /// nobody is trying to log in.
    pub(super) async fn judge_again(&self, access: AccessRequest) -> Result<Grant, WireError> {
        let database = Some(access.database.clone());
        let judged = self.judged(database, self.authorizer.authorize(access)).await;
        let grant =
            judged.map_err(|panicked| panicked.to_wire())?.map_err(|denied| denied.to_wire())?;
        self.usable(grant)
    }

    /// A grant that has not ended and is not blocked, with the gateway's own validators and handlers.
    fn usable(&self, mut grant: Grant) -> Result<Grant, WireError> {
        if grant.time_left().is_some_and(|left| left.is_zero()) {
            return Err(Refusal::GrantExpired.to_wire());
        }
        self.blocks.check(grant.user_name(), grant.token_name(), Some(&grant.database))?;
        grant.validators.splice(..0, self.validators.iter().cloned());
        if self.life.is_ephemeral(&grant.database) {
            grant = grant.ephemeral();
        }
        grant.write_handlers = picked(&self.write_handlers, &grant.database);
        grant.fetch_handlers = picked(&self.fetch_handlers, &grant.database);
        grant.merge_policy = picked(&self.merge_policies, &grant.database).into_iter().next();
        Ok(grant)
    }

    /// Asks the server's authorizer; a grant that has ended counts as none. A denial is the
    /// caller's to tell.
    pub(super) async fn judge_server(
        &self,
        request: ServerRequest,
    ) -> Result<Result<ServerGrant, Denied>, WireError> {
        let login = self.login(&request.credentials, request.peer).await?;
        let judged = self.judged(None, self.server_authorizer.authorize_server(request)).await;
        match verdict(login, judged)? {
            Ok(grant) => self.usable_server(grant).map(Ok),
            Err(denied) => Ok(Err(denied)),
        }
    }

    /// The same with credentials that were good before.
    pub(super) async fn judge_server_again(
        &self,
        request: ServerRequest,
    ) -> Result<ServerGrant, WireError> {
        let judged = self.judged(None, self.server_authorizer.authorize_server(request)).await;
        let grant =
            judged.map_err(|panicked| panicked.to_wire())?.map_err(|denied| denied.to_wire())?;
        self.usable_server(grant)
    }

    fn usable_server(&self, grant: ServerGrant) -> Result<ServerGrant, WireError> {
        if grant.time_left().is_some_and(|left| left.is_zero()) {
            return Err(Refusal::GrantExpired.to_wire());
        }
        self.blocks.check(grant.user.as_deref(), grant.token.as_deref(), None)?;
        Ok(grant)
    }

    /// Begins to look at credentials; refused where too many have failed. Who shows none does not
    /// try to log in.
    async fn login(
        &self,
        credentials: &Credentials,
        peer: Option<SocketAddr>,
    ) -> Result<Attempt<'_>, WireError> {
        let address = peer.map(|peer| peer.ip()).filter(|_| !credentials.value().is_null());
        self.logins.begin(address).await.map_err(|refusal| refusal.to_wire())
    }

    /// Opens the database that a grant names; makes it if the grant allows that and `create` asks
    /// for it, or the grant makes it unasked.
    pub(super) async fn open(
        &self,
        grant: Grant,
        create: bool,
        link: &Link,
    ) -> Result<Opened, WireError> {
        let entered = self.life.enter(Asked::of(&grant, create), link).await?;
        let grant = narrowed(grant, &entered.database)?;
        Ok(Opened { database: entered.database, grant, stay: entered.stay })
    }

    /// Makes the database that a grant names, which may be made; refused if it is there.
    pub(super) async fn create(&self, grant: &Grant, link: &Link) -> Result<(), WireError> {
        if self.life.enter(Asked::of(grant, true), link).await?.made {
            return Ok(());
        }
        let name = grant.database.clone();
        Err(StoreError::DatabaseExists { name }.to_wire())
    }

    /// What an authorizer says, unless it panics.
    async fn judged<G>(
        &self,
        database: Option<DbName>,
        judging: impl Future<Output = Result<G, Denied>>,
    ) -> Result<Result<G, Denied>, Refusal> {
        caught(judging).await.map_err(|panicked| {
            self.life.ignored.tell(IgnoredIn::Authorizer, database.as_ref(), panicked);
            Refusal::Panicked
        })
    }
}

/// Ends a login with what the authorizer says. That it panicked says nothing of the credentials.
fn verdict<G>(
    login: Attempt<'_>,
    judged: Result<Result<G, Denied>, Refusal>,
) -> Result<Result<G, Denied>, WireError> {
    let unauthorized = |denied: &Denied| denied.kind == DeniedKind::Unauthorized;
    let failed = matches!(&judged, Ok(Err(denied)) if unauthorized(denied));
    login.end(failed).map_err(|refusal| refusal.to_wire())?;
    judged.map_err(|panicked| panicked.to_wire())
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
        let grant = self.shared.judge(access.clone(), &self.peer.seat).await?;
        let opening = self.opening();
        let opened = self.shared.open(grant, create, &self.link).await?;
        self.opened_one();
        drop(opening);
        let link = Arc::clone(&self.link);
        Ok(Channel::new(id, &self.shared, opened, access, Renewal::InPlace, link))
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
        enlisted
    }

    /// Asks the authorizer for a channel that is open; once more if grants were revoked meanwhile,
    /// since a revocation judges only what it finds.
    pub(super) async fn grant_again(
        &self,
        channel: &Channel,
        access: AccessRequest,
    ) -> Result<(), WireError> {
        // First: a judgement of the older credentials that is under way must not take their place.
        channel.asked_with(access.clone());
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
