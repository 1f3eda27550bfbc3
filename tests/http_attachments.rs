//! Attachments over HTTP: alone, inline, and as parts of a document.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use std::io::Write as _;

use http::{Answer, Api, JSON};
use serde_json::{Value, json};
use settee::Limits;

async fn with_attachment() -> (Api, String) {
    let api = Api::new();
    api.database("db").await;
    let written =
        api.ask("PUT", "/db/doc/a%20b/c.txt", &[("Content-Type", "text/plain")], b"hello").await;
    assert_eq!(written.status, 201, "{}", written.text());
    let rev = written.json()["rev"].as_str().unwrap().to_owned();
    (api, rev)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn an_attachment_is_written_read_and_deleted_by_itself() {
    let (api, rev) = with_attachment().await;
    let path = "/db/doc/a%20b/c.txt";
    let read = api.ask("GET", path, &[], b"").await;
    assert_eq!((read.status, read.body.as_slice()), (200, &b"hello"[..]));
    let tag = "\"md5-XUFAKrxLKna5cZ2REBfFkg==\"";
    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-length", "5"),
        ("etag", tag),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
    ] {
        assert_eq!(read.header(name), Some(value), "{name}");
    }
    assert_eq!(api.ask("HEAD", path, &[], b"").await.header("content-length"), Some("5"));
    assert_eq!(api.ask("GET", path, &[("If-None-Match", tag)], b"").await.status, 304);
    let stub = api.get("/db/doc").await.json()["_attachments"]["a b/c.txt"].clone();
    assert_eq!(
        stub,
        json!({"content_type": "text/plain", "digest": "md5-XUFAKrxLKna5cZ2REBfFkg==",
            "length": 5, "revpos": 1, "stub": true})
    );
    let bytes: Vec<u8> = (0..=255).collect();
    let changed = api.ask("PUT", &format!("{path}?rev={rev}"), &[], &bytes).await;
    let second = changed.json()["rev"].as_str().unwrap().to_owned();
    let read = api.ask("GET", path, &[], b"").await;
    assert_eq!(read.body, bytes);
    assert_eq!(read.header("content-type"), Some("application/octet-stream"));
    let old = api.ask("GET", &format!("{path}?rev={rev}"), &[], b"").await;
    assert_eq!(old.body, b"hello");
    let stale = api.ask("DELETE", &format!("{path}?rev={rev}"), &[], b"").await;
    stale.assert_error("stale", 409, "conflict", "");
    let deleted = api.ask("DELETE", &format!("{path}?rev={second}"), &[], b"").await;
    assert_eq!((deleted.status, &deleted.json()["ok"]), (200, &json!(true)));
    api.get(path).await.assert_error("deleted", 404, "not_found", "missing attachment");
    let bad = api.ask("PUT", "/db/x/_a", &[], b"").await;
    bad.assert_error("name", 400, "bad_request", "underscore");
}

#[tokio::test]
async fn a_range_of_bytes_comes_alone() {
    let (api, rev) = with_attachment().await;
    let large: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    api.ask("PUT", &format!("/db/doc/large?rev={rev}"), &[], &large).await;
    for (range, first, last) in [
        ("bytes=0-9", 0, 9),
        ("bytes=65530-131080", 65_530, 131_080),
        ("bytes=199999-", 199_999, 199_999),
        ("bytes=-5", 199_995, 199_999),
        ("bytes=5-9999999", 5, 199_999),
    ] {
        let read = api.ask("GET", "/db/doc/large", &[("Range", range)], b"").await;
        assert_eq!(read.status, 206, "{range}");
        assert_eq!(read.body, large[first..=last], "{range}");
        let told = format!("bytes {first}-{last}/200000");
        assert_eq!(read.header("content-range"), Some(told.as_str()));
    }
    let beyond = api.ask("GET", "/db/doc/large", &[("Range", "bytes=200000-")], b"").await;
    beyond.assert_error("beyond", 416, "requested_range_not_satisfiable", "");
    for whole in ["bytes=9-1", "lines=1-2", "bytes=1-2,3-4", "bytes=99999999999999999999-"] {
        let read = api.ask("GET", "/db/doc/large", &[("Range", whole)], b"").await;
        assert_eq!((read.status, read.body.len()), (200, 200_000), "{whole}");
    }
    let headers = [("Range", "bytes=0-1"), ("If-Range", "\"other\"")];
    assert_eq!(api.ask("GET", "/db/doc/large", &headers, b"").await.status, 200);
}

