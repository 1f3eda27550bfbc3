//! One replication that is carried out, from its start to its end, over lost connections.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use http::HeaderMap;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::doc::DbName;
use crate::http_peer::{HttpOptions, HttpPeer};
use crate::proto::message::{ChannelId, WireError};
use crate::replicate::{
    Backoff, DeniedList, Direction, Flow, FlowContext, Look, Moved, Peer, PeerError, Reach,
    Reporter, Tally, new_session_id,
};
use crate::server::Shared;
use crate::server::auth::{AccessRequest, Credentials, ServerRequest};
use crate::server::channel::{Channel, Enlisted, Renewal};
use crate::server::error::{Refusal, ToWire as _, could_not_open, replication_failed};
use crate::server::server_feed::{ServerFeed, ServerRight};

use super::asked::{End, Replication};
use super::granted_peer::GrantedPeer;

/// No channel of a WebSocket has this number.
const NO_CHANNEL: ChannelId = 0;

/// Pauses after a continuous job has failed.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(300) };

/// A job that ran this long counts as a success: the pauses begin anew.
const SETTLED: Duration = Duration::from_secs(60);

/// How long a job that is stopped may take to finish what it is writing.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Changes read from a local database at a time.
const BATCH_SIZE: usize = 500;

/// Events of a job that are remembered.
const HISTORY_MAX: usize = 20;

/// Who asked for a job, as the authorizers were told.
#[derive(Clone)]
pub(crate) struct Owner {
    pub credentials: Credentials,
    pub peer: Option<SocketAddr>,
    pub headers: Arc<HeaderMap>,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// It failed, and is tried again after a pause.
    Crashing,
    Completed,
    /// It failed for good.
    Failed,
    /// It was cancelled, or the gateway is stopping.
    Stopped,
}

/// What happened to a job, newest first.
#[derive(Debug, Clone)]
pub(super) struct Happened {
    pub at: SystemTime,
    pub what: &'static str,
    pub reason: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Stage {
    pub state: State,
    pub since: SystemTime,
    pub error: Option<WireError>,
    pub history: VecDeque<Happened>,
}

/// A replication that is carried out.
pub(crate) struct Job {
    pub id: String,
    pub asked: Replication,
    pub user: Option<String>,
    pub started: SystemTime,
    pub(super) owner: Owner,
    pub(super) session_id: String,
    tally: Arc<Mutex<Tally>>,
    reached: Reach,
    stage: watch::Sender<Stage>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<AbortHandle>>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why an attempt ended early.
enum Ended {
    /// What it may do has ended, or what it is about.
    Over(WireError),
    /// Its grant has run its time or has become another, and may be given again.
    GrantLost,
    Crashed(WireError),
}

impl From<PeerError> for Ended {
    fn from(error: PeerError) -> Self {
        Self::Crashed(replication_failed(&error))
    }
}

/// One end of an attempt.
struct Opened {
    peer: Arc<dyn Peer>,
    /// Of an end that is local.
    grant: Option<(Arc<Channel>, Enlisted)>,
}

impl Opened {
    /// Waits for the end of the grant or of the database.
    async fn until_ended(&self, check: Duration) -> Ended {
        let Some((channel, _)) = &self.grant else { return std::future::pending().await };
        channel.until_ended(check).await.map_or(Ended::GrantLost, Ended::of_grant)
    }
}

/// Waits for the end of the right to replicate, where it is needed.
async fn right_ended(right: Option<&ServerFeed>, check: Duration) -> Ended {
    let Some(right) = right else { return std::future::pending().await };
    let Err(error) = right.until_ended(check).await;
    Ended::of_grant(error)
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Source,
    Target,
}

impl Job {
    pub(super) fn new(
        shared: &Shared,
        asked: Replication,
        owner: Owner,
        user: Option<String>,
    ) -> Arc<Self> {
        let now = SystemTime::now();
        let (state, error, history) = (State::Running, None, VecDeque::new());
        let mut stage = Stage { state, since: now, error, history };
        stage.note("added", None);
        Arc::new(Self {
            id: asked.id(shared.store.uuid(), user.as_deref(), &owner.credentials),
            asked,
            user,
            started: now,
            owner,
            session_id: new_session_id(),
            tally: Arc::default(),
            reached: Arc::default(),
            stage: watch::Sender::new(stage),
            stop: watch::Sender::new(false),
            task: Mutex::default(),
        })
    }

    /// Whether both have one owner; who has no name is known by the credentials.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.user == other.user
            && (self.user.is_some() || self.owner.credentials == other.owner.credentials)
    }

    pub(super) fn start(self: &Arc<Self>, shared: Arc<Shared>) {
        let job = Arc::clone(self);
        let task = tokio::spawn(async move { job.run(&shared).await });
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage.borrow().clone()
    }

