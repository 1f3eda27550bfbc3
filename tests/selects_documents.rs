//! Selectors in feeds and syncs: what passes, what is told of the rest, and what widening does.

#[path = "support/raw.rs"]
mod raw;
#[path = "support/syncing.rs"]
mod syncing;

use futures::StreamExt as _;
use raw::{Raw, Served};
use serde_json::{Value, json};
use settee::replicate::{Direction, ReplicationOptions, replicate};
use settee::server::{AccessRequest, Gateway, Grant};
use settee::store::{
    AllDocsOptions, ChangeDocs, ChangesOptions, EditMode, Feed, Order, Since, Style,
};
use settee::{Database, Document, Limits, Selector, Store, SyncOptions};
use syncing::{TestGateway, Watched, delete, id, live, local, name, one_shot, remote};

fn selector(value: Value) -> Selector {
    Selector::from_value(&value).expect("a selector")
}

fn milk() -> Selector {
    selector(json!({"text": {"$beginsWith": "milk"}}))
}

async fn put(db: &Database, id_text: &str, text: &str) {
    syncing::put(db, id_text, text).await;
}

/// Writes a revision as a replica would, with its history.
async fn replicated(db: &Database, text: &str) {
    let document = Document::parse(text, &Limits::default()).expect(text);
    let outcomes = db.bulk_docs(vec![document], EditMode::Replicated).await.unwrap();
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
}

/// Ids and revisions of a feed read once.
async fn rows(db: &Database, options: ChangesOptions) -> Vec<(String, Vec<String>)> {
    let changes = db.changes(&options).await.unwrap();
    let revs =
        |leaves: Vec<(settee::Rev, bool)>| leaves.iter().map(|(r, _)| r.to_string()).collect();
    changes.rows.into_iter().map(|row| (row.id.to_string(), revs(row.leaves))).collect()
}

fn selecting(selector: Selector) -> ChangesOptions {
    ChangesOptions { selectors: vec![selector], ..ChangesOptions::default() }
}

fn row(id: &str, revs: &[&str]) -> (String, Vec<String>) {
    (id.to_owned(), revs.iter().map(|rev| (*rev).to_owned()).collect())
}

#[tokio::test]
async fn each_leaf_is_judged_by_itself() {
    let db = local().await;
    for text in [
        r#"{"_id":"both","_rev":"1-b","text":"milk"}"#,
        r#"{"_id":"both","_rev":"1-a","text":"milk and bread"}"#,
        r#"{"_id":"loser","_rev":"1-b","text":"bread"}"#,
        r#"{"_id":"loser","_rev":"1-a","text":"milk"}"#,
        r#"{"_id":"neither","_rev":"1-b","text":"bread"}"#,
        r#"{"_id":"winner","_rev":"1-b","text":"milk"}"#,
        r#"{"_id":"winner","_rev":"1-a"}"#,
    ] {
        replicated(&db, text).await;
    }
    let all = ChangesOptions { style: Style::AllDocs, ..selecting(milk()) };
    let expected = [row("both", &["1-b", "1-a"]), row("loser", &["1-a"]), row("winner", &["1-b"])];
    assert_eq!(rows(&db, all.clone()).await, expected);
    let winners = [row("both", &["1-b"]), row("winner", &["1-b"])];
    assert_eq!(rows(&db, selecting(milk())).await, winners);
    let both = vec![milk(), selector(json!({"_id": {"$gt": "l"}}))];
    assert_eq!(
        rows(&db, ChangesOptions { selectors: both, ..all.clone() }).await,
        [row("loser", &["1-a"]), row("winner", &["1-b"])]
    );
    for (docs, style, expected) in [
        (ChangeDocs::Leaves, Style::AllDocs, vec!["1-b", "1-a", "1-a", "1-b"]),
        (ChangeDocs::Winner, Style::AllDocs, vec!["1-b", "1-a", "1-b"]),
        (ChangeDocs::Leaves, Style::MainOnly, vec!["1-b", "1-a", "1-b"]),
        (ChangeDocs::Winner, Style::MainOnly, vec!["1-b", "1-b"]),
    ] {
        let options = ChangesOptions { docs, style, ..selecting(milk()) };
        let found = db.changes(&options).await.unwrap().rows.into_iter().flat_map(|row| row.docs);
        let revs: Vec<String> = found.map(|doc| doc.rev.unwrap().to_string()).collect();
        assert_eq!(revs, expected, "{docs:?} {style:?}");
    }
    let backwards = ChangesOptions { order: Order::Descending, limit: Some(2), ..all };
    assert_eq!(rows(&db, backwards).await, [row("winner", &["1-b"]), row("loser", &["1-a"])]);
}

