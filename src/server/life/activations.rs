//! Opens databases once for all who ask, and closes them some time after the last has left.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::doc::{DbName, fits};
use crate::limits::Limits;
use crate::proto::message::WireError;
use crate::server::auth::{Denied, Grant};
use crate::server::error::{LifeRefusal, Refusal, ToWire as _};
use crate::server::observe::Link;
use crate::store::{Database, MemoryBackend, QuotaRule, Store, StoreError};

use super::activity::{Activity, DatabaseClient, OpenDatabase, Watch, Watched};
use super::ignored::{Ignored, IgnoredIn, OnIgnoredError, caught};
use super::table::{Entry, Outcome, Phase, Table};
use super::{Closing, ClosingCause, LifeCycle, Opening};

/// How long a client that waited for a database has to come in, before it is looked at again.
const ABOUT_TO_JOIN: Duration = Duration::from_millis(10);

/// What the application set.
#[derive(Default)]
pub(in crate::server) struct LifeSettings {
    pub(super) hooks: Option<Arc<dyn LifeCycle>>,
    pub(super) ephemeral: Vec<String>,
    pub(super) on_ignored_error: Option<OnIgnoredError>,
}

/// Which databases are active, and what is done when that changes.
pub(in crate::server) struct Life {
    durable: Store,
    ephemeral: Store,
    /// The parts between the stars of names that are ephemeral.
    patterns: Vec<Vec<String>>,
    pub(super) hooks: Option<Arc<dyn LifeCycle>>,
    pub(in crate::server) ignored: Ignored,
    pub(super) watched: Watched,
    pub(super) open_timeout: Duration,
    linger: Duration,
    waiting_max: usize,
    ephemeral_max: usize,
    /// Held for moments only. What is told in it is told in this order.
    table: Mutex<Table>,
    /// What waits and what the application does; ends with the gateway.
    tasks: Mutex<JoinSet<()>>,
    runtime: OnceLock<Handle>,
}

/// A database that a client wants to be in.
#[derive(Debug, Clone)]
pub(in crate::server) struct Asked {
    pub name: DbName,
    pub ephemeral: bool,
    /// Whether it is made if it is not there.
    pub create: bool,
    pub user: Option<String>,
}

impl Asked {
    pub(in crate::server) fn of(grant: &Grant, create: bool) -> Self {
        Self {
            name: grant.database.clone(),
            ephemeral: grant.ephemeral,
            create: grant.create && create || grant.create_on_open,
            user: grant.user_name().map(str::to_owned),
        }
    }

    fn client(&self, link: &Link) -> DatabaseClient {
        DatabaseClient {
            id: 0,
            session: link.number,
            protocol: link.spoken.name(),
            peer: link.peer(),
            user: self.user.clone(),
        }
    }
}

/// A client that is in a database; it leaves when this is dropped.
pub(in crate::server) struct Stay {
    life: Arc<Life>,
    name: DbName,
    number: u64,
    client: u64,
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.life.leave(&self.name, self.number, self.client);
    }
}

/// A database that a client is in.
pub(in crate::server) struct Entered {
    pub database: Database,
    pub stay: Stay,
    /// Whether it was not there before this client asked for it.
    pub made: bool,
}

/// How a client comes further.
enum Step {
    In(Entered),
    /// It is the first, or comes while somebody else opens or closes the database.
    Wait {
        began: Option<u64>,
        outcome: watch::Receiver<Outcome>,
    },
}

