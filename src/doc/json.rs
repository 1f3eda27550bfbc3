//! A scanner of JSON text that checks and cuts, and builds nothing.
//!
//! Bodies are kept as the client wrote them, so a body is checked once (RFC 8259 syntax, nesting,
//! number of members), its top-level members are found, and their values are copied as text: no
//! number is ever parsed. Where a key occurs twice in one object the last value wins, as in CouchDB
//! and in every JavaScript engine; the text is rewritten then, so that no two later readers can
//! disagree about it (the cause of CVE-2017-12635).

use std::borrow::Cow;

use super::canonical::without_repeats;
use super::error::ParseError;
use super::value::last_of_equal_names;
use crate::limits::Limits;

/// A top-level member: its name without escapes, and its value's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    pub key: Cow<'a, str>,
    pub value: Cow<'a, str>,
}

/// Checks a whole JSON text that must be an object, and returns its members in order, the last of
/// equal names only.
///
/// Top-level members that begin with `_`, and all within them, are counted on their own: what a
/// replica adds to a document (`_rev`, `_revisions`) must not push one over the bound that was
/// within it when it was written.
pub(crate) fn object_members<'a>(
    text: &'a str,
    limits: &Limits,
) -> Result<Vec<Member<'a>>, ParseError> {
    let mut scanner = Scanner::new(text, limits);
    scanner.skip_space();
    if scanner.peek() != Some(b'{') {
        scanner.value(1)?;
        scanner.end()?;
        return Err(ParseError::NotAnObject);
    }
    let mut members: Vec<Member<'a>> = Vec::new();
    scanner.object(1, &mut |key, value, repeats| {
        let value = if repeats { Cow::Owned(without_repeats(value)) } else { Cow::Borrowed(value) };
        members.push(Member { key: unescape(key), value });
    })?;
    scanner.end()?;
    if scanner.top_level_repeats {
        let mut is_last = last_of_equal_names(&members, |member| &member.key).into_iter();
        members.retain(|_| is_last.next().unwrap_or(true));
    }
    Ok(members)
}

/// Checks that a text is one JSON value within the bounds.
pub(crate) fn check(text: &str, limits: &Limits) -> Result<(), ParseError> {
    let mut scanner = Scanner::new(text, limits);
    scanner.skip_space();
    scanner.value(1)?;
    scanner.end()
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth_max: usize,
    members_max: usize,
    members_left: usize,
    /// The same for members that begin with `_` at the top.
    reserved_left: usize,
    /// Keys of the objects that are open, innermost last.
    keys: Vec<&'a str>,
    /// Whether a key occurred twice in the outermost object; in an inner one since last asked.
    top_level_repeats: bool,
    inner_repeats: bool,
}

/// Told of each member of the outermost object: raw key, raw value, whether the value holds an
/// object with a repeated key.
type OnMember<'f, 'a> = dyn FnMut(&'a str, &'a str, bool) + 'f;

impl<'a> Scanner<'a> {
    fn new(text: &'a str, limits: &Limits) -> Self {
        Self {
            text,
            at: 0,
            depth_max: limits.json_depth_max,
            members_max: limits.json_members_max,
            members_left: limits.json_members_max,
            reserved_left: limits.json_members_max,
            keys: Vec::new(),
            top_level_repeats: false,
            inner_repeats: false,
        }
    }

