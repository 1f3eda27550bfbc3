//! Clients of the HTTP API without a replica: writers, readers, backups, and databases that come and
//! go.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::Method;
use serde_json::{Value, json};
use settee::{Client, DbName, Document, Store, SyncOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::access::token_for;
use super::super::random::Random;
use super::{ADMIN, DATABASES, Edit, Stage, token};

type Work = fn(Arc<Stage>, Random) -> BoxFuture<'static, ()>;

const ALL: [Work; 8] = [
    |stage, random| Box::pin(write(stage, random)),
    |stage, random| Box::pin(write(stage, random)),
    |stage, random| Box::pin(read(stage, random)),
    |stage, random| Box::pin(read(stage, random)),
    |stage, random| Box::pin(attach(stage, random)),
    |stage, random| Box::pin(back_up(stage, random)),
    |stage, random| Box::pin(churn(stage, random)),
    |stage, random| Box::pin(drop_connections(stage, random)),
];

/// All of them, to run beside each other until the storm is over.
pub fn all(stage: &Arc<Stage>, random: &mut Random) -> Vec<BoxFuture<'static, ()>> {
    ALL.iter().map(|work| work(Arc::clone(stage), Random::new(random.next()))).collect()
}

/// Edits batches of documents in place. What was acknowledged must be there at once, and stay.
async fn write(stage: Arc<Stage>, mut random: Random) {
    let mut acknowledged = Vec::new();
    while stage.sleeps_in_storm(random.of(50..400)).await {
        let database = *random.choose(&DATABASES);
        if let Some(edits) = write_batch(&stage, database, &mut random).await {
            stage.count("plain HTTP: edits", edits.len());
            acknowledged.extend(edits);
        }
        if random.one_in(4) {
            let lacking = stage.lacking(&acknowledged).await.unwrap_or_default();
            assert!(lacking.is_empty(), "the gateway has lost {lacking:?}");
            acknowledged.retain(|edit: &Edit| stage.age(&edit.id) <= super::ROUNDS_VERIFIED);
        }
    }
    stage.until_arrived("plain HTTP", &acknowledged).await;
}

async fn write_batch(
    stage: &Stage,
    database: &'static str,
    random: &mut Random,
) -> Option<Vec<Edit>> {
    let round = stage.round() - random.of(0..2);
    let range = format!("startkey=%22r{round}-%22&endkey=%22r{round}-z%22");
    let path = format!("/{database}/_all_docs?include_docs=true&{range}");
    let rows = stage.json(Method::GET, &path, None).await?;
    let mut docs: Vec<Value> = rows["rows"]
        .as_array()
        .expect("a list of rows")
        .iter()
        .map(|row| row["doc"].clone())
        .filter(Value::is_object)
        .collect();
    while docs.len() > 4 {
        docs.swap_remove(random.below(docs.len()));
    }
    for doc in &mut docs {
        let length = random.of(0..400);
        doc["text"] = json!(random.text(length));
    }
    let path = format!("/{database}/_bulk_docs");
    let answers = stage.json(Method::POST, &path, Some(&json!({ "docs": docs }))).await?;
    let mut edits = Vec::new();
    for row in answers.as_array().expect("a list of rows") {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        if row["ok"] == true {
            edits.push(Edit { database, id: text("id"), rev: text("rev") });
        } else {
            assert_eq!(row["error"], "conflict", "{row}");
        }
    }
    Some(edits)
}

/// Puts attachments and reads them again.
async fn attach(stage: Arc<Stage>, mut random: Random) {
    while stage.sleeps_in_storm(random.of(100..600)).await {
        let database = *random.choose(&DATABASES);
        let path = format!("/{database}/r{}-f{}", stage.round(), random.of(0..4));
        if attach_one(&stage, &path, &mut random).await.is_some() {
            stage.count("plain HTTP: attachments", 1);
        }
    }
}

async fn attach_one(stage: &Stage, path: &str, random: &mut Random) -> Option<()> {
    let token = token("plain");
    let (status, body) = stage.ask(&token, Method::GET, path, None).await?;
    if status == 404 {
        return None;
    }
    let document: Value = serde_json::from_slice(&body).expect("a document is JSON");
    let rev = document["_rev"].as_str().expect("a read has its revision");
    let length = random.of(1..60_000);
    let bytes = random.text(length).into_bytes();
    let place = format!("{path}/file?rev={rev}");
    let (status, body) = stage.upload(&place, bytes.clone()).await?;
    if status == 409 {
        return None;
    }
    assert_eq!(status, 201, "{place}: {}", String::from_utf8_lossy(&body));
    let written: Value = serde_json::from_slice(&body).expect("an answer is JSON");
    let rev = written["rev"].as_str().expect("a write has its revision");
    let (status, found) =
        stage.ask(&token, Method::GET, &format!("{path}/file?rev={rev}"), None).await?;
    // Once it was edited, its body may be compacted at any time.
    assert!(status == 404 || (status == 200 && found == bytes), "{path}: {status}");
    Some(())
}

