//! Handlers of the application: what it does with a document before it is written, and before it is
//! shown.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;

use crate::doc::{
    AnyDocument, Body, DbName, DocId, Document, ParseError, Rev, RevPath, RevTree, next_rev,
};
use crate::proto::message::WireError;
use crate::store::backend::Grouping;
use crate::store::{Database, DocError, EditMode, StoreError};

use super::auth::{Denied, DeniedKind, Grant};
use super::batch::How;
use super::error::{Refusal, ToWire as _};
use super::life::{IgnoredIn, caught};
use super::observe::Link;
use super::validator::ProposedWrite;

/// Which databases something is for. [`DbPattern`](crate::validate::DbPattern) is one, and any
/// `Fn(&DbName) -> bool`.
pub trait PickDatabases: Send + Sync + 'static {
    /// Whether a database is meant.
    fn picks(&self, name: &DbName) -> bool;
}

impl<F: Fn(&DbName) -> bool + Send + Sync + 'static> PickDatabases for F {
    fn picks(&self, name: &DbName) -> bool {
        self(name)
    }
}

/// What a [`WriteHandler`] makes of a write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Handled {
    pub(super) body: Option<Body>,
    pub(super) quiet: bool,
}

impl Handled {
    /// The write goes on as it is.
    #[must_use]
    pub fn as_it_is() -> Self {
        Self::default()
    }

    /// The document gets another body. What begins with `_`, attachments among it, stays.
    #[must_use]
    pub fn with_body(self, body: Body) -> Self {
        Self { body: Some(body), ..self }
    }

    /// The change wakes no live feed: [`WriteOptions::quiet`](crate::store::WriteOptions::quiet).
    #[must_use]
    pub fn quietly(self) -> Self {
        Self { quiet: true, ..self }
    }
}

/// Takes part in the writes of clients, by every protocol, before validators judge them.
///
/// Of an edit the changed body is what is stored. A revision of a replica is stored as it is, since
/// its name stands for its content; a changed body follows it as one more revision, in the same
/// commit. A handler should therefore leave a document alone that it has changed already: it sees its
/// own revisions again if another gateway brings them.
///
/// A handler is asked once for each revision that is not stored yet, and the write may still be
/// refused after that. What the application writes by itself, through [`Database`], and `_local/` and
/// design documents pass no handler.
#[async_trait]
pub trait WriteHandler: Send + Sync + 'static {
    /// For a document that is not there, or is deleted.
    ///
    /// # Errors
    /// [`Denied`], as in [`Validator::validate`](super::Validator::validate).
    async fn on_create(&self, write: &ProposedWrite<'_>) -> Result<Handled, Denied> {
        let _ = write;
        Ok(Handled::as_it_is())
    }

    /// For a document that is there.
    ///
    /// # Errors
    /// [`Denied`], as in [`Validator::validate`](super::Validator::validate).
    async fn on_update(&self, write: &ProposedWrite<'_>) -> Result<Handled, Denied> {
        let _ = write;
        Ok(Handled::as_it_is())
    }

    /// For a tombstone.
    ///
    /// # Errors
    /// [`Denied`], as in [`Validator::validate`](super::Validator::validate).
    async fn on_destroy(&self, write: &ProposedWrite<'_>) -> Result<Handled, Denied> {
        let _ = write;
        Ok(Handled::as_it_is())
    }
}

/// A document that is about to be shown to a client.
#[derive(Debug, Clone, Copy)]
pub struct Fetch<'a> {
    /// The document as it is stored.
    pub document: &'a Document,
    /// The database it is in.
    pub database: &'a Database,
    /// The user that the grant names.
    pub user: Option<&'a str>,
    /// The roles that the grant names.
    pub roles: &'a [String],
}

/// Takes part in what clients read, by every protocol: bodies, not ids and revisions. Design documents
/// pass no handler.
///
/// A refusal reaches the reader of one document with its reason; in lists the row has no document, and
/// a query leaves it out. Replicas hold exact revisions or none: a read for replication is not given
/// what is refused, nor what would be changed.
#[async_trait]
pub trait FetchHandler: Send + Sync + 'static {
    /// Lets a document be shown as it is (`None`) or with another body.
    ///
    /// # Errors
    /// [`Denied`]; [`Denied::unavailable`] fails the whole read, to be made again later.
    async fn on_fetch(&self, fetch: &Fetch<'_>) -> Result<Option<Body>, Denied>;
}

