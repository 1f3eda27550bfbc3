//! Compaction takes bodies of old revisions and attachments that nobody names, and nothing else.

mod support;

use std::collections::HashSet;

use bytes::Bytes;
use futures::FutureExt as _;
use settee::doc::{Attachment, AttachmentData, RevStatus};
use settee::store::{CompactOptions, CompactReport, DocError, GetOptions, OpenRev, OpenRevs};
use settee::{Database, Document, Rev, StoreError};
use support::documents::{
    assert_sound, database, history, id, leaves, parse, replicate, replicated, rev, revs,
    update_seq,
};
use support::stores::stores;
use tokio::sync::watch;

fn doc(n: u32) -> Document {
    Document::new("doc", &serde_json::json!({ "n": n })).unwrap()
}

async fn compact(db: &Database) -> CompactReport {
    let report = db.compact(CompactOptions::ALONE).await.expect("it is compacted");
    assert_sound(db).await;
    let info = db.info().await.unwrap();
    assert_eq!(info.body_bytes, info.leaf_bytes, "only leaves have bodies");
    report
}

async fn read(db: &Database, at: &Rev) -> Result<Document, StoreError> {
    db.get(&id("doc"), &GetOptions { rev: Some(at.clone()), ..GetOptions::default() }).await
}

async fn bytes_of(db: &Database, doc: &str, name: &str) -> Bytes {
    db.attachment(&id(doc), name, None).await.unwrap().bytes().await.unwrap()
}

fn attached(doc: &str, bytes: &Bytes) -> Document {
    let attachment = Attachment::inline("text/plain", bytes.clone());
    Document::new(doc, &serde_json::json!({})).unwrap().with_attachment("f", attachment)
}

/// Bytes that are a row in sled, and bytes that are a file.
fn small_and_large() -> [Bytes; 2] {
    [vec![b's'; 1_000].into(), vec![b'l'; 100_000].into()]
}

#[tokio::test]
async fn old_bodies_go_and_histories_stay() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let first = db.put(doc(1)).await.unwrap().rev;
        let second = db.put(doc(2).with_rev(first.clone())).await.unwrap().rev;
        let third = db.put(doc(3).with_rev(second.clone())).await.unwrap().rev;
        let (before, seq) = (db.info().await.unwrap(), update_seq(&db).await);

        let report = compact(&db).await;

        let body_bytes = before.body_bytes - before.leaf_bytes;
        let expected = CompactReport { docs: 1, bodies: 2, body_bytes, ..Default::default() };
        assert_eq!(report, expected);
        assert_eq!(update_seq(&db).await, seq, "nothing changed");
        for old in [&first, &second] {
            let missing = read(&db, old).await.unwrap_err();
            assert!(matches!(missing, StoreError::DocMissing { .. }), "{missing}");
        }
        let asked = OpenRevs::Revs(vec![first.clone(), third.clone()]);
        let opened = db.open_revs(&id("doc"), &asked, Default::default()).await.unwrap();
        assert!(matches!(&opened[0], OpenRev::Missing(rev) if *rev == first), "{opened:?}");
        assert!(matches!(&opened[1], OpenRev::Found(doc) if doc.body == self::doc(3).body));
        let asked = GetOptions { revs_info: true, ..GetOptions::default() };
        let infos = db.get(&id("doc"), &asked).await.unwrap().extra.revs_info;
        let infos: Vec<_> = infos.into_iter().map(|info| (info.rev, info.status)).collect();
        let missing = RevStatus::Missing;
        let expected = [(third.clone(), RevStatus::Available), (second, missing), (first, missing)];
        assert_eq!(infos, expected);
        assert_eq!(history(&db, &id("doc"), &third.to_string()).await.len(), 3);
        assert_eq!(compact(&db).await, CompactReport { docs: 1, ..Default::default() });
        db.put(doc(4).with_rev(third)).await.expect("it can be edited");
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn conflicts_and_tombstones_stay() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let documents = vec![
            replicated("doc", &["1-a"], false),
            replicated("doc", &["2-b", "1-a"], false),
            replicated("doc", &["2-c", "1-a"], false),
            replicated("doc", &["3-d", "2-d", "1-a"], true),
            replicated("gone", &["1-a"], false),
            replicated("gone", &["2-b", "1-a"], true),
        ];
        assert!(replicate(&db, documents).await.iter().all(Result::is_ok));
        let before = (leaves(&db, &id("doc")).await, leaves(&db, &id("gone")).await);
        assert_eq!(compact(&db).await.bodies, 2);
        assert_eq!((leaves(&db, &id("doc")).await, leaves(&db, &id("gone")).await), before);
        assert_eq!(before.0, ["2-c", "2-b", "3-dx"]);
        let tombstone = read(&db, &rev("3-d")).await.unwrap();
        assert!(tombstone.deleted && tombstone.body.as_str().contains("3-d"), "{tombstone:?}");
        let known = revs(&["1-a", "2-b", "2-c", "2-d", "3-d"]);
        let diff = db.revs_diff(&[(id("doc"), known)]).await.unwrap();
        assert!(diff.iter().all(|(_, diff)| diff.missing.is_empty()), "{diff:?}");
    }
}

