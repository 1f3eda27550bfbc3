//! Credentials over a sync's life: asked for, refreshed, expired, refused, revoked.

#[path = "support/syncing.rs"]
mod syncing;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use settee::replicate::PauseCause;
use settee::server::{AccessRequest, Denied, Gateway, Grant};
use settee::{Store, SyncOptions, SyncState};
use syncing::*;
use tokio::sync::watch;

/// A gateway that lets in whoever shows the token of the moment, perhaps for a while only.
struct Doorkeeper {
    gateway: TestGateway,
    token: watch::Sender<&'static str>,
    judged: watch::Receiver<usize>,
}

impl Doorkeeper {
    fn new(for_so_long: Option<Duration>) -> Self {
        let token = watch::Sender::new("first");
        let (count, judged) = watch::channel(0);
        let (valid, count) = (token.subscribe(), Arc::new(count));
        let builder =
            Gateway::builder(Store::memory()).authorizer(move |request: AccessRequest| {
                let good = request.credentials["token"].as_str() == Some(*valid.borrow());
                count.send_modify(|judged| *judged += 1);
                async move {
                    if !good {
                        return Err(Denied::new("that token is no good"));
                    }
                    let grant = Grant::database(request.database).creating();
                    Ok(for_so_long.map_or(grant.clone(), |time| grant.expires_in(time)))
                }
            });
        Self { gateway: TestGateway::with(builder), token, judged }
    }
}

fn with_token(token: &str) -> SyncOptions {
    SyncOptions::live("shared").create().credentials(json!({ "token": token }))
}

/// Options that ask for the client's token of the moment, and how often they asked.
fn asking(token: watch::Receiver<&'static str>) -> (SyncOptions, watch::Receiver<usize>) {
    let (count, asked) = watch::channel(0);
    let options = SyncOptions::live("shared").create().credentials_from(move || {
        count.send_modify(|asked| *asked += 1);
        let token = *token.borrow();
        async move { json!({ "token": token }) }
    });
    (options, asked)
}

#[tokio::test]
async fn refreshed_before_each_expiry_a_sync_goes_on_over_one_channel() {
    let door = Doorkeeper::new(Some(Duration::from_millis(1_300)));
    let (options, mut asked) = asking(door.token.subscribe());
    let (a, there) = (local().await, remote(&door.gateway, "shared").await);
    let mut sync = Watched::new(door.gateway.client().sync(&a, options));
    for n in 1..=4 {
        asked.wait_for(|asked| *asked >= n).await.unwrap();
        put(&a, &format!("a{n}"), "1").await;
        put(&there, &format!("r{n}"), "1").await;
        sync.up_to_date().await.unwrap();
        until_text(&a, &format!("r{n}"), "1").await;
    }
    assert_equal(&a, &there).await;
    let ended = sync.stop().await;
    assert_eq!(ended.causes, [], "it never had to stop");
    assert!(ended.result.is_ok());
}

