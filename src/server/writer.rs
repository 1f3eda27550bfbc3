//! Writes what waits for one peer, pings a silent one, and gives up on one that takes nothing.

use std::time::Duration;

use futures::channel::mpsc;
use futures::stream::SplitSink;
use futures::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Bytes, Error as SocketError, Message};

use crate::proto::liveness::{Liveness, Verdict};
use crate::transport::ByteStream;

use super::error::CloseReason;
use super::observe::Spoken;
use super::outbox::Outgoing;
use super::progress::{Progress, ProgressStream};
use super::socket::Socket;

/// How long a peer may take to answer a close before the socket is dropped.
pub(super) const CLOSE_WAIT: Duration = Duration::from_secs(1);

type Writer<S> = SplitSink<WebSocketStream<ProgressStream<S>>, Message>;

/// Writes what waits, pings a silent peer, and gives up on one that takes nothing.
pub(super) async fn write<S: ByteStream>(
    mut writer: Writer<S>,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    socket: &Socket,
    spoken: Spoken,
    progress: &Progress,
) {
    let limits = &socket.shared.limits;
    let stall = Duration::from_millis(limits.outbound_stall_timeout_ms);
    let now = progress.now_ms();
    let mut liveness = Liveness::new(limits.ping_interval_ms, limits.silence_timeout_ms, now);
    // A moment, not a time from each message on: a busy feed must not put off the ping.
    let look_after = |ms| Instant::now() + Duration::from_millis(ms);
    let mut look_again = look_after(limits.ping_interval_ms);
    loop {
        let next = tokio::select! {
            next = outgoing.next() => next,
            () = sleep_until(look_again) => {
                match liveness.judge(progress.now_ms(), progress.read_ms()) {
                    Verdict::Dead => return,
                    Verdict::Wait(ms) => {
                        look_again = look_after(ms);
                        continue;
                    }
                    Verdict::Ping(ms) => {
                        look_again = look_after(ms);
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
                        socket.link.limit_hit(CloseReason::Stalled.limit());
                        let close = CloseReason::Stalled.message(spoken);
                        let _ = timeout(CLOSE_WAIT, writer.send(close)).await;
                        return;
                    }
                    Err(NotWritten::Broken) => return,
                }
            }
            Some(Outgoing::Close(reason)) => {
                tracing::debug!(?reason, "closing a connection");
                if written(progress, stall, writer.send(reason.message(spoken))).await.is_ok() {
                    // The reader sees the peer's answer; without one the socket is dropped.
                    sleep(CLOSE_WAIT).await;
                }
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
