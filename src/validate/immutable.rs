//! Fields that may not change.

use std::collections::HashMap;

use crate::doc::{DocId, Document, Json, Rev, collate};
use crate::limits::Limits;
use crate::server::{Denied, ProposedWrite};
use crate::store::{Database, GetOptions, StoreError};

use super::error::ValidateError;

/// A field by its members from the outside in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    name: String,
    members: Vec<String>,
}

impl Field {
    pub(super) fn parse(name: &str) -> Result<Self, ValidateError> {
        let members: Vec<String> = name.split('.').map(str::to_owned).collect();
        if name.starts_with('_') || members.iter().any(String::is_empty) {
            return Err(ValidateError::Field { field: name.to_owned() });
        }
        Ok(Self { name: name.to_owned(), members })
    }

    fn find<'v, 't>(&self, body: &'v Json<'t>) -> Option<&'v Json<'t>> {
        self.members.iter().try_fold(body, |at, member| match at {
            Json::Object(members) => {
                members.iter().find(|(key, _)| key == member).map(|(_, value)| value)
            }
            _ => None,
        })
    }

    fn is_kept(&self, earlier: &Document, later: &Document, limits: &Limits) -> bool {
        let read = |document: &Document| {
            let body = Json::parse(document.body.as_str(), limits).ok()?;
            self.find(&body).map(|value| value.clone().into_owned())
        };
        match (read(earlier), read(later)) {
            (None, None) => true,
            (Some(earlier), Some(later)) => collate::same(&earlier, &later),
            _ => false,
        }
    }
}

/// What documents of one call are compared with: what is stored, and those of the call that were
/// let pass before them.
#[derive(Default)]
pub(super) struct Earlier<'a> {
    passed: HashMap<&'a DocId, &'a Document>,
}

impl<'a> Earlier<'a> {
    pub(super) fn passed(&mut self, document: &'a Document) {
        self.passed.entry(&document.id).or_insert(document);
    }

    /// Whether a write leaves some fields as they are. Without an earlier revision, and over a
    /// tombstone, they may be anything.
    ///
    /// What a revision replaces and what wins are both looked at, so that a branch without a stored
    /// ancestor cannot bring another value.
    pub(super) async fn keep(
        &self,
        fields: &[Field],
        write: &ProposedWrite<'a>,
    ) -> Result<(), Denied> {
        let document = write.document;
        let stored = stored(write.database, document).await.map_err(|error| {
            tracing::error!(%error, "an earlier revision cannot be read");
            Denied::unavailable("an earlier revision of the document cannot be read for now")
        })?;
        let earlier = stored.iter().chain(self.passed.get(&document.id).copied());
        for earlier in earlier.filter(|earlier| !earlier.deleted) {
            let changed = fields
                .iter()
                .find(|field| !field.is_kept(earlier, document, write.database.limits()));
            if let Some(Field { name, .. }) = changed {
                return Err(Denied::forbidden(format!("the field {name} may not change")));
            }
        }
        Ok(())
    }
}

async fn stored(database: &Database, document: &Document) -> Result<Vec<Document>, StoreError> {
    let winner = match database.get(&document.id, &GetOptions::default()).await {
        Ok(winner) => winner,
        Err(StoreError::DocMissing { .. }) => return Ok(Vec::new()),
        Err(StoreError::DocDeleted { .. }) => {
            return Ok(nearest(database, document).await?.into_iter().collect());
        }
        Err(error) => return Err(error),
    };
    let nearest = nearest(database, document).await?;
    let other = nearest.filter(|nearest| nearest.rev != winner.rev);
    Ok(std::iter::once(winner).chain(other).collect())
}

async fn nearest(database: &Database, document: &Document) -> Result<Option<Document>, StoreError> {
    let path: Vec<Rev> = document.path().map_or_else(Vec::new, |path| path.revs().collect());
    database.nearest_stored(&document.id, &path).await
}
