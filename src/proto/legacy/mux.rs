//! The streams of one connection: requests that are judged, and channels that were granted.
//!
//! A [`Mux`] knows which streams there are and what may follow on them. It is given each line and
//! says what to do; it opens nothing and waits for nothing. A record about a stream that it does not
//! know is passed over: the two messages crossed.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::call::{Call, Request};
use super::record::{Event, Record};
use crate::proto::ProtocolError;

/// A channel, or the request for one, by a number of ours.
pub type Number = u32;

/// What a connection's mux wants done.
#[derive(Debug)]
pub enum Action {
    /// Ask the authorizer; then [`Mux::granted`] or [`Mux::ended`].
    Open {
        /// The channel to be.
        number: Number,
        /// The stream to answer on.
        stream: String,
        /// What to open.
        request: Request,
    },
    /// Refuse a request that cannot be judged. The stream is forgotten.
    Refuse {
        /// The stream to answer on.
        stream: String,
        /// What is wrong with it.
        why: BadRequest,
    },
    /// Run a call.
    Call {
        /// The channel.
        number: Number,
        /// What to do.
        call: Call,
    },
    /// Answer what is no call, and end the channel, which is forgotten.
    NotACall {
        /// The channel.
        number: Number,
        /// Its stream.
        stream: String,
    },
    /// Hold a channel's messages.
    Pause(Number),
    /// Let them go.
    Resume(Number),
    /// Stop a channel's work, and answer that it is over. It is forgotten.
    Close {
        /// The channel.
        number: Number,
        /// Its stream.
        stream: String,
    },
}

/// Why a request cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRequest {
    /// The connection has as many streams as it may.
    TooManyStreams,
    /// It is no object with a `database`.
    Malformed,
    /// It is too long.
    TooLarge,
}

#[derive(Debug)]
struct Stream {
    number: Number,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Opened by the client; its request is still to come.
    New,
    /// Its request is judged.
    Asked,
    /// Opened by us; takes calls.
    Channel,
}

/// One connection's streams.
#[derive(Debug)]
pub struct Mux {
    streams: HashMap<String, Stream>,
    streams_max: usize,
    numbers: Number,
}

impl Mux {
    /// A connection without streams.
    #[must_use]
    pub fn new(streams_max: usize) -> Self {
        Self { streams: HashMap::new(), streams_max, numbers: 0 }
    }

    /// Takes a line.
    ///
    /// # Errors
    /// [`ProtocolError::NotARecord`] for what is no JSON; the connection must end.
    pub fn line(&mut self, line: &str) -> Result<Option<Action>, ProtocolError> {
        let record = Record::parse(line).map_err(|_| ProtocolError::NotARecord)?;
        Ok(record.and_then(|record| self.record(record)))
    }

    fn record(&mut self, record: Record<'_>) -> Option<Action> {
        let Record { stream, event } = record;
        let known = self.streams.get(&stream).map(|known| (known.number, known.phase));
        match (event, known) {
            (Event::New, None) => self.open(stream),
            (Event::Data(value), Some((number, Phase::New))) => {
                Some(self.request(stream, number, value))
            }
            (Event::Data(value), Some((number, Phase::Channel))) => {
                Some(match Call::parse(value) {
                    Some(call) => Action::Call { number, call },
                    None => {
                        self.streams.remove(&stream);
                        Action::NotACall { number, stream }
                    }
                })
            }
            (Event::Pause, Some((number, Phase::Channel))) => Some(Action::Pause(number)),
            (Event::Resume, Some((number, Phase::Channel))) => Some(Action::Resume(number)),
            (Event::Over, Some((number, phase))) => {
                self.streams.remove(&stream);
                (phase != Phase::New).then_some(Action::Close { number, stream })
            }
            _ => None,
        }
    }

    fn open(&mut self, stream: String) -> Option<Action> {
        if self.streams.len() >= self.streams_max {
            return Some(Action::Refuse { stream, why: BadRequest::TooManyStreams });
        }
        self.numbers = self.numbers.wrapping_add(1);
        self.streams.insert(stream, Stream { number: self.numbers, phase: Phase::New });
        None
    }

