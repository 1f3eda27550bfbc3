//! Calls that stream: the changes feed, bulk reads, attachments. A message leaves when the client
//! has given credit for it, so a slow client holds one page and no more.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::doc::{DocId, Selector};
use crate::proto::call::{
    AllDocsParams, AttachmentParams, BlobNote, BulkGetParams, CREDIT_DEFAULT, ChangesParams,
    SinceParam, StyleParam, WriteRow, method,
};
use crate::proto::message::RowsNote;
use crate::store::{
    AllDocsOptions, AllDocsRow, BulkGetItem, BulkGetOptions, BulkGetResult, Change, ChangeDocs,
    ChangesOptions, FeedPage, KeyRange, OpenRev, Order, Since, StoreError, Style,
};

use super::calls::{Answer, Call, Stop, params, rev};
use super::error::{ToWire as _, bad_param};
use super::granted::Granted;
use super::tail::{Tail, TailPage};

/// Rows of the feed in one message.
const ROWS_MAX: usize = 1_000;

/// Documents read at a time for `bulk_get` and `all_docs`.
const PAGE_DOCS: usize = 64;

/// How long a place that the client need not know at once waits for rows to travel with.
const NOTE_DELAY: Duration = Duration::from_millis(500);

pub(super) async fn changes(call: &Call, raw: &RawValue) -> Result<Answer, Stop> {
    let asked: ChangesParams = params(method::CHANGES, raw)?;
    let granted = call.channel.granted();
    granted.check_read()?;
    let mut left = asked.limit.map_or(usize::MAX, clamp);
    let mut feed = granted.feed(changes_options(call, &asked)?).await?;
    let tail = shared_tail(call, &granted, &asked);
    call.begin_stream(asked.credit.unwrap_or(CREDIT_DEFAULT));
    let followed = asked.live.then(|| granted.link.follows(&granted.database, feed.place().number));
    // The place after rows that were left out, and when it is to be told at the latest.
    let mut untold: Option<(RowsNote, Instant)> = None;
    let mut knows_the_end = false;
    let mut has_caught_up = false;
    call.wait_for_credit().await?;
    loop {
        let (rows_max, bytes_max) = (left.min(ROWS_MAX), call.limits.rows_bytes_target);
        let next = async {
            match &tail {
                Some(tail) if has_caught_up => {
                    let render = |change: &Change| {
                        let mut text = String::new();
                        push_change(&mut text, change, change_docs(&asked));
                        text
                    };
                    let database = &granted.database;
                    tail.next(&mut feed, database, bytes_max, render).await.map(Page::Shared)
                }
                _ => feed.next_page(rows_max, bytes_max).await.map(Page::Own),
            }
        };
        let mut page = match &untold {
            None => next.await?,
            Some((note, due)) => match timeout_at(*due, next).await {
                Ok(page) => page?,
                Err(_) => {
                    call.send_rows("", Some(note)).await?;
                    untold = None;
                    call.wait_for_credit().await?;
                    continue;
                }
            },
        };
        // New credentials may have brought a grant that shows less.
        let granted = call.channel.granted();
        granted.check_read()?;
        left -= page.rows().min(left);
        if let Page::Own(page) = &mut page {
            granted.fetched_page(page, change_docs(&asked)).await?;
        }
        let (note, rows) = page_text(call, &asked, &page);
        if change_docs(&asked) != ChangeDocs::None {
            granted.link.read(page.rows());
        }
        let ends = !asked.live && (note.pending == 0 || left == 0);
        if ends {
            if !rows.is_empty() {
                call.send_rows(&rows, Some(&note)).await?;
            }
            return Ok(Answer::End(json!(note).to_string()));
        }
        // No row passed: the client is told the place only. That may wait a moment while rows
        // follow, or if the client knows that it has everything.
        if rows.is_empty() && (note.pending > 0 || knows_the_end) {
            let due = untold.map_or_else(|| Instant::now() + NOTE_DELAY, |(_, due)| due);
            if Instant::now() < due {
                untold = Some((note, due));
                continue;
            }
        }
        call.send_rows(&rows, Some(&note)).await?;
        followed.iter().for_each(|place| place.reached(page.last_number()));
        knows_the_end = note.pending == 0;
        has_caught_up |= knows_the_end;
        untold = None;
        call.wait_for_credit().await?;
    }
}

/// Whether rows are left out that this channel wrote. Only a reader that asks for every leaf can do
/// without them: a winner of its own may hide somebody else's branch.
fn leaves_out_own(asked: &ChangesParams) -> bool {
    asked.docs && asked.style == StyleParam::AllDocs && !asked.echo
}

