//! The revision tree of one document: every revision that is known, and which came from which.
//!
//! The idea: a tree is a set of revisions and a set of edges from parent to child, and merging two
//! trees is the union of both sets. A union commutes, associates and is idempotent, so replicas
//! that saw the same revisions in any order hold the same tree. A leaf is a revision without a
//! child; the winning rev is chosen among the leaves by a rule that looks at nothing else.
//!
//! The hard case is cut histories. Ancestors older than `revs_limit` are stemmed, and a replica may
//! send a revision with few of its ancestors or none. A branch whose root is not the document's
//! first revision is then a root of its own, and joins its ancestors when an edge to them becomes
//! known. CouchDB (`couch_key_tree.erl`) and PouchDB (`pouchdb-merge`) find the place by comparing
//! paths; for revisions that have one parent each, which is every revision that an honest replica
//! makes, the leaves are the same, but that PouchDB may take a known ancestor that is sent again for
//! a leaf (see `tests/pouchdb_merge.rs`). Where two histories give one revision two parents, both
//! edges are kept, where theirs hold the revision twice: the set of leaves agrees.

mod codec;
mod trunk;

use super::rev::{Rev, RevPath};

/// What is known of one revision beside its place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RevState {
    /// Whether it deletes the document. A tombstone may have children: the document came back.
    pub deleted: bool,
    /// Bytes of its stored body record; `None` when the body is not stored (an ancestor that was
    /// only named, or one that compaction removed).
    pub body_bytes: Option<u32>,
}

impl RevState {
    fn union(self, other: Self) -> Self {
        Self {
            deleted: self.deleted | other.deleted,
            body_bytes: self.body_bytes.max(other.body_bytes),
        }
    }
}

/// A leaf: a revision without a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The revision.
    pub rev: Rev,
    /// What is known of it.
    pub state: RevState,
}

impl Leaf {
    /// CouchDB's order of leaves: open before deleted, then generation, then hash; greatest wins.
    fn rank(&self) -> (bool, &Rev) {
        (!self.state.deleted, &self.rev)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    rev: Rev,
    /// Index of the greatest known parent. Parents have a lower generation, hence a lower index.
    parent: Option<u32>,
    state: RevState,
}

/// All known revisions of one document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevTree {
    /// In ascending order of revision.
    nodes: Vec<Node>,
    /// Further parents of nodes that histories disagree about, `(child, parent)`, sorted. Empty for
    /// all that honest replicas make.
    more_parents: Vec<(u32, u32)>,
}

/// What a target lacks of a document's revisions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevsDiff {
    /// The revisions asked about that are not in the tree, in the order asked.
    pub missing: Vec<Rev>,
    /// Leaves that may be ancestors of a missing revision, since their generation is lower.
    pub possible_ancestors: Vec<Rev>,
}

impl RevTree {
    /// A tree of one path, whose newest revision has `state`.
    #[must_use]
    pub fn from_path(path: &RevPath, state: RevState) -> Self {
        let mut nodes: Vec<Node> = path
            .revs()
            .rev()
            .enumerate()
            .map(|(index, rev)| Node {
                rev,
                parent: index.checked_sub(1).map(index_u32),
                state: RevState::default(),
            })
            .collect();
        if let Some(leaf) = nodes.last_mut() {
            leaf.state = state;
        }
        Self { nodes, more_parents: Vec::new() }
    }

