//! A gateway in the place of a `pouch-websocket-sync` server: its credential callback, and a word for
//! each document that is refused. Clients of 2015 and of today sync with it.

use settee::server::ProposedWrite;
use settee::{AccessRequest, Denied, Gateway, Grant, Store};
use tokio::net::TcpListener;

/// `onRequest(credentials, database, callback)` of the original.
async fn on_request(request: AccessRequest) -> Result<Grant, Denied> {
    let grant = Grant::database(request.database).creating();
    match request.credentials["token"].as_str() {
        Some("some token") => Ok(grant.validator(no_spam)),
        Some("guest") => Ok(grant.read_only()),
        _ => Err(Denied::new("not allowed: log in at the front desk")),
    }
}

fn no_spam(write: &ProposedWrite<'_>) -> Result<(), Denied> {
    if write.document.body.as_str().contains("spam") {
        return Err(Denied::forbidden("this looks like spam"));
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let gateway = Gateway::builder(Store::memory()).authorizer(on_request).build()?;
    println!("listening on http://{}", listener.local_addr()?);
    // Until the standard input is closed, so that whoever starts it can also stop it.
    let closed =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    gateway.serve(listener, async { drop(closed.await) }).await;
    Ok(())
}
