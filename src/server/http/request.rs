//! One request: its path in pieces, its query, its credentials, its body in bounded memory.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use futures::{Stream, StreamExt as _};
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, IF_MATCH,
};
use http::{HeaderMap, HeaderName, Method};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::doc::DbName;
use crate::proto::message::WireError;
use crate::server::Shared;
use crate::server::auth::{AccessRequest, Credentials, Grant, ServerRequest};
use crate::server::bounds::Held;
use crate::server::census::Seat;
use crate::server::error::{HttpRefusal, ToWire as _, bad_request};
use crate::server::net::Scheme;
use crate::server::observe::Link;

use super::gzip::Gunzip;
use super::query::{Query, decode};
use super::session::COOKIE_NAME;

/// The bytes of a body as they come.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, WireError>> + Send>>;

/// A request before its database is open.
pub(super) struct Request {
    pub shared: Arc<Shared>,
    pub method: Method,
    /// The path's pieces between slashes, decoded; an id keeps the slashes it was encoded with.
    pub path: Vec<String>,
    /// Whether the path ended with one slash more.
    pub ends_with_slash: bool,
    pub query: Query,
    pub headers: HeaderMap,
    /// The headers without secrets, for the authorizer.
    pub shown_headers: Arc<HeaderMap>,
    pub peer: Option<SocketAddr>,
    pub scheme: Option<Scheme>,
    pub seat: Arc<Seat>,
    /// The room in memory that the body takes, for as long as the request lasts.
    held: Held,
    pub link: Arc<Link>,
    /// In a mutex that is never locked, so that a request can be shared.
    body: Mutex<Option<Pieces>>,
}

/// What a request is made of.
pub(crate) struct Parts<'a> {
    pub method: Method,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: HeaderMap,
    pub shown_headers: HeaderMap,
    pub peer: Option<SocketAddr>,
    pub scheme: Option<Scheme>,
    pub seat: Arc<Seat>,
    pub link: Arc<Link>,
}

impl Request {
    pub(super) fn new<S, B, E>(
        shared: &Arc<Shared>,
        parts: Parts<'_>,
        body: S,
    ) -> Result<Self, WireError>
    where
        S: Stream<Item = Result<B, E>> + Send + 'static,
        B: Buf,
    {
        let limits = &shared.limits;
        let path = parts.path.strip_prefix('/').unwrap_or(parts.path);
        let ends_with_slash = path.ends_with('/');
        let path = path.strip_suffix('/').unwrap_or(path);
        let path = if path.is_empty() {
            Vec::new()
        } else {
            path.split('/').map(decode).collect::<Result<_, _>>()?
        };
        let stall = Duration::from_millis(limits.request_body_stall_timeout_ms);
        let body = paced(body, stall);
        let body: Pieces = match text_of(&parts.headers, &CONTENT_ENCODING)?.map(str::trim) {
            None => Box::pin(body),
            Some(name) if name.eq_ignore_ascii_case("identity") => Box::pin(body),
            Some(name) if name.eq_ignore_ascii_case("gzip") => Box::pin(Gunzip::pieces(body)),
            Some(_) => return Err(HttpRefusal::ContentEncoding.to_wire()),
        };
        Ok(Self {
            shared: Arc::clone(shared),
            method: parts.method,
            path,
            ends_with_slash,
            query: Query::parse(parts.query)?,
            headers: parts.headers,
            shown_headers: Arc::new(parts.shown_headers),
            peer: parts.peer,
            scheme: parts.scheme,
            seat: parts.seat,
            held: Held::default(),
            link: parts.link,
            body: Mutex::new(Some(body)),
        })
    }

    /// A header that occurs once at most, as text.
    pub(super) fn header(&self, name: &HeaderName) -> Result<Option<&str>, WireError> {
        text_of(&self.headers, name)
    }

    /// The media type of the body, without its parameters, in lower case.
    pub(super) fn media_type(&self) -> Result<Option<String>, WireError> {
        let value = self.header(&CONTENT_TYPE)?;
        Ok(value.map(|value| value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase()))
    }

