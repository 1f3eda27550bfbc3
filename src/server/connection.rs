//! One connection: reads messages into its session, runs what the session asks for, writes answers.
//!
//! Reader and [writer](super::writer) are two halves of one task, so that an idle connection costs one. Each channel
//! has a task that asks the authorizer and then watches over the grant; each call has a task. All of
//! them are aborted when the connection ends; the store's writes are whole or not made.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::SplitStream;
use http::HeaderMap;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError as SocketProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::doc::DbName;
use crate::limits::Limits;
use crate::proto::message::{
    CallId, ChannelId, ChannelLimits, OpenRequest, Opened, PIECE_BYTES_MAX, Piece, ServerMessage,
    WireError, pong_text,
};
use crate::proto::session::Action;
use crate::transport::ByteStream;

use super::Shared;
use super::auth::{AccessRequest, Credentials};
use super::calls::{self, Answer, Call};
use super::census::Seat;
use super::channel::{Channel, Enlisted};
use super::error::{CloseReason, Refusal, ToWire as _};
use super::opening::unwinding;
use super::outbox::{Gone, Outbox};
use super::progress::{Progress, ProgressStream};
use super::security::narrowed;
use super::state::{Slot, State};
use super::writer::{CLOSE_WAIT, write};

/// Buffers of an idle connection; tungstenite's own default is 128 KiB.
const SOCKET_BUFFER_BYTES: usize = 1024;

/// How long closing may take in all, what still waits to be written included.
const CLOSING_WAIT: Duration = Duration::from_secs(5);

/// Pieces of an upload that may be under way.
pub(super) const UPLOAD_CREDIT: u32 = 8;

/// What a connection has left to do when it no longer reads.
#[derive(PartialEq, Eq)]
enum Last {
    Nothing,
    /// Reading broke before the peer could be told why.
    CloseToWrite,
}

/// Who is at the other end.
pub(super) struct Peer {
    pub address: Option<SocketAddr>,
    pub headers: Arc<HeaderMap>,
    pub seat: Arc<Seat>,
}

type Reader<S> = SplitStream<WebSocketStream<ProgressStream<S>>>;

/// Drives an upgraded connection to its end.
pub(super) async fn run<S: ByteStream>(stream: S, shared: Arc<Shared>, peer: Peer) {
    let progress = Arc::new(Progress::new());
    let stream = ProgressStream::new(stream, Arc::clone(&progress));
    let config = socket_config(&shared.limits);
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (writer, reader) = socket.split();
    let (outbox, outgoing) = Outbox::new(shared.limits.outbound_bytes_max);
    tracing::info!(peer = ?peer.address, "connection opened");
    let connection = Arc::new(Connection {
        outbox,
        state: Mutex::new(State::new(shared.limits.channels_per_connection_max)),
        busy: watch::Sender::new(0),
        opened_once: watch::Sender::new(false),
        shared,
        peer,
    });
    let mut writing = std::pin::pin!(write(writer, outgoing, &connection.shared.limits, &progress));
    tokio::select! {
        last = Connection::read(&connection, reader) => if last == Last::CloseToWrite {
            // A peer that takes its close frame byte by byte must not hold up a graceful stop.
            let _ = timeout(CLOSING_WAIT, writing).await;
        },
        () = &mut writing => {}
    }
    tracing::info!(peer = ?connection.peer.address, "connection closed");
}

fn socket_config(limits: &Limits) -> WebSocketConfig {
    // The write buffer must hold the largest message beside what it already has, else sending it
    // fails; each message is flushed before the next, so it never holds two.
    let largest =
        limits.message_bytes_max.saturating_mul(2).saturating_add(limits.rows_bytes_target);
    WebSocketConfig::default()
        .read_buffer_size(SOCKET_BUFFER_BYTES)
        .write_buffer_size(SOCKET_BUFFER_BYTES)
        .max_write_buffer_size(largest.saturating_add(SOCKET_BUFFER_BYTES * 2))
        .max_frame_size(Some(limits.frame_bytes_max))
        .max_message_size(Some(limits.message_bytes_max))
}

/// What the tasks of one connection share.
pub(super) struct Connection {
    pub shared: Arc<Shared>,
    pub outbox: Outbox,
    peer: Peer,
    /// Held for moments only, never over an await.
    state: Mutex<State>,
    /// Calls in progress that a graceful stop waits for.
    busy: watch::Sender<usize>,
    opened_once: watch::Sender<bool>,
}

