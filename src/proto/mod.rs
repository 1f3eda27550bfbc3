//! The wire protocol settee.v1 and the checkpoints of replication. Pure: no IO, no clock.
//!
//! `docs/PROTOCOL.md` is the specification. [`message`] is the grammar of single messages,
//! [`call`] the parameters of calls, [`session`] what the gateway does with a connection's messages,
//! [`event`] what goes beside the documents, [`lossy`] the queue of it,
//! [`liveness`] when to ping and when to give up, [`checkpoint`] how a replication resumes.
//! [`legacy`] is the protocol that came before.

pub mod call;
pub mod checkpoint;
pub mod event;
mod event_message;
pub mod legacy;
pub mod liveness;
pub mod lossy;
pub mod message;
pub mod recent;
pub mod session;

/// The WebSocket subprotocol's name (`Sec-WebSocket-Protocol`).
pub const SUBPROTOCOL: &str = "settee.v1";

/// A message that breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A text message that is not a JSON array with a verb first.
    #[error("a message must be a JSON array that begins with a verb")]
    NotAMessage,
    /// A verb that the receiver does not know.
    #[error("unknown verb {verb:?}")]
    UnknownVerb {
        /// The verb, cut to a printable length.
        verb: String,
    },
    /// A known verb with the wrong elements after it.
    #[error("malformed {verb:?}: expected {expected}")]
    Malformed {
        /// The verb.
        verb: &'static str,
        /// Its form.
        expected: &'static str,
    },
    /// A binary message shorter than its header, or with an unknown first byte.
    #[error("a binary message must begin with 0 or 1, a channel and a call")]
    BadBinary,
    /// `open` for a channel that is open.
    #[error("channel {channel} is open already")]
    ChannelInUse {
        /// The channel.
        channel: u32,
    },
    /// A line of the protocol of 2015 that is not JSON.
    #[error("a line must be JSON")]
    NotARecord,
    /// Credentials that are too large to be judged.
    #[error("credentials may have {max} bytes")]
    CredentialsTooLarge {
        /// The channel that they are for.
        channel: u32,
        /// The bound.
        max: usize,
    },
    /// Credentials of `identify` that are too large to be judged.
    #[error("credentials may have {max} bytes")]
    IdentityTooLarge {
        /// The bound.
        max: usize,
    },
}
