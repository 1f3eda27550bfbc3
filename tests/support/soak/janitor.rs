//! Who makes each round's documents, deletes them some rounds later, and purges them at last.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{ADMIN, DATABASES, Phase, ROUNDS_KEPT, ROUNDS_NOT_PURGED, Stage};

/// Documents of a round without and with attachments.
const DOCS: usize = 12;
const FILES: usize = 4;

const LOOK_MS: u64 = 1_000;

/// As many as the gateway purges with one sync of the disk.
const PURGED_AT_ONCE: usize = 100;

/// Purges come together: each makes a backup of the database begin anew.
const ROUNDS_UNTIL_PURGED: u64 = 6;

/// Makes the databases that everybody edits.
pub async fn make_databases(stage: &Stage) {
    for database in DATABASES {
        let (status, _) =
            stage.ask(ADMIN, Method::PUT, &format!("/{database}"), None).await.expect("it is up");
        assert_eq!(status, 201, "{database}");
        let index = json!({"index": {"fields": ["made"]}, "ddoc": "by-made", "name": "by-made"});
        let path = format!("/{database}/_index");
        let (status, _) =
            stage.ask(ADMIN, Method::POST, &path, Some(&index)).await.expect("it is up");
        assert_eq!(status, 200, "{path}");
    }
}

/// Makes each round's documents until the storm is over.
pub async fn make(stage: &Stage) {
    let mut made = BTreeSet::new();
    loop {
        make_rounds(stage, &mut made).await;
        if !stage.sleeps_in_storm(LOOK_MS).await {
            return;
        }
    }
}

/// Tidies until all is over; in the calm nothing is purged.
pub async fn tidy(stage: &Stage) {
    while *stage.phase.borrow() != Phase::Over {
        for database in DATABASES {
            sweep(stage, database).await;
        }
        tokio::select! {
            () = sleep(Duration::from_millis(LOOK_MS)) => {}
            () = stage.until(Phase::Over) => {}
        }
    }
}

/// The documents of this round and of the next, once.
async fn make_rounds(stage: &Stage, made: &mut BTreeSet<(&'static str, u64)>) {
    let now = stage.round();
    made.retain(|(_, round)| *round >= now);
    for (database, round) in DATABASES.iter().flat_map(|name| [(*name, now), (*name, now + 1)]) {
        if made.contains(&(database, round)) {
            continue;
        }
        let plain = (0..DOCS).map(|n| json!({"_id": format!("r{round}-d{n}"), "made": round}));
        let files = (0..FILES).map(|n| {
            let file = json!({"content_type": "text/plain", "data": "bWFkZQ=="});
            json!({"_id": format!("r{round}-f{n}"), "made": round, "_attachments": {"file": file}})
        });
        let docs: Vec<Value> = plain.chain(files).collect();
        // Those of a request whose answer was lost are conflicts the next time.
        if bulk_docs(stage, database, docs).await.is_some() {
            made.insert((database, round));
            stage.count("rounds made", 1);
        }
    }
}

async fn bulk_docs(stage: &Stage, database: &str, docs: Vec<Value>) -> Option<Value> {
    let path = format!("/{database}/_bulk_docs");
    stage.json(Method::POST, &path, Some(&json!({ "docs": docs }))).await
}

/// Deletes what is old and open, and purges what is older; `None` if the gateway was away.
async fn sweep(stage: &Stage, database: &str) -> Option<()> {
    let path = format!("/{database}/_changes?style=all_docs");
    let changes = stage.json(Method::GET, &path, None).await?;
    let rows = changes["results"].as_array().expect("a list of changes");
    let purges = stage.is_storm() && stage.round().is_multiple_of(ROUNDS_UNTIL_PURGED);
    let mut open = Vec::new();
    let mut purged = serde_json::Map::new();
    for row in rows {
        let id = row["id"].as_str().expect("a document's id");
        if id.starts_with('_') || stage.age(id) <= ROUNDS_KEPT {
            continue;
        }
        if row["deleted"] != true {
            open.push(json!({ "id": id }));
        } else if purges && stage.age(id) > ROUNDS_NOT_PURGED {
            let leaves = row["changes"].as_array().expect("a list of leaves");
            let revs: Vec<&Value> = leaves.iter().map(|leaf| &leaf["rev"]).collect();
            purged.insert(id.to_owned(), json!(revs));
        }
    }
    if !open.is_empty() {
        let tombstones = tombstones(stage, database, open).await?;
        stage.count("leaves deleted with their round", tombstones.len());
        bulk_docs(stage, database, tombstones).await?;
    }
    let purged: Vec<(String, Value)> = purged.into_iter().collect();
    for some in purged.chunks(PURGED_AT_ONCE) {
        let path = format!("/{database}/_purge");
        let some: serde_json::Map<String, Value> = some.iter().cloned().collect();
        let (status, body) = stage.ask(ADMIN, Method::POST, &path, Some(&json!(some))).await?;
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        stage.count("documents purged", some.len());
    }
    Some(())
}

/// Tombstones for all open leaves of some documents.
async fn tombstones(stage: &Stage, database: &str, docs: Vec<Value>) -> Option<Vec<Value>> {
    let path = format!("/{database}/_bulk_get");
    let answer = stage.json(Method::POST, &path, Some(&json!({ "docs": docs }))).await?;
    let results = answer["results"].as_array().expect("a list of documents").iter();
    let leaves = results.flat_map(|result| result["docs"].as_array().expect("a list of leaves"));
    let open = leaves.map(|leaf| &leaf["ok"]).filter(|leaf| leaf["_deleted"] != true);
    let tombstone =
        |leaf: &Value| json!({"_id": leaf["_id"], "_rev": leaf["_rev"], "_deleted": true});
    Some(open.map(tombstone).collect())
}
