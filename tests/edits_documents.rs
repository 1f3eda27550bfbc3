//! Edits make revisions by CouchDB's rules (`new_edits: true`).

mod support;

use settee::store::{DocError, EditMode, GetOptions};
use settee::{Database, Document, Limits, Rev, StoreError};
use support::documents::{assert_sound, database, id, leaves, parse, rev, update_seq};
use support::stores::stores;

fn todo(text: &str) -> Document {
    Document::new("todo", &serde_json::json!({ "text": text })).expect("a document")
}

async fn assert_conflict(db: &Database, document: Document) {
    let before = update_seq(db).await;
    let refused = db.put(document).await.expect_err("a conflict");
    assert!(matches!(refused, StoreError::Refused(DocError::Conflict)), "{refused}");
    assert_eq!(update_seq(db).await, before);
}

#[tokio::test]
async fn an_edit_extends_the_leaf_it_names() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let first = db.put(todo("a")).await.unwrap();
        assert_eq!((first.rev.generation(), first.seq.unwrap().number), (1, 1));
        let second = db.put(todo("b").with_rev(first.rev.clone())).await.unwrap();
        assert_eq!((second.rev.generation(), second.seq.unwrap().number), (2, 2));
        let read = db.get(&id("todo"), &GetOptions::default()).await.unwrap();
        assert_eq!((read.rev, read.body.as_str()), (Some(second.rev), r#"{"text":"b"}"#));
        assert_eq!(db.info().await.unwrap().doc_count, 1);
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn an_edit_of_anything_but_a_leaf_is_a_conflict() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        assert_conflict(&db, todo("of a document that is not there").with_rev(rev("1-a"))).await;
        let first = db.put(todo("a")).await.unwrap().rev;
        assert_conflict(&db, todo("no revision")).await;
        assert_conflict(&db, todo("a")).await;
        assert_conflict(&db, todo("another").with_rev(rev("1-a"))).await;
        db.put(todo("b").with_rev(first.clone())).await.unwrap();
        assert_conflict(&db, todo("an ancestor").with_rev(first.clone())).await;
        assert_conflict(&db, Document::tombstone(id("todo"), first)).await;
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn of_edits_of_one_document_in_one_call_the_first_wins() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let outcomes = db.bulk_docs(vec![todo("a"), todo("b")], EditMode::Edit).await.unwrap();
        let first = outcomes[0].clone().unwrap().rev;
        assert_eq!(outcomes[1].clone().unwrap_err().error, DocError::Conflict);
        let edits = vec![todo("c").with_rev(first.clone()), todo("d").with_rev(first.clone())];
        let outcomes = db.bulk_docs(edits, EditMode::Edit).await.unwrap();
        assert_eq!(outcomes[0].clone().unwrap().seq.unwrap().number, 2);
        let refused = outcomes[1].clone().unwrap_err();
        assert_eq!((refused.error, refused.rev), (DocError::Conflict, Some(first)));
        let read = db.get(&id("todo"), &GetOptions::default()).await.unwrap();
        assert_eq!(read.body.as_str(), r#"{"text":"c"}"#);
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn a_deleted_document_goes_on_from_its_tombstone() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let first = db.put(todo("a")).await.unwrap().rev;
        let deleted = db.delete(&id("todo"), first.clone()).await.unwrap().rev;
        assert_eq!(deleted.generation(), 2);
        let read = db.get(&id("todo"), &GetOptions::default()).await.unwrap_err();
        assert!(matches!(read, StoreError::DocDeleted { .. }), "{read}");
        let info = db.info().await.unwrap();
        assert_eq!((info.doc_count, info.deleted_count), (0, 1));
        assert_conflict(&db, todo("of what the tombstone replaced").with_rev(first)).await;

        let again = db.put(todo("a")).await.unwrap().rev;
        assert_eq!(again.generation(), 3);
        assert_eq!(leaves(&db, &id("todo")).await, [again.to_string()]);
        let info = db.info().await.unwrap();
        assert_eq!((info.doc_count, info.deleted_count), (1, 0));
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn a_tombstone_can_be_deleted_only_by_its_revision() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let first = db.put(todo("a")).await.unwrap().rev;
        let deleted = db.delete(&id("todo"), first).await.unwrap().rev;
        let without_rev = Document { rev: None, ..Document::tombstone(id("todo"), rev("1-a")) };
        assert_conflict(&db, without_rev).await;
        let twice = db.delete(&id("todo"), deleted).await.unwrap().rev;
        assert_eq!(leaves(&db, &id("todo")).await, [format!("{twice}x")]);
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn a_tombstone_may_have_a_body() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let first = db.put(todo("a")).await.unwrap().rev;
        let tombstone = Document { deleted: true, ..todo("why").with_rev(first) };
        let deleted = db.put(tombstone).await.unwrap().rev;
        let options = GetOptions { rev: Some(deleted), ..GetOptions::default() };
        let read = db.get(&id("todo"), &options).await.unwrap();
        assert_eq!((read.deleted, read.body.as_str()), (true, r#"{"text":"why"}"#));
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn the_same_edits_make_the_same_revisions_everywhere() {
    async fn edit(db: &Database) -> Vec<Rev> {
        let first = db.put(todo("a")).await.unwrap().rev;
        let second = db.put(todo("b").with_rev(first.clone())).await.unwrap().rev;
        let third = db.delete(&id("todo"), second.clone()).await.unwrap().rev;
        vec![first, second, third]
    }
    for ((_, here, _), (_, there, _)) in stores().into_iter().zip(stores()) {
        assert_eq!(edit(&database(&here).await).await, edit(&database(&there).await).await);
    }
}

#[tokio::test]
async fn bodies_come_back_as_they_were_written() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        for (place, body) in [
            r#""n":[1.0,1e400,-0,12345678901234567890123,0.1000]"#,
            r#""ä":"\u00e4\ud83d\ude00","é":"é","":null"#,
            r#""deep":{"_id":1,"a":{"b":[[[]]]}},"_replication_state":"x""#,
        ]
        .into_iter()
        .enumerate()
        {
            let document = parse(&format!(r#"{{"_id":"d{place}",{body}}}"#));
            let wanted = document.body.clone();
            db.put(document).await.unwrap();
            let read = db.get(&id(&format!("d{place}")), &GetOptions::default()).await.unwrap();
            assert_eq!(read.body.as_str(), wanted.as_str());
            assert_eq!(read.body.as_str(), format!("{{{body}}}"));
        }
        let twice = parse(r#"{"_id":"twice","a":{"b":1,"b":2},"c":3,"c":4}"#);
        db.put(twice).await.unwrap();
        let read = db.get(&id("twice"), &GetOptions::default()).await.unwrap();
        assert_eq!(read.body.as_str(), r#"{"a":{"b":2},"c":4}"#);
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn outcomes_stand_in_the_order_of_the_documents() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let doc = |n: usize| Document::new(&format!("d{n}"), &serde_json::json!({"n": n})).unwrap();
        db.put(doc(7)).await.unwrap();
        let outcomes = db.bulk_docs((0..250).map(doc).collect(), EditMode::Edit).await.unwrap();
        let mut seqs = Vec::new();
        for (n, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(written) => {
                    assert_eq!(written.id.as_str(), format!("d{n}"));
                    seqs.push(written.seq.unwrap().number);
                }
                Err(refused) => assert_eq!((n, refused.id.as_str()), (7, "d7")),
            }
        }
        assert_eq!(seqs, (2..=250).collect::<Vec<u64>>());
        assert_eq!(db.bulk_docs(Vec::new(), EditMode::Edit).await.unwrap(), []);
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn too_many_documents_are_refused_before_any_is_written() {
    let limits = Limits { bulk_rows_max: 3, ..Limits::default() };
    for (_, store, _dir) in support::stores::stores_with(&limits) {
        let db = database(&store).await;
        let doc = |n: usize| Document::new(&format!("d{n}"), &serde_json::json!({})).unwrap();
        let refused = db.bulk_docs((0..4).map(doc).collect(), EditMode::Edit).await.unwrap_err();
        assert!(matches!(refused, StoreError::TooLarge { count: 4, max: 3, .. }), "{refused}");
        assert_eq!(update_seq(&db).await, 0);
        db.bulk_docs((0..3).map(doc).collect(), EditMode::Edit).await.unwrap();
        assert_eq!(update_seq(&db).await, 3);
    }
}
