//! Judging documents before they are written.

use std::sync::Arc;

use async_trait::async_trait;

use crate::doc::Document;
use crate::proto::message::WireError;
use crate::store::Database;

use super::auth::{Denied, DeniedKind, Grant};
use super::error::{Refusal, ToWire as _};
use super::life::{IgnoredIn, caught};
use super::observe::Link;

/// A write that a validator is to judge.
#[derive(Debug, Clone, Copy)]
pub struct ProposedWrite<'a> {
    /// The document as it would be written. Of a replicated write `rev` is the revision itself, of
    /// an edit the one to replace.
    pub document: &'a Document,
    /// Where it would be written; earlier revisions can be read from it.
    pub database: &'a Database,
    /// The user that the grant names.
    pub user: Option<&'a str>,
    /// The roles that the grant names.
    pub roles: &'a [String],
}

/// Judges documents before they are written. Any `Fn(&ProposedWrite) -> Result<(), Denied>` is one.
///
/// A verdict rests on what is stored while it is made. Two writes at the same time are judged
/// without each other.
#[async_trait]
pub trait Validator: Send + Sync + 'static {
    /// Lets a document pass or not. The others of the same call are judged by themselves.
    ///
    /// # Errors
    /// [`Denied`], whose reason reaches the client as a `denied` event; [`Denied::unavailable`]
    /// fails the whole call, to be made again later.
    async fn validate(&self, write: &ProposedWrite<'_>) -> Result<(), Denied>;

    /// Judges the documents of one call: a verdict for each, in their order.
    ///
    /// For who can judge many at a time better than one by one. A missing verdict counts as
    /// [`Denied::unavailable`].
    async fn validate_all(&self, writes: &[ProposedWrite<'_>]) -> Vec<Result<(), Denied>> {
        let mut verdicts = Vec::with_capacity(writes.len());
        for write in writes {
            verdicts.push(self.validate(write).await);
        }
        verdicts
    }

    /// Judges the documents of one call, and says what is to be written once each is stored.
    ///
    /// Those documents go into the same database, without being judged; one without `rev` takes the
    /// place of the winner. They are no part of the write: a crash may come between the two.
    async fn judge_all(&self, writes: &[ProposedWrite<'_>]) -> Vec<Result<Vec<Document>, Denied>> {
        let verdicts = self.validate_all(writes).await;
        verdicts.into_iter().map(|verdict| verdict.map(|()| Vec::new())).collect()
    }
}

#[async_trait]
impl<F> Validator for F
where
    F: Fn(&ProposedWrite<'_>) -> Result<(), Denied> + Send + Sync + 'static,
{
    async fn validate(&self, write: &ProposedWrite<'_>) -> Result<(), Denied> {
        self(write)
    }
}

/// What follows a document that may be stored, or why it may not.
type Judged = Result<Vec<Document>, Denied>;

/// The verdict on each document: the first refusal of a grant's validators, each of which is asked
/// about what those before let pass, or what all of them want to follow it. An error if one cannot be
/// had.
pub(super) async fn judge(
    grant: &Grant,
    database: &Database,
    link: &Link,
    documents: &[Document],
) -> Result<Vec<Judged>, WireError> {
    let mut verdicts = vec![Ok(Vec::new()); documents.len()];
    for validator in &grant.validators {
        let passed: Vec<usize> =
            (0..documents.len()).filter(|place| verdicts[*place].is_ok()).collect();
        let (user, roles) = (grant.user_name(), &*grant.roles);
        let writes: Vec<_> = passed
            .iter()
            .map(|place| ProposedWrite { document: &documents[*place], database, user, roles })
            .collect();
        if writes.is_empty() {
            break;
        }
        for (place, verdict) in passed.iter().zip(ask(validator, link, &writes).await?) {
            match (&mut verdicts[*place], verdict) {
                (Ok(updates), Ok(more)) => updates.extend(more),
                (judged, verdict) => *judged = verdict,
            }
        }
    }
    Ok(verdicts)
}

async fn ask(
    validator: &Arc<dyn Validator>,
    link: &Link,
    writes: &[ProposedWrite<'_>],
) -> Result<Vec<Judged>, WireError> {
    let verdicts = caught(validator.judge_all(writes)).await.map_err(|panicked| {
        writes.iter().take(1).for_each(|write| {
            link.ignored(IgnoredIn::Validator, write.database.name(), panicked.clone());
        });
        Refusal::Panicked.to_wire()
    })?;
    if verdicts.len() != writes.len() {
        tracing::error!(
            documents = writes.len(),
            verdicts = verdicts.len(),
            "a validator gave another number of verdicts than it was asked for"
        );
        return Err(Denied::unavailable("the documents could not be judged").to_wire());
    }
    let put_off = |verdict: &&Judged| {
        verdict.as_ref().is_err_and(|denied| denied.kind == DeniedKind::Unavailable)
    };
    match verdicts.iter().find(put_off) {
        Some(Err(denied)) => Err(denied.to_wire()),
        _ => Ok(verdicts),
    }
}
