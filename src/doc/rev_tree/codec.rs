//! The binary form of a revision tree: a varint count, then the revisions in ascending order.
//!
//! A revision is a flag byte, its generation as a varint unless it is the previous one's plus one,
//! its hash (16 bytes, or a varint length and text), its parents as distances back in the list
//! unless the one parent is the previous revision, and the length of its body if it has one. An
//! edit of an unbranched document costs 17 bytes. A tree has one form, and no other is read.

use super::{Node, RevState, RevTree, index_u32};
use crate::doc::error::ParseError;
use crate::doc::rev::{Rev, RevHash};
use crate::doc::varint::{self, Reader};

const DELETED: u8 = 1;
const HAS_BODY: u8 = 1 << 1;
const TEXT_HASH: u8 = 1 << 2;
const PARENT_MASK: u8 = 3 << 3;
const PARENT_IS_PREVIOUS: u8 = 1 << 3;
const PARENT_GIVEN: u8 = 2 << 3;
const PARENTS_LISTED: u8 = 3 << 3;
const GENERATION_GIVEN: u8 = 1 << 5;

impl RevTree {
    /// Appends the binary form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::push(out, self.nodes.len() as u64);
        let mut previous_generation = 0;
        for (index, node) in self.nodes.iter().enumerate() {
            let index = index_u32(index);
            let generation = node.rev.generation();
            let more: Vec<u32> = self.further_parents(index).collect();
            let parents = match node.parent {
                None => 0,
                Some(_) if !more.is_empty() => PARENTS_LISTED,
                Some(parent) if parent + 1 == index => PARENT_IS_PREVIOUS,
                Some(_) => PARENT_GIVEN,
            };
            let hash = node.rev.hash().packed();
            let mut flags = parents;
            flags |= if node.state.deleted { DELETED } else { 0 };
            flags |= if node.state.body_bytes.is_some() { HAS_BODY } else { 0 };
            flags |= if hash.is_err() { TEXT_HASH } else { 0 };
            flags |= if generation == previous_generation + 1 { 0 } else { GENERATION_GIVEN };
            out.push(flags);
            if flags & GENERATION_GIVEN != 0 {
                varint::push(out, generation);
            }
            match hash {
                Ok(bytes) => out.extend_from_slice(bytes),
                Err(text) => varint::push_bytes(out, text.as_bytes()),
            }
            if parents == PARENTS_LISTED {
                varint::push(out, more.len() as u64 + 1);
            }
            if parents == PARENTS_LISTED || parents == PARENT_GIVEN {
                for parent in node.parent.into_iter().chain(more) {
                    varint::push(out, u64::from(index - parent));
                }
            }
            if let Some(bytes) = node.state.body_bytes {
                varint::push(out, u64::from(bytes));
            }
            previous_generation = generation;
        }
    }

    fn further_parents(&self, child: u32) -> impl Iterator<Item = u32> + '_ {
        let from = self.more_parents.partition_point(|&(c, _)| c < child);
        self.more_parents[from..].iter().take_while(move |&&(c, _)| c == child).map(|&(_, p)| p)
    }

    /// Reads the binary form and what follows it.
    ///
    /// # Errors
    /// [`ParseError::Tree`] if the bytes are not what [`RevTree::encode`] writes: too short, out of
    /// order, with a parent that is not one generation older, or in any but the one form that a
    /// tree has.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), ParseError> {
        let mut reader = Reader(bytes);
        let tree = Self::read(&mut reader).map_err(|problem| ParseError::Tree { problem })?;
        Ok((tree, reader.0))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, &'static str> {
        const SHORT: &str = "it ends too early";
        let count = reader.varint().ok_or(SHORT)?;
        // The smallest revision takes 2 bytes; a greater count is damage, not a reason to allocate.
        let count = usize::try_from(count).ok().filter(|c| *c <= reader.0.len() / 2);
        let count = count.ok_or("its count does not fit its length")?;
        let mut tree = Self { nodes: Vec::with_capacity(count), more_parents: Vec::new() };
        let mut previous_generation = 0;
        let mut parents = Vec::new();
        for index in 0..count {
            let flags = reader.byte().ok_or(SHORT)?;
            if flags >> 6 != 0 {
                return Err("a revision has unknown flags");
            }
            let generation = if flags & GENERATION_GIVEN == 0 {
                previous_generation + 1
            } else {
                let given = reader.varint().ok_or(SHORT)?;
                if given == previous_generation + 1 {
                    return Err("a generation is not in its shortest form");
                }
                given
            };
            let hash = if flags & TEXT_HASH == 0 {
                RevHash::from_digest(reader.array().ok_or(SHORT)?)
            } else {
                let text = reader.text().ok_or("a hash is not text")?;
                let hash = RevHash::parse(text).map_err(|_| "a hash has a wrong length")?;
                if hash.packed().is_ok() {
                    return Err("a hash is not in its shortest form");
                }
                hash
            };
            let rev = Rev::new(generation, hash).map_err(|_| "a generation is out of range")?;
            if tree.nodes.last().is_some_and(|last| last.rev >= rev) {
                return Err("its revisions are out of order");
            }
            Self::read_parents(reader, flags, index, &mut parents)?;
            for &parent in &parents {
                if tree.nodes[parent as usize].rev.generation() + 1 != generation {
                    return Err("a parent is not one generation older");
                }
            }
            let body_bytes = if flags & HAS_BODY == 0 {
                None
            } else {
                let length = reader.varint().ok_or(SHORT)?;
                Some(u32::try_from(length).map_err(|_| "a body length is out of range")?)
            };
            let state = RevState { deleted: flags & DELETED != 0, body_bytes };
            tree.nodes.push(Node { rev, parent: None, state });
            for &parent in &parents {
                tree.add_edge(index_u32(index), parent);
            }
            previous_generation = generation;
        }
        tree.settle_edges();
        Ok(tree)
    }

    /// Reads the places of one revision's parents in the list, the greatest first.
    fn read_parents(
        reader: &mut Reader<'_>,
        flags: u8,
        index: usize,
        parents: &mut Vec<u32>,
    ) -> Result<(), &'static str> {
        const SHORT: &str = "it ends too early";
        parents.clear();
        let listed = match flags & PARENT_MASK {
            0 => return Ok(()),
            PARENT_IS_PREVIOUS => {
                let previous = index.checked_sub(1).ok_or("the first revision has a parent")?;
                parents.push(index_u32(previous));
                return Ok(());
            }
            PARENT_GIVEN => 1,
            _ => reader.length().ok_or(SHORT)?,
        };
        for _ in 0..listed {
            let back = usize::try_from(reader.varint().ok_or(SHORT)?).ok();
            let parent = back.filter(|b| *b > 0).and_then(|back| index.checked_sub(back));
            parents.push(index_u32(parent.ok_or("a parent is outside the tree")?));
        }
        let shortest = match parents[..] {
            [only] => flags & PARENT_MASK == PARENT_GIVEN && only + 1 != index_u32(index),
            [greatest, ref others @ ..] => {
                others.is_sorted_by(|a, b| a < b) && others.last().is_some_and(|o| *o < greatest)
            }
            [] => false,
        };
        if shortest { Ok(()) } else { Err("its parents are not in their shortest form") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::rev::RevPath;
    use crate::doc::rev_tree::tests::tree;

    #[test]
    fn an_edit_costs_17_bytes() {
        let length = |tree: &RevTree| {
            let mut bytes = Vec::new();
            tree.encode(&mut bytes);
            bytes.len()
        };
        let hash = |n: u8| RevHash::from_digest([n; 16]);
        let chain = |n: u8| {
            RevTree::from_path(
                &RevPath::new(u64::from(n), (1..=n).rev().map(hash).collect()).unwrap(),
                RevState::default(),
            )
        };
        assert_eq!(length(&chain(11)) - length(&chain(10)), 17);
    }

    #[test]
    fn damaged_bytes_are_refused_or_read_as_another_tree() {
        let good = tree(&["3-c 2-b 1-a", "!3-967a00dff5e02add41819138abb3284d 2-b 1-a", "7-q"]);
        let mut bytes = Vec::new();
        good.encode(&mut bytes);
        assert_eq!(RevTree::decode(&bytes).unwrap(), (good, &[][..]));
        for cut in 0..bytes.len() {
            assert!(RevTree::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                if let Ok((tree, rest)) = RevTree::decode(&damaged) {
                    let mut again = Vec::new();
                    tree.encode(&mut again);
                    assert_eq!(again, damaged[..damaged.len() - rest.len()]);
                }
            }
        }
    }

    #[test]
    fn a_tree_has_one_form() {
        let check = |form: &[&[u8]], problem: Option<&'static str>| {
            let bytes = form.concat();
            let found = RevTree::decode(&bytes).map(|(_, rest)| assert!(rest.is_empty()));
            assert_eq!(
                found.err(),
                problem.map(|problem| ParseError::Tree { problem }),
                "{form:?}"
            );
        };
        let refused = |form: &[&[u8]], problem| check(form, Some(problem));
        let (one, two, three) = (&[1][..], &[2][..], &[3][..]);
        // 1-a and 1-b, each given as text; 2-x with its flags and what follows them.
        let (a, b) = (&[TEXT_HASH, 1, b'a'][..], &[TEXT_HASH | GENERATION_GIVEN, 1, 1, b'b'][..]);
        let x = |parents: u8| [TEXT_HASH | parents, 1, b'x'];
        check(&[one, &[TEXT_HASH, 0]], None);
        check(&[two, a, &x(PARENT_IS_PREVIOUS)], None);
        check(&[three, a, b, &x(PARENT_GIVEN), &[2]], None);
        check(&[three, a, b, &x(PARENTS_LISTED), &[2, 1, 2]], None);

        refused(&[one, &[0; 3]], "it ends too early");
        refused(&[two, a], "its count does not fit its length");
        refused(&[one, &[1 << 6, 1, b'a']], "a revision has unknown flags");
        refused(&[one, &[TEXT_HASH, 1, 0xff]], "a hash is not text");
        refused(&[one, &[TEXT_HASH, 0x81, 1], &[b'x'; 129]], "a hash has a wrong length");
        refused(
            &[one, &[TEXT_HASH, 32], b"967a00dff5e02add41819138abb3284d"],
            "a hash is not in its shortest form",
        );
        refused(
            &[one, &[TEXT_HASH | GENERATION_GIVEN, 0, 1, b'a']],
            "a generation is out of range",
        );
        refused(
            &[one, &[TEXT_HASH | GENERATION_GIVEN, 1, 1, b'a']],
            "a generation is not in its shortest form",
        );
        refused(
            &[two, a, &[TEXT_HASH | GENERATION_GIVEN, 1, 1, b'a']],
            "its revisions are out of order",
        );
        refused(&[one, &x(PARENT_IS_PREVIOUS)], "the first revision has a parent");
        refused(&[two, a, &x(PARENT_GIVEN), &[2]], "a parent is outside the tree");
        refused(&[two, a, &x(PARENT_GIVEN), &[0]], "a parent is outside the tree");
        let aunt = TEXT_HASH | GENERATION_GIVEN | PARENT_IS_PREVIOUS;
        refused(&[two, a, &[aunt, 3, 1, b'c']], "a parent is not one generation older");
        refused(
            &[two, a, &[HAS_BODY | TEXT_HASH, 1, b'x', 0xff, 0xff, 0xff, 0xff, 0x10]],
            "a body length is out of range",
        );
        let longer = "its parents are not in their shortest form";
        refused(&[two, a, &x(PARENT_GIVEN), &[1]], longer);
        refused(&[three, a, b, &x(PARENTS_LISTED), &[1, 2, 0]], longer);
        refused(&[three, a, b, &x(PARENTS_LISTED), &[0, 0]], longer);
        refused(&[three, a, b, &x(PARENTS_LISTED), &[2, 2, 1]], longer);
        refused(&[three, a, b, &x(PARENTS_LISTED), &[2, 1, 1]], longer);
        let c = &[TEXT_HASH | GENERATION_GIVEN, 1, 1, b'c'][..];
        check(&[&[4], a, b, c, &x(PARENTS_LISTED), &[3, 1, 3, 2]], None);
        refused(&[&[4], a, b, c, &x(PARENTS_LISTED), &[3, 1, 2, 3]], longer);
        refused(&[&[4], a, b, c, &x(PARENTS_LISTED), &[3, 1, 3, 3]], longer);
    }
}