    pub(crate) fn state(&self) -> State {
        self.stage.borrow().state
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.state(), State::Running | State::Crashing)
    }

    /// Asks it to finish what it is writing.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits for its end, with the error that it failed with; one that was stopped is given a while.
    pub(crate) async fn ended(&self) -> Option<WireError> {
        let (mut stage, mut stop) = (self.stage.subscribe(), self.stop.subscribe());
        let ended = |stage: &Stage| !matches!(stage.state, State::Running | State::Crashing);
        let stopped = async {
            // The sender lives in `self`.
            let _ = stop.wait_for(|stop| *stop).await;
            sleep(STOP_WAIT).await;
        };
        tokio::select! {
            _ = stage.wait_for(ended) => {}
            () = stopped => self.abort(),
        }
        self.stage().error
    }

    pub(super) fn abort(&self) {
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
        if !self.has_ended() {
            self.enter(State::Stopped, None);
        }
    }

    fn enter(&self, state: State, error: Option<WireError>) {
        self.stage.send_modify(|stage| {
            let reason = error.as_ref().map(ToString::to_string);
            let what = match state {
                State::Running => "started",
                State::Crashing | State::Failed => "crashed",
                State::Completed | State::Stopped => "stopped",
            };
            stage.note(what, reason);
            (stage.state, stage.error, stage.since) = (state, error, SystemTime::now());
        });
    }

    async fn run(&self, shared: &Arc<Shared>) {
        let mut failures = 0u32;
        loop {
            self.enter(State::Running, None);
            let began = Instant::now();
            let error = match self.attempt(shared).await {
                Ok(()) if self.is_stopped() => return self.enter(State::Stopped, None),
                Ok(()) => return self.enter(State::Completed, None),
                Err(Ended::Over(error)) => return self.fail(shared, error).await,
                Err(Ended::Crashed(error)) if !self.asked.continuous => {
                    return self.fail(shared, error).await;
                }
                Err(Ended::Crashed(error)) => Some(error),
                Err(Ended::GrantLost) => None,
            };
            failures = if began.elapsed() >= SETTLED { 1 } else { failures.saturating_add(1) };
            let pause = match error {
                // The same credentials may bring another grant, but not again and again.
                None if failures == 1 => continue,
                None => BACKOFF.jittered(failures),
                Some(error) => {
                    tracing::warn!(job = %self.id, %error, "a replication failed, trying again");
                    self.enter(State::Crashing, Some(error));
                    BACKOFF.jittered(failures)
                }
            };
            let mut stop = self.stop.subscribe();
            tokio::select! {
                () = sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => return self.enter(State::Stopped, None),
            }
        }
    }

    async fn fail(&self, shared: &Shared, error: WireError) {
        tracing::warn!(job = %self.id, %error, "a replication ended");
        if self.asked.continuous
            && let Err(error) = shared.keep_no_more(&self.id).await
        {
            tracing::error!(job = %self.id, %error, "a replication that has ended is still kept");
        }
        self.enter(State::Failed, Some(error));
    }

    async fn attempt(&self, shared: &Arc<Shared>) -> Result<(), Ended> {
        let right = if self.asked.has_remote() {
            let access = self.owner.server_access();
            let feed = shared.begin_feed(access, ServerRight::Replicate).await;
            Some(feed.map_err(Ended::local)?)
        } else {
            None
        };
        let source = self.open(shared, Side::Source).await?;
        let target = self.open(shared, Side::Target).await?;
        let keeper = if source.grant.is_some() { &source.peer } else { &target.peer };
        let reporter = Reporter::new(&[Direction::Push]);
        let events = reporter.events();
        let context = FlowContext {
            reporter,
            denied: Arc::new(DeniedList::new(Arc::clone(keeper))),
            session_id: self.session_id.clone(),
            live: self.asked.continuous,
            checkpoints: self.asked.checkpoints,
            batch_size: BATCH_SIZE,
            doc_ids: self.asked.doc_ids.clone(),
            selector: self.asked.selector.clone(),
            stop: self.stop.subscribe(),
            retry: Arc::new([Notify::new(), Notify::new()]),
            reached: Arc::clone(&self.reached),
            since: self.asked.since.clone(),
            tally: Arc::clone(&self.tally),
        };
        let (from, to) = (Arc::clone(&source.peer), Arc::clone(&target.peer));
        let moved = (Moved::default(), Moved::default());
        let flow = Flow::new(context, Direction::Push, from, to, moved).run(Look::First);
        let check = Duration::from_millis(shared.limits.grant_check_interval_ms);
        tokio::select! {
            ended = flow => Ok(ended?),
            ended = source.until_ended(check) => Err(ended),
            ended = target.until_ended(check) => Err(ended),
            ended = right_ended(right.as_deref(), check) => Err(ended),
            // Nobody reads them one by one; they must not pile up.
            () = async { events.for_each(|_| async {}).await; std::future::pending().await } => {
                unreachable!("a pending future is never ready")
            }
        }
    }

