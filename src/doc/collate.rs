//! CouchDB's order of JSON values: null, false, true, numbers, strings, arrays, objects.
//!
//! It is that of `couch_ejson_compare.erl`, by which CouchDB sorts views and judges selectors.
//! Arrays and objects are compared item by item, an object's members in the order in which they
//! were written. Strings are compared by the Unicode collation algorithm with the root collation,
//! as ICU does it for CouchDB, except ids of documents, which CouchDB compares by their bytes.
//! Numbers are compared by their digits, so that none of them is rounded.
//!
//! The hard case are values that are equal and not the same: `1` and `1.0`, or strings that differ
//! in characters without weight. [`same`] tells them apart, except numbers; [`encode`] does not.

mod number;

use std::cmp::Ordering;
use std::sync::LazyLock;

use icu_collator::{Collator, CollatorBorrowed};

use super::value::Json;

/// By what strings are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strings {
    /// By the Unicode collation algorithm: `a`, `A`, `b`.
    #[default]
    Unicode,
    /// By the bytes of their UTF-8: `A`, `a`, `b`; and above all values that are no strings. So are
    /// ids of documents.
    Bytes,
}

static COLLATOR: LazyLock<CollatorBorrowed<'static>> = LazyLock::new(|| {
    Collator::try_new(Default::default(), Default::default())
        .expect("the root collation is compiled in")
});

/// Compares two values.
///
/// ```
/// use std::cmp::Ordering;
/// use settee::{Limits, doc::{Json, collate}};
/// let parse = |text| Json::parse(text, &Limits::default());
/// let order = collate::compare(&parse("12345678901234567890")?, &parse("12345678901234567891")?, collate::Strings::Unicode);
/// assert_eq!(order, Ordering::Less);
/// # Ok::<(), settee::ParseError>(())
/// ```
#[must_use]
pub fn compare(a: &Json<'_>, b: &Json<'_>, strings: Strings) -> Ordering {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => number::compare(a, b),
        (Json::String(a), Json::String(b)) => compare_strings(a, b, strings),
        (Json::Array(a), Json::Array(b)) => {
            let pairs = a.iter().zip(b);
            let order = pairs.map(|(a, b)| compare(a, b, strings)).find(|order| order.is_ne());
            order.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Json::Object(a), Json::Object(b)) => {
            let pairs = a.iter().zip(b);
            let order = pairs.map(|((a_key, a), (b_key, b))| {
                compare_strings(a_key, b_key, strings).then_with(|| compare(a, b, strings))
            });
            order.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (a, b) => match strings {
            Strings::Unicode => rank(a).cmp(&rank(b)),
            // Ids are compared as Erlang's terms, among which strings stand above all others.
            Strings::Bytes => (is_string(a), rank(a)).cmp(&(is_string(b), rank(b))),
        },
    }
}

fn is_string(value: &Json<'_>) -> bool {
    matches!(value, Json::String(_))
}

fn compare_strings(a: &str, b: &str, strings: Strings) -> Ordering {
    match strings {
        Strings::Bytes => a.cmp(b),
        Strings::Unicode if a == b => Ordering::Equal,
        Strings::Unicode => COLLATOR.compare(a, b),
    }
}

/// Whether two values are the same: strings byte for byte, numbers by what they are worth.
///
/// ```
/// use settee::{Limits, doc::{Json, collate}};
/// let parse = |text| Json::parse(text, &Limits::default());
/// assert!(collate::same(&parse("[1, 100]")?, &parse("[1.0, 1e2]")?));
/// # Ok::<(), settee::ParseError>(())
/// ```
#[must_use]
pub fn same(a: &Json<'_>, b: &Json<'_>) -> bool {
    compare(a, b, Strings::Bytes).is_eq()
}

/// The place of a value's type in the order; the first byte of its encoding.
fn rank(value: &Json<'_>) -> u8 {
    match value {
        Json::Null => 1,
        Json::Bool(false) => 2,
        Json::Bool(true) => 3,
        Json::Number(_) => 4,
        Json::String(_) => 5,
        Json::Array(_) => 6,
        Json::Object(_) => 7,
    }
}

