//! `_changes`: the feed in CouchDB's four forms, at the reader's pace.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::doc::{DocId, Selector, SelectorError};
use crate::proto::message::WireError;
use crate::server::error::{HttpRefusal, ToWire as _, bad_request, missing_json_key};
use crate::server::streams::push_change_head;
use crate::store::{
    Change, ChangeDocs, ChangesOptions, Feed, FeedPage, GetOptions, Order, Since, StoreError, Style,
};

use super::answer::{Answer, JSON, Out, Stop, streamed};
use super::db::Db;
use super::query::Query;
use super::shown::{Bytes, write_document};
use super::{NO_JAVASCRIPT, only, reads};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Rows and bytes of bodies read at a time.
const PAGE_ROWS: usize = 1_000;
const PAGE_BYTES: usize = 256 * 1024;

/// CouchDB's bound on `timeout` and `heartbeat`, and their default.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How the feed is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Normal,
    Longpoll,
    Continuous,
    EventSource,
}

impl Form {
    pub(super) fn of(query: &Query) -> Result<Self, WireError> {
        match query.text("feed") {
            None | Some("normal") => Ok(Self::Normal),
            Some("longpoll") => Ok(Self::Longpoll),
            Some("continuous" | "live") => Ok(Self::Continuous),
            Some("eventsource") => Ok(Self::EventSource),
            Some(_) => Err(bad_request("feed must be normal, longpoll, continuous or eventsource")),
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        if self == Self::EventSource { "text/event-stream" } else { JSON }
    }

    /// Whether rows stand in an array.
    pub(super) fn is_array(self) -> bool {
        matches!(self, Self::Normal | Self::Longpoll)
    }
}

/// How long a feed waits, and what it says meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    heartbeat: Option<Duration>,
    timeout: Duration,
}

impl Waiting {
    pub(super) fn of(query: &Query) -> Result<Self, WireError> {
        let bounded = |ms: u64| Duration::from_millis(ms).min(WAIT_MAX);
        let heartbeat = match query.text("heartbeat") {
            None | Some("false") => None,
            Some("true") => Some(WAIT_MAX),
            Some(_) => match query.count("heartbeat") {
                Ok(Some(ms)) if ms > 0 => Some(bounded(ms)),
                _ => {
                    return Err(bad_request(
                        "The heartbeat value should be a positive integer (in milliseconds).",
                    ));
                }
            },
        };
        let timeout = query.count("timeout").map_err(|_| {
            bad_request("The timeout value should be 0 or a positive integer (in milliseconds).")
        })?;
        Ok(Self { heartbeat, timeout: timeout.map_or(WAIT_MAX, bounded) })
    }

