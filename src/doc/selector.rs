//! Selectors: CouchDB's Mango conditions, parsed once and judged over the text of documents.
//!
//! The meaning is that of CouchDB's `mango_selector.erl`, of which `docs/SELECTORS.md` tells where
//! this differs. A selector is normalised as there: names move down to the conditions, negations
//! too, so that what is left are conditions of fields under `$and` and `$or`.
//!
//! The hard case is a field that is not there. Only `$exists: false` holds for it; every other
//! condition fails, and so does its negation, since negations were moved to the conditions.

mod condition;
mod error;
mod hints;
mod matching;
mod parse;
mod path;
mod print;
mod ranges;

use std::fmt;
use std::sync::Arc;

pub use error::SelectorError;
pub use path::FieldPath;
pub use ranges::FieldRange;

use condition::Node;

use super::attachment::push_attachments;
use super::document::Document;
use super::value::{self, Json};
use crate::limits::Limits;

/// A condition on documents. A cheap handle: clones share it.
///
/// ```
/// use settee::{Document, Limits, doc::Selector};
/// let selector = Selector::parse(r#"{"done": false, "priority": {"$gte": 3}}"#, &Limits::default())?;
/// let todo = Document::new("milk", &serde_json::json!({"done": false, "priority": 5}))?;
/// assert!(selector.matches(&todo));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Selector(Arc<Parsed>);

struct Parsed {
    root: Node,
    /// The members of a document that are looked at, sorted.
    members: Vec<String>,
    /// The canonical text.
    text: String,
}

impl Selector {
    /// Reads a selector's JSON.
    ///
    /// # Errors
    /// [`SelectorError`] for text that is not a selector or is over a bound.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, SelectorError> {
        let root = parse::parse(text, limits)?;
        let mut members = Vec::new();
        root.each_field(&mut |path| members.extend(path.first().map(str::to_owned)));
        members.sort_unstable();
        members.dedup();
        let text = print::print(&root);
        parse::check_canonical(&text, limits)?;
        Ok(Self(Arc::new(Parsed { root, members, text })))
    }

    /// The selector of a value that serialises to one, under the default bounds.
    ///
    /// # Errors
    /// As [`Selector::parse`]; a value that does not serialise counts as no object.
    pub fn from_value<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, SelectorError> {
        let text = serde_json::to_string(value).map_err(|_| SelectorError::NotAnObject)?;
        Self::parse(&text, &Limits::default())
    }

    /// Whether a document matches.
    ///
    /// The fields `_id`, `_rev`, `_deleted` (of tombstones) and `_attachments` (with stubs) are
    /// there beside the document's own; `_revisions` and what a read adds are not.
    #[must_use]
    pub fn matches(&self, document: &Document) -> bool {
        self.0.root.matches(&view(document, |name| self.wants(name)))
    }

    fn wants(&self, name: &str) -> bool {
        self.0.members.binary_search_by(|member| member.as_str().cmp(name)).is_ok()
    }

    /// Whether every document matches: `{}`.
    #[must_use]
    pub fn matches_all(&self) -> bool {
        self.0.root.is_always()
    }

    /// Its canonical text, which is a selector again: the same for selectors that differ in the
    /// order of their members, in implicit operators or in where a negation stands.
    ///
    /// ```
    /// use settee::{Limits, doc::Selector};
    /// let parse = |text| Selector::parse(text, &Limits::default());
    /// let same = parse(r#"{"b": {"c": 2}, "a": 1}"#)?;
    /// assert_eq!(same.as_str(), r#"{"$and":[{"a":{"$eq":1}},{"b.c":{"$eq":2}}]}"#);
    /// assert_eq!(same, parse(same.as_str())?);
    /// # Ok::<(), settee::doc::SelectorError>(())
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// What a matching document's fields must be: for each field that must be there the narrowest
    /// range that the selector tells. An index on such a field finds every match within its range.
    ///
    /// ```
    /// use std::ops::Bound;
    /// use settee::{Limits, doc::Selector};
    /// let selector = Selector::parse(r#"{"at.year": {"$gte": 2020, "$lt": 2030}}"#, &Limits::default())?;
    /// let ranges = selector.ranges();
    /// assert_eq!(ranges[0].field, ["at", "year"]);
    /// assert!(matches!(ranges[0].upper, Bound::Excluded(_)));
    /// # Ok::<(), settee::doc::SelectorError>(())
    /// ```
    #[must_use]
    pub fn ranges(&self) -> Vec<FieldRange<'_>> {
        ranges::ranges(&self.0.root)
    }
}

