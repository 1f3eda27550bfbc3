//! Mixed load on a gateway over sockets, beside a model of what was acknowledged.
//!
//! Each client makes one change at a time and, once it is acknowledged, makes it in the model, a
//! store in memory. What a client was waiting for when the gateway died may be there or not, but
//! not half.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use settee::doc::{LocalDocument, LocalId, LocalRev, Operations, Patch};
use settee::store::{BulkGetOptions, EditMode, GetOptions, OpenRev, OpenRevs, WriteOutcome};
use settee::{Database, DbName, DocId, Document, Limits, Rev, Store};
use tokio::sync::watch;

use crate::ask::ask;
use crate::random::Random;
use crate::wire::{Died, Wire};

/// The database that all clients write to, each its own documents.
pub const SHARED: &str = "shared";
/// A batch of more documents may be stored in parts.
const ATOMIC_DOCS_MAX: usize = 100;
const DOCS_PER_CLIENT: u64 = 40;
const DATABASES_PER_CLIENT: u64 = 3;

/// One change.
#[derive(Debug, Clone)]
pub enum Change {
    Create {
        database: String,
    },
    Destroy {
        database: String,
    },
    Write {
        database: String,
        docs: Vec<Value>,
        mode: EditMode,
    },
    /// Documents that are stored together or not at all.
    Group {
        database: String,
        docs: Vec<Value>,
    },
    /// A merge patch of the winning rev.
    Patch {
        database: String,
        id: String,
        patch: Value,
    },
    /// Counters and sets.
    Operate {
        database: String,
        id: String,
        operations: Value,
    },
    Purge {
        database: String,
        id: String,
        revs: Vec<String>,
    },
    /// The attachment `file` of a document, uploaded before the document is written.
    Upload {
        database: String,
        doc: Value,
        bytes: String,
    },
    Local {
        database: String,
        id: String,
        rev: Option<LocalRev>,
        body: Value,
    },
}

fn name(database: &str) -> DbName {
    DbName::parse(database).expect("a good name")
}

fn doc_id(id: &str) -> DocId {
    DocId::parse(id, 1024).expect("a good id")
}

fn local_id(id: &str) -> LocalId {
    LocalId::parse(id, 1024).expect("a good id")
}

impl Change {
    fn database(&self) -> &str {
        match self {
            Self::Create { database }
            | Self::Destroy { database }
            | Self::Write { database, .. }
            | Self::Group { database, .. }
            | Self::Patch { database, .. }
            | Self::Operate { database, .. }
            | Self::Purge { database, .. }
            | Self::Upload { database, .. }
            | Self::Local { database, .. } => database,
        }
    }

    /// Asks the gateway for it; returns once it is acknowledged, with its rows.
    async fn ask(&self, wire: &mut Wire, address: &str) -> Result<Vec<Value>, Died> {
        let database = self.database();
        let reply = match self {
            Self::Create { .. } => {
                wire.open(database, true).await?;
                return Ok(Vec::new());
            }
            Self::Destroy { .. } => {
                let reply = wire.call(database, "destroy", &json!({})).await?;
                wire.forget(database);
                reply
            }
            Self::Write { docs, mode: EditMode::Edit, .. } if docs.len() == 1 => {
                wire.call(database, "put", &json!({"doc": docs[0]})).await?
            }
            Self::Write { docs, mode, .. } => {
                let new_edits = *mode == EditMode::Edit;
                let params = json!({"docs": docs, "new_edits": new_edits});
                wire.call(database, "bulk_docs", &params).await?
            }
            Self::Group { docs, .. } => {
                let params = json!({"docs": docs, "atomic": true});
                wire.call(database, "bulk_docs", &params).await?
            }
            Self::Patch { id, patch, .. } => {
                let params = json!({"id": id, "merge": patch, "if_changed": true});
                wire.call(database, "patch", &params).await?
            }
            Self::Operate { id, operations, .. } => {
                wire.call(database, "ops", &json!({"id": id, "ops": operations})).await?
            }
            Self::Purge { id, revs, .. } => {
                let path = format!("/{database}/_purge");
                let purged = ask(address, "POST", &path, &json!({id.as_str(): revs})).await;
                let purged = purged.ok_or(Died)?;
                assert_eq!(purged["purged"], json!({id.as_str(): revs}), "{self:?}");
                return Ok(Vec::new());
            }
            Self::Upload { doc, bytes, .. } => {
                let uploaded = wire.upload(database, bytes.as_bytes()).await?;
                let uploaded = uploaded.unwrap_or_else(|error| panic!("{database}: {error}"));
                let mut doc = doc.clone();
                doc["_attachments"] = json!({"file": {
                    "stub": true, "digest": uploaded["digest"], "length": bytes.len(),
                    "content_type": "text/plain",
                }});
                wire.call(database, "put", &json!({"doc": doc})).await?
            }
            Self::Local { id, rev, body, .. } => {
                let mut doc = body.clone();
                doc["_id"] = json!(format!("_local/{id}"));
                if let Some(rev) = rev {
                    doc["_rev"] = json!(rev.to_string());
                }
                wire.call(database, "put", &json!({"doc": doc})).await?
            }
        };
        match reply {
            Ok(Value::Array(rows)) => Ok(rows),
            Ok(row) => Ok(vec![row]),
            Err(error) => panic!("{self:?}\nwas refused: {error}"),
        }
    }

