//! The gateway serves the JavaScript client to pages.
#![cfg(feature = "server")]

#[path = "support/raw.rs"]
mod raw;

use std::sync::Arc;

use raw::{Raw, Served};
use settee::Store;
use settee::server::Gateway;

const MODULE: &str = include_str!("../client-js/dist/settee-client.js");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// An answer: the head in lower case, and the body.
struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).expect("a status")
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(found, value)| (found == name).then_some(value))
    }
}

async fn ask(served: &Served, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{headers}\r\n");
    let mut raw: Raw = served.bytes().await;
    raw.write(request.as_bytes()).await;
    let text = raw.rest().await;
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    Answer { head: head.to_lowercase(), body: body.to_owned() }
}

fn gateway() -> Arc<Served> {
    Served::new(Gateway::builder(Store::memory()))
}

#[tokio::test]
async fn a_page_loads_the_module_and_asks_again_each_time() {
    let served = gateway();
    let answer = ask(&served, "GET", "/_settee/client.js", &[]).await;
    assert_eq!(answer.status(), "200");
    assert_eq!(answer.body, MODULE);
    assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(answer.header("content-length"), Some(MODULE.len().to_string().as_str()));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("settee-client-version"), Some(VERSION));
    assert!(MODULE.starts_with(&format!("/* settee-client {VERSION},")), "one version for both");
}

#[tokio::test]
async fn a_version_is_kept_for_ever_and_others_are_not_there() {
    let served = gateway();
    let answer = ask(&served, "GET", &format!("/_settee/client-{VERSION}.js"), &[]).await;
    assert_eq!((answer.status(), answer.body.as_str()), ("200", MODULE));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"));
    for path in [
        "/_settee/client-0.0.0.js",
        "/_settee/client-.js",
        "/_settee/client",
        "/_settee/client.js/more",
    ] {
        assert_eq!(ask(&served, "GET", path, &[]).await.status(), "404", "{path}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(
            ask(&served, method, "/_settee/client.js", &[]).await.status(),
            "404",
            "{method}"
        );
    }
}

#[tokio::test]
async fn head_tells_what_get_would_without_the_body() {
    let served = gateway();
    for path in ["/_settee/client.js".to_owned(), format!("/_settee/client-{VERSION}.js")] {
        let get = ask(&served, "GET", &path, &[]).await;
        let head = ask(&served, "HEAD", &path, &[]).await;
        assert_eq!((head.status(), head.body.as_str()), ("200", ""));
        for name in ["content-type", "content-length", "etag", "cache-control"] {
            assert_eq!(head.header(name), get.header(name), "{name}");
        }
    }
}

#[tokio::test]
async fn who_has_the_module_is_not_sent_it_again() {
    let served = gateway();
    let first = ask(&served, "GET", "/_settee/client.js", &[]).await;
    let tag = first.header("etag").expect("a tag").to_owned();
    assert!(tag.starts_with('"'), "a strong tag: {tag}");
    let weak = format!("W/{tag}");
    let among = format!("\"other\", {tag}");
    for (known, status) in [
        (tag.as_str(), "304"),
        (weak.as_str(), "304"),
        (among.as_str(), "304"),
        ("*", "304"),
        ("\"other\"", "200"),
        ("", "200"),
    ] {
        let answer = ask(&served, "GET", "/_settee/client.js", &[("If-None-Match", known)]).await;
        assert_eq!(answer.status(), status, "{known}");
        assert_eq!(answer.body.is_empty(), status == "304", "{known}");
        assert_eq!(answer.header("etag"), Some(tag.as_str()));
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
    }
}

#[tokio::test]
async fn pages_that_may_connect_may_load_the_module() {
    let allowed = "https://app.example";
    let some = Served::new(Gateway::builder(Store::memory()).allowed_origins([allowed.to_owned()]));
    let any = Served::new(Gateway::builder(Store::memory()).any_origin());
    let other = "https://other.example";
    for (served, origin, expected) in [
        (&some, Some(allowed), Some(allowed)),
        (&some, Some("http://gateway"), Some("http://gateway")),
        (&some, Some(other), None),
        (&some, None, None),
        (&any, Some(other), Some("*")),
        (&any, None, Some("*")),
    ] {
        let headers: Vec<_> = origin.map(|origin| ("Origin", origin)).into_iter().collect();
        let answer = ask(served, "GET", "/_settee/client.js", &headers).await;
        assert_eq!(answer.status(), "200", "{origin:?}");
        assert_eq!(answer.header("access-control-allow-origin"), expected, "{origin:?}");
        assert_eq!(answer.header("vary"), (expected != Some("*")).then_some("origin"));
    }
}
