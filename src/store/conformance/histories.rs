//! Documents with long histories, parts of which sled keeps apart: any edits, branches, cut
//! histories, compactions, purges and changes of `revs_limit` give the same documents in sled as in
//! the model.

use std::num::NonZeroU32;
use std::sync::Arc;

use proptest::prelude::*;

use super::make::{id, name};
use super::open_sled;
use crate::Limits;
use crate::doc::{DocId, Document, Rev, RevHash, RevPath};
use crate::store::backend::{ReadBody, ReadDoc, ReadTree};
use crate::store::{
    BulkGetOptions, CompactOptions, Database, EditMode, OpenRevs, Store, WriteOutcome,
};

const DOCS: [&str; 2] = ["a", "b\0"];

#[derive(Debug, Clone)]
enum Op {
    /// Edits the leaf of this rank, so often.
    Edit {
        doc: usize,
        leaf: usize,
        times: usize,
    },
    /// Brings a branch of so many revisions that leaves the history so far below a leaf, and tells
    /// so many of the ancestors.
    Branch {
        doc: usize,
        below: u64,
        length: u64,
        told: u64,
        deleted: bool,
    },
    Compact,
    Purge {
        doc: usize,
        leaf: usize,
    },
    Limit {
        revs: u32,
    },
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let doc = 0..DOCS.len();
    let edit = (doc.clone(), 0..3usize, 1..40usize);
    let branch = (doc.clone(), 0..300u64, 1..300u64, 0..300u64, any::<bool>());
    prop_oneof![
        6 => edit.prop_map(|(doc, leaf, times)| Op::Edit { doc, leaf, times }),
        5 => branch.prop_map(|(doc, below, length, told, deleted)| {
            Op::Branch { doc, below, length, told, deleted }
        }),
        1 => Just(Op::Compact),
        1 => (doc, 0..3usize).prop_map(|(doc, leaf)| Op::Purge { doc, leaf }),
        1 => prop_oneof![Just(1), Just(50), Just(200), Just(1000)].prop_map(|revs| Op::Limit { revs }),
        1 => Just(Op::Reopen),
    ]
}

struct Pair {
    model: Database,
    sled: Database,
    /// Tells revisions of one branch from those of another.
    branches: u64,
}

impl Pair {
    async fn write(&self, document: Document, mode: EditMode) {
        let outcomes = (
            self.model.bulk_docs(vec![document.clone()], mode).await.expect("it is answered"),
            self.sled.bulk_docs(vec![document], mode).await.expect("it is answered"),
        );
        let plain = |outcomes: Vec<WriteOutcome>| {
            let plain = |outcome: WriteOutcome| match outcome {
                Ok(written) => Ok((written.rev, written.seq.map(|seq| seq.number))),
                Err(refused) => Err(refused.error),
            };
            outcomes.into_iter().map(plain).collect::<Vec<_>>()
        };
        assert_eq!(plain(outcomes.0), plain(outcomes.1));
    }

    async fn leaves(&self, doc: &DocId) -> Vec<Rev> {
        let read = ReadDoc::whole(ReadBody::No);
        let ids = std::slice::from_ref(doc);
        let found = self.model.backend().read(self.model.key(), ids, read).await;
        let found = found.expect("it is read").pop().flatten();
        let leaves = found.map(|stored| stored.tree.leaves()).unwrap_or_default();
        leaves.into_iter().map(|leaf| leaf.rev).collect()
    }

    async fn edit(&self, doc: &DocId, leaf: usize) {
        let leaves = self.leaves(doc).await;
        let body = serde_json::json!({"after": leaves.get(leaf).map(ToString::to_string)});
        let mut document = Document::new(doc.as_str(), &body).expect("a legal document");
        document.rev = leaves.get(leaf).cloned();
        self.write(document, EditMode::Edit).await;
    }