    /// Makes it in the model; answers the revisions of documents that were edited.
    async fn make(&self, model: &Store) -> Vec<String> {
        let database = name(self.database());
        match self {
            Self::Create { .. } => drop(model.create(&database).await.expect("a new database")),
            Self::Destroy { .. } => model.destroy(&database).await.expect("it is there"),
            Self::Write { docs, mode, .. } => {
                let db = model.database(&database).await.expect("it is there");
                let outcomes = db.bulk_docs(docs.iter().map(parse).collect(), *mode).await;
                return revs(outcomes.expect("a model takes writes"));
            }
            Self::Group { docs, .. } => {
                let db = model.database(&database).await.expect("it is there");
                let docs = docs.iter().map(parse).collect();
                let outcomes = db.write_group(docs, EditMode::Edit).await;
                return revs(outcomes.expect("a model takes writes"));
            }
            Self::Patch { id, patch, .. } => {
                let db = model.database(&database).await.expect("it is there");
                return vec![patched(&db, &doc_id(id), patch).await];
            }
            Self::Operate { id, operations, .. } => {
                let db = model.database(&database).await.expect("it is there");
                let operations = Operations::parse(&operations.to_string()).expect("they are good");
                let written = db.operate(&doc_id(id), &operations, "nobody").await;
                let written = written.expect("a model takes writes").expect("they change it");
                return vec![written.rev.to_string()];
            }
            Self::Purge { id, revs, .. } => {
                let db = model.database(&database).await.expect("it is there");
                let revs = revs.iter().map(|rev| Rev::parse(rev).expect("a rev")).collect();
                db.purge(&[(doc_id(id), revs)]).await.expect("a model takes purges");
            }
            Self::Upload { doc, bytes, .. } => {
                let db = model.database(&database).await.expect("it is there");
                let mut doc = doc.clone();
                let data = BASE64_STANDARD.encode(bytes);
                doc["_attachments"] = json!({"file": {"content_type": "text/plain", "data": data}});
                let written = db.put(parse(&doc)).await.expect("a model takes writes");
                return vec![written.rev.to_string()];
            }
            Self::Local { id, rev, body, .. } => {
                let db = model.database(&database).await.expect("it is there");
                let body = settee::doc::Body::parse(&body.to_string(), &Limits::default());
                let body = body.expect("a good body");
                let document = LocalDocument { id: local_id(id), rev: *rev, deleted: false, body };
                let rev = db.put_local(document).await.expect("a model takes writes");
                return vec![rev.to_string()];
            }
        }
        Vec::new()
    }

