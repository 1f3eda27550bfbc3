//! The one table from errors to what the wire shows: statuses, names, close codes.
//!
//! The names and statuses are CouchDB's (`chttpd:error_info`), the close codes those of RFC 6455
//! section 7.4.1 and the IANA registry. Every `match` here is full, so that a new error has no way
//! to the wire before it has its row.

mod events;
pub(crate) mod find;
mod http;
mod life;
mod patch;

pub(super) use events::EventRefusal;
pub(super) use http::HttpRefusal;
pub(super) use life::LifeRefusal;

use std::{fmt, io};

use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::doc::{ParseError, SelectorError};
use crate::limits::LimitsError;
use crate::proto::ProtocolError;
use crate::proto::call::WriteRow;
use crate::proto::event::EventError;
use crate::proto::message::{PIECE_BYTES_MAX, WireError};
use crate::proto::session::CallRefusal;
use crate::replicate::PeerError;
use crate::store::{BackupError, CompactionPolicyError, DocError, StoreError};

use super::auth::{Denied, DeniedKind};
use super::net::TlsError;
use super::observe::Spoken;

/// Why a gateway could not be made or stopped serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A limit that cannot work.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// A policy of compaction that cannot be kept.
    #[error(transparent)]
    Compaction(#[from] CompactionPolicyError),
    /// A trusted proxy that is neither an address nor a network.
    #[error("trusted proxy {entry:?} is not an address, a network like 10.0.0.0/8, or \"unix\"")]
    Proxy {
        /// What was listed.
        entry: String,
    },
    /// A certificate that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An allowed origin that is not `SCHEME://HOST[:PORT]`.
    #[error("allowed origin {origin:?} is not of the form SCHEME://HOST or SCHEME://HOST:PORT")]
    Origin {
        /// The origin.
        origin: String,
    },
}

/// Refusals that have no error of their own elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The connection has as many channels as it may.
    TooManyChannels { max: usize },
    /// The connection has as many calls in progress as it may.
    TooManyCalls { max: usize },
    /// The user has as many connections as it may.
    TooManyConnectionsOfUser { max: usize },
    /// The address has as many connections as it may.
    TooManyConnectionsOfAddress { max: usize },
    /// The gateway has as many connections as it may.
    TooManyConnections { max: usize },
    /// A peer that is not listed, where only proxies may connect.
    NotAProxy,
    /// The grant does not let documents be read.
    MayNotRead,
    /// The grant does not let documents be written.
    MayNotWrite,
    /// The document is outside the part of the database that the grant shows.
    OutsideView,
    /// The grant does not let the database be destroyed.
    MayNotDestroy,
    /// The database's security object does not name the user.
    NotAMember,
    /// The grant has ended.
    GrantExpired,
    /// The new credentials are for another database or another part of it.
    GrantMoved,
    /// The grant was judged again and allows something else, while an answer was under way.
    GrantChanged,
    /// Who shows this may not have grants for a while.
    Blocked,
    /// The gateway is stopping.
    Stopping,
    /// An upload sent more pieces than it had credit for.
    UploadOverrun,
    /// An upload's bytes are not those announced.
    UploadMismatch,
    /// A piece of an upload is too large.
    PieceTooLarge,
    /// A function of the application's panicked.
    Panicked,
    /// A page of another site tried to connect.
    Origin,
    /// A request that asks for a WebSocket in the wrong way.
    BadUpgrade,
    /// A WebSocket without a subprotocol that is spoken here.
    NoSubprotocol,
    /// A request for a database is too long to be judged.
    RequestTooLarge { max: usize },
    /// There is nothing at this address.
    NoRoute,
    /// A request whose `Host` is not a name of this machine, at a gateway that is open to it.
    Host,
}

/// Refusals for now, of who asks for more than the gateway gives in a time or has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooMuch {
    /// The address or the user sends requests too fast.
    Requests { retry_s: u64 },
    /// The address failed to log in too often.
    FailedLogins { retry_s: u64 },
    /// All connections together have as much JSON in memory as they may.
    Memory,
}

fn forbidden(reason: impl fmt::Display) -> WireError {
    wire(403, "forbidden", reason)
}

fn too_many(reason: impl fmt::Display) -> WireError {
    wire(429, "too_many_requests", reason)
}

/// An error that has been told already, in the words it was told in.
pub(super) fn told(status: u16, error: String, reason: String) -> WireError {
    WireError { status, error, reason }
}

fn wire(status: u16, error: &str, reason: impl fmt::Display) -> WireError {
    WireError { status, error: error.to_owned(), reason: reason.to_string() }
}

