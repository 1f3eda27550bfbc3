//! JSON Web Tokens (RFC 7519): whoever shows one is who it claims.
//!
//! A key has its algorithm from the configuration, never from the token: a token whose header says
//! another, `none` among them, finds no key. A token must have `exp`; the grant ends with it.

mod keys;
mod settings;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize as _;
use serde_json::Value;

use crate::server::{Credentials, Denied};

use super::error::AccessError;
use super::identity::{Identify, Identity};
use super::rule::{Policy, Rule};
use super::template::ClaimPath;
use keys::{Key, Keys};
pub use settings::{JwtKeySettings, JwtSettings};

/// Longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Knows people by JSON Web Tokens.
#[derive(Debug)]
pub struct Jwt {
    keys: Keys,
    audience: Vec<String>,
    issuer: Vec<String>,
    leeway: Duration,
    name: ClaimPath,
    roles: ClaimPath,
    rules: Option<ClaimPath>,
    policy: Arc<Policy>,
}

impl Jwt {
    /// Reads the keys that settings name.
    ///
    /// # Errors
    /// [`AccessError`] for a key that cannot be read or used, and for settings without keys.
    pub fn new(settings: &JwtSettings) -> Result<Self, AccessError> {
        if settings.keys.is_empty() && settings.jwks_file.is_none() {
            let reason = "give jwks_file, or keys".to_owned();
            return Err(AccessError::Setting { key: "access.jwt", reason });
        }
        let keys = settings.keys.iter().map(Key::of_settings).collect::<Result<_, _>>()?;
        Ok(Self {
            keys: Keys::new(keys, settings.jwks_file.clone())?,
            audience: settings.audience.clone(),
            issuer: settings.issuer.clone(),
            leeway: Duration::from_secs(settings.leeway_s),
            name: ClaimPath::parse(&settings.name_claim),
            roles: ClaimPath::parse(&settings.roles_claim),
            rules: settings.rules_claim.as_deref().map(ClaimPath::parse),
            policy: Arc::new(Policy {
                rules: settings.rules.clone(),
                server: settings.server.clone(),
            }),
        })
    }

    fn validation(&self, key: &Key) -> Validation {
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = self.leeway.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        if self.audience.is_empty() {
            validation.validate_aud = false;
        } else {
            validation.set_audience(&self.audience);
            required.push("aud");
        }
        if !self.issuer.is_empty() {
            validation.set_issuer(&self.issuer);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    /// The claims of a token; `None` if no key is for it.
    async fn claims(&self, token: &str) -> Result<Option<Value>, Denied> {
        let Ok(header) = decode_header(token) else { return Ok(None) };
        let mut refusal = None;
        for key in self.keys.of(header.kid.as_deref(), header.alg).await {
            match decode::<Value>(token, &key.decoding, &self.validation(&key)) {
                Ok(decoded) => return Ok(Some(decoded.claims)),
                Err(error) => refusal = Some(denied(error.kind())),
            }
        }
        refusal.map_or(Ok(None), Err)
    }

    fn identity(&self, claims: Value) -> Result<(Identity, Arc<Policy>), Denied> {
        let name = self.name.of(&claims).and_then(Value::as_str).map(str::to_owned);
        let name = name.filter(|name| !name.is_empty());
        let expires_at = claims["exp"].as_f64().and_then(|exp| {
            let since = Duration::try_from_secs_f64(exp).ok()?;
            UNIX_EPOCH.checked_add(since)?.checked_add(self.leeway)
        });
        let expires_at: SystemTime =
            expires_at.ok_or_else(|| Denied::new("the token's exp is no time"))?;
        let identity = Identity {
            name,
            token: claims["jti"].as_str().map(str::to_owned),
            roles: self.roles.of(&claims).map_or_else(Vec::new, texts),
            expires_at: Some(expires_at),
            claims,
            claimed: None,
        };
        let claimed = self.rules.as_ref().and_then(|path| path.of(&identity.claims));
        let policy = match claimed {
            None => Arc::clone(&self.policy),
            Some(claimed) => {
                let rules = Vec::<Rule>::deserialize(claimed)
                    .map_err(|_| Denied::forbidden("the token's rules cannot be used"))?;
                let rules = rules.into_iter().chain(self.policy.rules.iter().cloned()).collect();
                Arc::new(Policy { rules, server: self.policy.server.clone() })
            }
        };
        Ok((identity, policy))
    }
}

/// Texts of a list, or of one text with spaces between them, as `scope` has them (RFC 8693).
fn texts(claim: &Value) -> Vec<String> {
    match claim {
        Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        Value::Array(items) => {
            items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    }
}

/// What a client is told: enough to get another token, nothing of the key.
fn denied(kind: &ErrorKind) -> Denied {
    Denied::new(match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::MissingRequiredClaim(_) => {
            "the token lacks a claim: exp, aud and iss are needed"
        }
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        _ => "the token cannot be used",
    })
}

#[async_trait]
impl Identify for Jwt {
    async fn identify(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<(Identity, Arc<Policy>)>, Denied> {
        let token = credentials["token"].as_str().or(credentials["password"].as_str());
        let token = token.filter(|token| token.len() <= TOKEN_BYTES_MAX);
        let Some(token) = token else { return Ok(None) };
        let Some(claims) = self.claims(token).await? else { return Ok(None) };
        self.identity(claims).map(Some)
    }
}
