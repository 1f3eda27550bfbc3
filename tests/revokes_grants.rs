//! Revocation over HTTP ends what it names within a second, on every protocol, and nothing else.

#[path = "support/access.rs"]
mod access;
#[path = "support/http.rs"]
mod http;
#[path = "support/legacy.rs"]
mod legacy;
#[path = "support/raw.rs"]
mod raw;

use std::time::{Duration, Instant};

use access::{KEY, everything, token_for};
use http::{Answer, Api, Coming};
use legacy::Legacy;
use raw::{Came, Raw};
use serde_json::json;
use settee::access::hash_password;
use settee::server::Revocation;
use settee::{DbName, Store};

const SOON: Duration = Duration::from_secs(1);

async fn prepared() -> Api {
    let store = Store::memory();
    for name in ["todos", "other"] {
        store.create(&DbName::parse(name).unwrap()).await.unwrap();
    }
    let rules = json!([{"databases": "*", "rights": ["read", "write"]}]);
    let token = |name: &str| json!({"name": name, "token": format!("{name}-token"), "rules": rules, "server": ["list"]});
    let (builder, _) = access::gateway(
        store,
        json!({
            "tokens": [everything("admin", "admin-token"), token("laptop"), token("phone")],
            "users": [{"name": "anna", "password": hash_password("right").unwrap(),
                "rules": rules, "server": ["list"]}],
            "jwt": {"keys": [{"algorithm": "HS256", "secret": KEY}], "rules": rules,
                "server": ["list"]},
        }),
    );
    let mut api = Api::served(builder);
    api.headers.clear();
    api
}

/// Everything that somebody may have open, on one database and on the server.
struct Open {
    channel: Raw,
    legacy: Raw,
    feeds: Vec<(&'static str, Coming)>,
    updates: Coming,
}

impl Open {
    async fn all(api: &Api, token: &str, database: &str) -> Self {
        let shown = json!({ "token": token });
        let open = json!({"database": database, "credentials": shown});
        let channel = api.served.channel(open).await;
        let mut legacy = Legacy::connect(&api.served).await;
        legacy.open("n", database, shown).await;
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        let mut feeds = Vec::new();
        for form in ["continuous", "longpoll", "eventsource"] {
            let path = format!("/{database}/_changes?feed={form}&since=now&heartbeat=60000");
            let feed = api.stream("GET", &path, &headers, b"").await;
            assert_eq!(feed.status(), 200, "{form}");
            feeds.push((form, feed));
        }
        let path = "/_db_updates?feed=continuous&since=now";
        let updates = api.stream("GET", path, &headers, b"").await;
        assert_eq!(updates.status(), 200);
        Self { channel, legacy: legacy.raw, feeds, updates }
    }

    /// Waits for the end of everything that is for the database.
    async fn ends(&mut self, reason: &str) {
        let closed = self.channel.json().await;
        assert_eq!((&closed[0], &closed[2]["reason"]), (&json!("closed"), &json!(reason)));
        match self.legacy.next().await {
            Came::Close(code, why) => assert!(code == 1008 && why.contains(reason), "{code} {why}"),
            other => panic!("came {other:?}"),
        }
        for (_, feed) in &mut self.feeds {
            while feed.line().await.is_some() {}
        }
    }

