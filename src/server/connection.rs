//! One connection of settee.v1: gives messages to its session, runs what the session asks for,
//! answers.
//!
//! Each channel has a task that asks the authorizer and then watches over the grant; each call has a
//! task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::doc::DbName;
use crate::proto::call::method;
use crate::proto::event::EventNotice;
use crate::proto::message::{
    CallId, ChannelId, ChannelLimits, OpenRequest, Opened, PIECE_BYTES_MAX, Piece, ServerMessage,
    WireError, pong_text,
};
use crate::proto::session::Action;

use super::auth::{AccessRequest, Grant};
use super::bounds::Held;
use super::calls::{self, Answer, Call};
use super::channel::Channel;
use super::error::{CloseReason, Refusal, ToWire as _};
use super::events::Attending;
use super::observe::Spoken;
use super::opening::unwinding;
use super::outbox::Gone;
use super::socket::{Protocol, Socket};
use super::state::{Slot, State};

/// Pieces of an upload that may be under way.
pub(super) const UPLOAD_CREDIT: u32 = 8;

/// A call that a client asks for, with the room in memory that it has.
struct Asked {
    channel: ChannelId,
    call: CallId,
    method: String,
    params: Box<RawValue>,
    held: Held,
}

/// What the tasks of one connection share.
pub(super) struct Connection {
    /// There once the connection has asked for something of events: others need not hold its memory.
    events: OnceLock<Attending>,
    /// Held for moments only, never over an await.
    state: Mutex<State>,
    /// Last, since fields are dropped in order: channels leave their databases before the end of the
    /// connection is told.
    pub(super) socket: Socket,
}

impl Protocol for Connection {
    const SPOKEN: Spoken = Spoken::V1;

    fn new(socket: Socket) -> Self {
        let channels_max = socket.shared.limits.channels_per_connection_max;
        Self { events: OnceLock::new(), socket, state: Mutex::new(State::new(channels_max)) }
    }

    fn socket(&self) -> &Socket {
        &self.socket
    }

    async fn take(
        self: &Arc<Self>,
        message: Message,
        held: Held,
        tasks: &mut JoinSet<()>,
    ) -> Result<Option<CloseReason>, Gone> {
        let action = match message {
            Message::Text(text) => self.lock().session.text(&text),
            Message::Binary(bytes) => self.lock().session.binary(&bytes),
            _ => None,
        };
        match action {
            Some(action) => self.act(action, held, tasks).await,
            None => Ok(None),
        }
    }
}

impl Connection {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn events(&self) -> &Attending {
        self.events.get_or_init(|| Attending::new(&self.socket))
    }

    async fn act(
        self: &Arc<Self>,
        action: Action,
        held: Held,
        tasks: &mut JoinSet<()>,
    ) -> Result<Option<CloseReason>, Gone> {
        match action {
            Action::Open { channel, request } => self.begin_open(channel, request, tasks).await?,
            Action::RefuseCredentials { channel, error } => {
                self.send(ServerMessage::Refused { channel, error: error.to_wire() }).await?;
            }
            Action::RefuseChannel { channel } => {
                let max = self.socket.shared.limits.channels_per_connection_max;
                let refusal = Refusal::TooManyChannels { max };
                self.count(refusal);
                let error = refusal.to_wire();
                self.send(ServerMessage::Refused { channel, error }).await?;
            }
            Action::Call { channel, call, method, params } => {
                let asked = Asked { channel, call, method, params, held };
                self.begin_call(asked, tasks).await?;
            }
            Action::FailCall { channel, call, why } => {
                self.send(ServerMessage::Fail { channel, call, error: why.to_wire() }).await?;
            }
            Action::Credit { channel, call, credit } => self.add_credit(channel, call, credit),
            Action::Upload(piece) => self.upload(piece).await?,
            Action::Cancel { channel, call } => {
                self.take_call(channel, call);
            }
            Action::Credentials { channel, credentials } => {
                self.judge_anew(channel, credentials, tasks);
            }
            Action::Close { channel } => {
                drop(self.lock().drop_slot(channel));
                self.send(ServerMessage::Closed { channel, error: None }).await?;
            }
            Action::Event(request) => self.take_event(request, tasks).await?,
            Action::RefuseIdentity(error) => {
                let notice = EventNotice::Unidentified { error: error.to_wire() };
                self.socket.outbox.text(notice.encode()).await?;
            }
            Action::Pong { echo } => self.socket.outbox.text(pong_text(&echo)).await?,
            Action::Complain(error) => {
                self.send(ServerMessage::Error { error: error.to_wire() }).await?;
            }
            Action::Break(error) => return Ok(Some(CloseReason::Protocol(error))),
        }
        Ok(None)
    }

    async fn send(&self, message: ServerMessage) -> Result<(), Gone> {
        self.socket.outbox.text(message.encode()).await
    }

