//! Partial changes of a document: JSON Merge Patch (RFC 7396) and JSON Patch (RFC 6902).
//!
//! They are applied to [`Json`], whose numbers are text: what a patch does not name keeps its digits,
//! which a value of floats would not.
//!
//! The hard case is a patch that copies what it has just made, and so on: ten steps are a thousand
//! times the document. And a small patch may look through a large document, and move all of it, with
//! each of its operations. Operations, depth, what is copied, and all work are bounded while it is
//! applied.

mod applying;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::body::Body;
use super::error::{ParseError, printable};
use super::value::Json;
use crate::limits::Limits;
use applying::Applying;

/// Operations in one JSON Patch.
const OPERATIONS_MAX: usize = 1_000;

/// Patches and bodies up to this many bytes are applied at once.
#[cfg(feature = "server")]
const QUICK_BYTES_MAX: usize = 64 * 1024;

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
    /// More members looked at and moved, by all operations together, than one patch may.
    #[error("the patch looks at and moves more than {max} members: apply it in several patches")]
    TooMuchWork {
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
pub struct Patch {
    kind: Arc<Kind>,
    bytes: usize,
}

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
            patch @ Json::Object(_) => Ok(Self::new(Kind::Merge(patch.into_owned()), text)),
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
        Ok(Self::new(Kind::Operations(operations.collect::<Result<_, _>>()?), text))
    }

    fn new(kind: Kind, text: &str) -> Self {
        Self { kind: Arc::new(kind), bytes: text.len() }
    }

    /// Whether applying it takes no time to speak of. Copies make much of little.
    #[cfg(feature = "server")]
    pub(crate) fn is_quick_on(&self, body: &Body) -> bool {
        self.bytes.max(body.as_str().len()) <= QUICK_BYTES_MAX && !self.reads()
    }

    /// Whether what it does depends on what it finds in places that it does not write.
    #[must_use]
    pub fn reads(&self) -> bool {
        let reads = |operation: &Operation| {
            matches!(operation, Operation::Test(..) | Operation::Copy(..) | Operation::Move(..))
        };
        matches!(&*self.kind, Kind::Operations(operations) if operations.iter().any(reads))
    }

    /// A body with the patch applied; all of it or nothing.
    ///
    /// # Errors
    /// [`PatchError`].
    pub fn apply(&self, body: &Body, limits: &Limits) -> Result<Body, PatchError> {
        let mut value = Json::of_body(body);
        match &*self.kind {
            Kind::Merge(patch) => merge(&mut value, patch),
            Kind::Operations(operations) => {
                let mut applying = Applying::new(limits);
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
