//! PATCH of a document, applied to what is stored.

use http::StatusCode;

use crate::doc::{DocId, Patch};
use crate::server::batch::Unchanged;
use crate::server::error::{HttpRefusal, ToWire as _};

use super::answer::Answer;
use super::database::written_answer;
use super::db::{Db, rev};
use super::document::Written;

const MERGE_PATCH: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";

pub(super) async fn patch(mut db: Db, id: DocId) -> Answer {
    db.check_read()?;
    db.check_write()?;
    let media_type = db.request.media_type()?;
    let read = match media_type.as_deref() {
        Some(MERGE_PATCH) => Patch::merge,
        Some(JSON_PATCH) => Patch::operations,
        _ => return Err(HttpRefusal::NotPatch.to_wire()),
    };
    let text = db.text_body().await?;
    let patch = read(&text, db.doc_limits()).map_err(|error| error.to_wire())?;
    let base = db.request.rev()?.map(|text| rev(&text)).transpose()?;
    let unchanged = Unchanged::left_out_if(db.request.query.flag("if_changed")?);
    let row = db.writable()?.patch(&id, base, &patch, unchanged).await?;
    written_answer(&db, &Written { row, deleted: false }, StatusCode::OK)
}
