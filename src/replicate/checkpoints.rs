//! How far a direction of a sync came: checkpoint documents at both ends, and the place that is
//! remembered between two connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::doc::{Body, LocalId};
use crate::proto::checkpoint::{Checkpoint, Reached, ReplicationIdentity, Resumed};

use super::events::Direction;
use super::flow::{Flow, FlowContext};
use super::peer::PeerError;

/// How long progress waits to be written down, so that a busy sync writes few checkpoints.
const CHECKPOINT_DELAY: Duration = Duration::from_secs(1);

/// How far each direction came, and in which replication.
pub(crate) type Reach = Arc<Mutex<[Option<(LocalId, Reached)>; 2]>>;

impl FlowContext {
    /// How far this very sync has brought a replication.
    fn reached_before(&self, direction: Direction, id: &LocalId) -> Option<Reached> {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let before = reached[direction as usize].as_ref().filter(|(of, _)| of == id);
        before.map(|(_, reached)| reached.clone())
    }

    fn reach(&self, direction: Direction, id: LocalId, reached: Reached) {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)[direction as usize] =
            Some((id, reached));
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
        let context = &flow.context;
        let before = context.reached_before(flow.direction, &id);
        let Resumed { latest, common, before } =
            Resumed::new(at_source, at_target, &context.session_id, before);
        let is_saved = before.as_ref().is_some_and(|before| before.is_saved);
        let told = context.since.clone();
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
        let reached = Reached { last_seq: last_seq.to_owned(), is_saved: self.is_saved };
        self.flow.context.reach(self.flow.direction, self.id.clone(), reached);
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