/// What the wire shows of an error.
pub(super) trait ToWire {
    fn to_wire(&self) -> WireError;
}

impl ToWire for ParseError {
    fn to_wire(&self) -> WireError {
        match self {
            Self::DbName { .. } => wire(400, "illegal_database_name", self),
            Self::DocIdEmpty
            | Self::DocIdReserved { .. }
            | Self::DocIdTooLong { .. }
            | Self::DocIdNotString => wire(400, "illegal_docid", self),
            Self::TooLarge { .. } => wire(413, "too_large", self),
            Self::StubDigest { .. } => wire(412, "missing_stub", self),
            Self::SpecialMember { .. } | Self::SpecialValue { .. } => {
                wire(400, "doc_validation", self)
            }
            Self::Rev { .. }
            | Self::Json { .. }
            | Self::TooDeep { .. }
            | Self::TooManyMembers { .. }
            | Self::NotAnObject
            | Self::RevMissing { .. }
            | Self::Attachment { .. }
            | Self::Digest => wire(400, "bad_request", self),
            Self::Tree { .. } => internal(self),
        }
    }
}

impl ToWire for SelectorError {
    fn to_wire(&self) -> WireError {
        match self {
            Self::Json(_) => wire(400, "bad_request", self),
            Self::NotAnObject => wire(400, "invalid_selector_json", self),
            Self::TooLarge { .. }
            | Self::TooManyConditions { .. }
            | Self::TooManyPatterns { .. } => wire(413, "too_large", self),
            Self::MissingField => wire(400, "invalid_selector", self),
            Self::Operator { .. } => wire(400, "invalid_operator", self),
            Self::Unsupported { .. } => wire(400, "not_supported", self),
            Self::Argument { .. } => wire(400, "bad_arg", self),
            Self::FieldName { .. } => wire(400, "invalid_field_name", self),
        }
    }
}

impl ToWire for DocError {
    fn to_wire(&self) -> WireError {
        match self {
            Self::Conflict => wire(409, "conflict", self),
            // PouchDB and CouchDB go on with the other documents after this one, and after no other.
            Self::Forbidden { .. } | Self::OverQuota { .. } => forbidden(self),
            Self::Unjudged { .. } => wire(503, "service_unavailable", self),
            Self::MissingStub { .. } => wire(412, "missing_stub", self),
            Self::TooManyLeaves { .. } => wire(413, "too_large", self),
            Self::GroupRefused { .. } => wire(424, "group_refused", self),
            Self::RevMissing | Self::LastGeneration { .. } => wire(400, "bad_request", self),
        }
    }
}

impl ToWire for StoreError {
    fn to_wire(&self) -> WireError {
        match self {
            Self::DatabaseMissing { .. }
            | Self::DatabaseDestroyed { .. }
            | Self::DatabaseGone
            | Self::DocMissing { .. }
            | Self::DocDeleted { .. }
            | Self::LocalMissing { .. }
            | Self::AttachmentMissing { .. } => wire(404, "not_found", self),
            Self::DatabaseExists { .. } => wire(412, "file_exists", self),
            Self::Refused(error) => error.to_wire(),
            Self::Malformed(error) => error.to_wire(),
            Self::TooLarge { .. } => wire(413, "too_large", self),
            Self::Poisoned => wire(503, "service_unavailable", self),
            Self::Closed => wire(503, "service_unavailable", self),
            Self::MemoryFull { .. } => wire(507, "insufficient_storage", self),
            Self::Io { source, .. } if is_full(source) => no_room(self),
            Self::Backup(error) => error.to_wire(),
            Self::Locked { .. }
            | Self::Unfinished { .. }
            | Self::TooNew { .. }
            | Self::Damaged { .. }
            | Self::BlobMissing { .. }
            | Self::Io { .. } => internal(self),
        }
    }
}

impl ToWire for BackupError {
    fn to_wire(&self) -> WireError {
        match self {
            Self::OtherStore { .. } => wire(400, "bad_request", self),
            Self::FellBehind { .. } => wire(503, "service_unavailable", self),
            Self::NotABackup
            | Self::TooNew { .. }
            | Self::Cut { .. }
            | Self::Damaged { .. }
            | Self::Io(_)
            | Self::WrongBase { .. }
            | Self::NotAnIncrement { .. }
            | Self::Nothing => internal(self),
        }
    }
}

