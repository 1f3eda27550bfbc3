//! TLS for `wss://`: the system's certificate authorities, and one's own beside them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::transport::ByteStream;

use super::ClientError;

/// Makes a stream one of TLS.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    pub(super) fn new(host: &str, ca_file: Option<&Path>) -> Result<Self, ClientError> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| ClientError::TlsName { host: crate::doc::printable(host) })?;
        let roots = roots(ca_file)?;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for TLS 1.2 and 1.3");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    pub(super) async fn begin(
        &self,
        stream: Box<dyn ByteStream>,
    ) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(self.connector.connect(self.name.clone(), stream).await?))
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in native.errors {
        tracing::debug!(%error, "some of the system's certificate authorities cannot be read");
    }
    // A system's list may hold some that rustls does not take; the others count.
    let _ = roots.add_parsable_certificates(native.certs);
    if let Some(path) = ca_file {
        let unusable = |reason: String| ClientError::CaFile { path: path.to_owned(), reason };
        let certificates = CertificateDer::pem_file_iter(path);
        let certificates = certificates.map_err(|error| unusable(error.to_string()))?;
        let before = roots.len();
        for certificate in certificates {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(unusable("it holds no certificate in PEM".into()));
        }
    }
    if roots.is_empty() { Err(ClientError::NoAuthorities) } else { Ok(roots) }
}
