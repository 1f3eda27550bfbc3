//! Databases and clients as they come and go, and who is there.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};

use crate::doc::DbName;
use crate::store::Database;

use super::{ClosingCause, SessionInfo};

/// What waits for one who watches; older ones are dropped, and they are told so.
const WAITING_MAX: usize = 1024;

/// Something that came or went.
///
/// Of one database, `DatabaseOpened` comes first and `DatabaseClosed` last, and between them each
/// client joins before it leaves. Of one session, `Connected` comes first and `Disconnected` last, and
/// its clients come and go between them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Activity {
    /// A WebSocket was accepted.
    Connected(Arc<SessionInfo>),
    /// It has ended.
    Disconnected(Arc<SessionInfo>),
    /// A database became active.
    DatabaseOpened {
        /// Which.
        database: DbName,
        /// Whether it is in memory and goes when it is closed.
        ephemeral: bool,
    },
    /// A client came into a database.
    ClientJoined {
        /// Into which.
        database: DbName,
        /// Who.
        client: Arc<DatabaseClient>,
    },
    /// A client left a database.
    ClientLeft {
        /// Which.
        database: DbName,
        /// Who.
        client: Arc<DatabaseClient>,
    },
    /// A database is active no more.
    DatabaseClosed {
        /// Which.
        database: DbName,
        /// Why.
        cause: ClosingCause,
    },
}

impl Activity {
    /// 1 for what came, -1 for what went.
    #[must_use]
    pub fn step(&self) -> i8 {
        match self {
            Self::Connected(_) | Self::DatabaseOpened { .. } | Self::ClientJoined { .. } => 1,
            Self::Disconnected(_) | Self::ClientLeft { .. } | Self::DatabaseClosed { .. } => -1,
        }
    }

    /// The database it is about, if it is about one.
    #[must_use]
    pub fn database(&self) -> Option<&DbName> {
        match self {
            Self::Connected(_) | Self::Disconnected(_) => None,
            Self::DatabaseOpened { database, .. }
            | Self::ClientJoined { database, .. }
            | Self::ClientLeft { database, .. }
            | Self::DatabaseClosed { database, .. } => Some(database),
        }
    }
}

/// Who is in a database: a channel, a request over HTTP, or a replication.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseClient {
    /// Its number, which no other client of this run of the gateway has.
    pub id: u64,
    /// The WebSocket it came over; `None` over HTTP.
    pub session: Option<u64>,
    /// What it speaks: `settee.v1`, `legacy` or `http`.
    pub protocol: &'static str,
    /// Its address, where the transport has one.
    pub peer: Option<SocketAddr>,
    /// Whom its grant named when it came.
    pub user: Option<String>,
}

/// A database that is active.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OpenDatabase {
    /// The database itself: what is written to it reaches its clients.
    pub database: Database,
    /// Whether it is in memory and goes when it is closed.
    pub ephemeral: bool,
    /// How many are in it.
    pub clients: usize,
}

/// How many there are at a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayStats {
    /// Connections, those that have asked for nothing yet included.
    pub connections: usize,
    /// Open channels, requests for a database and replications.
    pub channels: usize,
    /// Databases that are active.
    pub databases: usize,
    /// Clients of all of them.
    pub clients: usize,
}

/// What comes and goes at a gateway, as it happens.
#[derive(Debug)]
pub struct Watch(broadcast::Receiver<Activity>);

impl Watch {
    /// What came or went next; [`Err`] with a number if this was read so slowly that as many were
    /// dropped, and [`Gateway::databases`](super::Gateway::databases) tells what there is. `None`
    /// when the gateway is gone.
    ///
    /// # Errors
    /// The number of those that were dropped.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Activity, u64>> {
        match self.0.recv().await {
            Ok(activity) => Some(Ok(activity)),
            Err(RecvError::Lagged(dropped)) => Some(Err(dropped)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Tells those who watch.
#[derive(Debug)]
pub(super) struct Watched(broadcast::Sender<Activity>);

impl Default for Watched {
    fn default() -> Self {
        Self(broadcast::Sender::new(WAITING_MAX))
    }
}

impl Watched {
    pub(super) fn watch(&self) -> Watch {
        Watch(self.0.subscribe())
    }

    pub(super) fn tell(&self, activity: impl FnOnce() -> Activity) {
        if self.0.receiver_count() > 0 {
            // Whoever watched may have left in between.
            drop(self.0.send(activity()));
        }
    }
}
