//! A revision tree as sets of revisions and edges, written to be obvious instead of fast.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use settee::doc::{Leaf, Rev, RevPath, RevState};

#[derive(Default)]
pub struct Model {
    pub revs: BTreeMap<Rev, RevState>,
    /// Child and parent.
    pub edges: BTreeSet<(Rev, Rev)>,
}

impl Model {
    pub fn insert(&mut self, path: &RevPath, state: RevState) {
        for rev in path.revs() {
            self.revs.entry(rev).or_default();
        }
        self.edges.extend(path.revs().zip(path.revs().skip(1)));
        let leaf = self.revs.get_mut(&path.leaf()).expect("it was entered above");
        leaf.deleted |= state.deleted;
        leaf.body_bytes = leaf.body_bytes.max(state.body_bytes);
    }

    /// In falling rank.
    pub fn leaves(&self) -> Vec<Leaf> {
        let is_leaf = |rev: &Rev| self.edges.iter().all(|(_, parent)| parent != rev);
        let all = self.revs.iter().map(|(rev, state)| Leaf { rev: rev.clone(), state: *state });
        let mut leaves: Vec<Leaf> = all.filter(|leaf| is_leaf(&leaf.rev)).collect();
        leaves.sort_by_key(|leaf| {
            let hash = leaf.rev.hash().to_string().into_bytes();
            (leaf.state.deleted, Reverse((leaf.rev.generation(), hash)))
        });
        leaves
    }

    pub fn leaves_from(&self, rev: &Rev) -> Vec<Leaf> {
        let mut family = BTreeSet::from([rev]);
        loop {
            let children = self.edges.iter().filter(|(_, parent)| family.contains(parent));
            let children: Vec<&Rev> = children.map(|(child, _)| child).collect();
            let before = family.len();
            family.extend(children);
            if family.len() == before {
                break;
            }
        }
        self.leaves().into_iter().filter(|leaf| family.contains(&leaf.rev)).collect()
    }

    /// Along the greatest parent of each.
    pub fn path_of(&self, rev: &Rev) -> Vec<Rev> {
        let parents = self.edges.iter().filter(|(child, _)| child == rev);
        let ancestors = parents.map(|(_, parent)| parent).max().map(|p| self.path_of(p));
        std::iter::once(rev.clone()).chain(ancestors.unwrap_or_default()).collect()
    }

    /// Keeps what is fewer than `limit` steps from a leaf.
    pub fn stem(&mut self, limit: u32) {
        let mut kept: BTreeSet<Rev> = self.leaves().into_iter().map(|leaf| leaf.rev).collect();
        for _ in 1..limit {
            let parents = self.edges.iter().filter(|(child, _)| kept.contains(child));
            let parents: Vec<Rev> = parents.map(|(_, parent)| parent.clone()).collect();
            kept.extend(parents);
        }
        self.revs.retain(|rev, _| kept.contains(rev));
        self.edges.retain(|(child, parent)| kept.contains(child) && kept.contains(parent));
    }
}
