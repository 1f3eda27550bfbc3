//! Operations on counters and sets: what a writer wants to happen, not what it has read.
//!
//! They are applied to the merged value of all branches of a document, so that nothing is counted
//! twice or lost when the branches are merged later (see [`Merge`]). An operation of an actor has a
//! number, the next after its last one, and the document has the number of the last: so one that is
//! sent again, even to another gateway, is applied once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::body::Body;
use super::error::{ParseError, printable};
use super::merge::{COUNT_MAX, Merge, OPERATIONS, count, member, number, pair, set_member};
use super::value::Json;
use crate::limits::Limits;

/// Why operations were not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationsError {
    /// They cannot be read.
    #[error("operations: {problem}")]
    Malformed {
        /// What is wrong with them.
        problem: String,
    },
    /// A member that is there, and is no counter, or no set.
    #[error("the member {field:?} is no {kind}")]
    Shape {
        /// The member, cut to a printable length.
        field: String,
        /// What it should be.
        kind: &'static str,
    },
    /// An actor's operations before these are not here.
    #[error("the actor's next number is {next}")]
    Number {
        /// The number that these should have.
        next: u64,
    },
    /// What they would make is no document.
    #[error(transparent)]
    Parse(#[from] ParseError),
}

/// Members and elements that are changed together.
const CHANGES_MAX: usize = 1_000;

/// Members by name, with what is to be done to each.
type Fields<T> = BTreeMap<String, T>;

/// Changes of counters and sets, applied together.
///
/// ```
/// use settee::{Limits, doc::{Body, Operations}};
/// let limits = Limits::default();
/// let text = r#"{"actor": "anna", "n": 1, "inc": {"likes": 2}, "add": {"tags": ["red"]}}"#;
/// let operations = Operations::parse(text)?;
/// let before = Body::parse(r#"{"title":"A"}"#, &limits)?;
/// let after = operations.apply(&before, &[], "gateway", &limits)?.expect("they change it");
/// let expected = r#"{"title":"A","$ops":{"anna":1},"likes":{"anna":[2,0]},"tags":{"red":1}}"#;
/// assert_eq!(after.as_str(), expected);
/// assert_eq!(operations.apply(&after, &[], "gateway", &limits)?, None);
/// # Ok::<(), settee::doc::OperationsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operations {
    #[serde(default)]
    actor: Option<String>,
    #[serde(default)]
    n: Option<u64>,
    #[serde(default)]
    inc: Fields<i64>,
    #[serde(default)]
    add: Fields<Vec<String>>,
    #[serde(default)]
    remove: Fields<Vec<String>>,
}

impl Operations {
    /// Reads `{"actor", "n", "inc": {FIELD: NUMBER}, "add": {FIELD: [ELEMENT]}, "remove": {FIELD:
    /// [ELEMENT]}}`, all of it optional, `actor` and `n` together.
    ///
    /// # Errors
    /// [`OperationsError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, OperationsError> {
        let malformed = |problem: &str| OperationsError::Malformed { problem: printable(problem) };
        let operations: Self =
            serde_json::from_str(text).map_err(|problem| malformed(&problem.to_string()))?;
        if operations.actor.is_some() != operations.n.is_some() {
            return Err(malformed("an actor comes with its number n"));
        }
        if operations.actor.as_deref() == Some("") || operations.n == Some(0) {
            return Err(malformed("an actor has a name, and n begins with 1"));
        }
        let (inc, add, remove) = (&operations.inc, &operations.add, &operations.remove);
        let sets = || add.keys().chain(remove.keys());
        if inc.keys().chain(sets()).any(|name| name.starts_with(['_', '$'])) {
            return Err(malformed("a member's name does not begin with _ or $"));
        }
        if sets().any(|name| inc.contains_key(name)) {
            return Err(malformed("a member is a counter or a set"));
        }
        let elements = add.values().chain(remove.values()).map(Vec::len).sum::<usize>();
        if inc.len() + add.len() + remove.len() + elements > CHANGES_MAX {
            return Err(malformed("at most 1000 members and elements are changed together"));
        }
        let most = i64::try_from(COUNT_MAX).expect("2^53 fits 63 bits");
        if inc.values().any(|step| step.abs_diff(0) > most.unsigned_abs()) {
            return Err(malformed("a number to count by is over 2^53"));
        }
        Ok(operations)
    }

    /// The body after these operations; `None` if they change nothing or were applied before.
    /// `others` are the bodies of the branches that conflict with the winning `body`; `writer` counts
    /// for operations without an actor.
    ///
    /// # Errors
    /// [`OperationsError`].
    pub fn apply(
        &self,
        body: &Body,
        others: &[&Body],
        writer: &str,
        limits: &Limits,
    ) -> Result<Option<Body>, OperationsError> {
        let before = Json::of_body(body);
        let others: Vec<Json<'_>> = others.iter().map(|other| Json::of_body(other)).collect();
        let mut after = before.clone();
        let merged = |name: &str, rule: Merge| {
            let values = others.iter().map(|other| member(other, name));
            values.fold(member(&before, name).cloned(), |value, other| {
                rule.of_members(value.as_ref(), other).or(value)
            })
        };
        if let (Some(actor), Some(n)) = (&self.actor, self.n) {
            let mut all = object(merged(OPERATIONS, Merge::Set), OPERATIONS, "list of numbers")?;
            let last = member(&all, actor).and_then(number).unwrap_or(0);
            if n <= last {
                return Ok(None);
            }
            if n != last + 1 {
                return Err(OperationsError::Number { next: last + 1 });
            }
            set_member(&mut all, actor, count(n));
            set_member(&mut after, OPERATIONS, all);
        }
        let writer = self.actor.as_deref().unwrap_or(writer);
        for (name, step) in &self.inc {
            let mut counter = object(merged(name, Merge::Counter), name, "counter")?;
            step_by(&mut counter, writer, *step).ok_or_else(|| shape(name, "counter"))?;
            set_member(&mut after, name, counter);
        }
        let sets: BTreeSet<&String> = self.add.keys().chain(self.remove.keys()).collect();
        for name in sets {
            let mut set = object(merged(name, Merge::Set), name, "set")?;
            let puts = self.add.get(name).into_iter().flatten().map(|element| (element, true));
            let takes = self.remove.get(name).into_iter().flatten().map(|element| (element, false));
            for (element, is_in) in puts.chain(takes) {
                put(&mut set, element, is_in).ok_or_else(|| shape(name, "set"))?;
            }
            set_member(&mut after, name, set);
        }
        if after == before {
            return Ok(None);
        }
        Ok(Some(Body::parse(&after.to_string(), limits)?))
    }
}

