//! WebSockets as they come and go.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::proto::message::WireError;
use crate::server::error::{LifeRefusal, Refusal, ToWire as _};

use super::activations::Life;
use super::activity::Activity;
use super::ignored::{IgnoredIn, caught};
use super::{LifeCycle, SessionInfo};

/// A WebSocket that was accepted; tells its end when it is dropped.
pub(in crate::server) struct Session {
    life: Arc<Life>,
    info: Arc<SessionInfo>,
}

impl Session {
    pub(in crate::server) fn id(&self) -> u64 {
        self.info.id
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let info = Arc::clone(&self.info);
        self.life.watched.tell(|| Activity::Disconnected(Arc::clone(&info)));
        let Some(hooks) = self.life.hooks.clone() else { return };
        let (ignored, patience) = (self.life.ignored.clone(), self.life.open_timeout);
        self.life.spawn(async move {
            match timeout(patience, caught(hooks.disconnected(info))).await {
                Ok(Ok(())) => {}
                Ok(Err(panicked)) => ignored.tell(IgnoredIn::Disconnected, None, panicked),
                Err(late) => ignored.tell(IgnoredIn::Disconnected, None, late),
            }
        });
    }
}

impl Life {
    /// Asks whether a WebSocket may come, and tells that it did.
    pub(in crate::server) async fn connect(
        self: &Arc<Self>,
        info: SessionInfo,
    ) -> Result<Session, WireError> {
        let info = Arc::new(info);
        if let Some(hooks) = &self.hooks {
            self.ask_connected(&**hooks, &info, self.open_timeout).await?;
        }
        self.watched.tell(|| Activity::Connected(Arc::clone(&info)));
        Ok(Session { life: Arc::clone(self), info })
    }

    async fn ask_connected(
        &self,
        hooks: &dyn LifeCycle,
        info: &Arc<SessionInfo>,
        patience: Duration,
    ) -> Result<(), WireError> {
        let place = IgnoredIn::Connected;
        match timeout(patience, caught(hooks.connected(Arc::clone(info)))).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(denied))) => Err(denied.to_wire()),
            Ok(Err(panicked)) => {
                self.ignored.tell(place, None, panicked);
                Err(Refusal::Panicked.to_wire())
            }
            Err(late) => {
                self.ignored.tell(place, None, late);
                Err(LifeRefusal::OpeningTimedOut.to_wire())
            }
        }
    }
}
