//! Durable state.
pub mod backend;
mod error;
pub use error::{DocError, StoreError};
