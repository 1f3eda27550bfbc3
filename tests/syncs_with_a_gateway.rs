//! Two clients and a gateway: documents reach everybody, once and for live.

#[path = "support/syncing.rs"]
mod syncing;

use serde_json::json;
use settee::{Document, Store};
use syncing::*;

#[tokio::test]
async fn one_shot_makes_both_sides_equal() {
    let gateway = TestGateway::new(Store::memory());
    let (a, b) = (local().await, local().await);
    for n in 0..2_000 {
        a.put(Document::new(&format!("a{n}"), &json!({"n": n})).unwrap()).await.unwrap();
    }
    b.put(Document::new("b", &json!({"from": "b"})).unwrap()).await.unwrap();
    let client = gateway.client();
    let pushed = Watched::new(client.sync(&a, one_shot("shared"))).ended().await.summary();
    assert_eq!(pushed.push.unwrap().docs_written, 2_000);
    let other = gateway.client();
    let pulled = Watched::new(other.sync(&b, one_shot("shared"))).ended().await.summary();
    assert_eq!(pulled.pull.unwrap().docs_written, 2_000);
    assert_eq!(pulled.push.unwrap().docs_written, 1);
    assert_eq!(b.info().await.unwrap().doc_count, 2_001);
}

#[tokio::test]
async fn a_live_edit_reaches_the_other_client() {
    let gateway = TestGateway::new(Store::memory());
    let (a, b) = (local().await, local().await);
    let (first, second) = (gateway.client(), gateway.client());
    let mut sync_a = Watched::new(first.sync(&a, live("shared")));
    let mut sync_b = Watched::new(second.sync(&b, live("shared")));
    sync_a.up_to_date().await.unwrap();
    sync_b.up_to_date().await.unwrap();
    let mut feed = b.feed(Default::default()).await.unwrap();
    feed.next_page(10, usize::MAX).await.unwrap();
    a.put(Document::new("milk", &json!({"done": false})).unwrap()).await.unwrap();
    let page = feed.next_page(10, usize::MAX).await.unwrap();
    assert_eq!(page.rows[0].id, id("milk"));
    sync_a.stop().await.summary();
    sync_b.stop().await.summary();
}
