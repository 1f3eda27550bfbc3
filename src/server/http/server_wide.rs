//! What is for no one database: the welcome, sessions, uuids, lists of databases.

use std::time::Duration;

use http::header::SET_COOKIE;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::doc::DbName;
use crate::proto::SUBPROTOCOL;
use crate::proto::message::WireError;
use crate::server::auth::{Credentials, DeniedKind, ServerGrant};
use crate::server::error::{HttpRefusal, NOT_UP, Refusal, ToWire as _, bad_request};
use crate::server::observe::Act;
use crate::server::revocation::{Revocation, Revoked};
use crate::server::server_feed::ServerRight;
use crate::store::{StoreError, Uuid};

use super::all_docs::Paging;
use super::answer::{Answer, json, json_text, ok, set};
use super::request::{Request, parse_json};
use super::{database, observed, only, page, reads, replicate};

/// CouchDB's bound on `_uuids`.
const UUIDS_MAX: u64 = 1_000;

/// CouchDB's bound on `_dbs_info`.
const DBS_INFO_MAX: usize = 100;

/// The version of CouchDB whose API this is; clients compare it.
const COUCHDB_VERSION: &str = "3.5.0";

pub(super) async fn route(request: Request, path: &[&str]) -> Answer {
    match *path {
        ["_up"] => up(&request),
        ["_metrics"] => observed::metrics(request).await,
        ["_settee", "status"] => observed::status(request).await,
        ["_settee"] => page::file(&request, ""),
        ["_settee", "grants"] => grants(request).await,
        ["_settee", "events"] => super::events::route(request).await,
        ["_settee", "backup"] => super::backup::answer(request).await,
        ["_settee", file] => page::file(&request, file),
        ["_uuids"] => uuids(&request),
        ["_session"] => session(request).await,
        ["_all_dbs"] => all_dbs(request).await,
        ["_dbs_info"] => dbs_info(request).await,
        ["_db_updates"] => {
            if !reads(&request.method) {
                return only("GET,HEAD");
            }
            let access = request.server_access()?;
            let feed = request.shared.begin_feed(access, ServerRight::List).await?;
            request.count_for(feed.with_grant(|grant| grant.user.clone()).as_deref())?;
            super::db_updates::answer(request, feed)
        }
        ["_replicate"] => replicate::replicate(request).await,
        ["_scheduler", ref rest @ ..] => replicate::scheduler(request, rest).await,
        ["_active_tasks"] => replicate::active_tasks(request).await,
        _ => Err(Refusal::NoRoute.to_wire()),
    }
}

pub(super) fn welcome(request: &Request) -> Answer {
    if !reads(&request.method) {
        return only("GET,HEAD");
    }
    let body = json!({
        "couchdb": "Welcome",
        "version": COUCHDB_VERSION,
        "uuid": request.shared.store.uuid().to_string(),
        "features": [SUBPROTOCOL],
        "vendor": {"name": "Settee", "version": env!("CARGO_PKG_VERSION")},
    });
    Ok(json(StatusCode::OK, &body))
}

fn up(request: &Request) -> Answer {
    if !reads(&request.method) {
        return only("GET,HEAD");
    }
    let shared = &request.shared;
    if shared.is_stopping() || shared.store.stats().backend.poisoned {
        let (status, body) = NOT_UP;
        let status = StatusCode::from_u16(status).expect("the table holds statuses");
        return Ok(json_text(status, body.to_owned()));
    }
    Ok(json(StatusCode::OK, &json!({"status": "ok", "seeds": {}})))
}

fn uuids(request: &Request) -> Answer {
    if !reads(&request.method) {
        return only("GET,HEAD");
    }
    let count = request.query.count("count")?.unwrap_or(1);
    if count > UUIDS_MAX {
        return Err(HttpRefusal::TooManyUuids { max: UUIDS_MAX }.to_wire());
    }
    let one = |_| Uuid::random().expect("the system has randomness once it has booted").to_string();
    let uuids: Vec<String> = (0..count).map(one).collect();
    let mut response = json(StatusCode::OK, &json!({"uuids": uuids}));
    set(&mut response, http::header::CACHE_CONTROL, "must-revalidate, no-cache");
    Ok(response)
}

