//! Many databases over one connection; that one is refused disturbs none of the others.

#[path = "support/syncing.rs"]
mod syncing;

use serde_json::json;
use settee::replicate::PeerError;
use settee::server::{AccessRequest, Denied, Gateway, Grant};
use settee::{Store, SyncOptions};
use syncing::*;

#[tokio::test]
async fn nine_sync_and_one_is_told_why_not() {
    let builder =
        Gateway::builder(Store::memory()).authorizer(|request: AccessRequest| async move {
            match request.credentials["token"].as_str() {
                Some("some token") => Ok(Grant::database(request.database).creating()),
                _ => Err(Denied::new("this token is from last year")),
            }
        });
    let gateway = TestGateway::with(builder);
    let client = gateway.client();
    let mut syncs = Vec::new();
    for n in 0..10 {
        let db = local().await;
        fill(&db, "doc", n + 1).await;
        let token = if n == 4 { "an old token" } else { "some token" };
        let options = SyncOptions::live(format!("db{n}")).credentials(json!({ "token": token }));
        syncs.push((Watched::new(client.sync(&db, options.create())), db));
    }
    let (refused, _) = syncs.remove(4);
    let error = refused.ended().await.error();
    assert!(error.to_string().contains("this token is from last year"), "{error}");
    assert!(matches!(&error.source, PeerError::Refused(wire) if wire.status == 401));
    for (sync, db) in &mut syncs {
        sync.up_to_date().await.unwrap();
        put(db, "late", "edit").await;
        sync.up_to_date().await.unwrap();
    }
    assert_eq!(gateway.gateway.counts(), (1, 9));
    let mut there = gateway.gateway.store().names(None, 100).await.unwrap();
    there.sort();
    assert!(!there.contains(&name("db4")), "{there:?}");
    for ((sync, db), remote_name) in syncs.into_iter().zip(there) {
        assert_equal(&db, &remote(&gateway, remote_name.as_ref()).await).await;
        assert!(sync.stop().await.result.is_ok());
    }
}
