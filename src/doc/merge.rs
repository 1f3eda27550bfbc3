//! Members of documents whose conflicting values have one merged value.
//!
//! A merge takes two branches of a document and needs no ancestor, which may be compacted away. Each
//! kind of member is a value that only grows in its own order, and merging is the smallest value above
//! both: commutative, associative and idempotent. Replicas that merge the same branches in any order,
//! some of them twice, come to the same value.
//!
//! The hard case are removals. A counter has what was added and what was taken away apart, for each
//! actor; a set has for each element how often it went in and out, odd while it is in.

use std::borrow::Cow;
use std::collections::HashMap;

use super::body::Body;
use super::collate::{self, Strings};
use super::equal::same;
use super::error::ParseError;
use super::value::Json;
use crate::limits::Limits;

/// The highest count, which a JavaScript number can be.
pub(super) const COUNT_MAX: u64 = (1 << 53) - 1;

/// The member that has the number of the last operations of each actor.
pub(super) const OPERATIONS: &str = "$ops";

/// How a member's values are merged. A value of another shape is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// `{ACTOR: [UP, DOWN], ...}`, counting what each actor added and took away. Its value is the
    /// sum of all UP less that of all DOWN. Of each number the larger one counts.
    Counter,
    /// `{ELEMENT: N, ...}`; the element is in the set while N is odd. The larger N counts.
    Set,
    /// A number. The larger one counts.
    Max,
    /// `{"at": NUMBER, "value": ANY}`. The one with the larger `at` counts.
    Latest,
}

/// What a merge does about members that have no rule, and differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Others {
    #[default]
    Conflict,
    Winner,
}

/// By which rules the branches of a conflict become one.
///
/// ```
/// use settee::{Limits, doc::{Body, Merge, MergePolicy}};
/// let policy = MergePolicy::new().field("likes", Merge::Counter).field("tags", Merge::Set);
/// let limits = Limits::default();
/// let one = Body::parse(r#"{"title":"A","likes":{"phone":[3,0]},"tags":{"red":1}}"#, &limits)?;
/// let other = Body::parse(r#"{"title":"A","likes":{"laptop":[2,1]},"tags":{"red":2}}"#, &limits)?;
/// let merged = policy.merge(&one, &other, &limits)?.expect("all that differs has a rule");
/// let expected = r#"{"title":"A","likes":{"phone":[3,0],"laptop":[2,1]},"tags":{"red":2}}"#;
/// assert_eq!(merged.as_str(), expected);
/// # Ok::<(), settee::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MergePolicy {
    fields: Vec<(String, Merge)>,
    others: Others,
}

impl MergePolicy {
    /// No rules: only branches that say the same are merged.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a rule for a member of the document.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, merge: Merge) -> Self {
        self.fields.push((name.into(), merge));
        self
    }

    /// The same, but branches that differ in members without a rule are merged too: the winning rev
    /// decides on these. Without it such a conflict stays for the application.
    #[must_use]
    pub fn others_by_winner(self) -> Self {
        Self { others: Others::Winner, ..self }
    }

    /// The body that stands for two, of which the first is of the winning rev; `None` where the
    /// conflict has to stay.
    ///
    /// # Errors
    /// [`ParseError`] for a merged body that is over a bound.
    pub fn merge(
        &self,
        winner: &Body,
        other: &Body,
        limits: &Limits,
    ) -> Result<Option<Body>, ParseError> {
        let merged = self.merged(&Json::of_body(winner), &Json::of_body(other));
        merged.map(|merged| Body::parse(&merged.to_string(), limits)).transpose()
    }

    fn merged<'a>(&self, winner: &Json<'a>, other: &Json<'a>) -> Option<Json<'a>> {
        let (mut merged, mut rest) = (winner.clone(), winner.clone());
        let mut rest_of_other = other.clone();
        let operations = [(OPERATIONS, Merge::Set)];
        let rules = self.fields.iter().map(|(name, merge)| (name.as_str(), *merge));
        for (name, rule) in rules.chain(operations) {
            if let Some(value) = rule.of_members(member(winner, name), member(other, name)) {
                set_member(&mut merged, name, value);
                take_member(&mut rest, name);
                take_member(&mut rest_of_other, name);
            }
        }
        (self.others == Others::Winner || same(&rest, &rest_of_other)).then_some(merged)
    }
}

