//! The table `[access.jwt]`.

use std::path::PathBuf;

use serde::Deserialize;

use crate::access::rule::{Rule, ServerRight};
use crate::access::secret::Secret;

/// Whose JSON Web Tokens count, and what their claims mean.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtSettings {
    /// Keys, beside those of `jwks_file`.
    pub keys: Vec<JwtKeySettings>,
    /// A file with a JWK set (RFC 7517), read again when it changes.
    pub jwks_file: Option<PathBuf>,
    /// Audiences of which a token must have one; none for any.
    pub audience: Vec<String>,
    /// Issuers of which a token must be; none for any.
    pub issuer: Vec<String>,
    /// Seconds by which clocks may differ: a token counts so long beyond `exp`, so long before
    /// `nbf`. 5 by default.
    pub leeway_s: u64,
    /// Where the user's name is; `sub` by default.
    pub name_claim: String,
    /// Where the roles are: a list, or a text with spaces. `roles` by default.
    pub roles_claim: String,
    /// Where rules are that the token brings itself; none by default, so that it brings none.
    pub rules_claim: Option<String>,
    /// What everybody with a token may do.
    pub rules: Vec<Rule>,
    /// What everybody with a token may do with the server.
    pub server: Vec<ServerRight>,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            jwks_file: None,
            audience: Vec::new(),
            issuer: Vec::new(),
            leeway_s: 5,
            name_claim: "sub".to_owned(),
            roles_claim: "roles".to_owned(),
            rules_claim: None,
            rules: Vec::new(),
            server: Vec::new(),
        }
    }
}

/// A key for JSON Web Tokens: a secret for HS algorithms, a public key in PEM for the others.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtKeySettings {
    /// Its id; a token that names none is tried with every key of its algorithm.
    #[serde(default)]
    pub kid: Option<String>,
    /// HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA.
    pub algorithm: String,
    /// The secret of an HS algorithm, 32 bytes at least.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// A file that holds it.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// The public key in PEM.
    #[serde(default)]
    pub public_key: Option<String>,
    /// A file that holds it.
    #[serde(default)]
    pub public_key_file: Option<PathBuf>,
}
