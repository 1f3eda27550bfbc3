//! Single messages: JSON arrays with the verb first, and binary pieces of attachments.

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::ProtocolError;
use super::event::{EventNotice, EventRequest};
use crate::doc::printable;

/// A channel's number, chosen by the client, unique among the connection's open channels.
pub type ChannelId = u32;

/// A call's number, chosen by the client, unique among the channel's calls in progress.
pub type CallId = u32;

/// An error as the wire shows it, on a socket and over HTTP alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason} ({error})")]
pub struct WireError {
    /// The HTTP status with the same meaning.
    pub status: u16,
    /// CouchDB's name of the error.
    pub error: String,
    /// What is wrong, for a person.
    pub reason: String,
}

/// What a client sends.
#[derive(Debug, Clone)]
pub enum ClientMessage {
    /// `["open", channel, {"database", "credentials", "create"}]`
    Open {
        /// The new channel.
        channel: ChannelId,
        /// What to open.
        request: OpenRequest,
    },
    /// `["call", channel, call, method, params]`
    Call {
        /// The channel.
        channel: ChannelId,
        /// The new call.
        call: CallId,
        /// What to do.
        method: String,
        /// With what: a JSON object.
        params: Box<RawValue>,
    },
    /// `["more", channel, call, credit]`
    More {
        /// The channel.
        channel: ChannelId,
        /// The streaming call.
        call: CallId,
        /// How many more messages it may send.
        credit: u32,
    },
    /// `["cancel", channel, call]`
    Cancel {
        /// The channel.
        channel: ChannelId,
        /// The call.
        call: CallId,
    },
    /// `["credentials", channel, credentials]`
    Credentials {
        /// The channel.
        channel: ChannelId,
        /// What the authorizer shall judge now.
        credentials: Value,
    },
    /// `["close", channel]`
    Close {
        /// The channel.
        channel: ChannelId,
    },
    /// `["ping", any]`
    Ping {
        /// Comes back in the pong.
        echo: Box<RawValue>,
    },
    /// `["pong", any]`
    Pong,
    /// What is about events.
    Event(EventRequest),
}

/// What to open. Printing it for debugging leaves the credentials out.
#[derive(Clone, Serialize, Deserialize)]
pub struct OpenRequest {
    /// The database's name as the client knows it.
    pub database: String,
    /// Any JSON; `null` if there is none.
    #[serde(default)]
    pub credentials: Value,
    /// Whether to make the database if it is not there and the grant allows it.
    #[serde(default)]
    pub create: bool,
}

impl fmt::Debug for OpenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenRequest")
            .field("database", &self.database)
            .field("create", &self.create)
            .finish_non_exhaustive()
    }
}

/// What the gateway sends.
#[derive(Debug, Clone)]
pub enum ServerMessage {
    /// `["opened", channel, {...}]`
    Opened {
        /// The channel.
        channel: ChannelId,
        /// What was opened.
        opened: Opened,
    },
    /// `["refused", channel, error]`
    Refused {
        /// The channel, which is free again.
        channel: ChannelId,
        /// Why.
        error: WireError,
    },
    /// `["reply", channel, call, value]`
    Reply {
        /// The channel.
        channel: ChannelId,
        /// The call, which is over.
        call: CallId,
        /// Its result.
        value: Box<RawValue>,
    },
    /// `["fail", channel, call, error]`
    Fail {
        /// The channel.
        channel: ChannelId,
        /// The call, which is over.
        call: CallId,
        /// Why.
        error: WireError,
    },
    /// `["rows", channel, call, [row, ...], note]`
    Rows {
        /// The channel.
        channel: ChannelId,
        /// The streaming call.
        call: CallId,
        /// The rows.
        rows: Vec<Box<RawValue>>,
        /// What goes for all of them; for `changes` [`RowsNote`], else `null`.
        note: Option<RowsNote>,
    },
    /// `["end", channel, call, value]`
    End {
        /// The channel.
        channel: ChannelId,
        /// The streaming call, which is over.
        call: CallId,
        /// What goes for the whole stream.
        value: Box<RawValue>,
    },
    /// `["more", channel, call, credit]`: for an upload
    More {
        /// The channel.
        channel: ChannelId,
        /// The uploading call.
        call: CallId,
        /// How many more pieces the client may send.
        credit: u32,
    },
    /// `["closed", channel, error or null]`
    Closed {
        /// The channel, which is free again.
        channel: ChannelId,
        /// Why, unless the client asked for it.
        error: Option<WireError>,
    },
    /// `["error", error]`: a message was not understood and had no effect
    Error {
        /// What was wrong with it.
        error: WireError,
    },
    /// `["ping", any]`
    Ping {
        /// Comes back in the pong.
        echo: Box<RawValue>,
    },
    /// `["pong", any]`
    Pong,
    /// What is about events.
    Event(EventNotice),
}

