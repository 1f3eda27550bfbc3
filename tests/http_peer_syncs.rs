//! A local database and a gateway over CouchDB's HTTP API become equal.

#[path = "support/syncing.rs"]
mod syncing;
#[path = "support/web.rs"]
mod web;

use std::sync::{Arc, Mutex};

use settee::doc::Attachment;
use settee::http_peer::{HttpOptions, Remote, sync};
use settee::replicate::{Direction, Directions, Lifetime, LocalPeer, Peer as _, replicate};
use settee::server::{AccessRequest, Denied, Gateway, GatewayBuilder, Grant, ProposedWrite};
use settee::store::{BulkGetOptions, OpenRevs};
use settee::{Database, Document, Selector, Store, SyncState};
use syncing::*;
use web::{Web, json, quick};

fn gateway(store: &Store) -> GatewayBuilder {
    Gateway::builder(store.clone()).authorizer(|request: AccessRequest| async move {
        match request.credentials["password"].as_str().or(request.credentials["token"].as_str()) {
            Some("secret") => Ok(Grant::database(request.database).creating()),
            _ => Err(Denied::new("not allowed")),
        }
    })
}

async fn served() -> (Database, Web) {
    let store = Store::memory();
    let there = store.create(&name("shared")).await.unwrap();
    (there, Web::gateway(gateway(&store)).await.1)
}

fn remote(web: &Web) -> Remote {
    format!("http://anna:secret@{}/shared", web.address).parse().unwrap()
}

fn one_shot_options(directions: Directions) -> HttpOptions {
    quick(directions, Lifetime::OneShot)
}

#[tokio::test]
async fn both_sides_become_equal_in_both_directions() {
    let (there, web) = served().await;
    let here = local().await;
    fill(&here, "here", 700).await;
    fill(&there, "there", 700).await;
    put(&here, "both", "here").await;
    put(&there, "both", "there").await;
    for (db, id) in [(&here, "here5"), (&there, "there5")] {
        delete(db, id).await;
    }
    attach(&here, "small", "a b/ü.txt", "few bytes").await;
    attach(&there, "large", "file", vec![7; 200_000]).await;
    let ended =
        Watched::new(sync(&here, remote(&web), one_shot_options(Directions::Both))).ended().await;
    let summary = ended.summary();
    assert_eq!(summary.push.unwrap().doc_write_failures, 0);
    assert_equal(&here, &there).await;
    assert_eq!(attached(&here, "large", "file").await.len(), 200_000);
    assert_eq!(attached(&there, "small", "a b/ü.txt").await, "few bytes");
    let again = sync(&here, remote(&web), one_shot_options(Directions::Both)).finished().await;
    let again = again.unwrap();
    assert_eq!((again.push.unwrap().docs_read, again.pull.unwrap().docs_read), (0, 0));
}

#[tokio::test]
async fn tombstones_travel_and_conflicts_keep_their_leaves() {
    let (there, web) = served().await;
    let here = local().await;
    put(&here, "gone", "1").await;
    put(&here, "torn", "here").await;
    put(&there, "torn", "there").await;
    sync(&here, remote(&web), one_shot_options(Directions::Both)).finished().await.unwrap();
    delete(&here, "gone").await;
    put(&there, "torn", "more").await;
    sync(&here, remote(&web), one_shot_options(Directions::Both)).finished().await.unwrap();
    assert_eq!(text(&there, "gone").await, None);
    for db in [&here, &there] {
        let leaves = db.open_revs(&id("torn"), &OpenRevs::All, BulkGetOptions::default()).await;
        assert_eq!(leaves.unwrap().len(), 2);
    }
    assert_equal(&here, &there).await;
}

#[tokio::test]
async fn a_later_edit_sends_only_the_attachments_that_are_new() {
    let (there, web) = served().await;
    let here = local().await;
    attach(&here, "doc", "large", vec![1; 300_000]).await;
    sync(&here, remote(&web), one_shot_options(Directions::PushOnly)).finished().await.unwrap();
    attach(&here, "doc", "other", vec![2; 300_000]).await;
    sync(&here, remote(&web), one_shot_options(Directions::PushOnly)).finished().await.unwrap();
    assert_equal(&here, &there).await;
    // A target that has only the newest revision lacks the older attachment, and gets it.
    let (other, other_web) = served().await;
    sync(&here, remote(&other_web), one_shot_options(Directions::PushOnly))
        .finished()
        .await
        .unwrap();
    assert_equal(&here, &other).await;
}

