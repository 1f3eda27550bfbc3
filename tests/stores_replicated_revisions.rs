//! Revisions that another replica made are stored as they are (`new_edits: false`).

mod support;

use settee::store::{DocError, EditMode, GetOptions};
use settee::{Database, Document, Limits, StoreError};
use support::documents::{
    assert_sound, database, history, id, leaves, replicate, replicate_one, replicated, rev, revs,
    update_seq,
};
use support::stores::{stores, stores_with};

/// Writes paths of the document `doc`, and tells its leaves.
async fn leaves_after(db: &Database, paths: &[&[&str]]) -> Vec<String> {
    for path in paths {
        replicate_one(db, path).await.unwrap();
    }
    leaves(db, &id("doc")).await
}

#[tokio::test]
async fn histories_are_kept() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let written = replicate_one(&db, &["3-c", "2-b", "1-a"]).await.unwrap();
        assert_eq!((written.rev, written.seq.unwrap().number), (rev("3-c"), 1));
        assert_eq!(history(&db, &id("doc"), "3-c").await, ["3-c", "2-b", "1-a"]);
        let unstored = GetOptions { rev: Some(rev("2-b")), ..GetOptions::default() };
        let read = db.get(&id("doc"), &unstored).await.unwrap_err();
        assert!(matches!(read, StoreError::DocMissing { .. }), "{read}");
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn the_winner_is_open_before_deleted_then_longest_then_greatest() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let found = leaves_after(&db, &[&["2-b", "1-a"], &["2-c", "1-a"], &["1-z"]]).await;
        assert_eq!(found, ["2-c", "2-b", "1-z"]);
        replicate(&db, vec![replicated("doc", &["3-x", "2-c", "1-a"], true)]).await;
        assert_eq!(leaves(&db, &id("doc")).await, ["2-b", "1-z", "3-xx"]);
        assert_eq!(db.info().await.unwrap().doc_count, 1);
        replicate(&db, vec![replicated("doc", &["3-y", "2-b", "1-a"], true)]).await;
        replicate(&db, vec![replicated("doc", &["2-q", "1-z"], true)]).await;
        assert_eq!(leaves(&db, &id("doc")).await, ["3-yx", "3-xx", "2-qx"]);
        let info = db.info().await.unwrap();
        assert_eq!((info.doc_count, info.deleted_count), (0, 1));
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn a_known_revision_changes_nothing() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        for path in [&["3-c", "2-b", "1-a"][..], &["4-d", "3-c"]] {
            replicate_one(&db, path).await.unwrap();
        }
        let info = db.info().await.unwrap();
        for path in [&["3-c", "2-b", "1-a"][..], &["4-d", "3-c", "2-b"], &["2-b"], &["4-d"]] {
            let written = replicate_one(&db, path).await.unwrap();
            assert_eq!((written.rev, written.seq), (rev(path[0]), None));
        }
        assert_eq!(db.info().await.unwrap(), info);
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn of_one_revision_twice_in_a_call_one_is_a_change() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let twice = vec![replicated("doc", &["1-a"], false); 2];
        let seqs = replicate(&db, twice).await.into_iter().map(|o| o.unwrap().seq);
        assert_eq!(seqs.map(|seq| seq.is_some()).collect::<Vec<bool>>(), [true, false]);
        assert_eq!(update_seq(&db).await, 1);
    }
}

#[tokio::test]
async fn all_revisions_of_a_call_are_merged() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let paths: [&[&str]; 4] =
            [&["2-b", "1-a"], &["3-c", "2-b", "1-a"], &["2-x", "1-a"], &["1-a"]];
        let documents = paths.iter().map(|path| replicated("doc", path, false)).collect();
        let outcomes = replicate(&db, documents).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(leaves(&db, &id("doc")).await, ["3-c", "2-x"]);
        assert_eq!(update_seq(&db).await, 1);
        let old = GetOptions { rev: Some(rev("2-b")), ..GetOptions::default() };
        assert_eq!(db.get(&id("doc"), &old).await.unwrap().body.as_str(), r#"{"is":"2-b"}"#);
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn cut_histories_join_when_what_lies_between_becomes_known() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let found = leaves_after(&db, &[&["1-a"], &["4-d", "3-c"]]).await;
        assert_eq!(found, ["4-d", "1-a"]);
        let written = replicate_one(&db, &["4-d", "3-c", "2-b", "1-a"]).await.unwrap();
        assert_eq!(written.seq.unwrap().number, 3);
        assert_eq!(leaves(&db, &id("doc")).await, ["4-d"]);
        assert_eq!(history(&db, &id("doc"), "4-d").await, ["4-d", "3-c", "2-b", "1-a"]);
        assert_sound(&db).await;
    }
}

