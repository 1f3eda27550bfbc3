//! Carrying out a query: places are read in pages, documents are judged one by one.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use super::bookmark::{self, Bookmark};
use super::{FindError, FindRequest, plan};
use crate::doc::{DocId, Document, Selector};
use crate::store::all_docs::KeyRange;
use crate::store::backend::{
    DocsRange, IndexEntry, IndexRange, Order, ReadBody, ReadDoc, StoredDoc,
};
use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::index::{DESIGN, Index};
use crate::store::read::{GetOptions, show};

/// Places read at a time, at least and at most.
const PAGE_MIN: usize = 16;
const PAGE_MAX: usize = 256;
/// More documents looked at for each one found than this are worth a warning, as in CouchDB.
const EXAMINED_RATIO_MAX: u64 = 10;

const NO_INDEX: &str = "No matching index found, create an index to optimize query time.";
const MANY_EXAMINED: &str = "The number of documents examined is high in proportion to the number \
    of results returned. Consider adding a more specific index to improve this.";

/// What a query took. Documents outside of [`FindRequest::within`] are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Execution {
    /// Places of an index, or of all documents.
    pub keys_examined: u64,
    /// Documents that were read and judged.
    pub docs_examined: u64,
    /// Documents that were found.
    pub results: u64,
    /// How long it took.
    pub time: Duration,
}

/// Where places come from.
enum Source {
    Index {
        index: Box<Index>,
        range: IndexRange,
    },
    AllDocs {
        range: KeyRange,
    },
    /// The selector contradicts itself.
    Nothing,
}

/// A query under way: documents come one by one.
pub struct Finder {
    database: Database,
    request: FindRequest,
    source: Source,
    /// Places that were read and not yet judged.
    waiting: VecDeque<(IndexEntry, Option<StoredDoc>)>,
    /// The place that was read last.
    read: Option<IndexEntry>,
    ended: bool,
    /// The place that was told last.
    told: Option<IndexEntry>,
    /// Hashes of the documents that an index gave: one that changes may stand at several places.
    given: HashSet<u64>,
    hasher: RandomState,
    warning: Option<String>,
    execution: Execution,
    began: Instant,
}

impl Finder {
    pub(super) async fn new(
        database: Database,
        request: FindRequest,
        index: Option<Index>,
        warning: Option<String>,
    ) -> Result<Self, FindError> {
        let read = request.bookmarked()?.map(|bookmark| bookmark.place);
        let finder = Self {
            source: source(&request.selector, index),
            database,
            request,
            waiting: VecDeque::new(),
            read,
            ended: false,
            told: None,
            given: HashSet::new(),
            hasher: RandomState::new(),
            warning,
            execution: Execution::default(),
            began: Instant::now(),
        };
        if finder.request.update && finder.request.limit > 0 {
            finder.bring_up().await?;
        }
        Ok(finder)
    }

    async fn bring_up(&self) -> Result<(), StoreError> {
        if let Source::Index { index, .. } = &self.source {
            self.database.bring_up(index).await?;
        }
        Ok(())
    }

    /// The next document.
    ///
    /// # Errors
    /// [`FindError::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the next call goes on where it was.
    pub async fn next(&mut self) -> Result<Option<Document>, FindError> {
        while self.request.limit > 0 {
            let Some((place, stored)) = self.waiting.front().cloned() else {
                if self.ended {
                    break;
                }
                self.fill().await?;
                continue;
            };
            let found = match stored {
                Some(stored) => self.judge(&place.id, stored).await?,
                None => None,
            };
            self.waiting.pop_front();
            let Some(document) = found else { continue };
            self.told = Some(place);
            if self.request.skip > 0 {
                self.request.skip -= 1;
                continue;
            }
            self.request.limit -= 1;
            self.execution.results += 1;
            return Ok(Some(document));
        }
        self.execution.time = self.began.elapsed();
        Ok(None)
    }

    /// Reads the next page of places.
    async fn fill(&mut self) -> Result<(), FindError> {
        self.database.alive()?;
        let wanted = self.request.limit.saturating_add(self.request.skip);
        let limit = wanted.clamp(PAGE_MIN, PAGE_MAX);
        let page = match &self.source {
            Source::Nothing => Vec::new(),
            Source::AllDocs { range } => self.page_of_all(range, limit).await?,
            Source::Index { index, range } => match self.page_of(index, range, limit).await? {
                Some(page) => page,
                // Its rows were removed meanwhile.
                None if self.request.update => return Ok(self.bring_up().await?),
                None => Vec::new(),
            },
        };
        self.ended = page.len() < limit;
        self.read = page.last().map(|(place, _)| place.clone()).or(self.read.take());
        self.waiting.extend(page);
        Ok(())
    }

