//! Attachments as the client of 2015 sends them: it turns a document to JSON as it stands, so that
//! the bytes come as Node prints a Buffer, `{"type":"Buffer","data":[104,105]}`. A browser's Blob
//! becomes `{}` and its bytes are lost on the way.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::doc::json::{object_members, push_string};
use crate::doc::{ParseError, printable};
use crate::limits::Limits;

/// The document with its attachments' bytes in base64, as everything else reads them.
///
/// # Errors
/// [`ParseError::Attachment`] for bytes that were lost on the way or are too many. What else is
/// wrong with a document is told when it is read.
pub fn with_plain_attachments<'a>(
    document: &'a str,
    limits: &Limits,
) -> Result<Cow<'a, str>, ParseError> {
    if !document.contains("\"_attachments\"") {
        return Ok(Cow::Borrowed(document));
    }
    // A list of bytes has more elements than a document may; the message's length bounds it.
    let limits = Limits { json_members_max: usize::MAX, ..limits.clone() };
    let Ok(members) = object_members(document, &limits) else {
        return Ok(Cow::Borrowed(document));
    };
    let parts = members.iter().map(|member| {
        let value = match &*member.key {
            "_attachments" => plain_attachments(&member.value, &limits)?,
            _ => Cow::Borrowed(&*member.value),
        };
        Ok((&*member.key, value))
    });
    Ok(Cow::Owned(object(parts.collect::<Result<Vec<_>, ParseError>>()?)))
}

fn object(members: Vec<(&str, Cow<'_, str>)>) -> String {
    let mut out = String::from("{");
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_string(&mut out, name);
        out.push(':');
        out.push_str(&value);
    }
    out.push('}');
    out
}

fn plain_attachments<'a>(text: &'a str, limits: &Limits) -> Result<Cow<'a, str>, ParseError> {
    let Ok(attachments) = object_members(text, limits) else { return Ok(Cow::Borrowed(text)) };
    let one = |name: &str, text: &str| {
        let refused = |problem| ParseError::Attachment { name: printable(name), problem };
        plain_attachment(text, limits).map_err(refused)
    };
    let mut plain = Vec::with_capacity(attachments.len());
    for attachment in &attachments {
        plain.push((&*attachment.key, Cow::Owned(one(&attachment.key, &attachment.value)?)));
    }
    Ok(Cow::Owned(object(plain)))
}

fn plain_attachment(text: &str, limits: &Limits) -> Result<String, &'static str> {
    let Ok(members) = object_members(text, limits) else { return Ok(text.to_owned()) };
    let mut plain = Vec::with_capacity(members.len());
    for member in &members {
        let value = if member.key == "data" && member.value.starts_with('{') {
            let Buffer { data: Bytes(bytes), .. } = serde_json::from_str(&member.value).map_err(
                |_| "its bytes did not travel: this protocol carries Node's Buffers only",
            )?;
            if bytes.len() as u64 > limits.attachment_bytes_max {
                return Err("it is larger than an attachment may be");
            }
            Cow::Owned(format!("\"{}\"", STANDARD.encode(bytes)))
        } else {
            Cow::Borrowed(&*member.value)
        };
        plain.push((&*member.key, value));
    }
    Ok(object(plain))
}

/// `{"type":"Buffer","data":[104,105]}`
#[derive(Deserialize)]
struct Buffer {
    #[serde(rename = "type")]
    _kind: BufferKind,
    data: Bytes,
}

#[derive(Deserialize)]
enum BufferKind {
    Buffer,
}

/// A list of bytes, in one byte each.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of bytes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = all.next_element::<u64>()? {
                    bytes.push(u8::try_from(byte).map_err(A::Error::custom)?);
                }
                Ok(Bytes(bytes))
            }
        }
        from.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_become_base64_and_the_rest_stays_as_it_is() {
        let check = |document: &str, expected: &str| {
            let plain = with_plain_attachments(document, &Limits::default()).expect(document);
            assert_eq!(plain, expected);
        };
        for same in [
            r#"{"_id":"a","n":1.10}"#,
            r#"{"_attachments":7}"#,
            r#"{"_attachments":{"t":7}}"#,
            r#"{"_attachments":{"t":{"stub":true,"digest":"md5-x"}}}"#,
            r#"{"_attachments":{"t":{"data":"aGk="}}}"#,
            r#"["_attachments"]"#,
            r#"{"_attachments""#,
        ] {
            check(same, same);
        }
        check(
            r#"{"_id":"a","n":1.10,"_attachments":{"t\"":{"content_type":"text/plain","revpos":1,"data":{"type":"Buffer","data":[104,105]}}}}"#,
            r#"{"_id":"a","n":1.10,"_attachments":{"t\"":{"content_type":"text/plain","revpos":1,"data":"aGk="}}}"#,
        );
    }

    #[test]
    fn lost_bytes_are_refused_for_that_document() {
        let limits = Limits { attachment_bytes_max: 3, ..Limits::default() };
        for data in [
            "{}",
            r#"{"type":"Buffer"}"#,
            r#"{"type":"Blob","data":[1]}"#,
            r#"{"type":"Buffer","data":[256]}"#,
            r#"{"type":"Buffer","data":[-1]}"#,
            r#"{"type":"Buffer","data":["a"]}"#,
            r#"{"type":"Buffer","data":[1,2,3,4]}"#,
        ] {
            let document = format!(r#"{{"_id":"a","_attachments":{{"t":{{"data":{data}}}}}}}"#);
            let refused = with_plain_attachments(&document, &limits).expect_err(data);
            assert!(matches!(refused, ParseError::Attachment { .. }), "{data}: {refused}");
        }
    }
}