pub(super) fn clamp(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn changes_options(call: &Call, asked: &ChangesParams) -> Result<ChangesOptions, Stop> {
    let since = match &asked.since {
        None => Since::Start,
        Some(SinceParam::Number(number)) => Since::Number(*number),
        Some(SinceParam::Text(text)) => Since::parse(text)
            .ok_or_else(|| bad_param("since", "it must be a last_seq, 0 or \"now\""))?,
    };
    if asked.live && asked.descending {
        return Err(bad_param("descending", "a live feed cannot descend").into());
    }
    if asked.live && asked.limit.is_some() {
        return Err(bad_param("limit", "a live feed cannot be limited; cancel it").into());
    }
    let doc_ids = asked.doc_ids.as_ref().map(|ids| ids.iter().map(|id| call.doc_id(id)).collect());
    let limits = call.doc_limits();
    let selector = asked.selector.as_ref().map(|text| Selector::parse(text.get(), &limits));
    let selector = selector.map(|parsed| parsed.map_err(|error| error.to_wire()));
    Ok(ChangesOptions {
        since,
        limit: None,
        order: order(asked.descending),
        style: style(asked),
        docs: change_docs(asked),
        doc_ids: doc_ids.transpose()?,
        selectors: selector.transpose()?.into_iter().collect(),
        skip_tombstones: asked.skip_tombstones,
        groups: asked.groups,
    })
}

fn style(asked: &ChangesParams) -> Style {
    match asked.style {
        StyleParam::AllDocs => Style::AllDocs,
        StyleParam::MainOnly => Style::MainOnly,
    }
}

fn change_docs(asked: &ChangesParams) -> ChangeDocs {
    match (asked.docs, asked.include_docs) {
        (true, _) => ChangeDocs::Leaves,
        (false, true) => ChangeDocs::Winner,
        (false, false) => ChangeDocs::None,
    }
}

fn order(descending: bool) -> Order {
    if descending { Order::Descending } else { Order::Ascending }
}

/// What a feed gave.
enum Page {
    /// Read by this feed alone.
    Own(FeedPage),
    /// Read by one of many; at least one.
    Shared(Vec<Arc<TailPage>>),
}

impl Page {
    fn rows(&self) -> usize {
        match self {
            Self::Own(page) => page.rows.len(),
            Self::Shared(pages) => pages.iter().map(|page| page.page.rows.len()).sum(),
        }
    }

    /// Where it ends.
    fn last_number(&self) -> u64 {
        match self {
            Self::Own(page) => page.last_seq.number,
            Self::Shared(pages) => pages.last().map_or(0, |last| last.page.last_seq.number),
        }
    }
}

/// The tail that a live feed shares with others once it has caught up; a feed of a part of the
/// database has none.
fn shared_tail(call: &Call, granted: &Granted, asked: &ChangesParams) -> Option<Arc<Tail>> {
    let whole = asked.doc_ids.is_none() && asked.selector.is_none() && granted.shows_all_alike();
    let groups = asked.groups;
    let tail =
        || call.channel.tails().of(&granted.database, style(asked), change_docs(asked), groups);
    (asked.live && whole && asked.limit.is_none()).then(tail)
}

fn page_text(call: &Call, asked: &ChangesParams, page: &Page) -> (RowsNote, String) {
    let mut rows = String::new();
    let mut push = |change: &Change, text: &dyn Fn(&mut String)| {
        let own = || call.channel.wrote_all(&change.id, change.leaves.iter().map(|(rev, _)| rev));
        if leaves_out_own(asked) && own() {
            return;
        }
        if !rows.is_empty() {
            rows.push(',');
        }
        text(&mut rows);
    };
    let note =
        |page: &FeedPage| RowsNote { last_seq: page.last_seq.to_string(), pending: page.pending };
    match page {
        Page::Own(page) => {
            for change in &page.rows {
                push(change, &|rows| push_change(rows, change, change_docs(asked)));
            }
            (note(page), rows)
        }
        Page::Shared(pages) => {
            for page in pages {
                for (change, text) in page.page.rows.iter().zip(&page.texts) {
                    push(change, &|rows| rows.push_str(text));
                }
            }
            let last = pages.last().expect("a tail gives one page at least");
            (note(&last.page), rows)
        }
    }
}

/// A row of a changes feed.
pub(super) fn push_change(out: &mut String, change: &Change, docs: ChangeDocs) {
    push_change_head(out, change);
    if docs == ChangeDocs::Leaves {
        out.push_str(",\"docs\":[");
        for (index, document) in change.docs.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(&document.to_json());
        }
        out.push(']');
    } else if let Some(document) = change.docs.first() {
        out.push_str(",\"doc\":");
        out.push_str(&document.to_json());
    }
    out.push('}');
}

