//! Queries through an index and without one, over documents on disk: equality, a range, a sort with a
//! limit; and what it takes to build an index and to bring it up to date. Prints ratios.
//!
//! `cargo bench --bench find [-- DOCS]`: documents (default 100,000).

#[path = "support/allocator.rs"]
mod allocator;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use settee::store::{EditMode, FindRequest, NewIndex, SortField};
use settee::{Database, DbName, Document, Selector, Store};

const BATCH: usize = 1_000;
/// Queries of each kind through an index; without one each reads everything.
const ROUNDS: u32 = 200;
const ROUNDS_WITHOUT: u32 = 3;
/// Documents that change before an index is brought up to date.
const CHANGED: usize = 1_000;

fn document(number: usize) -> Document {
    let city = ["Oslo", "Bergen", "Tromsø"][number % 3];
    let body = json!({
        "type": "task",
        "owner": format!("user-{:04}", number % 1_000),
        "n": number,
        "place": {"city": city},
        "text": "remember to buy milk and bread for breakfast ".repeat(3),
    });
    Document::new(&format!("task-{number:07}"), &body).expect("a document")
}

async fn fill(db: &Database, docs: usize) {
    for first in (0..docs).step_by(BATCH) {
        let batch = (first..docs.min(first + BATCH)).map(document).collect();
        db.bulk_docs(batch, EditMode::Edit).await.expect("documents are written");
    }
}

fn query(selector: &Value, sort: &[&str], limit: usize) -> FindRequest {
    let selector = Selector::from_value(selector).expect("a selector");
    let sort = SortField::ascending(sort).expect("fields");
    FindRequest { sort, limit, ..FindRequest::new(selector) }
}

/// The time of one query, and how many documents it finds and looks at.
async fn timed(db: &Database, request: &FindRequest, rounds: u32) -> (Duration, u64, u64) {
    let began = Instant::now();
    let mut execution = settee::store::Execution::default();
    for _ in 0..rounds {
        execution = db.find(request.clone()).await.expect("it is found").execution;
    }
    (began.elapsed() / rounds, execution.results, execution.docs_examined)
}

async fn build(db: &Database, fields: &[&str]) -> Duration {
    let index = NewIndex { ddoc: Some(fields.join("-")), ..NewIndex::on(fields).expect("fields") };
    db.create_index(&index).await.expect("it is defined");
    let began = Instant::now();
    let exists = fields.iter().map(|field| ((*field).to_owned(), json!({"$exists": true})));
    let first = query(&Value::Object(exists.collect()), fields, 1);
    assert_eq!(db.find(first).await.expect("it is found").docs.len(), 1);
    began.elapsed()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

async fn run(docs: usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(directory.path()).expect("the store opens");
    let db = store.create(&DbName::parse("tasks").expect("a name")).await.expect("it is made");
    let began = Instant::now();
    fill(&db, docs).await;
    println!("{docs} documents written in {:.1} s", began.elapsed().as_secs_f64());

    let middle = docs / 2;
    let range = json!({"n": {"$gte": middle, "$lt": middle + 100}});
    let queries = [
        ("equality", query(&json!({"owner": "user-0500"}), &[], 1_000)),
        ("range", query(&range, &[], 1_000)),
        ("two fields", query(&json!({"owner": "user-0500", "n": {"$gt": middle}}), &[], 1_000)),
    ];
    let mut without = Vec::new();
    for (_, request) in &queries {
        without.push(timed(&db, request, ROUNDS_WITHOUT).await.0);
    }
    for fields in [&["owner"][..], &["n"], &["owner", "n"]] {
        let time = build(&db, fields).await.as_secs_f64();
        println!("index on {}: built in {time:.1} s", fields.join(", "));
    }
    println!("\n| | found | looked at | ms without index | ms with | ratio |");
    println!("|---|---|---|---|---|---|");
    for ((name, request), without) in queries.iter().zip(without) {
        let (with, found, examined) = timed(&db, request, ROUNDS).await;
        let (without, with) = (milliseconds(without), milliseconds(with));
        let ratio = without / with;
        println!("| {name} | {found} | {examined} | {without:.1} | {with:.2} | {ratio:.0} |");
    }
    let sorted = query(&json!({}), &["n"], 25);
    let (time, found, examined) = timed(&db, &sorted, ROUNDS).await;
    println!("| sort, 25 | {found} | {examined} | | {:.2} | |", milliseconds(time));

    let changed = (docs..docs + CHANGED).map(document).collect();
    db.bulk_docs(changed, EditMode::Edit).await.expect("documents are written");
    let began = Instant::now();
    db.find(sorted).await.expect("it is found");
    println!("\none index after {CHANGED} new documents: {:.0} ms", milliseconds(began.elapsed()));
    store.close().await.expect("the store closes");
}

fn main() {
    let argument = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let docs = argument.unwrap_or(100_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run(docs));
}
