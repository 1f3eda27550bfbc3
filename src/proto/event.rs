//! Ephemeral events and presence: their messages and bounds.
//!
//! An event has a name and a payload and goes to users, channels or everybody, at most once to a
//! connection however often it matches. Nothing of it is stored. A channel of events is a name that
//! connections join; it has nothing to do with the channels that databases are open on.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::message::WireError;

/// UTF-8 bytes of a name of an event, a channel of events or a user that an event is for, at most.
pub const NAME_BYTES_MAX: usize = 256;

/// Users and channels that one event may be for.
pub const TARGETS_MAX: usize = 1_000;

/// An event, a name or a state that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// An empty name.
    #[error("a name of {what} must not be empty")]
    NameEmpty {
        /// Of what.
        what: &'static str,
    },
    /// A name that is too long.
    #[error("a name of {what} may have {NAME_BYTES_MAX} bytes")]
    NameTooLong {
        /// Of what.
        what: &'static str,
    },
    /// An event for nobody.
    #[error("an event needs a target: users, channels or broadcast")]
    NoTarget,
    /// Too many users and channels.
    #[error("an event may be for {TARGETS_MAX} users and channels")]
    TooManyTargets,
    /// An event's name and payload are too large.
    #[error("an event has {bytes} bytes and may have {max}")]
    EventTooLarge {
        /// Its bytes.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A member's state is too large.
    #[error("a state has {bytes} bytes and may have {max}")]
    StateTooLarge {
        /// Its bytes.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A payload that is no JSON.
    #[error("the payload cannot be written as JSON")]
    Payload,
}

/// Checks a name's length.
///
/// # Errors
/// [`EventError::NameEmpty`] and [`EventError::NameTooLong`].
pub fn check_name(what: &'static str, name: &str) -> Result<(), EventError> {
    match name.len() {
        0 => Err(EventError::NameEmpty { what }),
        1..=NAME_BYTES_MAX => Ok(()),
        _ => Err(EventError::NameTooLong { what }),
    }
}

/// For whom an event is. A connection that matches several times gets it once.
///
/// ```
/// use settee::proto::event::Targets;
/// let targets = Targets::user("anna").and_channel("room-1");
/// assert_eq!(serde_json::to_string(&targets).unwrap(), r#"{"users":["anna"],"channels":["room-1"]}"#);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// Every connection of these users. On the wire a string or a list.
    #[serde(default, deserialize_with = "names", skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Every connection that has joined one of these. On the wire a string or a list.
    #[serde(default, deserialize_with = "names", skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Every connection that has identified itself. On the wire anything but `false`, `null`, `0`
    /// and `""` means yes.
    #[serde(default, deserialize_with = "truth", skip_serializing_if = "std::ops::Not::not")]
    pub broadcast: bool,
}

impl Targets {
    /// A user.
    #[must_use]
    pub fn user(name: impl Into<String>) -> Self {
        Self::default().and_user(name)
    }

    /// A channel.
    #[must_use]
    pub fn channel(name: impl Into<String>) -> Self {
        Self::default().and_channel(name)
    }

    /// Everybody.
    #[must_use]
    pub fn everybody() -> Self {
        Self { broadcast: true, ..Self::default() }
    }

    /// The same and one more user.
    #[must_use]
    pub fn and_user(mut self, name: impl Into<String>) -> Self {
        self.users.push(name.into());
        self
    }

    /// The same and one more channel.
    #[must_use]
    pub fn and_channel(mut self, name: impl Into<String>) -> Self {
        self.channels.push(name.into());
        self
    }

    /// Checks that there are some, not too many, with names of the right length.
    ///
    /// # Errors
    /// [`EventError`] that says what is wrong.
    pub fn check(&self) -> Result<(), EventError> {
        let count = self.users.len() + self.channels.len();
        if count == 0 && !self.broadcast {
            return Err(EventError::NoTarget);
        }
        if count > TARGETS_MAX {
            return Err(EventError::TooManyTargets);
        }
        self.users.iter().try_for_each(|name| check_name("a user", name))?;
        self.channels.iter().try_for_each(|name| check_name("a channel", name))
    }
}

