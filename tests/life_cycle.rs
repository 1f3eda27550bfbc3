//! Databases open through the application's hooks, once for all who ask, and close after the last.

#[path = "support/hooks.rs"]
mod hooks;
#[path = "support/http.rs"]
mod http;
#[path = "support/legacy.rs"]
mod legacy;
#[path = "support/raw.rs"]
mod raw;

use std::sync::Arc;
use std::time::Duration;

use hooks::{Hooks, Seen, hooked, name};
use http::{Api, token_gateway};
use legacy::Legacy;
use raw::Came;
use serde_json::{Value, json};
use settee::server::{Denied, IgnoredIn};
use settee::{Document, Limits, Store};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Long enough that a client which comes again in a test finds the database active.
const LINGER_MS: u64 = 60_000;

fn limits(database_linger_ms: u64) -> Limits {
    Limits { database_linger_ms, ..Limits::default() }
}

fn open(database: &str) -> Value {
    json!({"database": database, "credentials": {"token": "secret"}})
}

fn welcome() -> Document {
    Document::new("welcome", &json!({"text": "hello"})).unwrap()
}

#[tokio::test]
async fn a_hook_makes_a_database_and_fills_it_before_anybody_is_in() {
    let (hooks, mut called) = Hooks::new();
    let hooks = hooks.opening(|opening| {
        Box::pin(async move {
            assert!(!opening.create && !opening.ephemeral);
            assert_eq!(opening.user.as_deref(), Some("root"));
            assert!(opening.database().await.is_err());
            opening.open_or_create().await.unwrap().put(welcome()).await.unwrap();
            Ok(())
        })
    });
    let (api, _errors) = hooked(hooks, limits(LINGER_MS));
    assert_eq!(api.get("/todos/welcome").await.json()["text"], "hello");
    let mut channel = api.served.channel(open("todos")).await;
    channel.assert_alive("the database is there for everybody").await;
    called.assert(&["opening todos", "opened todos"]).await;
}

#[tokio::test]
async fn the_second_hook_writes_before_anybody_is_in() {
    let (hooks, mut called) = Hooks::new();
    let hooks = hooks.opened(|database| {
        Box::pin(async move {
            database.put(welcome()).await.unwrap();
            Ok(())
        })
    });
    let (api, _errors) = hooked(hooks, limits(LINGER_MS));
    api.database("todos").await;
    assert_eq!(api.get("/todos/welcome").await.status, 200);
    called.assert(&["opening todos", "opened todos"]).await;
}

#[tokio::test]
async fn everybody_waits_while_a_database_is_opened_once() {
    let release = Arc::new(Notify::new());
    let (hooks, mut called) = Hooks::new();
    let gate = Arc::clone(&release);
    let hooks = hooks.opening(move |opening| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            gate.notified().await;
            opening.open_or_create().await.unwrap();
            Ok(())
        })
    });
    let (api, _errors) = hooked(hooks, limits(LINGER_MS));
    let mut socket = api.served.socket().await;
    for channel in 1..=3 {
        socket.text(&json!(["open", channel, open("todos")]).to_string()).await;
    }
    let (first, second, ()) = tokio::join!(api.get("/todos"), api.get("/todos"), async {
        called.assert(&["opening todos"]).await;
        assert_eq!(api.served.gateway.databases().len(), 0);
        socket.text(r#"["ping", "others go on"]"#).await;
        assert_eq!(socket.json().await, json!(["pong", "others go on"]));
        release.notify_one();
    });
    assert_eq!((first.status, second.status), (200, 200));
    for _ in 1..=3 {
        assert_eq!(socket.json().await[0], "opened");
    }
    called.assert(&["opened todos"]).await;
    called.assert_none();
}

#[tokio::test]
async fn a_hook_refuses_with_a_reason_on_every_protocol() {
    let (hooks, _called) = Hooks::new();
    let hooks =
        hooks.opening(|_| Box::pin(async { Err(Denied::forbidden("this one is being moved")) }));
    let (api, mut errors) = hooked(hooks, limits(LINGER_MS));
    api.get("/todos").await.assert_error("HTTP", 403, "forbidden", "this one is being moved");
    let mut socket = api.served.socket().await;
    socket.text(&json!(["open", 1, open("todos")]).to_string()).await;
    let refused = socket.json().await;
    assert_eq!((&refused[0], &refused[2]["status"]), (&json!("refused"), &json!(403)));
    assert_eq!(refused[2]["reason"], "this one is being moved");
    let mut legacy = Legacy::connect(&api.served).await;
    let request = json!({"database": "todos", "credentials": {"token": "secret"}});
    let told = legacy.ask("n", request).await;
    assert!(told.to_string().contains("this one is being moved"), "{told}");
    for _ in 0..3 {
        let error = errors.next().await;
        assert_eq!((error.place, error.database), (IgnoredIn::Opening, Some(name("todos"))));
        assert_eq!(error.reason, "this one is being moved");
    }
    assert_eq!(api.served.gateway.databases().len(), 0);
}

