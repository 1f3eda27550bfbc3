//! The table `[access]` of a configuration file, and the patterns in it, are refused or used.

use settee::DbName;
use settee::access::{Identity, Pattern, Settings};

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    pattern(text);
    // Files that it names would be read.
    if text.contains("file") {
        return;
    }
    if let Ok(settings) = toml::from_str::<Settings>(text)
        && let Err(error) = settings.build()
    {
        assert!(!error.to_string().is_empty());
    }
}

/// The first line is a pattern, the second somebody's name; what is left are names of databases.
fn pattern(text: &str) {
    let mut lines = text.lines();
    let Some(Ok(pattern)) = lines.next().map(Pattern::parse) else { return };
    let name = lines.next().map(ToOwned::to_owned);
    let nobody = Identity::default();
    let somebody = Identity { name, ..Identity::default() };
    for database in lines.filter_map(|name| DbName::parse(name).ok()).take(8) {
        if pattern.matches(&database, &nobody) {
            assert!(
                pattern.matches(&database, &somebody),
                "a pattern without places fits all alike"
            );
        }
    }
}