impl Connection {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until the peer is gone; when this side wants to end, asks the writer to and waits for
    /// the peer's answer.
    async fn read<S: ByteStream>(self: &Arc<Self>, mut reader: Reader<S>) -> Last {
        let mut tasks = JoinSet::new();
        let reason = tokio::select! {
            reason = self.take_messages(&mut reader, &mut tasks) => reason,
            reason = self.reason_to_end() => Some(reason),
        };
        let Some(reason) = reason else { return Last::Nothing };
        drop(tasks);
        self.outbox.close(reason);
        let answered = async {
            loop {
                match reader.next().await {
                    Some(Ok(Message::Close(_))) => return true,
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return false,
                }
            }
        };
        match timeout(CLOSING_WAIT, answered).await {
            Ok(false) => Last::CloseToWrite,
            Ok(true) | Err(_) => Last::Nothing,
        }
    }

    async fn reason_to_end(&self) -> CloseReason {
        let limits = &self.shared.limits;
        let mut opened_once = self.opened_once.subscribe();
        let nothing_opened = async {
            let first_open = Duration::from_millis(limits.first_open_timeout_ms);
            let opened = opened_once.wait_for(|opened| *opened);
            if timeout(first_open, opened).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = nothing_opened => return CloseReason::NothingOpened,
            () = self.shared.until_stopping() => {}
        }
        let mut busy = self.busy.subscribe();
        let drain = Duration::from_millis(limits.drain_timeout_ms);
        let _ = timeout(drain, busy.wait_for(|busy| *busy == 0)).await;
        CloseReason::Stopping
    }

