//! `_all_docs`, `_design_docs`, and several queries of `_all_docs` in one request.

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::doc::DocId;
use crate::proto::message::WireError;
use crate::server::error::{HttpRefusal, ToWire as _, bad_request, query_parse_error};
use crate::server::streams::all_docs_row_head;
use crate::store::{AllDocsOptions, AllDocsRow, KeyRange, Order, StoreError};

use super::answer::{Answer, JSON, Out, Stop};
use super::db::{AsyncStream, Db};
use super::query::Query;
use super::shown::{Bytes, write_document};
use super::{only, reads};

/// Documents read at a time, and bytes of their bodies.
const PAGE_DOCS: usize = 256;
const PAGE_BYTES: usize = 256 * 1024;

/// First and last of the ids of design documents.
const DESIGN_FIRST: &str = "_design/";
const DESIGN_END: &str = "_design0";

/// What a query of rows asks for.
#[derive(Debug, Clone, Default)]
pub(super) struct Paging {
    start: Option<Value>,
    end: Option<Value>,
    key: Option<Value>,
    keys: Option<Vec<Value>>,
    exclusive_end: bool,
    descending: bool,
    pub limit: u64,
    pub skip: u64,
    pub include_docs: bool,
    conflicts: bool,
    attachments: bool,
    update_seq: bool,
}

impl Paging {
    pub(super) fn of_query(query: &Query) -> Result<Self, WireError> {
        let either = |name, other| match query.json::<Value>(name)? {
            Some(found) => Ok::<_, WireError>(Some(found)),
            None => query.json(other),
        };
        let keys = query.json::<Value>("keys")?.map(keys_of).transpose()?;
        Ok(Self {
            start: either("startkey", "start_key")?,
            end: either("endkey", "end_key")?,
            key: query.json("key")?,
            keys,
            exclusive_end: query.flag_if_any("inclusive_end")? == Some(false),
            descending: query.flag("descending")?,
            limit: query.count("limit")?.unwrap_or(u64::MAX),
            skip: query.count("skip")?.unwrap_or(0),
            include_docs: query.flag("include_docs")?,
            conflicts: query.flag("conflicts")?,
            attachments: query.flag("attachments")?,
            update_seq: query.flag("update_seq")?,
        })
    }

    /// The same with what a body says instead.
    fn with_body(mut self, body: Map<String, Value>) -> Result<Self, WireError> {
        for (name, value) in body {
            let bad = |wanted| query_parse_error(format!("`{name}` must be {wanted}"));
            let flag = || value.as_bool().ok_or_else(|| bad("true or false"));
            let count = || value.as_u64().ok_or_else(|| bad("0 or more"));
            match name.as_str() {
                "startkey" | "start_key" => self.start = Some(value),
                "endkey" | "end_key" => self.end = Some(value),
                "key" => self.key = Some(value),
                "keys" => self.keys = Some(keys_of(value)?),
                "inclusive_end" => self.exclusive_end = !flag()?,
                "descending" => self.descending = flag()?,
                "limit" => self.limit = count()?,
                "skip" => self.skip = count()?,
                "include_docs" => self.include_docs = flag()?,
                "conflicts" => self.conflicts = flag()?,
                "attachments" => self.attachments = flag()?,
                "update_seq" => self.update_seq = flag()?,
                // CouchDB passes over what it does not know.
                _ => {}
            }
        }
        Ok(self)
    }

    fn checked(self) -> Result<Self, WireError> {
        if self.keys.is_some() && (self.start.is_some() || self.end.is_some() || self.key.is_some())
        {
            return Err(query_parse_error(
                "`keys` is incompatible with `key`, `start_key` and `end_key`",
            ));
        }
        Ok(self)
    }

    fn order(&self) -> Order {
        if self.descending { Order::Descending } else { Order::Ascending }
    }

