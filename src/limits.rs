//! Every bound the gateway and the store keep, with its unit and default.
//!
//! A bound is checked before anything is allocated for what it bounds. Each field says what
//! happens when it is hit; `docs/PROTOCOL.md` says how that looks on the wire.

use serde::{Deserialize, Serialize};

/// The bounds of a store, a gateway and its connections.
///
/// Sizes are bytes, times are milliseconds, everything else is a count. The defaults suit a
/// gateway on the public internet with 2 cores; `Limits { channels_per_connection_max: 100,
/// ..Limits::default() }` changes one of them.
///
/// ```
/// let limits = settee::Limits { doc_bytes_max: 1024 * 1024, ..settee::Limits::default() };
/// assert!(limits.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// JSON text of one document, without its attachments. Over it: 413 `too_large`.
    pub doc_bytes_max: usize,
    /// Nesting of a document; the document itself is level 1. Over it: 400 `bad_request`.
    pub json_depth_max: usize,
    /// Members and elements in one document, counted over all levels. Over it: 400.
    pub json_members_max: usize,
    /// UTF-8 bytes of a document id. Over it: 400 `illegal_docid`.
    pub doc_id_bytes_max: usize,
    /// Documents in one `bulk_docs`, `bulk_get`, `revs_diff` or list of ids. Over it: 413.
    pub bulk_rows_max: usize,
    /// Bytes of one attachment. Over it: 413.
    pub attachment_bytes_max: u64,
    /// Attachments of one document. Over it: 413.
    pub attachments_per_doc_max: usize,
    /// Revisions kept on the way from a leaf to its root; older ancestors are stemmed.
    pub revs_limit: u32,
    /// Leaves (open and deleted) of one document. A revision that would add one more is refused
    /// with 413; extending or deleting an existing leaf always works.
    pub leaves_per_doc_max: usize,

    /// Request line and headers. Over it: 431, and the connection closes.
    pub request_header_bytes_max: usize,
    /// Time to send the request headers. Over it the connection closes.
    pub request_header_timeout_ms: u64,
    /// Time from the upgrade to the first database opened. Over it: close code 1008.
    pub first_open_timeout_ms: u64,
    /// One WebSocket frame. Over it: close code 1009.
    pub frame_bytes_max: usize,
    /// One WebSocket message, all its frames together. Over it: close code 1009.
    pub message_bytes_max: usize,
    /// Open channels on one connection. One more is refused with 429.
    pub channels_per_connection_max: usize,
    /// Calls in progress on one connection, streams included. One more fails with 429.
    pub calls_per_connection_max: usize,
    /// Connections whose grants name one user. One more is refused with 429.
    pub connections_per_user_max: usize,
    /// Connections from one IP address. One more is answered with 429.
    pub connections_per_address_max: usize,
    /// Connections in all. One more is answered with 503.
    pub connections_max: usize,
    /// `rows` messages a stream may have under way, whatever credit the client gives.
    pub stream_credit_max: u32,
    /// Target size of one `rows` message; a single larger row still travels whole.
    pub rows_bytes_target: usize,
    /// Bytes waiting to be written to one connection, beside one message of any size.
    pub outbound_bytes_max: usize,
    /// How long a connection may take nothing while bytes wait for it. Over it: close code 1013.
    pub outbound_stall_timeout_ms: u64,
    /// Attachments that a channel has uploaded and documents may refer to. The oldest is forgotten.
    /// Up to 32 KiB of each are held in memory.
    pub uploads_per_channel_max: usize,
    /// Silence after which the gateway sends a ping.
    pub ping_interval_ms: u64,
    /// Silence after which a connection counts as dead and is dropped.
    pub silence_timeout_ms: u64,
    /// Longest time between two looks at whether a grant still holds.
    pub grant_check_interval_ms: u64,
    /// Time that connections get to finish when the gateway stops; then close code 1012.
    pub drain_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            doc_bytes_max: 8_000_000,
            json_depth_max: 100,
            json_members_max: 100_000,
            doc_id_bytes_max: 1_024,
            bulk_rows_max: 10_000,
            attachment_bytes_max: 64 * 1024 * 1024,
            attachments_per_doc_max: 1_000,
            revs_limit: 1_000,
            leaves_per_doc_max: 100,
            request_header_bytes_max: 16 * 1024,
            request_header_timeout_ms: 10_000,
            first_open_timeout_ms: 10_000,
            frame_bytes_max: 1024 * 1024,
            message_bytes_max: 16 * 1024 * 1024,
            channels_per_connection_max: 32,
            calls_per_connection_max: 128,
            connections_per_user_max: 16,
            connections_per_address_max: 64,
            connections_max: 10_000,
            stream_credit_max: 16,
            rows_bytes_target: 256 * 1024,
            outbound_bytes_max: 1024 * 1024,
            outbound_stall_timeout_ms: 30_000,
            uploads_per_channel_max: 256,
            ping_interval_ms: 20_000,
            silence_timeout_ms: 45_000,
            grant_check_interval_ms: 60_000,
            drain_timeout_ms: 20_000,
        }
    }
}

