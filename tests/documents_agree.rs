//! The documents say what the code does: every limit stands in them with its default.

use std::fs;
use std::path::Path;

use settee::Limits;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Rows `| `name` | default | ...` of the table of limits, in order.
fn documented(text: &str) -> Vec<(String, String)> {
    let table = text.lines().skip_while(|line| !line.starts_with("| limit |")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
        Some((cells.nth(1)?, cells.next()?))
    };
    rows.map(|line| row(line).unwrap_or_else(|| panic!("not a row of limits: {line}"))).collect()
}

#[test]
fn limits_and_their_defaults_stand_in_the_documents() {
    let limits = serde_json::to_value(Limits::default()).unwrap();
    let mut defaults: Vec<(String, String)> = limits
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), value.to_string()))
        .collect();
    defaults.sort();
    assert!(defaults.iter().any(|(name, _)| name == "doc_bytes_max"));
    for path in ["README.md", "docs/PROTOCOL.md"] {
        let mut found = documented(&read(path));
        found.sort();
        assert_eq!(found, defaults, "the table of limits in {path}");
    }
}

#[test]
fn every_method_stands_in_the_protocol() {
    for (code, document, one) in [
        ("src/proto/call.rs", "docs/PROTOCOL.md", "changes"),
        ("src/proto/legacy/call.rs", "docs/LEGACY_PROTOCOL.md", "_changes"),
    ] {
        let protocol = read(document);
        let calls = read(code);
        let names = calls.lines().filter_map(|line| {
            let (_, rest) = line.trim().strip_prefix("pub const ")?.split_once(": &str = \"")?;
            rest.strip_suffix("\";")
        });
        let names: Vec<&str> = names.collect();
        assert!(names.contains(&one), "{names:?}");
        for name in names {
            let heading = format!("\n### {name}");
            assert!(protocol.contains(&heading), "{document} has no section on {name}");
        }
    }
}

#[test]
fn close_codes_stand_in_the_protocol() {
    let protocol = read("docs/PROTOCOL.md");
    let errors = read("src/server/error.rs");
    let table = errors.split("fn code_and_text").nth(1).expect("the table of close codes");
    let codes = table.lines().filter_map(|line| {
        let code = line.split_once("=> (")?.1.split_once(',')?.0;
        code.parse::<u16>().ok()
    });
    let codes: Vec<u16> = codes.collect();
    assert!(codes.contains(&1009), "{codes:?}");
    for code in codes {
        assert!(protocol.contains(&format!("\n| {code} |")), "docs/PROTOCOL.md lacks {code}");
    }
}

/// Every piece of a path that the table of routes names stands in the page on HTTP.
#[test]
fn every_route_stands_in_the_page_on_http() {
    let page = read("docs/HTTP.md");
    let sources = read("src/server/http/mod.rs") + &read("src/server/http/server_wide.rs");
    let lines = sources.lines().filter(|line| line.contains("[\"_") || line.contains("| \"_"));
    let pieces = lines.flat_map(|line| line.split('"')).filter(|piece| piece.starts_with('_'));
    let mut pieces: Vec<&str> = pieces.collect();
    pieces.sort_unstable();
    pieces.dedup();
    assert!(pieces.len() > 25, "{pieces:?}");
    let described = ["_view", "_show", "_list", "_update", "_rewrite", "_info", "_temp_view"];
    for piece in pieces.iter().filter(|piece| !described.contains(piece)) {
        assert!(page.contains(piece), "docs/HTTP.md lacks {piece}");
    }
}

/// In the tables of the page on other systems every row names the test that shows it, or a dash.
#[test]
fn every_test_that_the_page_on_other_systems_names_exists() {
    let page = read("docs/COMING_FROM.md");
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| there |"));
    let mut named = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').rsplitn(2, " | ").collect();
        let tests = cells.first().expect("a row has cells").trim();
        if tests == "–" {
            continue;
        }
        for test in tests.trim_matches('`').split("`, `") {
            let (file, name) = test.split_once("::").unwrap_or_else(|| {
                panic!("not a test, `FILE::NAME`: {row}");
            });
            let text = read(file);
            let is_rust = Path::new(file).extension().is_some_and(|extension| extension == "rs");
            let wanted = if is_rust { format!("fn {name}(") } else { format!("'{name}'") };
            assert!(text.contains(&wanted), "docs/COMING_FROM.md: no {name} in {file}");
            named += 1;
        }
    }
    assert!(named > 40, "the tables were found: {named}");
}