    /// The ids of the range; `None` if no id can be in it.
    fn range(&self) -> Option<KeyRange> {
        let (start, end, exclusive_end) = match &self.key {
            Some(key) => (Some(key), Some(key), false),
            None => (self.start.as_ref(), self.end.as_ref(), self.exclusive_end),
        };
        let place = |key: Option<&Value>| key.map(Place::of);
        // In the order of reading, what is before every id and what is after.
        let (before, after) = if self.descending {
            (Place::AfterStrings, Place::BeforeStrings)
        } else {
            (Place::BeforeStrings, Place::AfterStrings)
        };
        let start = match place(start) {
            Some(place) if place == after => return None,
            Some(Place::String(text)) => Some(text),
            _ => None,
        };
        let end = match place(end) {
            Some(place) if place == before => return None,
            Some(Place::String(text)) => Some(text),
            _ => None,
        };
        Some(KeyRange { start, end, exclusive_end })
    }

    /// A range of local documents, which are read from the first to the last.
    pub(super) fn local_range(&self) -> Result<LocalRange, WireError> {
        if self.descending || self.keys.is_some() {
            return Err(bad_request("_local_docs takes neither descending nor keys"));
        }
        Ok(LocalRange(self.range()))
    }
}

/// A range of ids with their `_local/`.
pub(super) struct LocalRange(Option<KeyRange>);

impl LocalRange {
    pub(super) fn contains(&self, id: &str) -> bool {
        self.0.as_ref().is_some_and(|range| {
            let after = range.start.as_deref().is_none_or(|start| id >= start);
            after
                && range
                    .end
                    .as_deref()
                    .is_none_or(|end| if range.exclusive_end { id < end } else { id <= end })
        })
    }
}

/// Where a key stands among strings, in CouchDB's order of JSON values.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    BeforeStrings,
    String(String),
    AfterStrings,
}

impl Place {
    fn of(key: &Value) -> Self {
        match key {
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::BeforeStrings,
            Value::String(text) => Self::String(text.clone()),
            Value::Array(_) | Value::Object(_) => Self::AfterStrings,
        }
    }
}

fn keys_of(value: Value) -> Result<Vec<Value>, WireError> {
    match value {
        Value::Array(keys) => Ok(keys),
        _ => Err(HttpRefusal::KeysNotArray.to_wire()),
    }
}

/// Which rows a query may find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Everything,
    DesignDocs,
}

pub(super) async fn route(db: Db) -> Answer {
    rows_route(db, Of::Everything).await
}

pub(super) async fn design_docs(db: Db) -> Answer {
    rows_route(db, Of::DesignDocs).await
}

async fn rows_route(mut db: Db, of: Of) -> Answer {
    let mut paging = match &db.request.method {
        method if reads(method) => Paging::of_query(&db.request.query)?,
        &Method::POST => {
            let body: Map<String, Value> = db.json_body_if_any().await?;
            Paging::of_query(&db.request.query)?.with_body(body)?
        }
        _ => return only("GET,HEAD,POST"),
    };
    db.check_read()?;
    paging = paging.checked()?;
    check_keys(&db, &paging)?;
    Ok(db.streamed(JSON, Rows { queries: vec![paging], of, several: false }))
}

fn check_keys(db: &Db, paging: &Paging) -> Result<(), WireError> {
    let (count, max) = (paging.keys.as_ref().map_or(0, Vec::len), db.doc_limits().bulk_rows_max);
    if count > max {
        let (count, max) = (count as u64, max as u64);
        return Err(StoreError::TooLarge { what: "keys", count, max }.to_wire());
    }
    Ok(())
}

#[derive(Deserialize)]
struct Queries {
    queries: Vec<Map<String, Value>>,
}

