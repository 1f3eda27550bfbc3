//! Rules at work in a gateway: a database for each user, parts of databases, and rules that change
//! while grants are open.

#[path = "support/access.rs"]
mod access;
#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use std::time::Duration;

use access::{KEY, everything, token_for};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Api;
use serde_json::{Value, json};
use settee::Store;
use settee::access::{Access, Settings, hash_password};
use settee::server::Rejudged;

const LONG: Duration = Duration::from_secs(600);

fn served(settings: Value) -> (Api, Access) {
    let (builder, access) = access::gateway(Store::memory(), settings);
    let mut api = Api::served(builder);
    api.headers.clear();
    (api, access)
}

fn token(name: &str, rules: &Value, server: &[&str]) -> Value {
    json!({"name": name, "token": format!("{name}-token"), "rules": rules, "server": server})
}

fn rule(databases: &str, rights: &[&str]) -> Value {
    json!([{"databases": databases, "rights": rights}])
}

fn replace(access: &Access, settings: Value) {
    let settings: Settings = serde_json::from_value(settings).unwrap();
    access.replace(settings.build().unwrap());
}

#[tokio::test]
async fn a_user_gets_a_database_at_the_first_opening() {
    let jwt = |rights: &[&str]| {
        json!({"jwt": {"keys": [{"algorithm": "HS256", "secret": KEY}],
            "rules": rule("user-{name}", rights)}})
    };
    let (api, _) = served(jwt(&["read", "write", "create_on_open"]));
    let shown = |name: &str| json!({"token": token_for(name, LONG)});
    let open = async |api: &Api, name: &str, database: &str, create: bool| {
        let mut raw = api.served.socket().await;
        let open = json!({"database": database, "credentials": shown(name), "create": create});
        let answer = raw.ask(json!(["open", 1, open])).await;
        answer[2]["status"].as_u64().unwrap_or(200)
    };
    assert_eq!(open(&api, "anna", "user-anna", false).await, 200);
    assert_eq!(open(&api, "Anna", "user-$41nna", false).await, 200);
    assert_eq!(open(&api, "Anna", "user-anna", false).await, 403);
    assert_eq!(open(&api, "berta", "user-anna", false).await, 403);
    let bearer = format!("Bearer {}", token_for("berta", LONG));
    let answer = api.ask("GET", "/user-berta", &[("Authorization", &bearer)], b"").await;
    assert_eq!(answer.json()["db_name"], "user-berta");
    let (api, _) = served(jwt(&["read", "write", "create"]));
    assert_eq!(open(&api, "anna", "user-anna", false).await, 404);
    assert_eq!(open(&api, "anna", "user-anna", true).await, 200);
    let (api, _) = served(jwt(&["read", "write"]));
    assert_eq!(open(&api, "anna", "user-anna", true).await, 404);
}