impl ToWire for ProtocolError {
    fn to_wire(&self) -> WireError {
        match self {
            Self::NotAMessage
            | Self::UnknownVerb { .. }
            | Self::Malformed { .. }
            | Self::BadBinary
            | Self::NotARecord
            | Self::ChannelInUse { .. } => wire(400, "bad_request", self),
            Self::CredentialsTooLarge { .. } | Self::IdentityTooLarge { .. } => {
                wire(413, "too_large", self)
            }
        }
    }
}

impl ToWire for EventError {
    fn to_wire(&self) -> WireError {
        match self {
            Self::NameEmpty { .. } | Self::NoTarget | Self::Payload => {
                wire(400, "bad_request", self)
            }
            Self::NameTooLong { .. }
            | Self::TooManyTargets
            | Self::EventTooLarge { .. }
            | Self::StateTooLarge { .. } => wire(413, "too_large", self),
        }
    }
}

impl ToWire for Denied {
    fn to_wire(&self) -> WireError {
        match self.kind {
            DeniedKind::Unauthorized => wire(401, "unauthorized", self),
            DeniedKind::Forbidden => forbidden(self),
            DeniedKind::Unavailable => wire(503, "service_unavailable", self),
        }
    }
}

impl ToWire for CallRefusal {
    fn to_wire(&self) -> WireError {
        match self {
            Self::NoChannel => wire(404, "not_found", "there is no such channel"),
            Self::NotOpenYet => wire(400, "bad_request", "the channel is not open yet"),
            Self::InProgress => {
                wire(400, "bad_request", "a call of this number is in progress on the channel")
            }
        }
    }
}

impl ToWire for Refusal {
    fn to_wire(&self) -> WireError {
        match self {
            Self::TooManyChannels { max } => {
                too_many(format_args!("a connection may have {max} channels; close one first"))
            }
            Self::TooManyCalls { max } => too_many(format_args!(
                "a connection may have {max} calls in progress; wait for one"
            )),
            Self::TooManyConnectionsOfUser { max } => {
                too_many(format_args!("a user may have {max} connections; close one first"))
            }
            Self::TooManyConnectionsOfAddress { max } => {
                too_many(format_args!("an address may have {max} connections; close one first"))
            }
            Self::TooManyConnections { max } => wire(
                503,
                "service_unavailable",
                format_args!("the gateway has {max} connections, as many as it may; try later"),
            ),
            Self::NotAProxy => forbidden("only listed proxies may connect here"),
            Self::MayNotRead => forbidden("You are not allowed to read this db."),
            Self::MayNotWrite => forbidden("You are not allowed to write to this db."),
            Self::OutsideView => forbidden(
                "The document is outside the part of this db that you are allowed to use.",
            ),
            Self::MayNotDestroy => forbidden("You are not allowed to destroy this db."),
            Self::NotAMember => forbidden("You are not allowed to access this db."),
            Self::GrantExpired => {
                wire(401, "unauthorized", "the grant has expired; show new credentials")
            }
            Self::GrantMoved => wire(
                401,
                "unauthorized",
                "the new credentials are for another database or part of it; open a channel for it",
            ),
            Self::GrantChanged => {
                wire(401, "unauthorized", "your rights to this db have changed; ask again")
            }
            Self::Blocked => forbidden("Access was taken away for a while. Try again later."),
            Self::Stopping => {
                wire(503, "service_unavailable", "the gateway is stopping; connect again")
            }
            Self::UploadOverrun => {
                wire(400, "bad_request", "the upload sent more pieces than it had credit for")
            }
            Self::UploadMismatch => wire(
                400,
                "bad_request",
                "the uploaded bytes do not have the announced length or digest",
            ),
            Self::PieceTooLarge => wire(
                413,
                "too_large",
                format_args!("a piece of an upload may have {PIECE_BYTES_MAX} bytes"),
            ),
            Self::Panicked => internal(&"a function of the application panicked"),
            Self::Origin => forbidden(
                "connections from this page's origin are not allowed; see allowed origins",
            ),
            Self::BadUpgrade => wire(
                400,
                "bad_request",
                "a WebSocket request needs Connection: Upgrade, Sec-WebSocket-Key and \
                 Sec-WebSocket-Version: 13",
            ),
            Self::NoSubprotocol => wire(
                400,
                "bad_request",
                "this gateway speaks the subprotocol settee.v1; ask for it with \
                 Sec-WebSocket-Protocol",
            ),
            Self::RequestTooLarge { max } => wire(
                413,
                "too_large",
                format_args!("a request for a database may have {max} bytes"),
            ),
            Self::NoRoute => wire(404, "not_found", "missing"),
            Self::Host => forbidden(
                "this gateway is open to its own machine only; use localhost or 127.0.0.1",
            ),
        }
    }
}

