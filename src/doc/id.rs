//! Names of databases and documents; the only parsers of them.
//!
//! Both are checked once, at the edge, and carried as types from there on. The rules are
//! CouchDB's (`couch_db.erl`, `validate_docid` and `DBNAME_REGEX`).

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::{ParseError, printable};

/// Longest database name in bytes, as in CouchDB.
const DB_NAME_BYTES_MAX: usize = 238;

/// The name of a database: `^[a-z][a-z0-9_$()+/-]*$`, at most 238 bytes.
///
/// ```
/// use settee::DbName;
/// assert!(DbName::parse("todos-2026").is_ok());
/// assert!(DbName::parse("Todos").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DbName(Arc<str>);

impl TryFrom<String> for DbName {
    type Error = ParseError;

    fn try_from(name: String) -> Result<Self, ParseError> {
        Self::parse(&name)
    }
}

impl From<DbName> for String {
    fn from(name: DbName) -> Self {
        name.as_str().to_owned()
    }
}

impl DbName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`ParseError::DbName`] with the rule.
    pub fn parse(name: &str) -> Result<Self, ParseError> {
        let mut bytes = name.bytes();
        let begins_well = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
        let goes_on_well =
            bytes.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'$' | b'(' | b')' | b'+' | b'/' | b'-'));
        if begins_well && goes_on_well && name.len() <= DB_NAME_BYTES_MAX {
            Ok(Self(name.into()))
        } else {
            Err(ParseError::DbName { name: printable(name) })
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id of a replicated document: any text but one that begins with `_`, save `_design/…`.
///
/// `_local/…` ids are not document ids; see [`LocalId`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocId(Arc<str>);

impl DocId {
    /// Checks an id against the rules and a length bound in bytes.
    ///
    /// # Errors
    /// [`ParseError::DocIdEmpty`], [`ParseError::DocIdReserved`], [`ParseError::DocIdTooLong`].
    pub fn parse(id: &str, bytes_max: usize) -> Result<Self, ParseError> {
        check_length(id, bytes_max)?;
        let design = id.strip_prefix("_design/").is_some_and(|name| !name.is_empty());
        if id.starts_with('_') && !design {
            return Err(ParseError::DocIdReserved { id: printable(id) });
        }
        Ok(Self(id.into()))
    }

    /// Takes an id that was checked before it was stored.
    pub(crate) fn from_stored(id: &str) -> Self {
        Self(id.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a design document.
    #[must_use]
    pub fn is_design(&self) -> bool {
        self.0.starts_with("_design/")
    }
}

/// The id of a local document, without its `_local/`.
///
/// Local documents are never replicated and have no revision tree; checkpoints live in them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalId(Arc<str>);

impl LocalId {
    /// Checks the part after `_local/`.
    ///
    /// # Errors
    /// [`ParseError::DocIdEmpty`], [`ParseError::DocIdTooLong`].
    pub fn parse(name: &str, bytes_max: usize) -> Result<Self, ParseError> {
        check_length(name, bytes_max)?;
        Ok(Self(name.into()))
    }

    /// Takes an id that was checked before it was stored.
    #[cfg(feature = "sled")]
    pub(crate) fn from_stored(name: &str) -> Self {
        Self(name.into())
    }

    /// The part after `_local/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_length(id: &str, bytes_max: usize) -> Result<(), ParseError> {
    if id.is_empty() {
        return Err(ParseError::DocIdEmpty);
    }
    if id.len() > bytes_max {
        return Err(ParseError::DocIdTooLong { bytes: id.len(), max: bytes_max });
    }
    Ok(())
}

/// An id as it comes in a document: of a replicated one or of a local one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AnyId {
    /// A replicated document.
    Doc(DocId),
    /// A local document.
    Local(LocalId),
}

impl AnyId {
    /// Sorts an id into the two kinds and checks it.
    ///
    /// # Errors
    /// As [`DocId::parse`] and [`LocalId::parse`].
    pub fn parse(id: &str, bytes_max: usize) -> Result<Self, ParseError> {
        match id.strip_prefix("_local/") {
            Some(name) => LocalId::parse(name, bytes_max).map(Self::Local),
            None => DocId::parse(id, bytes_max).map(Self::Doc),
        }
    }
}

macro_rules! text_type {
    ($name:ident, $prefix:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}
text_type!(DbName, "");
text_type!(DocId, "");
text_type!(LocalId, "_local/");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_names() {
        for good in ["a", "todos", "a0_$()+-/z", &"a".repeat(238)] {
            assert!(DbName::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["", "A", "_users", "1a", "a b", "a.b", "../a", "ä", "a\0", "a%2f", &"a".repeat(239)]
        {
            assert!(DbName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn document_ids() {
        for good in ["a", "A B", "constructor", "a/b", "ä\u{0}", "_design/x", "_design/x/y", "é_"]
        {
            assert!(DocId::parse(good, 100).is_ok(), "{good:?}");
        }
        for bad in ["", "_", "_a", "_design", "_design/", "_local/x", &"a".repeat(101)] {
            assert!(DocId::parse(bad, 100).is_err(), "{bad:?}");
        }
        assert!(matches!(AnyId::parse("_local/x", 100), Ok(AnyId::Local(_))));
        assert_eq!(AnyId::parse("_local/", 100), Err(ParseError::DocIdEmpty));
    }
}
