//! The calls of a sync, on the same database under the same grant as every other protocol's.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::doc::{AnyDocument, AnyId, DocId, Document, ParseError};
use crate::limits::Limits;
use crate::proto::call::{OpenRevsParam, WriteRow};
use crate::proto::legacy::attachments::with_plain_attachments;
use crate::proto::legacy::call::{
    AllDocsOptions, BulkDocs, BulkDocsOptions, Call, Docs, ErrorObject, FailureRow, GetOptions,
    method,
};
use crate::proto::legacy::tree::tree_json;
use crate::proto::message::WireError;
use crate::store::{AllDocsRow, BulkGetOptions, EditMode, KeyRange, OpenRev, Order, StoreError};

use super::super::calls::{open_revs_text, rev, which_revs};
use super::super::error::{ToWire as _, bad_params, bad_request, of_row};
use super::super::granted::Granted;
use super::super::streams::{all_docs_row, clamp};
use super::super::writes::name_row;
use super::WaitingCall;
use super::channel::OpenChannel;

/// Documents read at a time.
const PAGE_DOCS: usize = 64;

/// Bytes of a call that may be looked into for being a checkpoint's.
const CHECKPOINT_BYTES_MAX: usize = 16 * 1024;

/// Runs a call to its end. The result is JSON text.
pub(super) async fn run(open: &OpenChannel, call: &Call) -> Result<String, ErrorObject> {
    if !open.names_this_database(call) {
        let name = crate::doc::printable(call.database.as_deref().unwrap_or("null"));
        return Err(ErrorObject::plain(format!("No allowed database named {name}")));
    }
    let granted = open.channel.granted();
    let result = match &*call.method {
        method::ID => Ok(identity(&granted)),
        method::INFO => info(&granted).await,
        method::GET => get(&granted, call).await,
        method::ALL_DOCS => all_docs(open, &granted, call).await,
        method::BULK_DOCS => bulk_docs(&granted, call).await,
        unknown => {
            let name = crate::doc::printable(unknown);
            return Err(ErrorObject::plain(format!("No method named {name}")));
        }
    };
    result.map_err(ErrorObject::from)
}

/// An argument of a call.
pub(super) fn arg<'a, T: Deserialize<'a> + Default>(
    call: &'a Call,
    place: usize,
) -> Result<T, WireError> {
    call.arg(place).map_err(|problem| bad_params(&call.method, &problem))
}

pub(super) fn doc_id(granted: &Granted, id: &str) -> Result<DocId, WireError> {
    let max = granted.database.limits().doc_id_bytes_max;
    DocId::parse(id, max).map_err(|error| error.to_wire())
}

/// Names of checkpoints are made of it, so it is the same for ever, and another one for another
/// database, also if that has the same name later, and for each part of a database that a grant
/// shows: a wider grant begins anew.
fn identity(granted: &Granted) -> String {
    let database = granted.database.incarnation();
    let id = match granted.access().view {
        None => database.to_string(),
        Some(view) => format!("{database}-{view}"),
    };
    json!(id).to_string()
}

async fn info(granted: &Granted) -> Result<String, WireError> {
    let info = granted.info().await.map_err(|error| error.to_wire())?;
    let (doc_count, update_seq) = (info.doc_count, info.update_seq);
    let told = json!({
        "doc_count": doc_count, "update_seq": update_seq, "backend_adapter": "settee",
    });
    Ok(told.to_string())
}

async fn get(granted: &Granted, call: &Call) -> Result<String, WireError> {
    let id: String = arg(call, 0)?;
    let asked: GetOptions = arg(call, 1)?;
    let id = AnyId::parse(&id, granted.database.limits().doc_id_bytes_max);
    let id = match id.map_err(|error| error.to_wire())? {
        AnyId::Doc(id) => id,
        AnyId::Local(id) => {
            let found = granted.database.local(&id).await.map_err(|error| error.to_wire())?;
            let found =
                found.ok_or(StoreError::LocalMissing { id }).map_err(|error| error.to_wire())?;
            return Ok(found.to_json());
        }
    };
    granted.check_read()?;
    if let Some(which) = &asked.open_revs {
        return open_revs(granted, &id, which, &asked).await;
    }
    let options = crate::store::GetOptions {
        rev: asked.rev.as_deref().map(rev).transpose()?,
        latest: asked.latest,
        revs: asked.revs,
        revs_info: asked.revs_info,
        conflicts: asked.conflicts,
        ..crate::store::GetOptions::default()
    };
    let document = granted.get(&id, &options).await.map_err(|error| error.to_wire())?;
    if hidden(&document) {
        return Err(StoreError::DocMissing { id }.to_wire());
    }
    Ok(document.to_json())
}

