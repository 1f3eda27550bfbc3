//! The changes feed: each document once, at its last change; live feeds miss nothing.

mod support;

use std::collections::BTreeMap;

use futures::StreamExt as _;
use settee::store::{ChangeDocs, Changes, ChangesOptions, Feed, Order, Since, Style};
use settee::{Database, DbName, Document, Rev, StoreError};
use support::documents::{assert_sound, database, id, replicate, replicated, update_seq};
use support::stores::stores;

async fn put(db: &Database, name: &str, rev: Option<Rev>) -> Rev {
    let body = serde_json::json!({ "after": rev.as_ref().map(ToString::to_string) });
    let document = Document { rev, ..Document::new(name, &body).unwrap() };
    db.put(document).await.unwrap().rev
}

async fn fill(db: &Database, count: usize) {
    let doc = |n| Document::new(&format!("d{n:05}"), &serde_json::json!({ "n": n })).unwrap();
    db.bulk_docs((0..count).map(doc).collect(), Default::default()).await.unwrap();
}

fn seqs(changes: &Changes) -> Vec<u64> {
    changes.rows.iter().map(|row| row.seq.number).collect()
}

#[tokio::test]
async fn each_document_stands_once_at_its_last_change() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let a = put(&db, "a", None).await;
        put(&db, "b", None).await;
        let a = put(&db, "a", Some(a)).await;
        let changes = db.changes(&ChangesOptions::default()).await.unwrap();
        let ids: Vec<&str> = changes.rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!((ids, seqs(&changes)), (vec!["b", "a"], vec![2, 3]));
        assert_eq!(changes.rows[1].leaves, [(a.clone(), false)]);
        assert_eq!((changes.last_seq.number, changes.pending), (3, 0));
        db.delete(&id("a"), a).await.unwrap();
        let since = Since::After(changes.last_seq);
        let changes = db.changes(&ChangesOptions { since, ..Default::default() }).await.unwrap();
        assert_eq!((seqs(&changes), changes.rows[0].deleted()), (vec![4], true));
    }
}

#[tokio::test]
async fn limits_tell_where_to_go_on_and_what_is_pending() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        fill(&db, 2_500).await;
        let read = async |since, limit, order| {
            let options = ChangesOptions { since, limit, order, ..Default::default() };
            db.changes(&options).await.unwrap()
        };
        let all = read(Since::Start, None, Order::Ascending).await;
        assert_eq!(seqs(&all), (1..=2_500).collect::<Vec<u64>>());
        for (limit, last, pending) in [
            (0, 0, 2_500),
            (1, 1, 2_499),
            (1_700, 1_700, 800),
            (2_500, 2_500, 0),
            (3_000, 2_500, 0),
        ] {
            let part = read(Since::Start, Some(limit), Order::Ascending).await;
            assert_eq!(part.rows.len() as u64, last, "limit {limit}");
            assert_eq!((part.last_seq.number, part.pending), (last, pending), "limit {limit}");
        }
        for (since, rows) in [(2_400, 100), (2_500, 0), (9_999, 0)] {
            let part = read(Since::Number(since), None, Order::Ascending).await;
            assert_eq!((part.rows.len(), part.last_seq.number), (rows, 2_500), "since {since}");
        }
        assert_eq!(read(Since::Now, None, Order::Ascending).await.rows, []);
        for limit in [None, Some(1_500), Some(7), Some(0)] {
            let down = read(Since::Number(100), limit, Order::Descending).await;
            let wanted = (101..=2_500).rev().take(limit.unwrap_or(usize::MAX));
            assert_eq!(seqs(&down), wanted.collect::<Vec<u64>>(), "limit {limit:?}");
        }
    }
}

#[tokio::test]
async fn rows_name_the_leaves_and_carry_the_documents_asked_for() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let paths: [&[&str]; 2] = [&["2-b", "1-a"], &["2-c", "1-a"]];
        replicate(&db, paths.iter().map(|path| replicated("doc", path, false)).collect()).await;
        let read = async |style, docs| {
            let options = ChangesOptions { style, docs, ..Default::default() };
            db.changes(&options).await.unwrap().rows.remove(0)
        };
        let shown =
            |docs: &[Document]| -> Vec<String> { docs.iter().map(Document::to_json).collect() };
        let row = read(Style::MainOnly, ChangeDocs::Winner).await;
        assert_eq!(row.leaves.len(), 1);
        assert_eq!(shown(&row.docs), [r#"{"_id":"doc","_rev":"2-c","is":"2-c"}"#]);
        let row = read(Style::AllDocs, ChangeDocs::None).await;
        assert_eq!((row.leaves.len(), row.docs), (2, vec![]));
        for style in [Style::MainOnly, Style::AllDocs] {
            let row = read(style, ChangeDocs::Leaves).await;
            assert_eq!(
                shown(&row.docs),
                [
                    r#"{"_id":"doc","_rev":"2-c","_revisions":{"start":2,"ids":["c","a"]},"is":"2-c"}"#,
                    r#"{"_id":"doc","_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]},"is":"2-b"}"#,
                ]
            );
        }
    }
}