/// A string, or a list of them; of a list that is too long one more than the bound is kept.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a name or a list of names")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
            Ok(vec![name.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
            let mut names = Vec::new();
            while names.len() <= TARGETS_MAX {
                let Some(name) = all.next_element()? else { return Ok(names) };
                names.push(name);
            }
            while all.next_element::<IgnoredAny>()?.is_some() {}
            Ok(names)
        }
    }
    deserializer.deserialize_any(Names)
}

fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => false,
        Value::Bool(truth) => truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    })
}

/// An event to be sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// Its name.
    pub event: String,
    /// For whom.
    #[serde(deserialize_with = "object")]
    pub targets: Targets,
    /// Any JSON; `null` where missing.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
}

/// An object: a list, which serde would take for one, is refused.
pub(crate) fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = Box::<RawValue>::deserialize(deserializer)?;
    if !text.get().starts_with('{') {
        return Err(D::Error::custom("an object is expected"));
    }
    serde_json::from_str(text.get()).map_err(D::Error::custom)
}

/// `null` too is a payload, as it was written.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

impl SendRequest {
    /// An event of a value.
    ///
    /// # Errors
    /// [`EventError::Payload`] for a value that cannot be JSON.
    pub fn new(
        targets: Targets,
        event: &str,
        payload: &impl Serialize,
    ) -> Result<Self, EventError> {
        let payload = serde_json::value::to_raw_value(payload).map_err(|_| EventError::Payload)?;
        Ok(Self { event: event.to_owned(), targets, payload: Some(payload) })
    }

    /// The payload's JSON text.
    #[must_use]
    pub fn payload_text(&self) -> &str {
        self.payload.as_ref().map_or("null", |payload| payload.get())
    }

    /// Checks names, targets and size.
    ///
    /// # Errors
    /// [`EventError`] that says what is wrong.
    pub fn check(&self, event_bytes_max: usize) -> Result<(), EventError> {
        check_name("an event", &self.event)?;
        let bytes = self.event.len() + self.payload_text().len();
        if bytes > event_bytes_max {
            return Err(EventError::EventTooLarge { bytes, max: event_bytes_max });
        }
        self.targets.check()
    }
}

/// How a channel is joined.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JoinOptions {
    /// Whether to be seen by the channel's members and to see them.
    pub presence: bool,
    /// What the others see of this member; with `presence`. Any small JSON.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub state: Option<Box<RawValue>>,
}

/// What a client says about events.
#[derive(Clone)]
pub enum EventRequest {
    /// `["identify", credentials]`
    Identify {
        /// Any JSON, for the gateway's server authorizer.
        credentials: Value,
    },
    /// `["join", channel, {"presence", "state"}]`
    Join {
        /// The channel.
        channel: String,
        /// How.
        options: JoinOptions,
    },
    /// `["leave", channel]`
    Leave {
        /// The channel.
        channel: String,
    },
    /// `["state", channel, state]`
    State {
        /// The channel.
        channel: String,
        /// What its members shall see.
        state: Box<RawValue>,
    },
    /// `["send", number, {"event", "targets", "payload"}]`
    Send {
        /// Names the request in its answer.
        number: u32,
        /// The event.
        request: SendRequest,
    },
}

impl fmt::Debug for EventRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identify { .. } => f.write_str("Identify(…)"),
            Self::Join { channel, .. } => write!(f, "Join({channel:?})"),
            Self::Leave { channel } => write!(f, "Leave({channel:?})"),
            Self::State { channel, .. } => write!(f, "State({channel:?})"),
            Self::Send { number, request } => write!(f, "Send({number}, {:?})", request.event),
        }
    }
}

/// Who a connection is to events, and what it may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identified {
    /// Names the sender in events and the member in presence: one for all connections of a user,
    /// or this connection's own.
    pub id: String,
    /// The user, if the credentials stand for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Channels that this connection is in, where it had identified itself before.
    #[serde(default)]
    pub channels: Vec<String>,
    /// Channels that may be joined; a `*` at the end stands for anything.
    #[serde(default)]
    pub joins: Vec<String>,
    /// Channels that may be sent to, in the same way.
    #[serde(default)]
    pub sends: Vec<String>,
    /// Whether users may be sent to.
    #[serde(default)]
    pub sends_to_users: bool,
    /// Whether everybody may be sent to.
    #[serde(default)]
    pub broadcasts: bool,
    /// Milliseconds until new credentials are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// The bounds a client must keep.
    pub limits: EventLimits,
}