    /// The moment of the next heartbeat, or of the end: they do not mix.
    pub(super) fn next(&self) -> (Instant, AfterWait) {
        match self.heartbeat {
            Some(heartbeat) => (Instant::now() + heartbeat, AfterWait::Beat),
            None => (Instant::now() + self.timeout, AfterWait::End),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterWait {
    Beat,
    End,
}

/// What a filter lets pass beside the store's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Filter {
    #[default]
    All,
    DesignDocs,
}

/// What a request's filter lets pass.
#[derive(Default)]
struct Passing {
    filter: Filter,
    doc_ids: Option<Vec<DocId>>,
    selectors: Vec<Selector>,
}

struct Asked {
    options: ChangesOptions,
    limit: u64,
    form: Form,
    waiting: Waiting,
    filter: Filter,
    bytes: Bytes,
    conflicts: bool,
}

#[derive(Deserialize, Default)]
struct Body {
    doc_ids: Option<Value>,
    selector: Option<Box<RawValue>>,
}

pub(super) async fn route(mut db: Db) -> Answer {
    let body: Body = match &db.request.method {
        method if reads(method) => Body::default(),
        &Method::POST => db.json_body_if_any().await?,
        _ => return only("GET,HEAD,POST"),
    };
    db.check_read()?;
    let asked = asked(&db, body).await?;
    // Opened before the status is sent: what is wrong with the database is told in words.
    let feed = db.granted.feed(asked.options.clone()).await;
    let feed = feed.map_err(|error| error.to_wire())?;
    let content_type = asked.form.content_type();
    let db = Arc::new(db);
    Ok(streamed(content_type, move |out| async move {
        let mut writer = Writer { any: false, left: asked.limit, asked, db: Arc::clone(&db) };
        tokio::select! {
            // First: a feed that waits for changes, and not for its reader, ends in words.
            biased;
            written = writer.run(feed, out) => written,
            Err(error) = db.until_ended() => Err(Stop::Failed(error)),
        }
    }))
}

async fn asked(db: &Db, body: Body) -> Result<Asked, WireError> {
    let query = &db.request.query;
    let form = Form::of(query)?;
    let Passing { filter, doc_ids, selectors } = filter_of(db, body).await?;
    let include_docs = query.flag("include_docs")?;
    let descending = query.flag("descending")? && form == Form::Normal;
    let style = match query.text("style") {
        None | Some("main_only") => Style::MainOnly,
        Some("all_docs") => Style::AllDocs,
        Some(_) => return Err(bad_request("style must be main_only or all_docs")),
    };
    query.count("seq_interval")?;
    let options = ChangesOptions {
        since: since_of(db)?,
        limit: None,
        order: if descending { Order::Descending } else { Order::Ascending },
        style,
        docs: if include_docs { ChangeDocs::Winner } else { ChangeDocs::None },
        doc_ids,
        selectors,
        skip_tombstones: false,
        groups: false,
    };
    Ok(Asked {
        options,
        limit: query.count("limit")?.unwrap_or(u64::MAX),
        form,
        waiting: Waiting::of(query)?,
        filter,
        bytes: Bytes::all_if(query.flag("attachments")?),
        conflicts: query.flag("conflicts")? && include_docs,
    })
}

fn since_of(db: &Db) -> Result<Since, WireError> {
    let header = db.request.header(&LAST_EVENT_ID)?;
    let Some(text) = header.or(db.request.query.text("since")) else { return Ok(Since::Start) };
    // Some clients send it as JSON.
    let plain = text.trim().trim_matches('"');
    if plain.is_empty() {
        return Ok(Since::Start);
    }
    Since::parse(plain).ok_or_else(|| bad_request("since must be a last_seq, 0 or now"))
}

async fn filter_of(db: &Db, body: Body) -> Result<Passing, WireError> {
    match db.request.query.text("filter") {
        None | Some("") => Ok(Passing::default()),
        Some("_doc_ids") => {
            let ids = match body.doc_ids {
                Some(ids) => Some(ids),
                None => db.request.query.json("doc_ids")?,
            };
            let not_ids = || bad_request("`doc_ids` filter parameter is not a list of doc ids.");
            let Some(Value::Array(ids)) = ids else { return Err(not_ids()) };
            let max = db.doc_limits().bulk_rows_max;
            if ids.len() > max {
                let (count, max) = (ids.len() as u64, max as u64);
                return Err(StoreError::TooLarge { what: "doc_ids", count, max }.to_wire());
            }
            let texts = ids.iter().map(|id| id.as_str().ok_or_else(not_ids));
            let texts = texts.collect::<Result<Vec<&str>, _>>()?;
            // What cannot be an id names no document.
            let ids = texts.into_iter().filter_map(|id| db.doc_id(id).ok()).collect();
            Ok(Passing { doc_ids: Some(ids), ..Passing::default() })
        }
        Some("_selector") => {
            // CouchDB's words, which clients look for.
            let not_object = || bad_request("Selector error: expected a JSON object");
            let text = body.selector.ok_or_else(not_object)?;
            let selector = Selector::parse(text.get(), db.doc_limits());
            let selector = selector.map_err(|error| match error {
                SelectorError::NotAnObject => not_object(),
                other => other.to_wire(),
            })?;
            Ok(Passing { selectors: vec![selector], ..Passing::default() })
        }
        Some("_design") => Ok(Passing { filter: Filter::DesignDocs, ..Passing::default() }),
        Some("_view") if db.request.query.text("view").is_none_or(str::is_empty) => {
            Err(bad_request("`view` filter parameter is not provided."))
        }
        Some("_view") => {
            let view = db.request.query.text("view").unwrap_or_default();
            refuse_function(db, "views", view).await
        }
        Some(name) if name.contains('/') => refuse_function(db, "filters", name).await,
        Some(_) => Err(bad_request(
            "Invalid filter: it must be `_doc_ids`, `_selector`, `_design` or `ddoc/name`",
        )),
    }
}

/// Refuses a function of a design document: it is not there, or it is not run.
async fn refuse_function(db: &Db, members: &str, path: &str) -> Result<Passing, WireError> {
    let (design, name) = path.split_once('/').unwrap_or((path, ""));
    let id = db.doc_id(&format!("_design/{design}"))?;
    let document = db.granted.get(&id, &GetOptions::default()).await;
    let document = document.map_err(|error| error.to_wire())?;
    let body: Value = document.body.to().unwrap_or_default();
    let functions = &body[members];
    let missing = [(functions, members), (&functions[name], name)];
    Err(match missing.iter().find(|(found, _)| found.is_null()) {
        Some((_, key)) => missing_json_key(&crate::doc::printable(key)),
        None => HttpRefusal::NotImplemented { reason: NO_JAVASCRIPT }.to_wire(),
    })
}

struct Writer {
    db: Arc<Db>,
    asked: Asked,
    left: u64,
    any: bool,
}

/// How one look at the feed ended.
enum Looked {
    Page(FeedPage),
    Beat,
    End,
}

impl Writer {
    async fn run(&mut self, mut feed: Feed, mut out: Out) -> Result<(), Stop> {
        if self.asked.form.is_array() {
            out.text("{\"results\":[").await?;
        }
        // For an answer without rows.
        let (mut last_seq, mut pending) = (feed.place().to_string(), feed.pending());
        let (mut at_end, mut deadline) = (false, self.asked.waiting.next());
        let live = matches!(self.asked.form, Form::Continuous | Form::EventSource);
        let link = Arc::clone(&self.db.request.link);
        let followed = live.then(|| link.follows(self.db.database(), feed.place().number));
        while self.left > 0 {
            if at_end {
                out.flush().await?;
            }
            let mut page = match self.look(&mut feed, deadline).await? {
                Looked::Page(page) => page,
                Looked::Beat => {
                    self.beat(&mut out).await?;
                    deadline = self.asked.waiting.next();
                    continue;
                }
                Looked::End => break,
            };
            self.db.check_read()?;
            self.db.granted.fetched_page(&mut page, self.asked.options.docs).await?;
            (last_seq, pending) = (page.last_seq.to_string(), page.pending);
            at_end = page.pending == 0;
            let (rows, reached) = (page.rows.len(), page.last_seq.number);
            for change in page.rows {
                if self.passes(&change) {
                    if self.asked.options.order == Order::Descending {
                        last_seq = change.seq.to_string();
                    }
                    self.row(&mut out, change).await?;
                }
            }
            if rows > 0 {
                deadline = self.asked.waiting.next();
            }
            followed.iter().for_each(|place| place.reached(reached));
            let done = match self.asked.form {
                Form::Normal => at_end,
                Form::Longpoll => at_end && self.any,
                Form::Continuous | Form::EventSource => false,
            };
            if done {
                break;
            }
        }
        self.end(&mut out, &last_seq, pending).await?;
        out.flush().await
    }

    /// Waits for rows, the next heartbeat, or whatever ends the feed.
    async fn look(
        &self,
        feed: &mut Feed,
        (at, then): (Instant, AfterWait),
    ) -> Result<Looked, Stop> {
        let rows_max = usize::try_from(self.left).unwrap_or(usize::MAX).min(PAGE_ROWS);
        let shared = &self.db.request.shared;
        tokio::select! {
            // What ends the feed comes first: there may always be another page.
            biased;
            _ = self.db.until_ended() => Ok(Looked::End),
            page = feed.next_page(rows_max, PAGE_BYTES) => match page {
                Ok(page) => Ok(Looked::Page(page)),
                Err(StoreError::DatabaseDestroyed { .. }) => Ok(Looked::End),
                Err(error) => Err(error.into()),
            },
            () = shared.until_stopping() => Ok(Looked::End),
            () = sleep_until(at) => Ok(match then {
                AfterWait::Beat => Looked::Beat,
                AfterWait::End => Looked::End,
            }),
        }
    }

    fn passes(&self, change: &Change) -> bool {
        match self.asked.filter {
            Filter::All => true,
            Filter::DesignDocs => change.id.as_str().starts_with("_design/"),
        }
    }

    async fn row(&mut self, out: &mut Out, mut change: Change) -> Result<(), Stop> {
        self.left = self.left.saturating_sub(1);
        let mut head = String::new();
        push_change_head(&mut head, &change);
        match self.asked.form {
            Form::Normal | Form::Longpoll => {
                out.text(if self.any { ",\n" } else { "\n" }).await?;
            }
            Form::Continuous => {}
            Form::EventSource => out.text("data: ").await?,
        }
        self.any = true;
        out.text(&head).await?;
        if let Some(mut document) = change.docs.pop() {
            self.db.request.link.read(1);
            if self.asked.conflicts {
                let options = GetOptions {
                    rev: document.rev.clone(),
                    conflicts: true,
                    ..GetOptions::default()
                };
                document = self.db.granted.get(&change.id, &options).await.unwrap_or(document);
            }
            out.text(",\"doc\":").await?;
            write_document(out, self.db.database(), document, self.asked.bytes).await?;
        }
        match self.asked.form {
            Form::Normal | Form::Longpoll => out.text("}").await,
            Form::Continuous => out.text("}\n").await,
            Form::EventSource => out.text(&format!("}}\nid: {}\n\n", change.seq)).await,
        }
    }

    async fn beat(&self, out: &mut Out) -> Result<(), Stop> {
        let beat = if self.asked.form == Form::EventSource {
            "event: heartbeat\ndata: \n\n"
        } else {
            "\n"
        };
        out.text(beat).await?;
        out.flush().await
    }

    async fn end(&self, out: &mut Out, last_seq: &str, pending: u64) -> Result<(), Stop> {
        match self.asked.form {
            Form::Normal | Form::Longpoll => {
                let seq = json!(last_seq);
                let end = format!("\n],\n\"last_seq\":{seq},\"pending\":{pending}}}\n");
                out.text(&end).await
            }
            Form::Continuous => {
                out.text(&format!("{}\n", json!({"last_seq": last_seq, "pending": pending}))).await
            }
            Form::EventSource => Ok(()),
        }
    }
}
