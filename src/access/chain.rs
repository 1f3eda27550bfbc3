//! Several ways to be known, one after another, and the handle by which they are replaced.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;

use crate::server::{
    AccessRequest, Authorizer, Credentials, Denied, Grant, ServerAuthorizer, ServerGrant,
    ServerRequest,
};

/// One way to be known.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// A grant or a definite denial; `None` if this source does not know these credentials, and
    /// another is to be asked.
    async fn judge(&self, request: &AccessRequest) -> Option<Result<Grant, Denied>>;

    /// The same for what is for no one database.
    async fn judge_server(&self, request: &ServerRequest) -> Option<Result<ServerGrant, Denied>>;

    /// Forgets answers that it remembers, so that the next request is judged anew.
    fn forget(&self) {}
}

/// Sources in the order in which they are asked. Who is known to none is denied.
#[derive(Default)]
pub struct Chain(Vec<Box<dyn Source>>);

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chain").field(&self.0.len()).finish()
    }
}

impl Chain {
    /// The same with one more source, which is asked last.
    #[must_use]
    pub fn then(mut self, source: impl Source) -> Self {
        self.0.push(Box::new(source));
        self
    }

    /// Whether it has no source, and denies everybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A [`Chain`] that a gateway asks and that can be replaced meanwhile. Clones share it.
///
/// After [`replace`](Self::replace), [`Gateway::rejudge`](crate::Gateway::rejudge) puts open grants
/// to the new one.
#[derive(Debug, Clone)]
pub struct Access(Arc<RwLock<Arc<Chain>>>);

impl Access {
    /// Asks this chain.
    #[must_use]
    pub fn new(chain: Chain) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(chain))))
    }

    /// Puts another chain in the place of this one. Grants that were given stay.
    pub fn replace(&self, chain: Chain) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(chain);
    }

    fn forget_answers(&self) {
        self.chain().0.iter().for_each(|source| source.forget());
    }

    fn chain(&self) -> Arc<Chain> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn unknown(credentials: &Credentials) -> Denied {
    let shown = |name: &str| credentials[name].is_string();
    Denied::new(match (shown("token"), shown("password")) {
        (true, _) => "this token is not known",
        (false, true) => "this name and password are not known",
        (false, false) => "a token is needed, or a name and a password",
    })
}

#[async_trait]
impl Authorizer for Access {
    async fn authorize(&self, request: AccessRequest) -> Result<Grant, Denied> {
        for source in &self.chain().0 {
            if let Some(answer) = source.judge(&request).await {
                return answer;
            }
        }
        Err(unknown(&request.credentials))
    }

    fn forget(&self) {
        self.forget_answers();
    }
}

#[async_trait]
impl ServerAuthorizer for Access {
    async fn authorize_server(&self, request: ServerRequest) -> Result<ServerGrant, Denied> {
        for source in &self.chain().0 {
            if let Some(answer) = source.judge_server(&request).await {
                return answer;
            }
        }
        Err(unknown(&request.credentials))
    }

    fn forget(&self) {
        self.forget_answers();
    }
}
