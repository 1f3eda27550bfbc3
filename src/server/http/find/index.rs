//! `_index`: indexes are design documents, and are written as these are.

use http::{Method, StatusCode};
use serde_json::json;

use crate::doc::{AnyDocument, DocId, Document};
use crate::proto::message::WireError;
use crate::server::error::find::FindRefusal;
use crate::server::error::{self, Refusal, ToWire as _};
use crate::store::{DocError, EditMode, GetOptions, Index, StoreError};

use super::super::answer::{Answer, json, json_text, ok};
use super::super::db::Db;
use super::super::{only, reads};
use super::explain::Shown;
use super::request::{Members, new_index};

/// How often a design document is written again that somebody else changed meanwhile.
const ATTEMPTS_MAX: usize = 10;

/// `GET` and `POST _index`
pub(in crate::server::http) async fn route(mut db: Db) -> Answer {
    match &db.request.method {
        method if reads(method) => list(&db).await,
        &Method::POST => make(&mut db).await,
        _ => only("GET,HEAD,POST"),
    }
}

#[derive(serde::Serialize)]
struct Listed {
    total_rows: usize,
    indexes: Vec<Shown>,
}

async fn list(db: &Db) -> Answer {
    db.check_read()?;
    let param = |name: &str| match db.request.query.count(name) {
        Ok(count) => Ok(count.map(|count| usize::try_from(count).unwrap_or(usize::MAX))),
        Err(_) => Err(FindRefusal::ListParams.to_wire()),
    };
    let (limit, skip) = (param("limit")?, param("skip")?.unwrap_or(0));
    if limit == Some(0) {
        return Err(FindRefusal::ListParams.to_wire());
    }
    let indexes = db.granted.indexes().await.map_err(|error| error.to_wire())?;
    let all = std::iter::once(Shown::all_docs()).chain(indexes.iter().map(Shown::index));
    let shown = all.skip(skip).take(limit.unwrap_or(usize::MAX)).collect();
    let listed = Listed { total_rows: indexes.len() + 1, indexes: shown };
    let text = serde_json::to_string(&listed).expect("its parts serialise");
    Ok(json_text(StatusCode::OK, text))
}

async fn make(db: &mut Db) -> Answer {
    db.check_write()?;
    let body = db.json_body().await?;
    let new = new_index(body, db.doc_limits())?;
    let ddoc = new.ddoc().map_err(|error| error.to_wire())?;
    let changed = change(db, &ddoc, |found| new.changed(found).map_err(|error| error.to_wire()));
    let result = if changed.await? { "created" } else { "exists" };
    let body = json!({"result": result, "id": ddoc.as_str(), "name": new.name()});
    Ok(json(StatusCode::OK, &body))
}

/// `DELETE _index/{ddoc}/{type}/{name}`
pub(in crate::server::http) async fn delete(db: Db, ddoc: &str, kind: &str, name: &str) -> Answer {
    if db.request.method != Method::DELETE {
        return only("DELETE");
    }
    db.check_write()?;
    let ddoc = ddoc_id(&db, ddoc)?;
    if kind != "json" || !change(&db, &ddoc, |found| Ok(Index::removed(found, name))).await? {
        return Err(Refusal::NoRoute.to_wire());
    }
    Ok(json(StatusCode::OK, &ok()))
}

/// `POST _index/_bulk_delete`: every index of some design documents.
pub(in crate::server::http) async fn bulk_delete(mut db: Db) -> Answer {
    if db.request.method != Method::POST {
        return only("POST");
    }
    db.check_write()?;
    let mut members = Members::new(db.json_body().await?);
    let ids = members.ddocs("docids")?;
    members.positive("w", 2)?;
    members.check_empty()?;
    let max = db.doc_limits().bulk_rows_max;
    if ids.len() > max {
        let (count, max) = (ids.len() as u64, max as u64);
        return Err(StoreError::TooLarge { what: "design documents", count, max }.to_wire());
    }
    let (mut success, mut fail) = (Vec::new(), Vec::new());
    for id in ids {
        let removed = match ddoc_id(&db, &id) {
            Ok(ddoc) => change(&db, &ddoc, |found| Ok(all_removed(found))).await,
            Err(error) => Err(error),
        };
        let id = if id.starts_with("_design/") { id } else { format!("_design/{id}") };
        match removed {
            Ok(true) => success.push(json!({"id": id, "ok": true})),
            Ok(false) => fail.push(json!({"id": id, "error": "not_found"})),
            Err(error) => fail.push(json!({"id": id, "error": error.error})),
        }
    }
    Ok(json(StatusCode::OK, &json!({"success": success, "fail": fail})))
}

fn all_removed(found: Option<&Document>) -> Option<Document> {
    let found = found?;
    let names = Index::all_of(found, &crate::Limits::default()).into_iter().map(|index| index.name);
    names.fold(None, |removed, name| {
        let left = removed.as_ref().unwrap_or(found);
        Index::removed(Some(left), &name).or(removed)
    })
}

fn ddoc_id(db: &Db, name: &str) -> Result<DocId, WireError> {
    if name.starts_with("_design/") {
        db.doc_id(name)
    } else {
        db.doc_id(&format!("_design/{name}"))
    }
}

/// Writes what a design document becomes, under the grant; answers whether it became something.
async fn change(
    db: &Db,
    ddoc: &DocId,
    becomes: impl Fn(Option<&Document>) -> Result<Option<Document>, WireError>,
) -> Result<bool, WireError> {
    let mut attempt = 1;
    loop {
        let found = match db.granted.get(ddoc, &GetOptions::default()).await {
            Ok(found) => Some(found),
            Err(StoreError::DocMissing { .. } | StoreError::DocDeleted { .. }) => None,
            Err(error) => return Err(error.to_wire()),
        };
        let Some(changed) = becomes(found.as_ref())? else { return Ok(false) };
        let proposed = vec![Ok(AnyDocument::Doc(changed))];
        let rows = db.writable()?.write(proposed, EditMode::Edit, |_| {}).await?;
        let Some(refused) = rows.iter().find_map(error::of_row) else { return Ok(true) };
        if refused != DocError::Conflict.to_wire() || attempt == ATTEMPTS_MAX {
            return Err(refused);
        }
        attempt += 1;
    }
}
