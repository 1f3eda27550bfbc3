//! Ready validators: rules for documents without code of one's own, and a service that judges.
//!
//! A [`Rule`] holds the documents of some databases to a JSON Schema, to a selector, and to fields
//! that may not change. A [`Service`] asks an HTTP server of the application. Both are
//! [`Validator`](crate::server::Validator)s, to be given to
//! [`GatewayBuilder::validator`](crate::server::GatewayBuilder::validator) or to a single
//! [`Grant`](crate::server::Grant).
//!
//! ```
//! use serde_json::json;
//! use settee::{Gateway, Selector, Store, validate::Rule};
//! let schema = json!({
//!     "type": "object",
//!     "required": ["title"],
//!     "properties": {"title": {"type": "string", "maxLength": 200}},
//! });
//! let todos = Rule::new("todos*".parse()?).schema(&schema)?.immutable(["owner"])?;
//! let gateway = Gateway::builder(Store::memory()).validator(todos).build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod immutable;
mod pattern;
mod rule;
mod service;

pub use error::ValidateError;
pub use pattern::DbPattern;
pub use rule::Rule;
pub use service::{Service, Unreachable};