impl Merge {
    /// The merged value of a member; `None` where it has none.
    pub(super) fn of_members<'a>(
        self,
        a: Option<&Json<'a>>,
        b: Option<&Json<'a>>,
    ) -> Option<Json<'a>> {
        match (a, b) {
            (Some(a), Some(b)) => self.of(a, b),
            (Some(one), None) | (None, Some(one)) => self.of(one, one),
            (None, None) => None,
        }
    }

    fn of<'a>(self, a: &Json<'a>, b: &Json<'a>) -> Option<Json<'a>> {
        match self {
            Self::Counter => by_member(a, b, |a, b| {
                let ([up, down], [other_up, other_down]) = (pair(a)?, pair(b)?);
                Some(Json::Array(vec![count(up.max(other_up)), count(down.max(other_down))]))
            }),
            Self::Set => by_member(a, b, |a, b| Some(count(number(a)?.max(number(b)?)))),
            Self::Max => match (a, b) {
                (Json::Number(_), Json::Number(_)) => Some(larger(a, b).clone()),
                _ => None,
            },
            Self::Latest => {
                let (at, other_at) = (at_of(a)?, at_of(b)?);
                let order = collate::compare(at, other_at, Strings::Bytes);
                Some(
                    if order.is_eq() {
                        larger(a, b)
                    } else if order.is_gt() {
                        a
                    } else {
                        b
                    }
                    .clone(),
                )
            }
        }
    }
}

/// The larger of two values; of equal ones the one whose text is, so that it is the same one in
/// whatever order they come.
fn larger<'v, 'a>(a: &'v Json<'a>, b: &'v Json<'a>) -> &'v Json<'a> {
    let order = collate::compare(a, b, Strings::Bytes);
    if order.then_with(|| a.to_string().cmp(&b.to_string())).is_ge() { a } else { b }
}

/// Merges two objects member by member; a member of one of them is merged with itself.
fn by_member<'a>(
    a: &Json<'a>,
    b: &Json<'a>,
    merge: impl Fn(&Json<'a>, &Json<'a>) -> Option<Json<'a>>,
) -> Option<Json<'a>> {
    let (Json::Object(ours), Json::Object(theirs)) = (a, b) else { return None };
    let mut left: HashMap<&str, &Json<'a>> =
        theirs.iter().map(|(key, value)| (&**key, value)).collect();
    let mut merged = Vec::with_capacity(ours.len());
    for (key, value) in ours {
        let other = left.remove(&**key).unwrap_or(value);
        merged.push((key.clone(), merge(value, other)?));
    }
    for (key, value) in theirs.iter().filter(|(key, _)| left.contains_key(&**key)) {
        merged.push((key.clone(), merge(value, value)?));
    }
    Some(Json::Object(merged))
}

/// A count, or `None` for what is none.
pub(super) fn number(value: &Json<'_>) -> Option<u64> {
    let Json::Number(text) = value else { return None };
    text.parse().ok().filter(|count| *count <= COUNT_MAX)
}

