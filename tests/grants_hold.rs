//! A grant allows what it says, as long as it says, and what a client shows is nowhere to be read.

#[path = "support/raw.rs"]
mod raw;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raw::{Raw, Served};
use serde_json::{Value, json};
use settee::server::{AccessRequest, Denied, Gateway, Grant, ProposedWrite};
use settee::{DbName, Store};

fn name(text: &str) -> DbName {
    DbName::parse(text).unwrap()
}

async fn served() -> Arc<Served> {
    let store = Store::memory();
    store.create(&name("tests")).await.unwrap();
    Served::new(Gateway::builder(store).authorizer(|request: AccessRequest| async move {
        let grant = Grant::database(request.database.clone());
        match request.credentials["may"].as_str() {
            Some("all") => Ok(grant.creating().destroying().user("anna")),
            Some("use") => Ok(grant),
            Some("read") => Ok(grant.read_only()),
            Some("write") => Ok(grant.write_only()),
            Some("alias") => Ok(Grant::database(name("tests"))),
            Some("move") => Ok(Grant::database(name("moved"))),
            Some("briefly") => Ok(grant.expires_in(Duration::from_millis(50))),
            Some("judged") => {
                Ok(grant.validator(|write: &ProposedWrite<'_>| match write.document.id.as_str() {
                    "bad" => Err(Denied::forbidden("no bad ones")),
                    _ => Ok(()),
                }))
            }
            Some("panic") => panic!("the authorizer's own mistake"),
            _ => Err(Denied::new("not allowed")),
        }
    }))
}

fn open(may: &str) -> Value {
    json!({"database": "tests", "credentials": {"may": may}})
}

async fn status(raw: &mut Raw, method: &str, params: Value) -> Value {
    let answer = raw.ask(json!(["call", 1, 1, method, params])).await;
    match answer[0].as_str() {
        Some("fail") => answer[3]["status"].clone(),
        Some("rows") => {
            assert_eq!(raw.json().await[0], "end");
            json!("ok")
        }
        _ => json!("ok"),
    }
}

#[tokio::test]
async fn rights_are_those_of_the_grant() {
    let served = served().await;
    let doc = json!({"doc": {"_id": "a"}});
    let local = json!({"doc": {"_id": "_local/checkpoint"}});
    for (may, read, write, destroy) in [
        ("read", json!("ok"), json!(403), json!(403)),
        ("write", json!(403), json!("ok"), json!(403)),
        ("use", json!("ok"), json!(409), json!(403)),
        ("all", json!("ok"), json!(409), json!("ok")),
    ] {
        let mut raw = served.channel(open(may)).await;
        assert_eq!(status(&mut raw, "all_docs", json!({})).await, read, "{may}");
        assert_eq!(status(&mut raw, "changes", json!({})).await, read, "{may}");
        assert_eq!(
            status(&mut raw, "bulk_get", json!({"docs": [{"id": "x"}]})).await,
            read,
            "{may}"
        );
        assert_eq!(status(&mut raw, "put", doc.clone()).await, write, "{may}");
        assert_ne!(status(&mut raw, "put", local.clone()).await, json!(403), "{may}");
        assert_eq!(status(&mut raw, "destroy", json!({})).await, destroy, "{may}");
    }
}

#[tokio::test]
async fn a_database_comes_into_being_only_if_asked_for_and_granted() {
    let served = served().await;
    let mut raw = served.socket().await;
    for (may, create, expected) in [("use", true, 404), ("all", false, 404), ("all", true, 0)] {
        let open = json!({"database": "fresh", "credentials": {"may": may}, "create": create});
        let answer = raw.ask(json!(["open", 1, open])).await;
        assert_eq!(answer[2]["status"].as_u64().unwrap_or(0), expected, "{may} {create}: {answer}");
    }
    let alias = json!({"database": "nickname", "credentials": {"may": "alias"}});
    let opened = raw.ask(json!(["open", 2, alias])).await;
    assert_eq!(opened[2]["info"]["db_name"], "tests");
}

