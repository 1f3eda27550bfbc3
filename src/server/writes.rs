//! Calls that write: documents, deletions, uploads.

use futures::stream;
use serde_json::json;
use serde_json::value::RawValue;

use crate::doc::{AnyDocument, AttachmentDigest, BlobHasher, Operations, ParseError, Patch};
use crate::proto::call::{
    BlobNote, BulkDocsParams, DeleteParams, OpsParams, PatchParams, PutParams, UploadParams,
    WriteRow, method,
};
use crate::proto::message::WireError;
use crate::store::backend::Grouping;
use crate::store::{EditMode, StoreError};

use super::batch::{How, Unchanged};
use super::calls::{Answer, Call, Stop, params, rev};
use super::connection::UPLOAD_CREDIT;
use super::error::{Refusal, ToWire as _, bad_param, of_row};

pub(super) async fn bulk_docs(call: &Call, raw: &RawValue) -> Result<Answer, Stop> {
    let asked: BulkDocsParams = params(method::BULK_DOCS, raw)?;
    let limits = call.doc_limits();
    if asked.docs.len() > limits.bulk_rows_max {
        let (count, max) = (asked.docs.len() as u64, limits.bulk_rows_max as u64);
        return Err(StoreError::TooLarge { what: "documents in one write", count, max }.into());
    }
    let proposed = asked.docs.iter().map(|doc| AnyDocument::parse(doc.get(), &limits));
    let grouping = grouping(asked.atomic);
    let how = How { grouping, ..how(asked.new_edits, asked.if_changed) };
    let mut rows = write(call, proposed.collect(), how).await?;
    for (row, doc) in rows.iter_mut().zip(&asked.docs) {
        if !row.ok && row.id.is_empty() {
            name_row(row, doc);
        }
    }
    if !asked.new_edits {
        rows.retain(|row| !row.ok);
    }
    Ok(Answer::Reply(json!(rows).to_string()))
}

/// Says which document a row is about that could not be read as one, so that a replicator can keep
/// it in mind and go on.
pub(super) fn name_row(row: &mut WriteRow, doc: &RawValue) {
    #[derive(serde::Deserialize)]
    struct Named {
        #[serde(rename = "_id")]
        id: String,
        #[serde(rename = "_rev")]
        rev: Option<String>,
    }
    if let Ok(named) = serde_json::from_str::<Named>(doc.get()) {
        (row.id, row.rev) = (named.id, named.rev);
    }
}

pub(super) async fn put(call: &Call, raw: &RawValue) -> Result<Answer, Stop> {
    let asked: PutParams = params(method::PUT, raw)?;
    let proposed = AnyDocument::parse(asked.doc.get(), &call.doc_limits());
    let how = how(asked.new_edits, asked.if_changed);
    one_row(write(call, vec![proposed], how).await?)
}

pub(super) async fn patch(call: &Call, raw: &RawValue) -> Result<Answer, Stop> {
    let asked: PatchParams = params(method::PATCH, raw)?;
    let limits = call.doc_limits();
    let patch = match (&asked.merge, &asked.operations) {
        (Some(merge), None) => Patch::merge(merge.get(), &limits),
        (None, Some(operations)) => Patch::operations(operations.get(), &limits),
        _ => return Err(bad_param("merge", "there must be it or operations").into()),
    };
    let patch = patch.map_err(|error| error.to_wire())?;
    let base = asked.rev.as_deref().map(rev).transpose()?;
    let unchanged = Unchanged::left_out_if(asked.if_changed);
    let id = call.doc_id(&asked.id)?;
    one_row(vec![call.channel.granted().patch(&id, base, &patch, unchanged).await?])
}

pub(super) async fn delete(call: &Call, raw: &RawValue) -> Result<Answer, Stop> {
    let asked: DeleteParams = params(method::DELETE, raw)?;
    let tombstone = json!({"_id": asked.id, "_rev": asked.rev, "_deleted": true}).to_string();
    let proposed = AnyDocument::parse(&tombstone, &call.doc_limits());
    one_row(write(call, vec![proposed], EditMode::Edit.into()).await?)
}

