//! How a changed document changes its database's counters.

use super::backend::Counts;
use crate::doc::RevTree;

/// What one document adds to its database's counters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    deleted: bool,
    body_bytes: u64,
}

impl Tally {
    /// Of a tree and whether its winning rev is a tombstone.
    pub(super) fn new(tree: &RevTree, deleted: bool) -> Self {
        let body_bytes = tree.revs().filter_map(|(_, state)| state.body_bytes).map(u64::from).sum();
        Self { deleted, body_bytes }
    }

    /// Of a tree that was stored.
    pub(super) fn of(tree: &RevTree) -> Self {
        Self::new(tree, tree.winner().is_none_or(|leaf| leaf.state.deleted))
    }
}

impl Counts {
    /// Counts a document's change, which takes the next update seq; answers that.
    ///
    /// Subtractions saturate: counters that were damaged must not end the committer.
    pub(super) fn change(&mut self, old: Option<Tally>, new: Tally) -> u64 {
        if let Some(old) = old {
            let counter = if old.deleted { &mut self.deleted_docs } else { &mut self.docs };
            *counter = counter.saturating_sub(1);
            self.body_bytes = self.body_bytes.saturating_sub(old.body_bytes);
        }
        *(if new.deleted { &mut self.deleted_docs } else { &mut self.docs }) += 1;
        self.body_bytes += new.body_bytes;
        self.update_seq += 1;
        self.update_seq
    }
}