    /// Whether no revision is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Number of known revisions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The union of two trees.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        if self.is_empty() {
            return other.clone();
        }
        if other.is_empty() {
            return self.clone();
        }
        let mut nodes = Vec::with_capacity(self.nodes.len() + other.nodes.len());
        let mut places =
            (Vec::with_capacity(self.nodes.len()), Vec::with_capacity(other.nodes.len()));
        let (mut left, mut right) = (self.nodes.iter().peekable(), other.nodes.iter().peekable());
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(a), Some(b)) => a.rev.cmp(&b.rev),
            };
            let place = index_u32(nodes.len());
            let from_left = left.next_if(|_| order.is_le());
            let from_right = right.next_if(|_| order.is_ge());
            places.0.extend(from_left.map(|_| place));
            places.1.extend(from_right.map(|_| place));
            let state = from_left.map(|n| n.state).unwrap_or_default();
            let state = state.union(from_right.map(|n| n.state).unwrap_or_default());
            if let Some(node) = from_left.or(from_right) {
                nodes.push(Node { rev: node.rev.clone(), parent: None, state });
            }
        }
        let mut merged = Self { nodes, more_parents: Vec::new() };
        for (tree, places) in [(self, &places.0), (other, &places.1)] {
            for (child, parent) in tree.edges() {
                merged.add_edge(places[child as usize], places[parent as usize]);
            }
        }
        merged.settle_edges();
        merged
    }

    /// Every edge as `(child, parent)`.
    fn edges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let first = self.nodes.iter().enumerate();
        first
            .filter_map(|(child, node)| node.parent.map(|parent| (index_u32(child), parent)))
            .chain(self.more_parents.iter().copied())
    }

    /// Adds an edge; [`Self::settle_edges`] must follow the last one.
    fn add_edge(&mut self, child: u32, parent: u32) {
        let node = &mut self.nodes[child as usize];
        let other = match node.parent {
            None => {
                node.parent = Some(parent);
                return;
            }
            Some(known) if known == parent => return,
            Some(known) => {
                node.parent = Some(known.max(parent));
                (child, known.min(parent))
            }
        };
        self.more_parents.push(other);
    }

    /// Puts what [`Self::add_edge`] collected in order.
    fn settle_edges(&mut self) {
        self.more_parents.sort_unstable();
        self.more_parents.dedup();
    }

    fn find(&self, rev: &Rev) -> Option<usize> {
        self.nodes.binary_search_by(|node| node.rev.cmp(rev)).ok()
    }

    /// Whether the revision is known, as a leaf or as an ancestor, with a body or without.
    #[must_use]
    pub fn contains(&self, rev: &Rev) -> bool {
        self.find(rev).is_some()
    }

    /// What is known of a revision.
    #[must_use]
    pub fn state(&self, rev: &Rev) -> Option<RevState> {
        self.find(rev).map(|index| self.nodes[index].state)
    }

    /// Every revision, ascending, with what is known of it.
    pub fn revs(&self) -> impl Iterator<Item = (&Rev, RevState)> {
        self.nodes.iter().map(|node| (&node.rev, node.state))
    }

    /// The same with the place among them of the revision's greatest known parent.
    pub fn nodes(&self) -> impl Iterator<Item = (&Rev, RevState, Option<usize>)> {
        self.nodes.iter().map(|node| (&node.rev, node.state, node.parent.map(|p| p as usize)))
    }

    /// The leaves, the winning one first, the others in falling rank.
    #[must_use]
    pub fn leaves(&self) -> Vec<Leaf> {
        let mut leaves: Vec<Leaf> = self.leaf_indices().map(|index| self.leaf_at(index)).collect();
        leaves.sort_by(|a, b| b.rank().cmp(&a.rank()));
        leaves
    }

    fn leaf_at(&self, index: usize) -> Leaf {
        Leaf { rev: self.nodes[index].rev.clone(), state: self.nodes[index].state }
    }

    fn leaf_indices(&self) -> impl Iterator<Item = usize> + '_ {
        let mut has_child = vec![false; self.nodes.len()];
        for (_, parent) in self.edges() {
            has_child[parent as usize] = true;
        }
        has_child.into_iter().enumerate().filter(|(_, has)| !has).map(|(index, _)| index)
    }

    /// Bytes of the leaves' bodies.
    #[must_use]
    pub fn leaf_bytes(&self) -> u64 {
        let bytes = self.leaf_indices().filter_map(|index| self.nodes[index].state.body_bytes);
        bytes.map(u64::from).sum()
    }

    /// Revisions whose bodies are stored although they are no leaves, ascending.
    #[must_use]
    pub fn old_bodies(&self) -> Vec<Rev> {
        let mut is_leaf = vec![false; self.nodes.len()];
        self.leaf_indices().for_each(|index| is_leaf[index] = true);
        let old = self.nodes.iter().zip(is_leaf).filter(|(_, is_leaf)| !is_leaf);
        let stored = old.filter(|(node, _)| node.state.body_bytes.is_some());
        stored.map(|(node, _)| node.rev.clone()).collect()
    }

    /// The tree as if leaves and those of their ancestors that have no other descendants had never
    /// been known; and which of `revs` were leaves and went, with CouchDB's rule: a revision that
    /// is no leaf stays (`couch_key_tree:remove_leafs`).
    #[must_use]
    pub fn without(&self, revs: &[Rev]) -> (Self, Vec<Rev>) {
        let mut children = vec![0_u32; self.nodes.len()];
        self.edges().for_each(|(_, parent)| children[parent as usize] += 1);
        let mut goes = vec![false; self.nodes.len()];
        let mut gone = Vec::new();
        let mut pending = Vec::new();
        for rev in revs {
            if let Some(index) = self.find(rev).filter(|&index| children[index] == 0)
                && !std::mem::replace(&mut goes[index], true)
            {
                gone.push(rev.clone());
                pending.push(index_u32(index));
            }
        }
        while let Some(child) = pending.pop() {
            for (_, parent) in self.edges().filter(|(c, _)| *c == child) {
                children[parent as usize] -= 1;
                if children[parent as usize] == 0 {
                    goes[parent as usize] = true;
                    pending.push(parent);
                }
            }
        }
        (self.retaining(|index| !goes[index]), gone)
    }

    /// The tree of some of its revisions, and the edges between them.
    fn retaining(&self, keeps: impl Fn(usize) -> bool) -> Self {
        let mut places = vec![None; self.nodes.len()];
        let mut kept = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate().filter(|(index, _)| keeps(*index)) {
            places[index] = Some(index_u32(kept.len()));
            kept.push(Node { parent: None, ..node.clone() });
        }
        let mut tree = Self { nodes: kept, more_parents: Vec::new() };
        for (child, parent) in self.edges() {
            if let (Some(child), Some(parent)) = (places[child as usize], places[parent as usize]) {
                tree.add_edge(child, parent);
            }
        }
        tree.settle_edges();
        tree
    }

    /// The leaf that reads return: open before deleted, then generation, then hash.
    #[must_use]
    pub fn winner(&self) -> Option<Leaf> {
        let best = self.leaf_indices().max_by_key(|&index| {
            let node = &self.nodes[index];
            (!node.state.deleted, &node.rev)
        });
        best.map(|index| self.leaf_at(index))
    }

    /// Open leaves that do not win, the greatest first.
    #[must_use]
    pub fn conflicts(&self) -> Vec<Rev> {
        let others = self.leaves().into_iter().skip(1);
        others.filter(|leaf| !leaf.state.deleted).map(|leaf| leaf.rev).collect()
    }

    /// Whether the revision is a leaf.
    #[must_use]
    pub fn is_leaf(&self, rev: &Rev) -> bool {
        let Some(index) = self.find(rev) else { return false };
        let index = index_u32(index);
        self.edges().all(|(_, parent)| parent != index)
    }

    /// The leaves that descend from a revision (itself, if it is one), in falling rank.
    #[must_use]
    pub fn leaves_from(&self, rev: &Rev) -> Vec<Leaf> {
        let Some(start) = self.find(rev) else { return Vec::new() };
        let mut descends = vec![false; self.nodes.len()];
        descends[start] = true;
        // Children have greater indices, so one pass upwards in order of the child reaches all.
        let mut edges: Vec<(u32, u32)> = self.edges().collect();
        edges.sort_unstable();
        for (child, parent) in edges {
            if descends[parent as usize] {
                descends[child as usize] = true;
            }
        }
        let found = self.leaves().into_iter();
        found.filter(|leaf| self.find(&leaf.rev).is_some_and(|index| descends[index])).collect()
    }

    /// A revision and its known ancestors, newest first.
    #[must_use]
    pub fn path_of(&self, rev: &Rev) -> Option<RevPath> {
        let mut index = self.find(rev)?;
        let mut hashes = vec![self.nodes[index].rev.hash().clone()];
        while let Some(parent) = self.nodes[index].parent {
            index = parent as usize;
            hashes.push(self.nodes[index].rev.hash().clone());
        }
        RevPath::new(rev.generation(), hashes).ok()
    }

    /// Records that a revision's body is stored with this many bytes, or is no longer stored.
    pub fn set_body_bytes(&mut self, rev: &Rev, body_bytes: Option<u32>) {
        if let Some(index) = self.find(rev) {
            self.nodes[index].state.body_bytes = body_bytes;
        }
    }

    /// Which of `revs` are not known here, and which leaves may be their ancestors.
    #[must_use]
    pub fn revs_diff(&self, revs: &[Rev]) -> RevsDiff {
        let missing: Vec<Rev> = revs.iter().filter(|rev| !self.contains(rev)).cloned().collect();
        let Some(highest) = missing.iter().map(Rev::generation).max() else {
            return RevsDiff::default();
        };
        let possible = self.leaves().into_iter().map(|leaf| leaf.rev);
        let possible_ancestors = possible.filter(|rev| rev.generation() < highest).collect();
        RevsDiff { missing, possible_ancestors }
    }

    /// Of each revision, the steps to the nearest leaf that descends from it.
    fn steps(&self) -> Vec<u32> {
        let mut steps = vec![u32::MAX; self.nodes.len()];
        for leaf in self.leaf_indices() {
            steps[leaf] = 0;
        }
        let mut edges: Vec<(u32, u32)> = self.edges().collect();
        edges.sort_unstable_by(|a, b| b.cmp(a));
        for (child, parent) in edges {
            let through_child = steps[child as usize].saturating_add(1);
            let known = &mut steps[parent as usize];
            *known = through_child.min(*known);
        }
        steps
    }

    /// Forgets ancestors that are `limit` or more steps away from every leaf. Leaves stay.
    ///
    /// An ancestor that two branches share stays while it is near the end of one of them, so the path
    /// of the longer one can have more than `limit` revisions.
    pub fn stem(&mut self, limit: u32) {
        if self.nodes.len() <= limit as usize {
            return;
        }
        let steps = self.steps();
        if steps.iter().all(|&s| s < limit.max(1)) {
            return;
        }
        *self = self.retaining(|index| steps[index] < limit.max(1));
    }
}

