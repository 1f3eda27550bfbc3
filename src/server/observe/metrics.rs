//! The metrics that are counted where things happen, and how those of the store are shown.
//!
//! Every label has few values: methods, routes and errors by the names that the code has for them,
//! never by what a client sent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::Spoken;
use super::audit::Audit;
use super::counted::Bytes;
use crate::proto::call::method;
use crate::proto::legacy::call::method as legacy;
use crate::server::refused::known_name;
use crate::store::{Spread, Store};

pub(super) type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];

const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

const METHODS: [&str; 12] = [
    method::INFO,
    method::GET,
    method::PUT,
    method::DELETE,
    method::BULK_DOCS,
    method::BULK_GET,
    method::REVS_DIFF,
    method::ALL_DOCS,
    method::CHANGES,
    method::ATTACHMENT,
    method::UPLOAD,
    method::DESTROY,
];

const LEGACY_METHODS: [&str; 7] = [
    legacy::ID,
    legacy::INFO,
    legacy::GET,
    legacy::ALL_DOCS,
    legacy::BULK_DOCS,
    legacy::REVISION_TREE,
    legacy::CHANGES,
];

const HTTP_METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"];

/// What is counted as it happens, and the gauges that a look sets.
pub(super) struct Metrics {
    pub registry: Registry,
    pub docs_in: Counter,
    pub docs_out: Counter,
    bytes: Bytes,
    calls: Family<Two, Histogram>,
    requests: Family<Two, Histogram>,
    responses: Family<[(&'static str, u16); 1], Counter>,
    refusals: Family<One, Counter>,
    docs_refused: Family<One, Counter>,
    limits_hit: Family<One, Counter>,
    pub gauges: Gauges,
}

/// What is looked at when somebody asks.
#[derive(Default)]
pub(super) struct Gauges {
    pub connections: Family<One, Gauge>,
    pub channels: Family<One, Gauge>,
    pub feeds: Gauge,
    pub feed_lag: Gauge,
    pub outbox_bytes: Gauge,
    pub store_bytes: Gauge,
    pub databases: Gauge,
    pub draining: Gauge,
    pub resident_bytes: Gauge,
    pub threads: Gauge,
    pub descriptors: Gauge,
    pub descriptors_max: Gauge,
}

/// One of a list of names, so that nobody can make up more.
fn one_of(names: &[&'static str], name: &str) -> &'static str {
    names.iter().find(|known| **known == name).copied().unwrap_or("other")
}

impl Metrics {
    pub(super) fn new(store: &Store, audit: Option<Arc<dyn Audit>>) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let mut metrics = Self {
            registry: Registry::default(),
            docs_in: Counter::default(),
            docs_out: Counter::default(),
            bytes: Bytes { read: Counter::default(), written: Counter::default() },
            calls: Family::new_with_constructor(seconds),
            requests: Family::new_with_constructor(seconds),
            responses: Family::default(),
            refusals: Family::default(),
            docs_refused: Family::default(),
            limits_hit: Family::default(),
            gauges: Gauges::default(),
        };
        metrics.register(store, audit);
        metrics
    }

    fn register(&mut self, store: &Store, audit: Option<Arc<dyn Audit>>) {
        let (gauges, all) = (&self.gauges, &mut self.registry);
        let process = all.sub_registry_with_prefix("process");
        process.register("resident_memory_bytes", "Memory", gauges.resident_bytes.clone());
        process.register("threads", "Threads", gauges.threads.clone());
        process.register("open_fds", "Open descriptors", gauges.descriptors.clone());
        process.register("max_fds", "Descriptors at most", gauges.descriptors_max.clone());
        let own = all.sub_registry_with_prefix("settee");
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        own.register("build", "What runs", version);
        own.register("connections", "Connections by protocol", gauges.connections.clone());
        own.register("channels", "Open channels and requests", gauges.channels.clone());
        own.register("feeds", "Feeds that are followed live", gauges.feeds.clone());
        let help = "Changes that the slowest live feed is behind";
        own.register("feed_lag_max", help, gauges.feed_lag.clone());
        let help = "Bytes that wait to be taken by clients";
        own.register("outbox_bytes", help, gauges.outbox_bytes.clone());
        own.register("store_bytes", "Bytes of the store's files", gauges.store_bytes.clone());
        own.register("databases", "Databases", gauges.databases.clone());
        own.register("draining", "1 while the gateway stops", gauges.draining.clone());
        own.register("call_duration_seconds", "Calls over WebSockets", self.calls.clone());
        let help = "HTTP requests, until the answer's body begins";
        own.register("http_request_duration_seconds", help, self.requests.clone());
        own.register("http_responses", "HTTP answers by status", self.responses.clone());
        own.register("docs_received", "Documents stored for clients", self.docs_in.clone());
        own.register("docs_sent", "Documents read for clients", self.docs_out.clone());
        own.register("received_bytes", "Bytes from clients", self.bytes.read.clone());
        own.register("sent_bytes", "Bytes to clients", self.bytes.written.clone());
        own.register("refusals", "Calls and requests refused", self.refusals.clone());
        own.register("docs_refused", "Documents not stored", self.docs_refused.clone());
        own.register("limits_hit", "Limits that were reached", self.limits_hit.clone());
        own.register_collector(Box::new(Elsewhere { store: store.clone(), audit }));
    }

    pub(super) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    pub(super) fn called(&self, spoken: Spoken, method: &str, took: Duration) {
        let names: &[&'static str] =
            if spoken == Spoken::Legacy { &LEGACY_METHODS } else { &METHODS };
        let labels = [("protocol", spoken.name()), ("method", one_of(names, method))];
        self.calls.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(super) fn answered(&self, method: &str, route: &'static str, status: u16, took: Duration) {
        let labels = [("method", one_of(&HTTP_METHODS, method)), ("route", route)];
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
        self.responses.get_or_create(&[("status", status)]).inc();
    }

    pub(super) fn refused(&self, error: &str) {
        self.refusals.get_or_create(&[("reason", known_name(error))]).inc();
    }

    pub(super) fn doc_refused(&self, error: &str) {
        self.docs_refused.get_or_create(&[("reason", known_name(error))]).inc();
    }

    pub(super) fn limit_hit(&self, limit: &'static str) {
        self.limits_hit.get_or_create(&[("limit", limit)]).inc();
    }
}

/// What the store and the audit trail count by themselves.
struct Elsewhere {
    store: Store,
    audit: Option<Arc<dyn Audit>>,
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Collector for Elsewhere {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.store.stats();
        let help = "Time that flushes to the disk took";
        histogram(&mut encoder, "flush_duration_seconds", help, &stats.backend.flush_us, 1e-6)?;
        let help = "Documents and other rows that shared a flush";
        histogram(&mut encoder, "flush_rows", help, &stats.backend.group_rows, 1.0)?;
        counter(&mut encoder, "compactions", "Compactions of a database", stats.compactions)?;
        let lost = self.audit.as_ref().map_or(0, |audit| audit.lost());
        counter(&mut encoder, "audit_lost", "Audit events that were dropped", lost)?;
        let help = "1 after a flush failed: nothing is written any more";
        let poisoned: Gauge = Gauge::default();
        poisoned.set(stats.backend.poisoned.into());
        let gauge = encoder.encode_descriptor("store_poisoned", help, None, MetricType::Gauge)?;
        poisoned.encode(gauge)
    }
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, count: u64) -> fmt::Result {
    let count = ConstCounter::new(count);
    count.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    spread: &Spread,
    unit: f64,
) -> fmt::Result {
    let bound = |bound: u64| if bound == u64::MAX { f64::INFINITY } else { bound as f64 * unit };
    let mut buckets: Vec<(f64, u64)> =
        spread.counts.iter().map(|(max, count)| (bound(*max), *count)).collect();
    if buckets.is_empty() {
        buckets.push((f64::INFINITY, 0));
    }
    let count = buckets.iter().map(|(_, count)| count).sum();
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    metric.encode_histogram::<NoLabelSet>(spread.sum as f64 * unit, count, &buckets, None)
}
