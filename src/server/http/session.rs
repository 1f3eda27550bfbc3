//! Sessions: a signed cookie stands for credentials that were shown once.
//!
//! The cookie holds a random number, its end and a signature; the credentials stay in memory and are
//! put to the authorizer with every request, so that a session never allows more than they do, and a
//! session that was ended or forgotten is over at once. A restart ends all of them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::server::auth::{Credentials, ServerGrant};

/// CouchDB's name of the cookie.
pub(super) const COOKIE_NAME: &str = "AuthSession";

const ID_BYTES: usize = 16;
const END_BYTES: usize = 8;

/// The sessions of a gateway.
pub(crate) struct Sessions {
    key: [u8; 32],
    time: Duration,
    max: usize,
    /// Oldest first.
    open: Mutex<VecDeque<Session>>,
}

struct Session {
    id: [u8; ID_BYTES],
    ends_s: u64,
    credentials: Credentials,
    /// By whom and by which token it was begun, for revocation.
    user: Option<String>,
    token: Option<String>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions(…)")
    }
}

impl Sessions {
    pub(crate) fn new(time: Duration, max: usize) -> Self {
        Self { key: random(), time, max, open: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session; the oldest of whoever has most of them makes room. The cookie's value.
    pub(super) fn begin(&self, credentials: Credentials, grant: &ServerGrant) -> String {
        let now_s = now_s();
        let (id, ends_s) = (random(), now_s + self.time.as_secs().max(1));
        let mut open = self.lock();
        open.retain(|session| session.ends_s > now_s);
        if open.len() >= self.max {
            make_room(&mut open);
        }
        let (user, token) = (grant.user.clone(), grant.token.clone());
        open.push_back(Session { id, ends_s, credentials, user, token });
        drop(open);
        let mut bytes = [&id[..], &ends_s.to_be_bytes()].concat();
        let signature = self.signer(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&signature);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The credentials that a cookie stands for, unless it is forged, over or ended.
    pub(super) fn find(&self, cookie: &str) -> Option<Credentials> {
        let id = self.checked(cookie)?;
        let open = self.lock();
        let session = open.iter().find(|session| session.id == id)?;
        (session.ends_s > now_s()).then(|| session.credentials.clone())
    }

    /// Whether there was one to end.
    pub(super) fn end(&self, cookie: &str) -> bool {
        let Some(id) = self.checked(cookie) else { return false };
        let mut open = self.lock();
        let before = open.len();
        open.retain(|session| session.id != id);
        open.len() < before
    }

    /// Ends sessions by user and token; how many.
    pub(crate) fn end_all(&self, fits: impl Fn(Option<&str>, Option<&str>) -> bool) -> usize {
        let mut open = self.lock();
        let before = open.len();
        open.retain(|session| !fits(session.user.as_deref(), session.token.as_deref()));
        before - open.len()
    }

    /// The `Set-Cookie` header that brings a session, or with `None` takes it away.
    /// One that was given over TLS is not to travel without it.
    pub(super) fn set_cookie(&self, value: Option<&str>, is_secure: bool) -> String {
        let secure = if is_secure { "; Secure" } else { "" };
        let age_s = value.map_or(0, |_| self.time.as_secs());
        let value = value.unwrap_or_default();
        format!(
            "{COOKIE_NAME}={value}; Version=1; Max-Age={age_s}; Path=/; HttpOnly; SameSite=Strict{secure}"
        )
    }

    fn checked(&self, cookie: &str) -> Option<[u8; ID_BYTES]> {
        // No cookie of ours is longer, and nothing longer is worth decoding.
        const COOKIE_CHARS_MAX: usize = 100;
        if cookie.len() > COOKIE_CHARS_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let (signed, signature) = bytes.split_at_checked(ID_BYTES + END_BYTES)?;
        self.signer(signed).verify_slice(signature).ok()?;
        signed.first_chunk().copied()
    }

    fn signer(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let signer = Hmac::<Sha256>::new_from_slice(&self.key);
        signer.expect("a key may have any length").chain_update(bytes)
    }
}

impl Session {
    fn owner(&self) -> (Option<&str>, Option<&str>) {
        (self.user.as_deref(), self.token.as_deref())
    }
}

/// Nobody is logged out because somebody else logs in too often.
fn make_room(open: &mut VecDeque<Session>) {
    let mut counts: HashMap<_, usize> = HashMap::new();
    for session in open.iter() {
        *counts.entry(session.owner()).or_default() += 1;
    }
    let most = counts.values().max().copied();
    let oldest = open.iter().position(|session| counts.get(&session.owner()).copied() == most);
    if let Some(oldest) = oldest {
        open.remove(oldest);
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness once it has booted");
    bytes
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn begin(sessions: &Sessions, credentials: serde_json::Value) -> String {
        sessions.begin(Credentials::new(credentials), &ServerGrant::known())
    }

    #[test]
    fn only_whole_cookies_that_were_given_out_count() {
        let sessions = Sessions::new(Duration::from_secs(60), 2);
        let first = begin(&sessions, json!({"token": "1"}));
        assert_eq!(sessions.find(&first), Some(Credentials::new(json!({"token": "1"}))));
        let mut forged = first.clone().into_bytes();
        forged[3] ^= 1;
        for bad in [
            "",
            "x",
            &first[..first.len() - 1],
            &format!("{first}A"),
            &String::from_utf8(forged).unwrap(),
            &"A".repeat(10_000),
        ] {
            assert_eq!(sessions.find(bad), None, "{bad}");
        }
        let other = Sessions::new(Duration::from_secs(60), 2);
        assert_eq!(other.find(&first), None);
        sessions.end(&first);
        assert_eq!(sessions.find(&first), None);
    }

    #[test]
    fn a_session_ends_by_itself() {
        let sessions = Sessions::new(Duration::from_secs(1), 2);
        let began = std::time::Instant::now();
        let cookie = sessions.begin(Credentials::new(json!({"n": 1})), &ServerGrant::known());
        // Its end is told in whole seconds of the wall clock.
        while sessions.find(&cookie).is_some() {
            assert!(began.elapsed() < Duration::from_secs(10), "it goes on for ever");
            std::thread::yield_now();
        }
        let long = Sessions::new(Duration::from_secs(60), 2);
        let cookie = long.begin(Credentials::new(json!({"n": 1})), &ServerGrant::known());
        assert!(long.find(&cookie).is_some());
    }

    #[test]
    fn the_oldest_session_makes_room() {
        let sessions = Sessions::new(Duration::from_secs(60), 2);
        let cookies: Vec<String> = (0..3).map(|n| begin(&sessions, json!({"n": n}))).collect();
        assert_eq!(sessions.find(&cookies[0]), None);
        assert!(sessions.find(&cookies[1]).is_some() && sessions.find(&cookies[2]).is_some());
    }

    #[test]
    fn nobody_is_logged_out_by_the_sessions_of_another_user() {
        let sessions = Sessions::new(Duration::from_secs(60), 3);
        let begin = |user: &str| {
            let grant = ServerGrant::known().user(user);
            sessions.begin(Credentials::new(json!({"name": user})), &grant)
        };
        let berta = begin("berta");
        let annas: Vec<String> = (0..10).map(|_| begin("anna")).collect();
        assert!(sessions.find(&berta).is_some());
        let left: Vec<bool> = annas.iter().map(|cookie| sessions.find(cookie).is_some()).collect();
        assert_eq!(left[..8], [false; 8], "the oldest go");
        assert_eq!(left[8..], [true; 2]);
    }
}
