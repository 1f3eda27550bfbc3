//! The settings of `serve`: a TOML file, environment variables that override it, and flags that
//! override both.
//!
//! Each table of the file has a file here, or its type in the library.

mod audit;
mod backup;
mod compaction;
mod environment;
mod listen;
mod log;
mod metrics;
mod problem;
mod quota;
mod tombstones;
mod validate;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use settee::Limits;
use settee::access::{Chain, Secret, Settings as AccessSettings};
use settee::server::{ForwardedHeader, ServerError};

use crate::failure::Failure;

pub use audit::Audit;
pub use backup::Backup;
pub use compaction::Compaction;
pub use listen::{Checked, Listen, Tls};
pub use log::{Format, Log};
pub use metrics::Metrics;
pub use quota::Quotas;
pub use tombstones::Tombstones;
pub use validate::{Validate, Validators};

/// A configuration file. Every key may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub listen: Option<Listen>,
    pub data: Option<PathBuf>,
    pub tokens: Vec<Secret>,
    pub open: bool,
    pub static_dir: Option<PathBuf>,
    pub allowed_origins: Vec<String>,
    pub legacy: Option<bool>,
    pub ephemeral_databases: Vec<String>,
    pub trusted_proxies: Vec<String>,
    pub forwarded_header: Forwarded,
    pub limits: Limits,
    pub compaction: Compaction,
    pub validate: Validate,
    pub access: AccessSettings,
    pub log: Log,
    pub audit: Audit,
    pub metrics: Metrics,
    pub backup: Backup,
    pub quotas: Vec<Quotas>,
    pub tombstones: Tombstones,
}

/// Which headers of a trusted proxy count.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarded {
    #[default]
    XForwardedFor,
    Forwarded,
}

impl Forwarded {
    pub fn header(self) -> ForwardedHeader {
        match self {
            Self::XForwardedFor => ForwardedHeader::XForwardedFor,
            Self::Forwarded => ForwardedHeader::Forwarded,
        }
    }
}

