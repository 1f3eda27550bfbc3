//! Whatever happens in between, replicas that can talk again become equal, and every sync keeps to
//! the grammar of events.

#[path = "support/syncing.rs"]
mod syncing;

use std::time::Duration;

use proptest::prelude::*;
use settee::store::GetOptions;
use settee::{Client, Database, Store};
use syncing::*;
use tokio::time::timeout;

const CLIENTS: usize = 2;
const PLACES: usize = CLIENTS + 1;
const DOCS: usize = 5;

#[derive(Debug, Clone)]
enum Step {
    /// The last place is the gateway's database.
    Edit {
        place: usize,
        doc: usize,
        text: u8,
    },
    Attach {
        place: usize,
        doc: usize,
        text: u8,
    },
    Delete {
        place: usize,
        doc: usize,
    },
    Fill {
        place: usize,
        count: usize,
    },
    Cut {
        client: usize,
    },
    CutSoon {
        client: usize,
        bytes: u64,
    },
    Close {
        client: usize,
    },
    Open {
        client: usize,
    },
    Cancel {
        client: usize,
    },
    Drop {
        client: usize,
    },
    Breathe {
        yields: usize,
    },
    Time {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..CLIENTS;
    let place = || 0..PLACES;
    prop_oneof![
        6 => (place(), 0..DOCS, any::<u8>())
            .prop_map(|(place, doc, text)| Step::Edit { place, doc, text }),
        2 => (place(), 0..DOCS, 0..4_u8)
            .prop_map(|(place, doc, text)| Step::Attach { place, doc, text }),
        2 => (place(), 0..DOCS).prop_map(|(place, doc)| Step::Delete { place, doc }),
        1 => (place(), 1..700_usize).prop_map(|(place, count)| Step::Fill { place, count }),
        2 => client().prop_map(|client| Step::Cut { client }),
        1 => (client(), 0..60_000_u64)
            .prop_map(|(client, bytes)| Step::CutSoon { client, bytes }),
        1 => client().prop_map(|client| Step::Close { client }),
        3 => client().prop_map(|client| Step::Open { client }),
        1 => client().prop_map(|client| Step::Cancel { client }),
        1 => client().prop_map(|client| Step::Drop { client }),
        6 => (0..60_usize).prop_map(|yields| Step::Breathe { yields }),
        2 => (0..2_500_u64).prop_map(|ms| Step::Time { ms }),
    ]
}

struct Side {
    db: Database,
    network: Network,
    client: Client,
    sync: Option<Watched>,
}

impl Side {
    async fn new(gateway: &TestGateway) -> Self {
        let network = Network::new(gateway.connector.clone());
        let client = network.client();
        let db = local().await;
        let sync = Some(Watched::new(client.sync(&db, live("shared").batch_size(100))));
        Self { db, network, client, sync }
    }

    fn begin(&mut self) {
        self.sync = Some(Watched::new(self.client.sync(&self.db, live("shared"))));
    }
}

async fn run(steps: Vec<Step>) {
    let gateway = TestGateway::new(Store::memory());
    let there = remote(&gateway, "shared").await;
    let mut sides = [Side::new(&gateway).await, Side::new(&gateway).await];
    let mut filled = 0;
    for step in steps {
        let place = |place: usize| sides.get(place).map_or(&there, |side| &side.db).clone();
        match step {
            Step::Edit { place: at, doc, text } => {
                put(&place(at), &format!("doc{doc}"), &text.to_string()).await;
            }
            Step::Attach { place: at, doc, text } => {
                let bytes = vec![text; usize::from(text) * 15_000];
                attach(&place(at), &format!("doc{doc}"), "file", bytes).await;
            }
            Step::Delete { place: at, doc } => {
                let (db, doc) = (place(at), id(&format!("doc{doc}")));
                if db.get(&doc, &GetOptions::default()).await.is_ok() {
                    delete(&db, doc.as_str()).await;
                }
            }
            Step::Fill { place: at, count } => {
                filled += 1;
                fill(&place(at), &format!("fill{filled}-"), count).await;
            }
            Step::Cut { client } => sides[client].network.cut(),
            Step::CutSoon { client, bytes } => sides[client].network.close_after_receiving(bytes),
            Step::Close { client } => sides[client].network.close(),
            Step::Open { client } => sides[client].network.open(),
            Step::Cancel { client } => {
                let sync = sides[client].sync.take().expect("there is always one");
                assert!(sync.stop().await.summary().cancelled);
                sides[client].begin();
            }
            Step::Drop { client } => {
                sides[client].sync = None;
                sides[client].begin();
            }
            Step::Breathe { yields } => {
                for _ in 0..yields {
                    tokio::task::yield_now().await;
                }
            }
            Step::Time { ms } => tokio::time::advance(Duration::from_millis(ms)).await,
        }
    }
    let settled = timeout(Duration::from_secs(3_600), settle(&mut sides, &there)).await;
    for side in &mut sides {
        assert_equal(&side.db, &there).await;
        let ended = side.sync.take().expect("there is always one").stop().await;
        assert_eq!(ended.denied, []);
        ended.summary();
    }
    assert!(settled.is_ok(), "it says that it is not up to date, and is");
}

/// What one client pushed may reach the other a little later: until the feeds say so.
async fn settle(sides: &mut [Side], there: &Database) {
    for side in &mut *sides {
        side.network.open();
    }
    for side in &mut *sides {
        let sync = side.sync.as_mut().expect("there is always one");
        sync.up_to_date().await.expect("it does not end");
    }
    let wanted = contents(there).await;
    for side in &mut *sides {
        let mut feed = side.db.feed(Default::default()).await.expect("a feed opens");
        while contents(&side.db).await != wanted {
            feed.next_page(1_000, usize::MAX).await.expect("the feed goes on");
        }
        let sync = side.sync.as_mut().expect("there is always one");
        sync.up_to_date().await.expect("it does not end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    #[test]
    fn after_any_schedule(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime starts");
        runtime.block_on(run(steps));
    }
}
