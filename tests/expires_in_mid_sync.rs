//! A token ends while 5,000 documents are on their way: with another one everything arrives,
//! without one each reader stops with the reason, and loses nothing.

#[path = "support/access.rs"]
mod access;
#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/syncing.rs"]
mod syncing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use access::{KEY, gateway, token_for};
use http::{Api, Coming};
use serde_json::{Value, json};
use settee::replicate::SyncError;
use settee::{Database, Store, SyncOptions};
use syncing::{TestGateway, Watched, assert_equal, count_of, fill, local, name};

const DOCS: usize = 5_000;

/// So long the first token lasts; the documents take longer.
const BRIEFLY: Duration = Duration::from_millis(150);

const LONG: Duration = Duration::from_secs(3_600);

fn settings() -> Value {
    json!({"jwt": {"keys": [{"algorithm": "HS256", "secret": KEY}], "leeway_s": 0,
        "rules": [{"databases": "user-{name}", "rights": ["read", "write"]}]}})
}

async fn served() -> (TestGateway, Database) {
    let store = Store::memory();
    let there = store.create(&name("user-anna")).await.unwrap();
    (TestGateway::with(gateway(store, settings()).0), there)
}

/// Options that show a token that lasts so long first and long ones then, and how often they were asked.
fn refreshed(first_lasts: Duration) -> (SyncOptions, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let options = SyncOptions::one_shot("user-anna").credentials_from(move || {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        let token = token_for("anna", if first { first_lasts } else { LONG });
        async move { json!({ "token": token }) }
    });
    (options.retry(true), asked)
}

fn with(token: &str) -> SyncOptions {
    SyncOptions::one_shot("user-anna").credentials(json!({ "token": token }))
}

#[tokio::test]
async fn a_pull_and_a_push_go_on_with_another_token() {
    for pull in [true, false] {
        let mut asked = 0;
        // On a fast machine the first token must be shorter, or it lasts for the whole sync.
        for halved in 0..8 {
            let (gateway, there) = served().await;
            let here = local().await;
            fill(if pull { &there } else { &here }, "d", DOCS).await;
            let (options, count) = refreshed(BRIEFLY / (1 << halved));
            let ended = Watched::new(gateway.client().sync(&here, options)).ended().await;
            assert!(ended.result.is_ok(), "{:?}", ended.result);
            assert_equal(&here, &there).await;
            assert_eq!(count_of(&here).await, DOCS as u64);
            asked = count.load(Ordering::SeqCst);
            if asked >= 2 {
                break;
            }
        }
        assert!(asked >= 2, "every token lasted longer than the sync");
    }
}

/// A sync whose token ended before its documents had all arrived; on a fast machine the token must
/// be shorter.
async fn cut_short(pull: bool) -> (TestGateway, Database, Database, SyncError) {
    for halved in 0..8 {
        let (gateway, there) = served().await;
        let here = local().await;
        let (from, to) = if pull { (&there, &here) } else { (&here, &there) };
        fill(from, "d", DOCS).await;
        let options = with(&token_for("anna", BRIEFLY / (1 << halved)));
        let ended = Watched::new(gateway.client().sync(&here, options)).ended().await;
        let arrived = count_of(to).await;
        match ended.result {
            Err(error) if arrived < DOCS as u64 => {
                assert_eq!(count_of(from).await, DOCS as u64);
                return (gateway, here, there, error);
            }
            _ => assert_eq!(arrived, DOCS as u64),
        }
    }
    panic!("every token lasted longer than the sync")
}

#[tokio::test]
async fn without_another_token_a_sync_stops_with_the_reason_and_goes_on_later() {
    for pull in [true, false] {
        let (gateway, here, there, error) = cut_short(pull).await;
        assert!(error.source.is_unauthorized(), "{error}");
        assert!(error.to_string().contains("expired"), "{error}");
        let client = gateway.client();
        let ended = Watched::new(client.sync(&here, with(&token_for("anna", LONG)))).ended().await;
        let summary = ended.result.expect("it completes");
        let done = if pull { summary.pull } else { summary.push };
        let written = done.expect("it ran").docs_written;
        assert!(written <= DOCS as u64, "{written}");
        assert_equal(&here, &there).await;
    }
}

/// Reads rows of a feed, so many at most; the last seq, if the feed ended as it should.
async fn rows(feed: &mut Coming, max: usize, seen: &mut Vec<(String, String)>) -> Option<String> {
    for _ in 0..max {
        let row = feed.row().await?;
        if let Some(last) = row["last_seq"].as_str() {
            return Some(last.to_owned());
        }
        let text = |name: &str| row[name].as_str().expect("a text").to_owned();
        seen.push((text("id"), text("seq")));
    }
    None
}

#[tokio::test]
async fn a_reader_of_a_feed_goes_on_where_it_was_cut() {
    let store = Store::memory();
    let there = store.create(&name("user-anna")).await.unwrap();
    fill(&there, "d", DOCS).await;
    let mut api = Api::served(gateway(store, settings()).0);
    api.headers.clear();
    let open = async |token: &str, since: &str| {
        let path = format!("/user-anna/_changes?feed=continuous&timeout=0&since={since}");
        let bearer = format!("Bearer {token}");
        api.stream("GET", &path, &[("Authorization", &bearer)], b"").await
    };
    let brief = token_for("anna", Duration::from_secs(1));
    let mut feed = open(&brief, "0").await;
    assert_eq!(feed.status(), 200);
    let mut seen = Vec::new();
    assert_eq!(rows(&mut feed, 100, &mut seen).await, None);
    let bearer = format!("Bearer {brief}");
    let refused = loop {
        let answer = api.ask("GET", "/user-anna", &[("Authorization", &bearer)], b"").await;
        if answer.status != 200 {
            break answer;
        }
    };
    refused.assert_error("the token has ended", 401, "unauthorized", "expired");
    let last = rows(&mut feed, DOCS, &mut seen).await;
    assert!(seen.len() < DOCS, "{} came before the end", seen.len());
    let since = last.unwrap_or_else(|| seen.last().expect("some came").1.clone());
    let mut feed = open(&token_for("anna", LONG), &since).await;
    assert!(rows(&mut feed, DOCS + 1, &mut seen).await.is_some(), "it ends as it should");
    let ids: BTreeSet<&String> = seen.iter().map(|(id, _)| id).collect();
    assert_eq!((ids.len(), seen.len()), (DOCS, DOCS), "each once");
}
