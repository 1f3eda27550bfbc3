//! The JavaScript client as one module, for pages: `/_settee/client.js`, and under its version.

use std::sync::{Arc, LazyLock};

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, ORIGIN, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};
use warp::filters::BoxedFilter;
use warp::reply::{Reply as _, Response};
use warp::{Filter, Rejection};

use super::{Origins, Shared};

/// Built by `npm run build` in `client-js/`, of the same version as this crate.
const MODULE: &str = include_str!("../../client-js/dist/settee-client.js");

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Tells the version whatever the path.
const VERSION_HEADER: HeaderName = HeaderName::from_static("settee-client-version");

/// Asked for anew each time, since another version may be served later.
const CHANGING: HeaderValue = HeaderValue::from_static("no-cache");

/// A year, the longest that caches keep anything.
const FIXED: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// The module's digest: the same text has the same tag from every gateway.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = Sha256::digest(MODULE);
    let hex: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{hex}\"")).expect("hex digits are a header value")
});

/// Answers GET and HEAD for the module; lets every other request pass on to the next route.
pub(super) fn route(shared: &Arc<Shared>) -> BoxedFilter<(Response,)> {
    let shared = Arc::clone(shared);
    warp::path!("_settee" / String)
        .and(warp::get().or(warp::head()).unify())
        .and(warp::header::headers_cloned())
        .and_then(move |file: String, headers: HeaderMap| {
            let found = caching(&file).map(|caching| answer(&shared.origins, &headers, caching));
            async move { found.ok_or_else(warp::reject::not_found) as Result<Response, Rejection> }
        })
        .boxed()
}

fn caching(file: &str) -> Option<HeaderValue> {
    let versioned = file.strip_prefix("client-").and_then(|rest| rest.strip_suffix(".js"));
    match file {
        "client.js" => Some(CHANGING),
        _ => (versioned == Some(VERSION)).then_some(FIXED),
    }
}

fn answer(origins: &Origins, asked: &HeaderMap, caching: HeaderValue) -> Response {
    let mut response = if knows(asked) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        MODULE.into_response()
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8"));
    headers.insert(CACHE_CONTROL, caching);
    headers.insert(ETAG, TAG.clone());
    headers.insert(VERSION_HEADER, HeaderValue::from_static(VERSION));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    allow_reading(origins, asked, headers);
    response
}

/// A page of another origin may run the module if it may also connect.
fn allow_reading(origins: &Origins, asked: &HeaderMap, headers: &mut HeaderMap) {
    if origins.any {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        return;
    }
    // A cache must not show one origin's answer to another.
    headers.insert(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = asked.get(ORIGIN).filter(|_| origins.allow(asked, None)) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

/// Whether the asker has this very text, by RFC 9110 section 13.1.2.
fn knows(asked: &HeaderMap) -> bool {
    let lists = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let tag = TAG.to_str().expect("hex digits are text");
    lists
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}
