//! Clients in Rust: each has a replica of its own, which it edits while live syncs go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use settee::client::Backoff;
use settee::doc::{Attachment, RevHash, RevPath};
use settee::store::{BulkGetOptions, DocError, EditMode, GetOptions, OpenRev, OpenRevs};
use settee::{Client, Database, DbName, DocId, Document, Rev, Store, StoreError, SyncOptions};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::super::access::token_for;
use super::super::grammar::Watched;
use super::super::random::Random;
use super::{DATABASES, Edit, Phase, Stage, holds_file};

/// One replica after another, and one connection after another of each.
pub struct Replicas {
    pub kind: &'static str,
    pub stage: Arc<Stage>,
    pub number: usize,
    /// Where stores are on disk; in memory without.
    pub dir: Option<PathBuf>,
    pub random: Random,
}

struct Replica {
    store: Store,
    databases: Vec<(&'static str, Database)>,
    acknowledged: Vec<Edit>,
    place: Option<PathBuf>,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The syncs are cancelled, and finish what they are writing.
    Cancelled,
    /// Everything is dropped.
    Dropped,
}

impl Replicas {
    /// Lives until all is over. The last replica keeps its connection in the calm.
    pub async fn live(mut self) {
        let mut replica = self.replica().await;
        loop {
            let mut connection = self.connect(&replica);
            let lasts = Duration::from_millis(self.random.of(3_000..15_000));
            let until = Instant::now() + lasts;
            while Instant::now() < until {
                let pause = self.random.of(30..300);
                if !self.stage.sleeps_in_storm(pause).await {
                    break;
                }
                self.edit(&mut replica).await;
            }
            if !self.stage.is_storm() {
                let here = (self.kind, replica.store.clone());
                self.stage.replicas.lock().expect("nobody panics with it").push(here);
                self.stage.until_arrived(self.kind, &replica.acknowledged).await;
                self.stage.until(Phase::Over).await;
                connection.end(End::Cancelled).await;
                return;
            }
            let retires = self.random.one_in(3);
            if retires {
                self.stage.until_arrived(self.kind, &replica.acknowledged).await;
            }
            let end = *self.random.choose(&[End::Cancelled, End::Dropped]);
            connection.end(end).await;
            if retires {
                replica.leave().await;
                replica = self.replica().await;
            }
        }
    }

    async fn replica(&mut self) -> Replica {
        self.stage.count(&format!("{}: replicas", self.kind), 1);
        let place = self.dir.as_deref().map(|dir: &Path| {
            dir.join(format!("replica-{}-{:x}", self.number, self.random.next()))
        });
        let store = match &place {
            Some(place) => Store::open(place).expect("a new store opens"),
            None => Store::memory(),
        };
        let mut databases = Vec::new();
        for name in DATABASES {
            let db = store.create(&DbName::parse(name).expect("a name")).await;
            databases.push((name, db.expect("a new store is empty")));
        }
        Replica { store, databases, acknowledged: Vec::new(), place }
    }

    fn connect(&mut self, replica: &Replica) -> Connection {
        self.stage.count(&format!("{}: connections", self.kind), 1);
        let client = client(&self.stage.address);
        let mut syncs = JoinSet::new();
        let (ending, ended) = tokio::sync::watch::channel(());
        for (_, db) in &replica.databases {
            let user = format!("{}-{}", self.kind, self.number);
            let lasts = Duration::from_millis(self.random.of(2_000..8_000));
            let options = SyncOptions::live("").credentials_from(move || {
                let token = json!({ "token": token_for(&user, lasts) });
                async move { token }
            });
            let sync = Watched::new(client.sync(db, options));
            syncs.spawn(keep(sync, ended.clone()));
        }
        Connection { client, syncs, ending }
    }

    async fn edit(&mut self, replica: &mut Replica) {
        let (database, db) = &replica.databases[self.random.below(DATABASES.len())];
        let Some(id) = self.some_document(db).await else { return };
        let (documents, mode) = change(db, &id, &mut self.random).await;
        for outcome in db.bulk_docs(documents, mode).await.expect("the store writes") {
            match outcome {
                Ok(written) => {
                    let (id, rev) = (written.id.to_string(), written.rev.to_string());
                    replica.acknowledged.push(Edit { database, id, rev });
                    self.stage.count(&format!("{}: edits", self.kind), 1);
                }
                // A sync was faster.
                Err(refused) if matches!(refused.error, DocError::Conflict) => {}
                Err(refused) => panic!("{refused:?}"),
            }
        }
    }