impl ToWire for TooMuch {
    fn to_wire(&self) -> WireError {
        match self {
            Self::Requests { retry_s } => {
                too_many(format_args!("too many requests; {TRY_AGAIN}{retry_s} s"))
            }
            Self::FailedLogins { retry_s } => too_many(format_args!(
                "too many failed logins from this address; {TRY_AGAIN}{retry_s} s"
            )),
            Self::Memory => wire(
                503,
                "service_unavailable",
                format_args!("the gateway has much in memory already; {TRY_AGAIN}1 s"),
            ),
        }
    }
}

/// A replication's other end that cannot be opened, in the words of CouchDB's replicator.
pub(super) fn could_not_open(url: &str, error: &PeerError) -> WireError {
    match error {
        PeerError::Refused(refused) if refused.status == 404 => {
            wire(500, "db_not_found", format_args!("could not open {url}"))
        }
        PeerError::Refused(refused) if refused.status == 401 => wire(
            500,
            "unauthorized",
            format_args!("unauthorized to access or create database {url}"),
        ),
        PeerError::Refused(refused) if refused.status == 403 => {
            wire(500, "forbidden", format_args!("{url}: {}", refused.reason))
        }
        other => {
            let failed = replication_failed(other);
            wire(failed.status, &failed.error, format_args!("{url}: {}", failed.reason))
        }
    }
}

/// Why a replication failed. CouchDB answers 500 whatever the other server said.
pub(super) fn replication_failed(error: &PeerError) -> WireError {
    match error {
        PeerError::Disconnected { cause } => wire(500, "connection_failed", cause),
        PeerError::Refused(refused) => wire(500, &refused.error, &refused.reason),
        PeerError::Protocol { problem } => wire(500, "bad_answer", problem),
        PeerError::Store(error) => error.to_wire(),
    }
}

/// The methods that an answer of 405 names, for its header `Allow`.
pub(super) fn allowed_methods(error: &WireError) -> Option<&str> {
    (error.status == 405).then_some(())?;
    error.reason.strip_prefix("Only ")?.strip_suffix(" allowed")
}

/// What stands before the time after which a refusal may be over.
const TRY_AGAIN: &str = "try again in ";

/// The seconds that a refusal names, for the header `Retry-After`.
pub(super) fn retry_after(error: &WireError) -> Option<&str> {
    matches!(error.status, 429 | 503).then_some(())?;
    error.reason.rsplit_once(TRY_AGAIN)?.1.strip_suffix(" s")
}
/// The status and body of `/_up` while nobody should be sent here; the body is CouchDB's.
pub(super) const NOT_UP: (u16, &str) = (503, r#"{"status":"maintenance_mode"}"#);

/// A function that a design document does not have.
pub(super) fn missing_json_key(key: &str) -> WireError {
    wire(404, "not_found", format_args!("missing json key: {key}"))
}

/// A request that cannot be used, and why.
pub(super) fn bad_request(reason: impl fmt::Display) -> WireError {
    wire(400, "bad_request", reason)
}

/// A parameter of a query that cannot be read, and why.
pub(super) fn query_parse_error(reason: impl fmt::Display) -> WireError {
    wire(400, "query_parse_error", reason)
}

/// The body of an HTTP answer that is an error.
pub(super) fn http_body(error: &WireError) -> String {
    serde_json::json!({"error": error.error, "reason": error.reason}).to_string()
}

/// A revoked grant, with the reason that was given.
pub(super) fn revoked(reason: &str) -> WireError {
    wire(401, "unauthorized", reason)
}

/// An event for whom the sender may not send.
pub(super) fn may_not_send(whom: &str) -> WireError {
    let whom = crate::doc::printable(whom);
    wire(403, "forbidden", format_args!("You are not allowed to send events to {whom}."))
}

/// A method that does not exist.
pub(super) fn unknown_method(method: &str) -> WireError {
    let method = crate::doc::printable(method);
    wire(404, "not_found", format_args!("No method named {method}"))
}

/// The error of a document that was refused; `None` for one that was stored.
pub(super) fn of_row(row: &WriteRow) -> Option<WireError> {
    Some(wire(row.status?, row.error.as_deref()?, row.reason.as_deref()?))
}

/// Parameters that do not fit the method.
pub(super) fn bad_params(method: &str, problem: &serde_json::Error) -> WireError {
    // It quotes what the client sent, which may be long.
    const SHOWN_CHARS: usize = 300;
    let problem: String = problem.to_string().chars().take(SHOWN_CHARS).collect();
    wire(400, "bad_request", format_args!("parameters of {method}: {problem}"))
}

/// A parameter whose value cannot be used.
pub(super) fn bad_param(name: &str, problem: &str) -> WireError {
    wire(400, "bad_request", format_args!("parameter {name}: {problem}"))
}

/// Whether the disk, or what this process may have of it, is full.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The client is told what it can do nothing about, so that whoever it asks knows where to look.
fn no_room(error: &dyn fmt::Display) -> WireError {
    tracing::error!(%error, "the disk is full");
    wire(507, "insufficient_storage", "the gateway's disk is full")
}

/// Tells the client nothing but a number to find the log line by.
fn internal(error: &dyn fmt::Display) -> WireError {
    let mut id = [0; 4];
    // Without randomness the number is 0, and the log line is still there.
    let _ = getrandom::fill(&mut id);
    let id = u32::from_be_bytes(id);
    tracing::error!(error_id = format_args!("{id:08x}"), %error, "internal error");
    wire(500, "internal_server_error", format_args!("internal error, logged as {id:08x}"))
}

/// Why the gateway closes a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// A message broke the framing of settee.v1.
    Protocol(ProtocolError),
    /// A frame or message was too large.
    TooLarge,
    /// A text message was not UTF-8.
    NotText,
    /// A frame broke RFC 6455.
    Framing,
    /// No database was opened in time.
    NothingOpened,
    /// The client took nothing for too long.
    Stalled,
    /// The client sends too many messages, and goes on with it.
    TooFast,
    /// A message came when all connections together had as much in memory as they may.
    MemoryFull,
    /// The gateway is stopping.
    Stopping,
    /// A channel ended, of a client that would not notice; with the reason, if there is one.
    ChannelEnded(Option<WireError>),
}

