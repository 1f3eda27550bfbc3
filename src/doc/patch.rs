//! Partial changes of a document: JSON Merge Patch (RFC 7396) and JSON Patch (RFC 6902).
//!
//! They are applied to [`Json`], whose numbers are text: what a patch does not name keeps its digits,
//! which a value of floats would not.
//!
//! The hard case is a patch that copies what it has just made, and so on: ten steps are a thousand
//! times the document. Operations, depth and copied bytes are bounded while it is applied.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::body::Body;
use super::equal::same;
use super::error::{ParseError, printable};
use super::value::Json;
use crate::limits::Limits;

/// Operations in one JSON Patch.
const OPERATIONS_MAX: usize = 1_000;

/// Why a patch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// It is no patch, or what it makes is no document.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// An operation that is not one of RFC 6902.
    #[error("operation {at} of the patch: {problem}")]
    Operation {
        /// Its place in the patch.
        at: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More operations than are applied at a time.
    #[error("the patch has {count} operations, at most {max} are allowed")]
    TooManyOperations {
        /// How many it has.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// A path that leads nowhere in the document.
    #[error("operation {at} of the patch: {path:?} is not in the document")]
    Missing {
        /// The operation's place in the patch.
        at: usize,
        /// The path, cut to a printable length.
        path: String,
    },
    /// A `test` that does not hold.
    #[error("operation {at} of the patch: {path:?} has another value")]
    Test {
        /// The operation's place in the patch.
        at: usize,
        /// The path, cut to a printable length.
        path: String,
    },
}

/// A change of a part of a document.
///
/// ```
/// use settee::{Limits, doc::{Body, Patch}};
/// let limits = Limits::default();
/// let patch = Patch::merge(r#"{"done": true, "note": null}"#, &limits)?;
/// let body = Body::parse(r#"{"price":1.10,"done":false,"note":"x"}"#, &limits)?;
/// assert_eq!(patch.apply(&body, &limits)?.as_str(), r#"{"price":1.10,"done":true}"#);
/// # Ok::<(), settee::doc::PatchError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Patch(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Merge(Json<'static>),
    Operations(Vec<Operation>),
}

#[derive(Debug, Clone, PartialEq)]
enum Operation {
    Add(Pointer, Json<'static>),
    Remove(Pointer),
    Replace(Pointer, Json<'static>),
    Move(Pointer, Pointer),
    Copy(Pointer, Pointer),
    Test(Pointer, Json<'static>),
}

/// A JSON pointer (RFC 6901), taken apart.
#[derive(Debug, Clone, PartialEq)]
struct Pointer(Vec<String>);

impl Pointer {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Vec::new()));
        }
        let unescape = |token: &str| token.replace("~1", "/").replace("~0", "~");
        Some(Self(text.strip_prefix('/')?.split('/').map(unescape).collect()))
    }

    fn text(&self) -> String {
        let escape = |token: &String| format!("/{}", token.replace('~', "~0").replace('/', "~1"));
        printable(&self.0.iter().map(escape).collect::<String>())
    }

    fn is_within(&self, other: &Self) -> bool {
        self.0.len() > other.0.len() && self.0.starts_with(&other.0)
    }
}

/// An operation as it is written.
#[derive(Deserialize)]
struct Written<'a> {
    op: Cow<'a, str>,
    path: Cow<'a, str>,
    from: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

impl Patch {
    /// Reads a JSON Merge Patch, which must be an object.
    ///
    /// # Errors
    /// [`PatchError::Parse`].
    pub fn merge(text: &str, limits: &Limits) -> Result<Self, PatchError> {
        match Json::parse(text, limits)? {
            patch @ Json::Object(_) => Ok(Self(Kind::Merge(patch.into_owned()))),
            _ => Err(ParseError::NotAnObject.into()),
        }
    }

