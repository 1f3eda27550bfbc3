//! Hostile requests, by table: each gets a named error, and the gateway goes on.
#![allow(clippy::too_many_lines, reason = "a table is one function, however many cases it has")]

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use std::io::Write as _;

use http::{Api, JSON};
use serde_json::{Value, json};
use settee::Limits;

const DOC_BYTES_MAX: usize = 5_000;
const JSON_BYTES_MAX: usize = 20_000;

fn api() -> Api {
    let store = Limits {
        doc_bytes_max: DOC_BYTES_MAX,
        json_members_max: 300,
        doc_id_bytes_max: 50,
        bulk_rows_max: 5,
        attachment_bytes_max: 1_000,
        attachments_per_doc_max: 2,
        leaves_per_doc_max: 3,
        selector_bytes_max: 500,
        ..Limits::default()
    };
    let gateway = Limits {
        request_json_bytes_max: JSON_BYTES_MAX,
        request_body_stall_timeout_ms: 50,
        request_header_timeout_ms: 50,
        ..Limits::default()
    };
    Api::with_limits(store, gateway)
}

/// Cases, and how many there were.
struct Table {
    api: Api,
    cases: usize,
}

impl Table {
    async fn new() -> Self {
        let api = api();
        api.database("db").await;
        api.put("/db/a", json!({"n": 1})).await;
        Self { api, cases: 0 }
    }

    /// One request: the status, and the error's name.
    async fn case(
        &mut self,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &[u8],
        (status, error): (u16, &str),
    ) {
        self.cases += 1;
        let answer = self.api.ask(method, path, headers, body).await;
        let shown: String = String::from_utf8_lossy(body).chars().take(60).collect();
        let case = format!("{method} {path} {headers:?} {shown}");
        if method == "HEAD" {
            assert_eq!(answer.status, status, "{case}");
        } else {
            answer.assert_error(&case, status, error, "");
            let reason = answer.json()["reason"].as_str().unwrap().len();
            assert!(reason < 1_000, "{case}: a reason of {reason} bytes");
        }
    }

    async fn get(&mut self, path: &str, expected: (u16, &str)) {
        self.case(("GET", path), &[], b"", expected).await;
    }

    async fn post(&mut self, path: &str, body: &[u8], expected: (u16, &str)) {
        self.case(("POST", path), &[JSON], body, expected).await;
    }

    /// Asserts that nothing was changed and everything goes on.
    async fn end(self, cases_min: usize) {
        assert!(self.cases >= cases_min, "{} cases", self.cases);
        let info = self.api.get("/db").await.json();
        assert_eq!(info["doc_count"], 1, "{info}");
        assert_eq!(self.api.get("/db/a").await.json()["n"], 1);
    }
}

fn percent(byte: u8) -> String {
    format!("%{byte:02X}")
}

