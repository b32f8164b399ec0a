//! TLS for clients of the local broker: certificate, key and authorities from files, which are read again when they change.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{AlertDescription, CertificateError, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::certificate::common_name;
use super::pem;
use super::stream::Stream;
use super::tls::{TlsError, certificates, roots_of};
use crate::limits::SOCKET_UNSENT_BYTES;
use crate::model::Secret;

/// What a server's TLS is made of. Two equal values may lead to files that have changed in between: [`TlsServer`] finds out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM file of the server's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: TlsKey,
    /// PEM files of the authorities that sign clients' certificates; clients are asked for none when there are none.
    pub client_ca: Vec<PathBuf>,
    /// Whether a client without a certificate is refused, where they are asked for one.
    pub demands_certificate: bool,
}

/// Where a private key in PEM form is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsKey {
    /// In a file.
    File(PathBuf),
    /// Here.
    Text(Secret),
}

/// Whether a file is the one that was read: its place on disk, its length, and when it and what is told of it were changed last.
type Stamp = Option<[i64; 6]>;

impl TlsFiles {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let key = match &self.key {
            TlsKey::File(path) => Some(path),
            TlsKey::Text(_) => None,
        };
        [&self.cert].into_iter().chain(key).chain(&self.client_ca).map(PathBuf::as_path)
    }

    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |path: &Path| {
            let of = std::fs::metadata(path).ok()?;
            // As numbers to compare, nothing else.
            let (inode, length) = (of.ino().cast_signed(), of.len().cast_signed());
            Some([inode, length, of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()])
        };
        self.paths().map(stamp).collect()
    }

    fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Server)?;
        let asks = !self.client_ca.is_empty();
        let builder = if asks {
            let roots = roots_of(self.client_ca.iter().map(PathBuf::as_path))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if self.demands_certificate { verifier } else { verifier.allow_unauthenticated() };
            // Fails without a root alone, and each file has one.
            builder.with_client_cert_verifier(verifier.build().map_err(|_| TlsError::NoRoots)?)
        } else {
            builder.with_no_client_auth()
        };
        let key = match &self.key {
            TlsKey::File(path) => {
                let wrong = |error| TlsError::File { path: path.clone(), error };
                Secret::new(std::fs::read_to_string(path).map_err(wrong)?)
            }
            TlsKey::Text(key) => key.clone(),
        };
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
            .map_err(|error| TlsError::Pem { what: "the private key".into(), error: pem::in_words(&error) })?;
        let mut config = builder.with_single_cert(certificates(&self.cert)?, key).map_err(TlsError::Server)?;
        if asks {
            // A session that is taken up again would bring its certificate along, unlooked at: expired by now, or of an authority that is gone.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Arc::new(config))
    }
}

/// TLS set up for clients: TLS 1.2 and 1.3, ring.
pub struct TlsServer {
    files: TlsFiles,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    /// Of the files that `config` was made of.
    stamps: Vec<Stamp>,
    /// Whether what is there by now cannot be used, and that was told.
    is_old: bool,
}

/// What a client has shown of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// No certificate.
    Nothing,
    /// One that is in order, and the common name in it: `None` where that names nobody (see [`common_name`]).
    Certificate(Option<String>),
}

/// Of what it holds a key is part: only where that came from is shown.
impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").field("files", &self.files).finish_non_exhaustive()
    }
}

impl TlsServer {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it.
    pub fn new(files: TlsFiles) -> Result<Self, TlsError> {
        // Looked at first: what changes while it is read is read again.
        let stamps = files.stamps();
        let config = files.load()?;
        Ok(Self { files, loaded: Mutex::new(Loaded { config, stamps, is_old: false }) })
    }

