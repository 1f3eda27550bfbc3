//! `settee serve`: who is refused, what it prints, how it stops.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;

use std::path::Path;

use binary::{Served, arg, command, place, settee, settee_with};
use tempfile::tempdir;

#[test]
fn nobody_is_let_in_by_default() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let refused = |args: &[&str]| {
        let args = [&["serve", "--data", arg(&data), "--listen", "127.0.0.1:0"], args].concat();
        settee(&args).failure()
    };
    assert!(refused(&[]).contains("--token"));
    assert!(refused(&["--token", ""]).contains("must not be empty"));
    assert!(refused(&["--token", "x", "--open"]).contains("one of them"));
    let files = dir.path().join("www");
    assert!(refused(&["--token", "x", "--static", arg(&files)]).contains("www"));
    assert!(refused(&["--token", "x", "--allow-origin", "app"]).contains("app"));
    let open = ["serve", "--data", arg(&data), "--open", "--listen", "0.0.0.0:0"];
    assert!(settee(&open).failure().contains("0.0.0.0:0"));
}

#[test]
fn open_on_loopback_needs_no_token() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let args = ["serve", "--data", arg(&data), "--open", "--listen", "127.0.0.1:0"];
    let served = Served::spawn(command(&args));
    let local = place(dir.path(), "todos");
    settee(&["sync", &local, &served.url("todos"), "--create"]).ok();
    let (status, _) = served.stop("TERM");
    assert!(status.success());
}

#[test]
fn one_line_is_printed_and_signals_stop_it() {
    for signal in ["TERM", "INT"] {
        let dir = tempdir().unwrap();
        let served = Served::start(dir.path(), "127.0.0.1:0");
        assert!(!served.address.ends_with(":0"), "{}", served.address);
        let (status, rest) = served.stop(signal);
        assert_eq!((status.code(), rest.as_str()), (Some(0), ""), "{signal}");
        assert_eq!(settee(&["info", arg(dir.path())]).ok(), "no databases\n");
    }
}

#[test]
fn a_second_process_is_told_who_is_in_the_way() {
    let dir = tempdir().unwrap();
    let served = Served::start(dir.path(), "127.0.0.1:0");
    let data = arg(dir.path());
    let serve = ["serve", "--data", data, "--token", "x", "--listen", "127.0.0.1:0"];
    for args in [&serve[..], &["info", data], &["dump", &place(dir.path(), "todos")]] {
        let failure = settee(args).failure();
        assert!(failure.contains(data) && failure.contains("in use"), "{failure}");
    }
    let other = tempdir().unwrap();
    let args = ["serve", "--data", arg(other.path()), "--token", "x", "--listen", &served.address];
    let failure = settee(&args).failure();
    assert!(failure.contains(&served.address), "{failure}");
}

#[test]
fn a_token_is_needed_and_opens_every_database() {
    let dir = tempdir().unwrap();
    let served = Served::start(&dir.path().join("data"), "127.0.0.1:0");
    let local = place(&dir.path().join("local"), "todos");
    settee_with(&["load", &local], br#"{"_id":"milk"}"#).ok();
    let sync = |token: &[&str]| {
        settee(&[&["sync", &local, &served.url("a%2Fb"), "--create"], token].concat())
    };
    assert!(sync(&[]).failure().contains("a token is needed"));
    assert!(sync(&["--token", "secre"]).failure().contains("not known"));
    assert!(sync(&["--token", "secret"]).ok().contains("pushed 1 revisions"));
    drop(served);
    let info = settee(&["info", arg(&dir.path().join("data"))]).ok();
    assert_eq!(info, "a/b  1 documents, 0 deleted\n");
}

#[test]
fn a_file_configures_and_flags_override() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("settee.toml");
    let data = dir.path().join("data");
    let text = format!(
        "listen = \"127.0.0.1:1\"\ndata = {:?}\ntokens = [\"a\", \"secret\"]\n[limits]\nconnections_max = 5\n",
        arg(&data)
    );
    std::fs::write(&file, &text).unwrap();
    let served = Served::spawn(command(&["serve", "--config", arg(&file), "--listen", "[::1]:0"]));
    assert!(served.address.starts_with("[::1]:"), "{}", served.address);
    let local = place(&dir.path().join("local"), "todos");
    settee(&["sync", &local, &served.url("todos"), "--create", "--token", "secret"]).ok();
    drop(served);
    let serve = ["serve", "--config", arg(&file), "--listen", "127.0.0.1:0", "--token", "only"];
    let served = Served::spawn(command(&serve));
    let refused = settee(&["sync", &local, &served.url("todos"), "--token", "secret"]);
    assert!(refused.failure().contains("not known"));
    settee(&["sync", &local, &served.url("todos"), "--token", "only"]).ok();
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("settee.toml");
    let failure = |text: &str| {
        std::fs::write(&file, text).unwrap();
        settee(&["serve", "--config", arg(&file)]).failure()
    };
    let unknown = failure("tokens = [\"x\"]\n\n[limits]\nconections_max = 5\n");
    assert!(unknown.contains("settee.toml: line 4") && unknown.contains("conections_max"));
    assert!(failure("tokens = [\"x\"]\nport = 1").contains("port"));
    assert!(failure("tokens = [\"x\"]\n[limits]\nrevs_limit = 0").contains("revs_limit"));
    let part = failure("tokens = [\"x\"]\n[compaction]\nold_part_min = 2.0");
    assert!(part.contains("old_part_min"), "{part}");
    let missing = settee(&["serve", "--config", "nowhere.toml"]).failure();
    assert!(missing.contains("nowhere.toml"), "{missing}");
}

