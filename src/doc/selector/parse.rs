//! Reads a selector's JSON into its normalised form.

use regex::RegexBuilder;

use super::super::collate::{self, Strings};
use super::super::error::printable;
use super::super::json;
use super::super::value::Json;
use super::condition::{Comparison, Condition, Node, Operand};
use super::error::SelectorError;
use super::path::Path;
use crate::limits::Limits;

/// Regular expressions in one selector, and bytes of memory for each, compiled and at work.
const PATTERNS_MAX: usize = 10;
const PATTERN_BYTES_MAX: usize = 256 * 1024;

pub(super) fn parse(text: &str, limits: &Limits) -> Result<Node, SelectorError> {
    check_length(text, limits)?;
    let selector = Json::parse(text, &bounds(limits)).map_err(SelectorError::Json)?;
    let Json::Object(members) = &selector else { return Err(SelectorError::NotAnObject) };
    if members.is_empty() {
        return Ok(Node::And(Vec::new()));
    }
    let conditions_max = limits.selector_conditions_max;
    let mut parser = Parser { conditions: 0, conditions_max, patterns: 0 };
    parser.node(&selector, &Place::default())
}

/// The bounds on a selector as JSON.
fn bounds(limits: &Limits) -> Limits {
    Limits { json_depth_max: limits.selector_depth_max, ..Limits::default() }
}

/// Checks that a canonical text is a selector within the bounds too: it may be longer and deeper
/// than what was read, and is what others are sent.
pub(super) fn check_canonical(text: &str, limits: &Limits) -> Result<(), SelectorError> {
    check_length(text, limits)?;
    json::check(text, &bounds(limits)).map_err(SelectorError::Json)
}

fn check_length(text: &str, limits: &Limits) -> Result<(), SelectorError> {
    let max = limits.selector_bytes_max;
    if text.len() > max {
        return Err(SelectorError::TooLarge { bytes: text.len(), max });
    }
    Ok(())
}

struct Parser {
    conditions: usize,
    conditions_max: usize,
    patterns: usize,
}

/// Where a part of a selector stands.
#[derive(Clone, Default)]
struct Place {
    path: Path,
    negated: bool,
    /// Whether paths begin at an element of an array or a name, which may themselves be judged.
    in_element: bool,
}

impl Place {
    fn negated(&self) -> Self {
        Self { negated: !self.negated, ..self.clone() }
    }

    fn element() -> Self {
        Self { in_element: true, ..Self::default() }
    }

    /// Ids of documents are compared by their bytes.
    fn strings(&self) -> Strings {
        if !self.in_element && self.path.0 == ["_id"] { Strings::Bytes } else { Strings::Unicode }
    }

    /// All of the parts, or one of them where they are negated.
    fn join(&self, parts: Vec<Node>) -> Node {
        if self.negated { Node::one_of(parts) } else { Node::all_of(parts) }
    }
}

impl Parser {
    /// A part: an object of operators and fields, or a value that is meant by `$eq`.
    fn node(&mut self, part: &Json<'_>, place: &Place) -> Result<Node, SelectorError> {
        match part {
            Json::Object(members) if !members.is_empty() => {
                let parts = members.iter().map(|(key, value)| self.member(key, value, place));
                Ok(place.join(parts.collect::<Result<_, _>>()?))
            }
            value => self.compare(Comparison::Equal, value, place),
        }
    }

