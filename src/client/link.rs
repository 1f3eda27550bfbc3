//! One connection: sends calls, hands answers to whoever waits for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_tungstenite::tungstenite::Message;

use crate::proto::ProtocolError;
use crate::proto::event::EventNotice;
use crate::proto::message::{
    CallId, ChannelId, ClientMessage, OpenRequest, Opened, Piece, RowsNote, ServerMessage,
    WireError, pong_text,
};
use crate::replicate::PeerError;

use super::event_state::EventState;

/// Bytes that wait to be written before callers wait.
const OUTBOUND_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a stream of rows or pieces gives.
#[derive(Debug)]
pub(super) enum StreamItem {
    /// `rows`
    Rows(Vec<Box<RawValue>>, Option<RowsNote>),
    /// A piece of an attachment.
    Piece(Bytes),
    /// `end`, with what goes for the whole stream.
    End(Box<RawValue>),
    /// `fail`, or the channel's or connection's end.
    Fail(PeerError),
}

/// A message that waits to be written, with the room it takes until then.
pub(super) type Queued = (Message, Option<OwnedSemaphorePermit>);

/// A connection that is up. A cheap handle.
#[derive(Clone)]
pub(super) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    outgoing: mpsc::UnboundedSender<Queued>,
    room: Arc<Semaphore>,
    /// Who is told about events; the newest who wants to be.
    events: Mutex<Weak<EventState>>,
    /// Held for moments only, never over an await.
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next_channel: ChannelId,
    channels: HashMap<ChannelId, ChannelState>,
    /// Why there are no more answers.
    ended: Option<String>,
}

struct ChannelState {
    opening: Option<oneshot::Sender<Result<Opened, PeerError>>>,
    /// Told when the channel is closed from the other side.
    closed: watch::Sender<Option<Arc<PeerErrorText>>>,
    opened_anew: watch::Sender<Option<Opened>>,
    next_call: CallId,
    calls: HashMap<CallId, Waiter>,
}

/// A channel's end that several waiters are told.
#[derive(Debug)]
pub(super) enum PeerErrorText {
    Refused(WireError),
    Disconnected(String),
}

impl PeerErrorText {
    pub(super) fn to_error(&self) -> PeerError {
        match self {
            Self::Refused(error) => PeerError::Refused(error.clone()),
            Self::Disconnected(cause) => PeerError::Disconnected { cause: cause.clone() },
        }
    }
}

enum Waiter {
    Reply(oneshot::Sender<Result<Box<RawValue>, PeerError>>, Option<Arc<Semaphore>>),
    Stream(mpsc::UnboundedSender<StreamItem>),
}

impl Waiter {
    fn fail(self, error: PeerError) {
        // Whoever does not wait any more needs no answer.
        match self {
            Self::Reply(sender, _) => drop(sender.send(Err(error))),
            Self::Stream(sender) => drop(sender.send(StreamItem::Fail(error))),
        }
    }
}

fn disconnected(cause: &str) -> PeerError {
    PeerError::Disconnected { cause: cause.to_owned() }
}