#[tokio::test]
async fn a_live_sync_goes_on_until_it_is_cancelled() {
    let (there, web) = served().await;
    let here = local().await;
    put(&there, "before", "1").await;
    let mut live = Watched::new(sync(&here, remote(&web), quick(Directions::Both, Lifetime::Live)));
    live.up_to_date().await.unwrap();
    assert_eq!(text(&here, "before").await.as_deref(), Some("1"));
    put(&there, "pulled", "1").await;
    put(&here, "pushed", "1").await;
    until_text(&here, "pulled", "1").await;
    until_text(&there, "pushed", "1").await;
    live.up_to_date().await.unwrap();
    let ended = live.stop().await;
    assert_eq!(ended.times_written(Direction::Pull, "pulled"), 1);
    assert_eq!(ended.times_written(Direction::Push, "pushed"), 1);
    assert!(ended.summary().cancelled);
    assert_equal(&here, &there).await;
}

#[tokio::test]
async fn a_live_sync_survives_a_server_that_goes_and_comes() {
    let store = Store::memory();
    let there = store.create(&name("shared")).await.unwrap();
    let (_, web) = Web::gateway(gateway(&store)).await;
    let address = web.address.clone();
    let here = local().await;
    put(&here, "first", "1").await;
    let mut live = Watched::new(sync(&here, remote(&web), quick(Directions::Both, Lifetime::Live)));
    live.up_to_date().await.unwrap();
    drop(web);
    put(&here, "meanwhile", "1").await;
    until_state(&live, SyncState::Offline).await;
    let listener = tokio::net::TcpListener::bind(&address).await.unwrap();
    let again = gateway(&store).build().unwrap();
    let serving = tokio::spawn(async move {
        again.serve(listener, std::future::pending()).await;
    });
    until_text(&there, "meanwhile", "1").await;
    live.up_to_date().await.unwrap();
    assert_equal(&here, &there).await;
    drop(live);
    serving.abort();
}

#[tokio::test]
async fn what_narrows_a_sync_narrows_it_over_http() {
    let (there, web) = served().await;
    let here = local().await;
    fill(&there, "d", 20).await;
    let mut options = one_shot_options(Directions::PullOnly);
    options.replication.doc_ids = Some(vec![id("d3"), id("d4"), id("none")]);
    sync(&here, remote(&web), options.clone()).finished().await.unwrap();
    assert_eq!(count_of(&here).await, 2);
    options.replication.doc_ids = None;
    let small = serde_json::json!({"n": {"$lt": 5}});
    options.replication.selector = Some(Selector::from_value(&small).unwrap());
    sync(&here, remote(&web), options.clone()).finished().await.unwrap();
    assert_eq!(count_of(&here).await, 5);
    // Both: only what both let pass.
    let other = local().await;
    options.replication.doc_ids = Some(vec![id("d3"), id("d9")]);
    sync(&other, remote(&web), options).finished().await.unwrap();
    assert_eq!((count_of(&other).await, text(&other, "d3").await.is_some()), (1, true));
}

