//! What the application's server answers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;

use crate::access::rule::ServerRight;
use crate::doc::{DbName, Selector};
use crate::server::{Denied, Grant, ServerGrant};

/// An answer, or why there is none.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Granted(Box<Granted>),
    Denied {
        denied: Denied,
        cache: Option<Duration>,
    },
    /// The application does not know these credentials; another source is asked.
    Unknown,
    /// There is no answer. It is not remembered.
    Failed,
}

/// Either `{"grant": {…}}` or `{"denied": {…}}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    grant: Option<GrantBody>,
    denied: Option<DeniedBody>,
    /// Seconds for which the answer may be remembered.
    cache_s: Option<u64>,
}

/// A right that is not given is not granted: a name that is misspelled is refused as unknown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GrantBody {
    database: Option<String>,
    read: bool,
    write: bool,
    create: bool,
    create_on_open: bool,
    destroy: bool,
    admin: bool,
    selector: Option<Value>,
    user: Option<String>,
    token: Option<String>,
    roles: Vec<String>,
    expires_at: Option<f64>,
    expires_in_s: Option<f64>,
    server: Vec<ServerRight>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeniedBody {
    reason: String,
    kind: Option<KindBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindBody {
    Unauthorized,
    Forbidden,
}

/// A grant as it was answered, checked.
#[derive(Debug, Clone)]
pub(super) struct Granted {
    body: GrantBody,
    database: Option<DbName>,
    selector: Option<Selector>,
    pub expires_at: Option<SystemTime>,
    pub cache: Option<Duration>,
}

impl Answer {
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        // What serde says may quote a text of the answer, which is the application's own; it stays
        // in the log, and is bounded.
        const SHOWN_CHARS: usize = 200;
        let short = |error: serde_json::Error| -> String {
            error.to_string().chars().take(SHOWN_CHARS).collect()
        };
        let Body { grant, denied, cache_s } = serde_json::from_slice(text).map_err(short)?;
        let cache = cache_s.map(Duration::from_secs);
        match (grant, denied) {
            (Some(grant), None) => Ok(Self::Granted(Box::new(Granted::new(grant, cache)?))),
            (None, Some(DeniedBody { reason, kind })) => {
                let denied = match kind {
                    Some(KindBody::Forbidden) => Denied::forbidden(reason),
                    Some(KindBody::Unauthorized) | None => Denied::new(reason),
                };
                Ok(Self::Denied { denied, cache })
            }
            _ => Err("it must have either grant or denied".to_owned()),
        }
    }

    /// How long it may be remembered, if it may be at all.
    pub(super) fn memory(&self, usual: Duration) -> Option<Duration> {
        match self {
            Self::Failed => None,
            Self::Denied { cache, .. } => Some(cache.unwrap_or(usual)),
            Self::Unknown => Some(usual),
            Self::Granted(granted) => {
                let left = granted
                    .expires_at
                    .map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
                let wanted = granted.cache.unwrap_or(usual);
                Some(left.map_or(wanted, |left| left.min(wanted)))
            }
        }
    }
}

impl Granted {
    fn new(body: GrantBody, cache: Option<Duration>) -> Result<Self, String> {
        let database = body.database.as_deref().map(DbName::parse).transpose();
        let selector = body.selector.as_ref().map(Selector::from_value).transpose();
        let seconds = |seconds: f64, what: &str| {
            Duration::try_from_secs_f64(seconds).map_err(|_| format!("{what} is no time"))
        };
        let at = body.expires_at.map(|s| seconds(s, "expires_at")).transpose()?;
        let within = body.expires_in_s.map(|s| seconds(s, "expires_in_s")).transpose()?;
        // A time beyond what the clock can tell is for ever.
        let at = at.and_then(|since| UNIX_EPOCH.checked_add(since));
        let within = within.and_then(|time| SystemTime::now().checked_add(time));
        let expires_at = match (at, within) {
            (Some(at), Some(within)) => Some(at.min(within)),
            (at, within) => at.or(within),
        };
        Ok(Self {
            database: database.map_err(|error| error.to_string())?,
            selector: selector.map_err(|error| error.to_string())?,
            body,
            expires_at,
            cache,
        })
    }