#[tokio::test]
async fn a_grant_ends_and_new_credentials_carry_it_on() {
    let served = served().await;
    let mut raw = served.channel(open("briefly")).await;
    let closed = raw.json().await;
    assert_eq!((&closed[0], &closed[2]["status"]), (&json!("closed"), &json!(401)), "{closed}");
    let mut raw = served.channel(open("use")).await;
    let again = raw.ask(json!(["credentials", 1, {"may": "all"}])).await;
    assert_eq!((&again[0], &again[2]["access"]["user"]), (&json!("opened"), &json!("anna")));
    let moved = raw.ask(json!(["credentials", 1, {"may": "move"}])).await;
    assert_eq!((&moved[0], &moved[2]["status"]), (&json!("closed"), &json!(401)));
}

#[tokio::test]
async fn narrower_credentials_end_a_stream_under_way() {
    let served = served().await;
    let mut raw = served.channel(open("use")).await;
    assert_eq!(raw.ask(json!(["call", 1, 1, "changes", {"live": true}])).await[0], "rows");
    assert_eq!(raw.ask(json!(["credentials", 1, {"may": "write"}])).await[0], "opened");
    raw.text(r#"["call",1,2,"put",{"doc":{"_id":"hidden"}}]"#).await;
    let answers = [raw.json().await, raw.json().await];
    assert!(answers.iter().any(|a| a[0] == "fail" && a[3]["status"] == 403), "{answers:?}");
    assert!(!format!("{answers:?}").contains("\"rows\""), "{answers:?}");
}

#[tokio::test]
async fn revoking_and_destroying_close_channels_with_a_reason() {
    let served = served().await;
    let mut anna = served.channel(open("all")).await;
    let mut other = served.channel(open("use")).await;
    let revoked = served.gateway.revoke("logged out", |user, _| user == Some("anna"));
    assert_eq!(revoked, 1);
    let closed = anna.json().await;
    assert_eq!((&closed[0], &closed[2]["reason"]), (&json!("closed"), &json!("logged out")));
    other.assert_alive("somebody else").await;
    served.gateway.store().destroy(&name("tests")).await.unwrap();
    let closed = other.json().await;
    assert_eq!((&closed[0], &closed[2]["status"]), (&json!("closed"), &json!(404)), "{closed}");
}

#[tokio::test]
async fn each_document_is_judged_by_itself() {
    let served = served().await;
    let mut raw = served.channel(open("judged")).await;
    let docs = json!({"docs": [{"_id": "good"}, {"_id": "bad"}, {"_id": "fine"}]});
    let reply = raw.ask(json!(["call", 1, 1, "bulk_docs", docs])).await;
    let rows = reply[3].as_array().unwrap();
    assert_eq!((&rows[0]["ok"], &rows[2]["ok"]), (&json!(true), &json!(true)));
    assert_eq!((&rows[1]["status"], &rows[1]["reason"]), (&json!(403), &json!("no bad ones")));
}

#[tokio::test]
async fn a_panic_of_the_application_is_one_refusal() {
    let served = served().await;
    let mut raw = served.channel(open("use")).await;
    let refused = raw.ask(json!(["open", 2, open("panic")])).await;
    assert_eq!((&refused[0], &refused[2]["status"]), (&json!("refused"), &json!(500)));
    raw.assert_alive("after a panic").await;
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn logs_hold_neither_credentials_nor_bodies() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let served = served().await;
    let mut raw = served.socket().await;
    for may in ["use", "tok-3n"] {
        let credentials = json!({"may": may, "token": "tok-3n-secret"});
        raw.ask(json!(["open", 1, {"database": "tests", "credentials": credentials}])).await;
    }
    let body = json!({"doc": {"_id": "a", "text": "body-5ecret"}});
    raw.ask(json!(["call", 1, 1, "put", body])).await;
    raw.ask(json!(["credentials", 1, {"token": "tok-3n-secret"}])).await;
    let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("channel opened"), "the log was captured: {log}");
    for secret in ["tok-3n", "body-5ecret"] {
        assert!(!log.contains(secret), "{secret} is in the log: {log}");
    }
}