/// The members of a document that are wanted, those beside its body among them.
pub(super) fn view(document: &Document, wanted: impl Fn(&str) -> bool) -> Json<'_> {
    let mut members = value::cut_members(document.body.as_str(), &wanted);
    if wanted("_id") {
        members.push(("_id".into(), Json::String(document.id.as_str().into())));
    }
    if let Some(rev) = document.rev.as_ref().filter(|_| wanted("_rev")) {
        members.push(("_rev".into(), Json::String(rev.to_string().into())));
    }
    if document.deleted && wanted("_deleted") {
        members.push(("_deleted".into(), Json::Bool(true)));
    }
    if !document.attachments.is_empty() && wanted("_attachments") {
        let mut attachments = String::new();
        push_attachments(&mut attachments, &document.attachments);
        members.push(("_attachments".into(), Json::cut(&attachments).into_owned()));
    }
    Json::Object(members)
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Selector {}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({})", self.0.text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use proptest::prelude::*;

    use super::*;
    use crate::doc::{Body, DocId, Rev, collate};

    fn parse(text: &str) -> Result<Selector, SelectorError> {
        Selector::parse(text, &Limits::default())
    }

    fn document(body: &str) -> Document {
        let id = DocId::parse("foo", 10).unwrap();
        let rev = Rev::parse("1-bar").unwrap();
        Document::with_body(id, Body::parse(body, &Limits::default()).expect(body)).with_rev(rev)
    }

    #[track_caller]
    fn check(selector: &str, body: &str, expected: bool) {
        let parsed = parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}"));
        assert_eq!(parsed.matches(&document(body)), expected, "{selector} {body}");
    }

    #[test]
    fn what_is_not_the_body_is_there_too() {
        check(r#"{"_id":"foo","_rev":"1-bar"}"#, "{}", true);
        check(r#"{"_id":{"$gt":"Z"}}"#, "{}", true);
        check(r#"{"_deleted":{"$exists":false}}"#, "{}", true);
        check(r#"{"_attachments":{"$exists":true}}"#, "{}", false);
        let tombstone = Document { deleted: true, ..document("{}") };
        assert!(parse(r#"{"_deleted":true}"#).unwrap().matches(&tombstone));
        let attachment = crate::doc::Attachment::inline("text/plain", "abc");
        let attached = document("{}").with_attachment("a.txt", attachment);
        let selector = r#"{"_attachments.a\\.txt.content_type":{"$beginsWith":"text/"}}"#;
        assert!(parse(selector).unwrap().matches(&attached));
    }

    #[test]
    fn ids_are_compared_by_their_bytes_and_fields_by_collation() {
        check(r#"{"_id":{"$gt":"FOO"}}"#, "{}", true);
        check(r#"{"_id":{"$lt":"FOO"}}"#, "{}", false);
        check(r#"{"id":{"$lt":"FOO"}}"#, r#"{"id":"foo"}"#, true);
        check(r#"{"_id":{"$gt":{}}}"#, "{}", true);
        check(r#"{"_id":{"$lte":[]}}"#, "{}", false);
        check(r#"{"id":{"$gt":{}}}"#, r#"{"id":"foo"}"#, false);
        check(r#"{"_id":{"$in":["a","FOO","foo","Z"]}}"#, "{}", true);
        check(r#"{"a":{"$elemMatch":{"_id":{"$lt":"A"}}}}"#, r#"{"a":[{"_id":"a"}]}"#, true);
    }

    #[test]
    fn paths_have_dots_escapes_and_indexes() {
        check(r#"{"a.b":1}"#, r#"{"a":{"b":1}}"#, true);
        check(r#"{"a.b":1}"#, r#"{"a.b":1}"#, false);
        check(r#"{"a\\.b":1}"#, r#"{"a.b":1}"#, true);
        check(r#"{"a\\.b.c":1}"#, r#"{"a.b":{"c":1}}"#, true);
        check(r#"{"\\$a":1}"#, r#"{"$a":1}"#, true);
        check(r#"{"a.1":2}"#, r#"{"a":[1,2]}"#, true);
        check(r#"{"a.1":2}"#, r#"{"a":{"1":2}}"#, true);
        check(r#"{"a.2":{"$exists":false}}"#, r#"{"a":[1,2]}"#, false);
        check(r#"{"a.b":{"$exists":false}}"#, r#"{"a":{}}"#, true);
        check(r#"{"a.b":{"$exists":false}}"#, r#"{"a":1}"#, false);
        check(r#"{"a":{"b":{"c":{"$gt":1}}}}"#, r#"{"a":{"b":{"c":2}}}"#, true);
    }

    #[test]
    fn numbers_are_not_rounded() {
        check(r#"{"n":9007199254740993}"#, r#"{"n":9007199254740993}"#, true);
        check(r#"{"n":9007199254740993}"#, r#"{"n":9007199254740992}"#, false);
        check(r#"{"n":{"$gt":1e400}}"#, r#"{"n":1e401}"#, true);
        check(r#"{"n":1}"#, r#"{"n":1.0}"#, true);
        check(r#"{"n":{"$mod":[10,7]}}"#, r#"{"n":123456789012345678901234567}"#, true);
        check(r#"{"n":{"$mod":[10,-7]}}"#, r#"{"n":-17}"#, true);
        check(r#"{"n":{"$mod":[-10,7]}}"#, r#"{"n":17}"#, true);
        check(r#"{"n":{"$mod":[10,7]}}"#, r#"{"n":17.0}"#, false);
        check(r#"{"n":{"$mod":[-9223372036854775808,7]}}"#, r#"{"n":7}"#, true);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("", "selector: invalid UTF-8 JSON"),
            ("[]", "must be a JSON object"),
            (r#"{"a":{"$foo":1}}"#, "Invalid operator: $foo"),
            (r#"{"a":{"$where":1}}"#, "Unsupported operator: $where"),
            (r#"{"$text":"a"}"#, "Unsupported operator: $text"),
            (r#"{"a":{"$in":1}}"#, "Bad argument for operator $in: 1"),
            (r#"{"a":{"$exists":1}}"#, "$exists"),
            (r#"{"a":{"$type":null}}"#, "$type: null"),
            (r#"{"a":{"$size":-1}}"#, "$size: -1"),
            (r#"{"a":{"$size":1.5}}"#, "$size: 1.5"),
            (r#"{"a":{"$mod":[1]}}"#, "$mod: [1]"),
            (r#"{"a":{"$mod":[0,1]}}"#, "$mod: [0,1]"),
            (r#"{"a":{"$mod":[1.5,1]}}"#, "$mod"),
            (r#"{"a":{"$regex":"("}}"#, "$regex: \"(\""),
            (r#"{"a":{"$regex":"(\\w{100}){100}"}}"#, "$regex"),
            (r#"{"a":{"$elemMatch":1}}"#, "$elemMatch: 1"),
            (r#"{"a":{"$beginsWith":1}}"#, "$beginsWith: 1"),
            (r#"{"$and":{}}"#, "$and: {}"),
            (r#"{"$not":[]}"#, "$not: []"),
            (r#"{"$gt":5}"#, "missing a field name"),
            (r#"{"$and":[{}]}"#, "missing a field name"),
            (r#"{"a..b":1}"#, "Invalid field name: a..b"),
            (r#"{"":1}"#, "Invalid field name: "),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let limits = Limits {
            selector_bytes_max: 100,
            selector_depth_max: 4,
            selector_conditions_max: 3,
            ..Limits::default()
        };
        let refused = |text: &str| Selector::parse(text, &limits).expect_err(text);
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(100));
        assert!(matches!(refused(&long), SelectorError::TooLarge { max: 100, .. }));
        assert!(matches!(refused(r#"{"a":[[[[]]]]}"#), SelectorError::Json(_)));
        let many = SelectorError::TooManyConditions { max: 3 };
        assert_eq!(refused(r#"{"a":1,"b":1,"c":1,"d":1}"#), many);
        // What is read is within the bounds, its canonical text is not.
        assert!(matches!(
            refused(&format!(r#"{{"{}":{{"$gt":1,"$lt":2}}}}"#, "x".repeat(40))),
            SelectorError::TooLarge { .. }
        ));
        let name = "x".repeat(1025);
        assert!(parse(&format!(r#"{{"{name}":1}}"#)).is_err());
        let patterns = [r#"{"a":{"$regex":"a"}}"#; 11].join(",");
        assert!(matches!(
            parse(&format!(r#"{{"$or":[{patterns}]}}"#)),
            Err(SelectorError::TooManyPatterns { .. })
        ));
    }

    #[test]
    fn one_meaning_has_one_text() {
        for (same, text) in [
            (vec!["{}", " { } ", r#"{"$and":[]}"#, r#"{"$or":[]}"#], "{}"),
            (
                vec![
                    r#"{"a":1,"b":2}"#,
                    r#"{"b":2,"a":{"$eq":1}}"#,
                    r#"{"$and":[{"b":2},{"$and":[{"a":1},{"b":2}]}]}"#,
                    r#"{"$nor":[{"a":{"$ne":1}},{"b":{"$ne":2}}]}"#,
                ],
                r#"{"$and":[{"a":{"$eq":1}},{"b":{"$eq":2}}]}"#,
            ),
            (vec![r#"{"a":{"b":1}}"#, r#"{"a.b":1}"#], r#"{"a.b":{"$eq":1}}"#),
            (
                vec![r#"{"a":{"$in":[2,1,1.0]}}"#, r#"{"a":{"$in":[1,1.0,2]}}"#],
                r#"{"a":{"$in":[1,2]}}"#,
            ),
            (vec![r#"{"$not":{"\\$a":{"$regex":"x"}}}"#], r#"{"\\$a":{"$not":{"$regex":"x"}}}"#),
        ] {
            for selector in same {
                assert_eq!(parse(selector).expect(selector).as_str(), text, "{selector}");
            }
        }
        // The order of an object's members is part of its value.
        assert_ne!(
            parse(r#"{"a":{"$eq":{"x":1,"y":2}}}"#),
            parse(r#"{"a":{"$eq":{"y":2,"x":1}}}"#)
        );
    }

    #[test]
    fn ranges_are_the_narrowest_of_the_conjunction() {
        let number = |text: &'static str| Json::Number(text.into());
        let selector = parse(
            r#"{"a":{"$gt":1,"$gte":1,"$lte":9,"$lt":9},"b":5,"c":{"$exists":false},"d":{"$in":[1]},"$or":[{"e":1},{"f":2}]}"#,
        )
        .unwrap();
        let ranges = selector.ranges();
        let fields: Vec<&str> = ranges.iter().map(|range| range.field[0].as_str()).collect();
        assert_eq!(fields, ["a", "b", "d"]);
        assert_eq!(ranges[0].lower, Bound::Excluded(&number("1")));
        assert_eq!(ranges[0].upper, Bound::Excluded(&number("9")));
        assert_eq!(ranges[1].lower, Bound::Included(&number("5")));
        assert_eq!(ranges[1].upper, Bound::Included(&number("5")));
        assert_eq!(ranges[2].lower, Bound::Unbounded);
        assert!(parse(r#"{"$not":{"a":1}}"#).unwrap().ranges()[0].lower == Bound::Unbounded);
    }

    fn field() -> impl Strategy<Value = String> {
        prop_oneof!["[ab]", Just("_id".to_owned()), Just("a.b".to_owned()), Just("a.0".to_owned())]
    }

    fn part() -> impl Strategy<Value = String> {
        let value = || collate::tests::value().prop_map(|value| value.to_string());
        let leaf = prop_oneof![
            value(),
            (prop::sample::select(vec!["$eq", "$ne", "$lt", "$lte", "$gt", "$gte"]), value())
                .prop_map(|(operator, value)| format!(r#"{{"{operator}":{value}}}"#)),
            (
                prop::sample::select(vec!["$in", "$nin", "$all"]),
                prop::collection::vec(value(), 0..3)
            )
                .prop_map(|(operator, values)| format!(
                    r#"{{"{operator}":[{}]}}"#,
                    values.join(",")
                )),
            prop::sample::select(vec![
                r#"{"$exists":true}"#,
                r#"{"$exists":false}"#,
                r#"{"$type":"number"}"#,
                r#"{"$size":2}"#,
                r#"{"$mod":[2,1]}"#,
                r#"{"$regex":"^a"}"#,
                r#"{"$beginsWith":"a"}"#,
            ])
            .prop_map(str::to_owned),
        ];
        leaf.prop_recursive(4, 12, 3, |inner| {
            let lists = prop::sample::select(vec!["$and", "$or", "$nor"]);
            let ones =
                prop::sample::select(vec!["$not", "$elemMatch", "$allMatch", "$keyMapMatch"]);
            prop_oneof![
                (field(), inner.clone())
                    .prop_map(|(field, part)| format!(r#"{{"{field}":{part}}}"#)),
                (lists, prop::collection::vec(inner.clone(), 0..3)).prop_map(
                    |(operator, parts)| format!(r#"{{"{operator}":[{}]}}"#, parts.join(","))
                ),
                (ones, inner).prop_map(|(operator, part)| format!(r#"{{"{operator}":{part}}}"#)),
            ]
        })
    }

    fn body() -> impl Strategy<Value = String> {
        let value = || collate::tests::value().prop_map(|value| value.to_string());
        (value(), value()).prop_map(|(a, b)| format!(r#"{{"a":{a},"b":{b}}}"#))
    }

    // Most documents do not match, and are no cases.
    const REJECTS_MAX: u32 = 65_536;

    proptest! {
        #![proptest_config(ProptestConfig { max_global_rejects: REJECTS_MAX, ..ProptestConfig::default() })]
        #[test]
        fn the_canonical_text_means_the_same(field in field(), part in part(), body in body()) {
            let Ok(selector) = parse(&format!(r#"{{"{field}":{part}}}"#)) else { return Ok(()) };
            let again = parse(selector.as_str()).unwrap();
            prop_assert_eq!(again.as_str(), selector.as_str());
            let document = document(&body);
            prop_assert_eq!(again.matches(&document), selector.matches(&document));
        }

        #[test]
        fn ranges_hold_for_every_match(parts in prop::collection::vec((field(), part()), 1..3), body in body()) {
            let parts: Vec<String> = parts.iter().map(|(field, part)| format!(r#"{{"{field}":{part}}}"#)).collect();
            let Ok(selector) = parse(&format!(r#"{{"$and":[{}]}}"#, parts.join(","))) else { return Ok(()) };
            let document = document(&body);
            prop_assume!(selector.matches(&document));
            let json = document.to_json();
            let json = Json::parse(&json, &Limits::default()).unwrap();
            for range in selector.ranges() {
                let path = path::Path(range.field.to_vec());
                let path::Found::Value(value) = path.find(&json) else { panic!("{:?}", range.field) };
                let order = |bound| collate::compare(value, bound, range.strings);
                let above = match range.lower {
                    Bound::Included(low) => order(low).is_ge(),
                    Bound::Excluded(low) => order(low).is_gt(),
                    Bound::Unbounded => true,
                };
                let below = match range.upper {
                    Bound::Included(high) => order(high).is_le(),
                    Bound::Excluded(high) => order(high).is_lt(),
                    Bound::Unbounded => true,
                };
                prop_assert!(above && below);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
