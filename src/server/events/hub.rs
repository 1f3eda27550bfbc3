//! The one place that all connections' events go through.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::broadcast;

use crate::limits::Limits;
use crate::proto::event::{
    EventError, EventLimits, EventNotice, Identified, JoinOptions, Member, SendRequest,
};
use crate::proto::message::{ServerMessage, WireError};
use crate::server::auth::{ServerGrant, ServerRequest};
use crate::server::error::{EventRefusal, Refusal, ToWire as _, revoked};

use super::DispatchedEvent;
use super::line::Line;
use super::roster::{Attendee, Channel, Roster};

/// Dispatched events that wait for a slow listener of the server program; the oldest go first.
const HEARD_MAX: usize = 1_024;

/// The bounds it keeps.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    event_bytes_max: usize,
    state_bytes_max: usize,
    channels_max: usize,
    members_max: usize,
    queue_bytes_max: usize,
}

pub(crate) struct Hub {
    /// Held for moments only, never over an await.
    roster: Mutex<Roster>,
    heard: broadcast::Sender<Arc<DispatchedEvent>>,
    numbers: AtomicU64,
    bounds: Bounds,
}

/// Who sends an event.
pub(in crate::server) enum Sender<'a> {
    /// The server program, which may do everything.
    Program,
    /// A backend, under this grant.
    Backend(&'a ServerGrant),
    /// A connection, under the grant it has now.
    Connection(u64),
}

