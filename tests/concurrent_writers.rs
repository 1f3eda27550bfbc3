//! Writers of the same documents never lose an update.

mod support;

use settee::store::{DocError, EditMode, GetOptions};
use settee::{Database, Document, StoreError};
use support::documents::{assert_sound, database, id, update_seq};
use support::stores::stores;

const TASKS: u64 = 16;
const DOCS: u64 = 20;
const ROUNDS: u64 = 5;

#[derive(serde::Serialize, serde::Deserialize)]
struct Counter {
    count: u64,
}

async fn increment(db: &Database, name: &str) {
    loop {
        let mut document = match db.get(&id(name), &GetOptions::default()).await {
            Ok(document) => document,
            Err(StoreError::DocMissing { .. }) => {
                Document::new(name, &Counter { count: 0 }).unwrap()
            }
            Err(error) => panic!("{error}"),
        };
        let count = document.to::<Counter>().unwrap().count + 1;
        document.body = settee::doc::Body::from_value(&Counter { count }).unwrap();
        match db.put(document).await {
            Ok(_) => return,
            Err(StoreError::Refused(DocError::Conflict)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_increment_is_lost() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let tasks = (0..TASKS).map(|task| {
            let db = db.clone();
            tokio::spawn(async move {
                for step in 0..DOCS * ROUNDS {
                    increment(&db, &format!("d{}", (step + task) % DOCS)).await;
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        for doc in 0..DOCS {
            let read = db.get(&id(&format!("d{doc}")), &GetOptions::default()).await.unwrap();
            assert_eq!(read.to::<Counter>().unwrap().count, TASKS * ROUNDS);
            assert_eq!(read.rev.unwrap().generation(), TASKS * ROUNDS);
        }
        assert_eq!(update_seq(&db).await, TASKS * ROUNDS * DOCS);
        assert_sound(&db).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_first_writers_one_wins_each_document() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let tasks = (0..TASKS).map(|task| {
            let db = db.clone();
            tokio::spawn(async move {
                let doc = |n| Document::new(&format!("d{n}"), &Counter { count: task }).unwrap();
                db.bulk_docs((0..DOCS).map(doc).collect(), EditMode::Edit).await.unwrap()
            })
        });
        let mut written = 0;
        for task in tasks.collect::<Vec<_>>() {
            written += task.await.unwrap().iter().filter(|outcome| outcome.is_ok()).count() as u64;
        }
        assert_eq!((written, update_seq(&db).await), (DOCS, DOCS));
        assert_sound(&db).await;
    }
}
