//! `/_metrics`: what is looked at when somebody asks, and the text of all of it.

use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;

use super::metrics::Gauges;
use super::process::Process;
use super::{Observed, Spoken, lock};
use crate::doc::DbName;
use crate::server::Shared;
use crate::store::{Store, StoreError};

/// What looks at every file and every name is looked at so often at most.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What takes long to look at.
#[derive(Clone, Copy)]
pub(super) struct Slow {
    at: Instant,
    databases: u64,
    store_bytes: Option<u64>,
}

impl Slow {
    async fn look(store: &Store) -> Result<Self, StoreError> {
        const PAGE_NAMES: usize = 1_000;
        let (mut databases, mut after): (u64, Option<DbName>) = (0, None);
        loop {
            let page = store.names(after.as_ref(), PAGE_NAMES).await?;
            databases += page.len() as u64;
            let Some(last) = page.into_iter().next_back() else { break };
            after = Some(last);
        }
        let store_bytes = store.disk_bytes().await?;
        Ok(Self { at: Instant::now(), databases, store_bytes })
    }
}

impl Observed {
    /// What takes long, as it was a minute ago at most; as it was last if the store tells no more.
    async fn slow(&self, store: &Store) -> Option<Slow> {
        let known = *lock(&self.slow);
        if let Some(slow) = known.filter(|slow| slow.at.elapsed() < LOOK_AGAIN) {
            return Some(slow);
        }
        match Slow::look(store).await {
            Ok(slow) => {
                *lock(&self.slow) = Some(slow);
                Some(slow)
            }
            Err(error) => {
                tracing::warn!(%error, "the store's size is not known");
                known
            }
        }
    }
}

impl Shared {
    /// The text of all metrics, in OpenMetrics' form.
    pub(in crate::server) async fn metrics_text(&self) -> String {
        let slow = self.observed.slow(&self.store).await;
        let metrics = &self.observed.metrics;
        let process = tokio::task::spawn_blocking(Process::look).await.unwrap_or_default();
        let gauges = &metrics.gauges;
        self.look(gauges);
        set(&gauges.databases, slow.map(|slow| slow.databases));
        set(&gauges.store_bytes, slow.and_then(|slow| slow.store_bytes));
        set(&gauges.resident_bytes, process.resident_bytes);
        set(&gauges.threads, process.threads);
        set(&gauges.descriptors, process.descriptors);
        set(&gauges.descriptors_max, process.descriptors_max);
        let mut text = String::new();
        encode(&mut text, &metrics.registry).expect("a string takes everything");
        text
    }

    fn look(&self, gauges: &Gauges) {
        let roll = self.observed.roll();
        let channels: Vec<Spoken> =
            self.open_channels().iter().map(|channel| channel.granted().link.spoken).collect();
        for spoken in Spoken::ALL {
            let connected = match spoken {
                // Whoever is connected and has not asked for a WebSocket.
                Spoken::Http => self.census.connections().saturating_sub(roll.len()),
                _ => roll.iter().filter(|(_, one)| one.spoken == spoken).count(),
            };
            let labels = [("protocol", spoken.name())];
            set(&gauges.connections.get_or_create(&labels), Some(connected as u64));
            let open = channels.iter().filter(|one| **one == spoken).count();
            set(&gauges.channels.get_or_create(&labels), Some(open as u64));
        }
        let waiting = roll.iter().map(|(_, one)| one.waiting.bytes() as u64).sum();
        set(&gauges.outbox_bytes, Some(waiting));
        let (feeds, lag) = self.observed.feeds.lag();
        set(&gauges.feeds, Some(feeds as u64));
        set(&gauges.feed_lag, Some(lag));
        set(&gauges.draining, Some(u64::from(*self.stopping.borrow())));
    }
}

fn set(gauge: &prometheus_client::metrics::gauge::Gauge, value: Option<u64>) {
    if let Some(value) = value {
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    }
}
