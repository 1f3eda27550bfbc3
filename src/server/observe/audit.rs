//! Who did what: the events of the audit trail.
//!
//! An event names databases, documents and users. It holds no body, no credential, no header, and
//! no text that a client or an authorizer made up beside those names.

use std::net::SocketAddr;
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Spoken;
use crate::doc::DbName;

/// Something that somebody did or was not allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditEvent {
    /// When; RFC 3339 as JSON.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// What it was.
    #[serde(flatten)]
    pub act: Act,
    /// The user that the grant names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The address of the other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// `settee.v1`, `legacy` or `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'static str>,
}

/// What somebody did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Act {
    /// A channel opened a database, or a request of HTTP did.
    Opened,
    /// Something was denied.
    Refused {
        /// As in an answer of HTTP.
        status: u16,
        /// The error's name.
        error: String,
    },
    /// A revision was stored. Local documents, where checkpoints are, are not told.
    Wrote {
        /// The document.
        id: String,
        /// The revision.
        rev: String,
    },
    /// A grant or a validator refused a document.
    DocumentRefused {
        /// The document; empty if that could not be read.
        id: String,
        /// The revision that it would have followed, or would have been.
        #[serde(skip_serializing_if = "Option::is_none")]
        rev: Option<String>,
        /// As in an answer of HTTP.
        status: u16,
        /// The error's name.
        error: String,
    },
    /// A session by cookie began.
    SessionBegun,
    /// A session ended before its time.
    SessionEnded,
    /// A database, or the gateway, was administered.
    Administered {
        /// `create`, `destroy`, `security`, `revs_limit`, `purge`, `compact`, `view_cleanup`,
        /// `backup`, `revoke`, `replicate` or `cancel_replication`.
        what: &'static str,
    },
}

impl AuditEvent {
    pub(super) fn new(
        spoken: Option<Spoken>,
        peer: Option<SocketAddr>,
        user: Option<&str>,
        database: Option<&DbName>,
        act: Act,
    ) -> Self {
        Self {
            time: SystemTime::now(),
            act,
            user: user.map(str::to_owned),
            database: database.map(ToString::to_string),
            peer,
            protocol: spoken.map(Spoken::name),
        }
    }

    /// One line of JSON, without its end.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("it holds nothing that JSON has no words for")
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let text = OffsetDateTime::from(*time).format(&Rfc3339);
    serializer.serialize_str(&text.map_err(serde::ser::Error::custom)?)
}

/// Takes the events of a gateway. Any `Fn(AuditEvent)` is one.
pub trait Audit: Send + Sync + 'static {
    /// Takes an event. It is called where the work is done, so it must not wait: one that cannot
    /// keep up drops events and counts them.
    fn record(&self, event: AuditEvent);

    /// Events that were dropped so far, for `/_metrics`.
    fn lost(&self) -> u64 {
        0
    }
}

impl<F: Fn(AuditEvent) + Send + Sync + 'static> Audit for F {
    fn record(&self, event: AuditEvent) {
        self(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object() {
        let name = DbName::parse("todos").unwrap();
        let act = Act::Wrote { id: "a\nb".into(), rev: "1-a".into() };
        let mut event = AuditEvent::new(Some(Spoken::V1), None, Some("anna"), Some(&name), act);
        event.time = SystemTime::UNIX_EPOCH;
        assert_eq!(
            event.to_json(),
            r#"{"time":"1970-01-01T00:00:00Z","event":"wrote","id":"a\nb","rev":"1-a","user":"anna","database":"todos","protocol":"settee.v1"}"#
        );
    }
}
