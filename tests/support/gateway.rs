//! A gateway and its clients within one process, joined by memory instead of sockets.
#![allow(dead_code, reason = "each test target uses a part of this module")]

use serde_json::json;
use settee::server::{AccessRequest, Denied, Gateway, GatewayBuilder, Grant};
use settee::transport::{MemoryConnector, memory};
use settee::{Client, Store, SyncOptions};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A gateway that serves until it is stopped or dropped.
pub struct TestGateway {
    pub gateway: Gateway,
    pub connector: MemoryConnector,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl TestGateway {
    /// Serves a store to whoever shows the token `secret`; databases are made when asked for.
    pub fn new(store: Store) -> Self {
        Self::with(token_gateway(store))
    }

    pub fn with(builder: GatewayBuilder) -> Self {
        let gateway = builder.build().expect("the settings work");
        let (listener, connector) = memory();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn({
            let gateway = gateway.clone();
            async move {
                gateway
                    .serve(listener, async move {
                        let _ = stopped.await;
                    })
                    .await;
            }
        });
        Self { gateway, connector, stop: Some(stop), served }
    }

    /// A client of this gateway.
    pub fn client(&self) -> Client {
        Client::builder("ws://gateway")
            .connector(self.connector.clone())
            .connect()
            .expect("a good address")
    }

    /// Stops gracefully and waits for the last connection.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        (&mut self.served).await.expect("serving does not panic");
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        self.served.abort();
    }
}

pub fn token_gateway(store: Store) -> GatewayBuilder {
    Gateway::builder(store).authorizer(|request: AccessRequest| async move {
        match request.credentials["token"].as_str() {
            Some("secret") => Ok(Grant::database(request.database).creating().destroying()),
            _ => Err(Denied::new("not allowed")),
        }
    })
}

/// Options with the token that [`TestGateway::new`] wants.
pub fn live(remote: &str) -> SyncOptions {
    SyncOptions::live(remote).credentials(json!({"token": "secret"})).create()
}

/// The same for a sync that ends.
pub fn one_shot(remote: &str) -> SyncOptions {
    SyncOptions::one_shot(remote).credentials(json!({"token": "secret"})).create()
}
