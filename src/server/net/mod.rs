//! How connections come in: where a gateway listens, what comes before a request, and whom a proxy
//! speaks for.

mod endpoint;
mod entry;
mod forwarded;
mod patient;
mod proxy_header;
mod tls;

pub use endpoint::Endpoint;
pub use forwarded::ForwardedHeader;
pub use tls::{TlsError, TlsIdentity};

pub(super) use endpoint::{Arrived, Door};
pub(super) use entry::{Entered, enter};
pub(super) use forwarded::{Proxies, Scheme, Told, UNNAMED};
pub(super) use patient::{Patience, PatientStream};
