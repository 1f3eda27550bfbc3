//! JSON that is read a document at a time: lines, an array, or an array within an object.
//!
//! Reading blocks, so it is done by a thread of its own, which is a few documents ahead of the
//! writer.

use std::fmt;
use std::io::{BufRead, Read};

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tokio::sync::mpsc::Sender;

/// Where in the input something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A line, from 1.
    Line(u64),
    /// An element of the array, from 1.
    Element(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Element(number) => write!(f, "element {number}"),
        }
    }
}

/// What the thread that reads has to say.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// The text of one document.
    Text(Place, String),
    /// Something that cannot be one; the rest goes on.
    Bad(Place, String),
    /// The input is one object over many lines, and no member was named.
    OneObject,
    /// The input cannot be read further.
    Broken(String),
}

/// Reads an input to its end, or until nobody listens.
pub fn read(mut input: impl BufRead, array: Option<&str>, items: &Sender<Item>) {
    let ended = match (array, first_byte(&mut input)) {
        (_, Err(error)) => Err(error.to_string()),
        (Some(member), Ok(_)) => read_json(input, Some(member), items),
        (None, Ok(Some(b'['))) => read_json(input, None, items),
        (None, Ok(_)) => read_lines(input, items),
    };
    if let Err(problem) = ended {
        // A writer that stopped listening has said why.
        let _ = items.blocking_send(Item::Broken(problem));
    }
}

/// The first byte that is no space, left in the input.
fn first_byte(input: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    loop {
        let buffer = input.fill_buf()?;
        let Some(first) = buffer.first().copied() else { return Ok(None) };
        // Line feeds are left: lines are counted.
        if !matches!(first, b' ' | b'\t' | b'\r') {
            return Ok(Some(first));
        }
        input.consume(1);
    }
}

fn read_lines(mut input: impl BufRead, items: &Sender<Item>) -> Result<(), String> {
    let mut number = 0;
    let mut blank_so_far = true;
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line).map_err(|error| error.to_string())? == 0 {
            return Ok(());
        }
        number += 1;
        let item = match String::from_utf8(line) {
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) if blank_so_far && text.trim() == "{" => Item::OneObject,
            Ok(text) => Item::Text(Place::Line(number), text),
            Err(_) => Item::Bad(Place::Line(number), "it is not UTF-8".into()),
        };
        blank_so_far = false;
        let last = item == Item::OneObject;
        if items.blocking_send(item).is_err() || last {
            return Ok(());
        }
    }
}

fn read_json(input: impl Read, member: Option<&str>, items: &Sender<Item>) -> Result<(), String> {
    let mut json = serde_json::Deserializer::from_reader(input);
    let read = match member {
        None => Elements { items }.deserialize(&mut json),
        Some(name) => json.deserialize_map(Member { name, items }),
    };
    match read {
        Ok(()) => json.end().map_err(|error| error.to_string()),
        Err(_) if items.is_closed() => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Sends each element of an array as its text.
struct Elements<'s> {
    items: &'s Sender<Item>,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of documents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(element) = elements.next_element::<Box<RawValue>>()? {
            number += 1;
            let item = Item::Text(Place::Element(number), String::from(Box::<str>::from(element)));
            if self.items.blocking_send(item).is_err() {
                return Err(serde::de::Error::custom("nobody listens"));
            }
        }
        Ok(())
    }
}

/// Finds the member that holds the array.
struct Member<'s> {
    name: &'s str,
    items: &'s Sender<Item>,
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the member {:?}", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(name) = members.next_key::<String>()? {
            if name == self.name && !found {
                found = true;
                members.next_value_seed(Elements { items: self.items })?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        if found {
            return Ok(());
        }
        Err(serde::de::Error::custom(format_args!("there is no member {:?}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &[u8], array: Option<&str>) -> Vec<Item> {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(100);
        read(text, array, &sender);
        drop(sender);
        std::iter::from_fn(|| receiver.blocking_recv()).collect()
    }

    fn texts(text: &str, array: Option<&str>) -> Vec<String> {
        let text_of = |item| match item {
            Item::Text(place, text) => format!("{place}: {}", text.trim()),
            other => format!("{other:?}"),
        };
        items(text.as_bytes(), array).into_iter().map(text_of).collect()
    }

    #[test]
    fn lines_arrays_and_members_are_told_apart() {
        assert_eq!(texts("{\"a\":1.0}\n\n[\n", None), ["line 1: {\"a\":1.0}", "line 3: ["]);
        assert_eq!(texts("\n {\"a\":1}", None), ["line 2: {\"a\":1}"]);
        assert_eq!(
            texts(" [ {\"a\": 1.0}\n, 7 ]\n", None),
            ["element 1: {\"a\": 1.0}", "element 2: 7"]
        );
        let object = r#"{"version":[1],"rows":[{"a":1}],"more":{"rows":[2]}}"#;
        assert_eq!(texts(object, Some("rows")), ["element 1: {\"a\":1}"]);
        assert_eq!(texts("", None), [""; 0]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let last = |text: &[u8], array| items(text, array).pop();
        let broken = |text, array, part: &str| match last(text, array) {
            Some(Item::Broken(problem)) => assert!(problem.contains(part), "{problem}"),
            other => panic!("{other:?}"),
        };
        broken(b"[{}, {]", None, "line 1");
        broken(b"[{}", None, "EOF");
        broken(b"[] x", None, "trailing");
        broken(br#"{"a":[]}"#, Some("b"), "no member \"b\"");
        broken(br#"{"b":7}"#, Some("b"), "array of documents");
        assert_eq!(last(b"{\n\"a\":[]}", None), Some(Item::OneObject));
        assert_eq!(
            last(b"{}\n\xff\n", None),
            Some(Item::Bad(Place::Line(2), "it is not UTF-8".into()))
        );
    }
}
