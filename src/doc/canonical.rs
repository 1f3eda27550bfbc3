//! A checked JSON value written anew: in canonical form, or without repeated names.
//!
//! The value is cut at its members first and printed once, so the work does not grow with the
//! nesting. Only text that [`super::json`] has checked may come here, which also bounds the depth.

use std::borrow::Cow;

use super::json::{push_string, unescape};

/// The canonical text of a checked value: no space outside strings, members sorted by name (by
/// UTF-8 bytes), the last of equal names only, strings with the fewest escapes, numbers as written.
pub(crate) fn push_canonical(out: &mut String, text: &str) {
    rewrite(text, out, Order::ByName);
}

/// A checked value's text without the earlier ones of equal names.
pub(super) fn without_repeats(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    rewrite(text, &mut out, Order::AsWritten);
    out
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    ByName,
    AsWritten,
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
}

/// A checked value, cut at its members: what rewriting needs to know before it can print.
enum Cut<'a> {
    Object(Vec<(Cow<'a, str>, Cut<'a>)>),
    Array(Vec<Cut<'a>>),
    /// What stands between the quotes.
    String(&'a str),
    /// A number or a literal.
    Plain(&'a str),
}

fn rewrite(text: &str, out: &mut String, order: Order) {
    let mut cut = Cutter { text, at: 0 }.value();
    cut.keep_last(order);
    cut.push_to(out);
}

impl<'a> Cutter<'a> {
    fn value(&mut self) -> Cut<'a> {
        match self.next() {
            b'{' => {
                let mut members = Vec::new();
                while self.next_item(b'}') {
                    let key = unescape(self.string());
                    self.next();
                    self.at += 1;
                    members.push((key, self.value()));
                }
                Cut::Object(members)
            }
            b'[' => {
                let mut elements = Vec::new();
                while self.next_item(b']') {
                    elements.push(self.value());
                }
                Cut::Array(elements)
            }
            b'"' => Cut::String(self.string()),
            _ => Cut::Plain(self.scalar()),
        }
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

impl Cut<'_> {
    /// Takes out the earlier ones of equal names, and sorts members if asked to.
    fn keep_last(&mut self, order: Order) {
        match self {
            Self::Object(members) => {
                if order == Order::ByName {
                    members.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                let mut is_last = last_of_equal_names(members, |(key, _)| key).into_iter();
                members.retain(|_| is_last.next().unwrap_or(true));
                members.iter_mut().for_each(|(_, value)| value.keep_last(order));
            }
            Self::Array(elements) => {
                elements.iter_mut().for_each(|element| element.keep_last(order));
            }
            Self::String(_) | Self::Plain(_) => {}
        }
    }

    fn push_to(&self, out: &mut String) {
        match self {
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
            Self::String(raw) => push_string(out, &unescape(raw)),
            Self::Plain(text) => out.push_str(text),
        }
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
    use crate::doc::json::check;
    use crate::limits::Limits;

    fn canonical(text: &str) -> String {
        check(text, &Limits::default()).expect(text);
        let mut out = String::new();
        push_canonical(&mut out, text);
        out
    }

    #[test]
    fn canonical_text_forgets_only_what_means_nothing() {
        assert_eq!(
            canonical(r#" { "b" : [ 1 , 2.0 ] , "a" : "\u00e9\/" } "#),
            r#"{"a":"é/","b":[1,2.0]}"#
        );
        assert_eq!(
            canonical(r#"{"a":{"z":1,"y":{}},"a":{"y":{},"z":1}}"#),
            r#"{"a":{"y":{},"z":1}}"#
        );
        assert_eq!(canonical(r#"["\ud83d\ude00\n\u0001"]"#), "[\"😀\\n\\u0001\"]");
    }

    #[test]
    fn empty_brackets_and_space_are_passed_over() {
        assert_eq!(canonical(" [ ] "), "[]");
        assert_eq!(canonical("{ }"), "{}");
        assert_eq!(canonical("[ [ ] , { } ,[ 1 ] ]"), "[[],{},[1]]");
        assert_eq!(canonical("-1.50e+2 "), "-1.50e+2");
    }
}
