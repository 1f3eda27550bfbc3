//! Servers that do not do as they should: each is a named error, in bounded time and memory, and
//! nothing is passed over.

#[path = "support/syncing.rs"]
mod syncing;
#[path = "support/web.rs"]
mod web;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use settee::http_peer::{HttpOptions, sync};
use settee::replicate::{Directions, Lifetime, SyncError};
use settee::store::EditMode;
use settee::{Database, Document};
use syncing::*;
use web::{Web, json, quick, with_header};

const INFO: &str = r#"{"db_name":"db","uuid":"00000000000000000000000000000001"}"#;
const CHANGES: &str = r#"{"results":[{"seq":"1-x","id":"a","changes":[{"rev":"1-a"}]}],"last_seq":"1-x","pending":0}"#;
const FOUND: &str = r#"{"results":[{"id":"a","docs":[{"ok":{"_id":"a","_rev":"1-a","_revisions":{"start":1,"ids":["a"]}}}]}]}"#;

/// What a server that does everything right answers to a pull of one document.
fn good(first: &str) -> Vec<u8> {
    if first.starts_with("GET /db HTTP") {
        json(200, INFO)
    } else if first.contains("/_changes") {
        json(200, CHANGES)
    } else if first.contains("/_bulk_get") {
        json(200, FOUND)
    } else if first.starts_with("GET /db/_local") {
        json(404, r#"{"error":"not_found","reason":"missing"}"#)
    } else {
        json(201, r#"{"ok":true,"id":"x","rev":"0-1"}"#)
    }
}

fn options(directions: Directions) -> HttpOptions {
    HttpOptions { request_retries: 2, ..quick(directions, Lifetime::OneShot) }
}

async fn pull(web: &Web) -> (Database, Result<(), SyncError>) {
    pull_with(web, options(Directions::PullOnly)).await
}

async fn pull_with(web: &Web, options: HttpOptions) -> (Database, Result<(), SyncError>) {
    let here = local().await;
    let remote = format!("http://anna:secret@{}/db", web.address).parse().unwrap();
    let ended = sync(&here, remote, options).finished().await.map(drop);
    (here, ended)
}

/// A pull from a server that answers one kind of request so.
async fn check(at: &'static str, answer: Vec<u8>, expected: &str) {
    check_with(at, answer, expected, options(Directions::PullOnly)).await;
}

async fn check_with(at: &'static str, answer: Vec<u8>, expected: &str, options: HttpOptions) {
    let web = Web::scripted(
        move |first, _| {
            if first.contains(at) { answer.clone() } else { good(first) }
        },
    )
    .await;
    let (here, ended) = pull_with(&web, options.clone()).await;
    let error = ended.expect_err(expected).to_string();
    assert!(error.contains(expected), "{at}: {error} is not {expected}");
    assert!(!error.contains("secret"), "{error}");
    // Nothing was passed over: the next run begins where this one began.
    let again = Web::scripted(|first, _| good(first)).await;
    let options = HttpOptions { silence_timeout: Duration::from_secs(60), ..options };
    sync(&here, again.remote("db"), options).finished().await.unwrap();
    assert_eq!(count_of(&here).await, 1, "{at} {expected}");
}

#[tokio::test]
async fn a_good_server_is_pulled_from() {
    let web = Web::scripted(|first, _| good(first)).await;
    let (here, ended) = pull(&web).await;
    ended.unwrap();
    assert_eq!(count_of(&here).await, 1);
    let asked = web.asked();
    let changes = asked.iter().find(|first| first.contains("_changes")).unwrap();
    for part in ["style=all_docs", "feed=normal", "limit=500", "since=0", "heartbeat="] {
        assert!(changes.contains(part), "{changes}");
    }
}

#[tokio::test]
async fn refusals_are_told_in_the_servers_words() {
    let refused = |status, error: &str| {
        json(status, &json!({"error": error, "reason": format!("because {status}")}).to_string())
    };
    check("GET /db HTTP", refused(401, "unauthorized"), "because 401 (unauthorized)").await;
    check("GET /db HTTP", refused(403, "forbidden"), "because 403 (forbidden)").await;
    check("GET /db HTTP", refused(404, "not_found"), "because 404 (not_found)").await;
    check("_changes", refused(403, "forbidden"), "because 403 (forbidden)").await;
    check("_changes", refused(500, "boom"), "because 500 (boom)").await;
    check("_bulk_get", refused(503, "busy"), "because 503 (busy)").await;
    check("_bulk_get", json(502, "<html>bad gateway</html>"), "the server answered 502").await;
    check("PUT /db/_local", refused(403, "forbidden"), "because 403 (forbidden)").await;
}

#[tokio::test]
async fn answers_that_are_no_answers_are_named() {
    let ok = |body: &str| json(200, body);
    check("GET /db HTTP", ok("<html>a web site</html>"), "there is no CouchDB database").await;
    check("GET /db HTTP", ok(r#"{"couchdb":"Welcome"}"#), "there is no CouchDB database").await;
    check("GET /db HTTP", vec![b'x'; 100], "not connected").await;
    check("_changes", ok(r#"{"rows":[]}"#), "malformed").await;
    check("_changes", ok(r#"{"results":[{"id":1}],"last_seq":1}"#), "malformed").await;
    check("_changes", ok("[]"), "malformed").await;
    let bad_rev = CHANGES.replace("1-a", "a");
    check("_changes", ok(&bad_rev), "Invalid rev").await;
    check("_bulk_get", ok(r#"{"results":[]}"#), "asked for and not answered").await;
    check("_bulk_get", ok(r#"{"results":[{"id":"a","docs":[]}]}"#), "not answered").await;
    check("_bulk_get", ok(&FOUND.replace("\"1-a\"", "\"1-b\"")), "broke the protocol").await;
    let without = FOUND.replace(r#","_revisions":{"start":1,"ids":["a"]}"#, "");
    check("_bulk_get", ok(&without), "without _revisions").await;
    check(
        "_bulk_get",
        ok(r#"{"results":[{"id":"a","docs":[{"error":{"error":"boom"}}]}]}"#),
        "boom",
    )
    .await;
    check("_bulk_get", with_header(200, "X-A: b", "\u{0}"), "malformed").await;
}

#[tokio::test]
async fn connections_that_are_cut_and_silence_are_named() {
    for at in ["GET /db HTTP", "_changes", "_bulk_get"] {
        check(
            at,
            b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"resu".to_vec(),
            "not connected",
        )
        .await;
        check(at, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"results\":[".to_vec(), "cut")
            .await;
        let impatient = HttpOptions {
            silence_timeout: Duration::from_millis(200),
            ..options(Directions::PullOnly)
        };
        check_with(at, Vec::new(), "nothing came for 200 ms", impatient).await;
    }
    check(
        "_changes",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"r".to_vec(),
        "not connected",
    )
    .await;
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Web::scripted(|first, _| good(first)).await;
    let to = format!("Location: {}", elsewhere.url("db"));
    let web = Web::scripted(move |_, _| with_header(302, &to, "")).await;
    let (_, ended) = pull(&web).await;
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("redirects to") || error.contains("no CouchDB"), "{error}");
    assert!(elsewhere.asked().is_empty(), "no credential went there");
}

#[tokio::test]
async fn huge_answers_are_cut_off() {
    let huge = |status: u16| {
        let mut answer = format!("HTTP/1.1 {status} OK\r\nConnection: close\r\n\r\n").into_bytes();
        answer.extend(vec![b' '; 40 * 1024 * 1024]);
        answer
    };
    check("GET /db HTTP", huge(200), "there is no CouchDB database").await;
    check("_changes", huge(200), "too large").await;
    check("_changes", huge(403), "the server answered 403").await;
}

#[tokio::test]
async fn a_document_that_is_too_large_is_denied_and_the_others_arrive() {
    let changes = r#"{"results":[{"seq":1,"id":"a","changes":[{"rev":"1-a"}]},{"seq":2,"id":"huge","changes":[{"rev":"1-b"}]}],"last_seq":2,"pending":0}"#;
    let web = Web::scripted(move |first, body| {
        if first.contains("_changes") {
            json(200, changes)
        } else if first.contains("_bulk_get") && body.contains("huge") {
            let mut answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
            answer.extend(vec![b' '; 40 * 1024 * 1024]);
            answer
        } else {
            good(first)
        }
    })
    .await;
    let here = local().await;
    let ended = Watched::new(sync(&here, web.remote("db"), options(Directions::PullOnly)));
    let ended = ended.ended().await;
    assert_eq!(ended.denied.len(), 1, "{ended:?}");
    assert_eq!((ended.denied[0].id.as_str(), ended.denied[0].error.status), ("huge", 413));
    assert_eq!(ended.summary().pull.unwrap().doc_write_failures, 1);
    assert_eq!(count_of(&here).await, 1);
}

#[tokio::test]
async fn a_feed_that_does_not_move_is_an_error() {
    let row = r#"{"seq":"0","id":"a","changes":[{"rev":"1-a"}]}"#;
    let web = Web::scripted(move |first, _| {
        if first.contains("_changes") {
            json(200, &format!("{{\"results\":[{row}],\"last_seq\":\"0\",\"pending\":5}}"))
        } else {
            good(first)
        }
    })
    .await;
    let here = local().await;
    let mut options = options(Directions::PullOnly);
    options.replication.batch_size = 1;
    let error = sync(&here, web.remote("db"), options).finished().await.unwrap_err();
    assert!(error.to_string().contains("does not move on"), "{error}");
}

#[tokio::test]
async fn what_is_refused_for_a_while_is_asked_again_when_the_server_says() {
    let tries = AtomicUsize::new(0);
    let web = Web::scripted(move |first, _| {
        if first.contains("_changes") && tries.fetch_add(1, Ordering::SeqCst) < 2 {
            with_header(429, "Retry-After: 0", r#"{"error":"too_many_requests"}"#)
        } else {
            good(first)
        }
    })
    .await;
    let (here, ended) = pull(&web).await;
    ended.unwrap();
    assert_eq!(count_of(&here).await, 1);
    assert_eq!(web.asked().iter().filter(|first| first.contains("_changes")).count(), 3);
}

#[tokio::test]
async fn a_server_without_bulk_get_is_asked_one_by_one() {
    let web = Web::scripted(|first, _| {
        if first.contains("_bulk_get") {
            json(404, r#"{"error":"not_found","reason":"missing"}"#)
        } else if first.contains("/db/a?") {
            assert!(first.contains("revs=true") && first.contains("open_revs=%5B%221-a%22%5D"));
            json(200, r#"[{"ok":{"_id":"a","_rev":"1-a","_revisions":{"start":1,"ids":["a"]}}}]"#)
        } else {
            good(first)
        }
    })
    .await;
    let (here, ended) = pull(&web).await;
    ended.unwrap();
    assert_eq!(count_of(&here).await, 1);
}

#[tokio::test]
async fn revisions_that_are_gone_are_left_out() {
    let gone = r#"{"results":[{"id":"a","docs":[{"error":{"id":"a","rev":"1-a","error":"not_found","reason":"missing"}}]}]}"#;
    let web =
        Web::scripted(
            move |first, _| {
                if first.contains("_bulk_get") { json(200, gone) } else { good(first) }
            },
        )
        .await;
    let (here, ended) = pull(&web).await;
    ended.unwrap();
    assert_eq!(count_of(&here).await, 0);
}

/// A push of one document to a server that answers `_bulk_docs` or a PUT so.
async fn push(answer: Vec<u8>) -> Result<u64, SyncError> {
    let here = local().await;
    let document = Document::parse(r#"{"_id":"a","_rev":"1-abc"}"#, here.limits()).unwrap();
    here.bulk_docs(vec![document], EditMode::Replicated).await.unwrap();
    let web = Web::scripted(move |first, _| {
        if first.contains("_revs_diff") {
            json(200, r#"{"a":{"missing":["1-abc"]}}"#)
        } else if first.contains("_bulk_docs") {
            answer.clone()
        } else {
            good(first)
        }
    })
    .await;
    let ended = sync(&here, web.remote("db"), options(Directions::PushOnly)).finished().await;
    ended.map(|summary| summary.push.unwrap().doc_write_failures)
}

#[tokio::test]
async fn writes_that_are_refused_are_denied_and_trouble_is_an_error() {
    let row = |error: &str| {
        json(201, &json!([{"id": "a", "rev": "1-abc", "error": error, "reason": "no"}]).to_string())
    };
    assert_eq!(push(row("forbidden")).await.unwrap(), 1);
    assert_eq!(push(row("unauthorized")).await.unwrap(), 1);
    assert_eq!(push(json(413, r#"{"error":"too_large"}"#)).await.unwrap(), 1);
    let failed = async |answer, expected: &str| {
        let error = push(answer).await.expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    failed(row("internal_server_error"), "internal_server_error").await;
    failed(json(201, r#"[{"id":"z","error":"forbidden"}]"#), "that was not sent").await;
    failed(json(201, "{}"), "malformed").await;
    failed(json(401, r#"{"error":"unauthorized","reason":"who"}"#), "who (unauthorized)").await;
}

#[tokio::test]
async fn one_invalid_document_does_not_keep_the_others_from_being_pushed() {
    let written = Arc::new(AtomicUsize::new(0));
    for status in [400, 403, 412] {
        let here = local().await;
        for id in ["a", "bad", "c"] {
            put(&here, id, "1").await;
        }
        let counted = Arc::clone(&written);
        let web = Web::scripted(move |first, body| {
            if first.contains("_revs_diff") {
                let asked: Value = serde_json::from_str(body).unwrap();
                let asked = asked.as_object().unwrap().iter();
                let rows = asked.map(|(id, revs)| (id.clone(), json!({ "missing": revs })));
                json(200, &Value::Object(rows.collect()).to_string())
            } else if first.contains("_bulk_docs") && body.contains("\"bad\"") {
                json(status, r#"{"error":"bad","reason":"no"}"#)
            } else if first.contains("_bulk_docs") {
                counted.fetch_add(body.matches("\"_id\"").count(), Ordering::SeqCst);
                json(201, "[]")
            } else {
                good(first)
            }
        })
        .await;
        let mut options = options(Directions::PushOnly);
        options.replication.checkpoints = false;
        let ended = Watched::new(sync(&here, web.remote("db"), options)).ended().await;
        assert_eq!(ended.denied[0].id.as_str(), "bad");
        assert_eq!(ended.summary().push.unwrap().doc_write_failures, 1, "{status}");
        assert_eq!(written.swap(0, Ordering::SeqCst), 2, "{status}");
    }
    let web = Web::scripted(|first, _| {
        let lost = first.contains("_revs_diff") || first.contains("_bulk_docs");
        if lost { json(404, r#"{"error":"not_found","reason":"gone"}"#) } else { good(first) }
    })
    .await;
    let here = local().await;
    put(&here, "a", "1").await;
    let error = sync(&here, web.remote("db"), options(Directions::PushOnly)).finished().await;
    assert!(error.unwrap_err().to_string().contains("gone"));
}

#[tokio::test]
async fn an_attachment_that_is_cut_or_too_long_is_not_stored() {
    for bytes in ["12345", "123456789012345"] {
        let web = Web::scripted(move |first, _| {
            if first.contains("_bulk_get") {
                let stub = r#""_attachments":{"f":{"content_type":"text/plain","revpos":1,"digest":"md5-6Jb+Z5HqJzp9Yxcm5jPkDg==","length":10,"stub":true}}"#;
                json(200, &FOUND.replace("\"_revisions\"", &format!("{stub},\"_revisions\"")))
            } else if first.contains("/db/a/f") {
                json(200, bytes)
            } else {
                good(first)
            }
        })
        .await;
        let (here, ended) = pull(&web).await;
        let error = ended.expect_err(bytes).to_string();
        assert!(error.contains("an attachment was cut"), "{error}");
        assert_eq!(count_of(&here).await, 0, "{bytes}");
    }
}

#[tokio::test]
async fn a_deletion_between_two_pages_of_a_first_pull_arrives() {
    let web = Web::scripted(|first, body| {
        if first.contains("_changes") && first.contains("since=0") {
            json(200, &CHANGES.replace("\"pending\":0", "\"pending\":1"))
        } else if first.contains("_changes") && first.contains("since=1-x") {
            json(200, r#"{"results":[{"seq":"2-x","id":"a","deleted":true,"changes":[{"rev":"2-b"}]}],"last_seq":"2-x","pending":0}"#)
        } else if first.contains("_changes") {
            json(200, r#"{"results":[],"last_seq":"2-x","pending":0}"#)
        } else if first.contains("_bulk_get") && body.contains("2-b") {
            json(200, r#"{"results":[{"id":"a","docs":[{"ok":{"_id":"a","_rev":"2-b","_deleted":true,"_revisions":{"start":2,"ids":["b","a"]}}}]}]}"#)
        } else {
            good(first)
        }
    })
    .await;
    let here = local().await;
    let mut options = options(Directions::PullOnly);
    options.replication.batch_size = 1;
    sync(&here, web.remote("db"), options).finished().await.unwrap();
    assert_eq!(count_of(&here).await, 0, "it was deleted");
}

#[tokio::test]
async fn documents_are_committed_before_their_checkpoint() {
    for status in [201, 404, 405] {
        let here = local().await;
        put(&here, "a", "1").await;
        let web = Web::scripted(move |first, body| {
            if first.contains("_ensure_full_commit") {
                json(status, "{}")
            } else if first.contains("_revs_diff") {
                let asked: Value = serde_json::from_str(body).unwrap();
                json(200, &json!({"a": {"missing": asked["a"]}}).to_string())
            } else if first.contains("_bulk_docs") {
                json(201, "[]")
            } else {
                good(first)
            }
        })
        .await;
        let options = options(Directions::PushOnly);
        sync(&here, web.remote("db"), options).finished().await.unwrap();
        let asked = web.asked();
        let at = |part: &str| asked.iter().position(|first| first.contains(part)).unwrap();
        assert!(at("_bulk_docs") < at("POST /db/_ensure_full_commit"), "{asked:?}");
        assert!(at("POST /db/_ensure_full_commit") < at("PUT /db/_local"), "{asked:?}");
    }
}
