//! One connection: reads messages into its session, runs what the session asks for, writes answers.
//!
//! Reader and writer are two halves of one task, so that an idle connection costs one. Each channel
//! has a task that asks the authorizer and then watches over the grant; each call has a task. All of
//! them are aborted when the connection ends; the store's writes are whole or not made.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use http::HeaderMap;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error as SocketError, Message};

use crate::doc::DbName;
use crate::limits::Limits;
use crate::proto::liveness::{Liveness, Verdict};
use crate::proto::message::{
    CallId, ChannelId, ChannelLimits, OpenRequest, Opened, Piece, ServerMessage, WireError,
};
use crate::proto::session::{Action, Session};
use crate::store::StoreError;
use crate::transport::ByteStream;

use super::Shared;
use super::auth::{AccessRequest, Credentials, Grant};
use super::calls::{self, Call, CallHandle};
use super::census::Seat;
use super::channel::{Channel, Enlisted};
use super::error::{CloseReason, Refusal, ToWire as _};
use super::outbox::{Gone, Outbox, Outgoing};
use super::progress::{Progress, ProgressStream};

/// Buffers of an idle connection; tungstenite's own default is 128 KiB.
const SOCKET_BUFFER_BYTES: usize = 1024;

/// How long a peer may take to answer a close before the socket is dropped.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Pieces of an upload that may be under way.
pub(super) const UPLOAD_CREDIT: u32 = 8;

/// Who is at the other end.
pub(super) struct Peer {
    pub address: Option<SocketAddr>,
    pub headers: Arc<HeaderMap>,
    pub seat: Arc<Seat>,
}

type Reader<S> = SplitStream<WebSocketStream<ProgressStream<S>>>;
type Writer<S> = SplitSink<WebSocketStream<ProgressStream<S>>, Message>;

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
    let stall = Duration::from_millis(connection.shared.limits.outbound_stall_timeout_ms);
    tokio::select! {
        () = Connection::read(&connection, reader) => {}
        () = write(writer, outgoing, &connection.shared.limits, &progress, stall) => {}
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

/// Writes what waits, pings a silent peer, and gives up on one that takes nothing.
async fn write<S: ByteStream>(
    mut writer: Writer<S>,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    limits: &Limits,
    progress: &Progress,
    stall: Duration,
) {
    let now = progress.now_ms();
    let mut liveness = Liveness::new(limits.ping_interval_ms, limits.silence_timeout_ms, now);
    let mut look_again = limits.ping_interval_ms;
    loop {
        let next = tokio::select! {
            next = outgoing.recv() => next,
            () = sleep(Duration::from_millis(look_again)) => {
                match liveness.judge(progress.now_ms(), progress.read_ms()) {
                    Verdict::Dead => return,
                    Verdict::Wait(ms) => {
                        look_again = ms;
                        continue;
                    }
                    Verdict::Ping(ms) => {
                        look_again = ms;
                        let ping = Message::Ping(Bytes::new());
                        if written(progress, stall, writer.send(ping)).await.is_err() {
                            return;
                        }
                        continue;
                    }
                }
            }
        };
        match next {
            Some(Outgoing::Message(message, room)) => {
                let sent = written(progress, stall, writer.send(message)).await;
                drop(room);
                match sent {
                    Ok(()) => {}
                    Err(NotWritten::Stalled) => {
                        let close = close_message(&CloseReason::Stalled);
                        let _ = timeout(CLOSE_WAIT, writer.send(close)).await;
                        return;
                    }
                    Err(NotWritten::Broken) => return,
                }
            }
            Some(Outgoing::Close(reason)) => {
                tracing::debug!(?reason, "closing a connection");
                let _ = written(progress, stall, writer.send(close_message(&reason))).await;
                // The reader sees the peer's answer; without one the socket is dropped.
                sleep(CLOSE_WAIT).await;
                return;
            }
            None => return,
        }
    }
}

enum NotWritten {
    Stalled,
    Broken,
}

/// Waits for a write as long as bytes move.
async fn written(
    progress: &Progress,
    stall: Duration,
    write: impl Future<Output = Result<(), SocketError>>,
) -> Result<(), NotWritten> {
    let mut write = std::pin::pin!(write);
    let stall_ms = u64::try_from(stall.as_millis()).unwrap_or(u64::MAX);
    let began = progress.now_ms();
    loop {
        let quiet = progress.now_ms().saturating_sub(progress.written_ms().max(began));
        if quiet >= stall_ms {
            return Err(NotWritten::Stalled);
        }
        tokio::select! {
            result = &mut write => return result.map_err(|_| NotWritten::Broken),
            () = sleep(Duration::from_millis(stall_ms - quiet)) => {}
        }
    }
}

fn close_message(reason: &CloseReason) -> Message {
    let (code, text) = reason.code_and_text();
    Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: text.into() }))
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

struct State {
    session: Session,
    slots: HashMap<ChannelId, Slot>,
    /// Tells apart two channels or calls that had one number after another.
    next_number: u64,
    calls: usize,
}

