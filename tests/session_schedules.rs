//! A session of settee.v1 between a client and a gateway without a socket, in random schedules.
//!
//! While messages arrive once and in order, as a WebSocket brings them, however they cross: nothing
//! that the client does is refused, and each call ends once. When they arrive twice, late, in another
//! order or not at all: the session says of each message what a plain model says, holds no more
//! channels than it may, and forgets all that has ended.
//!
//! `SETTEE_SESSIONS` says how many schedules, `SETTEE_SEED` with which seed to begin.

#[path = "support/random.rs"]
mod random;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use random::{Random, setting};
use serde_json::Value;
use serde_json::value::RawValue;
use settee::proto::message::{CallId, ChannelId, ClientMessage, OpenRequest, ServerMessage};
use settee::proto::session::{Action, CallRefusal, Session};

const CHANNELS_MAX: usize = 3;
const STEPS: usize = 60;

/// What a gateway tells of a channel that it lets in.
const OPENED: &str = r#"{"info":{"db_name":"a","doc_count":0,"doc_del_count":0,"update_seq":"0",
    "uuid":"u"},"access":{"read":true,"write":true},"limits":{"message_bytes_max":1,"bulk_rows_max":1,
    "doc_bytes_max":1,"attachment_bytes_max":1,"stream_credit_max":1,"upload_credit":1,
    "uploads_max":1}}"#;

fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.into()).expect("it is JSON")
}

/// The gateway's end: a session, the work that it asked for, and what a plain model makes of it.
struct Gateway {
    session: Session,
    /// Channels with whether they are open, and their calls in progress.
    model: BTreeMap<ChannelId, (bool, BTreeSet<CallId>)>,
    /// Work that goes on, also for what has been given up meanwhile.
    working: Vec<(ChannelId, CallId)>,
}

impl Gateway {
    /// What is to be done about a message.
    fn expected(&self, message: &ClientMessage) -> &'static str {
        let open = |channel| self.model.get(channel).is_some_and(|(open, _)| *open);
        let runs =
            |channel, call| self.model.get(channel).is_some_and(|(_, calls)| calls.contains(call));
        match message {
            ClientMessage::Open { channel, .. } if self.model.contains_key(channel) => "complain",
            ClientMessage::Open { .. } if self.model.len() == CHANNELS_MAX => "refuse channel",
            ClientMessage::Open { .. } => "open",
            ClientMessage::Call { channel, .. } if !self.model.contains_key(channel) => {
                "no channel"
            }
            ClientMessage::Call { channel, .. } if !open(channel) => "not open yet",
            ClientMessage::Call { channel, call, .. } if runs(channel, call) => "in progress",
            ClientMessage::Call { .. } => "call",
            ClientMessage::More { channel, call, .. } if runs(channel, call) => "credit",
            ClientMessage::Cancel { channel, call } if runs(channel, call) => "cancel",
            ClientMessage::Credentials { channel, .. } if open(channel) => "credentials",
            ClientMessage::Close { channel } if self.model.contains_key(channel) => "close",
            ClientMessage::Ping { .. } => "pong",
            _ => "nothing",
        }
    }

    /// Takes a message; answers what was done about it.
    fn take(&mut self, text: &str) -> &'static str {
        let message = ClientMessage::parse(text).expect("what was printed parses");
        assert_eq!(message.encode(), text);
        let expected = self.expected(&message);
        let action = self.session.text(text);
        assert_eq!(word(action.as_ref()), expected, "{text}: {action:?}, and {:?}", self.model);
        match message {
            ClientMessage::Open { channel, .. } if expected == "open" => {
                self.model.insert(channel, (false, BTreeSet::new()));
            }
            ClientMessage::Call { channel, call, .. } if expected == "call" => {
                self.calls(channel).insert(call);
                self.working.push((channel, call));
            }
            ClientMessage::Cancel { channel, call } if expected == "cancel" => {
                self.calls(channel).remove(&call);
            }
            ClientMessage::Close { channel } => drop(self.model.remove(&channel)),
            _ => {}
        }
        assert_eq!(self.session.channels(), self.model.len());
        expected
    }

    fn calls(&mut self, channel: ChannelId) -> &mut BTreeSet<CallId> {
        &mut self.model.get_mut(&channel).expect("it was looked up").1
    }

    /// Lets in a channel that waits for it.
    fn judge(&mut self, random: &mut Random) -> Option<String> {
        let waiting = self.model.iter().filter(|(_, (open, _))| !open).map(|(channel, _)| *channel);
        let waiting: Vec<ChannelId> = waiting.collect();
        let channel = *waiting.get(random.below(waiting.len().max(1)))?;
        assert!(self.session.opened(channel), "it waits for it");
        self.model.get_mut(&channel).expect("it is listed").0 = true;
        Some(format!("[\"opened\",{channel},{OPENED}]"))
    }

    /// Ends a piece of work, whose answer is told if somebody still wants it.
    fn finish(&mut self, random: &mut Random) -> Option<String> {
        if self.working.is_empty() {
            return None;
        }
        let (channel, call) = self.working.swap_remove(random.below(self.working.len()));
        let wanted = self.model.get_mut(&channel).is_some_and(|(_, calls)| calls.remove(&call));
        assert_eq!(self.session.call_ended(channel, call), wanted, "{channel} {call}");
        wanted.then(|| ServerMessage::Reply { channel, call, value: json("{}") }.encode())
    }
}

