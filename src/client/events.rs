//! Ephemeral events and presence over a client's connection, beside its syncs.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::proto::event::{
    EventError, EventNote, Identified, JoinOptions, Member, PresenceChange, SendRequest, Targets,
    check_name,
};
use crate::proto::message::WireError;

use super::event_keeper::Keeper;
use super::event_state::EventState;
use super::{Client, CredentialsSource};

/// An event that was not sent, or a channel that was not joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventsError {
    /// It cannot be sent to any gateway.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The gateway refused it.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// The connection was lost before the answer, or there will be none any more. An event may
    /// have been sent.
    #[error("not connected: {cause}")]
    Disconnected {
        /// What happened.
        cause: String,
    },
}

/// What a client is told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EventItem {
    /// The gateway knows who this is. After a lost connection it comes again; what was sent
    /// meanwhile did not arrive here.
    Identified(Box<Identified>),
    /// The gateway does not: refused, expired or revoked. With credentials that can be asked for
    /// others are shown.
    Unidentified(WireError),
    /// An event.
    Event {
        /// Its name.
        event: String,
        /// Its payload, JSON text.
        payload: Box<RawValue>,
        /// Why it came and from whom.
        note: EventNote,
    },
    /// A member of a channel came, went or changed.
    Presence {
        /// The channel.
        channel: String,
        /// What happened.
        change: PresenceChange,
        /// To whom.
        member: Member,
    },
    /// All members of a channel: it was joined, or changes were lost.
    Members {
        /// The channel.
        channel: String,
        /// Who is there.
        members: Vec<Member>,
    },
    /// A channel was left because the gateway wanted it.
    Left {
        /// The channel.
        channel: String,
        /// Why.
        error: WireError,
    },
    /// So many items were lost, here or at the gateway, because they were not taken in time.
    /// [`EventSender::members`] is right all the same.
    Lost(u64),
}

/// What ends when nobody holds it any more.
pub(super) struct Running {
    pub state: Arc<EventState>,
    task: AbortHandle,
    /// A client lives as long as its events.
    _client: Client,
}

impl Running {
    /// Ends the stream; what waits fails.
    pub(super) fn end(&self) {
        self.task.abort();
        self.state.end();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends events, joins and leaves channels. Clones share one identity.
#[derive(Clone)]
pub struct EventSender {
    running: Arc<Running>,
}

impl fmt::Debug for EventSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventSender(…)")
    }
}

/// A client's part in events: sends by its [`EventSender`], receives as a stream of [`EventItem`].
///
/// Dropped with all its senders it leaves its channels.
pub struct Events {
    sender: EventSender,
    items: BoxStream<'static, EventItem>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events(…)")
    }
}

impl Stream for Events {
    type Item = EventItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<EventItem>> {
        self.items.poll_next_unpin(cx)
    }
}

impl std::ops::Deref for Events {
    type Target = EventSender;

    fn deref(&self) -> &EventSender {
        &self.sender
    }
}

pub(super) fn start(client: Client, credentials: CredentialsSource) -> Events {
    let state = Arc::new(EventState::default());
    let keeper = Keeper { state: Arc::clone(&state), link: client.watch_link(), credentials };
    let task = tokio::spawn(keeper.run()).abort_handle();
    let items = futures::stream::unfold(Arc::clone(&state), |state| async move {
        let item = state.next().await?;
        Some((item, state))
    });
    let running = Arc::new(Running { state, task, _client: client });
    Events { sender: EventSender { running }, items: items.boxed() }
}

impl Events {
    /// What sends, for another task.
    #[must_use]
    pub fn sender(&self) -> EventSender {
        self.sender.clone()
    }

    pub(super) fn running(&self) -> &Arc<Running> {
        &self.sender.running
    }
}

impl EventSender {
    /// Joins a channel and stays in it over lost connections, until it is left.
    ///
    /// # Errors
    /// [`EventsError::Refused`] if the grant does not allow it; then it is not tried again.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the channel wanted; [`EventSender::leave`] takes that back.
    pub async fn join(&self, channel: &str) -> Result<(), EventsError> {
        self.join_with(channel, JoinOptions::default()).await
    }

    /// The same, seen by the channel's members with this state and seeing theirs.
    ///
    /// # Errors
    /// As [`EventSender::join`].
    ///
    /// # Cancel safety
    /// As [`EventSender::join`].
    pub async fn join_present(
        &self,
        channel: &str,
        state: &impl Serialize,
    ) -> Result<Vec<Member>, EventsError> {
        let options = JoinOptions { presence: true, state: Some(raw(state)?) };
        self.join_with(channel, options).await?;
        Ok(self.members(channel))
    }

    async fn join_with(&self, channel: &str, options: JoinOptions) -> Result<(), EventsError> {
        check_name("a channel", channel)?;
        let (answer, answered) = oneshot::channel();
        self.running.state.join(channel, options, answer);
        answered.await.unwrap_or_else(|_| Err(over()))
    }

    /// Leaves a channel.
    pub fn leave(&self, channel: &str) {
        self.running.state.leave(channel);
    }

    /// Changes what the members of a channel see of this one, at once or with the next connection.
    /// Nothing happens in a channel that was not joined with presence.
    ///
    /// # Errors
    /// [`EventsError::Event`] for a state that is no JSON or larger than the gateway allows.
    pub fn set_state(&self, channel: &str, state: &impl Serialize) -> Result<(), EventsError> {
        Ok(self.running.state.set_state(channel, raw(state)?)?)
    }

    /// Who is in a channel that was joined with presence, as far as is known here.
    #[must_use]
    pub fn members(&self, channel: &str) -> Vec<Member> {
        self.running.state.members(channel)
    }

    /// Sends an event; waits until the gateway knows who this is. How many connections get it. It is
    /// sent at most once.
    ///
    /// # Errors
    /// [`EventsError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether the event was sent.
    pub async fn send(
        &self,
        targets: Targets,
        event: &str,
        payload: &impl Serialize,
    ) -> Result<u64, EventsError> {
        let request = SendRequest::new(targets, event, payload)?;
        let who = self.running.state.identified().await?;
        let max = usize::try_from(who.limits.event_bytes_max).unwrap_or(usize::MAX);
        request.check(max)?;
        let answered = self.running.state.send(request).await?;
        answered.await.unwrap_or_else(|_| Err(over()))
    }
}

fn raw(value: &impl Serialize) -> Result<Box<RawValue>, EventError> {
    serde_json::value::to_raw_value(value).map_err(|_| EventError::Payload)
}

pub(super) fn over() -> EventsError {
    EventsError::Disconnected { cause: "the connection ended".into() }
}