    fn fail<T>(&self, problem: &'static str) -> Result<T, ParseError> {
        Err(ParseError::Json { problem, at: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), ParseError> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { self.fail("more text after the value") }
    }

    fn count_member(&mut self) -> Result<(), ParseError> {
        self.members_left = self
            .members_left
            .checked_sub(1)
            .ok_or(ParseError::TooManyMembers { max: self.members_max })?;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), ParseError> {
        match self.peek() {
            Some(b'{') => self.object(depth, &mut |_, _, _| ()),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(_) => self.fail("expected a value"),
            None => self.fail("the text ends too early"),
        }
    }

    fn check_depth(&self, depth: usize) -> Result<(), ParseError> {
        if depth > self.depth_max {
            return Err(ParseError::TooDeep { max: self.depth_max });
        }
        Ok(())
    }

    fn object(&mut self, depth: usize, on_member: &mut OnMember<'_, 'a>) -> Result<(), ParseError> {
        self.check_depth(depth)?;
        let first_key = self.keys.len();
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.fail("expected a member's name");
            }
            let key = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return self.fail("expected a colon");
            }
            self.at += 1;
            self.skip_space();
            let reserved = depth == 1 && key.starts_with('_');
            if reserved {
                std::mem::swap(&mut self.members_left, &mut self.reserved_left);
            }
            self.count_member()?;
            self.keys.push(key);
            let start = self.at;
            self.value(depth + 1)?;
            if reserved {
                std::mem::swap(&mut self.members_left, &mut self.reserved_left);
            }
            let text: &'a str = self.text;
            on_member(
                key,
                &text[start..self.at],
                depth == 1 && std::mem::take(&mut self.inner_repeats),
            );
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return self.fail("expected a comma or the end of the object"),
            }
            self.skip_space();
        }
        self.at += 1;
        if has_repeats(&mut self.keys[first_key..]) {
            if depth == 1 {
                self.top_level_repeats = true;
            } else {
                self.inner_repeats = true;
            }
        }
        self.keys.truncate(first_key);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), ParseError> {
        self.check_depth(depth)?;
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.count_member()?;
            self.value(depth + 1)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return self.fail("expected a comma or the end of the array"),
            }
            self.skip_space();
        }
        self.at += 1;
        Ok(())
    }

    /// Passes over a string and returns what stands between its quotes.
    fn string(&mut self) -> Result<&'a str, ParseError> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) => return self.fail("a control character in a string"),
                Some(_) => self.at += 1,
                None => return self.fail("the text ends inside a string"),
            }
        }
        self.at += 1;
        let text: &'a str = self.text;
        Ok(&text[start..self.at - 1])
    }

    fn escape(&mut self) -> Result<(), ParseError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                let unit = self.unit()?;
                match unit {
                    0xd800..=0xdbff => {
                        if !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                            return self.fail("half a surrogate pair in a string");
                        }
                        self.at += 1;
                        match self.unit()? {
                            0xdc00..=0xdfff => Ok(()),
                            _ => self.fail("half a surrogate pair in a string"),
                        }
                    }
                    0xdc00..=0xdfff => self.fail("half a surrogate pair in a string"),
                    _ => Ok(()),
                }
            }
            _ => self.fail("an unknown escape in a string"),
        }
    }

    /// Passes over `uXXXX`.
    fn unit(&mut self) -> Result<u32, ParseError> {
        let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
        let digits = digits.filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let value = digits
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u32::from_str_radix(d, 16).ok());
        let Some(value) = value else { return self.fail("an escape without four hex digits") };
        self.at += 5;
        Ok(value)
    }

    fn digits(&mut self) -> Result<(), ParseError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return self.fail("expected a digit");
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), ParseError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &'static str) -> Result<(), ParseError> {
        if !self.text[self.at..].starts_with(word) {
            return self.fail("expected a value");
        }
        self.at += word.len();
        Ok(())
    }
}

/// Whether a name occurs twice. Reorders the slice.
fn has_repeats(keys: &mut [&str]) -> bool {
    const FEW: usize = 12;
    if keys.iter().any(|key| key.contains('\\')) {
        let mut plain: Vec<Cow<'_, str>> = keys.iter().map(|key| unescape(key)).collect();
        plain.sort_unstable();
        return plain.windows(2).any(|pair| pair[0] == pair[1]);
    }
    if keys.len() <= FEW {
        return (1..keys.len()).any(|i| keys[..i].contains(&keys[i]));
    }
    keys.sort_unstable();
    keys.windows(2).any(|pair| pair[0] == pair[1])
}

