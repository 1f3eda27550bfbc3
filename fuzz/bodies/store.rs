//! Any operations on a database, and reopenings, leave it as a plain model says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use settee::doc::{Body, LocalId, RevHash, RevPath, RevState};
use settee::store::{
    ChangesOptions, CompactOptions, DocError, EditMode, MemoryBackend, WriteOutcome,
};
use settee::{Database, DbName, DocId, Document, Limits, Rev, Store};

use super::rev_model::Model;

const IDS: [&str; 4] = ["a", "a\0", "ab", "_design/x"];
const STEPS_MAX: usize = 60;
/// Newest first; of one history in which each revision has one parent.
const PATHS: [&[&str]; 8] = [
    &["1-a"],
    &["2-b", "1-a"],
    &["2-c", "1-a"],
    &["3-d", "2-b", "1-a"],
    &["3-d", "2-b"],
    &["4-e", "3-d"],
    &["1-z"],
    &["2-y", "1-z"],
];

#[derive(Default)]
struct Modelled {
    trees: BTreeMap<DocId, Model>,
    /// In the order of their last changes.
    order: Vec<DocId>,
    locals: BTreeMap<LocalId, String>,
}

struct Run {
    backend: Arc<MemoryBackend>,
    db: Database,
    model: Modelled,
    steps: usize,
}

// Each step takes two bytes: what, and with what.
pub fn run(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime starts").block_on(async {
        let backend = Arc::new(MemoryBackend::new());
        let db = open(&backend).await;
        let mut run = Run { backend, db, model: Modelled::default(), steps: 0 };
        for step in bytes.chunks_exact(2).take(STEPS_MAX) {
            run.steps += 1;
            run.step(step[0], step[1]).await;
        }
        run.compare().await;
    });
}

async fn open(backend: &Arc<MemoryBackend>) -> Database {
    let store = Store::with_backend(Arc::clone(backend) as _, Limits::default());
    let name = DbName::parse("todos").expect("a legal name");
    store.open_or_create(&name).await.expect("it opens")
}

fn id(which: u8) -> DocId {
    DocId::parse(IDS[usize::from(which) % IDS.len()], 100).expect("a legal id")
}

impl Run {
    fn body(&self) -> Body {
        Body::from_value(&serde_json::json!({ "step": self.steps })).expect("an object")
    }

    async fn step(&mut self, what: u8, with: u8) {
        let (which, choice) = (id(with), usize::from(with >> 2));
        match what % 8 {
            0..=2 => self.replicate(which, choice).await,
            3 | 4 => self.edit(which, choice, what >= 200).await,
            5 => self.local(choice).await,
            6 => drop(self.db.compact(CompactOptions::default()).await.expect("it is compacted")),
            _ => {
                self.db = open(&self.backend).await;
                self.compare().await;
            }
        }
    }

    async fn replicate(&mut self, id: DocId, choice: usize) {
        let revs = PATHS[choice % PATHS.len()];
        let revs: Vec<Rev> =
            revs.iter().map(|text| Rev::parse(text).expect("a revision")).collect();
        let hashes: Vec<RevHash> = revs.iter().map(|rev| rev.hash().clone()).collect();
        let path = RevPath::new(revs[0].generation(), hashes).expect("a history");
        let mut document = Document::with_body(id.clone(), self.body());
        document.rev = Some(revs[0].clone());
        document.revisions = Some(path.clone());
        // A revision is deleted or not, whoever sends it.
        document.deleted = revs[0].hash().to_string() == "c";
        let state = RevState { deleted: document.deleted, body_bytes: None };
        let outcome = self.write(document, EditMode::Replicated).await;
        let written = outcome.unwrap_or_else(|refused| panic!("{refused:?}"));
        self.enter(id, &path, state, written.seq.is_some());
    }

