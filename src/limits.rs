//! Every bound the gateway and the store keep, with its unit and default.
//!
//! A bound is checked before anything is allocated for what it bounds. Each field says what
//! happens when it is hit; `docs/PROTOCOL.md` says how that looks on the wire.

use serde::{Deserialize, Serialize};

/// Highest `bulk_rows_max`: what reads a list stops there without knowing the setting.
pub(crate) const BULK_ROWS_MAX_MAX: usize = 100_000;

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
    /// Bytes of one document's JSON text without its attachments; 8,000,000. Over it: 413
    /// `too_large`.
    pub doc_bytes_max: usize,
    /// Levels of nesting in a document, which is level 1 itself; 100, at most 1000. Over it: 400
    /// `bad_request`.
    pub json_depth_max: usize,
    /// Members and elements in one document, counted over all levels; 100,000. Over it: 400
    /// `bad_request`.
    pub json_members_max: usize,
    /// UTF-8 bytes of a document id; 2048, at most 4096. Over it: 400 `illegal_docid`.
    pub doc_id_bytes_max: usize,
    /// Documents in one `bulk_docs`, `bulk_get` or `revs_diff`, ids or revisions in one list;
    /// 10,000, at most 100,000. Over it: 413 `too_large`, and nothing is read or written.
    pub bulk_rows_max: usize,
    /// Bytes of one attachment; 1 GiB. Over it: 413 `too_large`, at the first piece too many.
    pub attachment_bytes_max: u64,
    /// Attachments of one document; 256. Over it: 400 `doc_validation`.
    pub attachments_per_doc_max: usize,
    /// Revisions kept on the way from a leaf to its root; 1000. Older ancestors are stemmed.
    pub revs_limit: u32,
    /// Leaves (open and deleted) of one document; 250. A revision that would add one more is
    /// refused with 413 `too_large`; extending or deleting an existing leaf always works.
    pub leaves_per_doc_max: usize,
    /// Bytes of a selector's JSON, as it is sent and in its canonical form; 64 KiB. Over it: 413
    /// `too_large`.
    pub selector_bytes_max: usize,
    /// Levels of nesting in a selector; 50, at most 100. Over it: 400 `bad_request`.
    pub selector_depth_max: usize,
    /// Conditions in one selector, one for each field and operator; 1000. Over it: 413 `too_large`.
    pub selector_conditions_max: usize,

    /// Bytes of a request's line and headers; 16 KiB, at least 8 KiB. Over it: 431, and the
    /// connection closes.
    pub request_header_bytes_max: usize,
    /// Milliseconds for sending the request headers; 10,000. Over it the connection closes.
    pub request_header_timeout_ms: u64,
    /// Milliseconds for what comes before a request, a PROXY header and a TLS handshake, each;
    /// 10,000. Over it the connection closes.
    pub handshake_timeout_ms: u64,
    /// Bytes of a request's body of JSON, after decompression; 64 MiB. Over it: 413 `too_large`.
    /// Bodies of attachments are bounded by `attachment_bytes_max`.
    pub request_json_bytes_max: usize,
    /// Bytes of JSON that all connections together may have in memory, in bodies of requests, in
    /// WebSocket messages that are coming and in calls of settee.v1 that are not answered; 512 MiB.
    /// Over it: 503 `service_unavailable`, or close code 1013. The first 64 KiB of each count as
    /// nothing, so that small ones always pass.
    pub json_bytes_in_memory_max: usize,
    /// HTTP requests a second from one IPv4 address or one IPv6 network of 64 bits; 0, which is no
    /// bound. Ten times as many may come at once. Over it: 429 `too_many_requests`.
    pub requests_per_second_per_address_max: u32,
    /// HTTP requests a second under grants that name one user; 0, which is no bound. Ten times as
    /// many may come at once. Over it: 429 `too_many_requests`.
    pub requests_per_second_per_user_max: u32,
    /// Failed logins in a minute from one IPv4 address or one IPv6 network of 64 bits; 10, and 0 is
    /// no bound. After them, credentials from there are refused unseen with 429
    /// `too_many_requests` for a minute, and for twice as long each time it fails as often again,
    /// at most for an hour.
    pub failed_logins_per_minute_max: u32,
    /// Addresses, and as many users, whose requests or failed logins are counted apart; 100,000.
    /// One more shares its count of requests with all that come after it; its failed logins take the
    /// place of the oldest.
    pub rate_entries_max: usize,
    /// Milliseconds in which nothing of a request's body comes; 30,000. Over it: 408 `timeout`.
    pub request_body_stall_timeout_ms: u64,
    /// Seconds that a session's cookie is good for; 600. Over it: 401 `unauthorized`.
    pub session_timeout_s: u64,
    /// Sessions in memory; 10,000. One more ends the oldest of whoever has most of them.
    pub sessions_max: usize,
    /// Milliseconds from the upgrade to the first database opened or identity given; 10,000. Over it: close code 1008.
    pub first_open_timeout_ms: u64,
    /// Bytes of one WebSocket frame; 16 MiB, a whole message, since browsers send a message as one
    /// frame. Over it: close code 1009.
    pub frame_bytes_max: usize,
    /// Bytes of one WebSocket message, all its frames together; 16 MiB, at least twice
    /// `doc_bytes_max`. Over it: close code 1009.
    pub message_bytes_max: usize,
    /// Messages a second that are taken from one connection; 2,000. `messages_burst_max` may come at
    /// once. Over it the connection is read no faster.
    pub messages_per_second_max: u32,
    /// Messages that are taken from one connection at once; 10,000.
    pub messages_burst_max: u32,
    /// Milliseconds that a connection may send more messages than it may without a pause; 60,000.
    /// Over it: close code 1008.
    pub messages_overrun_timeout_ms: u64,
    /// Bytes a second that are taken from one connection; 64 MiB, at least a tenth of
    /// `message_bytes_max`, and as many at once. Over it the connection is read no faster.
    pub inbound_bytes_per_second_max: u32,
    /// Channels of one connection, those being opened included; 32. One more is refused with 429
    /// `too_many_requests`.
    pub channels_per_connection_max: usize,
    /// Calls in progress on one connection, streams and answers not yet taken included; 128. One
    /// more fails with 429 `too_many_requests`.
    pub calls_per_connection_max: usize,
    /// Connections whose grants name one user; 16. A channel on one more is refused with 429
    /// `too_many_requests`.
    pub connections_per_user_max: usize,
    /// Connections from one IPv4 address or one IPv6 network of 64 bits; 256. One more is answered
    /// with 429.
    pub connections_per_address_max: usize,
    /// Connections in all; 10,000. One more is answered with 503.
    pub connections_max: usize,
    /// Messages that one stream may have credit for; 16. Credit beyond it is not given.
    pub stream_credit_max: u32,
    /// Bytes of one `rows` message, as a target; 256 KiB. A message ends before the row that would
    /// exceed it; a single larger row still travels whole.
    pub rows_bytes_target: usize,
    /// Bytes waiting to be written to one connection, beside one message of any size; 1 MiB. What
    /// would add to them waits.
    pub outbound_bytes_max: usize,
    /// Milliseconds a connection may take nothing while bytes wait for it; 30,000. Over it: close
    /// code 1013, or the end of an HTTP connection.
    pub outbound_stall_timeout_ms: u64,
    /// Attachments that a channel has uploaded and documents may refer to; 256. The oldest is
    /// forgotten. Up to 32 KiB of each are held in memory.
    pub uploads_per_channel_max: usize,
    /// Bytes of an event's name and the JSON text of its payload; 64 KiB. Over it: 413 `too_large`.
    pub event_bytes_max: usize,
    /// Bytes of events and presence that wait for one connection; 256 KiB. Over it the oldest are
    /// lost, and their number is told. One event of any size always fits.
    pub event_queue_bytes_max: usize,
    /// Channels of events that one connection may be in; 100. One more is refused with 429
    /// `too_many_requests`.
    pub event_channels_per_connection_max: usize,
    /// Members of one channel of events with presence; 500. One more is refused with 429
    /// `too_many_requests`.
    pub presence_members_max: usize,
    /// Bytes of the JSON text of a member's state; 1024. Over it: 413 `too_large`.
    pub presence_state_bytes_max: usize,
    /// Milliseconds of silence after which the gateway sends a ping; 20,000.
    pub ping_interval_ms: u64,
    /// Milliseconds of silence after which a connection counts as dead and is dropped; 45,000,
    /// more than `ping_interval_ms`. One that could not be pinged meanwhile gets the time between
    /// the two to answer.
    pub silence_timeout_ms: u64,
    /// Milliseconds at most between two looks at whether a grant still holds; 60,000. An ended grant
    /// closes its channel with 401 `unauthorized`.
    pub grant_check_interval_ms: u64,
    /// Replications that the gateway carries out at a time; 100. One more is refused with 429
    /// `too_many_requests`.
    pub replications_max: usize,
    /// Milliseconds that opening a database may take with what the application does for it, and its
    /// other hooks each; 10,000. Over it: 503 `service_unavailable`.
    pub database_open_timeout_ms: u64,
    /// Clients that may wait for one database to be opened or closed; 1000. One more is refused with
    /// 503 `service_unavailable`.
    pub database_waiting_max: usize,
    /// Milliseconds that a database stays active after its last client has left; 30,000. Then it is
    /// closed, and an ephemeral one is gone.
    pub database_linger_ms: u64,
    /// Ephemeral databases at a time; 1000. One more is refused with 503 `service_unavailable`.
    pub ephemeral_databases_max: usize,
    /// Bytes that all ephemeral databases together may have in memory; 256 MiB. Writes over it: 507
    /// `insufficient_storage`.
    pub ephemeral_bytes_max: u64,
    /// Milliseconds that calls in progress get when the gateway stops; 20,000. Then close code 1012.
    pub drain_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            doc_bytes_max: 8_000_000,
            json_depth_max: 100,
            json_members_max: 100_000,
            doc_id_bytes_max: 2_048,
            bulk_rows_max: 10_000,
            attachment_bytes_max: 1024 * 1024 * 1024,
            attachments_per_doc_max: 256,
            revs_limit: 1_000,
            leaves_per_doc_max: 250,
            selector_bytes_max: 64 * 1024,
            selector_depth_max: 50,
            selector_conditions_max: 1_000,
            request_header_bytes_max: 16 * 1024,
            request_header_timeout_ms: 10_000,
            handshake_timeout_ms: 10_000,
            request_json_bytes_max: 64 * 1024 * 1024,
            json_bytes_in_memory_max: 512 * 1024 * 1024,
            requests_per_second_per_address_max: 0,
            requests_per_second_per_user_max: 0,
            failed_logins_per_minute_max: 10,
            rate_entries_max: 100_000,
            request_body_stall_timeout_ms: 30_000,
            session_timeout_s: 600,
            sessions_max: 10_000,
            first_open_timeout_ms: 10_000,
            frame_bytes_max: 16 * 1024 * 1024,
            message_bytes_max: 16 * 1024 * 1024,
            messages_per_second_max: 2_000,
            messages_burst_max: 10_000,
            messages_overrun_timeout_ms: 60_000,
            inbound_bytes_per_second_max: 64 * 1024 * 1024,
            channels_per_connection_max: 32,
            calls_per_connection_max: 128,
            connections_per_user_max: 16,
            connections_per_address_max: 256,
            connections_max: 10_000,
            stream_credit_max: 16,
            rows_bytes_target: 256 * 1024,
            outbound_bytes_max: 1024 * 1024,
            outbound_stall_timeout_ms: 30_000,
            uploads_per_channel_max: 256,
            event_bytes_max: 64 * 1024,
            event_queue_bytes_max: 256 * 1024,
            event_channels_per_connection_max: 100,
            presence_members_max: 500,
            presence_state_bytes_max: 1_024,
            ping_interval_ms: 20_000,
            silence_timeout_ms: 45_000,
            grant_check_interval_ms: 60_000,
            replications_max: 100,
            database_open_timeout_ms: 10_000,
            database_waiting_max: 1_000,
            database_linger_ms: 30_000,
            ephemeral_databases_max: 1_000,
            ephemeral_bytes_max: 256 * 1024 * 1024,
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
        let positive = [
            ("doc_bytes_max", self.doc_bytes_max as u64),
            ("json_depth_max", self.json_depth_max as u64),
            ("json_members_max", self.json_members_max as u64),
            ("doc_id_bytes_max", self.doc_id_bytes_max as u64),
            ("bulk_rows_max", self.bulk_rows_max as u64),
            ("revs_limit", u64::from(self.revs_limit)),
            ("leaves_per_doc_max", self.leaves_per_doc_max as u64),
            ("selector_bytes_max", self.selector_bytes_max as u64),
            ("selector_depth_max", self.selector_depth_max as u64),
            ("selector_conditions_max", self.selector_conditions_max as u64),
            ("frame_bytes_max", self.frame_bytes_max as u64),
            ("channels_per_connection_max", self.channels_per_connection_max as u64),
            ("calls_per_connection_max", self.calls_per_connection_max as u64),
            ("connections_max", self.connections_max as u64),
            ("connections_per_user_max", self.connections_per_user_max as u64),
            ("connections_per_address_max", self.connections_per_address_max as u64),
            ("outbound_bytes_max", self.outbound_bytes_max as u64),
            ("outbound_stall_timeout_ms", self.outbound_stall_timeout_ms),
            ("request_json_bytes_max", self.request_json_bytes_max as u64),
            ("request_body_stall_timeout_ms", self.request_body_stall_timeout_ms),
            ("handshake_timeout_ms", self.handshake_timeout_ms),
            ("rate_entries_max", self.rate_entries_max as u64),
            ("messages_per_second_max", u64::from(self.messages_per_second_max)),
            ("messages_burst_max", u64::from(self.messages_burst_max)),
            ("inbound_bytes_per_second_max", u64::from(self.inbound_bytes_per_second_max)),
            ("session_timeout_s", self.session_timeout_s),
            ("sessions_max", self.sessions_max as u64),
            ("stream_credit_max", u64::from(self.stream_credit_max)),
            ("event_bytes_max", self.event_bytes_max as u64),
            ("event_queue_bytes_max", self.event_queue_bytes_max as u64),
            ("event_channels_per_connection_max", self.event_channels_per_connection_max as u64),
            ("presence_members_max", self.presence_members_max as u64),
            ("presence_state_bytes_max", self.presence_state_bytes_max as u64),
            ("ping_interval_ms", self.ping_interval_ms),
            ("grant_check_interval_ms", self.grant_check_interval_ms),
            ("database_open_timeout_ms", self.database_open_timeout_ms),
            ("database_waiting_max", self.database_waiting_max as u64),
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
        let largest = self.message_bytes_max.max(self.request_json_bytes_max);
        if self.json_bytes_in_memory_max < largest {
            return refuse(
                "json_bytes_in_memory_max",
                self.json_bytes_in_memory_max,
                "it must be at least message_bytes_max and request_json_bytes_max, or the largest \
                 of these could never come",
            );
        }
        if (self.inbound_bytes_per_second_max as usize).saturating_mul(10) < self.message_bytes_max
        {
            return refuse(
                "inbound_bytes_per_second_max",
                self.inbound_bytes_per_second_max as usize,
                "it must be at least a tenth of message_bytes_max, or who sends the largest \
                 message would count as silent meanwhile",
            );
        }
        let at_most = [
            ("json_depth_max", self.json_depth_max, 1_000, "it must be at most 1000"),
            ("selector_depth_max", self.selector_depth_max, 100, "it must be at most 100"),
            ("doc_id_bytes_max", self.doc_id_bytes_max, 4_096, "it must be at most 4096"),
            ("bulk_rows_max", self.bulk_rows_max, BULK_ROWS_MAX_MAX, "it must be at most 100000"),
        ];
        if let Some((name, value, _, reason)) = at_most.iter().find(|(_, v, max, _)| v > max) {
            return refuse(name, *value, reason);
        }
        if self.uploads_per_channel_max < self.attachments_per_doc_max {
            return refuse(
                "uploads_per_channel_max",
                self.uploads_per_channel_max,
                "it must be at least attachments_per_doc_max, or such a document cannot be pushed",
            );
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
        check(Limits { selector_depth_max: 101, ..ok() }, "selector_depth_max");
        check(Limits { doc_id_bytes_max: 5_000, ..ok() }, "doc_id_bytes_max");
        check(Limits { bulk_rows_max: 100_001, ..ok() }, "bulk_rows_max");
        check(Limits { outbound_bytes_max: 0, ..ok() }, "outbound_bytes_max");
        check(Limits { uploads_per_channel_max: 255, ..ok() }, "uploads_per_channel_max");
        check(Limits { silence_timeout_ms: 20_000, ..ok() }, "silence_timeout_ms");
        check(Limits { json_bytes_in_memory_max: 1 << 20, ..ok() }, "json_bytes_in_memory_max");
        let rate = "inbound_bytes_per_second_max";
        check(Limits { inbound_bytes_per_second_max: 1_677_721, ..ok() }, rate);
        check(Limits { request_header_bytes_max: 100, ..ok() }, "request_header_bytes_max");
    }
}