/// What a string's raw text between the quotes means. The text has been checked.
pub(crate) fn unescape(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut plain = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let escape = rest.as_bytes()[at + 1];
        let unit = |from: usize| u32::from_str_radix(&rest[from..from + 4], 16).unwrap_or(0xfffd);
        let mut length = 2;
        plain.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                length = 6;
                let mut code = unit(at + 2);
                if (0xd800..0xdc00).contains(&code) {
                    length = 12;
                    code = 0x10000 + ((code - 0xd800) << 10) + (unit(at + 8) - 0xdc00);
                }
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            other => char::from(other),
        });
        rest = &rest[at + length..];
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// Appends a JSON string with the fewest escapes.
pub(crate) fn push_string(out: &mut String, text: &str) {
    use std::fmt::Write as _;
    out.push('"');
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x8 => "\\b",
            0xc => "\\f",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[plain_from..at]);
        if short.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(short);
        }
        plain_from = at + 1;
    }
    out.push_str(&text[plain_from..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> Limits {
        Limits { json_depth_max: 5, json_members_max: 20, ..Limits::default() }
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for (text, at) in [
            ("", 0),
            ("{", 1),
            ("{\"a\"", 4),
            ("{\"a\":}", 5),
            ("{\"a\":1,}", 7),
            ("{a:1}", 1),
            ("{} x", 3),
            ("{\"a\":01}", 6),
            ("{\"a\":1.}", 7),
            ("{\"a\":1e}", 7),
            ("{\"a\":-}", 6),
            ("{\"a\":+1}", 5),
            ("{\"a\":tru}", 5),
            ("{\"a\":\"\t\"}", 6),
            ("{\"a\":\"\\x\"}", 7),
            ("{\"a\":\"\\u12g4\"}", 7),
            ("{\"a\":\"\\ud800\"}", 12),
            ("{\"a\":\"\\udc00\"}", 12),
            ("{\"a\":\"\\ud800\\u0041\"}", 18),
            ("{\"a\":[1 2]}", 8),
            ("{\"a\" 1}", 5),
            ("\u{feff}{}", 0),
            ("{\"a\":NaN}", 5),
            ("{'a':1}", 1),
        ] {
            match object_members(text, &limits()) {
                Err(ParseError::Json { at: found, .. }) => assert_eq!(found, at, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        for text in ["1", "[]", "null", "\"x\"", " true "] {
            assert_eq!(object_members(text, &limits()), Err(ParseError::NotAnObject), "{text}");
        }
    }

    #[test]
    fn bounds_hold_exactly() {
        assert!(object_members("{\"a\":[[[[]]]]}", &limits()).is_ok());
        assert_eq!(
            object_members("{\"a\":[[[[[]]]]]}", &limits()),
            Err(ParseError::TooDeep { max: 5 })
        );
        let list = |n| format!("{{\"a\":[{}]}}", vec!["1"; n].join(","));
        assert!(object_members(&list(19), &limits()).is_ok());
        assert_eq!(
            object_members(&list(20), &limits()),
            Err(ParseError::TooManyMembers { max: 20 })
        );
    }

    #[test]
    fn what_replicas_add_counts_on_its_own() {
        let document = |ids, own| {
            let ids = vec!["\"x\""; ids].join(",");
            let own = vec!["1"; own].join(",");
            format!(r#"{{"_revisions":{{"start":9,"ids":[{ids}]}},"a":[{own}]}}"#)
        };
        assert!(object_members(&document(17, 19), &limits()).is_ok());
        let refused = Err(ParseError::TooManyMembers { max: 20 });
        assert_eq!(object_members(&document(18, 19), &limits()), refused);
        assert_eq!(object_members(&document(17, 20), &limits()), refused);
    }

    /// Symptom: a document of 100,000 equal names took minutes. Cause: each name was looked for
    /// among all others. Repair: sort them once.
    #[test]
    fn many_repeated_names_are_found_in_one_pass() {
        let pairs: String = (0..50_000).map(|n| format!(r#","k{n}":1,"k{n}":2"#)).collect();
        let text = format!("{{{}}}", &pairs[1..]);
        let members = object_members(&text, &Limits::default()).unwrap();
        assert_eq!(members.len(), 50_000);
        assert!(
            members.iter().enumerate().all(|(n, m)| m.key == format!("k{n}") && m.value == "2")
        );
        let nested = format!(r#"{{"a":{text}}}"#);
        let limits = Limits { json_members_max: 200_000, ..Limits::default() };
        let members = object_members(&nested, &limits).unwrap();
        assert!(members[0].value.starts_with(r#"{"k0":2,"k1":2,"#));
    }

    #[test]
    fn the_deepest_nesting_that_limits_allow_fits_a_thread() {
        let limits = Limits { json_depth_max: 1_000, ..Limits::default() };
        assert!(limits.validate().is_ok());
        let deep = |open: &str, close: &str| {
            format!(r#"{{"a":{}1{}}}"#, open.repeat(999), close.repeat(999))
        };
        for text in [deep("[", "]"), deep(r#"{"b":0,"a":0,"a":"#, "}")] {
            let members = object_members(&text, &limits).unwrap();
            let mut canonical = String::new();
            crate::doc::canonical::push_canonical(&mut canonical, &members[0].value);
            assert!(canonical.len() >= 2 * 999);
        }
    }

    #[test]
    fn the_last_of_equal_names_wins_at_every_level() {
        let members = |text| object_members(text, &limits()).expect(text);
        let twice = members(r#"{"a":1,"b":{"x":1,"y":[{"k":1,"k":2}],"\u0078":2},"a":3}"#);
        assert_eq!(twice.len(), 2);
        assert_eq!((&*twice[0].key, &*twice[0].value), ("b", r#"{"y":[{"k":2}],"x":2}"#));
        assert_eq!((&*twice[1].key, &*twice[1].value), ("a", "3"));
        let kept = members(r#"{"b": {"x" : 1.50} }"#);
        assert_eq!(kept[0].value, r#"{"x" : 1.50}"#);
    }

    fn json_value() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(value in json_value(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert!(check(&text, &Limits::default()).is_ok());
            let mut canonical = String::new();
            crate::doc::canonical::push_canonical(&mut canonical, &text);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&canonical).unwrap(), serde_json::from_str::<serde_json::Value>(&text).unwrap());
        }

        #[test]
        fn damaged_text_is_judged_as_serde_json_judges(value in json_value(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = serde_json::to_vec(&value).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(text) = std::str::from_utf8(&bytes) {
                let ours = check(text, &Limits::default()).is_ok();
                let theirs = serde_json::from_str::<serde_json::Value>(text);
                // A number beyond f64 is JSON all the same; serde_json cannot hold it, but can pass it.
                let theirs = theirs.map_or_else(
                    |error| {
                        error.to_string().contains("out of range")
                            && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
                    },
                    |_| true,
                );
                prop_assert_eq!(ours, theirs, "{}", text);
            }
        }

        #[test]
        fn strings_round_trip(text in any::<String>()) {
            let mut quoted = String::new();
            push_string(&mut quoted, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), &*text);
            prop_assert_eq!(unescape(&quoted[1..quoted.len() - 1]), text);
        }
    }
}
