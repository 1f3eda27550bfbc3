//! The trunk of a tree: its oldest revisions, as far as they are one chain. Long histories are
//! nearly all trunk, so a store keeps it apart from what changes with every edit.

use super::{Node, RevState, RevTree, index_u32};
use crate::doc::rev::Rev;

impl RevTree {
    /// How many of the oldest revisions are the trunk: each is alone in its generation and has
    /// the next one as its only child. The newest revision of a tree is never part of it.
    #[must_use]
    pub fn trunk_len(&self) -> usize {
        let generation = |index: usize| self.nodes.get(index).map(|node| node.rev.generation());
        let goes_on = |index: usize| {
            let child = self.nodes.get(index + 1);
            child.is_some_and(|child| child.parent == Some(index_u32(index)))
                && generation(index + 1) != generation(index + 2)
        };
        (0..self.nodes.len()).take_while(|&index| goes_on(index)).count()
    }

    /// Generation of the oldest revision; 0 if none is known.
    #[must_use]
    pub fn first_generation(&self) -> u64 {
        self.nodes.first().map_or(0, |node| node.rev.generation())
    }

    /// Steps from the oldest revision to the nearest leaf that descends from it.
    #[must_use]
    pub fn steps_to_leaf(&self) -> u32 {
        self.steps().first().copied().unwrap_or(0)
    }

    /// Parts the tree: revisions of the trunk up to a generation, the oldest first, and a tree of
    /// the others, whose oldest revision then has no parent.
    ///
    /// # Panics
    /// If a revision of that generation or below is not of the trunk.
    #[must_use]
    pub fn split_trunk(&self, top: u64) -> (Vec<(Rev, RevState)>, Self) {
        let count = self.nodes.partition_point(|node| node.rev.generation() <= top);
        assert!(count <= self.trunk_len(), "only the trunk can be parted from a tree");
        let (trunk, rest) = self.nodes.split_at(count);
        let cut = index_u32(count);
        let lowered = |node: &Node| Node {
            parent: node.parent.and_then(|parent| parent.checked_sub(cut)),
            ..node.clone()
        };
        let more = self.more_parents.iter();
        let rest = Self {
            nodes: rest.iter().map(lowered).collect(),
            more_parents: more.map(|(child, parent)| (child - cut, parent - cut)).collect(),
        };
        (trunk.iter().map(|node| (node.rev.clone(), node.state)).collect(), rest)
    }

    /// Puts a tree together again; `None` if the parts do not fit: the trunk is not a chain of
    /// generations that the oldest revision of the tree continues.
    #[must_use]
    pub fn with_trunk(trunk: Vec<(Rev, RevState)>, rest: &Self) -> Option<Self> {
        let count = index_u32(trunk.len());
        let mut nodes = Vec::with_capacity(trunk.len() + rest.nodes.len());
        for (index, (rev, state)) in trunk.into_iter().enumerate() {
            nodes.push(Node { rev, parent: index.checked_sub(1).map(index_u32), state });
        }
        for node in &rest.nodes {
            let parent = node.parent.map(|parent| parent + count);
            nodes.push(Node { parent, ..node.clone() });
        }
        if let Some(joint) = nodes.get_mut(count as usize) {
            joint.parent = count.checked_sub(1);
        }
        let mut chain = nodes.windows(2).take(count as usize);
        let fits = chain.all(|pair| pair[0].rev.generation() + 1 == pair[1].rev.generation());
        let more = rest.more_parents.iter();
        let more_parents = more.map(|(child, parent)| (child + count, parent + count)).collect();
        let tree = Self { nodes, more_parents };
        (fits && tree.trunk_len() >= count as usize).then_some(tree)
    }

