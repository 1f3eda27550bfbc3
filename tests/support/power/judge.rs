//! Whether what a power loss left is what was acknowledged, and nothing torn.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use settee::store::{ChangeDocs, ChangesOptions};
use settee::{Database, Store, StoreError};

use super::script::{
    ATOMIC_DOCS_MAX, Edit, Op, SHARED, Script, State, Written, file, own_name, text,
};
use super::writer::{document, name};
use crate::soundness::check_sound;

/// A document as a store has it.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    generation: u64,
    deleted: bool,
    op: usize,
    text: String,
    file: Option<Vec<u8>>,
}

#[derive(Deserialize)]
struct Content {
    op: usize,
    text: String,
}

#[derive(Deserialize)]
struct Local {
    op: usize,
}

type Key = (String, String);

/// All that a store holds.
#[derive(Debug, Default, PartialEq)]
pub struct Contents {
    names: BTreeSet<String>,
    docs: BTreeMap<Key, Found>,
    locals: BTreeMap<Key, usize>,
    /// Documents that are written once, by their places in the feed.
    log: BTreeMap<u64, String>,
}

fn told(error: StoreError) -> String {
    error.to_string()
}

pub async fn read(store: &Store) -> Result<Contents, String> {
    let mut contents = Contents::default();
    for name in store.names(None, usize::MAX).await.map_err(told)? {
        let db = store.database(&name).await.map_err(told)?;
        contents.names.insert(name.to_string());
        read_docs(&db, &mut contents).await?;
        for local in db.locals(None, usize::MAX).await.map_err(told)? {
            let body: Local = local.body.to().map_err(|error| error.to_string())?;
            contents.locals.insert((name.to_string(), local.id.as_str().to_owned()), body.op);
        }
    }
    Ok(contents)
}

async fn read_docs(db: &Database, contents: &mut Contents) -> Result<(), String> {
    let options = ChangesOptions { docs: ChangeDocs::Winner, ..ChangesOptions::default() };
    for row in db.changes(&options).await.map_err(told)?.rows {
        let [document] = &row.docs[..] else { return Err(format!("{} has no body", row.id)) };
        let content: Content = document.to().map_err(|error| format!("{}: {error}", row.id))?;
        let mut file = None;
        if document.attachments.contains_key("file") {
            let reader = db.attachment(&row.id, "file", document.rev.as_ref()).await;
            let bytes = reader.map_err(told)?.bytes().await.map_err(told)?;
            file = Some(bytes.to_vec());
        }
        let (rev, deleted) = &row.leaves[0];
        let Content { op, text } = content;
        let found = Found { generation: rev.generation(), deleted: *deleted, op, text, file };
        let id = row.id.to_string();
        if db.name().as_str() == SHARED && id.starts_with("log") {
            contents.log.insert(row.seq.number, id.clone());
        }
        contents.docs.insert((db.name().to_string(), id), found);
    }
    Ok(())
}

/// What the look at the log says, and sled, of a part that looks damaged.
const LOOKS_DAMAGED: [&str; 2] = ["does not have its checksum at byte", "Read corrupted data"];

/// What may become of a store.
pub enum Outcome {
    Kept,
    /// It is not opened, and the error says why. What was salvaged of it is all that was acknowledged,
    /// or the problem says why not.
    Refused {
        what: String,
        salvaged: Result<(), String>,
    },
}

/// Whether a store has the seqs that were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seqs {
    AsWritten,
    /// What was salvaged has its own, in the same order.
    Anew,
}

/// What happened until the power was lost.
pub struct History<'a> {
    pub scripts: &'a [Script],
    /// Operations of each writer that were acknowledged.
    pub acknowledged: Vec<usize>,
    pub shared_acknowledged: bool,
    /// The log when nothing more happened.
    pub last: &'a Contents,
}

