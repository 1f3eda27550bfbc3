//! The accept loop: counts connections in, bounds their headers, and stops gracefully.
//!
//! It is our own and not warp's because warp sets no time for the request headers, accepts any
//! number of connections and cannot bound its buffers.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::transport::{ByteStream, Listener};

use super::census::Seat;
use super::{Gateway, Shared, routes};

/// Pause after a failed accept, e.g. for want of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Refused connections that are told why at a time; more are dropped without a word.
const REFUSED_MAX: usize = 64;

/// What a request knows of its connection; among the request's extensions.
#[derive(Clone)]
pub(super) struct ConnectionInfo {
    pub peer: Option<SocketAddr>,
    pub seat: Arc<Seat>,
    /// Where an upgraded connection's task is kept, so that `serve` waits for it.
    pub tasks: ConnectionTasks,
}

/// Tasks of upgraded connections.
#[derive(Clone, Default)]
pub(super) struct ConnectionTasks(Arc<Mutex<JoinSet<()>>>);

impl ConnectionTasks {
    pub(super) async fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().await;
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    async fn join_all(&self) {
        let mut tasks = std::mem::take(&mut *self.0.lock().await);
        while tasks.join_next().await.is_some() {}
    }
}

pub(super) async fn serve<L: Listener>(
    gateway: &Gateway,
    mut listener: L,
    shutdown: impl Future<Output = ()> + Send,
) {
    let shared = &gateway.shared;
    let service = warp::service(routes::routes(shared));
    let upgraded = ConnectionTasks::default();
    let mut connections: JoinSet<()> = JoinSet::new();
    let mut refused: JoinSet<()> = JoinSet::new();
    let mut compacting = keep_compacted(shared);
    shared.resume_replications().await;
    let _replicating = Replicating(shared);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            Some(_) = refused.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match shared.census.admit(peer.map(|peer| peer.ip())) {
                    Ok(seat) => {
                        let info =
                            ConnectionInfo { peer, seat: Arc::new(seat), tasks: upgraded.clone() };
                        let service = TowerToHyperService::new(service.clone());
                        connections.spawn(drive(Arc::clone(shared), stream, info, service));
                    }
                    Err(refusal) => {
                        tracing::info!(?peer, ?refusal, "connection refused");
                        if refused.len() < REFUSED_MAX {
                            refused.spawn(routes::refuse_connection(stream, refusal));
                        }
                    }
                },
                // The peer's own doing: it went away while it waited to be accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_BACKOFF).await;
                }
            },
        }
    }
    drop(listener);
    compacting.shutdown().await;
    shared.stopping.send_replace(true);
    // Upgraded connections bound their own end; what is left of plain HTTP gets as long.
    let drain = Duration::from_millis(shared.limits.drain_timeout_ms);
    let finish = async { while connections.join_next().await.is_some() {} };
    let pause = shared.pause_replications(drain);
    let (_, (), ()) = tokio::join!(timeout(drain, finish), upgraded.join_all(), pause);
}

/// Ends replications when serving ends, however it ends.
struct Replicating<'a>(&'a Shared);

impl Drop for Replicating<'_> {
    fn drop(&mut self) {
        self.0.replications.abort_all();
    }
}

/// Compacts databases as the gateway's settings say, until it is dropped.
fn keep_compacted(shared: &Shared) -> JoinSet<()> {
    let mut compacting = JoinSet::new();
    if let Some(policy) = shared.compaction {
        let store = shared.store.clone();
        compacting.spawn(async move { store.keep_compacted(policy).await });
    }
    compacting
}

async fn drive<S, Svc>(shared: Arc<Shared>, stream: S, info: ConnectionInfo, service: Svc)
where
    S: ByteStream,
    Svc: hyper::service::Service<
            hyper::Request<hyper::body::Incoming>,
            Response = warp::reply::Response,
            Error = Infallible,
            Future: Send,
        > + Clone
        + Send
        + 'static,
{
    let limits = &shared.limits;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.request_header_timeout_ms))
        .max_buf_size(limits.request_header_bytes_max);
    let peer = info.peer;
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(info.clone());
        service.call(request)
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shared.until_stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(?peer, %error, "http connection ended");
    }
}
