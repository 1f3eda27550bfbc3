//! Reads: each answers one call, on a blocking thread.
//!
//! sled's reads share no snapshot, so a row may name another that is gone a moment later. Whoever
//! finds it gone reads the first row again; only a row that stands still is damaged.

use super::record::{self, DocRecord};
use super::shared::Shared;
use super::value::{self, complete, damaged, get};
use super::{Db, io_error, older};
use crate::doc::Body;
use crate::doc::{BlobKey, BodyRecord, DbName, DocId, LocalId, LocalRev, Rev, RevTree};
use crate::store::backend::{
    ChangeRow, ChangesPage, ChangesRange, DatabaseKey, DatabaseRecord, DatabaseSettings, DocsRange,
    Order, ReadBody, ReadDoc, ReadTree, StoredDoc,
};
use crate::store::error::StoreError;
use crate::store::keys::{self, Bounds};

/// Rows within bounds, in either direction.
pub(super) fn scan(
    db: &Db,
    bounds: Bounds,
    order: Order,
) -> impl Iterator<Item = Result<(::sled::IVec, ::sled::IVec), StoreError>> {
    let mut rows = db.range(bounds);
    std::iter::from_fn(move || {
        let row = match order {
            Order::Ascending => rows.next(),
            Order::Descending => rows.next_back(),
        };
        row.map(|row| row.map_err(|error| io_error("read the database", error)))
    })
}

pub(super) fn database(db: &Db, name: &DbName) -> Result<Option<DatabaseRecord>, StoreError> {
    let row = keys::name(name);
    let Some(found) = get(db, &row)? else { return Ok(None) };
    let (key, incarnation) =
        record::decode_database(&found).ok_or_else(|| damaged(&row, "is malformed"))?;
    Ok(Some(DatabaseRecord { key, name: name.clone(), incarnation }))
}

pub(super) fn names(
    db: &Db,
    after: Option<&DbName>,
    limit: usize,
) -> Result<Vec<DbName>, StoreError> {
    let rows = scan(db, keys::names_after(after), Order::Ascending).take(limit);
    rows.map(|row| {
        let (key, _) = row?;
        keys::name_of(&key).ok_or_else(|| damaged(&key, "has no legal name"))
    })
    .collect()
}

pub(super) fn doc(
    db: &Db,
    database: DatabaseKey,
    id: &DocId,
    what: ReadDoc,
) -> Result<Option<StoredDoc>, StoreError> {
    let key = keys::doc(database, id);
    match get(db, &key)? {
        Some(value) => stored(db, database, id, &key, value, what),
        None => Ok(None),
    }
}

/// Reads the document whose row was found as `value`.
fn stored(
    db: &Db,
    database: DatabaseKey,
    id: &DocId,
    key: &[u8],
    mut value: ::sled::IVec,
    what: ReadDoc,
) -> Result<Option<StoredDoc>, StoreError> {
    let mut stood_still = false;
    loop {
        let Some(content) = complete(db, key, value.clone())? else { return Ok(None) };
        let record = DocRecord::decode(&content).ok_or_else(|| damaged(key, "is malformed"))?;
        if let Some(found) = follow(db, database, id, key, record, what)? {
            return Ok(Some(found));
        }
        match get(db, key)? {
            None => return Ok(None),
            Some(again) if again == value && stood_still => {
                return Err(damaged(key, "names a body or older revisions that are not there"));
            }
            Some(again) => {
                stood_still = again == value;
                value = again;
            }
        }
    }
}

/// Follows a document's row to the others that are asked for; `None` if one is not there.
fn follow(
    db: &Db,
    database: DatabaseKey,
    id: &DocId,
    key: &[u8],
    record: DocRecord<'_>,
    what: ReadDoc,
) -> Result<Option<StoredDoc>, StoreError> {
    let DocRecord { version, older, mut tree, inline, .. } = record;
    let winner_body = match (what.body, inline) {
        (ReadBody::No, _) | (ReadBody::SmallWinner, None) => None,
        (ReadBody::Winner | ReadBody::SmallWinner, Some(inline)) => {
            let body = BodyRecord::decode(inline);
            Some(body.ok_or_else(|| damaged(key, "has a malformed body"))?)
        }
        (ReadBody::Winner, None) => {
            match tree.winner().filter(|leaf| leaf.state.body_bytes.is_some()) {
                Some(leaf) => match body_row(db, database, id, &leaf.rev)? {
                    Some(body) => Some(body),
                    None => return Ok(None),
                },
                None => None,
            }
        }
    };
    if what.tree == ReadTree::Whole && !older.is_empty() {
        let Some(trunk) = older::read(db, database, id, older)? else { return Ok(None) };
        // Rows of another state of the document may not fit; then it has changed.
        let Some(whole) = RevTree::with_trunk(trunk, &tree) else { return Ok(None) };
        tree = whole;
    }
    Ok(Some(StoredDoc { version, tree, read: what.tree, older, winner_body }))
}

fn body_row(
    db: &Db,
    database: DatabaseKey,
    id: &DocId,
    rev: &Rev,
) -> Result<Option<BodyRecord>, StoreError> {
    let key = keys::body(database, id, rev);
    let Some(content) = value::read(db, &key)? else { return Ok(None) };
    BodyRecord::decode(&content).map(Some).ok_or_else(|| damaged(&key, "is malformed"))
}

