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

use futures::future::{Either, ready};
use http::HeaderMap;
use http::header::{HOST, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::doc::DbName;
use crate::store::StoreError;
use crate::transport::Listener;

use super::census::Seat;
use super::error::Refusal;
use super::life::IgnoredIn;
use super::net::{
    Arrived, Door, Endpoint, Entered, Patience, PatientStream, Scheme, Told, UNNAMED, enter,
};
use super::{Gateway, Shared, routes};

/// Pause after a failed accept, e.g. for want of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Refused connections that are told why at a time; more are dropped without a word.
const REFUSED_MAX: usize = 64;

/// What a request knows of its connection; among the request's extensions.
#[derive(Clone)]
pub(super) struct ConnectionInfo {
    /// The client, as far as it is known: a listed proxy's own address only if it tells of nobody.
    pub peer: Option<SocketAddr>,
    pub scheme: Option<Scheme>,
    pub seat: Arc<Seat>,
    /// Where an upgraded connection's task is kept, so that `serve` waits for it.
    pub tasks: ConnectionTasks,
    pub patience: Patience,
}

impl ConnectionInfo {
    /// The same for one request, which a listed proxy may have passed on for somebody; its `Host`
    /// becomes the one that the client asked for.
    fn of_request(&self, shared: &Shared, headers: &mut HeaderMap) -> Self {
        let mut info = self.clone();
        let Some(told) = shared.proxies.told(self.peer, headers) else { return info };
        let Told { client, host, scheme } = told;
        info.peer = client.or(info.peer).or(Some(UNNAMED));
        info.scheme = scheme.or(info.scheme);
        if let Some(host) = host {
            headers.insert(HOST, host);
        }
        // A WebSocket has the connection to itself.
        if !headers.contains_key(UPGRADE) {
            info.seat = Arc::new(shared.census.guest());
        }
        info
    }
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

/// Where connections come from.
pub(super) trait Arrivals: Send {
    /// Waits for the next; dropping the future loses none.
    fn next(&mut self) -> impl Future<Output = io::Result<Arrived>> + Send;
}

/// Those of a program's own listener.
pub(super) struct Plain<L>(pub L);

impl<L: Listener> Arrivals for Plain<L> {
    async fn next(&mut self) -> io::Result<Arrived> {
        let (stream, peer) = self.0.accept().await?;
        Ok(Arrived { stream: Box::new(stream), peer, door: Door::default() })
    }
}

/// Those of several places.
pub(super) struct Several(pub Vec<Endpoint>);

impl Arrivals for Several {
    async fn next(&mut self) -> io::Result<Arrived> {
        if self.0.is_empty() {
            return std::future::pending().await;
        }
        // Another one is first each time, so that a busy place does not keep the others waiting.
        self.0.rotate_left(1);
        let accepting = self.0.iter_mut().map(|endpoint| Box::pin(endpoint.accept()));
        futures::future::select_all(accepting).await.0
    }
}

pub(super) async fn serve(
    gateway: &Gateway,
    mut arrivals: impl Arrivals,
    shutdown: impl Future<Output = ()> + Send,
) {
    let shared = &gateway.shared;
    let service = warp::service(routes::routes(shared));
    let upgraded = ConnectionTasks::default();
    let mut connections: JoinSet<()> = JoinSet::new();
    let mut refused: JoinSet<()> = JoinSet::new();
    let mut maintaining = maintain(shared);
    shared.resume_replications().await;
    let _replicating = Replicating(shared);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            Some(_) = refused.join_next() => {}
            arrived = arrivals.next() => match arrived {
                Ok(arrived) => match admit(shared, &arrived) {
                    Ok(seat) => {
                        let seat = Arc::new(seat);
                        let service = TowerToHyperService::new(service.clone());
                        let tasks = upgraded.clone();
                        connections.spawn(drive(Arc::clone(shared), arrived, seat, tasks, service));
                    }
                    Err(refusal) => {
                        shared.observed.limit_hit(refusal.limit());
                        tracing::info!(peer = ?arrived.peer, ?refusal, "connection refused");
                        if refused.len() < REFUSED_MAX && arrived.door.is_plain() {
                            refused.spawn(routes::refuse_connection(arrived.stream, refusal));
                        }
                    }
                },
                // The peer's own doing: it went away while it waited to be accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    shared.life.ignored.tell(IgnoredIn::Accepting, None, error);
                    sleep(ACCEPT_BACKOFF).await;
                }
            },
        }
    }
    shared.stopping.send_replace(true);
    maintaining.shutdown().await;
    // Upgraded connections bound their own end; what is left of plain HTTP gets as long.
    let drain = Duration::from_millis(shared.limits.drain_timeout_ms);
    let finish = async { while connections.join_next().await.is_some() {} };
    let pause = shared.pause_replications(drain);
    let ended = async {
        let _ = tokio::join!(timeout(drain, finish), upgraded.join_all(), pause);
        shared.life.close_all().await;
    };
    let late = |arrived, seat| {
        let service = TowerToHyperService::new(service.clone());
        drive(Arc::clone(shared), arrived, Arc::new(seat), upgraded.clone(), service)
    };
    tokio::select! {
        () = ended => {}
        () = answer_late(shared, &mut arrivals, late) => {}
    }
}

