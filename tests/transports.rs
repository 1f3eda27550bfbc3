//! The gateway and the client over transports other than TCP.

use serde_json::json;
use settee::server::{AccessRequest, Denied, Endpoint, Grant};
use settee::transport::UnixConnector;
use settee::{Client, DbName, Document, Gateway, Store, SyncOptions};
use tokio::net::UnixListener;

fn gateway() -> Gateway {
    let builder = Gateway::builder(Store::memory()).authorizer(|request: AccessRequest| async {
        Ok::<_, Denied>(Grant::database(request.database).creating())
    });
    builder.build().unwrap()
}

/// Pushes a document over a Unix socket and finds it behind the gateway.
async fn push(path: &std::path::Path, gateway: &Gateway) {
    let name = DbName::parse("todos").unwrap();
    let todos = Store::memory().create(&name).await.unwrap();
    todos.put(Document::new("milk", &json!({"done": false})).unwrap()).await.unwrap();
    let client = Client::builder("ws://localhost").connector(UnixConnector::new(path));
    let client = client.connect().unwrap();
    let options = SyncOptions::one_shot("todos").create();
    let summary = client.sync(&todos, options).finished().await.unwrap();
    assert_eq!(summary.push.unwrap().docs_written, 1);
    client.close().await;
    let served = gateway.store().database(&name).await.unwrap();
    assert_eq!(served.info().await.unwrap().doc_count, 1);
}

#[tokio::test]
async fn a_client_syncs_over_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let (listener, gateway) = (UnixListener::bind(&path).unwrap(), gateway());
    let serving = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.serve(listener, std::future::pending()).await }
    });
    push(&path, &gateway).await;
    serving.abort();
}

#[tokio::test]
async fn a_client_syncs_over_an_endpoint_that_is_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let (place, gateway) = (Endpoint::unix(&path, 0o600).await.unwrap(), gateway());
    let serving = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.serve_endpoints(vec![place], std::future::pending()).await }
    });
    push(&path, &gateway).await;
    serving.abort();
}
