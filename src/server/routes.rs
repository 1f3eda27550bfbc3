//! What a request is for: the WebSocket upgrade on any path, the JavaScript client, static files, or
//! the HTTP API.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Buf;
use futures::Stream;
use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, COOKIE, HOST, ORIGIN, PROXY_AUTHORIZATION,
    RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warp::path::FullPath;
use warp::reply::{Reply as _, Response};
use warp::{Filter, Rejection};

use crate::proto::SUBPROTOCOL;
use crate::proto::message::WireError;
use crate::transport::ByteStream;

use super::accept::ConnectionInfo;
use super::client_module;
use super::connection::Connection;
use super::error::{Refusal, ToWire as _, bad_request, http_body, retry_after};
use super::http as http_api;
use super::legacy::Legacy;
use super::life::SessionInfo;
use super::net::Scheme;
use super::observe::Spoken;
use super::socket::{self, Peer};
use super::{Origins, Shared};

/// How long a refused connection may take to read why.
const REFUSED_WAIT: Duration = Duration::from_secs(1);

/// Every route. The upgrade comes first, then the API's reserved addresses, then static files that
/// exist, then databases.
pub(super) fn routes(
    shared: &Arc<Shared>,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static {
    let upgrade = {
        let shared = Arc::clone(shared);
        warp::method()
            .and(warp::header::headers_cloned())
            .and(warp::ext::optional::<OnUpgrade>())
            .and(warp::ext::optional::<ConnectionInfo>())
            .and_then(move |method, headers, on_upgrade, info| {
                upgrade(Arc::clone(&shared), method, headers, on_upgrade, info)
            })
    };
    let reserved = goes_first().and(api(shared));
    upgrade
        .or(client_module::route(shared))
        .unify()
        .or(reserved)
        .unify()
        .or(static_files(shared))
        .unify()
        .or(api(shared))
        .unify()
}

/// Lets the API's own addresses pass before static files: those that begin with an underscore, and
/// `/` unless a browser asks for a page.
fn goes_first() -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::path::full()
        .and(warp::header::headers_cloned())
        .and_then(|path: FullPath, headers: HeaderMap| async move {
            let wants_page = || {
                let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
                accept.is_some_and(|accept| accept.contains("text/html"))
            };
            let first = match path.as_str() {
                "/" => !wants_page(),
                path => path.starts_with("/_"),
            };
            if first { Ok(()) } else { Err(warp::reject::not_found()) }
        })
        .untuple_one()
}

/// CouchDB's HTTP API, which answers whatever it is asked.
fn api(
    shared: &Arc<Shared>,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static {
    let shared = Arc::clone(shared);
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<ConnectionInfo>())
        .and(warp::body::stream())
        .and_then(move |method, path, query, headers, info, body| {
            let shared = Arc::clone(&shared);
            async move {
                Ok::<_, Rejection>(ask(shared, method, path, query, headers, info, body).await)
            }
        })
}

async fn ask<S, B>(
    shared: Arc<Shared>,
    method: Method,
    path: FullPath,
    query: String,
    headers: HeaderMap,
    info: Option<ConnectionInfo>,
    body: S,
) -> Response
where
    S: Stream<Item = Result<B, warp::Error>> + Send + 'static,
    B: Buf,
{
    let peer = info.as_ref().and_then(|info| info.peer);
    let scheme = info.as_ref().and_then(|info| info.scheme);
    let seat = match info {
        Some(info) => info.seat,
        None => match shared.census.admit(peer.map(|address| address.ip())) {
            Ok(seat) => Arc::new(seat),
            Err(refusal) => {
                shared.observed.limit_hit(refusal.limit());
                return error_response(&refusal.to_wire());
            }
        },
    };
    let shown_headers = without_secrets(&headers);
    let (path, query) = (path.as_str(), query.as_str());
    let link = shared.observed.request(peer, &headers);
    let parts =
        http_api::Parts { method, path, query, headers, shown_headers, peer, scheme, seat, link };
    http_api::answer(shared, parts, body).await
}

fn static_files(shared: &Arc<Shared>) -> warp::filters::BoxedFilter<(Response,)> {
    match &shared.static_dir {
        Some(directory) => warp::fs::dir(directory.clone())
            .map(|file: warp::fs::File| file.into_response())
            .boxed(),
        None => {
            warp::any().and_then(|| async { Err::<Response, _>(warp::reject::not_found()) }).boxed()
        }
    }
}