/// Ends replications when serving ends, however it ends.
struct Replicating<'a>(&'a Shared);

impl Drop for Replicating<'_> {
    fn drop(&mut self) {
        self.0.replications.abort_all();
    }
}

/// Answers who comes while the others end, so that whoever asks `/_up` is told; for ever. One
/// request each: nothing is begun that the gateway would have to wait for.
async fn answer_late<D: Future<Output = ()> + Send + 'static>(
    shared: &Arc<Shared>,
    arrivals: &mut impl Arrivals,
    drive: impl Fn(Arrived, Seat) -> D,
) {
    let mut late: JoinSet<()> = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = late.join_next() => {}
            arrived = arrivals.next() => match arrived {
                Ok(arrived) => match admit(shared, &arrived) {
                    Ok(seat) => drop(late.spawn(drive(arrived, seat))),
                    Err(refusal) => shared.observed.limit_hit(refusal.limit()),
                },
                Err(_) => sleep(ACCEPT_BACKOFF).await,
            },
        }
    }
}

/// Counts a connection in; by address only where that is the client's and not a proxy's.
fn admit(shared: &Shared, arrived: &Arrived) -> Result<Seat, Refusal> {
    let proxied = shared.proxies.list(arrived.peer);
    if arrived.door.proxy_header && !proxied {
        return Err(Refusal::NotAProxy);
    }
    shared.census.admit(arrived.peer.filter(|_| !proxied).map(|peer| peer.ip()))
}

/// Compacts databases and purges tombstones as the gateway's settings say, until it is dropped.
fn maintain(shared: &Shared) -> JoinSet<()> {
    let mut maintaining = JoinSet::new();
    if let Some(policy) = shared.compaction {
        for ephemeral in [false, true] {
            let store = shared.life.store(ephemeral).clone();
            let failed = told(shared, IgnoredIn::Compaction);
            maintaining.spawn(async move { store.keep_compacted_telling(policy, failed).await });
        }
    }
    if let Some(policy) = shared.tombstones {
        let (store, failed) = (shared.store.clone(), told(shared, IgnoredIn::Tombstones));
        maintaining
            .spawn(async move { store.keep_tombstones_purged_telling(policy, failed).await });
    }
    maintaining
}

fn told(shared: &Shared, place: IgnoredIn) -> impl Fn(&DbName, &StoreError) + Send + Sync + use<> {
    let ignored = shared.life.ignored.clone();
    move |database, error| ignored.tell(place, Some(database), error)
}

/// What a listed proxy's PROXY header and TLS come to, and the address that is known by then.
async fn entered(shared: &Shared, arrived: Arrived, seat: &Seat) -> Option<Entered> {
    let (peer, door) = (arrived.peer, arrived.door.clone());
    let patience = Duration::from_millis(shared.limits.handshake_timeout_ms);
    let entered = tokio::select! {
        entered = enter(arrived, patience) => entered,
        () = shared.until_stopping(), if !shared.is_stopping() => return None,
    };
    let entered = match entered {
        Ok(entered) => entered,
        Err(error) => {
            tracing::debug!(?peer, %error, "a connection was cut before its first request");
            return None;
        }
    };
    if door.proxy_header && !shared.proxies.list(entered.peer) {
        let address = entered.peer.map(|peer| peer.ip());
        if let Err(refusal) = address.map_or(Ok(()), |address| seat.comes_from(address)) {
            shared.observed.limit_hit(refusal.limit());
            tracing::info!(peer = ?entered.peer, ?refusal, "connection refused");
            routes::refuse_connection(entered.stream, refusal).await;
            return None;
        }
    }
    Some(entered)
}

async fn drive<Svc>(
    shared: Arc<Shared>,
    arrived: Arrived,
    seat: Arc<Seat>,
    tasks: ConnectionTasks,
    service: Svc,
) where
    Svc: hyper::service::Service<
            hyper::Request<hyper::body::Incoming>,
            Response = warp::reply::Response,
            Error = Infallible,
            Future: Send,
        > + Clone
        + Send
        + 'static,
{
    let came_late = shared.is_stopping();
    let Some(Entered { stream, peer, scheme }) = entered(&shared, arrived, &seat).await else {
        return;
    };
    let limits = &shared.limits;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.request_header_timeout_ms))
        .max_buf_size(limits.request_header_bytes_max)
        .keep_alive(!came_late);
    let patience = Patience::default();
    let stall = Duration::from_millis(limits.outbound_stall_timeout_ms);
    let stream = PatientStream::new(stream, stall, patience.clone());
    let info = ConnectionInfo { peer, scheme, seat, tasks, patience };
    let visitors = Arc::clone(&shared);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let info = info.of_request(&visitors, request.headers_mut());
        request.extensions_mut().insert(info);
        // warp panics at such a request.
        if request.uri().path_and_query().is_none() {
            return Either::Left(ready(Ok(routes::without_path())));
        }
        Either::Right(service.call(request))
    });
    let stream = TokioIo::new(shared.observed.counted(stream));
    let connection = builder.serve_connection(stream, service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shared.until_stopping(), if !came_late => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(?peer, %error, "http connection ended");
    }
}
