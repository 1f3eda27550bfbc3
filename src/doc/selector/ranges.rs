//! What a selector tells of the fields of every document that matches: for choosing an index.

use std::ops::Bound;

use super::super::collate::{self, Strings};
use super::super::value::Json;
use super::condition::{Comparison, Condition, Node};
use super::path::Path;

/// A field that every matching document has, and the range in which its value lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRange<'s> {
    /// The parts of the field's name.
    pub field: &'s [String],
    /// Below it nothing matches.
    pub lower: Bound<&'s Json<'static>>,
    /// Above it nothing matches; the same value as `lower`, included, where only one can match.
    pub upper: Bound<&'s Json<'static>>,
    /// By what strings within the bounds are compared.
    pub strings: Strings,
    /// Whether CouchDB would look for the field in an index: a comparison names it, `$beginsWith`
    /// or `$exists`.
    pub indexable: bool,
}

/// The ranges of a selector's conjunction, in the order in which the fields are named first.
pub(super) fn ranges(root: &Node) -> Vec<FieldRange<'_>> {
    let mut found: Vec<FieldRange<'_>> = Vec::new();
    for part in conjunction(root) {
        let Node::Field { path: Path(field), strings, condition } = part else { continue };
        let Some((lower, upper)) = bounds(condition) else { continue };
        let (indexable, strings) = (is_indexable(condition), *strings);
        match found.iter_mut().find(|range| range.field == field) {
            Some(range) => {
                range.indexable |= indexable;
                range.narrow(lower, upper);
            }
            None => found.push(FieldRange { field, lower, upper, strings, indexable }),
        }
    }
    found
}

/// The parts that must all hold.
pub(super) fn conjunction(root: &Node) -> &[Node] {
    match root {
        Node::And(parts) => parts,
        Node::Or(_) | Node::Field { .. } => std::slice::from_ref(root),
    }
}

type Bounds<'s> = (Bound<&'s Json<'static>>, Bound<&'s Json<'static>>);

/// `None` where the field need not be there.
fn bounds(condition: &Condition) -> Option<Bounds<'_>> {
    use Bound::{Excluded, Included, Unbounded};
    Some(match condition {
        Condition::Exists(false) => return None,
        Condition::Compare(Comparison::Equal, value) => (Included(value), Included(value)),
        Condition::Compare(Comparison::Less, value) => (Unbounded, Excluded(value)),
        Condition::Compare(Comparison::LessOrEqual, value) => (Unbounded, Included(value)),
        Condition::Compare(Comparison::Greater, value) => (Excluded(value), Unbounded),
        Condition::Compare(Comparison::GreaterOrEqual, value) => (Included(value), Unbounded),
        // `$in` looks into arrays, and a prefix is no range of the collation.
        _ => (Unbounded, Unbounded),
    })
}

fn is_indexable(condition: &Condition) -> bool {
    match condition {
        Condition::Compare(comparison, _) => *comparison != Comparison::NotEqual,
        Condition::BeginsWith(_) | Condition::Exists(_) => true,
        _ => false,
    }
}

impl<'s> FieldRange<'s> {
    /// The only value that can match, if there is but one.
    #[must_use]
    pub fn only(&self) -> Option<&'s Json<'static>> {
        match (self.lower, self.upper) {
            (Bound::Included(low), Bound::Included(high))
                if collate::compare(low, high, self.strings).is_eq() =>
            {
                Some(low)
            }
            _ => None,
        }
    }

    fn narrow(&mut self, lower: Bound<&'s Json<'static>>, upper: Bound<&'s Json<'static>>) {
        let strings = self.strings;
        if is_narrower(lower, self.lower, |new, old| collate::compare(new, old, strings)) {
            self.lower = lower;
        }
        if is_narrower(upper, self.upper, |new, old| collate::compare(old, new, strings)) {
            self.upper = upper;
        }
    }
}

/// Whether a bound leaves less than another; `order` is `Greater` where its value does.
fn is_narrower<T: Copy>(
    new: Bound<T>,
    old: Bound<T>,
    order: impl Fn(T, T) -> std::cmp::Ordering,
) -> bool {
    use Bound::{Excluded, Included, Unbounded};
    match (new, old) {
        (Unbounded, _) => false,
        (_, Unbounded) => true,
        (Excluded(new), Included(old)) => order(new, old).is_ge(),
        (Included(new) | Excluded(new), Included(old) | Excluded(old)) => order(new, old).is_gt(),
    }
}