fn shape(field: &str, kind: &'static str) -> OperationsError {
    OperationsError::Shape { field: printable(field), kind }
}

fn object<'a>(
    value: Option<Json<'a>>,
    field: &str,
    kind: &'static str,
) -> Result<Json<'a>, OperationsError> {
    match value {
        None => Ok(Json::Object(Vec::new())),
        Some(object @ Json::Object(_)) => Ok(object),
        Some(_) => Err(shape(field, kind)),
    }
}

/// Counts for an actor; `None` where its entry is no pair of counts, or has no room.
fn step_by(counter: &mut Json<'_>, actor: &str, step: i64) -> Option<()> {
    let [up, down] = member(counter, actor).map_or(Some([0, 0]), pair)?;
    let by = step.unsigned_abs();
    let [up, down] = if step < 0 { [up, down + by] } else { [up + by, down] };
    if up.max(down) > COUNT_MAX {
        return None;
    }
    set_member(counter, actor, Json::Array(vec![count(up), count(down)]));
    Some(())
}

/// Puts an element in or takes it out, if it is not so already.
fn put(set: &mut Json<'_>, element: &str, is_in: bool) -> Option<()> {
    let times = member(set, element).map_or(Some(0), number)?;
    if (times % 2 == 1) != is_in {
        if times == COUNT_MAX {
            return None;
        }
        set_member(set, element, count(times + 1));
    }
    Some(())
}

/// What a counter has come to; `None` for what is none.
#[must_use]
pub fn counted(counter: &Json<'_>) -> Option<i64> {
    let Json::Object(actors) = counter else { return None };
    actors.iter().try_fold(0_i64, |sum, (_, entry)| {
        let [up, down] = pair(entry)?;
        sum.checked_add(i64::try_from(up).ok()?)?.checked_sub(i64::try_from(down).ok()?)
    })
}

