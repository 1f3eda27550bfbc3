//! Ephemeral databases: in memory, for as long as somebody is there.

#[path = "support/hooks.rs"]
mod hooks;
#[path = "support/http.rs"]
mod http;
#[path = "support/legacy.rs"]
mod legacy;
#[path = "support/raw.rs"]
mod raw;

use futures::StreamExt as _;
use hooks::{Hooks, Seen, hooked, name};
use http::{Api, token_gateway};
use legacy::Legacy;
use serde_json::{Value, json};
use settee::server::{AccessRequest, Denied, Gateway, GatewayBuilder, Grant};
use settee::{Client, Document, Limits, Store, SyncEvent, SyncOptions};

/// Databases whose names begin with `room-` are ephemeral, by grant.
fn rooms(limits: Limits) -> GatewayBuilder {
    let builder = Gateway::builder(Store::memory()).authorizer(|request: AccessRequest| async {
        let grant = Grant::database(request.database).destroying();
        let room = grant.database_name().as_str().starts_with("room-");
        Ok::<_, Denied>(if room { grant.ephemeral() } else { grant.creating() })
    });
    builder.limits(limits)
}

fn open(database: &str) -> Value {
    json!({"database": database, "credentials": {"token": "secret"}})
}

#[tokio::test]
async fn one_is_gone_some_time_after_its_last_client() {
    let api = Api::served(rooms(Limits { database_linger_ms: 100, ..Limits::default() }));
    let mut seen = Seen::of(&api);
    let mut socket = api.served.socket().await;
    socket.text(&json!(["open", 1, open("room-1")]).to_string()).await;
    let opened = socket.json().await;
    assert_eq!(opened[2]["info"]["ephemeral"], true, "{opened}");
    api.put("/room-1/milk", json!({"done": false})).await;
    let (mut legacy, stream) = Legacy::with_channel(&api.served, "room-1").await;
    let info = legacy.result(&stream, "_info", json!([])).await;
    assert_eq!(info["doc_count"], 1, "{info}");
    let described = api.get("/room-1").await.json();
    assert_eq!((&described["ephemeral"], &described["doc_count"]), (&json!(true), &json!(1)));
    let uuid = described["uuid"].clone();
    drop((socket, legacy));
    seen.until("-room-1 Idle").await;
    let described = api.get("/room-1").await.json();
    assert_eq!(described["doc_count"], 0, "{described}");
    assert_ne!(described["uuid"], uuid, "replicators must begin anew");
}

#[tokio::test]
async fn a_stored_database_does_not_say_that_it_is_ephemeral() {
    let api = Api::served(rooms(Limits::default()));
    assert_eq!(api.ask("PUT", "/todos", &[], b"").await.status, 201);
    assert!(api.get("/todos").await.json().get("ephemeral").is_none());
}

