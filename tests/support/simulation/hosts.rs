//! What runs on the hosts: the real gateway, and real clients with the applications around them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use settee::client::Backoff;
use settee::replicate::{PeerError, SyncError};
use settee::{AccessRequest, Client, Database, Denied, Gateway, Grant, Limits, SyncOptions};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;
use turmoil::net::TcpListener;

use super::grammar::Watched;
use super::random::Random;
use super::stage::{Order, Phase, Place, Settings, Stage};
use super::wire::{Gate, Line};
use super::writes::keep_writing;

pub const PORT: u16 = 5984;

/// So long lasts a token that need not end.
const LONG: Duration = Duration::from_secs(3_600);

/// A token that lasts so long can be renewed before it ends, however slow the link.
const RENEWABLE: Duration = Duration::from_secs(3);

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    u64::try_from(since.as_millis()).expect("a time in this age")
}

/// Whom a token names, and whether it still holds.
fn judge(stage: &Stage, request: AccessRequest) -> Result<Grant, Denied> {
    let client = request.credentials["client"].as_u64().expect("clients say who they are");
    let until_ms = request.credentials["until_ms"].as_u64().expect("tokens have an end");
    if until_ms <= now_ms() {
        return Err(Denied::new("the token has expired"));
    }
    match stage.refusal(usize::try_from(client).expect("a small number")) {
        None => {}
        Some(401) => return Err(Denied::new("not now")),
        Some(403) => return Err(Denied::forbidden("not you")),
        Some(_) => return Err(Denied::unavailable("nobody knows")),
    }
    let until = UNIX_EPOCH + Duration::from_millis(until_ms);
    let grant = Grant::database(request.database).creating().expires_at(until);
    Ok(grant.user(Place::Client(usize::try_from(client).expect("a small number")).host()))
}

fn limits(settings: &Settings) -> Limits {
    let ms = |time: Duration| u64::try_from(time.as_millis()).expect("a short time");
    let limits = Limits {
        ping_interval_ms: ms(settings.ping_interval),
        silence_timeout_ms: ms(settings.silence_timeout),
        // A client that was refused too often would be kept out for longer than all else may take.
        failed_logins_per_minute_max: 0,
        ..Limits::default()
    };
    if !settings.tight {
        return limits;
    }
    Limits {
        outbound_bytes_max: 2_048,
        outbound_stall_timeout_ms: 1_500,
        rows_bytes_target: 1_024,
        stream_credit_max: 1,
        calls_per_connection_max: 16,
        drain_timeout_ms: 2_000,
        ..limits
    }
}

/// A gateway from its start to a graceful stop.
pub async fn gateway(stage: Arc<Stage>) -> turmoil::Result {
    stage.count("gateway starts");
    let limits = limits(&stage.settings);
    let store = stage.store(Place::Gateway);
    let judging = Arc::clone(&stage);
    let authorizer = move |request: AccessRequest| {
        let answer = judge(&judging, request);
        async move { answer }
    };
    let builder = Gateway::builder(store.clone()).limits(limits).authorizer(authorizer);
    let gateway = builder.build()?;
    let mut orders = stage.orders(Place::Gateway);
    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    let ordered = gateway.clone();
    tasks.spawn(async move {
        let mut stop = Some(stop);
        while let Some(order) = orders.recv().await {
            match order {
                Order::Stop => drop(stop.take()),
                Order::Jump(time) => tokio::time::advance(time).await,
                Order::Revoke(client) => {
                    let user = Place::Client(client).host();
                    ordered.revoke("taken back", |name, _| name == Some(&user));
                }
            }
        }
    });
    let (writing, random) = (Arc::clone(&stage), stage.random());
    tasks.spawn(async move { keep_writing(&writing, Place::Gateway, &store, random).await });
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let gate = Gate { listener, stage };
    let shutdown = async {
        let _ = stopped.await;
    };
    gateway.serve(gate, shutdown).await;
    // Whoever came late is dropped by then.
    sleep(Duration::from_millis(1)).await;
    assert_eq!(gateway.counts(), (0, 0), "a gateway that has stopped has no connections");
    Ok(())
}

