//! The application's own server as the judge of access: what it is sent, and what its answers do.

#[path = "support/access.rs"]
mod access;

use std::sync::{Arc, Mutex};

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use serde_json::{Value, json};
use settee::server::{
    Authorizer as _, Credentials, Denied, DeniedKind, ServerAuthorizer as _, ServerGrant,
    ServerRequest,
};
use settee::{AccessRequest, DbName, Grant};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const SECRET: &str = "the webhook's own secret";

/// How the application's server answers one request.
#[derive(Clone)]
enum Reply {
    Json(Value),
    Status(u16),
    Bytes(Vec<u8>),
    /// The connection is cut.
    Cut,
    /// Nothing, until the gateway gives up.
    Silence,
}

/// A request as it came.
#[derive(Clone, Debug)]
struct Came {
    head: String,
    body: String,
}

impl Came {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An application's server that answers as it is told, the last answer for ever.
struct Application {
    url: String,
    came: Arc<Mutex<Vec<Came>>>,
}

impl Application {
    async fn new(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/access", listener.local_addr().unwrap());
        let came: Arc<Mutex<Vec<Came>>> = Arc::default();
        let kept = Arc::clone(&came);
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(converse(stream, replies.clone(), Arc::clone(&kept)));
            }
        });
        Self { url, came }
    }

    fn access(&self, more: &Value) -> settee::access::Access {
        let mut webhook = json!({"url": self.url, "secret": SECRET, "timeout_ms": 20_000});
        webhook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        access::access(json!({ "webhook": webhook }))
    }

    fn calls(&self) -> usize {
        self.came.lock().unwrap().len()
    }
}

async fn converse(
    mut stream: tokio::net::TcpStream,
    replies: Vec<Reply>,
    kept: Arc<Mutex<Vec<Came>>>,
) {
    while let Some(request) = read(&mut stream).await {
        let n = {
            let mut kept = kept.lock().unwrap();
            kept.push(request);
            kept.len() - 1
        };
        let (status, body) = match replies[n.min(replies.len() - 1)].clone() {
            Reply::Json(value) => (200, value.to_string().into_bytes()),
            Reply::Status(status) => (status, Vec::new()),
            Reply::Bytes(bytes) => (200, bytes),
            Reply::Cut => return,
            Reply::Silence => {
                // The end comes when the gateway closes.
                let _ = stream.read_u8().await;
                return;
            }
        };
        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
    }
}

async fn read(stream: &mut tokio::net::TcpStream) -> Option<Came> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length =
        head.to_lowercase().split("content-length: ").nth(1)?.split("\r\n").next()?.parse();
    let mut body = vec![0; length.unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some(Came { head, body: String::from_utf8(body).unwrap() })
}

fn request(credentials: Value, database: &str) -> AccessRequest {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", "test/1".parse().unwrap());
    AccessRequest {
        credentials: Credentials::new(credentials),
        database: DbName::parse(database).unwrap(),
        create: true,
        peer: Some("10.1.2.3:4567".parse().unwrap()),
        headers: Arc::new(headers),
    }
}

async fn open(access: &settee::access::Access, token: &str, db: &str) -> Result<Grant, Denied> {
    access.authorize(request(json!({ "token": token }), db)).await
}

fn reads() -> Reply {
    Reply::Json(json!({"grant": {"read": true, "user": "anna"}}))
}

#[tokio::test]
async fn the_request_is_signed_and_says_what_is_asked() {
    let application = Application::new(vec![reads()]).await;
    let access = application.access(&json!({"headers": ["User-Agent", "x-absent"]}));
    let grant = open(&access, "t", "todos").await.unwrap();
    assert_eq!((grant.user_name(), grant.database_name().as_str()), (Some("anna"), "todos"));
    let came = application.came.lock().unwrap()[0].clone();
    let body = came.json();
    let expected = json!({"request": "database", "credentials": {"token": "t"},
        "database": "todos", "create": true, "peer": "10.1.2.3",
        "headers": {"user-agent": "test/1"}});
    assert_eq!(body, expected);
    let signature = came.head.to_lowercase();
    let signature = signature.split("settee-signature: ").nth(1).unwrap();
    let signature = signature.split("\r\n").next().unwrap();
    let (time, hex) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{time}.{}", came.body).as_bytes());
    let expected: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, expected);
    assert!((access::in_seconds(0.0) - time.parse::<f64>().unwrap()).abs() < 60.0);
}

