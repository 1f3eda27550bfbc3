//! One WebSocket, whatever protocol is spoken over it: its reader, its end, and what it waits for when
//! the gateway stops.
//!
//! Reader and [writer](super::writer) are two halves of one task, so that an idle connection costs
//! one. Everything else runs in tasks that are aborted when the connection ends; the store's writes
//! are whole or not made.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::SplitStream;
use http::HeaderMap;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError as SocketProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::limits::Limits;
use crate::transport::ByteStream;

use super::Shared;
use super::bounds::{Held, Intake, Pace};
use super::census::Seat;
use super::error::CloseReason;
use super::life::Session;
use super::observe::{Link, Spoken};
use super::outbox::{Gone, Outbox};
use super::progress::{Progress, ProgressStream};
use super::writer::{CLOSE_WAIT, write};

/// Buffers of an idle connection; tungstenite's own default is 128 KiB.
const SOCKET_BUFFER_BYTES: usize = 1024;

/// How long closing may take in all, what still waits to be written included.
const CLOSING_WAIT: Duration = Duration::from_secs(5);

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
    /// Tells the end of the connection when it is dropped.
    pub session: Session,
}

type Reader<S> = SplitStream<WebSocketStream<ProgressStream<S>>>;

/// What is spoken over a WebSocket.
pub(super) trait Protocol: Send + Sync + Sized + 'static {
    /// What it is.
    const SPOKEN: Spoken;

    /// The protocol's side of a new connection.
    fn new(socket: Socket) -> Self;

    /// What it was made with.
    fn socket(&self) -> &Socket;

    /// Takes a text or binary message, with the room in memory that it has. A reason ends the
    /// connection.
    fn take(
        self: &Arc<Self>,
        message: Message,
        held: Held,
        tasks: &mut JoinSet<()>,
    ) -> impl Future<Output = Result<Option<CloseReason>, Gone>> + Send;
}

