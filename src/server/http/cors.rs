//! Pages: which may ask, and what their browsers need to hear.
//!
//! A request with a foreign `Origin` is refused whatever its method: what a page of another site
//! can make a browser send must not even be looked at. Credentials are allowed for origins of the
//! list, never for `any`.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use warp::reply::{Reply as _, Response};

use crate::proto::message::WireError;
use crate::server::Origins;
use crate::server::error::{Refusal, ToWire as _};
use crate::server::net::Scheme;

const METHODS: HeaderValue =
    HeaderValue::from_static("GET, PUT, POST, PATCH, HEAD, DELETE, COPY, OPTIONS");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "accept, authorization, content-type, destination, if-match, if-none-match, last-event-id, \
     origin, range, x-requested-with",
);
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "content-type, cache-control, accept-ranges, content-range, etag, location, server",
);
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("600");

pub(super) enum Checked {
    /// Goes on; these headers belong to the answer.
    Pass(HeaderMap),
    /// A browser asked what it may do.
    Preflight(Response),
}

pub(super) fn check(
    origins: &Origins,
    method: &Method,
    headers: &HeaderMap,
    scheme: Option<Scheme>,
) -> Result<Checked, WireError> {
    if !origins.allow_host(headers) {
        return Err(Refusal::Host.to_wire());
    }
    if !origins.allow(headers, scheme) {
        return Err(Refusal::Origin.to_wire());
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(Checked::Pass(HeaderMap::new())) };
    let mut answer = HeaderMap::new();
    if origins.lists(headers) {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        answer.insert(VARY, HeaderValue::from_static("Origin"));
    } else if origins.any {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
    if *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        answer.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
        answer.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
        let mut response = StatusCode::NO_CONTENT.into_response();
        response.headers_mut().extend(answer);
        return Ok(Checked::Preflight(response));
    }
    Ok(Checked::Pass(answer))
}
