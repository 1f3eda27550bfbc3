//! What one operation on a revision tree costs, for trees of 1 and of 1,000 revisions.
//!
//! `cargo bench --bench rev_tree` prints nanoseconds per operation and how much the long tree costs
//! more than the short one.

#[path = "support/allocator.rs"]
mod allocator;

use std::hint::black_box;
use std::time::Instant;

use settee::doc::{RevHash, RevPath, RevState, RevTree};

const ROUNDS: u32 = 2_000;
const LONG: u64 = 1_000;

fn hash(of: u64) -> RevHash {
    let mut digest = [0x5e; 16];
    digest[..8].copy_from_slice(&of.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    RevHash::from_digest(digest)
}

fn path(start: u64, revs: u64) -> RevPath {
    let hashes = (0..revs).map(|age| hash(start - age)).collect();
    RevPath::new(start, hashes).expect("a path has no more revisions than generations")
}

fn tree_of(path: &RevPath) -> RevTree {
    RevTree::from_path(path, RevState { deleted: false, body_bytes: Some(100) })
}

fn nanoseconds(mut operation: impl FnMut()) -> f64 {
    operation();
    let start = Instant::now();
    (0..ROUNDS).for_each(|_| operation());
    start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
}

/// Runs an operation on a tree of so many revisions.
type Measured = fn(&RevTree, u64) -> f64;

fn measured() -> [(&'static str, Measured); 7] {
    [
        ("merge the next revision", |tree, revs| {
            let next = tree_of(&path(revs + 1, 2));
            nanoseconds(|| drop(black_box(tree.merge(&next))))
        }),
        ("merge the whole path again", |tree, _| {
            nanoseconds(|| drop(black_box(tree.merge(black_box(tree)))))
        }),
        ("stem to 1,000", |tree, revs| {
            let grown = tree.merge(&tree_of(&path(revs + 1, 2)));
            nanoseconds(|| {
                let mut stemmed = grown.clone();
                stemmed.stem(1_000);
                drop(black_box(stemmed));
            })
        }),
        ("encode", |tree, _| {
            nanoseconds(|| {
                let mut bytes = Vec::new();
                tree.encode(&mut bytes);
                drop(black_box(bytes));
            })
        }),
        ("decode", |tree, _| {
            let mut bytes = Vec::new();
            tree.encode(&mut bytes);
            nanoseconds(|| drop(black_box(RevTree::decode(&bytes).expect("it was encoded"))))
        }),
        ("winner", |tree, _| nanoseconds(|| drop(black_box(tree.winner())))),
        ("path of the winner", |tree, revs| {
            let leaf = path(revs, 1).leaf();
            nanoseconds(|| drop(black_box(tree.path_of(&leaf))))
        }),
    ]
}

fn main() {
    println!("{:<28}{:>10}{:>12}{:>8}", "ns per operation", "1 rev", "1,000 revs", "ratio");
    for (name, measure) in measured() {
        let on = |revs| measure(&tree_of(&path(revs, revs)), revs);
        let (short, long) = (on(1), on(LONG));
        println!("{name:<28}{short:>10.0}{long:>12.0}{:>8.0}", long / short);
    }
}