/// What stands beside the rows of a `changes` stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsNote {
    /// Everything up to here has been sent.
    pub last_seq: String,
    /// Rows still to come, as far as is known; 0 means that the reader has everything.
    pub pending: u64,
}

/// What was opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// The database, as `info` tells it.
    pub info: Info,
    /// What the grant allows.
    pub access: Access,
    /// The bounds a client must keep.
    pub limits: ChannelLimits,
}

/// What a database tells of itself, in CouchDB's members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Its name behind the gateway.
    pub db_name: String,
    /// Documents that are not deleted.
    pub doc_count: u64,
    /// Deleted documents.
    pub doc_del_count: u64,
    /// The place after the last change: opaque text that begins with a number.
    pub update_seq: String,
    /// Names the database for ever; another one made under the same name has another.
    pub uuid: String,
    /// Whether it is in memory behind the gateway, and goes some time after its last client.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ephemeral: bool,
}

/// What a grant allows, as the client is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Whether documents may be read.
    pub read: bool,
    /// Whether documents may be written.
    pub write: bool,
    /// Whether the database may be destroyed.
    #[serde(default)]
    pub destroy: bool,
    /// The user that the credentials stand for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Milliseconds until new credentials are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// Names the part of the database that is shown, if not all is; it enters the replication id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
}

/// The bounds a client must keep, from the gateway's `Limits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelLimits {
    /// Bytes of one message.
    pub message_bytes_max: u64,
    /// Documents in one call.
    pub bulk_rows_max: u64,
    /// Bytes of one document.
    pub doc_bytes_max: u64,
    /// Bytes of one attachment.
    pub attachment_bytes_max: u64,
    /// `rows` messages under way in one stream.
    pub stream_credit_max: u32,
    /// Pieces of an upload that may be sent before the first `more`.
    pub upload_credit: u32,
    /// Uploads that documents of one call may refer to.
    pub uploads_max: u32,
}

/// Bytes of credentials' JSON text at most, in an `open` together with what stands beside them. A
/// parsed value may take many times its text.
pub const CREDENTIALS_BYTES_MAX: usize = 64 * 1024;

/// Elements of a message that mean anything; later ones are passed over unread.
const ELEMENTS_MAX: usize = 8;

/// The first elements of a message.
pub(super) struct Elements<'a>(pub Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;
        impl<'de> Visitor<'de> for First {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
                let mut first = Vec::new();
                while first.len() < ELEMENTS_MAX {
                    let Some(element) = all.next_element()? else { return Ok(Elements(first)) };
                    first.push(element);
                }
                while all.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Elements(first))
            }
        }
        deserializer.deserialize_seq(First)
    }
}

fn elements(text: &str) -> Result<(String, Elements<'_>), ProtocolError> {
    let mut elements: Elements<'_> =
        serde_json::from_str(text).map_err(|_| ProtocolError::NotAMessage)?;
    if elements.0.is_empty() {
        return Err(ProtocolError::NotAMessage);
    }
    let verb = elements.0.remove(0).get();
    let verb: String = serde_json::from_str(verb).map_err(|_| ProtocolError::NotAMessage)?;
    Ok((verb, elements))
}

