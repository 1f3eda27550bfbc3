//! A gateway for events, and connections that have identified themselves to it.
#![allow(dead_code, reason = "each test file uses some of these")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use settee::server::{AccessRequest, Denied, Gateway, GatewayBuilder, Grant};
use settee::server::{ServerGrant, ServerRequest};
use settee::{Limits, Store};

use crate::raw::{Raw, Served};

/// The token `all` may everything, `room` may join and send to channels that begin with `room-`,
/// `listener` may nothing but be there, `short` is `all` for a time; `user` names the user.
pub fn event_gateway(limits: Limits) -> GatewayBuilder {
    Gateway::builder(Store::memory())
        .limits(limits)
        .authorizer(|request: AccessRequest| async move {
            Ok::<_, Denied>(Grant::database(request.database).creating())
        })
        .server_authorizer(|request: ServerRequest| async move {
            let grant = ServerGrant::known();
            let all = |grant: ServerGrant| {
                grant.joining("*").sending("*").sending_to_users().broadcasting()
            };
            let grant = match request.credentials["token"].as_str() {
                Some("all") => all(grant),
                Some("short") => {
                    let ms = request.credentials["ms"].as_u64().unwrap_or(10_000);
                    all(grant).expires_in(Duration::from_millis(ms))
                }
                Some("room") => grant.joining("room-*").sending("room-*"),
                Some("listener") => grant,
                Some("stranger") => return Err(Denied::forbidden("not for you")),
                _ => return Err(Denied::new("who are you?")),
            };
            Ok(match request.credentials["user"].as_str() {
                Some(user) => grant.user(user),
                None => grant,
            })
        })
}

pub fn served() -> Arc<Served> {
    Served::new(event_gateway(Limits::default()))
}

/// A connection that has identified itself, and as whom.
pub async fn identified(served: &Served, credentials: Value) -> (Raw, Value) {
    let mut raw = served.socket().await;
    let answer = raw.ask(json!(["identify", credentials])).await;
    assert_eq!(answer[0], "identified", "{answer}");
    let who = answer[1].clone();
    (raw, who)
}

/// One of a user's connections that may everything.
pub async fn attend(served: &Served, user: &str) -> Raw {
    identified(served, json!({"token": "all", "user": user})).await.0
}

/// One that may everything and has no name.
pub async fn guest(served: &Served) -> Raw {
    identified(served, json!({"token": "all"})).await.0
}

/// Joins channels without presence.
pub async fn join(raw: &mut Raw, channels: &[&str]) {
    for channel in channels {
        assert_eq!(raw.ask(json!(["join", channel])).await, json!(["joined", channel, null]));
    }
}

/// Joins a channel with presence; who is there.
pub async fn join_present(raw: &mut Raw, channel: &str, state: Value) -> Vec<Value> {
    let options = json!({"presence": true, "state": state});
    let answer = raw.ask(json!(["join", channel, options])).await;
    assert_eq!((&answer[0], &answer[1]), (&json!("joined"), &json!(channel)), "{answer}");
    answer[2].as_array().expect("a list of members").clone()
}

/// Sends an event; how many connections it reached, or the error.
pub async fn send(raw: &mut Raw, event: &str, targets: Value) -> Result<u64, Value> {
    let message = json!({"event": event, "targets": targets, "payload": {"of": event}});
    raw.text(&json!(["send", 1, message]).to_string()).await;
    loop {
        let answer = raw.json().await;
        match answer[0].as_str() {
            Some("sent") => return Ok(answer[2]["reached"].as_u64().expect("a count")),
            Some("unsent") => return Err(answer[2].clone()),
            // The sender may be among those whom it reaches.
            Some("event") => {}
            _ => panic!("{answer}"),
        }
    }
}
