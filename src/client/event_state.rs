//! What a client knows of its events: its identity, the channels it wants, what waits for it.
//!
//! The connection's reader hands every message about events to [`EventState::take`], which waits for
//! nothing: what is not taken from the queue in time is lost and counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use serde_json::value::RawValue;
use tokio::sync::{Notify, oneshot, watch};

use crate::proto::event::{
    EventError, EventNotice, EventRequest, Identified, JoinOptions, Member, PresenceChange,
    SendRequest,
};
use crate::proto::lossy::LossyQueue;
use crate::proto::message::{ClientMessage, WireError};

use super::events::{EventItem, EventsError, over};
use super::link::Link;

/// Bytes of items that wait for a slow reader.
const INBOX_BYTES_MAX: usize = 1024 * 1024;

type Joined = oneshot::Sender<Result<(), EventsError>>;
type Sent = oneshot::Sender<Result<u64, EventsError>>;

/// Who this is to the gateway.
#[derive(Debug, Clone, Default)]
pub(super) enum Identity {
    /// Not known yet.
    #[default]
    Unknown,
    Given(Box<Identified>),
    Refused(WireError),
    /// Refused, and nothing else can be shown.
    GivenUp(WireError),
    /// The handle is gone.
    Over,
}

pub(super) struct EventState {
    /// Held for moments only, never over an await.
    known: Mutex<Known>,
    identity: watch::Sender<Identity>,
    ready: Notify,
}

struct Known {
    link: Option<Link>,
    wanted: BTreeMap<String, Wanted>,
    sends: HashMap<u32, Sent>,
    last_send: u32,
    inbox: LossyQueue<EventItem>,
    lost: u64,
    is_over: bool,
}

struct Wanted {
    options: JoinOptions,
    members: BTreeMap<String, Member>,
    waiting: Vec<Joined>,
}

impl Default for EventState {
    fn default() -> Self {
        let known = Known {
            link: None,
            wanted: BTreeMap::new(),
            sends: HashMap::new(),
            last_send: 0,
            inbox: LossyQueue::new(INBOX_BYTES_MAX),
            lost: 0,
            is_over: false,
        };
        Self { known: Mutex::new(known), identity: watch::Sender::default(), ready: Notify::new() }
    }
}

impl Known {
    fn tell(&self, request: EventRequest) {
        if let Some(link) = &self.link {
            link.send_now(&ClientMessage::Event(request));
        }
    }

    fn push(&mut self, item: EventItem, bytes: usize) {
        if !self.is_over {
            self.lost += self.inbox.push(item, bytes).len() as u64;
        }
    }
}

fn by_id(members: Vec<Member>) -> BTreeMap<String, Member> {
    members.into_iter().map(|member| (member.id.clone(), member)).collect()
}

impl EventState {
    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch_identity(&self) -> watch::Receiver<Identity> {
        self.identity.subscribe()
    }

    /// The next item; `None` when there are no more.
    pub(super) async fn next(&self) -> Option<EventItem> {
        loop {
            {
                let mut known = self.lock();
                if known.is_over {
                    return None;
                }
                if known.lost > 0 {
                    return Some(EventItem::Lost(std::mem::take(&mut known.lost)));
                }
                if let Some(item) = known.inbox.pop() {
                    return Some(item);
                }
            }
            self.ready.notified().await;
        }
    }

    /// Uses a new connection.
    pub(super) fn attach(&self, link: &Link) {
        self.lock().link = Some(link.clone());
    }

    /// The connection is gone.
    pub(super) fn detach(&self) {
        let mut known = self.lock();
        known.link = None;
        known.sends.clear();
        if !known.is_over {
            self.identity.send_replace(Identity::Unknown);
        }
    }

    /// No credentials are left to show: what waits for an identity fails.
    pub(super) fn give_up(&self, error: &WireError) {
        let mut known = self.lock();
        for wanted in known.wanted.values_mut() {
            for waiting in wanted.waiting.drain(..) {
                // Whoever does not wait any more needs no answer.
                let _ = waiting.send(Err(EventsError::Refused(error.clone())));
            }
        }
        self.identity.send_replace(Identity::GivenUp(error.clone()));
    }

    /// Ends everything; leaves the channels.
    pub(super) fn end(&self) {
        let mut known = self.lock();
        known.is_over = true;
        for channel in std::mem::take(&mut known.wanted).into_keys() {
            known.tell(EventRequest::Leave { channel });
        }
        known.sends.clear();
        known.link = None;
        self.identity.send_replace(Identity::Over);
        drop(known);
        self.ready.notify_one();
    }

    /// Waits until the gateway knows who this is.
    pub(super) async fn identified(&self) -> Result<Box<Identified>, EventsError> {
        let mut identity = self.identity.subscribe();
        let known =
            |identity: &Identity| !matches!(identity, Identity::Unknown | Identity::Refused(_));
        match identity.wait_for(known).await.as_deref() {
            Ok(Identity::Given(who)) => Ok(who.clone()),
            Ok(Identity::GivenUp(error)) => Err(EventsError::Refused(error.clone())),
            _ => Err(over()),
        }
    }

    pub(super) fn join(&self, channel: &str, options: JoinOptions, answer: Joined) {
        let mut known = self.lock();
        match &*self.identity.borrow() {
            Identity::Given(_) => {
                let (channel, options) = (channel.to_owned(), options.clone());
                known.tell(EventRequest::Join { channel, options });
            }
            Identity::GivenUp(error) => {
                // Whoever does not wait any more needs no answer.
                let _ = answer.send(Err(EventsError::Refused(error.clone())));
                return;
            }
            Identity::Over => return,
            Identity::Unknown | Identity::Refused(_) => {}
        }
        let fresh = Wanted {
            options: JoinOptions::default(),
            members: BTreeMap::new(),
            waiting: Vec::new(),
        };
        let wanted = known.wanted.entry(channel.to_owned()).or_insert(fresh);
        wanted.options = options;
        wanted.waiting.push(answer);
    }

