//! The gateway is killed with SIGKILL while documents are written, deleted and purged and queries
//! bring indexes up to date. What is left agrees: an index finds what a look at all documents finds.
#![cfg(feature = "cli")]

#[path = "support/ask.rs"]
mod ask;
#[path = "support/binary.rs"]
mod binary;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ask::ask;
use binary::Served;
use serde_json::{Value, json};
use settee::store::{FindRequest, SortField};
use settee::{DbName, Selector, Store};
use tempfile::tempdir;
use tokio::sync::watch;

const KILLS: u64 = 5;
const WRITERS: u64 = 2;
/// Answers of queries and of writes between a start and its kill, at least.
const ANSWERS: u64 = 12;

/// Documents of its own, each round another part of them: new fields, deletions, purges.
async fn write(address: String, writer: u64, life: u64, answered: watch::Sender<u64>) {
    for round in 0.. {
        let name = |number: u64| format!("w{writer}-{:03}", (round * 17 + number) % 200);
        let keys: Vec<String> = (0..40).map(name).collect();
        let Some(found) = ask(&address, "POST", "/db/_all_docs", &json!({"keys": keys})).await
        else {
            return;
        };
        let rows = found["rows"].as_array().cloned().unwrap_or_default();
        let revs: Vec<Value> = rows.iter().map(|row| row["value"]["rev"].clone()).collect();
        let edit = |(place, id): (usize, &String)| {
            let deleted = rows[place]["value"]["deleted"] == true;
            let mut document = json!({"_id": id, "n": (round + life + place as u64) % 23});
            if !revs[place].is_null() && !deleted {
                document["_rev"] = revs[place].clone();
                document["_deleted"] = json!(place % 5 == 0);
            }
            document
        };
        let docs: Vec<Value> = keys.iter().enumerate().map(edit).collect();
        if ask(&address, "POST", "/db/_bulk_docs", &json!({"docs": docs})).await.is_none() {
            return;
        }
        let purged = json!({keys[1].clone(): [revs[1].as_str().unwrap_or("1-0")]});
        if round % 3 == 0 && ask(&address, "POST", "/db/_purge", &purged).await.is_none() {
            return;
        }
        answered.send_modify(|count| *count += 1);
    }
}

async fn query(address: String, found: Arc<AtomicU64>, answered: watch::Sender<u64>) {
    let wanted = json!({"selector": {"n": {"$gte": 0}}, "sort": ["n"], "limit": 1000});
    while let Some(page) = ask(&address, "POST", "/db/_find", &wanted).await {
        let docs = page["docs"].as_array().expect("documents are found");
        found.fetch_add(docs.len() as u64, Ordering::Relaxed);
        answered.send_modify(|count| *count += 1);
    }
}

async fn assert_agrees(data: &Path) {
    let store = Store::open(data).expect("it opens");
    let db = store.database(&DbName::parse("db").expect("a name")).await.expect("it is there");
    let report = db.check().await.expect("it is read");
    assert_eq!(report.problems, []);
    assert_eq!(report.damaged_indexes, 0);
    let ids = async |wanted: Value, sort: &[&str]| {
        let selector = Selector::from_value(&wanted).expect("a selector");
        let sort = SortField::ascending(sort).expect("fields");
        let request = FindRequest { sort, limit: usize::MAX, ..FindRequest::new(selector) };
        let page = db.find(request).await.expect("it is found");
        page.docs.iter().map(|document| document.id.to_string()).collect::<BTreeSet<_>>()
    };
    let by_index = ids(json!({"n": {"$gte": 5}}), &["n"]).await;
    // No index serves an alternative without the field.
    let by_all = ids(json!({"$or": [{"n": {"$gte": 5}}, {"none": 1}]}), &[]).await;
    assert!(!by_all.is_empty());
    assert_eq!(by_index, by_all);
    store.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_agrees_with_the_documents_after_every_kill() {
    let directory = tempdir().expect("a temporary directory");
    let data = directory.path().join("data");
    let found = Arc::new(AtomicU64::new(0));
    for life in 0..KILLS {
        let served = Served::start(&data, "127.0.0.1:0");
        if life == 0 {
            ask(&served.address, "PUT", "/db", &json!({})).await.expect("it is made");
            let index = json!({"index": {"fields": ["n"]}});
            ask(&served.address, "POST", "/db/_index", &index).await.expect("it is defined");
        }
        let answered = watch::Sender::new(0);
        let mut reached = answered.subscribe();
        let mut tasks: Vec<_> = (0..WRITERS)
            .map(|writer| {
                tokio::spawn(write(served.address.clone(), writer, life, answered.clone()))
            })
            .collect();
        let querying = query(served.address.clone(), Arc::clone(&found), answered.clone());
        tasks.push(tokio::spawn(querying));
        reached.wait_for(|count| *count >= ANSWERS + life).await.expect("answers come");
        served.kill();
        for task in tasks {
            task.await.expect("no answer is wrong");
        }
        assert_agrees(&data).await;
    }
    assert!(found.load(Ordering::Relaxed) > 0, "no query found anything");
}
