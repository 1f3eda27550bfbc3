//! What the wire shows of refusals of the HTTP API.

use super::{ToWire, forbidden, too_many, wire};
use crate::proto::message::WireError;

/// Refusals of the HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum HttpRefusal {
    /// The server's own authorizer does not let databases be listed.
    MayNotList,
    /// The server's own authorizer does not let the server be administered.
    MayNotAdministerServer,
    /// More is blocked than is kept.
    TooManyBlocks { max: usize },
    /// The server's own authorizer does not let the server be backed up.
    MayNotBackUp,
    /// As many backups are being taken as may be.
    TooManyBackups { max: usize },
    /// Only who administers the database may do this.
    MayNotAdminister,
    /// The database may not be made.
    MayNotCreate,
    /// A POST that does not say that its body is JSON.
    NotJson,
    /// A PATCH whose body is of no kind that is known.
    NotPatch,
    /// A body that is not JSON.
    InvalidJson,
    /// A body of JSON that is too large.
    BodyTooLarge { max: usize },
    /// A body of which nothing came for too long.
    BodyStalled,
    /// A body that ended before its end.
    BodyCut,
    /// A body in an encoding that is not known.
    ContentEncoding,
    /// A body that says it is compressed, and is not.
    BadGzip,
    /// A multipart body that cannot be taken apart.
    BadMultipart,
    /// An `Authorization` header that cannot be read.
    BadAuthorization,
    /// A session's cookie that is forged, over or ended.
    SessionEnded,
    /// A session that was not begun, since the credentials are not good.
    BadLogin,
    /// A method that is not for this address.
    Method { allowed: &'static str },
    /// Something of CouchDB that needs JavaScript or is not made here.
    NotImplemented { reason: &'static str },
    /// More uuids than are given at a time.
    TooManyUuids { max: u64 },
    /// A `Range` outside the attachment.
    Range,
    /// A local document cannot have attachments.
    LocalAttachment,
    /// `_bulk_docs` without documents.
    NoDocs,
    /// `_bulk_get` without documents.
    NoDocsToGet,
    /// `keys` that is no array.
    KeysNotArray,
    /// `open_revs` that is no list.
    BadOpenRevs,
    /// The grant does not let addresses be replicated with, or replications be seen.
    MayNotReplicate,
    /// There is no such replication.
    NoReplication,
    /// A replication was cancelled by somebody else before it was complete.
    ReplicationCancelled,
    /// The gateway has as many replications as it may.
    TooManyReplications { max: usize },
}

impl ToWire for HttpRefusal {
    fn to_wire(&self) -> WireError {
        match self {
            Self::MayNotList => {
                forbidden("You are not allowed to list the databases of this server.")
            }
            Self::MayNotAdministerServer => forbidden("You are not a server admin."),
            Self::TooManyBlocks { max } => too_many(format_args!(
                "{max} blocks are in force, as many as may be; wait until some end"
            )),
            Self::MayNotAdminister => forbidden("You are not an admin of this db."),
            Self::MayNotCreate => forbidden("You are not allowed to create this db."),
            Self::MayNotBackUp => forbidden("You are not allowed to back up this server."),
            Self::TooManyBackups { max } => {
                too_many(format_args!("{max} backup at a time may be taken; wait for it to end"))
            }
            Self::NotJson => wire(415, "bad_content_type", "Content-Type must be application/json"),
            Self::NotPatch => wire(
                415,
                "bad_content_type",
                "Content-Type must be application/merge-patch+json or application/json-patch+json",
            ),
            Self::InvalidJson => wire(400, "bad_request", "invalid UTF-8 JSON"),
            Self::BodyTooLarge { max } => {
                wire(413, "too_large", format_args!("the body may have {max} bytes"))
            }
            Self::BodyStalled => {
                wire(408, "timeout", "nothing of the request's body came for too long")
            }
            Self::BodyCut => wire(400, "bad_request", "the request's body was cut"),
            Self::ContentEncoding => {
                wire(415, "bad_ctype", "Content-Encoding must be gzip or identity")
            }
            Self::BadGzip => wire(400, "bad_request", "the request's body is not gzip"),
            Self::BadMultipart => wire(400, "bad_request", "the multipart body is malformed"),
            Self::BadAuthorization => wire(
                401,
                "unauthorized",
                "the Authorization header must be Basic or Bearer and well-formed",
            ),
            Self::SessionEnded => wire(401, "unauthorized", "the session has ended; log in again"),
            Self::BadLogin => wire(401, "unauthorized", "Name or password is incorrect."),
            Self::Method { allowed } => {
                wire(405, "method_not_allowed", format_args!("Only {allowed} allowed"))
            }
            Self::NotImplemented { reason } => wire(501, "not_implemented", reason),
            Self::TooManyUuids { max } => {
                forbidden(format_args!("count parameter too large, at most {max}"))
            }
            Self::Range => {
                wire(416, "requested_range_not_satisfiable", "Requested range not satisfiable")
            }
            Self::LocalAttachment => {
                wire(400, "bad_request", "_local documents do not accept attachments.")
            }
            Self::NoDocs => wire(400, "bad_request", "POST body must include `docs` parameter."),
            Self::NoDocsToGet => wire(400, "bad_request", "Missing JSON list of 'docs'."),
            Self::KeysNotArray => wire(400, "bad_request", "`keys` body member must be an array."),
            Self::BadOpenRevs => wire(400, "bad_request", "Invalid list of revisions"),
            Self::MayNotReplicate => wire(
                403,
                "forbidden",
                "You are not allowed to replicate with other servers or to see replications.",
            ),
            Self::NoReplication => wire(404, "not_found", "there is no such replication"),
            Self::ReplicationCancelled => wire(500, "cancelled", "the replication was cancelled"),
            Self::TooManyReplications { max } => wire(
                429,
                "too_many_requests",
                format_args!("the gateway may have {max} replications; cancel one first"),
            ),
        }
    }
}