    async fn page_of(
        &self,
        index: &Index,
        range: &IndexRange,
        limit: usize,
    ) -> Result<Option<Vec<(IndexEntry, Option<StoredDoc>)>>, StoreError> {
        let (backend, key) = (self.database.backend(), self.database.key());
        let after = self.read.clone();
        let range = IndexRange { after, order: self.request.order(), limit, ..range.clone() };
        let entries = backend.index_entries(key, index.key(), range).await?;
        let Some(entries) = entries else { return Ok(None) };
        let ids: Vec<DocId> = entries.iter().map(|entry| entry.id.clone()).collect();
        let read = ReadDoc::recent(ReadBody::SmallWinner);
        let states = backend.read(key, &ids, read).await?;
        Ok(Some(entries.into_iter().zip(states).collect()))
    }

    async fn page_of_all(
        &self,
        range: &KeyRange,
        limit: usize,
    ) -> Result<Vec<(IndexEntry, Option<StoredDoc>)>, StoreError> {
        let order = self.request.order();
        let (first, last) = match order {
            Order::Ascending => (&range.start, &range.end),
            Order::Descending => (&range.end, &range.start),
        };
        let after = self.read.as_ref().map(|place| place.id.as_str().to_owned());
        let range = DocsRange {
            after_from: after.is_some(),
            from: after.or_else(|| first.clone()),
            to: last.clone(),
            to_inclusive: true,
            limit,
            order,
            read: ReadDoc::recent(ReadBody::SmallWinner),
        };
        let page = self.database.backend().docs(self.database.key(), range).await?;
        let place = |id: DocId| IndexEntry { key: Vec::new(), id };
        Ok(page.into_iter().map(|(id, stored)| (place(id), Some(stored))).collect())
    }

    /// The document at a place, if it is there, is shown and matches.
    async fn judge(
        &mut self,
        id: &DocId,
        mut stored: StoredDoc,
    ) -> Result<Option<Document>, StoreError> {
        let live = stored.tree.winner().filter(|winner| !winner.state.deleted);
        let Some(winner) = live.filter(|_| !id.as_str().starts_with(DESIGN)) else {
            return Ok(None);
        };
        let hash = self.hasher.hash_one(id.as_str());
        if self.given.contains(&hash) {
            return Ok(None);
        }
        let get = GetOptions { conflicts: self.request.conflicts, ..GetOptions::default() };
        let document = match stored.winner_body.take() {
            Some(record) => show(id, &winner.rev, &stored, record, &get),
            None => match self.database.get(id, &get).await {
                Ok(document) => document,
                Err(StoreError::DocMissing { .. } | StoreError::DocDeleted { .. }) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            },
        };
        let matches = |selector: &Selector| selector.matches(&document);
        if !self.request.within.iter().all(matches) {
            return Ok(None);
        }
        self.execution.keys_examined += 1;
        self.execution.docs_examined += 1;
        if !matches(&self.request.selector) {
            return Ok(None);
        }
        if matches!(self.source, Source::Index { .. }) {
            self.given.insert(hash);
        }
        Ok(Some(document))
    }

    /// Where the next page begins: after the document that was told last.
    #[must_use]
    pub fn bookmark(&self) -> String {
        let index = match &self.source {
            Source::Index { index, .. } => Some(index.key()),
            Source::AllDocs { .. } | Source::Nothing => None,
        };
        match &self.told {
            Some(place) => Bookmark { index, place: place.clone() }.encode(),
            None if self.request.bookmark.is_empty() => bookmark::NONE.to_owned(),
            None => self.request.bookmark.clone(),
        }
    }

    /// What might be done better, in CouchDB's words; counts what was done so far.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let Execution { docs_examined, results, .. } = self.execution;
        let no_index = !matches!(self.source, Source::Index { .. });
        let many = docs_examined > EXAMINED_RATIO_MAX.saturating_mul(results.max(1));
        let told =
            [self.warning.as_deref(), no_index.then_some(NO_INDEX), many.then_some(MANY_EXAMINED)];
        let told: Vec<&str> = told.into_iter().flatten().collect();
        (!told.is_empty()).then(|| told.join("\n"))
    }

    /// What it took so far.
    #[must_use]
    pub fn execution(&self) -> Execution {
        self.execution
    }
}

impl std::fmt::Debug for Finder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finder").field("request", &self.request).finish_non_exhaustive()
    }
}

fn source(selector: &Selector, index: Option<Index>) -> Source {
    match index {
        Some(index) => {
            let range = plan::entries_of(selector, &index);
            Source::Index { index: Box::new(index), range }
        }
        None => match plan::ids_of(selector) {
            Some(range) => Source::AllDocs { range },
            None => Source::Nothing,
        },
    }
}