    pub(super) fn leave(&self, channel: &str) {
        let mut known = self.lock();
        if known.wanted.remove(channel).is_some() {
            known.tell(EventRequest::Leave { channel: channel.to_owned() });
        }
    }

    pub(super) fn set_state(&self, channel: &str, state: Box<RawValue>) -> Result<(), EventError> {
        let mut known = self.lock();
        let given = match &*self.identity.borrow() {
            Identity::Given(who) => {
                let max = usize::try_from(who.limits.state_bytes_max).unwrap_or(usize::MAX);
                let bytes = state.get().len();
                if bytes > max {
                    return Err(EventError::StateTooLarge { bytes, max });
                }
                true
            }
            _ => false,
        };
        if let Some(wanted) = known.wanted.get_mut(channel) {
            wanted.options.state = Some(state.clone());
            if given {
                known.tell(EventRequest::State { channel: channel.to_owned(), state });
            }
        }
        Ok(())
    }

    pub(super) fn members(&self, channel: &str) -> Vec<Member> {
        let known = self.lock();
        let wanted = known.wanted.get(channel);
        wanted.map(|wanted| wanted.members.values().cloned().collect()).unwrap_or_default()
    }

    /// Sends an event; what is returned gets the answer.
    pub(super) async fn send(
        &self,
        request: SendRequest,
    ) -> Result<oneshot::Receiver<Result<u64, EventsError>>, EventsError> {
        let (answer, answered) = oneshot::channel();
        let (link, number) = {
            let mut known = self.lock();
            let Some(link) = known.link.clone() else { return Err(over()) };
            // Numbers wrap around long after the events that had them were answered.
            known.last_send = known.last_send.checked_add(1).unwrap_or(1);
            let number = known.last_send;
            known.sends.insert(number, answer);
            (link, number)
        };
        let message = ClientMessage::Event(EventRequest::Send { number, request });
        link.send(&message).await.map_err(|_| over())?;
        Ok(answered)
    }

    /// Takes what the gateway says.
    pub(super) fn take(&self, notice: EventNotice, bytes: usize) {
        let mut known = self.lock();
        match notice {
            EventNotice::Identified(who) => self.take_identity(&mut known, who),
            EventNotice::Unidentified { error } => {
                self.identity.send_replace(Identity::Refused(error.clone()));
                known.push(EventItem::Unidentified(error), bytes);
            }
            EventNotice::Joined { channel, members } => take_joined(&mut known, channel, members),
            EventNotice::Left { channel, error: Some(error) } => {
                // Who is not identified at present asks again after that.
                if error.status != 401
                    && let Some(wanted) = known.wanted.remove(&channel)
                {
                    for waiting in wanted.waiting {
                        let _ = waiting.send(Err(EventsError::Refused(error.clone())));
                    }
                    known.push(EventItem::Left { channel, error }, bytes);
                }
            }
            EventNotice::Left { error: None, .. } => {}
            EventNotice::Sent { number, reached } => {
                if let Some(answer) = known.sends.remove(&number) {
                    let _ = answer.send(Ok(reached));
                }
            }
            EventNotice::Unsent { number, error } => {
                if let Some(answer) = known.sends.remove(&number) {
                    let _ = answer.send(Err(EventsError::Refused(error)));
                }
            }
            EventNotice::Event { event, payload, note } => {
                known.push(EventItem::Event { event, payload, note }, bytes);
            }
            EventNotice::Presence { channel, change, member } => {
                take_presence(&mut known, channel, change, member, bytes);
            }
            EventNotice::Members { channel, members } => {
                if let Some(wanted) = known.wanted.get_mut(&channel) {
                    wanted.members = by_id(members.clone());
                    known.push(EventItem::Members { channel, members }, bytes);
                }
            }
            EventNotice::Lost { events } => known.lost += events,
        }
        drop(known);
        self.ready.notify_one();
    }

    fn take_identity(&self, known: &mut Known, who: Box<Identified>) {
        for (channel, wanted) in &known.wanted {
            if !who.channels.contains(channel) {
                let (channel, options) = (channel.clone(), wanted.options.clone());
                known.tell(EventRequest::Join { channel, options });
            }
        }
        self.identity.send_replace(Identity::Given(who.clone()));
        known.push(EventItem::Identified(who), 0);
    }
}

fn take_joined(known: &mut Known, channel: String, members: Option<Vec<Member>>) {
    let Some(wanted) = known.wanted.get_mut(&channel) else { return };
    wanted.members = by_id(members.clone().unwrap_or_default());
    for waiting in wanted.waiting.drain(..) {
        let _ = waiting.send(Ok(()));
    }
    if let Some(members) = members {
        let bytes = members.iter().map(|member| member.id.len() + member.state.get().len()).sum();
        known.push(EventItem::Members { channel, members }, bytes);
    }
}

fn take_presence(
    known: &mut Known,
    channel: String,
    change: PresenceChange,
    member: Member,
    bytes: usize,
) {
    let Some(wanted) = known.wanted.get_mut(&channel) else { return };
    match change {
        PresenceChange::Leave => drop(wanted.members.remove(&member.id)),
        PresenceChange::Join | PresenceChange::State => {
            wanted.members.insert(member.id.clone(), member.clone());
        }
    }
    known.push(EventItem::Presence { channel, change, member }, bytes);
}
