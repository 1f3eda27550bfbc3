//! What administers a database: who may use it, how much of it is kept.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use crate::doc::{DbName, DocId, Rev};
use crate::proto::call::RevsDiffAsked;
use crate::proto::message::WireError;
use crate::server::error::{HttpRefusal, ToWire as _, bad_request};
use crate::server::life::IgnoredIn;
use crate::server::observe::{Act, Link};
use crate::server::security::Security;
use crate::store::{CompactOptions, Database};

use super::answer::{Answer, json, json_text, ok};
use super::db::{Db, rev};
use super::request::parse_json;
use super::{only, reads};

fn check_admin(db: &Db) -> Result<(), WireError> {
    if db.granted.grant.administer { Ok(()) } else { Err(HttpRefusal::MayNotAdminister.to_wire()) }
}

/// Tells who administered the database.
pub(super) fn administered(db: &Db, what: &'static str) {
    db.request.link.did(&db.granted.grant, Act::Administered { what });
}

/// `_security`: read by whoever may open the database, set by who administers it.
pub(super) async fn security(mut db: Db) -> Answer {
    match &db.request.method {
        method if reads(method) => Ok(json_text(StatusCode::OK, Security::text_of(db.database()))),
        &Method::PUT => {
            check_admin(&db)?;
            let text = db.text_body().await?;
            let security: Security = parse_json(&text)?;
            let granted = db.writable()?;
            db.request.shared.set_security(&granted.database, &security).await?;
            administered(&db, "security");
            Ok(json(StatusCode::OK, &ok()))
        }
        _ => only("GET,HEAD,PUT"),
    }
}

pub(super) async fn revs_limit(mut db: Db) -> Answer {
    match &db.request.method {
        method if reads(method) => {
            Ok(json_text(StatusCode::OK, db.database().revs_limit().to_string()))
        }
        &Method::PUT => {
            check_admin(&db)?;
            let text = db.text_body().await?;
            let limit: Option<NonZeroU32> = serde_json::from_str(text.trim()).ok();
            let limit =
                limit.ok_or_else(|| bad_request("`revs_limit` must be a positive integer"))?;
            let set = db.writable()?.database.set_revs_limit(limit).await;
            set.map_err(|error| error.to_wire())?;
            administered(&db, "revs_limit");
            Ok(json(StatusCode::OK, &ok()))
        }
        _ => only("GET,HEAD,PUT"),
    }
}

pub(super) async fn purge(mut db: Db) -> Answer {
    if db.request.method != Method::POST {
        return only("POST");
    }
    check_admin(&db)?;
    let RevsDiffAsked(asked) = db.json_body().await?;
    let mut wanted: Vec<(DocId, Vec<Rev>)> = Vec::with_capacity(asked.len());
    for (id, revs) in asked {
        let revs = revs.iter().map(|text| rev(text)).collect::<Result<_, _>>()?;
        wanted.push((db.doc_id(&id)?, revs));
    }
    let purged = db.writable()?.database.purge(&wanted).await;
    let purged = purged.map_err(|error| error.to_wire())?;
    administered(&db, "purge");
    let text = |revs: Vec<Rev>| revs.iter().map(ToString::to_string).collect();
    let purged: BTreeMap<String, Vec<String>> =
        purged.into_iter().map(|one| (one.id.to_string(), text(one.revs))).collect();
    Ok(json(StatusCode::CREATED, &json!({"purge_seq": null, "purged": purged})))
}

pub(super) async fn compact(mut db: Db) -> Answer {
    if db.request.method != Method::POST {
        return only("POST");
    }
    check_admin(&db)?;
    let _: Value = db.json_body_if_any().await?;
    db.request.shared.compactions.begin(&db.writable()?.database, Arc::clone(&db.request.link));
    administered(&db, "compact");
    Ok(json(StatusCode::ACCEPTED, &ok()))
}

/// Removes the rows of indexes that no design document defines.
pub(super) async fn view_cleanup(mut db: Db) -> Answer {
    if db.request.method != Method::POST {
        return only("POST");
    }
    check_admin(&db)?;
    let _: Value = db.json_body_if_any().await?;
    let cleaned = db.writable()?.database.clean_indexes().await;
    cleaned.map_err(|error| error.to_wire())?;
    administered(&db, "view_cleanup");
    Ok(json(StatusCode::ACCEPTED, &ok()))
}

/// Views are not built here, so there is nothing of them to compact.
pub(super) async fn nothing_to_do(mut db: Db) -> Answer {
    if db.request.method != Method::POST {
        return only("POST");
    }
    check_admin(&db)?;
    let _: Value = db.json_body_if_any().await?;
    Ok(json(StatusCode::ACCEPTED, &ok()))
}

/// Compactions under way, one for each database at most; they end with the gateway.
#[derive(Debug, Default)]
pub(crate) struct Compactions {
    running: Mutex<HashMap<DbName, AbortHandle>>,
}

impl Compactions {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DbName, AbortHandle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn runs(&self, name: &DbName) -> bool {
        self.lock().get(name).is_some_and(|running| !running.is_finished())
    }

    /// The databases that are being compacted.
    pub(super) fn names(&self) -> Vec<DbName> {
        let running = self.lock();
        let at_it = running.iter().filter(|(_, running)| !running.is_finished());
        at_it.map(|(name, _)| name.clone()).collect()
    }

    fn begin(&self, database: &Database, link: Arc<Link>) {
        let mut running = self.lock();
        running.retain(|_, running| !running.is_finished());
        if running.contains_key(database.name()) {
            return;
        }
        let compacted = database.clone();
        let task = tokio::spawn(async move {
            let name = compacted.name();
            match compacted.compact(CompactOptions::default()).await {
                Ok(report) => tracing::info!(%name, ?report, "compacted"),
                Err(error) => link.ignored(IgnoredIn::Compaction, name, error.to_string()),
            }
        });
        running.insert(database.name().clone(), task.abort_handle());
    }
}

impl Drop for Compactions {
    fn drop(&mut self) {
        self.lock().values().for_each(AbortHandle::abort);
    }
}