#[tokio::test]
async fn attachments_go_with_the_last_revision_that_names_them() {
    for (_, store, _dir) in stores() {
        for bytes in small_and_large() {
            let db = database(&store).await;
            let one = db.put(attached("one", &bytes)).await.unwrap().rev;
            let two = db.put(attached("two", &bytes)).await.unwrap().rev;
            let bare = |doc, rev| Document::new(doc, &serde_json::json!({})).unwrap().with_rev(rev);
            db.put(bare("one", one)).await.unwrap();
            assert_eq!(compact(&db).await.attachments, 0, "the other document has it too");
            assert_eq!(bytes_of(&db, "two", "f").await, bytes);
            let bare = db.put(bare("two", two.clone())).await.unwrap().rev;
            assert_eq!(bytes_of_rev(&db, "two", &two).await, bytes, "an old body still names it");
            let report = compact(&db).await;
            assert_eq!((report.attachments, report.attachment_bytes), (1, bytes.len() as u64));
            let again = attached("two", &bytes).with_rev(bare);
            db.put(again).await.expect("the bytes can come again");
            assert_eq!(bytes_of(&db, "two", "f").await, bytes);
            assert_sound(&db).await;
            drop(db);
            store.destroy(&settee::DbName::parse("tests").unwrap()).await.unwrap();
        }
    }
}

async fn bytes_of_rev(db: &Database, doc: &str, at: &Rev) -> Bytes {
    db.attachment(&id(doc), "f", Some(at)).await.unwrap().bytes().await.unwrap()
}

async fn staged(db: &Database, bytes: &Bytes) -> AttachmentData {
    let bytes = futures::stream::once(futures::future::ready(Ok(bytes.clone())));
    db.stage_attachment(bytes).await.unwrap()
}

fn naming(data: AttachmentData) -> Document {
    let attachment = Attachment { content_type: "text/plain".into(), revpos: 0, data };
    doc(1).with_attachment("f", attachment)
}

