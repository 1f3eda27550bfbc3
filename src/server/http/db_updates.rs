//! `_db_updates`: which databases were made, changed or destroyed.
//!
//! The gateway keeps the latest update of each database in memory, under a number that counts up. A
//! `last_seq` of another run of the gateway, or of before a burst that was too large to be kept,
//! means all databases: whoever listens looks at each of them once more and misses none.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::sleep_until;

use crate::doc::DbName;
use crate::proto::message::WireError;
use crate::server::error::{ToWire as _, bad_request};
use crate::server::server_feed::ServerFeed;
use crate::store::{DbUpdate, DbUpdateKind, DbUpdates, Store, Uuid};

use super::answer::{Answer, Out, Stop, streamed};
use super::changes::{AfterWait, Form, Waiting};
use super::request::Request;

/// Updates kept; beyond it the oldest are forgotten.
const KEPT_MAX: usize = 100_000;

/// Names of databases read at a time.
const PAGE_NAMES: usize = 1_000;

/// The latest update of each database.
pub(crate) struct DbLog {
    run: Uuid,
    state: Mutex<LogState>,
}

struct LogState {
    updates: DbUpdates,
    seq: u64,
    /// What came before is not known one by one.
    floor: u64,
    latest: BTreeMap<DbName, (u64, DbUpdateKind)>,
}

impl fmt::Debug for DbLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DbLog(…)")
    }
}

impl LogState {
    /// Takes in what has happened since the last look.
    fn catch_up(&mut self) {
        while let Some(Some(next)) = self.updates.next().now_or_never() {
            self.seq += 1;
            match next {
                Ok(DbUpdate { name, kind }) => {
                    self.latest.insert(name, (self.seq, kind));
                }
                Err(_) => self.forget(),
            }
        }
        if self.latest.len() > KEPT_MAX {
            self.seq += 1;
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.floor = self.seq;
        self.latest.clear();
    }
}

/// Something to tell.
struct Row {
    name: DbName,
    kind: DbUpdateKind,
    seq: u64,
}

impl DbLog {
    pub(crate) fn new(store: &Store) -> Self {
        let state =
            LogState { updates: store.updates(), seq: 1, floor: 1, latest: BTreeMap::new() };
        let run = Uuid::random().expect("the system has randomness once it has booted");
        Self { run, state: Mutex::new(state) }
    }

    /// The number that a `since` stands for; 0 for another run's.
    fn number(&self, since: &str) -> Result<Option<u64>, WireError> {
        let malformed = || bad_request("since must be a last_seq, 0 or now");
        if since == "now" {
            return Ok(None);
        }
        let (number, run) = since.split_once('-').unwrap_or((since, ""));
        let digits = number.len() <= 18 && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|_| digits).ok_or_else(malformed)?;
        Ok(Some(if run == self.run.to_string() { number } else { 0 }))
    }

    /// What happened after a number, oldest first, and the number of the last of all.
    async fn after(&self, since: Option<u64>, store: &Store) -> Result<(Vec<Row>, u64), WireError> {
        let mut state = self.state.lock().await;
        state.catch_up();
        let (seq, floor) = (state.seq, state.floor);
        let Some(since) = since else { return Ok((Vec::new(), seq)) };
        let mut rows: Vec<Row> = Vec::new();
        if since < floor {
            let mut after: Option<DbName> = None;
            loop {
                let page = store.names(after.as_ref(), PAGE_NAMES).await;
                let page = page.map_err(|error| error.to_wire())?;
                let Some(last) = page.last() else { break };
                after = Some(last.clone());
                let known = page.into_iter().filter(|name| !state.latest.contains_key(name));
                let kind = DbUpdateKind::Updated;
                // A client that stops within this list and goes on from it gets it whole.
                rows.extend(known.map(|name| Row { name, kind, seq: floor - 1 }));
            }
        }
        let latest = state.latest.iter().filter(|(_, (seq, _))| *seq > since);
        rows.extend(latest.map(|(name, (seq, kind))| Row {
            name: name.clone(),
            kind: *kind,
            seq: *seq,
        }));
        rows.sort_by_key(|row| row.seq);
        Ok((rows, seq))
    }