#[tokio::test]
async fn answers_are_remembered_by_credentials_and_database() {
    let application = Application::new(vec![reads()]).await;
    let access = application.access(&json!({"cache_s": 600}));
    for (token, db, calls) in [
        ("t", "todos", 1),
        ("t", "todos", 1),
        ("t", "other", 2),
        ("u", "todos", 3),
        ("u", "todos", 3),
    ] {
        open(&access, token, db).await.unwrap();
        assert_eq!(application.calls(), calls, "{token} {db}");
    }
    access.authorize_server(server(json!({"token": "t"}))).await.unwrap();
    assert_eq!(application.calls(), 4, "the server is another thing");
    settee::server::Authorizer::forget(&access);
    open(&access, "t", "todos").await.unwrap();
    assert_eq!(application.calls(), 5);
    let none = application.access(&json!({"cache_s": 0}));
    open(&none, "t", "todos").await.unwrap();
    open(&none, "t", "todos").await.unwrap();
    assert_eq!(application.calls(), 7);
}

#[tokio::test]
async fn no_answer_is_given_to_who_differs_in_what_the_application_judges_by() {
    let application = Application::new(vec![reads()]).await;
    let from = |peer: &str, session: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-session", session.parse().unwrap());
        headers.insert("accept", "*/*".parse().unwrap());
        let peer = Some(peer.parse().unwrap());
        AccessRequest { peer, headers: Arc::new(headers), ..request(Value::Null, "todos") }
    };
    let access = application.access(&json!({"headers": ["x-session"], "cache_s": 600}));
    let (anna, berta) = (from("10.0.0.1:1", "anna"), from("10.0.0.1:1", "berta"));
    let elsewhere = from("10.0.0.2:1", "anna");
    let at_once = [anna.clone(), berta, elsewhere, from("10.0.0.1:2", "anna")];
    let answers = at_once.map(|request| access.authorize(request));
    assert!(futures::future::join_all(answers).await.iter().all(Result::is_ok));
    assert_eq!(application.calls(), 3, "another port is nobody else");
    access.authorize(anna).await.unwrap();
    assert_eq!(application.calls(), 3);
    let sent: Vec<Value> = application.came.lock().unwrap().iter().map(Came::json).collect();
    assert!(sent.iter().all(|sent| sent["headers"].get("accept").is_none()), "{sent:?}");
    assert!(sent.iter().any(|sent| sent["headers"]["x-session"] == "berta"));
    let unnamed = application.access(&json!({"cache_s": 600}));
    unnamed.authorize(from("10.0.0.1:1", "anna")).await.unwrap();
    assert_eq!(application.came.lock().unwrap()[3].json()["headers"], json!({}));
}

#[tokio::test]
async fn a_denial_that_is_not_to_be_remembered_is_asked_for_anew() {
    let denied = json!({"denied": {"reason": "not yet"}, "cache_s": 0});
    let application = Application::new(vec![Reply::Json(denied), reads()]).await;
    let access = application.access(&json!({"cache_s": 600}));
    assert_eq!(open(&access, "t", "todos").await.unwrap_err().reason, "not yet");
    assert!(open(&access, "t", "todos").await.is_ok());
}

fn server(credentials: Value) -> ServerRequest {
    ServerRequest {
        credentials: Credentials::new(credentials),
        peer: None,
        headers: Arc::new(HeaderMap::new()),
    }
}

#[tokio::test]
async fn equal_requests_at_once_share_one_call() {
    let application = Application::new(vec![reads()]).await;
    let access = application.access(&json!({"cache_s": 0}));
    let equal = (0..20).map(|_| open(&access, "t", "todos"));
    for answer in futures::future::join_all(equal).await {
        assert!(answer.is_ok());
    }
    assert_eq!(application.calls(), 1);
}

#[tokio::test]
async fn a_denial_and_a_grant_are_as_they_were_answered() {
    let application = Application::new(vec![
        Reply::Json(json!({"denied": {"reason": "no seat left", "kind": "forbidden"}})),
        Reply::Json(json!({"denied": {"reason": "log in again"}})),
        Reply::Json(json!({"grant": {"server": ["list", "admin"], "user": "root"}})),
        Reply::Json(json!({"grant": {"read": true, "database": "shared"}})),
        Reply::Status(204),
    ])
    .await;
    let access = application.access(&json!({"cache_s": 0}));
    let denied = open(&access, "t", "a").await.unwrap_err();
    assert_eq!((denied.kind, &*denied.reason), (DeniedKind::Forbidden, "no seat left"));
    let denied = open(&access, "t", "a").await.unwrap_err();
    assert_eq!((denied.kind, &*denied.reason), (DeniedKind::Unauthorized, "log in again"));
    let grant = access.authorize_server(server(Value::Null)).await.unwrap();
    assert_eq!(grant, ServerGrant::known().listing().administering().user("root"));
    assert_eq!(open(&access, "t", "a").await.unwrap().database_name().as_str(), "shared");
    let denied = open(&access, "t", "a").await.unwrap_err();
    assert_eq!(denied.reason, "this token is not known", "nobody knew it");
}

