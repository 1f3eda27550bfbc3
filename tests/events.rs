//! Ephemeral events: who gets them, how often and why; who may send them; what a slow reader loses.

#[path = "support/attending.rs"]
mod attending;
#[path = "support/raw.rs"]
mod raw;

use std::sync::Arc;
use std::time::Duration;

use attending::{attend, event_gateway, guest, identified, join, join_present, send, served};
use futures::{FutureExt as _, StreamExt as _};
use raw::{Came, Raw, Served};
use serde_json::{Value, json};
use settee::Limits;
use settee::proto::event::Targets;
use settee::server::Dispatch;

/// Asserts that the next event is this one and came by these ways.
async fn assert_event(raw: &mut Raw, event: &str, via: Value) {
    let came = raw.json().await;
    assert_eq!((&came[0], &came[1]), (&json!("event"), &json!(event)), "{came}");
    assert_eq!(came[2], json!({"of": event}), "{came}");
    assert_eq!(came[3]["via"], via, "{came}");
}

/// Asserts that nothing waits for a connection but what is sent to everybody now.
async fn assert_nothing_waits(served: &Served, raw: &mut Raw) {
    served.gateway.events().broadcast("end", &json!({"of": "end"})).unwrap();
    assert_event(raw, "end", json!({"broadcast": true})).await;
}

fn assert_refused(answer: &Value, status: u16, reason: &str) {
    assert_eq!(answer["status"], status, "{answer}");
    assert!(answer["reason"].as_str().unwrap().contains(reason), "{answer}");
}

#[tokio::test]
async fn who_identifies_is_told_who_it_is_and_what_it_may() {
    let served = served();
    let (_raw, who) = identified(&served, json!({"token": "room", "user": "anna"})).await;
    assert_eq!(who["id"], "user:anna");
    assert_eq!(who["user"], "anna");
    assert_eq!((&who["joins"], &who["sends"]), (&json!(["room-*"]), &json!(["room-*"])));
    assert_eq!((&who["sends_to_users"], &who["broadcasts"]), (&json!(false), &json!(false)));
    assert_eq!(who["limits"]["event_bytes_max"], 65_536);
    let (_raw, guest) = identified(&served, json!({"token": "listener"})).await;
    let (_raw, other) = identified(&served, json!({"token": "listener"})).await;
    assert_eq!(guest["user"], Value::Null);
    assert_ne!(guest["id"], other["id"]);
}

#[tokio::test]
async fn bad_credentials_identify_nobody_and_the_connection_goes_on() {
    let served = served();
    let mut raw = served.socket().await;
    for (credentials, status) in [
        (json!(null), 401),
        (json!({"token": "wrong"}), 401),
        (json!({"token": "stranger"}), 403),
        (json!("x".repeat(70_000)), 413),
    ] {
        let answer = raw.ask(json!(["identify", credentials])).await;
        assert_eq!(answer[0], "unidentified");
        assert_eq!(answer[1]["status"], status, "{answer}");
    }
    let answer = raw.ask(json!(["identify", {"token": "all"}])).await;
    assert_eq!(answer[0], "identified");
}

#[tokio::test]
async fn without_identity_nothing_is_joined_sent_or_received() {
    let served = served();
    let mut raw = served.socket().await;
    let left = raw.ask(json!(["join", "room-1"])).await;
    assert_eq!(left[0], "left");
    assert_refused(&left[2], 401, "not identified");
    let refused = send(&mut raw, "e", json!({"broadcast": true})).await.unwrap_err();
    assert_refused(&refused, 401, "not identified");
    assert_eq!(served.gateway.events().broadcast("e", &1), Ok(0));
    assert_eq!(raw.ask(json!(["ping", 1])).await, json!(["pong", 1]));
}

#[tokio::test]
async fn every_connection_of_a_user_gets_what_is_for_the_user() {
    let served = served();
    let (mut phone, mut laptop) = (attend(&served, "anna").await, attend(&served, "anna").await);
    let mut other = attend(&served, "bert").await;
    assert_eq!(send(&mut other, "hi", json!({"users": ["anna"]})).await, Ok(2));
    for raw in [&mut phone, &mut laptop] {
        let came = raw.json().await;
        let note = json!({"via": {"user": "anna"}, "from": "user:bert"});
        assert_eq!(came, json!(["event", "hi", {"of": "hi"}, note]));
    }
    assert_nothing_waits(&served, &mut other).await;
}

