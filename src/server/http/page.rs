//! The page at `/_settee/`: a few files in the binary. They hold no data and are for everybody; what
//! they show they ask for under the credentials of whoever logged in, and they change nothing.

use http::StatusCode;
use http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, LOCATION, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use warp::reply::Response;

use crate::server::error::{Refusal, ToWire as _};

use super::answer::{Answer, set};
use super::request::Request;
use super::{only, reads};

/// Nothing but the gateway's own files and answers, and no text of a client can become a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'";

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Name, type and text of a file.
const FILES: &[(&str, &str, &str)] = &[
    ("", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("ask.js", "text/javascript; charset=utf-8", include_str!("page/ask.js")),
    ("make.js", "text/javascript; charset=utf-8", include_str!("page/make.js")),
    ("documents.js", "text/javascript; charset=utf-8", include_str!("page/documents.js")),
    ("tree.js", "text/javascript; charset=utf-8", include_str!("page/tree.js")),
];

/// A file by the path below `/_settee/`.
pub(super) fn file(request: &Request, name: &str) -> Answer {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    let (_, content_type, text) = found.ok_or_else(|| Refusal::NoRoute.to_wire())?;
    if !reads(&request.method) {
        return only("GET,HEAD");
    }
    if name.is_empty() && !request.ends_with_slash {
        return Ok(moved());
    }
    let mut response = Response::new((*text).into());
    set(&mut response, CONTENT_TYPE, content_type);
    set(&mut response, CONTENT_SECURITY_POLICY, POLICY);
    set(&mut response, REFERRER_POLICY, "no-referrer");
    set(&mut response, X_FRAME_OPTIONS, "DENY");
    set(&mut response, OPENER_POLICY, "same-origin");
    set(&mut response, http::header::CACHE_CONTROL, "no-cache");
    Ok(response)
}

/// The page names its files by where it is, as it may be behind a path of a proxy.
fn moved() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    set(&mut response, LOCATION, "_settee/");
    response
}
