//! All documents of a database, in the order of their ids.

use super::backend::{DocsRange, Order, ReadDoc, StoredDoc};
use super::database::Database;
use super::error::StoreError;
use crate::doc::DocId;

/// Documents read at a time.
const PAGE_DOCS: usize = 500;

/// All documents, a page at a time. A page that failed can be read again.
pub(super) struct Pages {
    /// The last document of the pages so far.
    pub(super) after: Option<DocId>,
    read: ReadDoc,
    /// Documents in the next page, at most.
    pub(super) limit: usize,
}

impl Pages {
    pub(super) fn new(read: ReadDoc) -> Self {
        Self { after: None, read, limit: PAGE_DOCS }
    }

    /// The next page, which holds something; `None` after the last one.
    pub(super) async fn next(
        &mut self,
        db: &Database,
    ) -> Result<Option<Vec<(DocId, StoredDoc)>>, StoreError> {
        db.alive()?;
        let range = DocsRange {
            from: self.after.as_ref().map(ToString::to_string),
            after_from: self.after.is_some(),
            to: None,
            to_inclusive: true,
            limit: self.limit,
            order: Order::Ascending,
            read: self.read,
        };
        let page = db.backend().docs(db.key(), range).await?;
        let Some((last, _)) = page.last() else { return Ok(None) };
        self.after = Some(last.clone());
        Ok(Some(page))
    }
}
