//! The table `[validate]` of the configuration file.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;

use std::fs;
use std::path::Path;

use binary::{Served, arg, command, place, settee, settee_with};
use tempfile::tempdir;

fn args<'a>(data: &'a Path, config: &'a Path) -> [&'a str; 9] {
    let (data, config) = (arg(data), arg(config));
    ["serve", "--data", data, "--listen", "127.0.0.1:0", "--token", "secret", "--config", config]
}

#[test]
fn rules_of_the_file_hold() {
    let dir = tempdir().unwrap();
    let (data, config) = (dir.path().join("data"), dir.path().join("settee.toml"));
    let schema = dir.path().join("todo.json");
    fs::write(&schema, r#"{"required": ["title"]}"#).unwrap();
    let text = format!(
        "[[validate.rules]]\ndatabases = \"todos*\"\nschema = {schema:?}\n\
         selector = {{ done = {{ \"$type\" = \"boolean\" }} }}\nimmutable = [\"owner\"]\n"
    );
    fs::write(&config, text).unwrap();
    let served = Served::spawn(command(&args(&data, &config)));
    let local = place(dir.path(), "todos");
    let documents = "{\"_id\":\"a\",\"title\":\"a\",\"done\":false}\n{\"_id\":\"b\",\"done\":false}\n\
        {\"_id\":\"c\",\"title\":\"c\"}\n";
    settee_with(&["load", &local, "-"], documents.as_bytes()).ok();
    let url = served.url("todos");
    settee(&["sync", &local, &url, "--token", "secret", "--create", "--push"]);
    let (status, _) = served.stop("TERM");
    assert!(status.success());
    let dump = settee(&["dump", &place(&data, "todos")]).ok();
    assert_eq!(dump.lines().count(), 1, "{dump}");
    assert!(dump.contains("\"_id\":\"a\""), "{dump}");
}

#[test]
fn a_rule_that_cannot_be_kept_is_named_before_anything_is_made() {
    let dir = tempdir().unwrap();
    let (data, config) = (dir.path().join("data"), dir.path().join("settee.toml"));
    let bad_schema = dir.path().join("bad.json");
    fs::write(&bad_schema, r#"{"type": "strng"}"#).unwrap();
    let secret = dir.path().join("empty");
    fs::write(&secret, "\n").unwrap();
    let rule = |text: String| format!("[[validate.rules]]\n{text}\n");
    let service = |text: String| format!("[[validate.services]]\n{text}\n");
    for (text, told) in [
        (rule("databases = \"Todos\"".into()), "Todos"),
        (rule("schema = \"x\"".into()), "databases"),
        (rule("databases = \"*\"\nschema = \"/nowhere.json\"".into()), "/nowhere.json"),
        (rule(format!("databases = \"*\"\nschema = {bad_schema:?}")), "strng"),
        (rule("databases = \"*\"\nselector = { a = { \"$no\" = 1 } }".into()), "$no"),
        (rule("databases = \"*\"\nimmutable = [\"_id\"]".into()), "_id"),
        (rule("databases = \"*\"\nimutable = []".into()), "imutable"),
        (service("databases = \"*\"\nurl = \"judge\"".into()), "judge"),
        (
            service(format!("databases = \"*\"\nurl = \"http://x\"\nsecret_file = {secret:?}")),
            "holds no secret",
        ),
        (service("databases = \"*\"\nurl = \"http://x\"\nunreachable = \"maybe\"".into()), "maybe"),
    ] {
        fs::write(&config, &text).unwrap();
        let failure = settee(&args(&data, &config)).failure();
        assert!(failure.contains(told), "{text}: {failure}");
        assert!(!data.exists(), "{text}");
    }
}
