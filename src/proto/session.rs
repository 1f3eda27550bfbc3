//! What the gateway does with the messages of one connection.
//!
//! A [`Session`] knows which channels and calls there are and what may follow what. It is given
//! each message and says what to do; it opens nothing, stores nothing and waits for nothing itself.
//! The rule for wrong input: what breaks the framing ends the connection; what can be answered where
//! it was asked is answered there; anything else gets an `error` message and has no effect. A message
//! about a channel or call that has just ended is no mistake of the client's, since the two messages
//! crossed: it is passed over.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::ProtocolError;
use super::event::EventRequest;
use super::message::{CallId, ChannelId, ClientMessage, OpenRequest, Piece};

/// What a session wants done.
#[derive(Debug)]
pub enum Action {
    /// Ask the authorizer; then [`Session::opened`] or [`Session::ended`].
    Open {
        /// The channel.
        channel: ChannelId,
        /// What to open.
        request: OpenRequest,
    },
    /// Refuse an `open`: this connection has as many channels as it may.
    RefuseChannel {
        /// The channel, which was not made.
        channel: ChannelId,
    },
    /// Refuse an `open` whose credentials cannot be judged.
    RefuseCredentials {
        /// The channel, which was not made.
        channel: ChannelId,
        /// Why.
        error: ProtocolError,
    },
    /// Run a call; then [`Session::call_ended`].
    Call {
        /// The channel.
        channel: ChannelId,
        /// The call.
        call: CallId,
        /// What to do.
        method: String,
        /// With what.
        params: Box<RawValue>,
    },
    /// Answer a call that cannot be run.
    FailCall {
        /// The channel.
        channel: ChannelId,
        /// The call.
        call: CallId,
        /// Why.
        why: CallRefusal,
    },
    /// Let a stream send more.
    Credit {
        /// The channel.
        channel: ChannelId,
        /// The call.
        call: CallId,
        /// How many messages more.
        credit: u32,
    },
    /// Hand a piece of an upload to its call.
    Upload(Piece),
    /// Stop a call without an answer.
    Cancel {
        /// The channel.
        channel: ChannelId,
        /// The call.
        call: CallId,
    },
    /// Ask the authorizer again.
    Credentials {
        /// The channel.
        channel: ChannelId,
        /// What it shall judge.
        credentials: Value,
    },
    /// Stop the channel's calls and answer with `closed`.
    Close {
        /// The channel, which is forgotten.
        channel: ChannelId,
    },
    /// Answer with `pong`.
    Pong {
        /// What to send back.
        echo: Box<RawValue>,
    },
    /// What is about events, which know no channels of databases.
    Event(EventRequest),
    /// Refuse an `identify` whose credentials cannot be judged.
    RefuseIdentity(ProtocolError),
    /// Answer with `error`.
    Complain(ProtocolError),
    /// End the connection with close code 1002.
    Break(ProtocolError),
}

/// Why a call was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallRefusal {
    /// There is no such channel.
    NoChannel,
    /// The channel's `open` has not been answered.
    NotOpenYet,
    /// A call of this number is in progress.
    InProgress,
}

#[derive(Debug, Default)]
struct Channel {
    open: bool,
    calls: HashSet<CallId>,
}

/// One connection's channels and calls.
#[derive(Debug)]
pub struct Session {
    channels: HashMap<ChannelId, Channel>,
    channels_max: usize,
}

impl Session {
    /// A session without channels.
    #[must_use]
    pub fn new(channels_max: usize) -> Self {
        Self { channels: HashMap::new(), channels_max }
    }

    /// Takes a text message.
    pub fn text(&mut self, text: &str) -> Option<Action> {
        match ClientMessage::parse(text) {
            Ok(message) => self.message(message),
            Err(error @ (ProtocolError::NotAMessage | ProtocolError::BadBinary)) => {
                Some(Action::Break(error))
            }
            Err(error @ ProtocolError::CredentialsTooLarge { channel, .. })
                if !self.channels.contains_key(&channel) =>
            {
                Some(Action::RefuseCredentials { channel, error })
            }
            Err(error @ ProtocolError::IdentityTooLarge { .. }) => {
                Some(Action::RefuseIdentity(error))
            }
            Err(error) => Some(Action::Complain(error)),
        }
    }

    /// Takes a binary message.
    pub fn binary(&mut self, message: &Bytes) -> Option<Action> {
        match Piece::parse(message) {
            Ok(piece) => self.has_call(piece.channel, piece.call).then_some(Action::Upload(piece)),
            Err(error) => Some(Action::Break(error)),
        }
    }