#[tokio::test]
async fn inline_attachments_come_as_base64_where_asked() {
    let (api, rev) = with_attachment().await;
    let attachments = json!({"a b/c.txt": {"stub": true}, "b": {"content_type": "x/y", "data": "aGk="}, "e": {"data": ""}});
    let second = api.put("/db/doc", json!({"_rev": rev, "_attachments": attachments})).await;
    let expected = json!({
        "a b/c.txt": {"content_type": "text/plain", "data": "aGVsbG8=", "digest": "md5-XUFAKrxLKna5cZ2REBfFkg==", "revpos": 1},
        "b": {"content_type": "x/y", "data": "aGk=", "digest": "md5-SfaKXIST7CwL9ImCHCH8Ow==", "revpos": 2},
        "e": {"content_type": "application/octet-stream", "data": "", "digest": "md5-1B2M2Y8AsgTpgAmY7PhCfg==", "revpos": 2},
    });
    let single = api.get("/db/doc?attachments=true").await.json();
    assert_eq!(single["_attachments"], expected);
    let open = api.get("/db/doc?open_revs=all&attachments=true").await.json();
    assert_eq!(open[0]["ok"]["_attachments"], expected);
    let rows = api.get("/db/_all_docs?include_docs=true&attachments=true").await.json();
    assert_eq!(rows["rows"][0]["doc"]["_attachments"], expected);
    let changes = api.get("/db/_changes?include_docs=true&attachments=true").await.json();
    assert_eq!(changes["results"][0]["doc"]["_attachments"], expected);
    let asked = json!({"docs": [{"id": "doc"}]});
    let found = api.json("POST", "/db/_bulk_get?attachments=true", asked).await.json();
    assert_eq!(found["results"][0]["docs"][0]["ok"]["_attachments"], expected);
    let since = format!("/db/doc?atts_since=[%22{rev}%22]");
    let newer = api.get(&since).await.json()["_attachments"].clone();
    assert_eq!((&newer["a b/c.txt"]["stub"], &newer["b"]["data"]), (&json!(true), &json!("aGk=")));
    for (attachment, status, error) in [
        (json!({"x": {"stub": true}}), 412, "missing_stub"),
        (
            json!({"x": {"stub": true, "digest": "md5-sorryIDoNotReallyExist=="}}),
            412,
            "missing_stub",
        ),
        (json!({"x": {"data": "%"}}), 400, "bad_request"),
        (json!({"_x": {"data": ""}}), 400, "bad_request"),
        (json!({"x": 1}), 400, "bad_request"),
    ] {
        let body = json!({"_rev": second, "_attachments": attachment});
        let answer = api.json("PUT", "/db/doc", body).await;
        answer.assert_error(&attachment.to_string(), status, error, "");
    }
}

/// The parts of an answer: their headers and contents.
fn parts(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let content_type = answer.header("content-type").unwrap();
    let boundary = content_type.split("boundary=\"").nth(1).unwrap().trim_end_matches('"');
    parts_of(&answer.body, boundary)
}

