//! The changes feed as events: what is there, and for a live feed each change as it happens.

use std::sync::Arc;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use crate::proto::call::SinceParam;
use crate::proto::legacy::call::{Call, ChangesOptions, ErrorObject};
use crate::proto::message::WireError;
use crate::store::{Change, ChangeDocs, Feed, FeedPage, Order, Since, Style};

use super::super::calls::Stop;
use super::super::error::{Refusal, ToWire as _, bad_param};
use super::super::granted::Granted;
use super::super::outbox::Gone;
use super::super::streams::{clamp, push_change};
use super::calls::{arg, check_count, doc_id};
use super::channel::OpenChannel;

/// Rows of the feed in one message.
const ROWS_MAX: usize = 1_000;

/// Answers `_changes` and begins to send its events.
pub(super) async fn begin(
    open: &Arc<OpenChannel>,
    call: &Call,
    feeds: &mut JoinSet<()>,
) -> Result<(), Gone> {
    open.answer_null(call).await?;
    let Some(listener) = call.listener().map(ToOwned::to_owned) else {
        // Nobody could be told anything.
        return Ok(());
    };
    let limits = open.limits();
    let max = limits.calls_per_connection_max;
    let permit = open.connection.feeds_permit();
    let opened = async {
        let permit = permit.ok_or_else(|| Refusal::TooManyCalls { max }.to_wire())?;
        let asked: ChangesOptions = arg(call, 1)?;
        let granted = open.channel.granted();
        granted.check_read()?;
        let options = changes_options(&granted, &asked)?;
        let mut feed = granted.feed(options).await.map_err(|error| error.to_wire())?;
        // Here and not in the feed's own task: a write that the client sent later is not in it. A
        // feed's first page never waits for a change.
        let first = next_page(open, &mut feed, &asked, rows_left(&asked)).await?;
        Ok((permit, asked, feed, first))
    };
    match opened.await {
        Err(error) => tell_error(open, &listener, error).await,
        Ok((permit, asked, feed, first)) => {
            let open = Arc::clone(open);
            feeds.spawn(async move {
                let told = match run(&open, &listener, &asked, feed, first).await {
                    Err(Stop::Failed(error)) => tell_error(&open, &listener, error).await,
                    Err(Stop::Gone) | Ok(()) => Ok(()),
                };
                // Without a connection there is nobody to tell.
                let _ = told;
                drop(permit);
            });
            Ok(())
        }
    }
}

async fn tell_error(open: &OpenChannel, listener: &RawValue, error: WireError) -> Result<(), Gone> {
    open.send(open.event("error", listener, &ErrorObject::from(error).to_json())).await
}

fn changes_options(
    granted: &Granted,
    asked: &ChangesOptions,
) -> Result<crate::store::ChangesOptions, WireError> {
    let since = match &asked.since {
        None => Since::Start,
        Some(SinceParam::Number(number)) => Since::Number(*number),
        Some(SinceParam::Text(text)) => Since::parse(text)
            .ok_or_else(|| bad_param("since", "it must be a seq, 0 or \"now\""))?,
    };
    if live(asked) && asked.descending {
        return Err(bad_param("descending", "a live feed cannot descend"));
    }
    if let Some(ids) = &asked.doc_ids {
        check_count("doc_ids", ids.len(), granted.database.limits())?;
    }
    let ids = asked.doc_ids.as_ref();
    let doc_ids = ids.map(|ids| ids.iter().map(|id| doc_id(granted, id)).collect()).transpose()?;
    Ok(crate::store::ChangesOptions {
        since,
        order: if asked.descending { Order::Descending } else { Order::Ascending },
        style: match asked.style.as_deref() {
            Some("all_docs") => Style::AllDocs,
            _ => Style::MainOnly,
        },
        docs: change_docs(asked),
        doc_ids,
        ..crate::store::ChangesOptions::default()
    })
}

fn change_docs(asked: &ChangesOptions) -> ChangeDocs {
    if asked.include_docs { ChangeDocs::Winner } else { ChangeDocs::None }
}

fn live(asked: &ChangesOptions) -> bool {
    asked.live || asked.continuous
}

fn rows_left(asked: &ChangesOptions) -> usize {
    asked.limit.filter(|_| !live(asked)).map_or(usize::MAX, clamp)
}

async fn next_page(
    open: &OpenChannel,
    feed: &mut Feed,
    asked: &ChangesOptions,
    left: usize,
) -> Result<FeedPage, WireError> {
    let page = feed.next_page(left.min(ROWS_MAX), open.limits().rows_bytes_target).await;
    let mut page = page.map_err(|error| error.to_wire())?;
    let fetched = open.channel.granted().fetched_page(&mut page, change_docs(asked)).await;
    fetched.map(|()| page).map_err(|error| error.to_wire())
}

async fn run(
    open: &OpenChannel,
    listener: &RawValue,
    asked: &ChangesOptions,
    mut feed: Feed,
    mut page: FeedPage,
) -> Result<(), Stop> {
    let live = live(asked);
    let mut left = rows_left(asked);
    let granted = open.channel.granted();
    let since = page.last_seq.number;
    let followed = live.then(|| granted.link.follows(&granted.database, since));
    loop {
        // New judgement of the grant may have brought one that shows less.
        open.channel.granted().check_read()?;
        left -= page.rows.len().min(left);
        let mut records = events(open, listener, &page);
        let ends = !live && (page.pending == 0 || left == 0);
        if ends {
            // The client keeps the changes that it was told, and reads no results here.
            let complete = json!({"results": [], "last_seq": page.last_seq.to_string()});
            records.push_str(&open.event("complete", listener, &complete.to_string()));
        }
        if !records.is_empty() {
            open.send(records).await?;
        }
        followed.iter().for_each(|place| place.reached(page.last_seq.number));
        if asked.include_docs {
            granted.link.read(page.rows.len());
        }
        if ends {
            return Ok(());
        }
        open.until_room().await?;
        page = next_page(open, &mut feed, asked, left).await?;
    }
}

fn events(open: &OpenChannel, listener: &RawValue, page: &FeedPage) -> String {
    let event = |change: &Change| {
        let mut payload = String::new();
        push_change(&mut payload, change, ChangeDocs::Winner);
        open.event("change", listener, &payload)
    };
    page.rows.iter().map(event).collect()
}
