//! Identifies a client to the gateway over one connection after another, and shows new credentials
//! before they end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::proto::event::EventRequest;
use crate::proto::message::{ClientMessage, WireError};
use crate::replicate::Backoff;

use super::event_state::{EventState, Identity};
use super::link::Link;
use super::sync::{REFRESH_MIN, REFUSALS_MAX};
use super::{CredentialsSource, LinkState};

pub(super) struct Keeper {
    pub state: Arc<EventState>,
    pub link: watch::Receiver<LinkState>,
    pub credentials: CredentialsSource,
}

impl Keeper {
    /// Goes on until the client is closed.
    pub(super) async fn run(mut self) {
        loop {
            let present = self.link.borrow_and_update().clone();
            match present {
                LinkState::Up(link) if !link.has_ended() => {
                    self.state.attach(&link);
                    link.give_events_to(&self.state);
                    let mut changes = self.link.clone();
                    tokio::select! {
                        () = self.over(&link) => {}
                        _ = changes.changed() => {}
                    }
                    self.state.detach();
                }
                LinkState::Closed => return self.state.end(),
                LinkState::Up(_) | LinkState::Down { .. } => {}
            }
            if self.link.changed().await.is_err() {
                return self.state.end();
            }
        }
    }

    /// Identifies the client on one connection, again and again as grants end. Returns when that
    /// leads nowhere.
    async fn over(&self, link: &Link) {
        let backoff = Backoff::default();
        let mut refusals = 0;
        loop {
            let credentials = self.credentials.get().await;
            let mut identity = self.state.watch_identity();
            let request = EventRequest::Identify { credentials };
            if link.send(&ClientMessage::Event(request)).await.is_err() {
                return;
            }
            if identity.changed().await.is_err() {
                return;
            }
            let present = identity.borrow_and_update().clone();
            match present {
                Identity::Given(who) => {
                    refusals = 0;
                    tokio::select! {
                        () = self.until_refresh(who.expires_in_ms) => {}
                        _ = identity.changed() => {}
                    }
                    // An identity that had worked has ended: the same credentials may bring another.
                }
                Identity::Refused(error) => {
                    refusals += 1;
                    if !self.may_ask(&error) || refusals > REFUSALS_MAX {
                        self.state.give_up(&error);
                        return std::future::pending().await;
                    }
                    sleep(backoff.jittered(refusals)).await;
                }
                Identity::Unknown | Identity::GivenUp(_) | Identity::Over => return,
            }
        }
    }

    fn may_ask(&self, error: &WireError) -> bool {
        let transient = matches!(error.status, 408 | 429 | 500..);
        transient || error.status == 401 && self.credentials.can_be_asked()
    }

    /// Early enough for the answer to arrive, and not at once again and again.
    async fn until_refresh(&self, expires_in_ms: Option<u64>) {
        match expires_in_ms.filter(|_| self.credentials.can_be_asked()) {
            Some(ms) => sleep(Duration::from_millis(ms).mul_f64(0.8).max(REFRESH_MIN)).await,
            None => std::future::pending().await,
        }
    }
}
