//! Reading and writing the documents of one type.

use std::fmt;
use std::marker::PhantomData;

use futures::{Stream, StreamExt as _};
use serde_json::{Value, json};

use super::entry::document_of;
use super::{Entry, Shape, TypedError};
use crate::doc::{DocId, Document, Selector};
#[cfg(feature = "schema")]
use crate::schema::{Schema, SchemaProblem};
use crate::store::{
    ChangeDocs, ChangesOptions, Database, FindRequest, GetOptions, NewIndex, Seq, Since,
    StoreError, Style,
};

/// Writes of one update, each after another writer was faster.
const UPDATE_TRIES_MAX: u32 = 100;

/// The documents of one type in a database. A cheap handle: clones share the database.
pub struct Collection<T> {
    database: Database,
    #[cfg(feature = "schema")]
    schema: Option<Schema>,
    shape: PhantomData<fn() -> T>,
}

/// A change of a document of the type.
#[derive(Debug, Clone)]
pub struct TypedChange<T> {
    /// The place of the change.
    pub seq: Seq,
    /// The document.
    pub id: String,
    /// What it is; `None` if it was deleted.
    pub entry: Option<Entry<T>>,
}

impl<T: Shape> Collection<T> {
    pub(super) fn new(database: Database) -> Self {
        Self {
            database,
            #[cfg(feature = "schema")]
            schema: None,
            shape: PhantomData,
        }
    }

