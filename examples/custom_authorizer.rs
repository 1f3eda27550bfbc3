//! An authorizer with users: each has a database of their own, all may read `news`, writes are
//! validated, and grants end.

use std::time::Duration;

use serde_json::{Value, json};
use settee::server::ProposedWrite;
use settee::transport::memory;
use settee::{AccessRequest, Client, DbName, Denied, Document, Gateway, Grant, Store, SyncOptions};

type Failure = Box<dyn std::error::Error>;

/// A database of passwords or sessions would be asked here.
async fn authorize(request: AccessRequest) -> Result<Grant, Denied> {
    let user = match request.credentials["session"].as_str() {
        Some("session of anna") => "anna",
        Some("session of ben") => "ben",
        _ => return Err(Denied::new("log in first")),
    };
    // An hour later the client is asked for credentials again.
    let grant = Grant::database(request.database.clone()).user(user);
    let grant = grant.expires_in(Duration::from_secs(3600));
    match request.database.as_str() {
        "news" => Ok(grant.read_only()),
        own if own == format!("user-{user}") => Ok(grant.creating().validator(small_and_typed)),
        _ => Err(Denied::forbidden("this database belongs to somebody else")),
    }
}

fn small_and_typed(write: &ProposedWrite<'_>) -> Result<(), Denied> {
    let body: Value = write.document.to().map_err(|error| Denied::forbidden(error.to_string()))?;
    match body["type"].as_str() {
        _ if write.document.deleted => Ok(()),
        Some("note" | "todo") => Ok(()),
        _ => Err(Denied::forbidden("a document must be a note or a todo")),
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let server = Store::memory();
    let news = server.create(&DbName::parse("news")?).await?;
    news.put(Document::new("today", &json!({"text": "it rains"}))?).await?;
    let gateway = Gateway::builder(server).authorizer(authorize).build()?;
    let (listener, connector) = memory();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        gateway.serve(listener, async move { drop(stopped.await) }).await;
    });

    let own = Store::memory().create(&DbName::parse("own")?).await?;
    own.put(Document::new("a", &json!({"type": "note"}))?).await?;
    own.put(Document::new("b", &json!({"type": "virus"}))?).await?;
    let client = Client::builder("ws://gateway").connector(connector).connect()?;
    for database in ["user-anna", "news", "user-ben"] {
        // Asked whenever credentials are needed; a real program renews its session here.
        let options = SyncOptions::one_shot(database)
            .credentials_from(|| async { json!({"session": "session of anna"}) })
            .create();
        let options = if database == "news" { options.pull_only() } else { options };
        match client.sync(&own, options).finished().await {
            Ok(summary) => {
                println!("{database}: push {:?}, pull {:?}", summary.push, summary.pull);
            }
            Err(error) => println!("{database}: {error}"),
        }
    }
    client.close().await;
    drop(stop);
    serving.await?;
    Ok(())
}