/// Drives an upgraded connection to its end.
pub(super) async fn run<P: Protocol, S: ByteStream>(stream: S, shared: Arc<Shared>, peer: Peer) {
    let progress = Arc::new(Progress::new());
    let intake = Arc::new(Intake::new(shared.memory.clone()));
    let stream = ProgressStream::new(stream, Arc::clone(&progress), Arc::clone(&intake));
    let config = socket_config(&shared.limits);
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (writer, reader) = socket.split();
    let (outbox, outgoing) = Outbox::new(shared.limits.outbound_bytes_max);
    tracing::info!(peer = ?peer.address, "connection opened");
    let link =
        shared.observed.connected(peer.session.id(), P::SPOKEN, peer.address, outbox.waiting());
    let protocol = Arc::new(P::new(Socket {
        link,
        outbox,
        busy: Arc::new(watch::Sender::new(0)),
        first_open: watch::Sender::default(),
        ending: watch::Sender::new(None),
        shared,
        peer,
    }));
    let socket = protocol.socket();
    let mut writing = std::pin::pin!(write(writer, outgoing, socket, P::SPOKEN, &progress));
    tokio::select! {
        last = read(&protocol, reader, &intake) => if last == Last::CloseToWrite {
            // A peer that takes its close frame byte by byte must not hold up a graceful stop.
            let _ = timeout(CLOSING_WAIT, writing).await;
        },
        () = &mut writing => {}
    }
    tracing::info!(peer = ?socket.peer.address, "connection closed");
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

/// What the tasks of one connection share, whatever its protocol.
pub(super) struct Socket {
    pub shared: Arc<Shared>,
    pub link: Arc<Link>,
    pub outbox: Outbox,
    pub peer: Peer,
    /// Calls in progress that a graceful stop waits for.
    busy: Arc<watch::Sender<usize>>,
    first_open: watch::Sender<FirstOpen>,
    ending: watch::Sender<Option<CloseReason>>,
}

/// Whether a connection is of use.
#[derive(Debug, Clone, Copy, Default)]
struct FirstOpen {
    /// Whether a database was opened.
    done: bool,
    /// Databases that were granted and are being opened, which the application may take its time for.
    under_way: usize,
}

impl Socket {
    /// Says that a database was opened, or an identity given.
    pub(super) fn opened_one(&self) {
        self.first_open.send_modify(|first_open| first_open.done = true);
    }

    /// Says that a database is being opened as long as what is returned lives.
    pub(super) fn opening(&self) -> Opening<'_> {
        self.first_open.send_modify(|first_open| first_open.under_way += 1);
        Opening(self)
    }

    /// Ends the connection; the first reason counts.
    pub(super) fn end(&self, reason: CloseReason) {
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            if first {
                *ending = Some(reason);
            }
            first
        });
    }

    /// Counts a call in as long as what is returned lives.
    pub(super) fn busy(&self) -> Busy {
        Busy::new(&self.busy)
    }

    async fn reason_to_end(&self) -> CloseReason {
        let limits = &self.shared.limits;
        let mut first_open = self.first_open.subscribe();
        let nothing_opened = async {
            let patience = Duration::from_millis(limits.first_open_timeout_ms);
            let opened = first_open.wait_for(|first_open| first_open.done);
            if timeout(patience, opened).await.is_err() {
                let settled = |now: &FirstOpen| now.done || now.under_way == 0;
                // The sender lives in `self`, so waiting cannot fail.
                let settled = first_open.wait_for(settled).await;
                if settled.is_ok_and(|first_open| !first_open.done) {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        let mut ending = self.ending.subscribe();
        let asked_to = async {
            let asked = ending.wait_for(Option::is_some).await;
            asked.ok().and_then(|reason| reason.clone())
        };
        tokio::select! {
            () = nothing_opened => return CloseReason::NothingOpened,
            Some(reason) = asked_to => return reason,
            () = self.shared.until_stopping() => {}
        }
        let mut busy = self.busy.subscribe();
        let drain = Duration::from_millis(limits.drain_timeout_ms);
        let _ = timeout(drain, busy.wait_for(|busy| *busy == 0)).await;
        CloseReason::Stopping
    }
}

/// Reads until the peer is gone; when this side wants to end, asks the writer to and waits for
/// the peer's answer.
async fn read<P: Protocol, S: ByteStream>(
    protocol: &Arc<P>,
    mut reader: Reader<S>,
    intake: &Intake,
) -> Last {
    let socket = protocol.socket();
    let mut tasks = JoinSet::new();
    let reason = tokio::select! {
        reason = take_messages(protocol, &mut reader, intake, &mut tasks) => reason,
        reason = socket.reason_to_end() => Some(reason),
    };
    let Some(reason) = reason else { return Last::Nothing };
    socket.link.limit_hit(reason.limit());
    drop(tasks);
    socket.outbox.close(reason);
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

async fn take_messages<P: Protocol, S: ByteStream>(
    protocol: &Arc<P>,
    reader: &mut Reader<S>,
    intake: &Intake,
    tasks: &mut JoinSet<()>,
) -> Option<CloseReason> {
    let mut pace = Pace::new(&protocol.socket().shared.limits);
    while let Some(message) = reader.next().await {
        while tasks.try_join_next().is_some() {}
        let message = match message {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => message,
            Ok(Message::Ping(bytes) | Message::Pong(bytes)) => {
                intake.passed(bytes.len());
                if pace.message(bytes.len()).await.is_err() {
                    return Some(CloseReason::TooFast);
                }
                continue;
            }
            Ok(Message::Close(_)) => {
                // Reading on is what sends the answer to it.
                let _ = timeout(CLOSE_WAIT, reader.next()).await;
                return None;
            }
            Ok(Message::Frame(_)) => continue,
            Err(error) => return socket_error(&error),
        };
        let bytes = message.len();
        // In a box, so that a connection that says nothing takes less memory.
        match Box::pin(protocol.take(message, intake.take(), tasks)).await {
            Ok(None) => {}
            Ok(Some(reason)) => return Some(reason),
            Err(Gone) => return None,
        }
        if pace.message(bytes).await.is_err() {
            return Some(CloseReason::TooFast);
        }
    }
    None
}

/// Keeps a connection that waits for its first database to be opened.
pub(super) struct Opening<'a>(&'a Socket);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.first_open.send_modify(|first_open| first_open.under_way -= 1);
    }
}

/// Counts a call in while it runs.
pub(super) struct Busy(Arc<watch::Sender<usize>>);

impl Busy {
    fn new(busy: &Arc<watch::Sender<usize>>) -> Self {
        busy.send_modify(|busy| *busy += 1);
        Self(Arc::clone(busy))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|busy| *busy -= 1);
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
        SocketError::Io(error) if error.kind() == io::ErrorKind::OutOfMemory => {
            Some(CloseReason::MemoryFull)
        }
        _ => None,
    }
}