#[tokio::test]
async fn a_request_without_a_path_is_refused() {
    let api = Api::new();
    for line in ["GET G", "GET example.org:80", "CONNECT example.org:80"] {
        let request = format!("{line} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
        let answer = api.bytes(request.as_bytes()).await.rest().await;
        answer.assert_error(line, 400, "bad_request", "for a path");
    }
}

#[tokio::test]
async fn names_with_odd_bytes() {
    let mut table = Table::new().await;
    let illegal = (400, "illegal_database_name");
    for byte in 0..=255_u8 {
        let legal =
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_$()+-/".contains(&byte);
        if !legal {
            let expected = if byte.is_ascii() { illegal } else { (400, "bad_request") };
            table.get(&format!("/a{}", percent(byte)), expected).await;
        }
        if !byte.is_ascii_lowercase() && byte != b'_' && byte.is_ascii() {
            table.case(("PUT", &format!("/{}x", percent(byte))), &[], b"", illegal).await;
        }
    }
    for name in
        ["..", "%2e%2e", "a%2F..%2F..%2Fetc%2Fpasswd", "..%5C..", "%252e", "-", "$", "1", "9a"]
    {
        table.case(("PUT", &format!("/{name}")), &[], b"", illegal).await;
    }
    let long = format!("/{}", "a".repeat(239));
    table.case(("PUT", &long), &[], b"", illegal).await;
    assert_eq!(table.api.ask("PUT", &long[..239], &[], b"").await.status, 201, "at the bound");
    for broken in [
        "/%",
        "/a%",
        "/a%1",
        "/a%zz",
        "/a%%",
        "/db/%",
        "/db/%f",
        "/db/%FF%FE",
        "/db/a/%",
        "/db/%C3",
    ] {
        table.get(broken, (400, "bad_request")).await;
    }
    for reserved in ["/_users", "/_x", "/_", "/_all_dbs/x", "/_session/x", "/_node/x", "/__proto__"]
    {
        table.get(reserved, (404, "not_found")).await;
    }
    for id in ["_x", "_", "_design", "_design/", "_%00", "__proto__", "_local", "_all_docsx"] {
        table.case(("PUT", &format!("/db/{id}")), &[], b"{}", (400, "illegal_docid")).await;
    }
    let long = "x".repeat(51);
    table.case(("PUT", &format!("/db/{long}")), &[], b"{}", (400, "illegal_docid")).await;
    table.case(("PUT", &format!("/db/_local/{long}")), &[], b"{}", (400, "illegal_docid")).await;
    table.case(("PUT", "/db/x/_att"), &[], b"x", (400, "bad_request")).await;
    table.case(("PUT", "/db//x"), &[], b"x", (400, "illegal_docid")).await;
    table.end(350).await;
}

#[tokio::test]
async fn bodies_that_are_no_documents() {
    let mut table = Table::new().await;
    let bad = (400, "bad_request");
    let deep = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    let deep_list =
        |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    let members: String = (0..400).map(|n| format!("\"m{n}\":1,")).collect();
    for body in [
        "",
        " ",
        "x",
        "{",
        "}",
        "[]",
        "[1]",
        "1",
        "null",
        "true",
        "\"a\"",
        "{a:1}",
        "{'a':1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":-}",
        "{\"a\":1e}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":tru}",
        "{\"a\":1}}",
        "{\"a\":1} {}",
        "{\"a\":1}\u{0}",
        "\u{feff}{}",
        "{\"a\" 1}",
        "{\"a\":[1,]}",
        "{\"a\":[1 2]}",
        "/* */{}",
        "{}//",
        "{\"a\":\"",
        "{\"a\":[",
        "{\"a\":{",
        "{\"\\ud800",
        "{\"a\":0x10}",
        &deep(101),
        &deep(1_000),
        &deep(3_000),
        &deep_list(101),
        &deep_list(9_900),
        &format!("{{{members}\"z\":1}}"),
        &format!("{{\"a\":[{}1]}}", "1,".repeat(400)),
        r#"{"_rev":1}"#,
        r#"{"_rev":"x"}"#,
        r#"{"_rev":"1-a"}x"#,
        r#"{"_rev":"0-a"}"#,
        r#"{"_rev":""}"#,
        r#"{"_attachments":{"a":1}}"#,
        r#"{"_attachments":{"":{"data":""}}}"#,
        r#"{"_attachments":{"_a":{"data":""}}}"#,
        r#"{"_attachments":{"a":{}}}"#,
        r#"{"_attachments":{"a":{"data":1}}}"#,
        r#"{"_attachments":{"a":{"data":"*"}}}"#,
        r#"{"_attachments":{"a":{"stub":true,"length":-1}}}"#,
    ] {
        table.case(("PUT", "/db/new"), &[], body.as_bytes(), bad).await;
    }
    for body in [
        &b"\xff"[..],
        b"{\"a\":\"\xff\"}",
        b"{\"a\":\"\xc3\"}",
        b"\xef\xbb\xbf{}",
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"\0",
        b"\x1f\x8b",
    ] {
        table.case(("PUT", "/db/new"), &[], body, bad).await;
    }
    for body in [
        r#"{"_foo":1}"#,
        r#"{"__proto__":1}"#,
        r#"{"_":1}"#,
        r#"{"_admin":true}"#,
        r#"{"_deleted":1}"#,
        r#"{"_deleted":"true"}"#,
        r#"{"_revisions":1}"#,
        r#"{"_revisions":{"start":1}}"#,
        r#"{"_attachments":[]}"#,
        r#"{"_attachments":1}"#,
        r#"{"_roles":["_admin"]}"#,
        r#"{"_rev":"2-a","_revisions":{"start":1,"ids":["b"]}}"#,
        r#"{"_attachments":{"a":{"data":""},"b":{"data":""},"c":{"data":""}}}"#,
    ] {
        table.case(("PUT", "/db/new"), &[], body.as_bytes(), (400, "doc_validation")).await;
    }
    let large = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes));
    for body in [large(DOC_BYTES_MAX), large(JSON_BYTES_MAX), large(1_000_000)] {
        table.case(("PUT", "/db/new"), &[], body.as_bytes(), (413, "too_large")).await;
    }
    table.case(("PUT", "/db/new/a"), &[], &[0; 1_001], (413, "too_large")).await;
    table.end(85).await;
}