fn word(action: Option<&Action>) -> &'static str {
    match action {
        None => "nothing",
        Some(Action::Open { .. }) => "open",
        Some(Action::RefuseChannel { .. }) => "refuse channel",
        Some(Action::Call { .. }) => "call",
        Some(Action::FailCall { why: CallRefusal::NoChannel, .. }) => "no channel",
        Some(Action::FailCall { why: CallRefusal::NotOpenYet, .. }) => "not open yet",
        Some(Action::FailCall { why: CallRefusal::InProgress, .. }) => "in progress",
        Some(Action::Credit { .. }) => "credit",
        Some(Action::Cancel { .. }) => "cancel",
        Some(Action::Credentials { .. }) => "credentials",
        Some(Action::Close { .. }) => "close",
        Some(Action::Pong { .. }) => "pong",
        Some(Action::Complain(_)) => "complain",
        Some(other) => panic!("nothing asked for {other:?}"),
    }
}

/// The client's end.
#[derive(Default)]
struct Client {
    last_channel: ChannelId,
    last_call: CallId,
    /// Channels, with whether it knows that they are open.
    channels: BTreeMap<ChannelId, bool>,
    calls: BTreeSet<(ChannelId, CallId)>,
    /// Calls that it wants no answer to, though one may be on its way.
    given_up: BTreeSet<(ChannelId, CallId)>,
}

impl Client {
    /// Something that a client may send.
    fn act(&mut self, random: &mut Random) -> ClientMessage {
        let channels: Vec<ChannelId> = self.channels.keys().copied().collect();
        let open: Vec<ChannelId> =
            self.channels.iter().filter(|(_, open)| **open).map(|(channel, _)| *channel).collect();
        let calls: Vec<(ChannelId, CallId)> = self.calls.iter().copied().collect();
        match random.below(10) {
            0..3 if channels.len() < CHANNELS_MAX => {
                self.last_channel += 1;
                self.channels.insert(self.last_channel, false);
                let request =
                    OpenRequest { database: "a".into(), credentials: Value::Null, create: false };
                ClientMessage::Open { channel: self.last_channel, request }
            }
            3..6 if !open.is_empty() => {
                self.last_call += 1;
                let (channel, call) = (*random.choose(&open), self.last_call);
                self.calls.insert((channel, call));
                ClientMessage::Call { channel, call, method: "info".into(), params: json("{}") }
            }
            6 if !calls.is_empty() => {
                let (channel, call) = *random.choose(&calls);
                ClientMessage::More { channel, call, credit: 1 }
            }
            7 if !calls.is_empty() => {
                let (channel, call) = *random.choose(&calls);
                self.give_up(|one| *one == (channel, call));
                ClientMessage::Cancel { channel, call }
            }
            8 if !channels.is_empty() && random.one_in(2) => {
                let channel = *random.choose(&channels);
                self.channels.remove(&channel);
                self.give_up(|(of, _)| *of == channel);
                ClientMessage::Close { channel }
            }
            9 if !open.is_empty() => {
                let channel = *random.choose(&open);
                ClientMessage::Credentials { channel, credentials: Value::Null }
            }
            _ => ClientMessage::Ping { echo: json("1") },
        }
    }

    fn give_up(&mut self, which: impl Fn(&(ChannelId, CallId)) -> bool) {
        let (given_up, kept) = std::mem::take(&mut self.calls).into_iter().partition(which);
        self.calls = kept;
        self.given_up.extend::<BTreeSet<_>>(given_up);
    }

