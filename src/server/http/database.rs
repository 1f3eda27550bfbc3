//! A database as a whole: made, described, destroyed; and documents without an id.

use http::header::LOCATION;
use http::{Method, StatusCode};
use serde_json::json;

use crate::doc::DbName;
use crate::server::error::{HttpRefusal, ToWire as _, of_row};
use crate::server::observe::Act;
use crate::store::DatabaseInfo;

use super::admin::administered;
use super::answer::{Answer, json, ok, set};
use super::db::Db;
use super::document::{Written, write_one};
use super::request::Request;
use super::{only, reads};

pub(super) async fn route(request: Request, name: DbName) -> Answer {
    match &request.method {
        method if reads(method) => describe(Db::open(request, name).await?).await,
        &Method::PUT => create(request, name).await,
        &Method::DELETE => destroy(Db::open(request, name).await?).await,
        &Method::POST => post(Db::open(request, name).await?).await,
        _ => only("DELETE,GET,HEAD,POST,PUT"),
    }
}

async fn describe(db: Db) -> Answer {
    let info = db.database().info().await.map_err(|error| error.to_wire())?;
    let compacting = db.request.shared.compactions.runs(&info.name);
    let mut body = description(&info, compacting);
    if db.granted.grant.ephemeral {
        body["ephemeral"] = json!(true);
    }
    // Replicators begin anew when they are shown another part.
    if let Some(view) = db.granted.grant.view() {
        body["view"] = json!(view);
    }
    Ok(json(StatusCode::OK, &body))
}

/// CouchDB's description of a database. Its sizes are those of bodies: a store's file is shared by
/// all its databases.
pub(super) fn description(info: &DatabaseInfo, compacting: bool) -> serde_json::Value {
    let (file, active) = (info.body_bytes, info.leaf_bytes);
    json!({
        "db_name": info.name.to_string(),
        "doc_count": info.doc_count,
        "doc_del_count": info.deleted_count,
        "update_seq": info.update_seq.to_string(),
        "purge_seq": info.purge_seq,
        "compact_running": compacting,
        "sizes": {"file": file, "external": active, "active": active},
        "instance_start_time": "0",
        "disk_format_version": 8,
        "props": {},
        "cluster": {"q": 1, "n": 1, "w": 1, "r": 1},
        "uuid": info.incarnation.to_string(),
    })
}

async fn create(request: Request, name: DbName) -> Answer {
    let shared = &request.shared;
    let grant = request.judge(request.access(name.clone(), true)?).await?;
    if !grant.create {
        return Err(HttpRefusal::MayNotCreate.to_wire());
    }
    shared.create(&grant, &request.link).await?;
    request.link.did(&grant, Act::Administered { what: "create" });
    let mut response = json(StatusCode::CREATED, &ok());
    if let Some(location) = request.location(&[name.as_str()]) {
        set(&mut response, LOCATION, &location);
    }
    Ok(response)
}

async fn destroy(db: Db) -> Answer {
    db.granted.check_destroy()?;
    if db.request.query.text("rev").is_some() {
        // CouchDB's guard against a document's deletion without the document's id.
        return Err(crate::server::error::bad_request(
            "You tried to DELETE a database with a ?rev= parameter. Did you mean to DELETE a \
             document instead?",
        ));
    }
    let granted = db.writable()?;
    db.store().destroy(granted.database.name()).await.map_err(|error| error.to_wire())?;
    administered(&db, "destroy");
    Ok(json(StatusCode::OK, &ok()))
}

async fn post(mut db: Db) -> Answer {
    db.request.check_json()?;
    let text = db.text_body().await?;
    let written = write_one(&db, text).await?;
    written_answer(&db, &written, StatusCode::CREATED)
}

/// The answer to a write of one document.
pub(super) fn written_answer(db: &Db, written: &Written, status: StatusCode) -> Answer {
    if let Some(error) = of_row(&written.row) {
        return Err(error);
    }
    let id = &written.row.id;
    let rev = written.row.rev.as_deref().unwrap_or_default();
    let batch = db.request.query.text("batch") == Some("ok");
    let (status, body) = if batch {
        (StatusCode::ACCEPTED, json!({"ok": true, "id": id}))
    } else {
        (status, json!({"ok": true, "id": id, "rev": rev}))
    };
    let mut response = json(status, &body);
    set(&mut response, http::header::ETAG, &format!("\"{rev}\""));
    let name = db.database().name().as_str();
    let path: Vec<&str> = match id.split_once('/') {
        Some((kind @ ("_design" | "_local"), rest)) => vec![name, kind, rest],
        _ => vec![name, id],
    };
    if let Some(location) = db.request.location(&path) {
        set(&mut response, LOCATION, &location);
    }
    Ok(response)
}

/// `_ensure_full_commit`: every write that was answered is on disk already.
pub(super) async fn commit(mut db: Db) -> Answer {
    if db.request.method != Method::POST {
        return only("POST");
    }
    let _: serde_json::Value = db.json_body_if_any().await?;
    Ok(json(StatusCode::CREATED, &json!({"ok": true, "instance_start_time": "0"})))
}
