//! `settee sync`: a database of a data directory with one behind a gateway or a CouchDB.

use std::io::Write as _;
use std::path::PathBuf;

use futures::StreamExt as _;
use serde_json::json;
use settee::client::{ClientBuilder, ClientEvents};
use settee::http_peer::{self, HttpOptions, Remote};
use settee::replicate::{
    DeniedDoc, Direction, DirectionSummary, Directions, Lifetime, ReplicationOptions, SyncSummary,
};
use settee::{
    Client, ClientEvent, DbName, Selector, Store, Sync, SyncEvent, SyncOptions, SyncState,
};

use crate::failure::Failure;
use crate::place::{PlaceArgs, db_name, selector};
use crate::progress::Progress;
use crate::serve::Signals;

/// Refused documents that are listed; the others are only counted.
const LISTED_MAX: usize = 20;

/// Sync a database of a data directory with one behind a gateway
///
/// Syncs both ways until both sides are equal, going on where an earlier sync stopped. The local
/// database is made if it is not there. Do not run it while another process has the data directory
/// open.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    /// The gateway and the database behind it; a slash in the name is written %2F. With http:// or
    /// https:// any server with CouchDB's API, and a name and password may stand before the host
    #[arg(value_name = "URL/DB")]
    url: String,
    /// For wss://: certificate authorities in PEM to trust beside those of the system
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The token to show, to a server of HTTP as `Bearer`
    #[arg(long, value_name = "TOKEN", env = "SETTEE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Go on with every change until interrupted (Ctrl-C), over lost connections
    #[arg(long)]
    live: bool,
    /// Only send
    #[arg(long, conflicts_with = "pull")]
    push: bool,
    /// Only receive
    #[arg(long)]
    pull: bool,
    /// Only documents that this selector lets pass, in either direction
    #[arg(long, value_name = "JSON", value_parser = selector)]
    selector: Option<Selector>,
    /// Have the other side make its database if it is not there
    #[arg(long)]
    create: bool,
}

impl Args {
    fn options(&self, remote: &DbName) -> SyncOptions {
        let name = remote.as_str();
        let mut options =
            if self.live { SyncOptions::live(name) } else { SyncOptions::one_shot(name) };
        if let Some(token) = &self.token {
            options = options.credentials(json!({"token": token}));
        }
        if let Some(selector) = &self.selector {
            options = options.selector(selector.clone());
        }
        if self.create {
            options = options.create();
        }
        match (self.push, self.pull) {
            (true, _) => options.push_only(),
            (_, true) => options.pull_only(),
            _ => options,
        }
    }

    fn http_options(&self) -> HttpOptions {
        let directions = match (self.push, self.pull) {
            (true, _) => Directions::PushOnly,
            (_, true) => Directions::PullOnly,
            _ => Directions::Both,
        };
        let lifetime = if self.live { Lifetime::Live } else { Lifetime::OneShot };
        let selector = self.selector.clone();
        HttpOptions {
            replication: ReplicationOptions {
                directions,
                lifetime,
                selector,
                ..ReplicationOptions::default()
            },
            create: self.create,
            ..HttpOptions::default()
        }
    }
}

pub async fn run(args: Args) -> Result<(), Failure> {
    if args.url.starts_with("http://") || args.url.starts_with("https://") {
        return over_http(args).await;
    }
    let place = args.place.place()?;
    let (gateway, remote) = split_url(&args.url)?;
    let mut signals = Signals::new()?;
    let client = Client::builder(&gateway);
    let client = args.ca_file.iter().fold(client, ClientBuilder::ca_file).connect()?;
    let connection = client.connection_events();
    let store = Store::open(&place.dir)?;
    let database = store.open_or_create(&place.name).await?;
    let mut sync = client.sync(&database, args.options(&remote));
    let ended = follow(&mut sync, Some(connection), &mut signals, args.live).await;
    list_denied(&sync.denied());
    client.close().await;
    store.close().await?;
    conclude(&ended?, args.live)
}

/// The same with CouchDB's HTTP API on the other side.
async fn over_http(args: Args) -> Result<(), Failure> {
    let place = args.place.place()?;
    let mut remote: Remote = args.url.parse()?;
    if let Some(token) = args.token.as_ref().filter(|_| !remote.has_credentials()) {
        remote = remote.bearer(token)?;
    }
    let mut signals = Signals::new()?;
    let store = Store::open(&place.dir)?;
    let database = store.open_or_create(&place.name).await?;
    let mut sync = http_peer::sync(&database, remote, args.http_options());
    let ended = follow(&mut sync, None, &mut signals, args.live).await;
    list_denied(&sync.denied());
    drop(sync);
    store.close().await?;
    conclude(&ended?, args.live)
}