pub(super) async fn ops(call: &Call, raw: &RawValue) -> Result<Answer, Stop> {
    let asked: OpsParams = params(method::OPS, raw)?;
    let operations = Operations::parse(asked.ops.get()).map_err(|error| error.to_wire())?;
    let id = call.doc_id(&asked.id)?;
    one_row(vec![call.channel.granted().operate(&id, &operations).await?])
}

fn how(new_edits: bool, if_changed: bool) -> How {
    let mode = if new_edits { EditMode::Edit } else { EditMode::Replicated };
    How { unchanged: Unchanged::left_out_if(if_changed), ..How::from(mode) }
}

/// Whether the documents of a call are a group.
pub(super) fn grouping(atomic: bool) -> Grouping {
    if atomic { Grouping::Together } else { Grouping::Apart }
}

/// The answer of a call that writes one document: its row, or the row's error as the call's.
fn one_row(rows: Vec<WriteRow>) -> Result<Answer, Stop> {
    let row = rows.into_iter().next().unwrap_or_default();
    match of_row(&row) {
        Some(error) => Err(error.into()),
        None => Ok(Answer::Reply(json!(row).to_string())),
    }
}

async fn write(
    call: &Call,
    mut proposed: Vec<Result<AnyDocument, ParseError>>,
    how: How,
) -> Result<Vec<WriteRow>, WireError> {
    let channel = &call.channel;
    for document in proposed.iter_mut().flatten() {
        if let AnyDocument::Doc(document) = document {
            channel.fill_stubs(document, how.mode);
            // Before the write: the channel's own feed may see it before the answer is made.
            if let (EditMode::Replicated, Some(rev)) = (how.mode, &document.rev) {
                channel.note_written(&document.id, rev);
            }
        }
    }
    let note = |written: &crate::store::Written| {
        if written.seq.is_some() {
            channel.note_written(&written.id, &written.rev);
        }
    };
    channel.granted().write(proposed, how, note).await
}

pub(super) async fn upload(call: &mut Call, raw: &RawValue) -> Result<Answer, Stop> {
    let asked: UploadParams = params(method::UPLOAD, raw)?;
    let granted = call.channel.granted();
    if !granted.grant.write {
        return Err(Refusal::MayNotWrite.to_wire().into());
    }
    let expected = asked.digest.as_deref().map(AttachmentDigest::parse).transpose();
    let expected = expected.map_err(|error| error.to_wire())?;
    let max = granted.database.limits().attachment_bytes_max;
    if let Some(length) = asked.length.filter(|length| *length > max) {
        let what = "bytes of an attachment";
        return Err(StoreError::TooLarge { what, count: length, max }.into());
    }
    let pieces = call.pieces.take().ok_or(Stop::Gone)?;
    let state = (pieces, BlobHasher::default(), false);
    let (hasher_out, mut hashed) = tokio::sync::mpsc::channel(1);
    let call = &*call;
    let bytes = stream::unfold(Some(state), |state| {
        let hasher_out = hasher_out.clone();
        async move {
            let (mut pieces, mut hasher, ended) = state?;
            if ended {
                // The receiver outlives the stream.
                let _ = hasher_out.try_send(hasher.finish());
                return None;
            }
            let Some(piece) = pieces.recv().await else {
                return Some((Err(StoreError::Closed), None));
            };
            if !piece.last && call.give_credit(1).await.is_err() {
                return Some((Err(StoreError::Closed), None));
            }
            hasher.update(&piece.bytes);
            Some((Ok(piece.bytes), Some((pieces, hasher, piece.last))))
        }
    });
    let data = granted.database.stage_attachment(bytes).await?;
    let blob = hashed.recv().await.ok_or(Stop::Gone)?;
    let mismatch = expected.is_some_and(|digest| digest != blob.digest)
        || asked.length.is_some_and(|length| length != blob.length);
    if mismatch {
        return Err(Refusal::UploadMismatch.to_wire().into());
    }
    call.channel.keep_upload(blob.digest, data);
    let (digest, length) = (blob.digest.to_string(), blob.length);
    Ok(Answer::Reply(json!(BlobNote { digest, length, content_type: None }).to_string()))
}

/// Tied to the capacity of a call's pieces: one credit comes back for each piece taken.
const _: () = assert!(UPLOAD_CREDIT > 0);
