//! A server of the application judges documents before they are stored.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/wire.rs"]
mod wire;

use std::sync::{Arc, Mutex};

use http::{Api, docs, token_gateway};
use serde_json::{Value, json};
use settee::Store;
use settee::validate::{Service, Unreachable, ValidateError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::time::Duration;

/// A question as it came: the headers, lowercased, and the body's text.
type Asked = (Vec<String>, String);

/// A server that answers each question with what `answer` makes of it: a status and a body. `None`
/// takes the question and never answers.
struct Judge {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Judge {
    async fn new(answer: fn(&Value) -> Option<(u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url =
            format!("http://{}/judge/{{database}}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let (headers, body) = question(&mut stream).await;
                let answer = answer(&serde_json::from_str(&body).expect("JSON"));
                noted.lock().expect("no panic").push((headers, body));
                let Some((status, body)) = answer else {
                    silent.push(stream);
                    continue;
                };
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                // A gateway that has heard enough hangs up.
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }
}

async fn question(stream: &mut BufReader<tokio::net::TcpStream>) -> Asked {
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("a line");
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(text) = lower.strip_prefix("content-length: ") {
            length = text.parse().expect("a length");
        }
        headers.push(lower);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("the body");
    (headers, String::from_utf8(body).expect("text"))
}

/// Refuses documents whose `n` is odd.
fn even(question: &Value) -> (u16, String) {
    let verdict = |change: &Value| match change["doc"]["n"].as_u64() {
        Some(n) if n % 2 == 1 => json!({"ok": false, "reason": format!("{n} is odd")}),
        _ => json!({"ok": true}),
    };
    let verdicts: Vec<Value> =
        question["changes"].as_array().expect("changes").iter().map(verdict).collect();
    (200, json!({"verdicts": verdicts}).to_string())
}

fn service(url: &str) -> Service {
    Service::new("db*".parse().expect("a pattern"), url).expect("a service")
}

async fn api(service: Service) -> Api {
    let api = Api::served(token_gateway(Store::memory()).validator(service));
    api.database("db").await;
    api
}

fn numbered(count: usize) -> Value {
    docs(&(0..count).map(|n| json!({"_id": format!("d{n:05}"), "n": n})).collect::<Vec<_>>())
}

#[tokio::test]
async fn each_document_of_a_batch_is_judged_by_itself_in_few_questions() {
    let judge = Judge::new(|question| Some(even(question))).await;
    let api = api(service(&judge.url).signed("key")).await;
    let answer = api.json("POST", "/db/_bulk_docs", numbered(2_500)).await.json();
    let rows = answer.as_array().expect("rows");
    for (n, row) in rows.iter().enumerate() {
        let reason = row["reason"].as_str().unwrap_or("stored");
        let expected = if n % 2 == 1 { format!("{n} is odd") } else { "stored".into() };
        assert_eq!(reason, expected);
    }
    assert_eq!(api.get("/db").await.json()["doc_count"], 1_250);
    let asked = judge.asked();
    assert_eq!(asked.len(), 3);
    let question: Value = serde_json::from_str(&asked[0].1).unwrap();
    assert_eq!((&question["database"], &question["user"]), (&json!("db"), &json!("root")));
    let first = json!({"id": "d00000", "rev": null, "deleted": false,
        "doc": {"_id": "d00000", "n": 0}});
    assert_eq!(question["changes"][0], first);
    assert!(asked[0].0.iter().any(|line| line.starts_with("x-settee-signature: sha256=")));
}

#[tokio::test]
async fn updates_of_the_service_follow_what_was_stored() {
    // The last of three documents is refused here, the second by its revision.
    let judge = Judge::new(|question| {
        let verdict = |change: &Value| {
            let n = &change["doc"]["n"];
            let updates = [json!({"_id": "last", "n": n}), json!({"_id": format!("log{n}")})];
            json!({"ok": *n != 3, "reason": "no three", "updates": updates})
        };
        let changes = question["changes"].as_array().expect("changes");
        let verdicts: Vec<Value> = changes.iter().map(verdict).collect();
        Some((200, json!({"verdicts": verdicts}).to_string()))
    })
    .await;
    let api = api(service(&judge.url)).await;
    api.put("/db/first", json!({"n": 1})).await;
    let batch = docs(&[
        json!({"_id": "second", "n": 4}),
        json!({"_id": "first", "_rev": "1-0", "n": 2}),
        json!({"_id": "third", "n": 3}),
    ]);
    let rows = api.json("POST", "/db/_bulk_docs", batch).await.json();
    assert_eq!((&rows[1]["error"], &rows[2]["error"]), (&json!("conflict"), &json!("forbidden")));
    let last = api.get("/db/last").await.json();
    assert_eq!(last["n"], 4);
    assert!(last["_rev"].as_str().unwrap().starts_with("2-"), "{last}");
    let ids = api.get("/db/_all_docs").await.json();
    let ids: Vec<&str> =
        ids["rows"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["first", "last", "log1", "log4", "second"]);
    assert_eq!(judge.asked().len(), 2, "updates are not asked about");
    let first = api.get("/db/first").await.json();
    let again = json!({"new_edits": false, "docs": [first]});
    api.json("POST", "/db/_bulk_docs", again).await;
    assert_eq!(api.get("/db/last").await.json()["n"], 4, "what was there brings none");
}

#[tokio::test]
async fn the_address_may_name_the_database() {
    let judge = Judge::new(|question| Some(even(question))).await;
    let api = api(service(&judge.url)).await;
    api.database("db%2Fa%2Bb").await;
    api.put("/db%2Fa%2Bb/a", json!({"n": 2})).await;
    assert_eq!(judge.asked()[0].0[0], "post /judge/db%2fa%2bb http/1.1");
}

#[tokio::test]
async fn a_question_is_signed_over_its_body() {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let judge = Judge::new(|question| Some(even(question))).await;
    let api = api(service(&judge.url).signed("key")).await;
    api.put("/db/a", json!({"n": 2})).await;
    let (headers, body) = judge.asked().remove(0);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"key").unwrap();
    mac.update(body.as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert!(headers.contains(&format!("x-settee-signature: sha256={hex}")), "{headers:?}");
}

#[tokio::test]
async fn tombstones_are_asked_about_and_attachments_shown_as_stubs() {
    let judge = Judge::new(|question| Some(even(question))).await;
    let api = api(service(&judge.url)).await;
    let attachments = json!({"a.txt": {"content_type": "text/plain", "data": "aGVsbG8="}});
    let rev = api.put("/db/a", json!({"n": 2, "_attachments": attachments})).await;
    api.ask("DELETE", &format!("/db/a?rev={rev}"), &[], b"").await;
    let asked = judge.asked();
    assert!(asked[0].1.contains(r#""stub":true"#) && !asked[0].1.contains("aGVsbG8="));
    let question: Value = serde_json::from_str(&asked[1].1).unwrap();
    assert_eq!(question["changes"][0]["deleted"], true);
    assert_eq!(question["changes"][0]["rev"], rev);
}

#[tokio::test]
async fn other_databases_are_not_asked_about() {
    let judge = Judge::new(|question| Some(even(question))).await;
    let api = api(service(&judge.url)).await;
    api.database("notes").await;
    api.put("/notes/a", json!({"n": 1})).await;
    assert!(judge.asked().is_empty());
}

#[tokio::test]
async fn what_is_not_judged_meets_the_chosen_fate() {
    // A port on which nobody listens: it was free, and is let go.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let silent = Judge::new(|_| None).await;
    let failing = Judge::new(|_| Some((500, "{}".into()))).await;
    let garbage = Judge::new(|_| Some((200, "<html>".into()))).await;
    let moved = Judge::new(|_| Some((302, String::new()))).await;
    let few = Judge::new(|_| Some((200, r#"{"verdicts": []}"#.into()))).await;
    let huge = Judge::new(|_| Some((200, " ".repeat(1 << 20)))).await;
    for url in [&nobody, &silent.url, &failing.url, &garbage.url, &moved.url, &few.url, &huge.url] {
        let service = service(url).timeout(Duration::from_millis(300)).unwrap();
        let denying = api(service.clone()).await;
        let answer = denying.json("PUT", "/db/a", json!({})).await;
        answer.assert_error(url, 403, "forbidden", "gave no answer");
        let allowing = api(service.clone().unreachable(Unreachable::Allow)).await;
        allowing.put("/db/a", json!({})).await;
        let putting_off = api(service.unreachable(Unreachable::Retry)).await;
        let answer = putting_off.json("PUT", "/db/a", json!({})).await;
        answer.assert_error(url, 503, "service_unavailable", "gave no answer");
        assert_eq!(putting_off.get("/db/a").await.status, 404);
    }
}

#[test]
fn an_address_that_cannot_be_asked_is_refused() {
    let by_name = "http://{database}.example/";
    for url in ["", "judge", "ftp://host/", "http://", "file:///etc/passwd", by_name] {
        let refused = Service::new("db".parse().unwrap(), url).expect_err(url);
        assert!(matches!(refused, ValidateError::Url { .. }), "{url}: {refused}");
    }
}