    /// Whether two trees have the same revisions, in the same state, in these generations.
    #[must_use]
    pub fn same_between(&self, other: &Self, generations: std::ops::RangeInclusive<u64>) -> bool {
        let within = |tree: &'_ Self| {
            let low = tree.nodes.partition_point(|n| n.rev.generation() < *generations.start());
            let high = tree.nodes.partition_point(|n| n.rev.generation() <= *generations.end());
            low..high.max(low)
        };
        let (a, b) = (&self.nodes[within(self)], &other.nodes[within(other)]);
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.rev == b.rev && a.state == b.state)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    #[test]
    fn the_trunk_ends_where_branches_begin() {
        let check = |paths: &[&str], expected: usize| {
            assert_eq!(tree(paths).trunk_len(), expected, "{paths:?}");
        };
        check(&[], 0);
        check(&["1-a"], 0);
        check(&["3-c 2-b 1-a"], 2);
        check(&["3-c 2-b 1-a", "3-d 2-b"], 1);
        check(&["3-c 2-b 1-a", "4-x"], 2);
        check(&["3-c 2-b 1-a", "2-x"], 0);
        check(&["5-e 4-d 3-c", "9-z 8-y"], 2);
        check(&["3-c", "5-e 4-d"], 0);
    }

    #[test]
    fn parts_make_the_whole_again() {
        let whole = tree(&["5-e 4-d 3-c 2-b 1-a", "5-f 4-d", "!6-g 5-f", "9-z"]);
        for top in 0..=3 {
            let (trunk, rest) = whole.split_trunk(top);
            assert_eq!(trunk.len() as u64, top);
            assert_eq!(rest.leaves(), whole.leaves());
            assert_eq!(RevTree::with_trunk(trunk, &rest), Some(whole.clone()));
        }
    }

    #[test]
    fn a_revision_with_two_parents_keeps_them() {
        let whole = tree(&["5-e 4-d 3-c 2-b 1-a", "5-e 4-x 3-c", "6-f 5-e"]);
        for top in 0..=2 {
            let (trunk, rest) = whole.split_trunk(top);
            assert_eq!(RevTree::with_trunk(trunk, &rest), Some(whole.clone()), "{top}");
        }
    }

    #[test]
    fn the_first_generation_is_that_of_the_oldest_revision() {
        assert_eq!(tree(&[]).first_generation(), 0);
        assert_eq!(tree(&["5-e 4-d 3-c", "9-z"]).first_generation(), 3);
    }

    #[test]
    fn trees_are_the_same_where_their_revisions_and_states_are() {
        let one = tree(&["5-e 4-d 3-c 2-b 1-a"]);
        let check = |other: &str, generations: std::ops::RangeInclusive<u64>, same: bool| {
            let told = one.same_between(&tree(&[other]), generations.clone());
            assert_eq!(told, same, "{other} {generations:?}");
        };
        check("5-f 4-d 3-c 2-b 1-a", 1..=4, true);
        check("5-f 4-d 3-c 2-b 1-a", 3..=4, true);
        check("5-f 4-d 3-c 2-b 1-a", 4..=5, false);
        check("5-e 4-d 3-c 2-b 1-z", 2..=5, true);
        check("5-e 4-d 3-c 2-b 1-z", 1..=1, false);
        check("!5-e 4-d 3-c 2-b 1-a", 5..=5, false);
        check("4-d 3-c 2-b 1-a", 4..=5, false);
        check("4-d 3-c 2-b 1-a", 6..=9, true);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let whole = tree(&["5-e 4-d 3-c 2-b 1-a"]);
        let (trunk, rest) = whole.split_trunk(3);
        assert_eq!(RevTree::with_trunk(trunk[..2].to_vec(), &rest), None);
        assert_eq!(RevTree::with_trunk(vec![trunk[0].clone(), trunk[2].clone()], &rest), None);
        let branched = rest.merge(&tree(&["4-x"]));
        assert_eq!(RevTree::with_trunk(trunk, &branched), None);
    }

    #[test]
    fn the_nearest_leaf_counts() {
        assert_eq!(tree(&["5-e 4-d 3-c", "4-x 3-c"]).steps_to_leaf(), 1);
        assert_eq!(tree(&["5-e 4-d 3-c"]).steps_to_leaf(), 2);
    }
}
