//! Makes the connection, keeps it, and makes it again after growing, jittered pauses.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderValue, Request};
use tokio::sync::{broadcast, watch};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Error as SocketError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::proto::SUBPROTOCOL;
use crate::replicate::Backoff;
use crate::transport::{ByteStream, Connector};

use super::driver::{self, Ended};
use super::tls::Tls;
use super::{ClientEvent, LinkState, Target};

/// Time for a connection and its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Largest message taken from a gateway. A gateway's largest document fits twice.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A connection that lived this long counts as a success; a shorter one does not stop the pauses
/// from growing, so that a gateway that drops every connection is not hammered.
const SETTLED: Duration = Duration::from_secs(5);

pub(super) struct Dialer {
    pub target: Target,
    pub connector: Arc<dyn Connector>,
    pub tls: Option<Tls>,
    pub backoff: Backoff,
    pub ping_interval: Duration,
    pub silence_timeout: Duration,
    pub link: watch::Sender<LinkState>,
    pub events: broadcast::Sender<ClientEvent>,
    pub closing: watch::Receiver<bool>,
}

impl Dialer {
    /// Dials until the client is closed.
    pub(super) async fn run(self) {
        let mut failures = 0u32;
        loop {
            if failures > 0 {
                self.tell(ClientEvent::Reconnect { attempt: failures });
            }
            let cause = tokio::select! {
                connected = self.connect() => match connected {
                    Ok(socket) => {
                        let began = tokio::time::Instant::now();
                        match self.keep(socket).await {
                            Ended::Asked => break,
                            Ended::Lost(cause) => {
                                if began.elapsed() >= SETTLED {
                                    failures = 0;
                                }
                                cause
                            }
                        }
                    }
                    Err(cause) => cause,
                },
                () = asked(&self.closing) => break,
            };
            failures = failures.saturating_add(1);
            tracing::debug!(%cause, failures, "no connection to the gateway");
            self.link.send_replace(LinkState::Down { cause: cause.as_str().into(), failures });
            self.tell(ClientEvent::Disconnect { cause });
            tokio::select! {
                () = sleep(self.backoff.jittered(failures)) => {}
                () = asked(&self.closing) => break,
            }
        }
        self.link.send_replace(LinkState::Closed);
    }

    fn tell(&self, event: ClientEvent) {
        // Nobody listening is no failure.
        let _ = self.events.send(event);
    }

    async fn connect(&self) -> Result<WebSocketStream<Box<dyn ByteStream>>, String> {
        let connecting = async {
            let stream = self.connector.connect(&self.target.host, self.target.port).await;
            let stream = stream.map_err(|error: io::Error| error.to_string())?;
            let stream = match &self.tls {
                Some(tls) => tls.begin(stream).await.map_err(|error| format!("TLS: {error}"))?,
                None => stream,
            };
            let config = WebSocketConfig::default()
                .read_buffer_size(16 * 1024)
                .write_buffer_size(16 * 1024)
                .max_message_size(Some(MESSAGE_BYTES_MAX))
                .max_frame_size(Some(MESSAGE_BYTES_MAX));
            let request = self.request().map_err(|error| error.to_string())?;
            let handshake = client_async_with_config(request, stream, Some(config)).await;
            let (socket, response) = handshake.map_err(|error| explain(&error))?;
            let spoken = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
            if spoken.map(HeaderValue::as_bytes) != Some(SUBPROTOCOL.as_bytes()) {
                return Err(format!("the server does not speak {SUBPROTOCOL}"));
            }
            Ok(socket)
        };
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())),
        }
    }

    fn request(&self) -> http::Result<Request<()>> {
        let authority = self.target.authority();
        let scheme = if self.target.secure { "wss" } else { "ws" };
        Request::builder()
            .uri(format!("{scheme}://{authority}{}", self.target.path))
            .header(HOST, authority)
            .header(http::header::CONNECTION, "Upgrade")
            .header(http::header::UPGRADE, "websocket")
            .header(http::header::SEC_WEBSOCKET_VERSION, "13")
            .header(http::header::SEC_WEBSOCKET_KEY, generate_key())
            .header(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
            .body(())
    }

    async fn keep(&self, socket: WebSocketStream<Box<dyn ByteStream>>) -> Ended {
        let (link, driver) = driver::new(socket, self.ping_interval, self.silence_timeout);
        self.link.send_replace(LinkState::Up(link));
        self.tell(ClientEvent::Connect);
        driver.run(asked(&self.closing)).await
    }
}

/// Returns when the client is to be closed.
async fn asked(closing: &watch::Receiver<bool>) {
    let mut closing = closing.clone();
    if closing.wait_for(|closing| *closing).await.is_err() {
        // The client is gone and aborts this task.
        std::future::pending::<()>().await;
    }
}

/// A failed handshake in words; a gateway's refusal has its reason in the body.
fn explain(error: &SocketError) -> String {
    match error {
        SocketError::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let reason = serde_json::from_slice::<serde_json::Value>(body).ok();
            let reason = reason.as_ref().and_then(|body| body["reason"].as_str());
            format!("the server answered {}: {}", response.status(), reason.unwrap_or("no reason"))
        }
        other => other.to_string(),
    }
}
