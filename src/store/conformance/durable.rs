//! What only a backend with a disk has: reopening, the lock, leftovers, failed flushes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::blobs::{bytes, read, stage};
use super::make::{Editor, all_docs, body, changes, create, id, name};
use super::open_sled;
use crate::store::backend::{Backend, Commit, DatabaseKey, Order, ReadBody, ReadDoc};
use crate::store::memory::MemoryBackend;
use crate::store::{SledBackend, StoreError};

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn names_in(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).expect("the directory is there");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.map(|entry| name(entry.expect("an entry"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reopening_keeps_everything() {
    let dir = dir();
    let mut editor = Editor::default();
    let store = open_sled(dir.path());
    let record = store.create_database(&name("todos")).await.expect("it is made");
    let db = record.key;
    let big = editor.edit("big", &["1-a"], false, body("big", 300_000));
    editor.commit(&store, db, vec![editor.put("a", &["1-a"]), big]).await;
    editor.commit(&store, db, vec![editor.put("a", &["2-b", "1-a"])]).await;
    let staged = stage(&store, db, &bytes(100_000)).await;
    let before = async |store: &SledBackend| {
        let page = changes(store, db, 0, 99, Order::Ascending).await;
        let docs = store.docs(db, all_docs(ReadBody::Winner)).await.expect("they are listed");
        (store.uuid(), store.counts(db).await.expect("counts are read"), page, docs)
    };
    let expected = before(&store).await;
    store.close().await.expect("it closes");
    for _ in 0..3 {
        let store = open_sled(dir.path());
        assert_eq!(before(&store).await, expected);
        assert_eq!(
            store.database(&name("todos")).await.expect("it is looked up"),
            Some(record.clone())
        );
        assert_eq!(*store.watch(db).borrow(), 3);
        assert!(read(&store, db, &staged.blob.key).await == Some(bytes(100_000)));
        store.close().await.expect("it closes");
    }
    let store = open_sled(dir.path());
    assert_ne!(create(&store, "other").await, db);
    assert_eq!(editor.commit(&store, db, vec![editor.put("c", &["1-a"])]).await, [4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_open_once() {
    let dir = dir();
    let store = open_sled(dir.path());
    let second = SledBackend::open(dir.path());
    assert!(
        matches!(&second, Err(StoreError::Locked { path }) if path == dir.path()),
        "{second:?}"
    );
    store.close().await.expect("it closes");
    open_sled(dir.path()).close().await.expect("it closes");
}

/// A child has the lock, with all other files of its parent, until it becomes its program.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_opens_again_while_children_are_begun() {
    let dir = dir();
    let ended = Arc::new(AtomicBool::new(false));
    let beginning = std::thread::spawn({
        let ended = Arc::clone(&ended);
        move || {
            while !ended.load(Ordering::SeqCst) {
                Command::new("true").status().expect("a child runs");
            }
        }
    });
    let mut refused = None;
    for _ in 0..50 {
        match SledBackend::open(dir.path()) {
            Ok(store) => store.close().await.expect("it closes"),
            Err(error) => refused = Some(error),
        }
    }
    ended.store(true, Ordering::SeqCst);
    beginning.join().expect("it ends");
    assert!(refused.is_none(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_store_finishes_and_gives_the_directory_back() {
    let dir = dir();
    let store = open_sled(dir.path());
    let db = create(&store, "todos").await;
    let call = store.commit(db, vec![Editor::default().put("a", &["1-a"])]);
    let mut call = Box::pin(call);
    // The first poll queues the request; nobody waits for its answer.
    assert!(futures::poll!(&mut call).is_pending());
    drop(call);
    drop(store);
    let reopened = loop {
        match SledBackend::open(dir.path()) {
            Ok(store) => break store,
            Err(StoreError::Locked { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(reopened.counts(db).await.expect("counts are read").docs, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_written_snapshot_is_removed() {
    let dir = dir();
    open_sled(dir.path()).close().await.expect("it closes");
    let half = dir.path().join("sled/snap.00000000000000FF.generating");
    fs::write(&half, b"half").expect("it is written");
    open_sled(dir.path()).close().await.expect("it closes");
    assert!(!half.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lost_its_data_is_not_taken_for_a_fresh_one() {
    let dir = dir();
    open_sled(dir.path()).close().await.expect("it closes");
    let sled_dir = dir.path().join("sled");
    for name in names_in(&sled_dir).into_iter().filter(|name| name.starts_with("snap.")) {
        fs::remove_file(sled_dir.join(name)).expect("it is removed");
    }
    let data = fs::read(sled_dir.join("db")).expect("it is read");
    fs::write(sled_dir.join("db"), vec![0; data.len()]).expect("it is written");
    let opened = SledBackend::open(dir.path());
    let Err(StoreError::Damaged { what }) = opened else { panic!("{opened:?}") };
    assert!(what.contains("sled"), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_attachments_leave_nothing() {
    let dir = dir();
    let store = open_sled(dir.path());
    let db = create(&store, "todos").await;
    let mut writer = store.write_blob(db).await.expect("a writer is given");
    writer.write(bytes(100_000).into()).await.expect("a piece is taken");
    let temporary = dir.path().join("blobs/tmp");
    assert_eq!(names_in(&temporary).len(), 1);
    drop(writer);
    assert!(names_in(&temporary).is_empty());
    store.close().await.expect("it closes");
    fs::write(temporary.join("0000000000000000"), b"left").expect("it is written");
    open_sled(dir.path()).close().await.expect("it closes");
    assert!(names_in(&temporary).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sled_never_makes_files_of_its_own_for_values() {
    let dir = dir();
    let store = open_sled(dir.path());
    let db = create(&store, "todos").await;
    let mut editor = Editor::default();
    for turn in 1..=3 {
        for n in 0..60 {
            let old = format!("{}-a", turn - 1);
            let path: &[&str] = if turn == 1 { &["1-a"] } else { &[&format!("{turn}-a"), &old] };
            let size = [4_000, 24_000, 25_000, 100_000][n % 4];
            let doc =
                editor.edit(&format!("{n:03}{}", "k".repeat(1_000)), path, false, body("x", size));
            editor.commit(&store, db, vec![doc]).await;
        }
    }
    store.close().await.expect("it closes");
    assert!(names_in(&dir.path().join("sled/blobs")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn destroyed_databases_give_back_rows_and_files() {
    let dir = dir();
    let store = open_sled(dir.path());
    let db = create(&store, "todos").await;
    let mut editor = Editor::default();
    let docs = (0..500).map(|n| editor.put(&format!("d{n}"), &["1-a"])).collect();
    editor.commit(&store, db, docs).await;
    stage(&store, db, &bytes(100_000)).await;
    let files = dir.path().join("blobs").join(format!("{:08x}", db.0));
    assert_eq!(names_in(&files).len(), 1);
    store.destroy_database(&name("todos")).await.expect("it is destroyed");
    // Whatever the first process did not get to is done by the later ones.
    while store_rows(&store).await > 4 {
        tokio::task::yield_now().await;
    }
    assert!(!files.exists());
    store.close().await.expect("it closes");
    let store = open_sled(dir.path());
    assert_eq!(store_rows(&store).await, 4, "version, uuid, last key and group are left");
}

async fn store_rows(store: &SledBackend) -> usize {
    store.row_count().await.expect("rows are counted")
}

async fn check_poison(store: &dyn Backend, db: DatabaseKey, editor: &Editor) {
    let failed = store.commit(db, vec![editor.put("b", &["1-a"])]).await;
    assert!(matches!(failed, Err(StoreError::Io { .. })), "{failed:?}");
    let later = store.commit(db, vec![editor.put("c", &["1-a"])]).await;
    assert!(matches!(later, Err(StoreError::Poisoned)), "{later:?}");
    let create = store.create_database(&name("other")).await;
    assert!(matches!(create, Err(StoreError::Poisoned)), "{create:?}");
    let found =
        store.read(db, &[id("a")], ReadDoc::whole(ReadBody::Winner)).await.expect("reads go on");
    assert!(found[0].is_some());
    assert_eq!(store.counts(db).await.expect("reads go on").update_seq, 1);
    assert!(matches!(store.close().await, Err(StoreError::Io { .. })));
    assert!(matches!(store.counts(db).await, Err(StoreError::Closed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_flush_ends_all_writing() {
    let mut editor = Editor::default();
    let memory = MemoryBackend::new();
    let db = create(&memory, "todos").await;
    editor.commit(&memory, db, vec![editor.put("a", &["1-a"])]).await;
    memory.fail_next_flush();
    check_poison(&memory, db, &editor).await;

    let dir = dir();
    let store = open_sled(dir.path());
    let mut editor = Editor::default();
    let db = create(&store, "todos").await;
    editor.commit(&store, db, vec![editor.put("a", &["1-a"])]).await;
    store.fail_next_flush();
    check_poison(&store, db, &editor).await;
    let reopened = open_sled(dir.path());
    let commit = reopened.commit(db, vec![editor.put("z", &["1-a"])]).await;
    assert!(matches!(commit, Ok(Commit::Done(_))), "{commit:?}");
}
