//! Something long that is for no one database, for as long as the server's authorizer lets it go on:
//! a feed, a backup, a replication.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::proto::message::WireError;

use super::Shared;
use super::auth::{ServerGrant, ServerRequest};
use super::error::{HttpRefusal, Refusal, ToWire as _};

/// Feeds that are under way.
#[derive(Default)]
pub(super) struct ServerFeeds(Mutex<Vec<Weak<ServerFeed>>>);

/// A right to the server as a whole that something long needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerRight {
    List,
    BackUp,
    Replicate,
}

impl ServerRight {
    pub(super) fn check(self, grant: ServerGrant) -> Result<ServerGrant, WireError> {
        let (granted, refusal) = match self {
            Self::List => (grant.list, HttpRefusal::MayNotList),
            Self::BackUp => (grant.back_up, HttpRefusal::MayNotBackUp),
            Self::Replicate => (grant.replicate, HttpRefusal::MayNotReplicate),
        };
        if granted { Ok(grant) } else { Err(refusal.to_wire()) }
    }
}

/// A feed, and the right that it needs.
pub(super) struct ServerFeed {
    access: ServerRequest,
    right: ServerRight,
    grant: RwLock<ServerGrant>,
    ended: watch::Sender<Option<WireError>>,
}

impl Shared {
    /// Begins a feed, if the server's authorizer allows it.
    pub(super) async fn begin_feed(
        &self,
        access: ServerRequest,
        right: ServerRight,
    ) -> Result<Arc<ServerFeed>, WireError> {
        loop {
            let revocations = self.revocations();
            let grant = self.judge_right(access.clone(), right).await?;
            let feed = Arc::new(ServerFeed {
                access: access.clone(),
                right,
                grant: RwLock::new(grant),
                ended: watch::Sender::new(None),
            });
            let mut feeds = self.feeds.lock();
            feeds.retain(|feed| feed.strong_count() > 0);
            feeds.push(Arc::downgrade(&feed));
            drop(feeds);
            // A revocation that came while this was not yet known passed it by.
            if self.revocations() == revocations {
                return Ok(feed);
            }
        }
    }

    /// Asks for a right to the server.
    pub(super) async fn judge_right(
        &self,
        access: ServerRequest,
        right: ServerRight,
    ) -> Result<ServerGrant, WireError> {
        right.check(self.judge_server(access).await?.map_err(|denied| denied.to_wire())?)
    }

    pub(super) fn server_feeds(&self) -> Vec<Arc<ServerFeed>> {
        let mut feeds = self.feeds.lock();
        feeds.retain(|feed| feed.strong_count() > 0);
        feeds.iter().filter_map(Weak::upgrade).collect()
    }
}

impl ServerFeeds {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<ServerFeed>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerFeed {
    pub(super) fn with_grant<R>(&self, read: impl FnOnce(&ServerGrant) -> R) -> R {
        read(&self.grant.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn end(&self, error: WireError) {
        self.ended.send_replace(Some(error));
    }

    /// Puts it to the authorizer again.
    pub(super) async fn judge_again(&self, shared: &Shared) -> Result<(), WireError> {
        let grant = self.right.check(shared.judge_server_again(self.access.clone()).await?)?;
        *self.grant.write().unwrap_or_else(PoisonError::into_inner) = grant;
        Ok(())
    }

    /// Waits for the grant's end, and says what it was.
    pub(super) async fn until_ended(
        &self,
        check_interval: Duration,
    ) -> Result<Infallible, WireError> {
        let mut ended = self.ended.subscribe();
        loop {
            let time_left = self.with_grant(ServerGrant::time_left);
            if time_left.is_some_and(|left| left.is_zero()) {
                return Err(Refusal::GrantExpired.to_wire());
            }
            let look_again = time_left.map_or(check_interval, |left| left.min(check_interval));
            tokio::select! {
                error = ended.wait_for(Option::is_some) => {
                    let error = error.ok().and_then(|error| error.clone());
                    return Err(error.unwrap_or_else(|| Refusal::GrantExpired.to_wire()));
                }
                () = sleep(look_again) => {}
            }
        }
    }
}