/// Names the order of [`encode`]'s bytes: whoever stores them stores them under this name, and makes
/// them anew when it is another. It tells the form of the encoding and the collation data.
pub(crate) const ENCODING: &str = "1 icu_collator_data 2.4.0";

/// Ends a string, an array or an object; below every byte that may stand there instead.
const END: u8 = 0;

/// Appends bytes that sort as the values do, in [`Strings::Unicode`]. None is another's prefix, so
/// several may follow each other.
///
/// | value | bytes |
/// |---|---|
/// | any | its rank: 1 null, 2 false, 3 true, 4 number, 5 string, 6 array, 7 object |
/// | number | sign, exponent, digits; see the module of numbers |
/// | string | sort key of the Unicode collation algorithm, 0 |
/// | array | its elements, 0 |
/// | object | names and values of its members in turn, 0 |
///
/// Sort keys change with the version of Unicode that was compiled in, which `ENCODING` names.
///
/// ```
/// use settee::{Limits, doc::{Json, collate}};
/// let encoded = |text: &'static str| {
///     let mut bytes = Vec::new();
///     collate::encode(&Json::parse(text, &Limits::default()).unwrap(), &mut bytes);
///     bytes
/// };
/// assert!(encoded("-2e3") < encoded("0.5"));
/// assert!(encoded("\"b\"") > encoded("\"A\""));
/// ```
pub fn encode(value: &Json<'_>, out: &mut Vec<u8>) {
    out.push(rank(value));
    match value {
        Json::Null | Json::Bool(_) => {}
        Json::Number(text) => number::encode(text, out),
        Json::String(text) => encode_string(text, out),
        Json::Array(elements) => {
            elements.iter().for_each(|element| encode(element, out));
            out.push(END);
        }
        Json::Object(members) => {
            for (key, value) in members {
                out.push(rank(&Json::String("".into())));
                encode_string(key, out);
                encode(value, out);
            }
            out.push(END);
        }
    }
}