/// Asks the server's authorizer.
pub(super) async fn judge(request: &Request) -> Result<ServerGrant, WireError> {
    judge_with(request, request.credentials()?).await
}

/// The same for credentials that came another way.
pub(super) async fn judge_with(
    request: &Request,
    credentials: Credentials,
) -> Result<ServerGrant, WireError> {
    let judged = request.shared.judge_server(request.server_access_with(credentials)).await?;
    let grant = judged.map_err(|denied| denied.to_wire())?;
    request.count_for(grant.user.as_deref())?;
    Ok(grant)
}

async fn check_list(request: &Request) -> Result<(), WireError> {
    let access = request.server_access()?;
    let grant = request.shared.judge_right(access, ServerRight::List).await?;
    request.count_for(grant.user.as_deref())
}

/// `DELETE /_settee/grants`: takes back grants by user, token and database.
async fn grants(request: Request) -> Answer {
    if request.method != Method::DELETE {
        return only("DELETE");
    }
    if !judge(&request).await?.administer {
        return Err(HttpRefusal::MayNotAdministerServer.to_wire());
    }
    // A name that is misspelled would revoke more than was meant.
    request.query.only(&["user", "token", "database", "reason", "block_s"])?;
    let text = |name: &str| request.query.text(name).map(str::to_owned);
    let database = request.query.text("database").map(DbName::parse).transpose();
    let revocation = Revocation {
        user: text("user"),
        token: text("token"),
        database: database.map_err(|error| error.to_wire())?,
        reason: text("reason").unwrap_or_else(|| "access was revoked".to_owned()),
        block: request.query.count("block_s")?.map(Duration::from_secs),
    };
    if revocation.user.is_none() && revocation.token.is_none() && revocation.database.is_none() {
        return Err(bad_request("name a user, a token or a database"));
    }
    let Revoked { channels, feeds, sessions, identities } = request.shared.revoke(&revocation)?;
    let (user, token) = (&revocation.user, &revocation.token);
    tracing::info!(?user, ?token, database = ?revocation.database, channels, feeds, sessions, identities, "revoked");
    let body = json!({
        "ok": true, "channels": channels, "feeds": feeds, "sessions": sessions,
        "identities": identities,
    });
    Ok(json(StatusCode::OK, &body))
}

async fn session(request: Request) -> Answer {
    match &request.method {
        method if reads(method) => tell_session(&request).await,
        &Method::POST => begin_session(request).await,
        &Method::DELETE => {
            let ended = |cookie| request.shared.sessions.end(cookie);
            if request.session_cookie().is_some_and(ended) {
                request.link.tell(None, None, Act::SessionEnded);
            }
            let mut response = json(StatusCode::OK, &ok());
            set(
                &mut response,
                SET_COOKIE,
                &request.shared.sessions.set_cookie(None, request.is_secure()),
            );
            Ok(response)
        }
        _ => only("DELETE,GET,HEAD,POST"),
    }
}

fn roles(grant: &ServerGrant) -> Vec<&'static str> {
    if grant.list { vec!["_admin"] } else { Vec::new() }
}

async fn tell_session(request: &Request) -> Answer {
    let mut info = json!({"authentication_handlers": ["cookie", "default"]});
    let context = if request.credentials()?.value().is_null() {
        json!({"name": null, "roles": []})
    } else {
        let grant = judge(request).await?;
        let cookie = request.header(&http::header::AUTHORIZATION)?.is_none();
        info["authenticated"] = json!(if cookie { "cookie" } else { "default" });
        json!({"name": grant.user, "roles": roles(&grant)})
    };
    Ok(json(StatusCode::OK, &json!({"ok": true, "userCtx": context, "info": info})))
}

#[derive(Deserialize)]
struct Login {
    #[serde(alias = "username")]
    name: String,
    password: String,
}

