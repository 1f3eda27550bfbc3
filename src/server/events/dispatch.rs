//! Who gets an event: everybody whom it is for, each connection once, and why.

use std::collections::{BTreeSet, HashMap};

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::proto::event::{EventNote, SendRequest, Targets, Via, event_and_payload, event_text};

use super::roster::Roster;

/// By which of an event's targets a connection matches, by their places.
#[derive(Default, PartialEq, Eq, Hash)]
struct Matched {
    user: Option<usize>,
    channels: Vec<usize>,
}

impl Matched {
    fn via(&self, targets: &Targets) -> Via {
        Via {
            user: self.user.map(|place| targets.users[place].clone()),
            channels: self.channels.iter().map(|place| targets.channels[*place].clone()).collect(),
            broadcast: targets.broadcast,
        }
    }
}

impl Roster {
    fn matching(&self, targets: &Targets) -> HashMap<u64, Matched> {
        let mut found: HashMap<u64, Matched> = HashMap::new();
        if targets.broadcast {
            found.extend(self.attendees.keys().map(|number| (*number, Matched::default())));
        }
        for (place, user) in targets.users.iter().enumerate() {
            for number in self.users.get(user.as_str()).into_iter().flatten() {
                found.entry(*number).or_default().user.get_or_insert(place);
            }
        }
        let mut seen = BTreeSet::new();
        for (place, name) in targets.channels.iter().enumerate() {
            let Some(channel) = self.channels.get(name.as_str()) else { continue };
            if seen.insert(name) {
                for number in &channel.connections {
                    found.entry(*number).or_default().channels.push(place);
                }
            }
        }
        found
    }

    /// Hands an event to whom it is for. How many connections that are.
    pub(super) fn dispatch(&self, request: &SendRequest, from: Option<&str>) -> u64 {
        let found = self.matching(&request.targets);
        let reached = found.len() as u64;
        let event_and_payload = event_and_payload(request);
        // Who matches in the same way shares one text, which is nearly everybody.
        let mut texts: HashMap<Matched, Utf8Bytes> = HashMap::new();
        for (number, matched) in found {
            let Some(attendee) = self.attendees.get(&number) else { continue };
            let text = match texts.get(&matched) {
                Some(text) => text.clone(),
                None => {
                    let via = matched.via(&request.targets);
                    let note = EventNote { via, from: from.map(str::to_owned) };
                    let text = Utf8Bytes::from(event_text(&event_and_payload, &note));
                    texts.insert(matched, text.clone());
                    text
                }
            };
            attendee.line.push_event(text);
        }
        reached
    }
}
