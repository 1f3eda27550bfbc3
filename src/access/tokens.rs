//! Static tokens: whoever shows one is known by it.

use std::sync::Arc;

use async_trait::async_trait;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use crate::server::{Credentials, Denied};

use super::identity::{Identify, Identity};
use super::rule::Policy;
use super::secret::{Digest, Digester, Secret};

/// Tokens, each with a name and what it allows.
#[derive(Debug)]
pub struct Tokens {
    digester: Digester,
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    digest: Digest,
    name: Option<String>,
    roles: Vec<String>,
    policy: Arc<Policy>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { digester: Digester::new(), known: Vec::new() }
    }
}

impl Tokens {
    /// The same with one more token. Its name is that by which it is revoked; it names no user.
    #[must_use]
    pub fn with(
        mut self,
        token: &Secret,
        name: Option<String>,
        roles: Vec<String>,
        policy: Policy,
    ) -> Self {
        let digest = self.digest(token.expose());
        self.known.push(Known { digest, name, roles, policy: Arc::new(policy) });
        self
    }

    fn digest(&self, token: &str) -> Digest {
        self.digester.of(&[token.as_bytes()])
    }

    /// Whether a token is among them already.
    pub(super) fn contains(&self, token: &Secret) -> bool {
        self.find(token.expose()).is_some()
    }

    /// Digests are compared, all of them and all their bytes, so that the time tells neither a
    /// token's length nor how much of it was right.
    fn find(&self, token: &str) -> Option<&Known> {
        let shown = self.digest(token);
        let mut found = u64::MAX;
        for (place, known) in (0_u64..).zip(&self.known) {
            let same: Choice = known.digest.ct_eq(&shown);
            found = u64::conditional_select(&found, &place, same);
        }
        self.known.get(usize::try_from(found).ok()?)
    }
}

#[async_trait]
impl Identify for Tokens {
    /// A token comes by itself, or as the password of any name: CouchDB's programs know no other way.
    /// A backend that sends an event may show nothing but its text.
    async fn identify(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<(Identity, Arc<Policy>)>, Denied> {
        let token = credentials["token"].as_str().or(credentials["password"].as_str());
        let token = token.or(credentials.value().as_str());
        let Some(known) = token.and_then(|token| self.find(token)) else { return Ok(None) };
        let identity = Identity {
            claimed: credentials["name"].as_str().map(str::to_owned),
            token: known.name.clone(),
            roles: known.roles.clone(),
            ..Identity::default()
        };
        Ok(Some((identity, Arc::clone(&known.policy))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_tokens_are_known() {
        let with = |tokens: Tokens, token: &str| {
            tokens.with(&Secret::new(token), Some(token.into()), Vec::new(), Policy::default())
        };
        let tokens = with(with(Tokens::default(), "alpha"), "beta");
        for known in ["alpha", "beta"] {
            assert_eq!(tokens.find(known).unwrap().name.as_deref(), Some(known));
        }
        for other in ["", "alph", "alphaa", "ALPHA", "alphabeta"] {
            assert!(tokens.find(other).is_none(), "{other}");
        }
        assert!(!format!("{tokens:?}").contains("token: \"alpha"), "{tokens:?}");
    }
}