/// Checks the length of what credentials are in, before it is parsed.
fn check_credentials(elements: &Elements<'_>) -> Result<(), ProtocolError> {
    let max = CREDENTIALS_BYTES_MAX;
    match (number(elements, 0), elements.0.get(1)) {
        (Some(channel), Some(text)) if text.get().len() > max => {
            Err(ProtocolError::CredentialsTooLarge { channel, max })
        }
        _ => Ok(()),
    }
}

pub(super) fn element<T: DeserializeOwned>(elements: &Elements<'_>, place: usize) -> Option<T> {
    serde_json::from_str(elements.0.get(place)?.get()).ok()
}

/// A channel or call number: 1 or more.
pub(super) fn number(elements: &Elements<'_>, place: usize) -> Option<u32> {
    element(elements, place).filter(|n| *n > 0)
}

pub(super) fn raw(elements: &Elements<'_>, place: usize) -> Option<Box<RawValue>> {
    elements.0.get(place).map(|value| (*value).to_owned())
}

pub(super) fn null() -> Box<RawValue> {
    RawValue::from_string("null".into()).expect("null is JSON")
}

impl ClientMessage {
    /// Reads a text message. Elements after those of its form are passed over, so that later
    /// versions may add some.
    ///
    /// # Errors
    /// [`ProtocolError`] that says which form was expected.
    pub fn parse(text: &str) -> Result<Self, ProtocolError> {
        let (verb, rest) = elements(text)?;
        if matches!(verb.as_str(), "open" | "credentials") {
            check_credentials(&rest)?;
        }
        let malformed = |verb, expected| ProtocolError::Malformed { verb, expected };
        match verb.as_str() {
            "open" => (|| {
                let request: OpenRequest = element(&rest, 1)?;
                Some(Self::Open { channel: number(&rest, 0)?, request })
            })()
            .ok_or(malformed(
                "open",
                "[\"open\", CHANNEL, {\"database\": NAME, \"credentials\": ANY}]",
            )),
            "call" => (|| {
                let params = raw(&rest, 3)
                    .or_else(|| RawValue::from_string("{}".into()).ok())
                    .filter(|params| params.get().starts_with('{'))?;
                Some(Self::Call {
                    channel: number(&rest, 0)?,
                    call: number(&rest, 1)?,
                    method: element(&rest, 2)?,
                    params,
                })
            })()
            .ok_or(malformed("call", "[\"call\", CHANNEL, CALL, METHOD, {PARAMS}]")),
            "more" => (|| {
                Some(Self::More {
                    channel: number(&rest, 0)?,
                    call: number(&rest, 1)?,
                    credit: number(&rest, 2)?,
                })
            })()
            .ok_or(malformed("more", "[\"more\", CHANNEL, CALL, CREDIT]")),
            "cancel" => {
                (|| Some(Self::Cancel { channel: number(&rest, 0)?, call: number(&rest, 1)? }))()
                    .ok_or(malformed("cancel", "[\"cancel\", CHANNEL, CALL]"))
            }
            "credentials" => (|| {
                Some(Self::Credentials {
                    channel: number(&rest, 0)?,
                    credentials: element(&rest, 1)?,
                })
            })()
            .ok_or(malformed("credentials", "[\"credentials\", CHANNEL, ANY]")),
            "close" => number(&rest, 0)
                .map(|channel| Self::Close { channel })
                .ok_or(malformed("close", "[\"close\", CHANNEL]")),
            "ping" => Ok(Self::Ping { echo: raw(&rest, 0).unwrap_or_else(null) }),
            "pong" => Ok(Self::Pong),
            other => match EventRequest::parse(other, &rest) {
                Some(request) => request.map(Self::Event),
                None => Err(ProtocolError::UnknownVerb { verb: printable(other) }),
            },
        }
    }