#[tokio::test]
async fn a_hook_that_panics_refuses_and_is_told() {
    let (hooks, mut called) = Hooks::new();
    let hooks = hooks.opened(|_| Box::pin(async { panic!("no such table") }));
    let (api, mut errors) = hooked(hooks, limits(LINGER_MS));
    for _ in 0..2 {
        let answer = api.ask("PUT", "/todos", &[], b"").await;
        answer.assert_error("a panic", 500, "internal_server_error", "logged as");
        called.assert(&["opening todos", "opened todos"]).await;
        let error = errors.next().await;
        assert_eq!(error.place, IgnoredIn::Opened);
        assert!(error.to_string().contains("no such table"), "{error}");
    }
}

#[tokio::test]
async fn a_hook_that_takes_too_long_refuses_and_the_next_client_tries_again() {
    let slow = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (hooks, mut called) = Hooks::new();
    let hooks = hooks.opening(move |opening| {
        let slow = slow.swap(false, std::sync::atomic::Ordering::SeqCst);
        Box::pin(async move {
            if slow {
                std::future::pending::<()>().await;
            }
            opening.open_or_create().await.unwrap();
            Ok(())
        })
    });
    let limits = Limits { database_open_timeout_ms: 50, ..limits(LINGER_MS) };
    let (api, mut errors) = hooked(hooks, limits);
    let late = api.get("/todos").await;
    late.assert_error("late", 503, "service_unavailable", "takes too long");
    assert_eq!(errors.next().await.place, IgnoredIn::Opening);
    assert_eq!(api.get("/todos").await.status, 200);
    called.assert(&["opening todos", "opening todos", "opened todos"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_first_database_takes_long_to_open_is_kept() {
    let (hooks, _called) = Hooks::new();
    let hooks = hooks.opening(|opening| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(20)).await;
            opening.open_or_create().await.unwrap();
            Ok(())
        })
    });
    let (first_open_timeout_ms, database_open_timeout_ms) = (10_000, 30_000);
    let limits = Limits { first_open_timeout_ms, database_open_timeout_ms, ..limits(LINGER_MS) };
    let (api, _errors) = hooked(hooks, limits);
    let mut channel = api.served.channel(open("todos")).await;
    channel.assert_alive("it was granted in time").await;
}

#[tokio::test]
async fn only_so_many_wait_for_one_database() {
    let release = Arc::new(Notify::new());
    let (hooks, mut called) = Hooks::new();
    let gate = Arc::clone(&release);
    let hooks = hooks.opening(move |opening| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            if opening.name.as_str() == "todos" {
                gate.notified().await;
            }
            opening.open_or_create().await.unwrap();
            Ok(())
        })
    });
    let (api, _errors) = hooked(hooks, Limits { database_waiting_max: 2, ..limits(LINGER_MS) });
    let mut socket = api.served.socket().await;
    let mut ask = async |channel: u32, database: &str| {
        socket.text(&json!(["open", channel, open(database)]).to_string()).await;
    };
    ask(1, "todos").await;
    called.assert(&["opening todos"]).await;
    ask(2, "todos").await;
    ask(3, "todos").await;
    ask(4, "other").await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        answers.push(socket.json().await);
    }
    answers.sort_by_key(|answer| answer[1].as_u64());
    assert_eq!((&answers[0][0], &answers[0][1]), (&json!("refused"), &json!(3)));
    assert_eq!(answers[0][2]["error"], "service_unavailable");
    assert_eq!((&answers[1][0], &answers[1][1]), (&json!("opened"), &json!(4)));
    release.notify_one();
    for _ in 0..2 {
        assert_eq!(socket.json().await[0], "opened");
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_closes_some_time_after_its_last_client() {
    let (hooks, mut called) = Hooks::new();
    let (api, mut errors) = hooked(hooks, limits(30_000));
    api.database("todos").await;
    let channel = api.served.channel(open("todos")).await;
    called.assert(&["opening todos", "opened todos"]).await;
    assert_eq!(api.get("/todos").await.status, 200);
    let mut seen = Seen::of(&api);
    drop(channel);
    seen.until("-todos settee.v1 0").await;
    let left = Instant::now();
    // Who comes again in between puts it off.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(api.get("/todos").await.status, 200);
    called.assert(&["closing todos Idle"]).await;
    assert_eq!(left.elapsed().as_secs(), 50);
    seen.until("-todos Idle").await;
    assert_eq!(api.get("/todos").await.status, 200);
    called.assert(&["opening todos", "opened todos", "closing todos Idle"]).await;
    errors.assert_none();
}

#[tokio::test]
async fn an_error_of_the_last_hook_is_told_and_the_database_closes() {
    let (hooks, _called) = Hooks::new();
    let hooks = hooks.closing(|_| Box::pin(async { Err(Denied::unavailable("cannot be saved")) }));
    let (api, mut errors) = hooked(hooks, limits(0));
    let mut seen = Seen::of(&api);
    api.database("todos").await;
    seen.until("-todos Idle").await;
    let error = errors.next().await;
    assert_eq!(error.to_string(), "Closing of todos: cannot be saved");
}

#[tokio::test]
async fn who_asks_while_a_database_closes_waits_and_opens_it_anew() {
    let release = Arc::new(Notify::new());
    let (hooks, mut called) = Hooks::new();
    let gate = Arc::clone(&release);
    let hooks = hooks.closing(move |_| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            gate.notified().await;
            Ok(())
        })
    });
    let (api, _errors) = hooked(hooks, limits(0));
    api.database("todos").await;
    called.assert(&["opening todos", "opened todos", "closing todos Idle"]).await;
    let (answer, ()) = tokio::join!(api.get("/todos"), async {
        called.assert_none();
        release.notify_one();
        called.assert(&["opening todos", "opened todos"]).await;
    });
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_destroyed_database_closes_at_once_and_opens_anew() {
    let (hooks, mut called) = Hooks::new();
    let (api, _errors) = hooked(hooks, limits(LINGER_MS));
    api.database("todos").await;
    let mut channel = api.served.channel(open("todos")).await;
    called.assert(&["opening todos", "opened todos"]).await;
    assert_eq!(api.ask("DELETE", "/todos", &[], b"").await.status, 200);
    assert_eq!(channel.json().await[0], "closed");
    called.assert(&["closing todos Destroyed"]).await;
    api.database("todos").await;
    called.assert(&["opening todos", "opened todos"]).await;
}

