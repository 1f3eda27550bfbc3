//! Reads of one document, of branches, of many by key and by range.

mod support;

use settee::store::{
    AllDocsOptions, AllDocsRow, BulkGetItem, BulkGetOptions, BulkGetResult, GetOptions, KeyRange,
    OpenRev, OpenRevs, Order,
};
use settee::{Database, DocId, Document, Limits, StoreError};
use support::documents::{assert_sound, database, id, parse, replicate, replicated, rev, revs};
use support::stores::{stores, stores_with};

/// `1-a` has the leaves `3-c` (wins), `2-b` and the tombstone `2-x`.
async fn branched(db: &Database) {
    let mut documents: Vec<Document> =
        [&["1-a"][..], &["2-c", "1-a"], &["3-c", "2-c", "1-a"], &["2-b", "1-a"]]
            .iter()
            .map(|path| replicated("doc", path, false))
            .collect();
    documents.push(replicated("doc", &["2-x", "1-a"], true));
    documents.push(replicated("gone", &["4-x", "3-x"], true));
    replicate(db, documents).await;
}

#[tokio::test]
async fn a_read_brings_what_its_options_ask_for() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        branched(&db).await;
        let none = GetOptions::default;
        let at = |text: &str| GetOptions { rev: Some(rev(text)), ..none() };
        for (options, wanted) in [
            (none(), r#"{"_id":"doc","_rev":"3-c","is":"3-c"}"#),
            (at("2-c"), r#"{"_id":"doc","_rev":"2-c","is":"2-c"}"#),
            (at("2-x"), r#"{"_id":"doc","_rev":"2-x","_deleted":true,"is":"2-x"}"#),
            (GetOptions { latest: true, ..at("2-c") }, r#"{"_id":"doc","_rev":"3-c","is":"3-c"}"#),
            (GetOptions { latest: true, ..at("2-b") }, r#"{"_id":"doc","_rev":"2-b","is":"2-b"}"#),
            (
                GetOptions { revs: true, ..at("2-b") },
                r#"{"_id":"doc","_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]},"is":"2-b"}"#,
            ),
            (
                GetOptions { revs_info: true, ..none() },
                r#"{"_id":"doc","_rev":"3-c","_revs_info":[{"rev":"3-c","status":"available"},{"rev":"2-c","status":"available"},{"rev":"1-a","status":"available"}],"is":"3-c"}"#,
            ),
            (
                GetOptions { conflicts: true, deleted_conflicts: true, ..none() },
                r#"{"_id":"doc","_rev":"3-c","_conflicts":["2-b"],"_deleted_conflicts":["2-x"],"is":"3-c"}"#,
            ),
            (
                GetOptions { local_seq: true, ..none() },
                r#"{"_id":"doc","_rev":"3-c","_local_seq":1,"is":"3-c"}"#,
            ),
        ] {
            assert_eq!(db.get(&id("doc"), &options).await.unwrap().to_json(), wanted);
        }
        let info = GetOptions { revs_info: true, ..at("4-x") };
        assert_eq!(
            db.get(&id("gone"), &info).await.unwrap().to_json(),
            r#"{"_id":"gone","_rev":"4-x","_deleted":true,"_revs_info":[{"rev":"4-x","status":"deleted"},{"rev":"3-x","status":"missing"}],"is":"4-x"}"#
        );
    }
}

#[tokio::test]
async fn what_is_not_there_is_missing_or_deleted() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        branched(&db).await;
        let at = |text: &str| GetOptions { rev: Some(rev(text)), ..GetOptions::default() };
        let deleted = db.get(&id("gone"), &GetOptions::default()).await.unwrap_err();
        assert!(matches!(deleted, StoreError::DocDeleted { .. }), "{deleted}");
        for (name, options) in [
            ("unknown", GetOptions::default()),
            ("unknown", at("1-a")),
            ("doc", at("9-z")),
            ("doc", GetOptions { latest: true, ..at("9-z") }),
            ("gone", at("3-x")),
        ] {
            let missing = db.get(&id(name), &options).await.unwrap_err();
            assert!(matches!(missing, StoreError::DocMissing { .. }), "{name} {options:?}");
        }
    }
}

fn shown(revs: &[OpenRev]) -> Vec<String> {
    let text = |found: &OpenRev| match found {
        OpenRev::Found(doc) => doc.rev.as_ref().expect("a read has its revision").to_string(),
        OpenRev::Missing(rev) => format!("no {rev}"),
    };
    revs.iter().map(text).collect()
}

#[tokio::test]
async fn branches_are_read_all_or_by_name() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        branched(&db).await;
        let read = async |name, which, latest| {
            let options = BulkGetOptions { latest, ..BulkGetOptions::default() };
            db.open_revs(&id(name), &which, options).await.map(|found| shown(&found))
        };
        let named = |texts: &[&str]| OpenRevs::Revs(revs(texts));
        assert_eq!(read("doc", OpenRevs::All, false).await.unwrap(), ["3-c", "2-b", "2-x"]);
        assert_eq!(read("gone", OpenRevs::All, false).await.unwrap(), ["4-x"]);
        let some = named(&["2-b", "9-z", "1-a", "2-b"]);
        assert_eq!(read("doc", some.clone(), false).await.unwrap(), ["2-b", "no 9-z", "1-a"]);
        assert_eq!(read("doc", some, true).await.unwrap(), ["2-b", "no 9-z", "3-c", "2-x"]);
        assert_eq!(read("unknown", named(&["1-a"]), false).await.unwrap(), ["no 1-a"]);
        assert_eq!(read("doc", named(&[]), false).await.unwrap(), Vec::<String>::new());
        let missing = read("unknown", OpenRevs::All, false).await.unwrap_err();
        assert!(matches!(missing, StoreError::DocMissing { .. }), "{missing}");
    }
}

