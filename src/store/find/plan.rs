//! Which index serves a query: CouchDB's rules (`mango_cursor_view.erl`, `mango_idx_view.erl`).
//!
//! An index can be used if every match is in it: the selector, or the sort, requires all of its
//! fields; and if its order is the one asked for. Among these the one wins whose first fields have
//! the most ranges in the selector, then the one with the fewest fields, then the first by name.

use std::cmp::Reverse;
use std::ops::Bound;

use super::bookmark::{self, Bookmark};
use super::{FindError, FindRequest, UseIndex};
use crate::doc::collate::{self, Strings};
use crate::doc::selector::FieldRange;
use crate::doc::{FieldPath, Json, Selector};
use crate::store::all_docs::KeyRange;
use crate::store::backend::{IndexRange, Order};
use crate::store::index::{DESIGN, Index, cut};

/// A way to find documents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Way<'i> {
    AllDocs,
    Index(&'i Index),
}

impl Way<'_> {
    fn columns(self) -> usize {
        match self {
            Self::AllDocs => 1,
            Self::Index(index) => index.fields.len(),
        }
    }
}

/// Why a way was not taken, in CouchDB's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    FieldMismatch,
    SortOrderMismatch,
    IsPartial,
    ExcludedByUser,
    UnfavoredType,
    LessOverlap,
    TooManyFields,
    AlphabeticallyComesAfter,
}

#[cfg(feature = "server")]
impl Reason {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FieldMismatch => "field_mismatch",
            Self::SortOrderMismatch => "sort_order_mismatch",
            Self::IsPartial => "is_partial",
            Self::ExcludedByUser => "excluded_by_user",
            Self::UnfavoredType => "unfavored_type",
            Self::LessOverlap => "less_overlap",
            Self::TooManyFields => "too_many_fields",
            Self::AlphabeticallyComesAfter => "alphabetically_comes_after",
        }
    }

    pub(crate) fn is_usable(self) -> bool {
        !matches!(self, Self::FieldMismatch | Self::SortOrderMismatch | Self::IsPartial)
    }
}

/// The way that was chosen.
pub(crate) struct Plan<'i> {
    pub way: Way<'i>,
    /// The other ways, and why they were not taken.
    #[cfg_attr(not(feature = "server"), expect(dead_code, reason = "only `_explain` shows them"))]
    pub others: Vec<(Way<'i>, Reason)>,
    /// Why the index that was named is not used.
    pub warning: Option<String>,
}

fn ways(indexes: &[Index]) -> impl Iterator<Item = Way<'_>> {
    indexes.iter().map(Way::Index).chain([Way::AllDocs])
}

impl FindRequest {
    /// The order in which documents come.
    pub(crate) fn order(&self) -> Order {
        self.sort.first().map_or(Order::Ascending, |first| first.order)
    }

    fn check_sort(&self) -> Result<(), FindError> {
        let order = self.order();
        if self.sort.iter().any(|field| field.order != order) {
            return Err(FindError::MixedSort);
        }
        Ok(())
    }

