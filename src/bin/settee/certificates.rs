//! Certificates that are read again while they are served: when their files change, and on SIGHUP.

use std::time::Duration;

use settee::server::TlsIdentity;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::failure::Failure;

/// Between two looks at the files. Whoever renews a certificate does so days before it ends.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Keeps certificates as their files are, until it is dropped.
pub struct Certificates {
    _tasks: JoinSet<()>,
}

impl Certificates {
    pub fn keep<'a>(identities: impl Iterator<Item = &'a TlsIdentity>) -> Result<Self, Failure> {
        let identities: Vec<TlsIdentity> = identities.cloned().collect();
        let mut tasks = JoinSet::new();
        if identities.is_empty() {
            return Ok(Self { _tasks: tasks });
        }
        let mut hangup = signal(SignalKind::hangup())
            .map_err(|source| Failure::Io { doing: "take signals".into(), source })?;
        for identity in identities.clone() {
            tasks.spawn(async move { identity.keep_reloaded(LOOK_INTERVAL).await });
        }
        tasks.spawn(async move {
            while hangup.recv().await.is_some() {
                identities.iter().for_each(reload);
            }
        });
        Ok(Self { _tasks: tasks })
    }
}

fn reload(identity: &TlsIdentity) {
    match identity.reload() {
        Ok(changed) => info!(changed, "certificate read again"),
        Err(error) => warn!(%error, "the certificate is kept as it was"),
    }
}
