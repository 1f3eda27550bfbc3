//! Paths to fields: parts divided by dots.

use std::fmt;

use super::super::error::printable;
use super::super::value::Json;
use super::error::SelectorError;

/// Bytes of a path's parts: a path is kept with each of its conditions.
const BYTES_MAX: usize = 1024;

/// The way from a document, or from an element of an array, to a value within it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Path(pub Vec<String>);

/// The name of a field as indexes and sorts have it: parts divided by dots, as in a selector.
///
/// ```
/// use settee::doc::FieldPath;
/// let path = FieldPath::parse(r"at.year\.era")?;
/// assert_eq!(path.parts(), ["at", "year.era"]);
/// assert_eq!(path.to_string(), r"at.year\.era");
/// # Ok::<(), settee::doc::SelectorError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath(pub(super) Path);

impl FieldPath {
    /// Reads a field's name.
    ///
    /// # Errors
    /// [`SelectorError::FieldName`] for a name with an empty part, or that is too long.
    pub fn parse(name: &str) -> Result<Self, SelectorError> {
        Path::default().join(name).map(Self)
    }

    /// The names on the way, from the document inwards; at least one.
    #[must_use]
    pub fn parts(&self) -> &[String] {
        &self.0.0
    }

    /// Whether it is the document's id.
    #[must_use]
    pub fn is_id(&self) -> bool {
        self.parts() == ["_id"]
    }

    /// The value at the end of the path, if it leads to one.
    pub(crate) fn find<'v, 't>(&self, from: &'v Json<'t>) -> Option<&'v Json<'t>> {
        match self.0.find(from) {
            Found::Value(value) => Some(value),
            Found::Missing | Found::NoWay => None,
        }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name())
    }
}

/// What is at the end of a path.
pub(super) enum Found<'v, 't> {
    Value(&'v Json<'t>),
    /// An object on the way has no such member.
    Missing,
    /// A value on the way has no members, or an array no such element. CouchDB tells this from
    /// [`Found::Missing`]: `$exists: false` does not hold here.
    NoWay,
}

impl Path {
    /// Adds a field's name, whose dots divide it. A backslash takes the meaning from what follows
    /// and is itself left out, as in CouchDB (`mango_util:parse_field`).
    pub(super) fn join(&self, name: &str) -> Result<Self, SelectorError> {
        let mut parts = self.0.clone();
        let mut part = String::new();
        let mut escaped = false;
        for character in name.chars() {
            match character {
                '\\' => escaped = true,
                '.' if !escaped => parts.push(std::mem::take(&mut part)),
                other => {
                    part.push(other);
                    escaped = false;
                }
            }
        }
        parts.push(part);
        let bytes: usize = parts.iter().map(String::len).sum();
        if parts.iter().any(String::is_empty) || bytes > BYTES_MAX {
            return Err(SelectorError::FieldName { name: printable(name) });
        }
        Ok(Self(parts))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn first(&self) -> Option<&str> {
        self.0.first().map(String::as_str)
    }

    /// The name that [`Path::join`] reads as this path.
    pub(super) fn name(&self) -> String {
        let mut name = String::new();
        for part in &self.0 {
            if !name.is_empty() {
                name.push('.');
            } else if part.starts_with('$') {
                name.push('\\');
            }
            name.push_str(&part.replace('.', "\\."));
        }
        name
    }

    pub(super) fn find<'v, 't>(&self, from: &'v Json<'t>) -> Found<'v, 't> {
        let mut at = from;
        for part in &self.0 {
            at = match at {
                Json::Object(members) => match members.iter().find(|(key, _)| key == part) {
                    Some((_, value)) => value,
                    None => return Found::Missing,
                },
                Json::Array(elements) => {
                    let index = part.parse::<usize>().ok();
                    match index.and_then(|index| elements.get(index)) {
                        Some(element) => element,
                        None => return Found::NoWay,
                    }
                }
                _ => return Found::NoWay,
            };
        }
        Found::Value(at)
    }
}