    pub(crate) fn plan<'i>(&self, indexes: &'i [Index]) -> Result<Plan<'i>, FindError> {
        self.check_sort()?;
        let mut others = self.unusable_ways(indexes);
        let usable = ways(indexes).filter(|way| self.unusable(*way).is_none());
        let usable: Vec<Way<'i>> = usable.collect();
        if usable.is_empty() {
            return Err(FindError::NoUsableIndex);
        }
        let named: Vec<Way<'i>> =
            usable.iter().copied().filter(|way| self.is_named(*way)).collect();
        if named.is_empty() && !self.allow_fallback {
            self.check_fallback(usable.len())?;
        }
        let within = if named.is_empty() { usable.clone() } else { named };
        let excluded = usable.into_iter().filter(|way| !within.contains(way));
        others.extend(excluded.map(|way| (way, Reason::ExcludedByUser)));
        let way = self.choose(&within, &mut others)?;
        Ok(Plan { way, warning: self.warning(way), others })
    }

    /// The ways that cannot be used, and why.
    pub(crate) fn unusable_ways<'i>(&self, indexes: &'i [Index]) -> Vec<(Way<'i>, Reason)> {
        ways(indexes).filter_map(|way| Some((way, self.unusable(way)?))).collect()
    }

    fn check_fallback(&self, usable: usize) -> Result<(), FindError> {
        match &self.use_index {
            Some(named) => Err(FindError::IndexNotSuitable { named: named.to_string() }),
            None if usable > 1 => Ok(()),
            None => Err(FindError::IndexNotNamed),
        }
    }

    fn is_named(&self, way: Way<'_>) -> bool {
        match (way, &self.use_index) {
            (Way::Index(index), Some(named)) => named.is(index),
            (Way::Index(_), None) | (Way::AllDocs, _) => false,
        }
    }

    /// Why a way cannot be used, if it cannot.
    fn unusable(&self, way: Way<'_>) -> Option<Reason> {
        let sorts_by_id = self.sort.len() == 1 && self.sort[0].field.is_id();
        match way {
            Way::AllDocs if self.sort.is_empty() || sorts_by_id => None,
            Way::AllDocs => Some(Reason::SortOrderMismatch),
            Way::Index(index) if index.partial_filter.is_some() && !self.is_named(way) => {
                Some(Reason::IsPartial)
            }
            Way::Index(index) if !self.requires_all(index) => Some(Reason::FieldMismatch),
            Way::Index(index) if !self.has_order_of(index) => Some(Reason::SortOrderMismatch),
            Way::Index(_) => None,
        }
    }

    fn requires_all(&self, index: &Index) -> bool {
        let sorted_by = |field: &FieldPath| self.sort.iter().any(|by| by.field == *field);
        let always =
            |field: &FieldPath| matches!(field.parts(), [one] if one == "_id" || one == "_rev");
        let mut columns = index.fields.iter().map(|field| &field.field);
        columns.all(|field| sorted_by(field) || always(field) || self.selector.requires(field))
    }

    /// Whether the index is in the order asked for. Fields with one value do not count in it.
    fn has_order_of(&self, index: &Index) -> bool {
        let sort: Vec<&FieldPath> = self.sort.iter().map(|by| &by.field).collect();
        let Some(first) = sort.first() else { return true };
        let columns: Vec<&FieldPath> = index.fields.iter().map(|by| &by.field).collect();
        let Some(place) = columns.iter().position(|column| column == first) else { return false };
        columns[..place].iter().all(|column| self.selector.fixes(column))
            && columns[place..].starts_with(&sort)
    }

    /// The best of some ways; the others are told why.
    fn choose<'i>(
        &self,
        within: &[Way<'i>],
        others: &mut Vec<(Way<'i>, Reason)>,
    ) -> Result<Way<'i>, FindError> {
        let ranges = self.selector.ranges();
        let mut ranked: Vec<Way<'i>> = within.to_vec();
        let overlap = |way: &Way<'_>| overlap(*way, &ranges);
        ranked.sort_by_key(|way| {
            let last = matches!(way, Way::AllDocs);
            (last, Reverse(overlap(way)), way.columns())
        });
        let best = match self.bookmarked()? {
            None => ranked[0],
            Some(bookmark) => {
                let is_meant = |way: &&Way<'i>| match way {
                    Way::AllDocs => bookmark.index.is_none(),
                    Way::Index(index) => bookmark.index == Some(index.key()),
                };
                *ranked.iter().find(is_meant).ok_or_else(|| bookmark::refused(&self.bookmark))?
            }
        };
        let reason = |way: &Way<'i>| match way {
            Way::AllDocs => Reason::UnfavoredType,
            Way::Index(_) if overlap(way) < overlap(&best) => Reason::LessOverlap,
            Way::Index(_) if way.columns() > best.columns() => Reason::TooManyFields,
            Way::Index(_) => Reason::AlphabeticallyComesAfter,
        };
        others.extend(ranked.iter().filter(|way| **way != best).map(|way| (*way, reason(way))));
        Ok(best)
    }

    pub(super) fn bookmarked(&self) -> Result<Option<Bookmark>, FindError> {
        Bookmark::parse(&self.bookmark)
    }

    fn warning(&self, chosen: Way<'_>) -> Option<String> {
        let named = self.use_index.as_ref().filter(|_| !self.is_named(chosen))?;
        Some(match &named.name {
            None => format!(
                "{named} was not used because it does not contain a valid index for this query."
            ),
            Some(_) => {
                format!("{named} was not used because it is not a valid index for this query.")
            }
        })
    }
}

impl UseIndex {
    fn is(&self, index: &Index) -> bool {
        let ddoc = index.ddoc.as_str();
        ddoc.strip_prefix(DESIGN).unwrap_or(ddoc) == self.short_ddoc()
            && self.name.as_ref().is_none_or(|name| *name == index.name)
    }
}

