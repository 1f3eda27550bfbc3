//! Whatever was written where, databases that have exchanged everything hold the same.

mod support;

use proptest::prelude::*;
use settee::store::{AllDocsOptions, ChangeDocs, ChangesOptions, EditMode, GetOptions, Since};
use settee::{Database, DbName, Document, Store};
use support::documents::{assert_sound, id};
use support::stores::stores;

const REPLICAS: usize = 3;
const DOCS: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    /// Edits the `leaf`-th leaf of a document, or makes the document.
    Edit { at: usize, doc: usize, leaf: usize, text: u8, deleted: bool },
    /// Copies some leaves, in some order, perhaps without their histories.
    Copy { from: usize, to: usize, keep: u16, reverse: bool, histories: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..REPLICAS, 0..DOCS, 0..3_usize, 0..3_u8, prop::bool::weighted(0.25)).prop_map(
            |(at, doc, leaf, text, deleted)| Step::Edit { at, doc, leaf, text, deleted }
        ),
        1 => (0..REPLICAS, 0..REPLICAS, any::<u16>(), any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(from, to, keep, reverse, histories)| Step::Copy {
                from, to, keep, reverse, histories
            }),
    ]
}

async fn leaves_of(db: &Database, since: Since) -> Vec<Document> {
    let options = ChangesOptions { since, docs: ChangeDocs::Leaves, ..Default::default() };
    let changes = db.changes(&options).await.unwrap();
    changes.rows.into_iter().flat_map(|row| row.docs).collect()
}

async fn edit(db: &Database, doc: usize, leaf: usize, text: u8, deleted: bool) {
    let name = id(&format!("d{doc}"));
    let leaves: Vec<Document> =
        leaves_of(db, Since::Start).await.into_iter().filter(|doc| doc.id == name).collect();
    let rev = leaves.get(leaf % leaves.len().max(1)).and_then(|leaf| leaf.rev.clone());
    let body = serde_json::json!({ "text": text });
    let new = Document { rev, deleted, ..Document::new(name.as_str(), &body).unwrap() };
    db.put(new).await.unwrap();
}

async fn copy(from: &Database, to: &Database, keep: u16, reverse: bool, histories: bool) {
    let found = leaves_of(from, Since::Start).await.into_iter().enumerate();
    let mut some: Vec<Document> =
        found.filter(|(n, _)| keep >> (n % 16) & 1 == 1).map(|(_, doc)| doc).collect();
    if reverse {
        some.reverse();
    }
    if !histories {
        some.iter_mut().for_each(|doc| doc.revisions = None);
    }
    to.bulk_docs(some, EditMode::Replicated).await.unwrap();
}

/// Everything a reader can see of a database, apart from its seqs.
async fn state(db: &Database) -> Vec<String> {
    let mut shown: Vec<String> = Vec::new();
    for doc in leaves_of(db, Since::Start).await {
        shown.push(Document { revisions: None, ..doc }.to_json());
    }
    shown.sort();
    let options = AllDocsOptions { include_docs: true, conflicts: true, ..Default::default() };
    for row in db.all_docs(&options).await.unwrap().rows {
        shown.push(row.doc.expect("documents were asked for").to_json());
    }
    shown
}

async fn run(store: &Store, steps: &[Step]) {
    let mut replicas = Vec::new();
    for n in 0..REPLICAS {
        replicas.push(store.create(&DbName::parse(&format!("r{n}")).unwrap()).await.unwrap());
    }
    for step in steps {
        match *step {
            Step::Edit { at, doc, leaf, text, deleted } => {
                edit(&replicas[at], doc, leaf, text, deleted).await;
            }
            Step::Copy { from, to, keep, reverse, histories } => {
                copy(&replicas[from], &replicas[to], keep, reverse, histories).await;
            }
        }
    }
    for _ in 0..2 {
        for from in &replicas {
            for to in &replicas {
                copy(from, to, u16::MAX, false, true).await;
            }
        }
    }
    let first = state(&replicas[0]).await;
    for replica in &replicas {
        assert_eq!(state(replica).await, first);
        assert_sound(replica).await;
        let seq = replica.info().await.unwrap().update_seq;
        copy(&replicas[0], replica, u16::MAX, true, true).await;
        assert_eq!(replica.info().await.unwrap().update_seq, seq, "nothing is left to say");
        for doc in leaves_of(replica, Since::Start).await {
            let rev = GetOptions { rev: doc.rev.clone(), revs: true, ..Default::default() };
            assert_eq!(replica.get(&doc.id, &rev).await.unwrap(), doc);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]
    #[test]
    fn after_exchanging_everything(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (_, store, _dir) in stores() {
            runtime.block_on(run(&store, &steps));
        }
    }
}
