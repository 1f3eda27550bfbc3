//! The grammar of the messages about events.

use serde::de::DeserializeOwned;

use super::ProtocolError;
use super::event::{EventNotice, EventRequest, JoinOptions, Reached, name_of};
use super::message::{CREDENTIALS_BYTES_MAX, Elements, element, null, number, print, raw};

/// A channel's name: not empty, not too long.
fn channel(elements: &Elements<'_>) -> Option<String> {
    name_of(elements.0.first()?.get()).ok()
}

/// An element that is an object: a list, which serde would take for one, is none.
fn object_at<T: DeserializeOwned>(elements: &Elements<'_>, place: usize) -> Option<T> {
    elements.0.get(place).filter(|text| text.get().starts_with('{'))?;
    element(elements, place)
}

impl EventRequest {
    /// Reads a message of a verb; `None` if it is not about events.
    pub(super) fn parse(verb: &str, rest: &Elements<'_>) -> Option<Result<Self, ProtocolError>> {
        let malformed = |verb, expected| ProtocolError::Malformed { verb, expected };
        Some(match verb {
            "identify" => {
                let max = CREDENTIALS_BYTES_MAX;
                if rest.0.first().is_some_and(|text| text.get().len() > max) {
                    return Some(Err(ProtocolError::IdentityTooLarge { max }));
                }
                element(rest, 0)
                    .map(|credentials| Self::Identify { credentials })
                    .ok_or(malformed("identify", "[\"identify\", ANY]"))
            }
            "join" => (|| {
                let options = match rest.0.get(1) {
                    Some(_) => object_at(rest, 1)?,
                    None => JoinOptions::default(),
                };
                Some(Self::Join { channel: channel(rest)?, options })
            })()
            .ok_or(malformed("join", "[\"join\", NAME, {\"presence\": BOOL, \"state\": ANY}]")),
            "leave" => channel(rest)
                .map(|channel| Self::Leave { channel })
                .ok_or(malformed("leave", "[\"leave\", NAME]")),
            "state" => (|| Some(Self::State { channel: channel(rest)?, state: raw(rest, 1)? }))()
                .ok_or(malformed("state", "[\"state\", NAME, ANY]")),
            "send" => (|| {
                Some(Self::Send { number: number(rest, 0)?, request: object_at(rest, 1)? })
            })()
            .ok_or(malformed(
                "send",
                "[\"send\", NUMBER, {\"event\": NAME, \"targets\": {\"users\", \"channels\", \
                         \"broadcast\"}, \"payload\": ANY}]",
            )),
            _ => return None,
        })
    }

    pub(super) fn encode(&self) -> String {
        match self {
            Self::Identify { credentials } => print(&("identify", credentials)),
            Self::Join { channel, options } => print(&("join", channel, options)),
            Self::Leave { channel } => print(&("leave", channel)),
            Self::State { channel, state } => print(&("state", channel, state)),
            Self::Send { number, request } => print(&("send", number, request)),
        }
    }
}

impl EventNotice {
    /// Reads a message of a verb; `None` if it is not about events.
    pub(super) fn parse(verb: &str, rest: &Elements<'_>) -> Option<Result<Self, ProtocolError>> {
        let malformed = |verb, expected| ProtocolError::Malformed { verb, expected };
        let name = || element::<String>(rest, 0);
        Some(match verb {
            "identified" => element(rest, 0)
                .map(|who| Self::Identified(Box::new(who)))
                .ok_or(malformed("identified", "[\"identified\", {...}]")),
            "unidentified" => element(rest, 0)
                .map(|error| Self::Unidentified { error })
                .ok_or(malformed("unidentified", "[\"unidentified\", ERROR]")),
            "joined" => (|| Some(Self::Joined { channel: name()?, members: element(rest, 1)? }))()
                .ok_or(malformed("joined", "[\"joined\", NAME, MEMBERS]")),
            "left" => (|| {
                Some(Self::Left { channel: name()?, error: element(rest, 1).unwrap_or_default() })
            })()
            .ok_or(malformed("left", "[\"left\", NAME, ERROR]")),
            "sent" => (|| {
                let Reached { reached } = element(rest, 1)?;
                Some(Self::Sent { number: number(rest, 0)?, reached })
            })()
            .ok_or(malformed("sent", "[\"sent\", NUMBER, {\"reached\": COUNT}]")),
            "unsent" => {
                (|| Some(Self::Unsent { number: number(rest, 0)?, error: element(rest, 1)? }))()
                    .ok_or(malformed("unsent", "[\"unsent\", NUMBER, ERROR]"))
            }
            "event" => (|| {
                let payload = raw(rest, 1).unwrap_or_else(null);
                Some(Self::Event { event: name()?, payload, note: element(rest, 2)? })
            })()
            .ok_or(malformed("event", "[\"event\", NAME, PAYLOAD, NOTE]")),
            "presence" => (|| {
                let (change, member) = (element(rest, 1)?, element(rest, 2)?);
                Some(Self::Presence { channel: name()?, change, member })
            })()
            .ok_or(malformed("presence", "[\"presence\", NAME, CHANGE, MEMBER]")),
            "members" => {
                (|| Some(Self::Members { channel: name()?, members: element(rest, 1)? }))()
                    .ok_or(malformed("members", "[\"members\", NAME, MEMBERS]"))
            }
            "lost" => element(rest, 0)
                .map(|events| Self::Lost { events })
                .ok_or(malformed("lost", "[\"lost\", COUNT]")),
            _ => return None,
        })
    }

