//! What the wire shows of refusals of events.

use super::{ToWire, forbidden, too_many, wire};
use crate::proto::message::WireError;

/// Refusals of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum EventRefusal {
    /// A connection that has not identified itself wants something of events.
    NotIdentified,
    /// The grant does not let the channel of events be joined.
    MayNotJoin,
    /// The connection is in as many channels of events as it may.
    TooManyEventChannels { max: usize },
    /// The channel of events has as many members as it may.
    TooManyMembers { max: usize },
}

impl ToWire for EventRefusal {
    fn to_wire(&self) -> WireError {
        match self {
            Self::NotIdentified => {
                wire(401, "unauthorized", "this connection has not identified itself")
            }
            Self::MayNotJoin => forbidden("You are not allowed to join this channel."),
            Self::TooManyEventChannels { max } => too_many(format_args!(
                "a connection may be in {max} channels of events; leave one first"
            )),
            Self::TooManyMembers { max } => too_many(format_args!(
                "the channel has {max} members, as many as it may; try later"
            )),
        }
    }
}
