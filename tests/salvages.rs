//! What is left of a damaged data directory becomes a new one, and what is missing is told.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/directories.rs"]
mod directories;
#[path = "support/replicas.rs"]
mod replicas;
#[path = "support/soundness.rs"]
mod soundness;

use std::fs;
use std::path::{Path, PathBuf};

use binary::{arg, settee};
use directories::{copy, files};
use replicas::everything;
use serde_json::json;
use settee::doc::Attachment;
use settee::{Database, DbName, Document, Store, StoreError};
use soundness::check_sound;
use tempfile::{TempDir, tempdir};

/// Too long for a row: it is in a file.
const LARGE: usize = 50_000;

fn name(name: &str) -> DbName {
    DbName::parse(name).expect("a name of a database")
}

async fn put(db: &Database, id: &str, text: &str) {
    let doc = Document::new(id, &json!({ "text": text })).expect("a document");
    db.put(doc).await.expect("it is written");
}

/// A directory as a killed process leaves it, in which these documents were written one by one.
struct Left {
    dir: TempDir,
    data: PathBuf,
}

impl Left {
    async fn new(write: impl AsyncFnOnce(&Store)) -> Self {
        let dir = tempdir().unwrap();
        let live = dir.path().join("live");
        let data = dir.path().join("data");
        let store = Store::open(&live).unwrap();
        write(&store).await;
        copy(&live, &data);
        store.close().await.unwrap();
        Self { dir, data }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Turns a bit of a text wherever it stands in sled's log.
    fn damage_log(&self, text: &str) {
        let path = self.data.join("sled/db");
        let mut bytes = fs::read(&path).unwrap();
        let all = bytes.windows(text.len()).enumerate();
        let places: Vec<usize> =
            all.filter(|(_, window)| *window == text.as_bytes()).map(|(place, _)| place).collect();
        assert!(!places.is_empty(), "{text} is not in the log");
        places.into_iter().for_each(|place| bytes[place] ^= 1);
        fs::write(&path, bytes).unwrap();
    }
}

/// Each file and what is in it.
fn bytes(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(dir).into_iter().map(|path| (path.clone(), fs::read(dir.join(path)).unwrap())).collect()
}

async fn ids(dir: &Path, database: &str) -> Vec<String> {
    let store = Store::open(dir).unwrap();
    check_sound(&store).await.unwrap();
    let db = store.database(&name(database)).await.unwrap();
    let ids = db.ids(None, usize::MAX).await.unwrap();
    drop(db);
    store.close().await.unwrap();
    ids.into_iter().map(|id| id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_is_left_out_and_told() {
    let left = Left::new(async |store| {
        let db = store.create(&name("todos")).await.unwrap();
        put(&db, "first", "kept").await;
        put(&db, "last", "a text that is torn").await;
    })
    .await;
    left.damage_log("a text that is torn");
    let failure = settee(&["check", arg(&left.data)]).failure();
    assert!(failure.contains("groups of writes were acknowledged"), "{failure}");
    assert!(failure.contains("settee salvage"), "{failure}");

    let (before, new) = (bytes(&left.data), left.path("new"));
    let salvaged = settee(&["salvage", arg(&left.data), arg(&new)]);
    assert_eq!(salvaged.code, Some(1));
    let told = "todos: 1 documents\nlost: the last 1 of ";
    assert!(salvaged.stdout.starts_with(told), "{}", salvaged.stdout);
    assert_eq!(bytes(&left.data), before, "the damaged directory stays as it is");
    assert_eq!(ids(&new, "todos").await, ["first"]);
    assert!(!files(&new).iter().any(|file| file.starts_with("damaged")), "{:?}", files(&new));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_whole_comes_back_as_it_is() {
    let left = Left::new(async |store| {
        for database in ["todos", "with/slash"] {
            let db = store.create(&name(database)).await.unwrap();
            for n in 0..250 {
                put(&db, &format!("d{n}"), "text").await;
            }
            let local = settee::doc::LocalId::parse("mine", 1024).unwrap();
            let body = r#"{"kept": true}"#;
            let body = settee::doc::Body::parse(body, &settee::Limits::default()).unwrap();
            db.set_local(&local, body).await.unwrap();
            let attached = Attachment::inline("text/plain", "x".repeat(LARGE));
            let doc = Document::new("file", &json!({})).unwrap().with_attachment("f", attached);
            let written = db.put(doc).await.unwrap();
            let edited = Document::new("d7", &json!({"edited": true})).unwrap();
            let seven = db.get(&edited.id, &Default::default()).await.unwrap();
            db.put(edited.with_rev(seven.rev.unwrap())).await.unwrap();
            db.delete(&written.id, written.rev).await.unwrap();
        }
    })
    .await;
    let new = left.path("new");
    // Which of sled's stores it was does not matter, as long as there is something in it.
    fs::write(left.data.join("lock"), "0".repeat(32)).unwrap();
    let told = settee(&["salvage", arg(&left.data), arg(&new)]).ok();
    assert!(told.starts_with("todos: 251 documents\nwith/slash: 251 documents\n"), "{told}");
    assert!(told.contains("are known to be acknowledged"), "{told}");
    let [old, new] = [&left.path("live"), &new].map(|dir| Store::open(dir).unwrap());
    check_sound(&new).await.unwrap();
    assert_eq!(everything(&new).await, everything(&old).await);
    assert_ne!(new.uuid(), old.uuid());
    let [was, is] = [old, new]
        .map(|store| async move { store.database(&name("todos")).await.unwrap().incarnation() });
    assert_ne!(is.await, was.await, "a seq that a client kept must not count");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_whose_attachment_is_damaged_is_left_out_by_name() {
    let left = Left::new(async |store| {
        let db = store.create(&name("files")).await.unwrap();
        for (id, letter) in [("gone", "g"), ("other", "o"), ("torn", "t"), ("whole", "w")] {
            let attached = Attachment::inline("text/plain", letter.repeat(LARGE));
            let doc = Document::new(id, &json!({})).unwrap().with_attachment("f", attached);
            db.put(doc).await.unwrap();
        }
    })
    .await;
    for file in files(&left.data.join("blobs")) {
        let path = left.data.join("blobs").join(file);
        match fs::read(&path).unwrap().first() {
            Some(b'g') => fs::remove_file(&path).unwrap(),
            Some(b'o') => fs::write(&path, "p".repeat(LARGE)).unwrap(),
            Some(b't') => fs::write(&path, "t".repeat(LARGE - 1)).unwrap(),
            _ => {}
        }
    }
    let new = left.path("new");
    let salvaged = Store::salvage(&left.data, &new).await.unwrap();
    let [database] = &salvaged.databases[..] else { panic!("{salvaged:?}") };
    assert_eq!(database.docs, 1);
    let lost: Vec<&str> =
        database.lost.iter().map(|lost| lost.id.as_ref().unwrap().as_str()).collect();
    assert_eq!(lost, ["gone", "other", "torn"]);
    assert!(database.lost[0].to_string().contains("are missing"), "{}", database.lost[0]);
    assert_eq!(ids(&new, "files").await, ["whole"]);
    let check = settee(&["check", arg(&new)]).ok();
    assert_eq!(check, "files: sound (1 documents, 1 revisions, 1 attachments read)\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_salvaged_is_refused() {
    let left = Left::new(async |store| {
        put(&store.create(&name("todos")).await.unwrap(), "d", "text").await;
    })
    .await;
    let new = left.path("new");
    let store = Store::open(&left.data).unwrap();
    let failed = Store::salvage(&left.data, &new).await.unwrap_err();
    assert!(matches!(failed, StoreError::Locked { .. }), "{failed}");
    store.close().await.unwrap();

    let failed = Store::salvage(&left.data, &left.path("live")).await.unwrap_err();
    assert!(failed.to_string().contains("new data directory"), "{failed}");
    let failed = Store::salvage(left.path("nowhere"), left.path("unmade")).await.unwrap_err();
    assert!(failed.to_string().contains("damaged data directory"), "{failed}");
    assert!(!left.path("unmade").exists());
    let failure = settee(&["salvage", arg(&left.path("nowhere")), arg(&new)]).failure();
    assert!(failure.contains("there is no store in it"), "{failure}");

    let sled = left.data.join("sled/db");
    let log = fs::read(&sled).unwrap();
    fs::write(&sled, vec![0xff; log.len()]).unwrap();
    let failure = settee(&["salvage", arg(&left.data), arg(&new)]).failure();
    assert!(failure.contains("nothing is salvaged"), "{failure}");
    // It is told from one that is whole, and is begun anew.
    let failure = settee(&["check", arg(&new)]).failure();
    assert!(failure.contains("was not finished"), "{failure}");
    fs::write(&sled, log).unwrap();
    settee(&["salvage", arg(&left.data), arg(&new)]).ok();
    assert_eq!(ids(&new, "todos").await, ["d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sled_panics_over_is_told_in_one_line() {
    let left = Left::new(async |store| {
        let db = store.create(&name("todos")).await.unwrap();
        for n in 0..400 {
            put(&db, &format!("d{n:03}"), &format!("{n:020000}")).await;
        }
    })
    .await;
    let sled = left.data.join("sled/db");
    let mut log = fs::read(&sled).unwrap();
    let middle = log.len() / 2;
    log[middle - 100_000..middle + 100_000].fill(0);
    fs::write(&sled, log).unwrap();
    // sled's pages do not fit together without what is gone.
    let failure = settee(&["salvage", arg(&left.data), arg(&left.path("new"))]).failure();
    assert!(failure.contains("nothing is salvaged"), "{failure}");
}
