//! Bytes that decode to a revision tree are the bytes it encodes to, and the tree keeps its laws.

use settee::doc::RevTree;

pub fn run(bytes: &[u8]) {
    let Ok((tree, rest)) = RevTree::decode(bytes) else { return };
    let mut encoded = Vec::new();
    tree.encode(&mut encoded);
    assert_eq!(encoded, bytes[..bytes.len() - rest.len()]);
    assert_eq!(tree.merge(&tree), tree);
    let leaves = tree.leaves();
    assert_eq!(tree.winner().as_ref(), leaves.first());
    for leaf in &leaves {
        assert!(tree.path_of(&leaf.rev).is_some_and(|path| path.leaf() == leaf.rev));
    }
    let mut stemmed = tree.clone();
    stemmed.stem(2);
    assert_eq!(stemmed.leaves(), leaves);
    assert_eq!(stemmed.merge(&tree), tree);
}