#[tokio::test]
async fn whatever_goes_wrong_is_a_refusal() {
    let large = format!("{{\"grant\":{{\"read\":true}},{}\"x\":0}}", " ".repeat(70_000));
    for reply in [
        Reply::Status(500),
        Reply::Status(401),
        Reply::Status(302),
        Reply::Cut,
        Reply::Bytes(b"<html>".to_vec()),
        Reply::Bytes(Vec::new()),
        Reply::Bytes(large.into_bytes()),
        Reply::Json(json!({"grant": {"read": true, "selektor": {}}})),
        Reply::Json(json!({"ok": true})),
    ] {
        let application = Application::new(vec![reply]).await;
        let access = application.access(&json!({"retries": 0, "cache_s": 600}));
        for calls in 1..=2 {
            let denied = open(&access, "t", "todos").await.unwrap_err();
            assert_eq!(denied.kind, DeniedKind::Unavailable, "{denied}");
            assert_eq!(application.calls(), calls, "a failure is not remembered");
        }
    }
    let nobody = access::access(json!({"webhook": {"url": "http://127.0.0.1:1/", "retries": 0}}));
    assert_eq!(open(&nobody, "t", "a").await.unwrap_err().kind, DeniedKind::Unavailable);
}

#[tokio::test]
async fn silence_ends_with_the_timeout() {
    let application = Application::new(vec![Reply::Silence]).await;
    let access = application.access(&json!({"retries": 0, "timeout_ms": 50}));
    let denied = open(&access, "t", "todos").await.unwrap_err();
    assert_eq!((denied.kind, application.calls()), (DeniedKind::Unavailable, 1));
}

#[tokio::test]
async fn what_may_fare_better_is_tried_again() {
    let cases = [(Reply::Status(503), 2), (Reply::Cut, 2), (Reply::Status(400), 1)];
    for (first, calls) in cases {
        let application = Application::new(vec![first, reads()]).await;
        let access = application.access(&json!({"retries": 1}));
        let opened = open(&access, "t", "todos").await.is_ok();
        assert_eq!((opened, application.calls()), (calls == 2, calls));
    }
    let application = Application::new(vec![Reply::Silence, reads()]).await;
    let access = application.access(&json!({"retries": 1, "timeout_ms": 1_000}));
    assert!(open(&access, "t", "todos").await.is_ok());
}

#[tokio::test]
async fn sources_are_asked_in_order_until_one_knows() {
    let application = Application::new(vec![reads()]).await;
    let webhook = json!({"url": application.url, "cache_s": 0});
    let tokens = json!([{"name": "t", "token": "static",
        "rules": [{"databases": "todos", "rights": ["write"]}]}]);
    let settings = |order: Value| json!({"order": order, "tokens": tokens, "webhook": webhook});
    let access = access::access(settings(json!(["tokens", "webhook"])));
    assert_eq!(open(&access, "static", "todos").await.unwrap().token_name(), Some("t"));
    assert!(open(&access, "static", "other").await.is_err(), "a definite denial");
    assert_eq!(application.calls(), 0);
    assert_eq!(open(&access, "else", "todos").await.unwrap().user_name(), Some("anna"));
    let access = access::access(settings(json!(["webhook", "tokens"])));
    assert_eq!(open(&access, "static", "todos").await.unwrap().user_name(), Some("anna"));
    assert_eq!(application.calls(), 2);
    let forgotten: settee::access::Settings =
        serde_json::from_value(settings(json!(["tokens"]))).unwrap();
    assert!(forgotten.build().unwrap_err().to_string().contains("order"));
}

#[tokio::test]
async fn the_example_in_node_is_such_a_server() {
    if std::env::var_os("SETTEE_NO_NODE").is_some_and(|value| value == "1") {
        return;
    }
    let mut node = tokio::process::Command::new("node")
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/examples/access-webhook.mjs"), "0"])
        .env("WEBHOOK_SECRET", SECRET)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node starts");
    let mut port = String::new();
    let mut stdout = tokio::io::BufReader::new(node.stdout.take().unwrap());
    tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut port).await.unwrap();
    let url = format!("http://127.0.0.1:{}/", port.trim());
    let access = |secret: &str| access::access(json!({"webhook": {"url": url, "secret": secret}}));
    let known = access(SECRET);
    let grant = open(&known, "annas-token", "user-anna").await.unwrap();
    assert_eq!(grant.user_name(), Some("anna"));
    let kind = async |token, db| open(&known, token, db).await.unwrap_err().kind;
    assert_eq!(kind("annas-token", "user-berta").await, DeniedKind::Forbidden);
    assert_eq!(kind("nobodys-token", "user-anna").await, DeniedKind::Unauthorized);
    let request = server(json!({"token": "bertas-token"}));
    let grant = known.authorize_server(request).await.unwrap();
    assert_eq!(grant, ServerGrant::known().user("berta"));
    let forged = open(&access("another secret"), "annas-token", "user-anna").await;
    assert_eq!(forged.unwrap_err().kind, DeniedKind::Unavailable);
}
