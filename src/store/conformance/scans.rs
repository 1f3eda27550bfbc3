use std::collections::BTreeMap;
use std::sync::Arc;

use super::make::{Editor, body, changes, create, rev};
use crate::store::backend::{Backend, ChangesPage, DocsRange, Order, ReadBody};

super::conformance!(
    changes_come_once_at_their_last_seq,
    document_ranges_keep_every_bound,
    a_feed_beside_writers_misses_nothing,
);

fn seqs(page: &ChangesPage) -> Vec<u64> {
    page.rows.iter().map(|row| row.seq).collect()
}

async fn changes_come_once_at_their_last_seq(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    for doc in ["a", "b", "c", "d"] {
        editor.commit(&*store, db, vec![editor.put(doc, &["1-a"])]).await;
    }
    let deleted = editor.edit("b", &["2-b", "1-a"], true, body("2-b", 10));
    editor.commit(&*store, db, vec![deleted]).await;
    editor.commit(&*store, db, vec![editor.put("c", &["1-z"])]).await;
    let page = async |since, limit, order| {
        let page = changes(&*store, db, since, limit, order).await;
        (seqs(&page), page.last_seq, page.more)
    };
    use Order::{Ascending, Descending};
    assert_eq!(page(0, 99, Ascending).await, (vec![1, 4, 5, 6], 6, false));
    assert_eq!(page(0, 4, Ascending).await, (vec![1, 4, 5, 6], 6, false));
    assert_eq!(page(0, 2, Ascending).await, (vec![1, 4], 4, true));
    assert_eq!(page(4, 1, Ascending).await, (vec![5], 5, true));
    assert_eq!(page(6, 9, Ascending).await, (vec![], 6, false));
    assert_eq!(page(60, 9, Ascending).await, (vec![], 6, false));
    assert_eq!(page(2, 0, Ascending).await, (vec![], 2, true));
    assert_eq!(page(0, 99, Descending).await, (vec![6, 5, 4, 1], 6, false));
    assert_eq!(page(4, 99, Descending).await, (vec![6, 5], 6, false));
    assert_eq!(page(0, 3, Descending).await, (vec![6, 5, 4], 4, true));
    let rows = changes(&*store, db, 4, 9, Ascending).await.rows;
    assert_eq!((rows[0].id.as_str(), &rows[0].leaves), ("b", &vec![(rev("2-b"), true)]));
    let leaves = vec![(rev("1-z"), false), (rev("1-a"), false)];
    assert_eq!((rows[1].id.as_str(), &rows[1].leaves), ("c", &leaves));
    for (since, count) in [(0, 4), (1, 3), (3, 3), (5, 1), (6, 0), (99, 0)] {
        assert_eq!(
            store.count_changes(db, since).await.expect("they are counted"),
            count,
            "{since}"
        );
    }
}

async fn document_ranges_keep_every_bound(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let other = create(&*store, "todos2").await;
    let ids = ["a", "a\0", "b", "ba", "c\u{10ffff}", "d"];
    let mut editor = Editor::default();
    let batch = ids.iter().map(|id| editor.put(id, &["1-a"])).collect();
    editor.commit(&*store, db, batch).await;
    Editor::default().commit(&*store, other, vec![Editor::default().put("b", &["1-a"])]).await;
    let bounds =
        [None, Some(""), Some("a"), Some("a\0"), Some("b"), Some("bb"), Some("d"), Some("z")];
    for from in bounds {
        for to in bounds {
            for flags in 0..8 {
                let (after_from, to_inclusive) = (flags & 1 != 0, flags & 2 != 0);
                let order = if flags & 4 != 0 { Order::Descending } else { Order::Ascending };
                let mut expected: Vec<&str> = ids
                    .into_iter()
                    .filter(|id| {
                        let order_of = |bound: &str| match order {
                            Order::Ascending => (*id).cmp(bound),
                            Order::Descending => bound.cmp(id),
                        };
                        from.is_none_or(|from| order_of(from).is_gt() || !after_from && from == *id)
                            && to.is_none_or(|to| order_of(to).is_lt() || to_inclusive && to == *id)
                    })
                    .collect();
                if order == Order::Descending {
                    expected.reverse();
                }
                for limit in [0, 2, usize::MAX] {
                    let range = DocsRange {
                        from: from.map(str::to_owned),
                        after_from,
                        to: to.map(str::to_owned),
                        to_inclusive,
                        limit,
                        order,
                        body: ReadBody::Winner,
                    };
                    let found = store.docs(db, range.clone()).await.expect("they are listed");
                    let names: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
                    assert_eq!(names, expected[..expected.len().min(limit)], "{range:?}");
                    assert!(found.iter().all(|(_, doc)| doc.winner_body == Some(body("1-a", 10))));
                }
            }
        }
    }
}

async fn a_feed_beside_writers_misses_nothing(store: Arc<dyn Backend>) {
    const WRITERS: u64 = 4;
    const TURNS: u64 = 60;
    let db = create(&*store, "todos").await;
    let mut watch = store.watch(db);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut editor = Editor::default();
                for turn in 1..=TURNS {
                    let (new, old) = (format!("{turn}-a"), format!("{}-a", turn - 1));
                    let path: &[&str] = if turn == 1 { &[&new] } else { &[&new, &old] };
                    let batch = ["x", "y"].map(|doc| editor.put(&format!("{doc}{writer}"), path));
                    editor.commit(&*store, db, batch.into()).await;
                    tokio::task::yield_now().await;
                }
                editor.known
            })
        })
        .collect();
    let mut seen = BTreeMap::new();
    let mut since = 0;
    while since < WRITERS * TURNS * 2 {
        let page = changes(&*store, db, since, 3, Order::Ascending).await;
        let found = seqs(&page);
        assert!(found.iter().all(|seq| (since + 1..=page.last_seq).contains(seq)), "{page:?}");
        assert!(found.is_sorted_by(|a, b| a < b), "{page:?}");
        seen.extend(page.rows.into_iter().map(|row| (row.id, (row.seq, row.leaves))));
        if page.last_seq == since {
            watch.changed().await.expect("the database is there");
        }
        since = page.last_seq;
    }
    for writer in writers {
        for (doc, (version, tree)) in writer.await.expect("the writer ends") {
            let leaves = tree.leaves().into_iter().map(|leaf| (leaf.rev, leaf.state.deleted));
            assert_eq!(seen[&doc], (version.seq, leaves.collect()), "{doc}");
        }
    }
}
