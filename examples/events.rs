//! Two people in a room: presence, events from one to the other and from the server to both.

use futures::StreamExt as _;
use serde_json::json;
use settee::client::EventItem;
use settee::proto::event::Targets;
use settee::server::{Denied, ServerGrant, ServerRequest};
use settee::{Client, Gateway, Store};
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error>;

/// Who one is, and what one may: people talk in rooms, and only the server talks to everybody.
async fn authorize(request: ServerRequest) -> Result<ServerGrant, Denied> {
    match request.credentials["token"].as_str() {
        Some("token of anna") => Ok(ServerGrant::known().user("anna")),
        Some("token of bert") => Ok(ServerGrant::known().user("bert")),
        _ => Err(Denied::new("not allowed")),
    }
    .map(|grant| grant.joining("room-*").sending("room-*"))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let gateway = Gateway::builder(Store::memory()).server_authorizer(authorize).build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}", listener.local_addr()?);
    let serving = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.serve(listener, std::future::pending()).await }
    });

    let phone = Client::connect(&url)?;
    let mut anna = phone.events(json!({"token": "token of anna"}));
    anna.join_present("room-1", &json!({"mood": "awake"})).await?;
    let laptop = Client::connect(&url)?;
    let bert = laptop.events(json!({"token": "token of bert"}));
    let members = bert.join_present("room-1", &json!({"mood": "tired"})).await?;
    println!("bert finds {} members", members.len());

    let reached = bert.send(Targets::channel("room-1"), "said", &json!("good night")).await?;
    println!("bert reached {reached} connections");
    if let Err(error) = bert.send(Targets::everybody(), "said", &json!("hello?")).await {
        println!("bert may not: {error}");
    }
    gateway.events().broadcast("notice", &json!("lights out"))?;

    while let Some(item) = anna.next().await {
        match item {
            EventItem::Presence { change, member, .. } => {
                println!("anna sees {change:?} of {}: {}", member.id, member.state);
            }
            EventItem::Event { event, payload, note } => {
                println!("anna gets {event} {payload} from {}", note.from.unwrap_or_default());
                if event == "notice" {
                    break;
                }
            }
            _ => {}
        }
    }
    serving.abort();
    Ok(())
}