/// A replica that had a revision without its history took an ancestor that came later for a branch
/// of its own, since the longer history that had come in between was passed over as known. It is
/// taken with the known revision.
#[tokio::test]
async fn an_ancestor_that_a_history_told_of_is_no_branch() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let paths: [&[&str]; 3] = [&["3-c"], &["3-c", "2-b", "1-a"], &["2-b", "1-a"]];
        assert_eq!(leaves_after(&db, &paths).await, ["3-c"]);
        assert_sound(&db).await;
    }
}

/// An edit whose digest is that of a revision which came without its history wrote the body again
/// under another length than the tree told. The stored body stays.
#[tokio::test]
async fn an_edit_that_another_replica_made_too_joins_it() {
    for ((_, here, _a), (_, there, _b)) in stores().into_iter().zip(stores()) {
        let (here, there) = (database(&here).await, database(&there).await);
        let doc = |body: &str| support::documents::parse(&format!(r#"{{"_id":"doc",{body}}}"#));
        let first = there.put(doc(r#""n":0"#)).await.unwrap().rev;
        let edit = doc(r#""text":"\u0041","more":1"#).with_rev(first.clone());
        let second = there.put(edit.clone()).await.unwrap().rev;
        let cut = Document { rev: Some(second.clone()), ..edit };
        replicate(&here, vec![cut]).await;
        let root = Document { rev: Some(first.clone()), ..doc(r#""n":0"#) };
        replicate(&here, vec![root]).await;
        let made = here.put(doc(r#""more":1,"text":"A""#).with_rev(first)).await.unwrap().rev;
        assert_eq!(made, second);
        assert_eq!(leaves(&here, &id("doc")).await, [second.to_string()]);
        assert_sound(&here).await;
    }
}

#[tokio::test]
async fn ancestors_beyond_revs_limit_are_stemmed() {
    let limits = Limits { revs_limit: 3, ..Limits::default() };
    for (_, store, _dir) in stores_with(&limits) {
        let db = database(&store).await;
        replicate_one(&db, &["4-d", "3-c", "2-b", "1-a"]).await.unwrap();
        assert_eq!(history(&db, &id("doc"), "4-d").await, ["4-d", "3-c", "2-b"]);
        replicate_one(&db, &["5-e", "4-d"]).await.unwrap();
        assert_eq!(history(&db, &id("doc"), "5-e").await, ["5-e", "4-d", "3-c"]);
        let seq = update_seq(&db).await;
        let known = replicate_one(&db, &["5-e", "4-d", "3-c", "2-b", "1-a"]).await.unwrap();
        assert_eq!((known.seq, update_seq(&db).await), (None, seq));
        for next in [["6-f", "5-e"], ["7-g", "6-f"]] {
            replicate_one(&db, &next).await.unwrap();
        }
        let stemmed = GetOptions { rev: Some(rev("4-d")), ..GetOptions::default() };
        let read = db.get(&id("doc"), &stemmed).await.unwrap_err();
        assert!(matches!(read, StoreError::DocMissing { .. }), "{read}");
        assert_sound(&db).await;
    }
}

/// A history was cut to `revs_limit` before it was merged, so that a branch which it extends stayed
/// a leaf. It is merged whole and stemmed then.
#[tokio::test]
async fn a_branch_further_back_than_revs_limit_is_extended() {
    let limits = Limits { revs_limit: 2, ..Limits::default() };
    for (_, store, _dir) in stores_with(&limits) {
        let db = database(&store).await;
        let found = leaves_after(&db, &[&["1-a"], &["5-e", "4-d", "3-c", "2-b", "1-a"]]).await;
        assert_eq!(found, ["5-e"]);
        assert_eq!(history(&db, &id("doc"), "5-e").await, ["5-e", "4-d"]);
        assert_sound(&db).await;
    }
}

/// A revision that a later one of the same call stemmed left its body behind, readable for ever.
#[tokio::test]
async fn what_one_call_writes_and_stems_is_gone() {
    let limits = Limits { revs_limit: 1, ..Limits::default() };
    for (_, store, _dir) in stores_with(&limits) {
        let db = database(&store).await;
        let paths: [&[&str]; 3] = [&["1-a"], &["2-b", "1-a"], &["3-c", "2-b", "1-a"]];
        replicate_one(&db, paths[0]).await.unwrap();
        let documents = paths[1..].iter().map(|path| replicated("doc", path, false)).collect();
        replicate(&db, documents).await;
        for gone in ["1-a", "2-b"] {
            let options = GetOptions { rev: Some(rev(gone)), ..GetOptions::default() };
            let read = db.get(&id("doc"), &options).await;
            assert!(matches!(read, Err(StoreError::DocMissing { .. })), "{gone}: {read:?}");
        }
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn a_document_has_a_bounded_number_of_leaves() {
    let limits = Limits { leaves_per_doc_max: 2, ..Limits::default() };
    for (_, store, _dir) in stores_with(&limits) {
        let db = database(&store).await;
        leaves_after(&db, &[&["1-a"], &["1-b"]]).await;
        let refused = replicate_one(&db, &["1-c"]).await.unwrap_err();
        assert_eq!(refused.error, DocError::TooManyLeaves { max: 2 });
        replicate_one(&db, &["2-d", "1-a"]).await.unwrap();
        replicate(&db, vec![replicated("doc", &["2-e", "1-b"], true)]).await.remove(0).unwrap();
        assert_eq!(leaves(&db, &id("doc")).await, ["2-d", "2-ex"]);
        assert_sound(&db).await;
    }
}

/// Histories that contradict each other added all their ancestors each time, so that few leaves
/// grew a tree without bound.
#[tokio::test]
async fn contradicting_histories_do_not_grow_a_tree_without_bound() {
    let limits = Limits { revs_limit: 10, ..Limits::default() };
    for (_, store, _dir) in stores_with(&limits) {
        let db = database(&store).await;
        for (n, known) in (0..50).flat_map(|n| [(n, false), (n, true)]) {
            let mut path = vec![format!("{}-leaf", 10 + n), format!("{}-leaf", 9 + n)];
            let first = 1 + n + usize::from(known);
            path.extend((first..9 + n).rev().map(|generation| format!("{generation}-n{n}{known}")));
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            replicate_one(&db, &path).await.unwrap();
        }
        let told = |n: usize| {
            let at = move |known| (1 + n..9 + n).map(move |g| rev(&format!("{g}-n{n}{known}")));
            at(false).chain(at(true))
        };
        let asked: Vec<_> = (0..50).flat_map(told).collect();
        let count = asked.len();
        let missing = db.revs_diff(&[(id("doc"), asked)]).await.unwrap().remove(0).1.missing.len();
        assert!(count - missing <= 20, "{} kept", count - missing);
        assert_eq!(leaves(&db, &id("doc")).await, ["59-leaf"]);
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn a_replicated_document_must_name_its_revision() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let nameless = Document::new("doc", &serde_json::json!({})).unwrap();
        let good = replicated("other", &["1-a"], false);
        let outcomes = db.bulk_docs(vec![nameless, good], EditMode::Replicated).await.unwrap();
        assert_eq!(outcomes[0].clone().unwrap_err().error, DocError::RevMissing);
        assert_eq!(outcomes[1].clone().unwrap().seq.unwrap().number, 1);
    }
}

#[tokio::test]
async fn revs_diff_tells_what_is_missing() {
    let limits = Limits { bulk_rows_max: 6, ..Limits::default() };
    for (_, store, _dir) in stores_with(&limits) {
        let db = database(&store).await;
        leaves_after(&db, &[&["2-b", "1-a"], &["1-z"]]).await;
        let wanted = [
            (id("unknown"), revs(&["2-y", "1-x"])),
            (id("all-here"), vec![]),
            (id("doc"), revs(&["3-d", "1-a", "2-c"])),
        ];
        let found = db.revs_diff(&wanted).await.unwrap();
        let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["unknown", "doc"]);
        assert_eq!(found[0].1.missing, revs(&["2-y", "1-x"]));
        assert_eq!(found[0].1.possible_ancestors, []);
        assert_eq!(found[1].1.missing, revs(&["3-d", "2-c"]));
        assert_eq!(found[1].1.possible_ancestors, revs(&["2-b", "1-z"]));
        assert_eq!(db.revs_diff(&[(id("doc"), revs(&["1-a", "2-b", "1-z"]))]).await.unwrap(), []);

        let many = |n: usize| (0..n).map(|n| rev(&format!("1-n{n}"))).collect::<Vec<_>>();
        assert!(db.revs_diff(&[(id("a"), many(3)), (id("b"), many(3))]).await.is_ok());
        let refused = db.revs_diff(&[(id("a"), many(3)), (id("b"), many(4))]).await.unwrap_err();
        assert!(matches!(refused, StoreError::TooLarge { count: 7, max: 6, .. }), "{refused}");
    }
}