/// The client ends its sync for good at the first document with attachments that it is shown, and a
/// document shown without them would lose them at its next edit there. So such a revision is not
/// shown: the client takes it for one that is not stored, and goes on.
fn hidden(document: &Document) -> bool {
    !document.attachments.is_empty()
}

async fn open_revs(
    granted: &Granted,
    id: &DocId,
    which: &OpenRevsParam,
    asked: &GetOptions,
) -> Result<String, WireError> {
    let which = which_revs(which)?;
    let options =
        BulkGetOptions { revs: asked.revs, latest: asked.latest, ..BulkGetOptions::default() };
    let mut found =
        granted.open_revs(id, &which, options).await.map_err(|error| error.to_wire())?;
    for one in &mut found {
        if let OpenRev::Found(document) = one
            && hidden(document)
            && let Some(rev) = document.rev.take()
        {
            *one = OpenRev::Missing(rev);
        }
    }
    Ok(open_revs_text(&found))
}

/// The trees that calls ask for, which have the channel's database in common.
pub(super) async fn revision_trees(
    granted: &Granted,
    calls: &[WaitingCall],
) -> Vec<Result<String, WireError>> {
    let id = |waiting: &WaitingCall| doc_id(granted, &arg::<String>(&waiting.call, 0)?);
    let ids: Vec<Result<DocId, WireError>> = calls.iter().map(id).collect();
    let good: Vec<DocId> = ids.iter().flatten().cloned().collect();
    let mut trees = match granted.rev_trees(&good).await {
        Ok(trees) => trees.into_iter(),
        Err(error) => {
            let error = error.to_wire();
            return ids.into_iter().map(|id| id.and(Err(error.clone()))).collect();
        }
    };
    let found = ids.into_iter().map(|id| {
        let id = id?;
        let tree = trees.next().flatten();
        Ok(tree_json(&tree.ok_or(StoreError::DocMissing { id }).map_err(|error| error.to_wire())?))
    });
    found.collect()
}

async fn all_docs(open: &OpenChannel, granted: &Granted, call: &Call) -> Result<String, WireError> {
    let asked: AllDocsOptions = arg(call, 0)?;
    granted.check_read()?;
    let total_rows = granted.database.info().await.map_err(|error| error.to_wire())?.doc_count;
    let mut rows = Rows::new(open.limits().message_bytes_max);
    let options = crate::store::AllDocsOptions {
        include_docs: asked.include_docs,
        ..crate::store::AllDocsOptions::default()
    };
    match &asked.keys {
        Some(keys) => docs_by_key(granted, keys, options, &mut rows).await?,
        None => docs_by_range(granted, &asked, options, &mut rows).await?,
    }
    let rows = rows.text;
    Ok(format!("{{\"offset\":0,\"total_rows\":{total_rows},\"rows\":[{rows}]}}"))
}

/// Rows of one answer, which is bounded.
struct Rows {
    text: String,
    bytes_max: usize,
}

impl Rows {
    fn new(bytes_max: usize) -> Self {
        Self { text: String::new(), bytes_max }
    }

    /// The client takes a row's document for the first revision that it lacks, without comparing
    /// them: where there are several leaves that may be another one, and then the one it lacks never
    /// arrives. Without a document it asks for the revision it means, as it does where an answer
    /// would be too long.
    fn push(&mut self, mut row: AllDocsRow) -> Result<(), WireError> {
        let doubtful = row.leaves > 1 || row.doc.as_ref().is_some_and(hidden);
        if doubtful || self.text.len() >= self.bytes_max {
            row.doc = None;
        }
        if self.text.len() >= self.bytes_max.saturating_mul(2) {
            let (count, max) = (self.text.len() as u64, self.bytes_max as u64);
            return Err(StoreError::TooLarge { what: "bytes of an answer", count, max }.to_wire());
        }
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(&all_docs_row(&row));
        Ok(())
    }
}

async fn docs_by_key(
    granted: &Granted,
    keys: &[String],
    mut options: crate::store::AllDocsOptions,
    rows: &mut Rows,
) -> Result<(), WireError> {
    check_count("keys", keys.len(), granted.database.limits())?;
    let keys = keys.iter().map(|id| doc_id(granted, id)).collect::<Result<Vec<_>, _>>()?;
    let mut rest = keys.as_slice();
    while !rest.is_empty() {
        options.keys = Some(rest[..rest.len().min(PAGE_DOCS)].to_vec());
        let page = granted.all_docs_page(&options, None, rows.bytes_max).await;
        let page = page.map_err(|error| error.to_wire())?;
        rest = &rest[page.rows.len()..];
        for row in page.rows {
            rows.push(row)?;
        }
    }
    Ok(())
}

