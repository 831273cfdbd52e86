//! Certificates made for a test, and TLS before a broker.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// An authority, with a directory for its files.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: PathBuf,
    directory: TempDir,
}

/// The files (PEM) of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// An authority of its own name.
    ///
    /// # Panics
    /// If certificates can't be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("streambox-tls-").tempdir().expect("a directory");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key");
        let signed = params.self_signed(&key).expect("a certificate");
        let certificate = directory.path().join("authority.pem");
        std::fs::write(&certificate, signed.pem()).expect("a file can be written");
        Self { issuer: Issuer::new(params, key), certificate, directory }
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// A certificate for a name, of a host or of a user, that ends with a year.
    ///
    /// # Panics
    /// If certificates can't be made.
    #[must_use]
    pub fn issue(&self, name: &str, until_year: i32) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        let file = |suffix, text: String| {
            let path = self.directory.path().join(format!("{name}-{until_year}.{suffix}"));
            std::fs::write(&path, text).expect("a file can be written");
            path
        };
        Identity { certificate: file("pem", signed.pem()), key: file("key", key.serialize_pem()) }
    }
}

impl Identity {
    fn server(&self) -> Arc<ServerConfig> {
        let chain = CertificateDer::pem_file_iter(&self.certificate).expect("a certificate");
        let chain = chain.collect::<Result<_, _>>().expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the versions are there")
            .with_no_client_auth()
            .with_single_cert(chain, key);
        Arc::new(config.expect("certificate and key belong together"))
    }
}

/// TLS before a broker that speaks none. It ends with the value.
#[derive(Debug)]
pub struct TlsFront {
    port: u16,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    /// How often all connections were cut.
    cuts: watch::Sender<u64>,
    accepting: JoinHandle<()>,
}

impl TlsFront {
    /// Starts one that shows a certificate and forwards to `broker`, `host:port`.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(identity: &Identity, broker: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let config = Arc::new(Mutex::new(identity.server()));
        let cuts = watch::Sender::new(0);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&config), broker.to_owned(), cuts.clone()));
        Self { port, config, cuts, accepting }
    }

    /// Its port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Shows another certificate, and cuts all connections.
    ///
    /// # Panics
    /// If another thread has panicked.
    pub fn change(&self, identity: &Identity) {
        *self.config.lock().expect("nobody has panicked") = identity.server();
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    broker: String,
    cuts: watch::Sender<u64>,
) {
    while let Ok((socket, _)) = listener.accept().await {
        let acceptor = TlsAcceptor::from(Arc::clone(&config.lock().expect("nobody has panicked")));
        let (broker, mut cut) = (broker.clone(), cuts.subscribe());
        tokio::spawn(async move {
            // A client that does not like the certificate goes away.
            let Ok(mut client) = acceptor.accept(socket).await else { return };
            let Ok(mut server) = TcpStream::connect(broker).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => {}
                _ = cut.changed() => {}
            }
        });
    }
}
