//! A database behind a gateway as one end of a replication.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::doc::{
    Attachment, AttachmentData, AttachmentDigest, Body, DocId, Document, LocalDocument, LocalId,
    Rev, RevsDiff,
};
use crate::limits::Limits;
use crate::proto::call::{
    AttachmentParams, BlobNote, BulkGetDoc, BulkGetParam, BulkGetParams, BulkGetRow,
    CREDIT_DEFAULT, ChangeRowJson, ChangesParams, GetParams, RevsDiffReply, SinceParam, StyleParam,
    UploadParams, WriteRow, method,
};
use crate::proto::message::{Opened, RowsNote, WireError};
use crate::replicate::groups::refuse_all;
use crate::replicate::peer::{
    AttachmentBytes, ChangeBatch, ChangeStream, ChangedDoc, ChangesRequest, Fetched, RefusedDoc,
    WriteAnswer,
};
use crate::replicate::{Peer, PeerError};

use super::link::{CallStream, Channel, StreamItem};

/// Text of documents in one message; small enough to be written while the next is made.
const WRITE_BYTES_TARGET: usize = 512 * 1024;

/// More than what stands around the documents in a message that writes them.
const MESSAGE_FRAME_BYTES: u64 = 1024;

/// Bytes of an attachment in one message.
const PIECE_BYTES: usize = 64 * 1024;

/// A database behind a gateway, over an open channel.
pub(super) struct ChannelPeer {
    channel: Arc<Channel>,
    opened: Opened,
    limits: Limits,
}

impl ChannelPeer {
    pub(super) fn new(channel: Arc<Channel>, opened: Opened, limits: Limits) -> Self {
        Self { channel, opened, limits }
    }

    /// The next batch, and whether it is the last.
    async fn changes_batch(
        stream: &mut CallStream,
        limits: &Limits,
    ) -> Result<(ChangeBatch, bool), PeerError> {
        match stream.next().await {
            StreamItem::Rows(rows, note) => {
                let note = note.ok_or_else(|| broke("rows of changes came without a place"))?;
                let rows = rows.iter().map(|row| changed_doc(row, limits));
                let rows = rows.collect::<Result<_, _>>()?;
                let (last_seq, pending) = (note.last_seq, note.pending);
                Ok((ChangeBatch { rows, last_seq, pending }, false))
            }
            // Says how far the feed went past the last row, e.g. over rows of this very channel.
            StreamItem::End(note) => {
                let RowsNote { last_seq, pending } = read(&note)?;
                Ok((ChangeBatch { rows: Vec::new(), last_seq, pending }, true))
            }
            StreamItem::Piece(_) => Err(broke("changes came as binary messages")),
            StreamItem::Fail(error) => Err(error),
        }
    }

    fn rows_max(&self) -> usize {
        usize::try_from(self.opened.limits.bulk_rows_max).unwrap_or(usize::MAX)
    }

    /// Why a document cannot be sent: the gateway would end the connection over such a message.
    fn too_large(&self, document: &str) -> Option<WireError> {
        let max = self.opened.limits.message_bytes_max.saturating_sub(MESSAGE_FRAME_BYTES);
        let length = document.len() as u64;
        (length > max).then(|| WireError {
            status: 413,
            error: "too_large".into(),
            reason: format!("{length} bytes are more than the {max} that fit a message"),
        })
    }

    async fn revs_diff_part(
        &self,
        params: &BTreeMap<String, Vec<String>>,
    ) -> Result<Vec<(DocId, RevsDiff)>, PeerError> {
        let reply: RevsDiffReply = read(&self.channel.call(method::REVS_DIFF, params).await?)?;
        let revs =
            |texts: Vec<String>| texts.iter().map(|t| Rev::parse(t)).collect::<Result<_, _>>();
        let mut found = Vec::with_capacity(reply.len());
        for (id, row) in reply {
            let diff = RevsDiff {
                missing: revs(row.missing)?,
                possible_ancestors: revs(row.possible_ancestors)?,
            };
            found.push((doc_id(&id, &self.limits)?, diff));
        }
        Ok(found)
    }

    /// `more` is further parameters, each after a comma.
    async fn write_part(&self, docs: &str, more: &str) -> Result<Vec<RefusedDoc>, PeerError> {
        let params = format!("{{\"new_edits\":false,\"docs\":[{docs}]{more}}}");
        let rows: Vec<WriteRow> = read(&self.channel.call_text(method::BULK_DOCS, &params).await?)?;
        rows.into_iter().filter(|row| !row.ok).map(|row| refused(row, &self.limits)).collect()
    }
}

/// A text that is JSON already.
fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("a selector prints as JSON")
}

fn broke(problem: &str) -> PeerError {
    PeerError::Protocol { problem: problem.to_owned() }
}

