//! Databases, clients and connections are told as they come and go, and so are errors nobody sees.

#[path = "support/hooks.rs"]
mod hooks;
#[path = "support/http.rs"]
mod http;
#[path = "support/legacy.rs"]
mod legacy;
#[path = "support/raw.rs"]
mod raw;

use std::sync::Arc;

use hooks::{Errors, Hooks, Seen, hooked, name};
use http::{Api, JSON, token_gateway};
use legacy::Legacy;
use serde_json::{Value, json};
use settee::server::{AccessRequest, Denied, Grant, IgnoredIn, ProposedWrite, ServerRequest};
use settee::store::MemoryBackend;
use settee::{Document, Gateway, Limits, Store};

fn open(database: &str) -> Value {
    json!({"database": database, "credentials": {"token": "secret"}})
}

#[tokio::test]
async fn databases_and_clients_come_and_go_in_one_order() {
    let (hooks, _called) = Hooks::new();
    let (api, _errors) = hooked(hooks, Limits { database_linger_ms: 0, ..Limits::default() });
    let mut seen = Seen::of(&api);
    api.database("todos").await;
    seen.assert(&["+todos", "+todos http 0", "-todos http 0", "-todos Idle"]).await;
    let channel = api.served.channel(open("todos")).await;
    seen.assert(&["+settee.v1", "+todos", "+todos settee.v1 1"]).await;
    let (legacy, _) = Legacy::with_channel(&api.served, "todos").await;
    seen.assert(&["+legacy", "+todos legacy 2"]).await;
    drop(channel);
    seen.assert(&["-todos settee.v1 1", "-settee.v1"]).await;
    drop(legacy);
    seen.assert(&["-todos legacy 2"]).await;
    // A database closes by a task of its own.
    let mut rest = [seen.next().await, seen.next().await];
    rest.sort();
    assert_eq!(rest, ["-legacy", "-todos Idle"]);
}

