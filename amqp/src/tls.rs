//! TLS: the authorities that are trusted, and a certificate of one's own.
//!
//! The files are read anew for every connection, so that a certificate that was renewed on disk is used from the next one on,
//! without a restart.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// The files that TLS needs beside the system's certificates, all in PEM.
///
/// Exhaustive: it is written with `..TlsFiles::default()`, so a field more breaks nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::Args), command(next_help_heading = "Broker"))]
pub struct TlsFiles {
    /// Certificates (PEM) of the authorities to trust with `amqps://`, instead of the system's. Read anew for each connection.
    #[cfg_attr(
        feature = "clap",
        arg(id = "amqp_ca_file", long = "amqp-ca-file", env = "STREAMBOX_AMQP_CA_FILE", value_name = "FILE")
    )]
    pub authorities: Option<PathBuf>,

    // Those that link it to its authority stand behind it.
    /// The client certificate (PEM) for `amqps://`. To log in by it, add `?auth_mechanism=external` to the URL.
    #[cfg_attr(
        feature = "clap",
        arg(
            id = "amqp_cert_file",
            long = "amqp-cert-file",
            env = "STREAMBOX_AMQP_CERT_FILE",
            value_name = "FILE",
            requires = "amqp_key_file"
        )
    )]
    pub certificate: Option<PathBuf>,

    /// The key (PEM, not encrypted) of the client certificate.
    #[cfg_attr(
        feature = "clap",
        arg(
            id = "amqp_key_file",
            long = "amqp-key-file",
            env = "STREAMBOX_AMQP_KEY_FILE",
            value_name = "FILE",
            requires = "amqp_cert_file"
        )
    )]
    pub key: Option<PathBuf>,
}

/// A file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It can't be read.
    #[error("the {what} {path:?} can't be read")]
    Unreadable {
        /// What should be in it.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not PEM, or contains nothing of the kind.
    #[error("the {what} {path:?} can't be used: {why}")]
    Unusable {
        /// What should be in it.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why not, and what is allowed.
        why: String,
    },
    /// One was named without the other.
    #[error("a client certificate needs both: --amqp-cert-file and --amqp-key-file")]
    Half,
    /// The system has no trusted certificates.
    #[error(
        "the system has no certificates of authorities to trust: install its package ca-certificates, or use --amqp-ca-file"
    )]
    NobodyTrusted,
    /// TLS itself refuses to be configured.
    #[error("TLS can't be configured")]
    Unconfigurable(#[source] rustls::Error),
}

const AUTHORITIES: &str = "file of certificate authorities";
const CERTIFICATE: &str = "client certificate";
const KEY: &str = "client key";

impl TlsFiles {
    /// Whether any file is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] says which file can't be used, and why.
    pub fn read(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unconfigurable)?
            .with_root_certificates(self.roots()?);
        let config = match (&self.certificate, &self.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let chain = certificates(CERTIFICATE, certificate)?;
                let identity = builder.with_client_auth_cert(chain, private_key(key)?);
                identity
                    .map_err(|why| unusable(CERTIFICATE, certificate, format!("with key {}: {why}", key.display())))?
            }
            _ => return Err(TlsError::Half),
        };
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.authorities {
            for certificate in certificates(AUTHORITIES, path)? {
                roots.add(certificate).map_err(|why| unusable(AUTHORITIES, path, why.to_string()))?;
            }
            return Ok(roots);
        }
        // The system's may have some that are unusual: as everywhere, those are left out.
        let (usable, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if usable == 0 { Err(TlsError::NobodyTrusted) } else { Ok(roots) }
    }
}

fn unusable(what: &'static str, path: &Path, why: String) -> TlsError {
    TlsError::Unusable { what, path: path.to_owned(), why }
}

fn contents(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { what, path: path.to_owned(), source })
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents(what, path)?).collect();
    let all = all.map_err(|why| unusable(what, path, why.to_string()))?;
    if all.is_empty() {
        return Err(unusable(what, path, "there is no `BEGIN CERTIFICATE` in it (PEM is expected)".to_owned()));
    }
    Ok(all)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    // The parser's own words for a key that is encrypted, or DER, would be that there is none.
    PrivateKeyDer::from_pem_slice(&contents(KEY, path)?).map_err(|why| match why {
        rustls::pki_types::pem::Error::NoItemsFound => {
            unusable(KEY, path, "there is no unencrypted `BEGIN PRIVATE KEY` in it (PEM is expected)".to_owned())
        }
        why => unusable(KEY, path, why.to_string()),
    })
}
