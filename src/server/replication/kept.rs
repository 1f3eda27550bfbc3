//! Continuous jobs on disk: a note of the store for each, with what was asked for and by whom.

use std::net::SocketAddr;
use std::str::FromStr as _;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::doc::{Body, LocalId};
use crate::server::Shared;
use crate::server::auth::Credentials;
use crate::server::life::IgnoredIn;
use crate::store::StoreError;

use super::asked::Replication;
use super::job::{Job, Owner};

/// What the names of these notes begin with.
const PREFIX: &str = "replication/";

/// The format of a note.
const VERSION: u32 = 1;

/// Notes read at a time.
const PAGE_NOTES: usize = 100;

#[derive(Serialize, Deserialize)]
struct Note {
    version: u32,
    /// The body of `_replicate`, secrets included.
    body: Value,
    credentials: Value,
    headers: Vec<(String, String)>,
    peer: Option<SocketAddr>,
    user: Option<String>,
}

fn place(id: &str) -> Result<LocalId, StoreError> {
    let name = format!("{PREFIX}{id}");
    Ok(LocalId::parse(&name, name.len())?)
}

impl Shared {
    /// Keeps a job until it is cancelled; on return it is on disk.
    pub(super) async fn keep(&self, job: &Job) -> Result<(), StoreError> {
        let Owner { credentials, peer, headers } = &job.owner;
        let pair = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.to_string(), value.to_str().ok()?.to_owned()))
        };
        let note = Note {
            version: VERSION,
            body: job.asked.body.clone(),
            credentials: credentials.value().clone(),
            headers: headers.iter().filter_map(pair).collect(),
            peer: *peer,
            user: job.user.clone(),
        };
        self.store.set_note(&place(&job.id)?, Some(Body::from_value(&note)?)).await
    }

    pub(super) async fn keep_no_more(&self, id: &str) -> Result<(), StoreError> {
        self.store.set_note(&place(id)?, None).await
    }

    /// The jobs that were kept. One that cannot be read is told of and left where it is.
    pub(super) async fn kept(&self) -> Vec<(Replication, Owner, Option<String>)> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = match self.store.notes(after.as_ref(), PAGE_NOTES).await {
                Ok(page) => page,
                Err(error) => {
                    self.life.ignored.tell(IgnoredIn::Replications, None, error);
                    return found;
                }
            };
            let Some((last, _)) = page.last() else { return found };
            after = Some(last.clone());
            for (id, body) in page.iter().filter(|(id, _)| id.as_str().starts_with(PREFIX)) {
                match self.read(body) {
                    Ok(kept) => found.push(kept),
                    Err(problem) => {
                        let problem = format!("{} is unreadable: {problem}", id.as_str());
                        self.life.ignored.tell(IgnoredIn::Replications, None, problem);
                    }
                }
            }
        }
    }

    fn read(&self, body: &Body) -> Result<(Replication, Owner, Option<String>), String> {
        let note: Note = body.to().map_err(|error| error.to_string())?;
        if note.version != VERSION {
            return Err(format!("it has version {}", note.version));
        }
        let asked = Replication::read(note.body, self.store.limits());
        let asked = asked.map_err(|error| error.to_string())?;
        let header = |(name, value): &(String, String)| {
            Some((HeaderName::from_str(name).ok()?, HeaderValue::from_str(value).ok()?))
        };
        let headers: HeaderMap = note.headers.iter().filter_map(header).collect();
        let credentials = Credentials::new(note.credentials);
        let owner = Owner { credentials, peer: note.peer, headers: Arc::new(headers) };
        Ok((asked, owner, note.user))
    }
}
