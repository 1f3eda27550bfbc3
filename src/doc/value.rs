//! A JSON value whose numbers are text, cut from text that was checked before.
//!
//! Nothing of it is a float: what compares numbers does so by their digits, and what prints a value
//! prints the number that was written.

use std::borrow::Cow;

use super::body::Body;
use super::error::ParseError;
use super::json::{self, push_string, unescape};
use crate::limits::Limits;

/// A JSON value. Strings and numbers are borrowed from the text where they can be.
///
/// ```
/// use settee::doc::Json;
/// let value = Json::parse(r#"{"big": 11037754778148512814851267060610}"#, &settee::Limits::default())?;
/// assert_eq!(value.to_string(), r#"{"big":11037754778148512814851267060610}"#);
/// # Ok::<(), settee::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as it was written.
    Number(Cow<'a, str>),
    /// A string without its quotes and escapes.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object's members in the order written; of equal names the last one.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Reads a JSON text.
    ///
    /// # Errors
    /// [`ParseError`] for text that is not JSON or over the bounds on nesting and members.
    pub fn parse(text: &'a str, limits: &Limits) -> Result<Self, ParseError> {
        json::check(text, limits)?;
        let mut value = Self::cut(text);
        value.keep_last();
        Ok(value)
    }

    /// Reads text that the scanner has checked, which also bounds its depth. Repeated names stay.
    pub(crate) fn cut(text: &'a str) -> Self {
        Cutter { text, at: 0 }.value()
    }

    /// The members of a body.
    pub(super) fn of_body(body: &'a Body) -> Self {
        let mut value = Self::cut(body.as_str());
        value.keep_last();
        value
    }

    /// Takes out the earlier ones of equal names.
    pub(super) fn keep_last(&mut self) {
        match self {
            Self::Object(members) => {
                let mut is_last = last_of_equal_names(members, |(key, _)| key).into_iter();
                members.retain(|_| is_last.next().unwrap_or(true));
                members.iter_mut().for_each(|(_, value)| value.keep_last());
            }
            Self::Array(elements) => elements.iter_mut().for_each(Self::keep_last),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => {}
        }
    }

    /// The same value, independent of the text it was cut from.
    #[must_use]
    pub fn into_owned(self) -> Json<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(value),
            Self::Number(text) => Json::Number(owned(text)),
            Self::String(text) => Json::String(owned(text)),
            Self::Array(elements) => {
                Json::Array(elements.into_iter().map(Json::into_owned).collect())
            }
            Self::Object(members) => {
                let members =
                    members.into_iter().map(|(key, value)| (owned(key), value.into_owned()));
                Json::Object(members.collect())
            }
        }
    }

    /// Appends the value's text without space, strings with the fewest escapes.
    pub(super) fn push_to(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Number(text) => out.push_str(text),
            Self::String(text) => push_string(out, text),
            Self::Array(elements) => {
                out.push('[');
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    element.push_to(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    push_string(out, key);
                    out.push(':');
                    value.push_to(out);
                }
                out.push('}');
            }
        }
    }
}

impl std::fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        self.push_to(&mut text);
        f.write_str(&text)
    }
}

/// Reads the members of a checked object that are wanted, and passes over the others.
pub(super) fn cut_members(
    object: &str,
    mut wanted: impl FnMut(&str) -> bool,
) -> Vec<(Cow<'_, str>, Json<'_>)> {
    let mut cutter = Cutter { text: object, at: 0 };
    let mut members = Vec::new();
    cutter.next();
    while cutter.next_item(b'}') {
        let key = cutter.key();
        if wanted(&key) {
            members.push((key, cutter.value()));
        } else {
            cutter.skip_value();
        }
    }
    members
}