impl Link {
    /// A link, and the messages that are sent on it.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Queued>) {
        let (outgoing, queued) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(OUTBOUND_BYTES_MAX));
        let shared = Shared { outgoing, room, events: Mutex::default(), waiting: Mutex::default() };
        (Self { shared: Arc::new(shared) }, queued)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection is gone, which its client may not have noticed yet.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended.is_some()
    }

    async fn send_bytes(&self, message: Message) -> Result<(), PeerError> {
        let bytes = (message.len() + 64).min(OUTBOUND_BYTES_MAX);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.shared.room).acquire_many_owned(bytes).await;
        let room = room.map_err(|_| disconnected("the connection ended"))?;
        self.shared
            .outgoing
            .send((message, Some(room)))
            .map_err(|_| disconnected("the connection ended"))
    }

    pub(super) async fn send(&self, message: &ClientMessage) -> Result<(), PeerError> {
        self.send_bytes(Message::Text(message.encode().into())).await
    }

    /// Sends what must not wait, e.g. because a handle is being dropped.
    pub(super) fn send_now(&self, message: &ClientMessage) {
        // A connection that is gone has forgotten what this is about.
        let _ = self.shared.outgoing.send((Message::Text(message.encode().into()), None));
    }

    /// Hands what is about events to this from now on.
    pub(super) fn give_events_to(&self, state: &Arc<EventState>) {
        let mut events = self.shared.events.lock().unwrap_or_else(PoisonError::into_inner);
        *events = Arc::downgrade(state);
    }

    fn take_event(&self, notice: EventNotice, bytes: usize) {
        let events = self.shared.events.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(events) = events {
            events.take(notice, bytes);
        }
    }

    /// Opens a channel.
    pub(super) async fn open(&self, request: OpenRequest) -> Result<(Channel, Opened), PeerError> {
        let (sender, receiver) = oneshot::channel();
        let closed = watch::Sender::new(None);
        let opened_anew = watch::Sender::new(None);
        let channel = {
            let mut waiting = self.lock();
            if let Some(cause) = &waiting.ended {
                return Err(disconnected(cause));
            }
            waiting.next_channel += 1;
            let id = waiting.next_channel;
            let channel = Channel {
                link: self.clone(),
                id,
                closed: closed.subscribe(),
                opened_anew: opened_anew.subscribe(),
            };
            let state = ChannelState {
                opening: Some(sender),
                closed,
                opened_anew,
                next_call: 0,
                calls: HashMap::new(),
            };
            waiting.channels.insert(id, state);
            channel
        };
        self.send(&ClientMessage::Open { channel: channel.id, request }).await?;
        let opened = receiver.await.map_err(|_| disconnected("the connection ended"))??;
        Ok((channel, opened))
    }
}

/// An open channel; closes it when dropped.
pub(super) struct Channel {
    link: Link,
    id: ChannelId,
    closed: watch::Receiver<Option<Arc<PeerErrorText>>>,
    opened_anew: watch::Receiver<Option<Opened>>,
}

impl Drop for Channel {
    fn drop(&mut self) {
        let state = self.link.lock().channels.remove(&self.id);
        if let Some(state) = state {
            state.calls.into_values().for_each(|w| w.fail(disconnected("the channel was closed")));
            self.link.send_now(&ClientMessage::Close { channel: self.id });
        }
    }
}

impl Channel {
    /// Returns when the channel has been closed from the other side.
    pub(super) async fn closed(&self) -> PeerError {
        let mut closed = self.closed.clone();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.as_ref().map_or_else(|| disconnected("closed"), |r| r.to_error()),
            Err(_) => disconnected("the connection ended"),
        }
    }

    /// Told of the new grant after new credentials.
    pub(super) fn watch_grant(&self) -> watch::Receiver<Option<Opened>> {
        self.opened_anew.clone()
    }

    /// Shows new credentials.
    pub(super) async fn credentials(&self, credentials: Value) -> Result<(), PeerError> {
        self.link.send(&ClientMessage::Credentials { channel: self.id, credentials }).await
    }

    fn begin(&self, waiter: Waiter) -> Result<CallId, PeerError> {
        let mut waiting = self.link.lock();
        let Some(state) = waiting.channels.get_mut(&self.id) else {
            return Err(match &*self.closed.borrow() {
                Some(reason) => reason.to_error(),
                None => disconnected("the connection ended"),
            });
        };
        // Numbers wrap around long after the calls that had them are over.
        state.next_call = state.next_call.checked_add(1).unwrap_or(1);
        state.calls.insert(state.next_call, waiter);
        Ok(state.next_call)
    }

    fn message<P: Serialize>(&self, call: CallId, method: &str, params: &P) -> ClientMessage {
        let params =
            serde_json::value::to_raw_value(params).expect("parameters have string keys only");
        ClientMessage::Call { channel: self.id, call, method: method.to_owned(), params }
    }

    /// Runs a call that has one answer.
    pub(super) async fn call<P: Serialize>(
        &self,
        method: &str,
        params: &P,
    ) -> Result<Box<RawValue>, PeerError> {
        let params = serde_json::to_string(params).expect("parameters have string keys only");
        self.call_text(method, &params).await
    }

    /// As [`Channel::call`], with parameters that are JSON text already.
    pub(super) async fn call_text(
        &self,
        method: &str,
        params: &str,
    ) -> Result<Box<RawValue>, PeerError> {
        let (sender, receiver) = oneshot::channel();
        let call = self.begin(Waiter::Reply(sender, None))?;
        let guard = CallGuard { channel: self, call };
        let text = format!("[\"call\",{},{call},\"{method}\",{params}]", self.id);
        self.link.send_bytes(Message::Text(text.into())).await?;
        let answer = receiver.await.map_err(|_| disconnected("the connection ended"))?;
        drop(guard);
        answer
    }

    /// Runs a call that streams. It has `credit` at first; each item taken gives one back.
    pub(super) async fn stream<P: Serialize>(
        self: &Arc<Self>,
        method: &str,
        params: &P,
    ) -> Result<CallStream, PeerError> {
        let (sender, items) = mpsc::unbounded_channel();
        let call = self.begin(Waiter::Stream(sender))?;
        let stream = CallStream { channel: Arc::clone(self), call, items };
        self.link.send(&self.message(call, method, params)).await?;
        Ok(stream)
    }

    /// Runs a call that takes pieces, `credit` of them before the gateway asks for more.
    pub(super) async fn upload<P: Serialize>(
        &self,
        method: &str,
        params: &P,
        credit: u32,
    ) -> Result<Upload<'_>, PeerError> {
        let (sender, reply) = oneshot::channel();
        let credit = Arc::new(Semaphore::new(credit as usize));
        let call = self.begin(Waiter::Reply(sender, Some(Arc::clone(&credit))))?;
        let guard = CallGuard { channel: self, call };
        self.link.send(&self.message(call, method, params)).await?;
        Ok(Upload { guard, credit, reply, answer: None })
    }

    fn forget(&self, call: CallId) -> bool {
        let mut waiting = self.link.lock();
        waiting.channels.get_mut(&self.id).is_some_and(|state| state.calls.remove(&call).is_some())
    }
}