    /// Reads a JSON Patch: a list of operations.
    ///
    /// # Errors
    /// [`PatchError::Parse`], [`PatchError::Operation`], [`PatchError::TooManyOperations`].
    pub fn operations(text: &str, limits: &Limits) -> Result<Self, PatchError> {
        let Json::Array(elements) = Json::parse(text, limits)? else {
            return Err(PatchError::Operation { at: 0, problem: "a JSON Patch is an array" });
        };
        if elements.len() > OPERATIONS_MAX {
            let count = elements.len();
            return Err(PatchError::TooManyOperations { count, max: OPERATIONS_MAX });
        }
        let texts: Vec<&RawValue> = serde_json::from_str(text)
            .map_err(|_| ParseError::Json { problem: "no list of operations", at: 0 })?;
        let operations = texts.iter().enumerate().map(|(at, text)| {
            operation(text.get(), limits).map_err(|problem| PatchError::Operation { at, problem })
        });
        Ok(Self(Kind::Operations(operations.collect::<Result<_, _>>()?)))
    }

    /// Whether what it does depends on what it finds in places that it does not write.
    #[must_use]
    pub fn reads(&self) -> bool {
        let reads = |operation: &Operation| {
            matches!(operation, Operation::Test(..) | Operation::Copy(..) | Operation::Move(..))
        };
        matches!(&self.0, Kind::Operations(operations) if operations.iter().any(reads))
    }

    /// A body with the patch applied; all of it or nothing.
    ///
    /// # Errors
    /// [`PatchError`].
    pub fn apply(&self, body: &Body, limits: &Limits) -> Result<Body, PatchError> {
        let mut value = Json::of_body(body);
        match &self.0 {
            Kind::Merge(patch) => merge(&mut value, patch),
            Kind::Operations(operations) => {
                let mut applying = Applying { limits, bytes_copied: 0 };
                for (at, operation) in operations.iter().enumerate() {
                    applying.apply(&mut value, operation, at)?;
                }
            }
        }
        Ok(Body::parse(&value.to_string(), limits)?)
    }
}

fn operation(text: &str, limits: &Limits) -> Result<Operation, &'static str> {
    let written: Written<'_> =
        serde_json::from_str(text).map_err(|_| "it needs a text \"op\" and a text \"path\"")?;
    let pointer = |text: &str| Pointer::parse(text).ok_or("a path is empty or begins with /");
    let path = pointer(&written.path)?;
    let from = || pointer(written.from.as_deref().ok_or("it needs a \"from\"")?);
    let value = || {
        let text = written.value.map_or("", RawValue::get);
        let value = Json::parse(text, limits).map_err(|_| "it needs a \"value\"")?;
        Ok::<_, &'static str>(value.into_owned())
    };
    Ok(match &*written.op {
        "add" => Operation::Add(path, value()?),
        "remove" => Operation::Remove(path),
        "replace" => Operation::Replace(path, value()?),
        "move" => {
            let from = from()?;
            if path.is_within(&from) {
                return Err("it moves a value into itself");
            }
            Operation::Move(from, path)
        }
        "copy" => Operation::Copy(from()?, path),
        "test" => Operation::Test(path, value()?),
        _ => return Err("\"op\" is add, remove, replace, move, copy or test"),
    })
}

/// RFC 7396, section 2. The recursion is as deep as the patch, which was checked.
fn merge(target: &mut Json<'_>, patch: &Json<'static>) {
    let Json::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !matches!(target, Json::Object(_)) {
        *target = Json::Object(Vec::new());
    }
    let Json::Object(members) = target else { return };
    let mut left: HashMap<&str, &Json<'static>> =
        changes.iter().map(|(key, change)| (&**key, change)).collect();
    members.retain_mut(|(key, value)| match left.remove(&**key) {
        None => true,
        Some(Json::Null) => false,
        Some(change) => {
            merge(value, change);
            true
        }
    });
    for (key, change) in changes.iter().filter(|(_, change)| *change != Json::Null) {
        if left.contains_key(&**key) {
            let mut value = Json::Null;
            merge(&mut value, change);
            members.push((key.clone(), value));
        }
    }
}