#[test]
fn several_places_print_a_line_each_and_are_left_at_the_end() {
    let dir = tempdir().unwrap();
    let (data, socket) = (dir.path().join("data"), dir.path().join("socket"));
    let local = format!("unix:{}", arg(&socket));
    let args = ["serve", "--data", arg(&data), "--token", "x", "--listen", "127.0.0.1:0"];
    let served = Served::spawn(command(&[&args[..], &["--listen", &local]].concat()));
    let (status, rest) = served.stop("TERM");
    assert_eq!((status.code(), rest), (Some(0), format!("listening on {local}\n")));
    assert!(!socket.exists());
}

#[test]
fn places_that_cannot_work_are_named() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("settee.toml");
    let failure = |listen: &str| {
        let data = dir.path().join("data");
        let text = format!("data = {:?}\ntokens = [\"x\"]\nlisten = {listen}", arg(&data));
        std::fs::write(&file, text).unwrap();
        settee(&["serve", "--config", arg(&file)]).failure()
    };
    for (listen, part) in [
        ("[]", "nowhere to listen"),
        (r#"[{ address = "127.0.0.1:0", proxy_protocol = true }]"#, "trusted_proxies"),
        (r#"[{ address = "127.0.0.1:0", mode = "660" }]"#, "127.0.0.1:0 has a mode"),
        (r#"[{ address = "unix:socket", mode = "rw" }]"#, "\"rw\""),
        (
            r#"[{ address = "127.0.0.1:0", tls = { cert = "absent.pem", key = "k.pem" } }]"#,
            "absent.pem",
        ),
        (
            r#""127.0.0.1:0"
trusted_proxies = ["proxy"]"#,
            "\"proxy\"",
        ),
    ] {
        let failure = failure(listen);
        assert!(failure.contains(part), "{failure}");
    }
    let alone = settee(&["serve", "--token", "x", "--tls-cert", "cert.pem"]);
    assert_eq!(alone.code, Some(2), "{alone:?}");
}

/// Files of a certificate for localhost, which vouches for itself.
fn certificate(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

#[test]
fn tls_is_served_and_synced_and_its_certificate_is_read_again() {
    let dir = tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    certificate(dir.path());
    let (cert, key, data) = (path("cert.pem"), path("key.pem"), path("data"));
    let args = ["serve", "--data", arg(&data), "--token", "secret", "--listen", "localhost:0"];
    let tls = ["--tls-cert", arg(&cert), "--tls-key", arg(&key)];
    let served = Served::spawn(command(&[&args[..], &tls].concat()));
    let (_, port) = served.address.rsplit_once(':').unwrap();
    let url = format!("wss://localhost:{port}/todos");
    let local = place(&path("local"), "todos");
    let sync = |authority: &Path| {
        let ca_file = ["--ca-file", arg(authority)];
        settee(&[&["sync", &local, &url, "--token", "secret", "--create"], &ca_file[..]].concat())
    };
    sync(&cert).ok();
    let old = path("old.pem");
    std::fs::rename(&cert, &old).unwrap();
    certificate(dir.path());
    served.signal("HUP");
    while sync(&cert).code != Some(0) {}
    assert!(sync(&old).failure().contains("certificate"), "the old one is shown no more");
    assert!(served.stop("TERM").0.success());
}
