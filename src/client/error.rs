//! Why a client could not be made.

use std::path::PathBuf;

/// A client that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is not one.
    #[error("{url:?} is not an address of a gateway; use ws://HOST:PORT or wss://HOST:PORT")]
    Url {
        /// The address.
        url: String,
    },
    /// A host that no certificate can name.
    #[error("{host:?} cannot be the name of a certificate")]
    TlsName {
        /// The host.
        host: String,
    },
    /// A file of certificate authorities that cannot be used.
    #[error("{} cannot be used as certificate authorities: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// For TLS, and there are no certificate authorities to check a gateway by.
    #[error("this system has no certificate authorities; name a file of them")]
    NoAuthorities,
}