    async fn open(&self, shared: &Arc<Shared>, side: Side) -> Result<Opened, Ended> {
        let (end, create) = match side {
            Side::Source => (&self.asked.source, false),
            Side::Target => (&self.asked.target, self.asked.create_target),
        };
        match end {
            End::Local(name) => {
                let opened = self.owner.open(shared, name, create).await.map_err(Ended::local)?;
                let peer = GrantedPeer(Arc::clone(&opened.0));
                peer.check(side == Side::Target).map_err(Ended::local)?;
                Ok(Opened { peer: Arc::new(peer), grant: Some(opened) })
            }
            End::Remote(remote) => {
                let options = HttpOptions { create, ..HttpOptions::default() };
                let limits = shared.store.limits().clone();
                let peer = HttpPeer::connect(remote.clone(), &options, limits).await;
                let failed = |error| Ended::Crashed(could_not_open(remote.url(), &error));
                Ok(Opened { peer: Arc::new(peer.map_err(failed)?), grant: None })
            }
        }
    }
}

impl Ended {
    /// What the gateway itself refuses is refused for good, unless it is in trouble.
    fn local(error: WireError) -> Self {
        match error.status {
            401 | 403 | 404 => Self::Over(error),
            _ => Self::Crashed(error),
        }
    }

    /// What ended a grant that was held: its like may be given again where it only ran out or changed.
    fn of_grant(error: WireError) -> Self {
        let lost = [Refusal::GrantExpired, Refusal::GrantMoved, Refusal::GrantChanged];
        let is_lost = lost.iter().any(|refusal| error == refusal.to_wire());
        if is_lost { Self::GrantLost } else { Self::local(error) }
    }
}

impl Stage {
    fn note(&mut self, what: &'static str, reason: Option<String>) {
        self.history.push_front(Happened { at: SystemTime::now(), what, reason });
        self.history.truncate(HISTORY_MAX);
    }
}

impl Owner {
    /// Asks whether the owner may use addresses of HTTP; returns the name of the user.
    pub(crate) async fn check_replicate(
        &self,
        shared: &Shared,
    ) -> Result<Option<String>, WireError> {
        let access = self.server_access();
        Ok(shared.judge_right(access, ServerRight::Replicate).await?.user)
    }

    fn server_access(&self) -> ServerRequest {
        ServerRequest {
            credentials: self.credentials.clone(),
            peer: self.peer,
            headers: Arc::clone(&self.headers),
        }
    }

    /// Opens a local end under the owner's grant, known to the gateway.
    async fn open(
        &self,
        shared: &Arc<Shared>,
        name: &DbName,
        create: bool,
    ) -> Result<(Arc<Channel>, Enlisted), WireError> {
        loop {
            let revocations = shared.revocations();
            let access = AccessRequest {
                credentials: self.credentials.clone(),
                database: name.clone(),
                create,
                peer: self.peer,
                headers: Arc::clone(&self.headers),
            };
            let grant = shared.judge_access(access.clone()).await?;
            let link = shared.observed.request(self.peer, &self.headers);
            let opened = shared.open(grant, create, &link).await?;
            let renewal = Renewal::InPlace;
            let channel = Channel::new(NO_CHANNEL, shared, opened, access, renewal, link);
            let enlisted = Enlisted::new(shared, &channel);
            // A revocation that came while this was not yet known passed it by.
            if shared.revocations() == revocations {
                return Ok((channel, enlisted));
            }
        }
    }

    /// Asks for everything that a replication needs of this gateway; returns the user's name.
    pub(crate) async fn check(
        &self,
        shared: &Arc<Shared>,
        asked: &Replication,
    ) -> Result<Option<String>, WireError> {
        let mut user = None;
        if asked.has_remote() {
            user = self.check_replicate(shared).await?;
        }
        for (end, is_target) in [(&asked.source, false), (&asked.target, true)] {
            let End::Local(name) = end else { continue };
            let (channel, _enlisted) =
                self.open(shared, name, is_target && asked.create_target).await?;
            let named = channel.with_grant(|grant| grant.user_name().map(str::to_owned));
            user = user.or(named);
            GrantedPeer(channel).check(is_target)?;
        }
        Ok(user)
    }
}

/// Bounds how long a gateway that stops waits for its jobs.
pub(super) async fn all_ended(jobs: &[Arc<Job>], wait: Duration) {
    let all = futures::future::join_all(jobs.iter().map(|job| job.ended()));
    // Those that take longer are cut.
    let _ = timeout(wait, all).await;
    jobs.iter().for_each(|job| job.abort());
}
