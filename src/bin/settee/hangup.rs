//! What SIGHUP does: the settings are read again for what may change while the gateway runs.

use settee::Gateway;
use settee::access::{Access, Chain};
use settee::server::Rejudged;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};

use crate::audit::Trail;
use crate::config::Log;
use crate::failure::Failure;
use crate::logs::Logs;

/// What takes effect without a restart.
pub struct Reread {
    pub log: Log,
    pub chain: Chain,
}

/// Waits for SIGHUP.
pub struct Hangup {
    signal: Signal,
    logs: Logs,
    trail: Option<Trail>,
    access: Access,
}

impl Hangup {
    pub fn new(logs: Logs, trail: Option<Trail>, access: Access) -> Result<Self, Failure> {
        let signal = signal(SignalKind::hangup())
            .map_err(|source| Failure::Io { doing: "take signals".into(), source })?;
        Ok(Self { signal, logs, trail, access })
    }

    /// Does what each signal asks for, for ever.
    pub async fn run(mut self, gateway: &Gateway, read: impl Fn() -> Result<Reread, Failure>) {
        while self.signal.recv().await.is_some() {
            if let Some(trail) = &self.trail {
                trail.reopen();
            }
            let reread = read().and_then(|reread| {
                self.logs.change(&reread.log)?;
                Ok(reread.chain)
            });
            match reread {
                Ok(chain) => {
                    self.access.replace(chain);
                    let Rejudged { kept, ended } = gateway.rejudge().await;
                    info!(
                        kept,
                        ended,
                        "SIGHUP: the rules of access and the log's level were read again, the \
                         audit trail reopened"
                    );
                }
                Err(error) => error!(%error, "SIGHUP: the settings stay as they were"),
            }
        }
        // No further signal will come; the gateway goes on.
        std::future::pending::<()>().await;
    }
}
