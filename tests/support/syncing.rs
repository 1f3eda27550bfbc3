//! What the tests of syncs share: a gateway, clients, a network to disturb, and syncs whose every
//! event is checked.
#![allow(dead_code, unused_imports, reason = "each test file uses some of these")]

pub mod gateway;
pub mod grammar;
pub mod network;

pub use gateway::{TestGateway, live, one_shot, token_gateway};
pub use grammar::{Ended, Watched};
pub use network::Network;

use bytes::Bytes;
use serde_json::json;
use settee::doc::Attachment;
use settee::store::{ChangeDocs, ChangesOptions, GetOptions};
use settee::{Database, DbName, DocId, Document, Rev, Store, SyncState};

pub fn id(text: &str) -> DocId {
    DocId::parse(text, 1024).expect("a document id")
}

pub fn name(text: &str) -> DbName {
    DbName::parse(text).expect("a database's name")
}

/// A client's own database, empty.
pub async fn local() -> Database {
    Store::memory().create(&name("todos")).await.expect("it is made")
}

/// A database of a gateway.
pub async fn remote(gateway: &TestGateway, database: &str) -> Database {
    gateway.gateway.store().open_or_create(&name(database)).await.expect("it opens")
}

/// Makes documents `PREFIX0`, `PREFIX1` and so on.
pub async fn fill(db: &Database, prefix: &str, count: usize) {
    let numbers: Vec<usize> = (0..count).collect();
    for numbers in numbers.chunks(1_000) {
        let docs = numbers
            .iter()
            .map(|n| Document::new(&format!("{prefix}{n}"), &json!({ "n": n })).expect("it parses"))
            .collect();
        let outcomes = db.bulk_docs(docs, Default::default()).await.expect("it is written");
        assert!(outcomes.iter().all(Result::is_ok));
    }
}

/// Makes or edits one document.
pub async fn put(db: &Database, id_text: &str, text: &str) -> Rev {
    let rev = db.get(&id(id_text), &GetOptions::default()).await.ok().and_then(|doc| doc.rev);
    let document = Document::new(id_text, &json!({ "text": text })).expect("it parses");
    db.put(Document { rev, ..document }).await.expect("it is written").rev
}

pub async fn delete(db: &Database, id_text: &str) {
    let rev = db.get(&id(id_text), &GetOptions::default()).await.expect("it is there").rev;
    db.delete(&id(id_text), rev.expect("a read has its revision")).await.expect("it is deleted");
}

/// The member `text` of a document's winning revision; `None` if there is none.
pub async fn text(db: &Database, id_text: &str) -> Option<String> {
    let found = db.get(&id(id_text), &GetOptions::default()).await.ok()?;
    let body: serde_json::Value = found.to().expect("a body is JSON");
    Some(body["text"].as_str().unwrap_or_default().to_owned())
}

/// Makes or edits a document with one more attachment.
pub async fn attach(db: &Database, id_text: &str, attachment: &str, bytes: impl Into<Bytes>) {
    let found = db.get(&id(id_text), &GetOptions::default()).await;
    let document = found.unwrap_or_else(|_| Document::new(id_text, &json!({})).expect("it parses"));
    let attached = Attachment::inline("application/octet-stream", bytes);
    db.put(document.with_attachment(attachment, attached)).await.expect("it is written");
}

pub async fn attached(db: &Database, id_text: &str, attachment: &str) -> Bytes {
    let reader = db.attachment(&id(id_text), attachment, None).await.expect("it is there");
    reader.bytes().await.expect("it can be read")
}

/// Waits until a document's `text` is this.
pub async fn until_text(db: &Database, id_text: &str, wanted: &str) {
    let mut feed = db.feed(ChangesOptions::default()).await.expect("a feed opens");
    while text(db, id_text).await.as_deref() != Some(wanted) {
        feed.next_page(1_000, usize::MAX).await.expect("the feed goes on");
    }
}

/// Waits until a database has so many documents.
pub async fn until_count(db: &Database, count: u64) {
    let mut feed = db.feed(ChangesOptions::default()).await.expect("a feed opens");
    while count_of(db).await < count {
        feed.next_page(1_000, usize::MAX).await.expect("the feed goes on");
    }
}

pub async fn count_of(db: &Database) -> u64 {
    db.info().await.expect("a database tells of itself").doc_count
}

/// Waits until a sync's state is this.
pub async fn until_state(sync: &settee::Sync, state: SyncState) {
    let mut status = sync.watch_status();
    status.wait_for(|status| status.state == state).await.expect("the sync lives");
}

/// Every leaf of every document with its body and its attachments' bytes. Documents that are
/// deleted are left out, since a replica that begins with nothing does not get their tombstones.
pub async fn contents(db: &Database) -> Vec<String> {
    let options = ChangesOptions { docs: ChangeDocs::Leaves, ..Default::default() };
    let changes = db.changes(&options).await.expect("the feed can be read");
    let mut shown = Vec::new();
    for row in changes.rows.into_iter().filter(|row| !row.deleted()) {
        for mut document in row.docs {
            db.load_attachments(&mut document).await.expect("attachments can be read");
            shown.push(Document { revisions: None, ..document }.to_json());
        }
    }
    shown.sort();
    shown
}

pub async fn assert_equal(a: &Database, b: &Database) {
    let (in_a, in_b) = (contents(a).await, contents(b).await);
    assert!(in_a == in_b, "{a:?} has {in_a:#?}\n{b:?} has {in_b:#?}");
}