/// A client's process, until all is over.
pub async fn client(stage: Arc<Stage>, number: usize) -> turmoil::Result {
    stage.count("client starts");
    let place = Place::Client(number);
    let settings = stage.settings;
    let client = Client::builder(&format!("ws://gateway:{PORT}"))
        .connector(Line { stage: Arc::clone(&stage), client: number })
        .heartbeat(settings.ping_interval, settings.silence_timeout)
        .backoff(Backoff { first: Duration::from_millis(200), max: settings.backoff_max })
        .connect()?;
    let store = stage.store(place);
    let mut tasks = JoinSet::new();
    for name in stage.names.clone() {
        let db = stage.database(&store, &name).await;
        let app = App { stage: Arc::clone(&stage), client: client.clone(), number, db };
        tasks.spawn(app.clone().keep_live(stage.random()));
        tasks.spawn(app.sync_now_and_then(stage.random()));
    }
    let (writing, random) = (Arc::clone(&stage), stage.random());
    tasks.spawn(async move { keep_writing(&writing, place, &store, random).await });
    let mut orders = stage.orders(place);
    let obeying = async {
        while let Some(order) = orders.recv().await {
            if let Order::Jump(time) = order {
                tokio::time::advance(time).await;
            }
        }
    };
    let working = async {
        while let Some(done) = tasks.join_next().await {
            done.expect("no part of a client panics");
        }
        client.close().await;
    };
    tokio::select! {
        () = working => Ok(()),
        () = obeying => unreachable!("the stage keeps the sender"),
    }
}

/// An application's syncs of one database.
#[derive(Clone)]
struct App {
    stage: Arc<Stage>,
    client: Client,
    number: usize,
    db: Database,
}

impl App {
    fn token(number: usize, lasts: Duration) -> Value {
        let lasts_ms = u64::try_from(lasts.as_millis()).expect("a short time");
        json!({ "client": number, "until_ms": now_ms() + lasts_ms })
    }

    /// Credentials that are renewed, that last, or that end.
    fn options(&self, options: SyncOptions, random: &mut Random) -> SyncOptions {
        let number = self.number;
        let lasts = Duration::from_millis(random.of(300..6_000));
        let options = options.batch_size(*random.choose(&[1, 3, 20, 500])).create();
        match random.below(3) {
            0 => {
                let stage = Arc::clone(&self.stage);
                options.credentials_from(move || {
                    let enough = stage.is(Phase::Storm) || lasts > RENEWABLE;
                    let token = Self::token(number, if enough { lasts } else { RENEWABLE });
                    async move { token }
                })
            }
            1 if self.stage.is(Phase::Storm) => options.credentials(Self::token(number, lasts)),
            _ => options.credentials(Self::token(number, LONG)),
        }
    }

    /// Keeps a live sync, which ends now and then in one way or another.
    async fn keep_live(self, mut random: Random) {
        loop {
            let options = self.options(SyncOptions::live(""), &mut random);
            let mut sync = Watched::new(self.client.sync(&self.db, options));
            self.stage.watch(self.number, self.db.name(), sync.watch_status());
            let lasts = random.of(100..20_000);
            let tired = async {
                if !self.stage.sleeps_in_storm(&mut random, lasts..lasts + 1).await {
                    std::future::pending::<()>().await;
                }
            };
            let ended = tokio::select! {
                biased;
                ended = sync.until_end() => Some(ended),
                () = tired => None,
                () = self.stage.until(Phase::Over) => {
                    let summary = sync.stop().await.summary();
                    assert!(summary.cancelled);
                    return;
                }
            };
            match ended {
                Some(Ok(summary)) => panic!("a live sync has completed: {summary:?}"),
                Some(Err(error)) => self.refused(error),
                None if random.one_in(3) => {
                    self.stage.count("syncs dropped");
                    drop(sync);
                }
                None => match sync.stop().await.result {
                    Ok(summary) => {
                        assert!(summary.cancelled);
                        self.stage.count("syncs cancelled");
                    }
                    Err(error) => self.refused(error),
                },
            }
            sleep(Duration::from_millis(random.of(0..1_000))).await;
        }
    }

    /// The only reason for a live sync to fail: it was not let in, and could not do anything about it.
    fn refused(&self, error: SyncError) {
        let refused =
            matches!(&error.source, PeerError::Refused(e) if [401, 403].contains(&e.status));
        assert!(refused, "a live sync failed: {error}");
        self.stage.count("syncs refused");
    }

    /// Syncs that end by themselves, beside the live one.
    async fn sync_now_and_then(self, mut random: Random) {
        while self.stage.sleeps_in_storm(&mut random, 500..8_000).await {
            let options = self.options(SyncOptions::one_shot(""), &mut random);
            let options = match random.below(4) {
                0 => options.push_only(),
                1 => options.pull_only(),
                2 => options.without_checkpoints(),
                _ => options,
            };
            let options = options.retry(random.one_in(2));
            let mut sync = Watched::new(self.client.sync(&self.db, options));
            match sync.until_end().await {
                Ok(summary) => {
                    assert!(!summary.cancelled);
                    self.stage.count("one-shot syncs completed");
                }
                Err(error) if error.source.is_transient() => {
                    self.stage.count("one-shot syncs without a connection");
                }
                Err(error) => self.refused(error),
            }
        }
    }
}
