//! Several places to listen at once, Unix sockets among them, and TLS with certificates that change.

#[path = "support/raw.rs"]
mod raw;

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use raw::Raw;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use settee::client::ClientError;
use settee::server::{AccessRequest, Denied, Endpoint, Gateway, Grant, TlsError, TlsIdentity};
use settee::{Client, ClientEvent, DbName, Document, Limits, Store, SyncOptions};
use tempfile::{TempDir, tempdir};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

struct Serving {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Serving {
    fn at(endpoints: Vec<Endpoint>, limits: Limits) -> Self {
        let authorizer = |request: AccessRequest| async move {
            Ok::<_, Denied>(Grant::database(request.database).creating())
        };
        let gateway = Gateway::builder(Store::memory()).authorizer(authorizer).limits(limits);
        let gateway = gateway.build().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            gateway.serve_endpoints(endpoints, stopped).await;
        });
        Self { stop: Some(stop), task }
    }

    async fn stop(mut self) {
        self.stop.take();
        (&mut self.task).await.unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tcp() -> (Endpoint, u16) {
    tcp_at("127.0.0.1:0").await
}

async fn tcp_at(address: &str) -> (Endpoint, u16) {
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (Endpoint::tcp(listener), port)
}

async fn status(mut raw: Raw) -> u16 {
    raw.request(b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n").await.0
}

async fn unix(path: &Path) -> Raw {
    Raw::new(Box::new(UnixStream::connect(path).await.unwrap()))
}

#[tokio::test]
async fn one_gateway_serves_at_several_places_and_leaves_none_behind() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("socket");
    let ((v4, v4_port), (v6, v6_port)) = (tcp().await, tcp_at("[::1]:0").await);
    let local = Endpoint::unix(&path, 0o600).await.unwrap();
    assert_eq!(v4.to_string(), format!("http://127.0.0.1:{v4_port}"));
    assert_eq!(v6.to_string(), format!("http://[::1]:{v6_port}"));
    assert_eq!(local.to_string(), format!("unix:{}", path.display()));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let serving = Serving::at(vec![v4, v6, local], Limits::default());
    for _ in 0..3 {
        let v4 = TcpStream::connect(("127.0.0.1", v4_port)).await.unwrap();
        let v6 = TcpStream::connect(("::1", v6_port)).await.unwrap();
        assert_eq!(status(Raw::new(Box::new(v4))).await, 200);
        assert_eq!(status(Raw::new(Box::new(v6))).await, 200);
        assert_eq!(status(unix(&path).await).await, 200);
    }
    serving.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_was_left_behind_makes_room_and_one_in_use_does_not() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let endpoint = Endpoint::unix(&path, 0o660).await.unwrap();
    let serving = Serving::at(vec![endpoint], Limits::default());
    let second = Endpoint::unix(&path, 0o660).await.unwrap_err();
    assert_eq!(second.kind(), ErrorKind::AddrInUse);
    assert_eq!(status(unix(&path).await).await, 200, "the first goes on");
    serving.stop().await;
    std::fs::write(&path, "a file").unwrap();
    let in_the_way = Endpoint::unix(&path, 0o660).await.unwrap_err();
    assert_eq!(in_the_way.kind(), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
}

#[tokio::test]
async fn another_ones_socket_is_not_taken_away() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("socket");
    let first = Endpoint::unix(&path, 0o660).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = Endpoint::unix(&path, 0o660).await.unwrap();
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}

/// An authority, and the files of a certificate that it gave.
struct Files {
    dir: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let files = Self { dir: tempdir().unwrap(), authority };
        files.write("ca.pem", &files.authority.pem());
        files.renew();
        files
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Writes another certificate and its key.
    fn renew(&self) {
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        self.write("cert.pem", &certificate.pem());
        self.write("key.pem", &key.serialize_pem());
    }

    fn identity(&self) -> TlsIdentity {
        TlsIdentity::read(self.path("cert.pem"), self.path("key.pem")).unwrap()
    }

    /// A connection, as far as its handshake.
    async fn connect(&self, port: u16) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }
}

fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

async fn over_tls(files: &Files, limits: Limits) -> (Serving, u16, TlsIdentity) {
    let identity = files.identity();
    let (endpoint, port) = tcp().await;
    let endpoint = endpoint.tls(identity.clone());
    assert_eq!(endpoint.to_string(), format!("https://127.0.0.1:{port}"));
    (Serving::at(vec![endpoint], limits), port, identity)
}

