//! The other side's changes feed: page after page, and when there is no more, the next by waiting.

use std::fmt::Write as _;
use std::sync::Arc;

use futures::StreamExt as _;
use serde_json::json;
use tokio::time::sleep;

use crate::doc::{DocId, Rev};
use crate::replicate::PeerError;
use crate::replicate::peer::{ChangeBatch, ChangeStream, ChangedDoc, ChangesRequest};

use super::answers::{ChangeRow, Changes, place};
use super::exchange::{Ask, Exchange, Failure, broke};
use super::remote::encoded;

/// Beats of a waiting server within the time that it may be silent.
const BEATS: u128 = 3;

/// A place in the feed, and how to go on from there.
struct Reader {
    exchange: Arc<Exchange>,
    request: ChangesRequest,
    since: String,
    rows_max: usize,
    /// Whether everything has been read, so that the next answer is waited for.
    at_end: bool,
    /// Answers in a row that said nothing.
    empty: u32,
}

pub(super) fn open(exchange: Arc<Exchange>, request: ChangesRequest) -> ChangeStream {
    let since = request.since.clone().unwrap_or_else(|| "0".into());
    let rows_max = request.batch_size.max(1);
    let reader = Reader { exchange, request, since, rows_max, at_end: false, empty: 0 };
    let batches = futures::stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(batch) => {
                let ended = reader.at_end && !reader.request.live;
                Some((Ok(batch), (!ended).then_some(reader)))
            }
            Err(error) => Some((Err(error), None)),
        }
    });
    batches.boxed()
}

impl Reader {
    async fn next(&mut self) -> Result<ChangeBatch, PeerError> {
        loop {
            let waited = self.at_end;
            let changes: Changes = match self.exchange.json(&self.ask()).await {
                // Long revision trees, of many leaves each.
                Err(Failure::TooLarge) if self.rows_max > 1 => {
                    self.rows_max /= 2;
                    continue;
                }
                found => found?,
            };
            let last_seq = place(&changes.last_seq);
            let rows = changes.results.len();
            self.at_end = rows < self.rows_max;
            if !self.at_end && last_seq == self.since {
                return Err(broke("the changes feed does not move on"));
            }
            if waited && rows == 0 && last_seq == self.since {
                // A server that does not wait must not be asked without end.
                self.empty += 1;
                sleep(self.exchange.backoff.jittered(self.empty)).await;
                continue;
            }
            self.empty = 0;
            self.since.clone_from(&last_seq);
            let more = changes.pending.unwrap_or(1).max(1);
            let pending = if self.at_end { 0 } else { more };
            // Tombstones are never left out: the places of another server do not tell which of them
            // are older than the feed, and a newer one deletes what the target has by now.
            let rows = changes.results.into_iter();
            let rows = rows.map(|row| self.changed(row)).collect::<Result<_, _>>()?;
            return Ok(ChangeBatch { rows, last_seq, pending });
        }
    }

    fn ask(&self) -> Ask {
        let wait = if self.at_end { "longpoll" } else { "normal" };
        let heartbeat = (self.exchange.silence.as_millis() / BEATS).max(1);
        let mut query = format!(
            "_changes?style=all_docs&feed={wait}&heartbeat={heartbeat}&limit={}&since={}",
            self.rows_max,
            encoded(&self.since)
        );
        let body = match (&self.request.doc_ids, &self.request.selector) {
            // The ids are looked at here, whatever else the server is to let pass.
            (_, Some(selector)) => {
                query.push_str("&filter=_selector");
                format!("{{\"selector\":{}}}", selector.as_str())
            }
            (Some(ids), None) => {
                query.push_str("&filter=_doc_ids");
                let ids: Vec<&str> = ids.iter().map(DocId::as_str).collect();
                json!({ "doc_ids": ids }).to_string()
            }
            (None, None) => return Ask::get(self.exchange.url(&query)),
        };
        Ask::post(self.exchange.url(&query), body)
    }

    fn changed(&self, row: ChangeRow) -> Result<ChangedDoc, PeerError> {
        let id = DocId::parse(&row.id, self.exchange.limits.doc_id_bytes_max)?;
        let mut leaves = Vec::with_capacity(row.changes.len());
        let narrowed = self.request.selector.is_some() && self.request.doc_ids.is_some();
        if !narrowed || self.request.doc_ids.iter().flatten().any(|wanted| *wanted == id) {
            for change in &row.changes {
                leaves.push(Rev::parse(&change.rev)?);
            }
        }
        Ok(ChangedDoc { id, leaves, docs: Vec::new(), group: None })
    }
}

/// The address of a document below its database.
pub(super) fn path_of(id: &DocId) -> String {
    let mut path = String::new();
    let text = id.as_str();
    // The slash of a design document is no part of its name.
    let (kind, name) = match text.strip_prefix("_design/") {
        Some(name) => ("_design/", name),
        None => ("", text),
    };
    let _ = write!(path, "{kind}{}", encoded(name));
    path
}
