//! The table `[access]` of a configuration file.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::chain::Chain;
use super::error::AccessError;
use super::identity::Ruled;
use super::jwt::{Jwt, JwtSettings};
use super::rule::{Policy, Roles, Rule, ServerRight};
use super::secret::Secret;
use super::tokens::Tokens;
use super::users::Users;
use super::webhook::{Webhook, WebhookSettings};

/// Who may open which database. Files that it names are read by [`build`](Self::build).
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// In which order sources are asked: `tokens`, `users`, `jwt`, `webhook` if it is not said.
    pub order: Vec<SourceKind>,
    /// Seconds for which a verified password is remembered; 60. Zero for not at all.
    pub password_cache_s: u64,
    /// Static tokens.
    pub tokens: Vec<TokenSettings>,
    /// Users with passwords.
    pub users: Vec<UserSettings>,
    /// What users, tokens and claims with a role may do.
    pub roles: Vec<RoleSettings>,
    /// JSON Web Tokens.
    pub jwt: Option<JwtSettings>,
    /// The application's own server.
    pub webhook: Option<WebhookSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        use SourceKind::{Jwt, Tokens, Users, Webhook};
        Self {
            order: vec![Tokens, Users, Jwt, Webhook],
            password_cache_s: 60,
            tokens: Vec::new(),
            users: Vec::new(),
            roles: Vec::new(),
            jwt: None,
            webhook: None,
        }
    }
}

/// A kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Static tokens.
    Tokens,
    /// Users with passwords.
    Users,
    /// JSON Web Tokens.
    Jwt,
    /// The application's own server.
    Webhook,
}

/// A static token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// Its name, by which it is revoked.
    pub name: String,
    /// The token.
    #[serde(default)]
    pub token: Option<Secret>,
    /// A file that holds it.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Its roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// What it allows, before what its roles allow.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What it allows with the server.
    #[serde(default)]
    pub server: Vec<ServerRight>,
}

/// A user with a password.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSettings {
    /// The name.
    pub name: String,
    /// The password's hash, as `settee hash-password` prints it.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A file that holds it.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The user's roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// What the user may do, before what the roles allow.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What the user may do with the server.
    #[serde(default)]
    pub server: Vec<ServerRight>,
}

/// What everybody with a role may do.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSettings {
    /// The role's name.
    pub name: String,
    /// What it allows.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What it allows with the server.
    #[serde(default)]
    pub server: Vec<ServerRight>,
}

impl Settings {
    /// Reads the files that are named and checks everything.
    ///
    /// # Errors
    /// [`AccessError`] for the first thing that cannot be used.
    pub fn build(&self) -> Result<Chain, AccessError> {
        self.build_with(&[])
    }

    /// The same with tokens that allow everything, which are asked first.
    ///
    /// # Errors
    /// As of [`build`](Self::build).
    pub fn build_with(&self, masters: &[Secret]) -> Result<Chain, AccessError> {
        let roles = Arc::new(self.roles()?);
        let mut chain = Chain::default();
        if !masters.is_empty() {
            let tokens = masters.iter().fold(Tokens::default(), |tokens, token| {
                tokens.with(token, None, Vec::new(), Policy::everything())
            });
            chain = chain.then(Ruled::new(tokens, Arc::clone(&roles)));
        }
        self.check_order()?;
        for kind in &self.order {
            let roles = Arc::clone(&roles);
            chain = match kind {
                SourceKind::Tokens if self.tokens.is_empty() => chain,
                SourceKind::Tokens => chain.then(Ruled::new(self.tokens()?, roles)),
                SourceKind::Users if self.users.is_empty() => chain,
                SourceKind::Users => chain.then(Ruled::new(self.users()?, roles)),
                SourceKind::Jwt => match &self.jwt {
                    None => chain,
                    Some(jwt) => chain.then(Ruled::new(Jwt::new(jwt)?, roles)),
                },
                SourceKind::Webhook => match &self.webhook {
                    None => chain,
                    Some(webhook) => chain.then(Webhook::new(webhook)?),
                },
            };
        }
        Ok(chain)
    }

    /// A source that is set up and not asked is a mistake.
    fn check_order(&self) -> Result<(), AccessError> {
        let given = [
            (SourceKind::Tokens, "tokens", !self.tokens.is_empty()),
            (SourceKind::Users, "users", !self.users.is_empty()),
            (SourceKind::Jwt, "jwt", self.jwt.is_some()),
            (SourceKind::Webhook, "webhook", self.webhook.is_some()),
        ];
        for (kind, name, given) in given {
            let times = self.order.iter().filter(|asked| **asked == kind).count();
            let reason = match times {
                0 if given => format!("{name} are set up, and order does not name them"),
                0 | 1 => continue,
                _ => format!("it names {name} twice"),
            };
            return Err(AccessError::Setting { key: "access.order", reason });
        }
        Ok(())
    }

    fn roles(&self) -> Result<Roles, AccessError> {
        let mut roles = HashMap::new();
        for role in &self.roles {
            let policy = Policy { rules: role.rules.clone(), server: role.server.clone() };
            if roles.insert(role.name.clone(), policy).is_some() {
                return Err(AccessError::entry("role", &role.name, "there are two of this name"));
            }
        }
        Ok(Roles::new(roles))
    }

    fn tokens(&self) -> Result<Tokens, AccessError> {
        let mut tokens = Tokens::default();
        for (n, entry) in self.tokens.iter().enumerate() {
            let refuse = |reason: &str| Err(AccessError::entry("token", &entry.name, reason));
            let token = Secret::of(entry.token.as_ref(), entry.token_file.as_deref())
                .map_err(|error| error.of_entry("token", &entry.name))?;
            let Some(token) = token else { return refuse("it has neither token nor token_file") };
            if tokens.contains(&token) {
                return refuse("another has the same token");
            }
            if self.tokens[..n].iter().any(|other| other.name == entry.name) {
                return refuse("there are two of this name");
            }
            let policy = Policy { rules: entry.rules.clone(), server: entry.server.clone() };
            tokens = tokens.with(&token, Some(entry.name.clone()), entry.roles.clone(), policy);
        }
        Ok(tokens)
    }

    fn users(&self) -> Result<Users, AccessError> {
        let mut users = Users::new(Duration::from_secs(self.password_cache_s));
        for entry in &self.users {
            let password = Secret::of(entry.password.as_ref(), entry.password_file.as_deref())
                .map_err(|error| error.of_entry("user", &entry.name))?;
            let missing = "there is neither password nor password_file";
            let missing = || AccessError::entry("user", &entry.name, missing);
            let password = password.ok_or_else(missing)?;
            let policy = Policy { rules: entry.rules.clone(), server: entry.server.clone() };
            users = users.with(&entry.name, password.expose(), entry.roles.clone(), policy)?;
        }
        Ok(users)
    }
}
