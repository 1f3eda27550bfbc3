//! Attachments of a database: taking bytes in, finding those that a stub means, giving them out.
//!
//! Bytes are taken in before the document that names them is written, in bounded memory. Few bytes
//! travel in the document's own commit; many are a file of their own that is on disk before it.

use bytes::Bytes;
use futures::{Stream, StreamExt as _};

use super::backend::{BlobReader, SMALL_BLOB_BYTES_MAX, StagedBlob};
use super::database::Database;
use super::error::{DocError, StoreError};
use super::merging::Merging;
use super::read::GetOptions;
use super::write::Written;
use crate::doc::{
    Attachment, AttachmentData, AttachmentDigest, BlobHasher, BlobRef, DocId, Document, Rev,
    StoredAttachment,
};

/// Bytes handed to the backend at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// A document's attachments with their bytes found.
pub(super) struct Resolved {
    /// `revpos` is 0 where the attachment comes with this revision.
    pub attachments: Vec<StoredAttachment>,
    /// Bytes that go into the commit.
    pub staged: Vec<StagedBlob>,
}

impl Resolved {
    /// The attachments as a revision of this generation stores them.
    pub(super) fn attachments_of(&self, generation: u64) -> Vec<StoredAttachment> {
        let placed = |a: &StoredAttachment| {
            let revpos = if a.revpos == 0 { generation } else { a.revpos.min(generation) };
            StoredAttachment { revpos, ..a.clone() }
        };
        self.attachments.iter().map(placed).collect()
    }
}

/// Whether the bytes that an earlier revision names are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stubs {
    /// They are, since the revision is.
    Trust,
    /// A sweep may have taken them meanwhile.
    Verify,
}

/// The bytes of one attachment, piece by piece.
pub struct AttachmentReader {
    /// Type, generation, digest and length.
    pub attachment: Attachment,
    blob: BlobRef,
    reader: Box<dyn BlobReader>,
}

impl std::fmt::Debug for AttachmentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttachmentReader").field("blob", &self.blob).finish_non_exhaustive()
    }
}

