//! A database under a grant: what every protocol of the gateway reads and writes through.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::task::Poll;

use crate::doc::{AnyDocument, Body, DocId, Document, LocalDocument, ParseError, Rev};
use crate::proto::call::WriteRow;
use crate::proto::message::{Access, Info, WireError};
use crate::store::backend::Grouping;
use crate::store::to_the_end::to_the_end;
use crate::store::{
    Database, DocError, EditMode, GetOptions, StoreError, WriteOptions, WriteOutcome,
};

use super::auth::Grant;
use super::batch::{Aside, Batch, How, Unchanged, error_row};
use super::error::{Refusal, ToWire as _, bad_param};
use super::handler::{self, Outcome};
use super::life::IgnoredIn;
use super::observe::Link;
use super::{updates, validator};

/// A database, and what may be done with it.
#[derive(Debug, Clone)]
pub(super) struct Granted {
    pub database: Database,
    pub grant: Arc<Grant>,
    /// For whom.
    pub link: Arc<Link>,
}

/// What became of the documents of a call.
struct Stored {
    rows: Vec<WriteRow>,
    as_they_came: Vec<crate::store::Written>,
}

impl Granted {
    /// What a client is told of its rights.
    pub(super) fn access(&self) -> Access {
        let time_left = self.grant.time_left();
        Access {
            read: self.grant.read,
            write: self.grant.write,
            destroy: self.grant.destroy,
            user: self.grant.user.clone(),
            expires_in_ms: time_left.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            view: self.grant.view(),
        }
    }

    pub(super) async fn info(&self) -> Result<Info, StoreError> {
        let info = self.database.info().await?;
        Ok(Info {
            db_name: info.name.to_string(),
            doc_count: info.doc_count,
            doc_del_count: info.deleted_count,
            update_seq: info.update_seq.to_string(),
            uuid: info.incarnation.to_string(),
            ephemeral: self.grant.ephemeral,
        })
    }

    pub(super) fn check_read(&self) -> Result<(), WireError> {
        if self.grant.read { Ok(()) } else { Err(Refusal::MayNotRead.to_wire()) }
    }

    pub(super) fn check_destroy(&self) -> Result<(), WireError> {
        if self.grant.destroy { Ok(()) } else { Err(Refusal::MayNotDestroy.to_wire()) }
    }

