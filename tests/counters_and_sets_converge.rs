//! Counters and sets come to the same value everywhere, whoever edits them where and when: offline,
//! at two gateways, sent twice.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;
use settee::doc::{Json, Merge, MergePolicy, Operations, OperationsError, counted, elements};
use settee::replicate::{ReplicationOptions, replicate};
use settee::store::{GetOptions, OperateError};
use settee::{Database, DbName, DocId, Limits, Store};

const DEVICES: usize = 3;
const GATEWAYS: usize = 2;
const ELEMENTS: [&str; 3] = ["red", "green", "blue"];

#[derive(Debug, Clone)]
enum Step {
    /// A replica counts: a device offline, or a gateway for a client that asks it to.
    Count {
        replica: usize,
        by: i64,
    },
    Put {
        replica: usize,
        element: usize,
    },
    Take {
        replica: usize,
        element: usize,
    },
    /// The sender that numbers its operations sends the one it has at hand, once more if it was
    /// applied already and the sender does not know.
    Send {
        gateway: usize,
        heard: bool,
    },
    /// A device and a gateway sync; the gateway merges what comes.
    Sync {
        device: usize,
        gateway: usize,
    },
    /// The same, cut before the gateway merged, so that both are left with the branches.
    Cut {
        device: usize,
        gateway: usize,
    },
    /// The gateways replicate with each other.
    Between,
}

fn step() -> impl Strategy<Value = Step> {
    let replica = 0..DEVICES + GATEWAYS;
    let gateway = DEVICES..DEVICES + GATEWAYS;
    prop_oneof![
        3 => (replica.clone(), -3..6_i64).prop_map(|(replica, by)| Step::Count { replica, by }),
        2 => (replica.clone(), 0..ELEMENTS.len())
            .prop_map(|(replica, element)| Step::Put { replica, element }),
        1 => (replica, 0..ELEMENTS.len())
            .prop_map(|(replica, element)| Step::Take { replica, element }),
        2 => (gateway.clone(), any::<bool>())
            .prop_map(|(gateway, heard)| Step::Send { gateway, heard }),
        3 => (0..DEVICES, gateway.clone())
            .prop_map(|(device, gateway)| Step::Sync { device, gateway }),
        3 => (0..DEVICES, gateway).prop_map(|(device, gateway)| Step::Cut { device, gateway }),
        1 => Just(Step::Between),
    ]
}

fn id() -> DocId {
    DocId::parse("post", 10).expect("an id")
}

fn policy() -> MergePolicy {
    MergePolicy::new().field("likes", Merge::Counter).field("tags", Merge::Set)
}

fn operations(value: &serde_json::Value) -> Operations {
    Operations::parse(&value.to_string()).expect("operations")
}

/// Replicas of one database, devices before gateways.
struct World {
    replicas: Vec<Database>,
    counted: i64,
    put: BTreeSet<&'static str>,
    taken: BTreeSet<&'static str>,
    /// The sender's operation at hand, and whether a gateway has applied it.
    number: u64,
    applied: bool,
}

impl World {
    async fn new() -> Self {
        let mut replicas = Vec::new();
        for _ in 0..DEVICES + GATEWAYS {
            let name = DbName::parse("posts").expect("a name");
            replicas.push(Store::memory().create(&name).await.expect("it is made"));
        }
        let (put, taken) = (BTreeSet::new(), BTreeSet::new());
        Self { replicas, counted: 0, put, taken, number: 1, applied: false }
    }

    async fn operate(&self, replica: usize, what: serde_json::Value) {
        let writer = format!("replica {replica}");
        self.replicas[replica].operate(&id(), &operations(&what), &writer).await.expect("applied");
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Count { replica, by } => {
                self.operate(replica, json!({"inc": {"likes": by}})).await;
                self.counted += by;
            }
            Step::Put { replica, element } => {
                self.operate(replica, json!({"add": {"tags": [ELEMENTS[element]]}})).await;
                self.put.insert(ELEMENTS[element]);
            }
            Step::Take { replica, element } => {
                self.operate(replica, json!({"remove": {"tags": [ELEMENTS[element]]}})).await;
                self.taken.insert(ELEMENTS[element]);
            }
            Step::Send { gateway, heard } => self.send(gateway, heard).await,
            Step::Sync { device, gateway } => self.sync(device, gateway).await,
            Step::Cut { device, gateway } => self.exchange(device, gateway).await,
            Step::Between => self.sync(DEVICES, DEVICES + 1).await,
        }
    }

    async fn send(&mut self, gateway: usize, heard: bool) {
        let sent = json!({"actor": "sender", "n": self.number, "inc": {"likes": 10}});
        match self.replicas[gateway].operate(&id(), &operations(&sent), "nobody").await {
            Ok(_) => self.applied = true,
            // This gateway has not heard of those before it.
            Err(OperateError::Operations(OperationsError::Number { next })) => {
                assert!(next < self.number);
            }
            Err(error) => panic!("{error}"),
        }
        if heard && self.applied {
            (self.number, self.applied) = (self.number + 1, false);
            self.counted += 10;
        }
    }

    async fn exchange(&self, one: usize, other: usize) {
        let (one, other) = (&self.replicas[one], &self.replicas[other]);
        let done = replicate(one, other, ReplicationOptions::default()).finished().await;
        done.expect("nothing is in the way");
    }

    async fn sync(&self, one: usize, gateway: usize) {
        for _ in 0..2 {
            self.exchange(one, gateway).await;
            let gateway = &self.replicas[gateway];
            gateway.merge_conflicts(&id(), &policy()).await.expect("it can be read and written");
        }
    }

    async fn settle(&mut self) {
        if self.applied {
            self.counted += 10;
        }
        for _ in 0..3 {
            for device in 0..DEVICES {
                for gateway in DEVICES..DEVICES + GATEWAYS {
                    self.sync(device, gateway).await;
                }
            }
            self.sync(DEVICES, DEVICES + 1).await;
        }
    }

    async fn check(&self) {
        let options = GetOptions { conflicts: true, ..GetOptions::default() };
        let first = self.replicas[0].get(&id(), &options).await;
        for replica in &self.replicas {
            let read = replica.get(&id(), &options).await;
            let Ok(read) = read else {
                assert!(first.is_err(), "one replica has nothing");
                continue;
            };
            assert_eq!(read.extra.conflicts, [], "a conflict is left: {}", read.body.as_str());
            assert_eq!(
                Ok(read.to_json()),
                first.as_ref().map(settee::Document::to_json).map_err(|_| ())
            );
            let body = Json::parse(read.body.as_str(), &Limits::default()).expect("JSON");
            let Json::Object(members) = &body else { panic!("no object") };
            let member = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, v)| v);
            let likes = member("likes").map_or(Some(0), counted);
            assert_eq!(likes, Some(self.counted), "{}", read.body.as_str());
            let tags = member("tags").map_or(Some(Vec::new()), elements).expect("a set");
            for element in self.put.difference(&self.taken) {
                assert!(tags.contains(element), "{element} was never taken out");
            }
            assert!(tags.iter().all(|tag| self.put.contains(tag)), "{tags:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn under_any_interleaving_nothing_is_lost_or_counted_twice(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in &steps {
                world.take(step).await;
            }
            world.settle().await;
            world.check().await;
        });
    }
}