    fn text(&self, seq: u64) -> String {
        format!("{seq}-{}", self.run)
    }
}

pub(super) fn answer(request: Request, feed: Arc<ServerFeed>) -> Answer {
    let form = Form::of(&request.query)?;
    let waiting = Waiting::of(&request.query)?;
    let since = request.query.text("since").unwrap_or("0").trim_matches('"').to_owned();
    let since = request.shared.db_log.number(&since)?;
    let check = Duration::from_millis(request.shared.limits.grant_check_interval_ms);
    Ok(streamed(form.content_type(), move |mut out| async move {
        let mut writer = Writer { request, form, waiting, any: false };
        let written = async {
            writer.run(since, &mut out).await?;
            out.flush().await
        };
        tokio::select! {
            written = written => written,
            Err(error) = feed.until_ended(check) => Err(Stop::Failed(error)),
        }
    }))
}

struct Writer {
    request: Request,
    form: Form,
    waiting: Waiting,
    any: bool,
}

impl Writer {
    async fn run(&mut self, mut since: Option<u64>, out: &mut Out) -> Result<(), Stop> {
        if self.form.is_array() {
            out.text("{\"results\":[").await?;
        }
        let mut deadline = self.waiting.next();
        loop {
            // Before the look: what happens after it wakes this one.
            let mut updates = self.request.shared.store.updates();
            let log = &self.request.shared.db_log;
            let (rows, last) = log.after(since, &self.request.shared.store).await?;
            since = Some(last);
            if !rows.is_empty() {
                deadline = self.waiting.next();
            }
            for row in rows {
                self.row(out, &row).await?;
            }
            let done = match self.form {
                Form::Normal => true,
                Form::Longpoll => self.any,
                Form::Continuous | Form::EventSource => false,
            };
            if done || !self.wait(&mut updates, &mut deadline, out).await? {
                break;
            }
        }
        let last_seq = self.request.shared.db_log.text(since.unwrap_or_default());
        match self.form {
            Form::Normal | Form::Longpoll => {
                out.text(&format!("\n],\"last_seq\":\"{last_seq}\"}}\n")).await
            }
            Form::Continuous => out.text(&format!("{}\n", json!({"last_seq": last_seq}))).await,
            Form::EventSource => Ok(()),
        }
    }

    /// Waits for something to happen; false when it is time to end.
    async fn wait(
        &self,
        updates: &mut DbUpdates,
        deadline: &mut (tokio::time::Instant, AfterWait),
        out: &mut Out,
    ) -> Result<bool, Stop> {
        out.flush().await?;
        let mut next = pin!(updates.next());
        loop {
            let (at, then) = *deadline;
            tokio::select! {
                next = &mut next => return Ok(next.is_some()),
                () = self.request.shared.until_stopping() => return Ok(false),
                () = sleep_until(at) => match then {
                    AfterWait::End => return Ok(false),
                    AfterWait::Beat => {
                        let source = self.form == Form::EventSource;
                        out.text(if source { "event: heartbeat\ndata: \n\n" } else { "\n" }).await?;
                        out.flush().await?;
                        *deadline = self.waiting.next();
                    }
                },
            }
        }
    }

    async fn row(&mut self, out: &mut Out, row: &Row) -> Result<(), Stop> {
        let kind = match row.kind {
            DbUpdateKind::Created => "created",
            DbUpdateKind::Updated => "updated",
            DbUpdateKind::Deleted => "deleted",
        };
        let seq = self.request.shared.db_log.text(row.seq);
        let text = json!({"db_name": row.name.to_string(), "type": kind, "seq": seq}).to_string();
        let comma = if self.any { ",\n" } else { "\n" };
        self.any = true;
        match self.form {
            Form::Normal | Form::Longpoll => out.text(&format!("{comma}{text}")).await,
            Form::Continuous => out.text(&format!("{text}\n")).await,
            Form::EventSource => out.text(&format!("data: {text}\nid: {seq}\n\n")).await,
        }
    }
}