/// Two readers of one text must not see two texts: CVE-2017-12635.
#[tokio::test]
async fn equal_keys_mean_the_last_one_to_everybody() {
    let api = api();
    api.database("db").await;
    let body = br#"{"_id":"x","n":1,"n":2,"roles":["a"],"roles":[],"deep":{"a":1,"a":2}}"#;
    assert_eq!(api.ask("PUT", "/db/x", &[], body).await.status, 201);
    let text = api.get("/db/x").await.text().to_owned();
    assert!(!text.contains("[\"a\"]") && text.matches("\"n\"").count() == 1, "{text}");
    let read: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&read["n"], &read["roles"], &read["deep"]),
        (&json!(2), &json!([]), &json!({"a": 2}))
    );
    let twice = br#"{"docs":[],"docs":[{"_id":"y"}]}"#;
    let answer = api.ask("POST", "/db/_bulk_docs", &[JSON], twice).await;
    answer.assert_error("docs twice", 400, "bad_request", "duplicate");
    let security = br#"{"members":{"names":["x"]},"members":{"names":[]}}"#;
    assert_eq!(api.ask("PUT", "/db/_security", &[], security).await.status, 400);
}

#[tokio::test]
async fn parameters_that_cannot_be_meant() {
    let mut table = Table::new().await;
    let query = (400, "query_parse_error");
    let bad = (400, "bad_request");
    for number in
        ["-1", "x", "1.5", "1e3", "%2B1", "", "99999999999999999999", "0x10", "true", "[]", "%00"]
    {
        for path in [
            "/db/_all_docs?limit=",
            "/db/_all_docs?skip=",
            "/db/_changes?limit=",
            "/_uuids?count=",
            "/db/_design_docs?limit=",
            "/db/_local_docs?skip=",
            "/_all_dbs?limit=",
            "/db/_changes?seq_interval=",
        ] {
            table.get(&format!("{path}{number}"), query).await;
        }
        table.get(&format!("/db/_changes?timeout={number}"), bad).await;
        if number != "true" {
            table.get(&format!("/db/_changes?heartbeat={number}"), bad).await;
        }
    }
    for flag in ["1", "yes", "TRUE", "", "null", "truee"] {
        for path in [
            "/db/a?revs=",
            "/db/a?attachments=",
            "/db/a?meta=",
            "/db/_all_docs?descending=",
            "/db/_all_docs?include_docs=",
            "/db/_changes?include_docs=",
            "/db/_changes?descending=",
        ] {
            table.get(&format!("{path}{flag}"), query).await;
        }
    }
    for path in [
        "/db/a?rev=",
        "/db/a?rev=x",
        "/db/a?rev=0-a",
        "/db/a?rev=-1-a",
        "/db/a?rev=1",
        "/db/a?rev=99999999999999999999-a",
        "/db/a?atts_since=x",
        "/db/a?atts_since=[1]",
        "/db/a?atts_since=[%22x%22]",
        "/db/a?open_revs=",
        "/db/a?open_revs=x",
        "/db/a?open_revs={}",
        "/db/a?open_revs=[1]",
        "/db/a?open_revs=[%22x%22]",
        "/db/a?open_revs=[[]]",
        "/db/_all_docs?startkey=a",
        "/db/_all_docs?startkey=%22",
        "/db/_all_docs?key={",
        "/db/_all_docs?keys=1",
        "/db/_changes?since=x",
        "/db/_changes?since=-1",
        "/db/_changes?since=1-",
        "/db/_changes?since=1-zz",
        "/db/_changes?since={}",
        "/db/_changes?since=99999999999999999999",
        "/db/_changes?feed=x",
        "/db/_changes?style=x",
        "/db/_changes?filter=x",
        "/db/_changes?filter=_doc_ids",
        "/db/_changes?filter=_doc_ids&doc_ids=x",
        "/db/_changes?filter=_selector",
        "/db/a?%",
        "/db/a?a=%zz",
        "/db/a?x=%ff",
        "/_db_updates?since=x",
        "/_db_updates?feed=x",
        "/db/a/att?rev=x",
    ] {
        table.get(path, bad).await;
    }
    table.get("/_uuids?count=1001", (403, "forbidden")).await;
    table.get("/_uuids?count=18446744073709551615", (403, "forbidden")).await;
    table.end(190).await;
}