async fn begin_session(mut request: Request) -> Answer {
    let media_type = request.media_type()?;
    let text = request.text_body().await?;
    let login: Login = match media_type.as_deref() {
        Some("application/json") => parse_json(&text)?,
        Some("application/x-www-form-urlencoded") => {
            let form = super::query::Query::parse(&text)?;
            let field = |name: &str| form.text(name).map(str::to_owned);
            let missing = || bad_request("request body must contain a username and a password");
            Login {
                name: field("name").or_else(|| field("username")).ok_or_else(missing)?,
                password: field("password").ok_or_else(missing)?,
            }
        }
        _ => {
            return Err(HttpRefusal::NotJson.to_wire());
        }
    };
    let credentials = Credentials::new(json!({"name": login.name, "password": login.password}));
    let access = request.server_access_with(credentials.clone());
    let judged = request.shared.judge_server(access).await?;
    let grant = judged.map_err(|denied| match denied.kind {
        DeniedKind::Unauthorized => HttpRefusal::BadLogin.to_wire(),
        DeniedKind::Forbidden | DeniedKind::Unavailable => denied.to_wire(),
    })?;
    request.count_for(grant.user.as_deref())?;
    let cookie = request.shared.sessions.begin(credentials, &grant);
    // A name that was shown may be anybody's: a token counts as the password of any.
    let name = grant.user.as_deref();
    request.link.tell(name, None, Act::SessionBegun);
    let body = json!({"ok": true, "name": name, "roles": roles(&grant)});
    let mut response = json(StatusCode::OK, &body);
    let cookie = request.shared.sessions.set_cookie(Some(&cookie), request.is_secure());
    set(&mut response, SET_COOKIE, &cookie);
    Ok(response)
}

async fn all_dbs(request: Request) -> Answer {
    if !reads(&request.method) {
        return only("GET,HEAD");
    }
    check_list(&request).await?;
    let names = names(&request).await?;
    Ok(json_text(StatusCode::OK, json!(names).to_string()))
}

/// Names of databases, in pages of the store's, as far as the query wants them.
async fn names(request: &Request) -> Result<Vec<String>, WireError> {
    const PAGE_NAMES: usize = 1_000;
    let paging = Paging::of_query(&request.query)?;
    let (range, mut skip, mut left) = (paging.local_range()?, paging.skip, paging.limit);
    let (mut found, mut after): (Vec<String>, Option<DbName>) = (Vec::new(), None);
    while left > 0 {
        let page = request.shared.store.names(after.as_ref(), PAGE_NAMES).await;
        let page = page.map_err(|error| error.to_wire())?;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        for name in page.iter().filter(|name| range.contains(name.as_str())) {
            if skip > 0 {
                skip -= 1;
            } else if left > 0 {
                left -= 1;
                found.push(name.to_string());
            }
        }
    }
    Ok(found)
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

/// `_dbs_info`: of the databases named, or of all of them.
async fn dbs_info(mut request: Request) -> Answer {
    let wanted = match &request.method {
        method if reads(method) => {
            check_list(&request).await?;
            names(&request).await?
        }
        &Method::POST => {
            check_list(&request).await?;
            let Keys { keys } = request.json_body().await?;
            if keys.len() > DBS_INFO_MAX {
                let (count, max) = (keys.len() as u64, DBS_INFO_MAX as u64);
                return Err(StoreError::TooLarge { what: "keys", count, max }.to_wire());
            }
            keys
        }
        _ => return only("GET,HEAD,POST"),
    };
    let mut rows = Vec::with_capacity(wanted.len());
    for key in wanted {
        let mut row = json!({"key": key});
        match info_of(&request, &key).await? {
            Some(info) => row["info"] = info,
            None => row["error"] = json!("not_found"),
        }
        rows.push(row);
    }
    Ok(json(StatusCode::OK, &Value::Array(rows)))
}

async fn info_of(request: &Request, name: &str) -> Result<Option<Value>, WireError> {
    let Ok(name) = DbName::parse(name) else { return Ok(None) };
    let info = async { request.shared.store.database(&name).await?.info().await };
    match info.await {
        Ok(info) => {
            let compacting = request.shared.compactions.runs(&name);
            Ok(Some(database::description(&info, compacting)))
        }
        Err(StoreError::DatabaseMissing { .. } | StoreError::DatabaseDestroyed { .. }) => Ok(None),
        Err(error) => Err(error.to_wire()),
    }
}
