//! A normalised selector: conditions of fields under `$and` and `$or`.

use std::cmp::Ordering;

use regex::Regex;

use super::super::collate::Strings;
use super::super::value::Json;
use super::path::Path;

/// A value that a selector names.
pub(super) type Operand = Json<'static>;

/// A part of a selector.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// All of them hold; always, if there are none.
    And(Vec<Node>),
    /// One of them holds. Never empty.
    Or(Vec<Node>),
    /// What is at the path fulfils the condition.
    Field { path: Path, strings: Strings, condition: Condition },
}

/// A condition of one value.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    Exists(bool),
    Compare(Comparison, Operand),
    /// Sorted.
    In(Vec<Operand>),
    /// Sorted.
    NotIn(Vec<Operand>),
    Type(String),
    Size(u64),
    Mod {
        divisor: i64,
        remainder: i64,
    },
    BeginsWith(String),
    Regex(Regex),
    All(Vec<Operand>),
    ElemMatch(Box<Node>),
    AllMatch(Box<Node>),
    KeyMapMatch(Box<Node>),
    Not(Box<Condition>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

impl Comparison {
    pub(super) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Greater => order.is_gt(),
        }
    }

    fn negated(self) -> Self {
        match self {
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::GreaterOrEqual => Self::Less,
            Self::Greater => Self::LessOrEqual,
        }
    }

    pub(super) fn operator(self) -> &'static str {
        match self {
            Self::Less => "$lt",
            Self::LessOrEqual => "$lte",
            Self::Equal => "$eq",
            Self::NotEqual => "$ne",
            Self::GreaterOrEqual => "$gte",
            Self::Greater => "$gt",
        }
    }
}

impl Condition {
    /// What holds of a value that is there exactly if this does not.
    pub(super) fn negated(self) -> Self {
        match self {
            Self::Exists(wanted) => Self::Exists(!wanted),
            Self::Compare(comparison, operand) => Self::Compare(comparison.negated(), operand),
            Self::In(operands) => Self::NotIn(operands),
            Self::NotIn(operands) => Self::In(operands),
            Self::Not(condition) => *condition,
            other => Self::Not(Box::new(other)),
        }
    }
}

impl Node {
    /// All of some parts. Parts within parts are taken out, so that one meaning has one form.
    pub(super) fn all_of(parts: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Self::And(parts) => flat.extend(parts),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { Self::And(flat) }
    }

    /// One of some parts. With none it always holds: so CouchDB has it for `$or: []`.
    pub(super) fn one_of(parts: Vec<Self>) -> Self {
        if parts.is_empty() || parts.iter().any(Self::is_always) {
            return Self::And(Vec::new());
        }
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Self::Or(parts) => flat.extend(parts),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { Self::Or(flat) }
    }

    pub(super) fn is_always(&self) -> bool {
        matches!(self, Self::And(parts) if parts.is_empty())
    }

    /// Tells the path of every condition, those within arrays' elements left out.
    pub(super) fn each_field(&self, tell: &mut impl FnMut(&Path)) {
        match self {
            Self::And(parts) | Self::Or(parts) => {
                parts.iter().for_each(|part| part.each_field(tell));
            }
            Self::Field { path, .. } => tell(path),
        }
    }
}