/// Handlers of one kind, each with the databases it is for.
pub(super) type Handlers<H> = Vec<(Arc<dyn PickDatabases>, Arc<H>)>;

/// The handlers for a database, in the order given.
pub(super) fn picked<H: ?Sized>(handlers: &Handlers<H>, name: &DbName) -> Vec<Arc<H>> {
    let picked = handlers.iter().filter(|(databases, _)| databases.picks(name));
    picked.map(|(_, handler)| Arc::clone(handler)).collect()
}

/// What became of a write.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub quiet: bool,
    /// Whether the document's body is not the client's any more.
    pub changed: bool,
    /// The revision that follows a replicated one.
    pub follows: Option<Document>,
}

/// Asks the write handlers about documents, and changes those of edits. An error if one of them
/// cannot be asked.
pub(super) async fn handle(
    grant: &Grant,
    database: &Database,
    link: &Link,
    documents: &mut [Document],
    how: How,
) -> Result<Vec<Result<Outcome, Denied>>, WireError> {
    let mode = how.mode;
    let mut outcomes = Vec::with_capacity(documents.len());
    if grant.write_handlers.is_empty() {
        outcomes.resize_with(documents.len(), || Ok(Outcome::default()));
        return Ok(outcomes);
    }
    let ids: Vec<DocId> = documents.iter().map(|document| document.id.clone()).collect();
    let trees = database.rev_trees(&ids).await.map_err(|error| error.to_wire())?;
    // A group is stored whole or not at all. Else what follows a revision may be refused later.
    let replaced = match how {
        How { mode: EditMode::Replicated, grouping: Grouping::Together, .. } => {
            replaced(&*documents)
        }
        _ => HashSet::new(),
    };
    for (document, tree) in documents.iter_mut().zip(trees) {
        let tree = tree.unwrap_or_default();
        if passes_by(document, &tree, mode, &replaced) {
            outcomes.push(Ok(Outcome::default()));
            continue;
        }
        let handled = ask(grant, database, link, document, &tree).await?;
        outcomes.push(handled.and_then(|handled| take(document, handled, mode)));
    }
    Ok(outcomes)
}

/// Documents of a call with their places.
type Part = Vec<(usize, Result<AnyDocument, ParseError>)>;

/// Replicated revisions in the order in which they are to be written: those that another one of the
/// call follows come last. If that one was stored they are known by then, and no handler has to be
/// asked; if it was refused they are as new as any.
pub(super) fn parts(proposed: Vec<Result<AnyDocument, ParseError>>, docs_max: usize) -> Vec<Part> {
    let documents = proposed.iter().filter_map(|proposed| match proposed {
        Ok(AnyDocument::Doc(document)) => Some(document),
        _ => None,
    });
    let replaced = replaced(documents);
    let is_replaced = |proposed: &Result<AnyDocument, ParseError>| match proposed {
        Ok(AnyDocument::Doc(Document { id, rev: Some(rev), .. })) => {
            replaced.contains(&(id.clone(), rev.clone()))
        }
        _ => false,
    };
    let (last, first): (Part, Part) =
        proposed.into_iter().enumerate().partition(|(_, proposed)| is_replaced(proposed));
    let mut parts = Vec::new();
    for mut rest in [first, last] {
        while !rest.is_empty() {
            let more = rest.split_off(rest.len().min(docs_max));
            parts.push(std::mem::replace(&mut rest, more));
        }
    }
    parts
}

/// Replicated revisions that another one of some documents follows.
fn replaced<'a>(documents: impl IntoIterator<Item = &'a Document>) -> HashSet<(DocId, Rev)> {
    let paths = documents.into_iter().filter_map(|document| Some((&document.id, document.path()?)));
    let earlier = |(id, path): (&DocId, RevPath)| {
        path.revs().skip(1).map(|rev| (id.clone(), rev)).collect::<Vec<_>>()
    };
    paths.flat_map(earlier).collect()
}

/// The documents as they will be read: what a handler made of a revision stands for it.
pub(super) fn made<'a>(documents: &'a [Document], handled: &[Outcome]) -> Cow<'a, [Document]> {
    if handled.iter().all(|handled| handled.follows.is_none()) {
        return Cow::Borrowed(documents);
    }
    let made = documents.iter().zip(handled);
    made.map(|(document, handled)| handled.follows.as_ref().unwrap_or(document).clone()).collect()
}