    async fn take_messages<S: ByteStream>(
        self: &Arc<Self>,
        reader: &mut Reader<S>,
        tasks: &mut JoinSet<()>,
    ) -> Option<CloseReason> {
        while let Some(message) = reader.next().await {
            while tasks.try_join_next().is_some() {}
            let action = match message {
                Ok(Message::Text(text)) => self.lock().session.text(&text),
                Ok(Message::Binary(bytes)) => self.lock().session.binary(&bytes),
                Ok(Message::Close(_)) => {
                    // Reading on is what sends the answer to it.
                    let _ = timeout(CLOSE_WAIT, reader.next()).await;
                    return None;
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => None,
                Err(error) => return socket_error(&error),
            };
            let Some(action) = action else { continue };
            match self.act(action, tasks).await {
                Ok(None) => {}
                Ok(Some(reason)) => return Some(reason),
                Err(Gone) => return None,
            }
        }
        None
    }

    async fn act(
        self: &Arc<Self>,
        action: Action,
        tasks: &mut JoinSet<()>,
    ) -> Result<Option<CloseReason>, Gone> {
        match action {
            Action::Open { channel, request } => self.begin_open(channel, request, tasks).await?,
            Action::RefuseCredentials { channel, error } => {
                self.send(ServerMessage::Refused { channel, error: error.to_wire() }).await?;
            }
            Action::RefuseChannel { channel } => {
                let max = self.shared.limits.channels_per_connection_max;
                let error = Refusal::TooManyChannels { max }.to_wire();
                self.send(ServerMessage::Refused { channel, error }).await?;
            }
            Action::Call { channel, call, method, params } => {
                self.begin_call(channel, call, method, params, tasks).await?;
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
            Action::Pong { echo } => self.outbox.text(pong_text(&echo)).await?,
            Action::Complain(error) => {
                self.send(ServerMessage::Error { error: error.to_wire() }).await?;
            }
            Action::Break(error) => return Ok(Some(CloseReason::Protocol(error))),
        }
        Ok(None)
    }

    async fn send(&self, message: ServerMessage) -> Result<(), Gone> {
        self.outbox.text(message.encode()).await
    }

    async fn begin_open(
        self: &Arc<Self>,
        channel: ChannelId,
        request: OpenRequest,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), Gone> {
        let name = DbName::parse(&request.database).map_err(|error| error.to_wire());
        let stopping = *self.shared.stopping.borrow();
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
        let access = self.access_request(request.credentials, name, request.create);
        let task = Arc::clone(self).keep_channel(channel, number, access);
        let watcher = tasks.spawn(async move {
            // An answer that cannot be sent has nobody to go to.
            let _ = task.await;
        });
        if let Some(slot) = state.slots.get_mut(&channel) {
            slot.watcher = Some(watcher);
        }
        Ok(())
    }

    fn access_request(&self, credentials: Value, database: DbName, create: bool) -> AccessRequest {
        AccessRequest {
            credentials: Credentials::new(credentials),
            database,
            create,
            peer: self.peer.address,
            headers: Arc::clone(&self.peer.headers),
        }
    }

    /// Opens a channel and stays with it until it ends.
    async fn keep_channel(
        self: Arc<Self>,
        id: ChannelId,
        number: u64,
        access: AccessRequest,
    ) -> Result<(), Gone> {
        let database = access.database.clone();
        let revocations = self.shared.revocations();
        let opening = unwinding(self.open_channel(id, access.clone())).await;
        let (channel, opened) = match opening.unwrap_or_else(|panicked| Err(panicked.to_wire())) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::info!(%database, status = error.status, reason = %error.reason, "channel refused");
                if self.forget_channel(id, number) {
                    self.send(ServerMessage::Refused { channel: id, error }).await?;
                }
                return Ok(());
            }
        };
        if !self.install_channel(&channel, number) {
            return Ok(());
        }
        let _enlisted = Enlisted::new(&self.shared, &channel);
        if self.shared.revocations() != revocations {
            // A revocation that came while this channel was not yet known passed it by.
            if let Err(error) = self.grant_again(&channel, access).await {
                channel.end(Some(error));
            }
        }
        self.opened_once.send_replace(true);
        tracing::info!(%database, "channel opened");
        self.send(ServerMessage::Opened { channel: id, opened }).await?;
        let check = Duration::from_millis(self.shared.limits.grant_check_interval_ms);
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

    async fn open_channel(
        &self,
        id: ChannelId,
        access: AccessRequest,
    ) -> Result<(Arc<Channel>, Opened), WireError> {
        let create = access.create;
        let grant = self.shared.judge(access, &self.peer.seat).await?;
        let (database, grant) = self.shared.open(grant, create).await?;
        let uploads_max = self.shared.limits.uploads_per_channel_max;
        let store = self.shared.store.clone();
        let channel = Channel::new(id, store, database, grant, uploads_max);
        let opened = self.opened(&channel).await?;
        Ok((channel, opened))
    }

    async fn opened(&self, channel: &Channel) -> Result<Opened, WireError> {
        let granted = channel.granted();
        let info = granted.info().await.map_err(|error| error.to_wire())?;
        let limits = &self.shared.limits;
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
        let access = self.access_request(credentials, slot.requested.clone(), false);
        let judging = tasks.spawn(async move {
            let answer = async {
                connection.grant_again(&channel, access).await?;
                connection.opened(&channel).await
            };
            match answer.await {
                Err(error) => channel.end(Some(error)),
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

    /// Asks the authorizer for a channel that is open; once more if grants were revoked meanwhile,
    /// since a revocation judges only what it finds.
    async fn grant_again(&self, channel: &Channel, access: AccessRequest) -> Result<(), WireError> {
        loop {
            let revocations = self.shared.revocations();
            let grant = self.shared.judge(access.clone(), &self.peer.seat).await?;
            channel.grant_anew(narrowed(grant, &channel.granted().database)?)?;
            if self.shared.revocations() == revocations {
                return Ok(());
            }
        }
    }

    async fn begin_call(
        self: &Arc<Self>,
        channel: ChannelId,
        call: CallId,
        method: String,
        params: Box<RawValue>,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), Gone> {
        let refusal = {
            let mut state = self.lock();
            let max = self.shared.limits.calls_per_connection_max;
            if *self.shared.stopping.borrow() {
                Refusal::Stopping
            } else if state.calls >= max {
                Refusal::TooManyCalls { max }
            } else if let Some(granted) = state.slots.get(&channel).and_then(|s| s.channel.clone())
            {
                let number = state.number();
                let (context, handle) = Call::new(self, granted, call, &method);
                let connection = Arc::clone(self);
                // Counted before the task first runs, so that a stop cannot pass it by.
                let busy = calls::is_waited_for(&method).then(|| Busy::new(&connection));
                let task = tasks.spawn(async move {
                    connection.run_call(context, number, &method, &params).await;
                    drop(busy);
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
        self.send(ServerMessage::Fail { channel, call, error: refusal.to_wire() }).await
    }

    async fn run_call(&self, context: Call, number: u64, method: &str, params: &RawValue) {
        let (channel, call) = (context.channel.id, context.id);
        // What is read for a client that takes nothing would only wait: do not read it.
        if self.outbox.room(0).await.is_err() {
            return;
        }
        let answer = unwinding(calls::run(context, method, params)).await;
        let answer = answer.unwrap_or_else(|panicked| Answer::Fail(panicked.to_wire()));
        let text = answer.encode(channel, call);
        // The call counts until its answer has room, so that answers nobody takes are bounded, and
        // nothing comes between the look at its number and the answer's place in the queue.
        let Ok(room) = self.outbox.room(text.len()).await else { return };
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

/// Counts a call in while it runs.
struct Busy(Arc<Connection>);

impl Busy {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.busy.send_modify(|busy| *busy += 1);
        Self(Arc::clone(connection))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_modify(|busy| *busy -= 1);
    }
}

/// What to tell the peer of an error on its socket, if it can still be told.
fn socket_error(error: &SocketError) -> Option<CloseReason> {
    match error {
        SocketError::Capacity(_) => Some(CloseReason::TooLarge),
        SocketError::Utf8(_) => Some(CloseReason::NotText),
        // The peer is gone without a close frame: there is nobody to tell.
        SocketError::Protocol(SocketProtocolError::ResetWithoutClosingHandshake) => None,
        SocketError::Protocol(_) => Some(CloseReason::Framing),
        _ => None,
    }
}