/// What an actor added to a counter and took away.
pub(super) fn pair(value: &Json<'_>) -> Option<[u64; 2]> {
    match value {
        Json::Array(pair) => match pair.as_slice() {
            [up, down] => Some([number(up)?, number(down)?]),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn count(count: u64) -> Json<'static> {
    Json::Number(Cow::Owned(count.to_string()))
}

fn at_of<'v, 'a>(value: &'v Json<'a>) -> Option<&'v Json<'a>> {
    member(value, "at").filter(|at| matches!(at, Json::Number(_)))
}

pub(super) fn member<'v, 'a>(object: &'v Json<'a>, name: &str) -> Option<&'v Json<'a>> {
    let Json::Object(members) = object else { return None };
    members.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

pub(super) fn set_member<'a>(object: &mut Json<'a>, name: &str, value: Json<'a>) {
    let Json::Object(members) = object else { return };
    match members.iter_mut().find(|(key, _)| key == name) {
        Some((_, member)) => *member = value,
        None => members.push((Cow::Owned(name.to_owned()), value)),
    }
}

fn take_member(object: &mut Json<'_>, name: &str) {
    if let Json::Object(members) = object {
        members.retain(|(key, _)| key != name);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn merge(policy: &MergePolicy, a: &str, b: &str) -> Option<String> {
        let limits = Limits::default();
        let body = |text| Body::parse(text, &limits).expect(text);
        let merged = policy.merge(&body(a), &body(b), &limits).expect("it is small");
        merged.map(|merged| merged.as_str().to_owned())
    }

    fn policy() -> MergePolicy {
        MergePolicy::new()
            .field("likes", Merge::Counter)
            .field("tags", Merge::Set)
            .field("best", Merge::Max)
            .field("state", Merge::Latest)
    }

    #[test]
    fn each_rule_takes_what_is_above_both() {
        for (a, b, merged) in [
            (r#"{"best":9}"#, r#"{"best":1e1}"#, r#"{"best":1e1}"#),
            (r#"{"best":2}"#, "{}", r#"{"best":2}"#),
            (
                r#"{"state":{"at":1,"value":"a"}}"#,
                r#"{"state":{"at":2,"value":"b"}}"#,
                r#"{"state":{"at":2,"value":"b"}}"#,
            ),
            (r#"{"likes":{"a":[1,5]}}"#, r#"{"likes":{"a":[2,3]}}"#, r#"{"likes":{"a":[2,5]}}"#),
            ("{}", r#"{"tags":{"x":1}}"#, r#"{"tags":{"x":1}}"#),
            (r#"{"$ops":{"a":1}}"#, r#"{"$ops":{"a":3}}"#, r#"{"$ops":{"a":3}}"#),
        ] {
            assert_eq!(merge(&policy(), a, b).as_deref(), Some(merged), "{a} {b}");
        }
    }

    #[test]
    fn what_has_no_rule_or_another_shape_keeps_the_conflict() {
        for (a, b) in [
            (r#"{"n":1}"#, r#"{"n":2}"#),
            (r#"{"n":1}"#, "{}"),
            (r#"{"likes":3}"#, r#"{"likes":4}"#),
            (r#"{"likes":{"a":[1,0]}}"#, r#"{"likes":{"a":[-1,0]}}"#),
            (r#"{"tags":{"x":1}}"#, r#"{"tags":["x"]}"#),
            (r#"{"best":"9"}"#, r#"{"best":1}"#),
        ] {
            assert_eq!(merge(&policy(), a, b), None, "{a} {b}");
            assert_eq!(merge(&policy().others_by_winner(), a, b).as_deref(), Some(a), "{a} {b}");
        }
        let (a, b) = (r#"{"n":1,"best":1}"#, r#"{"best":2,"n":1.0}"#);
        assert_eq!(merge(&policy(), a, b).as_deref(), Some(r#"{"n":1,"best":2}"#));
    }

    fn body() -> impl Strategy<Value = String> {
        let likes = prop::collection::btree_map("[ab]", (0..4_u8, 0..4_u8), 0..3);
        let tags = prop::collection::btree_map("[xy]", 0..5_u8, 0..3);
        let state = (0..3_u8, 0..3_u8);
        (likes, tags, 0..4_u8, state).prop_map(|(likes, tags, best, (at, value))| {
            let state = serde_json::json!({"at": at, "value": value});
            serde_json::json!({"likes": likes, "tags": tags, "best": best, "state": state})
                .to_string()
        })
    }

    proptest! {
        #[test]
        fn merging_is_commutative_associative_and_idempotent(a in body(), b in body(), c in body()) {
            let policy = policy();
            let merge = |a: &str, b: &str| merge(&policy, a, b).expect("all members have rules");
            let same = |a: &str, b: &str| same(&Json::cut(a), &Json::cut(b));
            prop_assert!(same(&merge(&a, &b), &merge(&b, &a)));
            prop_assert!(same(&merge(&merge(&a, &b), &c), &merge(&a, &merge(&b, &c))));
            prop_assert!(same(&merge(&a, &a), &a));
            prop_assert!(same(&merge(&merge(&a, &b), &b), &merge(&a, &b)));
        }
    }
}
