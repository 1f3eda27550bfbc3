//! How far a direction of a sync came: checkpoint documents at both ends, and the place that is
//! remembered between two connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::doc::{Body, LocalId};
use crate::proto::checkpoint::{Checkpoint, ReplicationIdentity, common_point};

use super::events::Direction;
use super::flow::{Flow, FlowContext};
use super::peer::PeerError;

/// How long progress waits to be written down, so that a busy sync writes few checkpoints.
const CHECKPOINT_DELAY: Duration = Duration::from_secs(1);

/// How far a replication came.
#[derive(Clone)]
pub(crate) struct Reached {
    id: LocalId,
    /// The place of its source.
    last_seq: String,
    /// Whether a checkpoint of this sync was written at both ends.
    is_saved: bool,
}

/// How far each direction came.
pub(crate) type Reach = Arc<Mutex<[Option<Reached>; 2]>>;

impl FlowContext {
    /// How far this very sync has brought a replication.
    fn reached_before(&self, direction: Direction, id: &LocalId) -> Option<Reached> {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached[direction as usize].clone().filter(|reached| reached.id == *id)
    }

    fn reach(&self, direction: Direction, reached: Reached) {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)[direction as usize] =
            Some(reached);
    }
}

/// The checkpoint documents of one direction.
pub(super) struct Checkpoints<'a> {
    flow: &'a Flow,
    pub(super) id: LocalId,
    latest: Checkpoint,
    since: Option<String>,
    reached: Option<String>,
    is_saved: bool,
    due_at: Option<Instant>,
}

impl<'a> Checkpoints<'a> {
    pub(super) async fn open(flow: &'a Flow) -> Result<Self, PeerError> {
        let identity = ReplicationIdentity {
            source: flow.source.identity(),
            target: flow.target.identity(),
            doc_ids: flow
                .context
                .doc_ids
                .as_ref()
                .map(|ids| ids.iter().map(ToString::to_string).collect()),
            selector: flow.context.selector.as_ref().map(ToString::to_string),
            view: flow.source.view(),
        };
        let id = identity.id();
        let id = LocalId::parse(&id, id.len()).map_err(crate::store::StoreError::from)?;
        let (mut at_source, mut at_target) = (None, None);
        if flow.context.checkpoints {
            let read = |body: Option<Body>| body.and_then(|body| body.to::<Checkpoint>().ok());
            let both = futures::try_join!(flow.source.local(&id), flow.target.local(&id))?;
            (at_source, at_target) = (read(both.0), read(both.1));
        }
        let common = common_point(at_source.as_ref(), at_target.as_ref());
        let session_id = &flow.context.session_id;
        let is_known = [&at_source, &at_target]
            .iter()
            .all(|at| at.as_ref().is_some_and(|checkpoint| checkpoint.has_run(session_id)));
        // A database whose checkpoint is gone was made anew, and lacks what it was given before.
        let before = flow
            .context
            .reached_before(flow.direction, &id)
            .filter(|before| is_known || !before.is_saved);
        let latest = at_target.or(at_source).filter(|_| common.is_some()).unwrap_or_default();
        let told = flow.context.since.clone();
        let is_saved = before.as_ref().is_some_and(|before| before.is_saved);
        let since = before.map(|before| before.last_seq).or(told).or(common);
        Ok(Self { flow, id, latest, since, reached: None, is_saved, due_at: None })
    }

    pub(super) fn since(&self) -> Option<String> {
        self.since.clone()
    }

    pub(super) fn reach(&mut self, last_seq: &str) {
        self.note(last_seq);
        if self.latest.last_seq != last_seq {
            self.reached = Some(last_seq.to_owned());
            self.due_at.get_or_insert_with(|| Instant::now() + CHECKPOINT_DELAY);
        }
    }

    fn note(&self, last_seq: &str) {
        let (id, last_seq, is_saved) = (self.id.clone(), last_seq.to_owned(), self.is_saved);
        self.flow.context.reach(self.flow.direction, Reached { id, last_seq, is_saved });
    }

    pub(super) async fn due(&self) {
        match self.due_at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    pub(super) async fn save(&mut self) -> Result<(), PeerError> {
        self.due_at = None;
        let Some(reached) = self.reached.take().filter(|_| self.flow.context.checkpoints) else {
            return Ok(());
        };
        let next = self.latest.next(&self.flow.context.session_id, &reached);
        let body = Body::from_value(&next).map_err(crate::store::StoreError::from)?;
        self.flow.target.set_local(&self.id, body.clone()).await?;
        self.flow.source.set_local(&self.id, body).await?;
        self.latest = next;
        self.is_saved = true;
        self.note(&reached);
        self.flow.context.tally().checkpointed_seq = Some(reached);
        Ok(())
    }
}