/// The bounds a client must keep, from the gateway's `Limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLimits {
    /// Bytes of an event's name and payload.
    pub event_bytes_max: u64,
    /// Bytes of a member's state.
    pub state_bytes_max: u64,
    /// Channels of one connection.
    pub channels_max: u64,
}

/// A member of a channel: a user with all its connections, or a connection without a user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Member {
    /// Names it, as `from` of events does.
    pub id: String,
    /// The user, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How many of its connections are in the channel with presence.
    pub connections: u64,
    /// What it says about itself; the newest of its connections' says.
    pub state: Box<RawValue>,
}

/// What became of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PresenceChange {
    /// Its first connection came.
    Join,
    /// Its last connection went.
    Leave,
    /// Its state or number of connections changed.
    State,
}

/// Why an event came here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Via {
    /// It is for this connection's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// It is for these channels, which this connection is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// It is for everybody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub broadcast: bool,
}

/// What stands beside an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventNote {
    /// Why it came.
    pub via: Via,
    /// The sender's id; missing if the server program or a backend without a user sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// What the gateway says about events.
#[derive(Debug, Clone)]
pub enum EventNotice {
    /// `["identified", {...}]`
    Identified(Box<Identified>),
    /// `["unidentified", error]`: refused, expired or revoked; every channel is left.
    Unidentified {
        /// Why.
        error: WireError,
    },
    /// `["joined", channel, members or null]`
    Joined {
        /// The channel.
        channel: String,
        /// Who is there, if it was joined with presence.
        members: Option<Vec<Member>>,
    },
    /// `["left", channel, error or null]`
    Left {
        /// The channel.
        channel: String,
        /// Why, unless the client asked for it.
        error: Option<WireError>,
    },
    /// `["sent", number, {"reached"}]`
    Sent {
        /// The `send` that this answers.
        number: u32,
        /// Connections that get the event.
        reached: u64,
    },
    /// `["unsent", number, error]`
    Unsent {
        /// The `send` that this answers.
        number: u32,
        /// Why.
        error: WireError,
    },
    /// `["event", event, payload, {"via", "from"}]`
    Event {
        /// Its name.
        event: String,
        /// Its payload.
        payload: Box<RawValue>,
        /// Why it came and from whom.
        note: EventNote,
    },
    /// `["presence", channel, change, member]`
    Presence {
        /// The channel.
        channel: String,
        /// What happened.
        change: PresenceChange,
        /// To whom; as it was, if it left.
        member: Member,
    },
    /// `["members", channel, members]`: changes were lost; these are all.
    Members {
        /// The channel.
        channel: String,
        /// Who is there.
        members: Vec<Member>,
    },
    /// `["lost", events]`: this reader was too slow for so many events.
    Lost {
        /// How many since the last was told.
        events: u64,
    },
}

/// What `sent` tells.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Reached {
    pub reached: u64,
}

/// `["event", event, payload, note]`, of parts that are JSON text; what many receivers share.
#[must_use]
pub fn event_text(event_and_payload: &str, note: &EventNote) -> String {
    let note = serde_json::to_string(note).expect("a note has string keys only");
    format!("[\"event\",{event_and_payload},{note}]")
}

/// `event, payload` as JSON text, for [`event_text`].
#[must_use]
pub fn event_and_payload(request: &SendRequest) -> String {
    let event = serde_json::to_string(&request.event).expect("a string is JSON");
    format!("{event},{}", request.payload_text())
}

/// Reads a name that a message carries.
pub(super) fn name_of(text: &str) -> Result<String, serde_json::Error> {
    let name: String = serde_json::from_str(text)?;
    check_name("a channel", &name).map_err(serde_json::Error::custom)?;
    Ok(name)
}
