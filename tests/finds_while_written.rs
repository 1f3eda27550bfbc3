//! Queries beside writers: no document that was there is missed, and none comes twice.

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use settee::doc::Selector;
use settee::store::{FindRequest, GetOptions, NewIndex};
use settee::{Database, Document, Store};
use support::documents::{database, id};
use support::yielding::yielding_store;
use tokio::task::yield_now;

async fn put(db: &Database, name: &str, body: &Value) {
    let rev = db.get(&id(name), &GetOptions::default()).await.ok().and_then(|found| found.rev);
    let document = Document { rev, ..Document::new(name, body).unwrap() };
    db.put(document).await.unwrap();
}

/// With the one of the index, as many documents as three steps of bringing it up to date take.
const DOCS: usize = 299;

/// A database with documents and an index of their numbers.
async fn numbered(store: &Store) -> Database {
    let db = database(store).await;
    db.create_index(&NewIndex::on(&["n"]).unwrap()).await.unwrap();
    for n in 0..DOCS {
        put(&db, &format!("d{n:03}"), &json!({"n": n})).await;
    }
    db
}

fn all() -> FindRequest {
    let selector = Selector::from_value(&json!({"n": {"$gte": 0}})).unwrap();
    FindRequest { limit: 1_000, ..FindRequest::new(selector) }
}

#[tokio::test]
async fn documents_that_change_while_an_index_is_built_are_found() {
    let db = numbered(&yielding_store()).await;
    let edits = async {
        // New documents take the places that the last step would have had room for.
        for n in 0..5 {
            put(&db, &format!("new{n}"), &json!({"n": n})).await;
        }
        put(&db, "d298", &json!({"n": 1_000})).await;
    };
    let (page, ()) = tokio::join!(db.find(all()), edits);
    let found: BTreeSet<String> =
        page.unwrap().docs.iter().map(|document| document.id.to_string()).collect();
    for n in 0..DOCS {
        assert!(found.contains(&format!("d{n:03}")), "{n} is missing");
    }
}

#[tokio::test]
async fn a_query_that_writers_never_leave_alone_ends() {
    let db = numbered(&yielding_store()).await;
    let writes = async {
        for n in 0.. {
            put(&db, &format!("new{n}"), &json!({"n": n})).await;
            yield_now().await;
        }
    };
    tokio::select! {
        page = db.find(all()) => assert!(page.unwrap().docs.len() >= DOCS),
        () = writes => unreachable!("it has no end"),
    }
}

#[tokio::test]
async fn a_document_that_moves_on_in_the_index_is_told_once() {
    let db = numbered(&Store::memory()).await;
    let mut finder = db.finder(all()).await.unwrap();
    let first = finder.next().await.unwrap().expect("there are documents");
    put(&db, "d000", &json!({"n": 298.5})).await;
    // Another query brings the index up to date.
    assert_eq!(db.find(all()).await.unwrap().docs.last().unwrap().id, first.id);
    let mut told = BTreeSet::from([first.id]);
    while let Some(document) = finder.next().await.unwrap() {
        assert!(told.insert(document.id.clone()), "{} came twice", document.id);
    }
    assert_eq!(told.len(), DOCS);
}
