//! Who gets in: the credential callback and what it grants.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::Index;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use http::HeaderMap;
use serde_json::Value;

use crate::doc::{BlobHasher, DbName, MergePolicy, Selector};
use crate::store::Quota;

use super::handler::{FetchHandler, WriteHandler};
use super::validator::Validator;

use super::events::EventRights;

/// What a client shows to be let in: any JSON. Never printed.
#[derive(Clone, PartialEq, Default)]
pub struct Credentials(Value);

impl Credentials {
    /// Credentials of a JSON value.
    #[must_use]
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.0
    }
}

impl Index<&str> for Credentials {
    type Output = Value;

    /// A member, or `null` if there is none.
    fn index(&self, name: &str) -> &Value {
        &self.0[name]
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// A request to open a database.
#[derive(Debug, Clone)]
pub struct AccessRequest {
    /// What the client shows.
    pub credentials: Credentials,
    /// What it wants to open.
    pub database: DbName,
    /// Whether it asks for the database to be made if it is not there.
    pub create: bool,
    /// Its address, where the transport has one.
    pub peer: Option<SocketAddr>,
    /// The headers of its HTTP request, without `Authorization`,
    /// `Proxy-Authorization` and `Cookie`. Printing them for debugging shows no values.
    pub headers: Arc<HeaderMap>,
}

/// Judges requests. Any `async Fn(AccessRequest) -> Result<Grant, Denied>` is one.
///
/// Called for every `open`, and again for every set of new credentials. It may take its time: other
/// channels and connections go on meanwhile.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Grants or denies.
    ///
    /// # Errors
    /// [`Denied`], whose reason reaches the client.
    async fn authorize(&self, request: AccessRequest) -> Result<Grant, Denied>;

    /// Forgets answers that it remembers. Called before grants are revoked or judged again, so that
    /// what was remembered does not bring them back.
    fn forget(&self) {}
}

#[async_trait]
impl<F, Answer> Authorizer for F
where
    F: Fn(AccessRequest) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Result<Grant, Denied>> + Send,
{
    async fn authorize(&self, request: AccessRequest) -> Result<Grant, Denied> {
        self(request).await
    }
}

/// A request that is for no one database: a session, the list of databases.
#[derive(Debug, Clone)]
pub struct ServerRequest {
    /// What the client shows; `null` for nothing.
    pub credentials: Credentials,
    /// Its address, where the transport has one.
    pub peer: Option<SocketAddr>,
    /// The headers of its HTTP request, as in [`AccessRequest::headers`].
    pub headers: Arc<HeaderMap>,
}

/// What a client may do with the server as a whole, and who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerGrant {
    pub(super) user: Option<String>,
    pub(super) token: Option<String>,
    pub(super) list: bool,
    pub(super) administer: bool,
    pub(super) expires_at: Option<SystemTime>,
    pub(super) back_up: bool,
    pub(super) replicate: bool,
    pub(super) events: EventRights,
}

impl ServerGrant {
    /// Good credentials that stand for nobody in particular and may do nothing more.
    #[must_use]
    pub fn known() -> Self {
        Self::default()
    }

    /// The same for a named user: `GET /_session` tells the name.
    #[must_use]
    pub fn user(self, user: impl Into<String>) -> Self {
        Self { user: Some(user.into()), ..self }
    }

    /// The same, and the databases may be listed and their coming and going watched (`_all_dbs`,
    /// `_dbs_info`, `_db_updates`). `GET /_session` shows the role `_admin` then.
    #[must_use]
    pub fn listing(self) -> Self {
        Self { list: true, ..self }
    }

    /// The same, and the server may be administered: grants may be revoked, and the gateway may be
    /// looked into, by `/_metrics` and the page at `/_settee/` with its lists of connections and
    /// denials.
    #[must_use]
    pub fn administering(self) -> Self {
        Self { administer: true, ..self }
    }

