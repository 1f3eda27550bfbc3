//! Every example runs to its end and says what it is to show.
#![cfg(feature = "cli")]

use std::process::Command;

fn run(name: &str) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--example", name]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed: {error}");
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}

#[test]
fn embed_gateway() {
    let text = run("embed_gateway");
    assert!(text.contains("pushed: 1\n") && text.contains("behind the gateway: 1 "), "{text}");
    assert!(text.contains("a stranger: ") && text.contains("not allowed"), "{text}");
}

#[test]
fn sync_two_stores() {
    let text = run("sync_two_stores");
    let wanted = "pushed Some(1000), pulled Some(1)\nagain: pushed Some(0), pulled Some(0)\n\
        arrived: live\nequal: true\n";
    assert_eq!(text, wanted);
}

#[test]
fn watch_changes() {
    let text = run("watch_changes");
    assert!(text.ends_with("bread: deleted\nover: {}\n"), "{text}");
    assert!(text.contains("milk: {\"done\":true}\n"), "{text}");
}

#[test]
fn custom_authorizer() {
    let text = run("custom_authorizer");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].contains("docs_written: 1, doc_write_failures: 1"), "{text}");
    assert!(lines[1].starts_with("news: push None") && lines[1].contains("docs_written: 1"));
    assert!(lines[2].contains("belongs to somebody else"), "{text}");
}

#[test]
fn resolve_conflict() {
    let text = run("resolve_conflict");
    let wanted = "same winner: true\n0 conflicts left: {\"items\":[\"bread\",\"milk\",\"salt\"]}\n";
    assert_eq!(text, wanted);
}

#[test]
fn atomic_groups() {
    let text = run("atomic_groups");
    let wanted = "first: true\n\
        ada: not written: document \"transfer-1\" of the same group was refused\n\
        ben: not written: document \"transfer-1\" of the same group was refused\n\
        transfer-1: Document update conflict.\nagain: false\nsecond: true\n\
        ada 2, group Some(3)\nben 2, group Some(3)\ntransfer-1 1, group Some(3)\n\
        ada 3, group Some(6)\nben 3, group Some(6)\ntransfer-2 1, group Some(6)\n";
    assert_eq!(text, wanted);
}

#[test]
fn typed_documents() {
    let text = run("typed_documents");
    let wanted = "document beowulf does not hold to the schema: the field /year: its value is less \
        than the minimum of 1450\nlent 2 times\n\
        emma: Book { title: \"Emma\", year: 1815, lent: 2 }\n\
        dracula is Dracula\nemma is gone\n";
    assert_eq!(text, wanted);
}

#[test]
fn find_documents() {
    let text = run("find_documents");
    let wanted = "emma: 1815\nulysses: 1922\n3 looked at\n1984: 1949\n1 looked at\n\
        No index exists for this sort, try indexing by the sort fields.\n";
    assert_eq!(text, wanted);
}

#[test]
fn sync_over_http() {
    let text = run("sync_over_http");
    let wanted = "pushed Some(1000)\npulled Some(1000)\n\
        a stranger: log in first (unauthorized)\n";
    assert_eq!(text, wanted);
}

#[test]
fn serve_old_clients() {
    let text = run("serve_old_clients");
    assert!(text.starts_with("listening on http://127.0.0.1:"), "{text}");
}

#[test]
fn validate_documents() {
    let text = run("validate_documents");
    let title = "bread: the field /title: its value is not of type \"string\"\n";
    let owner = "milk: the field owner may not change\n";
    assert_eq!(text, format!("{title}{title}{owner}"));
}

#[test]
fn life_cycle() {
    let text = run("life_cycle");
    let visit = "room-1 is there\nsettee.v1 came\nand left\nroom-1 is gone\n";
    assert_eq!(text, format!("anna has 1 notes\n{visit}bert has 2 notes\n{visit}"));
}

#[test]
fn custom_transport() {
    assert_eq!(run("custom_transport"), "pushed 1 to another process\n");
}

#[test]
fn events() {
    let text = run("events");
    let wanted = "bert finds 2 members\nbert reached 2 connections\n\
        bert may not: You are not allowed to send events to everybody. (forbidden)\n\
        anna sees Join of user:bert: {\"mood\":\"tired\"}\n\
        anna gets said \"good night\" from user:bert\nanna gets notice \"lights out\" from \n";
    assert_eq!(text, wanted);
}

#[test]
fn handlers() {
    let text = run("handlers");
    assert!(text.starts_with("nothing: it has no title\n"), "{text}");
    for part in [r#""slug":"hello-world""#, r#""phone":[2,0]"#, r#""laptop":[1,0]"#] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.ends_with("1 document on the laptop\n"), "{text}");
}