#[tokio::test]
async fn a_reader_without_tombstones_is_told_of_those_made_while_it_reads() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        replicate(&db, vec![replicated("old", &["1-x"], true)]).await;
        replicate(&db, vec![replicated("new", &["1-x"], false)]).await;
        let open = ChangesOptions { skip_tombstones: true, ..Default::default() };
        let mut feed = db.feed(open).await.unwrap();
        let first = feed.next_page(10, usize::MAX).await.unwrap();
        assert_eq!(first.rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["new"]);
        replicate(&db, vec![replicated("new", &["2-y", "1-x"], true)]).await;
        let next = feed.next_page(10, usize::MAX).await.unwrap();
        assert_eq!((next.rows[0].id.as_str(), next.rows[0].deleted()), ("new", true));
    }
}

#[tokio::test]
async fn filters_let_pass_what_they_name() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        fill(&db, 1_200).await;
        let deleted = |n: usize| replicated(&format!("d{n:05}"), &["9-x"], true);
        replicate(&db, (0..1_100).map(deleted).collect()).await;
        let read = async |options| db.changes(&options).await.unwrap();

        let open = ChangesOptions { skip_tombstones: true, ..Default::default() };
        assert_eq!(read(open.clone()).await.rows.len(), 1_200, "a conflict outlives a tombstone");
        replicate(&db, (0..10).map(|n| replicated(&format!("x{n}"), &["1-x"], true)).collect())
            .await;
        let found = read(open.clone()).await;
        assert_eq!((found.rows.len(), found.last_seq.number), (1_200, 2_310));
        let found = read(ChangesOptions { limit: Some(1_150), ..open }).await;
        assert_eq!(found.rows.len(), 1_150);
        assert_eq!(found.pending, 2_310 - found.last_seq.number);

        let ids = ["x3", "d01199", "unknown", "d00000", "d01199"].map(id).to_vec();
        let named = ChangesOptions { doc_ids: Some(ids), ..Default::default() };
        let found = read(named.clone()).await;
        assert_eq!(seqs(&found), [1_200, 1_201, 2_304]);
        assert_eq!((found.last_seq.number, found.pending), (2_310, 0));
        let found = read(ChangesOptions { limit: Some(2), ..named.clone() }).await;
        assert_eq!((seqs(&found), found.last_seq.number), (vec![1_200, 1_201], 1_201));
        let down = ChangesOptions { order: Order::Descending, ..named.clone() };
        assert_eq!(seqs(&read(down).await), [2_304, 1_201, 1_200]);

        let mut feed = db.feed(named).await.unwrap();
        let page = feed.next_page(0, usize::MAX).await.unwrap();
        assert_eq!((page.rows.len(), page.last_seq.number), (0, 0), "nothing is passed over");
        assert!(page.pending > 0);
    }
}

/// Symptom: a client that began with an empty database kept documents that were deleted while it
/// was connected. Cause: its feed left out every tombstone, not only those of documents it never
/// had. Repair: tombstones newer than the feed are told.
#[tokio::test]
async fn a_feed_without_tombstones_tells_later_deletions() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        replicate(&db, vec![replicated("gone", &["1-a"], true)]).await;
        fill(&db, 3).await;
        let open = ChangesOptions { skip_tombstones: true, ..Default::default() };
        let mut feed = db.feed(open).await.unwrap();
        let first = feed.next_page(1, usize::MAX).await.unwrap();
        let read = first.rows[0].id.clone();
        let winner = db.get(&read, &Default::default()).await.unwrap();
        db.delete(&read, winner.rev.unwrap()).await.unwrap();
        let mut told = Vec::new();
        loop {
            let page = feed.next_page(10, usize::MAX).await.unwrap();
            told.extend(page.rows.into_iter().map(|row| (row.id.to_string(), row.deleted())));
            if page.pending == 0 {
                break;
            }
        }
        assert_eq!(told.len(), 3);
        assert_eq!(told.last(), Some(&(read.to_string(), true)));
        assert!(!told.iter().any(|(id, _)| id == "gone"));
    }
}

async fn read_to_end(feed: &mut Feed, rows_max: usize, bytes_max: usize) -> Vec<Vec<u64>> {
    let mut pages = Vec::new();
    loop {
        let page = feed.next_page(rows_max, bytes_max).await.unwrap();
        pages.push(page.rows.iter().map(|row| row.seq.number).collect());
        if page.pending == 0 {
            return pages;
        }
    }
}