impl CloseReason {
    /// The message that tells the peer. The WebSocket of the client of 2015 in Node fails on codes
    /// that were registered later, and its process with it: they become 1001, going away.
    pub(super) fn message(&self, spoken: Spoken) -> Message {
        let (code, text) = self.code_and_text();
        let code = if spoken == Spoken::Legacy && code > 1011 { 1001 } else { code };
        Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: text.into() }))
    }

    /// The close code and a reason of at most 123 bytes (RFC 6455 section 5.5).
    fn code_and_text(&self) -> (u16, String) {
        let (code, text) = match self {
            Self::Protocol(error) => (1002, error.to_string()),
            Self::TooLarge => (1009, "the message is too large".into()),
            Self::Framing => (1002, "a frame breaks the WebSocket protocol".into()),
            Self::NotText => (1007, "a text message must be UTF-8".into()),
            Self::NothingOpened => (1008, "nothing was opened in time".into()),
            Self::Stalled => (1013, "the client takes too little; connect again later".into()),
            Self::TooFast => (1008, "too many messages for too long; send them slower".into()),
            Self::MemoryFull => {
                (1013, "the gateway has much in memory already; connect again later".into())
            }
            Self::Stopping => (1012, "the gateway is stopping; connect again".into()),
            Self::ChannelEnded(why) => {
                let why = why.as_ref().map_or("it was closed", |error| &error.reason);
                (1008, format!("a database is no longer open here: {why}"))
            }
        };
        let mut end = text.len().min(123);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        (code, text[..end].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_reasons_fit_a_control_frame() {
        let verb = "ü".repeat(300);
        for reason in [
            CloseReason::Protocol(ProtocolError::UnknownVerb { verb }),
            CloseReason::TooLarge,
            CloseReason::Stopping,
        ] {
            assert!(reason.code_and_text().1.len() <= 123);
        }
    }

    #[test]
    fn clients_of_2015_are_told_codes_of_their_time() {
        for reason in [CloseReason::Stopping, CloseReason::Stalled, CloseReason::MemoryFull] {
            let code = |spoken| match reason.message(spoken) {
                Message::Close(Some(frame)) => u16::from(frame.code),
                other => panic!("{other:?} is no close"),
            };
            assert!(code(Spoken::V1) > 1011);
            assert_eq!(code(Spoken::Legacy), 1001);
        }
    }

    #[test]
    fn what_only_the_operator_may_know_is_not_told() {
        let damaged = StoreError::Damaged { what: "secret path".into() }.to_wire();
        assert_eq!(damaged.status, 500);
        assert!(!damaged.reason.contains("secret"));
    }
}