impl Hub {
    pub(in crate::server) fn new(limits: &Limits) -> Self {
        let bounds = Bounds {
            event_bytes_max: limits.event_bytes_max,
            state_bytes_max: limits.presence_state_bytes_max,
            channels_max: limits.event_channels_per_connection_max,
            members_max: limits.presence_members_max,
            queue_bytes_max: limits.event_queue_bytes_max,
        };
        let (heard, _) = broadcast::channel(HEARD_MAX);
        Self { roster: Mutex::default(), heard, numbers: AtomicU64::new(0), bounds }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn line(&self) -> Line {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        Line::new(number, self.bounds.queue_bytes_max)
    }

    pub(super) fn heard(&self) -> broadcast::Receiver<Arc<DispatchedEvent>> {
        self.heard.subscribe()
    }

    /// Counts revocations.
    pub(super) fn revocations(&self) -> u64 {
        self.lock().revocations
    }

    /// Gives a connection an identity, or another one. A user's channels stay, as far as the new
    /// grant allows them. `None` if grants were revoked since `revocations`: ask again.
    pub(super) fn identify(
        &self,
        line: &Arc<Line>,
        grant: &ServerGrant,
        asked: &ServerRequest,
        revocations: u64,
    ) -> Option<Identified> {
        let mut roster = self.lock();
        if roster.revocations != revocations {
            return None;
        }
        let number = line.number;
        let known = roster.attendees.get(&number);
        let kept: Vec<Arc<str>> = match known {
            Some(known) if known.user.as_deref() == grant.user.as_deref() => {
                known.channels.iter().cloned().collect()
            }
            _ => Vec::new(),
        };
        if known.is_some() && kept.is_empty() {
            roster.remove(number);
        }
        for name in &kept {
            if !grant.events.may_join(name) {
                roster.leave(number, name);
            }
        }
        let user: Option<Arc<str>> = grant.user.as_deref().map(Arc::from);
        let id = user.as_ref().map_or(format!("guest:{number}"), |user| format!("user:{user}"));
        if let Some(user) = &user {
            roster.users.entry(Arc::clone(user)).or_default().insert(number);
        }
        let attendee = roster.attendees.entry(number).or_insert_with(|| Attendee {
            line: Arc::clone(line),
            grant: ServerGrant::default(),
            asked: asked.clone(),
            user,
            id: id.as_str().into(),
            channels: BTreeSet::new(),
        });
        (attendee.grant, attendee.asked) = (grant.clone(), asked.clone());
        line.begin();
        Some(self.identified(attendee))
    }

    fn identified(&self, attendee: &Attendee) -> Identified {
        let (expires_in, rights) = (attendee.grant.time_left(), &attendee.grant.events);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Identified {
            id: attendee.id.to_string(),
            user: attendee.user.as_deref().map(str::to_owned),
            channels: attendee.channels.iter().map(ToString::to_string).collect(),
            joins: rights.joins.clone(),
            sends: rights.sends.clone(),
            sends_to_users: rights.sends_to_users,
            broadcasts: rights.broadcasts,
            expires_in_ms: expires_in.map(ms),
            limits: EventLimits {
                event_bytes_max: self.bounds.event_bytes_max as u64,
                state_bytes_max: self.bounds.state_bytes_max as u64,
                channels_max: self.bounds.channels_max as u64,
            },
        }
    }

    /// A connection that gets nothing more; `why` is told if there is somebody to tell.
    pub(super) fn remove(&self, line: &Line, why: Option<WireError>) {
        let mut roster = self.lock();
        roster.remove(line.number);
        line.end(why);
    }

    /// Ends an identity whose time is over; else how long it has left.
    pub(super) fn expire(&self, line: &Line) -> Option<Duration> {
        let mut roster = self.lock();
        let left = roster.attendees.get(&line.number)?.grant.time_left()?;
        if left.is_zero() {
            roster.remove(line.number);
            line.end(Some(Refusal::GrantExpired.to_wire()));
            return None;
        }
        Some(left)
    }

    /// The connections that have an identity, and what it was asked for with.
    pub(in crate::server) fn identities(&self) -> Vec<(u64, ServerRequest)> {
        let roster = self.lock();
        let asked = |(number, attendee): (&u64, &Attendee)| (*number, attendee.asked.clone());
        roster.attendees.iter().map(asked).collect()
    }

    /// Gives an identity the grant that it was judged to have, or ends it: if it has none, or one for
    /// another user or without a channel that it is in. Whether it goes on.
    pub(in crate::server) fn rejudged(
        &self,
        number: u64,
        judged: Result<ServerGrant, WireError>,
    ) -> bool {
        let mut roster = self.lock();
        let Some(attendee) = roster.attendees.get_mut(&number) else { return true };
        let line = Arc::clone(&attendee.line);
        let error = match judged {
            Err(error) => error,
            Ok(grant) => {
                let mut channels = attendee.channels.iter();
                let allowed = channels.all(|channel| grant.events.may_join(channel));
                if attendee.grant.user == grant.user && allowed {
                    attendee.grant = grant;
                    // Its end may be another.
                    line.changed.notify_one();
                    return true;
                }
                Refusal::GrantChanged.to_wire()
            }
        };
        roster.remove(number);
        line.end(Some(error));
        false
    }

    /// Ends the identities whose grant `condition` picks. How many.
    pub(in crate::server) fn revoke(
        &self,
        reason: &str,
        condition: impl Fn(&ServerGrant) -> bool,
    ) -> usize {
        let mut roster = self.lock();
        roster.revocations += 1;
        let picked: Vec<Arc<Line>> = roster
            .attendees
            .values()
            .filter(|attendee| condition(&attendee.grant))
            .map(|attendee| Arc::clone(&attendee.line))
            .collect();
        for line in &picked {
            roster.remove(line.number);
            line.end(Some(revoked(reason)));
        }
        picked.len()
    }

    /// Lets a connection into a channel; `answer` is given the text under the lock, so that no
    /// presence that comes later can be told before it.
    pub(super) fn join(
        &self,
        line: &Line,
        name: &str,
        options: JoinOptions,
        answer: impl FnOnce(String),
    ) {
        let mut roster = self.lock();
        let number = line.number;
        if let Err(error) = self.check_join(&roster, number, name, &options) {
            // Who is in it already stays in it.
            if !roster.attendees.get(&number).is_some_and(|known| known.channels.contains(name)) {
                let left = EventNotice::Left { channel: name.to_owned(), error: Some(error) };
                return answer(left.encode());
            }
            return answer(ServerMessage::Error { error }.encode());
        }
        let name: Arc<str> = name.into();
        roster.channels.entry(Arc::clone(&name)).or_default().connections.insert(number);
        if let Some(attendee) = roster.attendees.get_mut(&number) {
            attendee.channels.insert(Arc::clone(&name));
        }
        line.forget_presence(&name);
        let members = if options.presence {
            roster.show(number, &name, options.state);
            line.forget_presence(&name);
            roster.channels.get(&name).map(Channel::members)
        } else {
            roster.hide(number, &name);
            None
        };
        answer(EventNotice::Joined { channel: name.to_string(), members }.encode());
    }

    fn check_join(
        &self,
        roster: &Roster,
        number: u64,
        name: &str,
        options: &JoinOptions,
    ) -> Result<(), WireError> {
        let refuse = |refusal: EventRefusal| Err(refusal.to_wire());
        let Some(attendee) = roster.attendees.get(&number) else {
            return refuse(EventRefusal::NotIdentified);
        };
        if !attendee.grant.events.may_join(name) {
            return refuse(EventRefusal::MayNotJoin);
        }
        let max = self.bounds.channels_max;
        if attendee.channels.len() >= max && !attendee.channels.contains(name) {
            return refuse(EventRefusal::TooManyEventChannels { max });
        }
        if !options.presence {
            return Ok(());
        }
        self.check_state(options.state.as_deref()).map_err(|error| error.to_wire())?;
        let max = self.bounds.members_max;
        let full = roster.channels.get(name).is_some_and(|channel| {
            channel.present.len() >= max && !channel.present.contains_key(&attendee.id)
        });
        if full { refuse(EventRefusal::TooManyMembers { max }) } else { Ok(()) }
    }

    fn check_state(&self, state: Option<&RawValue>) -> Result<(), EventError> {
        let (bytes, max) =
            (state.map_or(0, |state| state.get().len()), self.bounds.state_bytes_max);
        if bytes > max { Err(EventError::StateTooLarge { bytes, max }) } else { Ok(()) }
    }

    /// False if the connection was not in the channel.
    pub(super) fn leave(&self, line: &Line, name: &str) -> bool {
        self.lock().leave(line.number, name)
    }

    /// Sets what a channel's members see of a connection's member. Passed over where it is not one:
    /// the membership may have ended on the way here.
    pub(super) fn set_state(
        &self,
        line: &Line,
        name: &str,
        state: Box<RawValue>,
    ) -> Result<(), EventError> {
        self.check_state(Some(&state))?;
        let mut roster = self.lock();
        let Some(id) = roster.attendees.get(&line.number).map(|a| Arc::clone(&a.id)) else {
            return Ok(());
        };
        let shown = roster.channels.get_key_value(name);
        let shown = shown.filter(|(_, channel)| channel.shows(&id, line.number));
        if let Some(name) = shown.map(|(name, _)| Arc::clone(name)) {
            roster.show(line.number, &name, Some(state));
        }
        Ok(())
    }

    /// All members of a channel, for one who missed changes; as in [`Hub::join`].
    pub(super) fn tell_members(&self, line: &Line, name: &str, answer: impl FnOnce(String)) {
        let roster = self.lock();
        line.forget_presence(name);
        let Some(attendee) = roster.attendees.get(&line.number) else { return };
        let channel = roster.channels.get(name);
        if let Some(channel) = channel.filter(|c| c.shows(&attendee.id, line.number)) {
            let members = channel.members();
            answer(EventNotice::Members { channel: name.to_owned(), members }.encode());
        }
    }

    pub(super) fn members(&self, name: &str) -> Vec<Member> {
        self.lock().channels.get(name).map(Channel::members).unwrap_or_default()
    }

    /// Sends an event. How many connections get it, each once.
    pub(in crate::server) fn send(
        &self,
        sender: &Sender<'_>,
        request: &SendRequest,
    ) -> Result<u64, WireError> {
        request.check(self.bounds.event_bytes_max).map_err(|error| error.to_wire())?;
        let roster = self.lock();
        let from = match sender {
            Sender::Program => None,
            Sender::Backend(grant) => {
                if grant.time_left().is_some_and(|left| left.is_zero()) {
                    return Err(Refusal::GrantExpired.to_wire());
                }
                grant.events.check_send(&request.targets)?;
                grant.user.as_ref().map(|user| format!("user:{user}"))
            }
            Sender::Connection(number) => {
                let attendee = roster.attendees.get(number);
                let attendee = attendee.ok_or_else(|| EventRefusal::NotIdentified.to_wire())?;
                attendee.grant.events.check_send(&request.targets)?;
                Some(attendee.id.to_string())
            }
        };
        let reached = roster.dispatch(request, from.as_deref());
        if self.heard.receiver_count() > 0 {
            let event = DispatchedEvent::new(request, from, reached);
            // The listener may have gone meanwhile.
            let _ = self.heard.send(Arc::new(event));
        }
        Ok(reached)
    }
}
