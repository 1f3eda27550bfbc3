//! CouchDB's HTTP API: the same databases under the same grants as the WebSocket.
//!
//! A request is taken apart, its path chooses a resource, and the resource opens the database with
//! the request's credentials before it does anything: there is no way to a [`Database`] but through
//! [`Db::open`], so a route that is added is closed until the authorizer opens it. The paths that
//! need no grant are `/`, `/_up`, `/_uuids` and `/_session`.
//!
//! [`Database`]: crate::store::Database

mod admin;
mod all_docs;
mod answer;
mod attachment;
mod backup;
mod bulk;
mod changes;
mod cors;
mod database;
mod db;
mod db_updates;
mod document;
mod events;
mod find;
mod gzip;
mod local;
mod multipart;
mod observed;
mod ops;
mod page;
mod patch;
mod pattern;
mod query;
mod replicate;
mod request;
mod server_wide;
mod session;
mod shown;

use std::sync::Arc;
use std::time::Instant;

use bytes::Buf;
use futures::Stream;
use http::Method;
use http::header::{ALLOW, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use warp::reply::Response;

use crate::doc::DbName;
use crate::proto::message::WireError;

pub(crate) use admin::Compactions;
pub(crate) use backup::Backups;
pub(crate) use db_updates::DbLog;
pub(crate) use session::Sessions;

use super::Shared;
use super::error::{HttpRefusal, Refusal, ToWire as _};
use answer::{Answer, set};
use db::Db;
pub(crate) use request::Parts;
use request::Request;

/// Why nothing is answered that would need to run JavaScript.
const NO_JAVASCRIPT: &str = "this server runs no JavaScript: design documents are stored and \
    replicated, and not executed. Use _all_docs, or _changes with the filters _doc_ids, _selector \
    or _design";

/// Answers a request.
pub(super) async fn answer<S, B, E>(shared: Arc<Shared>, parts: Parts<'_>, body: S) -> Response
where
    S: Stream<Item = Result<B, E>> + Send + 'static,
    B: Buf,
{
    let checked = cors::check(&shared.origins, &parts.method, &parts.headers, parts.scheme);
    let cross_origin = match checked {
        Ok(cors::Checked::Pass(headers)) => headers,
        Ok(cors::Checked::Preflight(response)) => return response,
        Err(error) => return refused(&error),
    };
    let (began, link, method) = (Instant::now(), Arc::clone(&parts.link), parts.method.clone());
    let mut asked_for: Option<Vec<String>> = None;
    let welcome = shared.requests.from(parts.peer.map(|peer| peer.ip()));
    let request = welcome.map_err(|refusal| refusal.to_wire());
    let answered = match request.and_then(|()| Request::new(&shared, parts, body)) {
        Ok(request) => {
            asked_for = Some(request.path.clone());
            if shared.is_stopping() && request.path != ["_up"] {
                Err(Refusal::Stopping.to_wire())
            } else {
                route(request).await
            }
        }
        Err(error) => Err(error),
    };
    let mut response = answered.unwrap_or_else(|error| {
        let name = asked_for.as_ref().and_then(|path| path.first());
        let database = name.and_then(|name| DbName::parse(name).ok());
        link.refused(database.as_ref(), &error);
        refused(&error)
    });
    let route = asked_for.as_deref().map_or("other", pattern::of);
    link.answered(method.as_str(), route, response.status().as_u16(), began.elapsed());
    let headers = response.headers_mut();
    headers.extend(cross_origin);
    headers.entry(CACHE_CONTROL).or_insert(http::HeaderValue::from_static("must-revalidate"));
    set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

fn refused(error: &WireError) -> Response {
    let mut response = super::routes::error_response(error);
    if let Some(allowed) = super::error::allowed_methods(error) {
        set(&mut response, ALLOW, allowed);
    }
    response
}

async fn route(request: Request) -> Answer {
    let path: Vec<String> = request.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match *path.as_slice() {
        [] => server_wide::welcome(&request),
        [name, ..] if name.starts_with('_') => server_wide::route(request, &path).await,
        [name, ref rest @ ..] => {
            let name = DbName::parse(name).map_err(|error| error.to_wire())?;
            in_database(request, name, rest).await
        }
    }
}

/// What is below a database.
async fn in_database(request: Request, name: DbName, rest: &[&str]) -> Answer {
    match *rest {
        [] => database::route(request, name).await,
        ["_all_docs"] => all_docs::route(Db::open(request, name).await?).await,
        ["_all_docs", "queries"] => all_docs::queries(Db::open(request, name).await?).await,
        ["_design_docs"] => all_docs::design_docs(Db::open(request, name).await?).await,
        ["_local_docs"] => local::list(Db::open(request, name).await?).await,
        ["_bulk_docs"] => bulk::bulk_docs(Db::open(request, name).await?).await,
        ["_bulk_get"] => bulk::bulk_get(Db::open(request, name).await?).await,
        ["_revs_diff"] => bulk::revs_diff(Db::open(request, name).await?).await,
        ["_missing_revs"] => bulk::missing_revs(Db::open(request, name).await?).await,
        ["_changes"] => changes::route(Db::open(request, name).await?).await,
        ["_ensure_full_commit"] => database::commit(Db::open(request, name).await?).await,
        ["_security"] => admin::security(Db::open(request, name).await?).await,
        ["_revs_limit"] => admin::revs_limit(Db::open(request, name).await?).await,
        ["_purge"] => admin::purge(Db::open(request, name).await?).await,
        ["_compact"] => admin::compact(Db::open(request, name).await?).await,
        ["_view_cleanup"] => admin::view_cleanup(Db::open(request, name).await?).await,
        ["_compact", _] => admin::nothing_to_do(Db::open(request, name).await?).await,
        ["_find"] => find::find(Db::open(request, name).await?).await,
        ["_explain"] => find::explain(Db::open(request, name).await?).await,
        ["_index"] => find::index_route(Db::open(request, name).await?).await,
        ["_index", "_bulk_delete"] => find::bulk_delete(Db::open(request, name).await?).await,
        ["_index", ddoc, kind, index] | ["_index", "_design", ddoc, kind, index] => {
            find::delete(Db::open(request, name).await?, ddoc, kind, index).await
        }
        ["_local", id] => local::route(Db::open(request, name).await?, id).await,
        ["_local", _, ..] => {
            drop(Db::open(request, name).await?);
            Err(HttpRefusal::LocalAttachment.to_wire())
        }
        ["_design", _, "_view" | "_show" | "_list" | "_update" | "_rewrite" | "_info", ..]
        | ["_temp_view", ..] => {
            drop(Db::open(request, name).await?);
            Err(HttpRefusal::NotImplemented { reason: NO_JAVASCRIPT }.to_wire())
        }
        [id, ..] if is_unknown(id) && request.method != Method::PUT => {
            drop(Db::open(request, name).await?);
            Err(Refusal::NoRoute.to_wire())
        }
        [id, "_ops"] if !id.starts_with('_') => {
            ops::route(Db::open(request, name).await?, id).await
        }
        ["_design", id, ref attachment @ ..] => {
            document_or_attachment(request, name, &format!("_design/{id}"), attachment).await
        }
        [id, ref attachment @ ..] => match id.strip_prefix("_local/") {
            Some(id) if attachment.is_empty() => {
                local::route(Db::open(request, name).await?, id).await
            }
            Some(_) => {
                drop(Db::open(request, name).await?);
                Err(HttpRefusal::LocalAttachment.to_wire())
            }
            None => document_or_attachment(request, name, id, attachment).await,
        },
    }
}

async fn document_or_attachment(
    request: Request,
    name: DbName,
    id: &str,
    attachment: &[&str],
) -> Answer {
    let db = Db::open(request, name).await?;
    let id = db.doc_id(id)?;
    if attachment.is_empty() {
        document::route(db, id).await
    } else {
        attachment::route(db, id, attachment.join("/")).await
    }
}

/// Whether this begins as an address of the server's own, and is none.
fn is_unknown(piece: &str) -> bool {
    let known = piece == "_design" || piece.starts_with("_design/") || piece.starts_with("_local/");
    piece.starts_with('_') && !known
}

/// Refuses a method that is not for this address.
fn only<T>(allowed: &'static str) -> Result<T, WireError> {
    Err(HttpRefusal::Method { allowed }.to_wire())
}

/// Whether a request reads: HEAD is answered as GET, and its body is left out by the connection.
fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}