    /// Makes as much of it in the model as is in the store, which must be all or nothing unless it
    /// is a large batch.
    pub async fn settle(&self, model: &Store, store: &Store) -> Result<(), String> {
        let database = name(self.database());
        let is_there = store.database(&database).await.is_ok();
        match self {
            Self::Create { .. } if !is_there => return Ok(()),
            Self::Destroy { .. } if is_there => return Ok(()),
            Self::Create { .. } | Self::Destroy { .. } => {}
            _ if !is_there => return Err(format!("{database} is missing")),
            Self::Local { id, .. } => {
                let found = store.database(&database).await.expect("it is there");
                let before = model.database(&database).await.expect("it is there");
                let id = local_id(id);
                let found = found.local(&id).await.map_err(|error| error.to_string())?;
                if found == before.local(&id).await.expect("a model can be read") {
                    return Ok(());
                }
            }
            Self::Upload { doc, .. } => {
                if stored(std::slice::from_ref(doc), &database, model, store).await?.is_empty() {
                    return Ok(());
                }
            }
            Self::Patch { id, .. } | Self::Operate { id, .. } | Self::Purge { id, .. } => {
                let doc = json!({"_id": id});
                if stored(std::slice::from_ref(&doc), &database, model, store).await?.is_empty() {
                    return Ok(());
                }
            }
            Self::Group { docs, .. } => {
                let there = stored(docs, &database, model, store).await?.len();
                match there {
                    0 => return Ok(()),
                    _ if there < docs.len() => {
                        return Err(format!("{there} of a group of {}", docs.len()));
                    }
                    _ => {}
                }
            }
            Self::Write { docs, mode, .. } => {
                let there = stored(docs, &database, model, store).await?;
                if there.len() < docs.len() && docs.len() <= ATOMIC_DOCS_MAX && !there.is_empty() {
                    return Err(format!("{} of a batch of {}", there.len(), docs.len()));
                }
                let part =
                    Self::Write { database: self.database().to_owned(), docs: there, mode: *mode };
                part.make(model).await;
                return Ok(());
            }
        }
        self.make(model).await;
        Ok(())
    }
}

/// Those of some documents that the store has otherwise than the model.
async fn stored(
    docs: &[Value],
    database: &DbName,
    model: &Store,
    store: &Store,
) -> Result<Vec<Value>, String> {
    let before = model.database(database).await.expect("it is there");
    let found = store.database(database).await.map_err(|error| error.to_string())?;
    let mut there = Vec::new();
    for doc in docs {
        let id = doc_id(doc["_id"].as_str().expect("documents have ids"));
        if leaves(&found, &id).await? != leaves(&before, &id).await? {
            there.push(doc.clone());
        }
    }
    Ok(there)
}

