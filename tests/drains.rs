//! A gateway that is told to stop: what it says meanwhile, and that its clients come back.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/replicas.rs"]
mod replicas;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use binary::{Served, arg, settee};
use http::{Api, token_gateway};
use raw::Came;
use replicas::{contents, until_equal};
use serde_json::json;
use settee::client::Backoff;
use settee::server::{AccessRequest, Denied, Grant, ProposedWrite, Validator};
use settee::{Client, Database, DbName, Document, Store, Sync, SyncOptions, SyncState};
use tempfile::tempdir;
use tokio::sync::{Semaphore, watch};

/// Lets a document pass when it is told to.
#[derive(Clone)]
struct Gate(Arc<Permits>);

struct Permits {
    asked: Semaphore,
    open: Semaphore,
}

#[async_trait]
impl Validator for Gate {
    async fn validate(&self, _: &ProposedWrite<'_>) -> Result<(), Denied> {
        self.0.asked.add_permits(1);
        self.0.open.acquire().await.expect("it stays").forget();
        Ok(())
    }
}

/// A gateway whose writes wait at a gate.
fn gated() -> (Api, Arc<Permits>) {
    let gate = Arc::new(Permits { asked: Semaphore::new(0), open: Semaphore::new(0) });
    let validator = Gate(Arc::clone(&gate));
    let builder = token_gateway(Store::memory()).authorizer(move |request: AccessRequest| {
        let grant = Grant::database(request.database).creating().validator(validator.clone());
        async move { Ok(grant) }
    });
    (Api::served(builder), gate)
}

#[tokio::test]
async fn it_says_so_ends_feeds_and_finishes_what_it_began() {
    let (api, gate) = gated();
    api.database("db").await;
    let mut feed = api.stream("GET", "/db/_changes?feed=continuous", &[], b"").await;
    let mut idle = api.served.bytes().await;
    let up = b"GET /_up HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(idle.request(up).await.0, 200);
    let open = json!({"database": "db", "credentials": {}});
    let mut socket = api.served.channel(open).await;
    socket.text(&json!(["call", 1, 1, "put", {"doc": {"_id": "begun"}}]).to_string()).await;
    gate.asked.acquire().await.unwrap().forget();
    let mut busy = api.served.bytes().await;
    let put = "PUT /db/kept-alive HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    busy.write(put.as_bytes()).await;
    gate.asked.acquire().await.unwrap().forget();

    api.served.stop();
    assert!(feed.row().await.unwrap()["last_seq"].is_string(), "the feed ends in words");
    assert_eq!(feed.line().await, None);
    assert_eq!(idle.rest().await, "", "a connection that waits is closed");
    let answer = api.get("/_up").await;
    assert_eq!((answer.status, answer.json()), (503, json!({"status": "maintenance_mode"})));
    assert_eq!(answer.header("connection"), Some("close"));
    let late = api.get("/db").await;
    late.assert_error("late", 503, "service_unavailable", "stopping");
    let mut refused = api.served.bytes().await;
    assert_eq!(refused.request(raw::HANDSHAKE.as_bytes()).await.0, 503);
    let again = socket.ask(json!(["call", 1, 2, "info"])).await;
    assert_eq!((&again[0], &again[3]["status"]), (&json!("fail"), &json!(503)));
    assert!(!api.served.has_ended());

    gate.open.add_permits(2);
    let answered = busy.rest().await.to_lowercase();
    assert!(
        answered.starts_with("http/1.1 201") && answered.contains("connection: close"),
        "{answered}"
    );
    assert_eq!(socket.json().await[0], "reply");
    assert_eq!(socket.closed().await.0, 1012);
    while !api.served.has_ended() {
        tokio::task::yield_now().await;
    }
    assert_eq!(socket.next().await, Came::Gone);
    let db = api.served.gateway.store().database(&DbName::parse("db").unwrap()).await.unwrap();
    assert_eq!(db.info().await.unwrap().doc_count, 2);
}

const RESTARTS: u64 = 4;
/// Local changes that are pushed between two restarts.
const PUSHED_PER_LIFE: u64 = 100;

fn client(url: &str) -> Client {
    let backoff = Backoff { first: Duration::from_millis(20), max: Duration::from_millis(100) };
    Client::builder(url).backoff(backoff).connect().unwrap()
}

fn live(client: &Client, db: &Database) -> Sync {
    client.sync(db, SyncOptions::live("shared").credentials(json!({"token": "secret"})).create())
}

async fn local(dir: &Path) -> Database {
    Store::open(dir).unwrap().create(&DbName::parse("local").unwrap()).await.unwrap()
}

/// New documents and edits, until told to stop.
async fn write(db: Database, who: &'static str, stop: watch::Receiver<bool>) {
    let mut n = 0;
    while !*stop.borrow() {
        n += 1;
        let document = Document::new(&format!("{who}{n}"), &json!({"by": who, "n": n})).unwrap();
        let first = db.put(document).await.unwrap();
        if n % 3 == 0 {
            let edited = Document::new(first.id.as_str(), &json!({"by": who, "edited": true}));
            db.put(edited.unwrap().with_rev(first.rev)).await.unwrap();
        }
    }
}

async fn until_pushed(sync: &Sync, seq: u64) -> u64 {
    let mut status = sync.watch_status();
    let reached = status.wait_for(|s| s.pushed_seq >= seq || s.state == SyncState::Ended);
    let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
    let status = reached.expect("pushed in time").expect("the sync goes on");
    assert_ne!(status.state, SyncState::Ended, "{status:?}");
    status.pushed_seq
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_come_back_after_restarts_under_load_and_all_replicas_are_equal() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("gateway");
    // On disk, so that the writers go at a pace at which they can be followed.
    let (a, b) = (local(&dir.path().join("a")).await, local(&dir.path().join("b")).await);
    let mut served = Served::start(&data, "127.0.0.1:0");
    let address = served.address.clone();
    let url = format!("ws://{address}");
    let (client_a, client_b) = (client(&url), client(&url));
    let (mut sync_a, mut sync_b) = (live(&client_a, &a), live(&client_b, &b));
    let (stop, stopped) = watch::channel(false);
    let writers = [
        tokio::spawn(write(a.clone(), "a", stopped.clone())),
        tokio::spawn(write(b.clone(), "b", stopped)),
    ];
    let (mut pushed_a, mut pushed_b) = (0, 0);
    for _ in 0..RESTARTS {
        pushed_a = until_pushed(&sync_a, pushed_a + PUSHED_PER_LIFE).await;
        pushed_b = until_pushed(&sync_b, pushed_b + PUSHED_PER_LIFE).await;
        let (status, _) = served.stop("TERM");
        assert!(status.success(), "{status:?}");
        settee(&["check", arg(&data)]).ok();
        served = Served::start(&data, &address);
    }
    stop.send_replace(true);
    for writer in writers {
        writer.await.unwrap();
    }
    until_equal((&a, &mut sync_a), (&b, &mut sync_b)).await;
    sync_a.cancel().await;
    sync_b.cancel().await;
    let (in_a, in_b) = (contents(&a).await, contents(&b).await);
    assert!(in_a == in_b, "the clients differ");
    let (status, _) = served.stop("TERM");
    assert!(status.success());
    let in_gateway = settee(&["dump", arg(&data.join("shared"))]).ok();
    assert!(in_gateway.lines().eq(in_a.iter().map(String::as_str)), "the gateway differs");
}
