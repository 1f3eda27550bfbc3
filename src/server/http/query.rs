//! Query strings: names and values, and values of the types that CouchDB's parameters have.

use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use crate::proto::message::WireError;
use crate::server::error::{bad_request, query_parse_error};

/// A query string taken apart. Where a name occurs twice the first counts, as in CouchDB.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Result<Self, WireError> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
        };
        pairs.map(pair).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Refuses names that are not among these.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), WireError> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                Err(query_parse_error(format!("there is no parameter {}", shown(name))))
            }
        }
    }

    /// `true` or `false`; false where it is not there.
    pub(super) fn flag(&self, name: &str) -> Result<bool, WireError> {
        Ok(self.flag_if_any(name)?.unwrap_or(false))
    }

    pub(super) fn flag_if_any(&self, name: &str) -> Result<Option<bool>, WireError> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => {
                let problem = format!("Invalid boolean parameter: {}", shown(other));
                Err(query_parse_error(problem))
            }
        }
    }

    /// A whole number that is not negative.
    pub(super) fn count(&self, name: &str) -> Result<Option<u64>, WireError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(count) if digits => Ok(Some(count)),
            _ => {
                let problem =
                    format!("Invalid value for {name}: {}; it must be 0 or more", shown(text));
                Err(query_parse_error(problem))
            }
        }
    }

    /// A value in JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, WireError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        serde_json::from_str(text)
            .map(Some)
            .map_err(|_| bad_request(format!("Invalid JSON in parameter {name}: {}", shown(text))))
    }
}

/// Outside text for an error: cut, and without what a terminal could act on.
fn shown(text: &str) -> String {
    format!("{:?}", crate::doc::printable(text))
}

/// Percent-decodes one piece of a path or query.
pub(super) fn decode(text: &str) -> Result<String, WireError> {
    let bytes = text.as_bytes();
    let broken = bytes.iter().enumerate().any(|(at, byte)| {
        let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
        *byte == b'%' && !(hex(at + 1) && hex(at + 2))
    });
    if broken {
        return Err(bad_request("a percent sign must be followed by two hex digits"));
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| bad_request("percent-encoded text must be UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_checked() {
        let query = Query::parse("a=1&a=2&b=true&c=x%2By+z&d&e=%22k%22&n=-1").unwrap();
        assert_eq!(query.text("a"), Some("1"));
        assert_eq!(query.count("a"), Ok(Some(1)));
        assert_eq!(query.flag("b"), Ok(true));
        assert_eq!(query.flag("zz"), Ok(false));
        assert_eq!(query.text("c"), Some("x+y z"));
        assert_eq!(query.text("d"), Some(""));
        assert_eq!(query.json::<String>("e"), Ok(Some("k".into())));
        assert_eq!(query.count("n").unwrap_err().error, "query_parse_error");
        assert_eq!(query.flag("a").unwrap_err().status, 400);
        for bad in ["a=%", "a=%4", "%zz=1", "a=%ff", "a=%E4"] {
            assert_eq!(Query::parse(bad).unwrap_err().status, 400, "{bad}");
        }
    }
}
