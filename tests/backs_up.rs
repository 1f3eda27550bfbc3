//! A backup that was taken while everything is written to is each database as it was at one seq, and
//! an archive that is not whole is not restored.
#![cfg(feature = "sled")]

#[path = "support/random.rs"]
mod random;
#[path = "support/replicas.rs"]
mod replicas;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures::StreamExt as _;
use random::{Random, seed, setting};
use replicas::{contents, everything};
use serde_json::{Value, json};
use settee::doc::{Attachment, Body, LocalId};
use settee::store::{
    Backup, BackupError, BackupOptions, CompactOptions, EditMode, Manifest, RestoreOptions,
    Restored, Style,
};
use settee::{Database, DbName, Document, Limits, Store, StoreError};
use support::documents::{assert_sound, id, parse, replicated};
use tempfile::tempdir;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

fn name(name: &str) -> DbName {
    DbName::parse(name).unwrap()
}

async fn rest_of(mut backup: Backup, mut archive: Vec<u8>) -> Vec<u8> {
    while let Some(piece) = backup.next().await {
        archive.extend_from_slice(&piece.unwrap());
    }
    archive
}

async fn whole(store: &Store) -> Vec<u8> {
    rest_of(store.backup(BackupOptions::default()), Vec::new()).await
}

async fn since(store: &Store, earlier: &[u8]) -> Vec<u8> {
    let since = Some(Manifest::read(earlier).unwrap());
    rest_of(store.backup(BackupOptions { since, ..BackupOptions::default() }), Vec::new()).await
}

async fn restore(dir: &Path, archives: &[&[u8]]) -> Result<Restored, StoreError> {
    let archives = archives.iter().map(|bytes| std::io::Cursor::new(bytes.to_vec())).collect();
    Store::restore(dir, archives, RestoreOptions::default()).await
}

async fn restored(archives: &[&[u8]]) -> (Store, tempfile::TempDir) {
    let dir = tempdir().unwrap();
    restore(dir.path(), archives).await.expect("it is restored");
    let store = Store::open(dir.path()).expect("it is whole");
    for name in store.names(None, usize::MAX).await.unwrap() {
        assert_sound(&store.database(&name).await.unwrap()).await;
    }
    (store, dir)
}

async fn put(db: &Database, id: &str, body: &Value) {
    db.put(Document::new(id, body).unwrap()).await.unwrap();
}

async fn set_local(db: &Database, id: &str, body: &Value) {
    let body = Body::parse(&body.to_string(), &Limits::default()).unwrap();
    db.set_local(&LocalId::parse(id, 1024).unwrap(), body).await.unwrap();
}

/// A write that was acknowledged: its seq, its document, the leaf it took the place of, and its own.
type Acknowledged = (u64, String, Option<String>, String);

/// Writes one document after another, 500 in a second, until it is told to stop.
async fn write(db: Database, seed: u64, mut stop: oneshot::Receiver<()>) -> Vec<Acknowledged> {
    let mut random = Random::new(seed);
    let mut ticks = interval(Duration::from_millis(2));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut leaves: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut log = Vec::new();
    while stop.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        ticks.tick().await;
        let id = format!("w{}-{}", seed, random.of(0..200));
        let of_doc = leaves.entry(id.clone()).or_default();
        let text = random.text(200);
        let branch = !of_doc.is_empty() && random.one_in(10) && of_doc.len() < 20;
        let parent = (!branch && !of_doc.is_empty()).then(|| random.below(of_doc.len()));
        let parent = parent.map(|place| of_doc.swap_remove(place));
        let written = if branch {
            let hash = format!("{:032x}", random.next());
            let doc = json!({"_id": id, "_rev": format!("1-{hash}"), "text": text});
            db.bulk_docs(vec![parse(&doc.to_string())], EditMode::Replicated)
                .await
                .unwrap()
                .remove(0)
        } else {
            let mut doc = json!({"_id": id, "text": text, "_deleted": random.one_in(8)});
            if parent.is_none() {
                doc["_deleted"] = json!(false);
            }
            parent.iter().for_each(|parent| doc["_rev"] = json!(parent));
            db.bulk_docs(vec![parse(&doc.to_string())], EditMode::Edit).await.unwrap().remove(0)
        };
        let written = written.unwrap();
        let rev = written.rev.to_string();
        of_doc.push(rev.clone());
        log.push((written.seq.expect("it changed").number, id, parent, rev));
    }
    log
}

