//! Rules: what somebody may do with databases whose names fit patterns.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use crate::doc::{DbName, Selector};
use crate::server::{Denied, Grant, ServerGrant};

use super::error::AccessError;
use super::identity::Identity;
use super::pattern::Pattern;
use super::template::filled;

/// What may be done with a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Reading documents.
    Read,
    /// Writing documents.
    Write,
    /// Making the database where the client asks for that.
    Create,
    /// Making the database when it is first opened, whether the client asks or not.
    CreateOnOpen,
    /// Destroying the database.
    Destroy,
    /// Changing `_security` and `_revs_limit`, compacting, purging.
    Admin,
}

/// What may be done with the server as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerRight {
    /// Listing the databases and watching them come and go.
    List,
    /// Revoking grants, reading metrics and the gateway's own page.
    Admin,
    /// Backing up every database.
    Backup,
    /// Replicating with any address, and seeing and ending all replications.
    Replicate,
    /// Joining, hearing and saying everything with events; under any name, if the credentials name
    /// no user.
    Events,
}

impl ServerRight {
    /// A grant with these rights and no others.
    pub(super) fn grant(may: impl Fn(Self) -> bool) -> ServerGrant {
        let mut grant = ServerGrant::known();
        if may(Self::List) {
            grant = grant.listing();
        }
        if may(Self::Admin) {
            grant = grant.administering();
        }
        if may(Self::Backup) {
            grant = grant.backing_up();
        }
        if may(Self::Replicate) {
            grant = grant.replicating();
        }
        if may(Self::Events) {
            grant = grant.joining("*").sending("*").sending_to_users().broadcasting();
        }
        grant
    }
}

/// A rule as a file or a claim gives it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSettings {
    /// One pattern or several.
    pub databases: Patterns,
    /// What may be done.
    pub rights: Vec<Right>,
    /// Which documents may be read and written; all where it is not given. Texts in it may have
    /// places, as patterns do.
    #[serde(default)]
    pub selector: Option<Value>,
}

/// One pattern or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a pattern of database names, or a list of them")]
pub enum Patterns {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

/// Rights to the databases whose names fit a pattern.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RuleSettings")]
pub struct Rule {
    databases: Vec<Pattern>,
    rights: Vec<Right>,
    selector: Option<Value>,
}

impl TryFrom<RuleSettings> for Rule {
    type Error = AccessError;

    fn try_from(settings: RuleSettings) -> Result<Self, AccessError> {
        let patterns = match settings.databases {
            Patterns::One(pattern) => vec![pattern],
            Patterns::Several(patterns) => patterns,
        };
        let refuse = |reason: &str| AccessError::Rule { reason: reason.to_owned() };
        if patterns.is_empty() {
            return Err(refuse("it names no databases"));
        }
        if settings.rights.is_empty() {
            return Err(refuse("it gives no rights"));
        }
        if let Some(selector) = &settings.selector {
            check_selector(selector)?;
        }
        Ok(Self {
            databases: patterns.iter().map(|p| Pattern::parse(p)).collect::<Result<_, _>>()?,
            rights: settings.rights,
            selector: settings.selector,
        })
    }
}

/// A selector must work with texts in its places, or with lists.
fn check_selector(template: &Value) -> Result<(), AccessError> {
    fn probe(template: &Value, value: &Value) -> Value {
        match template {
            Value::String(text) if text.starts_with("{claims.") && text.ends_with('}') => {
                value.clone()
            }
            Value::Array(items) => items.iter().map(|item| probe(item, value)).collect(),
            Value::Object(members) => {
                let member = |(name, item): (&String, &Value)| (name.clone(), probe(item, value));
                Value::Object(members.iter().map(member).collect())
            }
            other => other.clone(),
        }
    }
    let mut first = Ok(());
    for value in [Value::from("x"), Value::from(vec!["x"]), Value::from(1)] {
        match Selector::from_value(&probe(template, &value)) {
            Ok(_) => return Ok(()),
            Err(error) if first.is_ok() => first = Err(error),
            Err(_) => {}
        }
    }
    first.map_err(|error| AccessError::Rule { reason: format!("its selector: {error}") })
}

impl Rule {
    /// Every right to every database.
    pub(super) fn everything() -> Self {
        Self {
            databases: vec![Pattern::parse("*").expect("a star is a pattern")],
            rights: vec![Right::Read, Right::Write, Right::Create, Right::Destroy, Right::Admin],
            selector: None,
        }
    }

    fn matches(&self, database: &DbName, identity: &Identity) -> bool {
        self.databases.iter().any(|pattern| pattern.matches(database, identity))
    }

    fn grant(&self, database: &DbName, identity: &Identity) -> Result<Grant, Denied> {
        let may = |right| self.rights.contains(&right);
        let mut grant = Grant::database(database.clone());
        if !may(Right::Read) {
            grant = grant.write_only();
        }
        if !may(Right::Write) {
            grant = grant.read_only();
        }
        if may(Right::Create) {
            grant = grant.creating();
        }
        if may(Right::CreateOnOpen) {
            grant = grant.creating_on_open();
        }
        if may(Right::Destroy) {
            grant = grant.destroying();
        }
        if may(Right::Admin) {
            grant = grant.administering();
        }
        if let Some(template) = &self.selector {
            let refused =
                || Denied::forbidden("your credentials lack what the rule's selector needs");
            let value = filled(template, identity).ok_or_else(refused)?;
            let selector = Selector::from_value(&value).map_err(|_| refused())?;
            grant = grant.selector(selector);
        }
        Ok(grant)
    }
}

/// What somebody may do.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// For databases; the first whose pattern fits decides alone.
    pub rules: Vec<Rule>,
    /// For the server as a whole.
    pub server: Vec<ServerRight>,
}