fn passes_by(
    document: &Document,
    tree: &RevTree,
    mode: EditMode,
    replaced: &HashSet<(DocId, Rev)>,
) -> bool {
    let known = |rev: &Rev| {
        let named = || (document.id.clone(), rev.clone());
        mode == EditMode::Replicated && (tree.contains(rev) || replaced.contains(&named()))
    };
    is_design(document) || document.rev.as_ref().is_some_and(known)
}

/// Design documents define indexes, which must be what they say.
fn is_design(document: &Document) -> bool {
    document.id.as_str().starts_with("_design/")
}

async fn ask(
    grant: &Grant,
    database: &Database,
    link: &Link,
    document: &Document,
    tree: &RevTree,
) -> Result<Result<Handled, Denied>, WireError> {
    let mut all = Handled::default();
    let mut seen = document.clone();
    let is_there = tree.winner().is_some_and(|winner| !winner.state.deleted);
    for handler in &grant.write_handlers {
        let (user, roles) = (grant.user_name(), &*grant.roles);
        let write = ProposedWrite { document: &seen, database, user, roles };
        let asked = match (document.deleted, is_there) {
            (true, _) => handler.on_destroy(&write),
            (false, true) => handler.on_update(&write),
            (false, false) => handler.on_create(&write),
        };
        let handled = caught(asked).await.map_err(|panicked| {
            link.ignored(IgnoredIn::Handler, database.name(), panicked);
            Refusal::Panicked.to_wire()
        });
        let handled = match handled? {
            Ok(handled) => handled,
            Err(denied) if denied.kind == DeniedKind::Unavailable => return Err(denied.to_wire()),
            Err(denied) => return Ok(Err(denied)),
        };
        all.quiet |= handled.quiet;
        if let Some(body) = handled.body.filter(|body| *body != seen.body) {
            seen.body = body.clone();
            all.body = Some(body);
        }
    }
    Ok(Ok(all))
}

fn take(document: &mut Document, handled: Handled, mode: EditMode) -> Result<Outcome, Denied> {
    let mut outcome = Outcome { quiet: handled.quiet, ..Outcome::default() };
    let Some(body) = handled.body else { return Ok(outcome) };
    match mode {
        EditMode::Edit => {
            document.body = body;
            outcome.changed = true;
        }
        EditMode::Replicated => {
            let follows = following(document, body);
            outcome.follows = follows.map_err(|error| Denied::forbidden(error.to_string()))?;
        }
    }
    Ok(outcome)
}

/// An edit of a revision that is not stored yet, as a revision with its history; `None` of what has
/// no revision.
fn following(document: &Document, body: Body) -> Result<Option<Document>, ParseError> {
    let Some(path) = document.path() else { return Ok(None) };
    let rev = next_rev(Some(&path.leaf()), document.deleted, &document.attachments, &body)?;
    let hashes = [rev.hash()].into_iter().chain(path.hashes()).cloned().collect();
    let revisions = Some(RevPath::new(rev.generation(), hashes)?);
    Ok(Some(Document { rev: Some(rev), revisions, body, ..document.clone() }))
}

/// How a document is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// To be looked at.
    Shown,
    /// To be stored by a replica.
    Exact,
}

/// Asks the fetch handlers about a document: as it may be read, or why it may not.
pub(super) async fn fetched(
    grant: &Grant,
    database: &Database,
    link: &Link,
    mut document: Document,
    reading: Reading,
) -> Result<Result<Document, String>, StoreError> {
    for handler in &grant.fetch_handlers {
        if is_design(&document) {
            break;
        }
        let (user, roles) = (grant.user_name(), &*grant.roles);
        let fetch = Fetch { document: &document, database, user, roles };
        let unjudged = |reason: String| StoreError::Refused(DocError::Unjudged { reason });
        let answer = caught(handler.on_fetch(&fetch)).await.map_err(|panicked| {
            link.ignored(IgnoredIn::Handler, database.name(), panicked);
            unjudged(Refusal::Panicked.to_wire().reason)
        })?;
        match (answer, reading) {
            (Ok(None), _) => {}
            (Ok(Some(body)), _) if body == document.body => {}
            (Ok(Some(body)), Reading::Shown) => document.body = body,
            (Ok(Some(_)), Reading::Exact) => {
                return Ok(Err("the document is shown changed, and not replicated".to_owned()));
            }
            (Err(denied), _) if denied.kind == DeniedKind::Unavailable => {
                return Err(unjudged(denied.reason));
            }
            (Err(denied), _) => return Ok(Err(denied.reason)),
        }
    }
    Ok(Ok(document))
}