async fn docs_by_range(
    granted: &Granted,
    asked: &AllDocsOptions,
    mut options: crate::store::AllDocsOptions,
    rows: &mut Rows,
) -> Result<(), WireError> {
    options.range = KeyRange {
        start: asked.key.clone().or_else(|| asked.startkey.clone()),
        end: asked.key.clone().or_else(|| asked.endkey.clone()),
        exclusive_end: asked.inclusive_end == Some(false) && asked.key.is_none(),
    };
    options.order = if asked.descending { Order::Descending } else { Order::Ascending };
    options.skip = clamp(asked.skip);
    let mut left = asked.limit.map_or(usize::MAX, clamp);
    let mut after: Option<DocId> = None;
    while left > 0 {
        options.limit = Some(left.min(PAGE_DOCS));
        let page = granted.all_docs_page(&options, after.as_ref(), rows.bytes_max).await;
        let page = page.map_err(|error| error.to_wire())?;
        left -= page.rows.len().min(left);
        after = page.rows.last().map(|last| last.id.clone()).or(after);
        for row in page.rows {
            rows.push(row)?;
        }
        if page.ended {
            break;
        }
        options.skip = 0;
    }
    Ok(())
}

pub(super) fn check_count(
    what: &'static str,
    count: usize,
    limits: &Limits,
) -> Result<(), WireError> {
    let max = limits.bulk_rows_max;
    if count > max {
        return Err(StoreError::TooLarge { what, count: count as u64, max: max as u64 }.to_wire());
    }
    Ok(())
}

async fn bulk_docs(granted: &Granted, call: &Call) -> Result<String, WireError> {
    let asked: BulkDocs = arg(call, 0)?;
    let options: BulkDocsOptions = arg(call, 1)?;
    let Some(Docs(docs)) = asked.docs else {
        return Err(bad_request("Missing JSON list of 'docs'"));
    };
    let limits = granted.database.limits();
    check_count("documents in one write", docs.len(), limits)?;
    let replicated = asked.new_edits == Some(false) || options.new_edits == Some(false);
    let mode = if replicated { EditMode::Replicated } else { EditMode::Edit };
    let proposed = docs.iter().map(|doc| read_document(doc, limits)).collect();
    let mut rows = granted.write(proposed, mode, |_| ()).await?;
    for (row, doc) in rows.iter_mut().zip(&docs) {
        if !row.ok && row.id.is_empty() {
            name_row(row, doc);
        }
    }
    if replicated {
        rows.retain(|row| !row.ok);
    }
    let rows: Vec<String> = rows.iter().map(|row| row_text(row, mode)).collect();
    Ok(format!("[{}]", rows.join(",")))
}

/// Whether a call writes a checkpoint and nothing else.
pub(super) fn writes_checkpoint(call: &Call) -> bool {
    #[derive(Default, Deserialize)]
    struct Ids {
        docs: Vec<Id>,
    }
    #[derive(Deserialize)]
    struct Id {
        #[serde(rename = "_id")]
        id: String,
    }
    let short = call.bytes <= CHECKPOINT_BYTES_MAX && call.method == method::BULK_DOCS;
    let ids = short.then(|| call.arg::<Ids>(0).ok()).flatten().unwrap_or_default();
    matches!(&*ids.docs, [one] if one.id.starts_with("_local/"))
}

fn read_document(doc: &RawValue, limits: &Limits) -> Result<AnyDocument, ParseError> {
    AnyDocument::parse(&with_plain_attachments(doc.get(), limits)?, limits)
}

/// A row of the answer to a write.
///
/// A refused document of a replication is `forbidden` or `unauthorized`, whatever its status: those
/// names make a `denied` event of it, and every other one ends the client's sync, now and at each
/// connection to come.
fn row_text(row: &WriteRow, mode: EditMode) -> String {
    let Some(error) = of_row(row) else { return json!(row).to_string() };
    let mut error = ErrorObject::from(error);
    if mode == EditMode::Replicated && error.name != "unauthorized" {
        error.name = "forbidden".into();
    }
    json!(FailureRow { id: row.id.clone(), rev: row.rev.clone(), error }).to_string()
}
