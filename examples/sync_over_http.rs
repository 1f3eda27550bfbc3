//! A database in memory and one behind CouchDB's HTTP API, here a gateway's: any CouchDB will do.

use serde_json::json;
use settee::http_peer::{HttpOptions, Remote, sync};
use settee::{AccessRequest, DbName, Denied, Document, Gateway, Grant, Store};
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error>;

/// Lets anna in.
async fn authorize(request: AccessRequest) -> Result<Grant, Denied> {
    match request.credentials["password"].as_str() {
        Some("secret") => Ok(Grant::database(request.database).creating().user("anna")),
        _ => Err(Denied::new("log in first")),
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let gateway = Gateway::builder(Store::memory()).authorizer(authorize).build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(async move {
        gateway.serve(listener, std::future::pending()).await;
    });

    let notes = Store::memory().create(&DbName::parse("notes")?).await?;
    for n in 0..1_000 {
        notes.put(Document::new(&format!("note-{n}"), &json!({"n": n}))?).await?;
    }
    // Printing it shows neither name nor password.
    let remote: Remote = format!("http://anna:secret@{address}/notes").parse()?;
    let options = HttpOptions { create: true, ..HttpOptions::default() };
    let summary = sync(&notes, remote.clone(), options.clone()).finished().await?;
    println!("pushed {:?}", summary.push.map(|way| way.docs_written));

    // Another device begins with nothing.
    let other = Store::memory().create(&DbName::parse("notes")?).await?;
    let summary = sync(&other, remote, options.clone()).finished().await?;
    println!("pulled {:?}", summary.pull.map(|way| way.docs_written));

    let stranger: Remote = format!("http://{address}/notes").parse()?;
    let refused = sync(&other, stranger, options).finished().await;
    println!("a stranger: {}", refused.expect_err("strangers are refused").source);
    serving.abort();
    Ok(())
}