    /// The same, where what is written must hold to a JSON Schema. The schema sees the whole
    /// document without the members that begin with `_`. What is read is not judged.
    ///
    /// # Errors
    /// [`TypedError::Schema`].
    #[cfg(feature = "schema")]
    pub fn with_schema(self, schema: &Value) -> Result<Self, TypedError> {
        let compiled = Schema::compile(schema)
            .map_err(|SchemaProblem { at, problem }| TypedError::Schema { at, problem })?;
        Ok(Self { schema: Some(compiled), ..self })
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Makes the index that [`Collection::all`] and [`Collection::find`] use, if it is not there.
    /// Without it they read all documents of the database.
    ///
    /// # Errors
    /// As [`Database::create_index`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the index made or not.
    pub async fn create_index(&self) -> Result<(), TypedError> {
        self.database.create_index(&NewIndex::on(&[T::FIELD])?).await?;
        Ok(())
    }

    /// Reads a document; `None` if it is not there or deleted.
    ///
    /// # Errors
    /// [`TypedError::OtherType`], [`TypedError::Shape`], [`TypedError::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn get(&self, id: &str) -> Result<Option<Entry<T>>, TypedError> {
        match self.database.get(&self.id(id)?, &GetOptions::default()).await {
            Ok(document) => Entry::of(document).map(Some),
            Err(StoreError::DocMissing { .. } | StoreError::DocDeleted { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a new document, also in place of a deleted one.
    ///
    /// # Errors
    /// [`TypedError::Store`] with a conflict if there is one; [`TypedError::Invalid`].
    ///
    /// # Cancel safety
    /// As [`Database::put`].
    pub async fn put(&self, id: &str, value: &T) -> Result<Entry<T>, TypedError> {
        self.write(document_of(self.id(id)?, value, self.database.limits())?).await
    }

    /// Writes the value of an entry over the revision that the entry was read from.
    ///
    /// # Errors
    /// As [`Collection::put`]; a conflict if the document changed since.
    ///
    /// # Cancel safety
    /// As [`Database::put`].
    pub async fn replace(&self, entry: &Entry<T>) -> Result<Entry<T>, TypedError> {
        self.write(entry.with_value(&entry.value, self.database.limits())?).await
    }

    /// Changes a document's value, again if somebody else was faster: `change` is then called with
    /// the value that is there. A change that leaves the document as it is writes nothing.
    ///
    /// # Errors
    /// [`StoreError::DocMissing`] if it is not there or deleted; [`TypedError::Contended`];
    /// else as [`Collection::get`] and [`Collection::put`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the change made or not.
    pub async fn update(
        &self,
        id: &str,
        mut change: impl FnMut(&mut T) + Send,
    ) -> Result<Entry<T>, TypedError> {
        let doc_id = self.id(id)?;
        for _ in 0..UPDATE_TRIES_MAX {
            let found = self.get(id).await?;
            let mut entry = found.ok_or_else(|| StoreError::DocMissing { id: doc_id.clone() })?;
            let limits = self.database.limits();
            let before = entry.with_value(&entry.value, limits)?;
            change(&mut entry.value);
            let after = entry.with_value(&entry.value, limits)?;
            if after.body == before.body {
                return Ok(entry);
            }
            match self.write(after).await {
                Err(error) if error.is_conflict() => {}
                written => return written,
            }
        }
        Err(TypedError::Contended { id: doc_id, tries: UPDATE_TRIES_MAX })
    }

    /// Deletes the revision that an entry was read from.
    ///
    /// # Errors
    /// [`TypedError::Store`] with a conflict if the document changed since.
    ///
    /// # Cancel safety
    /// As [`Database::put`].
    pub async fn delete(&self, entry: &Entry<T>) -> Result<(), TypedError> {
        self.database.delete(&entry.document().id, entry.rev().clone()).await?;
        Ok(())
    }

    /// All documents of the type, one by one. A document that cannot be read is an error of its own,
    /// and the stream goes on.
    ///
    /// # Errors
    /// As [`Collection::find`].
    ///
    /// # Cancel safety
    /// Dropping the future or the stream changes nothing.
    pub async fn all(
        &self,
    ) -> Result<impl Stream<Item = Result<Entry<T>, TypedError>> + Send + use<T>, TypedError> {
        self.found(&of_type::<T>()).await
    }

    /// The documents of the type that match a selector ([docs/SELECTORS.md]), one by one.
    ///
    /// # Errors
    /// [`TypedError::Selector`], [`TypedError::Find`].
    ///
    /// # Cancel safety
    /// As [`Collection::all`].
    ///
    /// [docs/SELECTORS.md]: https://docs.rs/crate/settee/latest/source/docs/SELECTORS.md
    pub async fn find(
        &self,
        selector: &Value,
    ) -> Result<impl Stream<Item = Result<Entry<T>, TypedError>> + Send + use<T>, TypedError> {
        self.found(&json!({"$and": [of_type::<T>(), selector]})).await
    }

    async fn found(
        &self,
        selector: &Value,
    ) -> Result<impl Stream<Item = Result<Entry<T>, TypedError>> + Send + use<T>, TypedError> {
        let selector = Selector::from_value(selector)?;
        let request = FindRequest { limit: usize::MAX, ..FindRequest::new(selector) };
        let finder = self.database.finder(request).await?;
        Ok(futures::stream::unfold(Some(finder), |finder| async move {
            let mut finder = finder?;
            match finder.next().await {
                Ok(Some(document)) => Some((Entry::of(document), Some(finder))),
                Ok(None) => None,
                Err(error) => Some((Err(error.into()), None)),
            }
        }))
    }

    /// Changes of documents of the type after `since`, for ever: what is there, then each change as
    /// it happens, with the winning revision. A deletion is told if what was deleted was of the type
    /// and is still stored. A document that becomes one of another type is told no more.
    ///
    /// A document that cannot be read is an error of its own; after an error of the store the stream
    /// ends.
    ///
    /// # Errors
    /// As [`Database::feed`].
    ///
    /// # Cancel safety
    /// Dropping the future or the stream changes nothing.
    pub async fn changes(
        &self,
        since: Since,
    ) -> Result<impl Stream<Item = Result<TypedChange<T>, TypedError>> + Send + use<T>, TypedError>
    {
        let options = ChangesOptions {
            since,
            style: Style::MainOnly,
            docs: ChangeDocs::Winner,
            selectors: vec![Selector::from_value(&of_type::<T>())?],
            ..ChangesOptions::default()
        };
        let feed = self.database.feed(options).await?;
        Ok(feed.into_stream().filter_map(|change| async move {
            let mut change = match change {
                Ok(change) => change,
                Err(error) => return Some(Err(error.into())),
            };
            let id = change.id.to_string();
            let entry = match (change.deleted(), change.docs.pop()) {
                (true, _) => Ok(None),
                (false, Some(document)) => Entry::of(document).map(Some),
                // Compacted since it changed again: a newer row follows.
                (false, None) => return None,
            };
            Some(entry.map(|entry| TypedChange { seq: change.seq, id, entry }))
        }))
    }

    fn id(&self, id: &str) -> Result<DocId, TypedError> {
        Ok(DocId::parse(id, self.database.limits().doc_id_bytes_max)?)
    }

    async fn write(&self, document: Document) -> Result<Entry<T>, TypedError> {
        self.check(&document)?;
        let id = document.id.clone();
        let value = document.to().map_err(|source| TypedError::Shape { id, source })?;
        let written = self.database.put(document.clone()).await?;
        Ok(Entry::written(value, document, written.rev))
    }

    #[cfg(feature = "schema")]
    fn check(&self, document: &Document) -> Result<(), TypedError> {
        let Some(schema) = &self.schema else { return Ok(()) };
        let id = &document.id;
        let body: Value =
            document.to().map_err(|source| TypedError::Value { id: id.clone(), source })?;
        let checked = schema.check(&body);
        checked.map_err(|problem| TypedError::Invalid { id: id.clone(), problem })
    }

    #[cfg(not(feature = "schema"))]
    #[allow(clippy::unnecessary_wraps, clippy::unused_self)]
    fn check(&self, _: &Document) -> Result<(), TypedError> {
        Ok(())
    }
}

fn of_type<T: Shape>() -> Value {
    // A field's dots would lead into objects.
    let field = T::FIELD.replace('\\', "\\\\").replace('.', "\\.");
    json!({ field: {"$eq": T::TYPE} })
}

impl<T> Clone for Collection<T> {
    fn clone(&self) -> Self {
        Self {
            database: self.database.clone(),
            #[cfg(feature = "schema")]
            schema: self.schema.clone(),
            shape: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Collection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collection").field("database", &self.database).finish_non_exhaustive()
    }
}