    fn hear(&mut self, text: &str) {
        match ServerMessage::parse(text).expect("a gateway's message parses") {
            ServerMessage::Opened { channel, .. } => {
                if let Some(open) = self.channels.get_mut(&channel) {
                    assert!(!*open, "channel {channel} is opened twice");
                    *open = true;
                }
            }
            ServerMessage::Reply { channel, call, .. } => {
                let one = (channel, call);
                let wanted = self.calls.remove(&one) || self.given_up.remove(&one);
                assert!(wanted, "{one:?} is answered twice, or was never asked");
            }
            other => panic!("nobody sent {other:?}"),
        }
    }
}

/// Both ends, and what is on its way between them.
struct Schedule {
    random: Random,
    client: Client,
    gateway: Gateway,
    to_gateway: VecDeque<String>,
    to_client: VecDeque<String>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let session = Session::new(CHANNELS_MAX);
        Self {
            random: Random::new(seed),
            client: Client::default(),
            gateway: Gateway { session, model: BTreeMap::new(), working: Vec::new() },
            to_gateway: VecDeque::new(),
            to_client: VecDeque::new(),
        }
    }

    /// The gateway goes on with something.
    fn work(&mut self) {
        let done = match self.random.below(2) {
            0 => self.gateway.judge(&mut self.random),
            _ => self.gateway.finish(&mut self.random),
        };
        self.to_client.extend(done);
    }

    fn arrive_at_gateway(&mut self) {
        let Some(text) = self.to_gateway.pop_front() else { return };
        let done = self.gateway.take(&text);
        let refusals = ["complain", "refuse channel", "no channel", "not open yet", "in progress"];
        assert!(!refusals.contains(&done), "{text} is refused: {done}");
    }

    fn arrive_at_client(&mut self) {
        if let Some(text) = self.to_client.pop_front() {
            self.client.hear(&text);
        }
    }

    /// Every message arrives once, in its order.
    fn run_orderly(mut self) {
        for _ in 0..STEPS {
            match self.random.below(4) {
                0 => self.to_gateway.push_back(self.client.act(&mut self.random).encode()),
                1 => self.arrive_at_gateway(),
                2 => self.arrive_at_client(),
                _ => self.work(),
            }
        }
        while !(self.to_gateway.is_empty() && self.gateway.working.is_empty()) {
            self.arrive_at_gateway();
            self.work();
        }
        while !self.to_client.is_empty() {
            self.arrive_at_client();
        }
        assert!(self.client.calls.is_empty(), "never answered: {:?}", self.client.calls);
        let open: BTreeSet<ChannelId> = self.gateway.model.keys().copied().collect();
        assert_eq!(open, self.client.channels.keys().copied().collect());
    }

    /// Messages to the gateway are doubled, lost, and put before and after each other.
    fn run_disorderly(mut self) {
        for _ in 0..STEPS {
            match self.random.below(4) {
                0 => {
                    let text = self.client.act(&mut self.random).encode();
                    for _ in 0..self.random.below(3) {
                        let place = self.random.below(self.to_gateway.len() + 1);
                        self.to_gateway.insert(place, text.clone());
                    }
                }
                1 | 2 => {
                    if let Some(text) = self.to_gateway.pop_front() {
                        self.gateway.take(&text);
                    }
                }
                _ => self.work(),
            }
            // To the client it seems that all was opened, so that it goes on.
            self.client.channels.values_mut().for_each(|open| *open = true);
        }
        for channel in 1..=self.client.last_channel {
            self.gateway.take(&ClientMessage::Close { channel }.encode());
        }
        assert_eq!(self.gateway.session.channels(), 0, "what has ended is forgotten");
    }
}

/// Runs schedules; a panic in one is preceded by the command that repeats it.
fn run(test: &str, schedule: impl Fn(Schedule)) {
    struct Again<'a>(&'a str, u64);
    impl Drop for Again<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let Self(test, seed) = self;
                println!(
                    "again: SETTEE_SEED={seed} SETTEE_SESSIONS=1 \
                     cargo test --test session_schedules {test}"
                );
            }
        }
    }
    let (first, count) = (setting("SETTEE_SEED", 0), setting("SETTEE_SESSIONS", 25_000));
    for seed in first..first + count {
        let _again = Again(test, seed);
        schedule(Schedule::new(seed));
    }
}

#[test]
fn nothing_is_refused_and_each_call_ends_once_however_messages_cross() {
    run("nothing_is_refused", Schedule::run_orderly);
}

#[test]
fn a_session_stays_whole_when_messages_are_doubled_lost_and_out_of_order() {
    run("a_session_stays_whole", Schedule::run_disorderly);
}
