//! Names of routes for metrics: patterns, so that no name of a client's becomes a label.

/// The pattern of a path in pieces.
pub(super) fn of(path: &[String]) -> &'static str {
    let pieces: Vec<&str> = path.iter().map(String::as_str).collect();
    match *pieces.as_slice() {
        [] => "/",
        [first, ..] if first.starts_with('_') => of_server(first),
        [_] => "/{db}",
        [_, piece] if piece.starts_with('_') => of_database(piece),
        [_, "_all_docs", "queries"] => "/{db}/_all_docs/queries",
        [_, "_compact", _] => "/{db}/_compact",
        [_, "_local", _] => "/{db}/_local/{id}",
        [_, "_design", _] => "/{db}/_design/{id}",
        [_, _] => "/{db}/{id}",
        [_, id, "_ops"] if !id.starts_with('_') => "/{db}/{id}/_ops",
        [_, "_design", _, ..] => "/{db}/_design/{id}/{attachment}",
        [_, _, ..] => "/{db}/{id}/{attachment}",
    }
}

fn of_server(piece: &str) -> &'static str {
    const KNOWN: [&str; 12] = [
        "/_up",
        "/_uuids",
        "/_session",
        "/_all_dbs",
        "/_dbs_info",
        "/_db_updates",
        "/_replicate",
        "/_scheduler",
        "/_active_tasks",
        "/_metrics",
        "/_settee",
        "/_node",
    ];
    KNOWN.iter().find(|known| known[1..] == *piece).copied().unwrap_or("other")
}

fn of_database(piece: &str) -> &'static str {
    const KNOWN: [&str; 17] = [
        "/{db}/_all_docs",
        "/{db}/_design_docs",
        "/{db}/_local_docs",
        "/{db}/_bulk_docs",
        "/{db}/_bulk_get",
        "/{db}/_revs_diff",
        "/{db}/_missing_revs",
        "/{db}/_changes",
        "/{db}/_ensure_full_commit",
        "/{db}/_security",
        "/{db}/_revs_limit",
        "/{db}/_purge",
        "/{db}/_compact",
        "/{db}/_view_cleanup",
        "/{db}/_find",
        "/{db}/_index",
        "/{db}/_explain",
    ];
    KNOWN.iter().find(|known| known[6..] == *piece).copied().unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_client_becomes_a_pattern() {
        let check = |path: &str, expected: &str| {
            let pieces: Vec<String> =
                path.split('/').filter(|piece| !piece.is_empty()).map(str::to_owned).collect();
            assert_eq!(of(&pieces), expected, "{path}");
        };
        check("/", "/");
        check("/_all_dbs", "/_all_dbs");
        check("/_secret", "other");
        check("/todos", "/{db}");
        check("/todos/_changes", "/{db}/_changes");
        check("/todos/_secret", "other");
        check("/todos/_local/checkpoint", "/{db}/_local/{id}");
        check("/todos/_design/d", "/{db}/_design/{id}");
        check("/todos/_design/d/_view/v", "/{db}/_design/{id}/{attachment}");
        check("/todos/milk", "/{db}/{id}");
        check("/todos/milk/_ops", "/{db}/{id}/_ops");
        check("/todos/milk/photo.png", "/{db}/{id}/{attachment}");
    }
}
