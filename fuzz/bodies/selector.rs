//! A selector, printed after parsing, parses to the same selector; it judges any document the same
//! as its canonical text does.
//!
//! The input is a selector on one line and the document's body on the lines after it.

use settee::doc::{Body, DocId, Selector};
use settee::{Document, Limits};

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let limits = Limits::default();
    let (first, rest) = text.split_once('\n').unwrap_or((text, "{}"));
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
