//! Every route, call and method against every kind of credentials, under rules of a configuration.
//!
//! What is asked is held to the code's own tables: a route or method that is in no list here fails.

#[path = "support/access.rs"]
mod access;
#[path = "support/http.rs"]
mod http;
#[path = "support/http_routes.rs"]
mod http_routes;
#[path = "support/legacy.rs"]
mod legacy;
#[path = "support/raw.rs"]
mod raw;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use access::{KEY, everything, in_seconds, jwt};
use http::{Answer, Api, JSON};
use http_routes::Needs::{self, *};
use http_routes::{DESTINATION, ROUTES, patterns, resource};
use legacy::Legacy;
use serde_json::{Value, json};
use settee::server::Revocation;
use settee::{DbName, Document, Store};

/// What only some may read.
const HIDDEN: &str = "hidden-5ecret";

const MERGE_PATCH: (&str, &str) = ("Content-Type", "application/merge-patch+json");

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Nobody,
    Wrong,
    Expired,
    Revoked,
    Reader,
    OtherDatabase,
    Part,
    Admin,
}

const ALL: [Who; 8] = [
    Who::Nobody,
    Who::Wrong,
    Who::Expired,
    Who::Revoked,
    Who::Reader,
    Who::OtherDatabase,
    Who::Part,
    Who::Admin,
];

impl Who {
    fn token(self) -> Option<String> {
        Some(match self {
            Self::Nobody => return None,
            Self::Wrong => "wrong".to_owned(),
            Self::Expired => jwt(&json!({"sub": "late", "exp": in_seconds(-60.0)})),
            Self::Revoked => "revoked-token".to_owned(),
            Self::Reader => "reader-token".to_owned(),
            Self::OtherDatabase => "other-token".to_owned(),
            Self::Part => "part-token".to_owned(),
            Self::Admin => "admin-token".to_owned(),
        })
    }

    fn credentials(self) -> Value {
        self.token().map_or(Value::Null, |token| json!({ "token": token }))
    }

    /// The status with which the database `db` stays closed, if it does.
    fn refused(self) -> Option<u16> {
        match self {
            Self::Nobody | Self::Wrong | Self::Expired => Some(401),
            Self::Revoked | Self::OtherDatabase => Some(403),
            Self::Reader | Self::Part | Self::Admin => None,
        }
    }

    fn may(self, needs: Needs) -> bool {
        match (self, needs) {
            (_, Nothing) | (Self::Admin, _) => true,
            (Self::Nobody | Self::Wrong | Self::Expired | Self::Revoked, _) => false,
            (_, Known) => true,
            (Self::OtherDatabase, _) => false,
            (Self::Reader | Self::Part, needs) => matches!(needs, Open | Read),
        }
    }
}

async fn prepared() -> Api {
    let db = |rights: &[&str]| json!({"databases": "db", "rights": rights});
    let mut part = db(&["read", "write"]);
    part["selector"] = json!({"owner": "anna"});
    let all = json!(["read", "write", "create", "destroy", "admin"]);
    let settings = json!({
        "tokens": [
            everything("admin", "admin-token"),
            everything("revoked", "revoked-token"),
            {"name": "reader", "token": "reader-token", "rules": [db(&["read"])]},
            {"name": "part", "token": "part-token", "rules": [part]},
            {"name": "other", "token": "other-token",
                "rules": [{"databases": "other", "rights": all}]},
        ],
        "jwt": {"keys": [{"algorithm": "HS256", "secret": KEY}],
            "rules": [{"databases": "*", "rights": all}]},
    });
    let store = Store::memory();
    for name in ["db", "new", "other"] {
        store.create(&DbName::parse(name).unwrap()).await.unwrap();
    }
    let db = store.database(&DbName::parse("db").unwrap()).await.unwrap();
    let hidden = json!({"text": HIDDEN});
    for id in ["doc", "_design/d"] {
        db.put(Document::new(id, &hidden).unwrap()).await.unwrap();
    }
    let (builder, _) = access::gateway(store, settings);
    let mut api = Api::served(builder);
    api.headers.clear();
    let admin = ("Authorization", "Bearer admin-token");
    let rev = api.ask("GET", "/db/doc", &[admin], b"").await.json()["_rev"].clone();
    let with = json!({"_rev": rev, "text": HIDDEN, "_attachments": {"att": {"data": "aGk="}}});
    let local = json!({"text": "everybody's"});
    for (path, body) in [("/db/doc", with), ("/db/_local/l", local)] {
        let answer = api.ask("PUT", path, &[admin], body.to_string().as_bytes()).await;
        assert_eq!(answer.status, 201, "{path}");
    }
    let block = Some(Duration::from_secs(3_600));
    let token = Some("revoked".to_owned());
    let revocation = Revocation { token, block, ..Revocation::default() };
    api.served.gateway.revoke_grants(&revocation).unwrap();
    api
}

