//! Whom a request comes from: the peer, or whom a listed proxy names.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use std::sync::{Arc, Mutex};

use http::{Answer, Api};
use raw::{Came, HANDSHAKE, Raw};
use serde_json::json;
use settee::server::{
    AccessRequest, Denied, Endpoint, ForwardedHeader, Gateway, GatewayBuilder, Grant,
    MetricsAccess, ServerError,
};
use settee::transport::{Connector as _, TcpConnector};
use settee::{Limits, Store};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Grants everything and writes down who asked.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn gateway(&self) -> GatewayBuilder {
        let asked = self.clone();
        Gateway::builder(Store::memory()).authorizer(move |request: AccessRequest| {
            let peer = request.peer.map_or("nobody".to_owned(), |peer| peer.ip().to_string());
            asked.0.lock().unwrap().push(peer);
            async move { Ok::<_, Denied>(Grant::database(request.database).creating()) }
        })
    }

    fn last(&self) -> String {
        self.0.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

async fn get(api: &Api, headers: &[(&str, &str)]) -> Answer {
    api.ask("GET", "/absent", headers, b"").await
}

fn proxied(gateway: GatewayBuilder) -> GatewayBuilder {
    gateway.trusted_proxies(["unix".into(), "10.0.0.0/8".into()])
}

#[tokio::test]
async fn the_authorizer_sees_whom_a_listed_proxy_names_and_nobody_elses_word_counts() {
    let asked = Asked::default();
    let trusting = Api::served(proxied(asked.gateway()));
    let plain = Api::served(asked.gateway());
    let chain = [("X-Forwarded-For", "6.6.6.6, 192.0.2.1, 10.0.0.1")];
    get(&trusting, &chain).await;
    assert_eq!(asked.last(), "192.0.2.1");
    get(&plain, &chain).await;
    assert_eq!(asked.last(), "nobody");
    get(&trusting, &[("Forwarded", "for=192.0.2.9")]).await;
    assert_eq!(asked.last(), "0.0.0.0", "the other kind of header is a client's own");
    get(&trusting, &[("X-Forwarded-For", "\"\u{e4}, 192.0.2.1")]).await;
    assert_eq!(asked.last(), "192.0.2.1", "what a client wrote before hides nothing");
    let forwarded = proxied(asked.gateway()).forwarded_header(ForwardedHeader::Forwarded);
    let forwarded = Api::served(forwarded);
    get(&forwarded, &[("Forwarded", "for=\"[2001:db8::1]:80\""), chain[0]]).await;
    assert_eq!(asked.last(), "2001:db8::1");
    get(&forwarded, &[("Forwarded", r#"for=6.6.6.6;x="\"", for=192.0.2.4"#)]).await;
    assert_eq!(asked.last(), "192.0.2.4");
    let mut raw = trusting.served.bytes().await;
    let request = HANDSHAKE.replace("Host:", "X-Forwarded-For: 192.0.2.3\r\nHost:");
    assert_eq!(raw.request(request.as_bytes()).await.0, 101);
    raw.ask(json!(["open", 1, {"database": "absent"}])).await;
    assert_eq!(asked.last(), "192.0.2.3");
}

#[tokio::test]
async fn a_pages_origin_is_compared_with_what_the_client_asked_the_proxy_for() {
    let asked = Asked::default();
    let trusting = Api::served(proxied(asked.gateway()));
    let plain = Api::served(asked.gateway());
    let page = ("Origin", "https://app.example");
    let told = [page, ("X-Forwarded-Host", "app.example"), ("X-Forwarded-Proto", "https")];
    assert_eq!(get(&trusting, &told).await.status, 404);
    assert_eq!(get(&plain, &told).await.status, 403);
    let other_host = [page, ("X-Forwarded-Host", "evil.example")];
    assert_eq!(get(&trusting, &other_host).await.status, 403);
    let other_scheme = [page, told[1], ("X-Forwarded-Proto", "http")];
    assert_eq!(get(&trusting, &other_scheme).await.status, 403);
    let made = trusting.ask("PUT", "/made", &told[1..], b"").await;
    assert_eq!(made.header("location"), Some("https://app.example/made"));
    let made = plain.ask("PUT", "/made", &told[1..], b"").await;
    assert_eq!(made.header("location"), Some("http://gateway/made"));
}

#[tokio::test]
async fn sockets_through_a_proxy_are_counted_by_the_clients_address() {
    let limits = Limits { connections_per_address_max: 1, ..Limits::default() };
    let gateway = proxied(Asked::default().gateway()).metrics(MetricsAccess::Everybody);
    let api = Api::served(gateway.limits(limits));
    let upgrade = async |address: &str| {
        let mut raw = api.served.bytes().await;
        let request = HANDSHAKE.replace("Host:", &format!("X-Forwarded-For: {address}\r\nHost:"));
        let (status, _) = raw.request(request.as_bytes()).await;
        (raw, status)
    };
    let (_first, status) = upgrade("192.0.2.1").await;
    assert_eq!(status, 101);
    assert_eq!(upgrade("192.0.2.1").await.1, 429);
    let metrics = api.get("/_metrics").await;
    let counted = "settee_limits_hit_total{limit=\"connections_per_address_max\"} 1";
    assert!(metrics.text().contains(counted), "{}", metrics.text());
    let (_second, status) = upgrade("192.0.2.2").await;
    assert_eq!(status, 101);
    for _ in 0..5 {
        assert_eq!(get(&api, &[("X-Forwarded-For", "192.0.2.1")]).await.status, 404);
    }
}

/// A TCP endpoint that wants PROXY headers.
async fn endpoint(gateway: GatewayBuilder) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let gateway = gateway.build().unwrap();
    let serving = async move {
        let endpoints = vec![Endpoint::tcp(listener).proxy_header()];
        gateway.serve_endpoints(endpoints, std::future::pending()).await;
    };
    (port, tokio::spawn(serving))
}

async fn send(port: u16, before: &[u8]) -> (Raw, u16) {
    let mut raw = Raw::new(TcpConnector.connect("127.0.0.1", port).await.unwrap());
    raw.write(before).await;
    let (status, _) = raw.request(b"GET /absent HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    (raw, status)
}

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x13\x88\0\x50";

#[tokio::test]
async fn proxy_headers_of_both_versions_name_the_client() {
    let asked = Asked::default();
    let limits = Limits { connections_per_address_max: 1, ..Limits::default() };
    let gateway = asked.gateway().limits(limits).trusted_proxies(["127.0.0.0/8".into()]);
    let (port, serving) = endpoint(gateway).await;
    let (kept, status) = send(port, b"PROXY TCP4 192.0.2.6 10.0.0.1 5000 80\r\n").await;
    assert_eq!((status, asked.last().as_str()), (404, "192.0.2.6"));
    assert_eq!(send(port, b"PROXY TCP4 192.0.2.6 10.0.0.1 5001 80\r\n").await.1, 429);
    let (_, status) = send(port, V2).await;
    assert_eq!((status, asked.last().as_str()), (404, "192.0.2.7"));
    let (_, status) = send(port, b"PROXY UNKNOWN\r\n").await;
    assert_eq!((status, asked.last().as_str()), (404, "127.0.0.1"));
    drop(kept);
    serving.abort();
}

#[tokio::test]
async fn who_sends_no_proxy_header_or_is_not_listed_is_cut() {
    let asked = Asked::default();
    let gateway = asked.gateway().trusted_proxies(["127.0.0.1".into()]);
    let (port, serving) = endpoint(gateway).await;
    let (mut raw, status) = send(port, b"").await;
    assert_eq!((status, raw.next().await), (0, Came::Gone));
    serving.abort();
    let unlisted = asked.gateway().trusted_proxies(["10.0.0.0/8".into()]);
    let (port, serving) = endpoint(unlisted).await;
    assert_eq!(send(port, V2).await.1, 0);
    serving.abort();
    assert_eq!(asked.last(), "", "nobody was asked");
}

#[test]
fn what_is_no_proxy_is_named() {
    let build = Gateway::builder(Store::memory()).trusted_proxies(["10.0.0.0/99".into()]).build();
    let error = build.unwrap_err();
    assert!(matches!(&error, ServerError::Proxy { entry } if entry == "10.0.0.0/99"), "{error}");
}
