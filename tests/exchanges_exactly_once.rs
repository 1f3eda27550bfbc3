//! Two clients exchange documents over connections that are cut a thousand times, wherever they
//! happen to be. Whatever was not acknowledged is sent again; nothing is lost, and since a revision
//! that is known changes nothing, nothing is there or told twice.

#[path = "support/random.rs"]
mod random;
#[path = "support/replicas.rs"]
mod replicas;
#[path = "support/syncing.rs"]
mod syncing;

use std::time::Duration;

use random::{Random, seed};
use replicas::{contents, until_equal};
use settee::client::Backoff;
use settee::replicate::Direction;
use settee::{Client, Database, Store};
use syncing::*;
use tokio::time::timeout;

const CUTS: u64 = 1_000;
/// Bytes from the gateway after which a connection is cut, at most: about what it takes to connect,
/// open a database and exchange a few batches.
const BYTES_MAX: u64 = 6_000;

fn client(network: &Network) -> Client {
    let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(2) };
    network.client_builder().backoff(backoff).connect().expect("a good address")
}

async fn assert_each_once(db: &Database, documents: u64) {
    let info = db.info().await.unwrap();
    let number = info.update_seq.number;
    assert_eq!((info.doc_count, number), (documents, documents), "each was written once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_over_a_thousand_cuts() {
    let mut random = Random::new(seed());
    let gateway = TestGateway::new(Store::memory());
    let networks = [(); 2].map(|()| Network::new(gateway.connector.clone()));
    let there = remote(&gateway, "shared").await;
    let (a, b) = (local().await, local().await);
    let mut syncs = [(&networks[0], &a), (&networks[1], &b)]
        .map(|(network, db)| Watched::new(client(network).sync(db, live("shared").batch_size(5))));
    for cut in 0..CUTS {
        put(&a, &format!("a{cut}"), "from a").await;
        put(&b, &format!("b{cut}"), "from b").await;
        let side = usize::from(cut % 2 == 1);
        networks[side].close_after_receiving(random.of(0..BYTES_MAX));
        // So much may never come: then it is cut at rest, which happens too.
        tokio::select! {
            () = networks[side].closed() => {}
            settled = syncs[side].up_to_date() => settled.expect("the sync goes on"),
        }
        networks[side].close();
        networks[side].open();
    }
    let [mut sync_a, mut sync_b] = syncs;
    let equal = until_equal((&a, &mut sync_a), (&b, &mut sync_b));
    timeout(Duration::from_secs(90), equal).await.expect("they become equal");
    for db in [&a, &there, &b] {
        assert_each_once(db, 2 * CUTS).await;
    }
    let in_a = contents(&a).await;
    assert!(in_a == contents(&b).await && in_a == contents(&there).await);
    let attempts = networks.each_ref().map(|network| network.attempts().len() as u64);
    assert!(attempts.iter().sum::<u64>() >= CUTS, "cut while it was connected: {attempts:?}");
    let (ended_a, ended_b) = (sync_a.stop().await, sync_b.stop().await);
    for cut in 0..CUTS {
        assert_eq!(ended_a.times_written(Direction::Pull, &format!("b{cut}")), 1, "b{cut}");
        assert_eq!(ended_b.times_written(Direction::Pull, &format!("a{cut}")), 1, "a{cut}");
    }
}