impl Life {
    pub(in crate::server) fn new(
        store: &Store,
        settings: LifeSettings,
        limits: &Limits,
        quotas: &[QuotaRule],
    ) -> Arc<Self> {
        let attachment_bytes_max = store.limits().attachment_bytes_max;
        let ephemeral_limits = Limits {
            attachment_bytes_max: attachment_bytes_max.min(limits.ephemeral_bytes_max),
            ..store.limits().clone()
        };
        let backend = Arc::new(MemoryBackend::bounded(limits.ephemeral_bytes_max));
        let ephemeral = Store::with_backend(backend, ephemeral_limits);
        ephemeral.set_quotas(quotas.to_vec());
        let parts = |pattern: &String| pattern.split('*').map(str::to_owned).collect();
        Arc::new(Self {
            durable: store.clone(),
            ephemeral,
            patterns: settings.ephemeral.iter().map(parts).collect(),
            hooks: settings.hooks,
            ignored: Ignored(settings.on_ignored_error),
            watched: Watched::default(),
            open_timeout: Duration::from_millis(limits.database_open_timeout_ms),
            linger: Duration::from_millis(limits.database_linger_ms),
            waiting_max: limits.database_waiting_max,
            ephemeral_max: limits.ephemeral_databases_max,
            table: Mutex::default(),
            tasks: Mutex::default(),
            runtime: OnceLock::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store that holds databases of a kind.
    pub(in crate::server) fn store(&self, ephemeral: bool) -> &Store {
        if ephemeral { &self.ephemeral } else { &self.durable }
    }

    /// Whether a database is ephemeral whatever its grants say.
    pub(in crate::server) fn is_ephemeral(&self, name: &DbName) -> bool {
        self.patterns.iter().any(|parts| fits(name.as_str(), parts))
    }

    /// Runs something that ends with the gateway.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // A client may be dropped where no runtime is.
        let current = Handle::try_current().ok();
        let Some(runtime) = current.or_else(|| self.runtime.get().cloned()) else { return };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &runtime);
    }

    /// Lets a client into a database, which is opened first if it is not active.
    pub(in crate::server) async fn enter(
        self: &Arc<Self>,
        asked: Asked,
        link: &Link,
    ) -> Result<Entered, WireError> {
        self.runtime.get_or_init(Handle::current);
        // It may have to be closed before it can be opened.
        let patience = self.open_timeout.saturating_mul(2);
        let entered = timeout(patience, self.entering(&asked, link)).await;
        entered.unwrap_or_else(|_| refuse(LifeRefusal::OpeningTimedOut, link))
    }

    async fn entering(self: &Arc<Self>, asked: &Asked, link: &Link) -> Result<Entered, WireError> {
        // Kept over the next step, so that the database is not closed between the two.
        let (mut own, mut kept) = (None, None);
        loop {
            let waiting = match self.step(asked, own, link)? {
                Step::In(entered) => return Ok(entered),
                Step::Wait { began, outcome } => {
                    own = began.or(own);
                    kept.insert(outcome)
                }
            };
            let Ok(outcome) = waiting.wait_for(|out| !matches!(out, Outcome::Pending)).await else {
                continue;
            };
            match &*outcome {
                // Whoever began could not make it; this client is next.
                Outcome::Missing if asked.create && own.is_none() => {}
                Outcome::Missing => {
                    let name = asked.name.clone();
                    return Err(StoreError::DatabaseMissing { name }.to_wire());
                }
                Outcome::TimedOut => return refuse(LifeRefusal::OpeningTimedOut, link),
                Outcome::Refused(error) => return Err(error.clone()),
                Outcome::Pending | Outcome::Open => {}
            }
        }
    }

    /// Lets a client in, or says what it waits for. `own` is the activation that it began.
    fn step(
        self: &Arc<Self>,
        asked: &Asked,
        own: Option<u64>,
        link: &Link,
    ) -> Result<Step, WireError> {
        let mut table = self.lock();
        if table.stopping {
            return Err(Refusal::Stopping.to_wire());
        }
        let Some(entry) = table.entries.get(&asked.name) else {
            return self.begin(&mut table, asked, link);
        };
        if entry.ephemeral != asked.ephemeral {
            return refuse(LifeRefusal::OtherKind, link);
        }
        if let Phase::Open(database) = &entry.phase {
            if !database.is_destroyed() {
                let (database, number) = (database.clone(), entry.number);
                let made = entry.made && own == Some(number);
                let client = table.join(&asked.name, asked.client(link), &self.watched);
                let (life, name) = (Arc::clone(self), asked.name.clone());
                let stay = Stay { life, name, number, client };
                return Ok(Step::In(Entered { database, stay, made }));
            }
            self.close(&mut table, &asked.name, ClosingCause::Destroyed);
        }
        let Some(entry) = table.entries.get(&asked.name) else {
            return self.begin(&mut table, asked, link);
        };
        let max = self.waiting_max;
        if entry.outcome.receiver_count() >= max {
            return refuse(LifeRefusal::TooManyWaiting { max }, link);
        }
        Ok(Step::Wait { began: None, outcome: entry.outcome.subscribe() })
    }

    /// Begins to open a database.
    fn begin(
        self: &Arc<Self>,
        table: &mut Table,
        asked: &Asked,
        link: &Link,
    ) -> Result<Step, WireError> {
        let max = self.ephemeral_max;
        if asked.ephemeral && table.ephemeral() >= max {
            return refuse(LifeRefusal::TooManyEphemeral { max }, link);
        }
        let (number, outcome) = table.begin(&asked.name, asked.ephemeral);
        let (life, asked) = (Arc::clone(self), asked.clone());
        self.spawn(async move { life.open(asked, number).await });
        Ok(Step::Wait { began: Some(number), outcome })
    }

    async fn open(self: Arc<Self>, asked: Asked, number: u64) {
        let prepared = match timeout(self.open_timeout, self.prepare(&asked)).await {
            Ok(prepared) => prepared,
            Err(late) => {
                self.ignored.tell(IgnoredIn::Opening, Some(&asked.name), late);
                Err(Outcome::TimedOut)
            }
        };
        if prepared.is_err() && asked.ephemeral {
            self.remove_ephemeral(&asked.name).await;
        }
        let mut table = self.lock();
        match prepared {
            Ok((database, made)) => {
                let Some(entry) = table.entry(&asked.name, number) else { return };
                entry.phase = Phase::Open(database);
                entry.made = made;
                entry.outcome.send_replace(Outcome::Open);
                self.watched.tell(|| Activity::DatabaseOpened {
                    database: asked.name.clone(),
                    ephemeral: asked.ephemeral,
                });
                self.left(&mut table, &asked.name, number);
            }
            Err(outcome) => {
                if let Some(entry) = table.forget(&asked.name) {
                    entry.outcome.send_replace(outcome);
                }
            }
        }
    }

    /// Has the application prepare a database, and finds or makes it. True if it was not there.
    async fn prepare(&self, asked: &Asked) -> Result<(Database, bool), Outcome> {
        let Asked { name, ephemeral, create, user } = asked;
        let store = self.store(*ephemeral);
        let failed = |error: StoreError| match error {
            StoreError::DatabaseMissing { .. } => Outcome::Missing,
            error => Outcome::Refused(error.to_wire()),
        };
        let existed = exists(store, name).await.map_err(failed)?;
        if *ephemeral && exists(&self.durable, name).await.map_err(failed)? {
            return Err(Outcome::Refused(LifeRefusal::OtherKind.to_wire()));
        }
        if let Some(hooks) = &self.hooks {
            let opening = Opening {
                name: name.clone(),
                ephemeral: *ephemeral,
                create: *create,
                user: user.clone(),
                store: store.clone(),
            };
            self.ask(IgnoredIn::Opening, name, hooks.opening(opening)).await?;
        }
        let database = match store.database(name).await {
            Err(StoreError::DatabaseMissing { .. }) if *create => store.open_or_create(name).await,
            found => found,
        };
        let database = database.map_err(failed)?;
        if let Some(hooks) = &self.hooks {
            self.ask(IgnoredIn::Opened, name, hooks.opened(database.clone())).await?;
        }
        Ok((database, !existed))
    }

    async fn ask(
        &self,
        place: IgnoredIn,
        name: &DbName,
        hook: impl Future<Output = Result<(), Denied>>,
    ) -> Result<(), Outcome> {
        let error = match caught(hook).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(denied)) => {
                self.ignored.tell(place, Some(name), &denied);
                denied.to_wire()
            }
            Err(panicked) => {
                self.ignored.tell(place, Some(name), panicked);
                Refusal::Panicked.to_wire()
            }
        };
        Err(Outcome::Refused(error))
    }

    fn leave(self: &Arc<Self>, name: &DbName, number: u64, client: u64) {
        let mut table = self.lock();
        let Some(entry) = table.entry(name, number) else { return };
        // Of a database that closes everybody was let go already.
        let Some(client) = entry.clients.remove(&client) else { return };
        self.watched.tell(|| Activity::ClientLeft { database: name.clone(), client });
        self.left(&mut table, name, number);
    }

    /// Sees to it that a database which nobody is in is closed, at once or in a while.
    fn left(self: &Arc<Self>, table: &mut Table, name: &DbName, number: u64) {
        let stopping = table.stopping;
        let Some(entry) = table.entry(name, number) else { return };
        let Phase::Open(database) = &entry.phase else { return };
        if !entry.clients.is_empty() {
            return;
        }
        let at_once = if stopping {
            Some(ClosingCause::Stopping)
        } else if database.is_destroyed() {
            Some(ClosingCause::Destroyed)
        } else {
            None
        };
        if let Some(cause) = at_once {
            self.close(table, name, cause);
            return;
        }
        entry.idle_since = Instant::now();
        // A time beyond what the clock can tell is for ever.
        if let Some(close_at) = entry.idle_since.checked_add(self.linger)
            && !entry.lingering
        {
            entry.lingering = true;
            self.spawn(close_idle(Arc::downgrade(self), name.clone(), number, close_at));
        }
    }

    /// Closes a database once it has been idle for long enough; answers when to look again.
    fn close_if_idle(self: &Arc<Self>, name: &DbName, number: u64) -> Option<Instant> {
        let mut table = self.lock();
        let entry = table.entry(name, number)?;
        if !entry.clients.is_empty() {
            entry.lingering = false;
            return None;
        }
        let (now, close_at) = (Instant::now(), entry.idle_since.checked_add(self.linger)?);
        if close_at > now {
            return Some(close_at);
        }
        if entry.outcome.receiver_count() > 0 {
            return Some(now + ABOUT_TO_JOIN);
        }
        self.close(&mut table, name, ClosingCause::Idle);
        None
    }

    /// Begins to close a database that is open.
    fn close(self: &Arc<Self>, table: &mut Table, name: &DbName, cause: ClosingCause) {
        let Some(database) = table.begin_closing(name, &self.watched) else { return };
        let ephemeral = table.entries.get(name).is_some_and(|entry| entry.ephemeral);
        if self.hooks.is_none() && !ephemeral {
            table.closed(name, cause, &self.watched);
            return;
        }
        let life = Arc::clone(self);
        self.spawn(async move { life.take_leave(Closing { database, ephemeral, cause }).await });
    }

    async fn take_leave(&self, closing: Closing) {
        let (name, cause) = (closing.database.name().clone(), closing.cause);
        let ephemeral = closing.ephemeral;
        if let Some(hooks) = &self.hooks {
            let place = IgnoredIn::Closing;
            match timeout(self.open_timeout, caught(hooks.closing(closing))).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(denied))) => self.ignored.tell(place, Some(&name), denied),
                Ok(Err(panicked)) => self.ignored.tell(place, Some(&name), panicked),
                Err(late) => self.ignored.tell(place, Some(&name), late),
            }
        }
        if ephemeral {
            self.remove_ephemeral(&name).await;
        }
        self.lock().closed(&name, cause, &self.watched);
    }

    async fn remove_ephemeral(&self, name: &DbName) {
        match self.ephemeral.destroy(name).await {
            Ok(()) | Err(StoreError::DatabaseMissing { .. }) => {}
            Err(error) => self.ignored.tell(IgnoredIn::Closing, Some(name), error),
        }
    }

    /// Closes all databases and opens none any more; waits for it, but not for ever.
    pub(in crate::server) async fn close_all(self: &Arc<Self>) {
        let mut count = {
            let mut table = self.lock();
            table.stopping = true;
            let names: Vec<DbName> = table.entries.keys().cloned().collect();
            for name in names {
                self.close(&mut table, &name, ClosingCause::Stopping);
            }
            table.count.subscribe()
        };
        let patience = self.open_timeout.saturating_mul(2);
        // Hooks that take longer have been told of, or end with the gateway.
        let _ = timeout(patience, count.wait_for(|count| *count == 0)).await;
    }

    pub(super) fn watch(&self) -> Watch {
        self.watched.watch()
    }

    pub(super) fn databases(&self) -> Vec<OpenDatabase> {
        let table = self.lock();
        let open = |entry: &Entry| match &entry.phase {
            Phase::Open(database) => Some(OpenDatabase {
                database: database.clone(),
                ephemeral: entry.ephemeral,
                clients: entry.clients.len(),
            }),
            Phase::Opening | Phase::Closing => None,
        };
        table.entries.values().filter_map(open).collect()
    }

    pub(super) fn clients(&self, name: &DbName) -> Vec<DatabaseClient> {
        let table = self.lock();
        let clients = table.entries.get(name).into_iter().flat_map(|entry| entry.clients.values());
        let mut clients: Vec<_> = clients.map(|client| (**client).clone()).collect();
        drop(table);
        clients.sort_unstable_by_key(|client| client.id);
        clients
    }

    /// How many databases are active, and how many clients are in them.
    pub(in crate::server) fn count(&self) -> (usize, usize) {
        let table = self.lock();
        let open = table.entries.values().filter(|entry| matches!(entry.phase, Phase::Open(_)));
        open.fold((0, 0), |(open, all), entry| (open + 1, all + entry.clients.len()))
    }
}

/// Refuses a client, and counts the limit that it has to do with.
fn refuse<T>(refusal: LifeRefusal, link: &Link) -> Result<T, WireError> {
    link.limit_hit(refusal.limit());
    Err(refusal.to_wire())
}

async fn exists(store: &Store, name: &DbName) -> Result<bool, StoreError> {
    match store.database(name).await {
        Ok(_) => Ok(true),
        Err(StoreError::DatabaseMissing { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits until a database has been idle for long enough, and closes it. Does not keep the gateway.
async fn close_idle(life: Weak<Life>, name: DbName, number: u64, mut close_at: Instant) {
    loop {
        sleep_until(close_at).await;
        let Some(life) = life.upgrade() else { return };
        match life.close_if_idle(&name, number) {
            Some(later) => close_at = later,
            None => return,
        }
    }
}