#[tokio::test]
async fn a_connection_may_be_in_many_channels_and_gets_only_theirs() {
    let served = served();
    let mut raw = guest(&served).await;
    join(&mut raw, &["a", "b", "c"]).await;
    let mut sender = guest(&served).await;
    for channel in ["a", "none", "c"] {
        let reached = send(&mut sender, channel, json!({"channels": [channel]})).await;
        assert_eq!(reached, Ok(u64::from(channel != "none")));
    }
    assert_event(&mut raw, "a", json!({"channels": ["a"]})).await;
    assert_event(&mut raw, "c", json!({"channels": ["c"]})).await;
    assert_nothing_waits(&served, &mut sender).await;
}

#[tokio::test]
async fn who_leaves_a_channel_gets_no_more_of_it() {
    let served = served();
    let mut raw = guest(&served).await;
    join(&mut raw, &["a", "b"]).await;
    assert_eq!(raw.ask(json!(["leave", "a"])).await, json!(["left", "a", null]));
    raw.text(r#"["leave","a"]"#).await;
    let events = served.gateway.events();
    assert_eq!(events.to_channel("a", "no", &1), Ok(0));
    assert_eq!(events.to_channel("b", "yes", &json!({"of": "yes"})), Ok(1));
    assert_event(&mut raw, "yes", json!({"channels": ["b"]})).await;
}

#[tokio::test]
async fn a_connection_that_matches_twice_gets_one_event_and_every_reason() {
    let served = served();
    let mut raw = attend(&served, "anna").await;
    join(&mut raw, &["a", "b"]).await;
    let mut sender = guest(&served).await;
    let targets = json!({"users": ["anna", "anna", "bert"], "channels": ["b", "a", "b", "c"],
        "broadcast": true});
    assert_eq!(send(&mut sender, "e", targets).await, Ok(2));
    let via = json!({"user": "anna", "channels": ["b", "a"], "broadcast": true});
    assert_event(&mut raw, "e", via).await;
    assert_nothing_waits(&served, &mut raw).await;
}

#[tokio::test]
async fn broadcasts_reach_who_has_no_name_too() {
    let served = served();
    let (mut nobody, _) = identified(&served, json!({"token": "listener"})).await;
    let mut sender = attend(&served, "anna").await;
    assert_eq!(send(&mut sender, "e", json!({"broadcast": 1})).await, Ok(2));
    assert_event(&mut nobody, "e", json!({"broadcast": true})).await;
}

#[tokio::test]
async fn a_bare_name_is_as_good_as_a_list() {
    let served = served();
    let mut raw = attend(&served, "anna").await;
    join(&mut raw, &["a"]).await;
    let mut sender = guest(&served).await;
    assert_eq!(send(&mut sender, "u", json!({"users": "anna"})).await, Ok(1));
    assert_eq!(send(&mut sender, "c", json!({"channels": "a"})).await, Ok(1));
    assert_event(&mut raw, "u", json!({"user": "anna"})).await;
    assert_event(&mut raw, "c", json!({"channels": ["a"]})).await;
}

#[tokio::test]
async fn unknown_targets_are_no_error() {
    let served = served();
    let mut sender = guest(&served).await;
    let targets = json!({"users": ["nobody"], "channels": ["nowhere"]});
    assert_eq!(send(&mut sender, "e", targets).await, Ok(0));
}

#[tokio::test]
async fn users_and_channels_are_forgotten_with_their_last_connection() {
    let served = served();
    let mut first = attend(&served, "anna").await;
    let mut second = attend(&served, "anna").await;
    join(&mut first, &["a"]).await;
    join_present(&mut second, "a", json!(1)).await;
    drop(first);
    let mut sender = guest(&served).await;
    while send(&mut sender, "e", json!({"channels": "a"})).await != Ok(1) {}
    drop(second);
    while send(&mut sender, "e", json!({"channels": "a", "users": "anna"})).await != Ok(0) {}
    assert!(served.gateway.events().members("a").is_empty());
}

#[tokio::test]
async fn the_server_program_sends_and_hears_everything() {
    let served = served();
    let events = served.gateway.events();
    let mut heard = events.dispatched();
    let mut raw = attend(&served, "anna").await;
    join(&mut raw, &["a"]).await;
    let payload = json!({"of": "e"});
    assert_eq!(events.to_user("anna", "e", &payload), Ok(1));
    assert_eq!(events.to_channel("a", "e", &payload), Ok(1));
    assert_eq!(events.broadcast("e", &payload), Ok(1));
    let both = Targets::user("anna").and_channel("a");
    assert_eq!(events.send(both.clone(), "e", &payload), Ok(1));
    assert_event(&mut raw, "e", json!({"user": "anna"})).await;
    assert_event(&mut raw, "e", json!({"channels": ["a"]})).await;
    assert_event(&mut raw, "e", json!({"broadcast": true})).await;
    assert_event(&mut raw, "e", json!({"user": "anna", "channels": ["a"]})).await;
    assert_eq!(send(&mut raw, "own", json!({"users": "nobody"})).await, Ok(0));
    let mut came = Vec::new();
    while came.len() < 5 {
        match heard.next().await {
            Some(Dispatch::Event(event)) => came.push(event),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((&came[3].targets, came[3].reached), (&both, 1));
    assert_eq!((came[3].payload.get(), &came[3].from), (r#"{"of":"e"}"#, &None));
    assert_eq!((came[4].event.as_str(), came[4].from.as_deref()), ("own", Some("user:anna")));
}

#[tokio::test]
async fn a_listener_of_the_server_program_is_told_what_it_lost() {
    let served = served();
    let events = served.gateway.events();
    let mut heard = events.dispatched();
    for n in 0..1_124 {
        events.broadcast("e", &n).unwrap();
    }
    assert!(matches!(heard.next().await, Some(Dispatch::Lost(100))));
    let Some(Dispatch::Event(first)) = heard.next().await else { panic!("an event") };
    assert_eq!(first.payload.get(), "100");
}

#[tokio::test]
async fn a_grant_says_what_may_be_joined_and_sent() {
    let served = served();
    let (mut raw, _) = identified(&served, json!({"token": "room", "user": "anna"})).await;
    join(&mut raw, &["room-1"]).await;
    let left = raw.ask(json!(["join", "other"])).await;
    assert_refused(&left[2], 403, "join");
    assert_eq!(send(&mut raw, "e", json!({"channels": "room-2"})).await, Ok(0));
    for (targets, named) in [
        (json!({"channels": ["room-1", "other"]}), "the channel other"),
        (json!({"users": "anna"}), "users"),
        (json!({"broadcast": true, "channels": "room-1"}), "everybody"),
    ] {
        let refused = send(&mut raw, "e", targets).await.unwrap_err();
        assert_refused(&refused, 403, named);
    }
    let (mut listener, _) = identified(&served, json!({"token": "listener"})).await;
    assert_refused(&listener.ask(json!(["join", "room-1"])).await[2], 403, "join");
    assert_nothing_waits(&served, &mut raw).await;
}

#[tokio::test]
async fn the_end_of_a_grant_ends_membership() {
    let served = served();
    let (mut raw, who) = identified(&served, json!({"token": "short", "user": "anna"})).await;
    assert!(who["expires_in_ms"].as_u64().unwrap() <= 10_000);
    join_present(&mut raw, "a", json!(null)).await;
    let mut witness = attend(&served, "bert").await;
    join_present(&mut witness, "a", json!(null)).await;
    assert_eq!(raw.json().await[2], "join");
    let short = json!({"token": "short", "user": "anna", "ms": 200});
    let again = raw.ask(json!(["identify", short])).await;
    assert_eq!((&again[0], &again[1]["channels"]), (&json!("identified"), &json!(["a"])));
    let ended = raw.json().await;
    assert_eq!(ended[0], "unidentified");
    assert_refused(&ended[1], 401, "expired");
    assert_eq!(witness.json().await[2], "leave");
    assert_eq!(served.gateway.events().to_user("anna", "e", &1), Ok(0));
}

#[tokio::test]
async fn revocation_ends_membership_at_once() {
    let served = served();
    let (mut anna, mut bert) = (attend(&served, "anna").await, attend(&served, "bert").await);
    join(&mut anna, &["a"]).await;
    join(&mut bert, &["a"]).await;
    let events = served.gateway.events();
    assert_eq!(events.revoke("gone", |user| user == Some("anna")), 1);
    assert_eq!(events.to_channel("a", "e", &json!({"of": "e"})), Ok(1));
    let ended = anna.json().await;
    assert_eq!(ended[0], "unidentified");
    assert_refused(&ended[1], 401, "gone");
    assert_event(&mut bert, "e", json!({"channels": ["a"]})).await;
    let answer = anna.ask(json!(["identify", {"token": "all"}])).await;
    assert_eq!((&answer[0], &answer[1]["channels"]), (&json!("identified"), &json!([])));
}

#[tokio::test]
async fn other_credentials_keep_what_they_allow() {
    let served = served();
    let mut raw = attend(&served, "anna").await;
    join(&mut raw, &["room-1", "other"]).await;
    let identify = |token: &str, user: &str| json!(["identify", {"token": token, "user": user}]);
    let answer = raw.ask(identify("room", "anna")).await;
    assert_eq!(answer[1]["channels"], json!(["room-1"]));
    assert_eq!(served.gateway.events().to_channel("other", "e", &1), Ok(0));
    let answer = raw.ask(identify("all", "bert")).await;
    assert_eq!((&answer[1]["id"], &answer[1]["channels"]), (&json!("user:bert"), &json!([])));
    assert_eq!(served.gateway.events().to_user("anna", "e", &1), Ok(0));
    assert_eq!(raw.ask(json!(["identify", {"token": "wrong"}])).await[0], "unidentified");
    assert_eq!(served.gateway.events().to_user("bert", "e", &1), Ok(0));
}

/// Reads events numbered by their payload until one with this number; what came and what was lost.
async fn read_until(raw: &mut Raw, last: u64) -> (Vec<u64>, u64) {
    let (mut came, mut lost) = (Vec::new(), 0);
    while came.last() != Some(&last) {
        let message = raw.json().await;
        match message[0].as_str() {
            Some("event") => came.push(message[2]["n"].as_u64().expect("a number")),
            Some("lost") => lost += message[1].as_u64().expect("a count"),
            _ => panic!("{message}"),
        }
    }
    (came, lost)
}

#[tokio::test]
async fn a_slow_reader_loses_the_oldest_and_is_told_how_many() {
    const EVENTS: u64 = 3_000;
    let served = served();
    let (mut slow, mut quick) = (guest(&served).await, guest(&served).await);
    let events = served.gateway.events();
    let reading = tokio::spawn(async move { read_until(&mut quick, EVENTS).await });
    for n in 1..=EVENTS {
        events.broadcast("e", &json!({"n": n, "text": "x".repeat(1_000)})).unwrap();
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    let (came, lost) = read_until(&mut slow, EVENTS).await;
    assert!(lost > EVENTS / 2, "{lost}");
    assert_eq!(came.len() as u64 + lost, EVENTS);
    assert!(came.is_sorted_by(|a, b| a < b));
    // The last of them are all there: what waits is the newest.
    assert!(came.ends_with(&(EVENTS - 100..=EVENTS).collect::<Vec<_>>()));
    let (came, lost) = reading.await.unwrap();
    assert_eq!(came.len() as u64 + lost, EVENTS);
}

#[tokio::test]
async fn what_waits_is_bounded_to_the_byte() {
    // On one thread nothing is written before the test waits, so that all of it must fit.
    let payload = json!({"n": 1});
    let text = json!(["event", "e", payload, {"via": {"broadcast": true}}]).to_string();
    for missing in [0, 1] {
        let event_queue_bytes_max = 10 * (text.len() + 64) - missing;
        let limits = Limits { event_queue_bytes_max, ..Limits::default() };
        let served = Served::new(event_gateway(limits));
        let mut raw = guest(&served).await;
        for n in 0..10 {
            let number = if n == 9 { 9 } else { 1 };
            served.gateway.events().broadcast("e", &json!({"n": number})).unwrap();
        }
        let (came, lost) = read_until(&mut raw, 9).await;
        assert_eq!((came.len(), lost), (10 - missing, missing as u64));
    }
}

#[tokio::test]
async fn a_flood_of_events_does_not_hold_up_documents() {
    let served = served();
    let mut raw = guest(&served).await;
    assert_eq!(raw.ask(json!(["open", 1, {"database": "db", "create": true}])).await[0], "opened");
    let events = served.gateway.events();
    for _ in 0..5_000 {
        events.broadcast("e", &json!({"text": "x".repeat(1_000)})).unwrap();
        tokio::task::yield_now().await;
    }
    raw.text(r#"["call",1,1,"info"]"#).await;
    let mut bytes_before = 0;
    loop {
        let message = raw.json().await;
        if message[0] == "reply" {
            break;
        }
        bytes_before += message.to_string().len();
        events.broadcast("e", &json!({"text": "x".repeat(1_000)})).unwrap();
    }
    // What the connection's buffers held, and not the whole queue behind them.
    assert!(bytes_before < 200_000, "{bytes_before}");
}

#[tokio::test]
async fn events_have_a_size() {
    let limits = Limits { event_bytes_max: 100, ..Limits::default() };
    let served = Served::new(event_gateway(limits));
    let mut raw = guest(&served).await;
    let message = |bytes: usize| {
        // A name of one byte and the quotes of the payload.
        let payload = "x".repeat(bytes - 3);
        json!(["send", 1, {"event": "e", "targets": {"users": "nobody"}, "payload": payload}])
    };
    assert_eq!(raw.ask(message(100)).await[0], "sent");
    let refused = raw.ask(message(101)).await;
    assert_eq!(refused[0], "unsent");
    assert_refused(&refused[2], 413, "101 bytes");
    let events = served.gateway.events();
    assert!(events.broadcast("e", &"x".repeat(97)).is_ok());
    assert!(events.broadcast("e", &"x".repeat(98)).is_err());
}

#[tokio::test]
async fn channels_of_events_are_counted() {
    let limits = Limits { event_channels_per_connection_max: 2, ..Limits::default() };
    let served = Served::new(event_gateway(limits));
    let mut raw = guest(&served).await;
    join(&mut raw, &["a", "b", "b"]).await;
    let left = raw.ask(json!(["join", "c"])).await;
    assert_refused(&left[2], 429, "2 channels");
    assert_eq!(raw.ask(json!(["leave", "a"])).await[0], "left");
    join(&mut raw, &["c"]).await;
}

#[tokio::test]
async fn connections_of_a_user_are_counted_for_events_too() {
    let limits = Limits { connections_per_user_max: 1, ..Limits::default() };
    let served = Served::new(event_gateway(limits));
    let _first = attend(&served, "anna").await;
    let mut second = served.socket().await;
    let answer = second.ask(json!(["identify", {"token": "all", "user": "anna"}])).await;
    assert_eq!(answer[0], "unidentified");
    assert_refused(&answer[1], 429, "connections");
}

#[tokio::test(start_paused = true)]
async fn an_identity_is_as_good_as_a_database_for_staying_connected() {
    let served = served();
    let mut raw = guest(&served).await;
    let mut idle = served.socket().await;
    assert_eq!(idle.closed().await.0, 1008);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(raw.ask(json!(["ping", 1])).await, json!(["pong", 1]));
}

#[tokio::test]
async fn members_see_each_other_come_change_and_go() {
    let served = served();
    let mut anna = attend(&served, "anna").await;
    let member = |user: &str, connections: u64, state: Value| {
        json!({"id": format!("user:{user}"), "user": user, "connections": connections,
            "state": state})
    };
    let there = join_present(&mut anna, "a", json!({"x": 1})).await;
    assert_eq!(there, [member("anna", 1, json!({"x": 1}))]);
    let mut bert = attend(&served, "bert").await;
    let there = join_present(&mut bert, "a", json!(2)).await;
    assert_eq!(there, [member("anna", 1, json!({"x": 1})), member("bert", 1, json!(2))]);
    assert_eq!(anna.json().await, json!(["presence", "a", "join", member("bert", 1, json!(2))]));
    bert.text(r#"["state","a",3]"#).await;
    for raw in [&mut anna, &mut bert] {
        let told = raw.json().await;
        assert_eq!(told, json!(["presence", "a", "state", member("bert", 1, json!(3))]));
    }
    assert_eq!(bert.ask(json!(["leave", "a"])).await, json!(["left", "a", null]));
    assert_eq!(anna.json().await, json!(["presence", "a", "leave", member("bert", 0, json!(3))]));
    assert_eq!(served.gateway.events().members("a").len(), 1);
}

#[tokio::test]
async fn a_user_with_several_connections_is_one_member() {
    let served = served();
    let mut witness = attend(&served, "witness").await;
    join_present(&mut witness, "a", json!(null)).await;
    let mut first = attend(&served, "anna").await;
    join_present(&mut first, "a", json!(1)).await;
    let mut second = attend(&served, "anna").await;
    let there = join_present(&mut second, "a", json!(2)).await;
    assert_eq!(there.len(), 2);
    let mut told = Vec::new();
    drop(first);
    for _ in 0..3 {
        told.push(witness.json().await);
    }
    drop(second);
    told.push(witness.json().await);
    let shown: Vec<_> = told
        .iter()
        .map(|told| (told[2].as_str().unwrap(), &told[3]["connections"], &told[3]["state"]))
        .collect();
    let (zero, one, two) = (json!(0), json!(1), json!(2));
    let expected = [
        ("join", &one, &one),
        ("state", &two, &two),
        ("state", &one, &two),
        ("leave", &zero, &two),
    ];
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn who_joins_without_presence_neither_sees_nor_is_seen() {
    let served = served();
    let mut hidden = attend(&served, "anna").await;
    join(&mut hidden, &["a"]).await;
    let mut bert = attend(&served, "bert").await;
    assert_eq!(join_present(&mut bert, "a", json!(1)).await.len(), 1);
    hidden.text(r#"["state","a",3]"#).await;
    hidden.text(r#"["state","elsewhere",3]"#).await;
    assert_eq!(hidden.ask(json!(["ping", 1])).await, json!(["pong", 1]));
    assert_nothing_waits(&served, &mut hidden).await;
    assert_nothing_waits(&served, &mut bert).await;
}

#[tokio::test]
async fn members_and_their_states_are_bounded() {
    let limits =
        Limits { presence_members_max: 2, presence_state_bytes_max: 10, ..Limits::default() };
    let served = Served::new(event_gateway(limits));
    let mut first = attend(&served, "anna").await;
    join_present(&mut first, "a", json!("x".repeat(8))).await;
    let mut second = guest(&served).await;
    join_present(&mut second, "a", json!(null)).await;
    let mut third = guest(&served).await;
    let left = third.ask(json!(["join", "a", {"presence": true}])).await;
    assert_refused(&left[2], 429, "2 members");
    join(&mut third, &["a"]).await;
    // One more connection of a member is none more.
    let mut again = attend(&served, "anna").await;
    join_present(&mut again, "a", json!(1)).await;
    let over = json!(["join", "b", {"presence": true, "state": "x".repeat(9)}]);
    assert_refused(&third.ask(over).await[2], 413, "11 bytes");
    let over = third.ask(json!(["state", "a", "x".repeat(9)])).await;
    assert_eq!(over[0], "error");
    assert_refused(&over[1], 413, "11 bytes");
}

#[tokio::test]
async fn who_missed_changes_of_presence_is_told_all_members_anew() {
    let served = served();
    let mut slow = attend(&served, "slow").await;
    join_present(&mut slow, "a", json!(0)).await;
    let mut busy = attend(&served, "busy").await;
    join_present(&mut busy, "a", json!(0)).await;
    let events = served.gateway.events();
    for n in 1..=2_000 {
        busy.text(&json!(["state", "a", [n, "x".repeat(500)]]).to_string()).await;
        // The busy one reads, so that it is never behind.
        while busy.json().await[3]["state"][0] != n {}
    }
    events.to_channel("a", "end", &1).unwrap();
    let (mut told, mut latest) = (0, Value::Null);
    loop {
        let message = slow.json().await;
        match message[0].as_str() {
            Some("presence") => latest = message[3]["state"][0].clone(),
            Some("members") => {
                let members = message[2].as_array().unwrap();
                assert_eq!(members.len(), 2);
                latest = members[0]["state"][0].clone();
                told += 1;
            }
            Some("event") => break,
            _ => panic!("{message}"),
        }
    }
    assert_eq!(latest, 2_000);
    assert!(told >= 1);
}

/// A connection of the model: its user and channels.
type Modelled = (Option<usize>, Vec<usize>);

/// Which connections, and which events by users, channels and broadcast.
type Case = (Vec<Modelled>, Vec<(Vec<usize>, Vec<usize>, bool)>);

fn cases() -> impl proptest::strategy::Strategy<Value = Case> {
    use proptest::collection::vec;
    let some = || vec(0..4_usize, 0..4);
    let connection = (proptest::option::of(0..4_usize), some());
    (vec(connection, 1..6), vec((some(), some(), proptest::bool::weighted(0.2)), 1..8))
}

async fn check_against_model((connections, events): Case) {
    let served = served();
    let (user, channel) = (|n: &usize| format!("user-{n}"), |n: &usize| format!("channel-{n}"));
    let mut sockets: Vec<(Raw, Modelled)> = Vec::new();
    for (of, channels) in connections {
        let credentials = json!({"token": "all", "user": of.as_ref().map(user)});
        let (mut raw, _) = identified(&served, credentials).await;
        for name in channels.iter().map(channel) {
            join(&mut raw, &[&name]).await;
        }
        sockets.push((raw, (of, channels)));
    }
    let mut expected = vec![Vec::new(); sockets.len()];
    for (n, (users, channels, broadcast)) in events.iter().enumerate() {
        if users.is_empty() && channels.is_empty() && !broadcast {
            continue;
        }
        let mut reached = 0;
        for ((_, (of, joined)), expected) in sockets.iter().zip(&mut expected) {
            let mut via = json!({});
            if let Some(of) = of.as_ref().filter(|of| users.contains(of)) {
                via["user"] = json!(user(of));
            }
            let mut ways: Vec<&usize> = Vec::new();
            for name in channels.iter().filter(|name| joined.contains(name)) {
                if !ways.contains(&name) {
                    ways.push(name);
                }
            }
            if !ways.is_empty() {
                via["channels"] = ways.into_iter().map(channel).collect();
            }
            if *broadcast {
                via["broadcast"] = json!(true);
            }
            if via != json!({}) {
                expected.push(json!(["event", "e", n, {"via": via}]));
                reached += 1;
            }
        }
        let targets = Targets {
            users: users.iter().map(user).collect(),
            channels: channels.iter().map(channel).collect(),
            broadcast: *broadcast,
        };
        assert_eq!(served.gateway.events().send(targets, "e", &n), Ok(reached));
    }
    served.gateway.events().broadcast("end", &0).unwrap();
    for ((raw, _), expected) in sockets.iter_mut().zip(expected) {
        for event in expected {
            assert_eq!(raw.json().await, event);
        }
        assert_eq!(raw.json().await[1], "end");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn every_event_comes_at_most_once_with_every_reason(case in cases()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check_against_model(case));
    }
}

#[tokio::test]
async fn events_end_with_the_gateway() {
    let served: Arc<Served> = served();
    let mut raw = guest(&served).await;
    served.stop();
    assert!(matches!(raw.next().await, Came::Close(1012, _)));
    assert!(served.gateway.events().dispatched().next().now_or_never().is_none());
}
