//! Any operations and reopenings give the same answers from sled as from the model.
//! `SETTEE_SEQUENCES` says how many sequences of them are tried.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::runtime::Builder;

use super::make::{Editor, all_docs, body, changes, id, name, rev};
use super::open_sled;
use crate::doc::{LocalId, LocalRev};
use crate::store::backend::{
    Backend, Commit, DatabaseKey, DocPurge, DocsRange, LocalCommit, LocalOutcome, Order, ReadBody,
    ReadDoc, Version,
};
use crate::store::memory::MemoryBackend;
use crate::store::{SledBackend, StoreError};

const IDS: [&str; 6] = ["a", "a\0", "a\0\0b", "ab", "\u{10ffff}", "_design/x"];
const REVS: [&[&str]; 7] = [
    &["1-a"],
    &["2-b", "1-a"],
    &["2-c", "1-a"],
    &["3-d", "2-b", "1-a"],
    &["3-967a00dff5e02add41819138abb3284d", "2-c"],
    &["5-z"],
    &["4-y", "3-d"],
];
const SIZES: [usize; 5] = [0, 300, 5_000, 30_000, 150_000];

#[derive(Debug, Clone)]
enum Op {
    Write { docs: Vec<(usize, usize, bool, usize)>, stale: bool },
    Drop { doc: usize, rev: usize },
    Compact { docs: Vec<usize> },
    Purge { doc: usize, rev: usize },
    Local { doc: usize, expected: Option<u64>, size: Option<usize> },
    Remake,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let doc = (0..IDS.len(), 0..REVS.len(), any::<bool>(), 0..SIZES.len());
    let docs = vec(doc, 1..4);
    prop_oneof![
        8 => (docs, proptest::bool::weighted(0.1)).prop_map(|(docs, stale)| Op::Write { docs, stale }),
        2 => (0..IDS.len(), 0..REVS.len()).prop_map(|(doc, rev)| Op::Drop { doc, rev }),
        2 => (0..IDS.len(), proptest::option::of(0..3u64), proptest::option::of(0..SIZES.len()))
            .prop_map(|(doc, expected, size)| Op::Local { doc, expected, size }),
        2 => vec(0..IDS.len(), 0..4).prop_map(|docs| Op::Compact { docs }),
        2 => (0..IDS.len(), 0..REVS.len()).prop_map(|(doc, rev)| Op::Purge { doc, rev }),
        1 => Just(Op::Remake),
        1 => Just(Op::Reopen),
    ]
}

/// Both stores, and what a caller knows of them.
struct Pair {
    model: MemoryBackend,
    sled: SledBackend,
    keys: (DatabaseKey, DatabaseKey),
    editor: Editor,
}