#[tokio::test]
async fn a_database_that_the_program_destroyed_is_not_taken_for_the_one_made_since() {
    let store = Store::memory();
    let api = Api::served(token_gateway(store.clone()).limits(limits(LINGER_MS)));
    api.database("todos").await;
    api.put("/todos/old", json!({})).await;
    store.destroy(&name("todos")).await.unwrap();
    store.create(&name("todos")).await.unwrap();
    assert_eq!(api.get("/todos/old").await.status, 404);
    assert_eq!(api.get("/todos").await.status, 200);
}

#[tokio::test]
async fn a_gateway_that_stops_closes_its_databases() {
    let (hooks, mut called) = Hooks::new();
    let (api, _errors) = hooked(hooks, limits(LINGER_MS));
    api.database("todos").await;
    let mut channel = api.served.channel(open("todos")).await;
    called.assert(&["opening todos", "opened todos"]).await;
    let mut seen = Seen::of(&api);
    api.served.stop();
    assert!(matches!(channel.next().await, Came::Close(1012, _)));
    drop(channel);
    called.assert(&["closing todos Stopping"]).await;
    seen.until("-todos Stopping").await;
    assert_eq!(api.served.gateway.stats().databases, 0);
}

#[tokio::test]
async fn who_may_make_a_database_does_though_another_client_could_not() {
    let release = Arc::new(Notify::new());
    let (hooks, mut called) = Hooks::new();
    let gate = Arc::clone(&release);
    let hooks = hooks.opening(move |opening| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            if !opening.create {
                gate.notified().await;
            }
            Ok(())
        })
    });
    let (api, mut errors) = hooked(hooks, limits(LINGER_MS));
    let mut socket = api.served.socket().await;
    socket.text(&json!(["open", 1, open("todos")]).to_string()).await;
    called.assert(&["opening todos"]).await;
    let mut creating = open("todos");
    creating["create"] = json!(true);
    socket.text(&json!(["open", 2, creating]).to_string()).await;
    socket.text(r#"["ping", 0]"#).await;
    assert_eq!(socket.json().await[0], "pong");
    release.notify_one();
    let mut answers = [socket.json().await, socket.json().await];
    answers.sort_by_key(|answer| answer[1].as_u64());
    assert_eq!((&answers[0][0], &answers[0][2]["status"]), (&json!("refused"), &json!(404)));
    assert_eq!(answers[1][0], "opened");
    called.assert(&["opening todos", "opened todos"]).await;
    errors.assert_none();
}

#[tokio::test]
async fn a_database_that_a_hook_makes_counts_as_made_by_who_asked() {
    let (hooks, _called) = Hooks::new();
    let hooks = hooks.opening(|opening| {
        Box::pin(async move {
            opening.open_or_create().await.unwrap();
            Ok(())
        })
    });
    let (api, _errors) = hooked(hooks, limits(LINGER_MS));
    api.database("todos").await;
    let again = api.ask("PUT", "/todos", &[], b"").await;
    again.assert_error("made before", 412, "file_exists", "already exists");
}