/// How many of the first fields have a range in the selector.
fn overlap(way: Way<'_>, ranges: &[FieldRange<'_>]) -> usize {
    let is_in =
        |parts: &[String]| ranges.iter().any(|range| range.indexable && range.field == parts);
    match way {
        Way::AllDocs => usize::from(ranges.iter().any(|range| range.field == ["_id"])),
        Way::Index(index) => {
            index.fields.iter().take_while(|field| is_in(field.field.parts())).count()
        }
    }
}

/// The bytes above all that begin with some bytes: a value's encoding, and what may follow it in a
/// key, has no 255 at its beginning.
fn above(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(0xff);
    bytes
}

/// The part of an index in which every match lies.
///
/// A key is the encoding of an array: its first byte, the encodings of the values, an end. So a
/// range of the first values is one of keys' beginnings. A bound that is longer than keys are
/// is cut as they are, and no longer tells its value from longer ones.
pub(super) fn entries_of(selector: &Selector, index: &Index) -> IndexRange {
    let ranges = selector.ranges();
    let mut prefix = Vec::new();
    collate::encode(&Json::Array(Vec::new()), &mut prefix);
    prefix.pop();
    let mut open = None;
    for column in &index.fields {
        let found = ranges.iter().find(|range| range.field == column.field.parts());
        let Some(range) = found else { break };
        let Some(only) = range.only() else {
            open = Some(range);
            break;
        };
        collate::encode(only, &mut prefix);
    }
    let bound = |value: &Json<'static>| {
        let mut bytes = prefix.clone();
        collate::encode(value, &mut bytes);
        let long = cut(&mut bytes);
        (bytes, long)
    };
    // Ids are compared by their bytes, and stand in the index by collation.
    let open = open.filter(|range| range.strings == Strings::Unicode);
    let (lower, upper) =
        open.map_or((Bound::Unbounded, Bound::Unbounded), |range| (range.lower, range.upper));
    let low = match lower {
        Bound::Unbounded => None,
        Bound::Included(value) => Some(bound(value).0),
        Bound::Excluded(value) => match bound(value) {
            (bytes, true) => Some(bytes),
            (bytes, false) => Some(above(bytes)),
        },
    };
    let high = match upper {
        Bound::Unbounded => None,
        Bound::Included(value) => Some(above(bound(value).0)),
        Bound::Excluded(value) => match bound(value) {
            (bytes, true) => Some(above(bytes)),
            (bytes, false) => Some(bytes),
        },
    };
    cut(&mut prefix);
    let high = high.unwrap_or_else(|| above(prefix.clone()));
    IndexRange { low: low.unwrap_or(prefix), high: Some(high), ..IndexRange::default() }
}

/// The range of ids in which every match lies; `None` if none can.
pub(super) fn ids_of(selector: &Selector) -> Option<KeyRange> {
    let ranges = selector.ranges();
    let Some(range) = ranges.iter().find(|range| range.field == ["_id"]) else {
        return Some(KeyRange::default());
    };
    let start = match range.lower {
        Bound::Included(Json::String(id)) | Bound::Excluded(Json::String(id)) => {
            Some(id.to_string())
        }
        // Every id is above what is no string.
        Bound::Unbounded | Bound::Included(_) | Bound::Excluded(_) => None,
    };
    let end = match range.upper {
        // Every id is below arrays and objects.
        Bound::Unbounded
        | Bound::Included(Json::Array(_) | Json::Object(_))
        | Bound::Excluded(Json::Array(_) | Json::Object(_)) => None,
        Bound::Included(Json::String(id)) | Bound::Excluded(Json::String(id)) => {
            Some(id.to_string())
        }
        Bound::Included(_) | Bound::Excluded(_) => return None,
    };
    Some(KeyRange { start, end, exclusive_end: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn ids_stand_below_arrays_and_objects_and_above_other_values() {
        let check = |wanted: &str, expected: Option<KeyRange>| {
            let selector = Selector::parse(wanted, &Limits::default()).expect(wanted);
            assert_eq!(ids_of(&selector), expected, "{wanted}");
        };
        let from_a = || KeyRange { start: Some("a".into()), ..KeyRange::default() };
        check(r#"{"_id": {"$gt": null, "$lt": {}}}"#, Some(KeyRange::default()));
        check(r#"{"_id": {"$gte": "a", "$lte": []}}"#, Some(from_a()));
        check(r#"{"_id": {"$gte": "a", "$lt": 1}}"#, None);
        check(r#"{"_id": {"$lt": null}}"#, None);
    }
}