#[tokio::test]
async fn a_feed_and_a_channel_that_is_closed_leave_too() {
    let (hooks, _called) = Hooks::new();
    let (api, _errors) = hooked(hooks, Limits::default());
    api.database("todos").await;
    let mut seen = Seen::of(&api);
    let feed = api.stream("GET", "/todos/_changes?feed=continuous&since=now", &[], b"").await;
    assert_eq!(feed.status(), 200);
    seen.assert(&["+todos http 0"]).await;
    drop(feed);
    seen.assert(&["-todos http 0"]).await;
    let mut channel = api.served.channel(open("todos")).await;
    seen.assert(&["+settee.v1", "+todos settee.v1 1"]).await;
    channel.text(r#"["close", 1]"#).await;
    seen.assert(&["-todos settee.v1 1"]).await;
}

#[tokio::test]
async fn who_is_there_is_listed_and_counted() {
    let (hooks, _called) = Hooks::new();
    let (api, _errors) = hooked(hooks, Limits::default());
    let gateway = &api.served.gateway;
    api.database("todos").await;
    api.database("other").await;
    let _first = api.served.channel(open("todos")).await;
    let (_legacy, _) = Legacy::with_channel(&api.served, "todos").await;
    let names: Vec<(String, usize)> = gateway
        .databases()
        .iter()
        .map(|open| (open.database.name().to_string(), open.clients))
        .collect();
    assert_eq!(names, [("other".to_owned(), 0), ("todos".to_owned(), 2)]);
    let clients = gateway.clients(&name("todos"));
    let protocols: Vec<_> = clients.iter().map(|client| client.protocol).collect();
    assert_eq!(protocols, ["settee.v1", "legacy"]);
    assert!(clients.iter().all(|client| client.user.as_deref() == Some("root")));
    let sessions: Vec<_> = clients.iter().filter_map(|client| client.session).collect();
    assert!(sessions.len() == 2 && sessions[0] != sessions[1], "{clients:?}");
    assert_eq!(gateway.clients(&name("nowhere")), []);
    let stats = gateway.stats();
    assert_eq!((stats.databases, stats.clients, stats.channels), (2, 2, 2));
    let status = api.get("/_settee/status").await.json();
    assert_eq!(status["databases"], json!({"active": 2, "clients": 2}));
}

#[tokio::test]
async fn connections_are_told_and_refused_with_their_number() {
    let (hooks, mut called) = Hooks::new();
    let hooks = hooks.connected(|session| {
        Box::pin(async move {
            match session.headers.get("x-plan").and_then(|plan| plan.to_str().ok()) {
                Some("none") => Err(Denied::forbidden("no plan, no connection")),
                Some("odd") => panic!("an odd plan"),
                _ => Ok(()),
            }
        })
    });
    let (api, mut errors) = hooked(hooks, Limits::default());
    let socket = api.served.socket().await;
    called.assert(&["connected settee.v1 0"]).await;
    for (plan, status, reason) in
        [("none", 403, "no plan, no connection"), ("odd", 500, "internal error")]
    {
        let mut raw = api.served.bytes().await;
        let head = format!("x-plan: {plan}\r\n\r\n");
        let (found, body) = raw
            .request(raw::HANDSHAKE.replacen("\r\n\r\n", &format!("\r\n{head}"), 1).as_bytes())
            .await;
        assert_eq!(found, status, "{body}");
        assert!(body.contains(reason), "{body}");
    }
    called.assert(&["connected settee.v1 1", "connected settee.v1 2"]).await;
    let error = errors.next().await;
    assert_eq!((error.place, &error.database), (IgnoredIn::Connected, &None));
    assert!(error.reason.contains("an odd plan"), "{error}");
    drop(socket);
    called.assert(&["disconnected settee.v1 0"]).await;
    called.assert_none();
}

#[tokio::test]
async fn who_watches_too_slowly_is_told_how_much_was_dropped() {
    const REQUESTS: u64 = 600;
    let (hooks, _called) = Hooks::new();
    let (api, _errors) = hooked(hooks, Limits::default());
    api.database("todos").await;
    let mut watch = api.served.gateway.watch();
    for _ in 0..REQUESTS {
        assert_eq!(api.get("/todos").await.status, 200);
    }
    let dropped = watch.next().await.unwrap().unwrap_err();
    assert_eq!(dropped, 2 * REQUESTS - 1024);
    assert!(watch.next().await.unwrap().is_ok());
}

#[tokio::test]
async fn errors_that_nobody_sees_are_told_in_one_place() {
    let backend = Arc::new(MemoryBackend::new());
    let store = Store::with_backend(Arc::clone(&backend) as Arc<_>, Limits::default());
    let todos = store.create(&name("todos")).await.unwrap();
    // An old revision, without which there would be nothing to compact.
    let first = todos.put(Document::new("milk", &json!({"n": 1})).unwrap()).await.unwrap();
    let mut second = Document::new("milk", &json!({"n": 2})).unwrap();
    second.rev = Some(first.rev);
    todos.put(second).await.unwrap();
    let (tell, mut errors) = Errors::new();
    let builder = Gateway::builder(store)
        .authorizer(|request: AccessRequest| async move {
            assert_ne!(request.database.as_str(), "cursed", "the authorizer fell over");
            Ok::<_, Denied>(Grant::database(request.database).administering())
        })
        .server_authorizer(|_: ServerRequest| async move { panic!("so did the other one") })
        .validator(|_: &ProposedWrite<'_>| -> Result<(), Denied> { panic!("and the validator") })
        .on_ignored_error(tell);
    let api = Api::served(builder);
    assert_eq!(api.get("/cursed").await.status, 500);
    let error = errors.next().await;
    assert_eq!((error.place, &error.database), (IgnoredIn::Authorizer, &Some(name("cursed"))));
    assert!(error.reason.contains("the authorizer fell over"), "{error}");
    assert_eq!(api.get("/_all_dbs").await.status, 500);
    assert_eq!(errors.next().await.to_string(), "Authorizer: it panicked: so did the other one");
    assert_eq!(api.json("PUT", "/todos/bread", json!({})).await.status, 500);
    let error = errors.next().await;
    assert_eq!(error.to_string(), "Validator of todos: it panicked: and the validator");
    backend.fail_next_flush();
    assert_eq!(api.ask("POST", "/todos/_compact", &[JSON], b"").await.status, 202);
    let error = errors.next().await;
    assert_eq!((error.place, error.database), (IgnoredIn::Compaction, Some(name("todos"))));
    errors.assert_none();
}

#[tokio::test]
async fn a_listener_of_errors_that_panics_harms_nobody() {
    let (hooks, _called) = Hooks::new();
    let hooks = hooks.opening(|_| Box::pin(async { Err(Denied::forbidden("not today")) }));
    let builder = token_gateway(Store::memory());
    let builder = builder.life_cycle(hooks).on_ignored_error(|error| panic!("{error}"));
    let api = Api::served(builder);
    for _ in 0..2 {
        api.get("/todos").await.assert_error("refused", 403, "forbidden", "not today");
    }
}