/// Cancels a call whose future is dropped before the answer.
struct CallGuard<'a> {
    channel: &'a Channel,
    call: CallId,
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        if self.channel.forget(self.call) {
            let (channel, call) = (self.channel.id, self.call);
            self.channel.link.send_now(&ClientMessage::Cancel { channel, call });
        }
    }
}

/// A streaming call; cancels it when dropped.
pub(super) struct CallStream {
    channel: Arc<Channel>,
    call: CallId,
    items: mpsc::UnboundedReceiver<StreamItem>,
}

impl Drop for CallStream {
    fn drop(&mut self) {
        if self.channel.forget(self.call) {
            let (channel, call) = (self.channel.id, self.call);
            self.channel.link.send_now(&ClientMessage::Cancel { channel, call });
        }
    }
}

impl CallStream {
    /// The next item, and one more credit for the gateway.
    pub(super) async fn next(&mut self) -> StreamItem {
        let item = self.items.recv().await;
        if matches!(item, Some(StreamItem::Rows(..) | StreamItem::Piece(_))) {
            let (channel, call) = (self.channel.id, self.call);
            self.channel.link.send_now(&ClientMessage::More { channel, call, credit: 1 });
        }
        item.unwrap_or_else(|| StreamItem::Fail(disconnected("the connection ended")))
    }
}

/// A call that takes pieces.
pub(super) struct Upload<'a> {
    guard: CallGuard<'a>,
    credit: Arc<Semaphore>,
    reply: oneshot::Receiver<Result<Box<RawValue>, PeerError>>,
    /// The answer, if it came before the last piece.
    answer: Option<Result<Box<RawValue>, PeerError>>,
}

impl Upload<'_> {
    /// Sends a piece as soon as the gateway has room for it. False if it has answered already, so
    /// that no more pieces are wanted.
    pub(super) async fn piece(&mut self, bytes: Bytes, last: bool) -> Result<bool, PeerError> {
        if self.answer.is_some() {
            return Ok(false);
        }
        tokio::select! {
            biased;
            answer = &mut self.reply => {
                self.answer = Some(answer.unwrap_or_else(|_| Err(disconnected("the connection ended"))));
                return Ok(false);
            }
            permit = self.credit.acquire() => {
                permit.map_err(|_| disconnected("the connection ended"))?.forget();
            }
        }
        let (channel, call) = (self.guard.channel.id, self.guard.call);
        let piece = Piece { channel, call, last, bytes };
        self.guard.channel.link.send_bytes(Message::Binary(piece.encode())).await?;
        Ok(true)
    }

    /// Waits for the answer.
    pub(super) async fn finish(self) -> Result<Box<RawValue>, PeerError> {
        let answer = match self.answer {
            Some(answer) => answer,
            None => self.reply.await.map_err(|_| disconnected("the connection ended"))?,
        };
        drop(self.guard);
        answer
    }
}