/// The leaves of each document after all writes up to a seq.
fn model(log: &[Acknowledged], seq: u64) -> BTreeMap<String, BTreeSet<String>> {
    let mut docs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, id, parent, rev) in log.iter().filter(|(at, ..)| *at <= seq) {
        let leaves = docs.entry(id.clone()).or_default();
        parent.iter().for_each(|parent| assert!(leaves.remove(parent), "{id} {parent}"));
        leaves.insert(rev.clone());
    }
    docs
}

#[tokio::test(flavor = "multi_thread")]
async fn each_database_is_as_it_was_at_its_seq() {
    const FILLING: u64 = 4_000;
    let (dir, seed) = (tempdir().unwrap(), seed());
    println!("SETTEE_SEED={seed}");
    let store = Store::open(dir.path()).unwrap();
    let db = store.create(&name("busy")).await.unwrap();
    for chunk in 0..FILLING / 500 {
        let doc = |n| Document::new(&format!("f{chunk}-{n}"), &json!({"n": n})).unwrap();
        let written = db.bulk_docs((0..500).map(doc).collect(), EditMode::Edit).await.unwrap();
        assert!(written.iter().all(Result::is_ok));
    }
    let began = db.info().await.unwrap().update_seq.number;
    let (stops, writers): (Vec<_>, Vec<_>) = (0..2)
        .map(|n| {
            let (stop, stopped) = oneshot::channel();
            (stop, tokio::spawn(write(db.clone(), seed.wrapping_add(n), stopped)))
        })
        .unzip();
    let mut written = store.updates();
    // Documents that are read first and change while the rest is read.
    let mut archives = Vec::new();
    for round in 0..4 {
        let mut backup = store.backup(BackupOptions {
            since: archives.last().map(|earlier: &Vec<u8>| Manifest::read(&**earlier).unwrap()),
            ..BackupOptions::default()
        });
        let first = backup.next().await.unwrap().unwrap();
        put(&db, &format!("during-{round}"), &json!({})).await;
        let so_far = db.info().await.unwrap().update_seq.number;
        while db.info().await.unwrap().update_seq.number < so_far + 50 {
            // It says how many it left out where it was slow.
            drop(written.next().await.expect("the store is open"));
        }
        archives.push(rest_of(backup, first.to_vec()).await);
    }
    stops.into_iter().for_each(|stop| stop.send(()).unwrap());
    let mut log = Vec::new();
    for writer in writers {
        log.extend(writer.await.unwrap());
    }
    log.sort_unstable();
    let last = db.info().await.unwrap().update_seq.number;
    assert!(last > began + 100, "it was written to meanwhile");
    for count in 1..=archives.len() {
        let given: Vec<&[u8]> = archives[..count].iter().map(Vec::as_slice).collect();
        let dir = tempdir().unwrap();
        let report = restore(dir.path(), &given).await.unwrap();
        let seq = report.databases[&name("busy")].seq;
        assert!(seq > began && seq <= last, "{began} {seq} {last}");
        let store = Store::open(dir.path()).unwrap();
        let copy = store.database(&name("busy")).await.unwrap();
        assert_sound(&copy).await;
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in contents(&copy).await {
            let doc: Value = serde_json::from_str(&line).unwrap();
            let text = |member: &str| doc[member].as_str().unwrap().to_owned();
            if text("_id").starts_with('w') {
                found.entry(text("_id")).or_default().insert(text("_rev"));
                assert_eq!(text("text").len(), 200);
            }
        }
        assert_eq!(found, model(&log, seq), "as at {seq}");
        assert_eq!(copy.info().await.unwrap().doc_count, doc_count(&copy).await);
        store.close().await.unwrap();
    }
}