    /// Refuses a body that a page of another site could send without asking first.
    pub(super) fn check_json(&self) -> Result<(), WireError> {
        match self.media_type()?.as_deref() {
            Some("application/json") => Ok(()),
            _ => Err(HttpRefusal::NotJson.to_wire()),
        }
    }

    /// Takes the body to be read as it comes.
    pub(super) fn take_body(&mut self) -> Pieces {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        body.unwrap_or_else(|| Box::pin(futures::stream::empty()))
    }

    /// The whole body as text.
    pub(super) async fn text_body(&mut self) -> Result<String, WireError> {
        self.text_body_of(self.shared.limits.request_json_bytes_max).await
    }

    /// The same with a bound of its own.
    pub(super) async fn text_body_of(&mut self, max: usize) -> Result<String, WireError> {
        let announced = self.header(&CONTENT_LENGTH)?.and_then(|length| length.parse().ok());
        if announced.is_some_and(|length: u64| length > max as u64) {
            return Err(HttpRefusal::BodyTooLarge { max }.to_wire());
        }
        let mut body = self.take_body();
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            let piece = piece?;
            let length = bytes.len() + piece.len();
            if length > max {
                return Err(HttpRefusal::BodyTooLarge { max }.to_wire());
            }
            self.hold(length)?;
            bytes.extend_from_slice(&piece);
        }
        String::from_utf8(bytes).map_err(|_| HttpRefusal::InvalidJson.to_wire())
    }

    /// Takes room in memory for a body of so many bytes, until the request is answered.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), WireError> {
        self.shared.memory.grow(&mut self.held, bytes).map_err(|refusal| refusal.to_wire())
    }

    /// The whole body as JSON of a POST.
    pub(super) async fn json_body<T: DeserializeOwned>(&mut self) -> Result<T, WireError> {
        self.check_json()?;
        let text = self.text_body().await?;
        parse_json(&text)
    }

    /// The body of a POST that has nothing to say, or an object.
    pub(super) async fn json_body_if_any<T: DeserializeOwned + Default>(
        &mut self,
    ) -> Result<T, WireError> {
        self.check_json()?;
        let text = self.text_body().await?;
        if text.trim().is_empty() { Ok(T::default()) } else { parse_json(&text) }
    }

    /// The revision that `rev` or `If-Match` names.
    pub(super) fn rev(&self) -> Result<Option<String>, WireError> {
        let header = self.header(&IF_MATCH)?.map(|tag| tag.trim().trim_matches('"').to_owned());
        let header = header.filter(|tag| !tag.is_empty());
        match (self.query.text("rev"), header) {
            (Some(query), Some(header)) if query != header => {
                Err(bad_request("Document rev and etag have different values"))
            }
            (Some(query), _) => Ok(Some(query.to_owned())),
            (None, header) => Ok(header),
        }
    }

    /// Whether the client says that it takes this, and before anything else of the list.
    pub(super) fn accepts_first(&self, wanted: &[&str], others: &[&str]) -> bool {
        let Ok(Some(accept)) = self.header(&ACCEPT) else { return false };
        let types = accept.split(',').map(|t| t.split(';').next().unwrap_or(t).trim());
        for media_type in types {
            if wanted.iter().any(|wanted| media_type.eq_ignore_ascii_case(wanted)) {
                return true;
            }
            if others.iter().any(|other| media_type.eq_ignore_ascii_case(other)) {
                return false;
            }
        }
        false
    }

    pub(super) fn access(
        &self,
        database: DbName,
        create: bool,
    ) -> Result<AccessRequest, WireError> {
        Ok(AccessRequest {
            credentials: self.credentials()?,
            database,
            create,
            peer: self.peer,
            headers: Arc::clone(&self.shown_headers),
        })
    }

    /// Asks the authorizer, and counts the request for the user it names.
    pub(super) async fn judge(&self, access: AccessRequest) -> Result<Grant, WireError> {
        let grant = self.shared.judge(access, &self.seat).await?;
        self.count_for(grant.user_name())?;
        Ok(grant)
    }

    /// Counts the request for a user.
    pub(super) fn count_for(&self, user: Option<&str>) -> Result<(), WireError> {
        self.shared.requests.of(user).map_err(|refusal| refusal.to_wire())
    }

    pub(super) fn server_access(&self) -> Result<ServerRequest, WireError> {
        Ok(self.server_access_with(self.credentials()?))
    }

    pub(super) fn server_access_with(&self, credentials: Credentials) -> ServerRequest {
        ServerRequest { credentials, peer: self.peer, headers: Arc::clone(&self.shown_headers) }
    }

    /// What the client shows: `Basic`, `Bearer`, or a session's cookie; `null` for none of them.
    pub(super) fn credentials(&self) -> Result<Credentials, WireError> {
        if let Some(header) = self.header(&AUTHORIZATION)? {
            return Ok(Credentials::new(authorization(header)?));
        }
        match self.session_cookie() {
            None => Ok(Credentials::new(Value::Null)),
            Some(cookie) => {
                let session = self.shared.sessions.find(cookie);
                session.ok_or_else(|| HttpRefusal::SessionEnded.to_wire())
            }
        }
    }

    /// The value of the session's cookie, if it is not empty.
    pub(super) fn session_cookie(&self) -> Option<&str> {
        let cookies = self.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|value| value.split(';')).map(str::trim);
        let value = pairs.find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            (name == COOKIE_NAME).then_some(value.trim().trim_matches('"'))
        });
        value.filter(|value| !value.is_empty())
    }

    /// Whether the client is known to have come over TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.scheme == Some(Scheme::Https)
    }

    /// The address of something on this server, as `Location` names it.
    pub(super) fn location(&self, path: &[&str]) -> Option<String> {
        let host = self.header(&HOST).ok().flatten()?;
        let scheme = if self.is_secure() { "https" } else { "http" };
        let mut address = format!("{scheme}://{host}");
        for piece in path {
            address.push('/');
            address.extend(percent_encoding::utf8_percent_encode(piece, PLAIN));
        }
        Some(address)
    }
}