#[tokio::test]
async fn many_are_read_in_the_order_asked() {
    let limits = Limits { bulk_rows_max: 1_200, ..Limits::default() };
    for (_, store, _dir) in stores_with(&limits) {
        let db = database(&store).await;
        branched(&db).await;
        let item = |name, at: Option<&str>| BulkGetItem { id: id(name), rev: at.map(rev) };
        let items = [
            item("doc", Some("2-c")),
            item("unknown", None),
            item("doc", None),
            item("unknown", Some("1-a")),
            item("doc", Some("2-c")),
        ];
        let read = async |latest| {
            let options = BulkGetOptions { latest, revs: true, ..BulkGetOptions::default() };
            let found = db.bulk_get(&items, options).await.unwrap();
            let row = |result: &BulkGetResult| format!("{} {:?}", result.id, shown(&result.revs));
            found.iter().map(row).collect::<Vec<String>>()
        };
        let all = r#"doc ["3-c", "2-b", "2-x"]"#;
        let none = [r"unknown []", r#"unknown ["no 1-a"]"#];
        let old = r#"doc ["2-c"]"#;
        assert_eq!(read(false).await, [old, none[0], all, none[1], old]);
        let new = r#"doc ["3-c"]"#;
        assert_eq!(read(true).await, [new, none[0], all, none[1], new]);

        let many = vec![item("doc", Some("2-b")); 1_200];
        let found = db.bulk_get(&many, BulkGetOptions::default()).await.unwrap();
        assert_eq!(found.len(), 1_200);
        assert!(found.iter().all(|result| shown(&result.revs) == ["2-b"]));
        let many = vec![item("doc", None); 1_201];
        let refused = db.bulk_get(&many, BulkGetOptions::default()).await.unwrap_err();
        assert!(matches!(refused, StoreError::TooLarge { count: 1_201, .. }), "{refused}");
    }
}

/// `d0000` to `d1199`; every third is deleted.
async fn filled(db: &Database) -> Vec<String> {
    let name = |n: usize| format!("d{n:04}");
    replicate(db, (0..1_200).map(|n| replicated(&name(n), &["1-a"], n % 3 == 0)).collect()).await;
    (0..1_200).filter(|n| n % 3 != 0).map(name).collect()
}

fn ids(rows: &[AllDocsRow]) -> Vec<&str> {
    rows.iter().map(|row| row.id.as_str()).collect()
}

#[tokio::test]
async fn pages_after_skipped_rows_bring_all_of_the_rest() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let open = filled(&db).await;
        for (skip, limit) in [(200, 64), (790, 5), (799, 64), (0, 300)] {
            let mut options = AllDocsOptions { skip, limit: Some(limit), ..Default::default() };
            let mut found: Vec<String> = Vec::new();
            loop {
                let after = found.last().map(|last| id(last));
                let page = db.all_docs_page(&options, after.as_ref(), usize::MAX).await.unwrap();
                found.extend(page.rows.iter().map(|row| row.id.to_string()));
                options.skip = 0;
                if page.ended {
                    break;
                }
            }
            assert_eq!(found, open[skip..], "{skip} {limit}");
        }
    }
}

