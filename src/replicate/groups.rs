//! Groups on their way: documents that the source wrote together are written together.
//!
//! A group comes whole in one batch, and is written at the target in one atomic write. The hard case
//! is a later version of one of its documents, which must not arrive before the group: within a batch
//! groups are written first, in their order, and a batch writes nothing before the groups of all
//! batches before it are written. Groups that share no document may overtake each other.

use std::collections::{HashMap, HashSet, VecDeque};

use futures::StreamExt as _;
use futures::future::try_join_all;

use crate::doc::{DocId, Document, Rev};
use crate::proto::message::WireError;
use crate::store::DocError;

use super::flow::{Bytes, Done, FETCH_DOCS_MAX, Flow};
use super::local_peer::{MISSING_STUB, as_wire};
use super::peer::{ChangedDoc, ChangesRequest, Fetched, PeerError, RefusedDoc, WriteAnswer};

/// Groups written at the same time.
const GROUPS_AT_ONCE: usize = 16;

/// The number of a group at its source.
pub(super) type GroupNumber = u64;

/// How often what stands in for revisions is looked for, if it is replaced as often.
const LOOKS_MAX: usize = 5;

/// A group as it came.
struct Group {
    number: GroupNumber,
    rows: Vec<ChangedDoc>,
}

/// What is to be written of a group.
struct Wanted {
    number: GroupNumber,
    /// Documents that came along.
    docs: Vec<Document>,
    revs: Vec<(DocId, Rev)>,
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
                wave.push(self.look(group, pending));
            }
            let mut wave = VecDeque::from(try_join_all(wave).await?);
            while !wave.is_empty() {
                let fetched = self.fetch_some(&mut wave).await?;
                let written = fetched.into_iter().map(|(number, fetched)| async move {
                    let mut done = Done::default();
                    self.write_as(fetched, Some(number), &mut done).await?;
                    Ok::<_, PeerError>(done)
                });
                try_join_all(written).await?.into_iter().for_each(|written| done.add(written));
            }
        }
        Ok(apart)
    }

    async fn look(&self, group: Group, pending: u64) -> Result<Wanted, PeerError> {
        let mut docs = Vec::new();
        let revs = self.wanted(group.rows, pending, &mut docs).await?;
        Ok(Wanted { number: group.number, docs, revs })
    }

    /// Reads the first groups of a wave, at least one: as many as the source gives at a time.
    async fn fetch_some(
        &self,
        wave: &mut VecDeque<Wanted>,
    ) -> Result<Vec<(GroupNumber, Fetched)>, PeerError> {
        let mut count = 0;
        let asked = wave.iter().take_while(|group| {
            count += group.revs.len();
            count <= FETCH_DOCS_MAX
        });
        let count = asked.count().max(1);
        let mut asked: Vec<(DocId, Rev)> =
            wave.iter().take(count).flat_map(|group| group.revs.iter().cloned()).collect();
        let later = asked.split_off(asked.len().min(FETCH_DOCS_MAX));
        let mut found = Fetched::default();
        if !asked.is_empty() {
            found = self.source.fetch(asked).await?;
        }
        let rest: HashSet<(DocId, Rev)> = found.rest.drain(..).chain(later).collect();
        let mut groups = Vec::new();
        while groups.len() < count
            && let Some(group) = wave.pop_front()
        {
            let (rest, revs): (Vec<_>, Vec<_>) =
                group.revs.iter().cloned().partition(|one| rest.contains(one));
            // The first one is read whole, whatever it takes.
            if !rest.is_empty() && !groups.is_empty() {
                wave.push_front(group);
                break;
            }
            let ids: HashSet<&DocId> = revs.iter().map(|(id, _)| id).collect();
            let docs = found.docs.extract_if(.., |doc| ids.contains(&doc.id)).collect();
            let refused = found.refused.extract_if(.., |one| ids.contains(&one.id)).collect();
            let mut own = Fetched { docs, refused, rest: Vec::new() };
            self.fetch_into(&mut own, rest).await?;
            own.docs.extend(group.docs);
            self.stand_in(&mut own, &group.revs).await?;
            groups.push((group.number, own));
        }
        Ok(groups)
    }

    async fn fetch_into(
        &self,
        all: &mut Fetched,
        wanted: Vec<(DocId, Rev)>,
    ) -> Result<(), PeerError> {
        for part in wanted.chunks(FETCH_DOCS_MAX) {
            let mut part = part.to_vec();
            while !part.is_empty() {
                let fetched = self.source.fetch(part).await?;
                all.docs.extend(fetched.docs);
                all.refused.extend(fetched.refused);
                part = fetched.rest;
            }
        }
        Ok(())
    }

    /// Adds the present revisions of documents of which a wanted one was compacted meanwhile; gives
    /// back those wanted ones. A revision that is there and is not given refuses the group.
    async fn stand_in(
        &self,
        found: &mut Fetched,
        wanted: &[(DocId, Rev)],
    ) -> Result<Vec<(DocId, Rev)>, PeerError> {
        let gone = lacking(found, wanted);
        let mut lacks = gone.clone();
        for _ in 0..LOOKS_MAX {
            if lacks.is_empty() {
                return Ok(gone);
            }
            let ids: HashSet<DocId> = lacks.iter().map(|(id, _)| id.clone()).collect();
            let present = self.present(ids).await?;
            let (withheld, stand_ins): (Vec<_>, Vec<_>) =
                present.into_iter().partition(|one| lacks.contains(one));
            found.refused.extend(withheld.into_iter().map(refuse_withheld));
            let stand_ins = lacking(found, &stand_ins);
            self.fetch_into(found, stand_ins.clone()).await?;
            lacks = lacking(found, &stand_ins);
        }
        let cause = "documents of a group change faster than they are read".to_owned();
        if lacks.is_empty() { Ok(gone) } else { Err(PeerError::Disconnected { cause }) }
    }

    /// The leaves that documents have at the source now.
    async fn present(&self, ids: HashSet<DocId>) -> Result<Vec<(DocId, Rev)>, PeerError> {
        let request = ChangesRequest {
            doc_ids: Some(ids.into_iter().collect()),
            batch_size: self.context.batch_size,
            compare: true,
            ..ChangesRequest::default()
        };
        let mut changes = self.source.changes(request).await?;
        let mut leaves = Vec::new();
        while let Some(batch) = changes.next().await {
            for row in batch?.rows {
                leaves.extend(row.leaves.into_iter().map(|rev| (row.id.clone(), rev)));
            }
        }
        Ok(leaves)
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
            let mut fetched = Fetched::default();
            self.fetch_into(&mut fetched, wanted.clone()).await?;
            let gone = self.stand_in(&mut fetched, &wanted).await?;
            let failures = done.failures;
            self.write_as(fetched, Some(number), done).await?;
            // While the group is refused, they tell which documents belong to it.
            if done.failures == failures {
                self.context.denied.forget(self.direction, &gone).await?;
            }
        }
        Ok(apart)
    }
}

fn overlaps(group: &Group, ids: &HashSet<DocId>) -> bool {
    group.rows.iter().any(|row| ids.contains(&row.id))
}

/// Revisions that were wanted and have not come.
fn lacking(found: &Fetched, wanted: &[(DocId, Rev)]) -> Vec<(DocId, Rev)> {
    let docs = found.docs.iter().map(|document| (&document.id, document.rev.as_ref()));
    let refused = found.refused.iter().map(|refused| (&refused.id, refused.rev.as_ref()));
    let there: HashSet<(&DocId, Option<&Rev>)> = docs.chain(refused).collect();
    wanted.iter().filter(|(id, rev)| !there.contains(&(id, Some(rev)))).cloned().collect()
}

fn refuse_withheld((id, rev): (DocId, Rev)) -> RefusedDoc {
    let reason = "the source names this revision and does not give it".to_owned();
    let error = WireError { status: 404, error: "not_found".into(), reason };
    RefusedDoc { id, rev: Some(rev), error }
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
