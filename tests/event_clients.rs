//! The Rust client's events: what is replayed after a lost connection, what fails, what is lost.

#[path = "support/attending.rs"]
mod attending;
#[path = "support/network.rs"]
mod network;
#[path = "support/raw.rs"]
mod raw;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use attending::{attend, event_gateway, join_present, served};
use futures::StreamExt as _;
use network::Network;
use raw::Served;
use serde_json::{Value, json};
use settee::client::{CredentialsSource, EventItem, Events, EventsError};
use settee::proto::event::{PresenceChange, Targets};
use settee::{Client, Limits};

fn client(served: &Served) -> Client {
    let connector = served.connector.clone();
    Client::builder("ws://gateway").connector(connector).connect().expect("a good address")
}

fn credentials(user: &str) -> Value {
    json!({"token": "all", "user": user})
}

/// The next event's name and payload, and what came before it.
async fn next_event(events: &mut Events) -> (String, Value) {
    loop {
        match events.next().await.expect("the stream goes on") {
            EventItem::Event { event, payload, .. } => {
                return (event, serde_json::from_str(payload.get()).expect("JSON"));
            }
            EventItem::Lost(count) => panic!("{count} were lost"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_client_joins_sends_and_receives() {
    let served = served();
    let (one, other) = (client(&served), client(&served));
    let mut anna = one.events(credentials("anna"));
    let bert = other.events(credentials("bert"));
    anna.join("a").await.unwrap();
    let targets = Targets::channel("a").and_user("anna");
    assert_eq!(bert.send(targets, "hi", &json!({"n": 1})).await, Ok(1));
    let note = loop {
        if let EventItem::Event { event, payload, note } = anna.next().await.unwrap() {
            assert_eq!((event.as_str(), payload.get()), ("hi", r#"{"n":1}"#));
            break note;
        }
    };
    assert_eq!(note.from.as_deref(), Some("user:bert"));
    assert_eq!((note.via.user.as_deref(), note.via.channels), (Some("anna"), vec!["a".into()]));
    anna.leave("a");
    // The gateway takes messages of one connection in order.
    anna.send(Targets::user("nobody"), "e", &0).await.unwrap();
    assert_eq!(bert.send(Targets::channel("a"), "no", &0).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn identity_channels_and_state_are_replayed_after_a_lost_connection() {
    let served = served();
    let network = Network::new(served.connector.clone());
    let client = network.client();
    let mut events = client.events(credentials("anna"));
    events.join("plain").await.unwrap();
    assert_eq!(events.join_present("a", &1).await.unwrap().len(), 1);
    events.set_state("a", &2).unwrap();
    let mut witness = attend(&served, "witness").await;
    // Its state came before the witness asked, since its message was taken before.
    events.send(Targets::user("nobody"), "e", &0).await.unwrap();
    let there = join_present(&mut witness, "a", json!(null)).await;
    assert_eq!(there[0]["state"], 2);
    network.cut();
    assert_eq!(witness.json().await[2], "leave");
    let back = witness.json().await;
    assert_eq!((&back[2], &back[3]["state"]), (&json!("join"), &json!(2)));
    let gateway = served.gateway.events();
    while gateway.to_channel("plain", "again", &1) != Ok(1) {
        tokio::task::yield_now().await;
    }
    assert_eq!(next_event(&mut events).await.0, "again");
}

#[tokio::test]
async fn presence_is_told_and_remembered() {
    let served = served();
    let client = client(&served);
    let mut events = client.events(credentials("anna"));
    assert_eq!(events.join_present("a", &json!({"x": 1})).await.unwrap().len(), 1);
    let mut bert = attend(&served, "bert").await;
    join_present(&mut bert, "a", json!("here")).await;
    let member = loop {
        if let EventItem::Presence { change, member, .. } = events.next().await.unwrap() {
            assert_eq!(change, PresenceChange::Join);
            break member;
        }
    };
    assert_eq!((member.id.as_str(), member.state.get()), ("user:bert", "\"here\""));
    assert_eq!(events.members("a").len(), 2);
    drop(bert);
    while !matches!(events.next().await.unwrap(), EventItem::Presence { .. }) {}
    assert_eq!(events.members("a").len(), 1);
}

#[tokio::test]
async fn what_is_not_allowed_fails_and_the_rest_goes_on() {
    let served = served();
    let client = client(&served);
    let events = client.events(json!({"token": "room", "user": "anna"}));
    let Err(EventsError::Refused(error)) = events.join("other").await else { panic!("refused") };
    assert_eq!(error.status, 403);
    let Err(EventsError::Refused(error)) = events.send(Targets::everybody(), "e", &0).await else {
        panic!("refused")
    };
    assert_eq!(error.status, 403);
    let large = "x".repeat(70_000);
    let sent = events.send(Targets::channel("room-1"), "e", &large).await;
    assert!(matches!(sent, Err(EventsError::Event(_))), "{sent:?}");
    events.join_present("room-1", &0).await.unwrap();
    assert!(events.set_state("room-1", &"x".repeat(2_000)).is_err());
    assert_eq!(events.send(Targets::channel("room-1"), "e", &0).await, Ok(1));
}

#[tokio::test]
async fn refused_credentials_fail_what_waits_for_them() {
    let served = served();
    let client = client(&served);
    let mut events = client.events(CredentialsSource::None);
    let (joined, sent) = tokio::join!(events.join("a"), events.send(Targets::everybody(), "e", &0));
    for result in [joined.map(|()| 0), sent] {
        let Err(EventsError::Refused(error)) = result else { panic!("{result:?}") };
        assert_eq!(error.status, 401);
    }
    assert!(matches!(events.next().await, Some(EventItem::Unidentified(_))));
    assert!(events.join("b").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn credentials_are_asked_for_again_after_a_refusal_and_before_a_grant_ends() {
    let served = served();
    let client = client(&served);
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let ask = Arc::new(move || -> futures::future::BoxFuture<'static, Value> {
        let token = if counter.fetch_add(1, Ordering::SeqCst) == 0 { "wrong" } else { "short" };
        Box::pin(async move { json!({"token": token, "user": "anna", "ms": 600_000}) })
    });
    let mut events = client.events(CredentialsSource::Ask(ask));
    events.join("a").await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    let mut identified = 0;
    while identified < 3 {
        match events.next().await.unwrap() {
            EventItem::Identified(who) => {
                identified += 1;
                assert_eq!(who.channels.len(), usize::from(identified > 1), "membership stays");
            }
            EventItem::Unidentified(error) => assert_eq!((error.status, identified), (401, 0)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_revoked_client_asks_anew_and_joins_again() {
    let served = served();
    let client = client(&served);
    let mut events = client.events(credentials("anna"));
    events.join("a").await.unwrap();
    let gateway = served.gateway.events();
    assert_eq!(gateway.revoke("for a moment", |user| user == Some("anna")), 1);
    while gateway.to_channel("a", "again", &json!(1)) != Ok(1) {
        tokio::task::yield_now().await;
    }
    assert_eq!(next_event(&mut events).await.0, "again");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_told_what_it_lost() {
    const EVENTS: u64 = 4_000;
    let limits = Limits { event_queue_bytes_max: 100_000_000, ..Limits::default() };
    let served = Served::new(event_gateway(limits));
    let client = client(&served);
    let mut events = client.events(credentials("anna"));
    events.join("a").await.unwrap();
    for n in 1..=EVENTS {
        let payload = json!({"n": n, "text": "x".repeat(1_000)});
        served.gateway.events().to_user("anna", "e", &payload).unwrap();
    }
    // The answer comes behind none of them, so wait for the last by its effect.
    let (mut came, mut lost, mut last) = (0, 0, 0);
    let mut is_first = true;
    while last < EVENTS {
        if std::mem::take(&mut is_first) {
            for _ in 0..20_000 {
                tokio::task::yield_now().await;
            }
        }
        match events.next().await.unwrap() {
            EventItem::Event { payload, .. } => {
                came += 1;
                let payload: Value = serde_json::from_str(payload.get()).unwrap();
                let n = payload["n"].as_u64().unwrap();
                assert!(n > last);
                last = n;
            }
            EventItem::Lost(count) => lost += count,
            // It came before all of them and is lost with the oldest.
            EventItem::Identified(_) => came += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(lost > 0);
    assert!((EVENTS..=EVENTS + 1).contains(&(came + lost)), "{came} and {lost}");
}

#[tokio::test]
async fn a_second_call_ends_the_first_and_a_closed_client_ends_all() {
    let served = served();
    let client = client(&served);
    let mut first = client.events(credentials("anna"));
    first.join("a").await.unwrap();
    let mut second = client.events(credentials("bert"));
    while first.next().await.is_some() {}
    assert!(matches!(first.join("b").await, Err(EventsError::Disconnected { .. })));
    second.join("c").await.unwrap();
    assert_eq!(served.gateway.events().to_channel("a", "e", &0), Ok(0));
    client.close().await;
    while second.next().await.is_some() {}
    let sent = second.send(Targets::everybody(), "e", &0).await;
    assert!(matches!(sent, Err(EventsError::Disconnected { .. })), "{sent:?}");
}
