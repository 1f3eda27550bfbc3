//! The one place for errors that nobody else is told of.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::FutureExt as _;

use crate::doc::DbName;

/// An error that no client and no caller is told of, or not in full.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IgnoredError {
    /// Where it happened.
    pub place: IgnoredIn,
    /// The database it is about, if it is about one.
    pub database: Option<DbName>,
    /// What was wrong: an error's words, or those of a panic. May say what clients must not know.
    pub reason: String,
}

impl fmt::Display for IgnoredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.place)?;
        if let Some(database) = &self.database {
            write!(f, " of {database}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Where an error happened that nobody else is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IgnoredIn {
    /// [`LifeCycle::opening`](super::LifeCycle::opening), or opening as a whole took too long.
    Opening,
    /// [`LifeCycle::opened`](super::LifeCycle::opened).
    Opened,
    /// [`LifeCycle::closing`](super::LifeCycle::closing), or removing an ephemeral database.
    Closing,
    /// [`LifeCycle::connected`](super::LifeCycle::connected).
    Connected,
    /// [`LifeCycle::disconnected`](super::LifeCycle::disconnected).
    Disconnected,
    /// The authorizer panicked, of databases or of the server.
    Authorizer,
    /// A validator panicked, or a document that it wanted written was refused.
    Validator,
    /// A handler panicked.
    Handler,
    /// A database could not be compacted in the background.
    Compaction,
    /// Tombstones could not be purged in the background.
    Tombstones,
    /// Kept replications could not be read.
    Replications,
    /// Connections could not be accepted.
    Accepting,
}

/// What an application is told errors with.
pub(super) type OnIgnoredError = Arc<dyn Fn(&IgnoredError) + Send + Sync>;

/// Tells the application and the log.
#[derive(Clone, Default)]
pub(in crate::server) struct Ignored(pub(super) Option<OnIgnoredError>);

impl Ignored {
    pub(in crate::server) fn tell(
        &self,
        place: IgnoredIn,
        database: Option<&DbName>,
        reason: impl fmt::Display,
    ) {
        let error = IgnoredError { place, database: database.cloned(), reason: reason.to_string() };
        tracing::warn!(?place, ?database, reason = %error.reason, "nobody else is told of an error");
        let Some(told) = &self.0 else { return };
        if let Err(panicked) = catch_unwind(AssertUnwindSafe(|| told(&error))) {
            tracing::error!(reason = words(&*panicked), "on_ignored_error panicked");
        }
    }
}

/// Turns a panic of a function of the application into its words.
pub(in crate::server) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.map_err(|panicked| format!("it panicked: {}", words(&*panicked)))
}

fn words(panicked: &(dyn Any + Send)) -> &str {
    let text = panicked.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panicked.downcast_ref::<&str>().copied()).unwrap_or("without words")
}