#[tokio::test]
async fn clients_sync_through_one_without_anything_stored() {
    let api = Api::served(rooms(Limits::default()));
    let gateway = &api.served.gateway;
    let client = || {
        let builder = Client::builder("ws://gateway").connector(api.served.connector.clone());
        builder.connect().unwrap()
    };
    let (anna, bert) = (client(), client());
    let (one, two) = (Store::memory(), Store::memory());
    let one = one.create(&name("own")).await.unwrap();
    let two = two.create(&name("own")).await.unwrap();
    let mut pushing = anna.sync(&one, SyncOptions::live("room-1"));
    let mut pulling = bert.sync(&two, SyncOptions::live("room-1"));
    pulling.up_to_date().await.unwrap();
    one.put(Document::new("milk", &json!({"done": true})).unwrap()).await.unwrap();
    loop {
        tokio::select! {
            _ = pushing.next() => {}
            event = pulling.next() => {
                if let Some(SyncEvent::Change(change)) = event && change.docs_written == 1 {
                    break;
                }
            }
        }
    }
    assert_eq!(two.info().await.unwrap().doc_count, 1);
    assert!(gateway.databases()[0].ephemeral);
    assert_eq!(gateway.store().names(None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn the_last_hook_may_save_what_one_holds() {
    let (saved, mut saving) = tokio::sync::mpsc::unbounded_channel();
    let (hooks, _called) = Hooks::new();
    let hooks = hooks.closing(move |closing| {
        let saved = saved.clone();
        Box::pin(async move {
            assert!(closing.ephemeral);
            let info = closing.database.info().await.unwrap();
            saved.send(info.doc_count).unwrap();
            Ok(())
        })
    });
    let limits = Limits { database_linger_ms: 0, ..Limits::default() };
    let api = Api::served(rooms(limits).life_cycle(hooks));
    let channel = api.served.channel(open("room-1")).await;
    api.put("/room-1/milk", json!({})).await;
    drop(channel);
    assert_eq!(saving.recv().await, Some(1));
}

#[tokio::test]
async fn a_refusal_of_the_second_hook_leaves_nothing_of_one() {
    let (hooks, _called) = Hooks::new();
    let first = std::sync::atomic::AtomicBool::new(true);
    let hooks = hooks.opened(move |database| {
        let refuse = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        Box::pin(async move {
            assert_eq!(database.info().await.unwrap().doc_count, 0);
            database.put(Document::new("a", &json!({})).unwrap()).await.unwrap();
            if refuse { Err(Denied::unavailable("once more")) } else { Ok(()) }
        })
    });
    let api = Api::served(rooms(Limits::default()).life_cycle(hooks));
    assert_eq!(api.get("/room-1").await.status, 503);
    assert_eq!(api.get("/room-1").await.json()["doc_count"], 1);
}

#[tokio::test]
async fn a_name_is_ephemeral_or_stored_and_never_both() {
    let builder =
        Gateway::builder(Store::memory()).authorizer(|request: AccessRequest| async move {
            let grant = Grant::database(request.database).creating();
            let memory = request.credentials["token"] == "memory";
            Ok::<_, Denied>(if memory { grant.ephemeral() } else { grant })
        });
    let api = Api::served(builder);
    let ask = async |method: &str, path: &str, token: &str| {
        api.ask(method, path, &[("Authorization", &format!("Bearer {token}"))], b"").await
    };
    assert_eq!(ask("PUT", "/stored", "disk").await.status, 201);
    let other = ask("GET", "/stored", "memory").await;
    other.assert_error("stored", 412, "file_exists", "ephemeral");
    assert_eq!(ask("PUT", "/room", "memory").await.status, 201);
    let other = ask("PUT", "/room", "disk").await;
    other.assert_error("ephemeral", 412, "file_exists", "ephemeral");
}

#[tokio::test]
async fn names_make_databases_ephemeral_whatever_the_grant() {
    let names = ["room-*".to_owned(), "scratch".to_owned()];
    let api = Api::served(token_gateway(Store::memory()).ephemeral(names));
    for (database, status) in [("room-1", 200), ("scratch", 200), ("rooms", 404)] {
        let answer = api.get(&format!("/{database}")).await;
        assert_eq!(answer.status, status, "{database}: {}", answer.text());
    }
    assert_eq!(api.get("/_all_dbs").await.json(), json!([]));
}

#[tokio::test]
async fn one_may_be_destroyed_and_made_again() {
    let api = Api::served(rooms(Limits::default()));
    api.put("/room-1/milk", json!({})).await;
    assert_eq!(api.ask("DELETE", "/room-1", &[], b"").await.status, 200);
    assert_eq!(api.ask("PUT", "/room-1", &[], b"").await.status, 201);
    assert_eq!(api.get("/room-1").await.json()["doc_count"], 0);
}

#[tokio::test]
async fn there_are_only_so_many_of_them() {
    let limits = Limits { ephemeral_databases_max: 2, ..Limits::default() };
    let api = Api::served(rooms(limits));
    for database in ["/room-1", "/room-2", "/room-1"] {
        assert_eq!(api.get(database).await.status, 200);
    }
    let refused = api.get("/room-3").await;
    refused.assert_error("one more", 503, "service_unavailable", "2 ephemeral databases");
    assert_eq!(api.ask("PUT", "/todos", &[], b"").await.status, 201);
}

#[tokio::test]
async fn their_memory_has_one_bound() {
    let limits =
        Limits { ephemeral_bytes_max: 100_000, database_linger_ms: 0, ..Limits::default() };
    let api = Api::served(rooms(limits));
    let mut seen = Seen::of(&api);
    let first = api.served.channel(open("room-1")).await;
    let _second = api.served.channel(open("room-2")).await;
    api.put("/room-1/a", json!({"text": "x".repeat(60_000)})).await;
    let full = "would be more";
    let over = json!({"text": "x".repeat(60_000)});
    let refused = api.json("PUT", "/room-2/a", over.clone()).await;
    refused.assert_error("a document", 507, "insufficient_storage", full);
    let bytes = "x".repeat(60_000).into_bytes();
    let refused = api.ask("PUT", "/room-2/b/file", &[], &bytes).await;
    refused.assert_error("an attachment", 507, "insufficient_storage", full);
    let refused = api.json("PUT", "/room-2/_local/a", over.clone()).await;
    refused.assert_error("a local document", 507, "insufficient_storage", full);
    api.put("/room-2/small", json!({})).await;
    drop(first);
    seen.until("-room-1 Idle").await;
    api.put("/room-2/a", over).await;
}

#[tokio::test]
async fn hooks_are_told_that_one_is_ephemeral() {
    let (hooks, _called) = Hooks::new();
    let hooks = hooks.opening(|opening| {
        let told = if opening.ephemeral { "memory" } else { "disk" };
        Box::pin(async move { Err(Denied::forbidden(told)) })
    });
    let (api, _errors) = hooked(hooks, Limits::default());
    api.get("/todos").await.assert_error("stored", 403, "forbidden", "disk");
    let (hooks, _called) = Hooks::new();
    let hooks = hooks.opening(|opening| {
        let told = format!("{} {}", opening.ephemeral, opening.create);
        Box::pin(async move { Err(Denied::forbidden(told)) })
    });
    let api = Api::served(rooms(Limits::default()).life_cycle(hooks));
    api.get("/room-1").await.assert_error("ephemeral", 403, "forbidden", "true true");
}
