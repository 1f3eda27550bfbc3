//! `_replicate`: replications that a gateway carries out itself, under the grants of who asks.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/syncing.rs"]
mod syncing;
#[path = "support/web.rs"]
mod web;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{Answer, Api, token_gateway};
use serde_json::{Value, json};
use settee::server::{AccessRequest, Denied, Gateway, Grant, ServerGrant, ServerRequest};
use settee::{Database, Limits, Store};
use syncing::{
    assert_equal, attach, attached, count_of, delete, fill, name, put, text, until_count,
    until_text,
};
use web::Web;

/// Two gateways, each with a database: this one is asked, the other listens on a port.
struct Two {
    api: Api,
    here: Database,
    there: Database,
    web: Web,
}

async fn two() -> Two {
    let (store, other) = (Store::memory(), Store::memory());
    let here = store.create(&name("here")).await.unwrap();
    let there = other.create(&name("there")).await.unwrap();
    let (_, web) = Web::gateway(token_gateway(other)).await;
    let api = Api::with(store, Limits::default());
    Two { api, here, there, web }
}

impl Two {
    fn there(&self) -> Value {
        let auth = json!({"basic": {"username": "anna", "password": "secret"}});
        json!({"url": self.web.url("there"), "auth": auth})
    }

    async fn replicate(&self, body: Value) -> Answer {
        self.api.json("POST", "/_replicate", body).await
    }

    async fn jobs(&self) -> Value {
        self.api.get("/_scheduler/jobs").await.json()
    }

    /// Waits until a job tells this state.
    async fn until_state(&self, id: &str, state: &str) -> Value {
        until_state(&self.api, id, state).await
    }
}

