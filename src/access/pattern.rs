//! Patterns of database names.
//!
//! `*` stands for any number of characters, `{name}` for the user's name, `{claims.team}` for a
//! claim. What takes a place is encoded: `a` to `z` and digits stay, every other byte becomes `$`
//! and two hex digits. The result is always legal in a database name, two names never make the same
//! one, and no name reaches beyond its place, since `-`, `/` and `*` are encoded too.

use serde::Deserialize;

use crate::doc::{DbName, fits};

use super::error::AccessError;
use super::identity::Identity;
use super::template::{self, Place};

/// A pattern of database names.
///
/// ```
/// use settee::access::{Identity, Pattern};
/// use settee::DbName;
/// let pattern = Pattern::parse("user-{name}")?;
/// let anna = Identity { name: Some("anna@a.org".into()), ..Identity::default() };
/// assert!(pattern.matches(&DbName::parse("user-anna$40a$2eorg")?, &anna));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Any,
    Place(Place),
}

impl TryFrom<String> for Pattern {
    type Error = AccessError;

    fn try_from(text: String) -> Result<Self, AccessError> {
        Self::parse(&text)
    }
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`AccessError::Pattern`] for one that no database's name could match.
    pub fn parse(text: &str) -> Result<Self, AccessError> {
        let refuse = |reason| Err(AccessError::Pattern { pattern: text.to_owned(), reason });
        let mut pieces = Vec::new();
        for piece in template::pieces(text) {
            match piece {
                template::Piece::Place(place) => pieces.push(Piece::Place(place)),
                template::Piece::Text(plain) => {
                    for (n, part) in plain.split('*').enumerate() {
                        if n > 0 && pieces.last() != Some(&Piece::Any) {
                            pieces.push(Piece::Any);
                        }
                        if !part.is_empty() {
                            pieces.push(Piece::Text(part.to_owned()));
                        }
                    }
                }
            }
        }
        // A letter before it makes any legal text a legal name.
        let legal = |text: &str| DbName::parse(&format!("a{text}")).is_ok();
        match pieces.first() {
            None => return refuse("it is empty"),
            Some(Piece::Place(_)) => {
                return refuse(
                    "it must begin with a letter or *, since names may begin with others",
                );
            }
            Some(Piece::Text(text)) if !text.starts_with(|c: char| c.is_ascii_lowercase()) => {
                return refuse("it must begin with a lower-case letter or *");
            }
            Some(_) => {}
        }
        let texts = pieces.iter().all(|piece| match piece {
            Piece::Text(text) => legal(text),
            Piece::Any | Piece::Place(_) => true,
        });
        if !texts {
            return refuse(
                "names of databases are made of a-z 0-9 _ $ ( ) + - /, and the places are {name}, \
                 {name:hex} and {claims.NAME}",
            );
        }
        Ok(Self(pieces))
    }

    /// Whether a database's name fits, for somebody. A place without a value fits nothing.
    #[must_use]
    pub fn matches(&self, database: &DbName, identity: &Identity) -> bool {
        let mut parts: Vec<String> = vec![String::new()];
        for piece in &self.0 {
            let text = match piece {
                Piece::Any => {
                    parts.push(String::new());
                    continue;
                }
                Piece::Text(text) => text.clone(),
                Piece::Place(place) => match place.text(identity) {
                    Some(text) => encoded(&text),
                    None => return false,
                },
            };
            parts.last_mut().expect("there is one at least").push_str(&text);
        }
        fits(database.as_str(), &parts)
    }
}

/// A value as it stands in a database's name.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
        byte => format!("${byte:02x}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(name: &str) -> Identity {
        let claims = json!({"team": "red", "n": 7, "list": ["a"], "empty": ""});
        Identity { name: Some(name.into()), claims, ..Identity::default() }
    }

    #[test]
    fn names_fit_patterns() {
        let check = |pattern: &str, who: &str, database: &str, expected: bool| {
            let pattern = Pattern::parse(pattern).unwrap();
            let database = DbName::parse(database).unwrap();
            assert_eq!(pattern.matches(&database, &named(who)), expected, "{pattern:?} {database}");
        };
        check("todos", "anna", "todos", true);
        check("todos", "anna", "todos2", false);
        check("*", "anna", "anything/at-all", true);
        check("team-*", "anna", "team-", true);
        check("team-*", "anna", "team-red/x", true);
        check("team-*", "anna", "steam-red", false);
        check("*-todos", "anna", "red-todos", true);
        check("a*b*c", "anna", "axbyc", true);
        check("a*b*c", "anna", "axcyb", false);
        check("a*a", "anna", "a", false);
        check("a*a", "anna", "aa", true);
        check("a*b*b", "anna", "ab", false);
        check("user-{name}", "anna", "user-anna", true);
        check("user-{name}", "anna", "user-berta", false);
        check("user-{name}", "Anna", "user-$41nna", true);
        check("user-{name}", "Anna", "user-anna", false);
        check("user-{name}", "a-b", "user-a$2db", true);
        check("user-{name}", "a-b", "user-a-b", false);
        check("user-{name}-*", "a", "user-a-b", true);
        check("user-{name}-*", "a", "user-a$2db-c", false);
        check("user-{name}-*", "a-b", "user-a-b", false);
        check("user-{name}", "*", "user-anna", false);
        check("user-{name}", "*", "user-$2a", true);
        check("user-{name}", "../x", "user-$2e$2e$2fx", true);
        check("user-{name}", "$41", "user-$2441", true);
        check("user-{name}", "ü", "user-$c3$bc", true);
        check("user-{name}", "", "user-", false);
        check("userdb-{name:hex}", "bob", "userdb-626f62", true);
        check("team-{claims.team}", "x", "team-red", true);
        check("team-{claims.n}", "x", "team-7", true);
        check("team-{claims.list}", "x", "team-a", false);
        check("team-{claims.absent}", "x", "team-", false);
        check("team-{claims.empty}", "x", "team-", false);
        let nobody = Identity::default();
        let pattern = Pattern::parse("user-{name}").unwrap();
        assert!(!pattern.matches(&DbName::parse("user-").unwrap(), &nobody));
    }

    #[test]
    fn what_could_match_nothing_is_refused() {
        for bad in ["", "Todos", "_users", "1a", "a b", "a.b", "{name}", "{nam}-x", "a-{nam}", "aü"]
        {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn two_names_never_share_a_database(one in ".{0,12}", other in ".{0,12}") {
            proptest::prop_assert_eq!(encoded(&one) == encoded(&other), one == other);
            let legal = DbName::parse(&format!("a{}", encoded(&one))).is_ok();
            proptest::prop_assert!(legal);
        }
    }
}
