//! A revision tree as PouchDB keeps it: roots, each `{"pos", "ids": [HASH, STATE, CHILDREN]}`.

use crate::doc::RevTree;
use crate::doc::json::push_string;

/// The JSON of a tree.
///
/// A revision whose body is not stored is `missing`, so that a client that has it pushes it. One
/// with two parents stands below the greater of them, once: the client looks for revisions, not for
/// edges.
#[must_use]
pub fn tree_json(tree: &RevTree) -> String {
    let nodes: Vec<_> = tree.nodes().collect();
    let mut children = vec![Vec::new(); nodes.len()];
    let mut roots = Vec::new();
    for (index, (_, _, parent)) in nodes.iter().enumerate() {
        match parent {
            Some(parent) => children[*parent].push(index),
            None => roots.push(index),
        }
    }
    let mut out = String::from("[");
    for (place, root) in roots.into_iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        out.push_str(&format!("{{\"pos\":{},\"ids\":", nodes[root].0.generation()));
        // A long history is nested as deep, so the way down is kept here and not on the stack: each
        // entry is a revision with the number of its children that are written.
        let mut way = vec![(root, 0)];
        push_open(&mut out, &nodes, root);
        while let Some((index, written)) = way.last_mut() {
            if let Some(&child) = children[*index].get(*written) {
                if *written > 0 {
                    out.push(',');
                }
                *written += 1;
                push_open(&mut out, &nodes, child);
                way.push((child, 0));
            } else {
                out.push_str("]]");
                way.pop();
            }
        }
        out.push('}');
    }
    out.push(']');
    out
}

type Node<'a> = (&'a crate::doc::Rev, crate::doc::RevState, Option<usize>);

/// A revision up to the beginning of its children.
fn push_open(out: &mut String, nodes: &[Node<'_>], index: usize) {
    let (rev, state, _) = &nodes[index];
    out.push('[');
    push_string(out, &rev.hash().to_string());
    out.push_str(match (state.body_bytes.is_some(), state.deleted) {
        (true, false) => ",{\"status\":\"available\"},[",
        (true, true) => ",{\"status\":\"available\",\"deleted\":true},[",
        (false, false) => ",{\"status\":\"missing\"},[",
        (false, true) => ",{\"status\":\"missing\",\"deleted\":true},[",
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::{Rev, RevPath, RevState};

    fn tree(paths: &[&str]) -> RevTree {
        let path = |text: &&str| {
            let (deleted, text) =
                text.strip_prefix('!').map_or((false, *text), |rest| (true, rest));
            let revs: Vec<Rev> = text.split(' ').map(|rev| Rev::parse(rev).expect(rev)).collect();
            let hashes = revs.iter().map(|rev| rev.hash().clone()).collect();
            let path = RevPath::new(revs[0].generation(), hashes).expect(text);
            RevTree::from_path(&path, RevState { deleted, body_bytes: Some(2) })
        };
        paths.iter().map(path).fold(RevTree::default(), |all, one| all.merge(&one))
    }

    #[test]
    fn branches_share_their_root_and_unrelated_ones_are_roots() {
        let check = |paths: &[&str], expected: &str| assert_eq!(tree_json(&tree(paths)), expected);
        check(&[], "[]");
        check(&["1-a"], r#"[{"pos":1,"ids":["a",{"status":"available"},[]]}]"#);
        check(
            &["2-b 1-a", "2-c 1-a", "!3-d 2-c2 1-a"],
            r#"[{"pos":1,"ids":["a",{"status":"missing"},[["b",{"status":"available"},[]],["c",{"status":"available"},[]],["c2",{"status":"missing"},[["d",{"status":"available","deleted":true},[]]]]]]}]"#,
        );
        check(
            &["1-a", "5-e"],
            r#"[{"pos":1,"ids":["a",{"status":"available"},[]]},{"pos":5,"ids":["e",{"status":"available"},[]]}]"#,
        );
    }

    #[test]
    fn a_long_history_is_written_without_recursion() {
        let revs: Vec<String> = (1..=50_000).rev().map(|n| format!("{n}-x{n}")).collect();
        let json = tree_json(&tree(&[&revs.join(" ")]));
        assert_eq!(json.matches('[').count(), json.matches(']').count());
        assert_eq!(json.matches("missing").count(), 49_999);
    }
}