/// A JSON Patch while it is applied.
struct Applying<'l> {
    limits: &'l Limits,
    bytes_copied: usize,
}

impl Applying<'_> {
    fn apply(
        &mut self,
        document: &mut Json<'_>,
        operation: &Operation,
        at: usize,
    ) -> Result<(), PatchError> {
        let missing = |path: &Pointer| PatchError::Missing { at, path: path.text() };
        match operation {
            Operation::Add(path, value) => self.add(document, path, value.clone(), at),
            Operation::Remove(path) => take(document, path).map(drop).ok_or_else(|| missing(path)),
            Operation::Replace(path, value) => {
                self.check_depth(path, value)?;
                *find(document, path).ok_or_else(|| missing(path))? = value.clone();
                Ok(())
            }
            Operation::Move(from, path) if from == path => {
                find(document, from).map(drop).ok_or_else(|| missing(from))
            }
            Operation::Move(from, path) => {
                let value = take(document, from).ok_or_else(|| missing(from))?;
                self.add(document, path, value, at)
            }
            Operation::Copy(from, path) => {
                let value = find(document, from).ok_or_else(|| missing(from))?.clone();
                self.bytes_copied += value.to_string().len();
                let max = self.limits.doc_bytes_max;
                if self.bytes_copied > max {
                    return Err(ParseError::TooLarge { bytes: self.bytes_copied, max }.into());
                }
                self.add(document, path, value, at)
            }
            Operation::Test(path, expected) => {
                let found = find(document, path).ok_or_else(|| missing(path))?;
                let same = same(found, expected);
                same.then_some(()).ok_or_else(|| PatchError::Test { at, path: path.text() })
            }
        }
    }

    fn add<'a>(
        &self,
        document: &mut Json<'a>,
        path: &Pointer,
        value: Json<'a>,
        at: usize,
    ) -> Result<(), PatchError> {
        self.check_depth(path, &value)?;
        let missing = || PatchError::Missing { at, path: path.text() };
        let Some((last, parents)) = path.0.split_last() else {
            *document = value;
            return Ok(());
        };
        match find_tokens(document, parents).ok_or_else(missing)? {
            Json::Object(members) => {
                match members.iter_mut().find(|(name, _)| name == last) {
                    Some((_, member)) => *member = value,
                    None => members.push((Cow::Owned(last.clone()), value)),
                }
                Ok(())
            }
            Json::Array(elements) => {
                let place = match last.as_str() {
                    "-" => Some(elements.len()),
                    last => index(last).filter(|place| *place <= elements.len()),
                };
                elements.insert(place.ok_or_else(missing)?, value);
                Ok(())
            }
            _ => Err(missing()),
        }
    }

    /// The recursion over values is as deep as they are.
    fn check_depth(&self, path: &Pointer, value: &Json<'_>) -> Result<(), ParseError> {
        let max = self.limits.json_depth_max;
        if path.0.len() + depth(value) > max { Err(ParseError::TooDeep { max }) } else { Ok(()) }
    }
}

fn depth(value: &Json<'_>) -> usize {
    match value {
        Json::Object(members) => {
            1 + members.iter().map(|(_, value)| depth(value)).max().unwrap_or(0)
        }
        Json::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => 0,
    }
}

/// An element's place: digits without zeros before them.
fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || !token.starts_with(['0', '+']);
    token.parse().ok().filter(|_| plain)
}

fn find<'v, 'a>(document: &'v mut Json<'a>, path: &Pointer) -> Option<&'v mut Json<'a>> {
    find_tokens(document, &path.0)
}