#[tokio::test]
async fn an_upload_outlives_a_compaction_for_an_hour() {
    for (_, store, _dir) in stores() {
        let [_, bytes] = small_and_large();
        let db = database(&store).await;
        let early = staged(&db, &bytes).await;
        let report = db.compact(CompactOptions { gently: false, ..Default::default() }).await;
        assert_eq!(report.unwrap().attachments, 0);
        assert_eq!(db.check().await.unwrap().unnamed_attachments, 1);
        let written = db.put(naming(early)).await.expect("it is still there").rev;
        assert_eq!(bytes_of(&db, "doc", "f").await, bytes);
        assert_eq!(db.check().await.unwrap().unnamed_attachments, 0);

        let other: Bytes = [&bytes[..], b"!"].concat().into();
        let late = staged(&db, &other).await;
        assert_eq!(compact(&db).await.attachments, 1);
        let refused = db.put(naming(late).with_rev(written)).await.unwrap_err();
        let missing = matches!(refused, StoreError::Refused(DocError::MissingStub { .. }));
        assert!(missing, "{refused}");
        assert_eq!(bytes_of(&db, "doc", "f").await, bytes);
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn a_sweep_alone_leaves_old_bodies() {
    for (_, store, _dir) in stores() {
        let [_, bytes] = small_and_large();
        let db = database(&store).await;
        let first = db.put(doc(1)).await.unwrap().rev;
        db.put(doc(2).with_rev(first.clone())).await.unwrap();
        staged(&db, &bytes).await;
        let swept = db.sweep_attachments(CompactOptions::ALONE).await.unwrap();
        assert_eq!((swept.blobs, swept.bytes), (1, bytes.len() as u64));
        assert_eq!(read(&db, &first).await.unwrap().body, doc(1).body);
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn stubs_mean_what_compaction_left() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let [_, bytes] = small_and_large();
        let first = db.put(attached("doc", &bytes)).await.unwrap().rev;
        let stub = r#""_attachments":{"f":{"stub":true}}"#;
        let second = parse(&format!(r#"{{"_id":"doc","_rev":"{first}",{stub}}}"#));
        let second = db.put(second).await.unwrap().rev;
        assert_eq!(compact(&db).await.bodies, 1);
        // The revision that brought the bytes has no body, and the one that kept them has.
        let third = parse(&format!(r#"{{"_id":"doc","_rev":"{second}",{stub}}}"#));
        let third = db.put(third).await.unwrap().rev;
        assert_eq!(bytes_of(&db, "doc", "f").await, bytes);
        // A branch from the compacted revision finds the bytes by their digest in another leaf.
        let digest = db.attachment(&id("doc"), "f", None).await.unwrap().digest();
        let branch = |hash: &str, digest: &str| {
            let root = first.hash();
            parse(&format!(
                r#"{{"_id":"doc","_rev":"2-{hash}","_revisions":{{"start":2,"ids":["{hash}","{root}"]}},
                "_attachments":{{"f":{{"stub":true,"revpos":1,"digest":"{digest}"}}}}}}"#
            ))
        };
        let written = replicate(&db, vec![branch("bb", &digest.to_string())]).await.remove(0);
        assert_eq!(bytes_of_rev(&db, "doc", &written.unwrap().rev).await, bytes);
        db.purge(&[(id("doc"), vec![third, rev("2-bb")])]).await.unwrap();
        assert_eq!(compact(&db).await.attachments, 1);
        let refused = replicate(&db, vec![branch("cc", &digest.to_string())]).await.remove(0);
        let error = refused.unwrap_err().error;
        assert!(matches!(error, DocError::MissingStub { .. }), "{error}");
    }
}

const WRITERS: usize = 8;
const DOCS: usize = 50;
/// Edits that each writer makes at least, and compactions that go by meanwhile at least.
const EDITS: usize = 40;
const COMPACTIONS: usize = 5;

/// Edits all documents in turn; answers the revisions that were acknowledged.
async fn write(
    db: Database,
    writer: usize,
    compactions: watch::Receiver<usize>,
) -> Vec<(usize, Rev)> {
    let mut acknowledged = Vec::new();
    for edit in 0.. {
        if edit >= EDITS && *compactions.borrow() >= COMPACTIONS {
            break;
        }
        let n = (writer * 7 + edit) % DOCS;
        let doc_id = id(&format!("doc{n}"));
        let known = db.get(&doc_id, &GetOptions::default()).await;
        let body = serde_json::json!({ "writer": writer, "edit": edit });
        let document = Document::new(doc_id.as_str(), &body).unwrap();
        let document = Document { rev: known.ok().and_then(|doc| doc.rev), ..document };
        match db.put(document).await {
            Ok(written) => acknowledged.push((n, written.rev)),
            Err(StoreError::Refused(DocError::Conflict)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_beside_compaction_lose_nothing() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let compactions = watch::Sender::new(0);
        let writers = (0..WRITERS)
            .map(|writer| tokio::spawn(write(db.clone(), writer, compactions.subscribe())));
        let mut writing = futures::future::join_all(writers);
        let acknowledged = loop {
            if let Some(done) = (&mut writing).now_or_never() {
                break done;
            }
            db.compact(CompactOptions::ALONE).await.expect("it is compacted beside writers");
            compactions.send_modify(|compactions| *compactions += 1);
        };
        let mut known = HashSet::new();
        for n in 0..DOCS {
            let doc_id = id(&format!("doc{n}"));
            for leaf in leaves(&db, &doc_id).await {
                known.extend(history(&db, &doc_id, &leaf).await.into_iter().map(|rev| (n, rev)));
            }
        }
        let acknowledged = acknowledged.into_iter().flat_map(|writer| writer.unwrap());
        let acknowledged: Vec<_> = acknowledged.map(|(n, rev)| (n, rev.to_string())).collect();
        assert!(acknowledged.len() > DOCS, "{}", acknowledged.len());
        for written in acknowledged {
            assert!(known.contains(&written), "{written:?} was acknowledged and is lost");
        }
        compact(&db).await;
    }
}

#[tokio::test(start_paused = true)]
async fn compaction_keeps_its_pace() {
    let db = database(&settee::Store::memory()).await;
    for n in 0..200 {
        let text = "x".repeat(10_000);
        let first = Document::new(&format!("d{n}"), &serde_json::json!({ "t": text })).unwrap();
        let rev = db.put(first).await.unwrap().rev;
        let second = Document::new(&format!("d{n}"), &serde_json::json!({ "n": n })).unwrap();
        db.put(second.with_rev(rev)).await.unwrap();
    }
    let info = db.info().await.unwrap();
    let old = info.body_bytes - info.leaf_bytes;
    let began = tokio::time::Instant::now();
    let options = CompactOptions { bytes_per_second_max: Some(100_000), ..CompactOptions::ALONE };
    let report = db.compact(options).await.unwrap();
    assert_eq!(report.body_bytes, old);
    // The last step of each part is not waited for.
    let (took, least) = (began.elapsed().as_secs_f64(), old as f64 / 100_000.0);
    assert!(took > least * 0.4 && took < least * 1.1, "{took}");
}
