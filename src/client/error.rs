//! Why a client could not be made.

/// A client that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is not one.
    #[error("{url:?} is not an address of a gateway; use ws://HOST:PORT")]
    Url {
        /// The address.
        url: String,
    },
    /// The address asks for TLS.
    #[error(
        "{url:?} asks for TLS, which this client does not speak; use ws:// to a proxy that does"
    )]
    Tls {
        /// The address.
        url: String,
    },
}