fn read<T: DeserializeOwned>(value: &RawValue) -> Result<T, PeerError> {
    serde_json::from_str(value.get()).map_err(|error| PeerError::Protocol {
        problem: format!("an answer was malformed: {error}"),
    })
}

fn doc_id(id: &str, limits: &Limits) -> Result<DocId, PeerError> {
    Ok(DocId::parse(id, limits.doc_id_bytes_max)?)
}

fn changed_doc(row: &RawValue, limits: &Limits) -> Result<ChangedDoc, PeerError> {
    let row: ChangeRowJson = read(row)?;
    let leaves = row.changes.iter().map(|change| Rev::parse(&change.rev));
    let docs = row.docs.iter().map(|doc| Document::parse(doc.get(), limits));
    Ok(ChangedDoc {
        id: doc_id(&row.id, limits)?,
        leaves: leaves.collect::<Result<_, _>>()?,
        docs: docs.collect::<Result<_, _>>()?,
        group: row.group,
    })
}

fn refused(row: WriteRow, limits: &Limits) -> Result<RefusedDoc, PeerError> {
    Ok(RefusedDoc {
        id: doc_id(&row.id, limits)?,
        rev: row.rev.as_deref().map(Rev::parse).transpose()?,
        error: WireError {
            status: row.status.unwrap_or(500),
            error: row.error.unwrap_or_default(),
            reason: row.reason.unwrap_or_default(),
        },
    })
}

#[async_trait]
impl Peer for ChannelPeer {
    fn identity(&self) -> String {
        self.opened.info.uuid.clone()
    }

    fn view(&self) -> Option<String> {
        self.opened.access.view.clone()
    }

    fn staged_max(&self) -> usize {
        self.opened.limits.uploads_max.max(1) as usize
    }