#[tokio::test]
async fn refused_documents_are_told_and_do_not_hold_up_others() {
    let store = Store::memory();
    let there = store.create(&name("shared")).await.unwrap();
    let open = Arc::new(Mutex::new(false));
    let opened = Arc::clone(&open);
    let builder = Gateway::builder(store).authorizer(move |request: AccessRequest| {
        let opened = Arc::clone(&opened);
        async move {
            let judge = move |write: &ProposedWrite<'_>| {
                let bad = write.document.id.as_str().starts_with("bad");
                if bad && !*opened.lock().unwrap() {
                    Err(Denied::forbidden("it is bad"))
                } else {
                    Ok(())
                }
            };
            Ok(Grant::database(request.database).validator(judge))
        }
    });
    let (_, web) = Web::gateway(builder).await;
    let here = local().await;
    fill(&here, "good", 3).await;
    put(&here, "bad", "1").await;
    attach(&here, "bad too", "file", vec![1; 100_000]).await;
    let sync_once = || sync(&here, web.remote("shared"), one_shot_options(Directions::PushOnly));
    let first = Watched::new(sync_once()).ended().await;
    let mut denied: Vec<_> =
        first.denied.iter().map(|d| (d.id.to_string(), d.error.status)).collect();
    denied.sort();
    assert_eq!(denied, [("bad".to_owned(), 403), ("bad too".to_owned(), 403)]);
    assert!(first.denied.iter().all(|denied| denied.error.reason == "it is bad"));
    assert_eq!(count_of(&there).await, 3);
    *open.lock().unwrap() = true;
    let second = sync_once().finished().await.unwrap();
    assert_eq!(second.push.unwrap().docs_written, 2);
    assert_equal(&here, &there).await;
}

#[tokio::test]
async fn a_database_is_made_only_where_that_is_asked_for() {
    let store = Store::memory();
    let (_, web) = Web::gateway(gateway(&store)).await;
    let here = local().await;
    put(&here, "x", "1").await;
    let options = one_shot_options(Directions::PushOnly);
    let refused = sync(&here, remote(&web), options.clone()).finished().await.unwrap_err();
    assert!(refused.to_string().contains("not exist"), "{refused}");
    sync(&here, remote(&web), HttpOptions { create: true, ..options }).finished().await.unwrap();
    let there = store.database(&name("shared")).await.unwrap();
    assert_equal(&here, &there).await;
}

#[tokio::test]
async fn a_checkpoint_over_http_is_the_one_over_a_websocket() {
    let store = Store::memory();
    let there = store.create(&name("shared")).await.unwrap();
    let (_, web) = Web::gateway(gateway(&store)).await;
    let here = local().await;
    fill(&there, "d", 30).await;
    replicate(&here, &there, Default::default()).finished().await.unwrap();
    let summary = sync(&here, remote(&web), one_shot_options(Directions::Both)).finished().await;
    let summary = summary.unwrap();
    assert_eq!((summary.push.unwrap().docs_read, summary.pull.unwrap().docs_read), (0, 0));
}

#[tokio::test]
async fn a_part_that_a_grant_shows_is_another_replication() {
    let store = Store::memory();
    let there = store.create(&name("shared")).await.unwrap();
    fill(&there, "d", 10).await;
    let all = Arc::new(Mutex::new(false));
    let widened = Arc::clone(&all);
    let builder = Gateway::builder(store).authorizer(move |request: AccessRequest| {
        let all = *widened.lock().unwrap();
        async move {
            let grant = Grant::database(request.database);
            let part = Selector::from_value(&serde_json::json!({"n": {"$lt": 4}})).unwrap();
            Ok(if all { grant } else { grant.selector(part) })
        }
    });
    let (_, web) = Web::gateway(builder).await;
    let here = local().await;
    let pull = || sync(&here, web.remote("shared"), one_shot_options(Directions::PullOnly));
    pull().finished().await.unwrap();
    assert_eq!(count_of(&here).await, 4);
    *all.lock().unwrap() = true;
    pull().finished().await.unwrap();
    assert_eq!(count_of(&here).await, 10, "what was hidden before was not passed over");
}

#[tokio::test]
async fn many_attachments_of_one_document_travel() {
    let (there, web) = served().await;
    let here = local().await;
    let mut document = Document::new("many", &serde_json::json!({})).unwrap();
    for n in 0..80 {
        let bytes = vec![n; if n % 2 == 0 { 40_000 } else { 10 }];
        document = document
            .with_attachment(format!("file {n}"), Attachment::inline("application/x-n", bytes));
    }
    here.put(document).await.unwrap();
    sync(&here, remote(&web), one_shot_options(Directions::PushOnly)).finished().await.unwrap();
    assert_equal(&here, &there).await;
    let back = local().await;
    sync(&back, remote(&web), one_shot_options(Directions::PullOnly)).finished().await.unwrap();
    assert_equal(&back, &there).await;
}

