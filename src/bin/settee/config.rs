//! The settings of `serve`: a TOML file, and flags that override it.
//!
//! Each table of the file has a file here.

mod backup;
mod compaction;
mod quota;
mod tombstones;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use settee::Limits;

use crate::failure::Failure;

pub use backup::Backup;
pub use compaction::Compaction;
pub use quota::Quotas;
pub use tombstones::Tombstones;

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
    pub backup: Backup,
    pub quotas: Vec<Quotas>,
    pub tombstones: Tombstones,
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

    use settee::store::{CompactOptions, CompactionPolicy, Quota, QuotaRule, TombstonePolicy};

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
            mib_per_s_max = 3
            [backup]
            mib_per_s_max = 2
            [[quotas]]
            databases = "user-*"
            docs = 10
            [[quotas]]
            databases = "*"
            mib = 1
            [tombstones]
            enabled = true
            age_days = 2
            client_age_days = 3
            interval_s = 4
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
            options: CompactOptions {
                bytes_per_second_max: Some(3 << 20),
                ..CompactOptions::default()
            },
        };
        assert_eq!(config.compaction.policy(), Some(policy));
        assert_eq!(config.backup.bytes_per_second_max(), Some(2 << 20));
        let rule = |databases: &str, docs_max, bytes_max| QuotaRule {
            databases: databases.into(),
            quota: Quota { docs_max, bytes_max },
        };
        let rules: Vec<QuotaRule> = config.quotas.into_iter().map(Into::into).collect();
        assert_eq!(rules, [rule("user-*", Some(10), None), rule("*", None, Some(1 << 20))]);
        let day = Duration::from_secs(24 * 3600);
        let (age, client_age, interval) = (2 * day, 3 * day, Duration::from_secs(4));
        let policy = TombstonePolicy { age, client_age, interval };
        assert_eq!(config.tombstones.policy(), Some(policy));
    }

    #[test]
    fn tombstones_stay_and_nothing_is_bounded_unless_it_is_said() {
        let config = Config::parse("").unwrap();
        assert_eq!(
            (config.tombstones.policy(), config.backup.bytes_per_second_max()),
            (None, None)
        );
        assert_eq!(config.quotas, []);
        let policy = Config::parse("[tombstones]\nenabled = true").unwrap().tombstones.policy();
        assert_eq!(policy, Some(TombstonePolicy::default()));
    }

    #[test]
    fn compaction_is_on_unless_it_is_turned_off() {
        let policy = |text| Config::parse(text).unwrap().compaction.policy();
        assert_eq!(policy(""), Some(CompactionPolicy::default()));
        assert_eq!(policy("[compaction]\nenabled = false"), None);
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
