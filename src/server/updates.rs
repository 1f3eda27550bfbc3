//! Documents of the application's own that follow what a validator let pass.
//!
//! They are written once the document that brought them is stored, and before its writer is answered.

use std::collections::BTreeMap;

use futures::{StreamExt as _, stream};

use crate::doc::{DocId, Document};
use crate::store::{Database, DocError, GetOptions, StoreError};

use super::life::IgnoredIn;
use super::observe::Link;

/// Tries of an update that others overtake.
const TRIES_MAX: usize = 16;

/// Documents written at a time, which share flushes.
const AT_ONCE: usize = 32;

/// Writes updates; those of one document in their order. What is refused is told to the listener of
/// errors, since the client cannot do anything about it.
pub(super) async fn write(database: &Database, link: &Link, updates: Vec<Document>) {
    if updates.is_empty() {
        return;
    }
    let mut by_id: BTreeMap<DocId, Vec<Document>> = BTreeMap::new();
    for update in updates {
        by_id.entry(update.id.clone()).or_default().push(update);
    }
    let write_those = async |updates: Vec<Document>| {
        for update in updates {
            let id = update.id.clone();
            if let Err(error) = write_one(database, update).await {
                let reason = format!("the update of document {id:?} was refused: {error}");
                link.ignored(IgnoredIn::Validator, database.name(), reason);
            }
        }
    };
    stream::iter(by_id.into_values()).for_each_concurrent(AT_ONCE, write_those).await;
}

/// Writes a document onto the revision that it names, or onto the winner if it names none.
async fn write_one(database: &Database, update: Document) -> Result<(), StoreError> {
    let names_rev = update.rev.is_some();
    let mut tries = 1;
    loop {
        let mut document = update.clone();
        if !names_rev {
            document.rev = match database.get(&document.id, &GetOptions::default()).await {
                Ok(winner) => winner.rev,
                Err(StoreError::DocMissing { .. } | StoreError::DocDeleted { .. }) => None,
                Err(error) => return Err(error),
            };
        }
        match database.put(document).await {
            Err(StoreError::Refused(DocError::Conflict)) if !names_rev && tries < TRIES_MAX => {
                tries += 1;
            }
            written => return written.map(drop),
        }
    }
}
