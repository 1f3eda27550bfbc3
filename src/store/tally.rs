//! How a changed document changes its database's counters.

use super::backend::Counts;
use crate::doc::RevTree;

/// What one document adds to its database's counters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    deleted: bool,
    body_bytes: u64,
    leaf_bytes: u64,
}

impl Tally {
    /// Of a tree and whether its winning rev is a tombstone.
    pub(super) fn new(tree: &RevTree, deleted: bool) -> Self {
        let body_bytes = tree.revs().filter_map(|(_, state)| state.body_bytes).map(u64::from).sum();
        Self { deleted, body_bytes, leaf_bytes: tree.leaf_bytes() }
    }

    /// With bytes of old bodies that the tree does not tell.
    #[cfg(feature = "sled")]
    pub(super) fn with_older(self, bytes: u64) -> Self {
        Self { body_bytes: self.body_bytes + bytes, ..self }
    }

    /// Of a tree that was stored.
    pub(super) fn of(tree: &RevTree) -> Self {
        Self::new(tree, tree.winner().is_none_or(|leaf| leaf.state.deleted))
    }
}

impl Counts {
    /// Counts a document's change, which takes the next update seq; answers that.
    pub(super) fn change(&mut self, old: Option<Tally>, new: Tally) -> u64 {
        if let Some(old) = old {
            self.take(old);
        }
        self.add(new);
        self.update_seq += 1;
        self.update_seq
    }

    /// Counts a document that changed without a place in the changes feed.
    pub(super) fn rewrite(&mut self, old: Tally, new: Tally) {
        self.take(old);
        self.add(new);
    }

    /// Counts a document's purge. What is left of it takes the next update seq, as does its
    /// vanishing, so that whoever compares seqs notices; answers that.
    pub(super) fn purge(&mut self, old: Tally, new: Option<Tally>) -> u64 {
        self.take(old);
        new.into_iter().for_each(|new| self.add(new));
        self.purge_seq += 1;
        self.update_seq += 1;
        self.update_seq
    }

    fn add(&mut self, new: Tally) {
        *(if new.deleted { &mut self.deleted_docs } else { &mut self.docs }) += 1;
        self.body_bytes += new.body_bytes;
        self.leaf_bytes += new.leaf_bytes;
    }

    /// Saturates: counters that were damaged must not end the committer.
    fn take(&mut self, old: Tally) {
        let counter = if old.deleted { &mut self.deleted_docs } else { &mut self.docs };
        *counter = counter.saturating_sub(1);
        self.body_bytes = self.body_bytes.saturating_sub(old.body_bytes);
        self.leaf_bytes = self.leaf_bytes.saturating_sub(old.leaf_bytes);
    }
}