async fn until_state(api: &Api, id: &str, state: &str) -> Value {
    let reached = async {
        loop {
            let job = api.get(&format!("/_scheduler/jobs/{id}")).await;
            if job.status == 200 && job.json()["state"] == state {
                return job.json();
            }
            tokio::task::yield_now().await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
    reached.unwrap_or_else(|_| panic!("{id} never was {state}"))
}

#[tokio::test]
async fn one_shot_pushes_and_pulls_and_answers_as_couchdb_does() {
    let two = two().await;
    fill(&two.here, "here", 30).await;
    fill(&two.there, "there", 20).await;
    delete(&two.here, "here3").await;
    attach(&two.here, "large", "file", vec![1; 150_000]).await;
    let pushed = two.replicate(json!({"source": "here", "target": two.there()})).await;
    assert_eq!(pushed.status, 200, "{}", pushed.text());
    let pushed = pushed.json();
    assert_eq!(pushed["ok"], true);
    assert_eq!(pushed["replication_id_version"], 4);
    assert!(pushed["no_changes"].is_null(), "{pushed}");
    let session = pushed["session_id"].as_str().unwrap();
    let entry = &pushed["history"][0];
    assert_eq!(entry["session_id"], session);
    assert_eq!((entry["docs_read"].as_u64(), entry["docs_written"].as_u64()), (Some(31), Some(31)));
    assert_eq!(
        (entry["missing_checked"].as_u64(), entry["missing_found"].as_u64()),
        (Some(31), Some(31))
    );
    assert_eq!((&entry["doc_write_failures"], &entry["start_last_seq"]), (&json!(0), &json!("0")));
    assert_eq!(entry["end_last_seq"], pushed["source_last_seq"]);
    assert!(entry["end_time"].as_str().unwrap().ends_with(" GMT"), "{entry}");
    let pulled = two.replicate(json!({"source": two.there(), "target": "here"})).await;
    assert_eq!(pulled.json()["history"][0]["docs_written"], 20, "{}", pulled.text());
    assert_equal(&two.here, &two.there).await;
    assert_eq!(text(&two.there, "here3").await, None);
    assert_eq!(attached(&two.there, "large", "file").await.len(), 150_000);
    let again = two.replicate(json!({"source": two.there(), "target": "here"})).await.json();
    assert_eq!((&again["ok"], &again["no_changes"]), (&json!(true), &json!(true)), "{again}");
    assert_eq!(two.jobs().await["total_rows"], 0);
}

#[tokio::test]
async fn two_databases_of_one_gateway_replicate() {
    let two = two().await;
    fill(&two.here, "d", 10).await;
    let body = json!({"source": "here", "target": "copy", "create_target": true});
    let made = two.replicate(body.clone()).await;
    assert_eq!(made.json()["history"][0]["docs_written"], 10, "{}", made.text());
    let copy = two.api.served.gateway.store().database(&name("copy")).await.unwrap();
    assert_equal(&two.here, &copy).await;
    assert_eq!(two.replicate(body).await.status, 200);
    let missing = two.replicate(json!({"source": "none", "target": "here"})).await;
    missing.assert_error("no source", 404, "not_found", "not exist");
}

#[tokio::test]
async fn what_narrows_a_replication_is_kept() {
    let two = two().await;
    fill(&two.there, "d", 10).await;
    put(&two.there, "_design/app", "1").await;
    let check = async |narrowing: Value, count: u64| {
        let (source, target) = (two.there(), json!("narrow"));
        let mut body = json!({"source": source, "target": target, "create_target": true});
        body.as_object_mut().unwrap().extend(narrowing.as_object().unwrap().clone());
        let answer = two.replicate(body).await;
        assert_eq!(answer.status, 200, "{narrowing}: {}", answer.text());
        let store = two.api.served.gateway.store();
        let target = store.database(&name("narrow")).await.unwrap();
        assert_eq!(count_of(&target).await, count, "{narrowing}");
        store.destroy(&name("narrow")).await.unwrap();
    };
    check(json!({"doc_ids": ["d1", "d2", "none"]}), 2).await;
    check(json!({"filter": "_doc_ids", "doc_ids": ["d1"]}), 1).await;
    check(json!({"selector": {"n": {"$gte": 7}}}), 3).await;
    check(json!({"filter": "_selector", "selector": {"n": 1}}), 1).await;
    check(json!({"filter": "_design"}), 1).await;
    let last = two.there.info().await.unwrap().update_seq.to_string();
    check(json!({"since_seq": last}), 0).await;
    check(json!({"use_checkpoints": false}), 11).await;
}

#[tokio::test]
async fn a_continuous_job_goes_on_until_it_is_cancelled() {
    let two = two().await;
    put(&two.here, "first", "1").await;
    let body = json!({"source": "here", "target": two.there(), "continuous": true});
    let started = two.replicate(body.clone()).await;
    assert_eq!(started.status, 202, "{}", started.text());
    let id = started.json()["_local_id"].as_str().unwrap().to_owned();
    assert!(id.ends_with("+continuous"), "{id}");
    until_text(&two.there, "first", "1").await;
    put(&two.here, "second", "1").await;
    until_text(&two.there, "second", "1").await;
    let again = two.replicate(body.clone()).await;
    assert_eq!((again.status, &again.json()["_local_id"]), (202, &json!(id)), "the same job");
    let tasks = two.api.get("/_active_tasks").await;
    let task = &tasks.json()[0];
    assert_eq!((&task["type"], &task["replication_id"]), (&json!("replication"), &json!(id)));
    assert_eq!((&task["source"], &task["continuous"]), (&json!("here"), &json!(true)));
    assert_eq!(task["target"], two.web.url("there"));
    let jobs = two.jobs().await;
    assert_eq!((&jobs["total_rows"], &jobs["jobs"][0]["id"]), (&json!(1), &json!(id)));
    for shown in [tasks.text().to_owned(), jobs.to_string()] {
        assert!(!shown.contains("secret"), "{shown}");
    }
    let mut cancel = body;
    cancel["cancel"] = json!(true);
    let cancelled = two.replicate(cancel.clone()).await;
    assert_eq!(cancelled.json(), json!({"ok": true, "_local_id": id}));
    assert_eq!(two.jobs().await["total_rows"], 0);
    put(&two.here, "third", "1").await;
    two.replicate(cancel).await.assert_error("again", 404, "not_found", "no such replication");
    let by_id = two.replicate(json!({"replication_id": id, "cancel": true})).await;
    assert_eq!(by_id.status, 404);
    assert_eq!(text(&two.there, "third").await, None);
}

#[tokio::test]
async fn a_job_is_cancelled_by_its_id() {
    let two = two().await;
    let body = json!({"source": "here", "target": two.there(), "continuous": true});
    let id = two.replicate(body).await.json()["_local_id"].as_str().unwrap().to_owned();
    let plain = id.split('+').next().unwrap();
    let cancelled = two.replicate(json!({"_local_id": plain, "cancel": true})).await;
    assert_eq!(cancelled.json()["_local_id"], id);
    assert_eq!(two.api.get(&format!("/_scheduler/jobs/{id}")).await.status, 404);
}

#[tokio::test]
async fn documents_that_are_denied_are_counted_and_the_others_arrive() {
    let two = two().await;
    fill(&two.here, "good", 5).await;
    put(&two.here, "bad", "evil").await;
    let answer = two.replicate(json!({"source": "here", "target": two.there()})).await.json();
    let entry = &answer["history"][0];
    assert_eq!((&entry["docs_written"], &entry["doc_write_failures"]), (&json!(5), &json!(1)));
    assert_eq!(count_of(&two.there).await, 5);
}

#[tokio::test]
async fn remotes_that_refuse_are_named_as_couchdb_names_them() {
    let two = two().await;
    let there = two.web.url("there");
    let check = async |target: Value, error: &str, reason: &str| {
        let answer = two.replicate(json!({"source": "here", "target": target})).await;
        answer.assert_error(reason, 500, error, reason);
        assert!(!answer.text().contains("wrong"), "{}", answer.text());
    };
    check(json!(there), "unauthorized", "unauthorized to access or create").await;
    let wrong = there.replace("http://", "http://anna:wrong@");
    check(json!(wrong), "unauthorized", "unauthorized to access or create").await;
    let stranger = json!({"url": there, "headers": {"Authorization": "Bearer stranger"}});
    check(stranger, "forbidden", "not for you").await;
    let none = two.web.url("none").replace("http://", "http://anna:secret@");
    check(json!(none), "db_not_found", "could not open").await;
    check(json!("http://127.0.0.1:1/db"), "connection_failed", "127.0.0.1:1").await;
}

#[tokio::test]
async fn each_side_needs_its_own_grant() {
    let two = two().await;
    two.api.database("other").await;
    let as_user = async |token: &str, body: Value| {
        let bearer = format!("Bearer {token}");
        let headers = [http::JSON, ("Authorization", bearer.as_str())];
        two.api.ask("POST", "/_replicate", &headers, body.to_string().as_bytes()).await
    };
    let local = json!({"source": "here", "target": "other"});
    assert_eq!(as_user("user", local.clone()).await.status, 200);
    as_user("reader", local.clone()).await.assert_error("reader", 403, "forbidden", "write");
    as_user("writer", local.clone()).await.assert_error("writer", 403, "forbidden", "read");
    as_user("stranger", local.clone()).await.assert_error("stranger", 403, "forbidden", "");
    as_user("wrong", local).await.assert_error("wrong", 401, "unauthorized", "");
    for body in [
        json!({"source": "here", "target": two.there()}),
        json!({"source": two.there(), "target": "here"}),
        json!({"source": two.there(), "target": two.there()}),
        json!({"replication_id": "x", "cancel": true}),
    ] {
        as_user("user", body.clone()).await.assert_error("user", 403, "forbidden", "replicate");
    }
    assert!(two.web.asked().is_empty());
}

#[tokio::test]
async fn two_servers_elsewhere_replicate_through_this_one() {
    let two = two().await;
    let third = Store::memory();
    let end = third.create(&name("end")).await.unwrap();
    let (_, web) = Web::gateway(token_gateway(third)).await;
    fill(&two.there, "d", 40).await;
    attach(&two.there, "large", "file", vec![5; 200_000]).await;
    let target = web.url("end").replace("http://", "http://anna:secret@");
    let answer = two.replicate(json!({"source": two.there(), "target": target})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_equal(&two.there, &end).await;
}

/// A gateway whose grants a test can end.
struct Judged {
    api: Api,
    refused: Arc<Mutex<Option<Denied>>>,
    /// Whether the token `worker` may use addresses.
    replicates: Arc<AtomicBool>,
    here: Database,
    other: Database,
}

async fn judged(lasts: Option<Duration>) -> Judged {
    let store = Store::memory();
    let here = store.create(&name("here")).await.unwrap();
    let other = store.create(&name("other")).await.unwrap();
    let refused = Arc::<Mutex<Option<Denied>>>::default();
    let refusing = Arc::clone(&refused);
    let replicates = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&replicates);
    let builder = Gateway::builder(store)
        .authorizer(move |request: AccessRequest| {
            let refused = refusing.lock().unwrap().clone();
            async move {
                if let Some(denied) = refused {
                    return Err(denied);
                }
                let grant = Grant::database(request.database).user("anna");
                Ok(match lasts {
                    Some(lasts) => grant.expires_at(SystemTime::now() + lasts),
                    None => grant,
                })
            }
        })
        .server_authorizer(move |request: ServerRequest| {
            let may = request.credentials["token"] != "worker" || still.load(Ordering::SeqCst);
            let grant = ServerGrant::known();
            async move { Ok(if may { grant.replicating() } else { grant }) }
        });
    Judged { api: Api::served(builder), refused, replicates, here, other }
}

async fn start_continuous(api: &Api) -> String {
    let body = json!({"source": "here", "target": "other", "continuous": true});
    let started = api.json("POST", "/_replicate", body).await;
    assert_eq!(started.status, 202, "{}", started.text());
    started.json()["_local_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_job_ends_with_its_grant_and_says_so() {
    let judged = judged(None).await;
    let id = start_continuous(&judged.api).await;
    put(&judged.here, "before", "1").await;
    until_text(&judged.other, "before", "1").await;
    *judged.refused.lock().unwrap() = Some(Denied::new("no more"));
    judged.api.served.gateway.revoke("your access was withdrawn", |user, _| user == Some("anna"));
    let job = until_state(&judged.api, &id, "failed").await;
    let error = job["info"]["error"].as_str().unwrap();
    assert!(error.contains("your access was withdrawn"), "{job}");
    assert_eq!(job["history"][0]["type"], "crashed");
    assert_eq!(judged.api.get("/_active_tasks").await.json(), json!([]));
}

#[tokio::test]
async fn a_job_ends_with_the_right_to_use_addresses() {
    let judged = judged(None).await;
    let elsewhere = Store::memory();
    let there = elsewhere.create(&name("there")).await.unwrap();
    let copy = elsewhere.create(&name("copy")).await.unwrap();
    let (_, web) = Web::gateway(token_gateway(elsewhere)).await;
    let url = |database: &str| web.url(database).replace("http://", "http://anna:secret@");
    let headers = [http::JSON, ("Authorization", "Bearer worker")];
    let start = async |source: String, target: String| {
        let body = json!({"source": source, "target": target, "continuous": true}).to_string();
        let api = &judged.api;
        let started = api.ask("POST", "/_replicate", &headers, body.as_bytes()).await.json();
        started["_local_id"].as_str().expect("it starts").to_owned()
    };
    let ids = [start("here".into(), url("there")).await, start(url("there"), url("copy")).await];
    put(&judged.here, "before", "1").await;
    until_text(&there, "before", "1").await;
    until_text(&copy, "before", "1").await;
    judged.replicates.store(false, Ordering::SeqCst);
    judged.api.served.gateway.rejudge().await;
    for id in ids {
        let job = until_state(&judged.api, &id, "failed").await;
        assert!(job["info"]["error"].as_str().unwrap().contains("replicate"), "{job}");
    }
}

#[tokio::test]
async fn a_job_that_cannot_be_judged_for_now_is_tried_again() {
    let judged = judged(None).await;
    let id = start_continuous(&judged.api).await;
    put(&judged.here, "before", "1").await;
    until_text(&judged.other, "before", "1").await;
    *judged.refused.lock().unwrap() = Some(Denied::unavailable("nobody judges"));
    judged.api.served.gateway.rejudge().await;
    until_state(&judged.api, &id, "crashing").await;
    *judged.refused.lock().unwrap() = None;
    put(&judged.here, "after", "1").await;
    until_text(&judged.other, "after", "1").await;
}

#[tokio::test]
async fn a_grant_that_has_run_its_time_is_asked_for_again() {
    let judged = judged(Some(Duration::from_millis(300))).await;
    let id = start_continuous(&judged.api).await;
    put(&judged.here, "before", "1").await;
    until_text(&judged.other, "before", "1").await;
    // More restarts than the first are seen: the grant has been given again.
    let started_again = async {
        loop {
            let job = judged.api.get(&format!("/_scheduler/jobs/{id}")).await.json();
            let starts = job["history"].as_array().unwrap().iter();
            if starts.filter(|event| event["type"] == "started").count() > 1 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), started_again).await.unwrap();
    put(&judged.here, "after", "1").await;
    until_text(&judged.other, "after", "1").await;
    *judged.refused.lock().unwrap() = Some(Denied::new("no more"));
    let job = until_state(&judged.api, &id, "failed").await;
    assert!(job["info"]["error"].as_str().unwrap().contains("no more"), "{job}");
}

#[tokio::test]
async fn a_job_ends_with_its_database() {
    let two = two().await;
    put(&two.there, "before", "1").await;
    let body = json!({"source": two.there(), "target": "here", "continuous": true});
    let id = two.replicate(body).await.json()["_local_id"].as_str().unwrap().to_owned();
    until_text(&two.here, "before", "1").await;
    two.api.served.gateway.store().destroy(&name("here")).await.unwrap();
    let job = two.until_state(&id, "failed").await;
    assert!(job["info"]["error"].as_str().unwrap().contains("destroyed"), "{job}");
}

#[tokio::test]
async fn a_job_whose_other_side_is_lost_is_tried_again() {
    let other = Store::memory();
    let there = other.create(&name("there")).await.unwrap();
    let (_, web) = Web::gateway(token_gateway(other.clone())).await;
    let address = web.address.clone();
    let store = Store::memory();
    let here = store.create(&name("here")).await.unwrap();
    let api = Api::with(store, Limits::default());
    let target = web.url("there").replace("http://", "http://anna:secret@");
    let body = json!({"source": "here", "target": target, "continuous": true});
    let id = api.json("POST", "/_replicate", body).await.json()["_local_id"].clone();
    let id = id.as_str().unwrap();
    put(&here, "before", "1").await;
    until_text(&there, "before", "1").await;
    drop(web);
    put(&here, "meanwhile", "1").await;
    let crashing = until_state(&api, id, "crashing").await;
    assert!(!crashing.to_string().contains("secret"), "{crashing}");
    let listener = tokio::net::TcpListener::bind(&address).await.unwrap();
    let again = token_gateway(other).build().unwrap();
    let serving = tokio::spawn(async move {
        again.serve(listener, std::future::pending()).await;
    });
    until_text(&there, "meanwhile", "1").await;
    serving.abort();
}

#[tokio::test]
async fn more_jobs_than_allowed_are_refused() {
    let store = Store::memory();
    for db in ["a", "b", "c"] {
        store.create(&name(db)).await.unwrap();
    }
    let api = Api::with(store, Limits { replications_max: 1, ..Limits::default() });
    let start = async |target: &str| {
        let body = json!({"source": "a", "target": target, "continuous": true});
        api.json("POST", "/_replicate", body).await
    };
    assert_eq!(start("b").await.status, 202);
    assert_eq!(start("b").await.status, 202, "the same job is no second one");
    start("c").await.assert_error("second", 429, "too_many_requests", "1 replications");
}

#[tokio::test]
async fn one_owner_does_not_take_every_place_and_a_kept_body_is_bounded() {
    let store = Store::memory();
    for db in ["a", "b", "c"] {
        store.create(&name(db)).await.unwrap();
    }
    let api = Api::with(store, Limits { replications_max: 2, ..Limits::default() });
    let body = |target: &str| json!({"source": "a", "target": target, "continuous": true});
    assert_eq!(api.json("POST", "/_replicate", body("b")).await.status, 202);
    let second = api.json("POST", "/_replicate", body("c")).await;
    second.assert_error("second", 429, "too_many_requests", "1 replications");
    let anna = [("Authorization", "Bearer user"), ("Content-Type", "application/json")];
    let other = api.ask("POST", "/_replicate", &anna, body("c").to_string().as_bytes()).await;
    assert_eq!(other.status, 202, "{}", other.text());
    let mut long = body("b");
    long["doc_ids"] = (0..1_100).map(|n| format!("{n:01000}")).collect();
    let refused = api.json("POST", "/_replicate", long).await;
    assert_eq!(refused.status, 413, "{}", refused.text());
}

#[tokio::test]
async fn ten_thousand_documents_each_way() {
    let two = two().await;
    fill(&two.here, "here", 10_000).await;
    let pushed = two.replicate(json!({"source": "here", "target": two.there()})).await.json();
    assert_eq!(pushed["history"][0]["docs_written"], 10_000, "{pushed}");
    fill(&two.there, "there", 10_000).await;
    let pulled = two.replicate(json!({"source": two.there(), "target": "here"})).await.json();
    assert_eq!(pulled["history"][0]["docs_written"], 10_000, "{pulled}");
    until_count(&two.here, 20_000).await;
    assert_eq!(count_of(&two.there).await, 20_000);
}
