//! `POST /_settee/events`: what a backend may ask, and what it is answered.

#[path = "support/attending.rs"]
mod attending;
#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use attending::{attend, event_gateway, identified, join};
use http::{Api, JSON};
use serde_json::{Value, json};
use settee::Limits;

const PATH: &str = "/_settee/events";

fn api() -> Api {
    let limits = Limits { event_bytes_max: 1_000, ..Limits::default() };
    let mut api = Api::served(event_gateway(limits));
    api.headers.clear();
    api
}

#[tokio::test]
async fn a_post_reaches_users_channels_and_everybody() {
    let api = api();
    let mut raw = attend(&api.served, "anna").await;
    join(&mut raw, &["room-1"]).await;
    let (_other, _) = identified(&api.served, json!({"token": "listener"})).await;
    for (targets, reached, via) in [
        (json!({"users": ["anna"]}), 1, json!({"user": "anna"})),
        (json!({"users": "anna"}), 1, json!({"user": "anna"})),
        (json!({"channels": "room-1"}), 1, json!({"channels": ["room-1"]})),
        (json!({"broadcast": true}), 2, json!({"broadcast": true})),
        (
            json!({"users": ["anna"], "channels": ["room-1", "none"], "broadcast": ""}),
            1,
            json!({"user": "anna", "channels": ["room-1"]}),
        ),
    ] {
        let body = json!({"auth": {"token": "all"}, "event": "e", "targets": targets,
            "payload": {"n": 1}});
        let answer = api.json("POST", PATH, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json(), json!({"ok": true, "reached": reached}));
        assert_eq!(raw.json().await, json!(["event", "e", {"n": 1}, {"via": via}]));
    }
    let body = json!({"auth": {"token": "all"}, "event": "e", "targets": {"users": "nobody"}});
    assert_eq!(api.json("POST", PATH, body).await.json()["reached"], 0);
}

#[tokio::test]
async fn a_backend_with_a_user_is_named_as_the_sender() {
    let api = api();
    let mut raw = attend(&api.served, "anna").await;
    let headers = [JSON, ("Authorization", "Bearer all")];
    let body = json!({"event": "e", "targets": {"users": "anna"}, "auth": {"token": "wrong"}});
    let answer = api.ask("POST", PATH, &headers, body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "what the header shows comes first");
    assert_eq!(raw.json().await, json!(["event", "e", null, {"via": {"user": "anna"}}]));
    let auth = json!({"token": "all", "user": "mailer"});
    let body = json!({"event": "e", "targets": {"users": "anna"}, "auth": auth});
    assert_eq!(api.json("POST", PATH, body).await.status, 200);
    assert_eq!(raw.json().await[3]["from"], "user:mailer");
}

#[tokio::test]
async fn what_cannot_be_sent_has_a_clear_error() {
    let api = api();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = json!({"auth": {"token": "all"}, "event": "e", "targets": {"users": "a"}});
        change(&mut body);
        body.to_string()
    };
    let many: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
    let cases = [
        (with(&|body| body["auth"] = json!(null)), 401, "unauthorized", "who are you"),
        (with(&|body| body["auth"] = json!({"token": "x"})), 401, "unauthorized", "who are you"),
        (
            with(&|body| body["auth"] = json!({"token": "short", "ms": 0})),
            401,
            "unauthorized",
            "expired",
        ),
        (with(&|body| body["auth"] = json!({"token": "stranger"})), 403, "forbidden", "not for"),
        (with(&|body| body["auth"] = json!({"token": "room"})), 403, "forbidden", "to users"),
        ("{".into(), 400, "bad_request", "JSON"),
        ("not json".into(), 400, "bad_request", "JSON"),
        ("[]".into(), 400, "bad_request", "object"),
        ("{}".into(), 400, "bad_request", "event"),
        (with(&|body| body["targets"] = json!({})), 400, "bad_request", "target"),
        (with(&|body| body["targets"] = json!({"broadcast": 0})), 400, "bad_request", "target"),
        (with(&|body| body["targets"] = json!({"user": "a"})), 400, "bad_request", "user"),
        (with(&|body| body["targets"] = json!({"users": 5})), 400, "bad_request", "names"),
        (with(&|body| body["targets"] = json!({"users": ""})), 400, "bad_request", "empty"),
        (with(&|body| body["event"] = json!("")), 400, "bad_request", "empty"),
        (with(&|body| body["event"] = json!(5)), 400, "bad_request", "string"),
        (with(&|body| body["data"] = json!(5)), 400, "bad_request", "data"),
        (with(&|body| body["targets"] = json!({"users": many})), 413, "too_large", "1000"),
        (
            with(&|body| body["targets"] = json!({"channels": "x".repeat(257)})),
            413,
            "too_large",
            "256",
        ),
        (with(&|body| body["payload"] = json!("x".repeat(998))), 413, "too_large", "1001 bytes"),
        (with(&|body| body["payload"] = json!("x".repeat(999_999))), 413, "too_large", "body"),
    ];
    for (body, status, error, reason) in cases {
        let answer = api.ask("POST", PATH, &[JSON], body.as_bytes()).await;
        let shown: String = body.chars().take(90).collect();
        answer.assert_error(&shown, status, error, reason);
    }
    let fits = with(&|body| body["payload"] = json!("x".repeat(997)));
    assert_eq!(api.ask("POST", PATH, &[JSON], fits.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn only_a_post_of_json_is_taken() {
    let api = api();
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let answer = api.ask(method, PATH, &[JSON], b"{}").await;
        answer.assert_error(method, 405, "method_not_allowed", "POST");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    let answer = api.ask("POST", PATH, &[("Content-Type", "text/plain")], b"{}").await;
    answer.assert_error("a form of another page", 415, "bad_content_type", "json");
    let page = [JSON, ("Origin", "https://elsewhere.example")];
    let answer = api.ask("POST", PATH, &page, b"{}").await;
    answer.assert_error("a page of elsewhere", 403, "forbidden", "origin");
}
