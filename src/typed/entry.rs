//! One document with its value, and how a value becomes a body again.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::Shape;
use super::error::TypedError;
use crate::doc::{Body, DocId, Document, ParseError, Rev};
use crate::limits::Limits;

/// A document's members; values as text, so that numbers which nobody reads keep their digits.
type Members = BTreeMap<String, Box<RawValue>>;

/// A document as a value of its type.
#[derive(Debug, Clone)]
pub struct Entry<T> {
    /// The value. Changing it changes nothing in the database: see
    /// [`Collection::replace`](super::Collection::replace).
    pub value: T,
    document: Document,
    rev: Rev,
}

impl<T: Shape> Entry<T> {
    /// Reads a document that was read from a database.
    pub(super) fn of(document: Document) -> Result<Self, TypedError> {
        let id = document.id.clone();
        let other = || TypedError::OtherType { id: id.clone(), wanted: T::TYPE };
        let members: Members = document.to().map_err(|_| other())?;
        let kind = members.get(T::FIELD).map(|kind| serde_json::from_str::<String>(kind.get()));
        if !matches!(kind, Some(Ok(kind)) if kind == T::TYPE) {
            return Err(other());
        }
        let value = document.to().map_err(|source| TypedError::Shape { id: id.clone(), source })?;
        let rev = document.rev.clone().expect("a document that was read has a revision");
        Ok(Self { value, document, rev })
    }

    /// The entry that a write of `document` made.
    pub(super) fn written(value: T, document: Document, rev: Rev) -> Self {
        Self { value, document: document.with_rev(rev.clone()), rev }
    }

    /// The document's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.document.id.as_str()
    }

    /// The revision that was read or written.
    #[must_use]
    pub fn rev(&self) -> &Rev {
        &self.rev
    }

    /// The document as it was read, with members that the type does not know.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The document with this value in place of the one that was read.
    ///
    /// The members that the old value had go, so that one which the new value leaves out does not
    /// stay; those of the document that neither has are kept.
    pub(super) fn with_value(&self, value: &T, limits: &Limits) -> Result<Document, TypedError> {
        let id = &self.document.id;
        let read: T =
            self.document.to().map_err(|source| TypedError::Shape { id: id.clone(), source })?;
        let mut members: Members =
            self.document.to().map_err(|source| TypedError::Shape { id: id.clone(), source })?;
        for known in members_of(id, &read)?.keys() {
            members.remove(known);
        }
        members.extend(members_of(id, value)?);
        Ok(Document { body: body_of(&members, limits)?, ..self.document.clone() })
    }
}

/// A new document with a value.
pub(super) fn document_of<T: Shape>(
    id: DocId,
    value: &T,
    limits: &Limits,
) -> Result<Document, TypedError> {
    let members = members_of(&id, value)?;
    Ok(Document::with_body(id, body_of(&members, limits)?))
}

fn members_of<T: Shape>(id: &DocId, value: &T) -> Result<Members, TypedError> {
    let malformed = |source| TypedError::Value { id: id.clone(), source };
    let text = serde_json::to_string(value).map_err(malformed)?;
    let mut members: Members = serde_json::from_str(&text).map_err(malformed)?;
    let kind = serde_json::value::to_raw_value(T::TYPE).map_err(malformed)?;
    members.insert(T::FIELD.to_owned(), kind);
    Ok(members)
}

fn body_of(members: &Members, limits: &Limits) -> Result<Body, ParseError> {
    let text = serde_json::to_string(members).map_err(|_| ParseError::NotAnObject)?;
    Body::parse(&text, limits)
}
