//! Values print as what they were parsed from, and their keys in an index stand in their order.

use std::cmp::Ordering;

use settee::Limits;
use settee::doc::Json;
use settee::doc::collate::{self, Strings};

fn encoded(value: &Json<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    collate::encode(value, &mut bytes);
    bytes
}

// Each line is a value.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let limits = Limits::default();
    let parse = |line| Json::parse(line, &limits).ok();
    let values: Vec<Json<'_>> = text.lines().filter_map(parse).take(8).collect();
    for value in &values {
        let printed = value.to_string();
        let again = Json::parse(&printed, &limits).expect("what was printed must parse");
        assert_eq!(again.to_string(), printed);
        assert!(collate::same(value, &again));
    }
    for a in &values {
        for b in &values {
            let order = collate::compare(a, b, Strings::Unicode);
            assert_eq!(order, collate::compare(b, a, Strings::Unicode).reverse());
            assert_eq!(order, encoded(a).cmp(&encoded(b)), "{a} and {b}");
            if collate::same(a, b) {
                assert_eq!(order, Ordering::Equal);
            }
        }
    }
}
