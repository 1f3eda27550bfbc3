//! Replications that the gateway carries out itself: asked for with `_replicate`, run as jobs.
//!
//! A job lives under what made it: its ends that are local are opened with the credentials that
//! were shown, each side alone, and it needs the right to replicate for an end behind HTTP. A grant
//! that has run its time is asked for again with the same credentials; one that is refused or
//! revoked ends the job, and the job says so. A continuous job is kept among the store's notes with
//! its credentials and begins anew with the gateway.
//!
//! This is the only part of the server that uses the replicator.

mod asked;
mod granted_peer;
mod job;
mod kept;
mod shown;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::proto::message::WireError;
use crate::store::StoreError;

use super::Shared;
use super::error::{HttpRefusal, Refusal, ToWire as _};

pub(super) use asked::{Asked, Replication};
use job::all_ended;
pub(super) use job::{Job, Owner, State};
pub(super) use shown::{completed, described, task};

/// Jobs that have ended for want of a grant, which are still shown; the oldest is forgotten.
const ENDED_MAX: usize = 100;

/// One owner may have one in so many of the gateway's jobs.
const OWNER_SHARE: usize = 2;

/// What is kept of a continuous job; `doc_ids` and a selector may be long.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// The jobs of a gateway, by id.
#[derive(Debug, Default)]
pub(super) struct Replications {
    jobs: Mutex<HashMap<String, Arc<Job>>>,
}

impl Replications {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All jobs in the order of their ids.
    pub(super) fn list(&self) -> Vec<Arc<Job>> {
        let mut jobs: Vec<Arc<Job>> = self.lock().values().cloned().collect();
        jobs.sort_by(|a, b| a.id.cmp(&b.id));
        jobs
    }

    /// The job of an id, which may be told without what stands behind its `+`.
    pub(super) fn find(&self, id: &str) -> Option<Arc<Job>> {
        let jobs = self.lock();
        let same = |job: &&Arc<Job>| job.id.split('+').next() == Some(id);
        jobs.get(id).or_else(|| jobs.values().find(same)).cloned()
    }

    /// The running job of this id, or a new one.
    fn enter(&self, job: &Arc<Job>, max: usize) -> Result<Entered, WireError> {
        let mut jobs = self.lock();
        if let Some(running) = jobs.get(&job.id).filter(|job| !job.has_ended()) {
            return Ok(Entered::Running(Arc::clone(running)));
        }
        let (ended, running): (Vec<_>, Vec<_>) = jobs.values().partition(|job| job.has_ended());
        if running.len() >= max {
            return Err(HttpRefusal::TooManyReplications { max }.to_wire());
        }
        let share = max.div_ceil(OWNER_SHARE);
        if running.iter().filter(|other| other.is_of(job)).count() >= share {
            return Err(HttpRefusal::TooManyReplications { max: share }.to_wire());
        }
        let oldest = ended.iter().min_by_key(|job| job.started).map(|job| job.id.clone());
        if let Some(oldest) = oldest.filter(|_| ended.len() >= ENDED_MAX) {
            jobs.remove(&oldest);
        }
        jobs.insert(job.id.clone(), Arc::clone(job));
        Ok(Entered::New)
    }

    pub(super) fn forget(&self, job: &Arc<Job>) {
        let mut jobs = self.lock();
        if jobs.get(&job.id).is_some_and(|known| Arc::ptr_eq(known, job)) {
            jobs.remove(&job.id);
        }
    }

    /// Ends every job at once.
    pub(super) fn abort_all(&self) {
        self.lock().values().for_each(|job| job.abort());
    }
}

enum Entered {
    New,
    Running(Arc<Job>),
}

impl Shared {
    /// Starts a job, or finds the one that does the same already. A continuous one is on disk when
    /// this returns.
    pub(super) async fn replicate(
        self: &Arc<Self>,
        asked: Replication,
        owner: Owner,
        user: Option<String>,
    ) -> Result<Arc<Job>, WireError> {
        let count = asked.body.to_string().len();
        if asked.continuous && count > KEPT_BYTES_MAX {
            let (what, max) = ("bytes of a continuous replication", KEPT_BYTES_MAX as u64);
            return Err(StoreError::TooLarge { what, count: count as u64, max }.to_wire());
        }
        let job = Job::new(self, asked, owner, user);
        match self.replications.enter(&job, self.limits.replications_max)? {
            Entered::Running(running) => return Ok(running),
            Entered::New => {}
        }
        self.begin(&job).await?;
        Ok(job)
    }

    /// Keeps a job that has been entered, and starts it.
    async fn begin(self: &Arc<Self>, job: &Arc<Job>) -> Result<(), WireError> {
        if job.asked.continuous
            && let Err(error) = self.keep(job).await
        {
            self.replications.forget(job);
            return Err(error.to_wire());
        }
        // Who cancelled it meanwhile may have removed the note before it was there.
        if job.is_stopped() {
            let removed = self.keep_no_more(&job.id).await;
            job.abort();
            removed.map_err(|error| error.to_wire())?;
            return Err(if self.is_stopping() {
                Refusal::Stopping.to_wire()
            } else {
                HttpRefusal::ReplicationCancelled.to_wire()
            });
        }
        job.start(Arc::clone(self));
        Ok(())
    }

    /// Ends a job: what it is writing is finished, and it is kept no more.
    pub(super) async fn cancel(&self, job: &Arc<Job>) -> Result<(), WireError> {
        // First: a job that is being kept sees it once its note is there.
        job.stop();
        self.keep_no_more(&job.id).await.map_err(|error| error.to_wire())?;
        job.ended().await;
        self.replications.forget(job);
        Ok(())
    }

    /// Starts the jobs that were kept.
    pub(super) async fn resume_replications(self: &Arc<Self>) {
        for (asked, owner, user) in self.kept().await {
            let job = Job::new(self, asked, owner, user);
            if let Ok(Entered::New) = self.replications.enter(&job, usize::MAX) {
                job.start(Arc::clone(self));
            }
        }
    }

    /// Lets every job finish what it is writing; those that take too long are cut.
    pub(super) async fn pause_replications(&self, wait: Duration) {
        let jobs = self.replications.list();
        jobs.iter().for_each(|job| job.stop());
        all_ended(&jobs, wait).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::server::Gateway;
    use crate::server::auth::Credentials;
    use crate::store::Store;

    #[tokio::test]
    async fn a_job_that_is_cancelled_while_it_is_being_kept_is_not_kept() {
        let gateway = Gateway::builder(Store::memory()).build().unwrap();
        let shared = &gateway.shared;
        let body = json!({"source": "here", "target": "there", "continuous": true});
        let asked = Replication::read(body, shared.store.limits()).unwrap();
        let credentials = Credentials::new(json!(null));
        let owner = Owner { credentials, peer: None, headers: Arc::default() };
        let job = Job::new(shared, asked, owner, None);
        shared.replications.enter(&job, 1).unwrap();
        let (cancelled, begun) = tokio::join!(shared.cancel(&job), shared.begin(&job));
        cancelled.unwrap();
        assert_eq!(begun.unwrap_err().error, "cancelled");
        assert!(shared.kept().await.is_empty() && shared.replications.list().is_empty());
    }
}