async fn ask(api: &Api, (method, path, body): (&str, &str, &str), who: Who) -> Answer {
    let bearer = who.token().map(|token| format!("Bearer {token}"));
    let mut headers = vec![("Accept", "application/json"), DESTINATION];
    headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
    headers.extend((method == "POST").then_some(JSON));
    headers.extend((method == "PATCH").then_some(MERGE_PATCH));
    api.ask(method, path, &headers, body.as_bytes()).await
}

async fn before(api: &Api, method: &str, path: &str) {
    let admin = Who::Admin;
    match (method, path) {
        ("PUT", "/new") => drop(ask(api, ("DELETE", "/new", ""), admin).await),
        ("DELETE", "/db/made?rev=1-a") => {
            let made = r#"{"new_edits":false,"docs":[{"_id":"made","_rev":"1-a"}]}"#;
            drop(ask(api, ("POST", "/db/_bulk_docs", made), admin).await);
        }
        ("DELETE", "/db/_local/m") => drop(ask(api, ("PUT", path, "{}"), admin).await),
        _ => {}
    }
}

#[tokio::test]
async fn every_route_of_http() {
    for &(method, path, body, needs, status) in ROUTES {
        for who in ALL {
            let api = prepared().await;
            before(&api, method, path).await;
            let answer = ask(&api, (method, path, body), who).await;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let case = format!("{method} {path} by {who:?}: {} {text}", answer.status);
            let sees_all = matches!(who, Who::Admin | Who::Reader);
            assert!(sees_all || !text.contains(HIDDEN), "{case}");
            let in_part = who == Who::Part && matches!(needs, Read | Write | ReadAndWrite);
            if in_part {
                // What is outside is not there, and not to be written.
                assert!([200, 403, 404, 409].contains(&answer.status), "{case}");
                let nothing = text.contains(r#""success":[]"#);
                let writes_nothing = needs == Read || answer.status != 200 || nothing;
                assert!(writes_nothing, "{case}");
            } else if who.may(needs) || path == "/_session" && who == Who::Nobody {
                assert_eq!(answer.status, status, "{case}");
            } else {
                let server_wide =
                    matches!(needs, Known | List | Govern | BackUp | Replicate | Broadcast);
                let expected = if server_wide && who == Who::OtherDatabase {
                    403
                } else {
                    who.refused().unwrap_or(403)
                };
                assert_eq!(answer.status, expected, "{case}");
            }
            if !who.may(needs) {
                let doc = ask(&api, ("GET", "/db/doc", ""), Who::Admin).await.json();
                assert_eq!(doc["text"], HIDDEN, "{case}");
            }
        }
    }
}

#[tokio::test]
async fn every_route_of_the_code_is_in_the_list() {
    let patterns = patterns();
    assert!(patterns.len() > 20, "{patterns:?}");
    for pattern in patterns {
        // The alternatives of each piece, one at a time.
        let longest = pattern.iter().map(Vec::len).max().unwrap_or(0).max(1);
        for n in 0..longest {
            let wanted =
                |piece: &Vec<String>| piece.get(n.min(piece.len().saturating_sub(1))).cloned();
            let wanted: Vec<Option<String>> = pattern.iter().map(wanted).collect();
            let fits = |path: &str| {
                let path = path.split('?').next().unwrap_or(path);
                let pieces: Vec<&str> = path.split('/').skip(1).collect();
                let found = |from: usize| {
                    pieces.len() >= from + wanted.len()
                        && wanted.iter().zip(&pieces[from..]).all(|(wanted, piece)| {
                            wanted.as_deref().is_none_or(|wanted| wanted == *piece)
                        })
                };
                found(0) || found(1)
            };
            assert!(ROUTES.iter().any(|route| fits(route.1)), "no route of the list is {wanted:?}");
        }
    }
    let mut listed: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (method, path, ..) in ROUTES {
        listed.entry(resource(path)).or_default().insert(method);
    }
    let api = prepared().await;
    for (_, path, ..) in ROUTES {
        let answer = ask(&api, ("BREW", path, ""), Who::Admin).await;
        let Some(allowed) = answer.header("allow") else { continue };
        for method in allowed.split(',').filter(|method| *method != "HEAD") {
            let resource = resource(path);
            // It shows credentials of its own, in its body: see the tests of sessions.
            if (method, resource.as_str()) == ("POST", "/_session") {
                continue;
            }
            assert!(
                listed[&resource].contains(method),
                "{method} of {resource} is not in the list"
            );
        }
    }
}

/// Methods of a protocol as its source names them.
fn methods(source: &str) -> BTreeSet<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let text = std::fs::read_to_string(path).unwrap();
    let name = |line: &str| {
        let (_, rest) = line.trim().strip_prefix("pub const ")?.split_once(": &str = \"")?;
        Some(rest.strip_suffix("\";")?.to_owned())
    };
    text.lines().filter_map(name).collect()
}

