//! What a gateway tells of itself: metrics, its health, and who did what.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use http::{Api, JSON, docs, token_gateway};
use serde_json::{Value, json};
use settee::server::{
    AccessRequest, AuditEvent, Denied, Gateway, Grant, MetricsAccess, ProposedWrite, Revocation,
    ServerGrant,
};
use settee::store::MemoryBackend;
use settee::{Limits, Store};
use tempfile::tempdir;

/// The text of `/_metrics`.
async fn metrics(api: &Api) -> String {
    let answer = api.get("/_metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(answer.text().ends_with("# EOF\n"));
    answer.text().to_owned()
}

/// The whole part of a sample's value, named as in the text.
fn sample(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    line.split('.').next().expect("one part").parse().expect("a number")
}

/// Asks until a sample has a value.
async fn until_sample(api: &Api, name: &str, value: u64) {
    let reached = async { while sample(&metrics(api).await, name) != value {} };
    let reached = tokio::time::timeout(std::time::Duration::from_secs(60), reached).await;
    reached.unwrap_or_else(|_| panic!("{name} never was {value}"));
}

/// Names of metrics, as the text declares them.
fn names(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn metrics_are_read_by_whom_the_setting_names() {
    let statuses = async |access: MetricsAccess| {
        let builder = token_gateway(Store::memory()).metrics(access).server_authorizer(
            |request: settee::server::ServerRequest| async move {
                match request.credentials["token"].as_str() {
                    Some("secret") => Ok(ServerGrant::known().administering()),
                    Some("lister") => Ok(ServerGrant::known().listing()),
                    _ => Err(Denied::new("not known")),
                }
            },
        );
        let mut api = Api::served(builder);
        api.headers.clear();
        let mut statuses = Vec::new();
        for shown in ["Bearer secret", "Bearer lister", "Bearer scraper", "Bearer scrape", ""] {
            let header = [("Authorization", shown)];
            let headers = if shown.is_empty() { &[][..] } else { &header[..] };
            statuses.push(api.ask("GET", "/_metrics", headers, b"").await.status);
        }
        statuses
    };
    assert_eq!(statuses(MetricsAccess::default()).await, [200, 403, 401, 401, 401]);
    let token = MetricsAccess::Token("scraper".into());
    assert_eq!(format!("{token:?}"), "Token(…)");
    assert_eq!(statuses(token).await, [200, 403, 200, 401, 401]);
    assert_eq!(statuses(MetricsAccess::Everybody).await, [200; 5]);
}

#[tokio::test]
async fn documents_calls_and_answers_are_counted() {
    let api = Api::new();
    api.database("db").await;
    let all: Vec<Value> = (0..5).map(|n| json!({"_id": format!("d{n}")})).collect();
    api.json("POST", "/db/_bulk_docs", docs(&all)).await;
    assert_eq!(api.json("PUT", "/db/d0", json!({})).await.status, 409);
    assert_eq!(api.get("/db/d0").await.status, 200);
    assert_eq!(api.get("/db/none").await.status, 404);
    let open = json!({"database": "db", "credentials": {"token": "secret"}});
    let mut raw = api.served.channel(open).await;
    raw.ask(json!(["call", 1, 1, "get", {"id": "d1"}])).await;
    raw.ask(json!(["call", 1, 2, "unheard_of"])).await;
    let text = metrics(&api).await;
    assert_eq!(sample(&text, "settee_docs_received_total"), 5);
    assert_eq!(sample(&text, "settee_docs_sent_total"), 2);
    assert_eq!(sample(&text, "settee_docs_refused_total{reason=\"conflict\"}"), 1);
    assert_eq!(sample(&text, "settee_refusals_total{reason=\"not_found\"}"), 2);
    assert_eq!(sample(&text, "settee_http_responses_total{status=\"409\"}"), 1);
    assert_eq!(sample(&text, "settee_connections{protocol=\"settee.v1\"}"), 1);
    assert_eq!(sample(&text, "settee_channels{protocol=\"settee.v1\"}"), 1);
    assert_eq!(sample(&text, "settee_databases"), 1);
    let route = "settee_http_request_duration_seconds_count{method=\"GET\",route=\"/{db}/{id}\"}";
    assert_eq!(sample(&text, route), 2);
    for method in ["get", "other"] {
        let name = "settee_call_duration_seconds_count";
        let name = format!("{name}{{protocol=\"settee.v1\",method=\"{method}\"}}");
        assert_eq!(sample(&text, &name), 1);
    }
    let read = sample(&text, "settee_received_bytes_total");
    api.json("POST", "/db/_bulk_docs", docs(&[json!({"long": "x".repeat(100_000)})])).await;
    let later = sample(&metrics(&api).await, "settee_received_bytes_total");
    assert!((100_000..110_000).contains(&(later - read)), "{read} {later}");
    drop(raw);
    until_sample(&api, "settee_connections{protocol=\"settee.v1\"}", 0).await;
}

#[tokio::test]
async fn the_slowest_live_feed_is_seen() {
    let api = Api::new();
    api.database("db").await;
    let open = json!({"database": "db", "credentials": {"token": "secret"}});
    let mut raw = api.served.channel(open).await;
    raw.ask(json!(["call", 1, 1, "changes", {"live": true, "credit": 1}])).await;
    until_sample(&api, "settee_feeds", 1).await;
    for n in 0..3 {
        api.put(&format!("/db/d{n}"), json!({})).await;
    }
    assert_eq!(sample(&metrics(&api).await, "settee_feed_lag_max"), 3);
    raw.ask(json!(["more", 1, 1, 10])).await;
    until_sample(&api, "settee_feed_lag_max", 0).await;
    raw.text(&json!(["cancel", 1, 1]).to_string()).await;
    until_sample(&api, "settee_feeds", 0).await;
}

#[tokio::test]
async fn limits_that_were_reached_are_counted_by_name() {
    let limits = Limits { channels_per_connection_max: 1, ..Limits::default() };
    let api = Api::with(Store::memory(), limits);
    api.database("db").await;
    let open = json!({"database": "db", "credentials": {"token": "secret"}});
    let mut raw = api.served.channel(open.clone()).await;
    assert_eq!(raw.ask(json!(["open", 2, open])).await[0], "refused");
    let text = metrics(&api).await;
    let name = "settee_limits_hit_total{limit=\"channels_per_connection_max\"}";
    assert_eq!(sample(&text, name), 1);
    assert_eq!(sample(&text, "settee_refusals_total{reason=\"too_many_requests\"}"), 1);
}

#[tokio::test]
async fn nothing_that_a_client_makes_up_becomes_a_label() {
    let api = Api::new();
    api.database("db").await;
    for path in ["/Evil", "/evil/x", "/db/evil", "/db/_evil", "/_evil", "/db/evil/evil", "/%22evil"]
    {
        for method in ["GET", "EVIL", "DELETE"] {
            api.ask(method, path, &[], b"").await;
        }
    }
    let open = json!({"database": "db", "credentials": {"token": "secret"}});
    let mut raw = api.served.channel(open).await;
    raw.ask(json!(["call", 1, 1, "evil"])).await;
    let text = metrics(&api).await;
    assert!(!text.to_lowercase().contains("evil"), "{text}");
}

/// A gateway on disk to which everything has happened that is counted.
async fn busy(dir: &std::path::Path) -> Api {
    let limits = Limits { channels_per_connection_max: 1, ..Limits::default() };
    let api = Api::with(Store::open(dir).unwrap(), limits);
    api.database("db").await;
    api.put("/db/d", json!({})).await;
    api.json("PUT", "/db/d", json!({})).await;
    let open = json!({"database": "db", "credentials": {"token": "secret"}});
    let mut raw = api.served.channel(open.clone()).await;
    raw.ask(json!(["call", 1, 1, "info"])).await;
    raw.ask(json!(["open", 2, open])).await;
    api
}

#[tokio::test]
async fn the_dashboard_and_the_documents_name_what_there_is() {
    let dir = tempdir().unwrap();
    let api = busy(dir.path()).await;
    let text = metrics(&api).await;
    assert!(sample(&text, "settee_flush_duration_seconds_count") >= 2);
    assert!(sample(&text, "settee_flush_rows_sum") >= 2);
    assert!(sample(&text, "settee_store_bytes") > 0);
    assert!(sample(&text, "process_resident_memory_bytes") > 1_000_000);
    assert!(sample(&text, "process_open_fds") > 3);
    let declared = names(&text);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let dashboard = read("docs/grafana-dashboard.json");
    let board: Value = serde_json::from_str(&dashboard).unwrap();
    assert!(board["panels"].as_array().unwrap().len() > 10);
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let named = |text: &str| -> BTreeSet<String> {
        let words = text.split(word).filter(|word| {
            word.starts_with("process_") || word.starts_with("settee_") && *word != "settee_"
        });
        words.map(str::to_owned).collect()
    };
    let shown = named(&dashboard);
    assert!(shown.len() > 15, "{shown:?}");
    for name in &shown {
        assert!(text.lines().any(|line| line.starts_with(name.as_str())), "no metric {name}");
    }
    let operations = read("docs/OPERATIONS.md");
    let table = operations.lines().skip_while(|line| !line.starts_with("| metric |")).skip(2);
    let rows = table.map_while(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert_eq!(listed, declared, "the list of metrics in docs/OPERATIONS.md");
}

#[tokio::test]
async fn a_store_that_takes_no_writes_is_not_up() {
    let backend = Arc::new(MemoryBackend::new());
    let api = Api::with(Store::with_backend(backend.clone(), Limits::default()), Limits::default());
    api.database("db").await;
    assert_eq!(api.get("/_up").await.json()["status"], "ok");
    backend.fail_next_flush();
    assert_eq!(api.json("PUT", "/db/d", json!({})).await.status, 500);
    let up = api.get("/_up").await;
    assert_eq!((up.status, up.json()), (503, json!({"status": "maintenance_mode"})));
    assert_eq!(sample(&metrics(&api).await, "settee_store_poisoned"), 1);
    assert_eq!(api.get("/_settee/status").await.json()["poisoned"], true);
}

/// A gateway, and the events that it tells.
fn audited() -> (Api, Arc<Mutex<Vec<Value>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let audit = move |event: AuditEvent| {
        let mut event: Value = serde_json::from_str(&event.to_json()).unwrap();
        let time = event.as_object_mut().unwrap().remove("time").unwrap();
        assert!(time.as_str().unwrap().starts_with("20"), "{time}");
        told.lock().unwrap().push(event);
    };
    let authorizer = |request: AccessRequest| async move {
        let grant = Grant::database(request.database).creating().destroying().administering();
        match request.credentials["token"].as_str() {
            Some("secret") => Ok(grant.user("anna").validator(|write: &ProposedWrite<'_>| {
                let bad = write.document.id.as_str() == "bad";
                if bad { Err(Denied::forbidden("never")) } else { Ok(()) }
            })),
            _ => Err(Denied::new("no")),
        }
    };
    let builder = Gateway::builder(Store::memory()).authorizer(authorizer).audit(audit);
    let builder = builder.server_authorizer(|request: settee::server::ServerRequest| async move {
        match request.credentials["password"].as_str() {
            Some("secret") => Ok(ServerGrant::known().user("anna")),
            _ => Err(Denied::new("no")),
        }
    });
    (Api::served(builder), events)
}

#[tokio::test]
async fn who_did_what_is_told_in_its_order() {
    let (api, events) = audited();
    let taken = || std::mem::take(&mut *events.lock().unwrap());
    let anna = |event: Value| {
        let mut event = event;
        event["user"] = json!("anna");
        event
    };
    let in_db = |event: Value| {
        let mut event = event;
        event["database"] = json!("db");
        event["protocol"] = json!("http");
        event
    };
    api.database("db").await;
    assert_eq!(taken(), [anna(in_db(json!({"event": "administered", "what": "create"})))]);
    let rev = api.put("/db/d", json!({"body": 1})).await;
    let opened = anna(in_db(json!({"event": "opened"})));
    let wrote = anna(in_db(json!({"event": "wrote", "id": "d", "rev": rev})));
    assert_eq!(taken(), [opened.clone(), wrote]);
    api.json("PUT", "/db/bad", json!({})).await;
    let refused =
        json!({"event": "document_refused", "id": "bad", "status": 403, "error": "forbidden"});
    let events_of_bad = taken();
    assert_eq!(events_of_bad[..2], [opened.clone(), anna(in_db(refused))]);
    api.put("/db/_local/checkpoint", json!({})).await;
    assert_eq!(taken(), std::slice::from_ref(&opened));
    api.ask("GET", "/db", &[("Authorization", "Bearer wrong")], b"").await;
    assert_eq!(
        taken(),
        [in_db(json!({"event": "refused", "status": 401, "error": "unauthorized"}))]
    );
    for (method, path, what) in [
        ("PUT", "/db/_security", "security"),
        ("POST", "/db/_compact", "compact"),
        ("DELETE", "/db", "destroy"),
    ] {
        let headers: &[(&str, &str)] = if method == "DELETE" { &[] } else { &[JSON] };
        api.ask(method, path, headers, if method == "DELETE" { b"" } else { b"{}" }).await;
        let did = anna(in_db(json!({"event": "administered", "what": what})));
        assert_eq!(taken(), [opened.clone(), did], "{what}");
    }
    let login = json!({"name": "anna", "password": "secret"});
    let session = api.json("POST", "/_session", login).await;
    assert_eq!(taken(), [json!({"event": "session_begun", "user": "anna", "protocol": "http"})]);
    let cookie = session.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    api.ask("DELETE", "/_session", &[("Cookie", &cookie)], b"").await;
    assert_eq!(taken(), [json!({"event": "session_ended", "protocol": "http"})]);
    let open = json!({"database": "todos", "credentials": {"token": "secret"}, "create": true});
    let mut raw = api.served.channel(open).await;
    let written = raw.ask(json!(["call", 1, 1, "put", {"doc": {"_id": "w"}}])).await;
    let revoked = api.served.gateway.revoke("over", |_, _| true);
    assert_eq!(revoked, 1);
    let told: Vec<Value> = taken().iter().map(|event| event["event"].clone()).collect();
    assert_eq!(told, ["opened", "wrote", "administered"], "{written}");
    let revocation = Revocation { user: Some("berta".into()), ..Revocation::default() };
    api.served.gateway.revoke_grants(&revocation).unwrap();
    let ordered = json!({"event": "administered", "what": "revoke", "user": "berta"});
    assert_eq!(taken(), [ordered], "an order is told though it ends nothing");
}

#[tokio::test]
async fn denials_are_kept_for_the_page_and_asking_without_credentials_is_none() {
    let api = Api::new();
    api.database("db").await;
    let nothing = "GET /db HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    api.bytes(nothing.as_bytes()).await.rest().await;
    for _ in 0..150 {
        api.ask("GET", "/db", &[("Authorization", "Bearer wrong")], b"").await;
    }
    let denials = api.get("/_settee/status").await.json()["denials"].clone();
    let denials = denials.as_array().unwrap();
    assert_eq!(denials.len(), 100, "only the newest are kept");
    assert!(denials.iter().all(|one| one["status"] == 401 && one["database"] == "db"));
}
