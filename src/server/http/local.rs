//! Local documents: checkpoints of replicators, written whatever the grant.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::doc::{LocalId, LocalRev};
use crate::server::error::{ToWire as _, bad_request};
use crate::store::StoreError;

use super::all_docs::{LocalRange, Paging};
use super::answer::{Answer, JSON, Out, Stop, json_text};
use super::database::written_answer;
use super::db::{AsyncStream, Db};
use super::document::{Written, with_id_and_rev, write_one};
use super::{only, reads};

/// Documents read at a time.
const PAGE_DOCS: usize = 100;

pub(super) async fn route(db: Db, id: &str) -> Answer {
    let id = LocalId::parse(id, db.doc_limits().doc_id_bytes_max);
    let id = id.map_err(|error| error.to_wire())?;
    match &db.request.method {
        method if reads(method) => read(&db, id).await,
        &Method::PUT => put(db, id).await,
        &Method::DELETE => delete(db, id).await,
        _ => only("DELETE,GET,HEAD,PUT"),
    }
}

async fn read(db: &Db, id: LocalId) -> Answer {
    let found = db.database().local(&id).await.map_err(|error| error.to_wire())?;
    let found = found.ok_or_else(|| StoreError::LocalMissing { id }.to_wire())?;
    Ok(json_text(StatusCode::OK, found.to_json()))
}

async fn put(mut db: Db, id: LocalId) -> Answer {
    let text = db.text_body().await?;
    let text = with_id_and_rev(&db, &text, &format!("{id}"))?;
    let written = write_one(&db, text).await?;
    answer(&db, &written)
}

async fn delete(db: Db, id: LocalId) -> Answer {
    let found = db.database().local(&id).await.map_err(|error| error.to_wire())?;
    let found = found.ok_or_else(|| StoreError::LocalMissing { id: id.clone() }.to_wire())?;
    let rev = match db.request.rev()? {
        Some(text) => LocalRev::parse(&text).map_err(|error| error.to_wire())?,
        None => found.rev.unwrap_or(LocalRev(0)),
    };
    let tombstone = json!({"_id": id.to_string(), "_rev": rev.to_string(), "_deleted": true});
    let written = write_one(&db, tombstone.to_string()).await?;
    answer(&db, &written)
}

fn answer(db: &Db, written: &Written) -> Answer {
    let status = if written.deleted { StatusCode::OK } else { StatusCode::CREATED };
    written_answer(db, written, status)
}

/// `_local_docs`: every local document, which readers and writers of the database share.
pub(super) async fn list(mut db: Db) -> Answer {
    let paging = match &db.request.method {
        method if reads(method) => Paging::of_query(&db.request.query)?,
        &Method::POST => {
            let body: Value = db.json_body_if_any().await?;
            if body.get("keys").is_some() {
                return Err(bad_request("_local_docs takes no keys"));
            }
            Paging::of_query(&db.request.query)?
        }
        _ => return only("GET,HEAD,POST"),
    };
    db.check_read()?;
    let range = paging.local_range()?;
    Ok(db.streamed(JSON, Locals { paging, range }))
}

struct Locals {
    paging: Paging,
    range: LocalRange,
}

impl AsyncStream for Locals {
    async fn write(self, db: &Db, out: &mut Out) -> Result<(), Stop> {
        out.text("{\"total_rows\":null,\"offset\":null,\"rows\":[").await?;
        let (mut after, mut skip, mut left) = (None, self.paging.skip, self.paging.limit);
        let mut any = false;
        'pages: loop {
            let page = db.database().locals(after.as_ref(), PAGE_DOCS).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            for document in page {
                let id = document.id.to_string();
                if !self.range.contains(&id) {
                    continue;
                }
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                if left == 0 {
                    break 'pages;
                }
                left -= 1;
                let rev = document.rev.map(|rev| rev.to_string());
                let comma = if any { "," } else { "" };
                any = true;
                let row = json!({"id": id, "key": id, "value": {"rev": rev}}).to_string();
                let row = row.strip_suffix('}').unwrap_or(&row);
                out.text(&format!("{comma}\n{row}")).await?;
                if self.paging.include_docs {
                    out.text(&format!(",\"doc\":{}", document.to_json())).await?;
                }
                out.text("}").await?;
            }
        }
        out.text("\n]}\n").await
    }
}
