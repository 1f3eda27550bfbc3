//! A selector, printed after parsing, parses to the same selector; it judges any document the same
//! as its canonical text does. Any two values sort as their encodings do.
//!
//! The input is a selector on one line and the document's body on the lines after it.

use settee::doc::{Body, DocId, Json, Selector, collate};
use settee::{Document, Limits};

fn encoded(value: &Json<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    collate::encode(value, &mut bytes);
    bytes
}

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let limits = Limits::default();
    let (first, rest) = text.split_once('\n').unwrap_or((text, "{}"));
    if let (Ok(a), Ok(b)) = (Json::parse(first, &limits), Json::parse(rest, &limits)) {
        let order = collate::compare(&a, &b, collate::Strings::Unicode);
        assert_eq!(encoded(&a).cmp(&encoded(&b)), order);
    }
    let selector = match Selector::parse(first, &limits) {
        Ok(selector) => selector,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let again = Selector::parse(selector.as_str(), &limits).expect("what was printed must parse");
    assert_eq!(again, selector);
    let _ = selector.ranges();
    if let Ok(body) = Body::parse(rest, &limits) {
        let id = DocId::parse("a", 1).expect("a letter is an id");
        let document = Document::with_body(id, body);
        assert_eq!(selector.matches(&document), again.matches(&document));
    }
}
