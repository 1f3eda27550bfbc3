//! The key `listen`: where the gateway takes connections.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use settee::server::{Endpoint, TlsIdentity};
use tokio::net::{TcpListener, lookup_host};

use crate::failure::Failure;

/// What a Unix socket's path stands after.
const UNIX_PREFIX: &str = "unix:";

/// Whom a Unix socket is open to: its user and group.
const UNIX_MODE_DEFAULT: u32 = 0o660;

/// One place, or several of them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "an address, or a list of addresses and tables")]
pub enum Listen {
    One(Place),
    Several(Vec<Place>),
}

/// An address by itself, or with what comes before a request there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "an address, or a table of address, mode, proxy_protocol and tls = { cert, key }"
)]
pub enum Place {
    Address(String),
    Table(Table),
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// `HOST:PORT` or `unix:PATH`.
    pub address: String,
    #[serde(default)]
    pub tls: Option<Tls>,
    #[serde(default)]
    pub proxy_protocol: bool,
    /// A Unix socket's mode, in octal digits.
    #[serde(default)]
    pub mode: Option<String>,
}

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// A place whose settings have been checked, and whose certificate has been read.
pub struct Checked {
    address: String,
    spot: Spot,
    tls: Option<TlsIdentity>,
    proxy_protocol: bool,
}

enum Spot {
    Tcp(Vec<SocketAddr>),
    Unix { path: PathBuf, mode: u32 },
}

impl Listen {
    /// Of flags: addresses, and one certificate for all of them.
    pub fn of_flags(addresses: Vec<String>, tls: Option<Tls>) -> Self {
        let place = |address| Place::Table(Table { address, tls: tls.clone(), ..Table::default() });
        Self::Several(addresses.into_iter().map(place).collect())
    }

    pub fn tables(self) -> Vec<Table> {
        let places = match self {
            Self::One(place) => vec![place],
            Self::Several(places) => places,
        };
        let table = |place| match place {
            Place::Address(address) => Table { address, ..Table::default() },
            Place::Table(table) => table,
        };
        places.into_iter().map(table).collect()
    }
}

impl Table {
    /// Finds out what can be known without listening.
    pub async fn check(self) -> Result<Checked, Failure> {
        let Self { address, tls, proxy_protocol, mode } = self;
        let spot = match address.strip_prefix(UNIX_PREFIX) {
            Some(path) => Spot::Unix { path: path.into(), mode: unix_mode(mode.as_deref())? },
            None if mode.is_some() => return Err(Failure::ModeOfTcp { listen: address }),
            None => {
                let found = lookup_host(&address).await;
                let found = found.map_err(Failure::listen(&address))?;
                Spot::Tcp(found.collect())
            }
        };
        let tls = tls.map(|Tls { cert, key }| TlsIdentity::read(cert, key)).transpose()?;
        Ok(Checked { address, spot, tls, proxy_protocol })
    }
}

impl Checked {
    /// Whether others than this machine's own programs may reach it.
    pub fn is_reached_by_others(&self) -> bool {
        match &self.spot {
            Spot::Tcp(addresses) => addresses.iter().any(|address| !address.ip().is_loopback()),
            Spot::Unix { .. } => false,
        }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn proxy_protocol(&self) -> bool {
        self.proxy_protocol
    }

    pub fn tls(&self) -> Option<&TlsIdentity> {
        self.tls.as_ref()
    }

    /// Listens.
    pub async fn bind(self) -> Result<Endpoint, Failure> {
        let bound = match self.spot {
            Spot::Tcp(addresses) => TcpListener::bind(&*addresses).await.map(Endpoint::tcp),
            Spot::Unix { path, mode } => Endpoint::unix(path, mode).await,
        };
        let mut endpoint = bound.map_err(Failure::listen(&self.address))?;
        if let Some(identity) = self.tls {
            endpoint = endpoint.tls(identity);
        }
        Ok(if self.proxy_protocol { endpoint.proxy_header() } else { endpoint })
    }
}

fn unix_mode(mode: Option<&str>) -> Result<u32, Failure> {
    let Some(text) = mode else { return Ok(UNIX_MODE_DEFAULT) };
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| Failure::Mode { mode: text.to_owned() })
}
