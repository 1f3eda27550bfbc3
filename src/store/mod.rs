//! Durable state.
pub mod backend;
#[cfg(test)]
mod conformance;
mod error;
#[cfg(feature = "sled")]
mod keys;
pub mod memory;
#[cfg(feature = "sled")]
mod migrate;
#[cfg(feature = "sled")]
mod sled;
mod tally;
pub use error::{DocError, StoreError};
#[cfg(feature = "sled")]
pub use sled::{SledBackend, SledOptions};
