//! `POST /_settee/events`: a backend sends an event.

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::proto::event::{NAME_BYTES_MAX, SendRequest, TARGETS_MAX, Targets, object};
use crate::proto::message::CREDENTIALS_BYTES_MAX;
use crate::server::auth::Credentials;
use crate::server::events::Sender;

use super::answer::{Answer, json};
use super::only;
use super::request::{Request, parse_json};
use super::server_wide::judge_with;

/// More than what targets and credentials take beside the event.
const REST_BYTES_MAX: usize = TARGETS_MAX * (NAME_BYTES_MAX + 8) + CREDENTIALS_BYTES_MAX;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    #[serde(default)]
    auth: Value,
    event: String,
    #[serde(deserialize_with = "object")]
    targets: Targets,
    #[serde(default)]
    payload: Option<Box<RawValue>>,
}

pub(super) async fn route(mut request: Request) -> Answer {
    if request.method != Method::POST {
        return only("POST");
    }
    request.check_json()?;
    let max = request.shared.limits.event_bytes_max.saturating_add(REST_BYTES_MAX);
    let text = request.text_body_of(max).await?;
    let Push { auth, event, targets, payload } = parse_json(&text)?;
    // What the request itself shows comes first.
    let shown = request.credentials()?;
    let credentials = if shown.value().is_null() { Credentials::new(auth) } else { shown };
    let grant = judge_with(&request, credentials).await?;
    let event = SendRequest { event, targets, payload };
    let reached = request.shared.events.send(&Sender::Backend(&grant), &event)?;
    Ok(json(StatusCode::OK, &json!({"ok": true, "reached": reached})))
}
