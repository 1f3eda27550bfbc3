//! Queries: with an index or without, the same documents are found.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use settee::doc::{FieldPath, Selector};
use settee::store::backend::{Backend as _, IndexBackend as _, IndexCommit, IndexOutcome};
use settee::store::{
    CompactOptions, FindError, FindPage, FindRequest, GetOptions, MemoryBackend, NewIndex, Order,
    SortField, UseIndex,
};
use settee::{Database, DbName, DocId, Document, Limits, Store, StoreError};
use tokio::runtime::Runtime;

fn selector(value: &Value) -> Selector {
    Selector::from_value(value).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn id(text: &str) -> DocId {
    DocId::parse(text, 100).expect(text)
}

fn request(wanted: &Value) -> FindRequest {
    FindRequest::new(selector(wanted))
}

fn sorted(wanted: &Value, fields: &[&str], order: Order) -> FindRequest {
    let sort = SortField::ascending(fields).expect("fields");
    let sort = sort.into_iter().map(|by| SortField { order, ..by }).collect();
    FindRequest { sort, ..request(wanted) }
}

fn ids(page: &FindPage) -> Vec<&str> {
    page.docs.iter().map(|document| document.id.as_str()).collect()
}

async fn put(db: &Database, name: &str, body: &Value) {
    let mut document = Document::new(name, body).expect("a document");
    match db.get(&id(name), &GetOptions::default()).await {
        Ok(found) => document.rev = found.rev,
        Err(StoreError::DocMissing { .. } | StoreError::DocDeleted { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    db.put(document).await.expect("it is written");
}

async fn delete(db: &Database, name: &str) {
    if let Ok(found) = db.get(&id(name), &GetOptions::default()).await {
        db.delete(&found.id, found.rev.expect("it was read")).await.expect("it is deleted");
    }
}

async fn purge(db: &Database, name: &str) {
    if let Ok(found) = db.get(&id(name), &GetOptions::default()).await {
        let revs = vec![found.rev.expect("it was read")];
        db.purge(&[(found.id, revs)]).await.expect("it is purged");
    }
}

async fn index(db: &Database, name: &str, fields: &[&str]) {
    let new = NewIndex {
        ddoc: Some(name.into()),
        name: Some(name.into()),
        ..NewIndex::on(fields).expect("fields")
    };
    assert!(db.create_index(&new).await.expect("it is defined").is_some());
}

async fn open(store: &Store) -> Database {
    store.open_or_create(&DbName::parse("db").expect("a name")).await.expect("it opens")
}

async fn games() -> Database {
    let db = open(&Store::memory()).await;
    for (name, series, debut) in [
        ("mario", "mario", 1981),
        ("luigi", "mario", 1983),
        ("link", "zelda", 1986),
        ("samus", "metroid", 1986),
        ("kirby", "kirby", 1992),
    ] {
        put(&db, name, &json!({"series": series, "debut": debut})).await;
    }
    db
}

#[tokio::test]
async fn an_index_gives_an_order_and_a_range() {
    let db = games().await;
    index(&db, "by-debut", &["debut"]).await;
    for (wanted, order, found) in [
        (json!({}), Order::Ascending, &["mario", "luigi", "link", "samus", "kirby"][..]),
        (json!({"debut": {"$gt": 1986}}), Order::Ascending, &["kirby"]),
        (json!({"debut": {"$gte": 1986}}), Order::Descending, &["kirby", "samus", "link"]),
        (json!({"debut": {"$lt": 1986}}), Order::Ascending, &["mario", "luigi"]),
        (
            json!({"debut": {"$lte": 1986, "$gt": 1981}}),
            Order::Ascending,
            &["luigi", "link", "samus"],
        ),
        (json!({"debut": 1986}), Order::Ascending, &["link", "samus"]),
        (json!({"debut": 1986, "series": "zelda"}), Order::Ascending, &["link"]),
        (json!({"debut": {"$gt": 1990, "$lt": 1980}}), Order::Ascending, &[]),
    ] {
        let page = db.find(sorted(&wanted, &["debut"], order)).await.expect("it is found");
        assert_eq!(ids(&page), found, "{wanted}");
        assert_eq!(page.warning, None, "{wanted}");
    }
    let page = db.find(sorted(&json!({"debut": 1981}), &["debut"], Order::Ascending)).await;
    assert_eq!(page.expect("it is found").execution.docs_examined, 1);
}

#[tokio::test]
async fn a_sort_without_an_index_is_refused() {
    let db = games().await;
    index(&db, "by-debut", &["debut"]).await;
    let refused = db.find(sorted(&json!({}), &["series"], Order::Ascending)).await;
    assert!(matches!(refused, Err(FindError::NoUsableIndex)), "{refused:?}");
    let mut mixed = sorted(&json!({}), &["debut", "series"], Order::Ascending);
    mixed.sort[1].order = Order::Descending;
    assert!(matches!(db.find(mixed).await, Err(FindError::MixedSort)));
    let by_id = sorted(&json!({}), &["_id"], Order::Descending);
    let page = db.find(by_id).await.expect("ids have an order");
    assert_eq!(ids(&page), ["samus", "mario", "luigi", "link", "kirby"]);
}

#[tokio::test]
async fn a_first_field_with_one_value_leaves_the_order_to_the_second() {
    let db = games().await;
    index(&db, "both", &["series", "debut"]).await;
    let wanted = json!({"series": "mario"});
    let page = db.find(sorted(&wanted, &["debut"], Order::Descending)).await.expect("it is found");
    assert_eq!(ids(&page), ["luigi", "mario"]);
    assert_eq!(page.execution.keys_examined, 2);
    let open = json!({"series": {"$gt": "a"}});
    let refused = db.find(sorted(&open, &["debut"], Order::Descending)).await;
    assert!(matches!(refused, Err(FindError::NoUsableIndex)));
}

#[tokio::test]
async fn the_index_is_chosen_as_couchdb_does() {
    let db = games().await;
    for (name, fields) in [
        ("z-debut", &["debut"][..]),
        ("both", &["debut", "series"]),
        ("long", &["debut", "series", "other"]),
        ("a-debut", &["debut"]),
    ] {
        index(&db, name, fields).await;
    }
    let bookmark = |page: FindPage| page.bookmark;
    let named = |name: &str| Some(UseIndex { ddoc: name.into(), name: None });
    for (wanted, chosen) in [
        (json!({"debut": {"$gt": 0}}), "a-debut"),
        (json!({"debut": {"$gt": 0}, "series": {"$gt": ""}}), "both"),
        (json!({"debut": {"$gt": 0}, "series": {"$exists": true}}), "both"),
        (json!({"$or": [{"debut": 1981}, {"debut": 1983}]}), "a-debut"),
    ] {
        let free = bookmark(db.find(request(&wanted)).await.expect("it is found"));
        let told = FindRequest { use_index: named(chosen), ..request(&wanted) };
        let page = db.find(told).await.expect("it is found");
        assert_eq!(page.warning, None, "{wanted}");
        // The bookmark names the index: two on the same fields share their rows.
        assert_eq!(page.bookmark, free, "{wanted}");
    }
    for wanted in
        [json!({}), json!({"debut": {"$exists": false}}), json!({"$or": [{"debut": 1}, {"x": 1}]})]
    {
        let page = db.find(request(&wanted)).await.expect("it is found");
        let warning = page.warning.expect("there is no index for it");
        assert!(warning.starts_with("No matching index found"), "{wanted}: {warning}");
    }
}

#[tokio::test]
async fn an_index_that_cannot_be_used_is_told() {
    let db = games().await;
    index(&db, "by-debut", &["debut"]).await;
    let wanted = json!({"series": "mario"});
    let named = |name: Option<&str>| {
        Some(UseIndex { ddoc: "_design/by-debut".into(), name: name.map(str::to_owned) })
    };
    for (name, warning) in [
        (
            None,
            "_design/by-debut was not used because it does not contain a valid index for this query.",
        ),
        (
            Some("x"),
            "_design/by-debut, x was not used because it is not a valid index for this query.",
        ),
    ] {
        let told = FindRequest { use_index: named(name), ..request(&wanted) };
        let page = db.find(told.clone()).await.expect("another way is taken");
        assert_eq!(ids(&page), ["luigi", "mario"]);
        assert!(page.warning.expect("it is told").starts_with(warning));
        let strict = FindRequest { allow_fallback: false, ..told };
        let refused = db.find(strict).await;
        assert!(matches!(refused, Err(FindError::IndexNotSuitable { .. })), "{refused:?}");
    }
    let strict = FindRequest { allow_fallback: false, ..request(&wanted) };
    assert!(matches!(db.find(strict).await, Err(FindError::IndexNotNamed)));
}

#[tokio::test]
async fn a_partial_index_is_used_by_who_names_it() {
    let db = games().await;
    let new = NewIndex {
        partial_filter: Some(selector(&json!({"series": "mario"}))),
        ddoc: Some("partial".into()),
        ..NewIndex::on(&["debut"]).expect("a field")
    };
    db.create_index(&new).await.expect("it is defined");
    let wanted = json!({"debut": {"$gt": 0}});
    assert_eq!(db.find(request(&wanted)).await.expect("it is found").docs.len(), 5);
    let use_index = Some(UseIndex { ddoc: "partial".into(), name: None });
    let page = db.find(FindRequest { use_index, ..request(&wanted) }).await.expect("it is found");
    assert_eq!(ids(&page), ["mario", "luigi"]);
}

#[tokio::test]
async fn pages_have_no_holes_and_no_doubles_while_others_write() {
    for with_index in [false, true] {
        let db = open(&Store::memory()).await;
        for number in 0..200 {
            put(&db, &format!("d{number:03}"), &json!({"n": number % 7, "kept": number % 2 == 0}))
                .await;
        }
        if with_index {
            index(&db, "n", &["n"]).await;
        }
        let mut seen = Vec::new();
        let mut next = FindRequest { limit: 13, ..request(&json!({"n": {"$gte": 0}})) };
        for round in 0.. {
            let page = db.find(next.clone()).await.expect("a page");
            seen.extend(page.docs.iter().map(|document| document.id.as_str().to_owned()));
            if page.docs.is_empty() {
                assert_eq!(page.bookmark, next.bookmark, "the end stays the end");
                break;
            }
            next.bookmark = page.bookmark;
            // Documents before and behind the place come and go.
            put(&db, &format!("c{round:03}"), &json!({"n": round % 7})).await;
            put(&db, &format!("e{round:03}"), &json!({"n": round % 7})).await;
            delete(&db, &format!("d{:03}", 2 * round + 1)).await;
            if let Some(last) = seen.last().filter(|name| name.starts_with('e')) {
                delete(&db, last).await;
            }
        }
        let distinct: BTreeSet<&String> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "a document came twice");
        for number in (0..200).step_by(2) {
            assert!(distinct.contains(&format!("d{number:03}")), "{number} is missing");
        }
    }
}

#[tokio::test]
async fn bookmarks_of_other_queries_are_refused() {
    let db = games().await;
    index(&db, "by-debut", &["debut"]).await;
    let by_index = db.find(request(&json!({"debut": {"$gt": 0}}))).await.expect("a page").bookmark;
    let all = json!({"series": "mario"});
    for bookmark in [by_index, "x".to_owned(), "AQE".to_owned()] {
        let refused = db.find(FindRequest { bookmark, ..request(&all) }).await;
        assert!(matches!(refused, Err(FindError::Bookmark { .. })), "{refused:?}");
    }
    let begun = FindRequest { bookmark: "nil".into(), ..request(&all) };
    assert_eq!(db.find(begun).await.expect("the beginning").docs.len(), 2);
}

#[tokio::test]
async fn without_an_update_the_index_is_read_as_it_is() {
    let db = games().await;
    index(&db, "by-debut", &["debut"]).await;
    let wanted = json!({"debut": {"$gt": 0}});
    let stale = || FindRequest { update: false, ..request(&wanted) };
    assert!(db.find(stale()).await.expect("a page").docs.is_empty());
    assert_eq!(db.find(request(&wanted)).await.expect("a page").docs.len(), 5);
    put(&db, "pit", &json!({"debut": 1986})).await;
    assert_eq!(db.find(stale()).await.expect("a page").docs.len(), 5);
    assert_eq!(db.find(request(&wanted)).await.expect("a page").docs.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_at_the_same_time_share_one_index() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(directory.path()).expect("it opens");
    let db = open(&store).await;
    for number in 0..1_000 {
        put(&db, &format!("d{number:04}"), &json!({"n": number})).await;
    }
    index(&db, "n", &["n"]).await;
    let query = || {
        let db = db.clone();
        let wanted = FindRequest { limit: 2_000, ..request(&json!({"n": {"$gte": 0}})) };
        tokio::spawn(async move { db.find(wanted).await.expect("a page").docs.len() })
    };
    let queries: Vec<_> = (0..8).map(|_| query()).collect();
    for query in queries {
        assert_eq!(query.await.expect("it ends"), 1_000);
    }
    assert_eq!(db.check().await.expect("it is read").damaged_indexes, 0);
    store.close().await.expect("it closes");
}

#[tokio::test]
async fn rows_of_indexes_that_nobody_defines_are_removed() {
    let db = games().await;
    index(&db, "by-debut", &["debut"]).await;
    index(&db, "same", &["debut"]).await;
    let wanted = json!({"debut": {"$gt": 0}});
    db.find(request(&wanted)).await.expect("a page");
    assert!(db.drop_index(&id("_design/same"), "same").await.expect("it is dropped"));
    assert!(!db.drop_index(&id("_design/same"), "same").await.expect("it is not there"));
    assert_eq!(db.clean_indexes().await.expect("they are cleaned"), 0);
    assert!(db.drop_index(&id("_design/by-debut"), "by-debut").await.expect("it is dropped"));
    assert_eq!(db.clean_indexes().await.expect("they are cleaned"), 1);
    index(&db, "by-debut", &["debut"]).await;
    assert_eq!(db.find(request(&wanted)).await.expect("a page").docs.len(), 5);
    db.drop_index(&id("_design/by-debut"), "by-debut").await.expect("it is dropped");
    db.compact(CompactOptions::default()).await.expect("it is compacted");
    assert_eq!(db.clean_indexes().await.expect("they are cleaned"), 0);
}

#[tokio::test]
async fn an_index_that_differs_from_the_documents_is_found_and_built_anew() {
    let name = DbName::parse("db").expect("a name");
    for (case, wrong) in [("another key", Some(vec![6, 4, 0])), ("no entry", None)] {
        let backend = Arc::new(MemoryBackend::new());
        let store = Store::with_backend(backend.clone(), Limits::default());
        let db = store.create(&name).await.expect("it is made");
        put(&db, "a", &json!({"n": 1})).await;
        index(&db, "n", &["n"]).await;
        let wanted = request(&json!({"n": {"$gte": 0}}));
        assert_eq!(db.find(wanted.clone()).await.expect("a page").docs.len(), 1);
        assert_eq!(db.check().await.expect("it is read").damaged_indexes, 0);

        let record = backend.database(&name).await.expect("it is read").expect("it is there");
        let (key, state) = backend.indexes(record.key).await.expect("states are read")[0];
        let docs = vec![(id("a"), wrong)];
        let seq = state.seq;
        let commit = IndexCommit { index: key, expected: Some(state), purge_seq: 0, seq, docs };
        let outcome = backend.commit_index(record.key, commit).await.expect("it is tried");
        assert_eq!(outcome, IndexOutcome::Done);

        let report = db.check().await.expect("it is read");
        assert_eq!((report.damaged_indexes, report.problems), (1, vec![]), "{case}");
        db.rebuild_indexes().await.expect("rows are removed");
        assert_eq!(db.find(wanted).await.expect("a page").docs.len(), 1, "{case}");
        assert_eq!(db.check().await.expect("it is read").damaged_indexes, 0, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_are_there_after_the_files_were_rewritten() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(directory.path()).expect("it opens");
    let db = open(&store).await;
    for number in 0..50 {
        put(&db, &format!("d{number}"), &json!({"n": number})).await;
    }
    index(&db, "n", &["n"]).await;
    let wanted = request(&json!({"n": {"$gte": 40}}));
    db.find(wanted.clone()).await.expect("a page");
    store.close().await.expect("it closes");
    Store::rewrite(directory.path()).expect("it is rewritten");
    let store = Store::open(directory.path()).expect("it opens");
    let db = open(&store).await;
    let as_it_is = FindRequest { update: false, ..wanted };
    assert_eq!(db.find(as_it_is).await.expect("a page").docs.len(), 10);
    store.close().await.expect("it closes");
}

#[tokio::test]
async fn a_database_of_the_same_name_has_none_of_the_indexes() {
    let store = Store::memory();
    let name = DbName::parse("db").expect("a name");
    for round in 0..2 {
        let db = store.create(&name).await.expect("it is made");
        put(&db, &format!("d{round}"), &json!({"n": round})).await;
        index(&db, "n", &["n"]).await;
        let page = db.find(request(&json!({"n": {"$gte": 0}}))).await.expect("a page");
        assert_eq!(ids(&page), [format!("d{round}")]);
        store.destroy(&name).await.expect("it is destroyed");
        let gone = db.find(request(&json!({"n": 1}))).await;
        assert!(
            matches!(gone, Err(FindError::Store(StoreError::DatabaseDestroyed { .. }))),
            "{gone:?}"
        );
    }
}

/// One thing that happens to a database.
#[derive(Debug, Clone)]
enum Step {
    Put(u8, Value),
    Delete(u8),
    Purge(u8),
    Query(Query),
    Compact,
    Reopen,
}

#[derive(Debug, Clone)]
struct Query {
    wanted: Value,
    sort: Vec<&'static str>,
    order: Order,
    limit: usize,
    skip: usize,
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-2..3_i32).prop_map(Value::from),
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        "[aAbä]{0,2}".prop_map(Value::from),
        Just(json!([1, "a"])),
        Just(json!({"b": 1})),
    ]
}

fn body() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map("[abc]", value(), 0..4).prop_map(|members| json!(members))
}

fn condition() -> impl Strategy<Value = Value> {
    let operators = vec!["$eq", "$ne", "$lt", "$lte", "$gt", "$gte"];
    let compared = (prop::sample::select(operators), value());
    prop_oneof![
        4 => compared.prop_map(|(operator, value)| json!({operator: value})),
        1 => any::<bool>().prop_map(|there| json!({"$exists": there})),
        1 => Just(json!({"$type": "number"})),
        1 => prop::collection::vec(value(), 0..3).prop_map(|values| json!({"$in": values})),
        1 => (value(), value()).prop_map(|(low, high)| json!({"$gte": low, "$lt": high})),
    ]
}

fn wanted() -> impl Strategy<Value = Value> {
    let fields = || prop::sample::select(vec!["a", "b", "c", "a.b", "_id"]);
    let flat = prop::collection::vec((fields(), condition()), 0..4).prop_map(|parts| {
        let parts: Vec<Value> =
            parts.into_iter().map(|(field, part)| json!({field: part})).collect();
        json!({"$and": parts})
    });
    let flat = flat
        .prop_map(|wanted| if wanted == json!({"$and": []}) { json!({}) } else { wanted })
        .boxed();
    let non_empty = |parts: &Vec<Value>| parts.iter().all(|part| *part != json!({}));
    prop_oneof![
        3 => flat.clone(),
        1 => prop::collection::vec(flat, 1..3).prop_filter("no condition", non_empty)
            .prop_map(|parts| json!({"$or": parts})),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let sorts = vec![vec![], vec!["a"], vec!["b"], vec!["a", "b"], vec!["_id"], vec!["a.b"]];
    let order = prop_oneof![Just(Order::Ascending), Just(Order::Descending)];
    (wanted(), prop::sample::select(sorts), order, 0..9_usize, 0..3_usize)
        .prop_map(|(wanted, sort, order, limit, skip)| Query { wanted, sort, order, limit, skip })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..24_u8, body()).prop_map(|(doc, body)| Step::Put(doc, body)),
        2 => (0..24_u8).prop_map(Step::Delete),
        1 => (0..24_u8).prop_map(Step::Purge),
        6 => query().prop_map(Step::Query),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

const INDEXES: &[(&str, &[&str])] =
    &[("a", &["a"]), ("ab", &["a", "b"]), ("nested", &["a.b"]), ("bid", &["b", "_id"])];

/// The documents that match, by looking at all of them.
async fn expected(db: &Database, query: &Query) -> BTreeSet<String> {
    let all = settee::store::AllDocsOptions { include_docs: true, ..Default::default() };
    let rows = db.all_docs(&all).await.expect("all documents").rows;
    let selector = selector(&query.wanted);
    let fields = || query.sort.iter().map(|name| FieldPath::parse(name).expect("a field"));
    let has_sorted = |document: &Document| {
        fields().all(|field| {
            let there = json!({field.to_string(): {"$exists": true}});
            self::selector(&there).matches(document)
        })
    };
    let documents = rows.into_iter().filter_map(|row| row.doc);
    let found = documents.filter(|document| {
        !document.id.as_str().starts_with("_design/")
            && selector.matches(document)
            && has_sorted(document)
    });
    found.map(|document| document.id.to_string()).collect()
}

async fn check(db: &Database, query: &Query) {
    let mut wanted = sorted(&query.wanted, &query.sort, query.order);
    wanted.limit = usize::MAX;
    let page = match db.find(wanted.clone()).await {
        Ok(page) => page,
        Err(FindError::NoUsableIndex) => return,
        Err(error) => panic!("{error}"),
    };
    let found: Vec<String> = page.docs.iter().map(|document| document.id.to_string()).collect();
    let distinct: BTreeSet<String> = found.iter().cloned().collect();
    assert_eq!(distinct.len(), found.len(), "{query:?}");
    assert_eq!(distinct, expected(db, query).await, "{query:?}");
    for pair in page.docs.windows(2) {
        assert!(!is_above(&pair[0], &pair[1], query), "{query:?}: {pair:?}");
    }
    wanted.limit = query.limit;
    wanted.skip = query.skip;
    let part = db.find(wanted).await.expect("it was found before");
    let part: Vec<String> = part.docs.iter().map(|document| document.id.to_string()).collect();
    let cut: Vec<String> = found.into_iter().skip(query.skip).take(query.limit).collect();
    assert_eq!(part, cut, "{query:?}");
}

/// Whether a document stands above another by the first field of the sort, as a selector judges it.
fn is_above(first: &Document, second: &Document, query: &Query) -> bool {
    let Some(field) = query.sort.first() else { return false };
    if *field == "_id" {
        return (first.id > second.id) != (query.order == Order::Descending);
    }
    let body: Value = first.body.to().expect("JSON");
    let value = field.split('.').fold(&body, |value, part| &value[part]);
    let operator = if query.order == Order::Ascending { "$lt" } else { "$gt" };
    selector(&json!({*field: {operator: value}})).matches(second)
}

async fn run(path: Option<&Path>, steps: Vec<Step>) {
    let opened = || match path {
        Some(path) => Store::open(path).expect("it opens"),
        None => Store::memory(),
    };
    let mut store = opened();
    let mut db = open(&store).await;
    for (name, fields) in INDEXES {
        index(&db, name, fields).await;
    }
    for step in steps {
        match step {
            Step::Put(doc, body) => put(&db, &format!("d{doc}"), &body).await,
            Step::Delete(doc) => delete(&db, &format!("d{doc}")).await,
            Step::Purge(doc) => purge(&db, &format!("d{doc}")).await,
            Step::Query(query) => check(&db, &query).await,
            Step::Compact => {
                db.compact(CompactOptions::default()).await.expect("it is compacted");
            }
            Step::Reopen if path.is_some() => {
                store.close().await.expect("it closes");
                store = opened();
                db = open(&store).await;
            }
            Step::Reopen => {}
        }
    }
    assert_eq!(db.check().await.expect("it is read").damaged_indexes, 0);
    store.close().await.expect("it closes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn an_index_finds_what_a_look_at_all_documents_finds(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(run(None, steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn so_it_does_on_disk_and_after_reopening(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = Runtime::new().expect("a runtime");
        let directory = tempfile::tempdir().expect("a temporary directory");
        runtime.block_on(run(Some(directory.path()), steps));
    }
}
