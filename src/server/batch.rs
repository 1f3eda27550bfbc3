//! The documents of one call on their way to the store, and the rows of those that went aside.

use crate::doc::{Document, Rev};
use crate::proto::call::WriteRow;
use crate::proto::message::WireError;
use crate::store::backend::Grouping;
use crate::store::{DocError, EditMode};

use super::auth::Denied;
use super::error::ToWire as _;

/// How documents are to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct How {
    pub mode: EditMode,
    pub unchanged: Unchanged,
    /// As a group all are stored, or none, and each row says why.
    pub grouping: Grouping,
}

impl From<EditMode> for How {
    fn from(mode: EditMode) -> Self {
        Self { mode, unchanged: Unchanged::Written, grouping: Grouping::Apart }
    }
}

/// What becomes of an edit that says what the winning rev says already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Unchanged {
    /// It is a revision as any other.
    #[default]
    Written,
    /// It is answered with the winning rev.
    LeftOut,
}

impl Unchanged {
    /// By a client's `if_changed`.
    pub(super) fn left_out_if(if_changed: bool) -> Self {
        if if_changed { Self::LeftOut } else { Self::Written }
    }
}

/// Why a document does not go on.
pub(super) enum Aside {
    Refused(WireError),
    /// It is this revision already.
    Known(Rev),
}

impl From<Denied> for Aside {
    fn from(denied: Denied) -> Self {
        Self::Refused(denied.to_wire())
    }
}

/// The documents that go on, each with its place among the rows.
pub(super) struct Batch {
    pub rows: Vec<Option<WriteRow>>,
    pub documents: Vec<Document>,
    places: Vec<usize>,
}

impl Batch {
    pub(super) fn of(rows: usize) -> Self {
        Self { rows: vec![None; rows], documents: Vec::with_capacity(rows), places: Vec::new() }
    }

    pub(super) fn add(&mut self, place: usize, document: Document) {
        self.places.push(place);
        self.documents.push(document);
    }

    /// Takes out what does not go on; what was found of the others.
    pub(super) fn sift<T, E: Into<Aside>>(&mut self, verdicts: Vec<Result<T, E>>) -> Vec<T> {
        let (documents, places) =
            (std::mem::take(&mut self.documents), std::mem::take(&mut self.places));
        let mut kept = Vec::with_capacity(verdicts.len());
        for ((document, place), verdict) in documents.into_iter().zip(places).zip(verdicts) {
            match verdict.map_err(Into::into) {
                Ok(found) => {
                    self.add(place, document);
                    kept.push(found);
                }
                Err(Aside::Refused(error)) => {
                    self.rows[place] = Some(refused_row(&document, &error));
                }
                Err(Aside::Known(rev)) => {
                    let (id, rev) = (document.id.to_string(), Some(rev.to_string()));
                    self.rows[place] = Some(WriteRow { ok: true, id, rev, ..WriteRow::default() });
                }
            }
        }
        kept
    }

    /// Takes out every document of a group of which one was refused. Returns whether one was.
    pub(super) fn refuse_group(&mut self) -> bool {
        let Some(cause) = self.rows.iter().flatten().find(|row| !row.ok) else { return false };
        let error = DocError::GroupRefused { id: cause.id.clone() }.to_wire();
        let all_refused = || Err::<(), _>(Aside::Refused(error.clone()));
        self.sift(self.documents.iter().map(|_| all_refused()).collect());
        true
    }

    /// The documents that are left, and the rows with their places.
    pub(super) fn finish(self) -> (Vec<Document>, Vec<Option<WriteRow>>, Vec<usize>) {
        (self.documents, self.rows, self.places)
    }
}

fn refused_row(document: &Document, error: &WireError) -> WriteRow {
    let rev = document.rev.as_ref().map(ToString::to_string);
    error_row(document.id.to_string(), rev, error)
}

pub(super) fn error_row(id: String, rev: Option<String>, error: &WireError) -> WriteRow {
    WriteRow {
        ok: false,
        id,
        rev,
        status: Some(error.status),
        error: Some(error.error.clone()),
        reason: Some(error.reason.clone()),
    }
}