/// The elements that are in a set; `None` for what is none.
#[must_use]
pub fn elements<'v>(set: &'v Json<'_>) -> Option<Vec<&'v str>> {
    let Json::Object(members) = set else { return None };
    let mut found = Vec::new();
    for (element, times) in members {
        if number(times)? % 2 == 1 {
            found.push(Cow::as_ref(element));
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(text: &str, body: &str, others: &[&str]) -> Result<Option<String>, OperationsError> {
        let limits = Limits::default();
        let parse = |text: &str| Body::parse(text, &limits).expect("a body");
        let others: Vec<Body> = others.iter().map(|other| parse(other)).collect();
        let others: Vec<&Body> = others.iter().collect();
        let after = Operations::parse(text)?.apply(&parse(body), &others, "gw", &limits)?;
        Ok(after.map(|after| after.as_str().to_owned()))
    }

    #[test]
    fn counters_and_sets_change_and_other_members_stay() {
        for (operations, body, after) in [
            (r#"{"inc":{"n":2}}"#, "{}", r#"{"n":{"gw":[2,0]}}"#),
            (
                r#"{"inc":{"n":-2}}"#,
                r#"{"p":1.10,"n":{"gw":[2,1]}}"#,
                r#"{"p":1.10,"n":{"gw":[2,3]}}"#,
            ),
            (r#"{"add":{"s":["a","b"]}}"#, r#"{"s":{"a":2}}"#, r#"{"s":{"a":3,"b":1}}"#),
            (r#"{"remove":{"s":["a"]}}"#, r#"{"s":{"a":1}}"#, r#"{"s":{"a":2}}"#),
            (
                r#"{"add":{"s":["a"]},"remove":{"s":["b"]}}"#,
                r#"{"s":{"b":1}}"#,
                r#"{"s":{"b":2,"a":1}}"#,
            ),
        ] {
            assert_eq!(apply(operations, body, &[]), Ok(Some(after.to_owned())), "{operations}");
        }
        for (operations, body) in [
            (r#"{"add":{"s":["a"]}}"#, r#"{"s":{"a":1}}"#),
            (r#"{"remove":{"s":["a"]}}"#, r#"{"s":{}}"#),
            (r#"{"add":{"s":["a"]},"remove":{"s":[]}}"#, r#"{"s":{"a":1}}"#),
            (r#"{"inc":{"n":0}}"#, r#"{"n":{"gw":[1,0]}}"#),
            ("{}", r#"{"n":1}"#),
        ] {
            assert_eq!(apply(operations, body, &[]), Ok(None), "{operations} changes nothing");
        }
    }

    #[test]
    fn what_other_branches_count_is_counted_on() {
        let others = [r#"{"n":{"gw":[7,0],"anna":[1,0]},"s":{"a":2}}"#, r#"{"n":"other"}"#];
        let after = apply(r#"{"inc":{"n":1}}"#, r#"{"n":{"gw":[5,2]}}"#, &others);
        assert_eq!(after, Ok(Some(r#"{"n":{"gw":[8,2],"anna":[1,0]}}"#.to_owned())));
        let after = apply(r#"{"add":{"s":["a"]}}"#, "{}", &others);
        assert_eq!(after, Ok(Some(r#"{"s":{"a":3}}"#.to_owned())));
        let after = apply(r#"{"remove":{"s":["a"]}}"#, "{}", &[r#"{"s":{"a":1}}"#]);
        assert_eq!(after, Ok(Some(r#"{"s":{"a":2}}"#.to_owned())));
    }

    #[test]
    fn an_actors_operations_are_applied_once_and_in_order() {
        let first = r#"{"actor":"a","n":1,"inc":{"n":1}}"#;
        let body = apply(first, "{}", &[]).unwrap().expect("it is applied");
        assert_eq!(apply(first, &body, &[]), Ok(None));
        assert_eq!(apply(first, "{}", &[&body]), Ok(None), "another branch has it");
        let third = apply(&first.replace("\"n\":1,", "\"n\":3,"), &body, &[]);
        assert_eq!(third, Err(OperationsError::Number { next: 2 }));
    }

    #[test]
    fn what_is_no_operation_is_refused() {
        for (operations, part) in [
            ("[", "operations"),
            (r#"{"mul":{"n":1}}"#, "mul"),
            (r#"{"inc":{"n":1.5}}"#, "1.5"),
            (r#"{"inc":{"n":9007199254740992}}"#, "2^53"),
            (r#"{"inc":{"n":-9223372036854775808}}"#, "2^53"),
            (r#"{"inc":{"_n":1}}"#, "begin with _"),
            (r#"{"inc":{"$ops":1}}"#, "begin with _ or $"),
            (r#"{"inc":{"x":1},"add":{"x":["a"]}}"#, "a counter or a set"),
            (r#"{"actor":"a"}"#, "number n"),
            (r#"{"actor":"a","n":0}"#, "begins with 1"),
            (r#"{"inc":{"plain":1}}"#, "\"plain\" is no counter"),
            (r#"{"add":{"list":["a"]}}"#, "\"list\" is no set"),
            (r#"{"inc":{"full":1}}"#, "\"full\" is no counter"),
        ] {
            let body = r#"{"plain":1,"list":["b"],"full":{"gw":[9007199254740991,0]}}"#;
            let error = apply(operations, body, &[]).expect_err(operations).to_string();
            assert!(error.contains(part), "{operations}: {error}");
        }
    }
}
