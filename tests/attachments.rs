//! Attachments: taken in, kept by stubs, given out again.

mod support;

use bytes::Bytes;
use futures::Stream;
use settee::doc::{Attachment, AttachmentData, BlobHasher};
use settee::store::{ChangeDocs, ChangesOptions, DocError, EditMode, GetOptions};
use settee::{Database, Document, Limits, Rev, StoreError};
use support::documents::{assert_sound, database, id, parse, replicate, rev};
use support::stores::{stores, stores_with};

fn inline(bytes: impl Into<Bytes>) -> Attachment {
    let data = AttachmentData::Inline(bytes.into());
    Attachment { content_type: "text/plain".into(), revpos: 0, data }
}

fn doc() -> Document {
    Document::new("doc", &serde_json::json!({})).unwrap()
}

/// `length` bytes that differ, in pieces of uneven length.
fn pieces(length: usize) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
    let all: Bytes = pattern(length).into();
    let mut at = 0;
    futures::stream::iter(std::iter::from_fn(move || {
        let end = (at + 100_003).min(length);
        let piece = all.slice(at..end);
        at = end;
        (!piece.is_empty()).then_some(Ok(piece))
    }))
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 31) >> 3) as u8).collect()
}

async fn bytes_at(db: &Database, name: &str, at: Option<&Rev>) -> Vec<u8> {
    db.attachment(&id("doc"), name, at).await.unwrap().bytes().await.unwrap().to_vec()
}

async fn revpos(db: &Database, name: &str) -> u64 {
    db.get(&id("doc"), &GetOptions::default()).await.unwrap().attachments[name].revpos
}