#[tokio::test]
async fn posts_that_are_malformed() {
    let mut table = Table::new().await;
    let bad = (400, "bad_request");
    let paths = [
        "_bulk_docs",
        "_bulk_get",
        "_revs_diff",
        "_missing_revs",
        "_purge",
        "_all_docs",
        "_changes",
        "_all_docs/queries",
        "_design_docs",
        "_local_docs",
        "_ensure_full_commit",
        "_compact",
    ];
    for path in paths {
        let path = format!("/db/{path}");
        for body in ["x", "{", "{\"a\":", "\u{1}", "{}}"] {
            table.post(&path, body.as_bytes(), bad).await;
        }
        table.post(&path, b"\xff", bad).await;
        table.post(&path, &b"[".repeat(5_000), bad).await;
        table.post(&path, &vec![b' '; JSON_BYTES_MAX + 1], (413, "too_large")).await;
        for media_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
            "json",
        ] {
            let headers = [("Content-Type", media_type)];
            table.case(("POST", &path), &headers, b"{}", (415, "bad_content_type")).await;
        }
        table.case(("POST", &path), &[], b"{}", (415, "bad_content_type")).await;
    }
    for (path, body, expected) in [
        ("_bulk_docs", json!({"docs": [1]}), bad),
        ("_bulk_docs", json!({"docs": [[]]}), bad),
        ("_bulk_docs", json!({"docs": [{"_id": 1}]}), (400, "illegal_docid")),
        ("_bulk_docs", json!({"docs": [{"_id": ""}]}), (400, "illegal_docid")),
        ("_bulk_docs", json!({"docs": [{"_id": "x".repeat(51)}]}), (400, "illegal_docid")),
        ("_bulk_docs", json!({"docs": vec![json!({}); 6]}), (413, "too_large")),
        ("_bulk_docs", json!({"docs": [], "new_edits": "no"}), bad),
        (
            "_bulk_docs",
            json!({"docs": [{"_id": "x", "a": "y".repeat(DOC_BYTES_MAX)}]}),
            (413, "too_large"),
        ),
        ("_bulk_get", json!({"docs": 1}), bad),
        ("_bulk_get", json!({"docs": [1]}), bad),
        ("_bulk_get", json!({"docs": [{}]}), bad),
        ("_bulk_get", json!({"docs": [{"id": 1}]}), bad),
        ("_bulk_get", json!({"docs": vec![json!({"id": "a"}); 6]}), (413, "too_large")),
        ("_revs_diff", json!({"a": 1}), bad),
        ("_revs_diff", json!({"a": ["x"]}), bad),
        ("_revs_diff", json!({"a": [1]}), bad),
        ("_revs_diff", json!({"_x": ["1-a"]}), (400, "illegal_docid")),
        ("_revs_diff", json!({"a": vec!["1-a"; 6]}), (413, "too_large")),
        ("_purge", json!({"a": "1-a"}), bad),
        ("_purge", json!({"a": ["x"]}), bad),
        ("_all_docs", json!({"keys": 1}), bad),
        ("_all_docs", json!({"keys": vec!["a"; 6]}), (413, "too_large")),
        ("_all_docs", json!({"limit": -1}), (400, "query_parse_error")),
        ("_all_docs", json!({"skip": "1"}), (400, "query_parse_error")),
        ("_all_docs", json!({"descending": 1}), (400, "query_parse_error")),
        ("_all_docs/queries", json!({}), bad),
        ("_all_docs/queries", json!({"queries": 1}), bad),
        ("_all_docs/queries", json!({"queries": [1]}), bad),
        ("_all_docs/queries", json!({"queries": vec![json!({}); 101]}), (413, "too_large")),
        ("_changes?filter=_doc_ids", json!({"doc_ids": vec!["a"; 6]}), (413, "too_large")),
        ("_changes?filter=_selector", json!({"selector": []}), bad),
        (
            "_changes?filter=_selector",
            json!({"selector": {"a": {"$regex": "("}}}),
            (400, "bad_arg"),
        ),
        (
            "_changes?filter=_selector",
            json!({"selector": {"a": "x".repeat(600)}}),
            (413, "too_large"),
        ),
        ("_local_docs", json!({"keys": []}), bad),
    ] {
        table.post(&format!("/db/{path}"), body.to_string().as_bytes(), expected).await;
    }
    table.end(190).await;
}

