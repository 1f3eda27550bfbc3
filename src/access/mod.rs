//! Access without code: who may open which database, by rules instead of a function.
//!
//! A [`Chain`] asks its [`Source`]s one after another who shows these credentials: static
//! [`Tokens`], [`Users`] with passwords, JSON Web Tokens ([`Jwt`]), and the application's own server
//! ([`Webhook`]). The first that knows decides; one that does not know passes the request on. What
//! somebody may do is said by [`Rule`]s: patterns of database names with rights. [`Settings`] builds
//! all of it from a configuration file, and [`Access`] holds it so that it can be replaced while a
//! gateway runs.
//!
//! ```
//! use settee::access::{Access, Settings};
//! let settings: Settings = serde_json::from_value(serde_json::json!({
//!     "tokens": [{
//!         "name": "backup",
//!         "token": "a long random text",
//!         "rules": [{"databases": "team-*", "rights": ["read"]}],
//!     }],
//! }))?;
//! let access = Access::new(settings.build()?);
//! let gateway = settee::Gateway::builder(settee::Store::memory())
//!     .authorizer(access.clone())
//!     .server_authorizer(access)
//!     .build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The hard case is that nothing may be widened by accident: a rule that cannot be read, a claim
//! that is missing, a webhook that does not answer, are refusals, never grants.

mod chain;
mod error;
mod identity;
mod jwt;
mod password;
mod pattern;
mod rule;
mod secret;
mod settings;
mod template;
mod tokens;
mod users;
mod webhook;

pub use chain::{Access, Chain, Source};
pub use error::AccessError;
pub use identity::{Identify, Identity, Ruled};
pub use jwt::{Jwt, JwtKeySettings, JwtSettings};
pub use password::hash_password;
pub use pattern::Pattern;
pub use rule::{Policy, Right, Roles, Rule, RuleSettings, ServerRight};
pub use secret::Secret;
pub(crate) use secret::{hex, mac};
pub use settings::{RoleSettings, Settings, SourceKind, TokenSettings, UserSettings};
pub use tokens::Tokens;
pub use users::Users;
pub use webhook::{Webhook, WebhookSettings};
