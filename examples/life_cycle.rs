//! Rooms in memory that are brought back from an archive when somebody comes, and saved when the last
//! one has left.

use async_trait::async_trait;
use serde_json::json;
use settee::replicate::{ReplicationOptions, replicate};
use settee::server::{Activity, Closing, LifeCycle};
use settee::transport::memory;
use settee::{AccessRequest, Client, Database, DbName, Denied, Document, Gateway, Grant, Store};
use settee::{Limits, SyncOptions};

type Failure = Box<dyn std::error::Error>;

/// The databases on disk that rooms are kept in while nobody is there.
struct Archive(Store);

impl Archive {
    async fn merge(&self, room: &Database) -> Result<(), Denied> {
        let failed = |error: &dyn std::error::Error| Denied::unavailable(error.to_string());
        let kept = self.0.open_or_create(room.name()).await.map_err(|error| failed(&error))?;
        // The room is another database each time: nothing could resume from a checkpoint.
        let options = ReplicationOptions { checkpoints: false, ..Default::default() };
        replicate(&kept, room, options).finished().await.map_err(|error| failed(&error))?;
        Ok(())
    }
}

#[async_trait]
impl LifeCycle for Archive {
    async fn opened(&self, room: Database) -> Result<(), Denied> {
        self.merge(&room).await
    }

    async fn closing(&self, closing: Closing) -> Result<(), Denied> {
        self.merge(&closing.database).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let gateway = Gateway::builder(Store::memory())
        .authorizer(|request: AccessRequest| async {
            Ok::<_, Denied>(Grant::database(request.database).ephemeral())
        })
        .life_cycle(Archive(Store::memory()))
        .on_ignored_error(|error| eprintln!("{error}"))
        .limits(Limits { database_linger_ms: 100, ..Limits::default() })
        .build()?;
    let mut watch = gateway.watch();
    let (listener, connector) = memory();
    let serving =
        tokio::spawn(async move { gateway.serve(listener, std::future::pending()).await });

    for visitor in ["anna", "bert"] {
        let notes = Store::memory().create(&DbName::parse("notes")?).await?;
        notes.put(Document::new(visitor, &json!({"was": "here"}))?).await?;
        let client = Client::builder("ws://gateway").connector(connector.clone()).connect()?;
        client.sync(&notes, SyncOptions::one_shot("room-1")).finished().await?;
        println!("{visitor} has {} notes", notes.info().await?.doc_count);
        client.close().await;
        while let Some(Ok(activity)) = watch.next().await {
            match &activity {
                Activity::DatabaseOpened { database, .. } => println!("{database} is there"),
                Activity::ClientJoined { client, .. } => println!("{} came", client.protocol),
                Activity::ClientLeft { .. } => println!("and left"),
                Activity::DatabaseClosed { database, .. } => println!("{database} is gone"),
                _ => {}
            }
            if matches!(activity, Activity::DatabaseClosed { .. }) {
                break;
            }
        }
    }
    serving.abort();
    Ok(())
}
