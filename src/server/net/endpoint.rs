//! Where a gateway listens: a TCP port or a Unix socket, and what comes before a request there.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::transport::{ByteStream, Listener};

use super::tls::TlsIdentity;

/// One place where a gateway takes connections; see [`Gateway::serve_endpoints`].
///
/// [`Gateway::serve_endpoints`]: crate::server::Gateway::serve_endpoints
#[derive(Debug)]
pub struct Endpoint {
    place: Place,
    door: Door,
}

#[derive(Debug)]
enum Place {
    Tcp(TcpListener),
    Unix(UnixPlace),
}

/// What comes before a request.
#[derive(Debug, Clone, Default)]
pub(in crate::server) struct Door {
    pub proxy_header: bool,
    pub tls: Option<TlsIdentity>,
}

impl Door {
    /// Whether nothing comes before a request.
    pub(in crate::server) fn is_plain(&self) -> bool {
        !self.proxy_header && self.tls.is_none()
    }
}

/// A connection that has come in and has not been looked at.
pub(in crate::server) struct Arrived {
    pub stream: Box<dyn ByteStream>,
    pub peer: Option<SocketAddr>,
    pub door: Door,
}

impl Endpoint {
    /// A TCP listener, for IPv4 or IPv6.
    #[must_use]
    pub fn tcp(listener: TcpListener) -> Self {
        Self { place: Place::Tcp(listener), door: Door::default() }
    }

    /// A Unix socket at a path, which only those may open whom `mode` lets write to it. A socket
    /// that a process left there when it ended takes its name away; the name goes again with this
    /// value. Connections over it have no address, and so no limits by address.
    ///
    /// # Errors
    /// `AddrInUse` if somebody answers at that path, `AlreadyExists` if it is no socket, and the
    /// system's.
    pub async fn unix(path: impl Into<PathBuf>, mode: u32) -> io::Result<Self> {
        let place = UnixPlace::bind(path.into(), mode).await?;
        Ok(Self { place: Place::Unix(place), door: Door::default() })
    }

    /// The same over TLS.
    #[must_use]
    pub fn tls(mut self, identity: TlsIdentity) -> Self {
        self.door.tls = Some(identity);
        self
    }

    /// The same with every connection beginning with a header of the PROXY protocol, version 1 or
    /// 2, before TLS. One without it is cut, and so is one from a peer that is not among
    /// [`GatewayBuilder::trusted_proxies`].
    ///
    /// [`GatewayBuilder::trusted_proxies`]: crate::server::GatewayBuilder::trusted_proxies
    #[must_use]
    pub fn proxy_header(mut self) -> Self {
        self.door.proxy_header = true;
        self
    }

    pub(in crate::server) async fn accept(&mut self) -> io::Result<Arrived> {
        let door = self.door.clone();
        match &mut self.place {
            Place::Tcp(listener) => {
                let (stream, peer) = Listener::accept(listener).await?;
                Ok(Arrived { stream: Box::new(stream), peer, door })
            }
            Place::Unix(place) => {
                let (stream, _) = place.listener.accept().await?;
                Ok(Arrived { stream: Box::new(stream), peer: None, door })
            }
        }
    }
}

/// Its URL: what `curl` and clients take, and for a Unix socket `unix:PATH`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.door.tls.is_some() { "https" } else { "http" };
        match &self.place {
            Place::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{scheme}://{address}"),
                Err(error) => write!(f, "{scheme}://({error})"),
            },
            Place::Unix(place) if self.door.tls.is_some() => {
                write!(f, "unix:{} (TLS)", place.path.display())
            }
            Place::Unix(place) => write!(f, "unix:{}", place.path.display()),
        }
    }
}

/// A Unix socket with its name.
#[derive(Debug)]
struct UnixPlace {
    listener: UnixListener,
    path: PathBuf,
    /// Which file it made: another process may have put its own in the place meanwhile.
    file: (u64, u64),
}

impl UnixPlace {
    async fn bind(path: PathBuf, mode: u32) -> io::Result<Self> {
        remove_stale(&path).await?;
        // Under another name until its mode is set: what listens is never open to more than it says.
        let unready = with_suffix(&path, ".starting");
        remove_stale(&unready).await?;
        let listener = UnixListener::bind(&unready)?;
        let named = std::fs::set_permissions(&unready, PermissionsExt::from_mode(mode))
            .and_then(|()| std::fs::rename(&unready, &path))
            .and_then(|()| file_of(&path));
        match named {
            Ok(file) => Ok(Self { listener, path, file }),
            Err(error) => {
                // Without its name it is of no use to anybody.
                let _ = std::fs::remove_file(&unready);
                Err(error)
            }
        }
    }
}

impl Drop for UnixPlace {
    fn drop(&mut self) {
        if file_of(&self.path).is_ok_and(|file| file == self.file) {
            // A name that stays is taken away by whoever listens there next.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn file_of(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Takes away the name of a socket at which nobody answers.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.file_type().is_socket() {
        let what = "there is something else of this name";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}
