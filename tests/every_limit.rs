//! Every field of `Limits` has a case: at the bound things work, one over it they do not.
//!
//! Bounds on what one request brings are tried here, by a request at the bound and one over it.
//! Bounds on connections, times and rates need a test of their own, which is named here.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use std::path::Path;
use std::sync::Arc;

use http::{Answer, Api};
use serde_json::{Map, Value, json};
use settee::store::MemoryBackend;
use settee::{Limits, Store};

/// What shows that a bound holds.
enum Case {
    /// A request of a size is made with the limit at that size and one below it.
    Request { size: usize, refused: u16, of: fn(usize) -> Asked },
    /// A test in a file.
    Test(&'static str, &'static str),
}

struct Asked {
    method: &'static str,
    path: String,
    body: Vec<u8>,
}

fn asked(method: &'static str, path: &str, body: impl ToString) -> Asked {
    Asked { method, path: path.to_owned(), body: body.to_string().into_bytes() }
}

fn bulk(docs: Vec<Value>) -> Asked {
    asked("POST", "/db/_bulk_docs", json!({"docs": docs}))
}

/// A document of exactly so many bytes.
fn doc_of_bytes(bytes: usize) -> Asked {
    let empty = json!({"text": ""}).to_string().len();
    asked("PUT", "/db/a", json!({"text": "x".repeat(bytes - empty)}))
}

fn doc_of_depth(depth: usize) -> Asked {
    let text = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    asked("PUT", "/db/a", text)
}

fn doc_of_members(members: usize) -> Asked {
    let own = |n| (format!("m{n}"), json!(n));
    asked("PUT", "/db/a", Value::Object((0..members).map(own).collect::<Map<_, _>>()))
}

fn attachments(count: usize) -> Asked {
    let one = |n| (format!("f{n}"), json!({"data": "", "content_type": "text/plain"}));
    let all: Map<_, _> = (0..count).map(one).collect();
    asked("PUT", "/db/a", json!({"_attachments": all}))
}

fn selecting(selector: &Value) -> Asked {
    asked("POST", "/db/_changes?filter=_selector", json!({"selector": selector}))
}

fn selector_of_bytes(bytes: usize) -> Asked {
    let empty = json!({"a": {"$eq": ""}}).to_string().len();
    selecting(&json!({"a": {"$eq": "x".repeat(bytes - empty)}}))
}

fn selector_of_depth(depth: usize) -> Asked {
    selecting(&(2..depth).fold(json!({"a": {"$eq": 1}}), |inner, _| json!({"$not": inner})))
}

fn selector_of_conditions(count: usize) -> Asked {
    selecting(&Value::Object((0..count).map(|n| (format!("f{n}"), json!({"$gt": n}))).collect()))
}