fn find_tokens<'v, 'a>(document: &'v mut Json<'a>, tokens: &[String]) -> Option<&'v mut Json<'a>> {
    tokens.iter().try_fold(document, |at, token| match at {
        Json::Object(members) => {
            members.iter_mut().find(|(name, _)| name == token).map(|(_, value)| value)
        }
        Json::Array(elements) => elements.get_mut(index(token)?),
        _ => None,
    })
}

fn take<'a>(document: &mut Json<'a>, path: &Pointer) -> Option<Json<'a>> {
    let Some((last, parents)) = path.0.split_last() else {
        return Some(std::mem::replace(document, Json::Null));
    };
    match find_tokens(document, parents)? {
        Json::Object(members) => {
            let place = members.iter().position(|(name, _)| name == last)?;
            Some(members.remove(place).1)
        }
        Json::Array(elements) => {
            let place = index(last).filter(|place| *place < elements.len())?;
            Some(elements.remove(place))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(document: &str, patch: &str) -> String {
        let limits = Limits::default();
        let body = Body::parse(document, &limits).unwrap();
        Patch::merge(patch, &limits).unwrap().apply(&body, &limits).unwrap().as_str().to_owned()
    }

    fn patched(document: &str, patch: &str) -> Result<String, PatchError> {
        let limits = Limits { doc_bytes_max: 10_000, ..Limits::default() };
        let body = Body::parse(document, &limits).unwrap();
        let patched = Patch::operations(patch, &limits)?.apply(&body, &limits)?;
        Ok(patched.as_str().to_owned())
    }

    #[test]
    fn merge_patches_are_those_of_the_rfc() {
        // RFC 7396, appendix A, as far as documents are objects.
        for (document, patch, expected) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(merged(document, patch), expected, "{document} {patch}");
        }
        let limits = Limits::default();
        assert!(Patch::merge("[1]", &limits).is_err());
        assert!(Patch::merge("{", &limits).is_err());
    }

    #[test]
    fn what_a_patch_does_not_name_keeps_its_text() {
        let document = r#"{"big":11037754778148512814851267060610,"f":1.10,"e":1E+2,"n":1}"#;
        let kept = r#"{"big":11037754778148512814851267060610,"f":1.10,"e":1E+2,"n":2.50}"#;
        assert_eq!(merged(document, r#"{"n":2.50}"#), kept);
        let patch = r#"[{"op":"replace","path":"/n","value":2.50}]"#;
        assert_eq!(patched(document, patch).unwrap(), kept);
    }

    #[test]
    fn operations_are_those_of_the_rfc() {
        // RFC 6902, appendix A.
        for (document, patch, expected) in [
            (
                r#"{"foo":"bar"}"#,
                r#"[{"op":"add","path":"/baz","value":"q"}]"#,
                r#"{"foo":"bar","baz":"q"}"#,
            ),
            (
                r#"{"foo":["a","b"]}"#,
                r#"[{"op":"add","path":"/foo/1","value":"q"}]"#,
                r#"{"foo":["a","q","b"]}"#,
            ),
            (
                r#"{"baz":"q","foo":"bar"}"#,
                r#"[{"op":"remove","path":"/baz"}]"#,
                r#"{"foo":"bar"}"#,
            ),
            (
                r#"{"foo":["a","q","b"]}"#,
                r#"[{"op":"remove","path":"/foo/1"}]"#,
                r#"{"foo":["a","b"]}"#,
            ),
            (
                r#"{"baz":"q","foo":"bar"}"#,
                r#"[{"op":"replace","path":"/baz","value":"boo"}]"#,
                r#"{"baz":"boo","foo":"bar"}"#,
            ),
            (
                r#"{"foo":{"bar":1,"w":2},"q":{"c":3}}"#,
                r#"[{"op":"move","from":"/foo/w","path":"/q/t"}]"#,
                r#"{"foo":{"bar":1},"q":{"c":3,"t":2}}"#,
            ),
            (
                r#"{"foo":["all","grass","cows","eat"]}"#,
                r#"[{"op":"move","from":"/foo/1","path":"/foo/3"}]"#,
                r#"{"foo":["all","cows","eat","grass"]}"#,
            ),
            (
                r#"{"baz":"q","foo":["a",2,"c"]}"#,
                r#"[{"op":"test","path":"/baz","value":"q"},{"op":"test","path":"/foo/1","value":2.0}]"#,
                r#"{"baz":"q","foo":["a",2,"c"]}"#,
            ),
            (
                r#"{"foo":"bar"}"#,
                r#"[{"op":"add","path":"/child","value":{"g":{}}}]"#,
                r#"{"foo":"bar","child":{"g":{}}}"#,
            ),
            (
                r#"{"/":9,"~1":10}"#,
                r#"[{"op":"test","path":"/~01","value":10},{"op":"remove","path":"/~1"}]"#,
                r#"{"~1":10}"#,
            ),
            (
                r#"{"foo":["bar"]}"#,
                r#"[{"op":"add","path":"/foo/-","value":["abc"]}]"#,
                r#"{"foo":["bar",["abc"]]}"#,
            ),
            (
                r#"{"a":{"x":1,"y":[2]}}"#,
                r#"[{"op":"test","path":"/a","value":{"y":[2],"x":1}},{"op":"copy","from":"/a/y","path":"/b"}]"#,
                r#"{"a":{"x":1,"y":[2]},"b":[2]}"#,
            ),
            (r#"{"a":1}"#, r#"[{"op":"add","path":"","value":{"b":2}}]"#, r#"{"b":2}"#),
        ] {
            assert_eq!(patched(document, patch).as_deref(), Ok(expected), "{document} {patch}");
        }
    }

    #[test]
    fn what_cannot_be_applied_changes_nothing() {
        for (patch, part) in [
            (r#"[{"op":"add","path":"/a/b","value":1}]"#, "is not in the document"),
            (r#"[{"op":"add","path":"/l/3","value":1}]"#, "is not in the document"),
            (r#"[{"op":"remove","path":"/l/02"}]"#, "is not in the document"),
            (r#"[{"op":"remove","path":"/none"}]"#, "operation 0 of the patch: \"/none\""),
            (r#"[{"op":"test","path":"/n","value":"1"}]"#, "has another value"),
            (r#"[{"op":"test","path":"/n","value":1},{"op":"jump","path":"/n"}]"#, "operation 1"),
            (r#"[{"op":"add","path":"/n"}]"#, "needs a \"value\""),
            (r#"[{"op":"copy","path":"/n"}]"#, "needs a \"from\""),
            (r#"[{"op":"move","from":"/l","path":"/l/0"}]"#, "into itself"),
            (r#"[{"op":"remove","path":"n"}]"#, "begins with /"),
            (r#"[{"op":"replace","path":"","value":[]}]"#, "must be a JSON object"),
            (r#"[{"op":"add","path":"/_id","value":"b"}]"#, "_id"),
            (r#"{"op":"remove"}"#, "is an array"),
        ] {
            let error = patched(r#"{"n":1,"l":[1,2]}"#, patch).expect_err(patch).to_string();
            assert!(error.contains(part), "{patch}: {error}");
        }
    }

    #[test]
    fn a_patch_cannot_blow_a_document_up() {
        let copy = r#"{"op":"copy","from":"","path":"/x"}"#;
        let wide = r#"{"op":"copy","from":"/l","path":"/l/-"}"#;
        for step in [copy, wide] {
            let patch = format!("[{}]", [step; 999].join(","));
            let error = patched(r#"{"l":["abc"]}"#, &patch).expect_err(step);
            let bounded = matches!(
                error,
                PatchError::Parse(ParseError::TooLarge { .. } | ParseError::TooDeep { .. })
            );
            assert!(bounded, "{step}: {error}");
        }
        let patch = format!("[{}]", [copy; 1_001].join(","));
        assert!(matches!(patched("{}", &patch), Err(PatchError::TooManyOperations { .. })));
    }
}