#[tokio::test]
async fn a_tombstone_passes_with_what_it_deletes() {
    let db = local().await;
    put(&db, "bread", "bread").await;
    put(&db, "milk", "milk").await;
    put(&db, "moved", "milk").await;
    put(&db, "moved", "bread").await;
    for gone in ["bread", "milk", "moved"] {
        delete(&db, gone).await;
    }
    replicated(&db, r#"{"_id":"kept","_rev":"1-a","_deleted":true,"text":"milk"}"#).await;
    replicated(&db, r#"{"_id":"unknown","_rev":"2-b","_deleted":true,"_revisions":{"start":2,"ids":["b","a"]}}"#).await;
    let found: Vec<String> =
        rows(&db, selecting(milk())).await.into_iter().map(|row| row.0).collect();
    assert_eq!(found, ["milk", "kept"], "moved matched no more when it was deleted");
    let new = ChangesOptions { skip_tombstones: true, ..selecting(milk()) };
    assert_eq!(rows(&db, new).await, []);
}

#[tokio::test]
async fn pages_are_full_whatever_lies_between() {
    let db = local().await;
    for n in 0..600 {
        put(&db, &format!("d{n:03}"), if n % 100 == 7 { "milk" } else { "bread" }).await;
    }
    let limited = ChangesOptions { limit: Some(4), ..selecting(milk()) };
    let found = db.changes(&limited).await.unwrap();
    let ids: Vec<&str> = found.rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["d007", "d107", "d207", "d307"]);
    assert_eq!(found.last_seq.number, 308, "nothing after the last row was passed over");
    let rest = ChangesOptions { since: Since::After(found.last_seq), ..selecting(milk()) };
    assert_eq!(rows(&db, rest).await.len(), 2);
    let options =
        AllDocsOptions { limit: Some(2), skip: 1, selectors: vec![milk()], ..Default::default() };
    let found = db.all_docs(&options).await.unwrap();
    let ids: Vec<&str> = found.rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!((ids, found.total_rows), (vec!["d107", "d207"], 600));
}

async fn next(feed: &mut Feed) -> (Vec<String>, u64, u64) {
    let page = feed.next_page(100, usize::MAX).await.unwrap();
    let ids = page.rows.into_iter().map(|row| row.id.to_string()).collect();
    (ids, page.last_seq.number, page.pending)
}

#[tokio::test]
async fn a_live_feed_tells_its_place_though_nothing_passes() {
    let db = local().await;
    put(&db, "a", "bread").await;
    let mut feed = db.feed(selecting(milk())).await.unwrap();
    assert_eq!(next(&mut feed).await, (vec![], 1, 0));
    put(&db, "b", "bread").await;
    assert_eq!(next(&mut feed).await, (vec![], 2, 0));
    put(&db, "c", "milk").await;
    assert_eq!(next(&mut feed).await, (vec!["c".to_owned()], 3, 0));
}

fn served(store: Store) -> std::sync::Arc<Served> {
    Served::new(
        Gateway::builder(store).authorizer(|request: AccessRequest| async move {
            Ok(Grant::database(request.database))
        }),
    )
}

async fn changes(raw: &mut Raw, params: Value) -> Value {
    raw.ask(json!(["call", 1, 1, "changes", params])).await
}

#[tokio::test]
async fn over_the_wire_rows_and_places_come() {
    let store = Store::memory();
    let db = store.create(&name("tests")).await.unwrap();
    put(&db, "a", "milk").await;
    put(&db, "b", "bread").await;
    let served = served(store);
    let mut raw = served.channel(json!({"database": "tests"})).await;
    let wanted = json!({"text": {"$beginsWith": "milk"}});
    let rows =
        changes(&mut raw, json!({"selector": wanted, "docs": true, "style": "all_docs"})).await;
    assert_eq!(rows[3].as_array().unwrap().len(), 1, "{rows}");
    assert_eq!(rows[3][0]["docs"][0]["text"], "milk");
    let end = raw.json().await;
    assert!(end[3]["last_seq"].as_str().unwrap().starts_with("2-"), "{end}");
    let mut raw = served.channel(json!({"database": "tests"})).await;
    let rows = changes(&mut raw, json!({"selector": wanted, "live": true})).await;
    assert_eq!((rows[3].as_array().unwrap().len(), &rows[4]["pending"]), (1, &json!(0)));
    put(&db, "c", "bread").await;
    let note = raw.json().await;
    assert_eq!(note[3], json!([]), "{note}");
    assert!(note[4]["last_seq"].as_str().unwrap().starts_with("3-"), "{note}");
    put(&db, "a", "milk and bread").await;
    let rows = raw.json().await;
    assert_eq!(rows[3][0]["id"], "a", "{rows}");
}

#[tokio::test]
async fn what_is_no_selector_is_refused() {
    let store = Store::memory();
    store.create(&name("tests")).await.unwrap();
    let served = served(store);
    let mut raw = served.channel(json!({"database": "tests"})).await;
    for (selector, status, error, reason) in [
        (json!([]), 400, "invalid_selector_json", "must be a JSON object"),
        (json!({"a": {"$foo": 1}}), 400, "invalid_operator", "$foo"),
        (json!({"a": {"$where": 1}}), 400, "not_supported", "$where"),
        (json!({"a": {"$in": 1}}), 400, "bad_arg", "$in: 1"),
        (json!({"a..b": 1}), 400, "invalid_field_name", "a..b"),
        (json!({"$gt": 1}), 400, "invalid_selector", "field name"),
        (json!({"a": "x".repeat(70_000)}), 413, "too_large", "65536"),
    ] {
        let failed = changes(&mut raw, json!({"selector": selector})).await;
        let expected = json!(["fail", 1, 1, {"status": status, "error": error, "reason": failed[3]["reason"]}]);
        assert_eq!(failed, expected);
        assert!(failed[3]["reason"].as_str().unwrap().contains(reason), "{failed}");
        raw.assert_alive(error).await;
    }
}

fn with(options: SyncOptions) -> SyncOptions {
    options.selector(milk())
}

#[tokio::test]
async fn a_sync_moves_what_passes_both_ways_and_its_deletions() {
    let gateway = TestGateway::new(Store::memory());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    for (db, prefix) in [(&a, "a"), (&there, "t")] {
        put(db, &format!("{prefix}1"), "milk").await;
        put(db, &format!("{prefix}2"), "bread").await;
    }
    let client = gateway.client();
    let summary = Watched::new(client.sync(&a, with(one_shot("shared")))).ended().await.summary();
    assert_eq!((summary.push.unwrap().docs_written, summary.pull.unwrap().docs_written), (1, 1));
    assert_eq!(syncing::text(&a, "t2").await, None);
    assert_eq!(syncing::text(&there, "a2").await, None);
    delete(&a, "t1").await;
    delete(&there, "a1").await;
    Watched::new(client.sync(&a, with(one_shot("shared")))).ended().await.summary();
    assert_eq!(syncing::text(&there, "t1").await, None);
    assert_eq!(syncing::text(&a, "a1").await, None);
}

#[tokio::test]
async fn checkpoints_pass_over_what_does_not_and_widening_begins_anew() {
    let gateway = TestGateway::new(Store::memory());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    syncing::fill(&there, "b", 700).await;
    put(&there, "m", "milk").await;
    let client = gateway.client();
    let pulled = async |options: SyncOptions| {
        let ended = Watched::new(client.sync(&a, options.pull_only())).ended().await;
        let pull = ended.summary().pull.unwrap();
        (pull.docs_read, pull.docs_written, pull.last_seq.unwrap())
    };
    let (read, written, place) = pulled(with(one_shot("shared"))).await;
    assert_eq!((read, written), (1, 1));
    assert!(place.starts_with("701-"), "{place}");
    syncing::fill(&there, "c", 10).await;
    let same = selector(json!({"$not": {"$nor": [{"text": {"$beginsWith": "milk"}}]}}));
    let (read, _, place) = pulled(one_shot("shared").selector(same)).await;
    assert_eq!(read, 0);
    assert!(place.starts_with("711-"), "{place}");
    let wider = selector(json!({"$or": [{"text": {"$beginsWith": "milk"}}, {"n": 5}]}));
    assert_eq!(pulled(one_shot("shared").selector(wider)).await.1, 2, "b5 and c5");
    assert_eq!(pulled(one_shot("shared")).await.1, 708);
    syncing::assert_equal(&a, &there).await;
}

#[tokio::test]
async fn a_live_sync_is_up_to_date_whatever_else_changes() {
    let gateway = TestGateway::new(Store::memory());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    let mut sync = Watched::new(gateway.client().sync(&a, with(live("shared"))));
    put(&a, "bread", "bread").await;
    sync.up_to_date().await.unwrap();
    put(&a, "milk", "milk").await;
    put(&a, "bread", "rye").await;
    sync.up_to_date().await.unwrap();
    assert_eq!(syncing::text(&there, "milk").await.as_deref(), Some("milk"));
    put(&there, "butter", "butter").await;
    put(&there, "more", "milk too").await;
    syncing::until_text(&a, "more", "milk too").await;
    let ended = sync.stop().await;
    assert!(ended.changes.iter().all(|change| change.docs_read > 0), "no events about nothing");
    assert_eq!(ended.times_written(Direction::Push, "milk"), 1);
    assert_eq!(
        (syncing::text(&a, "butter").await, syncing::text(&there, "bread").await),
        (None, None)
    );
}

#[tokio::test]
async fn two_local_databases_sync_by_selector() {
    let (a, b) = (local().await, local().await);
    put(&a, "milk", "milk").await;
    put(&b, "bread", "bread").await;
    let options = ReplicationOptions { selector: Some(milk()), ..ReplicationOptions::default() };
    let mut sync = replicate(&a, &b, options);
    while sync.next().await.is_some() {}
    assert_eq!(syncing::text(&b, "milk").await.as_deref(), Some("milk"));
    assert!(a.get(&id("bread"), &Default::default()).await.is_err());
}