    async fn changes(&self, request: ChangesRequest) -> Result<ChangeStream, PeerError> {
        let ids = request.doc_ids.map(|ids| ids.iter().map(ToString::to_string).collect());
        let params = ChangesParams {
            since: request.since.map(SinceParam::Text),
            live: request.live,
            style: StyleParam::AllDocs,
            docs: !request.compare,
            doc_ids: ids,
            selector: request.selector.map(|selector| raw(selector.as_str())),
            skip_tombstones: request.skip_tombstones,
            groups: true,
            credit: Some(CREDIT_DEFAULT),
            ..ChangesParams::default()
        };
        let stream = self.channel.stream(method::CHANGES, &params).await?;
        let limits = self.limits.clone();
        let state = Some((stream, limits));
        let batches = futures::stream::unfold(state, |state| async move {
            let (mut stream, limits) = state?;
            match Self::changes_batch(&mut stream, &limits).await {
                Ok((batch, last)) => Some((Ok(batch), (!last).then_some((stream, limits)))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(batches.boxed())
    }

    async fn revs_diff(
        &self,
        wanted: Vec<(DocId, Vec<Rev>)>,
    ) -> Result<Vec<(DocId, RevsDiff)>, PeerError> {
        let mut found = Vec::new();
        let mut part: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut rows = 0;
        for (id, revs) in wanted {
            if rows + revs.len() > self.rows_max() && rows > 0 {
                found.extend(self.revs_diff_part(&std::mem::take(&mut part)).await?);
                rows = 0;
            }
            rows += revs.len();
            part.insert(id.to_string(), revs.iter().map(ToString::to_string).collect());
        }
        if !part.is_empty() {
            found.extend(self.revs_diff_part(&part).await?);
        }
        Ok(found)
    }

    async fn fetch(&self, wanted: Vec<(DocId, Rev)>) -> Result<Fetched, PeerError> {
        let item = |(id, rev): &(DocId, Rev)| BulkGetParam {
            id: id.to_string(),
            rev: Some(rev.to_string()),
        };
        let params = BulkGetParams {
            docs: wanted.iter().map(item).collect(),
            revs: true,
            latest: false,
            credit: CREDIT_DEFAULT,
        };
        let mut stream = self.channel.stream(method::BULK_GET, &params).await?;
        let mut found = Vec::with_capacity(wanted.len());
        loop {
            match stream.next().await {
                StreamItem::Rows(rows, _) => {
                    for row in rows {
                        let row: BulkGetRow = read(&row)?;
                        for doc in row.docs {
                            if let BulkGetDoc::Ok(doc) = doc {
                                found.push(Document::parse(doc.get(), &self.limits)?);
                            }
                        }
                    }
                }
                StreamItem::End(_) => return Ok(found.into()),
                StreamItem::Piece(_) => return Err(broke("documents came as binary messages")),
                StreamItem::Fail(error) => return Err(error),
            }
        }
    }

    async fn write(&self, docs: Vec<Document>) -> Result<WriteAnswer, PeerError> {
        let mut refused = Vec::new();
        let mut part = String::new();
        let mut rows = 0;
        for document in docs {
            let text = document.to_json();
            if let Some(error) = self.too_large(&text) {
                refused.push(RefusedDoc { id: document.id, rev: document.rev, error });
                continue;
            }
            let full = part.len() + text.len() > WRITE_BYTES_TARGET || rows >= self.rows_max();
            if full && !part.is_empty() {
                refused.extend(self.write_part(&std::mem::take(&mut part), "").await?);
                rows = 0;
            }
            if !part.is_empty() {
                part.push(',');
            }
            part.push_str(&text);
            rows += 1;
        }
        if !part.is_empty() {
            refused.extend(self.write_part(&part, "").await?);
        }
        // Which of them the gateway had already it does not tell.
        Ok(WriteAnswer { refused, known: Vec::new() })
    }

    async fn write_group(&self, docs: Vec<Document>) -> Result<WriteAnswer, PeerError> {
        let texts: Vec<String> = docs.iter().map(Document::to_json).collect();
        let text = texts.join(",");
        if let Some(error) = self.too_large(&text) {
            return Ok(refuse_all(&docs, &error));
        }
        let refused = self.write_part(&text, ",\"atomic\":true").await?;
        Ok(WriteAnswer { refused, known: Vec::new() })
    }

    async fn attachment(
        &self,
        document: &Document,
        name: &str,
        _: &Attachment,
    ) -> Result<AttachmentBytes, PeerError> {
        let params = AttachmentParams {
            id: document.id.to_string(),
            rev: document.rev.as_ref().map(ToString::to_string),
            name: name.to_owned(),
            credit: CREDIT_DEFAULT,
        };
        let stream = self.channel.stream(method::ATTACHMENT, &params).await?;
        let pieces = futures::stream::unfold(Some(stream), |stream| async move {
            let mut stream = stream?;
            match stream.next().await {
                StreamItem::Piece(bytes) => Some((Ok(bytes), Some(stream))),
                StreamItem::End(_) => None,
                StreamItem::Rows(..) => Some((Err(broke("an attachment came as rows")), None)),
                StreamItem::Fail(error) => Some((Err(error), None)),
            }
        });
        Ok(pieces.boxed())
    }

    async fn stage(
        &self,
        attachment: &Attachment,
        mut bytes: AttachmentBytes,
    ) -> Result<AttachmentData, PeerError> {
        let params = UploadParams {
            length: attachment.length(),
            digest: attachment.digest().map(|digest| digest.to_string()),
        };
        let credit = self.opened.limits.upload_credit;
        let mut upload = self.channel.upload(method::UPLOAD, &params, credit).await?;
        let mut wanted = true;
        while let Some(piece) = bytes.next().await {
            let mut piece = piece?;
            while !piece.is_empty() && wanted {
                let next = piece.split_to(piece.len().min(PIECE_BYTES));
                wanted = upload.piece(next, false).await?;
            }
        }
        if wanted {
            upload.piece(Bytes::new(), true).await?;
        }
        let note: BlobNote = read(&upload.finish().await?)?;
        let digest = AttachmentDigest::parse(&note.digest)?;
        Ok(AttachmentData::Stub { digest: Some(digest), length: Some(note.length) })
    }

    async fn local(&self, id: &LocalId) -> Result<Option<Body>, PeerError> {
        Ok(self.local_document(id).await?.map(|(_, body)| body))
    }

    async fn set_local(&self, id: &LocalId, body: Body) -> Result<(), PeerError> {
        loop {
            let rev = self.local_document(id).await?.map(|(rev, _)| rev);
            let document =
                LocalDocument { id: id.clone(), rev, deleted: false, body: body.clone() };
            let params = format!("{{\"doc\":{}}}", document.to_json());
            match self.channel.call_text(method::PUT, &params).await {
                Ok(_) => return Ok(()),
                // Another run of the same sync was faster.
                Err(PeerError::Refused(error)) if error.status == 409 => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl ChannelPeer {
    async fn local_document(
        &self,
        id: &LocalId,
    ) -> Result<Option<(crate::doc::LocalRev, Body)>, PeerError> {
        let params = GetParams { id: id.to_string(), ..GetParams::default() };
        let found = match self.channel.call(method::GET, &params).await {
            Err(PeerError::Refused(error)) if error.status == 404 => return Ok(None),
            found => found?,
        };
        match crate::doc::AnyDocument::parse(found.get(), &self.limits)? {
            crate::doc::AnyDocument::Local(document) => {
                let rev =
                    document.rev.ok_or_else(|| broke("a local document came without _rev"))?;
                Ok(Some((rev, document.body)))
            }
            _ => Err(broke("a local document came with another id")),
        }
    }
}
