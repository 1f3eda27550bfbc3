//! `_settee/backup`: everything of the server as one stream, for whoever may back it up.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::Method;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::server::error::{HttpRefusal, ToWire as _};
use crate::server::observe::Act;
use crate::server::server_feed::ServerRight;
use crate::store::{Backup, BackupOptions, Manifest};

use super::answer::{Answer, Out, Stop, streamed};
use super::only;
use super::request::Request;

/// Backups at a time: each reads the whole disk.
const BACKUPS_MAX: usize = 1;

/// The backups of a gateway.
#[derive(Debug)]
pub(crate) struct Backups {
    running: Arc<Semaphore>,
    bytes_per_second_max: Option<u64>,
}

impl Backups {
    pub(crate) fn new(bytes_per_second_max: Option<u64>) -> Self {
        Self { running: Arc::new(Semaphore::new(BACKUPS_MAX)), bytes_per_second_max }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    since: Option<Manifest>,
    bytes_per_second: Option<u64>,
}

pub(super) async fn answer(mut request: Request) -> Answer {
    if request.method != Method::GET && request.method != Method::POST {
        return only("GET,POST");
    }
    let access = request.server_access()?;
    let feed = request.shared.begin_feed(access, ServerRight::BackUp).await?;
    let user = feed.with_grant(|grant| grant.user.clone());
    request.count_for(user.as_deref())?;
    let check = Duration::from_millis(request.shared.limits.grant_check_interval_ms);
    let asked = match request.method {
        Method::POST => tokio::select! {
            biased;
            Err(error) = feed.until_ended(check) => return Err(error),
            asked = request.json_body() => asked?,
        },
        _ => Asked::default(),
    };
    let Backups { running, bytes_per_second_max } = &request.shared.backups;
    let permit = Arc::clone(running).try_acquire_owned();
    let permit = permit.map_err(|_| HttpRefusal::TooManyBackups { max: BACKUPS_MAX }.to_wire())?;
    let both = asked.bytes_per_second.into_iter().chain(*bytes_per_second_max);
    let options = BackupOptions { since: asked.since, bytes_per_second_max: both.min() };
    let mut backup = request.shared.store.backup(options);
    // What is wrong with the request is told by the status, which goes out with the first piece.
    let first = backup.next().await.transpose().map_err(|error| error.to_wire())?;
    request.link.tell(user.as_deref(), None, Act::Administered { what: "backup" });
    Ok(streamed("application/vnd.settee.backup", move |out| async move {
        let _permit = permit;
        tokio::select! {
            biased;
            Err(error) = feed.until_ended(check) => Err(Stop::Failed(error)),
            sent = send(first, backup, out) => sent,
        }
    }))
}

async fn send(first: Option<Bytes>, mut backup: Backup, mut out: Out) -> Result<(), Stop> {
    let mut next = first;
    while let Some(piece) = next {
        out.piece(piece).await?;
        next = backup.next().await.transpose().inspect_err(|error| {
            tracing::error!(%error, "a backup was cut");
        })?;
    }
    let report = backup.report();
    tracing::info!(databases = report.databases, bytes = report.bytes, "backed up");
    Ok(())
}
