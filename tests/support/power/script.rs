//! What each writer does, drawn from a seed, and what is then there.

use std::collections::{BTreeMap, BTreeSet};

use crate::random::Random;

/// The database that all writers write to, each its own documents.
pub const SHARED: &str = "shared";
/// A batch of more documents may be stored in parts.
pub const ATOMIC_DOCS_MAX: usize = 100;
const DOCS: u64 = 30;

/// One document as it is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    pub id: String,
    pub text: usize,
    pub deleted: bool,
    /// Bytes of its attachment.
    pub file: Option<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    Create,
    Destroy,
    Docs {
        own: bool,
        docs: Vec<Edit>,
        group: bool,
    },
    /// Two documents at the same time.
    Pair {
        own: bool,
        docs: [Edit; 2],
    },
    Purge {
        id: String,
    },
    Local {
        own: bool,
        id: String,
    },
}

/// A document as it was written last.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub op: usize,
    pub generation: u64,
    pub edit: Edit,
}

/// What a writer's operations so far amount to. The database's name comes first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    pub own: bool,
    pub docs: BTreeMap<(String, String), Written>,
    pub locals: BTreeMap<(String, String), usize>,
}

pub fn own_name(writer: usize) -> String {
    format!("own{writer}")
}

fn database(writer: usize, own: bool) -> String {
    if own { own_name(writer) } else { SHARED.to_owned() }
}

/// The text of a document, which tells by whom and when it was written.
pub fn text(writer: usize, op: usize, edit: &Edit) -> String {
    let mark = format!("{writer}.{op}.{} ", edit.id);
    let mut text = mark.repeat(edit.text / mark.len() + 1);
    text.truncate(edit.text);
    text
}

pub fn file(writer: usize, op: usize, edit: &Edit) -> Option<Vec<u8>> {
    let length = edit.file?;
    let mark = format!("{writer}.{op}.{};", edit.id).into_bytes();
    Some(mark.repeat(length / mark.len() + 1)[..length].to_vec())
}

impl State {
    pub fn apply(&mut self, writer: usize, number: usize, op: &Op) {
        match op {
            Op::Create => self.own = true,
            Op::Destroy => {
                self.own = false;
                self.docs.retain(|(database, _), _| database == SHARED);
                self.locals.retain(|(database, _), _| database == SHARED);
            }
            Op::Docs { own, docs, .. } => self.write(&database(writer, *own), number, docs),
            Op::Pair { own, docs } => self.write(&database(writer, *own), number, docs),
            Op::Purge { id } => drop(self.docs.remove(&(SHARED.to_owned(), id.clone()))),
            Op::Local { own, id } => {
                self.locals.insert((database(writer, *own), id.clone()), number);
            }
        }
    }

    fn write(&mut self, database: &str, number: usize, docs: &[Edit]) {
        for edit in docs {
            let key = (database.to_owned(), edit.id.clone());
            let generation = self.docs.get(&key).map_or(0, |written| written.generation) + 1;
            self.docs.insert(key, Written { op: number, generation, edit: edit.clone() });
        }
    }
}

/// Operations, and the state before the first and after each.
pub struct Script {
    pub ops: Vec<Op>,
    pub states: Vec<State>,
}

impl Script {
    pub fn new(seed: u64, writer: usize, count: usize) -> Self {
        let mut random = Random::new(seed ^ (writer as u64 + 1) << 40);
        let mut state = State::default();
        let (mut ops, mut states) = (Vec::new(), vec![state.clone()]);
        for number in 0..count {
            let op = next(&mut random, writer, number, &state);
            state.apply(writer, number, &op);
            ops.push(op);
            states.push(state.clone());
        }
        Self { ops, states }
    }
}

fn next(random: &mut Random, writer: usize, number: usize, state: &State) -> Op {
    let own = state.own && random.one_in(4);
    match random.of(0..100) {
        0..8 if !state.own => Op::Create,
        0..3 => Op::Destroy,
        8..20 => {
            let first = random.of(0..DOCS);
            let docs = [first, (first + 1) % DOCS];
            let own = state.own;
            Op::Pair { own, docs: docs.map(|doc| with_file(random, writer, doc)) }
        }
        20..26 if !state.docs.is_empty() => {
            let shared: BTreeSet<&String> = state
                .docs
                .keys()
                .filter(|key| key.0 == SHARED && !key.1.starts_with("log"))
                .map(|key| &key.1)
                .collect();
            match shared.first() {
                Some(id) => Op::Purge { id: (*id).clone() },
                None => Op::Local { own, id: writer.to_string() },
            }
        }
        26..34 => Op::Local { own, id: format!("{writer}-{}", random.of(0..3)) },
        chosen => {
            let group = chosen < 55;
            let count = match random.of(0..10) {
                0 => random.of(100..180),
                1..4 => random.of(30..100),
                _ => random.of(1..12),
            };
            // The first document counts too.
            let count = if group { count.min(ATOMIC_DOCS_MAX as u64 - 1) } else { count };
            // More than a segment of sled's log.
            let long = !group && random.one_in(20);
            let count = if long { 150 } else { count };
            let mut docs = vec![Edit {
                id: format!("log-{writer}-{number:03}"),
                text: 10,
                deleted: false,
                file: None,
            }];
            // No document twice.
            let first = random.of(0..DOCS);
            for n in 0..count {
                let many = if count > DOCS { "many" } else { "doc" };
                let doc = if count > DOCS { n } else { (first + n) % DOCS };
                let id = format!("{many}-{writer}-{doc:03}");
                let known = state.docs.get(&(database(writer, own), id.clone()));
                let deleted = known.is_some_and(|doc| !doc.edit.deleted) && random.one_in(6);
                let text = match random.of(0..40) {
                    _ if long => random.of(5_000..15_000),
                    0 => random.of(20_000..60_000),
                    1..4 => random.of(2_000..8_000),
                    _ => random.of(20..900),
                };
                let file = (!deleted && random.one_in(30)).then(|| random.of(1..30_000) as usize);
                docs.push(Edit { id, text: text as usize, deleted, file });
            }
            Op::Docs { own, docs, group }
        }
    }
}

/// A document with an attachment that becomes a file.
fn with_file(random: &mut Random, writer: usize, doc: u64) -> Edit {
    let file = Some(random.of(33_000..90_000) as usize);
    Edit { id: format!("doc-{writer}-{doc:03}"), text: 50, deleted: false, file }
}