#[tokio::test]
async fn inline_bytes_are_stored_and_shown_as_stubs() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        for length in [0, 2, 32 * 1024, 32 * 1024 + 1, 200_000] {
            let name = format!("a{length}");
            let there = db.get(&id("doc"), &GetOptions::default()).await.unwrap_or_else(|_| doc());
            db.put(there.with_attachment(name.clone(), inline(pattern(length)))).await.unwrap();
            assert_eq!(bytes_at(&db, &name, None).await, pattern(length));
        }
        let read = db.get(&id("doc"), &GetOptions::default()).await.unwrap();
        assert_eq!(read.attachments.len(), 5, "an edit of what was read keeps its attachments");
        assert_eq!(read.attachments["a2"].revpos, 2);
        assert_eq!(read.attachments["a2"].digest(), Some(BlobHasher::of(&pattern(2)).digest));
        assert!(read.to_json().contains(r#""length":2,"stub":true"#), "{}", read.to_json());
        let whole = GetOptions { attachments: true, ..GetOptions::default() };
        let read = db.get(&id("doc"), &whole).await.unwrap();
        let data = AttachmentData::Inline(pattern(200_000).into());
        assert_eq!(read.attachments["a200000"].data, data);
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn many_bytes_are_streamed_in_and_out() {
    const LENGTH: usize = 5_000_000;
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let first =
            db.put_attachment(&id("doc"), None, "f", "a/b", pieces(LENGTH)).await.unwrap().rev;
        let mut reader = db.attachment(&id("doc"), "f", None).await.unwrap();
        assert_eq!((reader.length(), reader.attachment.content_type.as_str()), (5_000_000, "a/b"));
        let (mut read, mut longest) = (Vec::new(), 0);
        while let Some(piece) = reader.next().await.unwrap() {
            longest = longest.max(piece.len());
            read.extend_from_slice(&piece);
        }
        assert!(longest <= 64 * 1024, "{longest}");
        assert_eq!(read, pattern(LENGTH));

        let second =
            db.put_attachment(&id("doc"), Some(first.clone()), "g", "a/b", pieces(3)).await;
        let second = second.unwrap().rev;
        assert_eq!((revpos(&db, "f").await, revpos(&db, "g").await), (1, 2));
        let stale = db.put_attachment(&id("doc"), Some(first.clone()), "h", "a/b", pieces(3)).await;
        assert!(matches!(stale, Err(StoreError::Refused(DocError::Conflict))), "{stale:?}");
        let third = db.delete_attachment(&id("doc"), second.clone(), "f").await.unwrap().rev;
        let gone = db.attachment(&id("doc"), "f", None).await.unwrap_err();
        assert!(matches!(gone, StoreError::AttachmentMissing { .. }), "{gone}");
        let again = db.delete_attachment(&id("doc"), third, "f").await.unwrap_err();
        assert!(matches!(again, StoreError::AttachmentMissing { .. }), "{again}");
        assert_eq!(bytes_at(&db, "f", Some(&second)).await, pattern(LENGTH));
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn a_stub_keeps_the_bytes_and_new_bytes_replace_them() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let first = db.put(doc().with_attachment("f", inline("one"))).await.unwrap().rev;
        let stub = r#""n":1,"_attachments":{"f":{"stub":true}}"#;
        db.put(parse(&format!(r#"{{"_id":"doc","_rev":"{first}",{stub}}}"#))).await.unwrap();
        assert_eq!((bytes_at(&db, "f", None).await, revpos(&db, "f").await), (b"one".to_vec(), 1));
        let whole = GetOptions { attachments: true, ..GetOptions::default() };
        let mut edit = db.get(&id("doc"), &whole).await.unwrap();
        let attachment = edit.attachments.get_mut("f").unwrap();
        assert_eq!(attachment.revpos, 1);
        attachment.data = AttachmentData::Inline("two".into());
        db.put(edit).await.unwrap();
        // Bytes that replaced others kept the place of the old ones, so that a replica which asks
        // for what is newer than it has would have passed them over.
        assert_eq!((bytes_at(&db, "f", None).await, revpos(&db, "f").await), (b"two".to_vec(), 3));
        assert_eq!(bytes_at(&db, "f", Some(&first)).await, b"one");
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn a_stub_without_bytes_behind_it_is_refused() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let other = parse(r#"{"_id":"other"}"#).with_attachment("f", inline("secret"));
        db.put(other).await.unwrap();
        let digest = BlobHasher::of(b"secret").digest;
        let stub = |digest: &str| {
            format!(
                r#"{{"_id":"doc","_rev":"1-a","_attachments":{{"f":{{"stub":true{digest}}}}}}}"#
            )
        };
        for text in [stub(""), stub(&format!(r#","digest":"{digest}""#))] {
            let outcome = replicate(&db, vec![parse(&text)]).await.remove(0);
            let missing = DocError::MissingStub { name: "f".into() };
            assert_eq!(
                outcome.unwrap_err().error,
                missing,
                "bytes of another document are not lent"
            );
            let edit = Document { rev: None, ..parse(&text) };
            let outcomes = db.bulk_docs(vec![edit], EditMode::Edit).await.unwrap();
            assert_eq!(outcomes[0].clone().unwrap_err().error, missing);
        }
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn a_replicated_stub_finds_its_bytes_by_digest() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let root = Document { rev: Some(rev("1-a")), ..doc() };
        replicate(&db, vec![root.with_attachment("f", inline("bytes"))]).await.remove(0).unwrap();
        let digest = BlobHasher::of(b"bytes").digest;
        let text = format!(
            r#"{{"_id":"doc","_revisions":{{"start":3,"ids":["c","b","a"]}},"_attachments":{{"renamed":{{"stub":true,"revpos":1,"digest":"{digest}"}}}}}}"#
        );
        replicate(&db, vec![parse(&text)]).await.remove(0).unwrap();
        assert_eq!(bytes_at(&db, "renamed", None).await, b"bytes");
        assert_eq!(revpos(&db, "renamed").await, 1);
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn bounds_are_kept_at_every_way_in() {
    let limits =
        Limits { attachment_bytes_max: 10, attachments_per_doc_max: 2, ..Limits::default() };
    for (_, store, _dir) in stores_with(&limits) {
        let db = database(&store).await;
        let put = async |rev, name, length| {
            db.put_attachment(&id("doc"), rev, name, "a/b", pieces(length)).await.map(|w| w.rev)
        };
        let too_large = |error: StoreError, found| match error {
            StoreError::TooLarge { count, max, .. } => assert_eq!((count, max), found),
            other => panic!("{other}"),
        };
        too_large(put(None, "a", 11).await.unwrap_err(), (11, 10));
        let first = put(None, "a", 10).await.unwrap();
        let second = put(Some(first), "b", 1).await.unwrap();
        too_large(put(Some(second), "c", 1).await.unwrap_err(), (3, 2));
        let eleven =
            Document { id: id("other"), ..doc() }.with_attachment("a", inline(pattern(11)));
        too_large(db.put(eleven.clone()).await.unwrap_err(), (11, 10));
        let ten = eleven.with_attachment("a", inline(pattern(10)));
        db.put(ten).await.unwrap();
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn attachments_travel_with_the_leaves() {
    for ((_, here, _a), (_, there, _b)) in stores().into_iter().zip(stores()) {
        let (here, there) = (database(&here).await, database(&there).await);
        here.put(doc().with_attachment("f", inline(pattern(100_000)))).await.unwrap();
        let options = ChangesOptions { docs: ChangeDocs::Leaves, ..Default::default() };
        let mut sent = here.changes(&options).await.unwrap().rows.remove(0).docs;
        let without = replicate(&there, sent.clone()).await.remove(0).unwrap_err();
        assert_eq!(without.error, DocError::MissingStub { name: "f".into() });
        here.load_attachments(&mut sent[0]).await.unwrap();
        replicate(&there, sent).await.remove(0).unwrap();
        assert_eq!(bytes_at(&there, "f", None).await, pattern(100_000));
        assert_eq!(revpos(&there, "f").await, 1);
        assert_sound(&there).await;
    }
}
