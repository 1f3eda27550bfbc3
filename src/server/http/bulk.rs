//! Many documents at a time: written, read by revision, compared with a replica's.

use std::collections::{BTreeMap, VecDeque};

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::doc::json::{Member, object_members};
use crate::doc::{AnyDocument, ParseError, Rev};
use crate::limits::Limits;
use crate::proto::call::{RevsDiffAsked, WriteRow};
use crate::proto::message::WireError;
use crate::server::batch::{How, Unchanged};
use crate::server::calls;
use crate::server::error::{HttpRefusal, ToWire as _, bad_request};
use crate::server::writes::grouping;
use crate::store::{BulkGetItem, BulkGetOptions, BulkGetResult, EditMode, OpenRev, StoreError};

use super::answer::{Answer, JSON, Out, Stop, json, json_text};
use super::db::{AsyncStream, Db, rev};
use super::multipart::{self, MIXED, RELATED, boundary};
use super::only;
use super::shown::{Bytes, write_document};

/// Documents, and about how many bytes of bodies, that a bulk read has in memory at a time.
const PAGE_DOCS: usize = 64;
const PAGE_DOCS_FIRST: usize = 8;
const PAGE_BYTES: usize = 256 * 1024;

fn check_post(db: &Db) -> Result<(), WireError> {
    if db.request.method == Method::POST { Ok(()) } else { only("POST") }
}

#[derive(Deserialize)]
struct BulkDocs {
    docs: Option<Box<RawValue>>,
    new_edits: Option<bool>,
    #[serde(default)]
    atomic: bool,
    if_changed: Option<bool>,
}

/// `_bulk_docs`. A document that cannot be read fails the whole call before anything is written, as
/// in CouchDB; one that is refused is a row.
pub(super) async fn bulk_docs(mut db: Db) -> Answer {
    check_post(&db)?;
    let body: BulkDocs = db.json_body().await?;
    let docs = body.docs.ok_or_else(|| HttpRefusal::NoDocs.to_wire())?;
    let docs: Vec<&RawValue> = list(docs.get(), db.doc_limits().bulk_rows_max)?
        .ok_or_else(|| bad_request("`docs` parameter must be an array."))?;
    let mode = match body.new_edits.or(db.request.query.flag_if_any("new_edits")?) {
        Some(false) => EditMode::Replicated,
        _ => EditMode::Edit,
    };
    let limits = db.doc_limits();
    let parse = |doc: &&RawValue| {
        let document = match AnyDocument::parse(doc.get(), limits) {
            Err(ParseError::SpecialValue { member: "_revisions", .. })
                if mode == EditMode::Replicated =>
            {
                AnyDocument::parse(&by_revisions(doc.get(), limits)?, limits)?
            }
            parsed => parsed?,
        };
        check_has_rev(&document, mode)?;
        Ok(document)
    };
    let documents: Result<Vec<AnyDocument>, ParseError> = docs.iter().map(parse).collect();
    let documents = documents.map_err(|error| error.to_wire())?;
    let proposed = documents.into_iter().map(Ok).collect();
    let if_changed = body.if_changed.or(db.request.query.flag_if_any("if_changed")?);
    let unchanged = Unchanged::left_out_if(if_changed.unwrap_or(false));
    let how = How { mode, unchanged, grouping: grouping(body.atomic) };
    let mut rows = db.writable()?.write(proposed, how, |_| {}).await?;
    if mode == EditMode::Replicated {
        rows.retain(|row| !row.ok);
    }
    let rows: Vec<Value> = rows.into_iter().map(row_json).collect();
    Ok(json(StatusCode::CREATED, &Value::Array(rows)))
}

/// A document whose `_revisions` alone tell its revision, as in CouchDB. PouchDB sends a `_rev` that
/// is another one where a hash occurs at two generations of a document.
fn by_revisions(text: &str, limits: &Limits) -> Result<String, ParseError> {
    let mut members = object_members(text, limits)?;
    members.retain(|member| member.key != "_rev");
    let member = |member: Member<'_>| format!("{}:{}", json!(member.key), member.value);
    let members: Vec<String> = members.into_iter().map(member).collect();
    Ok(format!("{{{}}}", members.join(",")))
}

fn check_has_rev(document: &AnyDocument, mode: EditMode) -> Result<(), ParseError> {
    match document {
        AnyDocument::Doc(document) if mode == EditMode::Replicated && document.rev.is_none() => {
            Err(ParseError::RevMissing { id: crate::doc::printable(document.id.as_str()) })
        }
        _ => Ok(()),
    }
}

/// A row as HTTP shows it: the status is the wire's own.
fn row_json(row: WriteRow) -> Value {
    json!(WriteRow { status: None, ..row })
}

