//! Drives one connection: writes what waits, reads what comes, and notices a dead peer.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::proto::liveness::{Liveness, Verdict};
use crate::transport::ByteStream;

use super::link::{Link, Queued};

/// How long to wait for the gateway's answer to a close.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<Box<dyn ByteStream>>;

/// Why a connection ended.
pub(super) enum Ended {
    /// The client wanted it.
    Asked,
    /// It was lost.
    Lost(String),
}

/// Makes the two sides of a connection: the handle, and what drives it.
pub(super) fn new(
    socket: Socket,
    ping_interval: Duration,
    silence_timeout: Duration,
) -> (Link, Driver) {
    let (link, queued) = Link::new();
    let driver = Driver { link: link.clone(), socket, queued, ping_interval, silence_timeout };
    (link, driver)
}

/// What reads and writes.
pub(super) struct Driver {
    link: Link,
    socket: Socket,
    queued: mpsc::UnboundedReceiver<Queued>,
    ping_interval: Duration,
    silence_timeout: Duration,
}

impl Driver {
    /// Reads and writes until the connection is lost or `stop` is ready.
    pub(super) async fn run(self, stop: impl Future<Output = ()>) -> Ended {
        let Self { link, socket, queued, ping_interval, silence_timeout } = self;
        let (mut writer, reader) = socket.split();
        let heard = watch::Sender::new(Instant::now());
        let ended = tokio::select! {
            cause = read(&link, reader, &heard) => Ended::Lost(cause),
            cause = write(&mut writer, queued, heard.subscribe(), ping_interval, silence_timeout) => {
                Ended::Lost(cause)
            }
            () = stop => Ended::Asked,
        };
        if matches!(ended, Ended::Asked) {
            // The gateway notices a connection that was not closed, too.
            let _ = timeout(CLOSE_WAIT, writer.close()).await;
        }
        let cause = match &ended {
            Ended::Asked => "the client was closed",
            Ended::Lost(cause) => cause,
        };
        link.fail_all(cause);
        ended
    }
}

async fn write(
    writer: &mut SplitSink<Socket, Message>,
    mut queued: mpsc::UnboundedReceiver<Queued>,
    heard: watch::Receiver<Instant>,
    ping_interval: Duration,
    silence_timeout: Duration,
) -> String {
    let began = Instant::now();
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut liveness = Liveness::new(ms(ping_interval), ms(silence_timeout), 0);
    let mut look_again = ms(ping_interval);
    loop {
        tokio::select! {
            next = queued.recv() => {
                let Some((message, room)) = next else { return "the connection was dropped".into() };
                if let Err(cause) = send(writer, message, &heard, silence_timeout).await {
                    return cause;
                }
                drop(room);
            }
            () = sleep(Duration::from_millis(look_again)) => {
                let heard_ms = ms(heard.borrow().saturating_duration_since(began));
                match liveness.judge(ms(began.elapsed()), heard_ms) {
                    Verdict::Dead => return SILENT.into(),
                    Verdict::Wait(again) => look_again = again,
                    Verdict::Ping(again) => {
                        look_again = again;
                        let ping = Message::Ping(Bytes::new());
                        if let Err(cause) = send(writer, ping, &heard, silence_timeout).await {
                            return cause;
                        }
                    }
                }
            }
        }
    }
}

const SILENT: &str = "the gateway has been silent for too long";

/// Writes a message. A peer that takes nothing is silent, and the silence ends the write.
async fn send(
    writer: &mut SplitSink<Socket, Message>,
    message: Message,
    heard: &watch::Receiver<Instant>,
    silence_timeout: Duration,
) -> Result<(), String> {
    tokio::select! {
        sent = writer.send(message) => sent.map_err(|error| error.to_string()),
        () = heard_nothing(heard, silence_timeout) => Err(SILENT.into()),
    }
}

async fn heard_nothing(heard: &watch::Receiver<Instant>, silence_timeout: Duration) {
    loop {
        let dead_at = *heard.borrow() + silence_timeout;
        if Instant::now() >= dead_at {
            return;
        }
        tokio::time::sleep_until(dead_at).await;
    }
}

async fn read(
    link: &Link,
    mut reader: SplitStream<Socket>,
    heard: &watch::Sender<Instant>,
) -> String {
    while let Some(message) = reader.next().await {
        heard.send_replace(Instant::now());
        let taken = match message {
            Ok(Message::Text(text)) => link.take_text(&text),
            Ok(Message::Binary(bytes)) => link.take_piece(&bytes),
            Ok(Message::Close(frame)) => {
                return frame.map_or_else(
                    || "the gateway closed the connection".into(),
                    |frame| {
                        format!(
                            "the gateway closed the connection: {} ({})",
                            frame.reason, frame.code
                        )
                    },
                );
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(()),
            Err(SocketError::ConnectionClosed) => break,
            Err(error) => return error.to_string(),
        };
        if let Err(error) = taken {
            return format!("the gateway broke the protocol: {error}");
        }
    }
    "the gateway closed the connection".into()
}
