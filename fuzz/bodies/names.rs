//! Names, ids, digests, places of a feed: what parses prints as it was written, and a database's name
//! is of the few bytes that its rule allows.

use settee::DbName;
use settee::doc::{AnyId, AttachmentDigest, BlobKey, DocId, FieldPath, LocalId};
use settee::store::Since;

const ID_BYTES_MAX: usize = 300;
const DB_NAME_BYTES_MAX: usize = 238;

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut allowed =
        text.bytes().all(|byte| b"abcdefghijklmnopqrstuvwxyz0123456789_$()+-/".contains(&byte));
    allowed &= text.starts_with(|first: char| first.is_ascii_lowercase());
    let name = DbName::parse(text);
    assert_eq!(name.is_ok(), allowed && text.len() <= DB_NAME_BYTES_MAX);
    if let Ok(name) = name {
        assert_eq!(name.to_string(), text);
    }
    same(text, DocId::parse(text, ID_BYTES_MAX));
    if let Ok(id) = LocalId::parse(text, ID_BYTES_MAX) {
        assert_eq!(id.to_string(), format!("_local/{text}"));
    }
    match AnyId::parse(text, ID_BYTES_MAX) {
        Ok(AnyId::Doc(id)) => assert_eq!(id.as_str(), text),
        Ok(AnyId::Local(id)) => assert_eq!(id.to_string(), text),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    same(text, AttachmentDigest::parse(text));
    if let Some(key) = BlobKey::from_hex(text) {
        assert_eq!(key.to_string(), text.to_ascii_lowercase());
    }
    if let Some(Since::After(seq)) = Since::parse(text) {
        assert_eq!(Since::parse(&seq.to_string()), Some(Since::After(seq)));
    }
    if let Ok(path) = FieldPath::parse(text) {
        let again = FieldPath::parse(&path.to_string()).expect("what was printed must parse");
        assert_eq!(again, path);
    }
}

fn same<T: ToString, E: ToString>(text: &str, parsed: Result<T, E>) {
    match parsed {
        Ok(parsed) => assert_eq!(parsed.to_string(), text),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