#[tokio::test]
async fn ranges_are_read_in_byte_order() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let open = filled(&db).await;
        let range = |start: Option<&str>, end: Option<&str>, exclusive_end| KeyRange {
            start: start.map(str::to_owned),
            end: end.map(str::to_owned),
            exclusive_end,
        };
        let ranges = [
            range(None, None, false),
            range(Some("d0100"), Some("d1000"), false),
            range(Some("d0100"), Some("d1000"), true),
            range(Some("d0099"), None, false),
            range(None, Some("d00"), false),
            range(Some("d01x"), Some("d07"), false),
            range(Some("z"), Some("a"), false),
        ];
        for range in &ranges {
            for (limit, skip) in
                [(None, 0), (Some(3), 0), (Some(601), 7), (Some(0), 0), (None, 799)]
            {
                for order in [Order::Ascending, Order::Descending] {
                    let mut range = range.clone();
                    if order == Order::Descending {
                        std::mem::swap(&mut range.start, &mut range.end);
                    }
                    let within = |name: &&str| {
                        let (low, high) = match order {
                            Order::Ascending => (&range.start, &range.end),
                            Order::Descending => (&range.end, &range.start),
                        };
                        low.as_deref().is_none_or(|low| low <= *name)
                            && high.as_deref().is_none_or(|high| *name <= high)
                            && !(range.exclusive_end && range.end.as_deref() == Some(*name))
                    };
                    let mut wanted: Vec<&str> =
                        open.iter().map(String::as_str).filter(within).collect();
                    if order == Order::Descending {
                        wanted.reverse();
                    }
                    let wanted: Vec<&str> =
                        wanted.into_iter().skip(skip).take(limit.unwrap_or(usize::MAX)).collect();
                    let options = AllDocsOptions {
                        range: range.clone(),
                        limit,
                        skip,
                        order,
                        ..Default::default()
                    };
                    let found = db.all_docs(&options).await.unwrap();
                    assert_eq!(ids(&found.rows), wanted, "{options:?}");
                    assert_eq!(found.total_rows, 800);
                }
            }
        }
        assert_sound(&db).await;
    }
}

/// Pages read one after another hold every row once, also where a page is full in the middle of the
/// last documents read.
#[tokio::test]
async fn pages_bring_every_row() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let open = filled(&db).await;
        for limit in [1, 31, 256, 400, 799, 800] {
            let options = AllDocsOptions { limit: Some(limit), ..Default::default() };
            let mut found: Vec<String> = Vec::new();
            loop {
                let after = found.last().map(|last| id(last));
                let page = db.all_docs_page(&options, after.as_ref(), usize::MAX).await.unwrap();
                found.extend(page.rows.iter().map(|row| row.id.to_string()));
                if page.ended {
                    break;
                }
            }
            assert_eq!(found, open, "{limit}");
        }
    }
}