impl Config {
    /// Reads a file, if there is one, and the environment.
    pub fn load(path: Option<&Path>) -> Result<Self, Failure> {
        let text = match path {
            Some(path) => std::fs::read_to_string(path).map_err(Failure::file("read", path))?,
            None => String::new(),
        };
        let config = Self::parse(&text).map_err(|problem| {
            let path = path.map_or_else(PathBuf::new, Path::to_owned);
            Failure::Config { path, problem }
        })?;
        let variables = std::env::vars_os();
        let variables = variables.filter_map(|(n, v)| Some((n.into_string().ok()?, v)));
        environment::overridden(config, &text, variables)
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| problem::told(&error, text))
    }

    /// Checks everything that can be checked without the data directory, and makes of it who judges
    /// access and documents.
    pub fn check(&self) -> Result<(Chain, Validators), Failure> {
        self.limits.validate()?;
        if let Some(policy) = self.compaction.policy() {
            policy.validate().map_err(ServerError::from)?;
        }
        let empty = self.tokens.iter().any(|token| token.expose().is_empty());
        if empty || self.metrics.has_empty_token() {
            return Err(Failure::EmptyToken);
        }
        let validators = self.validate.validators()?;
        let chain = self.access.build_with(&self.tokens)?;
        match (self.open, chain.is_empty()) {
            (false, true) => return Err(Failure::NoTokens),
            (true, false) => return Err(Failure::OpenWithTokens),
            _ => {}
        }
        match &self.static_dir {
            Some(path) if !path.is_dir() => Err(Failure::NoStaticDir { path: path.clone() }),
            _ => Ok((chain, validators)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use settee::server::MetricsAccess;
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
            ephemeral_databases = ["room-*"]
            trusted_proxies = ["10.0.0.0/8", "unix"]
            forwarded_header = "forwarded"
            [limits]
            connections_max = 7
            [compaction]
            old_mib_min = 1
            old_part_min = 0.25
            interval_s = 5
            upload_age_s = 600
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
            [log]
            format = "json"
            level = "debug"
            [audit]
            path = "/var/log/settee/audit"
            [metrics]
            token = "scraper"
        "#;
        let config = Config::parse(text).unwrap();
        let places = config.listen.unwrap().tables();
        assert_eq!(places.len(), 1);
        assert_eq!(places[0].address, "0.0.0.0:5984");
        assert_eq!(config.trusted_proxies, ["10.0.0.0/8", "unix"]);
        assert_eq!(config.forwarded_header, Forwarded::Forwarded);
        let tokens: Vec<&str> = config.tokens.iter().map(Secret::expose).collect();
        assert_eq!(tokens, ["a", "b"]);
        assert_eq!(config.legacy, Some(false));
        assert_eq!(config.ephemeral_databases, ["room-*"]);
        assert_eq!(config.limits, Limits { connections_max: 7, ..Limits::default() });
        let policy = CompactionPolicy {
            old_bytes_min: 1 << 20,
            old_part_min: 0.25,
            interval: Duration::from_secs(5),
            options: CompactOptions {
                upload_age: Duration::from_secs(600),
                bytes_per_second_max: Some(3 << 20),
                ..CompactOptions::default()
            },
        };
        assert_eq!(config.compaction.policy(), Some(policy));
        assert_eq!(config.log, Log { format: Format::Json, level: "debug".into() });
        assert_eq!(config.audit.path.as_deref(), Some(Path::new("/var/log/settee/audit")));
        assert_eq!(config.metrics.access(), MetricsAccess::Token("scraper".into()));
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
    fn only_who_administers_reads_metrics_unless_more_is_said() {
        let access = |text| Config::parse(text).unwrap().metrics.access();
        assert_eq!(access(""), MetricsAccess::Administrators);
        assert_eq!(access("[metrics]\npublic = true"), MetricsAccess::Everybody);
        let printed =
            format!("{:?}", Config::parse("[metrics]\ntoken = \"hush\"").unwrap().metrics);
        assert!(!printed.contains("hush"), "{printed}");
    }

    #[test]
    fn listeners_are_addresses_or_tables() {
        let text = r#"
            [[listen]]
            address = "127.0.0.1:1"
            [[listen]]
            address = "[::]:6984"
            tls = { cert = "a.pem", key = "b.pem" }
            proxy_protocol = true
        "#;
        let places = Config::parse(text).unwrap().listen.unwrap().tables();
        assert_eq!((places[0].address.as_str(), &places[0].tls), ("127.0.0.1:1", &None));
        let tls = Tls { cert: "a.pem".into(), key: "b.pem".into() };
        assert_eq!((places[1].tls.as_ref(), places[1].proxy_protocol), (Some(&tls), true));
        let mixed = r#"listen = ["[::1]:1", { address = "unix:/run/settee", mode = "600" }]"#;
        let places = Config::parse(mixed).unwrap().listen.unwrap().tables();
        assert_eq!((places[0].address.as_str(), &places[0].mode), ("[::1]:1", &None));
        assert_eq!(places[1].mode.as_deref(), Some("600"));
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
        check("listen = [{ adress = \"a:1\" }]", ["line 1", "addresses and tables"]);
        check("\nlisten = 5", ["line 2", "address"]);
        check("forwarded_header = \"via\"", ["line 1", "x-forwarded-for"]);
        check("tokens = 1", ["line 1", "sequence"]);
        check("open = \n", ["line 1", ""]);
    }

    /// The example with every key that is left out.
    fn example() -> String {
        let text = include_str!("../../../settee.example.toml");
        let set = |line: &str| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => key.to_owned(),
            _ => line.to_owned(),
        };
        text.lines().map(|line| set(line) + "\n").collect()
    }

    #[test]
    fn the_example_shows_defaults() {
        let config = Config::parse(&example()).unwrap();
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.compaction, Compaction::default());
        assert_eq!(config.tombstones, Tombstones::default());
        assert_eq!((config.backup, config.log), (Backup::default(), Log::default()));
        let (access, default) = (config.access, AccessSettings::default());
        assert_eq!(access.order, default.order);
        assert_eq!(access.password_cache_s, default.password_cache_s);
        let left_out = Config::parse(include_str!("../../../settee.example.toml")).unwrap();
        assert!(left_out.tokens.is_empty() && left_out.access.jwt.is_none());
    }

    #[test]
    fn every_key_of_every_table_is_in_the_example() {
        use std::collections::{BTreeMap, BTreeSet};

        /// Every table by its path, the index of one in a list as a number.
        fn tables(value: &toml::Value, path: Vec<String>, found: &mut Vec<Vec<String>>) {
            let inner = |name: String| [path.clone(), vec![name]].concat();
            match value {
                // Any object is a selector.
                toml::Value::Table(_) if path.last().is_some_and(|last| last == "selector") => {}
                toml::Value::Table(table) => {
                    found.push(path.clone());
                    table
                        .iter()
                        .for_each(|(name, value)| tables(value, inner(name.clone()), found));
                }
                toml::Value::Array(items) => {
                    let items = items.iter().enumerate();
                    items.for_each(|(n, value)| tables(value, inner(n.to_string()), found));
                }
                _ => {}
            }
        }

        fn at<'a>(value: &'a mut toml::Value, path: &[String]) -> &'a mut toml::Table {
            let [name, rest @ ..] = path else { return value.as_table_mut().unwrap() };
            let inner = match value {
                toml::Value::Array(items) => &mut items[name.parse::<usize>().unwrap()],
                other => &mut other[name.as_str()],
            };
            at(inner, rest)
        }

        let example: toml::Table = toml::from_str(&example()).unwrap();
        let example = toml::Value::Table(example);
        let mut paths = Vec::new();
        tables(&example, Vec::new(), &mut paths);
        // Of a list, its tables together have every key.
        let mut shown: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
        for path in paths {
            let mut probed = example.clone();
            let table = at(&mut probed, &path);
            let keys: Vec<String> = table.keys().cloned().collect();
            table.insert("no_such_key".into(), toml::Value::Integer(0));
            let message = probed.try_into::<Config>().unwrap_err().message().to_owned();
            let (found, known) = problem::unknown(&message).unwrap_or_else(|| panic!("{message}"));
            assert_eq!(found, "no_such_key");
            let names = path.iter().filter(|piece| piece.parse::<usize>().is_err());
            let names: Vec<&str> = names.map(String::as_str).collect();
            // Rules of access are alike, whoever has them.
            let table = match names.as_slice() {
                ["validate", ..] => names.join("."),
                [.., "rules"] => "rules".to_owned(),
                names => names.join("."),
            };
            let entry = shown.entry(table).or_default();
            entry.0.extend(keys);
            entry.1.extend(known.into_iter().map(str::to_owned));
        }
        assert!(shown.len() > 8, "{shown:?}");
        for (table, (keys, known)) in shown {
            assert_eq!(keys, known, "the keys of the table {table:?}");
        }
    }
}