#[tokio::test]
async fn a_certificate_is_reloaded_under_live_connections() {
    let files = Files::new();
    let (_serving, port, identity) = over_tls(&files, Limits::default()).await;
    let stream = files.connect(port).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let first = shown(&stream);
    let mut live = Raw::new(Box::new(stream));
    live.upgrade().await;
    assert_eq!(live.ask(json!(["open", 1, {"database": "db", "create": true}])).await[0], "opened");
    assert!(!identity.reload().unwrap(), "nothing has changed");
    files.renew();
    assert_eq!(shown(&files.connect(port).await), first, "not read yet");
    assert!(identity.reload().unwrap());
    let second = shown(&files.connect(port).await);
    assert_ne!(second, first);
    live.assert_alive("across a reload").await;
    files.write("key.pem", &KeyPair::generate().unwrap().serialize_pem());
    assert!(matches!(identity.reload(), Err(TlsError::Key { .. })));
    files.write("cert.pem", "half of a");
    assert!(matches!(identity.reload(), Err(TlsError::Pem { .. })));
    assert_eq!(shown(&files.connect(port).await), second, "the last good one");
}

#[tokio::test]
async fn files_that_change_are_noticed() {
    let files = Files::new();
    let (_serving, port, identity) = over_tls(&files, Limits::default()).await;
    let first = shown(&files.connect(port).await);
    let watching = tokio::spawn(async move {
        identity.keep_reloaded(Duration::from_millis(1)).await;
    });
    files.renew();
    while shown(&files.connect(port).await) == first {}
    watching.abort();
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let files = Files::new();
    let read = |cert: &str, key: &str| {
        TlsIdentity::read(files.path(cert), files.path(key)).unwrap_err().to_string()
    };
    files.write("text.pem", "no PEM at all");
    files.write("other.pem", &KeyPair::generate().unwrap().serialize_pem());
    for (cert, key, named) in [
        ("absent.pem", "key.pem", "absent.pem"),
        ("cert.pem", "absent.pem", "absent.pem"),
        ("text.pem", "key.pem", "text.pem holds no certificate"),
        ("cert.pem", "cert.pem", "cert.pem holds no private key"),
        ("cert.pem", "other.pem", "other.pem cannot be used"),
    ] {
        let error = read(cert, key);
        assert!(error.contains(named), "{error}");
    }
}

#[tokio::test]
async fn a_handshake_has_a_time() {
    let files = Files::new();
    let limits = Limits { handshake_timeout_ms: 50, ..Limits::default() };
    let (_serving, port, _) = over_tls(&files, limits).await;
    for begin in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"] {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut raw = Raw::new(Box::new(stream));
        raw.write(begin).await;
        raw.stream_end().await;
    }
    assert_eq!(status(Raw::new(Box::new(files.connect(port).await))).await, 200);
}

#[tokio::test]
async fn a_cookie_that_was_given_over_tls_stays_there() {
    let files = Files::new();
    let (_serving, port, _) = over_tls(&files, Limits::default()).await;
    let mut raw = Raw::new(Box::new(files.connect(port).await));
    raw.write(b"DELETE /_session HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n").await;
    assert!(raw.rest().await.contains("; Secure"));
}

async fn database(name: &str) -> settee::Database {
    Store::memory().create(&DbName::parse(name).unwrap()).await.unwrap()
}

#[tokio::test]
async fn the_client_syncs_over_tls_with_an_authority_of_its_own() {
    let files = Files::new();
    let (_serving, port, _) = over_tls(&files, Limits::default()).await;
    let (a, b) = (database("a").await, database("b").await);
    a.put(Document::new("milk", &json!({"n": 1})).unwrap()).await.unwrap();
    for db in [&a, &b] {
        let builder = Client::builder(&format!("wss://localhost:{port}"));
        let client = builder.ca_file(files.path("ca.pem")).connect().unwrap();
        client.sync(db, SyncOptions::one_shot("shared").create()).finished().await.unwrap();
        client.close().await;
    }
    assert_eq!(b.info().await.unwrap().doc_count, 1);
}

#[tokio::test]
async fn an_authority_that_is_not_known_is_not_trusted() {
    let (files, others) = (Files::new(), Files::new());
    let (_serving, port, _) = over_tls(&files, Limits::default()).await;
    for url in [format!("wss://localhost:{port}"), format!("wss://127.0.0.1:{port}")] {
        let client = Client::builder(&url).ca_file(others.path("ca.pem")).connect().unwrap();
        let mut events = client.connection_events();
        let event = futures::StreamExt::next(&mut events).await.unwrap();
        let ClientEvent::Disconnect { cause } = event else { panic!("{event:?}") };
        assert!(cause.contains("TLS: invalid peer certificate"), "{cause}");
        client.close().await;
    }
}

#[tokio::test]
async fn a_file_of_authorities_that_cannot_be_used_is_named() {
    let files = Files::new();
    files.write("text.pem", "no PEM at all");
    for name in ["absent.pem", "text.pem", "key.pem"] {
        let connected = Client::builder("wss://localhost").ca_file(files.path(name)).connect();
        let error = connected.unwrap_err();
        assert!(matches!(&error, ClientError::CaFile { path, .. } if path.ends_with(name)));
    }
    let odd = Client::builder("wss://a_b..c").ca_file(files.path("ca.pem")).connect().unwrap_err();
    assert!(matches!(odd, ClientError::TlsName { .. }), "{odd}");
}