/// Reads a list as far as a bound; `None` for what is no list.
fn list<'a, T: Deserialize<'a>>(text: &'a str, max: usize) -> Result<Option<Vec<T>>, WireError> {
    // Tiny elements take many times their bytes once parsed: their number is looked at first.
    let Ok(counted) = serde_json::from_str::<Count>(text) else { return Ok(None) };
    if counted.0 > max {
        let (count, max) = (counted.0 as u64, max as u64);
        return Err(StoreError::TooLarge { what: "elements of a list", count, max }.to_wire());
    }
    serde_json::from_str(text)
        .map(Some)
        .map_err(|problem| crate::server::error::bad_params("body", &problem))
}

/// The number of elements of a list.
struct Count(usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> serde::de::Visitor<'de> for Elements {
            type Value = Count;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut all: A,
            ) -> Result<Count, A::Error> {
                let mut count = 0;
                while all.next_element::<serde::de::IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }
        from.deserialize_seq(Elements)
    }
}

#[derive(Deserialize)]
struct BulkGet {
    docs: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Wanted {
    id: Option<String>,
    rev: Option<String>,
    atts_since: Option<Vec<String>>,
}

/// One thing to read, or why it cannot be.
struct Item {
    id: String,
    wanted: Result<(BulkGetItem, Vec<Rev>), (Option<String>, WireError)>,
}

impl Item {
    fn of(db: &Db, wanted: Wanted) -> Result<Self, WireError> {
        let id = wanted.id.ok_or_else(|| bad_request("document id missed"))?;
        let parse = || {
            let known = wanted.atts_since.iter().flatten();
            let known = known.map(|text| rev(text)).collect::<Result<Vec<Rev>, _>>()?;
            let item = BulkGetItem {
                id: db.doc_id(&id)?,
                rev: wanted.rev.as_deref().map(rev).transpose()?,
            };
            Ok((item, known))
        };
        let parsed: Result<_, WireError> = parse();
        let wanted = parsed.map_err(|error| (wanted.rev.clone(), error));
        Ok(Self { id, wanted })
    }
}

pub(super) async fn bulk_get(mut db: Db) -> Answer {
    check_post(&db)?;
    db.check_read()?;
    let body: BulkGet = db.json_body().await?;
    let docs = body.docs.ok_or_else(|| HttpRefusal::NoDocsToGet.to_wire())?;
    let wanted: Vec<Wanted> = list(docs.get(), db.doc_limits().bulk_rows_max)?
        .ok_or_else(|| HttpRefusal::NoDocsToGet.to_wire())?;
    let items = wanted.into_iter().map(|wanted| Item::of(&db, wanted));
    let items = items.collect::<Result<Vec<_>, _>>()?;
    let query = &db.request.query;
    let shown_revs = query.flag("revs")?;
    let options = BulkGetOptions { revs: true, latest: query.flag("latest")?, attachments: false };
    let bytes = Bytes::all_if(query.flag("attachments")?);
    let read = BulkRead { items, options, bytes, shown_revs };
    if db.request.accepts_first(&[MIXED, RELATED], &[JSON, "*/*"]) {
        let boundary = boundary();
        let related = db.request.accepts_first(&[RELATED], &[MIXED]);
        let kind = if related { RELATED } else { MIXED };
        let content_type = format!("{kind}; boundary=\"{boundary}\"");
        return Ok(db.streamed(&content_type, MixedRead { read, boundary }));
    }
    Ok(db.streamed(JSON, read))
}

struct BulkRead {
    items: Vec<Item>,
    options: BulkGetOptions,
    bytes: Bytes,
    shown_revs: bool,
}

/// One revision of a bulk read.
enum Found {
    Document(Box<crate::doc::Document>, Bytes),
    Error(Value),
}

/// Reads the items in turn, several at a time.
struct Reading<'a> {
    read: &'a BulkRead,
    db: &'a Db,
    /// Of the next items that can be read.
    found: VecDeque<BulkGetResult>,
    /// How many are asked for at a time: more while all of them fit, as few as did where not.
    at_a_time: usize,
}

impl Reading<'_> {
    /// What there is of the item with this number; they are asked for in turn.
    async fn one(&mut self, number: usize) -> Result<Vec<Found>, Stop> {
        let item = &self.read.items[number];
        let (wanted, known) = match &item.wanted {
            Ok(wanted) => wanted,
            Err((rev, error)) => {
                return Ok(vec![Found::Error(error_of(&item.id, rev.as_deref(), error))]);
            }
        };
        if self.found.is_empty() {
            let rest = self.read.items[number..].iter();
            // Bytes of attachments are opened when they are written: their document must be new then.
            let stubs_only = known.is_empty() && self.read.bytes == Bytes::Stubs;
            let at_a_time = if stubs_only { self.at_a_time } else { 1 };
            let asked = rest.filter_map(|item| item.wanted.as_ref().ok()).take(at_a_time);
            let asked: Vec<BulkGetItem> = asked.map(|(wanted, _)| wanted.clone()).collect();
            let options = self.read.options;
            let page = self.db.granted.bulk_get_page(&asked, options, PAGE_BYTES).await?;
            let all = page.len() == asked.len();
            self.at_a_time =
                if all { PAGE_DOCS.min(2 * self.at_a_time) } else { page.len().max(1) };
            self.found = page.into();
        }
        let found = self.found.pop_front();
        Ok(self.read.shown(item, wanted, known, found.map_or_else(Vec::new, |found| found.revs)))
    }
}

