//! A checked JSON value written anew: in canonical form, or without repeated names.
//!
//! The value is cut at its members first and printed once, so the work does not grow with the
//! nesting. Only text that [`super::json`] has checked may come here, which also bounds the depth.

use super::value::Json;

/// The canonical text of a checked value: no space outside strings, members sorted by name (by
/// UTF-8 bytes), the last of equal names only, strings with the fewest escapes, numbers as written.
pub(crate) fn push_canonical(out: &mut String, text: &str) {
    let mut value = Json::cut(text);
    sort_members(&mut value);
    value.keep_last();
    value.push_to(out);
}

/// A checked value's text without the earlier ones of equal names.
pub(super) fn without_repeats(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut value = Json::cut(text);
    value.keep_last();
    value.push_to(&mut out);
    out
}

/// Sorts by name; equal names stay in the order written.
fn sort_members(value: &mut Json<'_>) {
    match value {
        Json::Object(members) => {
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            members.iter_mut().for_each(|(_, value)| sort_members(value));
        }
        Json::Array(elements) => elements.iter_mut().for_each(sort_members),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
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
