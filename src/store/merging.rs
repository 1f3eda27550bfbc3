//! One document's tree while the writes of a call are applied to it.

use super::attachments::Resolved;
use super::backend::{Older, OlderCommit, ReadTree, StagedBlob, StoredDoc};
use super::error::DocError;
use crate::doc::{BodyRecord, Document, Leaf, Rev, RevPath, RevState, RevTree, next_rev};

/// Where a write belongs in the tree.
pub(super) enum Place {
    /// It is there already, and changes nothing.
    Known(Rev),
    /// It is there already; its history tells of ancestors that were not known, as in this tree.
    Joined(Rev, RevTree),
    /// A new child of this leaf, or a first revision.
    Edit(Option<Rev>),
    /// A revision from elsewhere, with its history.
    Replicated(RevPath),
}

/// How large a tree may become.
#[derive(Debug, Clone, Copy)]
pub(super) struct TreeBounds {
    pub revs_limit: u32,
    pub leaves_max: usize,
}

pub(super) struct Merging {
    pub tree: RevTree,
    pub leaves: Vec<Leaf>,
    pub bodies: Vec<(Rev, BodyRecord)>,
    pub blobs: Vec<StagedBlob>,
    pub changed: bool,
    pub stemmed: bool,
    /// Whether `tree` has all revisions, and what the backend keeps apart.
    read: ReadTree,
    older: Older,
}

impl Merging {
    pub(super) fn new(state: &StoredDoc) -> Self {
        Self {
            leaves: state.tree.leaves(),
            tree: state.tree.clone(),
            bodies: Vec::new(),
            blobs: Vec::new(),
            changed: false,
            stemmed: false,
            read: state.read,
            older: state.older,
        }
    }

    /// The leaf that an edit replaces, by CouchDB's rules (`couch_db:prep_and_validate_update`).
    pub(super) fn edit_parent(&self, write: &Document) -> Result<Option<Rev>, DocError> {
        match (&write.rev, self.leaves.first()) {
            (None, None) => Ok(None),
            (Some(rev), Some(_)) if self.leaves.iter().any(|leaf| leaf.rev == *rev) => {
                Ok(Some(rev.clone()))
            }
            // A deleted document may be made anew without a revision, but not deleted again.
            (None, Some(winner)) if winner.state.deleted && !write.deleted => {
                Ok(Some(winner.rev.clone()))
            }
            _ => Err(DocError::Conflict),
        }
    }

    pub(super) fn replicated_place(
        &self,
        write: &Document,
        bounds: TreeBounds,
    ) -> Result<Place, DocError> {
        let path = write.path().ok_or(DocError::RevMissing)?;
        let rev = path.leaf();
        if !self.tree.contains(&rev) {
            return Ok(Place::Replicated(path));
        }
        let tree = self.grown(path, RevState::default(), bounds).0;
        Ok(if tree == self.tree { Place::Known(rev) } else { Place::Joined(rev, tree) })
    }

    /// The tree with one more path, stemmed; and whether stemming took anything. The path comes
    /// whole, since what it extends may be among the revisions that are stemmed then.
    ///
    /// A document has at most `revs_limit` revisions a leaf, unless somebody tells one history now
    /// and another one later. Such a history is taken only up to the first revision that is known,
    /// so that it cannot grow the tree without bound.
    fn grown(&self, mut path: RevPath, state: RevState, bounds: TreeBounds) -> (RevTree, bool) {
        let grow = |path: &RevPath| {
            let mut tree = self.tree.merge(&RevTree::from_path(path, state));
            let before = tree.len();
            tree.stem(bounds.revs_limit);
            let stemmed = tree.len() < before;
            (tree, stemmed)
        };
        let grown = grow(&path);
        let most = bounds.revs_limit as usize;
        if grown.0.len() <= most || grown.0.len() <= most.saturating_mul(grown.0.leaves().len()) {
            return grown;
        }
        let Some(known) = path.revs().position(|rev| self.tree.contains(&rev)) else {
            return grown;
        };
        path.truncate(known + 1);
        grow(&path)
    }