#[tokio::test]
async fn keys_are_read_as_asked() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let mut all: Vec<DocId> = filled(&db).await.iter().map(|open| id(open)).collect();
        all.reverse();
        let options = AllDocsOptions { keys: Some(all.clone()), ..AllDocsOptions::default() };
        let found = db.all_docs(&options).await.unwrap();
        assert_eq!(found.rows.into_iter().map(|row| row.id).collect::<Vec<DocId>>(), all);
        let keys = ["d0002", "unknown", "d0003", "d0001", "d0002"].map(id).to_vec();
        let options = AllDocsOptions {
            keys: Some(keys.clone()),
            include_docs: true,
            ..AllDocsOptions::default()
        };
        let row = |row: &AllDocsRow| {
            let doc = if row.doc.is_some() { "doc" } else { "-" };
            let rev = row.rev.as_ref().map_or("-".to_owned(), ToString::to_string);
            format!("{} {rev} {} {doc}", row.id, row.deleted)
        };
        let found = db.all_docs(&options).await.unwrap();
        let wanted = [
            "d0002 1-a false doc",
            "unknown - false -",
            "d0003 1-a true -",
            "d0001 1-a false doc",
            "d0002 1-a false doc",
        ];
        assert_eq!(found.rows.iter().map(row).collect::<Vec<String>>(), wanted);
        let (mut found, mut pages, mut rest) = (Vec::new(), Vec::new(), keys.as_slice());
        while !rest.is_empty() {
            let options = AllDocsOptions { keys: Some(rest.to_vec()), ..options.clone() };
            let page = db.all_docs_page(&options, None, 1).await.unwrap();
            assert_eq!(page.ended, page.rows.len() == rest.len());
            rest = &rest[page.rows.len()..];
            pages.push(page.rows.len());
            found.extend(page.rows.iter().map(row));
        }
        assert_eq!((found, pages), (wanted.map(str::to_owned).to_vec(), vec![1, 3, 1]));
        let part =
            AllDocsOptions { order: Order::Descending, skip: 1, limit: Some(2), ..options.clone() };
        let found = db.all_docs(&part).await.unwrap();
        assert_eq!(found.rows.iter().map(row).collect::<Vec<String>>(), [wanted[3], wanted[2]]);
        let many = Some(vec![id("a"); Limits::default().bulk_rows_max + 1]);
        let refused = db.all_docs(&AllDocsOptions { keys: many, ..options }).await.unwrap_err();
        assert!(matches!(refused, StoreError::TooLarge { .. }), "{refused}");
    }
}

#[tokio::test]
async fn rows_bring_their_documents_large_and_small() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        branched(&db).await;
        let large = format!(r#"{{"_id":"large","_rev":"1-a","pad":"{}"}}"#, "x".repeat(300_000));
        replicate(&db, vec![parse(&large)]).await;
        let options =
            AllDocsOptions { include_docs: true, conflicts: true, ..AllDocsOptions::default() };
        let found = db.all_docs(&options).await.unwrap();
        let docs: Vec<String> =
            found.rows.iter().map(|row| row.doc.as_ref().unwrap().to_json()).collect();
        let doc = r#"{"_id":"doc","_rev":"3-c","_conflicts":["2-b"],"is":"3-c"}"#;
        assert_eq!(docs, [doc, large.as_str()]);
    }
}

#[tokio::test]
async fn ids_are_listed_with_those_of_deleted_documents() {
    for (kind, store, _dir) in stores() {
        let db = database(&store).await;
        branched(&db).await;
        replicate(&db, vec![replicated("last", &["1-a"], false)]).await;
        assert_eq!(db.ids(None, 10).await.unwrap(), [id("doc"), id("gone"), id("last")], "{kind}");
        assert_eq!(db.ids(None, 2).await.unwrap(), [id("doc"), id("gone")], "{kind}");
        assert_eq!(db.ids(Some(&id("e")), 1).await.unwrap(), [id("gone")], "{kind}");
        assert_eq!(db.ids(Some(&id("gone")), 9).await.unwrap(), [id("last")], "{kind}");
    }
}