    fn message(&mut self, message: ClientMessage) -> Option<Action> {
        match message {
            ClientMessage::Open { channel, request } => Some(self.open(channel, request)),
            ClientMessage::Call { channel, call, method, params } => {
                Some(match self.begin_call(channel, call) {
                    Ok(()) => Action::Call { channel, call, method, params },
                    Err(why) => Action::FailCall { channel, call, why },
                })
            }
            ClientMessage::More { channel, call, credit } => {
                self.has_call(channel, call).then_some(Action::Credit { channel, call, credit })
            }
            ClientMessage::Cancel { channel, call } => {
                let ended = self.call_ended(channel, call);
                ended.then_some(Action::Cancel { channel, call })
            }
            ClientMessage::Credentials { channel, credentials } => {
                let open = self.channels.get(&channel).is_some_and(|c| c.open);
                open.then_some(Action::Credentials { channel, credentials })
            }
            ClientMessage::Close { channel } => {
                self.ended(channel).then_some(Action::Close { channel })
            }
            ClientMessage::Ping { echo } => Some(Action::Pong { echo }),
            ClientMessage::Pong => None,
            ClientMessage::Event(request) => Some(Action::Event(request)),
        }
    }

    fn open(&mut self, channel: ChannelId, request: OpenRequest) -> Action {
        if self.channels.contains_key(&channel) {
            return Action::Complain(ProtocolError::ChannelInUse { channel });
        }
        if self.channels.len() >= self.channels_max {
            return Action::RefuseChannel { channel };
        }
        self.channels.insert(channel, Channel::default());
        Action::Open { channel, request }
    }

    fn begin_call(&mut self, channel: ChannelId, call: CallId) -> Result<(), CallRefusal> {
        let channel = self.channels.get_mut(&channel).ok_or(CallRefusal::NoChannel)?;
        if !channel.open {
            return Err(CallRefusal::NotOpenYet);
        }
        if channel.calls.insert(call) { Ok(()) } else { Err(CallRefusal::InProgress) }
    }

    fn has_call(&self, channel: ChannelId, call: CallId) -> bool {
        self.channels.get(&channel).is_some_and(|c| c.calls.contains(&call))
    }

    /// The authorizer granted a channel. False if the client has closed it meanwhile.
    pub fn opened(&mut self, channel: ChannelId) -> bool {
        self.channels.get_mut(&channel).map(|c| c.open = true).is_some()
    }

    /// A call is over. False if it was over already.
    pub fn call_ended(&mut self, channel: ChannelId, call: CallId) -> bool {
        self.channels.get_mut(&channel).is_some_and(|c| c.calls.remove(&call))
    }

    /// A channel is over: refused, closed or revoked. False if it was over already.
    pub fn ended(&mut self, channel: ChannelId) -> bool {
        self.channels.remove(&channel).is_some()
    }

    /// Number of channels, those being opened included.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a script of messages and compares what each leads to.
    fn check(session: &mut Session, script: &[(&str, &str)]) {
        for (text, expected) in script {
            let action = format!("{:?}", session.text(text));
            assert!(action.contains(expected), "{text}: {action}, expected {expected}");
        }
    }

    const OPEN: &str = r#"["open",1,{"database":"a"}]"#;

    #[test]
    fn a_channel_opens_lives_and_closes() {
        let mut session = Session::new(2);
        check(&mut session, &[(OPEN, "Open"), (r#"["call",1,1,"info"]"#, "NotOpenYet")]);
        assert!(session.opened(1));
        check(
            &mut session,
            &[
                (r#"["call",1,1,"info"]"#, "Some(Call"),
                (r#"["call",1,1,"info"]"#, "InProgress"),
                (r#"["more",1,1,2]"#, "Credit"),
                (r#"["cancel",1,1]"#, "Cancel"),
                (r#"["cancel",1,1]"#, "None"),
                (r#"["more",1,1,2]"#, "None"),
                (r#"["call",1,1,"info"]"#, "Some(Call"),
                (r#"["credentials",1,5]"#, "Credentials"),
                (r#"["close",1]"#, "Close"),
                (r#"["close",1]"#, "None"),
                (r#"["call",1,2,"info"]"#, "NoChannel"),
                (r#"["credentials",1,5]"#, "None"),
                (OPEN, "Open"),
            ],
        );
    }

    #[test]
    fn channels_are_bounded_and_unique() {
        let mut session = Session::new(2);
        check(
            &mut session,
            &[
                (OPEN, "Open"),
                (OPEN, "Complain(ChannelInUse"),
                (r#"["open",2,{"database":"a"}]"#, "Open"),
                (r#"["open",3,{"database":"a"}]"#, "RefuseChannel"),
                (r#"["close",1]"#, "Close"),
                (r#"["open",3,{"database":"a"}]"#, "Some(Open"),
            ],
        );
        assert!(!session.opened(1), "closed while it was being opened");
    }

    #[test]
    fn only_broken_framing_breaks_the_connection() {
        let mut session = Session::new(2);
        check(
            &mut session,
            &[
                ("nonsense", "Break(NotAMessage)"),
                ("[\"fly\"]", "Complain(UnknownVerb"),
                ("[\"close\"]", "Complain(Malformed"),
                ("[\"ping\",1]", "Pong"),
                ("[\"pong\",1]", "None"),
            ],
        );
        let short = Bytes::from_static(b"\0\0");
        assert!(matches!(session.binary(&short), Some(Action::Break(ProtocolError::BadBinary))));
        let piece = Piece { channel: 1, call: 1, last: false, bytes: Bytes::new() };
        assert!(session.binary(&piece.encode()).is_none());
    }
}