#[tokio::test]
async fn a_page_holds_its_budget_or_one_row() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        for (n, size) in [10, 10, 5_000, 10, 400, 400, 400, 10].into_iter().enumerate() {
            let body = serde_json::json!({ "pad": "x".repeat(size) });
            db.put(Document::new(&format!("d{n}"), &body).unwrap()).await.unwrap();
        }
        for order in [Order::Ascending, Order::Descending] {
            let options = ChangesOptions { docs: ChangeDocs::Leaves, order, ..Default::default() };
            let mut feed = db.feed(options).await.unwrap();
            let pages = read_to_end(&mut feed, 100, 1_000).await;
            let mut wanted: Vec<u64> = (1..=8).collect();
            if order == Order::Descending {
                wanted.reverse();
            }
            assert_eq!(pages.concat(), wanted);
            assert!(pages.contains(&vec![3]), "the large row is alone: {pages:?}");
            let of_400 = |page: &&Vec<u64>| page.iter().filter(|s| (5..=7).contains(*s)).count();
            assert_eq!(pages.iter().map(|page| of_400(&page)).max(), Some(2), "{pages:?}");
        }
        let mut feed = db.feed(ChangesOptions::default()).await.unwrap();
        let pages = read_to_end(&mut feed, 3, 0).await;
        assert_eq!(pages, [vec![1, 2, 3], vec![4, 5, 6], vec![7, 8]]);
    }
}

#[tokio::test]
async fn a_live_feed_waits_and_wakes() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let mut feed = db.feed(ChangesOptions::default()).await.unwrap();
        let page = feed.next_page(10, usize::MAX).await.unwrap();
        assert_eq!((page.rows.len(), page.pending), (0, 0), "the end is told once");
        let mut waiting = Box::pin(feed.next_page(10, usize::MAX));
        assert!(futures::poll!(&mut waiting).is_pending());
        put(&db, "a", None).await;
        assert_eq!(waiting.await.unwrap().rows[0].id, id("a"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_live_feed_sees_the_last_change_of_every_document() {
    const WRITERS: usize = 8;
    const EDITS: usize = 60;
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        for doc_ids in [None, Some((0..WRITERS).map(|w| id(&format!("w{w}"))).collect())] {
            let since = Since::Now;
            let feed = db.feed(ChangesOptions { since, doc_ids, ..Default::default() }).await;
            let mut rows = Box::pin(feed.unwrap().into_stream());
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let db = db.clone();
                    tokio::spawn(async move {
                        let name = format!("w{writer}");
                        let there = db.get(&id(&name), &Default::default()).await;
                        let mut rev = there.ok().and_then(|doc| doc.rev);
                        for _ in 0..EDITS {
                            rev = Some(put(&db, &name, rev).await);
                        }
                        (id(&name), rev.unwrap())
                    })
                })
                .collect();
            let mut wanted = BTreeMap::new();
            let mut written = futures::stream::iter(writers).buffer_unordered(WRITERS);
            let mut seen = BTreeMap::new();
            let mut last = 0;
            loop {
                tokio::select! {
                    Some(done) = written.next() => wanted.extend([done.unwrap()]),
                    Some(row) = rows.next() => {
                        let row = row.unwrap();
                        assert!(row.seq.number > last, "{} after {last}", row.seq.number);
                        last = row.seq.number;
                        seen.insert(row.id, row.leaves[0].0.clone());
                    }
                }
                if wanted.len() == WRITERS && seen == wanted {
                    break;
                }
            }
        }
        assert_eq!(update_seq(&db).await, (2 * WRITERS * EDITS) as u64);
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn a_feed_ends_when_its_database_is_destroyed() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        put(&db, "a", None).await;
        let mut rows = Box::pin(db.feed(ChangesOptions::default()).await.unwrap().into_stream());
        assert!(rows.next().await.unwrap().is_ok());
        let waiting = rows.next();
        let (ended, destroyed) = tokio::join!(waiting, store.destroy(db.name()));
        destroyed.unwrap();
        let error = ended.expect("the error is told").unwrap_err();
        assert!(matches!(error, StoreError::DatabaseDestroyed { .. }), "{error}");
        assert!(rows.next().await.is_none());
        let read = db.changes(&ChangesOptions::default()).await.unwrap_err();
        assert!(matches!(read, StoreError::DatabaseDestroyed { .. }), "{read}");
    }
}

#[tokio::test]
async fn a_place_of_another_incarnation_counts_as_the_start() {
    for (_, store, _dir) in stores() {
        let name = DbName::parse("again").unwrap();
        let old = store.create(&name).await.unwrap();
        put(&old, "a", None).await;
        let told = old.info().await.unwrap().update_seq.to_string();
        store.destroy(&name).await.unwrap();
        let new = store.create(&name).await.unwrap();
        put(&new, "b", None).await;
        for (since, rows) in [(told, 1), (new.info().await.unwrap().update_seq.to_string(), 0)] {
            let since = Since::parse(&since).unwrap();
            let options = ChangesOptions { since, ..Default::default() };
            assert_eq!(new.changes(&options).await.unwrap().rows.len(), rows);
        }
    }
}