impl AttachmentReader {
    /// Length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.blob.length
    }

    /// Digest of all the bytes.
    #[must_use]
    pub fn digest(&self) -> AttachmentDigest {
        self.blob.digest
    }

    /// The next piece, at most 64 KiB; `None` after the last.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    ///
    /// # Cancel safety
    /// A dropped call may lose a piece; read such an attachment anew.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        self.reader.next().await
    }

    /// All the bytes at once. Attachments may be larger than memory: prefer [`Self::next`].
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Damaged`] if the bytes are not those of the digest.
    ///
    /// # Cancel safety
    /// Dropping the future loses what was read.
    pub async fn bytes(mut self) -> Result<Bytes, StoreError> {
        let mut all = Vec::new();
        while let Some(piece) = self.reader.next().await? {
            all.extend_from_slice(&piece);
        }
        if BlobHasher::of(&all) != self.blob {
            return Err(StoreError::Damaged {
                what: format!("attachment bytes {}", self.blob.key),
            });
        }
        Ok(all.into())
    }
}

impl Database {
    /// Takes in attachment bytes for a document to be written next.
    ///
    /// The result stands in [`Attachment::data`] of that document. Bytes that no document names are
    /// removed by maintenance.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] over `attachment_bytes_max`; what the stream itself failed with;
    /// [`StoreError::Io`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn stage_attachment(
        &self,
        bytes: impl Stream<Item = Result<Bytes, StoreError>> + Send,
    ) -> Result<AttachmentData, StoreError> {
        self.alive()?;
        let max = self.limits().attachment_bytes_max;
        let mut bytes = std::pin::pin!(bytes);
        let mut length = 0;
        let mut writer = self.named(self.backend().write_blob(self.key()).await)?;
        while let Some(piece) = bytes.next().await {
            let piece = piece?;
            length += piece.len() as u64;
            if length > max {
                return Err(StoreError::TooLarge {
                    what: "bytes of an attachment",
                    count: length,
                    max,
                });
            }
            self.named(writer.write(piece).await)?;
        }
        let staged = self.named(writer.finish().await)?;
        Ok(staged.small.map_or(AttachmentData::Stored(staged.blob), AttachmentData::Inline))
    }

    /// Bytes of attachments that are stored, whether or not a document names them; in sled only those
    /// that are files of their own.
    pub(super) async fn attachment_bytes(&self) -> Result<u64, StoreError> {
        self.alive()?;
        self.backend().blob_bytes(self.key()).await
    }

    /// Adds or replaces one attachment of a revision, making a new revision.
    ///
    /// `rev` is the leaf to replace; `None` makes a document that is not there.
    ///
    /// # Errors
    /// As [`Database::put`] and [`Database::stage_attachment`].
    ///
    /// # Cancel safety
    /// As [`Database::put`].
    pub async fn put_attachment(
        &self,
        id: &DocId,
        rev: Option<Rev>,
        name: &str,
        content_type: &str,
        bytes: impl Stream<Item = Result<Bytes, StoreError>> + Send,
    ) -> Result<Written, StoreError> {
        let data = self.stage_attachment(bytes).await?;
        let mut document = match rev {
            None => Document::with_body(id.clone(), crate::doc::Body::empty()),
            Some(rev) => self.leaf_to_edit(id, rev).await?,
        };
        let attachment = Attachment { content_type: content_type.to_owned(), revpos: 0, data };
        document.attachments.insert(name.to_owned(), attachment);
        self.put(document).await
    }

    /// Removes one attachment of a revision, making a new revision.
    ///
    /// # Errors
    /// [`StoreError::AttachmentMissing`]; as [`Database::put`].
    ///
    /// # Cancel safety
    /// As [`Database::put`].
    pub async fn delete_attachment(
        &self,
        id: &DocId,
        rev: Rev,
        name: &str,
    ) -> Result<Written, StoreError> {
        let mut document = self.leaf_to_edit(id, rev).await?;
        if document.attachments.remove(name).is_none() {
            return Err(StoreError::AttachmentMissing { id: id.clone(), name: name.to_owned() });
        }
        self.put(document).await
    }

    async fn leaf_to_edit(&self, id: &DocId, rev: Rev) -> Result<Document, StoreError> {
        let options = GetOptions { rev: Some(rev), ..GetOptions::default() };
        match self.get(id, &options).await {
            Err(StoreError::DocMissing { .. }) => Err(DocError::Conflict.into()),
            other => other,
        }
    }

    /// Opens an attachment of a revision, or of the winning rev.
    ///
    /// # Errors
    /// [`StoreError::DocMissing`], [`StoreError::DocDeleted`], [`StoreError::AttachmentMissing`],
    /// [`StoreError::BlobMissing`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn attachment(
        &self,
        id: &DocId,
        name: &str,
        rev: Option<&Rev>,
    ) -> Result<AttachmentReader, StoreError> {
        let options = GetOptions { rev: rev.cloned(), ..GetOptions::default() };
        let mut document = self.get(id, &options).await?;
        let attachment = document.attachments.remove(name);
        let attachment = attachment.ok_or_else(|| StoreError::AttachmentMissing {
            id: id.clone(),
            name: name.to_owned(),
        })?;
        self.open_attachment(attachment).await
    }

    /// Opens an attachment of a document that was read from this database.
    ///
    /// # Errors
    /// [`StoreError::BlobMissing`] if its bytes are not in this database.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn open_attachment(
        &self,
        attachment: Attachment,
    ) -> Result<AttachmentReader, StoreError> {
        match &attachment.data {
            AttachmentData::Stored(blob) => {
                let blob = *blob;
                let reader = self.backend().read_blob(self.key(), &blob.key).await?;
                let reader = reader.ok_or(StoreError::BlobMissing { key: blob.key })?;
                Ok(AttachmentReader { attachment, blob, reader })
            }
            AttachmentData::Inline(bytes) => {
                let (blob, reader) = (BlobHasher::of(bytes), Box::new(InMemory(bytes.clone())));
                Ok(AttachmentReader { attachment, blob, reader })
            }
            AttachmentData::Stub { .. } => {
                Err(StoreError::Damaged { what: "an attachment that was never stored".into() })
            }
        }
    }

    /// Replaces stored attachments of a document that was read here by their bytes.
    ///
    /// # Errors
    /// As [`Database::open_attachment`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves some attachments loaded and others not.
    pub async fn load_attachments(&self, document: &mut Document) -> Result<(), StoreError> {
        for attachment in document.attachments.values_mut() {
            if matches!(attachment.data, AttachmentData::Stored(_)) {
                let bytes = self.open_attachment(attachment.clone()).await?.bytes().await?;
                attachment.data = AttachmentData::Inline(bytes);
            }
        }
        Ok(())
    }

    /// Refuses more attachments, or more bytes in one, than are allowed.
    pub(super) fn check_attachment_sizes(&self, documents: &[Document]) -> Result<(), StoreError> {
        let limits = self.limits();
        let check = |what, count: usize, max: u64| match count as u64 {
            count if count > max => Err(StoreError::TooLarge { what, count, max }),
            _ => Ok(()),
        };
        for document in documents {
            let (count, max) = (document.attachments.len(), limits.attachments_per_doc_max);
            check("attachments of a document", count, max as u64)?;
            for attachment in document.attachments.values() {
                if let AttachmentData::Inline(bytes) = &attachment.data {
                    check("bytes of an attachment", bytes.len(), limits.attachment_bytes_max)?;
                }
            }
        }
        Ok(())
    }

    /// Moves attachment bytes that are too many for a commit into the database.
    pub(super) async fn stage_large(&self, documents: &mut [Document]) -> Result<(), StoreError> {
        let attachments = documents.iter_mut().flat_map(|d| d.attachments.values_mut());
        for attachment in attachments {
            if let AttachmentData::Inline(bytes) = &attachment.data
                && bytes.len() > SMALL_BLOB_BYTES_MAX
            {
                let pieces = InMemory(bytes.clone()).into_pieces();
                attachment.data = self.stage_attachment(pieces).await?;
            }
        }
        Ok(())
    }

    /// Finds the bytes of every attachment of a write.
    pub(super) async fn resolve_attachments(
        &self,
        write: &Document,
        merging: &Merging,
        stubs: Stubs,
    ) -> Result<Result<Resolved, DocError>, StoreError> {
        let mut resolved = Resolved { attachments: Vec::new(), staged: Vec::new() };
        let mut earlier: Option<Vec<StoredAttachment>> = None;
        for (name, attachment) in &write.attachments {
            let mut revpos = attachment.revpos;
            let mut content_type = attachment.content_type.clone();
            let blob = match &attachment.data {
                AttachmentData::Inline(bytes) => {
                    let blob = BlobHasher::of(bytes);
                    resolved.staged.push(StagedBlob { blob, small: Some(bytes.clone()) });
                    Some(blob)
                }
                AttachmentData::Stored(blob) => self.has_blob(blob).await?.then_some(*blob),
                AttachmentData::Stub { digest, .. } => {
                    if earlier.is_none() {
                        earlier = Some(self.earlier_attachments(write, merging).await?);
                    }
                    let found = find_earlier(earlier.as_deref().unwrap_or_default(), name, *digest);
                    if revpos == 0 {
                        revpos = found.map_or(0, |a| a.revpos);
                    }
                    // A stub keeps what is stored, whatever little it tells of it.
                    if let Some(kept) = found.filter(|kept| kept.name == *name) {
                        content_type.clone_from(&kept.content_type);
                    }
                    match found.map(|a| a.blob) {
                        Some(blob) if stubs == Stubs::Verify && !self.has_blob(&blob).await? => {
                            None
                        }
                        blob => blob,
                    }
                }
            };
            let Some(blob) = blob else {
                return Ok(Err(DocError::MissingStub { name: name.clone() }));
            };
            let name = name.clone();
            resolved.attachments.push(StoredAttachment { name, content_type, revpos, blob });
        }
        Ok(Ok(resolved))
    }

    async fn has_blob(&self, blob: &BlobRef) -> Result<bool, StoreError> {
        Ok(self.backend().read_blob(self.key(), &blob.key).await?.is_some())
    }

    /// Attachments of the revisions that a stub may mean: the newest stored ancestor first, then
    /// the leaves.
    async fn earlier_attachments(
        &self,
        write: &Document,
        merging: &Merging,
    ) -> Result<Vec<StoredAttachment>, StoreError> {
        let (tree, new_bodies) = (&merging.tree, &merging.bodies);
        let stored = |rev: &Rev| tree.state(rev).is_some_and(|state| state.body_bytes.is_some());
        let path = write.path();
        let ancestor = path.iter().flat_map(crate::doc::RevPath::revs).find(stored);
        let leaves = tree.leaves().into_iter().map(|leaf| leaf.rev);
        let revs: Vec<Rev> = ancestor.into_iter().chain(leaves.filter(stored)).collect();
        let asked: Vec<(DocId, Rev)> =
            revs.iter().map(|rev| (write.id.clone(), rev.clone())).collect();
        let records = self.backend().bodies(self.key(), &asked).await?;
        let mut found = Vec::new();
        for (rev, record) in revs.iter().zip(records) {
            let new = new_bodies.iter().find(|(new, _)| new == rev).map(|(_, record)| record);
            found.extend(new.cloned().or(record).into_iter().flat_map(|r| r.attachments));
        }
        Ok(found)
    }
}

/// Bytes that come with an edit are of the revision it makes, whatever `revpos` they were read with.
pub(super) fn place_new_attachments(document: &mut Document) {
    for attachment in document.attachments.values_mut() {
        if matches!(attachment.data, AttachmentData::Inline(_)) {
            attachment.revpos = 0;
        }
    }
}

/// The attachment that a stub means: by name and digest, by digest, or by name where the stub has
/// no digest.
fn find_earlier<'a>(
    earlier: &'a [StoredAttachment],
    name: &str,
    digest: Option<AttachmentDigest>,
) -> Option<&'a StoredAttachment> {
    let Some(digest) = digest else {
        return earlier.iter().find(|a| a.name == name);
    };
    let same = || earlier.iter().filter(move |a| a.blob.digest == digest);
    same().find(|a| a.name == name).or_else(|| same().next())
}

/// Bytes at hand, given out in pieces.
struct InMemory(Bytes);

impl InMemory {
    fn piece(&mut self) -> Option<Bytes> {
        let length = self.0.len().min(PIECE_BYTES);
        (length > 0).then(|| self.0.split_to(length))
    }

    fn into_pieces(mut self) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
        futures::stream::iter(std::iter::from_fn(move || self.piece().map(Ok)))
    }
}

#[async_trait::async_trait]
impl BlobReader for InMemory {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.piece())
    }
}