    /// The same by a token of this name, by which it can be revoked.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self }
    }

    /// The same until a moment: feeds of the server end then, and a connection that identified itself
    /// with it gets no more events and leaves its channels, unless it showed new credentials.
    #[must_use]
    pub fn expires_at(self, when: SystemTime) -> Self {
        Self { expires_at: Some(when), ..self }
    }

    /// The same for so long from now; a time beyond what the clock can tell is for ever.
    #[must_use]
    pub fn expires_in(self, time: Duration) -> Self {
        Self { expires_at: SystemTime::now().checked_add(time), ..self }
    }

    /// Time until it ends; `None` for ever, zero when it has ended.
    pub(super) fn time_left(&self) -> Option<Duration> {
        time_left(self.expires_at)
    }

    /// The same, and everything that the server holds may be backed up (`_settee/backup`): every
    /// document of every database, whatever grants and security objects say.
    #[must_use]
    pub fn backing_up(self) -> Self {
        Self { back_up: true, ..self }
    }

    /// The same, and the gateway may be made to replicate with any address it can reach, that of
    /// its own machine and network included; and all replications may be seen and cancelled
    /// (`_replicate`, `_scheduler`, `_active_tasks`).
    #[must_use]
    pub fn replicating(self) -> Self {
        Self { replicate: true, ..self }
    }
}

/// Judges requests for no one database. Any `async Fn(ServerRequest) -> Result<ServerGrant, Denied>`
/// is one.
///
/// A session that it lets begin stands for the credentials that were shown: every later request
/// for a database puts them to the [`Authorizer`].
#[async_trait]
pub trait ServerAuthorizer: Send + Sync + 'static {
    /// Grants or denies.
    ///
    /// # Errors
    /// [`Denied`], whose reason reaches the client.
    async fn authorize_server(&self, request: ServerRequest) -> Result<ServerGrant, Denied>;

    /// Forgets answers that it remembers, as [`Authorizer::forget`].
    fn forget(&self) {}
}

#[async_trait]
impl<F, Answer> ServerAuthorizer for F
where
    F: Fn(ServerRequest) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Result<ServerGrant, Denied>> + Send,
{
    async fn authorize_server(&self, request: ServerRequest) -> Result<ServerGrant, Denied> {
        self(request).await
    }
}

/// Grants nothing: what a gateway does that was given no authorizer.
#[derive(Debug, Clone, Copy)]
pub(super) struct DenyAll;

#[async_trait]
impl Authorizer for DenyAll {
    async fn authorize(&self, _: AccessRequest) -> Result<Grant, Denied> {
        Err(Denied::new("this gateway has no authorizer"))
    }
}

#[async_trait]
impl ServerAuthorizer for DenyAll {
    async fn authorize_server(&self, _: ServerRequest) -> Result<ServerGrant, Denied> {
        Err(Denied::forbidden("this gateway judges databases only, see server_authorizer"))
    }
}

/// A refusal, with a reason that the client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Denied {
    /// Whether other credentials might help.
    pub kind: DeniedKind,
    /// Why, for the application's user.
    pub reason: String,
}

/// Whether other credentials might help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeniedKind {
    /// 401 `unauthorized`: no or bad credentials. A client that can ask for new ones does.
    Unauthorized,
    /// 403 `forbidden`: known, and not allowed.
    Forbidden,
    /// 503 `service_unavailable`: it cannot be judged for now. A client tries again later.
    Unavailable,
}

impl Denied {
    /// A refusal for want of good credentials (401).
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { kind: DeniedKind::Unauthorized, reason: reason.into() }
    }

    /// A refusal whatever the credentials (403).
    #[must_use]
    pub fn forbidden(reason: impl Into<String>) -> Self {
        Self { kind: DeniedKind::Forbidden, reason: reason.into() }
    }

    /// No judgement for now (503): what judges cannot be reached. A write that is judged so fails
    /// with all others of its call, and nothing of it is stored.
    #[must_use]
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self { kind: DeniedKind::Unavailable, reason: reason.into() }
    }
}

/// What a client may do with one database.
///
/// ```
/// use settee::server::Grant;
/// let todos = settee::DbName::parse("todos")?;
/// let grant = Grant::database(todos).read_only().user("anna").expires_in(std::time::Duration::from_secs(600));
/// # Ok::<(), settee::ParseError>(())
/// ```
#[derive(Clone)]
pub struct Grant {
    pub(super) database: DbName,
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) create: bool,
    /// Whether it is made even if the client does not ask for that.
    pub(super) create_on_open: bool,
    /// Whether it is in memory and goes when nobody is in it.
    pub(super) ephemeral: bool,
    pub(super) destroy: bool,
    pub(super) administer: bool,
    /// The same as the authorizer gave it, whatever the database's security object adds.
    pub(super) given_administer: bool,
    pub(super) roles: Vec<String>,
    pub(super) user: Option<String>,
    /// The name of the token that brought it.
    pub(super) token: Option<String>,
    pub(super) expires_at: Option<SystemTime>,
    /// In the order in which they are asked.
    pub(super) validators: Vec<Arc<dyn Validator>>,
    /// The gateway's for this database, in the same order.
    pub(super) write_handlers: Vec<Arc<dyn WriteHandler>>,
    pub(super) fetch_handlers: Vec<Arc<dyn FetchHandler>>,
    pub(super) merge_policy: Option<Arc<MergePolicy>>,
    pub(super) selector: Option<Selector>,
    pub(super) quota: Quota,
}

