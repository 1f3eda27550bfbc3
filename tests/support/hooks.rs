//! Hooks of a life cycle whose calls a test sees, and whose answers it gives.
#![allow(dead_code, reason = "each test file uses some of these")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use settee::server::{
    Activity, Closing, Denied, IgnoredError, LifeCycle, Opening, SessionInfo, Watch,
};
use settee::{Database, DbName};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::http::{Api, token_gateway};

/// What is awaited and does not come in this time is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

pub type Answer = BoxFuture<'static, Result<(), Denied>>;
type Hook<T> = Box<dyn Fn(T) -> Answer + Send + Sync>;

/// Hooks that say what is called and do what the test wants.
pub struct Hooks {
    called: mpsc::UnboundedSender<String>,
    opening: Hook<Opening>,
    opened: Hook<Database>,
    closing: Hook<Closing>,
    /// Without one nothing is said of connections either.
    connected: Option<Hook<Arc<SessionInfo>>>,
}

/// The names of the hooks that were called, as they are.
pub struct Called(mpsc::UnboundedReceiver<String>);

impl Hooks {
    pub fn new() -> (Self, Called) {
        fn nothing<T>(_: T) -> Answer {
            Box::pin(async { Ok(()) })
        }
        let (called, calls) = mpsc::unbounded_channel();
        let hooks = Self {
            called,
            opening: Box::new(nothing),
            opened: Box::new(nothing),
            closing: Box::new(nothing),
            connected: None,
        };
        (hooks, Called(calls))
    }

    pub fn opening(self, hook: impl Fn(Opening) -> Answer + Send + Sync + 'static) -> Self {
        Self { opening: Box::new(hook), ..self }
    }

    pub fn opened(self, hook: impl Fn(Database) -> Answer + Send + Sync + 'static) -> Self {
        Self { opened: Box::new(hook), ..self }
    }

    pub fn closing(self, hook: impl Fn(Closing) -> Answer + Send + Sync + 'static) -> Self {
        Self { closing: Box::new(hook), ..self }
    }

    pub fn connected(
        self,
        hook: impl Fn(Arc<SessionInfo>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self { connected: Some(Box::new(hook)), ..self }
    }

    fn say(&self, text: String) {
        // A test that has ended listens no more.
        let _ = self.called.send(text);
    }
}

#[async_trait]
impl LifeCycle for Hooks {
    async fn opening(&self, opening: Opening) -> Result<(), Denied> {
        self.say(format!("opening {}", opening.name));
        (self.opening)(opening).await
    }

    async fn opened(&self, database: Database) -> Result<(), Denied> {
        self.say(format!("opened {}", database.name()));
        (self.opened)(database).await
    }

    async fn closing(&self, closing: Closing) -> Result<(), Denied> {
        self.say(format!("closing {} {:?}", closing.database.name(), closing.cause));
        (self.closing)(closing).await
    }

    async fn connected(&self, session: Arc<SessionInfo>) -> Result<(), Denied> {
        let Some(connected) = &self.connected else { return Ok(()) };
        self.say(format!("connected {} {}", session.protocol, session.id));
        connected(session).await
    }

    async fn disconnected(&self, session: Arc<SessionInfo>) {
        if self.connected.is_some() {
            self.say(format!("disconnected {} {}", session.protocol, session.id));
        }
    }
}

impl Called {
    pub async fn next(&mut self) -> String {
        timeout(PATIENCE, self.0.recv()).await.expect("a call in time").expect("the gateway lives")
    }

    pub async fn assert(&mut self, calls: &[&str]) {
        for call in calls {
            assert_eq!(self.next().await, *call);
        }
    }

    /// Asserts that nothing more was called.
    pub fn assert_none(&mut self) {
        assert_eq!(self.0.try_recv().ok(), None);
    }
}

/// Errors that only `on_ignored_error` is told of.
pub struct Errors(mpsc::UnboundedReceiver<IgnoredError>);

impl Errors {
    pub fn new() -> (impl Fn(&IgnoredError) + Send + Sync + 'static, Self) {
        let (told, errors) = mpsc::unbounded_channel();
        let tell = move |error: &IgnoredError| drop(told.send(error.clone()));
        (tell, Self(errors))
    }

    pub async fn next(&mut self) -> IgnoredError {
        timeout(PATIENCE, self.0.recv()).await.expect("an error in time").expect("a gateway")
    }

    pub fn assert_none(&mut self) {
        assert_eq!(self.0.try_recv().ok(), None);
    }
}

/// What comes and goes, as short words; clients and sessions are numbered as they come.
pub struct Seen {
    watch: Watch,
    clients: Vec<u64>,
}

impl Seen {
    pub fn of(api: &Api) -> Self {
        Self { watch: api.served.gateway.watch(), clients: Vec::new() }
    }

    pub async fn next(&mut self) -> String {
        let next = timeout(PATIENCE, self.watch.next()).await.expect("in time");
        let mut number = |id: u64| {
            let known = self.clients.iter().position(|known| *known == id);
            known.unwrap_or_else(|| {
                self.clients.push(id);
                self.clients.len() - 1
            })
        };
        let activity = next.expect("the gateway lives").expect("nothing was dropped");
        let sign = if activity.step() == 1 { '+' } else { '-' };
        let database = activity.database().map(DbName::to_string).unwrap_or_default();
        match &activity {
            Activity::Connected(session) | Activity::Disconnected(session) => {
                assert_eq!(database, "");
                format!("{sign}{}", session.protocol)
            }
            Activity::DatabaseOpened { .. } => format!("{sign}{database}"),
            Activity::DatabaseClosed { cause, .. } => format!("{sign}{database} {cause:?}"),
            Activity::ClientJoined { client, .. } | Activity::ClientLeft { client, .. } => {
                format!("{sign}{database} {} {}", client.protocol, number(client.id))
            }
            other => format!("{other:?}"),
        }
    }

    pub async fn assert(&mut self, steps: &[&str]) {
        for step in steps {
            assert_eq!(self.next().await, *step);
        }
    }

    /// Passes over what comes before a step.
    pub async fn until(&mut self, step: &str) {
        while self.next().await != step {}
    }
}

pub fn name(name: &str) -> DbName {
    DbName::parse(name).expect("a name")
}

/// A gateway in memory with hooks, for the token `secret`, whose databases close soon.
pub fn hooked(hooks: Hooks, limits: settee::Limits) -> (Api, Errors) {
    let (tell, errors) = Errors::new();
    let builder = token_gateway(settee::Store::memory()).limits(limits);
    (Api::served(builder.life_cycle(hooks).on_ignored_error(tell)), errors)
}