#[tokio::test]
async fn what_is_deleted_during_a_first_live_pull_is_deleted_here() {
    let (there, web) = served().await;
    let here = local().await;
    put(&there, "gone", "1").await;
    let options = quick(Directions::PullOnly, Lifetime::Live);
    let mut live = Watched::new(sync(&here, remote(&web), options));
    live.up_to_date().await.unwrap();
    delete(&there, "gone").await;
    put(&there, "after", "1").await;
    until_text(&here, "after", "1").await;
    assert_eq!(text(&here, "gone").await, None);
    live.stop().await;
}

/// A database that takes whatever is pushed.
#[derive(Default)]
struct Taking {
    checkpoint: Option<String>,
    pushed: String,
    fails: bool,
}

impl Taking {
    fn answer(&mut self, first: &str, body: &str) -> Vec<u8> {
        let missing = || json(404, r#"{"error":"not_found","reason":"missing"}"#);
        if first.starts_with("GET /db HTTP") {
            return json(200, r#"{"db_name":"db","uuid":"00000000000000000000000000000001"}"#);
        }
        if first.starts_with("GET /db/_local") {
            return self.checkpoint.as_ref().map_or_else(missing, |text| json(200, text));
        }
        if std::mem::take(&mut self.fails) {
            return json(503, r#"{"error":"busy","reason":"it restarts"}"#);
        }
        if first.starts_with("PUT /db/_local") {
            self.checkpoint = Some(body.to_owned());
        } else if first.contains("_revs_diff") {
            let asked: serde_json::Value = serde_json::from_str(body).unwrap();
            let asked = asked.as_object().unwrap().iter();
            let rows = asked.map(|(id, revs)| (id.clone(), serde_json::json!({ "missing": revs })));
            return json(200, &serde_json::Value::Object(rows.collect()).to_string());
        } else if first.contains("_bulk_docs") {
            self.pushed.push_str(body);
            return json(201, "[]");
        }
        json(201, r#"{"ok":true}"#)
    }
}

#[tokio::test]
async fn a_remote_that_is_made_anew_gets_everything_again() {
    let (state, mut seen) = tokio::sync::watch::channel(Taking::default());
    let state = Arc::new(state);
    let answering = Arc::clone(&state);
    let web = Web::scripted(move |first, body| {
        let mut answer = Vec::new();
        answering.send_modify(|state| answer = state.answer(first, body));
        answer
    })
    .await;
    let here = local().await;
    put(&here, "early", "1").await;
    let options = HttpOptions { request_retries: 0, ..quick(Directions::PushOnly, Lifetime::Live) };
    let live = Watched::new(sync(&here, web.remote("db"), options));
    seen.wait_for(|state| state.checkpoint.is_some()).await.unwrap();
    // The source's half of the checkpoint is written after this one.
    put(&here, "between", "1").await;
    seen.wait_for(|state| state.pushed.contains("between")).await.unwrap();
    state.send_modify(|state| *state = Taking { fails: true, ..Taking::default() });
    put(&here, "late", "1").await;
    let all =
        |state: &Taking| ["early", "between", "late"].iter().all(|id| state.pushed.contains(id));
    let again = tokio::time::timeout(std::time::Duration::from_secs(60), seen.wait_for(all));
    again.await.expect("everything is pushed").unwrap();
    drop(live);
}

#[tokio::test]
async fn large_documents_are_read_a_few_at_a_time_and_all_arrive() {
    let (here, there) = (local().await, local().await);
    let mut wanted = Vec::new();
    for n in 0..5 {
        wanted
            .push((id(&format!("d{n}")), put(&here, &format!("d{n}"), &"x".repeat(3 << 20)).await));
    }
    let first = LocalPeer(here.clone()).fetch(wanted).await.unwrap();
    assert_eq!((first.docs.len(), first.rest.len()), (3, 2));
    replicate(&here, &there, one_shot_options(Directions::Both).replication)
        .finished()
        .await
        .unwrap();
    assert_equal(&here, &there).await;
}
