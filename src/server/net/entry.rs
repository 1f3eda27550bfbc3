//! What a connection does before its first request: it says whom it speaks for, and begins TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use crate::transport::ByteStream;

use super::endpoint::Arrived;
use super::forwarded::Scheme;
use super::proxy_header;

/// A connection that may send requests.
pub(in crate::server) struct Entered {
    pub stream: Box<dyn ByteStream>,
    /// The peer, or whom a PROXY header named.
    pub peer: Option<SocketAddr>,
    /// How the peer reached this gateway, where that is certain.
    pub scheme: Option<Scheme>,
}

/// Takes what comes before a request; each step may take so long.
pub(in crate::server) async fn enter(arrived: Arrived, patience: Duration) -> io::Result<Entered> {
    let Arrived { mut stream, mut peer, door } = arrived;
    if door.proxy_header {
        let named = timeout(patience, proxy_header::read(&mut stream)).await??;
        peer = named.or(peer);
    }
    match door.tls {
        None => Ok(Entered { stream, peer, scheme: None }),
        Some(identity) => {
            let stream = timeout(patience, identity.acceptor().accept(stream)).await??;
            Ok(Entered { stream: Box::new(stream), peer, scheme: Some(Scheme::Https) })
        }
    }
}