    async fn goes_on(&mut self, api: &Api, database: &str, id: &str) {
        self.channel.assert_alive("somebody else").await;
        let path = format!("/{database}/{id}");
        let admin = ("Authorization", "Bearer admin-token");
        assert_eq!(api.ask("PUT", &path, &[admin], b"{}").await.status, 201);
        let (_, continuous) = &mut self.feeds[0];
        assert_eq!(continuous.row().await.expect("the feed goes on")["id"], id);
    }
}

async fn revoke(api: &Api, query: &str) -> Answer {
    let path = format!("/_settee/grants?{query}");
    api.ask("DELETE", &path, &[("Authorization", "Bearer admin-token")], b"").await
}

fn ended(answer: &Answer) -> (u64, u64, u64) {
    let body = answer.json();
    assert_eq!(answer.status, 200, "{body}");
    let count = |name: &str| body[name].as_u64().unwrap();
    (count("channels"), count("feeds"), count("sessions"))
}

#[tokio::test]
async fn a_users_channels_feeds_and_sessions_end() {
    let api = prepared().await;
    let (anna, berta) =
        (token_for("anna", Duration::from_secs(600)), token_for("berta", Duration::from_secs(600)));
    let mut annas = Open::all(&api, &anna, "todos").await;
    let mut bertas = Open::all(&api, &berta, "todos").await;
    let login = api.json("POST", "/_session", json!({"name": "anna", "password": "right"})).await;
    let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let by_cookie = async || api.ask("GET", "/todos", &[("Cookie", &cookie)], b"").await.status;
    assert_eq!(by_cookie().await, 200);
    let answer = revoke(&api, "user=anna&reason=logged%20out").await;
    let began = Instant::now();
    assert_eq!(ended(&answer), (5, 1, 1));
    annas.ends("logged out").await;
    while annas.updates.line().await.is_some() {}
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(by_cookie().await, 401);
    bertas.goes_on(&api, "todos", "a").await;
    // Without a change of the rules she may come again.
    Open::all(&api, &anna, "todos").await;
}

#[tokio::test]
async fn a_tokens_grants_end_and_those_of_another_stay() {
    let api = prepared().await;
    let mut laptop = Open::all(&api, "laptop-token", "todos").await;
    let mut phone = Open::all(&api, "phone-token", "todos").await;
    let answer = revoke(&api, "token=laptop").await;
    let began = Instant::now();
    assert_eq!(ended(&answer), (5, 1, 0));
    laptop.ends("access was revoked").await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    phone.goes_on(&api, "todos", "a").await;
}

#[tokio::test]
async fn a_databases_grants_end_and_feeds_of_the_server_stay() {
    let api = prepared().await;
    let mut todos = Open::all(&api, "laptop-token", "todos").await;
    let mut other = Open::all(&api, "laptop-token", "other").await;
    assert_eq!(ended(&revoke(&api, "database=todos").await), (5, 0, 0));
    todos.ends("access was revoked").await;
    other.goes_on(&api, "other", "a").await;
    let row = todos.updates.row().await.expect("the server's feed goes on");
    assert_eq!(row["db_name"], "other");
    assert_eq!(ended(&revoke(&api, "database=other&token=phone").await), (0, 0, 0));
    // The longpoll has had its change.
    assert_eq!(ended(&revoke(&api, "database=other&token=laptop").await), (4, 0, 0));
}

#[tokio::test]
async fn who_is_blocked_stays_out() {
    let api = prepared().await;
    let anna = token_for("anna", Duration::from_secs(600));
    let mut open = Open::all(&api, &anna, "todos").await;
    assert_eq!(ended(&revoke(&api, "user=anna&block_s=3600").await), (5, 1, 0));
    open.ends("access was revoked").await;
    let mut raw = api.served.socket().await;
    let shown = json!({"database": "todos", "credentials": {"token": anna}});
    let refused = raw.ask(json!(["open", 1, shown])).await;
    assert_eq!((&refused[0], &refused[2]["status"]), (&json!("refused"), &json!(403)), "{refused}");
    for path in ["/todos", "/_all_dbs", "/_session"] {
        let bearer = format!("Bearer {anna}");
        let answer = api.ask("GET", path, &[("Authorization", &bearer)], b"").await;
        answer.assert_error(path, 403, "forbidden", "taken away");
    }
    let login = api.json("POST", "/_session", json!({"name": "anna", "password": "right"})).await;
    assert_eq!(login.status, 403);
    let berta = token_for("berta", Duration::from_secs(600));
    Open::all(&api, &berta, "todos").await;
    Open::all(&api, "laptop-token", "todos").await;
}

#[tokio::test]
async fn what_is_not_clear_revokes_nothing() {
    let api = prepared().await;
    let mut open = Open::all(&api, "laptop-token", "todos").await;
    for (query, error) in [
        ("", "bad_request"),
        ("reason=x", "bad_request"),
        ("usr=anna", "query_parse_error"),
        ("token=laptop&databse=other", "query_parse_error"),
        ("token=laptop&block_s=soon", "query_parse_error"),
        ("database=No", "illegal_database_name"),
    ] {
        let answer = revoke(&api, query).await;
        answer.assert_error(query, 400, error, "");
    }
    let by = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        api.ask("DELETE", "/_settee/grants?token=laptop", &headers, b"").await.status
    };
    assert_eq!((by("laptop-token").await, by("wrong").await), (403, 401));
    open.goes_on(&api, "todos", "a").await;
}

#[tokio::test]
async fn expiry_ends_feeds_of_the_server_too() {
    let api = prepared().await;
    // Clocks may differ by some seconds, which count on.
    let token = access::jwt(&json!({"sub": "anna", "exp": access::in_seconds(-4.0)}));
    let bearer = format!("Bearer {token}");
    let path = "/_db_updates?feed=continuous&since=now";
    let mut feed = api.stream("GET", path, &[("Authorization", &bearer)], b"").await;
    assert_eq!(feed.status(), 200);
    assert_eq!(feed.row().await, None, "it is cut, not ended");
}