    /// What it is made of.
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    fn lock(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The setup by the files as they are now. Those of before stay in use while one of them cannot be, such as a key whose certificate is
    /// still to come. Blocks for as long as the disk does.
    fn current(&self) -> Arc<ServerConfig> {
        let mut loaded = self.lock();
        let stamps = self.files.stamps();
        if stamps != loaded.stamps {
            match self.files.load() {
                Ok(config) => {
                    tracing::info!(cert = %self.files.cert.display(), "certificate for clients read again");
                    *loaded = Loaded { config, stamps, is_old: false };
                }
                Err(error) => {
                    if !loaded.is_old {
                        tracing::warn!(%error, "certificate for clients has changed and cannot be used, the one of before stays in use");
                    }
                    loaded.is_old = true;
                }
            }
        }
        loaded.config.clone()
    }

    /// Shakes hands. There is no time limit in here.
    ///
    /// # Errors
    /// What the stream, or TLS, says: [`refusal`] puts it in words.
    pub async fn accept(self: Arc<Self>, tcp: TcpStream) -> io::Result<(Stream, Shown)> {
        let config = tokio::task::spawn_blocking(move || self.current()).await.map_err(io::Error::other)?;
        let mut stream = TlsAcceptor::from(config).accept(tcp).await?;
        let session = stream.get_mut().1;
        session.set_buffer_limit(Some(SOCKET_UNSENT_BYTES as usize));
        let own = session.peer_certificates().and_then(|chain| chain.first());
        let shown = own.map_or(Shown::Nothing, |own| Shown::Certificate(common_name(own)));
        Ok((Stream::Tls(Box::new(stream.into())), shown))
    }
}

/// Why a client's handshake failed, in words; `None` where it was not for TLS but for the connection.
pub fn refusal(error: &io::Error) -> Option<String> {
    use CertificateError as C;
    let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match tls {
        rustls::Error::NoCertificatesPresented => "it has no certificate".into(),
        rustls::Error::InvalidCertificate(reason) => match reason {
            C::Expired | C::ExpiredContext { .. } => "its certificate has expired".into(),
            C::NotValidYet | C::NotValidYetContext { .. } => {
                "its certificate is not valid yet (is this board's clock set?)".into()
            }
            C::UnknownIssuer => "its certificate is from an authority that is not in `client_ca`".into(),
            other => format!("its certificate is not accepted: {other}"),
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
                "it does not trust the broker's certificate".into()
            }
            AlertDescription::CertificateExpired => "to it the broker's certificate has expired".into(),
            other => format!("it refused: {other:?}"),
        },
        rustls::Error::InvalidMessage(_) => "what it speaks is no TLS".into(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    struct Pair {
        dir: tempfile::TempDir,
    }

    impl Pair {
        fn new() -> Self {
            let pair = Self { dir: tempfile::tempdir().unwrap() };
            let (cert, key) = Self::made();
            pair.write("cert.pem", &cert);
            pair.write("key.pem", &key);
            pair
        }

        fn made() -> (String, String) {
            let key = KeyPair::generate().unwrap();
            let cert = CertificateParams::new(["box".to_owned()]).unwrap().self_signed(&key).unwrap();
            (cert.pem(), key.serialize_pem())
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.dir.path().join(name), text).unwrap();
        }

        fn files(&self) -> TlsFiles {
            let path = |name| self.dir.path().join(name);
            TlsFiles {
                cert: path("cert.pem"),
                key: TlsKey::File(path("key.pem")),
                client_ca: Vec::new(),
                demands_certificate: true,
            }
        }
    }

    #[test]
    fn files_that_change_are_read_again_once_they_fit_each_other() {
        let pair = Pair::new();
        let server = TlsServer::new(pair.files()).unwrap();
        let before = server.current();
        assert!(Arc::ptr_eq(&before, &server.current()), "nothing has changed");
        let (cert, key) = Pair::made();
        pair.write("cert.pem", &cert);
        assert!(Arc::ptr_eq(&before, &server.current()), "the key of another certificate");
        pair.write("key.pem", &key);
        let after = server.current();
        assert!(!Arc::ptr_eq(&before, &after));
        std::fs::remove_file(pair.dir.path().join("cert.pem")).unwrap();
        assert!(Arc::ptr_eq(&after, &server.current()), "a file that is gone changes nothing");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_and_no_key_is_shown() {
        let pair = Pair::new();
        let (_, key) = Pair::made();
        pair.write("key.pem", &key);
        let error = TlsServer::new(pair.files()).unwrap_err();
        assert!(matches!(error, TlsError::Server(_)), "{error}");
        let text = TlsFiles { key: TlsKey::Text(Secret::new(key.clone())), ..pair.files() };
        let told = format!("{text:?} {error}");
        assert!(!told.contains(key.lines().nth(1).unwrap()), "{told}");
        let gone = TlsFiles { client_ca: vec!["/nowhere/ca.pem".into()], ..pair.files() };
        let error = TlsServer::new(gone).unwrap_err().to_string();
        assert!(error.starts_with("read `/nowhere/ca.pem`: "), "{error}");
    }
}
