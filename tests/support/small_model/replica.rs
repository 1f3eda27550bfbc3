//! One database of the model: revision trees, a changes feed, checkpoint documents.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use settee::doc::{Leaf, Rev, RevHash, RevPath, RevState, RevTree};
use settee::proto::checkpoint::Checkpoint;

use super::flow::Way;

/// A document's id: an index.
pub type Doc = u8;

/// Every revision, with the place among them of the one that it came from.
type History = Vec<(Rev, Option<usize>)>;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree(pub Arc<RevTree>);

impl Hash for Tree {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = Vec::new();
        self.0.encode(&mut bytes);
        bytes.hash(state);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved(pub Arc<Checkpoint>);

impl Hash for Saved {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.0.session_id, &self.0.last_seq).hash(state);
        for entry in &self.0.history {
            (&entry.session_id, &entry.last_seq).hash(state);
        }
    }
}

/// What is stored: it outlives a crash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Replica {
    /// Documents with the update seqs of their last changes.
    pub docs: BTreeMap<Doc, (u64, Tree)>,
    pub seq: u64,
    /// By the client and the direction that they belong to.
    pub checkpoints: BTreeMap<(usize, Way), Saved>,
    /// Revisions whose writer was told that they are stored here.
    pub acknowledged: BTreeSet<(Doc, Rev)>,
}

impl Replica {
    pub fn tree(&self, doc: Doc) -> Arc<RevTree> {
        self.docs.get(&doc).map(|(_, tree)| Arc::clone(&tree.0)).unwrap_or_default()
    }

    pub fn has(&self, doc: Doc, rev: &Rev) -> bool {
        self.docs.get(&doc).is_some_and(|(_, tree)| tree.0.contains(rev))
    }

    /// The first document after a place of the feed, with that document's place.
    pub fn change_after(&self, since: u64) -> Option<(u64, Doc)> {
        let later = self.docs.iter().filter(|(_, (seq, _))| *seq > since);
        later.map(|(doc, (seq, _))| (*seq, *doc)).min()
    }

    /// Writes revisions that somebody else made.
    pub fn write(&mut self, doc: Doc, paths: &[Tree]) {
        let before = self.tree(doc);
        let merge = |tree: Arc<RevTree>, path: &Tree| Arc::new(tree.merge(&path.0));
        let after = paths.iter().fold(Arc::clone(&before), merge);
        if after != before {
            self.seq += 1;
            self.docs.insert(doc, (self.seq, Tree(after)));
        }
        for path in paths {
            let written = path.0.leaves().into_iter().map(|leaf| (doc, leaf.rev));
            self.acknowledged.extend(written);
        }
    }

    /// The revision of an edit, on top of a leaf.
    pub fn edit(&mut self, doc: Doc, parent: Option<&Rev>, hash: u8, deleted: bool) {
        let tree = self.tree(doc);
        let mut hashes = vec![RevHash::from_digest([hash; 16])];
        let ancestors = parent.and_then(|parent| tree.path_of(parent));
        hashes.extend(ancestors.iter().flat_map(|path| path.hashes().to_vec()));
        let start = parent.map_or(1, |parent| parent.generation() + 1);
        let path = RevPath::new(start, hashes).expect("a parent has one generation less");
        self.write(doc, &[of_path(&path, deleted)]);
    }

    /// A revision with its history, as a fetch brings it.
    pub fn fetch(&self, doc: Doc, rev: &Rev) -> Tree {
        let tree = self.tree(doc);
        let path = tree.path_of(rev).expect("a leaf that was listed stays known");
        of_path(&path, tree.state(rev).is_some_and(|state| state.deleted))
    }

    /// What readers see of every document.
    pub fn shown(&self) -> Vec<(Doc, Vec<Leaf>, History)> {
        let shown = self.docs.iter().map(|(doc, (_, tree))| {
            let nodes = tree.0.nodes().map(|(rev, _, parent)| (rev.clone(), parent));
            (*doc, tree.0.leaves(), nodes.collect())
        });
        shown.collect()
    }
}

fn of_path(path: &RevPath, deleted: bool) -> Tree {
    Tree(Arc::new(RevTree::from_path(path, RevState { deleted, body_bytes: None })))
}