/// Requests that change something: method, path, type and body.
const CHANGES: &[(&str, &str, &str, &str)] = &[
    ("POST", "/todos", "application/json", r#"{"_id": "new"}"#),
    ("PUT", "/todos/new", "application/json", r#"{"n": 1}"#),
    (
        "PUT",
        "/todos/new",
        "multipart/related; boundary=x",
        "--x\r\nContent-Type: application/json\r\n\r\n{\"_attachments\": {\"a\": {\"follows\": true, \
         \"length\": 2, \"content_type\": \"text/plain\"}}}\r\n--x\r\n\r\nhi\r\n--x--",
    ),
    ("PUT", "/todos/new/file", "text/plain", "some bytes"),
    ("PUT", "/todos/_local/new", "application/json", r#"{"n": 1}"#),
    ("POST", "/todos/_bulk_docs", "application/json", r#"{"docs": [{"_id": "new"}]}"#),
    ("POST", "/todos/_index", "application/json", r#"{"index": {"fields": ["n"]}}"#),
    ("POST", "/todos/_index/_bulk_delete", "application/json", r#"{"docids": ["made"]}"#),
    ("PUT", "/todos/_security", "application/json", r#"{"admins": {"names": ["eve"]}}"#),
    ("PUT", "/todos/_revs_limit", "application/json", "7"),
    ("POST", "/todos/_purge", "application/json", r#"{"kept": ["REV"]}"#),
    ("POST", "/todos/_compact", "application/json", "{}"),
];

/// Sends a request up to the middle of its body, waits until its grant is open, and returns the rest.
async fn half_sent(api: &Api, raw: &mut Raw, change: (&str, &str, &str, &str)) -> Vec<u8> {
    let (method, path, media_type, body) = change;
    let (first, rest) = body.as_bytes().split_at(body.len() / 2);
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\
         Authorization: Bearer admin-token\r\nContent-Type: {media_type}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    raw.write(&[head.as_bytes(), first].concat()).await;
    let opened = async {
        while api.served.gateway.counts().1 == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), opened).await.expect("it is opened");
    rest.to_vec()
}

#[tokio::test]
async fn a_body_that_ends_after_its_grant_changes_nothing() {
    let api = prepared().await;
    let admin = ("Authorization", "Bearer admin-token");
    let kept = api.ask("PUT", "/todos/kept", &[admin], b"{}").await.json();
    let index = br#"{"index": {"fields": ["made"]}, "ddoc": "made"}"#;
    let made = api.ask("POST", "/todos/_index", &[admin, http::JSON], index).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let state = async || {
        let mut state = Vec::new();
        for path in ["", "/_security", "/_revs_limit", "/_local_docs"] {
            state.push(api.ask("GET", &format!("/todos{path}"), &[admin], b"").await.body);
        }
        state
    };
    let before = state().await;
    for &(method, path, media_type, body) in CHANGES {
        let body = body.replace("REV", kept["rev"].as_str().unwrap());
        let mut raw = api.served.bytes().await;
        let rest = half_sent(&api, &mut raw, (method, path, media_type, &body)).await;
        let token = Some("admin".to_owned());
        let revocation = Revocation { token, reason: "lost".into(), ..Revocation::default() };
        api.served.gateway.revoke_grants(&revocation).unwrap();
        raw.write(&rest).await;
        let (status, answer) = raw.response().await;
        assert!(status == 401 && answer.contains("lost"), "{method} {path}: {status} {answer}");
        drop(raw);
        assert_eq!(state().await, before, "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_answered_when_its_grant_does() {
    let api = prepared().await;
    let path = "/todos/_bulk_docs";
    let mut raw = api.served.bytes().await;
    // Clocks may differ by some seconds, which count on.
    let token = access::jwt(&json!({"sub": "anna", "exp": access::in_seconds(-4.0)}));
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: 1000\r\n\r\n{{"
    );
    let (status, answer) = raw.request(head.as_bytes()).await;
    assert!(status == 401 && answer.contains("expired"), "{status} {answer}");
}

#[tokio::test]
async fn a_security_object_ends_whom_it_leaves_out_but_no_admin_by_grant() {
    let api = prepared().await;
    let channel = async |token: &str| {
        let shown = json!({"token": token});
        api.served.channel(json!({"database": "todos", "credentials": shown})).await
    };
    let (mut admin, mut laptop) = (channel("admin-token").await, channel("laptop-token").await);
    let headers = [("Authorization", "Bearer admin-token"), http::JSON];
    let members = br#"{"members": {"names": ["eve"]}}"#;
    assert_eq!(api.ask("PUT", "/todos/_security", &headers, members).await.status, 200);
    assert_eq!(laptop.json().await[0], "closed");
    admin.assert_alive("admin").await;
}
