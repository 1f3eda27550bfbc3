//! Texts with places for what is known of a client: `{name}`, `{name:hex}`, `{claims.team}`.

use serde_json::Value;

use super::identity::Identity;

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Place(Place),
}

/// What takes a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The user's name.
    Name,
    /// The user's name, its bytes in hex, as CouchDB's `couch_peruser` names databases.
    NameHex,
    /// A claim by its path.
    Claim(ClaimPath),
}

/// Where a claim is: names with dots between them, or a JSON pointer (RFC 6901) where names hold
/// dots themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClaimPath(String);

impl ClaimPath {
    pub(super) fn parse(text: &str) -> Self {
        if text.starts_with('/') {
            return Self(text.to_owned());
        }
        let escape = |name: &str| format!("/{}", name.replace('~', "~0"));
        Self(text.split('.').map(escape).collect())
    }

    pub(super) fn of<'a>(&self, claims: &'a Value) -> Option<&'a Value> {
        claims.pointer(&self.0).filter(|value| !value.is_null())
    }
}

/// Takes a text apart. What is in braces and is no place stays text.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        let place = rest[start + 1..].split_once('}').and_then(|(inner, after)| {
            let place = match inner {
                "name" => Place::Name,
                "name:hex" => Place::NameHex,
                claim => Place::Claim(ClaimPath::parse(claim.strip_prefix("claims.")?)),
            };
            Some((place, after))
        });
        plain.push_str(&rest[..start]);
        match place {
            Some((place, after)) => {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Place(place));
                rest = after;
            }
            None => {
                plain.push('{');
                rest = &rest[start + 1..];
            }
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    pieces
}

impl Place {
    /// Its value as text: a text or a number that is not empty.
    pub(super) fn text(&self, identity: &Identity) -> Option<String> {
        let text = match self {
            Self::Name => identity.name.clone()?,
            Self::NameHex => super::secret::hex(identity.name.as_ref()?.as_bytes()),
            Self::Claim(path) => match path.of(&identity.claims)? {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return None,
            },
        };
        (!text.is_empty()).then_some(text)
    }
}

/// A JSON value whose texts are templates.
///
/// A text that is one place and nothing else takes the claim's own value, if that is a scalar or a
/// list of scalars: an object could bring operators into a selector. `None` where a value is
/// missing.
pub(super) fn filled(template: &Value, identity: &Identity) -> Option<Value> {
    Some(match template {
        Value::String(text) => match pieces(text).as_slice() {
            [Piece::Place(Place::Claim(path))] => {
                plain(path.of(&identity.claims)?).then(|| path.of(&identity.claims).cloned())??
            }
            pieces => {
                let text = |piece: &Piece| match piece {
                    Piece::Text(text) => Some(text.clone()),
                    Piece::Place(place) => place.text(identity),
                };
                Value::String(pieces.iter().map(text).collect::<Option<String>>()?)
            }
        },
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| filled(item, identity)).collect::<Option<_>>()?)
        }
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| Some((name.clone(), filled(value, identity)?));
            Value::Object(members.iter().map(member).collect::<Option<_>>()?)
        }
        other => other.clone(),
    })
}

fn plain(value: &Value) -> bool {
    let scalar = |value: &Value| !value.is_array() && !value.is_object();
    value.as_array().map_or_else(|| scalar(value), |items| items.iter().all(scalar))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_filled_with_values_and_never_with_operators() {
        let identity = Identity {
            name: Some("anna".into()),
            claims: json!({"team": "red", "n": 3, "teams": ["a", "b"], "evil": {"$gt": null},
                "list": [{"$gt": 0}], "deep": {"x": "y"}, "https://a.b/c": "odd", "none": null}),
            ..Identity::default()
        };
        let check = |template: Value, expected: Option<Value>| {
            assert_eq!(filled(&template, &identity), expected, "{template}");
        };
        check(json!({"owner": "{name}"}), Some(json!({"owner": "anna"})));
        check(json!({"a": [{"b": "x-{claims.team}"}]}), Some(json!({"a": [{"b": "x-red"}]})));
        check(json!({"$in": "{claims.teams}"}), Some(json!({"$in": ["a", "b"]})));
        check(json!("{claims.n}"), Some(json!(3)));
        check(json!("n{claims.n}"), Some(json!("n3")));
        check(json!("{claims.deep.x}"), Some(json!("y")));
        check(json!("{claims./https:~1~1a.b~1c}"), Some(json!("odd")));
        check(json!({"$regex": "^a{2}$"}), Some(json!({"$regex": "^a{2}$"})));
        for missing in ["evil", "list", "deep", "absent", "none", "team.x"] {
            check(json!({"a": format!("{{claims.{missing}}}")}), None);
        }
        check(json!("x{claims.teams}"), None);
        assert_eq!(filled(&json!("{name}"), &Identity::default()), None);
    }
}