/// `POST _all_docs/queries`
pub(super) async fn queries(mut db: Db) -> Answer {
    if db.request.method != Method::POST {
        return only("POST");
    }
    db.check_read()?;
    let asked: Queries = db.json_body().await?;
    // Each may read everything there is.
    const QUERIES_MAX: usize = 100;
    if asked.queries.len() > QUERIES_MAX {
        let (count, max) = (asked.queries.len() as u64, QUERIES_MAX as u64);
        return Err(StoreError::TooLarge { what: "queries", count, max }.to_wire());
    }
    let each = |body| Paging { limit: u64::MAX, ..Paging::default() }.with_body(body)?.checked();
    let queries = asked.queries.into_iter().map(each).collect::<Result<Vec<_>, _>>()?;
    for query in &queries {
        check_keys(&db, query)?;
    }
    Ok(db.streamed(JSON, Rows { queries, of: Of::Everything, several: true }))
}

struct Rows {
    queries: Vec<Paging>,
    of: Of,
    several: bool,
}

impl AsyncStream for Rows {
    async fn write(self, db: &Db, out: &mut Out) -> Result<(), Stop> {
        if self.several {
            out.text("{\"results\":[").await?;
        }
        for (index, query) in self.queries.iter().enumerate() {
            if index > 0 {
                out.text(",").await?;
            }
            write_rows(db, out, query, self.of).await?;
        }
        out.text(if self.several { "]}\n" } else { "\n" }).await
    }
}

async fn write_rows(db: &Db, out: &mut Out, paging: &Paging, of: Of) -> Result<(), Stop> {
    let info = db.database().info().await?;
    let whole = paging.start.is_none() && paging.key.is_none() && paging.keys.is_none();
    let offset = if whole { json!(paging.skip.min(info.doc_count)) } else { Value::Null };
    let total = if of == Of::Everything { json!(info.doc_count) } else { Value::Null };
    out.text(&format!("{{\"total_rows\":{total},\"offset\":{offset}")).await?;
    if paging.update_seq {
        out.text(&format!(",\"update_seq\":\"{}\"", info.update_seq)).await?;
    }
    out.text(",\"rows\":[").await?;
    let mut writer = RowWriter { db, paging, any: false };
    match &paging.keys {
        Some(keys) => write_keys(&mut writer, out, keys, of).await?,
        None => write_range(&mut writer, out, of).await?,
    }
    out.text("\n]}").await
}

struct RowWriter<'a> {
    db: &'a Db,
    paging: &'a Paging,
    any: bool,
}

impl RowWriter<'_> {
    async fn begin(&mut self, out: &mut Out) -> Result<(), Stop> {
        let comma = if self.any { ",\n" } else { "\n" };
        self.any = true;
        out.text(comma).await
    }

    async fn row(&mut self, out: &mut Out, row: AllDocsRow) -> Result<(), Stop> {
        self.begin(out).await?;
        out.text(&all_docs_row_head(&row)).await?;
        match row.doc {
            Some(document) => {
                out.text(",\"doc\":").await?;
                let bytes = Bytes::all_if(self.paging.attachments);
                write_document(out, self.db.database(), document, bytes).await?;
            }
            None if row.deleted => out.text(",\"doc\":null").await?,
            None => {}
        }
        out.text("}").await
    }

    fn options(&self) -> AllDocsOptions {
        AllDocsOptions {
            include_docs: self.paging.include_docs,
            conflicts: self.paging.conflicts,
            ..AllDocsOptions::default()
        }
    }
}

async fn write_keys(
    writer: &mut RowWriter<'_>,
    out: &mut Out,
    keys: &[Value],
    of: Of,
) -> Result<(), Stop> {
    let paging = writer.paging;
    let mut keys: Vec<&Value> = keys.iter().collect();
    if paging.descending {
        keys.reverse();
    }
    let (skip, limit) = (clamp(paging.skip), clamp(paging.limit));
    let keys: Vec<&Value> = keys.into_iter().skip(skip).take(limit).collect();
    let mut rest = keys.as_slice();
    while !rest.is_empty() {
        let asked = &rest[..rest.len().min(PAGE_DOCS)];
        let ids: Vec<Option<DocId>> = asked.iter().map(|key| id_of(writer.db, key, of)).collect();
        let wanted = ids.iter().flatten().cloned().collect();
        let options = AllDocsOptions { keys: Some(wanted), ..writer.options() };
        let page = writer.db.granted.all_docs_page(&options, None, PAGE_BYTES).await?;
        let mut rows = page.rows.into_iter();
        for (key, id) in asked.iter().zip(ids) {
            if id.is_some() {
                // What did not fit comes with the next page.
                let Some(row) = rows.next() else { break };
                writer.row(out, row).await?;
            } else {
                writer.begin(out).await?;
                out.text(&json!({"key": key, "error": "not_found"}).to_string()).await?;
            }
            rest = &rest[1..];
        }
    }
    Ok(())
}

