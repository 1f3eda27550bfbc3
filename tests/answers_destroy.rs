//! Destroying a database is answered before the channel it was asked on is closed.

#[path = "support/gateway.rs"]
mod gateway;
#[path = "support/raw.rs"]
mod raw;

use raw::{Came, Served};
use serde_json::json;
use settee::Store;
use tempfile::tempdir;

#[tokio::test(flavor = "multi_thread")]
async fn the_reply_comes_before_the_channel_is_closed() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let served = Served::new(gateway::token_gateway(store));
    let open = json!({"database": "d", "create": true, "credentials": {"token": "secret"}});
    // The call and the watcher of the channel run beside each other, so once is not enough.
    for round in 0..50 {
        let mut raw = served.channel(open.clone()).await;
        let reply = raw.ask(json!(["call", 1, 1, "destroy"])).await;
        assert_eq!(reply, json!(["reply", 1, 1, {"ok": true}]), "round {round}");
        let Came::Json(closed) = raw.next().await else { panic!("the channel is closed") };
        assert_eq!((&closed[0], &closed[2]["status"]), (&json!("closed"), &json!(404)));
    }
}
