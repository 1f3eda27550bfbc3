//! Configuration files: what is wrong with one is said in a line, without secrets.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;

use binary::{Ran, arg, command, settee, settee_with};
use tempfile::tempdir;

const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$4XKkRE0Ip1FyfMBnHrJoLQ";

fn check(text: &str) -> Ran {
    let dir = tempdir().unwrap();
    let file = dir.path().join("settee.toml");
    std::fs::write(&file, text).unwrap();
    settee(&["config", "check", arg(&file)])
}

#[test]
fn a_good_file_is_said_to_be_good() {
    let text = format!(
        "[access]\norder = [\"users\", \"tokens\"]\n\
         [[access.users]]\nname = \"anna\"\npassword = \"{HASH}\"\nroles = [\"staff\"]\n\
         [[access.tokens]]\nname = \"t\"\ntoken = \"x\"\n\
         [[access.roles]]\nname = \"staff\"\nserver = [\"list\"]\n\
         rules = [{{ databases = [\"user-{{name}}\", \"team-*\"], rights = [\"read\", \"create_on_open\"], selector = {{ owner = \"{{name}}\" }} }}]\n"
    );
    assert!(check(&text).ok().contains("can be used"));
}

#[test]
fn what_is_wrong_is_named_with_a_suggestion_and_its_line() {
    let token = "tokens = [\"x\"]\n";
    for (text, parts) in [
        ("[limits]\nconections_max = 1", &["line 2", "did you mean `connections_max`"][..]),
        ("[acces]\n", &["line 1", "did you mean `access`"]),
        ("[[access.tokens]]\nname = \"a\"\ntokn = \"b\"", &["line 3", "did you mean `token`"]),
        (
            "[[access.tokens]]\nname = \"a\"\ntoken = \"b\"\nrules = [{ databases = \"a\", rights = [\"reed\"] }]",
            &["line 4", "did you mean `read`"],
        ),
        (
            "[[access.tokens]]\nname = \"a\"\ntoken = \"b\"\nrules = [{ databases = \"A\", rights = [\"read\"] }]",
            &["line 4", "\"A\" is no pattern"],
        ),
        (
            "[[access.tokens]]\nname = \"a\"\ntoken = \"b\"\nrules = [{ databases = \"a\", rights = [\"read\"], selector = { a = { \"$nothing\" = 1 } } }]",
            &["line 4", "selector"],
        ),
        ("[access]\norder = [\"token\"]", &["line 2", "did you mean `tokens`"]),
        ("[access.jwt]\n", &["access.jwt", "jwks_file"]),
        ("[access.webhook]\n", &["access.webhook.url"]),
        ("[access.webhook]\nurl = \"ftp://x\"", &["access.webhook.url", "http://"]),
        ("[[access.tokens]]\nname = \"a\"", &["token \"a\"", "token_file"]),
        ("[[access.users]]\nname = \"a\"\npassword_file = \"/nowhere\"", &["/nowhere"]),
        ("[[access.users]]\nname = \"a:b\"\npassword = \"x\"", &["user \"a:b\"", "colon"]),
        ("listen = \"127.0.0.1:0\"", &["nobody could be let in"]),
        ("open = true\ntokens = [\"x\"]", &["one of them"]),
        ("static_dir = \"/nowhere\"\ntokens = [\"x\"]", &["/nowhere"]),
        ("open = ", &["line 1"]),
    ] {
        let failure = check(text).failure();
        assert!(failure.contains("settee.toml: "), "{failure}");
        assert!(parts.iter().all(|part| failure.contains(part)), "{text}: {failure}");
    }
    assert!(check(&format!("{token}[limits]\nrevs_limit = 0")).failure().contains("revs_limit"));
    assert!(settee(&["config", "check", "nowhere.toml"]).failure().contains("nowhere.toml"));
}

#[test]
fn no_error_holds_a_secret() {
    for text in [
        "tokens = \"hunter2\"",
        "tokens = [[\"hunter2\"]]",
        "tokens = [\"hunter2\", 5]",
        "[[access.tokens]]\nname = \"a\"\ntoken = [\"hunter2\"]",
        "[[access.tokens]]\nname = \"a\"\ntoken = \"hunter2\"\ntoken_file = \"x\"",
        "[[access.tokens]]\nname = \"a\"\ntoken = \"hunter2\"\n[[access.tokens]]\nname = \"b\"\ntoken = \"hunter2\"",
        "[[access.tokens]]\nname = \"a\"\ntoken = \"hunter2",
        "[[access.tokens]]\nname = \"a\"\ntoken = hunter2",
        "[[access.tokens]]\nname = \"a\"\ntoken = \"hunter2\" x",
        "[[access.users]]\nname = \"a\"\npassword = \"hunter2\"",
        "[access]\nusers = \"hunter2\"",
        "[access.jwt]\nkeys = [{ algorithm = \"HS256\", secret = \"hunter2\" }]",
        "[access.jwt]\nkeys = [{ algorithm = \"RS256\", public_key = \"hunter2\" }]",
        "[access.jwt]\nkeys = [\"hunter2\"]",
        "[access.webhook]\nurl = \"http://127.0.0.1:1\"\nsecret = { x = \"hunter2\" }",
        "[access.webhook]\nsecret = \"hunter2\"\ntimeout_ms = \"hunter2\"",
    ] {
        let ran = check(text);
        assert_eq!(ran.code, Some(1), "{text}");
        assert!(!format!("{ran:?}").contains("hunter2"), "{text}: {ran:?}");
    }
}

#[test]
fn secrets_may_come_from_files() {
    let dir = tempdir().unwrap();
    let secret = dir.path().join("secret");
    let text = |file: &str| format!("[[access.tokens]]\nname = \"a\"\ntoken_file = {file:?}\n");
    std::fs::write(&secret, "a long random text\n").unwrap();
    check(&text(arg(&secret))).ok();
    std::fs::write(&secret, "\n").unwrap();
    assert!(check(&text(arg(&secret))).failure().contains("empty"));
}

#[test]
fn the_environment_overrides_the_file() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("settee.toml");
    std::fs::write(&file, "tokens = [\"x\"]\n").unwrap();
    let with = |name: &str, value: &str| {
        let mut command = command(&["config", "check", arg(&file)]);
        let output = command.env(name, value).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert!(with("SETTEE_LIMITS__CONNECTIONS_MAX", "7").0);
    assert!(with("SETTEE_PORT_5984_TCP", "somebody else's").0);
    for (name, value, part) in [
        ("SETTEE_LIMITS__CONNECTIONS_MAX", "0", "connections_max"),
        ("SETTEE_LIMITS__CONECTIONS_MAX", "7", "did you mean `connections_max`"),
        ("SETTEE_TOKENS", "hunter2", "SETTEE_TOKENS"),
    ] {
        let (good, stderr) = with(name, value);
        assert!(!good && stderr.contains(part) && !stderr.contains("hunter2"), "{stderr}");
    }
}

#[test]
fn a_password_is_hashed_from_standard_input() {
    let hash = settee_with(&["hash-password"], b"correct horse\n").ok();
    assert!(hash.starts_with("$argon2id$v=19$") && hash.ends_with('\n'), "{hash}");
    let text = format!("[[access.users]]\nname = \"anna\"\npassword = \"{}\"\n", hash.trim());
    check(&text).ok();
    assert!(settee_with(&["hash-password"], b"\n").failure().contains("empty"));
}
