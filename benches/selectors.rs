//! What one judgement of a selector costs, on documents of 250 bytes.
//!
//! `cargo bench --bench selectors` prints judgements per second for several selectors, and how each
//! compares with only parsing the document's body into a tree of values.

#[path = "support/allocator.rs"]
mod allocator;

use std::hint::black_box;
use std::time::Instant;

use settee::{Document, Limits, Selector};

const DOCS: usize = 1_000;
const ROUNDS: usize = 50;

const SELECTORS: [(&str, &str); 9] = [
    ("everything", "{}"),
    ("by id", r#"{"_id":{"$gte":"task-000500"}}"#),
    ("one field", r#"{"owner":"anna"}"#),
    ("the last field", r#"{"updated":{"$gt":"2026-01-15"}}"#),
    ("a number", r#"{"n":{"$gte":100,"$lt":500}}"#),
    ("four fields", r#"{"type":"task","owner":"anna","done":false,"n":{"$gt":10}}"#),
    ("a sub-field and an element", r#"{"place.city":"Oslo","tags":{"$elemMatch":{"$eq":"home"}}}"#),
    ("one of many", r#"{"owner":{"$in":["anna","bob","carl","dora","emil","finn","greta"]}}"#),
    ("a pattern", r#"{"text":{"$regex":"(buy|sell) +[a-z]+"}}"#),
];

fn document(n: usize) -> Document {
    let owner = ["anna", "bob", "carl"][n % 3];
    let text = format!(
        r#"{{"type":"task","owner":"{owner}","n":{n},"done":{},"text":"remember to buy milk and bread for breakfast","tags":["home","urgent"],"place":{{"city":"Oslo","street":"Karl Johans gate {n}"}},"created":"2026-01-01T08:00:00Z","updated":"2026-01-{:02}T08:00:00Z"}}"#,
        n.is_multiple_of(2),
        1 + n % 28,
    );
    let body = settee::doc::Body::parse(&text, &Limits::default()).expect("an object");
    let id = settee::DocId::parse(&format!("task-{n:06}"), 100).expect("an id");
    Document::with_body(id, body)
}

fn nanoseconds(docs: &[Document], mut judge: impl FnMut(&Document)) -> f64 {
    docs.iter().for_each(&mut judge);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        docs.iter().for_each(&mut judge);
    }
    start.elapsed().as_secs_f64() * 1e9 / (ROUNDS * docs.len()) as f64
}

fn main() {
    let docs: Vec<Document> = (0..DOCS).map(document).collect();
    let bytes: usize = docs.iter().map(|doc| doc.body.as_str().len()).sum();
    println!("{} bytes in a document", bytes / DOCS);
    let parsed = nanoseconds(&docs, |doc| {
        drop(black_box(doc.to::<serde_json::Value>()));
    });
    println!("{:<28} {:>12.0} a second", "parse into values", 1e9 / parsed);
    for (name, text) in SELECTORS {
        let selector = Selector::parse(text, &Limits::default()).expect(text);
        let judged = nanoseconds(&docs, |doc| {
            black_box(selector.matches(black_box(doc)));
        });
        let matching = docs.iter().filter(|doc| selector.matches(doc)).count();
        println!(
            "{name:<28} {:>12.0} a second, {:.2} of parsing; {matching} of {DOCS} match",
            1e9 / judged,
            judged / parsed,
        );
    }
}