/// A setting of [`Limits`] that cannot work, by name and with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit {name} = {value} cannot work: {reason}")]
pub struct LimitsError {
    /// The field.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Limits {
    /// Checks that the bounds can be kept together.
    ///
    /// # Errors
    /// The first field that cannot work, e.g. a bound of zero or a message smaller than a document.
    pub fn validate(&self) -> Result<(), LimitsError> {
        let refuse =
            |name, value: usize, reason| Err(LimitsError { name, value: value as u64, reason });
        let positive: [(&'static str, u64); 14] = [
            ("doc_bytes_max", self.doc_bytes_max as u64),
            ("json_depth_max", self.json_depth_max as u64),
            ("json_members_max", self.json_members_max as u64),
            ("doc_id_bytes_max", self.doc_id_bytes_max as u64),
            ("bulk_rows_max", self.bulk_rows_max as u64),
            ("revs_limit", u64::from(self.revs_limit)),
            ("leaves_per_doc_max", self.leaves_per_doc_max as u64),
            ("frame_bytes_max", self.frame_bytes_max as u64),
            ("channels_per_connection_max", self.channels_per_connection_max as u64),
            ("calls_per_connection_max", self.calls_per_connection_max as u64),
            ("connections_max", self.connections_max as u64),
            ("stream_credit_max", u64::from(self.stream_credit_max)),
            ("ping_interval_ms", self.ping_interval_ms),
            ("grant_check_interval_ms", self.grant_check_interval_ms),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return refuse(name, 0, "it must be at least 1");
        }
        if self.message_bytes_max < self.doc_bytes_max.saturating_mul(2) {
            return refuse(
                "message_bytes_max",
                self.message_bytes_max,
                "it must be at least twice doc_bytes_max, or a large document cannot be sent",
            );
        }
        if self.json_depth_max > 1_000 {
            return refuse("json_depth_max", self.json_depth_max, "it must be at most 1000");
        }
        if self.doc_id_bytes_max > 4_096 {
            return refuse("doc_id_bytes_max", self.doc_id_bytes_max, "it must be at most 4096");
        }
        if self.silence_timeout_ms <= self.ping_interval_ms {
            return refuse(
                "silence_timeout_ms",
                usize::try_from(self.silence_timeout_ms).unwrap_or(usize::MAX),
                "it must be longer than ping_interval_ms",
            );
        }
        if self.request_header_bytes_max < 8 * 1024 {
            return refuse(
                "request_header_bytes_max",
                self.request_header_bytes_max,
                "it must be at least 8192, the smallest buffer of the HTTP parser",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Limits::default().validate(), Ok(()));
    }

    #[test]
    fn a_bound_that_cannot_work_is_named() {
        let check = |limits: Limits, name| {
            assert_eq!(limits.validate().expect_err("must be refused").name, name);
        };
        let ok = Limits::default;
        check(Limits { revs_limit: 0, ..ok() }, "revs_limit");
        check(Limits { message_bytes_max: 100, ..ok() }, "message_bytes_max");
        check(Limits { json_depth_max: 5_000, ..ok() }, "json_depth_max");
        check(Limits { doc_id_bytes_max: 5_000, ..ok() }, "doc_id_bytes_max");
        check(Limits { silence_timeout_ms: 20_000, ..ok() }, "silence_timeout_ms");
        check(Limits { request_header_bytes_max: 100, ..ok() }, "request_header_bytes_max");
    }
}
