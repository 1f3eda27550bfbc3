//! Documents that are written as a group are stored, shown and replicated together.

#[path = "support/ledger.rs"]
mod ledger;
mod support;

use std::collections::{HashMap, HashSet};

use futures::FutureExt as _;
use ledger::Ledger;
use proptest::prelude::*;
use serde_json::json;
use settee::replicate::{ReplicationOptions, replicate};
use settee::store::{
    ChangeDocs, ChangesOptions, CompactOptions, DocError, EditMode, FeedPage, Refused, Style,
};
use settee::{Database, Document, Limits, Rev, Store, StoreError};
use support::documents::{database, id};
use support::stores::{stores, stores_with};
use support::yielding::yielding_store;

fn new(name: &str) -> Document {
    Document::new(name, &json!({"by": name})).unwrap()
}

fn grouped() -> ChangesOptions {
    let docs = ChangeDocs::Leaves;
    ChangesOptions { groups: true, docs, style: Style::AllDocs, ..Default::default() }
}

/// Reads a feed to its end.
async fn pages(db: &Database, options: ChangesOptions, rows_max: usize) -> Vec<FeedPage> {
    let mut feed = db.feed(options).await.unwrap();
    let mut pages = Vec::new();
    loop {
        let page = feed.next_page(rows_max, 1).await.unwrap();
        let ended = page.pending == 0;
        pages.push(page);
        if ended {
            return pages;
        }
    }
}

/// Rows as `id@seq`, with a star in a group.
async fn rows(db: &Database, options: ChangesOptions) -> Vec<String> {
    let pages = pages(db, options, 1000).await;
    let rows = pages.iter().flat_map(|page| &page.rows);
    let star = |group: Option<u64>| if group.is_some() { "*" } else { "" };
    rows.map(|row| {
        let rev = row.docs.first().and_then(|doc| doc.rev.as_ref()).map_or(0, Rev::generation);
        format!("{}{}@{}:{rev}", row.id, star(row.group), row.seq.number)
    })
    .collect()
}

#[tokio::test]
async fn one_refused_document_refuses_all_and_each_says_why() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let a = db.put(new("a")).await.unwrap();
        let group = vec![new("b"), new("a"), new("c")];
        let outcomes = db.write_group(group, EditMode::Edit).await.unwrap();
        let errors: Vec<DocError> = outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Err(Refused { error, .. }) => error,
                Ok(written) => panic!("written: {written:?}"),
            })
            .collect();
        let other = DocError::GroupRefused { id: "a".into() };
        assert_eq!(errors, [other.clone(), DocError::Conflict, other.clone()]);
        assert!(other.to_string().contains("\"a\""), "{other}");
        assert_eq!(db.info().await.unwrap().doc_count, 1);
        let group = vec![new("b"), new("a").with_rev(a.rev), new("c")];
        let outcomes = db.write_group(group, EditMode::Edit).await.unwrap();
        let seqs: Vec<u64> =
            outcomes.into_iter().map(|one| one.unwrap().seq.unwrap().number).collect();
        assert_eq!(seqs, [2, 3, 4]);
    }
}

#[tokio::test]
async fn a_group_is_bounded() {
    for (_, store, _dir) in stores_with(&Limits { doc_bytes_max: 1_000, ..Limits::default() }) {
        let db = database(&store).await;
        let many = (0..101).map(|n| new(&format!("d{n}"))).collect();
        let error = db.write_group(many, EditMode::Edit).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { count: 101, max: 100, .. }), "{error}");
        let large = |name| Document::new(name, &json!({"fill": "x".repeat(600)})).unwrap();
        let large = vec![large("a"), large("b")];
        let error = db.write_group(large, EditMode::Edit).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { max: 1_000, .. }), "{error}");
        let most = (0..40).map(|n| new(&format!("d{n}"))).collect();
        let outcomes = db.write_group(most, EditMode::Edit).await.unwrap();
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!(db.info().await.unwrap().doc_count, 40);
    }
}

