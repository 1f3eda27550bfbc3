//! The records of an archive as bytes: `docs/BACKUP.md` has them in a table. And their order.

use std::collections::BTreeMap;
use std::io::Read;
use std::num::NonZeroU32;

use bytes::Bytes;

use super::BackupError;
use super::frame::{FrameReader, FrameWriter};
use super::manifest::{Manifest, Reached};
use crate::doc::varint::{self, Reader};
use crate::doc::{BlobKey, Body, BodyRecord, DbName, DocId, LocalId, LocalRev, Rev, RevTree};
use crate::store::backend::{DatabaseSettings, Uuid};

/// Something that an archive holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// First: which archive this is, of which store, what it is based on, and when it was begun, in
    /// seconds since 1970.
    Header {
        archive: Uuid,
        store: Uuid,
        base: Option<Uuid>,
        begun_s: u64,
    },
    /// A database begins; with a seq, what changed after it, else all of it.
    Database {
        name: DbName,
        incarnation: Uuid,
        since: Option<u64>,
    },
    /// It begins anew, with all of it: what came of it before is void.
    Again,
    Settings(DatabaseSettings),
    Local {
        id: LocalId,
        rev: LocalRev,
        body: Body,
    },
    /// An attachment; its bytes follow in pieces.
    Blob {
        key: BlobKey,
        length: u64,
    },
    Piece(Bytes),
    /// A document in place of what came of it before.
    Doc(ArchivedDoc),
    /// The database ends here, and is as it was at this seq.
    DatabaseEnd {
        reached: Reached,
        docs: u64,
        deleted_docs: u64,
    },
    /// It was destroyed while it was read: what came of it is void.
    Destroyed,
    /// Last.
    End(Manifest),
}

/// A document with its leaves' bodies.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ArchivedDoc {
    pub(super) id: DocId,
    /// `body_bytes` is set for the leaves, and for no other revision.
    pub(super) tree: RevTree,
    /// Of the leaves.
    pub(super) bodies: Vec<(Rev, BodyRecord)>,
}

impl ArchivedDoc {
    /// From a tree and the bodies of its leaves, in the order of [`RevTree::leaves`].
    pub(super) fn new(id: DocId, mut tree: RevTree, bodies: Vec<BodyRecord>) -> Self {
        for rev in tree.old_bodies() {
            tree.set_body_bytes(&rev, None);
        }
        let leaves = tree.leaves().into_iter().map(|leaf| leaf.rev);
        Self { id, bodies: leaves.zip(bodies).collect(), tree }
    }
}

impl Record {
    fn kind(&self) -> u8 {
        match self {
            Self::Header { .. } => b'h',
            Self::Database { .. } => b'd',
            Self::Again => b'a',
            Self::Settings(_) => b's',
            Self::Local { .. } => b'l',
            Self::Blob { .. } => b'b',
            Self::Piece(_) => b'p',
            Self::Doc(_) => b't',
            Self::DatabaseEnd { .. } => b'f',
            Self::Destroyed => b'x',
            Self::End(_) => b'e',
        }
    }

    pub(super) fn write(&self, frames: &mut FrameWriter, out: &mut Vec<u8>) {
        let mut content = Vec::new();
        match self {
            Self::Again | Self::Destroyed => {}
            Self::Piece(bytes) => return frames.record(self.kind(), bytes, out),
            Self::Header { archive, store, base, begun_s } => {
                content.extend_from_slice(&archive.0);
                content.extend_from_slice(&store.0);
                varint::push(&mut content, *begun_s);
                base.iter().for_each(|base| content.extend_from_slice(&base.0));
            }
            Self::Database { name, incarnation, since } => {
                content.extend_from_slice(&incarnation.0);
                varint::push_bytes(&mut content, name.as_str().as_bytes());
                since.iter().for_each(|since| varint::push(&mut content, *since));
            }
            Self::Settings(settings) => {
                let limit = settings.revs_limit.map_or(0, |limit| u64::from(limit.get()));
                varint::push(&mut content, limit);
                content.extend(settings.security.iter().flat_map(String::as_bytes));
            }
            Self::Local { id, rev, body } => {
                varint::push_bytes(&mut content, id.as_str().as_bytes());
                varint::push(&mut content, rev.0);
                content.extend_from_slice(body.as_str().as_bytes());
            }
            Self::Blob { key, length } => {
                content.extend_from_slice(key.as_bytes());
                varint::push(&mut content, *length);
            }
            Self::Doc(doc) => {
                varint::push_bytes(&mut content, doc.id.as_str().as_bytes());
                doc.tree.encode(&mut content);
                for (_, body) in &doc.bodies {
                    varint::push_bytes(&mut content, &body.encode());
                }
            }
            Self::DatabaseEnd { reached, docs, deleted_docs } => {
                push_reached(&mut content, reached);
                varint::push(&mut content, *docs);
                varint::push(&mut content, *deleted_docs);
            }
            Self::End(manifest) => {
                for (name, reached) in &manifest.databases {
                    varint::push_bytes(&mut content, name.as_str().as_bytes());
                    push_reached(&mut content, reached);
                }
            }
        }
        frames.record(self.kind(), &content, out);
    }
}

fn push_reached(out: &mut Vec<u8>, reached: &Reached) {
    out.extend_from_slice(&reached.incarnation.0);
    varint::push(out, reached.seq);
    varint::push(out, reached.purge_seq);
}

fn read_reached(reader: &mut Reader<'_>) -> Option<Reached> {
    let incarnation = Uuid(reader.array()?);
    Some(Reached { incarnation, seq: reader.varint()?, purge_seq: reader.varint()? })
}

