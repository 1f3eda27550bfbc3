//! Reads under a grant: what its selector does not let pass is as if it were not there.
//!
//! Each revision is judged by itself: a document may show some leaves and hide others, and its
//! winning rev may be hidden while a conflict shows. Which ids of revisions exist is told only to
//! who names them.

use crate::doc::{DocId, Document, Rev, RevTree, RevsDiff, Selector};
use crate::store::{
    AllDocsOptions, AllDocsPage, AttachmentReader, BulkGetItem, BulkGetOptions, BulkGetResult,
    ChangeDocs, ChangesOptions, DocError, Feed, FeedPage, FindError, FindRequest, Finder,
    GetOptions, Index, OpenRev, OpenRevs, StoreError,
};

use super::granted::Granted;
use super::handler::{self, Reading};

impl Granted {
    /// The grant's selector; none where everything is shown.
    pub(super) fn selectors(&self) -> &[Selector] {
        self.grant.selector.as_slice()
    }

    pub(super) fn shows_all(&self) -> bool {
        self.selectors().is_empty()
    }

    pub(super) async fn shows(&self, document: &Document) -> Result<bool, StoreError> {
        self.database.admits(self.selectors(), document).await
    }

    pub(super) async fn get(
        &self,
        id: &DocId,
        options: &GetOptions,
    ) -> Result<Document, StoreError> {
        let document = self.get_stored(id, options).await?;
        let reading = if options.revs { Reading::Exact } else { Reading::Shown };
        let document = self.fetched(document, reading).await?;
        self.link.read(1);
        document.map_err(|reason| StoreError::Refused(DocError::Forbidden { reason }))
    }

    /// A document as it is stored, for an edit of parts of it. If the edit `reads`, it may not be
    /// shown to the client in another form, which the edit could lay open.
    pub(super) async fn get_to_edit(
        &self,
        id: &DocId,
        options: &GetOptions,
        reads: bool,
    ) -> Result<Document, StoreError> {
        let document = self.get_stored(id, options).await?;
        let forbidden = |reason| StoreError::Refused(DocError::Forbidden { reason });
        let shown = self.fetched(document.clone(), Reading::Shown).await?.map_err(forbidden)?;
        if reads && shown.body != document.body {
            let reason = "the document is shown changed: it cannot be tested or copied from";
            return Err(forbidden(reason.to_owned()));
        }
        Ok(document)
    }