    async fn branch(&mut self, doc: &DocId, below: u64, length: u64, told: u64, deleted: bool) {
        let winner = self.leaves(doc).await.into_iter().next();
        let history = match &winner {
            Some(rev) => {
                let revs = OpenRevs::Revs(vec![rev.clone()]);
                let options = BulkGetOptions { revs: true, ..BulkGetOptions::default() };
                let found = self.model.open_revs(doc, &revs, options).await.expect("it is read");
                match found.into_iter().next() {
                    Some(crate::store::OpenRev::Found(document)) => document.revisions,
                    _ => None,
                }
            }
            None => None,
        };
        let known: Vec<Rev> =
            history.iter().flat_map(|path| path.revs().skip(below as usize)).collect();
        let start = known.first().map_or(0, Rev::generation) + length;
        self.branches += 1;
        let hash = |n| RevHash::parse(&format!("{}x{n}", self.branches)).expect("a legal hash");
        let mut hashes: Vec<RevHash> = (0..length).map(hash).collect();
        hashes.extend(known.iter().take(told as usize).map(|rev| rev.hash().clone()));
        let path = RevPath::new(start, hashes).expect("a path");
        let mut document = if deleted {
            Document::tombstone(doc.clone(), path.leaf())
        } else {
            Document::new(doc.as_str(), &serde_json::json!({"branch": self.branches}))
                .expect("legal")
        };
        document.rev = Some(path.leaf());
        document.revisions = Some(path);
        self.write(document, EditMode::Replicated).await;
    }

    async fn purge(&self, doc: &DocId, leaf: usize) {
        let Some(rev) = self.leaves(doc).await.into_iter().nth(leaf) else { return };
        let wanted = [(doc.clone(), vec![rev])];
        let purged = (self.model.purge(&wanted).await, self.sled.purge(&wanted).await);
        assert_eq!(purged.0.expect("it is purged"), purged.1.expect("it is purged"));
    }

    async fn compact(&self) {
        let options = CompactOptions { gently: false, ..CompactOptions::default() };
        let reports = (self.model.compact(options).await, self.sled.compact(options).await);
        assert_eq!(reports.0.expect("it is compacted"), reports.1.expect("it is compacted"));
    }

    async fn limit(&self, revs: u32) {
        let revs = NonZeroU32::new(revs).expect("not zero");
        self.model.set_revs_limit(revs).await.expect("it is set");
        self.sled.set_revs_limit(revs).await.expect("it is set");
    }

    async fn compare(&self) {
        let ids = DOCS.map(id);
        let read = ReadDoc::whole(ReadBody::Winner);
        let model = self.model.backend().read(self.model.key(), &ids, read).await;
        let sled = self.sled.backend().read(self.sled.key(), &ids, read).await;
        let recent = ReadDoc::recent(ReadBody::No);
        let recent = self.sled.backend().read(self.sled.key(), &ids, recent).await;
        let all =
            model.expect("read").into_iter().zip(sled.expect("read")).zip(recent.expect("read"));
        for ((model, sled), recent) in all {
            let (Some(model), Some(sled), Some(recent)) = (&model, &sled, &recent) else {
                assert_eq!((&model, &sled), (&None, &None));
                continue;
            };
            assert_eq!((model.version, &model.winner_body), (sled.version, &sled.winner_body));
            assert!(model.tree == sled.tree, "model {:?}, sled {:?}", model.tree, sled.tree);
            assert_eq!(recent.read, ReadTree::Recent);
            assert_eq!(recent.tree.leaves(), model.tree.leaves());
        }
        let counts = (self.model.counts().await, self.sled.counts().await);
        assert_eq!(counts.0.expect("counts"), counts.1.expect("counts"));
        let report = self.sled.check().await.expect("it is checked");
        assert_eq!(report.problems, []);
    }
}

async fn run(ops: Vec<Op>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let open = || Store::with_backend(Arc::new(open_sled(dir.path())), Limits::default());
    let mut store = open();
    let todos = name("todos");
    let model = Store::memory().create(&todos).await.expect("it is made");
    let sled = store.create(&todos).await.expect("it is made");
    let mut pair = Pair { model, sled, branches: 0 };
    for op in ops {
        match op {
            Op::Edit { doc, leaf, times } => {
                for _ in 0..times {
                    pair.edit(&id(DOCS[doc]), leaf).await;
                }
            }
            Op::Branch { doc, below, length, told, deleted } => {
                pair.branch(&id(DOCS[doc]), below, length, told, deleted).await;
            }
            Op::Compact => pair.compact().await,
            Op::Purge { doc, leaf } => pair.purge(&id(DOCS[doc]), leaf).await,
            Op::Limit { revs } => pair.limit(revs).await,
            Op::Reopen => {
                store.close().await.expect("it closes");
                store = open();
                pair.sled = store.database(&todos).await.expect("it is there");
            }
        }
        pair.compare().await;
    }
    store.close().await.expect("it closes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn long_histories_are_as_in_the_model(ops in proptest::collection::vec(op(), 1..16)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime starts").block_on(run(ops));
    }
}