    fn nodes(&mut self, parts: &[Json<'_>], place: &Place) -> Result<Vec<Node>, SelectorError> {
        parts.iter().map(|part| self.node(part, place)).collect()
    }

    fn member(
        &mut self,
        key: &str,
        value: &Json<'_>,
        place: &Place,
    ) -> Result<Node, SelectorError> {
        if !key.starts_with('$') {
            return self.node(value, &Place { path: place.path.join(key)?, ..place.clone() });
        }
        match (key, value) {
            ("$and", Json::Array(parts)) => Ok(place.join(self.nodes(parts, place)?)),
            ("$or", Json::Array(parts)) => {
                let parts = self.nodes(parts, place)?;
                Ok(place.negated().join(parts))
            }
            ("$nor", Json::Array(parts)) => Ok(place.join(self.nodes(parts, &place.negated())?)),
            ("$not", Json::Object(_)) => self.node(value, &place.negated()),
            ("$eq", _) => self.compare(Comparison::Equal, value, place),
            ("$ne", _) => self.compare(Comparison::NotEqual, value, place),
            ("$lt", _) => self.compare(Comparison::Less, value, place),
            ("$lte", _) => self.compare(Comparison::LessOrEqual, value, place),
            ("$gt", _) => self.compare(Comparison::Greater, value, place),
            ("$gte", _) => self.compare(Comparison::GreaterOrEqual, value, place),
            ("$elemMatch" | "$allMatch" | "$keyMapMatch", Json::Object(_)) => {
                let inner = Box::new(self.node(value, &Place::element())?);
                let condition = match key {
                    "$elemMatch" => Condition::ElemMatch(inner),
                    "$allMatch" => Condition::AllMatch(inner),
                    _ => Condition::KeyMapMatch(inner),
                };
                self.field(condition, place)
            }
            (operator, argument) => {
                let condition = self.condition(operator, argument, place.strings())?;
                self.field(condition, place)
            }
        }
    }

    fn compare(
        &mut self,
        comparison: Comparison,
        value: &Json<'_>,
        place: &Place,
    ) -> Result<Node, SelectorError> {
        self.field(Condition::Compare(comparison, value.clone().into_owned()), place)
    }

    fn field(&mut self, condition: Condition, place: &Place) -> Result<Node, SelectorError> {
        if place.path.is_empty() && !place.in_element {
            return Err(SelectorError::MissingField);
        }
        self.conditions += 1;
        if self.conditions > self.conditions_max {
            return Err(SelectorError::TooManyConditions { max: self.conditions_max });
        }
        let condition = if place.negated { condition.negated() } else { condition };
        Ok(Node::Field { path: place.path.clone(), strings: place.strings(), condition })
    }

    /// A condition that names no fields.
    fn condition(
        &mut self,
        operator: &str,
        argument: &Json<'_>,
        strings: Strings,
    ) -> Result<Condition, SelectorError> {
        Ok(match (operator, argument) {
            ("$exists", Json::Bool(wanted)) => Condition::Exists(*wanted),
            ("$in", Json::Array(operands)) => Condition::In(sorted(operands, strings)),
            ("$nin", Json::Array(operands)) => Condition::NotIn(sorted(operands, strings)),
            ("$all", Json::Array(operands)) => Condition::All(owned(operands)),
            ("$type", Json::String(name)) => Condition::Type(name.to_string()),
            ("$beginsWith", Json::String(prefix)) => Condition::BeginsWith(prefix.to_string()),
            ("$size", Json::Number(size)) => {
                Condition::Size(size.parse().map_err(|_| bad_argument("$size", argument))?)
            }
            ("$mod", Json::Array(numbers)) => {
                modulus(numbers).ok_or_else(|| bad_argument("$mod", argument))?
            }
            ("$regex", Json::String(pattern)) => self.regex(pattern, argument)?,
            (operator, argument) => return Err(refused(operator, argument)),
        })
    }

    fn regex(&mut self, pattern: &str, argument: &Json<'_>) -> Result<Condition, SelectorError> {
        self.patterns += 1;
        if self.patterns > PATTERNS_MAX {
            return Err(SelectorError::TooManyPatterns { max: PATTERNS_MAX });
        }
        let built = RegexBuilder::new(pattern)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .build();
        built.map(Condition::Regex).map_err(|_| bad_argument("$regex", argument))
    }
}

fn owned(operands: &[Json<'_>]) -> Vec<Operand> {
    operands.iter().map(|operand| operand.clone().into_owned()).collect()
}

fn sorted(operands: &[Json<'_>], strings: Strings) -> Vec<Operand> {
    let mut sorted = owned(operands);
    // Of equal operands one is enough; the same one whatever the order written.
    sorted.sort_by(|a, b| {
        collate::compare(a, b, strings).then_with(|| a.to_string().cmp(&b.to_string()))
    });
    sorted.dedup_by(|a, b| collate::compare(a, b, strings).is_eq());
    sorted
}

fn modulus(numbers: &[Json<'_>]) -> Option<Condition> {
    let [Json::Number(divisor), Json::Number(remainder)] = numbers else { return None };
    let (divisor, remainder) = (divisor.parse().ok()?, remainder.parse().ok()?);
    (divisor != 0).then_some(Condition::Mod { divisor, remainder })
}

/// Operators with arguments that may be wrong.
const OPERATORS: [&str; 16] = [
    "$and",
    "$or",
    "$nor",
    "$not",
    "$exists",
    "$in",
    "$nin",
    "$all",
    "$type",
    "$beginsWith",
    "$size",
    "$mod",
    "$regex",
    "$elemMatch",
    "$allMatch",
    "$keyMapMatch",
];
/// Operators that CouchDB names in order to refuse them, and the one of its text indexes.
const UNSUPPORTED: [&str; 6] =
    ["$where", "$geoWithin", "$geoIntersects", "$near", "$nearSphere", "$text"];

fn refused(operator: &str, argument: &Json<'_>) -> SelectorError {
    if let Some(known) = OPERATORS.iter().find(|known| **known == operator) {
        return bad_argument(known, argument);
    }
    let name = printable(operator);
    if UNSUPPORTED.contains(&operator) {
        SelectorError::Unsupported { operator: name }
    } else {
        SelectorError::Operator { operator: name }
    }
}

fn bad_argument(operator: &'static str, argument: &Json<'_>) -> SelectorError {
    SelectorError::Argument { operator, argument: printable(&argument.to_string()) }
}