fn parts_of(body: &[u8], boundary: &str) -> Vec<(String, Vec<u8>)> {
    let delimiter = format!("--{boundary}");
    let find = |from: usize, what: &[u8]| {
        body[from..].windows(what.len()).position(|window| window == what).map(|at| from + at)
    };
    let mut found = Vec::new();
    let mut at = find(0, delimiter.as_bytes()).unwrap() + delimiter.len();
    while !body[at..].starts_with(b"--") {
        let head_end = find(at, b"\r\n\r\n").unwrap();
        let end = find(head_end, format!("\r\n{delimiter}").as_bytes()).unwrap();
        let head = String::from_utf8(body[at + 2..head_end].to_vec()).unwrap();
        found.push((head, body[head_end + 4..end].to_vec()));
        at = end + 2 + delimiter.len();
    }
    found
}

#[tokio::test]
async fn a_document_comes_with_its_attachments_as_parts() {
    let (api, rev) = with_attachment().await;
    for accept in ["multipart/related", "*/*", "text/html, */*;q=0.1"] {
        let answer = api.ask("GET", "/db/doc?attachments=true", &[("Accept", accept)], b"").await;
        let parts = parts(&answer);
        let document: Value = serde_json::from_slice(&parts[0].1).unwrap();
        assert_eq!(document["_attachments"]["a b/c.txt"]["follows"], true, "{accept}");
        assert_eq!(parts[1].1, b"hello");
        assert!(parts[1].0.contains("filename=\"a b/c.txt\""), "{}", parts[1].0);
    }
    let plain = api.ask("GET", "/db/doc", &[("Accept", "*/*")], b"").await;
    assert_eq!(plain.header("content-type"), Some("application/json"));
    let path = format!("/db/doc?open_revs=[%22{rev}%22,%229-x%22]&attachments=true");
    let mixed = api.ask("GET", &path, &[("Accept", "multipart/mixed")], b"").await;
    let outer = parts(&mixed);
    assert!(outer[0].0.contains("multipart/related; boundary="), "{}", outer[0].0);
    let inner = outer[0].0.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(parts_of(&outer[0].1, inner)[1].1, b"hello");
    assert!(outer[1].0.contains("application/json; error=\"true\""));
    assert_eq!(serde_json::from_slice::<Value>(&outer[1].1).unwrap(), json!({"missing": "9-x"}));
    let asked = json!({"docs": [{"id": "doc"}, {"id": "none"}]}).to_string();
    let headers = [JSON, ("Accept", "multipart/mixed")];
    let mixed = api.ask("POST", "/db/_bulk_get?attachments=true", &headers, asked.as_bytes()).await;
    let outer = parts(&mixed);
    assert!(outer[0].0.contains("X-Doc-Id: doc") && outer[0].0.contains(&rev), "{}", outer[0].0);
    assert_eq!(serde_json::from_slice::<Value>(&outer[1].1).unwrap()["error"], "not_found");
}