/// A row of the feed without its documents and its closing brace.
pub(super) fn push_change_head(out: &mut String, change: &Change) {
    use std::fmt::Write as _;
    let _ = write!(out, "{{\"seq\":\"{}\",\"id\":{}", change.seq, json!(change.id.as_str()));
    out.push_str(",\"changes\":[");
    for (index, (rev, _)) in change.leaves.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let _ = write!(out, "{{\"rev\":{}}}", json!(rev.to_string()));
    }
    out.push(']');
    if change.deleted() {
        out.push_str(",\"deleted\":true");
    }
    if let Some(group) = change.group {
        let _ = write!(out, ",\"group\":{group}");
    }
}

/// Collects rows until a message is full.
struct RowBuffer<'a> {
    call: &'a Call,
    rows: String,
}

impl<'a> RowBuffer<'a> {
    fn new(call: &'a Call) -> Self {
        Self { call, rows: String::new() }
    }

    async fn push(&mut self, row: &str) -> Result<(), Stop> {
        let target = self.call.limits.rows_bytes_target;
        if !self.rows.is_empty() && self.rows.len() + row.len() > target {
            self.flush().await?;
        }
        if !self.rows.is_empty() {
            self.rows.push(',');
        }
        self.rows.push_str(row);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.call.wait_for_credit().await?;
        self.call.send_rows(&std::mem::take(&mut self.rows), None).await
    }
}

fn check_rows(call: &Call, what: &'static str, count: usize) -> Result<(), StoreError> {
    let max = call.doc_limits().bulk_rows_max;
    if count > max {
        return Err(StoreError::TooLarge { what, count: count as u64, max: max as u64 });
    }
    Ok(())
}

pub(super) async fn bulk_get(call: &Call, raw: &RawValue) -> Result<Answer, Stop> {
    let asked: BulkGetParams = params(method::BULK_GET, raw)?;
    let granted = call.channel.granted();
    granted.check_read()?;
    check_rows(call, "documents in one read", asked.docs.len())?;
    call.begin_stream(asked.credit);
    let options = BulkGetOptions { revs: asked.revs, latest: asked.latest, attachments: false };
    let mut rows = RowBuffer::new(call);
    for page in asked.docs.chunks(PAGE_DOCS) {
        let mut items = Vec::with_capacity(page.len());
        for one in page {
            let rev = one.rev.as_deref().map(rev).transpose()?;
            items.push(BulkGetItem { id: call.doc_id(&one.id)?, rev });
        }
        let mut items = &items[..];
        while !items.is_empty() {
            let granted = call.channel.granted();
            granted.check_read()?;
            let bytes_max = call.limits.rows_bytes_target;
            let found = granted.bulk_get_page(items, options, bytes_max).await?;
            items = &items[found.len()..];
            for result in found {
                rows.push(&bulk_get_row(&result)).await?;
            }
        }
    }
    rows.flush().await?;
    Ok(Answer::End("{}".into()))
}

fn bulk_get_row(result: &BulkGetResult) -> String {
    let missing = |rev: Option<String>| {
        let error = StoreError::DocMissing { id: result.id.clone() }.to_wire();
        let id = result.id.to_string();
        let (status, error, reason) = (Some(error.status), Some(error.error), Some(error.reason));
        json!({"error": WriteRow { ok: false, id, rev, status, error, reason }}).to_string()
    };
    let mut row = format!("{{\"id\":{},\"docs\":[", json!(result.id.as_str()));
    for (index, one) in result.revs.iter().enumerate() {
        if index > 0 {
            row.push(',');
        }
        match one {
            OpenRev::Found(document) => {
                row.push_str("{\"ok\":");
                row.push_str(&document.to_json());
                row.push('}');
            }
            OpenRev::Missing(rev) => row.push_str(&missing(Some(rev.to_string()))),
        }
    }
    if result.revs.is_empty() {
        row.push_str(&missing(None));
    }
    row.push_str("]}");
    row
}

pub(super) async fn all_docs(call: &Call, raw: &RawValue) -> Result<Answer, Stop> {
    let asked: AllDocsParams = params(method::ALL_DOCS, raw)?;
    let granted = call.channel.granted();
    granted.check_read()?;
    call.begin_stream(asked.credit.unwrap_or(CREDIT_DEFAULT));
    let mut rows = RowBuffer::new(call);
    let options = AllDocsOptions {
        order: order(asked.descending),
        include_docs: asked.include_docs,
        conflicts: asked.conflicts,
        ..AllDocsOptions::default()
    };
    match &asked.keys {
        Some(keys) => all_docs_keys(call, keys, &asked, options, &mut rows).await?,
        None => all_docs_range(call, &asked, options, &mut rows).await?,
    }
    rows.flush().await?;
    let total_rows = granted.database.info().await?.doc_count;
    Ok(Answer::End(json!({"total_rows": total_rows}).to_string()))
}