impl Link {
    pub(super) fn take_text(&self, text: &str) -> Result<(), ProtocolError> {
        match ServerMessage::parse(text) {
            Ok(message) => {
                self.take(message, text.len());
                Ok(())
            }
            // A later version may say more; what is not known is not needed.
            Err(ProtocolError::UnknownVerb { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn take(&self, message: ServerMessage, bytes: usize) {
        match message {
            ServerMessage::Opened { channel, opened } => {
                if let Some(state) = self.lock().channels.get_mut(&channel) {
                    match state.opening.take() {
                        Some(waiter) => drop(waiter.send(Ok(opened))),
                        None => drop(state.opened_anew.send_replace(Some(opened))),
                    }
                }
            }
            ServerMessage::Refused { channel, error } => {
                self.end_channel(channel, PeerErrorText::Refused(error));
            }
            ServerMessage::Closed { channel, error } => {
                let reason = match error {
                    Some(error) => PeerErrorText::Refused(error),
                    None => PeerErrorText::Disconnected("the channel was closed".into()),
                };
                self.end_channel(channel, reason);
            }
            ServerMessage::Reply { channel, call, value } => {
                if let Some(Waiter::Reply(waiter, _)) = self.take_call(channel, call) {
                    drop(waiter.send(Ok(value)));
                }
            }
            ServerMessage::Fail { channel, call, error } => {
                if let Some(waiter) = self.take_call(channel, call) {
                    waiter.fail(PeerError::Refused(error));
                }
            }
            ServerMessage::Rows { channel, call, rows, note } => {
                self.give(channel, call, StreamItem::Rows(rows, note));
            }
            ServerMessage::End { channel, call, value } => {
                if let Some(Waiter::Stream(waiter)) = self.take_call(channel, call) {
                    drop(waiter.send(StreamItem::End(value)));
                }
            }
            ServerMessage::More { channel, call, credit } => {
                let waiting = self.lock();
                let waiter = waiting.channels.get(&channel).and_then(|s| s.calls.get(&call));
                if let Some(Waiter::Reply(_, Some(room))) = waiter {
                    room.add_permits(credit.min(1_000) as usize);
                }
            }
            ServerMessage::Error { error } => {
                tracing::warn!(%error, "the gateway did not understand a message");
            }
            ServerMessage::Ping { echo } => {
                let pong = Message::Text(pong_text(&echo).into());
                // A connection that is gone needs no pong.
                let _ = self.shared.outgoing.send((pong, None));
            }
            ServerMessage::Pong => {}
            ServerMessage::Event(notice) => self.take_event(notice, bytes),
        }
    }

    pub(super) fn take_piece(&self, message: &Bytes) -> Result<(), ProtocolError> {
        let piece = Piece::parse(message)?;
        self.give(piece.channel, piece.call, StreamItem::Piece(piece.bytes));
        Ok(())
    }

    fn give(&self, channel: ChannelId, call: CallId, item: StreamItem) {
        let waiting = self.lock();
        let waiter = waiting.channels.get(&channel).and_then(|state| state.calls.get(&call));
        if let Some(Waiter::Stream(waiter)) = waiter {
            // Whoever does not wait any more needs no rows.
            let _ = waiter.send(item);
        }
    }

    fn take_call(&self, channel: ChannelId, call: CallId) -> Option<Waiter> {
        self.lock().channels.get_mut(&channel)?.calls.remove(&call)
    }

    fn end_channel(&self, channel: ChannelId, reason: PeerErrorText) {
        let state = self.lock().channels.remove(&channel);
        if let Some(state) = state {
            state.end(reason);
        }
    }

    pub(super) fn fail_all(&self, cause: &str) {
        self.shared.room.close();
        let mut waiting = self.lock();
        waiting.ended = Some(cause.to_owned());
        for (_, state) in waiting.channels.drain() {
            state.end(PeerErrorText::Disconnected(cause.to_owned()));
        }
    }
}

impl ChannelState {
    fn end(self, reason: PeerErrorText) {
        if let Some(opening) = self.opening {
            drop(opening.send(Err(reason.to_error())));
        }
        self.calls.into_values().for_each(|waiter| waiter.fail(reason.to_error()));
        self.closed.send_replace(Some(Arc::new(reason)));
    }
}