async fn leaves(db: &Database, id: &DocId) -> Result<Vec<String>, String> {
    let options = BulkGetOptions { revs: true, attachments: true, ..BulkGetOptions::default() };
    let leaves = match db.open_revs(id, &OpenRevs::All, options).await {
        Ok(leaves) => leaves,
        Err(settee::StoreError::DocMissing { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let shown = leaves.into_iter().map(|leaf| match leaf {
        OpenRev::Found(document) => Ok(document.to_json()),
        OpenRev::Missing(rev) => Err(format!("{id} lacks the body of {rev}")),
    });
    shown.collect()
}

/// Makes a merge patch in the model; answers the revision after it.
async fn patched(db: &Database, id: &DocId, patch: &Value) -> String {
    let patch = Patch::merge(&patch.to_string(), db.limits()).expect("a good patch");
    let document = db.get(id, &GetOptions::default()).await.expect("it is there");
    let body = patch.apply(&document.body, db.limits()).expect("it can be applied");
    let same = body == document.body;
    let rev = document.rev.clone();
    let rev = if same {
        rev
    } else {
        Some(db.put(Document { body, ..document }).await.expect("a model takes writes").rev)
    };
    rev.expect("a read has its revision").to_string()
}

fn parse(doc: &Value) -> Document {
    Document::parse(&doc.to_string(), &Limits::default()).expect("a good document")
}

fn revs(outcomes: Vec<WriteOutcome>) -> Vec<String> {
    let written = outcomes.into_iter().map(|outcome| outcome.expect("a model takes writes"));
    written.map(|written| written.rev.to_string()).collect()
}

/// One client: it makes changes until the gateway dies.
pub struct Client {
    number: usize,
    model: Store,
    random: Random,
    made: u64,
}

impl Client {
    pub fn new(number: usize, model: Store, seed: u64) -> Self {
        Self { number, model, random: Random::new(seed ^ (number as u64) << 32), made: 0 }
    }

    /// Makes changes until the gateway dies, and answers what it was waiting for then.
    pub async fn run(
        mut self,
        address: String,
        acknowledged: watch::Sender<u64>,
    ) -> Option<Change> {
        let Ok(mut wire) = Wire::connect(&address).await else { return None };
        loop {
            let change = self.next_change().await;
            match change.ask(&mut wire, &address).await {
                Err(Died) => return Some(change),
                Ok(rows) => self.compare(&change, &rows).await,
            }
            acknowledged.send_modify(|count| *count += 1);
        }
    }

    /// Makes an acknowledged change in the model, and compares the revisions.
    async fn compare(&self, change: &Change, rows: &[Value]) {
        let revs = change.make(&self.model).await;
        if matches!(change, Change::Write { mode: EditMode::Replicated, .. }) {
            assert_eq!(rows, [] as [Value; 0], "{change:?}");
            return;
        }
        for (row, rev) in rows.iter().zip(&revs) {
            assert_eq!(row["rev"], **rev, "{change:?}");
        }
        assert!(revs.is_empty() || rows.len() == revs.len(), "{change:?}: {rows:?}");
    }

    async fn next_change(&mut self) -> Change {
        self.made += 1;
        let own = self.own_databases().await;
        match self.random.of(0..100) {
            0..4 if (own.len() as u64) < DATABASES_PER_CLIENT => {
                let mut names = (0..=own.len()).map(|n| self.own_name(n));
                let free = names.find(|name| !own.contains(name));
                return Change::Create { database: free.expect("there are numbers enough") };
            }
            4..7 if !own.is_empty() => {
                return Change::Destroy { database: self.random.choose(&own).clone() };
            }
            _ => {}
        }
        let mut places = own;
        places.push(SHARED.to_owned());
        let database = self.random.choose(&places).clone();
        let db = self.model.database(&name(&database)).await.expect("it is there");
        let id = format!("{}-{:02}", self.number, self.random.of(0..DOCS_PER_CLIENT));
        match self.random.of(0..100) {
            0..25 => edits(database, vec![self.edit(&db, &id).await]),
            25..32 => self.group(&db, database).await,
            32..37 => {
                let id = format!("{}-p{}", self.number, self.random.of(0..5));
                if winner(&db, &id).await.is_none() {
                    return edits(database, vec![json!({"_id": id, "n": 0, "kept": "as it is"})]);
                }
                // Some of these change nothing.
                Change::Patch { database, id, patch: json!({"n": self.random.of(0..3)}) }
            }
            37..42 => self.operate(&db, database).await,
            42..45 => {
                let known = leaves_of(&db, &id).await;
                if known.is_empty() {
                    return edits(database, vec![self.edit(&db, &id).await]);
                }
                Change::Purge { database, id, revs: known }
            }
            45..52 => {
                let mut doc = self.edit(&db, &id).await;
                doc["_deleted"] = json!(doc["_rev"].is_string());
                edits(database, vec![doc])
            }
            52..68 => {
                let count = self.random.of(2..101);
                self.batch(&db, database, count).await
            }
            68..72 => {
                let count = self.random.of(101..250);
                self.batch(&db, database, count).await
            }
            72..86 => {
                let first = self.random.of(0..DOCS_PER_CLIENT);
                let mut docs = Vec::new();
                for n in 0..self.random.of(1..10) {
                    let id = format!("{}-r{:02}", self.number, (first + n) % DOCS_PER_CLIENT);
                    docs.push(self.branch(&db, &id).await);
                }
                Change::Write { database, docs, mode: EditMode::Replicated }
            }
            86..90 => {
                let mut doc = self.edit(&db, &id).await;
                let length = self.random.of(0..5_000);
                let data = BASE64_STANDARD.encode(self.random.text(length));
                doc["_attachments"] =
                    json!({"small": {"content_type": "text/plain", "data": data}});
                edits(database, vec![doc])
            }
            90..95 => {
                let doc = self.edit(&db, &id).await;
                let length = self.random.of(20_000..130_000);
                Change::Upload { database, doc, bytes: self.random.text(length) }
            }
            _ => {
                let id = format!("{}-{}", self.number, self.random.of(0..5));
                let there = db.local(&local_id(&id)).await.expect("a model can be read");
                let rev = there.and_then(|document| document.rev);
                Change::Local { database, id, rev, body: json!({"made": self.made}) }
            }
        }
    }

    fn own_name(&self, n: usize) -> String {
        format!("own{}-{n}", self.number)
    }

    async fn own_databases(&self) -> Vec<String> {
        let names = self.model.names(None, usize::MAX).await.expect("a model can be read");
        let names = names.into_iter().map(|name| name.to_string());
        let prefix = format!("own{}-", self.number);
        names.filter(|name| name.starts_with(&prefix)).collect()
    }

    async fn batch(&mut self, db: &Database, database: String, count: u64) -> Change {
        let mut docs = Vec::new();
        for n in 0..count {
            let id = format!("{}-b{n:03}", self.number);
            let mut doc = json!({"_id": id, "made": self.made});
            if let Some(rev) = winner(db, &id).await {
                doc["_rev"] = json!(rev);
            }
            docs.push(doc);
        }
        edits(database, docs)
    }

    /// Documents of which some were written alone before.
    async fn group(&mut self, db: &Database, database: String) -> Change {
        let first = self.random.of(0..DOCS_PER_CLIENT);
        let mut docs = Vec::new();
        for n in 0..self.random.of(1..DOCS_PER_CLIENT + 1) {
            let id = format!("{}-{:02}", self.number, (first + n) % DOCS_PER_CLIENT);
            docs.push(self.edit(db, &id).await);
        }
        Change::Group { database, docs }
    }

    /// The client's next operation on a counter and a set.
    async fn operate(&mut self, db: &Database, database: String) -> Change {
        let id = format!("{}-c{}", self.number, self.random.of(0..3));
        let actor = format!("client{}", self.number);
        let found = db.get(&doc_id(&id), &GetOptions::default()).await.ok();
        let found = found.map_or(Value::Null, |found| found.to().expect("a body is JSON"));
        let n = found["$ops"][&actor].as_u64().unwrap_or(0) + 1;
        let element = format!("e{}", self.random.of(0..5));
        let operations =
            json!({"actor": actor, "n": n, "inc": {"count": 1}, "add": {"set": [element]}});
        Change::Operate { database, id, operations }
    }

    /// The next edit of a document that may be there.
    async fn edit(&mut self, db: &Database, id: &str) -> Value {
        let length = if self.random.one_in(20) { 40_000 } else { self.random.of(0..2_000) };
        let text = self.random.text(length);
        let mut doc = json!({"_id": id, "made": self.made, "text": text});
        if let Some(rev) = winner(db, id).await {
            doc["_rev"] = json!(rev);
        }
        doc
    }

    /// A replicated revision that follows the winning rev, or begins a branch at its root.
    async fn branch(&mut self, db: &Database, id: &str) -> Value {
        let options = GetOptions { revs: true, ..GetOptions::default() };
        let path = db.get(&doc_id(id), &options).await.ok().and_then(|document| document.path());
        let mut hashes: Vec<String> = path
            .map_or_else(Vec::new, |path| path.revs().map(|rev| rev.hash().to_string()).collect());
        if self.random.one_in(4) {
            hashes.drain(..hashes.len().saturating_sub(1));
        }
        hashes.insert(0, format!("{:032x}", u128::from(self.random.next())));
        let generation = hashes.len();
        json!({
            "_id": id,
            "_rev": format!("{generation}-{}", hashes[0]),
            "_revisions": {"start": generation, "ids": hashes},
            "_deleted": self.random.one_in(3),
            "made": self.made,
        })
    }
}

fn edits(database: String, docs: Vec<Value>) -> Change {
    Change::Write { database, docs, mode: EditMode::Edit }
}

/// Revisions of a document's leaves.
async fn leaves_of(db: &Database, id: &str) -> Vec<String> {
    let trees = db.rev_trees(&[doc_id(id)]).await.expect("a model can be read");
    let leaves = trees.into_iter().flatten().flat_map(|tree| tree.leaves());
    leaves.map(|leaf| leaf.rev.to_string()).collect()
}

async fn winner(db: &Database, id: &str) -> Option<String> {
    let found = db.get(&doc_id(id), &GetOptions::default()).await.ok()?;
    found.rev.map(|rev| rev.to_string())
}