    async fn get_stored(&self, id: &DocId, options: &GetOptions) -> Result<Document, StoreError> {
        let missing = || StoreError::DocMissing { id: id.clone() };
        match self.database.get(id, options).await {
            Ok(document) if self.shows_all() => Ok(document),
            Ok(mut document) => {
                if !self.shows(&document).await? {
                    return Err(missing());
                }
                self.hide_conflicts(&mut document).await?;
                Ok(document)
            }
            Err(StoreError::DocDeleted { .. }) if !self.shows_all() => {
                // The first leaf is the winning rev, here a tombstone.
                let leaves =
                    self.database.open_revs(id, &OpenRevs::All, Default::default()).await?;
                match leaves.first() {
                    Some(OpenRev::Found(tombstone)) if self.shows(tombstone).await? => {
                        Err(StoreError::DocDeleted { id: id.clone() })
                    }
                    _ => Err(missing()),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// A document as the application lets it be read, or why it does not.
    async fn fetched(
        &self,
        document: Document,
        reading: Reading,
    ) -> Result<Result<Document, String>, StoreError> {
        handler::fetched(&self.grant, &self.database, &self.link, document, reading).await
    }

    /// Whether all readers are given the same.
    pub(super) fn shows_all_alike(&self) -> bool {
        self.shows_all() && self.grant.fetch_handlers.is_empty()
    }

    async fn hide_conflicts(&self, document: &mut Document) -> Result<(), StoreError> {
        if self.shows_all() {
            return Ok(());
        }
        let extra = &mut document.extra;
        for revs in [&mut extra.conflicts, &mut extra.deleted_conflicts] {
            let mut shown = Vec::new();
            for rev in std::mem::take(revs) {
                let options = GetOptions { rev: Some(rev.clone()), ..GetOptions::default() };
                match self.database.get(&document.id, &options).await {
                    Ok(conflict) if self.shows(&conflict).await? => shown.push(rev),
                    Ok(_) | Err(StoreError::DocMissing { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            *revs = shown;
        }
        Ok(())
    }

    pub(super) async fn open_revs(
        &self,
        id: &DocId,
        which: &OpenRevs,
        options: BulkGetOptions,
    ) -> Result<Vec<OpenRev>, StoreError> {
        let found = self.database.open_revs(id, which, options).await?;
        let shown = self.only_shown(found, *which != OpenRevs::All).await?;
        if shown.is_empty() && *which == OpenRevs::All {
            return Err(StoreError::DocMissing { id: id.clone() });
        }
        self.link.read(found_in(&shown));
        Ok(shown)
    }

    pub(super) async fn bulk_get_page(
        &self,
        items: &[BulkGetItem],
        options: BulkGetOptions,
        bytes_max: usize,
    ) -> Result<Vec<BulkGetResult>, StoreError> {
        let mut results = self.database.bulk_get_page(items, options, bytes_max).await?;
        if !self.shows_all_alike() {
            for (result, item) in results.iter_mut().zip(items) {
                let found = std::mem::take(&mut result.revs);
                result.revs = self.only_shown(found, item.rev.is_some()).await?;
            }
        }
        self.link.read(results.iter().map(|result| found_in(&result.revs)).sum());
        Ok(results)
    }

    /// A hidden revision that was named is missing; one that was not named is left out.
    async fn only_shown(
        &self,
        found: Vec<OpenRev>,
        named: bool,
    ) -> Result<Vec<OpenRev>, StoreError> {
        let mut shown = Vec::with_capacity(found.len());
        for one in found {
            match one {
                OpenRev::Found(document) => {
                    let rev = document.rev.clone();
                    let read = if self.shows(&document).await? {
                        self.fetched(*document, Reading::Exact).await?.ok()
                    } else {
                        None
                    };
                    let hidden = || rev.filter(|_| named).map(OpenRev::Missing);
                    shown.extend(read.map(|read| OpenRev::Found(Box::new(read))).or_else(hidden));
                }
                one @ OpenRev::Missing(_) => shown.push(one),
            }
        }
        Ok(shown)
    }

    pub(super) async fn all_docs_page(
        &self,
        options: &AllDocsOptions,
        after: Option<&DocId>,
        bytes_max: usize,
    ) -> Result<AllDocsPage, StoreError> {
        let mut page =
            self.database.all_docs_page(&self.narrowed(options), after, bytes_max).await?;
        for row in &mut page.rows {
            row.doc = self.row_doc(row.doc.take()).await?;
        }
        self.link.read(page.rows.iter().filter(|row| row.doc.is_some()).count());
        Ok(page)
    }

    /// The document of a row, with the conflicts that are shown; none if it may not be read.
    async fn row_doc(&self, document: Option<Document>) -> Result<Option<Document>, StoreError> {
        let Some(mut document) = document else { return Ok(None) };
        self.hide_conflicts(&mut document).await?;
        Ok(self.fetched(document, Reading::Shown).await?.ok())
    }

    /// Takes out of a page of the feed what may not be read: the winning rev of a row that is to be
    /// looked at, and leaves with their names of one that is to be stored.
    pub(super) async fn fetched_page(
        &self,
        page: &mut FeedPage,
        docs: ChangeDocs,
    ) -> Result<(), StoreError> {
        if self.grant.fetch_handlers.is_empty() || docs == ChangeDocs::None {
            return Ok(());
        }
        for row in &mut page.rows {
            let exact = docs == ChangeDocs::Leaves;
            let reading = if exact { Reading::Exact } else { Reading::Shown };
            for document in std::mem::take(&mut row.docs) {
                let rev = document.rev.clone();
                match self.fetched(document, reading).await? {
                    Ok(document) => row.docs.push(document),
                    Err(_) if exact => row.leaves.retain(|(leaf, _)| Some(leaf) != rev.as_ref()),
                    Err(_) => {}
                }
            }
        }
        page.rows.retain(|row| !row.leaves.is_empty());
        Ok(())
    }

    /// The indexes whose design documents are shown. Queries use the others too, which nothing in
    /// their answers tells.
    pub(super) async fn indexes(&self) -> Result<Vec<Index>, StoreError> {
        let mut indexes = self.database.indexes().await?;
        if !self.shows_all() {
            let mut shown = Vec::new();
            for index in indexes {
                match self.get(&index.ddoc, &GetOptions::default()).await {
                    Ok(_) => shown.push(index),
                    Err(StoreError::DocMissing { .. } | StoreError::DocDeleted { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            indexes = shown;
        }
        Ok(indexes)
    }

    pub(super) async fn finder(&self, mut request: FindRequest) -> Result<Finder, FindError> {
        request.within.extend_from_slice(self.selectors());
        self.database.finder(request).await
    }

    pub(super) async fn next_found(
        &self,
        finder: &mut Finder,
    ) -> Result<Option<Document>, FindError> {
        loop {
            let Some(document) = finder.next().await? else { return Ok(None) };
            if let Some(document) = self.row_doc(Some(document)).await? {
                return Ok(Some(document));
            }
        }
    }

    fn narrowed(&self, options: &AllDocsOptions) -> AllDocsOptions {
        let mut options = options.clone();
        options.selectors.extend_from_slice(self.selectors());
        options
    }

    /// A client's selector is refused where fetch handlers change what is shown: which stored bodies
    /// it lets pass would tell what they hide.
    pub(super) async fn feed(&self, mut options: ChangesOptions) -> Result<Feed, StoreError> {
        if !self.grant.fetch_handlers.is_empty() && !options.selectors.is_empty() {
            let reason = "documents of this database are shown changed or not at all: read its \
                          changes with doc_ids or without a filter, not with a selector";
            return Err(StoreError::Refused(DocError::Forbidden { reason: reason.to_owned() }));
        }
        options.selectors.extend_from_slice(self.selectors());
        // A handler may hold back a document of a group.
        options.groups &= self.grant.fetch_handlers.is_empty();
        self.database.feed(options).await
    }

    /// What is missing is told as it is, hidden or not, since a client that has a revision must
    /// neither send it again nor be kept from sending it. Other revisions are told only to who is
    /// shown everything.
    pub(super) async fn revs_diff(
        &self,
        wanted: &[(DocId, Vec<Rev>)],
    ) -> Result<Vec<(DocId, RevsDiff)>, StoreError> {
        let mut found = self.database.revs_diff(wanted).await?;
        if !self.shows_all() {
            found.iter_mut().for_each(|(_, diff)| diff.possible_ancestors.clear());
        }
        Ok(found)
    }

    /// Revision trees of what is shown: the revisions that pass, with their ancestors, which a read
    /// of them names too. A document of which none passes is not there.
    pub(super) async fn rev_trees(
        &self,
        ids: &[DocId],
    ) -> Result<Vec<Option<RevTree>>, StoreError> {
        let mut trees = self.database.rev_trees(ids).await?;
        if !self.shows_all() {
            for (id, found) in ids.iter().zip(&mut trees) {
                if let Some(tree) = found.take() {
                    *found = Some(self.shown_of(id, &tree).await?).filter(|tree| !tree.is_empty());
                }
            }
        }
        Ok(trees)
    }

    async fn shown_of(&self, id: &DocId, tree: &RevTree) -> Result<RevTree, StoreError> {
        let mut shown = RevTree::default();
        for (rev, state) in tree.revs().filter(|(_, state)| state.body_bytes.is_some()) {
            let options = GetOptions { rev: Some(rev.clone()), ..GetOptions::default() };
            let passes = match self.database.get(id, &options).await {
                Ok(document) => self.shows(&document).await?,
                // Written over meanwhile.
                Err(StoreError::DocMissing { .. }) => false,
                Err(error) => return Err(error),
            };
            if let Some(path) = tree.path_of(rev).filter(|_| passes) {
                shown = shown.merge(&RevTree::from_path(&path, state));
            }
        }
        Ok(shown)
    }

    pub(super) async fn attachment(
        &self,
        id: &DocId,
        name: &str,
        rev: Option<&Rev>,
    ) -> Result<AttachmentReader, StoreError> {
        let options = GetOptions { rev: rev.cloned(), ..GetOptions::default() };
        let mut document = self.get(id, &options).await?;
        let attachment = document.attachments.remove(name).ok_or_else(|| {
            StoreError::AttachmentMissing { id: id.clone(), name: name.to_owned() }
        })?;
        self.database.open_attachment(attachment).await
    }
}

fn found_in(revs: &[OpenRev]) -> usize {
    revs.iter().filter(|one| matches!(one, OpenRev::Found(_))).count()
}