    /// A document of this round or of the last, deleted ones included.
    async fn some_document(&mut self, db: &Database) -> Option<DocId> {
        let first = format!("r{}-", self.stage.round() - 1);
        let first = DocId::parse(&first, 100).expect("an id");
        let ids = db.ids(Some(&first), 100).await.expect("ids can be listed");
        let ids: Vec<DocId> = ids.into_iter().filter(|id| id.as_str().starts_with('r')).collect();
        if ids.is_empty() { None } else { Some(self.random.choose(&ids).clone()) }
    }
}

impl Replica {
    /// Ends it for good.
    async fn leave(self) {
        drop(self.databases);
        self.store.close().await.expect("the store closes");
        if let Some(place) = self.place {
            std::fs::remove_dir_all(place).expect("what is closed can be removed");
        }
    }
}

struct Connection {
    client: Client,
    syncs: JoinSet<()>,
    ending: tokio::sync::watch::Sender<()>,
}

impl Connection {
    async fn end(&mut self, end: End) {
        if end == End::Dropped {
            self.syncs.abort_all();
        }
        self.ending.send_replace(());
        while let Some(ended) = self.syncs.join_next().await {
            match ended {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                _ => {}
            }
        }
        if end == End::Cancelled {
            self.client.close().await;
        }
    }
}

fn client(address: &str) -> Client {
    let backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_secs(1) };
    let client = Client::builder(&format!("ws://{address}")).backoff(backoff);
    client.connect().expect("a good address")
}

/// Keeps a live sync until it is told to end; it must neither end before nor refuse anything.
async fn keep(mut sync: Watched, mut ended: tokio::sync::watch::Receiver<()>) {
    tokio::select! {
        ended = sync.until_end() => panic!("a live sync has ended: {ended:?}"),
        _ = ended.changed() => {
            let ended = sync.stop().await;
            assert!(ended.denied.is_empty(), "{:?}", ended.denied);
            assert!(ended.summary().cancelled);
        }
    }
}

/// Whatever an application may do to a document.
async fn change(db: &Database, id: &DocId, random: &mut Random) -> (Vec<Document>, EditMode) {
    let length = random.of(0..600);
    let text = random.text(length);
    let found = match db.get(id, &GetOptions { revs: true, ..Default::default() }).await {
        Ok(found) => found,
        Err(StoreError::DocDeleted { .. } | StoreError::DocMissing { .. }) => {
            // It is deleted, and comes back now and then.
            let fresh = Document::new(id.as_str(), &json!({ "text": text })).expect("it parses");
            return (random.one_in(3).then_some(fresh).into_iter().collect(), EditMode::Edit);
        }
        Err(error) => panic!("{id} cannot be read: {error}"),
    };
    let rev = found.rev.clone().expect("a read has its revision");
    let mut body: Value = found.to().expect("a body is JSON");
    body["text"] = json!(text);
    let edited = Document::new(id.as_str(), &body).expect("it parses");
    let edited =
        Document { rev: Some(rev.clone()), attachments: found.attachments.clone(), ..edited };
    match random.below(20) {
        0 => (vec![Document::tombstone(id.clone(), rev)], EditMode::Edit),
        1..5 => (losers(db, id, rev).await, EditMode::Edit),
        5..7 => (vec![branch(edited, found.revisions, random)], EditMode::Replicated),
        7..14 if holds_file(id.as_str()) => {
            let length = random.of(0..20_000);
            let bytes = Bytes::from(random.text(length).into_bytes());
            let file = Attachment::inline("text/plain", bytes);
            (vec![edited.with_attachment("file", file)], EditMode::Edit)
        }
        _ => (vec![edited], EditMode::Edit),
    }
}

/// Tombstones for the open leaves that do not win.
async fn losers(db: &Database, id: &DocId, winner: Rev) -> Vec<Document> {
    let leaves = db.open_revs(id, &OpenRevs::All, BulkGetOptions::default()).await;
    let leaves = leaves.expect("leaves can be read").into_iter();
    let losers = leaves.filter_map(|leaf| match leaf {
        OpenRev::Found(document) if !document.deleted => document.rev.filter(|rev| *rev != winner),
        _ => None,
    });
    // One revision of a document at a time, as batches have it.
    losers.take(1).map(|rev| Document::tombstone(id.clone(), rev)).collect()
}

/// A revision beside the winning one, as another writer would have made it.
fn branch(edited: Document, older: Option<RevPath>, random: &mut Random) -> Document {
    let hash = (u128::from(random.next()) << 64 | u128::from(random.next())).to_be_bytes();
    let older = older.expect("it was asked for");
    let ancestors = older.hashes().iter().skip(1).cloned();
    let hashes = [RevHash::from_digest(hash)].into_iter().chain(ancestors).collect();
    let path = RevPath::new(older.start(), hashes).expect("a path");
    // Stubs are of the revision beside it.
    let attachments = Default::default();
    Document { rev: Some(path.leaf()), revisions: Some(path), attachments, ..edited }
}

/// Live syncs whose tokens end without others to follow: they must be told so.
pub async fn ending_tokens(stage: Arc<Stage>, mut random: Random) {
    while stage.sleeps_in_storm(random.of(500..3_000)).await {
        let store = Store::memory();
        let name = *random.choose(&DATABASES);
        let db = store.create(&DbName::parse(name).expect("a name")).await.expect("it is new");
        let client = client(&stage.address);
        let token = token_for("ends", Duration::from_millis(random.of(1_000..3_000)));
        let options = SyncOptions::live("").credentials(json!({ "token": token }));
        let mut sync = Watched::new(client.sync(&db, options));
        // A gateway that is away tells nobody anything.
        let told = timeout(Duration::from_secs(60), sync.until_end()).await.expect("in time");
        let error = told.expect_err("a sync has outlived its token");
        assert!(error.source.is_unauthorized(), "{error}");
        stage.count("told that a token has ended", 1);
        client.close().await;
    }
}
