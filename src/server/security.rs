//! The security object of a database: which users and roles are let in beside the authorizer's
//! judgement, and which of them administer the database.
//!
//! It narrows what the authorizer granted and never widens who gets in. A database without one, or
//! with one that names no members, is open to whoever has a grant. A grant that administers the
//! database is not bound by it, so that nobody can be locked out for good.

use serde::{Deserialize, Serialize};

use crate::proto::message::WireError;
use crate::store::Database;

use super::Shared;
use super::auth::Grant;
use super::error::{Refusal, ToWire as _};

/// A security object, as CouchDB shapes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Security {
    admins: Listed,
    members: Listed,
}

/// Users and roles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Listed {
    names: Vec<String>,
    roles: Vec<String>,
}

impl Listed {
    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.roles.is_empty()
    }

    fn has(&self, grant: &Grant) -> bool {
        let named = |user: &str| self.names.iter().any(|name| name == user);
        grant.user_name().is_some_and(named)
            || grant.roles.iter().any(|role| self.roles.contains(role))
    }
}

impl Security {
    /// The database's own; the empty one where nothing was set.
    ///
    /// What cannot be read lets nobody in but who administers.
    fn of(database: &Database) -> Option<Self> {
        match database.security() {
            None => Some(Self::default()),
            Some(text) => serde_json::from_str(&text).ok(),
        }
    }

    /// The text to show.
    pub(super) fn text_of(database: &Database) -> String {
        let empty = || serde_json::json!(Self::default()).to_string();
        database.security().unwrap_or_else(empty)
    }
}

/// The grant as the database's security object leaves it.
pub(super) fn narrowed(grant: Grant, database: &Database) -> Result<Grant, WireError> {
    if grant.administer {
        return Ok(grant);
    }
    let refused = || Refusal::NotAMember.to_wire();
    let security = Security::of(database).ok_or_else(refused)?;
    if security.admins.has(&grant) {
        return Ok(Grant { administer: true, ..grant });
    }
    if security.members.is_empty() || security.members.has(&grant) {
        return Ok(grant);
    }
    Err(refused())
}

impl Shared {
    /// Sets a database's security object and ends what it does not let in any more.
    pub(super) async fn set_security(
        &self,
        database: &Database,
        security: &Security,
    ) -> Result<(), WireError> {
        let text = serde_json::json!(security).to_string();
        database.set_security(Some(text)).await.map_err(|error| error.to_wire())?;
        // What is being opened by the old object is not known yet, and is judged once more.
        self.begin_revocation();
        for channel in self.open_channels() {
            let granted = channel.granted();
            // Who was its admin by the old object is judged as a user like all others.
            let grant =
                Grant { administer: granted.grant.given_administer, ..(*granted.grant).clone() };
            if granted.database.name() == database.name()
                && let Err(error) = narrowed(grant, database)
            {
                channel.end(Some(error));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::DbName;
    use crate::server::Gateway;
    use crate::store::Store;

    #[tokio::test]
    async fn what_is_being_opened_meanwhile_is_judged_once_more() {
        let gateway = Gateway::builder(Store::memory()).build().unwrap();
        let shared = &gateway.shared;
        let database = shared.store.create(&DbName::parse("todos").unwrap()).await.unwrap();
        let before = shared.revocations();
        shared.set_security(&database, &Security::default()).await.unwrap();
        assert_ne!(shared.revocations(), before);
    }
}