/// Reads by queries, long polls and feeds that are dropped or outlive their token.
async fn read(stage: Arc<Stage>, mut random: Random) {
    while stage.sleeps_in_storm(random.of(50..500)).await {
        let database = *random.choose(&DATABASES);
        let user = token("reader");
        match random.below(4) {
            0 => {
                let round = stage.round() - 1;
                let query = json!({"selector": {"made": {"$gte": round}}, "limit": 10});
                let path = format!("/{database}/_find");
                let found = stage.json(Method::POST, &path, Some(&query)).await;
                let found = found.unwrap_or(json!({"docs": []}));
                let docs = found["docs"].as_array().expect("a list of documents");
                assert!(docs.iter().all(|doc| doc["made"].as_u64() >= Some(round)), "{found}");
                stage.count("plain HTTP: queries", 1);
            }
            1 => {
                let path = format!("/{database}/_changes?feed=longpoll&since=now&timeout=2000");
                stage.ask(&user, Method::GET, &path, None).await;
                stage.count("plain HTTP: long polls", 1);
            }
            2 => {
                let token = token_for("reader", Duration::from_millis(random.of(300..2_500)));
                let feed = feed(&stage, database, &token);
                // A feed ends with its token, or is dropped before.
                let patience = Duration::from_secs(if random.one_in(2) { 30 } else { 1 });
                let ended = timeout(patience, feed).await;
                assert!(ended.is_ok() || patience.as_secs() == 1, "a feed has outlived its token");
                stage.count("plain HTTP: feeds", 1);
            }
            _ => {
                let ended = token_for("reader", Duration::ZERO);
                let answer = stage.ask(&ended, Method::GET, &format!("/{database}"), None).await;
                assert!(answer.is_none_or(|(status, _)| status == 401));
                stage.count("told that a token has ended", 1);
            }
        }
    }
}

/// Reads a continuous feed to its end.
async fn feed(stage: &Stage, database: &str, token: &str) -> Option<()> {
    let mut stream = TcpStream::connect(&stage.address).await.ok()?;
    let request = format!(
        "GET /{database}/_changes?feed=continuous&since=now&heartbeat=1000 HTTP/1.1\r\n\
         Host: gateway\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.ok().map(drop)
}

/// Backs everything up, again and again.
async fn back_up(stage: Arc<Stage>, mut random: Random) {
    while stage.sleeps_in_storm(random.of(3_000..12_000)).await {
        match stage.back_up().await {
            Some(bytes) => {
                assert!(bytes > 0);
                stage.count("backups", 1);
            }
            None => stage.count("backups cut", 1),
        }
    }
}

/// Makes databases, fills them over HTTP and by a sync, and destroys them.
async fn churn(stage: Arc<Stage>, mut random: Random) {
    let mut made = 0;
    while stage.sleeps_in_storm(random.of(300..2_000)).await {
        made += 1;
        let name = format!("churn-{made}");
        if fill_and_read(&stage, &name, &mut random).await.is_some() {
            stage.count("databases made and destroyed", 1);
        }
        // What a request did whose answer was lost is not known.
        while !is_gone(&stage, &name).await {}
    }
}

async fn is_gone(stage: &Stage, name: &str) -> bool {
    match stage.ask(ADMIN, Method::DELETE, &format!("/{name}"), None).await {
        Some((200 | 404, _)) => true,
        Some((status, body)) => panic!("{name}: {status} {}", String::from_utf8_lossy(&body)),
        None => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            false
        }
    }
}

async fn fill_and_read(stage: &Stage, name: &str, random: &mut Random) -> Option<()> {
    let count = random.of(1..60);
    let (status, _) = stage.ask(ADMIN, Method::PUT, &format!("/{name}"), None).await?;
    // It was made by a request whose answer was lost.
    if status == 412 {
        return None;
    }
    assert_eq!(status, 201);
    let file = json!({"file": {"content_type": "text/plain", "data": "Y2h1cm4="}});
    let docs: Vec<Value> = (0..count)
        .map(
            |n| json!({"_id": format!("http-{n}"), "text": random.text(200), "_attachments": file}),
        )
        .collect();
    let path = format!("/{name}/_bulk_docs");
    stage.json(Method::POST, &path, Some(&json!({ "docs": docs }))).await?;
    let store = Store::memory();
    let db = store.create(&DbName::parse(name).expect("a name")).await.expect("it is new");
    let here =
        (0..count).map(|n| Document::new(&format!("rust-{n}"), &json!({})).expect("it parses"));
    let written = db.bulk_docs(here.collect(), Default::default()).await.expect("it is written");
    assert!(written.iter().all(Result::is_ok));
    let client = Client::connect(&format!("ws://{}", stage.address)).expect("a good address");
    let credentials = json!({"token": token("churn")});
    let sync = client.sync(&db, SyncOptions::one_shot("").credentials(credentials).retry(true));
    let summary = sync.finished().await.expect("a sync that waits completes");
    assert!(!summary.cancelled);
    assert_eq!(db.info().await.expect("it tells of itself").doc_count, 2 * count);
    client.close().await;
    let info = stage.json(Method::GET, &format!("/{name}"), None).await?;
    assert_eq!(info["doc_count"], 2 * count, "{info}");
    Some(())
}

/// Connections that begin something and go away.
async fn drop_connections(stage: Arc<Stage>, mut random: Random) {
    let handshake = "GET / HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: settee.v1\r\n\r\n";
    while stage.sleeps_in_storm(random.of(100..1_000)).await {
        let Ok(mut stream) = TcpStream::connect(&stage.address).await else { continue };
        let length = if random.one_in(2) { handshake.len() } else { random.below(handshake.len()) };
        // Whoever is gone need not be told.
        let _ = stream.write_all(&handshake.as_bytes()[..length]).await;
        stage.sleeps_in_storm(random.of(0..2_000)).await;
        stage.count("connections dropped", 1);
    }
}