    /// The text to send.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Open { channel, request } => print(&("open", channel, request)),
            Self::Call { channel, call, method, params } => {
                print(&("call", channel, call, method, params))
            }
            Self::More { channel, call, credit } => print(&("more", channel, call, credit)),
            Self::Cancel { channel, call } => print(&("cancel", channel, call)),
            Self::Credentials { channel, credentials } => {
                print(&("credentials", channel, credentials))
            }
            Self::Close { channel } => print(&("close", channel)),
            Self::Ping { echo } => print(&("ping", echo)),
            Self::Pong => print(&("pong",)),
            Self::Event(message) => message.encode(),
        }
    }
}

impl ServerMessage {
    /// Reads a text message.
    ///
    /// # Errors
    /// [`ProtocolError`] that says which form was expected.
    pub fn parse(text: &str) -> Result<Self, ProtocolError> {
        let (verb, rest) = elements(text)?;
        let malformed = |verb, expected| ProtocolError::Malformed { verb, expected };
        let channel = || number(&rest, 0);
        let call = || number(&rest, 1);
        match verb.as_str() {
            "opened" => {
                (|| Some(Self::Opened { channel: channel()?, opened: element(&rest, 1)? }))()
                    .ok_or(malformed("opened", "[\"opened\", CHANNEL, {...}]"))
            }
            "refused" => {
                (|| Some(Self::Refused { channel: channel()?, error: element(&rest, 1)? }))()
                    .ok_or(malformed("refused", "[\"refused\", CHANNEL, ERROR]"))
            }
            "reply" => (|| {
                Some(Self::Reply { channel: channel()?, call: call()?, value: raw(&rest, 2)? })
            })()
            .ok_or(malformed("reply", "[\"reply\", CHANNEL, CALL, VALUE]")),
            "fail" => (|| {
                Some(Self::Fail { channel: channel()?, call: call()?, error: element(&rest, 2)? })
            })()
            .ok_or(malformed("fail", "[\"fail\", CHANNEL, CALL, ERROR]")),
            "rows" => (|| {
                Some(Self::Rows {
                    channel: channel()?,
                    call: call()?,
                    rows: element(&rest, 2)?,
                    note: element(&rest, 3).unwrap_or_default(),
                })
            })()
            .ok_or(malformed("rows", "[\"rows\", CHANNEL, CALL, [ROW, ...], NOTE]")),
            "end" => {
                (|| Some(Self::End { channel: channel()?, call: call()?, value: raw(&rest, 2)? }))()
                    .ok_or(malformed("end", "[\"end\", CHANNEL, CALL, VALUE]"))
            }
            "more" => (|| {
                Some(Self::More { channel: channel()?, call: call()?, credit: element(&rest, 2)? })
            })()
            .ok_or(malformed("more", "[\"more\", CHANNEL, CALL, CREDIT]")),
            "closed" => (|| {
                Some(Self::Closed {
                    channel: channel()?,
                    error: element(&rest, 1).unwrap_or_default(),
                })
            })()
            .ok_or(malformed("closed", "[\"closed\", CHANNEL, ERROR]")),
            "error" => element(&rest, 0)
                .map(|error| Self::Error { error })
                .ok_or(malformed("error", "[\"error\", ERROR]")),
            "ping" => Ok(Self::Ping { echo: raw(&rest, 0).unwrap_or_else(null) }),
            "pong" => Ok(Self::Pong),
            other => match EventNotice::parse(other, &rest) {
                Some(notice) => notice.map(Self::Event),
                None => Err(ProtocolError::UnknownVerb { verb: printable(other) }),
            },
        }
    }

