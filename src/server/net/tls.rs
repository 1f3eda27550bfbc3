//! A certificate and its key, which can be read again while connections are served.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error as RustlsError, ServerConfig};

/// What a listener for TLS shows: a chain of certificates and the key of the first.
///
/// A cheap handle: clones share the certificate, and with it every [`reload`](Self::reload).
/// TLS 1.2 and 1.3 are spoken, and ALPN offers `http/1.1`.
#[derive(Clone)]
pub struct TlsIdentity {
    shared: Arc<Shared>,
    acceptor: TlsAcceptor,
}

struct Shared {
    cert: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: RwLock<Current>,
}

struct Current {
    /// The two files as they were read.
    pem: Pem,
    key: Arc<CertifiedKey>,
}

#[derive(PartialEq, Eq)]
struct Pem {
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// Why a certificate cannot be used; names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file does not hold what it should, in PEM.
    #[error("{} holds no {what} in PEM: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What was found.
        source: pem::Error,
    },
    /// A key that cannot be used with its certificate.
    #[error("{} cannot be used as the key of {}: {source}", key.display(), cert.display())]
    Key {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
        /// Why not.
        source: RustlsError,
    },
}

impl TlsIdentity {
    /// Reads a chain of certificates, the server's own first, and its key, both in PEM.
    ///
    /// # Errors
    /// [`TlsError`] names the file that cannot be used.
    pub fn read(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let (cert, key) = (cert.into(), key.into());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pem = Pem::read(&cert, &key)?;
        let certified = Arc::new(certified(&pem, &cert, &key, &provider)?);
        let current = RwLock::new(Current { pem, key: certified });
        let shared = Arc::new(Shared { cert, key, provider, current });
        let config = ServerConfig::builder_with_provider(Arc::clone(&shared.provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for TLS 1.2 and 1.3");
        let resolver = Arc::new(Resolver(Arc::clone(&shared)));
        let mut config = config.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { shared, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Reads the files again. Handshakes from then on show what they hold; connections that are
    /// there go on. True if they had changed.
    ///
    /// # Errors
    /// [`TlsError`]; the certificate that was shown before is kept, so that a file that is half
    /// written or does not fit the other does no harm.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Shared { cert, key, provider, current } = &*self.shared;
        let pem = Pem::read(cert, key)?;
        if current.read().unwrap_or_else(PoisonError::into_inner).pem == pem {
            return Ok(false);
        }
        let certified = Arc::new(certified(&pem, cert, key, provider)?);
        *current.write().unwrap_or_else(PoisonError::into_inner) = Current { pem, key: certified };
        Ok(true)
    }

    /// Looks at the files every `interval` and reads them again when they have changed. Never
    /// returns; what goes wrong is logged, once for each state of the files.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the certificate that was read last.
    pub async fn keep_reloaded(&self, interval: Duration) {
        let mut complained = None;
        loop {
            tokio::time::sleep(interval).await;
            let identity = self.clone();
            // Reading a file may wait for a disk, or for a file system that is far away.
            let reloaded = tokio::task::spawn_blocking(move || identity.reload()).await;
            let Ok(reloaded) = reloaded else { continue };
            match reloaded {
                Ok(changed) => {
                    complained = None;
                    if changed {
                        tracing::info!(cert = %self.shared.cert.display(), "certificate reloaded");
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if complained.as_ref() != Some(&error) {
                        tracing::warn!(%error, "the certificate is kept as it was");
                    }
                    complained = Some(error);
                }
            }
        }
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").field("cert", &self.shared.cert).finish_non_exhaustive()
    }
}

impl Pem {
    fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
        };
        Ok(Self { cert: read(cert)?, key: read(key)? })
    }
}

fn certified(
    pem: &Pem,
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let unreadable =
        |path: &Path, what, source| TlsError::Pem { path: path.to_owned(), what, source };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.cert).collect();
    let chain = match chain {
        Ok(chain) if chain.is_empty() => Err(pem::Error::NoItemsFound),
        chain => chain,
    };
    let chain = chain.map_err(|source| unreadable(cert, "certificate", source))?;
    let private = PrivateKeyDer::from_pem_slice(&pem.key)
        .map_err(|source| unreadable(key, "private key", source))?;
    CertifiedKey::from_der(chain, private, provider).map_err(|source| TlsError::Key {
        key: key.to_owned(),
        cert: cert.to_owned(),
        source,
    })
}

struct Resolver(Arc<Shared>);

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver(…)")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current.key))
    }
}
