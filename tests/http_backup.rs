//! Backups over HTTP: one at a time, whole or cut, and only what can be asked for.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use std::sync::{Arc, Mutex};

use http::{Api, token_gateway};
use serde_json::json;
use settee::Store;
use settee::server::{Act, AuditEvent, Revocation};
use settee::store::Manifest;

const PATH: &str = "/_settee/backup";

async fn filled(api: &Api) {
    api.database("db").await;
    for n in 0..100 {
        api.put(&format!("/db/d{n}"), json!({"text": "x".repeat(50_000)})).await;
    }
}

#[tokio::test]
async fn an_archive_comes_whole_and_changes_follow_on_it() {
    let api = Api::new();
    filled(&api).await;
    let whole = api.get(PATH).await;
    assert_eq!(whole.status, 200);
    let base = Manifest::read(&*whole.body).expect("it is whole");
    assert_eq!(base.databases.len(), 1);
    api.put("/db/more", json!({})).await;
    let changed = api.json("POST", PATH, json!({"since": base})).await;
    assert!(changed.body.len() * 100 < whole.body.len(), "{}", changed.body.len());
    let next = Manifest::read(&*changed.body).expect("it is whole");
    let reached = |manifest: &Manifest| manifest.databases.values().next().map(|at| at.seq);
    assert_eq!((reached(&base), reached(&next)), (Some(100), Some(101)));
}

#[tokio::test]
async fn one_is_taken_at_a_time() {
    let api = Api::new();
    filled(&api).await;
    let unread = api.stream("GET", PATH, &[], b"").await;
    let second = api.get(PATH).await;
    second.assert_error("second", 429, "too_many_requests", "1 backup at a time");
    let first = unread.rest().await;
    Manifest::read(&*first.body).expect("the first is whole all the same");
    assert_eq!(api.get(PATH).await.status, 200);
}

#[tokio::test]
async fn one_under_way_is_told_and_is_cut_when_its_grant_is_revoked() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let audit = move |event: AuditEvent| {
        if event.act == (Act::Administered { what: "backup" }) {
            telling.lock().unwrap().push(event.user);
        }
    };
    let api = Api::served(token_gateway(Store::memory()).audit(audit));
    filled(&api).await;
    let unread = api.stream("GET", PATH, &[], b"").await;
    assert_eq!(unread.status(), 200);
    let root = Revocation { user: Some("root".to_owned()), ..Revocation::default() };
    let revoked = api.served.gateway.revoke_grants(&root).unwrap();
    assert_eq!(revoked.feeds, 1);
    let cut = unread.rest().await;
    assert!(Manifest::read(&*cut.body).is_err(), "{} bytes came", cut.body.len());
    assert_eq!(*told.lock().unwrap(), [Some("root".to_owned())]);
    assert_eq!(api.get(PATH).await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_gone_on_from_is_refused() {
    let api = Api::new();
    let other = Api::served(token_gateway(Store::memory()));
    let base = Manifest::read(&*other.get(PATH).await.body).expect("it is whole");
    let answer = api.json("POST", PATH, json!({"since": base})).await;
    answer.assert_error("another store", 400, "bad_request", "of another store");
    for body in [
        json!({"since": {}}),
        json!({"since": {"archive": "x", "store": "y", "databases": {}}}),
        json!({"sinc": null}),
        json!({"bytes_per_second": -1}),
    ] {
        let answer = api.json("POST", PATH, body.clone()).await;
        answer.assert_error(&body.to_string(), 400, "bad_request", "");
    }
    for method in ["HEAD", "PUT", "DELETE"] {
        let answer = api.ask(method, PATH, &[], b"").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,POST")), "{method}");
    }
    api.ask("GET", "/_settee/other", &[], b"").await.assert_error("other", 404, "not_found", "");
}
