//! Groups on their way: documents that the source wrote together are written together.
//!
//! A group comes whole in one batch, and is written at the target in one atomic write. The hard case
//! is a later version of one of its documents, which must not arrive before the group: within a batch
//! groups are written first, in their order, and a batch writes nothing before the groups of all
//! batches before it are written. Groups that share no document may overtake each other.

use std::collections::{HashMap, HashSet};

use futures::future::try_join_all;

use crate::doc::{DocId, Document, Rev};
use crate::proto::message::WireError;
use crate::store::DocError;

use super::flow::{Bytes, Done, FETCH_DOCS_MAX, Flow};
use super::local_peer::{MISSING_STUB, as_wire};
use super::peer::{ChangedDoc, Fetched, PeerError, RefusedDoc, WriteAnswer};

/// Groups written at the same time.
const GROUPS_AT_ONCE: usize = 16;

/// The number of a group at its source.
pub(super) type GroupNumber = u64;

/// A group as it came.
struct Group {
    number: GroupNumber,
    rows: Vec<ChangedDoc>,
}

impl Flow {
    /// Writes the groups among a batch's rows; gives back the other rows.
    pub(super) async fn write_groups(
        &self,
        rows: Vec<ChangedDoc>,
        pending: u64,
        done: &mut Done,
    ) -> Result<Vec<ChangedDoc>, PeerError> {
        let mut apart = Vec::new();
        let mut groups: Vec<Group> = Vec::new();
        for row in rows {
            match (row.group, groups.last_mut()) {
                (None, _) => apart.push(row),
                (Some(number), Some(group)) if group.number == number => group.rows.push(row),
                (Some(number), _) => groups.push(Group { number, rows: vec![row] }),
            }
        }
        let mut groups = groups.into_iter().peekable();
        while groups.peek().is_some() {
            let mut ids = HashSet::new();
            let mut wave = Vec::new();
            while wave.len() < GROUPS_AT_ONCE
                && let Some(group) = groups.next_if(|group| !overlaps(group, &ids))
            {
                ids.extend(group.rows.iter().map(|row| row.id.clone()));
                wave.push(self.collect_and_write(group, pending));
            }
            for written in try_join_all(wave).await? {
                done.add(written);
            }
        }
        Ok(apart)
    }

    async fn collect_and_write(&self, group: Group, pending: u64) -> Result<Done, PeerError> {
        let mut done = Done::default();
        let mut docs = Vec::new();
        let wanted = self.wanted(group.rows, pending, &mut docs).await?;
        let fetched = self.fetch_whole(wanted).await?;
        docs.extend(fetched.docs);
        let fetched = Fetched { docs, ..fetched };
        self.write_as(fetched, Some(group.number), &mut done).await?;
        Ok(done)
    }

    /// Reads revisions of a group, all of them at once.
    async fn fetch_whole(&self, wanted: Vec<(DocId, Rev)>) -> Result<Fetched, PeerError> {
        let mut all = Fetched::default();
        for part in wanted.chunks(FETCH_DOCS_MAX) {
            let mut part = part.to_vec();
            while !part.is_empty() {
                let fetched = self.source.fetch(part).await?;
                all.docs.extend(fetched.docs);
                all.refused.extend(fetched.refused);
                part = fetched.rest;
            }
        }
        let docs = all.docs.iter().map(|document| (&document.id, document.rev.as_ref()));
        let refused = all.refused.iter().map(|refused| (&refused.id, refused.rev.as_ref()));
        let there: HashSet<(&DocId, Option<&Rev>)> = docs.chain(refused).collect();
        let lacking = wanted.iter().find(|(id, rev)| !there.contains(&(id, Some(rev))));
        // The next look finds what stands in for what compaction took.
        match lacking {
            Some((id, _)) => Err(PeerError::Disconnected {
                cause: format!("document {id} was compacted while its group was read"),
            }),
            None => Ok(all),
        }
    }

    /// Writes a group with the bytes of its attachments.
    pub(super) async fn write_group(&self, docs: &[Document]) -> Result<WriteAnswer, PeerError> {
        let has_attachments = docs.iter().any(|document| !document.attachments.is_empty());
        let _staging = if has_attachments { Some(self.staging.lock().await) } else { None };
        let first = self.write_group_with(docs, Bytes::New).await?;
        if first.refused.iter().any(|refused| refused.error.error == MISSING_STUB) {
            return self.write_group_with(docs, Bytes::All).await;
        }
        Ok(first)
    }

    async fn write_group_with(
        &self,
        docs: &[Document],
        which: Bytes,
    ) -> Result<WriteAnswer, PeerError> {
        let mut prepared = Vec::with_capacity(docs.len());
        for document in docs {
            match self.prepare(document, which).await {
                Ok(document) => prepared.push(document),
                Err(error) => {
                    let about = error.about_document().ok_or(error)?;
                    let (id, rev) = (document.id.clone(), document.rev.clone());
                    let cause = RefusedDoc { id, rev, error: about };
                    return Ok(refuse_others(docs, vec![cause]));
                }
            }
        }
        match self.target.write_group(prepared).await {
            Err(error) => match error.about_document() {
                Some(about) if about.status == 413 => Ok(refuse_all(docs, &about)),
                _ => Err(error),
            },
            answer => answer,
        }
    }

    /// Tries denied documents again, group by group; gives back those that were denied alone.
    pub(super) async fn retry_groups(
        &self,
        denied: Vec<(DocId, Rev, Option<GroupNumber>)>,
        done: &mut Done,
    ) -> Result<Vec<(DocId, Rev)>, PeerError> {
        let mut apart = Vec::new();
        let mut groups: Vec<(GroupNumber, Vec<(DocId, Rev)>)> = Vec::new();
        let mut places: HashMap<GroupNumber, usize> = HashMap::new();
        for (id, rev, group) in denied {
            let Some(number) = group else {
                apart.push((id, rev));
                continue;
            };
            let place = *places.entry(number).or_insert_with(|| {
                groups.push((number, Vec::new()));
                groups.len() - 1
            });
            groups[place].1.push((id, rev));
        }
        for (number, wanted) in groups {
            match self.fetch_whole(wanted.clone()).await {
                Ok(fetched) => self.write_as(fetched, Some(number), done).await?,
                // What compaction took has newer revisions, which are judged for themselves.
                Err(PeerError::Disconnected { .. }) => apart.extend(wanted),
                Err(error) => return Err(error),
            }
        }
        Ok(apart)
    }
}

fn overlaps(group: &Group, ids: &HashSet<DocId>) -> bool {
    group.rows.iter().any(|row| ids.contains(&row.id))
}

/// The answer for a group that a target cannot take.
pub(crate) fn refuse_all(docs: &[Document], error: &WireError) -> WriteAnswer {
    let refused = docs.iter().map(|document| RefusedDoc {
        id: document.id.clone(),
        rev: document.rev.clone(),
        error: error.clone(),
    });
    WriteAnswer { refused: refused.collect(), known: Vec::new() }
}

/// The answer for a group of which some documents were refused: the others are too.
pub(super) fn refuse_others(docs: &[Document], mut refused: Vec<RefusedDoc>) -> WriteAnswer {
    let id = refused.first().map(|refused| refused.id.to_string()).unwrap_or_default();
    let error = as_wire(&DocError::GroupRefused { id });
    for document in docs {
        if !refused.iter().any(|r| r.id == document.id && r.rev == document.rev) {
            let (id, rev) = (document.id.clone(), document.rev.clone());
            refused.push(RefusedDoc { id, rev, error: error.clone() });
        }
    }
    WriteAnswer { refused, known: Vec::new() }
}
