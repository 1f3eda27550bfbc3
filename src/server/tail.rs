//! The newest part of a changes feed, read once and written as text once for all that follow it
//! live.
//!
//! Feeds that have reached the end stand at the same place. The first that goes on from there reads
//! the next page from the index for itself, and the others take that page instead of reading:
//! [`Tail`] keeps the newest pages, each under the place that it follows. So a feed that is a little
//! behind goes from page to page and catches up with one message, and one that is far behind reads
//! the index by itself, at its own pace. Nothing here is needed for a feed to be right.
//!
//! The hard case is a purge, after which a page may hold what must not be shown any more: a page
//! counts only while nothing was purged since it was read.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::OnceCell;

use crate::store::{Change, ChangeDocs, Database, Feed, FeedPage, StoreError, Style, Uuid};
use crate::sync::{Mutex, MutexGuard};

/// Pages that are kept of one feed.
const PAGES_MAX: usize = 64;
/// Bytes of rows that are kept of one feed; one page may be larger.
const BYTES_MAX: usize = 1 << 20;
/// Rows of a page.
const ROWS_MAX: usize = 1_000;

/// Feeds that give the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Same {
    database: Uuid,
    style: Style,
    docs: ChangeDocs,
    groups: bool,
}

/// The tails of the feeds that somebody follows.
#[derive(Debug, Default)]
pub(super) struct Tails {
    open: Mutex<HashMap<Same, Weak<Tail>>>,
}

impl Tails {
    /// The tail of a database's feed.
    pub(super) fn of(
        &self,
        database: &Database,
        style: Style,
        docs: ChangeDocs,
        groups: bool,
    ) -> Arc<Tail> {
        let same = Same { database: database.incarnation(), style, docs, groups };
        let mut open = lock(&self.open);
        if let Some(tail) = open.get(&same).and_then(Weak::upgrade) {
            return tail;
        }
        if open.len() == open.capacity() {
            open.retain(|_, tail| tail.strong_count() > 0);
        }
        let tail = Arc::new(Tail::default());
        open.insert(same, Arc::downgrade(&tail));
        tail
    }
}

/// A page and its rows as text.
#[derive(Debug)]
pub(super) struct TailPage {
    pub page: FeedPage,
    /// Of each row.
    pub texts: Vec<String>,
    /// [`Database::purges`] before it was read.
    purges: u64,
}

impl TailPage {
    fn bytes(&self) -> usize {
        self.texts.iter().map(String::len).sum()
    }
}

type Cell = OnceCell<Arc<TailPage>>;

/// The newest pages of one feed.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    /// By the update seq that the page follows; with the bytes of those that are there.
    kept: HashMap<u64, (Arc<Cell>, usize)>,
    /// In the order in which they came.
    order: VecDeque<u64>,
    bytes: usize,
    /// How far the pages have come.
    newest: u64,
}

impl Pages {
    fn remove(&mut self, after: u64) {
        if let Some((_, bytes)) = self.kept.remove(&after) {
            self.bytes -= bytes;
            self.order.retain(|one| *one != after);
        }
    }

    fn shrink(&mut self) {
        while self.order.len() > PAGES_MAX || self.bytes > BYTES_MAX && self.order.len() > 1 {
            let Some(&oldest) = self.order.front() else { return };
            self.remove(oldest);
        }
    }

    /// The page that follows a place, if somebody has read it and it still holds.
    fn ready(&mut self, after: u64, database: &Database) -> Option<Arc<TailPage>> {
        let page = Arc::clone(self.kept.get(&after)?.0.get()?);
        let holds = page.page.last_seq.number > after && page.purges == database.purges();
        if !holds {
            self.remove(after);
        }
        holds.then_some(page)
    }

    /// Where the page that follows a place will be, if that is the end of what was read.
    fn awaited(&mut self, after: u64) -> Option<Arc<Cell>> {
        if let Some((cell, _)) = self.kept.get(&after) {
            return Some(Arc::clone(cell));
        }
        if after < self.newest {
            return None;
        }
        let cell = Arc::new(Cell::new());
        self.kept.insert(after, (Arc::clone(&cell), 0));
        self.order.push_back(after);
        self.shrink();
        Some(cell)
    }

    /// Counts a page in, if its place was not given up meanwhile.
    fn came(&mut self, after: u64, page: &TailPage) {
        self.newest = self.newest.max(page.page.last_seq.number);
        if let Some((_, bytes)) = self.kept.get_mut(&after) {
            self.bytes += page.bytes();
            *bytes = page.bytes();
        }
        self.shrink();
    }
}

impl Tail {
    /// The pages that follow a feed's place, one after another, with about `bytes_max` bytes of rows;
    /// waits until there is one. The feed goes on after the last.
    ///
    /// Dropping the future loses nothing: the next call gives the same pages.
    pub(super) async fn next(
        &self,
        feed: &mut Feed,
        database: &Database,
        bytes_max: usize,
        render: impl Fn(&Change) -> String,
    ) -> Result<Vec<Arc<TailPage>>, StoreError> {
        let mut last = self.first(feed, database, bytes_max, render).await?;
        let mut bytes = last.bytes();
        let mut pages = vec![Arc::clone(&last)];
        while bytes < bytes_max {
            let next = lock(&self.pages).ready(last.page.last_seq.number, database);
            let Some(next) = next else { break };
            bytes += next.bytes();
            last = Arc::clone(&next);
            pages.push(next);
        }
        feed.go_on_after(&last.page);
        Ok(pages)
    }

    async fn first(
        &self,
        feed: &mut Feed,
        database: &Database,
        bytes_max: usize,
        render: impl Fn(&Change) -> String,
    ) -> Result<Arc<TailPage>, StoreError> {
        let after = feed.place().number;
        loop {
            let awaited = {
                let mut pages = lock(&self.pages);
                if let Some(page) = pages.ready(after, database) {
                    return Ok(page);
                }
                pages.awaited(after)
            };
            // In a box, since only one of those that wait reads.
            let Some(cell) = awaited else {
                return Box::pin(read(feed, database, bytes_max, &render)).await;
            };
            let read = async || {
                let page = Box::pin(read(feed, database, bytes_max, &render)).await?;
                lock(&self.pages).came(after, &page);
                Ok::<_, StoreError>(page)
            };
            let page = Arc::clone(cell.get_or_try_init(read).await?);
            // Who waited for another's page may have come after a purge that came while it was read.
            let has_read = feed.place().number != after;
            if has_read || page.purges == database.purges() {
                return Ok(page);
            }
        }
    }
}

async fn read(
    feed: &mut Feed,
    database: &Database,
    bytes_max: usize,
    render: impl Fn(&Change) -> String,
) -> Result<Arc<TailPage>, StoreError> {
    let purges = database.purges();
    let mut page = feed.next_page(ROWS_MAX, bytes_max).await?;
    let texts = page.rows.iter().map(render).collect();
    page.rows.iter_mut().for_each(|row| row.docs = Vec::new());
    Ok(Arc::new(TailPage { page, texts, purges }))
}

/// Every change under these locks is one call to a collection or a sum, so a panic elsewhere leaves
/// them whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