struct Slot {
    number: u64,
    requested: DbName,
    /// There once the authorizer has granted it.
    channel: Option<Arc<Channel>>,
    watcher: Option<AbortHandle>,
    calls: HashMap<CallId, (u64, CallHandle)>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        for (_, (_, call)) in self.calls.drain() {
            call.abort.abort();
        }
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

impl State {
    fn new(channels_max: usize) -> Self {
        Self {
            session: Session::new(channels_max),
            slots: HashMap::new(),
            next_number: 0,
            calls: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn is_current(&self, channel: ChannelId, number: u64) -> bool {
        self.slots.get(&channel).is_some_and(|slot| slot.number == number)
    }

    /// Forgets a channel and its calls.
    fn drop_slot(&mut self, channel: ChannelId) -> Option<Slot> {
        let slot = self.slots.remove(&channel)?;
        self.calls -= slot.calls.len();
        Some(slot)
    }
}

impl Connection {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until the peer is gone; when this side wants to end, asks the writer to and waits.
    async fn read<S: ByteStream>(self: &Arc<Self>, mut reader: Reader<S>) {
        let mut tasks = JoinSet::new();
        let reason = tokio::select! {
            reason = self.take_messages(&mut reader, &mut tasks) => reason,
            reason = self.reason_to_end() => Some(reason),
        };
        let Some(reason) = reason else { return };
        drop(tasks);
        self.outbox.close(reason);
        while let Some(Ok(_)) = reader.next().await {}
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
                Ok(Message::Close(_)) => return None,
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
            Action::Pong { echo } => self.outbox.text(ServerMessage::pong(&echo)).await?,
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
        let name = match DbName::parse(&request.database) {
            Ok(name) => name,
            Err(error) => {
                self.lock().session.ended(channel);
                return self.send(ServerMessage::Refused { channel, error: error.to_wire() }).await;
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
        let opening = self.open_channel(id, access).await;
        let (channel, opened) = match opening {
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
        let grant = self.shared.authorizer.authorize(access).await.map_err(|e| e.to_wire())?;
        if grant.time_left().is_some_and(|left| left.is_zero()) {
            return Err(Refusal::GrantExpired.to_wire());
        }
        if let Some(user) = grant.user_name() {
            self.peer.seat.belongs_to(user).map_err(|refusal| refusal.to_wire())?;
        }
        let store = &self.shared.store;
        let database = match store.database(&grant.database).await {
            Err(StoreError::DatabaseMissing { .. }) if grant.create && create => {
                store.open_or_create(&grant.database).await
            }
            found => found,
        };
        let database = database.map_err(|error| error.to_wire())?;
        let uploads_max = self.shared.limits.uploads_per_channel_max;
        let channel = Channel::new(id, store.clone(), database, grant, uploads_max);
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
        let (channel, requested) = {
            let state = self.lock();
            let Some(slot) = state.slots.get(&id) else { return };
            let Some(channel) = &slot.channel else { return };
            (Arc::clone(channel), slot.requested.clone())
        };
        let connection = Arc::clone(self);
        let access = self.access_request(credentials, requested, false);
        tasks.spawn(async move {
            let granted = connection.shared.authorizer.authorize(access).await;
            let granted = granted.map_err(|denied| denied.to_wire());
            let granted = granted.and_then(|grant: Grant| channel.grant_anew(grant));
            match granted {
                Err(error) => channel.end(Some(error)),
                Ok(()) => {
                    if let Ok(opened) = connection.opened(&channel).await {
                        // An answer that cannot be sent has nobody to go to.
                        let _ =
                            connection.send(ServerMessage::Opened { channel: id, opened }).await;
                    }
                }
            }
        });
    }

    async fn begin_call(
        self: &Arc<Self>,
        channel: ChannelId,
        call: CallId,
        method: String,
        params: Box<serde_json::value::RawValue>,
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
                let waited_for = calls::is_waited_for(&method);
                let task = tasks.spawn(async move {
                    let busy = waited_for.then(|| Busy::new(&connection.busy));
                    let answer = calls::run(context, &method, &params).await;
                    if connection.end_call(channel, call, number) {
                        // An answer that cannot be sent has nobody to go to.
                        let _ = connection.outbox.text(answer.encode(channel, call)).await;
                    }
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

    /// Forgets a call that has its answer. False if it was cancelled meanwhile.
    fn end_call(&self, channel: ChannelId, call: CallId, number: u64) -> bool {
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(&channel) else { return false };
        if slot.calls.get(&call).is_none_or(|(current, _)| *current != number) {
            return false;
        }
        slot.calls.remove(&call);
        state.calls -= 1;
        state.session.call_ended(channel, call)
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
        let overrun = {
            let state = self.lock();
            let handle = state.slots.get(&channel).and_then(|s| s.calls.get(&call));
            match handle.and_then(|(_, handle)| handle.pieces.as_ref()) {
                None => false,
                Some(pieces) => {
                    matches!(pieces.try_send(piece), Err(mpsc::error::TrySendError::Full(_)))
                }
            }
        };
        if overrun {
            self.take_call(channel, call);
            self.lock().session.call_ended(channel, call);
            let error = Refusal::UploadOverrun.to_wire();
            self.send(ServerMessage::Fail { channel, call, error }).await?;
        }
        Ok(())
    }
}

/// Counts a call in while it runs.
struct Busy<'a>(&'a watch::Sender<usize>);

impl<'a> Busy<'a> {
    fn new(busy: &'a watch::Sender<usize>) -> Self {
        busy.send_modify(|busy| *busy += 1);
        Self(busy)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|busy| *busy -= 1);
    }
}

/// What to tell the peer of an error on its socket, if it can still be told.
fn socket_error(error: &SocketError) -> Option<CloseReason> {
    match error {
        SocketError::Capacity(_) => Some(CloseReason::TooLarge),
        SocketError::Utf8(_) => Some(CloseReason::NotText),
        SocketError::Protocol(_) => {
            Some(CloseReason::Protocol(crate::proto::ProtocolError::NotAMessage))
        }
        _ => None,
    }
}