    async fn begin_open(
        self: &Arc<Self>,
        channel: ChannelId,
        request: OpenRequest,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), Gone> {
        let name = DbName::parse(&request.database).map_err(|error| error.to_wire());
        let stopping = *self.socket.shared.stopping.borrow();
        let name = match name {
            Ok(name) if !stopping => name,
            name => {
                let error = name.err().unwrap_or_else(|| Refusal::Stopping.to_wire());
                self.lock().session.ended(channel);
                return self.send(ServerMessage::Refused { channel, error }).await;
            }
        };
        let mut state = self.lock();
        let number = state.number();
        state.slots.insert(
            channel,
            Slot {
                number,
                requested: name.clone(),
                channel: None,
                watcher: None,
                judging: None,
                calls: HashMap::new(),
            },
        );
        let access = self.socket.access_request(request.credentials, name, request.create);
        // An answer that cannot be sent has nobody to go to. Mapped, since an async block would hold
        // the task twice.
        let watcher = tasks.spawn(Arc::clone(self).keep_channel(channel, number, access).map(drop));
        if let Some(slot) = state.slots.get_mut(&channel) {
            slot.watcher = Some(watcher);
        }
        Ok(())
    }

    /// Opens a channel and stays with it until it ends.
    async fn keep_channel(
        self: Arc<Self>,
        id: ChannelId,
        number: u64,
        access: AccessRequest,
    ) -> Result<(), Gone> {
        let database = access.database.clone();
        let revocations = self.socket.shared.revocations();
        let opening = async {
            let channel = self.socket.open(id, access.clone()).await?;
            let opened = self.opened(&channel).await?;
            Ok::<_, WireError>((channel, opened))
        };
        let (channel, opened) = match opening.await {
            Ok(opened) => opened,
            Err(error) => {
                tracing::info!(%database, status = error.status, reason = %error.reason, "channel refused");
                self.socket.link.refused(Some(&database), &error);
                if self.forget_channel(id, number) {
                    self.send(ServerMessage::Refused { channel: id, error }).await?;
                }
                return Ok(());
            }
        };
        if !self.install_channel(&channel, number) {
            return Ok(());
        }
        let _enlisted = self.socket.enlist(&channel, access, revocations).await;
        tracing::info!(%database, "channel opened");
        self.send(ServerMessage::Opened { channel: id, opened }).await?;
        let check = Duration::from_millis(self.socket.shared.limits.grant_check_interval_ms);
        let error = channel.until_ended(check).await;
        tracing::info!(%database, ?error, "channel ended");
        // The watcher is this very task: it must not be aborted before it has told the client.
        if let Some(slot) = self.lock().slots.get_mut(&id).filter(|slot| slot.number == number) {
            slot.watcher = None;
        }
        if self.forget_channel(id, number) {
            self.send(ServerMessage::Closed { channel: id, error }).await?;
        }
        Ok(())
    }

    async fn opened(&self, channel: &Channel) -> Result<Opened, WireError> {
        let granted = channel.granted();
        let info = granted.info().await.map_err(|error| error.to_wire())?;
        let limits = &self.socket.shared.limits;
        let store = granted.database.limits();
        Ok(Opened {
            info,
            access: granted.access(),
            limits: ChannelLimits {
                message_bytes_max: limits.message_bytes_max as u64,
                bulk_rows_max: store.bulk_rows_max as u64,
                doc_bytes_max: store.doc_bytes_max as u64,
                attachment_bytes_max: store.attachment_bytes_max,
                stream_credit_max: limits.stream_credit_max,
                upload_credit: UPLOAD_CREDIT,
                uploads_max: u32::try_from(limits.uploads_per_channel_max).unwrap_or(u32::MAX),
            },
        })
    }

    /// Makes a granted channel usable, unless the client closed it meanwhile.
    fn install_channel(&self, channel: &Arc<Channel>, number: u64) -> bool {
        let mut state = self.lock();
        if !state.is_current(channel.id, number) || !state.session.opened(channel.id) {
            return false;
        }
        if let Some(slot) = state.slots.get_mut(&channel.id) {
            slot.channel = Some(Arc::clone(channel));
        }
        true
    }

    /// Frees a channel's number. False if the client closed it meanwhile.
    fn forget_channel(&self, channel: ChannelId, number: u64) -> bool {
        let mut state = self.lock();
        if !state.is_current(channel, number) {
            return false;
        }
        if let Some(slot) = state.slots.get_mut(&channel) {
            slot.watcher = None;
        }
        drop(state.drop_slot(channel));
        state.session.ended(channel)
    }

    /// Has new credentials judged; the grant they bring takes the old one's place.
    fn judge_anew(self: &Arc<Self>, id: ChannelId, credentials: Value, tasks: &mut JoinSet<()>) {
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(&id) else { return };
        let Some(channel) = slot.channel.clone() else { return };
        let number = slot.number;
        let connection = Arc::clone(self);
        let access = self.socket.access_request(credentials, slot.requested.clone(), false);
        let judging = tasks.spawn(async move {
            let answer = async {
                connection.socket.grant_again(&channel, access).await?;
                connection.opened(&channel).await
            };
            match answer.await {
                Err(error) => {
                    let refused = |grant: &Grant| {
                        connection.socket.link.refused(Some(&grant.database), &error);
                    };
                    channel.with_grant(refused);
                    channel.end(Some(error));
                }
                Ok(opened) if connection.lock().is_current(id, number) => {
                    // An answer that cannot be sent has nobody to go to.
                    let _ = connection.send(ServerMessage::Opened { channel: id, opened }).await;
                }
                Ok(_) => {}
            }
        });
        if let Some(older) = slot.judging.replace(judging) {
            older.abort();
        }
    }

