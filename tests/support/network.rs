//! A network between clients and a gateway that can be cut, closed or turned into a black hole.
#![allow(dead_code, reason = "each test file uses some of these")]

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use settee::transport::{ByteStream, Connector, MemoryConnector};
use settee::{Client, client::ClientBuilder};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    Fine,
    /// Nobody answers a new connection.
    Refused,
    /// What is sent does not arrive, and nobody is told.
    BlackHole,
}

#[derive(Debug, Clone)]
pub struct Network {
    gateway: MemoryConnector,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    weather: watch::Sender<Weather>,
    /// Streams made before the last cut are cut.
    cuts: watch::Sender<u64>,
    /// Cut everything once so many bytes have come from the gateway.
    cut_after: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    attempts: Mutex<Vec<Instant>>,
}

impl Network {
    pub fn new(gateway: MemoryConnector) -> Self {
        let shared = Shared {
            weather: watch::Sender::new(Weather::Fine),
            cuts: watch::Sender::new(0),
            cut_after: AtomicU64::new(u64::MAX),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            attempts: Mutex::default(),
        };
        Self { gateway, shared: Arc::new(shared) }
    }

    pub fn client(&self) -> Client {
        self.client_builder().connect().expect("a good address")
    }

    pub fn client_builder(&self) -> ClientBuilder {
        Client::builder("ws://gateway").connector(self.clone())
    }

    /// Drops all connections; new ones can be made.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Drops all connections and refuses new ones.
    pub fn close(&self) {
        self.shared.weather.send_replace(Weather::Refused);
        self.cut();
    }

    /// Returns when the network is closed.
    pub async fn closed(&self) {
        let mut weather = self.shared.weather.subscribe();
        let closed = weather.wait_for(|weather| *weather == Weather::Refused).await;
        closed.expect("the network is there");
    }

    /// From now on nothing arrives, and nobody is told.
    pub fn swallow(&self) {
        self.shared.weather.send_replace(Weather::BlackHole);
    }

    /// Fine weather from now on.
    pub fn open(&self) {
        self.shared.cut_after.store(u64::MAX, Ordering::Relaxed);
        self.shared.weather.send_replace(Weather::Fine);
    }

    /// Closes once so many more bytes have come from the gateway.
    pub fn close_after_receiving(&self, bytes: u64) {
        self.shared.cut_after.store(self.received() + bytes, Ordering::Relaxed);
    }

    /// Bytes that clients sent.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Bytes that clients got.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// When a connection was asked for.
    pub fn attempts(&self) -> Vec<Instant> {
        self.shared.attempts.lock().expect("nobody panicked").clone()
    }

    async fn pump(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        count: impl Fn(&Shared) -> &AtomicU64,
    ) {
        let mut buffer = vec![0; 16 * 1024];
        let mut weather = self.shared.weather.subscribe();
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let passes = weather.wait_for(|weather| *weather != Weather::BlackHole).await.is_ok();
            if !passes || to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
            count(&self.shared).fetch_add(length as u64, Ordering::Relaxed);
            if self.received() >= self.shared.cut_after.load(Ordering::Relaxed) {
                self.shared.cut_after.store(u64::MAX, Ordering::Relaxed);
                self.close();
            }
        }
    }
}

#[async_trait]
impl Connector for Network {
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn ByteStream>> {
        self.shared.attempts.lock().expect("nobody panicked").push(Instant::now());
        if *self.shared.weather.borrow() == Weather::Refused {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the network is closed"));
        }
        let mut cuts = self.shared.cuts.subscribe();
        cuts.mark_unchanged();
        let (near, far) = tokio::io::duplex(16 * 1024);
        let gateway = self.gateway.connect(host, port).await?;
        let network = self.clone();
        tokio::spawn(async move {
            let (from_client, to_client) = tokio::io::split(far);
            let (from_gateway, to_gateway) = tokio::io::split(gateway);
            tokio::select! {
                () = network.pump(from_client, to_gateway, |shared| &shared.sent) => {}
                () = network.pump(from_gateway, to_client, |shared| &shared.received) => {}
                _ = cuts.changed() => {}
            }
        });
        Ok(Box::new(near))
    }
}