/// Method, parameters, what it needs.
fn calls() -> Vec<(&'static str, Value, Needs)> {
    vec![
        ("info", json!({}), Open),
        ("get", json!({"id": "doc"}), Read),
        ("put", json!({"doc": {"_id": "put"}}), Write),
        ("delete", json!({"id": "doc", "rev": "1-a"}), Write),
        ("patch", json!({"id": "doc", "merge": {"n": 1}}), ReadAndWrite),
        ("ops", json!({"id": "doc", "ops": {"inc": {"n": 1}}}), ReadAndWrite),
        ("bulk_docs", json!({"docs": [{"_id": "bulk"}]}), Write),
        ("bulk_get", json!({"docs": [{"id": "doc"}]}), Read),
        ("revs_diff", json!({"doc": ["1-a"]}), Open),
        ("all_docs", json!({"include_docs": true}), Read),
        ("changes", json!({"include_docs": true}), Read),
        ("attachment", json!({"id": "doc", "name": "att"}), Read),
        ("upload", json!({"length": 0}), Write),
        ("destroy", json!({}), Destroy),
    ]
}

/// Everything that a call brings, as far as it ends.
async fn outcome(raw: &mut raw::Raw, method: &str, params: &Value) -> (u64, String) {
    raw.text(&json!(["call", 1, 7, method, params]).to_string()).await;
    if method == "upload" {
        raw.frame(raw::FIN | raw::BINARY, &raw::piece(1, 1, 7, b"")).await;
    }
    let mut all = String::new();
    loop {
        let message = match raw.next().await {
            raw::Came::Json(message) => message,
            raw::Came::Binary(_) | raw::Came::Ping => {
                all.push_str("bytes");
                continue;
            }
            other => panic!("{method}: came {other:?}"),
        };
        all.push_str(&message.to_string());
        match message[0].as_str() {
            Some("reply") => {
                // A row that was refused is the call's refusal here.
                let status = message[3][0]["status"].as_u64();
                return (status.unwrap_or(200), all);
            }
            Some("end") => return (200, all),
            Some("fail") => return (message[3]["status"].as_u64().unwrap(), all),
            Some("closed") if method == "destroy" => {}
            Some("rows") => {}
            other => panic!("{method}: came {other:?} {message}"),
        }
    }
}

