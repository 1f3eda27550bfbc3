//! A JSON Patch while it is applied: what it does is counted before it is done.

use std::borrow::Cow;

use super::{Operation, PatchError, Pointer};
use crate::doc::equal::same;
use crate::doc::error::ParseError;
use crate::doc::value::Json;
use crate::limits::Limits;

/// Members and elements that one JSON Patch looks at and moves: some tenths of a second.
const WORK_MAX: usize = 20_000_000;

/// Bytes of text that count as one member, where a patch compares them.
const BYTES_PER_MEMBER: usize = 16;

/// A JSON Patch while it is applied.
pub(super) struct Applying<'l> {
    limits: &'l Limits,
    bytes_copied: usize,
    members_copied: usize,
    work_left: usize,
}

impl<'l> Applying<'l> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self { limits, bytes_copied: 0, members_copied: 0, work_left: WORK_MAX }
    }

    pub(super) fn apply(
        &mut self,
        document: &mut Json<'_>,
        operation: &Operation,
        at: usize,
    ) -> Result<(), PatchError> {
        let missing = |path: &Pointer| PatchError::Missing { at, path: path.text() };
        match operation {
            Operation::Add(path, value) => self.add(document, path, value.clone(), at),
            Operation::Remove(path) => {
                self.take(document, path)?.map(drop).ok_or_else(|| missing(path))
            }
            Operation::Replace(path, value) => {
                self.check_depth(path, value)?;
                *self.find(document, &path.0)?.ok_or_else(|| missing(path))? = value.clone();
                Ok(())
            }
            Operation::Move(from, path) if from == path => {
                self.find(document, &from.0)?.map(drop).ok_or_else(|| missing(from))
            }
            Operation::Move(from, path) => {
                let value = self.take(document, from)?.ok_or_else(|| missing(from))?;
                self.add(document, path, value, at)
            }
            Operation::Copy(from, path) => {
                let found = self.find(document, &from.0)?.ok_or_else(|| missing(from))?;
                let value = self.copy(found)?;
                self.add(document, path, value, at)
            }
            Operation::Test(path, expected) => {
                let found = self.find(document, &path.0)?.ok_or_else(|| missing(path))?;
                self.work(Size::of(found).work() + Size::of(expected).work())?;
                let same = same(found, expected);
                same.then_some(()).ok_or_else(|| PatchError::Test { at, path: path.text() })
            }
        }
    }

    /// Counts before it is done what an operation is about to do.
    fn work(&mut self, work: usize) -> Result<(), PatchError> {
        let left = self.work_left.checked_sub(work);
        self.work_left = left.ok_or(PatchError::TooMuchWork { max: WORK_MAX })?;
        Ok(())
    }

    fn copy<'a>(&mut self, value: &Json<'a>) -> Result<Json<'a>, PatchError> {
        let size = Size::of(value);
        self.work(size.work())?;
        self.members_copied += size.members;
        let max = self.limits.json_members_max;
        if self.members_copied > max {
            return Err(ParseError::TooManyMembers { max }.into());
        }
        self.bytes_copied += value.to_string().len();
        let max = self.limits.doc_bytes_max;
        if self.bytes_copied > max {
            return Err(ParseError::TooLarge { bytes: self.bytes_copied, max }.into());
        }
        Ok(value.clone())
    }

    fn add<'a>(
        &mut self,
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
        match self.find(document, parents)?.ok_or_else(missing)? {
            Json::Object(members) => {
                self.work(members.len())?;
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
                let place = place.ok_or_else(missing)?;
                self.work(elements.len() - place)?;
                elements.insert(place, value);
                Ok(())
            }
            _ => Err(missing()),
        }
    }

    /// The recursion over values is as deep as they are.
    fn check_depth(&mut self, path: &Pointer, value: &Json<'_>) -> Result<(), PatchError> {
        let (size, max) = (Size::of(value), self.limits.json_depth_max);
        self.work(size.members)?;
        if path.0.len() + size.depth > max {
            return Err(ParseError::TooDeep { max }.into());
        }
        Ok(())
    }

    fn find<'v, 'a>(
        &mut self,
        document: &'v mut Json<'a>,
        tokens: &[String],
    ) -> Result<Option<&'v mut Json<'a>>, PatchError> {
        let mut at = document;
        for token in tokens {
            let found = match at {
                Json::Object(members) => {
                    self.work(members.len())?;
                    members.iter_mut().find(|(name, _)| name == token).map(|(_, value)| value)
                }
                Json::Array(elements) => index(token).and_then(|place| elements.get_mut(place)),
                _ => None,
            };
            let Some(found) = found else { return Ok(None) };
            at = found;
        }
        Ok(Some(at))
    }

    fn take<'a>(
        &mut self,
        document: &mut Json<'a>,
        path: &Pointer,
    ) -> Result<Option<Json<'a>>, PatchError> {
        let Some((last, parents)) = path.0.split_last() else {
            return Ok(Some(std::mem::replace(document, Json::Null)));
        };
        Ok(match self.find(document, parents)? {
            Some(Json::Object(members)) => {
                self.work(members.len())?;
                let place = members.iter().position(|(name, _)| name == last);
                place.map(|place| members.remove(place).1)
            }
            Some(Json::Array(elements)) => {
                let place = index(last).filter(|place| *place < elements.len());
                self.work(place.map_or(0, |place| elements.len() - place))?;
                place.map(|place| elements.remove(place))
            }
            _ => None,
        })
    }
}

