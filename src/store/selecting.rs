//! Which revisions selectors let pass.
//!
//! A revision passes if it matches. A tombstone, which seldom has the members that a selector
//! names, passes too if what it deletes matched: who has the document must learn that it is gone.
//! What it deletes is its nearest ancestor that is open and stored; where none is stored any more,
//! the tombstone is judged by itself alone.

use super::backend::{ChangeRow, ReadBody, StoredDoc};
use super::database::Database;
use super::error::StoreError;
use super::feed::{ChangeDocs, Feed, Style};
use super::read::plain;
use crate::doc::{DocId, Document, Rev, RevState, RevTree, Selector};

/// Rows of a feed whose states are read at a time.
const PAGE_ROWS: usize = 64;

impl Database {
    /// Whether a revision that was read here passes all of the selectors: it matches, or it is the
    /// tombstone of one that does, as far as that is stored.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`], [`StoreError::Io`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn admits(
        &self,
        selectors: &[Selector],
        document: &Document,
    ) -> Result<bool, StoreError> {
        if selectors.iter().all(|selector| selector.matches(document)) {
            return Ok(true);
        }
        if !document.deleted {
            return Ok(false);
        }
        let tree = self.tree_of(&document.id).await?;
        self.admits_in(selectors, document, &tree).await
    }

    /// The first of some revisions of a document that is stored with its body.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`], [`StoreError::Io`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn nearest_stored(
        &self,
        id: &DocId,
        revs: &[Rev],
    ) -> Result<Option<Document>, StoreError> {
        let tree = self.tree_of(id).await?;
        self.nearest_in(id, &tree, revs.iter(), |_| true).await
    }

    async fn tree_of(&self, id: &DocId) -> Result<RevTree, StoreError> {
        self.alive()?;
        let ids = std::slice::from_ref(id);
        let state = self.backend().read(self.key(), ids, ReadBody::No).await?.pop().flatten();
        Ok(state.map_or_else(RevTree::default, |state| state.tree))
    }

    async fn nearest_in(
        &self,
        id: &DocId,
        tree: &RevTree,
        revs: impl Iterator<Item = &Rev> + Send,
        wanted: impl Fn(RevState) -> bool + Send,
    ) -> Result<Option<Document>, StoreError> {
        for rev in revs {
            let state = tree.state(rev).filter(|state| state.body_bytes.is_some());
            if !state.is_some_and(&wanted) {
                continue;
            }
            if let Some(record) = self.one_body(id, rev).await? {
                return Ok(Some(plain(id, rev, tree, record)));
            }
        }
        Ok(None)
    }

    /// [`Database::admits`] for a revision of a tree that is at hand.
    async fn admits_in(
        &self,
        selectors: &[Selector],
        document: &Document,
        tree: &RevTree,
    ) -> Result<bool, StoreError> {
        let fails = |selector: &&Selector| !selector.matches(document);
        let failing: Vec<&Selector> = selectors.iter().filter(fails).collect();
        if failing.is_empty() || !document.deleted {
            return Ok(failing.is_empty());
        }
        let path = document.rev.as_ref().and_then(|rev| tree.path_of(rev));
        let ancestors: Vec<Rev> = path.map_or_else(Vec::new, |path| path.revs().skip(1).collect());
        let (id, is_open) = (&document.id, |state: RevState| !state.deleted);
        let deleted = self.nearest_in(id, tree, ancestors.iter(), is_open).await?;
        Ok(deleted.is_some_and(|deleted| failing.iter().all(|s| s.matches(&deleted))))
    }

    /// Whether the winning rev of a document passes.
    pub(super) async fn admits_winner(
        &self,
        selectors: &[Selector],
        id: &DocId,
        state: &StoredDoc,
    ) -> Result<bool, StoreError> {
        if selectors.is_empty() {
            return Ok(true);
        }
        match state.tree.winner() {
            Some(winner) => self.admits_rev(selectors, id, &winner.rev, state).await,
            None => Ok(false),
        }
    }

    async fn admits_rev(
        &self,
        selectors: &[Selector],
        id: &DocId,
        rev: &Rev,
        state: &StoredDoc,
    ) -> Result<bool, StoreError> {
        let winner = state.tree.winner().filter(|winner| winner.rev == *rev);
        let record = match winner.and_then(|_| state.winner_body.clone()) {
            Some(record) => Some(record),
            None => self.one_body(id, rev).await?,
        };
        let Some(record) = record else { return Ok(false) };
        let document = plain(id, rev, &state.tree, record);
        self.admits_in(selectors, &document, &state.tree).await
    }
}

impl Feed {
    /// Takes out leaves that the feed's selectors do not let pass, and rows that no leaf is left
    /// of, until `rows_max` rows are found. Answers whether rows were not looked at any more.
    ///
    /// Bodies are read and judged one by one, so that a page holds none but small ones.
    pub(super) async fn select(
        &self,
        rows: Vec<ChangeRow>,
        rows_max: usize,
    ) -> Result<(Vec<ChangeRow>, bool), StoreError> {
        if self.options.selectors.is_empty() {
            return Ok((rows, false));
        }
        let mut passing = Vec::new();
        let mut rows = rows.into_iter();
        loop {
            let page: Vec<ChangeRow> = rows.by_ref().take(PAGE_ROWS).collect();
            if page.is_empty() {
                return Ok((passing, false));
            }
            let ids: Vec<DocId> = page.iter().map(|row| row.id.clone()).collect();
            let (backend, key) = (self.database.backend(), self.database.key());
            let states = backend.read(key, &ids, ReadBody::SmallWinner).await?;
            for (row, state) in page.into_iter().zip(states) {
                if passing.len() == rows_max {
                    return Ok((passing, true));
                }
                if let Some(state) = state {
                    passing.extend(self.select_leaves(row, &state).await?);
                }
            }
        }
    }

    async fn select_leaves(
        &self,
        mut row: ChangeRow,
        state: &StoredDoc,
    ) -> Result<Option<ChangeRow>, StoreError> {
        let main_only = self.options.style == Style::MainOnly;
        if main_only && self.options.docs != ChangeDocs::Leaves {
            row.leaves.truncate(1);
        }
        let (selectors, all) = (&self.options.selectors, std::mem::take(&mut row.leaves));
        for (index, (rev, deleted)) in all.into_iter().enumerate() {
            if self.database.admits_rev(selectors, &row.id, &rev, state).await? {
                row.leaves.push((rev, deleted));
            } else if main_only && index == 0 {
                return Ok(None);
            }
        }
        Ok((!row.leaves.is_empty()).then_some(row))
    }
}