impl Grant {
    /// Reading and writing the documents of a database, which need not be the one asked for.
    #[must_use]
    pub fn database(database: DbName) -> Self {
        Self {
            database,
            read: true,
            write: true,
            create: false,
            create_on_open: false,
            ephemeral: false,
            destroy: false,
            administer: false,
            given_administer: false,
            roles: Vec::new(),
            user: None,
            token: None,
            expires_at: None,
            validators: Vec::new(),
            write_handlers: Vec::new(),
            fetch_handlers: Vec::new(),
            merge_policy: None,
            selector: None,
            quota: Quota::default(),
        }
    }

    /// The same without writing documents. Local documents, where checkpoints are, stay writable.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { write: false, ..self }
    }

    /// The same without reading documents.
    #[must_use]
    pub fn write_only(self) -> Self {
        Self { read: false, ..self }
    }

    /// The same, and the database is made if it is not there and the client asks for that.
    #[must_use]
    pub fn creating(self) -> Self {
        Self { create: true, ..self }
    }

    /// The same, and the database is made when it is first opened, whether the client asks or not.
    #[must_use]
    pub fn creating_on_open(self) -> Self {
        Self { create: true, create_on_open: true, ..self }
    }

    /// The same for a database in memory, made when it is first opened, and gone with everything in it
    /// `database_linger_ms` after its last client has left, or when the gateway ends. Everything else
    /// is as with one on disk, but lists of databases, backups and `_db_updates` leave it out. A name
    /// is one of both: while one of a kind is there, a grant for the other is refused with 412.
    #[must_use]
    pub fn ephemeral(self) -> Self {
        Self { create: true, create_on_open: true, ephemeral: true, ..self }
    }

    /// The same, and the client may destroy the database.
    #[must_use]
    pub fn destroying(self) -> Self {
        Self { destroy: true, ..self }
    }

    /// The same, and the client administers the database: it may change `_security`, `_revs_limit`
    /// and compact, and `_security` does not hold for it.
    #[must_use]
    pub fn administering(self) -> Self {
        Self { administer: true, given_administer: true, ..self }
    }

    /// The same with one more role, which the database's `_security` may name.
    #[must_use]
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// The same for a named user: for limits by user, revocation and validators.
    #[must_use]
    pub fn user(self, user: impl Into<String>) -> Self {
        Self { user: Some(user.into()), ..self }
    }

    /// The same by a token of this name, by which it can be revoked. The name is no secret.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self }
    }

    /// The same until a moment. The channel closes then, unless the client showed new credentials.
    #[must_use]
    pub fn expires_at(self, when: SystemTime) -> Self {
        Self { expires_at: Some(when), ..self }
    }

    /// The same for so long from now; a time beyond what the clock can tell is for ever.
    #[must_use]
    pub fn expires_in(self, time: Duration) -> Self {
        Self { expires_at: SystemTime::now().checked_add(time), ..self }
    }

    /// The same, with every document judged before it is written; after the gateway's own
    /// validators, and after those that were given before.
    #[must_use]
    pub fn validator(mut self, validator: impl Validator) -> Self {
        self.validators.push(Arc::new(validator));
        self
    }

    /// The same, and a write is refused that would make the database hold more than this, or than
    /// its own quota ([`Store::set_quotas`](crate::Store::set_quotas)). Deletions never are.
    #[must_use]
    pub fn quota(self, quota: Quota) -> Self {
        Self { quota, ..self }
    }

    /// The same for a part of the database: what the selector does not let pass is hidden from
    /// reads and feeds, and cannot be written.
    ///
    /// A tombstone passes with what it deletes, as far as that is stored; see
    /// [`Database::admits`](crate::Database::admits). A document that is written so that it matches no more stays with
    /// those who have it, as it was. Counts, local documents and the places of feeds are those of
    /// the whole database. Design documents are judged like all others.
    ///
    /// ```
    /// use settee::{DbName, Selector, server::Grant};
    /// let mine = Selector::from_value(&serde_json::json!({"owner": "anna"}))?;
    /// let grant = Grant::database(DbName::parse("todos")?).selector(mine).user("anna");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn selector(self, selector: Selector) -> Self {
        Self { selector: Some(selector).filter(|selector| !selector.matches_all()), ..self }
    }

    /// Names the part of the database that is shown; `None` for all of it. Equal selectors make
    /// equal names, and nothing of a selector can be read from one.
    pub(super) fn view(&self) -> Option<String> {
        const DIGITS: usize = 32;
        let text = self.selector.as_ref()?.as_str();
        let mut digest = BlobHasher::of(text.as_bytes()).key.to_string();
        digest.truncate(DIGITS);
        Some(digest)
    }

    /// The user it names.
    #[must_use]
    pub fn user_name(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The database it names.
    #[must_use]
    pub fn database_name(&self) -> &DbName {
        &self.database
    }

    /// The name of the token that brought it.
    #[must_use]
    pub fn token_name(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Time until it ends; `None` for ever, zero when it has ended.
    pub(super) fn time_left(&self) -> Option<Duration> {
        time_left(self.expires_at)
    }

    /// Whether another grant allows the same, for however long.
    pub(super) fn allows_as(&self, other: &Self) -> bool {
        let rights = |grant: &Self| (grant.read, grant.write, grant.destroy, grant.administer);
        rights(self) == rights(other)
            && self.database == other.database
            && self.selector == other.selector
            && self.user == other.user
            && self.validators.len() == other.validators.len()
    }

    /// The rights by name, for tests.
    #[cfg(test)]
    pub(crate) fn rights(&self) -> String {
        let all = [
            (self.read, "read"),
            (self.write, "write"),
            (self.create, "create"),
            (self.create_on_open, "create_on_open"),
            (self.destroy, "destroy"),
            (self.administer, "admin"),
        ];
        let may = all.iter().filter(|(may, _)| *may).map(|(_, name)| *name);
        may.collect::<Vec<_>>().join(" ")
    }

    /// The selector's text, for tests.
    #[cfg(test)]
    pub(crate) fn selector_text(&self) -> Option<&str> {
        self.selector.as_ref().map(Selector::as_str)
    }
}

fn time_left(expires_at: Option<SystemTime>) -> Option<Duration> {
    Some(expires_at?.duration_since(SystemTime::now()).unwrap_or_default())
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("database", &self.database)
            .field("read", &self.read)
            .field("write", &self.write)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::server::ProposedWrite;

    #[test]
    fn a_grant_of_the_server_lasts_as_long_as_it_says() {
        assert_eq!(ServerGrant::known().time_left(), None);
        let hour = Duration::from_secs(3_600);
        let left = ServerGrant::known().expires_in(hour).time_left().expect("it ends");
        assert!(left <= hour && left > hour / 2, "{left:?}");
        let ended = ServerGrant::known().expires_at(SystemTime::UNIX_EPOCH);
        assert_eq!(ended.time_left(), Some(Duration::ZERO));
        assert_eq!(ServerGrant::known().expires_in(Duration::MAX).time_left(), None);
    }

    #[test]
    fn who_may_have_a_database_made_by_opening_it_may_make_it_by_name() {
        let name = || DbName::parse("todos").expect("a legal name");
        let rights = Grant::database(name()).creating_on_open().rights();
        assert_eq!(rights, "read write create create_on_open");
        assert_eq!(Grant::database(name()).ephemeral().rights(), rights);
    }

    #[test]
    fn a_grant_allows_as_another_if_nothing_but_its_end_differs() {
        let name = |name| DbName::parse(name).expect("a legal name");
        let grant = || Grant::database(name("todos")).user("anna");
        let selector = || Selector::parse(r#"{"n": 1}"#, &Limits::default()).expect("a selector");
        let allowing = |_: &ProposedWrite<'_>| Ok(());
        assert!(grant().allows_as(&grant().expires_in(Duration::from_secs(1))));
        for other in [
            grant().read_only(),
            grant().write_only(),
            grant().destroying(),
            grant().administering(),
            grant().user("berta"),
            grant().validator(allowing),
            grant().selector(selector()),
            Grant::database(name("other")).user("anna"),
        ] {
            assert!(!grant().allows_as(&other), "{other:?}");
        }
    }
}
