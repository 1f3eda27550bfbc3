//! How refusals are counted: by the names of errors and of limits, of which there are few.

use crate::proto::message::WireError;

use super::error::{CloseReason, LifeRefusal, Refusal};

/// Every name of an error that the [table](super::error) has.
const NAMES: [&str; 38] = [
    "bad_answer",
    "bad_arg",
    "bad_content_type",
    "bad_ctype",
    "bad_request",
    "cancelled",
    "conflict",
    "connection_failed",
    "db_not_found",
    "doc_validation",
    "file_exists",
    "forbidden",
    "group_refused",
    "illegal_database_name",
    "illegal_docid",
    "insufficient_storage",
    "internal_server_error",
    "invalid_bookmark",
    "invalid_ddoc_lang",
    "invalid_field_name",
    "invalid_index",
    "invalid_operator",
    "invalid_selector",
    "invalid_selector_json",
    "method_not_allowed",
    "missing_stub",
    "no_usable_index",
    "not_found",
    "not_implemented",
    "not_supported",
    "query_parse_error",
    "requested_range_not_satisfiable",
    "service_unavailable",
    "timeout",
    "too_large",
    "too_many_requests",
    "unauthorized",
    "unsupported_mixed_sort",
];

/// The name of an error as a label: one that the table does not have is `other`.
pub(super) fn known_name(name: &str) -> &'static str {
    NAMES.iter().find(|known| **known == name).copied().unwrap_or("other")
}

/// Whether somebody was kept from something, rather than wrong about it.
pub(super) fn is_denial(error: &WireError) -> bool {
    matches!(error.status, 401 | 403 | 429)
}

impl Refusal {
    /// The limit that was reached, as [`Limits`](crate::Limits) names it.
    pub(super) fn limit(&self) -> Option<&'static str> {
        match self {
            Self::TooManyChannels { .. } => Some("channels_per_connection_max"),
            Self::TooManyCalls { .. } => Some("calls_per_connection_max"),
            Self::TooManyConnectionsOfUser { .. } => Some("connections_per_user_max"),
            Self::TooManyConnectionsOfAddress { .. } => Some("connections_per_address_max"),
            Self::TooManyConnections { .. } => Some("connections_max"),
            _ => None,
        }
    }
}

impl LifeRefusal {
    /// The same of what keeps a database from being opened.
    pub(super) fn limit(&self) -> Option<&'static str> {
        match self {
            Self::OpeningTimedOut => Some("database_open_timeout_ms"),
            Self::TooManyWaiting { .. } => Some("database_waiting_max"),
            Self::TooManyEphemeral { .. } => Some("ephemeral_databases_max"),
            Self::OtherKind => None,
        }
    }
}

impl CloseReason {
    /// The same for a connection that is closed.
    pub(super) fn limit(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge => Some("message_bytes_max"),
            Self::NothingOpened => Some("first_open_timeout_ms"),
            Self::Stalled => Some("outbound_stall_timeout_ms"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_table_has_its_label() {
        let table = concat!(
            include_str!("error.rs"),
            include_str!("error/events.rs"),
            include_str!("error/find.rs"),
            include_str!("error/http.rs"),
            include_str!("error/life.rs")
        );
        let after = table.split("wire(").skip(1).filter_map(|rest| rest.split(',').nth(1));
        let names = after.filter_map(|name| name.trim().strip_prefix('"')?.strip_suffix('"'));
        let names: Vec<&str> = names.collect();
        assert!(names.contains(&"conflict") && names.len() > 30, "{names:?}");
        for name in names {
            assert_eq!(known_name(name), name);
        }
        assert_eq!(known_name("made up"), "other");
    }

    #[test]
    fn labels_of_limits_are_names_of_limits() {
        let limits = serde_json::to_value(crate::Limits::default()).unwrap();
        let labels = [
            Refusal::TooManyChannels { max: 1 }.limit(),
            Refusal::TooManyCalls { max: 1 }.limit(),
            Refusal::TooManyConnectionsOfUser { max: 1 }.limit(),
            Refusal::TooManyConnectionsOfAddress { max: 1 }.limit(),
            Refusal::TooManyConnections { max: 1 }.limit(),
            LifeRefusal::OpeningTimedOut.limit(),
            LifeRefusal::TooManyWaiting { max: 1 }.limit(),
            LifeRefusal::TooManyEphemeral { max: 1 }.limit(),
            CloseReason::TooLarge.limit(),
            CloseReason::NothingOpened.limit(),
            CloseReason::Stalled.limit(),
        ];
        for label in labels {
            assert!(limits.get(label.expect("a limit")).is_some(), "{label:?}");
        }
    }
}