pub(super) fn body(
    db: &Db,
    database: DatabaseKey,
    id: &DocId,
    rev: &Rev,
) -> Result<Option<BodyRecord>, StoreError> {
    let key = keys::doc(database, id);
    let Some(content) = value::read(db, &key)? else { return Ok(None) };
    let record = DocRecord::decode(&content).ok_or_else(|| damaged(&key, "is malformed"))?;
    match record.inline {
        Some(inline) if record.tree.winner().is_some_and(|leaf| leaf.rev == *rev) => {
            let body = BodyRecord::decode(inline);
            body.map(Some).ok_or_else(|| damaged(&key, "has a malformed body"))
        }
        _ => body_row(db, database, id, rev),
    }
}

pub(super) fn docs(
    db: &Db,
    database: DatabaseKey,
    range: &DocsRange,
) -> Result<Vec<(DocId, StoredDoc)>, StoreError> {
    let mut found = Vec::new();
    let Some(bounds) = keys::docs(database, range) else { return Ok(found) };
    let mut rows = scan(db, bounds, range.order);
    while found.len() < range.limit {
        let Some(row) = rows.next() else { break };
        let (key, value) = row?;
        let id = keys::doc_id(&key).ok_or_else(|| damaged(&key, "has no legal id"))?;
        if let Some(doc) = stored(db, database, &id, &key, value, range.read)? {
            found.push((id, doc));
        }
    }
    Ok(found)
}

/// A page of what was durable when the scan began. The caller must still wait for the group that
/// may have moved a row away.
pub(super) fn changes(
    shared: &Shared,
    db: &Db,
    database: DatabaseKey,
    range: ChangesRange,
) -> Result<ChangesPage, StoreError> {
    let durable = shared.durable_counts(db, database)?.update_seq;
    let mut page = ChangesPage { rows: Vec::new(), last_seq: durable, more: false };
    let Some(bounds) = keys::seqs(database, range.since, durable) else { return Ok(page) };
    for row in scan(db, bounds, range.order) {
        let (key, value) = row?;
        let Some(content) = complete(db, &key, value)? else { continue };
        if page.rows.len() == range.limit {
            page.more = true;
            page.last_seq = page.rows.last().map_or(range.since, |row| row.seq);
            break;
        }
        let seq = keys::seq_of(&key).ok_or_else(|| damaged(&key, "has no seq"))?;
        let row = record::decode_seq_row(seq, &content);
        page.rows.push(row.ok_or_else(|| damaged(&key, "is malformed"))?);
    }
    Ok(page)
}

/// By-seq rows as they are now, durable or not.
pub(super) fn seq_rows(
    db: &Db,
    database: DatabaseKey,
    since: u64,
    until: u64,
    limit: usize,
) -> Result<Vec<ChangeRow>, StoreError> {
    let mut rows = Vec::new();
    let Some(bounds) = keys::seqs(database, since, until) else { return Ok(rows) };
    for row in scan(db, bounds, Order::Ascending).take(limit) {
        let (key, value) = row?;
        let Some(content) = complete(db, &key, value)? else { continue };
        let seq = keys::seq_of(&key).ok_or_else(|| damaged(&key, "has no seq"))?;
        let row = record::decode_seq_row(seq, &content);
        rows.push(row.ok_or_else(|| damaged(&key, "is malformed"))?);
    }
    Ok(rows)
}

pub(super) fn count_changes(
    shared: &Shared,
    db: &Db,
    database: DatabaseKey,
    since: u64,
) -> Result<u64, StoreError> {
    let counts = shared.durable_counts(db, database)?;
    if since == 0 {
        return Ok(counts.docs + counts.deleted_docs);
    }
    let Some(bounds) = keys::seqs(database, since, counts.update_seq) else { return Ok(0) };
    scan(db, bounds, Order::Ascending).try_fold(0, |count, row| row.map(|_| count + 1))
}

pub(super) fn settings(db: &Db, database: DatabaseKey) -> Result<DatabaseSettings, StoreError> {
    let key = keys::settings(database);
    let Some(content) = value::read(db, &key)? else { return Ok(DatabaseSettings::default()) };
    record::decode_settings(&content).ok_or_else(|| damaged(&key, "is malformed"))
}

pub(super) fn notes(db: &Db, database: DatabaseKey) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(value::read(db, &keys::notes(database))?.map(|content| content.to_vec()))
}

/// Names of the small attachments.
pub(super) fn blobs(db: &Db, database: DatabaseKey) -> Result<Vec<BlobKey>, StoreError> {
    let rows = scan(db, keys::all(database, keys::Kind::Blob), Order::Ascending);
    rows.map(|row| {
        let (key, _) = row?;
        keys::blob_key(&key).ok_or_else(|| damaged(&key, "has no legal name"))
    })
    .collect()
}

pub(super) fn local(
    db: &Db,
    database: DatabaseKey,
    id: &LocalId,
) -> Result<Option<(LocalRev, Body)>, StoreError> {
    let key = keys::local(database, id);
    let Some(content) = value::read(db, &key)? else { return Ok(None) };
    record::decode_local(&content).map(Some).ok_or_else(|| damaged(&key, "is malformed"))
}

pub(super) fn locals(
    db: &Db,
    database: DatabaseKey,
    after: Option<&LocalId>,
    limit: usize,
) -> Result<Vec<(LocalId, LocalRev, Body)>, StoreError> {
    let mut found = Vec::new();
    let mut rows = scan(db, keys::locals_after(database, after), Order::Ascending);
    while found.len() < limit {
        let Some(row) = rows.next() else { break };
        let (key, value) = row?;
        let Some(content) = complete(db, &key, value)? else { continue };
        let id = keys::local_id(&key).ok_or_else(|| damaged(&key, "has no legal name"))?;
        let local = record::decode_local(&content);
        let (rev, body) = local.ok_or_else(|| damaged(&key, "is malformed"))?;
        found.push((id, rev, body));
    }
    Ok(found)
}