fn conclude(summary: &SyncSummary, live: bool) -> Result<(), Failure> {
    report(summary)?;
    if summary.cancelled && !live { Err(Failure::Cancelled) } else { Ok(()) }
}

/// The gateway's address and the database's name, which is what follows the last slash.
fn split_url(url: &str) -> Result<(String, DbName), Failure> {
    let bad = || Failure::Url { url: url.to_owned() };
    let (gateway, name) = url.rsplit_once('/').ok_or_else(bad)?;
    // What precedes must have more than the scheme: ws://HOST.
    if name.is_empty() || !gateway.contains("://") {
        return Err(bad());
    }
    let name = name.replace("%2F", "/").replace("%2f", "/");
    Ok((gateway.to_owned(), db_name(&name)?))
}

/// Shows what happens until the sync ends, and ends it when a signal comes.
async fn follow(
    sync: &mut Sync,
    mut connection: Option<ClientEvents>,
    signals: &mut Signals,
    live: bool,
) -> Result<SyncSummary, Failure> {
    let mut progress = Progress::new();
    let mut summary = SyncSummary::default();
    let mut status = sync.watch_status();
    let mut offline = false;
    loop {
        let event = tokio::select! {
            event = sync.next() => event,
            () = signals.next() => {
                progress.note("stopping");
                sync.cancel().await;
                continue;
            }
            Ok(()) = status.changed(), if live && connection.is_none() => {
                let now = status.borrow_and_update().clone();
                if now.state == SyncState::Offline && !offline {
                    let cause = now.last_error.unwrap_or_default();
                    progress.note(&format!("offline, trying again: {cause}"));
                }
                offline = now.state == SyncState::Offline;
                continue;
            }
            event = next_of(&mut connection), if live => {
                match event {
                    ClientEvent::Connect => progress.note("connected"),
                    ClientEvent::Disconnect { cause } => {
                        progress.note(&format!("offline, trying again: {cause}"));
                    }
                    _ => {}
                }
                continue;
            }
        };
        match event {
            Some(SyncEvent::Change(change)) => progress.change(&change),
            Some(SyncEvent::Paused { cause: None }) if live => progress.up_to_date(),
            Some(SyncEvent::Complete(complete)) => summary = complete,
            Some(SyncEvent::Error(error)) => {
                progress.end();
                return Err(error.into());
            }
            Some(_) => {}
            None => {
                progress.end();
                return Ok(summary);
            }
        }
    }
}

/// What happens next to a connection, where one is kept.
async fn next_of(connection: &mut Option<ClientEvents>) -> ClientEvent {
    match connection {
        Some(events) => match events.next().await {
            Some(event) => event,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

fn list_denied(denied: &[DeniedDoc]) {
    for denied in denied.iter().take(LISTED_MAX) {
        let (id, error) = (&denied.id, &denied.error);
        let way = match denied.direction {
            Direction::Push => "push",
            Direction::Pull => "pull",
        };
        eprintln!("settee: {way} of document {id} was refused: {}: {}", error.error, error.reason);
    }
    if !denied.is_empty() {
        eprintln!("settee: {} documents were refused and will be tried again", denied.len());
    }
}

fn report(summary: &SyncSummary) -> Result<(), Failure> {
    let mut stdout = std::io::stdout();
    let ways = [("pushed", &summary.push), ("pulled", &summary.pull)];
    for (way, moved) in ways {
        let Some(DirectionSummary { docs_written, doc_write_failures, .. }) = moved else {
            continue;
        };
        writeln!(stdout, "{way} {docs_written} revisions, {doc_write_failures} refused")
            .map_err(Failure::stdout)?;
    }
    let end = if summary.cancelled { "cancelled" } else { "complete" };
    writeln!(stdout, "{end}").map_err(Failure::stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_component_is_the_remote_database() {
        let check = |url: &str, gateway: &str, name: &str| {
            let (found, db) = split_url(url).expect(url);
            assert_eq!((found.as_str(), db.as_str()), (gateway, name), "{url}");
        };
        check("ws://localhost:5984/todos", "ws://localhost:5984", "todos");
        check("ws://h/sync/a%2Fb", "ws://h/sync", "a/b");
        for bad in ["ws://localhost", "localhost/todos", "todos", "ws://h/", "ws://h/Todos"] {
            assert!(split_url(bad).is_err(), "{bad}");
        }
    }
}