async fn all_docs_keys(
    call: &Call,
    keys: &[String],
    asked: &AllDocsParams,
    mut options: AllDocsOptions,
    rows: &mut RowBuffer<'_>,
) -> Result<(), Stop> {
    check_rows(call, "keys", keys.len())?;
    let keys: Vec<DocId> = keys_in_order(call, keys, asked)?;
    options.order = Order::Ascending;
    let mut rest = keys.as_slice();
    while !rest.is_empty() {
        let granted = call.channel.granted();
        granted.check_read()?;
        options.keys = Some(rest[..rest.len().min(PAGE_DOCS)].to_vec());
        let page = granted.all_docs_page(&options, None, call.limits.rows_bytes_target).await?;
        for row in &page.rows {
            rows.push(&all_docs_row(row)).await?;
        }
        rest = &rest[page.rows.len()..];
    }
    Ok(())
}

fn keys_in_order(call: &Call, keys: &[String], asked: &AllDocsParams) -> Result<Vec<DocId>, Stop> {
    let ids = keys.iter().map(|id| call.doc_id(id)).collect::<Result<Vec<_>, _>>()?;
    let (skip, limit) = (clamp(asked.skip), asked.limit.map_or(usize::MAX, clamp));
    Ok(if asked.descending {
        ids.into_iter().rev().skip(skip).take(limit).collect()
    } else {
        ids.into_iter().skip(skip).take(limit).collect()
    })
}

async fn all_docs_range(
    call: &Call,
    asked: &AllDocsParams,
    mut options: AllDocsOptions,
    rows: &mut RowBuffer<'_>,
) -> Result<(), Stop> {
    let mut left = asked.limit.map_or(usize::MAX, clamp);
    options.range = KeyRange {
        start: asked.key.clone().or_else(|| asked.startkey.clone()),
        end: asked.key.clone().or_else(|| asked.endkey.clone()),
        exclusive_end: asked.inclusive_end == Some(false) && asked.key.is_none(),
    };
    options.skip = clamp(asked.skip);
    let mut after: Option<DocId> = None;
    while left > 0 {
        let granted = call.channel.granted();
        granted.check_read()?;
        options.limit = Some(left.min(PAGE_DOCS));
        let bytes_max = call.limits.rows_bytes_target;
        let page = granted.all_docs_page(&options, after.as_ref(), bytes_max).await?;
        for row in &page.rows {
            rows.push(&all_docs_row(row)).await?;
        }
        left -= page.rows.len().min(left);
        if page.ended {
            break;
        }
        after = page.rows.last().map(|last| last.id.clone()).or(after);
        options.skip = 0;
    }
    Ok(())
}

pub(super) fn all_docs_row(row: &AllDocsRow) -> String {
    let mut text = all_docs_row_head(row);
    match (&row.doc, row.deleted) {
        (Some(document), _) => {
            text.push_str(",\"doc\":");
            text.push_str(&document.to_json());
        }
        (None, true) => text.push_str(",\"doc\":null"),
        (None, false) => {}
    }
    text.push('}');
    text
}

/// A row of `all_docs` without its document and its closing brace.
pub(super) fn all_docs_row_head(row: &AllDocsRow) -> String {
    let id = json!(row.id.as_str());
    let Some(rev) = &row.rev else {
        return format!("{{\"key\":{id},\"error\":\"not_found\"");
    };
    let rev = json!(rev.to_string());
    let deleted = if row.deleted { ",\"deleted\":true" } else { "" };
    format!("{{\"id\":{id},\"key\":{id},\"value\":{{\"rev\":{rev}{deleted}}}")
}

pub(super) async fn attachment(call: &Call, raw: &RawValue) -> Result<Answer, Stop> {
    let asked: AttachmentParams = params(method::ATTACHMENT, raw)?;
    let granted = call.channel.granted();
    granted.check_read()?;
    let revision = asked.rev.as_deref().map(rev).transpose()?;
    let id = call.doc_id(&asked.id)?;
    let mut reader = granted.attachment(&id, &asked.name, revision.as_ref()).await?;
    call.begin_stream(asked.credit);
    let mut left = reader.length();
    while let Some(piece) = reader.next().await? {
        call.channel.granted().check_read()?;
        left = left.saturating_sub(piece.len() as u64);
        call.wait_for_credit().await?;
        call.send_piece(piece, left == 0).await?;
    }
    let note = BlobNote {
        digest: reader.digest().to_string(),
        length: reader.length(),
        content_type: Some(reader.attachment.content_type.clone()),
    };
    Ok(Answer::End(json!(note).to_string()))
}
