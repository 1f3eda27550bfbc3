//! Who somebody is, and what follows from it.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use serde_json::Value;

use crate::server::{AccessRequest, Credentials, Denied, Grant, ServerGrant, ServerRequest};

use super::chain::Source;
use super::rule::{Policy, Roles};

/// Who shows credentials, as far as they tell. It has no right by itself.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// The user's name.
    pub name: Option<String>,
    /// The name that somebody without one gives, unproven: for events of who may say everything.
    pub claimed: Option<String>,
    /// The name of the token that was shown, by which it can be revoked.
    pub token: Option<String>,
    /// Roles, whose rules hold too and which a database's `_security` may name.
    pub roles: Vec<String>,
    /// What a JSON Web Token claims; an object or `null`.
    pub claims: Value,
    /// When the credentials end.
    pub expires_at: Option<SystemTime>,
}

/// Tells who shows credentials.
#[async_trait]
pub trait Identify: Send + Sync + 'static {
    /// Who it is and what is allowed beside the rules of roles; `None` if these credentials are of
    /// another kind or unknown here.
    ///
    /// # Errors
    /// [`Denied`] for credentials that are known to be no good: nobody else is asked.
    async fn identify(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<(Identity, Arc<Policy>)>, Denied>;
}

/// A [`Source`] that knows who somebody is, and rules that say what follows.
#[derive(Debug)]
pub struct Ruled<I> {
    identify: I,
    roles: Arc<Roles>,
}

impl<I: Identify> Ruled<I> {
    /// Joins those who are known with the rules of roles.
    #[must_use]
    pub fn new(identify: I, roles: Arc<Roles>) -> Self {
        Self { identify, roles }
    }
}

#[async_trait]
impl<I: Identify> Source for Ruled<I> {
    async fn judge(&self, request: &AccessRequest) -> Option<Result<Grant, Denied>> {
        match self.identify.identify(&request.credentials).await {
            Ok(None) => None,
            Ok(Some((identity, policy))) => {
                Some(self.roles.grant(&identity, &policy, &request.database))
            }
            Err(denied) => Some(Err(denied)),
        }
    }

    async fn judge_server(&self, request: &ServerRequest) -> Option<Result<ServerGrant, Denied>> {
        match self.identify.identify(&request.credentials).await {
            Ok(None) => None,
            Ok(Some((identity, policy))) => Some(Ok(self.roles.server_grant(&identity, &policy))),
            Err(denied) => Some(Err(denied)),
        }
    }
}
