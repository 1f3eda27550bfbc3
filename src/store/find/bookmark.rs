//! Where a query was cut: the place after which the next page begins.
//!
//! The place is a key and a document, not a number of rows, so that documents that come and go
//! before it shift nothing. It names the index too, since the key means nothing in another.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::FindError;
use crate::doc::varint::{self, Reader};
use crate::doc::{DocId, printable};
use crate::store::backend::{IndexEntry, IndexKey};

/// The form of what follows.
const FORM: u8 = 1;
/// What CouchDB answers where there is no place.
pub(super) const NONE: &str = "nil";

/// A place in an index, or among all documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bookmark {
    pub index: Option<IndexKey>,
    /// Among all documents its key is empty.
    pub place: IndexEntry,
}

impl Bookmark {
    pub(super) fn encode(&self) -> String {
        let mut bytes = vec![FORM, u8::from(self.index.is_some())];
        bytes.extend(self.index.iter().flat_map(|index| index.0));
        varint::push_bytes(&mut bytes, &self.place.key);
        bytes.extend_from_slice(self.place.id.as_str().as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `None` for a text that stands for the beginning.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, FindError> {
        if text.is_empty() || text == NONE {
            return Ok(None);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
        let bookmark = bytes.as_deref().and_then(Self::decode);
        bookmark.map(Some).ok_or_else(|| refused(text))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        reader.byte().filter(|form| *form == FORM)?;
        let index = match reader.byte()? {
            0 => None,
            1 => Some(IndexKey(reader.array()?)),
            _ => return None,
        };
        let length = reader.length()?;
        let key = reader.take(length)?.to_vec();
        let id = DocId::parse(std::str::from_utf8(reader.0).ok()?, usize::MAX).ok()?;
        Some(Self { index, place: IndexEntry { key, id } })
    }
}

pub(super) fn refused(text: &str) -> FindError {
    FindError::Bookmark { bookmark: printable(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_and_other_texts_are_refused() {
        let id = DocId::parse("ü", 9).expect("an id");
        for index in [None, Some(IndexKey([7; 16]))] {
            let place = IndexEntry { key: vec![6, 0, 255], id: id.clone() };
            let bookmark = Bookmark { index, place };
            let text = bookmark.encode();
            assert_eq!(Bookmark::parse(&text).expect("it is one"), Some(bookmark));
            assert!(Bookmark::parse(&text[..8]).is_err());
        }
        assert_eq!(Bookmark::parse("").expect("the beginning"), None);
        assert_eq!(Bookmark::parse("nil").expect("the beginning"), None);
        for text in ["x", "AQ", "\u{e9}", "AgAA"] {
            assert!(matches!(Bookmark::parse(text), Err(FindError::Bookmark { .. })), "{text}");
        }
    }
}