async fn doc_count(db: &Database) -> u64 {
    let options = settee::store::ChangesOptions { style: Style::MainOnly, ..Default::default() };
    let rows = db.changes(&options).await.unwrap().rows;
    rows.iter().filter(|row| !row.deleted()).count() as u64
}

/// Some of everything, in three databases.
async fn filled(store: &Store) {
    let mut random = Random::new(1);
    for database in ["a", "b", "empty"] {
        let db = store.create(&name(database)).await.unwrap();
        set_local(&db, "settings", &json!({"of": database})).await;
        let checkpoint =
            json!({"last_seq": "1-0000000000000000", "session_id": "s", "history": []});
        set_local(&db, "abc==", &checkpoint).await;
    }
    let db = store.database(&name("a")).await.unwrap();
    db.set_revs_limit(7.try_into().unwrap()).await.unwrap();
    db.set_security(Some(r#"{"admins":{"names":["anna"],"roles":[]}}"#.into())).await.unwrap();
    for (n, length) in [(0, 0), (1, 10), (2, 40_000), (3, 300_000), (4, 10)] {
        let bytes = if n == 4 { "x".repeat(10) } else { random.text(length) };
        let doc = Document::new(&format!("with-{n}"), &json!({"n": n})).unwrap();
        let same = Attachment::inline("text/plain", "in all");
        let doc = doc.with_attachment("own", Attachment::inline("text/plain", bytes));
        db.put(doc.with_attachment("same", same)).await.unwrap();
    }
    let db = store.database(&name("b")).await.unwrap();
    for n in 0..300 {
        put(&db, &format!("d{n}"), &json!({"text": random.text(n * 20)})).await;
    }
    let branched = ["3-c", "2-b", "1-a"];
    let docs = vec![
        replicated("branched", &branched, false),
        replicated("branched", &["2-z", "1-a"], true),
        replicated("gone", &["2-b", "1-a"], true),
        replicated("deep", &["400-b", "399-a"], false),
    ];
    let written = db.bulk_docs(docs, EditMode::Replicated).await.unwrap();
    assert!(written.iter().all(Result::is_ok));
    let long = Document::new("long", &json!({"text": random.text(700_000)})).unwrap();
    let mut rev = db.put(long).await.unwrap().rev;
    for n in 0..200 {
        let next = Document::new("long", &json!({"n": n})).unwrap().with_rev(rev);
        rev = db.put(next).await.unwrap().rev;
    }
}

/// What a store holds but for checkpoints.
async fn held(store: &Store) -> BTreeMap<String, Vec<String>> {
    let mut all = everything(store).await;
    all.values_mut().for_each(|lines| lines.retain(|line| !line.contains("session_id")));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_and_clients_notice() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    filled(&store).await;
    let archive = whole(&store).await;
    let (copy, _dir) = restored(&[&archive]).await;
    assert_eq!(held(&copy).await, held(&store).await);
    for database in ["a", "b", "empty"] {
        let old = store.database(&name(database)).await.unwrap();
        let new = copy.database(&name(database)).await.unwrap();
        assert_eq!((new.revs_limit(), new.security()), (old.revs_limit(), old.security()));
        assert_ne!(new.incarnation(), old.incarnation(), "seqs of the old one do not count");
        let locals = new.locals(None, usize::MAX).await.unwrap();
        assert_eq!(locals.len(), 1, "checkpoints stay behind");
    }
    // The copy is backed up as well as the original was.
    let (again, _dir) = restored(&[&whole(&copy).await]).await;
    assert_eq!(held(&again).await, held(&store).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_follow_on_a_whole_archive_in_their_order() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    filled(&store).await;
    let base = whole(&store).await;
    let (a, b) = (name("a"), name("b"));
    let db = store.database(&b).await.unwrap();
    put(&db, "new", &json!({"after": "base"})).await;
    let written = db.put(Document::new("edited", &json!({"n": 1})).unwrap()).await.unwrap();
    set_local(&db, "more", &json!({"n": 1})).await;
    let first = since(&store, &base).await;
    assert!(first.len() * 10 < base.len(), "{} of {}", first.len(), base.len());

    let second = Document::new("edited", &json!({"n": 2})).unwrap().with_rev(written.rev);
    db.put(second).await.unwrap();
    db.purge(&[(id("gone"), vec![support::documents::rev("2-b")])]).await.unwrap();
    let local = db.local(&LocalId::parse("more", 99).unwrap()).await.unwrap().unwrap();
    db.put_local(settee::doc::LocalDocument { deleted: true, ..local }).await.unwrap();
    store.destroy(&a).await.unwrap();
    let anew = store.create(&a).await.unwrap();
    put(&anew, "only", &json!({})).await;
    store.destroy(&name("empty")).await.unwrap();
    store.create(&name("made")).await.unwrap();
    let second = since(&store, &first).await;

    let (copy, _dir) = restored(&[&base, &first, &second]).await;
    assert_eq!(held(&copy).await, held(&store).await);
    let (copy, _dir) = restored(&[&base, &first]).await;
    let mut lines = held(&copy).await;
    assert_eq!(lines.len(), 3);
    assert!(lines.remove("b").unwrap().iter().any(|line| line.contains("after")));

    let refused = async |archives: &[&[u8]]| {
        let dir = tempdir().unwrap();
        let error = restore(dir.path(), archives).await.expect_err("it is refused");
        let opened = Store::open(dir.path()).expect_err("nothing half is opened");
        assert!(matches!(opened, StoreError::Unfinished { .. }), "{opened}");
        let StoreError::Backup(error) = error else { panic!("{error}") };
        error
    };
    assert!(matches!(refused(&[]).await, BackupError::Nothing));
    assert!(matches!(refused(&[&first]).await, BackupError::WrongBase { .. }));
    assert!(matches!(refused(&[&base, &second]).await, BackupError::WrongBase { .. }));
    assert!(matches!(refused(&[&base, &base]).await, BackupError::NotAnIncrement { .. }));
    let other = Store::memory();
    let earlier = Some(Manifest::read(&*base).unwrap());
    let mut backup = other.backup(BackupOptions { since: earlier, ..BackupOptions::default() });
    let error = backup.next().await.unwrap().expect_err("it is of another store");
    assert!(matches!(error, StoreError::Backup(BackupError::OtherStore { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_or_destroyed_meanwhile_is_not_in_the_archive() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut random = Random::new(3);
    for database in ["first", "second"] {
        let db = store.create(&name(database)).await.unwrap();
        for n in 0..200 {
            put(&db, &format!("d{n:03}"), &json!({"text": random.text(3_000)})).await;
        }
    }
    let mut backup = store.backup(BackupOptions::default());
    let piece = backup.next().await.unwrap().unwrap();
    let first = store.database(&name("first")).await.unwrap();
    let rev = first.get(&id("d000"), &Default::default()).await.unwrap().rev.unwrap();
    first.purge(&[(id("d000"), vec![rev])]).await.unwrap();
    store.destroy(&name("second")).await.unwrap();
    let archive = rest_of(backup, piece.to_vec()).await;
    let (copy, _dir) = restored(&[&archive]).await;
    assert_eq!(held(&copy).await, held(&store).await);
    assert!(held(&copy).await["first"].iter().all(|line| !line.contains("\"d000\"")));

    let mut backup = store.backup(BackupOptions::default());
    let piece = backup.next().await.unwrap().unwrap();
    store.destroy(&name("first")).await.unwrap();
    let archive = rest_of(backup, piece.to_vec()).await;
    let (copy, _dir) = restored(&[&archive]).await;
    assert_eq!(copy.names(None, 9).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_takes_nothing_that_a_backup_is_about_to_read() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let db = store.create(&name("db")).await.unwrap();
    let mut random = Random::new(5);
    for n in 0..100 {
        put(&db, &format!("d{n}"), &json!({"text": random.text(5_000)})).await;
    }
    let before = held(&store).await;
    let mut backup = store.backup(BackupOptions::default());
    // The documents were read together; their bodies are read as the archive is.
    let piece = backup.next().await.unwrap().unwrap();
    let compacting = tokio::spawn({
        let db = db.clone();
        async move { db.compact(CompactOptions::default()).await }
    });
    for n in 0..100 {
        let doc = db.get(&id(&format!("d{n}")), &Default::default()).await.unwrap();
        let next = Document::new(&format!("d{n}"), &json!({"n": n})).unwrap();
        db.put(next.with_rev(doc.rev.unwrap())).await.unwrap();
    }
    assert!(!compacting.is_finished(), "it waits for the backup");
    let archive = rest_of(backup, piece.to_vec()).await;
    assert_eq!(compacting.await.unwrap().unwrap().bodies, 100);
    let (copy, _dir) = restored(&[&archive]).await;
    assert!(held(&copy).await == before, "the bodies of its seq");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_attachment_that_is_written_meanwhile_is_restored() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let db = store.create(&name("db")).await.unwrap();
    // So many that they are not read at one moment, and so few that they are restored together.
    for n in 0..200 {
        put(&db, &format!("{n:03}"), &json!({"text": "x".repeat(5_000)})).await;
    }
    let mut backup = store.backup(BackupOptions::default());
    let first = backup.next().await.expect("it begins").unwrap().to_vec();
    let document = db.get(&id("000"), &Default::default()).await.unwrap();
    let edited = Document::new("000", &json!({})).unwrap().with_rev(document.rev.unwrap());
    let small = Attachment::inline("text/plain", "small");
    db.put(edited.with_attachment("file", small)).await.unwrap();
    let archive = rest_of(backup, first).await;
    let (copy, _dir) = restored(&[&archive]).await;
    assert_eq!(held(&copy).await, held(&store).await);
}

#[tokio::test(start_paused = true)]
async fn a_backup_keeps_its_pace() {
    let store = Store::memory();
    let db = store.create(&name("db")).await.unwrap();
    let mut random = Random::new(4);
    for n in 0..100 {
        put(&db, &format!("d{n}"), &json!({"text": random.text(10_000)})).await;
    }
    let began = tokio::time::Instant::now();
    let bytes = whole(&store).await.len();
    assert_eq!(began.elapsed(), Duration::ZERO);
    let options = BackupOptions { bytes_per_second_max: Some(100_000), ..BackupOptions::default() };
    let backup = store.backup(options);
    assert_eq!(rest_of(backup, Vec::new()).await.len(), bytes);
    let (took, whole) = (began.elapsed().as_secs_f64(), bytes as f64 / 100_000.0);
    assert!((whole - 2.0..=whole).contains(&took), "{took}");
}

/// What a damaged archive is, and what was done to it.
fn damage(archive: &[u8], random: &mut Random) -> (Vec<u8>, String) {
    let mut bytes = archive.to_vec();
    let at = random.below(bytes.len());
    let what = match random.of(0..5) {
        0 => {
            bytes.truncate(at);
            format!("cut at {at}")
        }
        1 => {
            bytes.drain(at..(at + 1 + random.below(500)).min(archive.len()));
            format!("bytes are missing at {at}")
        }
        2 => {
            bytes.extend_from_slice(&archive[at..]);
            format!("what is from {at} comes twice")
        }
        _ => {
            let bit = random.of(0..8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} is flipped")
        }
    };
    (bytes, what)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_archive_is_refused_by_name() {
    let (images, seed) = (setting("SETTEE_IMAGES", 200), seed());
    println!("SETTEE_SEED={seed}");
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    filled(&store).await;
    let base = whole(&store).await;
    put(&store.database(&name("b")).await.unwrap(), "new", &json!({})).await;
    let more = since(&store, &base).await;
    let expected = held(&store).await;
    let to = tempdir().unwrap();
    let target = to.path().join("data");
    let mut random = Random::new(seed);
    for image in 0..images {
        let (archives, what) = if image % 4 == 0 {
            let (more, what) = damage(&more, &mut random);
            ([base.clone(), more], format!("changes: {what}"))
        } else {
            let (base, what) = damage(&base, &mut random);
            ([base, more.clone()], what)
        };
        let given: Vec<&[u8]> = archives.iter().map(Vec::as_slice).collect();
        match restore(&target, &given).await {
            Ok(_) => {
                let copy = Store::open(&target).unwrap();
                assert_eq!(held(&copy).await, expected, "image {image}: {what}");
                panic!("image {image}: {what}: no damage goes unnoticed");
            }
            Err(StoreError::Backup(error)) => {
                let named = format!("{error}");
                assert!(named.contains("backup"), "image {image}: {what}: {named}");
            }
            Err(error) => panic!("image {image}: {what}: {error}"),
        }
        let opened = Store::open(&target).expect_err("nothing half is opened");
        assert!(matches!(opened, StoreError::Unfinished { .. }), "{opened}");
    }
    restore(&target, &[&base, &more]).await.expect("an unfinished restore is begun anew");
    let copy = Store::open(&target).unwrap();
    assert_eq!(held(&copy).await, expected);
    copy.close().await.unwrap();
    let error = restore(&target, &[&base]).await.expect_err("there is a store");
    assert!(error.to_string().contains("empty directory"), "{error}");
    assert_eq!(held(&Store::open(&target).unwrap()).await, expected, "nothing has happened to it");
}

/// An archive whose reader says when it is begun, and goes on when it is told.
struct Held {
    begun: Option<oneshot::Sender<()>>,
    go_on: std::sync::mpsc::Receiver<()>,
    archive: std::io::Cursor<Vec<u8>>,
}

impl std::io::Read for Held {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Some(begun) = self.begun.take() {
            begun.send(()).expect("the test waits for it");
            self.go_on.recv().expect("the test tells it");
        }
        self.archive.read(buffer)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_restored_to_by_one_at_a_time() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    filled(&store).await;
    let archive = whole(&store).await;
    let to = tempdir().unwrap();
    let (begun, has_begun) = oneshot::channel();
    let (tell, go_on) = std::sync::mpsc::channel();
    let archive_held = std::io::Cursor::new(archive.clone());
    let first = Held { begun: Some(begun), go_on, archive: archive_held };
    let path = to.path().to_owned();
    let first =
        tokio::spawn(
            async move { Store::restore(path, vec![first], RestoreOptions::default()).await },
        );
    has_begun.await.expect("it begins");
    let error = restore(to.path(), &[&archive]).await.expect_err("the other one runs");
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    let error = Store::open(to.path()).expect_err("it has not finished");
    assert!(matches!(error, StoreError::Unfinished { .. }), "{error}");
    tell.send(()).expect("it waits");
    first.await.unwrap().expect("nobody has disturbed it");
    let copy = Store::open(to.path()).expect("it is whole");
    assert_eq!(held(&copy).await, held(&store).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_database_can_be_restored_alone() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    filled(&store).await;
    let archive = std::io::Cursor::new(whole(&store).await);
    let to = tempdir().unwrap();
    let options = RestoreOptions { only: vec![name("b")] };
    let report = Store::restore(to.path(), vec![archive], options).await.unwrap();
    assert_eq!(report.databases.keys().collect::<Vec<_>>(), [&name("b")]);
    let copy = Store::open(to.path()).unwrap();
    let held_there = held(&copy).await;
    assert_eq!(held_there.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(held_there["b"], held(&store).await["b"]);
}
