//! Every route of the HTTP API, and what it needs.
#![allow(dead_code, reason = "each test file uses some of these")]

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it is for everybody.
    Nothing,
    /// A database that may be opened.
    Open,
    Read,
    Write,
    /// Reading one database and writing another.
    ReadAndWrite,
    Create,
    Destroy,
    Administer,
    /// A server-wide grant.
    Known,
    List,
    /// The right to administer the server.
    Govern,
    /// The right to back up the server.
    BackUp,
    Replicate,
    /// To send an event to everybody.
    Broadcast,
}
use Needs::*;

/// Method, path, body, what it needs, and the status for who has it.
pub const ROUTES: &[(&str, &str, &str, Needs, u16)] = &[
    ("GET", "/", "", Nothing, 200),
    ("HEAD", "/", "", Nothing, 200),
    ("GET", "/_up", "", Nothing, 200),
    ("GET", "/_uuids", "", Nothing, 200),
    ("DELETE", "/_session", "", Nothing, 200),
    ("GET", "/_session", "", Known, 200),
    ("GET", "/_all_dbs", "", List, 200),
    ("HEAD", "/_all_dbs", "", List, 200),
    ("GET", "/_dbs_info", "", List, 200),
    ("POST", "/_dbs_info", r#"{"keys":["db"]}"#, List, 200),
    ("GET", "/_db_updates", "", List, 200),
    ("POST", "/_replicate", r#"{"source":"db","target":"new"}"#, ReadAndWrite, 200),
    ("POST", "/_replicate", r#"{"source":"db","target":"http://127.0.0.1:1/x"}"#, Replicate, 500),
    ("POST", "/_replicate", r#"{"source":"http://127.0.0.1:1/x","target":"db"}"#, Replicate, 500),
    ("POST", "/_replicate", r#"{"cancel":true,"replication_id":"x"}"#, Replicate, 404),
    ("GET", "/_scheduler/jobs", "", Replicate, 200),
    ("GET", "/_scheduler/jobs/x", "", Replicate, 404),
    ("GET", "/_scheduler/docs", "", Replicate, 200),
    ("GET", "/_active_tasks", "", Replicate, 200),
    ("DELETE", "/_settee/grants?user=nobody", "", Govern, 200),
    ("GET", "/_settee/backup", "", BackUp, 200),
    ("POST", "/_settee/backup", "{}", BackUp, 200),
    ("POST", "/_settee/events", r#"{"event":"e","targets":{"broadcast":true}}"#, Broadcast, 200),
    ("GET", "/_settee/events", "", Nothing, 405),
    ("GET", "/_settee", "", Nothing, 307),
    ("GET", "/_settee/", "", Nothing, 200),
    ("GET", "/_settee/page.js", "", Nothing, 200),
    ("GET", "/_settee/nothing", "", Nothing, 404),
    ("GET", "/_settee/status", "", Govern, 200),
    ("HEAD", "/_settee/status", "", Govern, 200),
    ("GET", "/_metrics", "", Govern, 200),
    ("GET", "/db", "", Open, 200),
    ("HEAD", "/db", "", Open, 200),
    ("GET", "/db/", "", Open, 200),
    ("POST", "/db", "{}", Write, 201),
    ("PUT", "/new", "", Create, 201),
    ("DELETE", "/new", "", Destroy, 200),
    ("GET", "/db/doc", "", Read, 200),
    ("HEAD", "/db/doc", "", Read, 200),
    ("GET", "/db/doc?open_revs=all", "", Read, 200),
    ("GET", "/db/doc?attachments=true", "", Read, 200),
    ("PUT", "/db/made", "{}", Write, 201),
    ("PUT", "/db/made?new_edits=false", r#"{"_rev":"1-a"}"#, Write, 201),
    ("DELETE", "/db/made?rev=1-a", "", Write, 200),
    ("PATCH", "/db/doc", "{}", ReadAndWrite, 200),
    ("PATCH", "/db/_design/d", "{}", ReadAndWrite, 200),
    ("POST", "/db/doc/_ops", r#"{"inc":{"n":1}}"#, ReadAndWrite, 200),
    ("COPY", "/db/doc", "", ReadAndWrite, 201),
    ("GET", "/db/doc/att", "", Read, 200),
    ("HEAD", "/db/doc/att", "", Read, 200),
    ("PUT", "/db/with/att", "bytes", Write, 201),
    ("DELETE", "/db/none/att?rev=1-a", "", Write, 409),
    ("GET", "/db/_design/d", "", Read, 200),
    ("PUT", "/db/_design/e", "{}", Write, 201),
    ("GET", "/db/_design/d/_view/v", "", Open, 501),
    ("GET", "/db/_local/l", "", Open, 200),
    ("PUT", "/db/_local/m", "{}", Open, 201),
    ("DELETE", "/db/_local/m", "", Open, 200),
    ("GET", "/db/_local_docs", "", Read, 200),
    ("POST", "/db/_local_docs", "{}", Read, 200),
    ("GET", "/db/_all_docs", "", Read, 200),
    ("POST", "/db/_all_docs", "{}", Read, 200),
    ("POST", "/db/_all_docs/queries", r#"{"queries":[]}"#, Read, 200),
    ("GET", "/db/_design_docs", "", Read, 200),
    ("POST", "/db/_design_docs", "{}", Read, 200),
    // Each document is refused by itself.
    ("POST", "/db/_bulk_docs", r#"{"docs":[{"_id":"bulk"}]}"#, Open, 201),
    ("POST", "/db/_bulk_get", r#"{"docs":[]}"#, Read, 200),
    ("GET", "/db/_changes", "", Read, 200),
    ("POST", "/db/_changes", "{}", Read, 200),
    ("GET", "/db/_changes?feed=longpoll&timeout=0", "", Read, 200),
    ("GET", "/db/_changes?feed=continuous&timeout=0", "", Read, 200),
    ("POST", "/db/_find", r#"{"selector":{}}"#, Read, 200),
    ("POST", "/db/_explain", r#"{"selector":{}}"#, Read, 200),
    ("GET", "/db/_index", "", Read, 200),
    ("HEAD", "/db/_index", "", Read, 200),
    ("POST", "/db/_index", r#"{"index":{"fields":["a"]}}"#, Write, 200),
    ("DELETE", "/db/_index/none/json/none", "", Write, 404),
    ("DELETE", "/db/_index/_design/none/json/none", "", Write, 404),
    ("POST", "/db/_index/_bulk_delete", r#"{"docids":[]}"#, Write, 200),
    ("POST", "/db/_revs_diff", "{}", Open, 200),
    ("POST", "/db/_missing_revs", "{}", Open, 200),
    ("POST", "/db/_ensure_full_commit", "", Open, 201),
    ("GET", "/db/_security", "", Open, 200),
    ("PUT", "/db/_security", "{}", Administer, 200),
    ("GET", "/db/_revs_limit", "", Open, 200),
    ("PUT", "/db/_revs_limit", "1000", Administer, 200),
    ("POST", "/db/_purge", "{}", Administer, 201),
    ("POST", "/db/_compact", "", Administer, 202),
    ("POST", "/db/_compact/d", "", Administer, 202),
    ("POST", "/db/_view_cleanup", "", Administer, 202),
    ("GET", "/db/_design/d/_show/s", "", Open, 501),
    ("GET", "/db/_design/d/_list/l", "", Open, 501),
    ("GET", "/db/_design/d/_update/u", "", Open, 501),
    ("GET", "/db/_design/d/_rewrite/r", "", Open, 501),
    ("GET", "/db/_design/d/_info", "", Open, 501),
    ("POST", "/db/_temp_view", "{}", Open, 501),
    ("GET", "/db/_local/l/att", "", Open, 400),
    ("GET", "/db/_nothing", "", Open, 404),
];

/// For `COPY`; nothing else looks at it.
pub const DESTINATION: (&str, &str) = ("Destination", "copy");

/// What a path is of, however it is named: routes of one resource take the same methods.
pub fn resource(path: &str) -> String {
    let path = path.split('?').next().unwrap_or(path).trim_end_matches('/');
    let pieces: Vec<&str> = path.split('/').skip(1).collect();
    match pieces.as_slice() {
        [name] if !name.starts_with('_') => "a database".to_owned(),
        [name, ..] if name.starts_with('_') => path.to_owned(),
        [_, "_local", _] => "a local document".to_owned(),
        [_, "_design", _] => "a document".to_owned(),
        [_, "_compact", _] => "a view to compact".to_owned(),
        [_, id] if !id.starts_with('_') => "a document".to_owned(),
        [_, _, "_ops"] => "operations".to_owned(),
        [_, id, _] if !id.starts_with('_') => "an attachment".to_owned(),
        _ => path.to_owned(),
    }
}

/// Every list of path pieces in the sources of the routes, each piece a set of texts, or empty for
/// any.
pub fn patterns() -> Vec<Vec<Vec<String>>> {
    let read = |name: &str| {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/http").join(name);
        std::fs::read_to_string(path).expect("the sources are there")
    };
    let sources = read("mod.rs") + &read("server_wide.rs");
    let arms = sources
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("[\"_") || line.starts_with("| [\"_"));
    let mut patterns = Vec::new();
    for arm in arms {
        for list in arm.split('[').skip(1) {
            let list = list.split(']').next().unwrap_or(list);
            let piece = |piece: &str| {
                piece.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
            };
            let pieces = list.split(", ").filter(|piece| !piece.contains(".."));
            patterns.push(pieces.map(piece).collect());
        }
    }
    patterns
}
