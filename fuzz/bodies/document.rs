//! A document's JSON, printed after parsing, parses to the same document and prints the same.

use settee::doc::{AnyDocument, Body, DocId};
use settee::{Document, Limits};

fn print_and_parse_again(document: &Document, limits: &Limits) {
    let printed = document.to_json();
    let again = Document::parse(&printed, limits).expect("what was printed must parse");
    assert_eq!(&again, document);
    assert_eq!(again.to_json(), printed);
    let body = Body::parse(document.body.as_str(), limits).expect("a body is an object");
    assert_eq!(body, document.body);
}

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let limits = Limits::default();
    match AnyDocument::parse(text, &limits) {
        Ok(AnyDocument::Doc(document)) => print_and_parse_again(&document, &limits),
        Ok(AnyDocument::WithoutId(unnamed)) => {
            let id = DocId::parse("a", 1).expect("a letter is an id");
            print_and_parse_again(&unnamed.named(id), &limits);
        }
        Ok(AnyDocument::Local(local)) => {
            let printed = local.to_json();
            match AnyDocument::parse(&printed, &limits) {
                Ok(AnyDocument::Local(again)) => assert_eq!(again.to_json(), printed),
                other => panic!("a local document became {other:?}"),
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
