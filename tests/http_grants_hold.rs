//! Every route of the HTTP API against every kind of credential: nothing is answered that was not
//! granted.

#[path = "support/http.rs"]
mod http;
#[path = "support/http_routes.rs"]
mod http_routes;
#[path = "support/raw.rs"]
mod raw;

use http::{Answer, Api, JSON, token_gateway};
use http_routes::Needs::{self, *};
use http_routes::{DESTINATION, ROUTES};
use serde_json::{Value, json};
use settee::server::{AccessRequest, Denied, Gateway, Grant, ServerGrant, ServerRequest};
use settee::{DbName, Store, doc::Selector};

/// Credentials, whether they let a database be opened, and what else they may.
const CREDENTIALS: &[(&str, Option<u16>, &[Needs])] = &[
    ("", Some(401), &[]),
    ("Bearer wrong", Some(401), &[]),
    ("Basic YTpi", Some(401), &[]),
    ("Bearer stranger", Some(403), &[]),
    ("Bearer reader", None, &[Open, Read]),
    ("Bearer writer", None, &[Open, Write]),
    ("Bearer user", None, &[Open, Read, Write, ReadAndWrite, Known]),
    (
        "Bearer secret",
        None,
        &[
            Open,
            Read,
            Write,
            ReadAndWrite,
            Create,
            Destroy,
            Administer,
            Known,
            List,
            Govern,
            BackUp,
            Replicate,
            Broadcast,
        ],
    ),
];

async fn prepared() -> Api {
    let api = Api::new();
    api.database("db").await;
    api.database("new").await;
    api.put("/db/doc", json!({"_attachments": {"att": {"data": "aGk="}}})).await;
    api.put("/db/made-before", json!({})).await;
    api.put("/db/_design/d", json!({})).await;
    api.put("/db/_local/l", json!({})).await;
    api
}

async fn ask(api: &Api, route: (&str, &str, &str), credentials: &str) -> Answer {
    let (method, path, body) = route;
    let mut headers = vec![("Accept", "application/json"), DESTINATION];
    headers.push(("Authorization", credentials));
    headers.extend(content_type(method));
    api.ask(method, path, &headers, body.as_bytes()).await
}

fn content_type(method: &str) -> Option<(&'static str, &'static str)> {
    match method {
        "POST" => Some(JSON),
        "PATCH" => Some(("Content-Type", "application/merge-patch+json")),
        _ => None,
    }
}

