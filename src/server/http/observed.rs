//! What the gateway tells of itself, to who administers it: metrics, and what its page shows.

use std::time::SystemTime;

use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::proto::message::WireError;
use crate::server::error::{HttpRefusal, ToWire as _};
use crate::server::observe::{MetricsAccess, Spoken};

use super::answer::{Answer, json, set};
use super::request::Request;
use super::server_wide::judge;
use super::{only, reads};

/// WebSockets that the page lists; more are only counted.
const CONNECTIONS_MAX: usize = 200;

/// The type of OpenMetrics' text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

async fn check_administer(request: &Request) -> Result<(), WireError> {
    let grant = judge(request).await?;
    if grant.administer { Ok(()) } else { Err(HttpRefusal::MayNotAdministerServer.to_wire()) }
}

/// `/_metrics`.
pub(super) async fn metrics(request: Request) -> Answer {
    if !reads(&request.method) {
        return only("GET,HEAD");
    }
    match &request.shared.metrics_access {
        MetricsAccess::Everybody => {}
        MetricsAccess::Token(token) => check_token(&request, token).await?,
        MetricsAccess::Administrators => check_administer(&request).await?,
    }
    let mut response = warp::reply::Response::new(request.shared.metrics_text().await.into());
    set(&mut response, CONTENT_TYPE, OPEN_METRICS);
    Ok(response)
}

/// Lets in who shows the token or administers the server. A wrong token is a failed login. What the
/// server's authorizer does not know is counted there; what it knows, and denies, here.
async fn check_token(request: &Request, token: &str) -> Result<(), WireError> {
    let address = request.peer.map(|peer| peer.ip());
    let shows_any = !request.credentials()?.value().is_null();
    if shows_any {
        request.shared.logins.check(address).map_err(|refusal| refusal.to_wire())?;
    }
    if shows(request, token) {
        return Ok(());
    }
    let checked = check_administer(request).await;
    if shows_any && checked.as_ref().is_err_and(|error| error.status == 403) {
        request.shared.logins.failed(address);
    }
    checked
}

/// Whether the request shows a token. Digests are compared, so that the time tells nothing of it.
fn shows(request: &Request, token: &str) -> bool {
    let Ok(credentials) = request.credentials() else { return false };
    let shown = credentials["token"].as_str();
    shown.is_some_and(|shown| Sha256::digest(shown).ct_eq(&Sha256::digest(token)).into())
}

/// `/_settee/status`: who is connected, with which databases, and who was denied lately.
pub(super) async fn status(request: Request) -> Answer {
    if !reads(&request.method) {
        return only("GET,HEAD");
    }
    check_administer(&request).await?;
    let shared = &request.shared;
    let roll = shared.observed.roll();
    let count = |spoken| roll.iter().filter(|(_, one)| one.spoken == spoken).count();
    let (active, clients) = shared.life.count();
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "up_s": seconds_since(shared.observed.began),
        "stopping": shared.is_stopping(),
        "poisoned": shared.store.stats().backend.poisoned,
        "connections": {
            "v1": count(Spoken::V1),
            "legacy": count(Spoken::Legacy),
            "http": shared.census.connections().saturating_sub(roll.len()),
        },
        "channels": shared.open_channels().len(),
        "databases": {"active": active, "clients": clients},
        "connected": connected(&request),
        "denials": shared.observed.denials(),
    });
    Ok(json(StatusCode::OK, &body))
}

fn seconds_since(time: SystemTime) -> u64 {
    SystemTime::now().duration_since(time).unwrap_or_default().as_secs()
}

/// The oldest WebSockets, each with its channels.
fn connected(request: &Request) -> Vec<Value> {
    let channels: Vec<(Option<u64>, Value)> = request
        .shared
        .open_channels()
        .iter()
        .map(|channel| {
            let granted = channel.granted();
            let access = granted.access();
            let shown = json!({
                "database": granted.database.name().to_string(),
                "user": access.user,
                "read": access.read,
                "write": access.write,
            });
            (granted.link.number, shown)
        })
        .collect();
    let roll = request.shared.observed.roll();
    let shown = roll.iter().take(CONNECTIONS_MAX).map(|(number, one)| {
        let own = channels.iter().filter(|(of, _)| *of == Some(*number)).map(|(_, one)| one);
        json!({
            "number": number,
            "protocol": one.spoken.name(),
            "peer": one.peer,
            "since_s": seconds_since(one.since),
            "waiting_bytes": one.waiting.bytes(),
            "channels": own.collect::<Vec<_>>(),
        })
    });
    shown.collect()
}
