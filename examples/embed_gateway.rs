//! A program's own warp server with the gateway beside its own route, and a client that syncs.

use serde_json::json;
use settee::{AccessRequest, Client, DbName, Denied, Document, Gateway, Grant, Store, SyncOptions};
use tokio::net::TcpListener;
use warp::Filter as _;

type Failure = Box<dyn std::error::Error>;

/// The credential callback: a token, and a database that is made when it is first asked for.
async fn authorize(request: AccessRequest) -> Result<Grant, Denied> {
    match request.credentials["token"].as_str() {
        Some("some token") => Ok(Grant::database(request.database).creating()),
        _ => Err(Denied::new("not allowed")),
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let store = Store::memory();
    let gateway = Gateway::builder(store.clone()).authorizer(authorize).build()?;
    let hello = warp::path!("hello").map(|| "the program's own route");

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let routes = hello.or(gateway.filter());
    let server = warp::serve(routes).incoming(listener).graceful(async {
        // A dropped sender means stop as well.
        let _ = stopped.await;
    });
    let serving = tokio::spawn(server.run());

    let todos = Store::memory().create(&DbName::parse("todos")?).await?;
    todos.put(Document::new("milk", &json!({"done": false}))?).await?;
    let client = Client::connect(&format!("ws://{address}"))?;
    let options =
        SyncOptions::one_shot("todos-server").credentials(json!({"token": "some token"})).create();
    let summary = client.sync(&todos, options).finished().await?;
    println!("pushed: {}", summary.push.map_or(0, |push| push.docs_written));

    let stranger = SyncOptions::one_shot("todos-server").credentials(json!({"token": "guessed"}));
    if let Err(error) = client.sync(&todos, stranger).finished().await {
        println!("a stranger: {error}");
    }
    client.close().await;

    let served = store.database(&DbName::parse("todos-server")?).await?;
    println!("behind the gateway: {} document", served.info().await?.doc_count);
    drop(stop);
    serving.await?;
    Ok(())
}