    async fn begin_call(
        self: &Arc<Self>,
        asked: Asked,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), Gone> {
        let Asked { channel, call, method, params, held } = asked;
        let refusal = {
            let mut state = self.lock();
            let max = self.socket.shared.limits.calls_per_connection_max;
            if *self.socket.shared.stopping.borrow() {
                Refusal::Stopping
            } else if state.calls >= max {
                Refusal::TooManyCalls { max }
            } else if let Some(granted) = state.slots.get(&channel).and_then(|s| s.channel.clone())
            {
                let number = state.number();
                let (context, handle) = Call::new(&self.socket, granted, call, &method);
                let connection = Arc::clone(self);
                // Counted before the task first runs, so that a stop cannot pass it by.
                let busy = calls::is_waited_for(&method).then(|| connection.socket.busy());
                let task = tasks.spawn(async move {
                    connection.run_call(context, number, &method, &params).await;
                    drop((busy, held));
                });
                if let Some(slot) = state.slots.get_mut(&channel) {
                    slot.calls.insert(call, (number, handle.with_abort(task)));
                    state.calls += 1;
                }
                return Ok(());
            } else {
                return Ok(());
            }
        };
        self.lock().session.call_ended(channel, call);
        self.count(refusal);
        self.send(ServerMessage::Fail { channel, call, error: refusal.to_wire() }).await
    }

    fn count(&self, refusal: Refusal) {
        self.socket.link.limit_hit(refusal.limit());
        self.socket.link.refused(None, &refusal.to_wire());
    }

    async fn run_call(&self, context: Call, number: u64, method: &str, params: &RawValue) {
        let (channel, call) = (context.channel.id, context.id);
        let destroying = (method == method::DESTROY).then(|| Arc::clone(&context.channel));
        let _answering = match &destroying {
            Some(channel) => Some(channel.answering().await),
            None => None,
        };
        // What is read for a client that takes nothing would only wait: do not read it.
        let outbox = &self.socket.outbox;
        let turn = if calls::answers_at_any_size(method) { outbox.turn().await.ok() } else { None };
        if outbox.room(0).await.is_err() {
            return;
        }
        let (began, done_for) = (Instant::now(), Arc::clone(&context.channel));
        // In a box, so that a call that waits for its turn takes little.
        let answer = unwinding(Box::pin(calls::run(context, method, params))).await;
        let answer = answer.unwrap_or_else(|panicked| Answer::Fail(panicked.to_wire()));
        self.socket.link.called(method, began);
        if let Answer::Fail(error) = &answer {
            let refused = |grant: &Grant| self.socket.link.refused(Some(&grant.database), error);
            done_for.with_grant(refused);
        }
        drop(done_for);
        let text = answer.encode(channel, call);
        drop(answer);
        // The call counts until its answer has room, so that answers nobody takes are bounded, and
        // nothing comes between the look at its number and the answer's place in the queue.
        let Ok(room) = outbox.room(text.len()).await else { return };
        drop(turn);
        let mut state = self.lock();
        if state.end_call(channel, call, number) {
            room.text(text);
        }
    }

    /// Stops a call without an answer.
    fn take_call(&self, channel: ChannelId, call: CallId) {
        let mut state = self.lock();
        let taken = state.slots.get_mut(&channel).and_then(|slot| slot.calls.remove(&call));
        if let Some((_, handle)) = taken {
            state.calls -= 1;
            handle.abort.abort();
        }
    }

    fn add_credit(&self, channel: ChannelId, call: CallId, credit: u32) {
        let state = self.lock();
        if let Some((_, handle)) = state.slots.get(&channel).and_then(|s| s.calls.get(&call)) {
            handle.credit.add(credit);
        }
    }

    async fn upload(&self, piece: Piece) -> Result<(), Gone> {
        let (channel, call) = (piece.channel, piece.call);
        let refusal = {
            let state = self.lock();
            let handle = state.slots.get(&channel).and_then(|s| s.calls.get(&call));
            match handle.and_then(|(_, handle)| handle.pieces.as_ref()) {
                None => None,
                Some(_) if piece.bytes.len() > PIECE_BYTES_MAX => Some(Refusal::PieceTooLarge),
                Some(pieces) => match pieces.try_send(piece) {
                    Err(mpsc::error::TrySendError::Full(_)) => Some(Refusal::UploadOverrun),
                    Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
                },
            }
        };
        if let Some(refusal) = refusal {
            self.take_call(channel, call);
            self.lock().session.call_ended(channel, call);
            self.send(ServerMessage::Fail { channel, call, error: refusal.to_wire() }).await?;
        }
        Ok(())
    }
}