impl BulkRead {
    fn reading<'a>(&'a self, db: &'a Db) -> Reading<'a> {
        Reading { read: self, db, found: VecDeque::new(), at_a_time: PAGE_DOCS_FIRST }
    }

    fn shown(
        &self,
        item: &Item,
        wanted: &BulkGetItem,
        known: &[Rev],
        revs: Vec<OpenRev>,
    ) -> Vec<Found> {
        let missing = StoreError::DocMissing { id: wanted.id.clone() }.to_wire();
        if revs.is_empty() {
            return vec![Found::Error(error_of(&item.id, None, &missing))];
        }
        let shown = |one| match one {
            OpenRev::Found(mut document) => {
                let newest = document.revisions.as_ref();
                let newest = newest.and_then(|path| path.revs().find(|rev| known.contains(rev)));
                let bytes = match newest {
                    Some(newest) => Bytes::After(newest.generation()),
                    None if !known.is_empty() => Bytes::After(0),
                    None => self.bytes,
                };
                if !self.shown_revs {
                    document.revisions = None;
                }
                Found::Document(document, bytes)
            }
            OpenRev::Missing(rev) => {
                Found::Error(error_of(&item.id, Some(&rev.to_string()), &missing))
            }
        };
        revs.into_iter().map(shown).collect()
    }
}

fn error_of(id: &str, rev: Option<&str>, error: &WireError) -> Value {
    json!({"id": id, "rev": rev, "error": error.error, "reason": error.reason})
}

impl AsyncStream for BulkRead {
    async fn write(self, db: &Db, out: &mut Out) -> Result<(), Stop> {
        out.text("{\"results\":[").await?;
        let mut reading = self.reading(db);
        for (index, item) in self.items.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            out.text(&format!("{comma}\n{{\"id\":{},\"docs\":[", json!(item.id))).await?;
            for (place, found) in reading.one(index).await?.into_iter().enumerate() {
                let comma = if place > 0 { "," } else { "" };
                match found {
                    Found::Document(document, bytes) => {
                        out.text(&format!("{comma}{{\"ok\":")).await?;
                        write_document(out, db.database(), *document, bytes).await?;
                        out.text("}").await?;
                    }
                    Found::Error(error) => {
                        out.text(&format!("{comma}{}", json!({"error": error}))).await?;
                    }
                }
            }
            out.text("]}").await?;
        }
        out.text("\n]}\n").await
    }
}

struct MixedRead {
    read: BulkRead,
    boundary: String,
}

impl AsyncStream for MixedRead {
    async fn write(self, db: &Db, out: &mut Out) -> Result<(), Stop> {
        let mut reading = self.read.reading(db);
        for (index, item) in self.read.items.iter().enumerate() {
            for found in reading.one(index).await? {
                out.text(&format!("--{}\r\n", self.boundary)).await?;
                match found {
                    Found::Document(document, bytes) => {
                        let rev = document.rev.as_ref().map(ToString::to_string);
                        let names = Some((item.id.as_str(), rev.as_deref().unwrap_or_default()));
                        multipart::write_part(out, db.database(), *document, bytes, names).await?;
                    }
                    Found::Error(error) => multipart::write_error(out, &error).await?,
                }
                out.text("\r\n").await?;
            }
        }
        out.text(&format!("--{}--", self.boundary)).await
    }
}

pub(super) async fn revs_diff(mut db: Db) -> Answer {
    check_post(&db)?;
    let asked: RevsDiffAsked = db.json_body().await?;
    let found = calls::revs_missing(&db.granted, asked).await?;
    Ok(json_text(StatusCode::OK, json!(found).to_string()))
}

/// `_missing_revs`: the same without ancestors, in the older shape.
pub(super) async fn missing_revs(mut db: Db) -> Answer {
    check_post(&db)?;
    let asked: RevsDiffAsked = db.json_body().await?;
    let found = calls::revs_missing(&db.granted, asked).await?;
    let missing: BTreeMap<String, Vec<String>> =
        found.into_iter().map(|(id, row)| (id, row.missing)).collect();
    let body = Map::from_iter([("missing_revs".to_owned(), json!(missing))]);
    Ok(json(StatusCode::OK, &Value::Object(body)))
}