#[tokio::test]
async fn a_route_answers_whom_it_was_granted() {
    for &(method, path, body, needs, status) in ROUTES {
        for &(credentials, refused, may) in CREDENTIALS {
            let mut api = prepared().await;
            if credentials.is_empty() {
                api.headers.clear();
            }
            if (method, path) == ("PUT", "/new") {
                let store = api.served.gateway.store();
                store.destroy(&DbName::parse("new").unwrap()).await.unwrap();
            }
            if path == "/db/made?rev=1-a" {
                let made = json!({"new_edits": false, "docs": [{"_id": "made", "_rev": "1-a"}]});
                let headers = [JSON, ("Authorization", "Bearer secret")];
                let body = made.to_string();
                api.ask("POST", "/db/_bulk_docs", &headers, body.as_bytes()).await;
            }
            if path == "/db/_local/m" && method == "DELETE" {
                api.ask("PUT", path, &[("Authorization", "Bearer secret")], b"{}").await;
            }
            let answer = if credentials.is_empty() {
                let mut headers = vec![DESTINATION];
                headers.extend(content_type(method));
                api.ask(method, path, &headers, body.as_bytes()).await
            } else {
                ask(&api, (method, path, body), credentials).await
            };
            let granted = needs == Nothing
                || may.contains(&needs)
                // Nobody is told who nobody is.
                || (path == "/_session" && credentials.is_empty());
            let case = format!("{method} {path} with {credentials:?}");
            if granted {
                assert_eq!(
                    answer.status,
                    status,
                    "{case}: {}",
                    String::from_utf8_lossy(&answer.body)
                );
                continue;
            }
            let server_wide =
                matches!(needs, Known | List | Govern | BackUp | Replicate | Broadcast);
            let expected = match refused {
                Some(status) => status,
                // Known to the databases, and not to the server.
                None if server_wide && !may.contains(&Known) => 401,
                None => 403,
            };
            assert_eq!(
                answer.status,
                expected,
                "{case}: {}",
                String::from_utf8_lossy(&answer.body)
            );
            if method != "HEAD" {
                let error = answer.json()["error"].clone();
                assert!(error == "unauthorized" || error == "forbidden", "{case}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn nobody_learns_whether_a_database_exists() {
    let mut api = prepared().await;
    api.headers.clear();
    for path in ["/db", "/none", "/db/doc", "/none/doc", "/db/_changes", "/none/_changes"] {
        let answer = api.get(path).await;
        answer.assert_error(path, 401, "unauthorized", "You are not authorized to access this db.");
    }
}

#[tokio::test]
async fn every_way_to_show_a_token_counts_once() {
    let mut api = prepared().await;
    api.headers.clear();
    // "anyone:secret"
    let basic = "Basic YW55b25lOnNlY3JldA==";
    for header in ["Bearer secret", "bearer  secret", basic] {
        let answer = api.ask("GET", "/db", &[("Authorization", header)], b"").await;
        assert_eq!(answer.status, 200, "{header}");
    }
    for header in ["secret", "Bearer", "Basic", "Basic !", "Basic c2VjcmV0", "Digest secret", ""] {
        let answer = api.ask("GET", "/db", &[("Authorization", header)], b"").await;
        answer.assert_error(header, 401, "unauthorized", "");
    }
    let twice = "GET /db HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer wrong\r\n\
        Authorization: Bearer secret\r\n\r\n";
    let answer = api.bytes(twice.as_bytes()).await.rest().await;
    answer.assert_error("twice", 400, "bad_request", "twice");
}

#[tokio::test]
async fn a_name_that_was_only_shown_is_told_nowhere() {
    let gateway = token_gateway(Store::memory());
    let server_authorizer = |_: ServerRequest| async { Ok::<_, Denied>(ServerGrant::known()) };
    let api = Api::served(gateway.server_authorizer(server_authorizer));
    let login = json!({"name": "berta", "password": "a token of another's"});
    let begun = api.json("POST", "/_session", login).await.json();
    assert_eq!((&begun["ok"], &begun["name"]), (&json!(true), &Value::Null));
    let basic = [("Authorization", "Basic YmVydGE6eA==")];
    let told = api.ask("GET", "/_session", &basic, b"").await.json();
    assert_eq!(told["userCtx"]["name"], Value::Null);
}

#[tokio::test]
async fn a_cookie_is_as_good_as_what_was_shown_for_it() {
    let mut api = prepared().await;
    api.headers.clear();
    let login = json!({"name": "anna", "password": "user"});
    let answer = api.json("POST", "/_session", login).await;
    assert_eq!(answer.status, 200);
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let with = |cookie: &str| vec![("Cookie", format!("other=1; {cookie}"))];
    let ask = async |cookie: &str, path: &str| {
        let headers = with(cookie);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        api.ask("GET", path, &headers, b"").await
    };
    assert_eq!(ask(&cookie, "/db/doc").await.status, 200);
    assert_eq!(ask(&cookie, "/_session").await.json()["userCtx"]["name"], "anna");
    ask(&cookie, "/_all_dbs").await.assert_error("list", 403, "forbidden", "list");
    let forged = cookie.replace("AuthSession=", "AuthSession=A");
    ask(&forged, "/db/doc").await.assert_error("forged", 401, "unauthorized", "session");
    for (media_type, body) in [
        ("application/x-www-form-urlencoded", "name=anna&password=user"),
        ("application/x-www-form-urlencoded; charset=utf-8", "username=anna&password=user"),
        ("application/json", r#"{"username":"anna","password":"user"}"#),
    ] {
        let headers = [("Content-Type", media_type)];
        let answer = api.ask("POST", "/_session", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{body}");
    }
    for (media_type, body, status) in [
        ("application/json", r#"{"name":"anna","password":"wrong"}"#, 401),
        ("application/json", r#"{"name":"anna"}"#, 400),
        ("application/json", "x", 400),
        ("application/x-www-form-urlencoded", "name=anna", 400),
        ("text/plain", r#"{"name":"anna","password":"user"}"#, 415),
    ] {
        let headers = [("Content-Type", media_type)];
        let answer = api.ask("POST", "/_session", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{body}");
    }
}

#[tokio::test]
async fn pages_of_allowed_origins_may_ask_and_others_may_not() {
    let app = "https://app.example";
    let api = Api::served(token_gateway(Store::memory()).allowed_origins([app.to_owned()]));
    api.database("db").await;
    let ask = async |method: &str, origin: &str| {
        api.ask(method, "/db/doc", &[("Origin", origin)], b"{}").await
    };
    let put = ask("PUT", app).await;
    assert_eq!(put.status, 201);
    assert_eq!(put.header("access-control-allow-origin"), Some(app));
    assert_eq!(put.header("access-control-allow-credentials"), Some("true"));
    let own = ask("GET", "http://gateway").await;
    assert_eq!((own.status, own.header("access-control-allow-origin")), (200, None));
    for foreign in ["https://evil.example", "null", "", "http://gateway.evil.example"] {
        for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
            let answer = ask(method, foreign).await;
            answer.assert_error(foreign, 403, "forbidden", "origin");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    let preflight =
        [("Origin", app), ("Access-Control-Request-Method", "PUT"), ("Authorization", "")];
    let answer = api.ask("OPTIONS", "/db/doc", &preflight, b"").await;
    assert_eq!(answer.status, 204);
    assert!(answer.header("access-control-allow-methods").unwrap().contains("COPY"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("authorization"));
    let any = Api::served(token_gateway(Store::memory()).any_origin());
    let answer = any.ask("GET", "/", &[("Origin", "https://some.example")], b"").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
}

#[tokio::test]
async fn an_open_gateway_answers_its_own_machine_only() {
    let api = Api::served(token_gateway(Store::memory()).loopback_hosts_only());
    for (host, may) in [
        ("localhost", true),
        ("LOCALHOST:5984", true),
        ("127.0.0.1:5984", true),
        ("127.1.2.3", true),
        ("[::1]:5984", true),
        ("evil.example", false),
        ("evil.example:5984", false),
        ("localhost.evil.example", false),
        ("127.0.0.1.evil.example", false),
        ("10.0.0.1", false),
        ("", false),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let status = api.bytes(request.as_bytes()).await.status();
        assert_eq!(status, if may { 200 } else { 403 }, "{host}");
        let upgrade = raw::HANDSHAKE.replace("Host: gateway", &format!("Host: {host}"));
        let status = api.bytes(upgrade.as_bytes()).await.status();
        assert_eq!(status, if may { 101 } else { 403 }, "{host}");
    }
}

#[tokio::test]
async fn a_grant_for_a_part_shows_that_part() {
    let store = Store::memory();
    let mine = Selector::from_value(&json!({"owner": "anna"})).unwrap();
    let api =
        Api::served(Gateway::builder(store.clone()).authorizer(move |request: AccessRequest| {
            let grant = Grant::database(request.database).creating();
            let part = request.credentials["token"] == "part";
            let grant = if part { grant.selector(mine.clone()) } else { grant };
            async move { Ok(grant) }
        }));
    api.database("db").await;
    api.put("/db/mine", json!({"owner": "anna"})).await;
    let hidden = json!({"owner": "bert", "_attachments": {"a": {"data": ""}}});
    let rev = api.put("/db/other", hidden).await;
    let part = ("Authorization", "Bearer part");
    for path in [
        "/db/other".to_owned(),
        format!("/db/other?rev={rev}"),
        "/db/other?open_revs=all".to_owned(),
        "/db/other/a".to_owned(),
        format!("/db/other/a?rev={rev}"),
    ] {
        let answer = api.ask("GET", &path, &[part], b"").await;
        answer.assert_error(&path, 404, "not_found", "missing");
    }
    for path in [
        "/db/_all_docs?include_docs=true",
        "/db/_all_docs?keys=[%22other%22,%22mine%22]&include_docs=true",
        "/db/_changes?include_docs=true",
        "/db/_changes?feed=longpoll",
        "/db/_changes?feed=continuous&timeout=0",
        "/db/_changes?feed=eventsource&timeout=0",
    ] {
        let answer = api.ask("GET", path, &[part], b"").await;
        assert!(answer.text().contains("\"mine\"") && !answer.text().contains(&rev), "{path}");
    }
    let asked = json!({"docs": [{"id": "other"}, {"id": "other", "rev": rev}]}).to_string();
    for accept in ["application/json", "multipart/mixed"] {
        let headers = [part, JSON, ("Accept", accept)];
        let answer = api.ask("POST", "/db/_bulk_get", &headers, asked.as_bytes()).await;
        let text = String::from_utf8_lossy(&answer.body);
        assert!(text.contains("not_found") && !text.contains("bert"), "{text}");
    }
    for (method, path, headers) in [
        ("DELETE", format!("/db/other?rev={rev}"), vec![part]),
        ("PUT", format!("/db/other/a?rev={rev}"), vec![part]),
        ("DELETE", format!("/db/other/a?rev={rev}"), vec![part]),
        ("COPY", "/db/other".to_owned(), vec![part, ("Destination", "copy")]),
    ] {
        let answer = api.ask(method, &path, &headers, b"").await;
        assert!(matches!(answer.status, 403 | 404 | 409), "{method} {path}: {}", answer.text());
    }
    let unchanged: Value = api.get("/db/other").await.json();
    assert_eq!((&unchanged["_rev"], &unchanged["owner"]), (&json!(rev), &json!("bert")));
}

#[tokio::test]
async fn a_gateway_that_judges_databases_only_refuses_what_concerns_the_server() {
    let builder =
        Gateway::builder(Store::memory()).authorizer(|request: AccessRequest| async move {
            Ok(Grant::database(request.database).creating().administering())
        });
    let api = Api::served(builder);
    api.database("db").await;
    for (method, path) in
        [("GET", "/_all_dbs"), ("GET", "/_settee/backup"), ("GET", "/_db_updates")]
    {
        let answer = api.ask(method, path, &[], b"").await;
        answer.assert_error(path, 403, "forbidden", "judges databases only");
    }
}
