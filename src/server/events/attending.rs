//! Events on one connection of settee.v1: its identity, what it asks for, what is told it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use crate::proto::event::{EventNotice, EventRequest};
use crate::proto::message::{ServerMessage, WireError};
use crate::server::auth::{Credentials, ServerGrant, ServerRequest};
use crate::server::connection::Connection;
use crate::server::error::{Refusal, ToWire as _};
use crate::server::outbox::{Gone, Outbox};
use crate::server::socket::Socket;

use super::hub::{Hub, Sender};
use super::line::{Line, Next};

/// Bytes of events that wait in the connection's outbox beside documents; more wait in the line,
/// where they can be lost.
const LANE_BYTES_MAX: usize = 64 * 1024;

/// One connection's part in events.
pub(in crate::server) struct Attending {
    hub: Arc<Hub>,
    line: Arc<Line>,
    lane: Outbox,
    /// Held for moments only, never over an await.
    judging: Mutex<Judging>,
}

#[derive(Default)]
struct Judging {
    /// Counts credentials; only the newest matter.
    newest: u64,
    task: Option<AbortHandle>,
    /// Whether something tells the connection what is for it.
    served: bool,
}

impl Attending {
    pub(in crate::server) fn new(socket: &Socket) -> Self {
        let hub = Arc::clone(&socket.shared.events);
        let line = Arc::new(hub.line());
        let lane = socket.outbox.lane(LANE_BYTES_MAX);
        Self { hub, line, lane, judging: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Judging> {
        self.judging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what waits, until the connection is gone.
    async fn tell(&self) -> Result<(), Gone> {
        loop {
            match self.line.next().await {
                Next::Text(text) => self.lane.shared_text(text).await?,
                Next::Ended => {
                    // Room first: no identity can come between the look and what is told.
                    let room = self.lane.all_room().await?;
                    if let Some(error) = self.line.take_end() {
                        room.text(EventNotice::Unidentified { error }.encode());
                    }
                }
                Next::Members(channel) => {
                    let room = self.lane.all_room().await?;
                    self.hub.tell_members(&self.line, &channel, |text| room.text(text));
                }
            }
        }
    }

    /// Ends the identity when its time is over. Looks at the clock again at least every
    /// `check_interval`, since a wall clock may be set.
    async fn watch_time(&self, check_interval: Duration) {
        loop {
            let left = self.hub.expire(&self.line).unwrap_or(check_interval);
            tokio::select! {
                () = sleep(left.min(check_interval)) => {}
                () = self.line.changed.notified() => {}
            }
        }
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        self.hub.remove(&self.line, None);
    }
}

impl Connection {
    pub(in crate::server) async fn take_event(
        self: &Arc<Self>,
        request: EventRequest,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), Gone> {
        let Attending { hub, line, lane, .. } = self.events();
        match request {
            EventRequest::Identify { credentials } => self.identify(credentials, tasks),
            EventRequest::Join { channel, options } => {
                // Room first: what is told under the hub's lock cannot wait.
                let room = lane.all_room().await?;
                hub.join(line, &channel, options, |text| room.text(text));
            }
            EventRequest::Leave { channel } => {
                if hub.leave(line, &channel) {
                    lane.text(EventNotice::Left { channel, error: None }.encode()).await?;
                }
            }
            EventRequest::State { channel, state } => {
                if let Err(error) = hub.set_state(line, &channel, state) {
                    let error = error.to_wire();
                    self.socket.outbox.text(ServerMessage::Error { error }.encode()).await?;
                }
            }
            EventRequest::Send { number, request } => {
                let answer = match hub.send(&Sender::Connection(line.number), &request) {
                    Ok(reached) => EventNotice::Sent { number, reached },
                    Err(error) => EventNotice::Unsent { number, error },
                };
                self.socket.outbox.text(answer.encode()).await?;
            }
        }
        Ok(())
    }

    /// Has credentials judged; the identity that they bring takes the present one's place.
    fn identify(self: &Arc<Self>, credentials: Value, tasks: &mut JoinSet<()>) {
        let mut judging = self.events().lock();
        if !judging.served {
            judging.served = true;
            let connection = Arc::clone(self);
            tasks.spawn(async move {
                let events = connection.events();
                let check = connection.socket.shared.limits.grant_check_interval_ms;
                tokio::select! {
                    // A connection that is gone needs to be told nothing.
                    _ = events.tell() => {}
                    () = events.watch_time(Duration::from_millis(check)) => {}
                }
            });
        }
        judging.newest += 1;
        let number = judging.newest;
        let connection = Arc::clone(self);
        let task = tasks.spawn(async move {
            // An answer that cannot be sent has nobody to go to.
            let _ = connection.judge_identity(credentials, number).await;
        });
        if let Some(older) = judging.task.replace(task) {
            older.abort();
        }
    }

    async fn judge_identity(&self, credentials: Value, number: u64) -> Result<(), Gone> {
        let Attending { hub, line, lane, .. } = self.events();
        loop {
            let revocations = hub.revocations();
            let judged = self.judge_credentials(credentials.clone()).await;
            let room = lane.all_room().await?;
            // Held while the answer is given: no older one can come after it.
            let judging = self.events().lock();
            if judging.newest != number {
                return Ok(());
            }
            match judged {
                Err(error) => {
                    tracing::info!(status = error.status, reason = %error.reason, "identity refused");
                    hub.remove(line, None);
                    room.text(EventNotice::Unidentified { error }.encode());
                }
                Ok((grant, asked)) => {
                    let Some(who) = hub.identify(line, &grant, &asked, revocations) else {
                        continue;
                    };
                    tracing::info!(user = ?who.user, "identified");
                    self.socket.opened_one();
                    room.text(EventNotice::Identified(Box::new(who)).encode());
                }
            }
            return Ok(());
        }
    }

    /// Asks the server's authorizer; the request too, to be judged again.
    async fn judge_credentials(
        &self,
        credentials: Value,
    ) -> Result<(ServerGrant, ServerRequest), WireError> {
        let Socket { shared, peer, .. } = &self.socket;
        if shared.is_stopping() {
            return Err(Refusal::Stopping.to_wire());
        }
        let request = ServerRequest {
            credentials: Credentials::new(credentials),
            peer: peer.address,
            headers: Arc::clone(&peer.headers),
        };
        let judged = shared.judge_server(request.clone()).await?;
        let grant = judged.map_err(|denied| denied.to_wire())?;
        if let Some(user) = &grant.user {
            peer.seat.belongs_to(user).map_err(|refusal| {
                shared.observed.limit_hit(refusal.limit());
                refusal.to_wire()
            })?;
        }
        Ok((grant, request))
    }
}