    fn request(&mut self, stream: String, number: Number, value: &RawValue) -> Action {
        match Request::parse(value) {
            Ok(request) => {
                let asked = Stream { number, phase: Phase::Asked };
                self.streams.insert(stream.clone(), asked);
                Action::Open { number, stream, request }
            }
            Err(why) => {
                self.streams.remove(&stream);
                Action::Refuse { stream, why }
            }
        }
    }

    /// A request was granted: its stream gives way to the channel's. False if the client has closed
    /// it meanwhile.
    pub fn granted(&mut self, number: Number, channel: String) -> bool {
        let ended = self.ended(number);
        if ended {
            self.streams.insert(channel, Stream { number, phase: Phase::Channel });
        }
        ended
    }

    /// A request was refused. False if the client has closed it meanwhile.
    pub fn ended(&mut self, number: Number) -> bool {
        let before = self.streams.len();
        self.streams.retain(|_, stream| stream.number != number);
        self.streams.len() < before
    }

    /// Number of streams, those without a request included.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a script of lines and compares what each leads to.
    fn check(mux: &mut Mux, script: &[(&str, &str)]) {
        for (line, expected) in script {
            let action = format!("{:?}", mux.line(line));
            assert!(action.contains(expected), "{line}: {action}, expected {expected}");
        }
    }

    const REQUEST: &str = r#"["n","data",{"database":"todos","credentials":{"token":"x"}}]"#;

    #[test]
    fn a_channel_is_asked_for_granted_used_and_closed() {
        let mut mux = Mux::new(2);
        check(&mut mux, &[(r#"["n","new",{}]"#, "None"), (REQUEST, "Open { number: 1")]);
        check(&mut mux, &[(REQUEST, "None"), (r#"["c","data",[0,null,"_id",[]]]"#, "None")]);
        assert!(mux.granted(1, "c".into()));
        check(
            &mut mux,
            &[
                (r#"["n","close"]"#, "None"),
                (r#"["c","new",{}]"#, "None"),
                (r#"["c","data",[0,null,"_id",[]]]"#, "Call { number: 1"),
                (r#"["c","pause"]"#, "Pause(1)"),
                (r#"["c","resume"]"#, "Resume(1)"),
                (r#"["c","close"]"#, "Close { number: 1"),
                (r#"["c","close"]"#, "None"),
                (r#"["c","data",[1,null,"_id",[]]]"#, "None"),
            ],
        );
        assert_eq!(mux.streams(), 0);
    }

    #[test]
    fn what_is_no_call_ends_its_channel_and_what_is_no_request_is_refused() {
        let mut mux = Mux::new(2);
        check(&mut mux, &[(r#"["n","new",{}]"#, "None"), (REQUEST, "Open")]);
        assert!(mux.granted(1, "c".into()));
        check(
            &mut mux,
            &[
                (r#"["c","data",true]"#, "NotACall { number: 1"),
                (r#"["m","new"]"#, "None"),
                (r#"["m","data",null]"#, "Malformed"),
                (r#"["m","data",null]"#, "None"),
                ("hello", "NotARecord"),
            ],
        );
        assert_eq!(mux.streams(), 0);
    }

    #[test]
    fn streams_are_bounded() {
        let mut mux = Mux::new(2);
        check(
            &mut mux,
            &[
                (r#"["a","new"]"#, "None"),
                (r#"["a","new"]"#, "None"),
                (r#"["b","new"]"#, "None"),
                (r#"["d","new"]"#, "TooManyStreams"),
                (r#"["d","data",{"database":"todos"}]"#, "None"),
                (r#"["b","close"]"#, "None"),
                (r#"["d","new"]"#, "None"),
            ],
        );
        assert_eq!(mux.streams(), 2);
    }

    #[test]
    fn a_request_that_was_closed_is_not_granted() {
        let mut mux = Mux::new(2);
        check(&mut mux, &[(r#"["n","new"]"#, "None"), (REQUEST, "Open")]);
        check(&mut mux, &[(r#"["n","end"]"#, "Close")]);
        assert!(!mux.granted(1, "c".into()));
        assert_eq!(mux.streams(), 0);
    }
}
