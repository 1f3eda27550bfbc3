//! The life cycle of databases and connections: what the application does when a database is first
//! asked for and after its last client has left, who is there meanwhile, and errors that nobody else
//! is told of.
//!
//! A database is *active* from the first client that asks for it until some time after the last one
//! has left. Clients are channels of both WebSocket protocols, requests over HTTP and replications.
//! The hard case is that all of this happens at once: `activations.rs` decides it under one lock, in
//! which it also tells those who watch, so that they see it in one order.

mod activations;
mod activity;
mod ignored;
mod sessions;
mod table;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;

pub use activity::{Activity, DatabaseClient, GatewayStats, OpenDatabase, Watch};
pub use ignored::{IgnoredError, IgnoredIn};

pub(super) use activations::{Asked, Life, LifeSettings, Stay};
pub(super) use ignored::{Ignored, caught};
pub(super) use sessions::Session;

use crate::doc::DbName;
use crate::store::{Database, Store, StoreError};

use super::auth::Denied;
use super::{Gateway, GatewayBuilder};

/// What an application does when databases and connections come and go. Every method does nothing
/// unless it is written.
///
/// A hook that panics or takes longer than `database_open_timeout_ms`, and one of a database that
/// fails, is told to [`GatewayBuilder::on_ignored_error`]. Whoever waits for it is refused with the
/// reason; what takes too long is dropped where it stands. No hook may wait for a client of its own gateway that opens the same database.
///
/// ```
/// use settee::server::{Denied, LifeCycle, Opening};
/// struct Welcome;
/// #[async_trait::async_trait]
/// impl LifeCycle for Welcome {
///     async fn opening(&self, opening: Opening) -> Result<(), Denied> {
///         let database = opening.open_or_create().await;
///         database.map_err(|error| Denied::unavailable(error.to_string()))?;
///         Ok(())
///     }
/// }
/// let gateway = settee::Gateway::builder(settee::Store::memory()).life_cycle(Welcome).build()?;
/// # Ok::<(), settee::server::ServerError>(())
/// ```
#[async_trait]
pub trait LifeCycle: Send + Sync + 'static {
    /// A database is asked for by a client with a grant for it, and is not active. It may be made
    /// here, loaded, migrated or refused; without a word it is opened, or made if the grant says so.
    /// Called once for each activation, while everybody who asks for the database waits; of a
    /// database that is not there, and is not made here either, each time somebody asks for it.
    ///
    /// # Errors
    /// [`Denied`], whose reason reaches all who wait. The next client is a new attempt.
    async fn opening(&self, opening: Opening) -> Result<(), Denied> {
        let _ = opening;
        Ok(())
    }

    /// The database is there, and nobody is in it yet: it may be written to.
    ///
    /// # Errors
    /// As [`opening`](Self::opening). What was written stays, except in an ephemeral database.
    async fn opened(&self, database: Database) -> Result<(), Denied> {
        let _ = database;
        Ok(())
    }

    /// Nobody is in the database any more. Who asks for it meanwhile waits, and activates it anew.
    ///
    /// # Errors
    /// Only told to [`GatewayBuilder::on_ignored_error`]: the database is closed all the same.
    async fn closing(&self, closing: Closing) -> Result<(), Denied> {
        let _ = closing;
        Ok(())
    }

    /// A WebSocket is about to be accepted. It has shown no credentials but its headers.
    ///
    /// # Errors
    /// [`Denied`]: the handshake is refused with its status and reason.
    async fn connected(&self, session: Arc<SessionInfo>) -> Result<(), Denied> {
        let _ = session;
        Ok(())
    }

    /// A WebSocket that was accepted has ended.
    async fn disconnected(&self, session: Arc<SessionInfo>) {
        let _ = session;
    }
}

/// A database that is about to be opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Opening {
    /// Its name.
    pub name: DbName,
    /// Whether it is in memory and goes when it is closed.
    pub ephemeral: bool,
    /// Whether it is made after this hook if it is not there.
    pub create: bool,
    /// Whom the grant of the first client names.
    pub user: Option<String>,
    store: Store,
}

impl Opening {
    /// The database, if it is there.
    ///
    /// # Errors
    /// [`StoreError::DatabaseMissing`], and what reading can fail with.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn database(&self) -> Result<Database, StoreError> {
        self.store.database(&self.name).await
    }

    /// The database, made if it is not there, whatever the grant says.
    ///
    /// # Errors
    /// As [`Store::open_or_create`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the database either made or not.
    pub async fn open_or_create(&self) -> Result<Database, StoreError> {
        self.store.open_or_create(&self.name).await
    }
}

/// A database that is about to be closed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Closing {
    /// The database; still there, unless it was destroyed.
    pub database: Database,
    /// Whether it goes after this hook.
    pub ephemeral: bool,
    /// Why it is closed.
    pub cause: ClosingCause,
}

/// Why a database is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosingCause {
    /// Nobody was in it for `database_linger_ms`.
    Idle,
    /// It was destroyed.
    Destroyed,
    /// The gateway stops.
    Stopping,
}

/// A WebSocket, from before its handshake is answered to its end.
#[derive(Clone)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its number, which no other WebSocket of this run of the gateway has. It says nothing about who
    /// is there: users are named by grants.
    pub id: u64,
    /// What is spoken: `settee.v1` or `legacy`.
    pub protocol: &'static str,
    /// The client's address, where the transport has one.
    pub peer: Option<SocketAddr>,
    /// Its headers, as in [`AccessRequest::headers`](super::AccessRequest::headers).
    pub headers: Arc<HeaderMap>,
}

impl fmt::Debug for SessionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SessionInfo");
        shown.field("id", &self.id).field("protocol", &self.protocol).field("peer", &self.peer);
        shown.finish_non_exhaustive()
    }
}

impl GatewayBuilder {
    /// What the application does when databases and connections come and go.
    #[must_use]
    pub fn life_cycle(mut self, hooks: impl LifeCycle) -> Self {
        self.life.hooks = Some(Arc::new(hooks));
        self
    }

    /// Databases whose names match are ephemeral, as if every grant for them was
    /// [`ephemeral`](super::Grant::ephemeral): a name, in which each `*` stands for any number of
    /// characters.
    #[must_use]
    pub fn ephemeral<I: IntoIterator<Item = String>>(mut self, databases: I) -> Self {
        self.life.ephemeral.extend(databases);
        self
    }

    /// Is told of errors that nobody else is told of: of hooks, of panics of the authorizer and of
    /// validators, of what goes on in the background. Called on the gateway's tasks, so it must not
    /// take long. They are logged whether or not somebody listens.
    #[must_use]
    pub fn on_ignored_error(
        mut self,
        told: impl Fn(&IgnoredError) + Send + Sync + 'static,
    ) -> Self {
        self.life.on_ignored_error = Some(Arc::new(told));
        self
    }
}

impl Gateway {
    /// Begins to watch databases and clients coming and going. What is there already is told by
    /// [`databases`](Self::databases): begin to watch first, and look then.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.shared.life.watch()
    }

    /// The databases that are active, by name.
    #[must_use]
    pub fn databases(&self) -> Vec<OpenDatabase> {
        self.shared.life.databases()
    }

    /// Who is in a database, in the order in which they came.
    #[must_use]
    pub fn clients(&self, database: &DbName) -> Vec<DatabaseClient> {
        self.shared.life.clients(database)
    }

    /// How many there are.
    #[must_use]
    pub fn stats(&self) -> GatewayStats {
        let (connections, channels) = self.counts();
        let (databases, clients) = self.shared.life.count();
        GatewayStats { connections, channels, databases, clients }
    }
}
