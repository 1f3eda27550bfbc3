//! Records: one JSON array a line, `[STREAM, EVENT]` or `[STREAM, EVENT, VALUE]` (mux-demux).

use serde_json::value::RawValue;

use crate::doc::json::push_string;
use crate::proto::message::Elements;

/// Bytes of a stream's name at most; the original's have 28.
pub const STREAM_BYTES_MAX: usize = 128;

/// A line that is no JSON: nothing that follows can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line must be JSON")]
pub struct NotJson;

/// One record.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// The stream's name, chosen by whoever opened it.
    pub stream: String,
    /// What happens on it.
    pub event: Event<'a>,
}

/// What a record says.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// Opens the stream.
    New,
    /// A message.
    Data(&'a RawValue),
    /// The sender writes no more, forgets the stream, or saw an error on it: to the receiver the
    /// stream is over in each case.
    Over,
    /// Asks for no more messages.
    Pause,
    /// Asks for messages again.
    Resume,
}

impl<'a> Record<'a> {
    /// Reads a line. `None` is JSON that means nothing here and is passed over, as the original
    /// does.
    ///
    /// # Errors
    /// [`NotJson`].
    pub fn parse(line: &'a str) -> Result<Option<Self>, NotJson> {
        let Ok(Elements(elements)) = serde_json::from_str::<Elements<'a>>(line) else {
            let json = serde_json::from_str::<serde::de::IgnoredAny>(line);
            return json.map(|_| None).map_err(|_| NotJson);
        };
        let text = |place: usize| {
            let text: &str = elements.get(place).map(|element: &&RawValue| element.get())?;
            // No name and no event is longer, with every character escaped.
            let short = text.len() <= STREAM_BYTES_MAX * 6 + 2;
            short.then(|| serde_json::from_str::<String>(text).ok()).flatten()
        };
        let (Some(stream), Some(event)) = (text(0), text(1)) else { return Ok(None) };
        if stream.len() > STREAM_BYTES_MAX {
            return Ok(None);
        }
        let event = match (event.as_str(), elements.get(2)) {
            ("new", _) => Event::New,
            ("data", Some(value)) => Event::Data(value),
            ("end" | "close" | "error", _) => Event::Over,
            ("pause", _) => Event::Pause,
            ("resume", _) => Event::Resume,
            _ => return Ok(None),
        };
        Ok(Some(Self { stream, event }))
    }
}

/// A `data` record, its end of line included; `value` is JSON text.
#[must_use]
pub fn data_text(stream: &str, value: &str) -> String {
    let mut text = String::with_capacity(stream.len() + value.len() + 16);
    text.push('[');
    push_string(&mut text, stream);
    text.push_str(",\"data\",");
    text.push_str(value);
    text.push_str("]\n");
    text
}

/// The records `end` and `close`.
#[must_use]
pub fn over_text(stream: &str) -> String {
    let mut text = String::from("[");
    push_string(&mut text, stream);
    let name = text.clone();
    text.push_str(",\"end\"]\n");
    text.push_str(&name);
    text.push_str(",\"close\"]\n");
    text
}

/// What a granted request is answered with: the channel's name, the end of the negotiation, and the
/// channel itself. In this order, since the client finds no channel whose name it was not told.
#[must_use]
pub fn granted_text(negotiation: &str, channel: &str) -> String {
    let mut name = String::new();
    push_string(&mut name, channel);
    let mut text = data_text(negotiation, &format!("[null,{name}]"));
    text.push_str(&over_text(negotiation));
    text.push_str(&format!(
        "[{name},\"new\",{{\"meta\":{name},\"opts\":{{\"writable\":true,\"readable\":true}}}}]\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_the_rest_is_passed_over() {
        let check = |line: &str, expected: &str| {
            let found = match Record::parse(line) {
                Err(NotJson) => "not JSON".to_owned(),
                Ok(None) => "nothing".to_owned(),
                Ok(Some(record)) => format!("{} {:?}", record.stream, record.event),
            };
            assert!(found.starts_with(expected), "{line}: {found}");
        };
        check(r#"["a","new",{"opts":{}}]"#, "a New");
        check(r#"["a","new"]"#, "a New");
        check(r#"["a","data",{"x":1},2]"#, "a Data");
        check(r#"["\u00e9","end"]"#, "é Over");
        check(r#"["a","close"]"#, "a Over");
        check(r#"["a","error",{"message":"x"}]"#, "a Over");
        check(r#"["a","pause"]"#, "a Pause");
        check(r#"["a","resume"]"#, "a Resume");
        for nothing in ["[]", "{}", "1", "null", "[1,2]", r#"["a"]"#, r#"["a","data"]"#] {
            check(nothing, "nothing");
        }
        check(r#"["a","fly",1]"#, "nothing");
        check(&format!(r#"["{}","new"]"#, "x".repeat(129)), "nothing");
        for not_json in ["", "hello", "[", r#"["a","data",]"#, r#"["a","data",1] x"#] {
            check(not_json, "not JSON");
        }
    }

    #[test]
    fn what_is_written_is_what_the_original_writes() {
        assert_eq!(data_text("a", "[1]"), "[\"a\",\"data\",[1]]\n");
        assert_eq!(over_text("a\""), "[\"a\\\"\",\"end\"]\n[\"a\\\"\",\"close\"]\n");
        assert_eq!(
            granted_text("n", "c"),
            "[\"n\",\"data\",[null,\"c\"]]\n[\"n\",\"end\"]\n[\"n\",\"close\"]\n\
             [\"c\",\"new\",{\"meta\":\"c\",\"opts\":{\"writable\":true,\"readable\":true}}]\n"
        );
    }
}
