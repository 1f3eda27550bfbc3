//! Edits that the gateway makes of what is stored, as a client asks: it need not read before.

use tokio::task::spawn_blocking;

use crate::doc::{AnyDocument, Body, DocId, Document, Operations, Patch, ReadExtra, Rev};
use crate::limits::Limits;
use crate::proto::call::WriteRow;
use crate::proto::message::WireError;
use crate::store::{DocError, EditMode, GetOptions, StoreError};

use super::batch::{How, Unchanged};
use super::error::{Refusal, ToWire as _};
use super::granted::Granted;

/// How often an edit is made anew, of a document that others write at the same time.
const TRIES_MAX: usize = 100;

impl Granted {
    /// Applies a patch to a leaf, or to whatever wins at the moment of the write.
    pub(super) async fn patch(
        &self,
        id: &DocId,
        base: Option<Rev>,
        patch: &Patch,
        unchanged: Unchanged,
    ) -> Result<WriteRow, WireError> {
        self.check_edit()?;
        let limits = self.database.limits();
        let options = GetOptions { rev: base, ..GetOptions::default() };
        let mut tries = 0;
        loop {
            tries += 1;
            let document = self.get_to_edit(id, &options, patch.reads()).await;
            let document = document.map_err(|error| match error {
                // A base that is not stored any more was written over.
                StoreError::DocMissing { .. } if options.rev.is_some() => {
                    StoreError::from(DocError::Conflict).to_wire()
                }
                other => other.to_wire(),
            })?;
            let body = patched(patch, &document.body, limits).await?;
            let row = self.write_edit(Document { body, ..document }, unchanged).await?;
            if row.status != Some(409) || options.rev.is_some() || tries == TRIES_MAX {
                return Ok(row);
            }
        }
    }

    /// Applies operations to the counters and sets of a document, which is made if it is not there.
    pub(super) async fn operate(
        &self,
        id: &DocId,
        operations: &Operations,
    ) -> Result<WriteRow, WireError> {
        self.check_edit()?;
        let writer = self.database.incarnation().to_string();
        let limits = self.database.limits();
        let mut tries = 0;
        loop {
            tries += 1;
            let (document, others) = self.branches(id).await.map_err(|error| error.to_wire())?;
            let others: Vec<&Body> = others.iter().map(|other| &other.body).collect();
            let body = operations.apply(&document.body, &others, &writer, limits);
            let Some(body) = body.map_err(|error| error.to_wire())? else {
                let missing = || StoreError::DocMissing { id: id.clone() }.to_wire();
                let rev = document.rev.ok_or_else(missing)?.to_string();
                let (id, rev) = (id.to_string(), Some(rev));
                return Ok(WriteRow { ok: true, id, rev, ..WriteRow::default() });
            };
            let edited = Document { body, ..document };
            let row = self.write_edit(edited, Unchanged::Written).await?;
            if row.status != Some(409) || tries == TRIES_MAX {
                return Ok(row);
            }
        }
    }

    /// The open leaves that are shown: the winning one, or a new document, and those that conflict.
    async fn branches(&self, id: &DocId) -> Result<(Document, Vec<Document>), StoreError> {
        let options = GetOptions { conflicts: true, ..GetOptions::default() };
        let winner = match self.get_to_edit(id, &options, false).await {
            Ok(winner) => winner,
            Err(StoreError::DocMissing { .. } | StoreError::DocDeleted { .. }) => {
                return Ok((Document::with_body(id.clone(), Body::empty()), Vec::new()));
            }
            Err(error) => return Err(error),
        };
        let mut others = Vec::new();
        for rev in &winner.extra.conflicts {
            let options = GetOptions { rev: Some(rev.clone()), ..GetOptions::default() };
            match self.get_to_edit(id, &options, false).await {
                Ok(other) => others.push(other),
                // Written over meanwhile.
                Err(StoreError::DocMissing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((winner, others))
    }

    fn check_edit(&self) -> Result<(), WireError> {
        self.check_read()?;
        if self.grant.write { Ok(()) } else { Err(Refusal::MayNotWrite.to_wire()) }
    }

    async fn write_edit(
        &self,
        document: Document,
        unchanged: Unchanged,
    ) -> Result<WriteRow, WireError> {
        let edit = Document { revisions: None, extra: ReadExtra::default(), ..document };
        let how = How { unchanged, ..How::from(EditMode::Edit) };
        let rows = self.write(vec![Ok(AnyDocument::Doc(edit))], how, |_| {}).await?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }
}

/// Applies a patch without holding up what else the thread has to do.
async fn patched(patch: &Patch, body: &Body, limits: &Limits) -> Result<Body, WireError> {
    if patch.is_quick_on(body) {
        return patch.apply(body, limits).map_err(|error| error.to_wire());
    }
    let (patch, body, limits) = (patch.clone(), body.clone(), limits.clone());
    let applied = spawn_blocking(move || patch.apply(&body, &limits)).await;
    let applied = applied.map_err(|_| Refusal::Panicked.to_wire())?;
    applied.map_err(|error| error.to_wire())
}
