//! Operations on counters and sets of a document.

use http::{Method, StatusCode};

use crate::doc::Operations;
use crate::server::error::ToWire as _;

use super::answer::Answer;
use super::database::written_answer;
use super::db::Db;
use super::document::Written;
use super::only;

pub(super) async fn route(mut db: Db, id: &str) -> Answer {
    if db.request.method != Method::POST {
        return only("POST");
    }
    db.check_read()?;
    db.check_write()?;
    db.request.check_json()?;
    let id = db.doc_id(id)?;
    let text = db.text_body().await?;
    let operations = Operations::parse(&text).map_err(|error| error.to_wire())?;
    let row = db.writable()?.operate(&id, &operations).await?;
    written_answer(&db, &Written { row, deleted: false }, StatusCode::OK)
}
