//! What the wire shows of refusals to open a database for a while.

use super::{ToWire, wire};
use crate::proto::message::WireError;

/// Refusals that have to do with which databases are active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum LifeRefusal {
    /// What the application does first took too long.
    OpeningTimedOut,
    /// As many wait for the database as may.
    TooManyWaiting { max: usize },
    /// There are as many ephemeral databases as may be.
    TooManyEphemeral { max: usize },
    /// The grant is for an ephemeral database, and one on disk has the name, or the other way round.
    OtherKind,
}

impl ToWire for LifeRefusal {
    fn to_wire(&self) -> WireError {
        let later = |reason: &str| wire(503, "service_unavailable", reason);
        match self {
            Self::OpeningTimedOut => later("it takes too long to be prepared; try later"),
            Self::TooManyWaiting { max } => {
                later(&format!("{max} wait already for this db to be opened; try later"))
            }
            Self::TooManyEphemeral { max } => {
                later(&format!("the gateway has {max} ephemeral databases; try later"))
            }
            Self::OtherKind => wire(
                412,
                "file_exists",
                "one of an ephemeral and a stored database is asked for, and the other is there",
            ),
        }
    }
}