    /// Takes a tree that [`Place::Joined`] brought.
    pub(super) fn take(&mut self, tree: RevTree) {
        (self.leaves, self.tree) = (tree.leaves(), tree);
        (self.changed, self.stemmed) = (true, true);
    }

    /// Adds a write that is not there, with its attachments' bytes found.
    pub(super) fn add(
        &mut self,
        write: &Document,
        place: Place,
        resolved: Resolved,
        bounds: TreeBounds,
    ) -> Result<Rev, DocError> {
        let path = match place {
            Place::Known(rev) | Place::Joined(rev, _) => return Ok(rev),
            Place::Replicated(path) => path,
            Place::Edit(parent) => {
                let shown = crate::doc::shown_attachments(&resolved.attachments);
                let rev = next_rev(parent.as_ref(), write.deleted, &shown, &write.body)
                    .map_err(|_| last_generation(parent.as_ref()))?;
                path_to(parent, rev)
            }
        };
        let rev = path.leaf();
        let record = BodyRecord {
            attachments: resolved.attachments_of(rev.generation()),
            body: write.body.clone(),
        };
        // An edit may make the very revision that another replica sent without its history.
        let stored = self.tree.state(&rev).filter(|state| state.body_bytes.is_some());
        let state = stored.unwrap_or_else(|| RevState {
            deleted: write.deleted,
            body_bytes: record.body_bytes(),
        });
        let (tree, stemmed) = self.grown(path, state, bounds);
        let leaves = tree.leaves();
        if leaves.len() > bounds.leaves_max && leaves.len() > self.leaves.len() {
            return Err(DocError::TooManyLeaves { max: bounds.leaves_max });
        }
        self.stemmed |= stemmed;
        (self.tree, self.leaves, self.changed) = (tree, leaves, true);
        if stored.is_none() {
            self.bodies.push((rev.clone(), record));
            self.blobs.extend(resolved.staged);
        }
        Ok(rev)
    }

    /// How the tree stands to what the backend keeps apart; `before` is as it was read.
    pub(super) fn older(&self, before: &RevTree, bounds: TreeBounds) -> OlderCommit {
        let older = self.older;
        if older.is_empty() {
            return OlderCommit::default();
        }
        let oldest = self.tree.first_generation();
        match self.read {
            // The tree's oldest revision is the next after those; unless it was stemmed itself.
            ReadTree::Recent => {
                let steps = self.tree.steps_to_leaf();
                let left = u64::from(bounds.revs_limit.saturating_sub(1).saturating_sub(steps));
                let first = if oldest == older.top + 1 {
                    older.first.max(oldest.saturating_sub(left))
                } else {
                    older.top + 1
                };
                OlderCommit::Left(Older { first, ..older })
            }
            ReadTree::Whole => {
                let first = older.first.max(oldest);
                let same = first <= older.top
                    && self.tree.same_between(before, first..=older.top)
                    && oldest + self.tree.trunk_len() as u64 > older.top;
                let same = if same { Older { first, ..older } } else { Older::default() };
                OlderCommit::Same(same)
            }
        }
    }

    /// Forgets bodies that a later write of the same call stemmed; answers which stored ones were.
    pub(super) fn dropped_from(&mut self, stored: &RevTree) -> Vec<Rev> {
        let tree = &self.tree;
        self.bodies.retain(|(rev, _)| tree.contains(rev));
        let gone =
            stored.revs().filter(|(rev, state)| state.body_bytes.is_some() && !tree.contains(rev));
        gone.map(|(rev, _)| rev.clone()).collect()
    }
}

fn path_to(parent: Option<Rev>, rev: Rev) -> RevPath {
    let Some(parent) = parent else { return RevPath::single(rev) };
    let hashes = vec![rev.hash().clone(), parent.hash().clone()];
    RevPath::new(rev.generation(), hashes).expect("a child is one generation above its parent")
}

fn last_generation(parent: Option<&Rev>) -> DocError {
    parent.map_or(DocError::Conflict, |rev| DocError::LastGeneration { rev: rev.clone() })
}