    /// The text to send.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Identified(who) => print(&("identified", who)),
            Self::Unidentified { error } => print(&("unidentified", error)),
            Self::Joined { channel, members } => print(&("joined", channel, members)),
            Self::Left { channel, error } => print(&("left", channel, error)),
            Self::Sent { number, reached } => {
                print(&("sent", number, Reached { reached: *reached }))
            }
            Self::Unsent { number, error } => print(&("unsent", number, error)),
            Self::Event { event, payload, note } => print(&("event", event, payload, note)),
            Self::Presence { channel, change, member } => {
                print(&("presence", channel, change, member))
            }
            Self::Members { channel, members } => print(&("members", channel, members)),
            Self::Lost { events } => print(&("lost", events)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{EventNote, SendRequest, Via, event_and_payload, event_text};
    use super::super::message::{ClientMessage, ServerMessage};
    use super::*;

    #[test]
    fn requests_print_as_they_were_read() {
        for text in [
            r#"["identify",{"token":"x"}]"#,
            r#"["identify",null]"#,
            r#"["join","room-1",{"presence":true,"state":{"x":1.10}}]"#,
            r#"["leave","room-1"]"#,
            r#"["state","room-1",[1,2]]"#,
            r#"["send",7,{"event":"e","targets":{"users":["a"],"channels":["b"],"broadcast":true},"payload":{"n":1.10}}]"#,
            r#"["send",7,{"event":"e","targets":{"broadcast":true},"payload":null}]"#,
        ] {
            assert_eq!(ClientMessage::parse(text).expect(text).encode(), text);
        }
    }

    #[test]
    fn notices_print_as_they_were_read() {
        let error = r#"{"status":401,"error":"unauthorized","reason":"no"}"#;
        let member = r#"{"id":"user:anna","user":"anna","connections":2,"state":{"x":1.10}}"#;
        for text in [
            r#"["identified",{"id":"guest:1","channels":[],"joins":["a*"],"sends":[],"sends_to_users":false,"broadcasts":true,"limits":{"event_bytes_max":1,"state_bytes_max":2,"channels_max":3}}]"#,
            &format!(r#"["unidentified",{error}]"#),
            &format!(r#"["joined","a",[{member}]]"#),
            r#"["joined","a",null]"#,
            r#"["left","a",null]"#,
            &format!(r#"["left","a",{error}]"#),
            r#"["sent",3,{"reached":2}]"#,
            &format!(r#"["unsent",3,{error}]"#),
            r#"["event","e",{"n":1.10},{"via":{"user":"anna","channels":["a"],"broadcast":true},"from":"user:b"}]"#,
            &format!(r#"["presence","a","join",{member}]"#),
            &format!(r#"["members","a",[{member}]]"#),
            r#"["lost",12]"#,
        ] {
            assert_eq!(ServerMessage::parse(text).expect(text).encode(), text);
        }
    }

    #[test]
    fn targets_may_be_strings_and_broadcast_anything_true() {
        let read = |targets: &str| {
            let text = format!(r#"{{"event":"e","targets":{targets}}}"#);
            serde_json::from_str::<SendRequest>(&text).map(|request| request.targets)
        };
        assert_eq!(read(r#"{"users":"anna"}"#).unwrap().users, ["anna"]);
        assert_eq!(read(r#"{"channels":["a","b"],"users":null}"#).unwrap().channels, ["a", "b"]);
        for (value, truth) in [
            ("true", true),
            ("1", true),
            ("\"all\"", true),
            ("{}", true),
            ("false", false),
            ("null", false),
            ("0", false),
            ("\"\"", false),
        ] {
            let text = format!(r#"{{"broadcast":{value}}}"#);
            assert_eq!(read(&text).unwrap().broadcast, truth, "{value}");
        }
        for bad in [r#"{"users":5}"#, r#"{"users":[5]}"#, r#"{"user":"a"}"#, "[]"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_made_by_hand_is_that_of_the_notice() {
        let text = r#"{"event":"say \"hi\"","targets":{"broadcast":true},"payload":{"a":1.0}}"#;
        let request: SendRequest = serde_json::from_str(text).unwrap();
        let via = Via { channels: vec!["a".into()], ..Via::default() };
        let note = EventNote { via, from: Some("guest:1".into()) };
        let payload = request.payload.clone().unwrap();
        let notice =
            EventNotice::Event { event: request.event.clone(), payload, note: note.clone() };
        assert_eq!(event_text(&event_and_payload(&request), &note), notice.encode());
    }
}