    /// Replaces a leaf, or tries to replace something else.
    async fn edit(&mut self, id: DocId, choice: usize, deleted: bool) {
        let tree = self.model.trees.get(&id);
        let known: Vec<Rev> = tree.iter().flat_map(|tree| tree.revs.keys().cloned()).collect();
        let leaves = tree.map(Model::leaves).unwrap_or_default();
        let parent = known.get(choice % (known.len() + 1)).cloned();
        let fits = match &parent {
            Some(parent) => leaves.iter().any(|leaf| leaf.rev == *parent),
            None => leaves.iter().all(|leaf| leaf.state.deleted),
        };
        let mut document = Document::with_body(id.clone(), self.body());
        (document.rev, document.deleted) = (parent.clone(), deleted && parent.is_some());
        let state = RevState { deleted: document.deleted, body_bytes: None };
        match self.write(document, EditMode::Edit).await {
            Ok(written) => {
                assert!(fits, "{id} {parent:?} is no leaf of {known:?}");
                let on = parent.or_else(|| leaves.first().map(|leaf| leaf.rev.clone()));
                let hashes = std::iter::once(&written.rev).chain(&on).map(|rev| rev.hash().clone());
                let path = RevPath::new(written.rev.generation(), hashes.collect());
                self.enter(id, &path.expect("a child follows its parent"), state, true);
            }
            Err(refused) => {
                assert_eq!(refused.error, DocError::Conflict);
                assert!(!fits, "{id} {parent:?} is a leaf of {known:?}");
            }
        }
    }

    async fn write(&self, document: Document, mode: EditMode) -> WriteOutcome {
        let outcomes = self.db.bulk_docs(vec![document], mode).await;
        outcomes.expect("it is answered").pop().expect("one document has one outcome")
    }

    fn enter(&mut self, id: DocId, path: &RevPath, state: RevState, changed: bool) {
        let tree = self.model.trees.entry(id.clone()).or_default();
        let before = (tree.revs.len(), tree.edges.len());
        tree.insert(path, state);
        let grew = before != (tree.revs.len(), tree.edges.len());
        assert!(changed || !grew, "{id} was changed and has no new place");
        if changed {
            self.model.order.retain(|other| *other != id);
            self.model.order.push(id);
        }
    }

    async fn local(&mut self, choice: usize) {
        let local = LocalId::parse(IDS[choice % IDS.len()], 100).expect("a legal id");
        let body = self.body();
        self.model.locals.insert(local.clone(), body.as_str().to_owned());
        self.db.set_local(&local, body).await.expect("it is stored");
    }

    async fn compare(&self) {
        for (id, tree) in &self.model.trees {
            let found = self.db.rev_trees(std::slice::from_ref(id)).await.expect("they are read");
            let found = found[0].as_ref().expect("it was written");
            let leaves = |tree: Vec<settee::doc::Leaf>| {
                tree.into_iter().map(|leaf| (leaf.rev, leaf.state.deleted)).collect::<Vec<_>>()
            };
            assert_eq!(leaves(found.leaves()), leaves(tree.leaves()), "{id}");
            let known: BTreeSet<&Rev> = found.revs().map(|(rev, _)| rev).collect();
            assert_eq!(known, tree.revs.keys().collect(), "{id}");
            for leaf in tree.leaves() {
                let path = found.path_of(&leaf.rev).expect("a leaf has a path");
                assert_eq!(path.revs().collect::<Vec<_>>(), tree.path_of(&leaf.rev), "{id}");
            }
        }
        let changes = self.db.changes(&ChangesOptions::default()).await.expect("it is read");
        let order: Vec<&DocId> = changes.rows.iter().map(|row| &row.id).collect();
        assert_eq!(order, self.model.order.iter().collect::<Vec<_>>());
        assert!(changes.rows.is_sorted_by(|a, b| a.seq.number < b.seq.number));
        for (local, body) in &self.model.locals {
            let found = self.db.local(local).await.expect("it is read").expect("it was written");
            assert_eq!(found.body.as_str(), body);
        }
        let open = |tree: &&Model| tree.leaves().iter().any(|leaf| !leaf.state.deleted);
        let info = self.db.info().await.expect("it is told");
        let count = self.model.trees.values().filter(open).count() as u64;
        assert_eq!(info.doc_count, count);
    }
}
