//! Documents are held to a JSON Schema and to fields that may not change; what is refused stays
//! with the client as denied, and everything else is synced.

use serde_json::json;
use settee::transport::memory;
use settee::validate::Rule;
use settee::{AccessRequest, Client, DbName, Denied, Document, Gateway, Grant, Store, SyncOptions};

type Failure = Box<dyn std::error::Error>;

async fn everybody(request: AccessRequest) -> Result<Grant, Denied> {
    Ok(Grant::database(request.database).creating())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let schema = json!({
        "type": "object",
        "required": ["title", "owner"],
        "properties": {
            "title": {"type": "string", "maxLength": 100},
            "done": {"type": "boolean"},
        },
    });
    let todos = Rule::new("todos*".parse()?).schema(&schema)?.immutable(["owner"])?;
    let gateway =
        Gateway::builder(Store::memory()).authorizer(everybody).validator(todos).build()?;
    let (listener, connector) = memory();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        gateway.serve(listener, async move { drop(stopped.await) }).await;
    });

    let phone = Store::memory().create(&DbName::parse("todos")?).await?;
    let milk = phone.put(document("milk", json!({"title": "Buy milk", "owner": "anna"}))?).await?;
    phone.put(document("bread", json!({"title": 7, "owner": "anna"}))?).await?;
    let client = Client::builder("ws://gateway").connector(connector).connect()?;
    let denied = async || -> Result<(), Failure> {
        let mut sync = client.sync(&phone, SyncOptions::live("todos").create());
        sync.up_to_date().await?;
        for denied in sync.denied() {
            println!("{}: {}", denied.id, denied.error.reason);
        }
        sync.cancel().await;
        Ok(())
    };
    denied().await?;
    let stolen = document("milk", json!({"title": "Buy milk", "owner": "ben"}))?;
    phone.put(stolen.with_rev(milk.rev)).await?;
    denied().await?;
    client.close().await;
    drop(stop);
    serving.await?;
    Ok(())
}

fn document(id: &str, body: serde_json::Value) -> Result<Document, settee::ParseError> {
    Document::new(id, &body)
}
