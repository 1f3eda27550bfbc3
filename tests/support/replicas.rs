//! Whether replicas are equal, and waiting until they are.
#![allow(dead_code, reason = "each test file uses some of these")]

use std::collections::BTreeMap;
use std::time::Duration;

use settee::doc::LocalDocument;
use settee::store::{BulkGetOptions, ChangesOptions, OpenRev, OpenRevs, Style};
use settee::{Database, Store, Sync};
use tokio::time::timeout;

/// Longest time to become equal; only a failing test waits so long.
const EQUAL_WAIT: Duration = Duration::from_secs(90);

/// Every leaf of every document with its history and attachments, as JSON.
pub async fn contents(db: &Database) -> Vec<String> {
    let options = BulkGetOptions { revs: true, attachments: true, ..Default::default() };
    let mut lines = Vec::new();
    for id in db.ids(None, usize::MAX).await.expect("ids can be listed") {
        let leaves = db.open_revs(&id, &OpenRevs::All, options).await.expect("leaves can be read");
        for leaf in leaves {
            let OpenRev::Found(document) = leaf else { panic!("{id} lacks a body: {leaf:?}") };
            lines.push(document.to_json());
        }
    }
    lines
}

/// What each database of a store holds: [`contents`] and then its local documents.
pub async fn everything(store: &Store) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for name in store.names(None, usize::MAX).await.expect("names can be listed") {
        let db = store.database(&name).await.expect("a listed database is there");
        let mut lines = contents(&db).await;
        let locals = db.locals(None, usize::MAX).await.expect("local documents can be read");
        lines.extend(locals.iter().map(LocalDocument::to_json));
        all.insert(name.to_string(), lines);
    }
    all
}

/// All leaves, by id.
pub async fn leaves(db: &Database) -> Vec<String> {
    let options = ChangesOptions { style: Style::AllDocs, ..Default::default() };
    let rows = db.changes(&options).await.expect("changes can be read").rows;
    let mut leaves: Vec<String> =
        rows.into_iter().map(|row| format!("{} {:?}", row.id, row.leaves)).collect();
    leaves.sort_unstable();
    leaves
}

/// Waits until two live syncs with one gateway have made their databases equal.
pub async fn until_equal(a: (&Database, &mut Sync), b: (&Database, &mut Sync)) {
    let (db_a, sync_a) = a;
    let (db_b, sync_b) = b;
    let (mut status_a, mut status_b) = (sync_a.watch_status(), sync_b.watch_status());
    let equal = async {
        loop {
            // What changes from here on wakes the wait below.
            status_a.mark_unchanged();
            status_b.mark_unchanged();
            sync_a.up_to_date().await.expect("the sync goes on");
            sync_b.up_to_date().await.expect("the sync goes on");
            if leaves(db_a).await == leaves(db_b).await {
                return;
            }
            tokio::select! {
                changed = status_a.changed() => changed.expect("the sync goes on"),
                changed = status_b.changed() => changed.expect("the sync goes on"),
            }
        }
    };
    let in_time = timeout(EQUAL_WAIT, equal).await.is_ok();
    assert!(in_time, "not equal in time: {:?} and {:?}", sync_a.status(), sync_b.status());
}
