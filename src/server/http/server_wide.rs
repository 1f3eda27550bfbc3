//! What is for no one database: the welcome, sessions, uuids, lists of databases.

use http::header::SET_COOKIE;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::doc::DbName;
use crate::proto::SUBPROTOCOL;
use crate::proto::message::WireError;
use crate::server::auth::{Credentials, DeniedKind, ServerGrant};
use crate::server::error::{HttpRefusal, Refusal, ToWire as _, bad_request};
use crate::server::opening::unwinding;
use crate::store::{StoreError, Uuid};

use super::all_docs::Paging;
use super::answer::{Answer, json, json_text, ok, set};
use super::request::{Request, parse_json};
use super::{NO_REPLICATOR, database, only, reads};

/// CouchDB's bound on `_uuids`.
const UUIDS_MAX: u64 = 1_000;

/// CouchDB's bound on `_dbs_info`.
const DBS_INFO_MAX: usize = 100;

/// The version of CouchDB whose API this is; clients compare it.
const COUCHDB_VERSION: &str = "3.5.0";

pub(super) async fn route(request: Request, path: &[&str]) -> Answer {
    match *path {
        ["_up"] => up(&request),
        ["_uuids"] => uuids(&request),
        ["_session"] => session(request).await,
        ["_all_dbs"] => all_dbs(request).await,
        ["_dbs_info"] => dbs_info(request).await,
        ["_db_updates"] => {
            if !reads(&request.method) {
                return only("GET,HEAD");
            }
            check_list(&request).await?;
            super::db_updates::answer(request)
        }
        ["_replicate" | "_scheduler" | "_active_tasks", ..] => {
            check_list(&request).await?;
            Err(HttpRefusal::NotImplemented { reason: NO_REPLICATOR }.to_wire())
        }
        ["_settee", "events"] => super::events::route(request).await,
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
    if *request.shared.stopping.borrow() {
        return Err(Refusal::Stopping.to_wire());
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
async fn judge(request: &Request) -> Result<ServerGrant, WireError> {
    judge_with(request, request.credentials()?).await
}

/// The same for credentials that came another way.
pub(super) async fn judge_with(
    request: &Request,
    credentials: Credentials,
) -> Result<ServerGrant, WireError> {
    let access = request.server_access_with(credentials);
    let judged = unwinding(request.shared.server_authorizer.authorize_server(access)).await;
    judged.map_err(|panicked| panicked.to_wire())?.map_err(|denied| denied.to_wire())
}

async fn check_list(request: &Request) -> Result<(), WireError> {
    let grant = judge(request).await?;
    if grant.list { Ok(()) } else { Err(HttpRefusal::MayNotList.to_wire()) }
}

async fn session(request: Request) -> Answer {
    match &request.method {
        method if reads(method) => tell_session(&request).await,
        &Method::POST => begin_session(request).await,
        &Method::DELETE => {
            if let Some(cookie) = request.session_cookie() {
                request.shared.sessions.end(cookie);
            }
            let mut response = json(StatusCode::OK, &ok());
            set(&mut response, SET_COOKIE, &request.shared.sessions.set_cookie(None));
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
        let name = grant.user.clone().or_else(|| shown_name(&request.credentials().ok()?));
        json!({"name": name, "roles": roles(&grant)})
    };
    Ok(json(StatusCode::OK, &json!({"ok": true, "userCtx": context, "info": info})))
}

fn shown_name(credentials: &Credentials) -> Option<String> {
    credentials["name"].as_str().map(str::to_owned)
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
    let credentials =
        Credentials::new(json!({"name": login.name.clone(), "password": login.password}));
    let access = request.server_access_with(credentials.clone());
    let judged = unwinding(request.shared.server_authorizer.authorize_server(access)).await;
    let grant =
        judged.map_err(|panicked| panicked.to_wire())?.map_err(|denied| match denied.kind {
            DeniedKind::Unauthorized => HttpRefusal::BadLogin.to_wire(),
            DeniedKind::Forbidden => denied.to_wire(),
        })?;
    let cookie = request.shared.sessions.begin(credentials);
    let name = grant.user.clone().unwrap_or(login.name);
    let body = json!({"ok": true, "name": name, "roles": roles(&grant)});
    let mut response = json(StatusCode::OK, &body);
    set(&mut response, SET_COOKIE, &request.shared.sessions.set_cookie(Some(&cookie)));
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
