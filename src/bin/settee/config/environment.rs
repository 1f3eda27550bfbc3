//! Environment variables that override a file: `SETTEE_LIMITS__CONNECTIONS_MAX=7` sets
//! `connections_max` of the table `limits`.
//!
//! The name is `SETTEE_` and the key in capitals, with two underscores between a table and what is
//! in it. The value is TOML (`7`, `true`, `["a", "b"]`), or else a text as it is. A name with two
//! underscores must be a key; others that are no key are somebody else's and passed over.

use std::ffi::OsString;

use toml::{Table, Value};

use crate::failure::Failure;

use super::{Config, problem};

const PREFIX: &str = "SETTEE_";

/// Variables that are flags, not keys: the table `log` has another meaning.
const FLAGS: [&str; 2] = ["SETTEE_LOG", "SETTEE_TOKEN"];

/// A configuration under the variables of an environment.
pub fn overridden(
    config: Config,
    text: &str,
    variables: impl Iterator<Item = (String, OsString)>,
) -> Result<Config, Failure> {
    let mut table: Table = toml::from_str(text).unwrap_or_default();
    let mut config = config;
    let mut variables: Vec<_> = variables.collect();
    variables.sort();
    for (name, value) in variables {
        if FLAGS.contains(&&*name) {
            continue;
        }
        let Some(path) = path(&name) else { continue };
        let refuse = |problem| Failure::Variable { name: name.clone(), problem };
        let value = value.into_string().map_err(|_| refuse("it must be UTF-8".to_owned()))?;
        set(&mut table, &path, parsed(value)).map_err(refuse)?;
        let parsed: Result<Config, toml::de::Error> = table.clone().try_into();
        config = parsed.map_err(|error| refuse(problem::words(error.message())))?;
    }
    Ok(config)
}

/// The key that a variable names.
fn path(name: &str) -> Option<Vec<String>> {
    let key = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
    let path: Vec<String> = key.split("__").map(str::to_owned).collect();
    (path.len() > 1 || top_level(&key)).then_some(path)
}

/// Whether a file may have this key outside its tables.
fn top_level(key: &str) -> bool {
    let probe = toml::from_str::<Config>("no_such_key = 0").map_err(|e| e.message().to_owned());
    probe.is_err_and(|message| {
        problem::unknown(&message).is_some_and(|(_, known)| known.contains(&key))
    })
}

/// A value of TOML, or a text.
fn parsed(text: String) -> Value {
    let table: Result<Table, _> = toml::from_str(&format!("value = {text}"));
    let value = table.ok().filter(|table| table.len() == 1);
    value.and_then(|mut table| table.remove("value")).unwrap_or(Value::String(text))
}

fn set(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    let [tables @ .., key] = path else { return Ok(()) };
    let mut table = table;
    for name in tables {
        let inner = table.entry(name.clone()).or_insert_with(|| Value::Table(Table::new()));
        table = inner.as_table_mut().ok_or_else(|| format!("{name} is no table"))?;
    }
    table.insert(key.clone(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables = variables.iter().map(|(name, value)| (String::from(*name), value.into()));
        overridden(Config::parse(text).unwrap(), text, variables).map_err(|e| e.to_string())
    }

    #[test]
    fn variables_override_the_file() {
        let text = "listen = \"a:1\"\n[limits]\nconnections_max = 5\nrevs_limit = 10\n";
        let config = under(
            text,
            &[
                ("SETTEE_LIMITS__CONNECTIONS_MAX", "7"),
                ("SETTEE_LISTEN", "0.0.0.0:80"),
                ("SETTEE_ALLOWED_ORIGINS", r#"["https://a.example"]"#),
                ("SETTEE_ACCESS__WEBHOOK__URL", "http://127.0.0.1:1/"),
                ("SETTEE_OPEN", "true"),
                ("SETTEE_LOG", "debug"),
                ("SETTEE_PORT", "tcp://10.0.0.1"),
                ("OTHER", "x"),
            ],
        );
        let config = config.unwrap();
        assert_eq!((config.limits.connections_max, config.limits.revs_limit), (7, 10));
        assert_eq!(config.listen.unwrap().tables()[0].address, "0.0.0.0:80");
        assert_eq!(config.allowed_origins, ["https://a.example"]);
        assert_eq!(config.access.webhook.unwrap().url, "http://127.0.0.1:1/");
        assert!(config.open);
    }

    #[test]
    fn a_variable_that_is_wrong_is_named_without_its_value() {
        let check = |name: &str, value: &str, part: &str| {
            let problem = under("", &[(name, value)]).expect_err(name);
            assert!(problem.contains(name) && problem.contains(part), "{problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        };
        check("SETTEE_LIMITS__CONECTIONS_MAX", "7", "did you mean `connections_max`");
        check("SETTEE_LIMITS__CONNECTIONS_MAX", "hunter2", "string");
        check("SETTEE_LIMIT__CONNECTIONS_MAX", "7", "did you mean `limits`");
        check("SETTEE_TOKENS", "hunter2", "sequence");
    }
}