/// How much a value is, as one walk over it tells.
#[derive(Clone, Copy, Default)]
struct Size {
    members: usize,
    text_bytes: usize,
    depth: usize,
}

impl Size {
    fn of(value: &Json<'_>) -> Self {
        let sum = |sum: Self, part: Self| Self {
            members: sum.members + part.members + 1,
            text_bytes: sum.text_bytes + part.text_bytes,
            depth: sum.depth.max(part.depth + 1),
        };
        let empty = Self { depth: 1, ..Self::default() };
        match value {
            Json::Object(members) => members.iter().map(|(_, v)| Self::of(v)).fold(empty, sum),
            Json::Array(elements) => elements.iter().map(Self::of).fold(empty, sum),
            Json::Number(text) | Json::String(text) => {
                Self { text_bytes: text.len(), ..Self::default() }
            }
            Json::Null | Json::Bool(_) => Self::default(),
        }
    }

    fn work(self) -> usize {
        self.members + self.text_bytes / BYTES_PER_MEMBER
    }
}

/// An element's place: digits without zeros before them.
fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || !token.starts_with(['0', '+']);
    token.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use crate::doc::{Body, Patch};

    use super::*;

    #[test]
    fn a_small_patch_cannot_keep_a_processor_busy() {
        let limits = Limits::default();
        let zeros = "0,".repeat(90_000);
        let names: String = (0..90_000).map(|n| format!("\"m{n}\":0,")).collect();
        let document = format!("{{{names}\"l\":[{zeros}0]}}");
        for step in [
            r#"{"op":"move","from":"/l/0","path":"/l/-"}"#,
            r#"{"op":"add","path":"/l/0","value":0}"#,
            r#"{"op":"move","from":"/l","path":"/l"}"#,
            r#"{"op":"test","path":"/m7","value":0}"#,
            r#"{"op":"replace","path":"/m7","value":0}"#,
        ] {
            let limits = Limits { json_members_max: 1_000_000, ..limits.clone() };
            let body = Body::parse(&document, &limits).unwrap();
            let patch = |count| format!("[{}]", vec![step; count].join(","));
            let many = Patch::operations(&patch(1_000), &limits).unwrap();
            let refused = many.apply(&body, &limits);
            assert!(matches!(refused, Err(PatchError::TooMuchWork { .. })), "{step}");
            let few = Patch::operations(&patch(20), &limits).unwrap();
            few.apply(&body, &limits).expect(step);
        }
        let copies = r#"[{"op":"copy","from":"/l","path":"/l2"}]"#;
        let patch = Patch::operations(copies, &limits).unwrap();
        let body = Body::parse(&format!("{{\"l\":[{zeros}0]}}"), &limits).unwrap();
        let max = limits.json_members_max;
        let many = patch.apply(&body, &Limits { json_members_max: max / 2, ..limits });
        assert_eq!(many, Err(ParseError::TooManyMembers { max: max / 2 }.into()));
    }
}
