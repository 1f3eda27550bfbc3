//! Ephemeral events and presence, beside the documents: nothing here is stored.
//!
//! A connection identifies itself, joins channels and sends events as its
//! [`ServerGrant`](super::ServerGrant) allows. The hub hands an event to every connection that it is
//! for, once; what a connection does not take in time is lost, oldest first, and counted. Documents
//! have their own room in the connection's outbox, so that events do not hold them up.

mod attending;
mod dispatch;
mod hub;
mod line;
mod rights;
mod roster;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt as _};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::proto::event::{EventError, Member, SendRequest, Targets};
use crate::proto::message::WireError;

pub(super) use attending::Attending;
pub(super) use hub::{Hub, Sender};
pub(super) use rights::EventRights;

/// A gateway's events, for the server program. A cheap handle.
///
/// ```no_run
/// # fn run(gateway: settee::Gateway) -> Result<(), Box<dyn std::error::Error>> {
/// use serde_json::json;
/// let reached = gateway.events().to_user("anna", "greeting", &json!({"text": "hello"}))?;
/// println!("{reached} connections of anna's get it");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Events {
    hub: Arc<Hub>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events(…)")
    }
}

impl Events {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Sends an event to every connection of a user. How many get it.
    ///
    /// # Errors
    /// [`SendError`] for an event over a bound.
    pub fn to_user(
        &self,
        user: &str,
        event: &str,
        payload: &impl Serialize,
    ) -> Result<u64, SendError> {
        self.send(Targets::user(user), event, payload)
    }

    /// Sends an event to every connection that has joined a channel. How many get it.
    ///
    /// # Errors
    /// As [`Events::to_user`].
    pub fn to_channel(
        &self,
        channel: &str,
        event: &str,
        payload: &impl Serialize,
    ) -> Result<u64, SendError> {
        self.send(Targets::channel(channel), event, payload)
    }

    /// Sends an event to every connection that has identified itself. How many get it.
    ///
    /// # Errors
    /// As [`Events::to_user`].
    pub fn broadcast(&self, event: &str, payload: &impl Serialize) -> Result<u64, SendError> {
        self.send(Targets::everybody(), event, payload)
    }

    /// Sends an event to all of these at once: whoever matches several times gets it once. How many
    /// connections get it, which says nothing about whether they have taken it.
    ///
    /// # Errors
    /// As [`Events::to_user`].
    pub fn send(
        &self,
        targets: Targets,
        event: &str,
        payload: &impl Serialize,
    ) -> Result<u64, SendError> {
        let request = SendRequest::new(targets, event, payload)?;
        Ok(self.hub.send(&Sender::Program, &request)?)
    }

    /// Who is in a channel with presence.
    #[must_use]
    pub fn members(&self, channel: &str) -> Vec<Member> {
        self.hub.members(channel)
    }

    /// Every event that is dispatched from now on, whoever sends it. A listener that falls behind by
    /// more than 1,024 events loses the oldest, and is told how many.
    #[must_use]
    pub fn dispatched(&self) -> Dispatches {
        Dispatches(BroadcastStream::new(self.hub.heard()))
    }

    /// Ends the identity of every connection whose user `condition` picks, telling the client
    /// `reason`: it leaves its channels and gets no more events. Returns how many. Deny in the
    /// [`ServerAuthorizer`](super::ServerAuthorizer) first: one who is being judged meanwhile is
    /// judged once more.
    pub fn revoke(&self, reason: &str, condition: impl Fn(Option<&str>) -> bool) -> usize {
        self.hub.revoke(reason, |grant| condition(grant.user.as_deref()))
    }
}

/// An event that was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// It is over a bound, or for nobody.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The gateway refused it, as it would refuse a client.
    #[error(transparent)]
    Refused(#[from] WireError),
}

/// An event that was dispatched.
#[derive(Debug, Clone)]
pub struct DispatchedEvent {
    /// Its name.
    pub event: String,
    /// Its payload, JSON text.
    pub payload: Box<RawValue>,
    /// For whom it was.
    pub targets: Targets,
    /// The sender's id, as [`Member::id`]; `None` for the server program and backends without a
    /// user.
    pub from: Option<String>,
    /// How many connections it was for.
    pub reached: u64,
}

impl DispatchedEvent {
    fn new(request: &SendRequest, from: Option<String>, reached: u64) -> Self {
        let payload = RawValue::from_string(request.payload_text().to_owned());
        Self {
            event: request.event.clone(),
            payload: payload.expect("a payload is JSON"),
            targets: request.targets.clone(),
            from,
            reached,
        }
    }
}

/// What a listener of the server program hears.
#[derive(Debug, Clone)]
pub enum Dispatch {
    /// An event.
    Event(Arc<DispatchedEvent>),
    /// The listener was too slow for so many.
    Lost(u64),
}

/// Dispatched events as a stream.
#[derive(Debug)]
pub struct Dispatches(BroadcastStream<Arc<DispatchedEvent>>);

impl Stream for Dispatches {
    type Item = Dispatch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Dispatch>> {
        self.0.poll_next_unpin(cx).map(|next| {
            next.map(|heard| match heard {
                Ok(event) => Dispatch::Event(event),
                Err(BroadcastStreamRecvError::Lagged(lost)) => Dispatch::Lost(lost),
            })
        })
    }
}