impl Pair {
    async fn remake(&mut self) {
        let db = name("todos");
        for store in [&self.model as &dyn Backend, &self.sled] {
            match store.destroy_database(&db).await {
                Ok(()) | Err(StoreError::DatabaseMissing { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let made = (self.model.create_database(&db).await, self.sled.create_database(&db).await);
        self.keys = (made.0.expect("it is made").key, made.1.expect("it is made").key);
        self.editor = Editor::default();
    }

    async fn write(&mut self, docs: &[(usize, usize, bool, usize)], stale: bool) {
        let mut batch = Vec::new();
        for (n, &(doc, path, deleted, size)) in docs.iter().enumerate() {
            let known = self.editor.known.get(&id(IDS[doc]));
            let has_body = known.and_then(|(_, tree)| tree.state(&rev(REVS[path][0])));
            let twice = docs[..n].iter().any(|(other, ..)| *other == doc);
            if twice || has_body.is_some_and(|state| state.body_bytes.is_some()) {
                continue;
            }
            batch.push(self.editor.edit(IDS[doc], REVS[path], deleted, body("m", SIZES[size])));
        }
        if stale && let Some(doc) = batch.last_mut() {
            doc.expected.seq += 1;
        }
        let answers = (
            self.model.commit(self.keys.0, batch.clone()).await.expect("it is answered"),
            self.sled.commit(self.keys.1, batch.clone()).await.expect("it is answered"),
        );
        assert_eq!(answers.0, answers.1);
        if let Commit::Done(seqs) = answers.0 {
            for (doc, seq) in batch.into_iter().zip(seqs) {
                self.editor.known.insert(doc.id, (Version { seq, edition: 0 }, doc.tree));
            }
        }
    }

    async fn drop_body(&mut self, doc: usize, path: usize) {
        let (doc_id, dropped) = (id(IDS[doc]), rev(REVS[path][0]));
        let Some((expected, mut tree)) = self.editor.known.get(&doc_id).cloned() else { return };
        if tree.state(&dropped).is_none_or(|state| state.body_bytes.is_none()) {
            return;
        }
        tree.set_body_bytes(&dropped, None);
        let mut commit = self.editor.put(IDS[doc], REVS[path]);
        commit.expected = expected;
        commit.leaves = tree.leaves();
        commit.tree = tree;
        commit.bodies = Vec::new();
        commit.dropped = vec![dropped];
        let batch = vec![commit];
        let answer = self.model.commit(self.keys.0, batch.clone()).await.expect("it is answered");
        assert_eq!(self.editor.commit(&self.sled, self.keys.1, batch).await.len(), 1);
        assert!(matches!(answer, Commit::Done(_)));
    }

    async fn compact(&mut self, docs: &[usize]) {
        let ids: Vec<_> = docs.iter().map(|doc| id(IDS[*doc])).collect();
        let answers = (
            self.model.compact(self.keys.0, ids.clone()).await.expect("it is done"),
            self.sled.compact(self.keys.1, ids.clone()).await.expect("it is done"),
        );
        assert_eq!(answers.0, answers.1);
        self.look_again(&ids).await;
    }

    async fn purge(&mut self, doc: usize, path: usize) {
        let doc = id(IDS[doc]);
        let Some((expected, tree)) = self.editor.known.get(&doc) else { return };
        let (left, gone) = tree.without(&[rev(REVS[path][0])]);
        let stored = tree.revs().filter(|(_, state)| state.body_bytes.is_some());
        let dropped = stored.map(|(rev, _)| rev).filter(|rev| !left.contains(rev)).cloned();
        if gone.is_empty() {
            return;
        }
        let (dropped, expected) = (dropped.collect(), *expected);
        let purge = DocPurge { id: doc.clone(), expected, tree: left, dropped };
        let answers = (
            self.model.purge(self.keys.0, vec![purge.clone()]).await.expect("it is answered"),
            self.sled.purge(self.keys.1, vec![purge]).await.expect("it is answered"),
        );
        assert_eq!(answers.0, answers.1);
        self.look_again(&[doc]).await;
    }

    /// Takes from the model how documents stand.
    async fn look_again(&mut self, ids: &[crate::doc::DocId]) {
        let states = self
            .model
            .read(self.keys.0, ids, ReadDoc::whole(ReadBody::No))
            .await
            .expect("they are read");
        for (id, state) in ids.iter().zip(states) {
            match state {
                Some(state) => self.editor.known.insert(id.clone(), (state.version, state.tree)),
                None => self.editor.known.remove(id),
            };
        }
    }

    async fn local(&self, doc: usize, expected: Option<u64>, size: Option<usize>) {
        let commit = LocalCommit {
            id: LocalId::parse(IDS[doc], 512).expect("a legal name"),
            expected: expected.map(LocalRev),
            content: size
                .map(|size| (LocalRev(expected.unwrap_or(0) + 1), body("l", SIZES[size]).body)),
        };
        let answers: (LocalOutcome, LocalOutcome) = (
            self.model.commit_local(self.keys.0, commit.clone()).await.expect("it is answered"),
            self.sled.commit_local(self.keys.1, commit).await.expect("it is answered"),
        );
        assert_eq!(answers.0, answers.1);
    }

    async fn compare(&self) {
        let model = Self::answers(&self.model, self.keys.0).await;
        let sled = Self::answers(&self.sled, self.keys.1).await;
        assert!(model == sled, "the model says {model}, sled {sled}");
    }

    /// Everything that can be asked.
    async fn answers(store: &dyn Backend, db: DatabaseKey) -> String {
        let ids = IDS.map(id);
        let revs: Vec<_> =
            ids.iter().flat_map(|id| REVS.map(|path| (id.clone(), rev(path[0])))).collect();
        let descending = DocsRange { order: Order::Descending, ..all_docs(ReadBody::No) };
        let mut text = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            store.counts(db).await,
            store.read(db, &ids, ReadDoc::whole(ReadBody::Winner)).await,
            store.bodies(db, &revs).await,
            store.docs(db, all_docs(ReadBody::Winner)).await,
            store.docs(db, descending).await,
            store.locals(db, None, 100).await,
            store.database_names(None, 9).await,
        );
        for since in 0..4 {
            for order in [Order::Ascending, Order::Descending] {
                text += &format!("{:?}", changes(store, db, since, 2, order).await);
            }
            text += &format!("{:?}", store.count_changes(db, since).await);
        }
        text
    }
}

async fn run(ops: Vec<Op>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let none = DatabaseKey(0);
    let mut pair = Pair {
        model: MemoryBackend::new(),
        sled: open_sled(dir.path()),
        keys: (none, none),
        editor: Editor::default(),
    };
    pair.remake().await;
    for op in ops {
        match op {
            Op::Write { docs, stale } => pair.write(&docs, stale).await,
            Op::Drop { doc, rev } => pair.drop_body(doc, rev).await,
            Op::Compact { docs } => pair.compact(&docs).await,
            Op::Purge { doc, rev } => pair.purge(doc, rev).await,
            Op::Local { doc, expected, size } => pair.local(doc, expected, size).await,
            Op::Remake => pair.remake().await,
            Op::Reopen => {
                pair.sled.close().await.expect("it closes");
                pair.sled = open_sled(dir.path());
            }
        }
        pair.compare().await;
    }
    pair.sled.close().await.expect("it closes");
}

fn sequences() -> u32 {
    let asked = std::env::var("SETTEE_SEQUENCES").ok();
    asked.map_or(64, |count| count.parse().expect("SETTEE_SEQUENCES must be a number"))
}

/// Mostly waits for the disk and for sled to close, so several go on at a time.
const THREADS: u32 = 4;

#[test]
fn sled_answers_as_the_model_does() {
    let try_some = || {
        let cases = sequences().div_ceil(THREADS);
        let config =
            ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime starts");
        let tried = TestRunner::new(config).run(&vec(op(), 1..30), |ops| {
            runtime.block_on(run(ops));
            Ok(())
        });
        tried.unwrap_or_else(|failed| panic!("{failed}"));
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(try_some);
        }
    });
}
