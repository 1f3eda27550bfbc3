//! Makes documents for the tests.

use std::collections::BTreeMap;

use crate::Limits;
use crate::doc::{Body, BodyRecord, DbName, DocId, Rev, RevPath, RevState, RevTree};
use crate::store::backend::{
    Backend, ChangesPage, ChangesRange, Commit, DatabaseKey, DocCommit, DocsRange, Order, ReadBody,
    Version,
};

pub(super) fn name(text: &str) -> DbName {
    DbName::parse(text).expect(text)
}

pub(super) fn id(text: &str) -> DocId {
    DocId::parse(text, 4096).expect(text)
}

pub(super) fn rev(text: &str) -> Rev {
    Rev::parse(text).expect(text)
}

/// A body of about `bytes` bytes that `mark` tells from others.
pub(super) fn body(mark: &str, bytes: usize) -> BodyRecord {
    let text = format!(r#"{{"mark":"{mark}","fill":"{}"}}"#, "x".repeat(bytes));
    let body = Body::parse(&text, &Limits { doc_bytes_max: 64 << 20, ..Limits::default() });
    BodyRecord { attachments: Vec::new(), body: body.expect("a legal body") }
}

/// A writer's view of the documents of one database: it merges edits as a caller would.
#[derive(Debug, Default, Clone)]
pub(super) struct Editor {
    pub(super) known: BTreeMap<DocId, (Version, RevTree)>,
}

impl Editor {
    /// An edit that adds the revisions of `path` (newest first), the newest with a body.
    pub(super) fn edit(
        &self,
        doc: &str,
        path: &[&str],
        deleted: bool,
        content: BodyRecord,
    ) -> DocCommit {
        let revs: Vec<Rev> = path.iter().map(|text| rev(text)).collect();
        let hashes = revs.iter().map(|rev| rev.hash().clone()).collect();
        let path = RevPath::new(revs[0].generation(), hashes).expect("a legal path");
        let bytes = u32::try_from(content.encode().len()).expect("a small body");
        let added = RevTree::from_path(&path, RevState { deleted, body_bytes: Some(bytes) });
        let (expected, tree) = self.known.get(&id(doc)).cloned().unwrap_or_default();
        let tree = tree.merge(&added);
        DocCommit {
            id: id(doc),
            expected,
            leaves: tree.leaves(),
            tree,
            bodies: vec![(revs[0].clone(), content)],
            dropped: Vec::new(),
            blobs: Vec::new(),
        }
    }

    pub(super) fn put(&self, doc: &str, path: &[&str]) -> DocCommit {
        self.edit(doc, path, false, body(path[0], 10))
    }

    /// Commits, and remembers what was written.
    pub(super) async fn commit(
        &mut self,
        backend: &dyn Backend,
        db: DatabaseKey,
        batch: Vec<DocCommit>,
    ) -> Vec<u64> {
        match backend.commit(db, batch.clone()).await.expect("the commit succeeds") {
            Commit::Done(seqs) => {
                for (doc, seq) in batch.into_iter().zip(&seqs) {
                    self.known.insert(doc.id, (Version { seq: *seq, edition: 0 }, doc.tree));
                }
                seqs
            }
            other => panic!("not committed: {other:?}"),
        }
    }
}

pub(super) async fn create(backend: &dyn Backend, text: &str) -> DatabaseKey {
    backend.create_database(&name(text)).await.expect("the database is made").key
}

pub(super) async fn changes(
    backend: &dyn Backend,
    db: DatabaseKey,
    since: u64,
    limit: usize,
    order: Order,
) -> ChangesPage {
    backend.changes(db, ChangesRange { since, limit, order }).await.expect("changes are read")
}

pub(super) fn all_docs(body: ReadBody) -> DocsRange {
    DocsRange {
        from: None,
        after_from: false,
        to: None,
        to_inclusive: true,
        limit: usize::MAX,
        order: Order::Ascending,
        body,
    }
}
