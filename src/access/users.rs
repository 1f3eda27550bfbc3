//! Users with passwords.
//!
//! A verification is made to be slow. It runs off the async threads, few at a time, and a verified
//! password is remembered for a moment as a digest under a random key, so that HTTP Basic is not a
//! verification for each request. A name that is not known costs the same as a wrong password.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::server::{Credentials, Denied};

use super::error::AccessError;
use super::identity::{Identify, Identity};
use super::password::{Hashed, hash_password};
use super::rule::Policy;
use super::secret::{Digest, Digester};

/// Verifications at a time: each takes a core and about 19 MiB.
const VERIFYING_MAX: usize = 2;

/// Verified passwords that are remembered.
const REMEMBERED_MAX: usize = 1_000;

/// Users with passwords, each with what is allowed.
#[derive(Debug)]
pub struct Users {
    known: HashMap<String, User>,
    /// Verified in the place of the hash of somebody who is not known.
    nobody: Hashed,
    digester: Digester,
    remember: Duration,
    verified: Mutex<HashMap<Digest, Instant>>,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
struct User {
    password: Hashed,
    roles: Vec<String>,
    policy: Arc<Policy>,
}

impl Users {
    /// Nobody yet; verified passwords are remembered for so long, zero for not at all.
    ///
    /// # Panics
    /// Never: the password that nobody has can be hashed.
    #[must_use]
    pub fn new(remember: Duration) -> Self {
        let nobody = hash_password("nobody's").expect("a short text can be hashed");
        Self {
            known: HashMap::new(),
            nobody: Hashed::parse(&nobody).expect("a hash that was just made is whole"),
            digester: Digester::new(),
            remember,
            verified: Mutex::default(),
            room: Arc::new(Semaphore::new(VERIFYING_MAX)),
        }
    }

    /// The same with one more user, whose password is given as `settee hash-password` prints it.
    ///
    /// # Errors
    /// [`AccessError::Entry`] for a name that is empty, has a colon or is there already, and for a
    /// hash that cannot be used.
    pub fn with(
        mut self,
        name: &str,
        password: &str,
        roles: Vec<String>,
        policy: Policy,
    ) -> Result<Self, AccessError> {
        let refuse = |reason: &str| AccessError::entry("user", name, reason);
        if name.is_empty() || name.contains(':') {
            return Err(refuse(
                "a name must not be empty or have a colon, which HTTP Basic forbids",
            ));
        }
        let password = Hashed::parse(password).map_err(refuse)?;
        if self.known.is_empty() {
            // Whoever is not known costs what the first user costs.
            self.nobody = password.clone();
        }
        let user = User { password, roles, policy: Arc::new(policy) };
        if self.known.insert(name.to_owned(), user).is_some() {
            return Err(refuse("there are two of this name"));
        }
        Ok(self)
    }

    async fn verify(&self, name: &str, password: &str) -> Option<&User> {
        let user = self.known.get(name);
        let hash = user.map_or(&self.nobody, |user| &user.password);
        let key = self.digester.of(&[name.as_bytes(), hash.as_bytes(), password.as_bytes()]);
        if user.is_some() && self.remembers(&key) {
            return user;
        }
        let room = Arc::clone(&self.room).acquire_owned().await;
        let room = room.expect("the semaphore is never closed");
        let (hash, password) = (hash.clone(), password.to_owned());
        let verified = spawn_blocking(move || {
            // Held by the work and not by who waits for it, who may go away.
            let _room = room;
            hash.verify(&password)
        });
        let fits = verified.await.unwrap_or(false);
        let user = user.filter(|_| fits)?;
        self.keep(key);
        Some(user)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Instant>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembers(&self, key: &Digest) -> bool {
        self.lock().get(key).is_some_and(|until| Instant::now() < *until)
    }

    fn keep(&self, key: Digest) {
        let now = Instant::now();
        let mut verified = self.lock();
        if verified.len() >= REMEMBERED_MAX {
            verified.retain(|_, until| now < *until);
        }
        if verified.len() < REMEMBERED_MAX && !self.remember.is_zero() {
            verified.insert(key, now + self.remember);
        }
    }
}

#[async_trait]
impl Identify for Users {
    async fn identify(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<(Identity, Arc<Policy>)>, Denied> {
        let (Some(name), Some(password)) =
            (credentials["name"].as_str(), credentials["password"].as_str())
        else {
            return Ok(None);
        };
        let Some(user) = self.verify(name, password).await else {
            if self.known.contains_key(name) {
                return Err(Denied::new("this name and password are not known"));
            }
            return Ok(None);
        };
        let identity = Identity {
            name: Some(name.to_owned()),
            roles: user.roles.clone(),
            ..Identity::default()
        };
        Ok(Some((identity, Arc::clone(&user.policy))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(name: &str, password: &str) -> Credentials {
        Credentials::new(json!({"name": name, "password": password}))
    }

    #[tokio::test]
    async fn a_verified_password_is_remembered_and_no_other() {
        let hash = hash_password("right").unwrap();
        let users = Users::new(Duration::from_secs(60));
        let users = users.with("anna", &hash, vec!["staff".into()], Policy::default()).unwrap();
        let (anna, _) = users.identify(&shown("anna", "right")).await.unwrap().unwrap();
        assert_eq!((anna.name.as_deref(), anna.roles), (Some("anna"), vec!["staff".to_owned()]));
        assert_eq!(users.lock().len(), 1);
        // No verification has room any more: only what is remembered is answered.
        users.room.forget_permits(VERIFYING_MAX);
        assert!(users.identify(&shown("anna", "right")).await.unwrap().is_some());
        for (name, password) in [("anna", "wrong"), ("berta", "right")] {
            let judged = Box::pin(async { users.identify(&shown(name, password)).await.is_ok() });
            let waits = futures::FutureExt::now_or_never(judged).is_none();
            assert!(waits, "{name} {password} costs a verification");
        }
    }

    #[tokio::test]
    async fn a_wrong_password_is_denied_and_another_name_is_not_known() {
        let hash = hash_password("right").unwrap();
        let users = Users::new(Duration::ZERO);
        let users = users.with("anna", &hash, Vec::new(), Policy::default()).unwrap();
        assert!(users.identify(&shown("anna", "wrong")).await.is_err());
        assert!(users.identify(&shown("berta", "right")).await.unwrap().is_none());
        let token = Credentials::new(json!({"token": "right"}));
        assert!(users.identify(&token).await.unwrap().is_none());
        assert!(users.identify(&shown("anna", "right")).await.unwrap().is_some());
        assert!(users.lock().is_empty(), "zero remembers nothing");
    }
}
