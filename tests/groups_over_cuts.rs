//! Groups on their way over a connection that is cut again and again: neither the gateway nor
//! another client ever has a part of one.

#[path = "support/ledger.rs"]
mod ledger;
#[path = "support/random.rs"]
mod random;
#[path = "support/replicas.rs"]
mod replicas;
#[path = "support/syncing.rs"]
mod syncing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ledger::{Ledger, assert_whole};
use random::{Random, seed};
use replicas::{contents, until_equal};
use serde_json::json;
use settee::client::Backoff;
use settee::server::{AccessRequest, Denied, Gateway, Grant, ProposedWrite};
use settee::store::{ChangesOptions, CompactOptions, EditMode};
use settee::{Client, Document, Limits, Store, SyncOptions};
use syncing::*;

const GROUPS: u64 = 300;

fn client(network: &Network) -> Client {
    let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(5) };
    network.client_builder().backoff(backoff).connect().expect("a good address")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_never_leave_a_part_of_a_group() {
    let mut random = Random::new(seed());
    let gateway = TestGateway::new(Store::memory());
    let (near, far) =
        (Network::new(gateway.connector.clone()), Network::new(gateway.connector.clone()));
    let there = remote(&gateway, "shared").await;
    let (mut ledger, b) = (Ledger::new(local().await), local().await);
    let (client_a, client_b) = (client(&near), client(&far));
    let mut sync_a = client_a.sync(&ledger.db, live("shared").batch_size(7));
    let mut sync_b = client_b.sync(&b, live("shared"));
    for n in 0..GROUPS {
        // Each group has a document that the next one changes again.
        let mine = format!("item{n}");
        let old = format!("item{}", n / 2);
        ledger.group(&["counter", &mine]).await;
        match random.below(4) {
            0 => ledger.edit(&old).await,
            1 if n > 0 => ledger.group(&[&old, "balance", &mine]).await,
            _ => {}
        }
        if random.below(4) == 0 {
            near.cut();
        }
        if random.below(4) == 0 {
            far.cut();
        }
        for _ in 0..random.below(5) {
            tokio::task::yield_now().await;
            // What is on its way now; all of them once the last is there.
            let newest = ledger.groups.len().saturating_sub(60);
            for group in &ledger.groups[newest..] {
                assert_whole(group, &there, None).await;
                assert_whole(group, &b, None).await;
            }
        }
    }
    let a = ledger.db.clone();
    until_equal((&a, &mut sync_a), (&b, &mut sync_b)).await;
    for database in [&there, &b] {
        ledger.assert_whole_in(database).await;
        assert_eq!(contents(database).await, contents(&a).await);
    }
    assert!(near.attempts().len() > 10 && far.attempts().len() > 10, "hardly any cuts");
}

/// A gateway that refuses the document `bad`, until it is lenient.
fn strict() -> (TestGateway, Arc<AtomicBool>) {
    let lenient = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&lenient);
    let builder = Gateway::builder(Store::memory()).authorizer(move |request: AccessRequest| {
        let lenient = Arc::clone(&state);
        async move {
            let validator = move |write: &ProposedWrite<'_>| {
                let good = lenient.load(Ordering::Relaxed) || write.document.id.as_str() != "bad";
                if good { Ok(()) } else { Err(Denied::forbidden("no bad ones")) }
            };
            Ok(Grant::database(request.database).creating().validator(validator))
        }
    });
    (TestGateway::with(builder), lenient)
}

#[tokio::test]
async fn a_group_with_a_denied_document_is_denied_whole_and_tried_again_whole() {
    let (gateway, lenient) = strict();
    let there = remote(&gateway, "shared").await;
    let mut ledger = Ledger::new(local().await);
    ledger.group(&["fine", "good"]).await;
    ledger.group(&["other", "bad", "third"]).await;
    ledger.edit("alone").await;
    let client = gateway.client();
    for attempt in 0..2 {
        let sync = client.sync(&ledger.db, SyncOptions::one_shot("shared").create());
        let ended = Watched::new(sync).ended().await;
        let mut told: Vec<String> =
            ended.denied.iter().map(|d| format!("{} {}", d.id, d.error.error)).collect();
        told.sort();
        let wanted = ["bad forbidden", "other group_refused", "third group_refused"];
        assert!(attempt == 1 || told == wanted, "{told:?}");
        assert_eq!(count_of(&there).await, 3, "attempt {attempt}");
    }
    lenient.store(true, Ordering::Relaxed);
    let sync = client.sync(&ledger.db, SyncOptions::one_shot("shared").create());
    let ended = Watched::new(sync).ended().await;
    assert!(ended.denied.is_empty(), "{:?}", ended.denied);
    assert_eq!(count_of(&there).await, 6);
    let options = ChangesOptions { groups: true, ..ChangesOptions::default() };
    let rows = there.changes(&options).await.unwrap().rows;
    let grouped = rows.iter().filter(|row| row.group.is_some()).count();
    assert_eq!(grouped, 5, "both groups are groups there too");
}

#[tokio::test]
async fn a_denied_group_stays_whole_over_compaction() {
    let (gateway, lenient) = strict();
    let there = remote(&gateway, "shared").await;
    let mut ledger = Ledger::new(local().await);
    ledger.group(&["other", "bad"]).await;
    let client = gateway.client();
    for _ in 0..3 {
        let sync = client.sync(&ledger.db, SyncOptions::one_shot("shared").create());
        Watched::new(sync).ended().await;
        assert_eq!(count_of(&there).await, 0, "a part of the group");
        ledger.edit("bad").await;
        ledger.db.compact(CompactOptions::default()).await.unwrap();
    }
    lenient.store(true, Ordering::Relaxed);
    let sync = client.sync(&ledger.db, SyncOptions::one_shot("shared").create());
    let ended = Watched::new(sync).ended().await;
    assert!(ended.denied.is_empty(), "{:?}", ended.denied);
    assert_eq!(contents(&there).await, contents(&ledger.db).await);
    let sync = client.sync(&ledger.db, SyncOptions::one_shot("shared").create());
    let summary = Watched::new(sync).ended().await;
    assert!(summary.denied.is_empty(), "nothing is left to try");
}

#[tokio::test]
async fn what_is_too_much_for_a_message_is_refused_as_a_group() {
    let gateway = {
        let limits =
            Limits { message_bytes_max: 64 * 1024, doc_bytes_max: 32 * 1024, ..Default::default() };
        TestGateway::with(token_gateway(Store::memory()).limits(limits))
    };
    let there = remote(&gateway, "shared").await;
    let a = local().await;
    let large = |id| Document::new(id, &json!({"fill": "x".repeat(30_000)})).unwrap();
    let three = ["a", "b", "c"].map(large).to_vec();
    let outcomes = a.write_group(three, EditMode::Edit).await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    put(&a, "small", "x").await;
    let ended = Watched::new(gateway.client().sync(&a, one_shot("shared"))).ended().await;
    let told: Vec<u16> = ended.denied.iter().map(|denied| denied.error.status).collect();
    assert_eq!((told, count_of(&there).await), (vec![413; 3], 1));
}