    /// Writes documents as they came, each with its own outcome, in the order given.
    ///
    /// `written` is told of every document that was stored as it came.
    pub(super) async fn write(
        &self,
        proposed: Vec<Result<AnyDocument, ParseError>>,
        how: impl Into<How>,
        written: impl Fn(&crate::store::Written) + Send,
    ) -> Result<Vec<WriteRow>, WireError> {
        let how = how.into();
        let parts = match how {
            How { mode: EditMode::Replicated, grouping: Grouping::Apart, .. }
                if !self.grant.write_handlers.is_empty() =>
            {
                // Each document may bring a second one.
                let docs_max = (self.database.limits().bulk_rows_max / 2).max(1);
                handler::parts(proposed, docs_max)
            }
            _ => vec![proposed.into_iter().enumerate().collect()],
        };
        let mut rows = Vec::new();
        for part in parts {
            let (places, proposed): (Vec<usize>, Vec<_>) = part.into_iter().unzip();
            let stored = self.write_part(proposed, how).await?;
            stored.as_they_came.iter().for_each(&written);
            rows.extend(places.into_iter().zip(stored.rows));
        }
        rows.sort_by_key(|(place, _)| *place);
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    async fn write_part(
        &self,
        proposed: Vec<Result<AnyDocument, ParseError>>,
        how: How,
    ) -> Result<Stored, WireError> {
        let How { mode, unchanged, grouping } = how;
        let mut batch = self.begin(proposed, mode, grouping).await?;
        self.leave_out(&mut batch, how).await?;
        let (grant, database) = (&*self.grant, &self.database);
        let handled =
            handler::handle(grant, database, &self.link, &mut batch.documents, how).await?;
        let handled = batch.sift(handled);
        let made = handler::made(&batch.documents, &handled);
        let verdicts = validator::judge(grant, database, &self.link, &made).await?;
        let judged = handled.into_iter().zip(verdicts);
        let judged = judged.map(|(handled, verdict)| verdict.map(|updates| (handled, updates)));
        let mut passed = batch.sift(judged.collect());
        if mode == EditMode::Edit && passed.iter().any(|(handled, _)| handled.changed) {
            let changed = self.changes_winners(&batch.documents, unchanged).await?;
            let kept = changed.into_iter().zip(passed).map(|(known, kept)| known.map(|()| kept));
            passed = batch.sift(kept.collect());
        }
        if grouping == Grouping::Together && batch.refuse_group() {
            passed.clear();
        }
        let granted = self.clone();
        let storing = async move { granted.store_all(batch, passed, mode, grouping).await };
        let mut storing = Box::pin(storing);
        if let Poll::Ready(stored) = futures::poll!(&mut storing) {
            return stored;
        }
        // A task of its own: what is stored is told and followed although its writer may be gone.
        to_the_end(storing).await.map_err(|closed| closed.to_wire())?
    }

    /// Stores what passed, and does everything that follows from it.
    async fn store_all(
        &self,
        batch: Batch,
        passed: Vec<(Outcome, Vec<Document>)>,
        mode: EditMode,
        grouping: Grouping,
    ) -> Result<Stored, WireError> {
        let (documents, mut rows, places) = batch.finish();
        let (handled, updates): (Vec<_>, Vec<_>) = passed.into_iter().unzip();
        let outcomes = self.store(documents, &handled, mode, grouping).await?;
        self.merge_conflicts(&outcomes).await;
        let (mut due, mut as_they_came) = (Vec::new(), Vec::new());
        let passed = handled.iter().zip(updates);
        for ((place, (handled, updates)), outcome) in places.into_iter().zip(passed).zip(outcomes) {
            if let Ok(stored) = &outcome {
                if stored.seq.is_some() {
                    due.extend(updates);
                    self.link.stored(&self.grant, &stored.id, &stored.rev);
                }
                if !handled.changed {
                    as_they_came.push(stored.clone());
                }
            }
            rows[place] = Some(outcome_row(outcome));
        }
        updates::write(&self.database, &self.link, due).await;
        let rows: Vec<WriteRow> = rows.into_iter().flatten().collect();
        self.link.wrote(&self.grant, &rows);
        Ok(Stored { rows, as_they_came })
    }

    /// The documents that the grant lets be written. Local ones are.
    async fn begin(
        &self,
        proposed: Vec<Result<AnyDocument, ParseError>>,
        mode: EditMode,
        grouping: Grouping,
    ) -> Result<Batch, WireError> {
        if grouping == Grouping::Together {
            check_group(&proposed)?;
        }
        let mut batch = Batch::of(proposed.len());
        let mut verdicts = Vec::with_capacity(proposed.len());
        for (place, proposed) in proposed.into_iter().enumerate() {
            let document = match proposed {
                Err(error) => {
                    batch.rows[place] = Some(error_row(String::new(), None, &error.to_wire()));
                    continue;
                }
                Ok(AnyDocument::Local(local)) => {
                    batch.rows[place] = Some(self.write_local(local).await?);
                    continue;
                }
                Ok(AnyDocument::Doc(document)) => document,
                Ok(AnyDocument::WithoutId(unnamed)) => unnamed.named(new_id()),
            };
            verdicts.push(self.may_write(&document, mode).await.map_err(Aside::Refused));
            batch.add(place, document);
        }
        batch.sift(verdicts);
        Ok(batch)
    }

    async fn leave_out(&self, batch: &mut Batch, how: How) -> Result<(), WireError> {
        let How { mode: EditMode::Edit, unchanged, .. } = how else { return Ok(()) };
        let changes = self.changes_winners(&batch.documents, unchanged).await?;
        batch.sift(changes);
        Ok(())
    }

    /// Whether each document differs from its winning rev, if that matters.
    async fn changes_winners(
        &self,
        documents: &[Document],
        unchanged: Unchanged,
    ) -> Result<Vec<Result<(), Aside>>, WireError> {
        let mut changes = Vec::with_capacity(documents.len());
        for document in documents {
            let known = match unchanged {
                Unchanged::Written => None,
                // What may not be read must not be guessed either.
                Unchanged::LeftOut if document.deleted || !self.grant.read => None,
                Unchanged::LeftOut => {
                    let winner = self.get_to_edit(&document.id, &GetOptions::default(), true).await;
                    match winner {
                        Ok(winner) => winner.rev.clone().filter(|rev| {
                            let onto_it = document.rev.as_ref().is_none_or(|named| named == rev);
                            onto_it && winner.says_the_same(document)
                        }),
                        Err(
                            StoreError::DocMissing { .. }
                            | StoreError::DocDeleted { .. }
                            | StoreError::Refused(DocError::Forbidden { .. }),
                        ) => None,
                        Err(error) => return Err(error.to_wire()),
                    }
                }
            };
            changes.push(known.map_or(Ok(()), |rev| Err(Aside::Known(rev))));
        }
        Ok(changes)
    }

    /// Stores documents, with what handlers let follow them in the same commit.
    async fn store(
        &self,
        mut documents: Vec<Document>,
        handled: &[Outcome],
        mode: EditMode,
        grouping: Grouping,
    ) -> Result<Vec<WriteOutcome>, WireError> {
        let announced = |(document, handled): (&Document, &Outcome)| {
            (!handled.quiet).then(|| document.id.clone())
        };
        let loud: HashSet<DocId> = documents.iter().zip(handled).filter_map(announced).collect();
        let quiet = documents.iter().map(|document| document.id.clone());
        let quiet = quiet.filter(|id| !loud.contains(id)).collect();
        let count = documents.len();
        documents.extend(handled.iter().filter_map(|handled| handled.follows.clone()));
        let options = WriteOptions { mode, quota: self.grant.quota, quiet };
        let written = match grouping {
            Grouping::Apart => self.database.bulk_docs_with(documents, options).await,
            Grouping::Together => self.database.write_group_with(documents, options).await,
        };
        let mut outcomes = written.map_err(|error| error.to_wire())?;
        for refused in outcomes.split_off(count).into_iter().filter_map(Result::err) {
            let reason = format!("what it made of document {:?}: {}", refused.id, refused.error);
            self.link.ignored(IgnoredIn::Handler, self.database.name(), reason);
        }
        Ok(outcomes)
    }

    /// What was stored is stored: a conflict that cannot be merged now is merged with the next write.
    async fn merge_conflicts(&self, outcomes: &[WriteOutcome]) {
        // A branch that the grant hides must not show in what is merged.
        let policy = self.grant.merge_policy.as_ref().filter(|_| self.shows_all());
        let Some(policy) = policy else { return };
        let changed = outcomes.iter().flatten().filter(|stored| stored.seq.is_some());
        let ids: BTreeSet<&DocId> = changed.map(|stored| &stored.id).collect();
        for id in ids {
            if let Err(error) = self.database.merge_conflicts(id, policy).await {
                let database = self.database.name().as_str();
                tracing::warn!(db = database, %error, "a conflict cannot be merged");
            }
        }
    }

    async fn may_write(&self, document: &Document, mode: EditMode) -> Result<(), WireError> {
        if !self.grant.write {
            return Err(Refusal::MayNotWrite.to_wire());
        }
        if !self.may_place(document, mode).await.map_err(|error| error.to_wire())? {
            return Err(Refusal::OutsideView.to_wire());
        }
        Ok(())
    }

    /// Whether a write stays within the part of the database that the grant shows: what is written
    /// must pass, and must neither follow a hidden revision nor lay itself over a hidden document.
    async fn may_place(&self, document: &Document, mode: EditMode) -> Result<bool, StoreError> {
        if self.shows_all() {
            return Ok(true);
        }
        let matches = self.selectors().iter().all(|selector| selector.matches(document));
        match self.database.get(&document.id, &GetOptions::default()).await {
            Ok(winner) if !self.shows(&winner).await? => return Ok(false),
            Ok(_) | Err(StoreError::DocDeleted { .. }) => {}
            // A document that was made and deleted before it was ever sent leaves a tombstone.
            Err(StoreError::DocMissing { .. }) => {
                return Ok(matches || document.deleted && document.body == Body::empty());
            }
            Err(error) => return Err(error),
        }
        let path: Vec<Rev> = match mode {
            EditMode::Edit => document.rev.iter().cloned().collect(),
            EditMode::Replicated => {
                document.path().map_or_else(Vec::new, |path| path.revs().collect())
            }
        };
        match self.database.nearest_stored(&document.id, &path).await? {
            Some(earlier) if !self.shows(&earlier).await? => Ok(false),
            Some(_) => Ok(matches || document.deleted),
            None => Ok(matches),
        }
    }

    /// Local documents are written whatever the grant, since checkpoints live there and a reader
    /// without them starts from nothing each time.
    async fn write_local(&self, document: LocalDocument) -> Result<WriteRow, WireError> {
        let id = document.id.to_string();
        let rev = document.rev.map(|rev| rev.to_string());
        match self.database.put_local(document).await {
            Ok(rev) => {
                Ok(WriteRow { ok: true, id, rev: Some(rev.to_string()), ..WriteRow::default() })
            }
            Err(error @ (StoreError::Refused(_) | StoreError::LocalMissing { .. })) => {
                Ok(error_row(id, rev, &error.to_wire()))
            }
            Err(error) => Err(error.to_wire()),
        }
    }
}

/// Refuses, before any document is judged, what cannot be a group.
fn check_group(proposed: &[Result<AnyDocument, ParseError>]) -> Result<(), WireError> {
    let is_local = |one: &Result<AnyDocument, _>| matches!(one, Ok(AnyDocument::Local(_)));
    if proposed.iter().any(is_local) {
        return Err(bad_param("docs", "local documents cannot be in a group"));
    }
    Ok(())
}

/// An id for a document that came without one: 32 random hex digits.
fn new_id() -> DocId {
    let random = crate::store::Uuid::random();
    let hex = random.expect("the system has randomness once it has booted").to_string();
    DocId::parse(&hex, hex.len()).expect("hex digits make a document id")
}

fn outcome_row(outcome: WriteOutcome) -> WriteRow {
    match outcome {
        Ok(stored) => WriteRow {
            ok: true,
            id: stored.id.to_string(),
            rev: Some(stored.rev.to_string()),
            ..WriteRow::default()
        },
        Err(refused) => {
            // A conflict is CouchDB's row without a revision; the client knows what it sent.
            let rev = refused.rev.filter(|_| refused.error != DocError::Conflict);
            error_row(refused.id.to_string(), rev.map(|r| r.to_string()), &refused.error.to_wire())
        }
    }
}
