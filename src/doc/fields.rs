//! Some fields of a document: the values that an index has of it, and the parts that a reader asked
//! for.

use super::document::Document;
use super::selector::{self, FieldPath};
use super::value::Json;

/// The values of fields, in order; `None` if one of them is not there.
pub(crate) fn values(document: &Document, fields: &[FieldPath]) -> Option<Vec<Json<'static>>> {
    let wanted = |name: &str| fields.iter().any(|field| field.parts()[0] == name);
    let view = selector::view(document, wanted);
    fields.iter().map(|field| field.find(&view).cloned().map(Json::into_owned)).collect()
}

#[cfg(feature = "server")]
/// A document that has some of its fields only, at the places where they were; elements of an array
/// become members that are named by their places, as in CouchDB (`mango_fields:extract`).
pub(crate) fn pick(document: &Document, fields: &[FieldPath]) -> String {
    let text = document.to_json();
    let whole = Json::cut(&text);
    let mut picked = Json::Object(Vec::new());
    for field in fields {
        if let Some(value) = field.find(&whole) {
            put(&mut picked, field.parts(), value.clone());
        }
    }
    picked.to_string()
}

#[cfg(feature = "server")]
/// Sets the value at a path, over whatever is in its way.
fn put<'t>(into: &mut Json<'t>, path: &[String], value: Json<'t>) {
    let Some((first, rest)) = path.split_first() else {
        *into = value;
        return;
    };
    if !matches!(into, Json::Object(_)) {
        *into = Json::Object(Vec::new());
    }
    let Json::Object(members) = into else { return };
    let place = members.iter().position(|(key, _)| key == first).unwrap_or_else(|| {
        members.push((first.clone().into(), Json::Null));
        members.len() - 1
    });
    put(&mut members[place].1, rest, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::{Body, DocId};
    use crate::limits::Limits;

    fn paths(names: &[&str]) -> Vec<FieldPath> {
        names.iter().map(|name| FieldPath::parse(name).expect(name)).collect()
    }

    #[test]
    fn fields_are_picked_at_their_places() {
        let body = r#"{"a":{"b":1,"c":2},"d":[5,6],"n":1.50}"#;
        let body = Body::parse(body, &Limits::default()).expect("a body");
        let document = Document::with_body(DocId::parse("x", 9).expect("an id"), body);
        for (names, text) in [
            (&["a.b", "_id"][..], r#"{"a":{"b":1},"_id":"x"}"#),
            (&["a.c", "a.b", "n"], r#"{"a":{"c":2,"b":1},"n":1.50}"#),
            (&["d.1"], r#"{"d":{"1":6}}"#),
            (&["z", "a.z", "n.z"], "{}"),
        ] {
            assert_eq!(pick(&document, &paths(names)), text);
        }
        let found = values(&document, &paths(&["a.c", "_id"])).expect("both are there");
        assert_eq!(Json::Array(found).to_string(), r#"[2,"x"]"#);
        assert_eq!(values(&document, &paths(&["a.c", "z"])), None);
    }
}