/// The field and what shows that it holds.
fn case(field: &str) -> Option<Case> {
    use Case::{Request, Test};
    const HERE: &str = "tests/limits_hold.rs";
    const RATES: &str = "tests/rates_hold.rs";
    const LIFE: &str = "tests/life_cycle.rs";
    const EPHEMERAL: &str = "tests/ephemeral_databases.rs";
    const EVENTS: &str = "tests/events.rs";
    let request = |size, refused, of| Request { size, refused, of };
    Some(match field {
        "doc_bytes_max" => request(500, 413, doc_of_bytes),
        "json_depth_max" => request(20, 400, doc_of_depth),
        "json_members_max" => request(40, 400, doc_of_members),
        "doc_id_bytes_max" => {
            request(40, 400, |bytes| asked("PUT", &format!("/db/{}", "i".repeat(bytes)), "{}"))
        }
        "bulk_rows_max" => request(10, 413, |rows| bulk(vec![json!({}); rows])),
        "attachment_bytes_max" => {
            request(300, 413, |bytes| asked("PUT", "/db/a/f", "x".repeat(bytes)))
        }
        "attachments_per_doc_max" => request(10, 400, attachments),
        "selector_bytes_max" => request(200, 413, selector_of_bytes),
        "selector_depth_max" => request(10, 400, selector_of_depth),
        "selector_conditions_max" => request(10, 413, selector_of_conditions),
        "request_json_bytes_max" => request(1_000, 413, doc_of_bytes),
        "revs_limit" => Test("tests/settings.rs", "histories_are_stemmed_at_the_next_write"),
        "leaves_per_doc_max" => Test(
            "tests/stores_replicated_revisions.rs",
            "a_document_has_a_bounded_number_of_leaves",
        ),
        "request_header_bytes_max" => Test(HERE, "request_headers_have_a_size"),
        "request_header_timeout_ms" => Test(HERE, "request_headers_have_a_time"),
        "handshake_timeout_ms" => Test("tests/listeners.rs", "a_handshake_has_a_time"),
        "json_bytes_in_memory_max" => Test(RATES, "json_in_memory_has_one_bound_for_all"),
        "requests_per_second_per_address_max" | "requests_per_second_per_user_max" => {
            Test(RATES, "requests_of_an_address_and_of_a_user_are_counted")
        }
        "failed_logins_per_minute_max" => {
            Test(RATES, "failed_logins_of_an_address_are_counted_whatever_the_way")
        }
        "rate_entries_max" => {
            Test("src/server/bounds/requests.rs", "addresses_beyond_the_bound_share_an_entry")
        }
        "request_body_stall_timeout_ms" => Test("tests/http_wrong_input.rs", "requests_that_stop"),
        "session_timeout_s" => Test("src/server/http/session.rs", "a_session_ends_by_itself"),
        "sessions_max" => Test("src/server/http/session.rs", "the_oldest_session_makes_room"),
        "first_open_timeout_ms" => Test(HERE, "a_socket_that_opens_nothing_is_closed"),
        "frame_bytes_max" | "message_bytes_max" => {
            Test("tests/wrong_input.rs", "every_wrong_input_has_its_answer_and_harms_nobody_else")
        }
        "messages_burst_max" | "messages_per_second_max" => {
            Test(RATES, "a_burst_of_messages_passes_and_more_are_read_no_faster")
        }
        "messages_overrun_timeout_ms" => {
            Test(RATES, "who_sends_too_many_messages_for_too_long_is_closed_and_others_are_not")
        }
        "inbound_bytes_per_second_max" => {
            Test(RATES, "bytes_over_the_rate_wait_and_harm_nobody_else")
        }
        "channels_per_connection_max" => Test(HERE, "channels_of_a_connection_are_counted"),
        "calls_per_connection_max" => Test(HERE, "calls_of_a_connection_are_counted"),
        "connections_per_user_max" => Test(HERE, "connections_of_a_user_are_counted"),
        "connections_per_address_max" | "connections_max" => {
            Test(HERE, "connections_are_counted_by_address_and_in_all")
        }
        "stream_credit_max" => Test(HERE, "credit_is_clamped"),
        "rows_bytes_target" => Test(HERE, "rows_come_in_messages_of_their_target"),
        "outbound_bytes_max" => {
            Test("src/server/outbox.rs", "holds_the_bound_and_lets_one_large_message_through")
        }
        "outbound_stall_timeout_ms" => {
            Test(HERE, "who_takes_nothing_is_not_read_any_more_and_is_closed")
        }
        "uploads_per_channel_max" => Test(HERE, "the_oldest_upload_is_forgotten"),
        "ping_interval_ms" | "silence_timeout_ms" => {
            Test(HERE, "a_silent_peer_is_pinged_and_dropped")
        }
        "grant_check_interval_ms" => {
            Test("tests/grants_hold.rs", "a_grant_ends_and_new_credentials_carry_it_on")
        }
        "replications_max" => Test("tests/replicates.rs", "more_jobs_than_allowed_are_refused"),
        "event_bytes_max" => Test(EVENTS, "events_have_a_size"),
        "event_queue_bytes_max" => Test(EVENTS, "what_waits_is_bounded_to_the_byte"),
        "event_channels_per_connection_max" => Test(EVENTS, "channels_of_events_are_counted"),
        "presence_members_max" | "presence_state_bytes_max" => {
            Test(EVENTS, "members_and_their_states_are_bounded")
        }
        "database_open_timeout_ms" => {
            Test(LIFE, "a_hook_that_takes_too_long_refuses_and_the_next_client_tries_again")
        }
        "database_waiting_max" => Test(LIFE, "only_so_many_wait_for_one_database"),
        "database_linger_ms" => Test(LIFE, "a_database_closes_some_time_after_its_last_client"),
        "ephemeral_databases_max" => Test(EPHEMERAL, "there_are_only_so_many_of_them"),
        "ephemeral_bytes_max" => Test(EPHEMERAL, "their_memory_has_one_bound"),
        "drain_timeout_ms" => Test(HERE, "a_stop_waits_for_calls_only_so_long"),
        _ => return None,
    })
}

/// The default limits with one of them set.
fn limits(field: &str, value: usize) -> Limits {
    let mut limits = serde_json::to_value(Limits::default()).unwrap();
    limits[field] = json!(value);
    serde_json::from_value(limits).unwrap()
}

async fn answer(field: &str, bound: usize, asked: &Asked) -> Answer {
    let limits = limits(field, bound);
    limits.validate().unwrap_or_else(|error| panic!("{field}: {error}"));
    let store = Store::with_backend(Arc::new(MemoryBackend::new()), limits.clone());
    let api = Api::with(store, limits);
    api.database("db").await;
    api.ask(asked.method, &asked.path, &[http::JSON], &asked.body).await
}

#[tokio::test]
async fn every_limit_has_a_case() {
    let defaults = serde_json::to_value(Limits::default()).unwrap();
    for field in defaults.as_object().unwrap().keys() {
        match case(field).unwrap_or_else(|| panic!("{field} has no case")) {
            Case::Request { size, refused, of } => {
                let fits = answer(field, size, &of(size)).await;
                assert!(fits.status < 300, "{field} at its bound: {}", fits.text());
                let over = answer(field, size - 1, &of(size)).await;
                assert_eq!(over.status, refused, "{field} one over: {}", over.text());
            }
            Case::Test(file, name) => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(text.contains(&format!("fn {name}(")), "{field}: no {name} in {file}");
            }
        }
    }
}
