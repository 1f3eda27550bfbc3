//! Whether a value fulfils a selector.

use std::borrow::Cow;

use super::super::collate::{self, Strings};
use super::super::value::Json;
use super::condition::{Condition, Node, Operand};
use super::path::Found;

impl Node {
    pub(super) fn matches(&self, value: &Json<'_>) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.matches(value)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(value)),
            Self::Field { path, strings, condition } => match path.find(value) {
                Found::Value(value) => condition.holds(value, *strings),
                Found::Missing => matches!(condition, Condition::Exists(false)),
                Found::NoWay => false,
            },
        }
    }
}

impl Condition {
    fn holds(&self, value: &Json<'_>, strings: Strings) -> bool {
        match (self, value) {
            (Self::Not(condition), value) => !condition.holds(value, strings),
            (Self::Exists(wanted), _) => *wanted,
            (Self::Compare(comparison, operand), value) => {
                comparison.holds(collate::compare(value, operand, strings))
            }
            (Self::In(operands), value) => is_in(operands, value, strings),
            (Self::NotIn(operands), value) => !is_in(operands, value, strings),
            (Self::Type(wanted), value) => wanted == type_of(value),
            (Self::Size(size), Json::Array(elements)) => elements.len() as u64 == *size,
            (Self::Mod { divisor, remainder }, Json::Number(text)) => {
                remainder_of(text, *divisor) == Some(*remainder)
            }
            (Self::BeginsWith(prefix), Json::String(text)) => text.starts_with(prefix),
            (Self::Regex(pattern), Json::String(text)) => pattern.is_match(text),
            (Self::All(operands), Json::Array(elements)) => has_all(operands, elements),
            (Self::ElemMatch(node), Json::Array(elements)) => {
                elements.iter().any(|element| node.matches(element))
            }
            (Self::AllMatch(node), Json::Array(elements)) => {
                !elements.is_empty() && elements.iter().all(|element| node.matches(element))
            }
            (Self::KeyMapMatch(node), Json::Object(members)) => {
                members.iter().any(|(key, _)| node.matches(&Json::String(Cow::Borrowed(key))))
            }
            (
                Self::Size(_)
                | Self::Mod { .. }
                | Self::BeginsWith(_)
                | Self::Regex(_)
                | Self::All(_)
                | Self::ElemMatch(_)
                | Self::AllMatch(_)
                | Self::KeyMapMatch(_),
                _,
            ) => false,
        }
    }
}

/// Whether a value, or an element of it if it is an array, is among the operands.
fn is_in(operands: &[Operand], value: &Json<'_>, strings: Strings) -> bool {
    let among = |value: &Json<'_>| {
        operands.binary_search_by(|operand| collate::compare(operand, value, strings)).is_ok()
    };
    match value {
        Json::Array(elements) => elements.iter().any(among),
        value => among(value),
    }
}

/// Whether all operands are elements, or the only operand is the array itself. The same, not only
/// equal: that is how CouchDB compares here.
fn has_all(operands: &[Operand], elements: &[Json<'_>]) -> bool {
    let is_array_itself = || match operands {
        [Json::Array(operand)] => {
            operand.len() == elements.len()
                && operand.iter().zip(elements).all(|(a, b)| collate::same(a, b))
        }
        _ => false,
    };
    if operands.is_empty() {
        return false;
    }
    let mut sorted: Vec<&Json<'_>> = elements.iter().collect();
    sorted.sort_unstable_by(|a, b| collate::compare(a, b, Strings::Bytes));
    let is_element = |operand: &Operand| {
        sorted
            .binary_search_by(|element| collate::compare(element, operand, Strings::Bytes))
            .is_ok()
    };
    operands.iter().all(is_element) || is_array_itself()
}

fn type_of(value: &Json<'_>) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

/// The remainder of a number that is written as an integer, of whatever length; with the sign of
/// the number, as Erlang's `rem`.
fn remainder_of(text: &str, divisor: i64) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let divisor = i128::from(divisor).checked_abs().filter(|divisor| *divisor > 0)?;
    let mut remainder = 0_i128;
    for digit in digits.bytes() {
        if !digit.is_ascii_digit() {
            return None;
        }
        remainder = (remainder * 10 + i128::from(digit - b'0')) % divisor;
    }
    i64::try_from(if negative { -remainder } else { remainder }).ok()
}