#[tokio::test]
async fn users_see_their_part_by_password_and_by_cookie() {
    let user = |name: &str| {
        json!({"name": name, "password": hash_password(&format!("{name}'s")).unwrap(),
            "roles": ["staff"]})
    };
    let mine = json!({"databases": "todos", "rights": ["read", "write"],
        "selector": {"owner": "{name}"}});
    let (api, _) = served(json!({
        "users": [user("anna"), user("berta")],
        "roles": [{"name": "staff", "rules": [mine], "server": ["list"]}],
        "tokens": [everything("admin", "admin-token")],
    }));
    let admin = ("Authorization", "Bearer admin-token");
    for (path, body) in [
        ("/todos", "{}"),
        ("/todos/a", r#"{"owner":"anna"}"#),
        ("/todos/b", r#"{"owner":"berta"}"#),
        ("/todos/_security", r#"{"members":{"roles":["staff"]}}"#),
    ] {
        let answer = api.ask("PUT", path, &[admin], body.as_bytes()).await;
        assert!(answer.status < 300, "{path}: {}", answer.text());
    }
    let basic = |name: &str, password: &str| {
        format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
    };
    let get =
        async |header: (&str, &str), path: &str| api.ask("GET", path, &[header], b"").await.status;
    for (name, own, other) in [("anna", "a", "b"), ("berta", "b", "a")] {
        let shown = basic(name, &format!("{name}'s"));
        let header = ("Authorization", shown.as_str());
        assert_eq!(get(header, &format!("/todos/{own}")).await, 200);
        assert_eq!(get(header, &format!("/todos/{other}")).await, 404);
        assert_eq!(get(header, "/_all_dbs").await, 200);
        let login = json!({"name": name, "password": format!("{name}'s")});
        let login = api.json("POST", "/_session", login).await;
        assert_eq!(login.json()["name"], name);
        let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        assert_eq!(get(("Cookie", &cookie), &format!("/todos/{own}")).await, 200);
        assert_eq!(get(("Cookie", &cookie), &format!("/todos/{other}")).await, 404);
    }
    for (name, password) in [("anna", "berta's"), ("anna", ""), ("nobody", "anna's"), ("", "x")] {
        let shown = basic(name, password);
        let answer = api.ask("GET", "/todos", &[("Authorization", &shown)], b"").await;
        answer.assert_error(name, 401, "unauthorized", "this name and password are not known");
    }
}

#[tokio::test]
async fn open_grants_follow_rules_that_change() {
    let both = rule("*", &["read", "write", "create"]);
    let part = |owner: &str| json!([{"databases": "*", "rights": ["read", "write"], "selector": {"owner": owner}}]);
    let settings = |part: Value, watcher: &[&str]| {
        json!({"tokens": [token("same", &both, &["list"]), token("part", &part, &[]),
            token("watcher", &both, watcher)]})
    };
    let (api, access) = served(settings(part("anna"), &["list"]));
    let open = |name: &str| {
        let credentials = json!({"token": format!("{name}-token")});
        json!({"database": "todos", "credentials": credentials, "create": true})
    };
    let mut same = api.served.channel(open("same")).await;
    let mut parted = api.served.channel(open("part")).await;
    let updates = async |name: &str| {
        let bearer = format!("Bearer {name}-token");
        let path = "/_db_updates?feed=continuous&since=now";
        api.stream("GET", path, &[("Authorization", &bearer)], b"").await
    };
    let mut watching = updates("watcher").await;
    let mut still_watching = updates("same").await;
    replace(&access, settings(part("anna"), &["list"]));
    let gateway = &api.served.gateway;
    assert_eq!(gateway.rejudge().await, Rejudged { kept: 4, ended: 0 });
    replace(&access, settings(part("berta"), &[]));
    assert_eq!(gateway.rejudge().await, Rejudged { kept: 2, ended: 2 });
    let closed = parted.json().await;
    assert_eq!((&closed[0], &closed[2]["status"]), (&json!("closed"), &json!(401)), "{closed}");
    assert_eq!(watching.row().await, None, "it may not list any more");
    same.assert_alive("same rights").await;
    let put = same.ask(json!(["call", 1, 9, "put", {"doc": {"_id": "a"}}])).await;
    assert_eq!(put[0], "reply");
    assert_eq!(still_watching.row().await.unwrap()["db_name"], "todos");
}

#[tokio::test]
async fn what_was_shown_last_is_judged() {
    let both = rule("*", &["read", "write", "create"]);
    let (api, access) =
        served(json!({"tokens": [token("old", &both, &[]), token("new", &both, &[])]}));
    let open = json!({"database": "todos", "credentials": {"token": "old-token"}, "create": true});
    let mut raw = api.served.channel(open).await;
    let again = raw.ask(json!(["credentials", 1, {"token": "new-token"}])).await;
    assert_eq!(again[0], "opened");
    replace(&access, json!({"tokens": [token("new", &both, &[])]}));
    assert_eq!(api.served.gateway.rejudge().await, Rejudged { kept: 1, ended: 0 });
    raw.assert_alive("with the newer token").await;
    replace(&access, json!({"tokens": [token("old", &both, &[])]}));
    assert_eq!(api.served.gateway.rejudge().await, Rejudged { kept: 0, ended: 1 });
    assert_eq!(raw.json().await[2]["reason"], "this token is not known");
}

#[test]
fn no_debugging_shows_a_secret() {
    let settings = json!({
        "tokens": [{"name": "a", "token": "hunter2-token"}],
        "users": [{"name": "anna", "password": hash_password("x").unwrap()}],
        "jwt": {"keys": [{"algorithm": "HS256", "secret": format!("hunter2-{KEY}")}]},
        "webhook": {"url": "http://127.0.0.1:1/", "secret": "hunter2-hook"},
    });
    let settings: Settings = serde_json::from_value(settings).unwrap();
    let access = Access::new(settings.build().unwrap());
    let shown = format!("{settings:?} {access:?} {:?}", settings.build().unwrap());
    assert!(shown.contains("Secret(…)"), "{shown}");
    assert!(!shown.contains("hunter2") && !shown.contains("argon2id"), "{shown}");
}