    pub(super) fn grant(&self, requested: &DbName) -> Result<Grant, Denied> {
        let body = &self.body;
        if !(body.read || body.write || body.create || body.destroy || body.admin) {
            return Err(Denied::forbidden("You are not allowed to access this db."));
        }
        let mut grant = Grant::database(self.database.as_ref().unwrap_or(requested).clone());
        if !body.read {
            grant = grant.write_only();
        }
        if !body.write {
            grant = grant.read_only();
        }
        if body.create {
            grant = grant.creating();
        }
        if body.create_on_open {
            grant = grant.creating_on_open();
        }
        if body.destroy {
            grant = grant.destroying();
        }
        if body.admin {
            grant = grant.administering();
        }
        if let Some(selector) = &self.selector {
            grant = grant.selector(selector.clone());
        }
        if let Some(user) = &body.user {
            grant = grant.user(user);
        }
        if let Some(token) = &body.token {
            grant = grant.token(token);
        }
        if let Some(expires_at) = self.expires_at {
            grant = grant.expires_at(expires_at);
        }
        Ok(body.roles.iter().fold(grant, Grant::role))
    }

    pub(super) fn server_grant(&self) -> ServerGrant {
        let mut grant = ServerRight::grant(|right| self.body.server.contains(&right));
        if let Some(user) = &self.body.user {
            grant = grant.user(user);
        }
        if let Some(token) = &self.body.token {
            grant = grant.token(token);
        }
        if let Some(expires_at) = self.expires_at {
            grant = grant.expires_at(expires_at);
        }
        grant
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(answer: &Value) -> Result<Answer, String> {
        Answer::parse(answer.to_string().as_bytes())
    }

    #[test]
    fn what_is_not_said_is_not_granted() {
        let todos = DbName::parse("todos").unwrap();
        let rights = |grant: Value| match parse(&json!({"grant": grant})).unwrap() {
            Answer::Granted(granted) => granted.grant(&todos).map(|grant| grant.rights()),
            other => panic!("{other:?}"),
        };
        assert_eq!(rights(json!({"read": true})).unwrap(), "read");
        assert_eq!(rights(json!({"write": true, "create": true})).unwrap(), "write create");
        assert_eq!(rights(json!({"admin": true, "destroy": true})).unwrap(), "destroy admin");
        assert!(rights(json!({})).is_err());
        assert!(rights(json!({"user": "anna", "roles": ["x"]})).is_err());
    }

    #[test]
    fn garbage_is_no_answer() {
        for bad in [
            json!({}),
            json!(null),
            json!([]),
            json!("yes"),
            json!({"grant": true}),
            json!({"grant": {}, "denied": {"reason": "x"}}),
            json!({"grant": {"red": true}}),
            json!({"grant": {"read": "true"}}),
            json!({"grant": {"read": true, "database": "../x"}}),
            json!({"grant": {"read": true, "selector": {"$nothing": 1}}}),
            json!({"grant": {"read": true, "expires_at": -1}}),
            json!({"grant": {"read": true, "expires_in_s": "soon"}}),
            json!({"denied": {}}),
            json!({"denied": {"reason": "x", "kind": "maybe"}}),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
        assert!(Answer::parse(b"<html>").is_err());
    }

    #[test]
    fn an_answer_is_not_remembered_beyond_its_end() {
        let usual = Duration::from_secs(30);
        let memory = |answer: Value| parse(&answer).unwrap().memory(usual).unwrap();
        assert_eq!(memory(json!({"denied": {"reason": "no"}})), usual);
        assert!(memory(json!({"denied": {"reason": "no"}, "cache_s": 0})).is_zero());
        assert_eq!(memory(json!({"grant": {"read": true}})), usual);
        assert_eq!(memory(json!({"grant": {"read": true}, "cache_s": 5})).as_secs(), 5);
        assert!(memory(json!({"grant": {"read": true, "expires_in_s": 2}})).as_secs() < 3);
        assert!(memory(json!({"grant": {"expires_at": 1}})).is_zero());
        assert!(Answer::Failed.memory(usual).is_none());
    }
}
