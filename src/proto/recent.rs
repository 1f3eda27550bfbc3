//! Which revisions went by lately, so that they are not sent back to where they came from.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use crate::doc::{DocId, Rev};

/// Revisions remembered at most; an older one is forgotten, and may then be sent back, which costs
/// a message and changes nothing.
const REVS_MAX: usize = 16_384;

/// A bounded memory of revisions.
#[derive(Debug, Default)]
pub struct RecentRevs {
    // Hashes with a random key, not the ids themselves: 16 bytes a revision.
    known: HashSet<u64>,
    order: VecDeque<u64>,
    hasher: RandomState,
}

impl RecentRevs {
    fn hash(&self, id: &DocId, rev: &Rev) -> u64 {
        self.hasher.hash_one((id, rev))
    }

    /// Remembers a revision.
    pub fn insert(&mut self, id: &DocId, rev: &Rev) {
        let hash = self.hash(id, rev);
        if !self.known.insert(hash) {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > REVS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether all of a document's leaves went by. Only then may a change be left out: a leaf of
    /// somebody else's must arrive.
    pub fn contains_all<'a>(&self, id: &DocId, revs: impl IntoIterator<Item = &'a Rev>) -> bool {
        !self.known.is_empty()
            && revs.into_iter().all(|rev| self.known.contains(&self.hash(id, rev)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest_and_wants_every_leaf() {
        let id = DocId::parse("a", 10).unwrap();
        let rev = |n: usize| Rev::parse(&format!("1-{n}")).unwrap();
        let mut recent = RecentRevs::default();
        assert!(!recent.contains_all(&id, [&rev(0)]));
        for n in 0..=REVS_MAX {
            recent.insert(&id, &rev(n));
            recent.insert(&id, &rev(n));
        }
        assert!(!recent.contains_all(&id, [&rev(0)]));
        assert!(recent.contains_all(&id, [&rev(1), &rev(REVS_MAX)]));
        assert!(!recent.contains_all(&id, [&rev(1), &rev(REVS_MAX + 1)]));
        let other = DocId::parse("b", 10).unwrap();
        assert!(!recent.contains_all(&other, [&rev(1)]));
    }
}