#[tokio::test]
async fn headers_that_cannot_be_meant() {
    let mut table = Table::new().await;
    let unauthorized = (401, "unauthorized");
    for value in [
        "",
        "x",
        "Basic",
        "Basic ",
        "Basic *",
        "Basic YQ==",
        "Bearer",
        "Bearer ",
        "Negotiate abc",
        "Basic /w==",
    ] {
        table.case(("GET", "/db"), &[("Authorization", value)], b"", unauthorized).await;
    }
    for value in [
        "AuthSession=x",
        "AuthSession=AAAA",
        "AuthSession=%00",
        "AuthSession=\"x\"",
        "a=b; AuthSession=zzzz",
    ] {
        let mut open = api();
        open.database("db").await;
        open.headers.clear();
        let answer = open.ask("GET", "/db", &[("Cookie", value)], b"").await;
        answer.assert_error(value, 401, "unauthorized", "session");
    }
    for encoding in ["br", "deflate", "gzip, gzip", "x", "zstd"] {
        table
            .case(("PUT", "/db/x"), &[("Content-Encoding", encoding)], b"{}", (415, "bad_ctype"))
            .await;
    }
    for bytes in
        [&b"x"[..], b"", b"\x1f\x8b", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x00", &[0x1f; 100]]
    {
        table
            .case(("PUT", "/db/x"), &[("Content-Encoding", "gzip")], bytes, (400, "bad_request"))
            .await;
    }
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![b' '; 50_000_000]).unwrap();
    let bomb = bomb.finish().unwrap();
    let packed = [("Content-Encoding", "gzip")];
    table.case(("PUT", "/db/x"), &packed, &bomb, (413, "too_large")).await;
    table.case(("PUT", "/db/x/att"), &packed, &bomb, (413, "too_large")).await;
    for content_type in [
        "multipart/related",
        "multipart/related; boundary=",
        "multipart/related; boundary=\"",
        "multipart/related; boundary=\"\"",
        "multipart/related;boundary",
        "multipart/related; boundary=x",
    ] {
        let headers = [("Content-Type", content_type)];
        for body in [
            "",
            "--",
            "--x",
            "--x\r\n",
            "--x--",
            "{}",
            "--x\r\n\r\n",
            "--x\r\n\r\n{}",
            "--x\r\n\r\n{\r\n--x--",
        ] {
            table.case(("PUT", "/db/x"), &headers, body.as_bytes(), (400, "bad_request")).await;
        }
    }
    for tag in ["\"x\"", "x", "\"0-a\""] {
        table.case(("DELETE", "/db/a"), &[("If-Match", tag)], b"", (400, "bad_request")).await;
    }
    for destination in ["http://a/b", "%zz", "x?rev=y"] {
        table
            .case(("COPY", "/db/a"), &[("Destination", destination)], b"", (400, "bad_request"))
            .await;
    }
    table.case(("COPY", "/db/a"), &[("Destination", "_x")], b"", (400, "illegal_docid")).await;
    table.case(("COPY", "/db/a"), &[("Destination", "")], b"", (400, "illegal_docid")).await;
    table.case(("PATCH", "/db/a"), &[], b"{}", (415, "bad_content_type")).await;
    for method in ["BREW", "TRACE", "OPTIONS", "PROPFIND", "LOCK", "X", "get"] {
        for path in ["/db", "/db/a", "/db/_changes", "/_session"] {
            table.case((method, path), &[], b"", (405, "method_not_allowed")).await;
        }
    }
    table.end(100).await;
}

/// Requests that stop in the middle, on connections of their own.
#[tokio::test]
async fn requests_that_stop() {
    let api = api();
    api.database("db").await;
    let auth = "Authorization: Bearer secret\r\n";
    for half in [
        "G",
        "GET",
        "GET /",
        "GET / HTTP",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA",
    ] {
        let status = api.bytes(half.as_bytes()).await.status();
        assert!(matches!(status, 0 | 400 | 408), "{half:?}: {status}");
    }
    for broken in [
        "\0\0\0\0\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nA B: c\r\n\r\n",
        "\r\n\r\n\u{1}\r\n\r\n",
    ] {
        let status = api.bytes(broken.as_bytes()).await.status();
        assert!(matches!(status, 0 | 400 | 505), "{broken:?}: {status}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(20_000));
    assert!(matches!(api.bytes(long.as_bytes()).await.status(), 414 | 431));
    for (path, content_type) in [
        ("/db/slow", "application/json"),
        ("/db/slow/att", "x/y"),
        ("/db/_bulk_docs", "application/json"),
    ] {
        let method = if path.ends_with("docs") { "POST" } else { "PUT" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{auth}Content-Type: {content_type}\r\n\
             Content-Length: 100\r\n\r\n{{\"a\":"
        );
        let answer = api.bytes(request.as_bytes()).await.rest().await;
        answer.assert_error(path, 408, "timeout", "body");
    }
    let chunk = format!(
        "PUT /db/chunk HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{auth}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n"
    );
    api.bytes(chunk.as_bytes()).await.rest().await.assert_error("chunk", 400, "bad_request", "cut");
    assert_eq!(api.get("/db").await.json()["doc_count"], 0);
}