#[tokio::test]
async fn every_call_of_settee_v1() {
    let asked: BTreeSet<String> = calls().iter().map(|call| call.0.to_owned()).collect();
    assert_eq!(asked, methods("src/proto/call.rs"), "the list has every method");
    for (method, params, needs) in calls() {
        for who in ALL {
            let api = prepared().await;
            let mut raw = api.served.socket().await;
            let open = json!({"database": "db", "credentials": who.credentials()});
            let opened = raw.ask(json!(["open", 1, open])).await;
            let case = format!("{method} by {who:?}");
            if let Some(status) = who.refused() {
                assert_eq!((&opened[0], &opened[2]["status"]), (&json!("refused"), &json!(status)));
                let (status, _) = outcome(&mut raw, method, &params).await;
                assert_eq!(status, 404, "{case} without a channel");
                continue;
            }
            let (status, all) = outcome(&mut raw, method, &params).await;
            let case = format!("{case}: {status} {all}");
            let sees_all = who != Who::Part;
            assert!(sees_all || !all.contains(HIDDEN) && !all.contains("bytes"), "{case}");
            match who {
                Who::Part if matches!(needs, Read | Write | ReadAndWrite) => {
                    assert!([200, 403, 404, 409].contains(&status), "{case}");
                }
                _ if who.may(needs) => assert!([200, 409].contains(&status), "{case}"),
                _ => assert_eq!(status, 403, "{case}"),
            }
            let doc = ask(&api, ("GET", "/db/doc", ""), Who::Admin).await;
            let destroyed = method == "destroy" && who == Who::Admin;
            assert_eq!(doc.status, if destroyed { 404 } else { 200 }, "{case}");
        }
    }
}

#[tokio::test]
async fn every_method_of_2015() {
    let docs = json!([{"docs": [{"_id": "b", "_rev": "1-b"}], "new_edits": false},
        {"new_edits": false}]);
    let calls = [
        ("_id", json!([]), Open),
        ("_info", json!([]), Open),
        ("get", json!(["doc"]), Read),
        ("allDocs", json!([{"include_docs": true}]), Read),
        ("_bulkDocs", docs, Write),
        ("_getRevisionTree", json!(["doc"]), Read),
        ("_changes", json!([0, {"include_docs": true}]), Read),
    ];
    let asked: BTreeSet<String> = calls.iter().map(|call| call.0.to_owned()).collect();
    assert_eq!(asked, methods("src/proto/legacy/call.rs"), "the list has every method");
    for (method, args, needs) in calls {
        for who in ALL {
            let api = prepared().await;
            let mut client = Legacy::connect(&api.served).await;
            let case = format!("{method} by {who:?}");
            if let Some(status) = who.refused() {
                let request = json!({"database": "db", "credentials": who.credentials()});
                let answer = client.ask("n", request).await;
                assert_eq!(answer[0]["status"], status, "{case}: {answer}");
                continue;
            }
            let stream = client.open("n", "db", who.credentials()).await;
            let answer = client.call(&stream, method, args.clone()).await;
            let mut all = answer.to_string();
            let mut going_on = method == "_changes";
            while going_on {
                let (event, payload) = client.event(&stream, 0).await;
                all.push_str(&payload.to_string());
                going_on = event == "change";
            }
            assert!(who != Who::Part || !all.contains(HIDDEN), "{case}: {all}");
            let refused = needs == Write && who != Who::Admin;
            assert_eq!(all.contains("\"status\":403"), refused, "{case}: {all}");
        }
    }
}