impl Policy {
    /// Every right.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            rules: vec![Rule::everything()],
            server: vec![
                ServerRight::List,
                ServerRight::Admin,
                ServerRight::Backup,
                ServerRight::Replicate,
                ServerRight::Events,
            ],
        }
    }
}

/// What somebody may do by role.
#[derive(Debug, Clone, Default)]
pub struct Roles(HashMap<String, Policy>);

impl Roles {
    /// Roles by name.
    #[must_use]
    pub fn new(roles: HashMap<String, Policy>) -> Self {
        Self(roles)
    }

    fn policies<'a>(
        &'a self,
        identity: &'a Identity,
        own: &'a Policy,
    ) -> impl Iterator<Item = &'a Policy> {
        let roles = identity.roles.iter().filter_map(|role| self.0.get(role));
        std::iter::once(own).chain(roles)
    }

    /// The grant for a database: by somebody's own rules, then by those of the roles in their
    /// order. The first rule whose pattern fits decides.
    ///
    /// # Errors
    /// [`Denied`] where no rule fits.
    pub fn grant(
        &self,
        identity: &Identity,
        own: &Policy,
        database: &DbName,
    ) -> Result<Grant, Denied> {
        let mut rules = self.policies(identity, own).flat_map(|policy| &policy.rules);
        let rule = rules.find(|rule| rule.matches(database, identity));
        let refused = || Denied::forbidden("You are not allowed to access this db.");
        let mut grant = rule.ok_or_else(refused)?.grant(database, identity)?;
        if let Some(name) = &identity.name {
            grant = grant.user(name);
        }
        if let Some(token) = &identity.token {
            grant = grant.token(token);
        }
        if let Some(expires_at) = identity.expires_at {
            grant = grant.expires_at(expires_at);
        }
        Ok(identity.roles.iter().fold(grant, Grant::role))
    }

    /// The grant for the server: what somebody's own policy and every role allow together.
    #[must_use]
    pub fn server_grant(&self, identity: &Identity, own: &Policy) -> ServerGrant {
        let may = |right| self.policies(identity, own).any(|policy| policy.server.contains(&right));
        let mut grant = ServerRight::grant(may);
        let claimed = identity.claimed.as_ref().filter(|_| may(ServerRight::Events));
        if let Some(name) = identity.name.as_ref().or(claimed) {
            grant = grant.user(name);
        }
        if let Some(token) = &identity.token {
            grant = grant.token(token);
        }
        if let Some(expires_at) = identity.expires_at {
            grant = grant.expires_at(expires_at);
        }
        grant
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(value: Value) -> Result<Rule, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_rule_that_fits_decides_alone() {
        let own = Policy {
            rules: vec![
                rule(json!({"databases": "todos", "rights": ["read"]})).unwrap(),
                rule(json!({"databases": ["*"], "rights": ["write", "destroy"]})).unwrap(),
            ],
            server: Vec::new(),
        };
        let role = Policy {
            rules: vec![rule(json!({"databases": "*", "rights": ["admin"]})).unwrap()],
            server: vec![ServerRight::List],
        };
        let roles = Roles::new(HashMap::from([("staff".to_owned(), role)]));
        let anna = Identity {
            name: Some("anna".into()),
            roles: vec!["unknown".into(), "staff".into()],
            ..Identity::default()
        };
        let todos = DbName::parse("todos").unwrap();
        let other = DbName::parse("other").unwrap();
        let rights = |own: &Policy, database: &DbName| {
            roles.grant(&anna, own, database).map(|grant| grant.rights())
        };
        assert_eq!(rights(&own, &todos).unwrap(), "read");
        assert_eq!(rights(&own, &other).unwrap(), "write destroy");
        assert_eq!(rights(&Policy::default(), &todos).unwrap(), "admin");
        let nobody = Identity { roles: Vec::new(), ..anna.clone() };
        assert!(roles.grant(&nobody, &Policy::default(), &todos).is_err());
        assert_eq!(
            roles.server_grant(&anna, &own),
            ServerGrant::known().listing().user("anna"),
            "a role's rights to the server add up"
        );
    }

    #[test]
    fn a_selector_without_its_claim_denies() {
        let own = Policy {
            rules: vec![
                rule(json!({"databases": "todos", "rights": ["read"],
                    "selector": {"team": {"$in": "{claims.teams}"}}}))
                .unwrap(),
                rule(json!({"databases": "*", "rights": ["read", "write"]})).unwrap(),
            ],
            server: Vec::new(),
        };
        let todos = DbName::parse("todos").unwrap();
        let with = |claims| {
            let identity = Identity { claims, ..Identity::default() };
            Roles::default().grant(&identity, &own, &todos)
        };
        let grant = with(json!({"teams": ["red"]})).unwrap();
        assert!(grant.selector_text().unwrap().contains("red"));
        for claims in [json!({}), json!({"teams": {"$gt": null}}), json!({"teams": "red"})] {
            let denied = with(claims.clone()).expect_err("no other rule takes its place");
            assert!(denied.reason.contains("selector"), "{claims} {denied}");
        }
    }

    #[test]
    fn rules_that_cannot_be_kept_are_refused() {
        for bad in [
            json!({"databases": [], "rights": ["read"]}),
            json!({"databases": "a", "rights": []}),
            json!({"databases": "a", "rights": ["reed"]}),
            json!({"databases": "A", "rights": ["read"]}),
            json!({"databases": "a", "rights": ["read"], "selector": {"$nothing": 1}}),
            json!({"databases": "a", "rights": ["read"], "selektor": {}}),
            json!({"databases": "a"}),
            json!({"rights": ["read"]}),
        ] {
            assert!(rule(bad.clone()).is_err(), "{bad}");
        }
    }
}