/// Reads the records of an archive and holds them to their order.
pub(super) struct ArchiveReader<R> {
    frames: FrameReader<R>,
    /// Archive and store, once the header was read.
    header: Option<(Uuid, Uuid)>,
    in_database: bool,
    /// Bytes of an attachment that are still to come.
    blob_left: u64,
}

impl<R: Read> ArchiveReader<R> {
    pub(super) fn begin(archive: R) -> Result<Self, BackupError> {
        let frames = FrameReader::begin(archive)?;
        Ok(Self { frames, header: None, in_database: false, blob_left: 0 })
    }

    /// The next record. [`Record::End`] is the last, and was found to be.
    pub(super) fn record(&mut self) -> Result<Record, BackupError> {
        let (kind, content) = self.frames.record()?;
        let record = self.decode(kind, content);
        let record = record.ok_or_else(|| self.frames.damaged("is malformed"))?;
        if !self.may_follow(&record) {
            return Err(self.frames.damaged("is not in its place"));
        }
        if matches!(record, Record::End(_)) {
            self.frames.end()?;
        }
        Ok(record)
    }

    /// The frame in which the record ended that was read last.
    #[cfg(feature = "sled")]
    pub(super) fn frame(&self) -> u64 {
        self.frames.number()
    }

    fn may_follow(&mut self, record: &Record) -> bool {
        if self.blob_left > 0 {
            let Record::Piece(bytes) = record else { return false };
            let left = self.blob_left.checked_sub(bytes.len() as u64);
            self.blob_left = left.unwrap_or_default();
            return left.is_some() && !bytes.is_empty();
        }
        match record {
            Record::Header { archive, store, .. } => {
                self.header.replace((*archive, *store)).is_none()
            }
            Record::Database { .. } => {
                self.header.is_some() && !std::mem::replace(&mut self.in_database, true)
            }
            Record::Blob { length, .. } => {
                self.blob_left = *length;
                self.in_database
            }
            Record::Again | Record::Settings(_) | Record::Local { .. } | Record::Doc(_) => {
                self.in_database
            }
            Record::DatabaseEnd { .. } | Record::Destroyed => std::mem::take(&mut self.in_database),
            Record::Piece(_) => false,
            Record::End(_) => !self.in_database,
        }
    }

    fn decode(&self, kind: u8, content: Vec<u8>) -> Option<Record> {
        let mut reader = Reader(&content);
        let reader = &mut reader;
        Some(match kind {
            b'p' => return Some(Record::Piece(content.into())),
            b'h' => {
                let (archive, store) = (Uuid(reader.array()?), Uuid(reader.array()?));
                let begun_s = reader.varint()?;
                let base = if reader.0.is_empty() { None } else { Some(Uuid(reader.array()?)) };
                done(reader, Record::Header { archive, store, base, begun_s })?
            }
            b'd' => {
                let incarnation = Uuid(reader.array()?);
                let name = DbName::parse(reader.text()?).ok()?;
                let since = if reader.0.is_empty() { None } else { Some(reader.varint()?) };
                done(reader, Record::Database { name, incarnation, since })?
            }
            b'a' => done(reader, Record::Again)?,
            b'x' => done(reader, Record::Destroyed)?,
            b's' => {
                let revs_limit = NonZeroU32::new(u32::try_from(reader.varint()?).ok()?);
                let security = std::str::from_utf8(reader.0).ok()?;
                let security = (!security.is_empty()).then(|| security.to_owned());
                Record::Settings(DatabaseSettings { revs_limit, security })
            }
            b'l' => {
                let id = LocalId::parse(reader.text()?, usize::MAX).ok()?;
                let rev = LocalRev(reader.varint()?);
                Record::Local { id, rev, body: body(reader.0)? }
            }
            b'b' => {
                let key = BlobKey::from_bytes(reader.array()?);
                let length = reader.varint()?;
                done(reader, Record::Blob { key, length })?
            }
            b't' => Record::Doc(doc(reader)?),
            b'f' => {
                let reached = read_reached(reader)?;
                let (docs, deleted_docs) = (reader.varint()?, reader.varint()?);
                done(reader, Record::DatabaseEnd { reached, docs, deleted_docs })?
            }
            b'e' => {
                let (archive, store) = self.header?;
                let mut databases = BTreeMap::new();
                while !reader.0.is_empty() {
                    let name = DbName::parse(reader.text()?).ok()?;
                    databases.insert(name, read_reached(reader)?);
                }
                Record::End(Manifest { archive, store, databases })
            }
            _ => return None,
        })
    }
}

fn done(reader: &Reader<'_>, record: Record) -> Option<Record> {
    reader.0.is_empty().then_some(record)
}

fn body(bytes: &[u8]) -> Option<Body> {
    let text = std::str::from_utf8(bytes).ok()?;
    (text.starts_with('{') && text.ends_with('}')).then(|| Body::from_stored(text))
}

fn doc(reader: &mut Reader<'_>) -> Option<ArchivedDoc> {
    let id = DocId::parse(reader.text()?, usize::MAX).ok()?;
    let (tree, rest) = RevTree::decode(reader.0).ok()?;
    reader.0 = rest;
    let leaves = tree.leaves();
    if leaves.is_empty() || !tree.old_bodies().is_empty() {
        return None;
    }
    let mut bodies = Vec::with_capacity(leaves.len());
    for leaf in leaves {
        let encoded = reader.bytes()?;
        if leaf.state.body_bytes != u32::try_from(encoded.len()).ok() {
            return None;
        }
        bodies.push((leaf.rev, BodyRecord::decode(encoded)?));
    }
    reader.0.is_empty().then_some(ArchivedDoc { id, tree, bodies })
}