impl History<'_> {
    /// Opens what a power loss left, compares it, writes to it, and opens it again.
    pub async fn judge(&self, data: &Path) -> Result<Outcome, String> {
        let store = match Store::open(data) {
            Ok(store) => store,
            // By any other a store would be refused that lacks what was acknowledged.
            Err(StoreError::Damaged { what })
                if LOOKS_DAMAGED.iter().any(|words| what.contains(words)) =>
            {
                let salvaged = self.judge_salvaged(data).await;
                return Ok(Outcome::Refused { what, salvaged });
            }
            Err(error) => return Err(format!("it does not open: {error}")),
        };
        let found = read(&store).await?;
        self.compare(&found, Seqs::AsWritten)?;
        check_sound(&store).await?;
        let more = Edit { id: "more".into(), text: 100, deleted: false, file: Some(40_000) };
        let db = store.open_or_create(&name("more")).await.map_err(told)?;
        db.put(document(9, 9, &more, None)).await.map_err(told)?;
        drop(db);
        store.close().await.map_err(told)?;
        let store = Store::open(data).map_err(|error| format!("it opens only once: {error}"))?;
        let mut again = read(&store).await?;
        store.close().await.map_err(told)?;
        let written = Written { op: 9, generation: 1, edit: more };
        let is_there = again.docs.remove(&("more".into(), "more".into()));
        if !again.names.remove("more") || !is(is_there.as_ref(), Some(&written), 9) {
            return Err("what was written then is not there".into());
        }
        if again == found { Ok(Outcome::Kept) } else { Err("opened again, it differs".into()) }
    }

    /// Salvages a store that is refused, and compares what comes of it.
    async fn judge_salvaged(&self, data: &Path) -> Result<(), String> {
        let new = data.with_extension("salvaged");
        let salvaged = Store::salvage(data, &new).await.map_err(told)?;
        if let Some(lost) = salvaged.databases.iter().flat_map(|database| &database.lost).next() {
            return Err(lost.to_string());
        }
        let store = Store::open(&new).map_err(told)?;
        let found = read(&store).await?;
        self.compare(&found, Seqs::Anew)?;
        check_sound(&store).await?;
        store.close().await.map_err(told)
    }

    fn compare(&self, found: &Contents, seqs: Seqs) -> Result<(), String> {
        if self.shared_acknowledged && !found.names.contains(SHARED) {
            return Err(format!("{SHARED} is missing"));
        }
        let is_same = |((seq, id), (last_seq, last_id)): ((&u64, &String), (&u64, &String))| {
            id == last_id && (seq == last_seq || seqs == Seqs::Anew)
        };
        let all_in_order = found.log.iter().zip(&self.last.log).all(is_same);
        if found.log.len() > self.last.log.len() || !all_in_order {
            return Err(format!("not the beginning of what was written: {:?}", found.log));
        }
        let mut known = 0;
        for (writer, script) in self.scripts.iter().enumerate() {
            known += compare_writer(writer, script, self.acknowledged[writer], found)
                .map_err(|problem| format!("writer {writer}: {problem}"))?;
        }
        if known == found.docs.len() { Ok(()) } else { Err("documents of nobody".into()) }
    }
}

/// Whether a document is as it was to be written.
fn is(found: Option<&Found>, wanted: Option<&Written>, writer: usize) -> bool {
    match (found, wanted) {
        (None, None) => true,
        (Some(found), Some(wanted)) => {
            found.generation == wanted.generation
                && found.deleted == wanted.edit.deleted
                && found.op == wanted.op
                && found.text == text(writer, wanted.op, &wanted.edit)
                && found.file == file(writer, wanted.op, &wanted.edit)
        }
        _ => false,
    }
}

/// What an operation under way changes, and whether it is there.
struct Under {
    /// In the order in which it changes them.
    there: Vec<(String, bool)>,
}

impl Under {
    fn judge(&self, op: Option<&Op>) -> Result<(), String> {
        let there: Vec<bool> = self.there.iter().map(|(_, there)| *there).collect();
        let whole = there.iter().all(|there| *there) || there.iter().all(|there| !there);
        let allowed = whole
            || match op {
                Some(Op::Pair { .. }) => true,
                Some(Op::Docs { group: false, docs, .. }) if docs.len() > ATOMIC_DOCS_MAX => {
                    there.is_sorted_by(|a, b| a >= b)
                }
                _ => false,
            };
        if allowed { Ok(()) } else { Err(format!("a part of {op:?} is there: {:?}", self.there)) }
    }
}

/// Compares a writer's documents; answers how many are there.
fn compare_writer(
    writer: usize,
    script: &Script,
    acknowledged: usize,
    found: &Contents,
) -> Result<usize, String> {
    let (before, op) = (&script.states[acknowledged], script.ops.get(acknowledged));
    let after = script.states.get(acknowledged + 1).unwrap_or(before);
    let mut under = Under { there: Vec::new() };
    let own = found.names.contains(&own_name(writer));
    note(&mut under, own_name(writer), own == before.own, own == after.own)?;
    let mine = |key: &&Key| key.0 == own_name(writer) || key.1.contains(&format!("-{writer}-"));
    let docs = found.docs.keys().filter(mine).chain(before.docs.keys()).chain(after.docs.keys());
    for key in in_order(docs.collect(), op) {
        let is = |state: &State| is(found.docs.get(key), state.docs.get(key), writer);
        note(&mut under, format!("{key:?}"), is(before), is(after)).map_err(|problem| {
            format!("{problem}: {:?} after {acknowledged}", found.docs.get(key))
        })?;
    }
    let locals = before.locals.keys().chain(after.locals.keys()).collect::<BTreeSet<_>>();
    for key in locals {
        let is = |state: &State| found.locals.get(key) == state.locals.get(key);
        note(&mut under, format!("local {key:?}"), is(before), is(after))?;
    }
    under.judge(op)?;
    Ok(found.docs.keys().filter(mine).count())
}

fn note(under: &mut Under, what: String, is_before: bool, is_after: bool) -> Result<(), String> {
    match (is_before, is_after) {
        (true, true) => Ok(()),
        (false, false) => Err(format!("{what} is neither as before nor as after")),
        (_, there) => {
            under.there.push((what, there));
            Ok(())
        }
    }
}

/// Keys, those that an operation writes last and in its order.
fn in_order<'a>(keys: BTreeSet<&'a Key>, op: Option<&Op>) -> Vec<&'a Key> {
    let place = |key: &&Key| match op {
        Some(Op::Docs { docs, .. }) => docs.iter().position(|edit| edit.id == key.1),
        _ => None,
    };
    let mut keys: Vec<&Key> = keys.into_iter().collect();
    keys.sort_by_key(place);
    keys
}
