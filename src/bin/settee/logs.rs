//! The log of a gateway: its form, and its level, which may change while it runs.

use std::io::IsTerminal as _;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, reload};

use crate::config::{Format, Log};
use crate::failure::Failure;

/// Stands above the level of the file.
const VARIABLE: &str = "SETTEE_LOG";

/// The log of this process.
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Logs {
    /// Begins to log to standard error.
    pub fn begin(log: &Log) -> Result<Self, Failure> {
        let (filter, handle) = reload::Layer::new(filter(log)?);
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = match log.format {
            Format::Human => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
            Format::Json => lines.json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry().with(filter).with(lines).init();
        Ok(Self { filter: handle })
    }

    /// Logs by another level from now on.
    pub fn change(&self, log: &Log) -> Result<(), Failure> {
        let level = log.level.clone();
        // The subscriber lives as long as the process.
        self.filter.reload(filter(log)?).map_err(|_| Failure::LogLevel { level })
    }
}

/// What the environment says, or else the settings.
fn filter(log: &Log) -> Result<EnvFilter, Failure> {
    EnvFilter::try_from_env(VARIABLE)
        .or_else(|_| EnvFilter::try_new(&log.level))
        .map_err(|_| Failure::LogLevel { level: log.level.clone() })
}