fn json_response(status: StatusCode, body: String) -> Response {
    let json = warp::reply::with_header(body, CONTENT_TYPE, "application/json");
    warp::reply::with_status(json, status).into_response()
}

pub(super) fn error_response(error: &WireError) -> Response {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(status, http_body(error));
    if let Some(Ok(seconds)) = retry_after(error).map(HeaderValue::from_str) {
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

/// Answers a connection that is one too many, without reading its request.
pub(super) async fn refuse_connection(mut stream: impl ByteStream, refusal: Refusal) {
    let error = refusal.to_wire();
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let body = http_body(&error);
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    // The peer may be gone already; then there is nobody to tell.
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
    // Closing with the request unread would reset the connection and take the answer with it.
    let mut request = [0; 1024];
    let rest = async { while stream.read(&mut request).await.is_ok_and(|read| read > 0) {} };
    let _ = timeout(REFUSED_WAIT, rest).await;
}

/// What a request without a path is told: it names a host alone, as CONNECT does.
pub(super) fn without_path() -> Response {
    let error = bad_request("the request must be for a path, such as /todos");
    let mut response = Response::new(http_body(&error).into());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Takes a request that asks for a WebSocket; lets every other pass on to the next route.
async fn upgrade(
    shared: Arc<Shared>,
    method: Method,
    headers: HeaderMap,
    on_upgrade: Option<OnUpgrade>,
    info: Option<ConnectionInfo>,
) -> Result<Response, Rejection> {
    if method != Method::GET || !has_token(&headers, &UPGRADE, "websocket") {
        return Err(warp::reject::not_found());
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).cloned();
    let version = headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    let (Some(key), Some(b"13"), true, Some(on_upgrade)) =
        (key.filter(is_key), version, has_token(&headers, &CONNECTION, "upgrade"), on_upgrade)
    else {
        return Ok(error_response(&Refusal::BadUpgrade.to_wire()));
    };
    if !shared.origins.allow_host(&headers) {
        return Ok(error_response(&Refusal::Host.to_wire()));
    }
    let scheme = info.as_ref().and_then(|info| info.scheme);
    if !shared.origins.allow(&headers, scheme) {
        return Ok(error_response(&Refusal::Origin.to_wire()));
    }
    let address = info.as_ref().and_then(|info| info.peer);
    if let Err(refusal) = shared.requests.from(address.map(|address| address.ip())) {
        return Ok(error_response(&refusal.to_wire()));
    }
    // The client of 2015 asks for no subprotocol; one that asks for others only is none of ours.
    let legacy = shared.legacy && !headers.contains_key(SEC_WEBSOCKET_PROTOCOL);
    if !legacy && !has_token(&headers, &SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Ok(error_response(&Refusal::NoSubprotocol.to_wire()));
    }
    if *shared.stopping.borrow() {
        return Ok(error_response(&Refusal::Stopping.to_wire()));
    }
    let accept =
        HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("base64 is a header value");
    // Mounted in another server there is no seat yet.
    let (seat, tasks) = match info {
        Some(info) => {
            if let Err(refusal) = address.map_or(Ok(()), |peer| info.seat.comes_from(peer.ip())) {
                shared.observed.limit_hit(refusal.limit());
                return Ok(error_response(&refusal.to_wire()));
            }
            info.patience.without_end();
            (info.seat, Some(info.tasks))
        }
        None => match shared.census.admit(address.map(|address| address.ip())) {
            Ok(seat) => (Arc::new(seat), None),
            Err(refusal) => {
                shared.observed.limit_hit(refusal.limit());
                return Ok(error_response(&refusal.to_wire()));
            }
        },
    };
    let headers = Arc::new(without_secrets(&headers));
    let session = SessionInfo {
        id: shared.observed.number(),
        protocol: if legacy { Spoken::Legacy.name() } else { Spoken::V1.name() },
        peer: address,
        headers: Arc::clone(&headers),
    };
    let session = match shared.life.connect(session).await {
        Ok(session) => session,
        Err(error) => return Ok(error_response(&error)),
    };
    let peer = Peer { address, headers, seat, session };
    let task = async move {
        match on_upgrade.await {
            Ok(upgraded) if legacy => {
                socket::run::<Legacy, _>(TokioIo::new(upgraded), shared, peer).await;
            }
            Ok(upgraded) => {
                socket::run::<Connection, _>(TokioIo::new(upgraded), shared, peer).await;
            }
            Err(error) => tracing::debug!(%error, "upgrade failed"),
        }
    };
    match tasks {
        Some(tasks) => tasks.spawn(task).await,
        None => drop(tokio::spawn(task)),
    }
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if !legacy {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(response)
}

/// Whether this is a nonce as RFC 6455 section 4.1 wants it: 16 bytes in base64.
fn is_key(key: &HeaderValue) -> bool {
    STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

/// Whether a header's comma-separated list has a token, in any case.
fn has_token(headers: &HeaderMap, name: &http::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
}

/// Headers for the authorizer, in memory of their own: the values of a request share its whole read
/// buffer, which would stay as long as the connection.
fn without_secrets(headers: &HeaderMap) -> HeaderMap {
    const SECRETS: [http::HeaderName; 3] = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE];
    let own = |value: &HeaderValue| {
        let mut own = HeaderValue::from_bytes(value.as_bytes()).ok()?;
        // Any other header may hold a token of the application's, which printing must not show.
        own.set_sensitive(true);
        Some(own)
    };
    let shown = headers.iter().filter(|(name, _)| !SECRETS.contains(name));
    shown.filter_map(|(name, value)| Some((name.clone(), own(value)?))).collect()
}

impl Origins {
    /// A browser always sends `Origin`; a request without it comes from another kind of program,
    /// which no page of another site can command.
    pub(super) fn allow(&self, headers: &HeaderMap, scheme: Option<Scheme>) -> bool {
        let Some(origin) = headers.get(ORIGIN) else { return true };
        if self.any {
            return true;
        }
        let Ok(origin) = origin.to_str() else { return false };
        if self.lists(headers) {
            return true;
        }
        let own = headers.get(HOST).and_then(|host| host.to_str().ok());
        let same_scheme = |of_page: &str| match scheme {
            // Whether a proxy in front speaks TLS is not known.
            None => true,
            Some(Scheme::Http) => of_page.eq_ignore_ascii_case("http"),
            Some(Scheme::Https) => of_page.eq_ignore_ascii_case("https"),
        };
        origin.split_once("://").zip(own).is_some_and(|((of_page, host), own)| {
            same_scheme(of_page) && host.eq_ignore_ascii_case(own)
        })
    }

    /// Whether the request's origin is one of the allowed ones by name.
    pub(super) fn lists(&self, headers: &HeaderMap) -> bool {
        let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
        origin.is_some_and(|origin| self.allowed.iter().any(|a| a.eq_ignore_ascii_case(origin)))
    }

    /// Whether the request was made to a name that is this gateway's: a page whose name was made to
    /// point to this machine names itself.
    pub(super) fn allow_host(&self, headers: &HeaderMap) -> bool {
        if !self.loopback_only {
            return true;
        }
        let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
            return false;
        };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let local_name = name.eq_ignore_ascii_case("localhost");
        local_name || address.is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_not_let_in() {
        let origins = Origins { allowed: vec!["https://app.example".into()], ..Origins::default() };
        let check_over = |scheme, origin: Option<&str>, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("gateway:5984"));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::try_from(origin).unwrap());
            }
            assert_eq!(origins.allow(&headers, scheme), expected, "{origin:?} {scheme:?}");
        };
        let check = |origin, expected| check_over(None, origin, expected);
        check_over(Some(Scheme::Https), Some("https://gateway:5984"), true);
        check_over(Some(Scheme::Https), Some("http://gateway:5984"), false);
        check_over(Some(Scheme::Http), Some("http://gateway:5984"), true);
        check_over(Some(Scheme::Http), Some("https://gateway:5984"), false);
        check_over(Some(Scheme::Http), Some("https://app.example"), true);
        check(None, true);
        check(Some("http://gateway:5984"), true);
        check(Some("https://app.example"), true);
        check(Some("http://app.example"), false);
        check(Some("https://evil.example"), false);
        check(Some("http://gateway:5984.evil.example"), false);
        check(Some("http://gateway"), false);
        check(Some("null"), false);
        check(Some(""), false);
    }
}