fn index_u32(index: usize) -> u32 {
    u32::try_from(index).expect("a tree has fewer than 2^32 revisions: its messages are bounded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rev(text: &str) -> Rev {
        Rev::parse(text).expect(text)
    }

    /// `"3-c 2-b 1-a"`, newest first; a leading `!` makes the newest a tombstone.
    fn path(text: &str) -> RevTree {
        let (deleted, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let revs: Vec<Rev> = text.split(' ').map(rev).collect();
        let hashes = revs.iter().map(|r| r.hash().clone()).collect();
        let path = RevPath::new(revs[0].generation(), hashes).expect(text);
        RevTree::from_path(&path, RevState { deleted, body_bytes: Some(2) })
    }

    pub(super) fn tree(paths: &[&str]) -> RevTree {
        paths.iter().fold(RevTree::default(), |tree, p| tree.merge(&path(p)))
    }

    fn leaves(tree: &RevTree) -> Vec<String> {
        tree.leaves().iter().map(|leaf| leaf.rev.to_string()).collect()
    }

    #[test]
    fn leaves_go_with_what_only_they_descend_from() {
        let whole = tree(&["3-c 2-b 1-a", "3-d 2-b", "2-x 1-a"]);
        let check = |revs: &[&str], left: &[&str], went: &[&str]| {
            let revs: Vec<Rev> = revs.iter().map(|text| rev(text)).collect();
            let (tree, gone) = whole.without(&revs);
            assert_eq!(leaves(&tree), left, "{revs:?}");
            assert_eq!(gone.iter().map(ToString::to_string).collect::<Vec<_>>(), went);
            assert_eq!(tree, whole.without(&gone).0);
        };
        check(&[], &["3-d", "3-c", "2-x"], &[]);
        check(&["2-b", "9-z"], &["3-d", "3-c", "2-x"], &[]);
        check(&["3-c"], &["3-d", "2-x"], &["3-c"]);
        check(&["3-c", "3-c", "3-d"], &["2-x"], &["3-c", "3-d"]);
        check(&["3-c", "3-d", "2-x"], &[], &["3-c", "3-d", "2-x"]);
        assert!(whole.without(&[rev("3-c")]).0.contains(&rev("2-b")));
        assert!(!whole.without(&[rev("3-c"), rev("3-d")]).0.contains(&rev("2-b")));
        let two_parents = tree(&["3-c 2-b 1-a", "3-c 2-y 1-a"]);
        assert_eq!(two_parents.without(&[rev("3-c")]).0, RevTree::default());
    }

    #[test]
    fn winner_is_open_then_long_then_great() {
        let check = |paths: &[&str], expected: &[&str]| {
            assert_eq!(leaves(&tree(paths)), expected, "{paths:?}");
            let reversed: Vec<&str> = paths.iter().rev().copied().collect();
            assert_eq!(tree(paths), tree(&reversed), "order must not matter: {paths:?}");
        };
        check(&["1-a"], &["1-a"]);
        check(&["2-b 1-a", "2-c 1-a"], &["2-c", "2-b"]);
        check(&["3-a 2-b 1-a", "2-c 1-a"], &["3-a", "2-c"]);
        check(&["!3-a 2-b 1-a", "2-c 1-a"], &["2-c", "3-a"]);
        check(&["!3-a 2-b 1-a", "!2-c 1-a"], &["3-a", "2-c"]);
        check(&["10-a", "9-z"], &["10-a", "9-z"]);
        // A child of a known leaf replaces it; a known ancestor adds nothing.
        check(&["2-b 1-a", "1-a"], &["2-b"]);
        // A tombstone that got a child is no leaf any more.
        check(&["!2-b 1-a", "3-c 2-b"], &["3-c"]);
    }

    #[test]
    fn cut_histories_join_when_the_edge_is_known() {
        let apart = tree(&["5-e", "3-c 2-b"]);
        assert_eq!(leaves(&apart), ["5-e", "3-c"]);
        let joined = apart.merge(&path("5-e 4-d 3-c"));
        assert_eq!(leaves(&joined), ["5-e"]);
        assert_eq!(joined.path_of(&rev("5-e")).unwrap().hashes().len(), 4);
    }

    #[test]
    fn one_revision_with_two_parents_is_one_leaf() {
        let both = tree(&["2-x 1-a", "2-x 1-b"]);
        assert_eq!(leaves(&both), ["2-x"]);
        assert_eq!(both.path_of(&rev("2-x")).unwrap().revs().last(), Some(rev("1-b")));
        let mut bytes = Vec::new();
        both.encode(&mut bytes);
        assert_eq!(RevTree::decode(&bytes).unwrap().0, both);
    }

    #[test]
    fn stemming_keeps_leaves() {
        let mut stemmed = tree(&["5-e 4-d 3-c 2-b 1-a", "3-z 2-b 1-a"]);
        stemmed.stem(2);
        assert_eq!(leaves(&stemmed), ["5-e", "3-z"]);
        assert_eq!(stemmed.len(), 4);
        assert_eq!(stemmed.path_of(&rev("5-e")).unwrap().hashes().len(), 2);
        stemmed.stem(1);
        assert_eq!(stemmed.len(), 2);
    }

    #[test]
    fn diff_names_missing_and_possible_ancestors() {
        let known = tree(&["3-c 2-b 1-a", "2-z 1-a"]);
        let diff = known.revs_diff(&[rev("3-c"), rev("4-d"), rev("1-a")]);
        assert_eq!(diff.missing, [rev("4-d")]);
        assert_eq!(diff.possible_ancestors, [rev("3-c"), rev("2-z")]);
        assert_eq!(known.revs_diff(&[rev("2-b")]), RevsDiff::default());
        assert_eq!(known.revs_diff(&[rev("1-x")]).possible_ancestors, []);
    }

    #[test]
    fn latest_of_a_revision_is_every_leaf_below_it() {
        let known = tree(&["3-c 2-b 1-a", "3-d 2-b 1-a", "2-z 1-a"]);
        let from = |text| {
            known.leaves_from(&rev(text)).iter().map(|l| l.rev.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(from("2-b"), ["3-d", "3-c"]);
        assert_eq!(from("2-z"), ["2-z"]);
        assert_eq!(from("1-a"), ["3-d", "3-c", "2-z"]);
        assert!(from("9-q").is_empty());
    }
}
