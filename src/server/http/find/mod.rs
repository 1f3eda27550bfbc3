//! CouchDB's queries: `_find` and `_explain`, and the indexes behind them.

mod explain;
mod index;
mod request;

use http::{Method, StatusCode};
use serde_json::json;

use crate::doc::pick;
use crate::proto::message::WireError;
use crate::server::error::ToWire as _;
use crate::store::{Execution, FindError, Finder};

use super::answer::{Answer, JSON, Out, Stop, json_text};
use super::db::{AsyncStream, Db};
use super::only;
pub(super) use index::{bulk_delete, delete, route as index_route};
use request::Query;

/// `POST _find`
pub(super) async fn find(mut db: Db) -> Answer {
    let query = asked(&mut db).await?;
    let finding = async { db.granted.finder(query.request.clone()).await.map_err(|e| e.to_wire()) };
    let finder = db.while_granted(finding).await?;
    Ok(db.streamed(JSON, Found { finder, query }))
}

/// `POST _explain`
pub(super) async fn explain(mut db: Db) -> Answer {
    let query = asked(&mut db).await?;
    let indexes = db.granted.indexes().await.map_err(|error| error.to_wire())?;
    let (name, request) = (db.database().name(), &query.request);
    let text = match request.plan(&indexes) {
        Ok(plan) => explain::explain(name, &query, Some(plan.way), &plan.others),
        Err(FindError::NoUsableIndex) => {
            explain::explain(name, &query, None, &request.unusable_ways(&indexes))
        }
        Err(error) => return Err(error.to_wire()),
    };
    Ok(json_text(StatusCode::OK, text))
}

async fn asked(db: &mut Db) -> Result<Query, WireError> {
    if db.request.method != Method::POST {
        return only("POST");
    }
    db.check_read()?;
    let partition = db.request.query.text("partition").is_some();
    let body = db.json_body().await?;
    Query::read(body, partition, db.doc_limits())
}

/// Documents, as they are found.
struct Found {
    finder: Finder,
    query: Query,
}

impl AsyncStream for Found {
    async fn write(mut self, db: &Db, out: &mut Out) -> Result<(), Stop> {
        out.text("{\"docs\":[").await?;
        let mut comma = "\n";
        while let Some(document) = db.granted.next_found(&mut self.finder).await? {
            out.text(comma).await?;
            comma = ",\n";
            let text = match &self.query.fields[..] {
                [] => document.to_json(),
                fields => pick(&document, fields),
            };
            out.text(&text).await?;
        }
        out.text(&format!("\n],\n\"bookmark\":{}", json!(self.finder.bookmark()))).await?;
        if let Some(warning) = self.finder.warning() {
            out.text(&format!(",\n\"warning\":{}", json!(warning))).await?;
        }
        if self.query.execution_stats {
            let stats = stats(self.finder.execution());
            out.text(&format!(",\n\"execution_stats\":{stats}")).await?;
        }
        out.text("}\n").await
    }
}

fn stats(execution: Execution) -> serde_json::Value {
    let micros = u32::try_from(execution.time.as_micros()).unwrap_or(u32::MAX);
    json!({
        "total_keys_examined": execution.keys_examined,
        "total_docs_examined": execution.docs_examined,
        "total_quorum_docs_examined": 0,
        "results_returned": execution.results,
        "execution_time_ms": f64::from(micros) / 1000.0,
    })
}