#[tokio::test]
async fn a_document_is_written_with_its_attachments_as_parts() {
    let (api, _) = with_attachment().await;
    let document = json!({"_rev": "2-x", "_revisions": {"start": 2, "ids": ["x", "y"]}, "_attachments": {
        "first": {"follows": true, "content_type": "text/plain", "length": 3, "digest": "md5-rL0Y20zC+Fzt72VPzMSk2A=="},
        "packed": {"follows": true, "content_type": "text/plain", "length": 4, "encoding": "gzip", "encoded_length": 24},
        "named": {"follows": true, "content_type": "x/y"},
    }});
    let body = |document: &Value, first: &str| {
        let mut body = format!(
            "--B\r\nContent-Type: application/json\r\n\r\n{document}\r\n--B\r\n\r\n{first}\r\n--B\r\n\
             Content-Disposition: attachment; filename=\"named\"\r\n\r\nby name\r\n--B\r\n\
             Content-Encoding: gzip\r\n\r\n"
        )
        .into_bytes();
        body.extend(gzip(b"gzip"));
        body.extend(b"\r\n--B--");
        body
    };
    let related = ("Content-Type", "multipart/related; boundary=\"B\"");
    let path = "/db/parts?new_edits=false";
    let mismatch = api.ask("PUT", path, &[related], &body(&document, "fox")).await;
    mismatch.assert_error("mismatch", 400, "bad_request", "announced");
    let written = api.ask("PUT", path, &[related], &body(&document, "foo")).await;
    assert_eq!(
        (written.status, &written.json()["rev"]),
        (201, &json!("2-x")),
        "{}",
        written.text()
    );
    for (name, bytes) in [("first", "foo"), ("packed", "gzip"), ("named", "by name")] {
        let read = api.ask("GET", &format!("/db/parts/{name}"), &[], b"").await;
        assert_eq!(read.text(), bytes, "{name}");
    }
    let mut more = document.clone();
    more["_attachments"]["more"] = json!({"follows": true});
    let unfollowed = api.ask("PUT", "/db/more", &[related], &body(&more, "foo")).await;
    unfollowed.assert_error("one part too few", 400, "bad_request", "no part for it");
    let mut fewer = document;
    fewer["_attachments"].as_object_mut().unwrap().remove("packed");
    let surplus = api.ask("PUT", "/db/fewer", &[related], &body(&fewer, "foo")).await;
    surplus.assert_error("one part too many", 400, "bad_request", "more parts");
    for bad in [&b""[..], b"--B", b"--B\r\n\r\n{}", b"--B\r\n\r\n{}\r\n--B\r\n\r\nx"] {
        let answer = api.ask("PUT", "/db/bad", &[related], bad).await;
        assert_eq!(answer.status, 400, "{}", String::from_utf8_lossy(bad));
    }
}

#[tokio::test]
async fn compressed_bodies_are_taken() {
    let (api, _) = with_attachment().await;
    let packed = gzip(br#"{"n":1}"#);
    let headers = [JSON, ("Content-Encoding", "gzip")];
    assert_eq!(api.ask("PUT", "/db/packed", &headers, &packed).await.status, 201);
    assert_eq!(api.get("/db/packed").await.json()["n"], 1);
    let written =
        api.ask("PUT", "/db/file/x", &[("Content-Encoding", "gzip")], &gzip(b"plain")).await;
    assert_eq!(written.status, 201);
    assert_eq!(api.get("/db/file/x").await.body, b"plain");
    let cut = api.ask("PUT", "/db/cut", &headers, &packed[..packed.len() - 4]).await;
    cut.assert_error("cut", 400, "bad_request", "gzip");
    let unknown = api.ask("PUT", "/db/br", &[("Content-Encoding", "br")], b"x").await;
    unknown.assert_error("br", 415, "bad_ctype", "Content-Encoding");
}

#[tokio::test]
async fn sizes_are_bounded_at_their_bound() {
    let store = Limits { attachment_bytes_max: 1_000, ..Limits::default() };
    let gateway = Limits { request_json_bytes_max: 2_000, ..Limits::default() };
    let api = Api::with_limits(store, gateway);
    api.database("db").await;
    let put = async |path: &str, bytes: &[u8], headers: &[(&str, &str)]| {
        api.ask("PUT", path, headers, bytes).await
    };
    assert_eq!(put("/db/a/x", &[7; 1_000], &[]).await.status, 201);
    put("/db/b/x", &[7; 1_001], &[]).await.assert_error("attachment", 413, "too_large", "1000");
    let packed = gzip(&[0; 1_001]);
    let encoding = [("Content-Encoding", "gzip")];
    put("/db/c/x", &packed, &encoding).await.assert_error("packed", 413, "too_large", "1000");
    let document = |bytes: usize| format!("{{\"x\":\"{}\"}}", "y".repeat(bytes - 8));
    assert_eq!(put("/db/d", document(2_000).as_bytes(), &[]).await.status, 201);
    let over = put("/db/e", document(2_001).as_bytes(), &[]).await;
    over.assert_error("body", 413, "too_large", "2000");
    let bomb = put("/db/f", &gzip(document(5_000_000).as_bytes()), &encoding).await;
    bomb.assert_error("bomb", 413, "too_large", "2000");
}