#[tokio::test]
async fn without_a_function_the_same_value_opens_the_channel_again() {
    let mut door = Doorkeeper::new(Some(Duration::from_millis(1_100)));
    let (a, there) = (local().await, remote(&door.gateway, "shared").await);
    let mut sync = Watched::new(door.gateway.client().sync(&a, with_token("first")));
    sync.up_to_date().await.unwrap();
    for n in 2..=3 {
        put(&a, &format!("a{n}"), "1").await;
        door.judged.wait_for(|judged| *judged >= n).await.unwrap();
        put(&there, &format!("r{n}"), "1").await;
        until_text(&a, &format!("r{n}"), "1").await;
        sync.up_to_date().await.unwrap();
    }
    assert_equal(&a, &there).await;
    door.token.send_replace("second");
    let error = sync.ended().await.error();
    assert!(error.to_string().contains("that token is no good"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn asked_for_every_channel() {
    let door = Doorkeeper::new(None);
    let network = Network::new(door.gateway.connector.clone());
    let (options, asked) = asking(door.token.subscribe());
    let a = local().await;
    let mut sync = Watched::new(network.client().sync(&a, options));
    for n in 1..=3 {
        sync.up_to_date().await.unwrap();
        assert_eq!(*asked.borrow(), n);
        network.close();
        until_state(&sync, SyncState::Offline).await;
        network.open();
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_that_is_refused_again_and_again_is_given_up() {
    let door = Doorkeeper::new(None);
    let (_, never_good) = watch::channel("wrong");
    let (options, asked) = asking(never_good);
    let a = local().await;
    let mut sync = Watched::new(door.gateway.client().sync(&a, options));
    let PauseCause::AuthNeeded { reason } = sync.until_paused_with_cause().await else {
        panic!("the gateway wants other credentials");
    };
    assert!(reason.contains("that token is no good"), "{reason}");
    assert_eq!(sync.status().state, SyncState::AuthNeeded);
    let error = sync.ended().await.error();
    assert!(error.to_string().contains("that token is no good"), "{error}");
    let asked = *asked.borrow();
    assert!((2..=10).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_value_that_is_refused_at_first_is_an_error_at_once() {
    let door = Doorkeeper::new(None);
    let a = local().await;
    let sync = Watched::new(door.gateway.client().sync(&a, with_token("wrong")));
    let error = sync.ended().await.error();
    assert!(error.source.is_unauthorized(), "{error}");
    assert_eq!(*door.judged.borrow(), 1);
}

#[tokio::test]
async fn one_that_is_known_and_not_allowed_is_not_asked_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let builder = Gateway::builder(Store::memory())
        .authorizer(|_: AccessRequest| async { Err(Denied::forbidden("not your database")) });
    let gateway = TestGateway::with(builder);
    let count = Arc::clone(&asked);
    let options = SyncOptions::live("shared").credentials_from(move || {
        count.fetch_add(1, Ordering::Relaxed);
        async { json!(1) }
    });
    let a = local().await;
    let error = Watched::new(gateway.client().sync(&a, options)).ended().await.error();
    assert!(error.to_string().contains("not your database"), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn after_revocation_a_sync_waits_for_credentials_that_are_good() {
    let door = Doorkeeper::new(None);
    let mine = watch::Sender::new("first");
    let (options, _asked) = asking(mine.subscribe());
    let (a, there) = (local().await, remote(&door.gateway, "shared").await);
    let mut sync = Watched::new(door.gateway.client().sync(&a, options));
    sync.up_to_date().await.unwrap();
    door.token.send_replace("second");
    let revoked =
        door.gateway.gateway.revoke("logged out", |_, database| *database == name("shared"));
    assert_eq!(revoked, 1);
    put(&a, "meanwhile", "1").await;
    until_state(&sync, SyncState::AuthNeeded).await;
    let error = sync.status().last_error.unwrap();
    assert!(error.contains("logged out") || error.contains("no good"), "{error}");
    mine.send_replace("second");
    sync.up_to_date().await.unwrap();
    assert_equal(&a, &there).await;
    assert_eq!(door.gateway.gateway.counts(), (1, 1));
    assert!(sync.stop().await.result.is_ok());
}

#[tokio::test]
async fn after_revocation_a_value_that_is_no_good_any_more_ends_the_sync() {
    let door = Doorkeeper::new(None);
    let a = local().await;
    let mut sync = Watched::new(door.gateway.client().sync(&a, with_token("first")));
    sync.up_to_date().await.unwrap();
    door.token.send_replace("second");
    assert_eq!(door.gateway.gateway.revoke("logged out", |_, _| true), 1);
    let error = sync.ended().await.error();
    assert!(error.source.is_unauthorized(), "{error}");
    assert_eq!(door.gateway.gateway.counts().1, 0);
}

#[tokio::test(start_paused = true)]
async fn revoked_at_once_each_time_a_sync_does_not_spin() {
    let door = Doorkeeper::new(None);
    let (a, mut judged) = (local().await, door.judged.clone());
    let sync = Watched::new(door.gateway.client().sync(&a, with_token("first")));
    let began = tokio::time::Instant::now();
    for n in 1..=8 {
        judged.wait_for(|judged| *judged >= n).await.unwrap();
        while door.gateway.gateway.revoke("again", |_, _| true) == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(began.elapsed() > Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(sync.stop().await.summary().cancelled);
}