/// Walks text that the scanner has checked.
struct Cutter<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cutter<'a> {
    /// Skips space and answers with the next byte; a NUL stands for the end.
    fn next(&mut self) -> u8 {
        let rest = self.text.as_bytes()[self.at..].iter();
        self.at += rest.take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn string(&mut self) -> &'a str {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        self.at = start;
        while bytes[self.at] != b'"' {
            self.at += if bytes[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        &self.text[start..self.at - 1]
    }

    fn scalar(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let end = rest.find([',', '}', ']', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// A member's name, and the way to its value.
    fn key(&mut self) -> Cow<'a, str> {
        let key = unescape(self.string());
        self.next();
        self.at += 1;
        key
    }

    fn value(&mut self) -> Json<'a> {
        match self.next() {
            b'{' => {
                let mut members = Vec::new();
                while self.next_item(b'}') {
                    let key = self.key();
                    members.push((key, self.value()));
                }
                Json::Object(members)
            }
            b'[' => {
                let mut elements = Vec::new();
                while self.next_item(b']') {
                    elements.push(self.value());
                }
                Json::Array(elements)
            }
            b'"' => Json::String(unescape(self.string())),
            first => {
                let text = self.scalar();
                match first {
                    b'n' => Json::Null,
                    b't' | b'f' => Json::Bool(first == b't'),
                    _ => Json::Number(Cow::Borrowed(text)),
                }
            }
        }
    }

    fn skip_value(&mut self) {
        let mut open = 0_usize;
        loop {
            match self.next() {
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open -= 1;
                    self.at += 1;
                }
                b',' | b':' => {
                    self.at += 1;
                    continue;
                }
                b'"' => {
                    self.string();
                }
                _ => {
                    self.number_or_literal();
                }
            }
            if open == 0 {
                return;
            }
        }
    }

    fn number_or_literal(&mut self) {
        let rest = self.text.as_bytes()[self.at..].iter();
        let inside = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
        self.at += rest.take_while(inside).count().max(1);
    }

    /// Passes over the bracket or comma before an item, or over the closing bracket.
    fn next_item(&mut self, close: u8) -> bool {
        let before = self.next();
        self.at += 1;
        if before == close {
            return false;
        }
        let empty = before != b',' && self.next() == close;
        self.at += usize::from(empty);
        self.next();
        !empty
    }
}

/// For each item, whether no later one has its name.
pub(super) fn last_of_equal_names<'m, T>(
    items: &'m [T],
    name: impl Fn(&'m T) -> &'m str,
) -> Vec<bool> {
    // A stable sort keeps equal names in the order written.
    let mut by_name: Vec<usize> = (0..items.len()).collect();
    by_name.sort_by_key(|&index| name(&items[index]));
    let mut is_last = vec![true; items.len()];
    for pair in by_name.windows(2) {
        is_last[pair[0]] = name(&items[pair[0]]) != name(&items[pair[1]]);
    }
    is_last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_members_are_read_and_others_passed_over() {
        let text =
            r#" { "a" : {"x":[1,{"y":"}]\""}]} ,"b":[ ] , "\u0063":-1.5e+3 ,"d":true,"e":{ } } "#;
        json::check(text, &Limits::default()).unwrap();
        for (wanted, shown) in [
            ("a", r#"{"a":{"x":[1,{"y":"}]\""}]}}"#),
            ("b", r#"{"b":[]}"#),
            ("c", r#"{"c":-1.5e+3}"#),
            ("d", r#"{"d":true}"#),
            ("e", r#"{"e":{}}"#),
            ("z", "{}"),
        ] {
            let members = cut_members(text, |key| key == wanted);
            assert_eq!(Json::Object(members).to_string(), shown);
        }
        assert_eq!(cut_members("{}", |_| true), []);
        assert_eq!(cut_members("{ }", |_| true), []);
    }

    #[test]
    fn the_last_of_equal_names_counts_at_every_level() {
        let value = Json::parse(r#"[{"a":1,"b":{"c":1,"c":2},"a":3}]"#, &Limits::default());
        assert_eq!(value.unwrap().to_string(), r#"[{"b":{"c":2},"a":3}]"#);
    }
}
