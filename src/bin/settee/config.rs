//! The settings of `serve`: a TOML file, and flags that override it.
//!
//! Each table of the file has a file here.

mod compaction;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use settee::Limits;

use crate::failure::Failure;

pub use compaction::Compaction;

/// A configuration file. Every key may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub listen: Option<String>,
    pub data: Option<PathBuf>,
    pub tokens: Vec<String>,
    pub open: bool,
    pub static_dir: Option<PathBuf>,
    pub allowed_origins: Vec<String>,
    pub legacy: Option<bool>,
    pub limits: Limits,
    pub compaction: Compaction,
}

impl Config {
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(Failure::file("read", path))?;
        Self::parse(&text).map_err(|problem| Failure::Config { path: path.to_owned(), problem })
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let message = error.message().replace('\n', " ");
            match error.span() {
                Some(span) => {
                    let before = text.get(..span.start).unwrap_or_default();
                    format!("line {}: {message}", before.matches('\n').count() + 1)
                }
                None => message,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use settee::store::CompactionPolicy;

    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = r#"
            listen = "0.0.0.0:5984"
            data = "/var/lib/settee"
            tokens = ["a", "b"]
            static_dir = "www"
            allowed_origins = ["https://app.example"]
            open = false
            legacy = false
            [limits]
            connections_max = 7
            [compaction]
            old_mib_min = 1
            old_part_min = 0.25
            interval_s = 5
        "#;
        let config = Config::parse(text).unwrap();
        assert_eq!(config.listen.as_deref(), Some("0.0.0.0:5984"));
        assert_eq!(config.tokens, ["a", "b"]);
        assert_eq!(config.legacy, Some(false));
        assert_eq!(config.limits, Limits { connections_max: 7, ..Limits::default() });
        let policy = CompactionPolicy {
            old_bytes_min: 1 << 20,
            old_part_min: 0.25,
            interval: Duration::from_secs(5),
            ..CompactionPolicy::default()
        };
        assert_eq!(config.compaction.policy(), Some(policy));
    }

    #[test]
    fn compaction_is_on_unless_it_is_turned_off() {
        let policy = |text| Config::parse(text).unwrap().compaction.policy();
        assert_eq!(policy(""), Some(CompactionPolicy::default()));
        assert_eq!(policy("[compaction]\nenabled = false"), None);
    }

    #[test]
    fn parts_of_a_second_between_two_looks_are_possible() {
        let interval = |text| Config::parse(text).unwrap().compaction.policy().unwrap().interval;
        assert_eq!(interval("[compaction]\ninterval_s = 0.02"), Duration::from_millis(20));
        assert_eq!(interval("[compaction]\ninterval_s = -1"), Duration::ZERO);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let check = |text: &str, parts: [&str; 2]| {
            let problem = Config::parse(text).expect_err(text);
            assert!(parts.iter().all(|part| problem.contains(part)), "{problem}");
            assert!(!problem.contains('\n'), "{problem}");
        };
        check("listen = \"a:1\"\ntoken = \"x\"", ["line 2", "token"]);
        check("[limits]\n\nconections_max = 1", ["line 3", "conections_max"]);
        check("[compaction]\nold_mb_min = 1", ["line 2", "old_mb_min"]);
        check("tokens = 1", ["line 1", "sequence"]);
        check("open = \n", ["line 1", ""]);
    }
}