    /// The text to send.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Opened { channel, opened } => print(&("opened", channel, opened)),
            Self::Refused { channel, error } => print(&("refused", channel, error)),
            Self::Reply { channel, call, value } => print(&("reply", channel, call, value)),
            Self::Fail { channel, call, error } => print(&("fail", channel, call, error)),
            Self::Rows { channel, call, rows, note } => print(&("rows", channel, call, rows, note)),
            Self::End { channel, call, value } => print(&("end", channel, call, value)),
            Self::More { channel, call, credit } => print(&("more", channel, call, credit)),
            Self::Closed { channel, error } => print(&("closed", channel, error)),
            Self::Error { error } => print(&("error", error)),
            Self::Ping { echo } => print(&("ping", echo)),
            Self::Pong => print(&("pong",)),
            Self::Event(message) => message.encode(),
        }
    }
}

/// `["pong", echo]`, in either direction.
#[must_use]
pub fn pong_text(echo: &RawValue) -> String {
    print(&("pong", echo))
}

/// `["reply", channel, call, value]` of a value that is JSON text.
#[must_use]
pub fn reply_text(channel: ChannelId, call: CallId, value: &str) -> String {
    format!("[\"reply\",{channel},{call},{value}]")
}

/// `["end", channel, call, value]` of a value that is JSON text.
#[must_use]
pub fn end_text(channel: ChannelId, call: CallId, value: &str) -> String {
    format!("[\"end\",{channel},{call},{value}]")
}

/// `["rows", channel, call, [...], note]` of rows that are JSON texts joined by commas.
#[must_use]
pub fn rows_text(channel: ChannelId, call: CallId, rows: &str, note: Option<&RowsNote>) -> String {
    let note = print(&note);
    format!("[\"rows\",{channel},{call},[{rows}],{note}]")
}

pub(super) fn print<T: Serialize>(message: &T) -> String {
    serde_json::to_string(message).expect("messages have string keys only")
}

/// A piece of an attachment: one byte (1 on the last piece, else 0), the channel and the call as
/// big-endian 32-bit numbers, then the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The channel.
    pub channel: ChannelId,
    /// The streaming call.
    pub call: CallId,
    /// Whether no more pieces follow.
    pub last: bool,
    /// The bytes.
    pub bytes: Bytes,
}

/// Bytes of an attachment in one [`Piece`] at most.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a [`Piece`] before the attachment's.
pub const PIECE_HEADER_BYTES: usize = 9;

