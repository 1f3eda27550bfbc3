//! The process whose calls are written down: it writes, and says after each acknowledgement which.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use settee::doc::{Attachment, Body, LocalId};
use settee::store::{CompactOptions, EditMode, WriteOutcome};
use settee::{Database, DbName, DocId, Document, Limits, Rev, Store};

use super::script::{Edit, Op, SHARED, Script, file, own_name, text};
use super::{OPS, WRITERS};

pub fn name(database: &str) -> DbName {
    DbName::parse(database).expect("a good name")
}

pub fn doc_id(id: &str) -> DocId {
    DocId::parse(id, 1024).expect("a good id")
}

pub fn local_id(id: &str) -> LocalId {
    LocalId::parse(id, 1024).expect("a good id")
}

/// The document that an edit makes, after a revision.
pub fn document(writer: usize, op: usize, edit: &Edit, rev: Option<Rev>) -> Document {
    let body = json!({"op": op, "text": text(writer, op, edit)});
    let mut document = Document::new(&edit.id, &body).expect("a good document");
    if let Some(file) = file(writer, op, edit) {
        document = document.with_attachment("file", Attachment::inline("text/plain", file));
    }
    Document { rev, deleted: edit.deleted, ..document }
}

pub fn local_body(op: usize) -> Body {
    Body::parse(&json!({"op": op}).to_string(), &Limits::default()).expect("a good body")
}

struct Writer {
    number: usize,
    script: Script,
    done: usize,
    /// Of documents, with whether they are deleted.
    revs: BTreeMap<(String, String), Rev>,
}

impl Writer {
    /// Goes on until so many operations are done.
    async fn run(mut self, store: Store, until: usize) -> Self {
        while self.done < until {
            let op = self.script.ops[self.done].clone();
            self.make(&store, &op).await;
            println!("acknowledged {} {}", self.number, self.done);
            self.done += 1;
        }
        self
    }

    fn database(&self, own: bool) -> DbName {
        if own { name(&own_name(self.number)) } else { name(SHARED) }
    }

    async fn make(&mut self, store: &Store, op: &Op) {
        match op {
            Op::Create => drop(store.create(&self.database(true)).await.expect("it is made")),
            Op::Destroy => {
                store.destroy(&self.database(true)).await.expect("it is destroyed");
                self.revs.retain(|(database, _), _| database == SHARED);
            }
            Op::Docs { own, docs, group } => {
                let db = store.database(&self.database(*own)).await.expect("it is there");
                let documents = docs.iter().map(|edit| self.document(&db, edit)).collect();
                let outcomes = if *group {
                    db.write_group(documents, EditMode::Edit).await
                } else {
                    db.bulk_docs(documents, EditMode::Edit).await
                };
                self.note(&db, outcomes.expect("it is written"));
            }
            Op::Pair { own, docs } => {
                let db = store.database(&self.database(*own)).await.expect("it is there");
                let [a, b] = docs.each_ref().map(|edit| db.put(self.document(&db, edit)));
                let (a, b) = tokio::join!(a, b);
                self.note(&db, vec![Ok(a.expect("it is written")), Ok(b.expect("it is written"))]);
            }
            Op::Purge { id } => {
                let db = store.database(&name(SHARED)).await.expect("it is there");
                let rev = self.revs.remove(&(SHARED.to_owned(), id.clone())).expect("it is known");
                db.purge(&[(doc_id(id), vec![rev])]).await.expect("it is purged");
            }
            Op::Local { own, id } => {
                let db = store.database(&self.database(*own)).await.expect("it is there");
                let written = db.set_local(&local_id(id), local_body(self.done)).await;
                written.expect("it is written");
            }
        }
    }

    fn document(&self, db: &Database, edit: &Edit) -> Document {
        let rev = self.revs.get(&(db.name().to_string(), edit.id.clone())).cloned();
        document(self.number, self.done, edit, rev)
    }

    fn note(&mut self, db: &Database, outcomes: Vec<WriteOutcome>) {
        for outcome in outcomes {
            let written = outcome.expect("nobody else writes it");
            self.revs.insert((db.name().to_string(), written.id.to_string()), written.rev);
        }
    }
}

/// Writes to a data directory, which is closed and opened, compacted, and rewritten in between.
pub async fn write(data: &Path, seed: u64) {
    let writer = |number| {
        let script = Script::new(seed, number, OPS);
        Writer { number, script, done: 0, revs: BTreeMap::new() }
    };
    let mut writers: Vec<Writer> = (0..WRITERS).map(writer).collect();
    for part in 1..=PARTS {
        let store = Store::open(data).expect("it opens");
        let shared = store.open_or_create(&name(SHARED)).await.expect("it is made");
        println!("shared");
        let runs = writers.drain(..).map(|writer| writer.run(store.clone(), OPS * part / PARTS));
        let runs: Vec<_> = runs.map(tokio::spawn).collect();
        for run in runs {
            writers.push(run.await.expect("writers do not panic"));
        }
        if part == 2 {
            let options = CompactOptions {
                upload_age: Duration::ZERO,
                gently: false,
                ..CompactOptions::default()
            };
            shared.compact(options).await.expect("it is compacted");
        }
        drop(shared);
        store.close().await.expect("it closes");
        if part == 3 {
            Store::rewrite(data).expect("it is rewritten");
        }
    }
}

const PARTS: usize = 4;
