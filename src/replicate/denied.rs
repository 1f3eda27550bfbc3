//! Documents that a target refused: kept until they are taken, over restarts.
//!
//! A checkpoint passes a refused document only because it stands in this list, which is a local
//! document of the local database (of the target where neither is local) and is on disk before the checkpoint. Each replication has one of
//! its own, as it has its checkpoint: another sync of the same databases writes another.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::doc::{Body, DocId, Document, LocalId, Rev};
use crate::proto::message::WireError;

use super::events::Direction;
use super::peer::{Peer, PeerError, RefusedDoc};

/// A document that was refused and will be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeniedDoc {
    /// Which way it was going.
    pub direction: Direction,
    /// The document.
    pub id: DocId,
    /// The revision.
    pub rev: Option<Rev>,
    /// Why.
    pub error: WireError,
    /// The group that it was to be written in, by a number of the source's: its documents are tried
    /// again together.
    pub group: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct StoredList {
    denied: Vec<StoredDenied>,
}

#[derive(Serialize, Deserialize)]
struct StoredDenied {
    direction: Direction,
    id: String,
    rev: Option<String>,
    status: u16,
    error: String,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<u64>,
}

impl From<&DeniedDoc> for StoredDenied {
    fn from(denied: &DeniedDoc) -> Self {
        Self {
            direction: denied.direction,
            id: denied.id.to_string(),
            rev: denied.rev.as_ref().map(ToString::to_string),
            status: denied.error.status,
            error: denied.error.error.clone(),
            reason: denied.error.reason.clone(),
            group: denied.group,
        }
    }
}

impl StoredDenied {
    fn read(self) -> Option<DeniedDoc> {
        Some(DeniedDoc {
            direction: self.direction,
            id: DocId::parse(&self.id, self.id.len()).ok()?,
            rev: self.rev.as_deref().map(Rev::parse).transpose().ok()?,
            error: WireError { status: self.status, error: self.error, reason: self.reason },
            group: self.group,
        })
    }
}

/// The list of one sync.
pub(crate) struct DeniedList {
    /// The end that keeps it, a local database where there is one.
    keeper: Arc<dyn Peer>,
    /// Where the list of each direction is stored.
    places: Mutex<[Option<LocalId>; 2]>,
    denied: Mutex<Vec<DeniedDoc>>,
    /// Held while the list is written, so that an older one never follows a newer one.
    saving: tokio::sync::Mutex<()>,
}

impl DeniedList {
    pub(crate) fn new(keeper: Arc<dyn Peer>) -> Self {
        Self {
            keeper,
            places: Mutex::default(),
            denied: Mutex::default(),
            saving: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<DeniedDoc>> {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, direction: Direction) -> Option<LocalId> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places[direction as usize].clone()
    }

    /// Reads what an earlier run of a replication left, once the remote database is known.
    pub(crate) async fn load(
        &self,
        direction: Direction,
        replication: &LocalId,
    ) -> Result<(), PeerError> {
        let name = format!("{}-denied", replication.as_ref());
        let place = LocalId::parse(&name, name.len())?;
        if self.place(direction).as_ref() == Some(&place) {
            return Ok(());
        }
        let stored = self.keeper.local(&place).await?;
        let stored: Option<StoredList> = stored.and_then(|body| body.to().ok());
        let stored = stored.into_iter().flat_map(|list| list.denied).filter_map(StoredDenied::read);
        let mut denied = self.lock();
        denied.retain(|d| d.direction != direction);
        denied.extend(stored.filter(|d| d.direction == direction));
        drop(denied);
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places[direction as usize] = Some(place);
        Ok(())
    }

    pub(crate) fn list(&self) -> Vec<DeniedDoc> {
        self.lock().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Takes note of what became of a write: `written` were tried, `refused` of them were refused.
    /// `group` is the group that they were tried in.
    /// Returns the refusals that are new, or have another reason than before.
    pub(crate) async fn note(
        &self,
        direction: Direction,
        written: &[Document],
        refused: &[RefusedDoc],
        group: Option<u64>,
    ) -> Result<Vec<RefusedDoc>, PeerError> {
        let (changed, news) = {
            let mut denied = self.lock();
            let before = denied.len();
            if before > 0 {
                let taken = |d: &DeniedDoc| {
                    d.direction == direction && written.iter().any(|w| covers(w, d, refused))
                };
                denied.retain(|d| !taken(d));
            }
            let mut changed = denied.len() != before;
            let mut news = Vec::new();
            for one in refused {
                let mut known = denied
                    .iter_mut()
                    .find(|d| d.direction == direction && d.id == one.id && d.rev == one.rev);
                // What was refused in a group stays in it when it is refused alone.
                if let (Some(known), Some(_)) = (&mut known, group) {
                    changed |= known.group != group;
                    known.group = group;
                }
                match known {
                    Some(known) if known.error == one.error => continue,
                    Some(known) => known.error = one.error.clone(),
                    None => denied.push(DeniedDoc {
                        direction,
                        id: one.id.clone(),
                        rev: one.rev.clone(),
                        error: one.error.clone(),
                        group,
                    }),
                }
                news.push(one.clone());
                changed = true;
            }
            (changed, news)
        };
        if changed {
            self.save(direction).await?;
        }
        Ok(news)
    }

    /// Forgets entries whose revisions are not there any more.
    pub(crate) async fn forget(
        &self,
        direction: Direction,
        gone: &[(DocId, Rev)],
    ) -> Result<(), PeerError> {
        if gone.is_empty() {
            return Ok(());
        }
        let is_gone = |d: &DeniedDoc| {
            let this = |(id, rev): &(DocId, Rev)| d.id == *id && d.rev.as_ref() == Some(rev);
            d.direction == direction && gone.iter().any(this)
        };
        self.lock().retain(|d| !is_gone(d));
        self.save(direction).await
    }

    async fn save(&self, direction: Direction) -> Result<(), PeerError> {
        let Some(place) = self.place(direction) else { return Ok(()) };
        let _saving = self.saving.lock().await;
        let of_direction = |d: &&DeniedDoc| d.direction == direction;
        let denied = self.lock().iter().filter(of_direction).map(StoredDenied::from).collect();
        let stored = StoredList { denied };
        let body = Body::from_value(&stored)?;
        self.keeper.set_local(&place, body).await
    }
}

/// Whether a written document brought a denied revision along and was not refused itself.
fn covers(written: &Document, denied: &DeniedDoc, refused: &[RefusedDoc]) -> bool {
    written.id == denied.id
        && !refused.iter().any(|r| r.id == written.id && r.rev == written.rev)
        && written
            .path()
            .is_some_and(|path| path.revs().any(|rev| Some(&rev) == denied.rev.as_ref()))
}
