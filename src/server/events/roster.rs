//! Who is there: connections, their users, the channels they are in, and presence. Changed only
//! under the hub's lock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::proto::event::{EventNotice, Member, PresenceChange};

use crate::server::auth::{ServerGrant, ServerRequest};

use super::line::Line;

#[derive(Default)]
pub(super) struct Roster {
    pub revocations: u64,
    pub attendees: HashMap<u64, Attendee>,
    pub users: HashMap<Arc<str>, BTreeSet<u64>>,
    pub channels: HashMap<Arc<str>, Channel>,
}

/// A connection that has identified itself.
pub(super) struct Attendee {
    pub line: Arc<Line>,
    /// What it may do, and until when.
    pub grant: ServerGrant,
    /// What the grant was asked for with, to be judged again.
    pub asked: ServerRequest,
    pub user: Option<Arc<str>>,
    pub id: Arc<str>,
    pub channels: BTreeSet<Arc<str>>,
}

#[derive(Default)]
pub(super) struct Channel {
    pub connections: BTreeSet<u64>,
    pub present: BTreeMap<Arc<str>, Present>,
}

/// A member, with those of its connections that are in the channel with presence.
pub(super) struct Present {
    user: Option<Arc<str>>,
    connections: BTreeSet<u64>,
    state: Box<RawValue>,
}

impl Present {
    fn member(&self, id: &str) -> Member {
        Member {
            id: id.to_owned(),
            user: self.user.as_deref().map(str::to_owned),
            connections: self.connections.len() as u64,
            state: self.state.clone(),
        }
    }
}

impl Channel {
    pub(super) fn members(&self) -> Vec<Member> {
        self.present.iter().map(|(id, present)| present.member(id)).collect()
    }

    pub(super) fn shows(&self, id: &str, connection: u64) -> bool {
        self.present.get(id).is_some_and(|present| present.connections.contains(&connection))
    }
}

impl Roster {
    /// Whom a channel's presence is told.
    fn tell(&self, name: &Arc<str>, change: PresenceChange, member: Member, except: Option<u64>) {
        let Some(channel) = self.channels.get(name) else { return };
        let notice = EventNotice::Presence { channel: name.to_string(), change, member };
        let text = Utf8Bytes::from(notice.encode());
        let present = channel.present.values().flat_map(|present| &present.connections);
        for number in present.filter(|number| Some(**number) != except) {
            if let Some(attendee) = self.attendees.get(number) {
                attendee.line.push_presence(name, text.clone());
            }
        }
    }

    /// Shows a connection to a channel that it is in, and tells the others.
    pub(super) fn show(&mut self, number: u64, name: &Arc<str>, state: Option<Box<RawValue>>) {
        let Some(attendee) = self.attendees.get(&number) else { return };
        let (id, user) = (Arc::clone(&attendee.id), attendee.user.clone());
        let Some(channel) = self.channels.get_mut(name) else { return };
        let is_new = !channel.present.contains_key(&id);
        let null = || RawValue::from_string("null".to_owned()).expect("null is JSON");
        let present = channel.present.entry(Arc::clone(&id)).or_insert_with(|| Present {
            user,
            connections: BTreeSet::new(),
            state: null(),
        });
        let came = present.connections.insert(number);
        let changed = state.map(|state| present.state = state).is_some();
        if !came && !changed {
            return;
        }
        let member = present.member(&id);
        let change = if is_new { PresenceChange::Join } else { PresenceChange::State };
        // Who has just come is told of everybody in the answer.
        self.tell(name, change, member, came.then_some(number));
    }

    /// Shows a connection no more, and tells the others.
    pub(super) fn hide(&mut self, number: u64, name: &Arc<str>) {
        let Some(id) = self.attendees.get(&number).map(|attendee| Arc::clone(&attendee.id)) else {
            return;
        };
        let Some(channel) = self.channels.get_mut(name) else { return };
        let Some(present) = channel.present.get_mut(&id) else { return };
        if !present.connections.remove(&number) {
            return;
        }
        let member = present.member(&id);
        let change = if present.connections.is_empty() {
            channel.present.remove(&id);
            PresenceChange::Leave
        } else {
            PresenceChange::State
        };
        self.tell(name, change, member, None);
    }

    /// Takes a connection out of a channel. False if it was not in it.
    pub(super) fn leave(&mut self, number: u64, name: &str) -> bool {
        let Some(attendee) = self.attendees.get_mut(&number) else { return false };
        let Some(name) = attendee.channels.take(name) else { return false };
        attendee.line.forget_presence(&name);
        self.hide(number, &name);
        if let Some(channel) = self.channels.get_mut(&name) {
            channel.connections.remove(&number);
            if channel.connections.is_empty() {
                self.channels.remove(&name);
            }
        }
        true
    }

    /// Takes a connection out of everything.
    pub(super) fn remove(&mut self, number: u64) {
        let Some(attendee) = self.attendees.get(&number) else { return };
        let channels: Vec<_> = attendee.channels.iter().cloned().collect();
        for name in channels {
            self.leave(number, &name);
        }
        let user = self.attendees.remove(&number).and_then(|attendee| attendee.user);
        if let Some(user) = user
            && let Some(connections) = self.users.get_mut(&user)
        {
            connections.remove(&number);
            if connections.is_empty() {
                self.users.remove(&user);
            }
        }
    }
}
