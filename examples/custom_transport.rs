//! A transport of one's own: the client starts the gateway as another process, and talks to it over
//! that process's standard input and output.

use std::io;
use std::net::SocketAddr;
use std::process::Stdio;

use async_trait::async_trait;
use serde_json::json;
use settee::server::Activity;
use settee::transport::{ByteStream, Connector, Listener};
use settee::{AccessRequest, Client, DbName, Denied, Document, Gateway, Grant, Store, SyncOptions};
use tokio::io::{Join, Stdin, Stdout, join, stdin, stdout};
use tokio::process::Command;

type Failure = Box<dyn std::error::Error>;

/// Takes one connection, which is there already.
struct OwnStdio(Option<Join<Stdin, Stdout>>);

impl Listener for OwnStdio {
    type Stream = Join<Stdin, Stdout>;

    async fn accept(&mut self) -> io::Result<(Self::Stream, Option<SocketAddr>)> {
        match self.0.take() {
            Some(stream) => Ok((stream, None)),
            None => std::future::pending().await,
        }
    }
}

/// Starts a process for each connection.
#[derive(Debug)]
struct StartsGateway;

#[async_trait]
impl Connector for StartsGateway {
    async fn connect(&self, _host: &str, _port: u16) -> io::Result<Box<dyn ByteStream>> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child =
            command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (output, input) = child.stdout.take().zip(child.stdin.take()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::BrokenPipe, "the process has no input and output")
        })?;
        // It ends by itself when its input does.
        tokio::spawn(async move { child.wait().await });
        Ok(Box::new(join(output, input)))
    }
}

/// What the other process does: it serves until its only connection has ended.
async fn serve() -> Result<(), Failure> {
    let gateway = Gateway::builder(Store::memory())
        .authorizer(|request: AccessRequest| async {
            Ok::<_, Denied>(Grant::database(request.database).creating())
        })
        .build()?;
    let mut watch = gateway.watch();
    let ended = async {
        while !matches!(watch.next().await, Some(Ok(Activity::Disconnected(_))) | None) {}
    };
    gateway.serve(OwnStdio(Some(join(stdin(), stdout()))), ended).await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return serve().await;
    }
    let todos = Store::memory().create(&DbName::parse("todos")?).await?;
    todos.put(Document::new("milk", &json!({"done": false}))?).await?;
    let client = Client::builder("ws://child").connector(StartsGateway).connect()?;
    let summary = client.sync(&todos, SyncOptions::one_shot("todos").create()).finished().await?;
    println!("pushed {} to another process", summary.push.map_or(0, |push| push.docs_written));
    client.close().await;
    Ok(())
}