/// What stays as it is in a piece of an address (RFC 3986, unreserved).
const PLAIN: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, WireError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad_request(format!("the header {name} must not occur twice")));
    }
    let text = std::str::from_utf8(value.as_bytes());
    text.map(Some).map_err(|_| bad_request(format!("the header {name} must be UTF-8")))
}

/// Credentials of an `Authorization` header, in the shape that authorizers know.
fn authorization(header: &str) -> Result<Value, WireError> {
    let malformed = || HttpRefusal::BadAuthorization.to_wire();
    let (scheme, rest) = header.trim().split_once(' ').ok_or_else(malformed)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
        return Ok(json!({"token": rest}));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = STANDARD.decode(rest).map_err(|_| malformed())?;
        let text = String::from_utf8(decoded).map_err(|_| malformed())?;
        let (name, password) = text.split_once(':').ok_or_else(malformed)?;
        return Ok(json!({"name": name, "password": password}));
    }
    Err(malformed())
}

/// Reads an object: a list, which serde would take for one, is refused.
pub(super) fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T, WireError> {
    if text.trim_start().starts_with('[') {
        return Err(bad_request("Request body must be a JSON object"));
    }
    serde_json::from_str(text).map_err(|problem| match problem.classify() {
        serde_json::error::Category::Data => crate::server::error::bad_params("body", &problem),
        _ => HttpRefusal::InvalidJson.to_wire(),
    })
}

/// A body whose sender must not fall silent.
fn paced<S, B, E>(
    body: S,
    stall: Duration,
) -> impl Stream<Item = Result<Bytes, WireError>> + Send + 'static
where
    S: Stream<Item = Result<B, E>> + Send + 'static,
    B: Buf,
{
    futures::stream::unfold(Some(Box::pin(body)), move |body| async move {
        let mut body = body?;
        match timeout(stall, body.next()).await {
            Err(_) => Some((Err(HttpRefusal::BodyStalled.to_wire()), None)),
            Ok(None) => None,
            Ok(Some(Err(_))) => Some((Err(HttpRefusal::BodyCut.to_wire()), None)),
            Ok(Some(Ok(mut piece))) => {
                let bytes = piece.copy_to_bytes(piece.remaining());
                Some((Ok(bytes), Some(body)))
            }
        }
    })
}
