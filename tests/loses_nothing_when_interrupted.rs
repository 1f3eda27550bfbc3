//! Futures dropped half-way and calls interleaved half-way lose nothing.

mod support;

use std::collections::BTreeSet;

use futures::FutureExt as _;
use settee::store::{ChangeDocs, ChangesOptions, DbUpdateKind, GetOptions, Order};
use settee::{Database, Document, Rev, StoreError};
use support::documents::{database, id};
use support::yielding::yielding_store;

async fn put(db: &Database, name: &str, rev: Option<Rev>) -> Rev {
    let document = Document::new(name, &serde_json::json!({})).unwrap();
    db.put(Document { rev, ..document }).await.unwrap().rev
}

/// Polls a future a number of times, then drops it.
async fn give_up<T>(turns: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    for _ in 0..turns {
        if let Some(done) = future.as_mut().now_or_never() {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// A page that was read while its rest was counted was lost when its reader gave up then, since the
/// feed had moved on already. The feed moves when all is read.
#[tokio::test]
async fn a_page_whose_reader_gave_up_comes_again() {
    let orders = [Order::Ascending, Order::Descending];
    for (order, docs) in orders.into_iter().zip([ChangeDocs::Leaves, ChangeDocs::None]) {
        for turns in 0..40 {
            let db = database(&yielding_store()).await;
            let options = ChangesOptions { order, docs, ..ChangesOptions::default() };
            // What is written after the feed was opened is counted when its pages are read.
            let mut feed = db.feed(options).await.unwrap();
            for n in 0..7 {
                put(&db, &format!("d{n}"), None).await;
            }
            let mut seen = Vec::new();
            for attempt in 0.. {
                let turns = if attempt % 2 == 0 { turns } else { usize::MAX };
                let Some(page) = give_up(turns, feed.next_page(3, usize::MAX)).await else {
                    continue;
                };
                let page = page.unwrap();
                seen.extend(page.rows.iter().map(|row| row.seq.number));
                if page.pending == 0 {
                    break;
                }
            }
            seen.sort_unstable();
            assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7], "{order:?}, {turns} turns");
        }
    }
}

/// A feed of named documents read one before its change and the next one after a later change, and
/// went on after the later one. What is newer than the look began is left for the next look.
#[tokio::test]
async fn a_feed_of_named_documents_passes_over_no_change() {
    for turns in 0..20 {
        let db = database(&yielding_store()).await;
        let doc_ids = Some(["d0", "d1", "d2"].map(id).to_vec());
        let mut feed = db.feed(ChangesOptions { doc_ids, ..Default::default() }).await.unwrap();
        put(&db, "d1", None).await;
        let mut seen = BTreeSet::new();
        {
            let mut page = std::pin::pin!(feed.next_page(10, usize::MAX));
            let early = give_up(turns, page.as_mut()).await;
            put(&db, "d0", None).await;
            put(&db, "d2", None).await;
            let page = match early {
                Some(page) => page,
                None => page.await,
            };
            seen.extend(page.unwrap().rows.into_iter().map(|row| row.id));
        }
        while let Some(page) = give_up(100, feed.next_page(10, usize::MAX)).await {
            seen.extend(page.unwrap().rows.into_iter().map(|row| row.id));
        }
        assert_eq!(seen, BTreeSet::from(["d0", "d1", "d2"].map(id)), "{turns} turns");
    }
}

#[tokio::test]
async fn a_write_whose_caller_gave_up_is_whole_or_not_there() {
    for turns in 0..12 {
        let db = database(&yielding_store()).await;
        let documents: Vec<Document> = (0..5)
            .map(|n| Document::new(&format!("d{n}"), &serde_json::json!({})).unwrap())
            .collect();
        give_up(turns, db.bulk_docs(documents, Default::default())).await;
        let info = db.info().await.unwrap();
        assert!([0, 5].contains(&info.doc_count), "{info:?}");
        support::documents::assert_sound(&db).await;
    }
}

/// Handles lived on, reading nothing, when the caller gave up waiting for a destruction that
/// happened nevertheless; and what was asked for was left to chance.
#[tokio::test]
async fn a_destruction_whose_caller_gave_up_goes_on_to_its_end() {
    for turns in 1..6 {
        let store = yielding_store();
        let db = database(&store).await;
        put(&db, "a", None).await;
        let mut updates = store.updates();
        give_up(turns, store.destroy(db.name())).await;
        db.destroyed().await;
        let read = db.get(&id("a"), &GetOptions::default()).await.unwrap_err();
        assert!(matches!(read, StoreError::DatabaseDestroyed { .. }), "{turns} turns: {read}");
        let gone = store.database(db.name()).await.unwrap_err();
        assert!(matches!(gone, StoreError::DatabaseMissing { .. }), "{turns} turns: {gone}");
        let told = updates.next().await.expect("the store is there");
        assert_eq!(told.unwrap().kind, DbUpdateKind::Deleted, "{turns} turns");
    }
}