impl Piece {
    /// Reads a binary message.
    ///
    /// # Errors
    /// [`ProtocolError::BadBinary`].
    pub fn parse(message: &Bytes) -> Result<Self, ProtocolError> {
        let (head, _) = message
            .split_first_chunk::<PIECE_HEADER_BYTES>()
            .filter(|(head, _)| head[0] <= 1)
            .ok_or(ProtocolError::BadBinary)?;
        let [last, c0, c1, c2, c3, i0, i1, i2, i3] = *head;
        Ok(Self {
            channel: u32::from_be_bytes([c0, c1, c2, c3]),
            call: u32::from_be_bytes([i0, i1, i2, i3]),
            last: last == 1,
            bytes: message.slice(PIECE_HEADER_BYTES..),
        })
    }

    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(PIECE_HEADER_BYTES + self.bytes.len());
        out.put_u8(u8::from(self.last));
        out.put_u32(self.channel);
        out.put_u32(self.call);
        out.put_slice(&self.bytes);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_messages_print_as_they_were_read() {
        for text in [
            r#"["open",1,{"database":"todos","credentials":{"token":"x"},"create":true}]"#,
            r#"["call",1,7,"bulk_docs",{"docs":[{"n":1.10}]}]"#,
            r#"["more",1,7,4]"#,
            r#"["cancel",1,7]"#,
            r#"["credentials",1,null]"#,
            r#"["close",1]"#,
            r#"["ping",[1,"a"]]"#,
        ] {
            assert_eq!(ClientMessage::parse(text).expect(text).encode(), text);
        }
        assert!(ClientMessage::parse(r#"["call",1,7,"info"]"#).is_ok());
        assert!(ClientMessage::parse(r#"["close",1,"later","more"]"#).is_ok());
    }

    #[test]
    fn server_messages_print_as_they_were_read() {
        let error = r#"{"status":404,"error":"not_found","reason":"missing"}"#;
        for text in [
            &format!(r#"["refused",1,{error}]"#),
            r#"["reply",1,2,{"ok":true}]"#,
            &format!(r#"["fail",1,2,{error}]"#),
            r#"["rows",1,2,[{"id":"a"}],{"last_seq":"1-x","pending":0}]"#,
            r#"["rows",1,2,[],null]"#,
            r#"["end",1,2,null]"#,
            r#"["more",1,2,8]"#,
            r#"["closed",1,null]"#,
            &format!(r#"["closed",1,{error}]"#),
            &format!(r#"["error",{error}]"#),
        ] {
            assert_eq!(ServerMessage::parse(text).expect(text).encode(), text);
        }
    }

    #[test]
    fn texts_made_by_hand_are_those_of_the_messages() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).expect(text);
        let reply = ServerMessage::Reply { channel: 1, call: 2, value: raw("{\"a\":1}") };
        assert_eq!(reply_text(1, 2, "{\"a\":1}"), reply.encode());
        let end = ServerMessage::End { channel: 1, call: 2, value: raw("null") };
        assert_eq!(end_text(1, 2, "null"), end.encode());
        let note = Some(RowsNote { last_seq: "3-\"".into(), pending: 1 });
        let rows =
            ServerMessage::Rows { channel: 1, call: 2, rows: vec![raw("1"), raw("2")], note };
        let ServerMessage::Rows { note, .. } = &rows else { unreachable!() };
        assert_eq!(rows_text(1, 2, "1,2", note.as_ref()), rows.encode());
    }

    #[test]
    fn what_is_no_message_is_named() {
        let check = |text: &str, part: &str| {
            let error = ClientMessage::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        };
        for text in ["", "x", "{}", "[]", "1", "[1]", "[null]", "[\"open\"", "[[\"open\"]]"] {
            check(text, "begins with a verb");
        }
        check("[\"fly\"]", "unknown verb \"fly\"");
        for (text, verb) in [
            ("[\"open\"]", "open"),
            ("[\"open\",0,{\"database\":\"a\"}]", "open"),
            ("[\"open\",1,{}]", "open"),
            ("[\"open\",1,{\"database\":1}]", "open"),
            ("[\"open\",-1,{\"database\":\"a\"}]", "open"),
            ("[\"open\",1.5,{\"database\":\"a\"}]", "open"),
            ("[\"open\",4294967296,{\"database\":\"a\"}]", "open"),
            ("[\"call\",1,1]", "call"),
            ("[\"call\",1,0,\"info\"]", "call"),
            ("[\"call\",1,1,\"info\",[]]", "call"),
            ("[\"call\",1,1,5,{}]", "call"),
            ("[\"more\",1,1,0]", "more"),
            ("[\"more\",1,1,-5]", "more"),
            ("[\"cancel\",1]", "cancel"),
            ("[\"credentials\",1]", "credentials"),
            ("[\"close\"]", "close"),
        ] {
            check(text, &format!("malformed \"{verb}\""));
        }
    }

    #[test]
    fn pieces_round_trip() {
        let piece =
            Piece { channel: 3, call: 70_000, last: true, bytes: Bytes::from_static(b"abc") };
        let bytes = piece.encode();
        assert_eq!(bytes.len(), PIECE_HEADER_BYTES + 3);
        assert_eq!(Piece::parse(&bytes), Ok(piece));
        assert_eq!(Piece::parse(&bytes.slice(..8)), Err(ProtocolError::BadBinary));
        assert_eq!(Piece::parse(&Bytes::from_static(&[2; 20])), Err(ProtocolError::BadBinary));
    }
}
