//! What documents of some databases must be.

use std::fmt;

use async_trait::async_trait;
use serde_json::Value;

use crate::doc::{Document, Selector};
use crate::schema::{Schema, SchemaProblem};
use crate::server::{Denied, ProposedWrite, Validator};

use super::error::ValidateError;
use super::immutable::{Earlier, Field};
use super::pattern::DbPattern;

/// Holds the documents of some databases to what was said of them. What nothing was said of passes.
///
/// Tombstones pass, since a deletion has no content of its own, and so do design documents, which
/// are the database's rather than the application's. A document that was stored before is judged
/// when it is written again.
#[derive(Clone)]
pub struct Rule {
    databases: DbPattern,
    schema: Option<Schema>,
    selector: Option<Selector>,
    immutable: Vec<Field>,
    reason: Option<String>,
}

impl Rule {
    /// A rule for databases, which lets everything pass.
    #[must_use]
    pub fn new(databases: DbPattern) -> Self {
        Self { databases, schema: None, selector: None, immutable: Vec::new(), reason: None }
    }

    /// The same with a JSON Schema (draft 4 to 2020-12, as `$schema` says; 2020-12 without one) for
    /// the document's own members. Members that begin with `_` are not shown to it. Numbers are
    /// compared as 64-bit floats or integers. `$ref` reaches within the schema only.
    ///
    /// # Errors
    /// [`ValidateError::Schema`].
    pub fn schema(self, schema: &Value) -> Result<Self, ValidateError> {
        let compiled = Schema::compile(schema)
            .map_err(|SchemaProblem { at, problem }| ValidateError::Schema { at, problem })?;
        Ok(Self { schema: Some(compiled), ..self })
    }

    /// The same with a selector that documents must match, as [`Selector::matches`] judges.
    #[must_use]
    pub fn selector(self, selector: Selector) -> Self {
        Self { selector: Some(selector), ..self }
    }

    /// The same with fields that keep the value of the revision that is replaced and of the one
    /// that wins; also that of not being there. Members of objects within are divided by dots.
    ///
    /// A document that is written anew after its deletion may choose them again. Of two first
    /// revisions that are written at the same time, both pass.
    ///
    /// # Errors
    /// [`ValidateError::Field`].
    pub fn immutable<'f>(
        mut self,
        fields: impl IntoIterator<Item = &'f str>,
    ) -> Result<Self, ValidateError> {
        for field in fields {
            self.immutable.push(Field::parse(field)?);
        }
        Ok(self)
    }

    /// The same with the reason that a client is told, in place of what did not hold.
    #[must_use]
    pub fn reason(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    fn content(&self, document: &Document) -> Result<(), String> {
        if let Some(schema) = &self.schema {
            // A body is checked to be an object of JSON before it comes here.
            let body: Value = document.to().map_err(|error| error.to_string())?;
            schema.check(&body)?;
        }
        match &self.selector {
            Some(selector) if !selector.matches(document) => {
                Err("the document does not match the selector of this database".into())
            }
            _ => Ok(()),
        }
    }

    async fn judge<'a>(
        &self,
        write: &ProposedWrite<'a>,
        earlier: &mut Earlier<'a>,
    ) -> Result<(), Denied> {
        let document = write.document;
        if document.deleted || document.id.is_design() || !self.concerns(write) {
            return Ok(());
        }
        self.content(document).map_err(Denied::forbidden)?;
        if !self.immutable.is_empty() {
            earlier.keep(&self.immutable, write).await?;
            earlier.passed(document);
        }
        Ok(())
    }

    fn concerns(&self, write: &ProposedWrite<'_>) -> bool {
        self.databases.matches(write.database.name())
    }

    fn reworded(&self, denied: Denied) -> Denied {
        match &self.reason {
            Some(reason) if denied.kind == crate::server::DeniedKind::Forbidden => {
                Denied::forbidden(reason.clone())
            }
            _ => denied,
        }
    }
}

#[async_trait]
impl Validator for Rule {
    async fn validate(&self, write: &ProposedWrite<'_>) -> Result<(), Denied> {
        let verdict = self.judge(write, &mut Earlier::default()).await;
        verdict.map_err(|denied| self.reworded(denied))
    }

    async fn validate_all(&self, writes: &[ProposedWrite<'_>]) -> Vec<Result<(), Denied>> {
        let mut earlier = Earlier::default();
        let mut verdicts = Vec::with_capacity(writes.len());
        for write in writes {
            let verdict = self.judge(write, &mut earlier).await;
            verdicts.push(verdict.map_err(|denied| self.reworded(denied)));
        }
        verdicts
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("databases", &self.databases)
            .field("immutable", &self.immutable)
            .finish_non_exhaustive()
    }
}