/// The id that a key is, if it can be one.
fn id_of(db: &Db, key: &Value, of: Of) -> Option<DocId> {
    let id = db.doc_id(key.as_str()?).ok()?;
    (of == Of::Everything || id.as_str().starts_with(DESIGN_FIRST)).then_some(id)
}

async fn write_range(writer: &mut RowWriter<'_>, out: &mut Out, of: Of) -> Result<(), Stop> {
    let paging = writer.paging;
    let Some(mut range) = paging.range() else { return Ok(()) };
    if of == Of::DesignDocs {
        narrow_to_design_docs(&mut range, paging.descending);
    }
    let mut left = clamp(paging.limit);
    let mut options = AllDocsOptions {
        range,
        order: paging.order(),
        skip: clamp(paging.skip),
        ..writer.options()
    };
    let mut after: Option<DocId> = None;
    while left > 0 {
        options.limit = Some(left.min(PAGE_DOCS));
        let granted = &writer.db.granted;
        let page = granted.all_docs_page(&options, after.as_ref(), PAGE_BYTES).await?;
        left -= page.rows.len().min(left);
        after = page.rows.last().map(|last| last.id.clone()).or(after);
        for row in page.rows {
            writer.row(out, row).await?;
        }
        if page.ended {
            break;
        }
        options.skip = 0;
    }
    Ok(())
}

fn narrow_to_design_docs(range: &mut KeyRange, descending: bool) {
    let (first, last) =
        if descending { (DESIGN_END, DESIGN_FIRST) } else { (DESIGN_FIRST, DESIGN_END) };
    let inside = |text: &str| (DESIGN_FIRST..DESIGN_END).contains(&text);
    if !range.start.as_deref().is_some_and(inside) {
        let passed = range
            .start
            .as_deref()
            .is_some_and(|start| if descending { start < last } else { start > last });
        range.start = Some(if passed { last.to_owned() } else { first.to_owned() });
    }
    if !range.end.as_deref().is_some_and(inside) {
        let before = range
            .end
            .as_deref()
            .is_some_and(|end| if descending { end > first } else { end < first });
        range.end = Some(if before { first.to_owned() } else { last.to_owned() });
        range.exclusive_end = false;
    }
}

fn clamp(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(query: &str) -> Option<(Option<String>, Option<String>)> {
        let paging = Paging::of_query(&Query::parse(query).unwrap()).unwrap();
        paging.range().map(|range| (range.start, range.end))
    }

    #[test]
    fn keys_that_are_no_strings_stand_before_or_after_all_ids() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(range(""), Some((None, None)));
        assert_eq!(range("startkey=%22a%22&end_key=%22b%22"), Some((some("a"), some("b"))));
        assert_eq!(range("startkey=1&endkey=%7B%7D"), Some((None, None)));
        assert_eq!(range("startkey=%7B%7D"), None);
        assert_eq!(range("endkey=null"), None);
        assert_eq!(range("descending=true&startkey=%7B%7D&endkey=null"), Some((None, None)));
        assert_eq!(range("descending=true&startkey=5"), None);
        assert_eq!(range("key=%22a%22&startkey=%22z%22"), Some((some("a"), some("a"))));
        assert_eq!(range("key=5"), None);
    }
}
