//! Patterns of database names.

use std::str::FromStr;

use crate::doc::{DbName, fits};
use crate::server::PickDatabases;

use super::error::ValidateError;

/// Which databases are meant: a name in which `*` stands for any characters, also none.
///
/// ```
/// use settee::{DbName, validate::DbPattern};
/// let teams: DbPattern = "team-*".parse()?;
/// assert!(teams.matches(&DbName::parse("team-red")?));
/// assert!(!teams.matches(&DbName::parse("my-team-red")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbPattern {
    /// What stands between the stars, in order; one part is a name without stars.
    parts: Vec<String>,
}

impl DbPattern {
    /// Whether a database is meant.
    #[must_use]
    pub fn matches(&self, name: &DbName) -> bool {
        fits(name.as_str(), &self.parts)
    }
}

impl PickDatabases for DbPattern {
    fn picks(&self, name: &DbName) -> bool {
        self.matches(name)
    }
}

impl FromStr for DbPattern {
    type Err = ValidateError;

    fn from_str(text: &str) -> Result<Self, ValidateError> {
        let parts: Vec<String> = text.split('*').map(str::to_owned).collect();
        // With a letter for each star, a pattern that can match is a name.
        match DbName::parse(&text.replace('*', "a")) {
            Ok(_) => Ok(Self { parts }),
            Err(_) => Err(ValidateError::Pattern { pattern: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let check = |pattern: &str, name: &str, expected: bool| {
            let parsed: DbPattern = pattern.parse().unwrap();
            let name = DbName::parse(name).unwrap();
            assert_eq!(parsed.matches(&name), expected, "{pattern} {}", name.as_str());
        };
        check("todos", "todos", true);
        check("todos", "todos2", false);
        check("*", "anything/at-all", true);
        check("team-*", "team-", true);
        check("team-*", "team-red", true);
        check("team-*", "steam-red", false);
        check("*-archive", "red-archive", true);
        check("*-archive", "red-archive2", false);
        check("a*b*c", "abc", true);
        check("a*b*c", "axxbyyc", true);
        check("a*b*c", "axxcyyb", false);
        check("a*a", "a", false);
        check("ab*ba", "aba", false);
        check("a**b", "ab", true);
    }

    #[test]
    fn what_matches_nothing_is_refused() {
        for pattern in ["", "Todos", "_users", "-*", "to dos", "1*", "a?"] {
            assert!(pattern.parse::<DbPattern>().is_err(), "{pattern:?}");
        }
    }
}
