//! `_replicate` and what is seen of it: `_scheduler`, `_active_tasks`.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::proto::message::WireError;
use crate::server::error::{HttpRefusal, Refusal, ToWire as _};
use crate::server::observe::Act;
use crate::server::replication::{
    Asked, Job, Owner, Replication, State, completed, described, task,
};

use super::answer::{Answer, json};
use super::request::Request;
use super::{only, reads};

/// CouchDB's default for how many rows `_scheduler` shows.
const JOBS_SHOWN: u64 = 100;

impl Owner {
    fn of(request: &Request) -> Result<Self, WireError> {
        Ok(Self {
            credentials: request.credentials()?,
            peer: request.peer,
            headers: Arc::clone(&request.shown_headers),
        })
    }
}

/// Asks for the right to replicate, and counts the request for its user, whom it returns.
async fn check_replicate(request: &Request) -> Result<Option<String>, WireError> {
    let user = Owner::of(request)?.check_replicate(&request.shared).await?;
    request.count_for(user.as_deref())?;
    Ok(user)
}

pub(super) async fn replicate(mut request: Request) -> Answer {
    if request.method != Method::POST {
        return only("POST");
    }
    let owner = Owner::of(&request)?;
    let body: Value = request.json_body().await?;
    match Asked::read(body, request.shared.store.limits())? {
        Asked::Start(asked) => start(&request, owner, asked).await,
        Asked::Cancel(asked) => {
            // Who may make it may end it.
            let user = owner.check(&request.shared, &asked).await?;
            request.count_for(user.as_deref())?;
            let store = request.shared.store.uuid();
            let id = asked.id(store, user.as_deref(), &owner.credentials);
            cancel(&request, &id, user).await
        }
        Asked::CancelId(id) => {
            let user = check_replicate(&request).await?;
            cancel(&request, &id, user).await
        }
    }
}

async fn start(request: &Request, owner: Owner, asked: Replication) -> Answer {
    let shared = &request.shared;
    let user = owner.check(shared, &asked).await?;
    request.count_for(user.as_deref())?;
    let job = shared.replicate(asked, owner, user).await?;
    told(request, job.user.as_deref(), "replicate");
    if job.asked.continuous {
        return Ok(json(StatusCode::ACCEPTED, &json!({"ok": true, "_local_id": job.id})));
    }
    let failed = job.ended().await;
    shared.replications.forget(&job);
    match (failed, job.state()) {
        (Some(error), _) => Err(error),
        (None, State::Completed) => Ok(json(StatusCode::OK, &completed(&job))),
        (None, _) if *shared.stopping.borrow() => Err(Refusal::Stopping.to_wire()),
        (None, _) => Err(HttpRefusal::ReplicationCancelled.to_wire()),
    }
}

/// Tells who made a job or ended it.
fn told(request: &Request, user: Option<&str>, what: &'static str) {
    request.link.tell(user, None, Act::Administered { what });
}

async fn cancel(request: &Request, id: &str, user: Option<String>) -> Answer {
    let job = find(request, id)?;
    request.shared.cancel(&job).await?;
    told(request, user.as_deref(), "cancel_replication");
    Ok(json(StatusCode::OK, &json!({"ok": true, "_local_id": job.id})))
}

fn find(request: &Request, id: &str) -> Result<Arc<Job>, WireError> {
    let job = request.shared.replications.find(id);
    job.ok_or_else(|| HttpRefusal::NoReplication.to_wire())
}

pub(super) async fn scheduler(request: Request, path: &[&str]) -> Answer {
    check_replicate(&request).await?;
    if !reads(&request.method) {
        return only("GET,HEAD");
    }
    match *path {
        ["jobs"] => jobs(&request),
        ["jobs", id] => Ok(json(StatusCode::OK, &described(&*find(&request, id)?))),
        // Jobs come from `_replicate` alone.
        ["docs"] => Ok(json(StatusCode::OK, &json!({"total_rows": 0, "offset": 0, "docs": []}))),
        _ => Err(Refusal::NoRoute.to_wire()),
    }
}

fn jobs(request: &Request) -> Answer {
    let jobs = request.shared.replications.list();
    let skip = request.query.count("skip")?.unwrap_or(0);
    let limit = request.query.count("limit")?.unwrap_or(JOBS_SHOWN);
    let total = jobs.len() as u64;
    let shown = jobs.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX));
    let shown = shown.take(usize::try_from(limit).unwrap_or(usize::MAX));
    let rows: Vec<Value> = shown.map(|job| described(job)).collect();
    let body = json!({"total_rows": total, "offset": skip.min(total), "jobs": rows});
    Ok(json(StatusCode::OK, &body))
}

pub(super) async fn active_tasks(request: Request) -> Answer {
    check_replicate(&request).await?;
    if !reads(&request.method) {
        return only("GET,HEAD");
    }
    let jobs = request.shared.replications.list();
    let running = jobs.iter().filter(|job| !job.has_ended()).map(|job| task(job));
    let compactions = request.shared.compactions.names();
    let compacting = compactions.iter().map(|name| {
        json!({"type": "database_compaction", "database": name.as_str(), "node": null, "pid": null})
    });
    let tasks: Vec<Value> = running.chain(compacting).collect();
    Ok(json(StatusCode::OK, &Value::Array(tasks)))
}