#[tokio::test]
async fn a_page_never_ends_within_a_group() {
    for (_, store, _dir) in stores() {
        let mut ledger = Ledger::new(database(&store).await);
        for n in 0..20 {
            let ids: Vec<String> = (0..=n % 5).map(|m| format!("d{n}-{m}")).collect();
            ledger.group(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
        for rows_max in [1, 2, 3, 7, 100] {
            let pages = pages(&ledger.db, grouped(), rows_max).await;
            let mut shown = HashSet::new();
            for page in &pages {
                shown.extend(page.rows.iter().map(|row| row.id.clone()));
                for group in &ledger.groups {
                    let count = group.iter().filter(|(id, _)| shown.contains(id)).count();
                    assert!([0, group.len()].contains(&count), "{rows_max}: {page:?}");
                }
            }
            assert_eq!(shown.len(), 60);
            assert!(rows_max > 7 || pages.len() >= 20, "a page holds no more than it must");
        }
    }
}

#[tokio::test]
async fn a_replaced_revision_stands_in_its_group_until_compaction_takes_it() {
    for (_, store, _dir) in stores() {
        let mut ledger = Ledger::new(database(&store).await);
        let db = ledger.db.clone();
        ledger.group(&["a", "b"]).await;
        assert_eq!(rows(&db, grouped()).await, ["a*@1:1", "b*@2:1"]);
        ledger.edit("b").await;
        ledger.edit("b").await;
        assert_eq!(rows(&db, grouped()).await, ["a*@1:1", "b*@2:1", "b@4:3"]);
        let plain = ChangesOptions { groups: false, ..grouped() };
        assert_eq!(rows(&db, plain.clone()).await, ["a@1:1", "b@4:3"]);
        // A later version stands in for what is gone, never an earlier one.
        db.compact(CompactOptions::default()).await.unwrap();
        assert_eq!(rows(&db, grouped()).await, ["a*@1:1", "b*@2:3", "b@4:3"]);
        ledger.edit("a").await;
        let shown = rows(&db, grouped()).await;
        assert_eq!(shown, ["b@4:3", "a@5:2"], "nothing stands, and not all is stored");
        db.compact(CompactOptions::default()).await.unwrap();
        assert_eq!(rows(&db, grouped()).await, ["b@4:3", "a@5:2"]);
    }
}

#[tokio::test]
async fn a_group_for_which_too_much_would_stand_in_comes_in_parts() {
    for (_, store, _dir) in stores_with(&Limits { doc_bytes_max: 1_000, ..Limits::default() }) {
        let mut ledger = Ledger::new(database(&store).await);
        let db = ledger.db.clone();
        ledger.group(&["a", "b", "c"]).await;
        for (grown, shown) in [
            ("b", ["a*@1:1", "b*@2:2", "c*@3:1", "b@4:2"].as_slice()),
            ("c", ["a@1:1", "b@4:2", "c@5:2"].as_slice()),
        ] {
            let rev = db.get(&id(grown), &Default::default()).await.unwrap().rev.unwrap();
            let large = Document::new(grown, &json!({"fill": "x".repeat(600)})).unwrap();
            db.put(large.with_rev(rev)).await.unwrap();
            db.compact(CompactOptions::default()).await.unwrap();
            assert_eq!(rows(&db, grouped()).await, shown);
        }
    }
}

#[tokio::test]
async fn deleted_and_purged_documents_do_not_come_back_with_their_group() {
    for (_, store, _dir) in stores() {
        let mut ledger = Ledger::new(database(&store).await);
        let db = ledger.db.clone();
        ledger.group(&["a", "b", "c"]).await;
        ledger.delete("b").await;
        let new_reader = ChangesOptions { skip_tombstones: true, ..grouped() };
        assert_eq!(rows(&db, new_reader).await, ["a*@1:1", "c*@3:1"]);
        assert_eq!(rows(&db, grouped()).await, ["a*@1:1", "b*@2:1", "c*@3:1", "b@4:2"]);
        let c = ledger.groups[0][2].clone();
        db.purge(&[(c.0, vec![c.1])]).await.unwrap();
        assert_eq!(rows(&db, grouped()).await, ["a*@1:1", "b*@2:1", "b@4:2"]);
    }
}

#[tokio::test]
async fn a_replica_keeps_groups_for_those_that_read_it() {
    let mut ledger = Ledger::new(database(&Store::memory()).await);
    let (second, third) = (database(&Store::memory()).await, database(&Store::memory()).await);
    ledger.edit("x").await;
    ledger.group(&["a", "b"]).await;
    ledger.edit("a").await;
    replicate(&ledger.db, &second, ReplicationOptions::default()).finished().await.unwrap();
    let shown = rows(&second, grouped()).await;
    assert_eq!(shown, ["a*@1:1", "b*@2:1", "x@3:1", "a@4:2"]);
    replicate(&second, &third, ReplicationOptions::default()).finished().await.unwrap();
    assert_eq!(rows(&third, grouped()).await, shown);
}

#[derive(Debug, Clone)]
enum Step {
    Group(Vec<usize>),
    Edit(usize),
    Delete(usize),
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::sample::subsequence((0..NAMES.len()).collect::<Vec<_>>(), 2..=4)
            .prop_map(Step::Group),
        3 => (0..NAMES.len()).prop_map(Step::Edit),
        1 => (0..NAMES.len()).prop_map(Step::Delete),
    ]
}

async fn take(ledger: &mut Ledger, step: &Step) {
    match step {
        Step::Group(docs) => {
            let names: Vec<&str> = docs.iter().map(|doc| NAMES[*doc]).collect();
            ledger.group(&names).await;
        }
        Step::Edit(doc) => ledger.edit(NAMES[*doc]).await,
        Step::Delete(doc) => ledger.delete(NAMES[*doc]).await,
    }
}

/// Replicates, and is cut after a number of turns; waits until nothing goes on any more.
async fn replicate_for(turns: usize, from: &Database, to: &Database, batch_size: usize) {
    let options = ReplicationOptions { batch_size, ..Default::default() };
    {
        let mut replication = std::pin::pin!(replicate(from, to, options).finished());
        for _ in 0..turns {
            if replication.as_mut().now_or_never().is_some() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// The pages of a feed, taken in one after another, never make a state with half a group.
async fn assert_feed_is_whole(ledger: &Ledger, rows_max: usize) {
    let mut seen: HashMap<_, HashSet<Rev>> = HashMap::new();
    for page in pages(&ledger.db, grouped(), rows_max).await {
        for document in page.rows.into_iter().flat_map(|row| row.docs) {
            let path = document.path().expect("a leaf has a history");
            seen.entry(document.id).or_default().extend(path.revs());
        }
        for group in &ledger.groups {
            let knows =
                |(id, rev): &&(settee::DocId, Rev)| seen.get(id).is_some_and(|r| r.contains(rev));
            let count = group.iter().filter(knows).count();
            assert!([0, group.len()].contains(&count), "{group:?} is shown in part");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_reader_and_no_replica_ever_has_a_part_of_a_group(
        steps in prop::collection::vec(step(), 1..25),
        cuts in prop::collection::vec((0_usize..120, 0_usize..4), 1..12),
        batch_size in 1_usize..6,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut ledger = Ledger::new(database(&Store::memory()).await);
            let replica = database(&yielding_store()).await;
            let mut steps = steps.iter();
            for (turns, more) in cuts {
                for step in steps.by_ref().take(more) {
                    take(&mut ledger, step).await;
                }
                replicate_for(turns, &ledger.db, &replica, batch_size).await;
                ledger.assert_whole_in(&replica).await;
            }
            for step in steps {
                take(&mut ledger, step).await;
            }
            assert_feed_is_whole(&ledger, batch_size).await;
            replicate_for(usize::MAX, &ledger.db, &replica, batch_size).await;
            ledger.assert_whole_in(&replica).await;
            for name in NAMES {
                let (here, there) = (ledger.db.get(&id(name), &Default::default()).await,
                    replica.get(&id(name), &Default::default()).await);
                assert_eq!(here.ok(), there.ok());
            }
        });
    }
}