/// A sort key has no 0 in it: 1 is the lowest byte, which divides its levels.
fn encode_string(text: &str, out: &mut Vec<u8>) {
    let Ok(()) = COLLATOR.write_sort_key_to(text, out);
    out.push(END);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::limits::Limits;
    use proptest::prelude::*;

    fn json(text: &str) -> Json<'_> {
        Json::parse(text, &Limits::default()).expect(text)
    }

    fn encoded(value: &Json<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(value, &mut bytes);
        bytes
    }

    #[test]
    fn values_stand_in_the_order_of_couchdb() {
        // The list of the chapter on view collation of CouchDB's documentation, and numbers.
        let ascending = [
            "null",
            "false",
            "true",
            "-1e400",
            "-12345678901234567891",
            "-12345678901234567890.5",
            "-1.5",
            "-1",
            "-1e-400",
            "0",
            "1e-7",
            "0.1",
            "0.10000000000000001",
            "1",
            "2",
            "3.0",
            "4",
            "10",
            "9007199254740992",
            "9007199254740993",
            "18446744073709551615",
            "18446744073709551616",
            "1e400",
            "\"\"",
            "\"_\"",
            "\"1\"",
            "\"a\"",
            "\"A\"",
            "\"aa\"",
            "\"b\"",
            "\"B\"",
            "\"ba\"",
            "\"bb\"",
            "[]",
            "[\"a\"]",
            "[\"b\"]",
            "[\"b\",\"c\"]",
            "[\"b\",\"c\",\"a\"]",
            "[\"b\",\"d\"]",
            "[\"b\",\"d\",\"e\"]",
            "{}",
            "{\"a\":1}",
            "{\"a\":2}",
            "{\"b\":1}",
            "{\"b\":2}",
            "{\"b\":2,\"a\":1}",
            "{\"b\":2,\"c\":2}",
        ];
        for (index, low) in ascending.iter().enumerate() {
            let low = json(low);
            assert_eq!(compare(&low, &low, Strings::Unicode), Ordering::Equal);
            for high in &ascending[index + 1..] {
                let high = json(high);
                assert_eq!(compare(&low, &high, Strings::Unicode), Ordering::Less, "{low} {high}");
                assert_eq!(compare(&high, &low, Strings::Unicode), Ordering::Greater);
                assert!(encoded(&low) < encoded(&high), "{low} {high}");
            }
        }
    }

    #[test]
    fn the_encoding_is_named_by_the_collation_data_that_is_compiled_in() {
        let lock = include_str!("../../Cargo.lock");
        let (_, version) = ENCODING.rsplit_once(' ').expect("a version");
        let package = format!("name = \"icu_collator_data\"\nversion = \"{version}\"");
        assert!(lock.contains(&package), "collation data changed: name the encoding anew");
    }

    #[test]
    fn some_values_are_equal_that_are_not_the_same() {
        for (a, b, same_too) in [
            ("1", "1.0", true),
            ("100", "1e2", true),
            ("0", "-0.0e9", true),
            ("\"a\"", "\"a\\u0000\"", false),
            ("\"\u{e9}\"", "\"e\u{301}\"", false),
        ] {
            let (a, b) = (json(a), json(b));
            assert_eq!(compare(&a, &b, Strings::Unicode), Ordering::Equal, "{a} {b}");
            assert_eq!(encoded(&a), encoded(&b), "{a} {b}");
            assert_eq!(same(&a, &b), same_too, "{a} {b}");
        }
        assert!(!same(&json("{\"a\":1,\"b\":2}"), &json("{\"b\":2,\"a\":1}")));
    }

    fn number_text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            (-3..3_i8).prop_map(|n| n.to_string()),
            any::<f64>().prop_filter("JSON has it", |n| n.is_finite()).prop_map(|n| n.to_string()),
            "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
            "-?(0|[1-9])(\\.0{0,3}1?0)?([eE][+-]?[0-2])?",
        ]
    }

    fn short_text() -> impl Strategy<Value = String> {
        prop_oneof![any::<String>(), "[aAb ä\u{301}\u{0}-]{0,4}"]
    }

    pub(crate) fn value() -> impl Strategy<Value = Json<'static>> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            number_text().prop_map(|text| Json::Number(text.into())),
            short_text().prop_map(|text| Json::String(text.into())),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            let member = (short_text(), inner.clone()).prop_map(|(key, value)| (key.into(), value));
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Json::Array),
                prop::collection::vec(member, 0..4).prop_map(Json::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn bytes_sort_as_values_do(a in value(), b in value()) {
            let order = compare(&a, &b, Strings::Unicode);
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), order);
            prop_assert_eq!(compare(&b, &a, Strings::Unicode), order.reverse());
        }

        #[test]
        fn bytes_of_several_values_sort_as_arrays_do(a in prop::collection::vec(value(), 3), b in prop::collection::vec(value(), 3)) {
            let joined = |values: &[Json<'_>]| values.iter().flat_map(encoded).collect::<Vec<u8>>();
            let order = compare(&Json::Array(a.clone()), &Json::Array(b.clone()), Strings::Unicode);
            prop_assert_eq!(joined(&a).cmp(&joined(&b)), order);
        }

        #[test]
        fn numbers_compare_as_floats_where_floats_tell(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(a.is_finite() && b.is_finite());
            let number = |n: f64| Json::Number(format!("{n:e}").into());
            prop_assert_eq!(Some(compare(&number(a), &number(b), Strings::Unicode)), a.partial_cmp(&b));
        }

        #[test]
        fn integers_are_exact(a in any::<i128>(), b in any::<i128>()) {
            let number = |n: i128| Json::Number(n.to_string().into());
            prop_assert_eq!(compare(&number(a), &number(b), Strings::Unicode), a.cmp(&b));
            prop_assert_eq!(compare(&number(a), &number(a + i128::from(a < 0)), Strings::Unicode), a.cmp(&(a + i128::from(a < 0))));
        }
    }
}
