//! TLS for clients of the local broker: certificate, key and authorities from files, which are read again when they change.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CertificateError, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::Mutex as AsyncMutex;
use tokio_rustls::TlsAcceptor;

use super::certificate::common_name;
use super::pem;
use super::stream::Stream;
use super::tls::{TlsError, certificates, read_small, roots_of};
use crate::limits::{SOCKET_UNSENT_BYTES, TLS_FILES_AGAIN};
use crate::model::{Moment, Secret};

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
    /// The files of certificate and key.
    fn pair_paths(&self) -> impl Iterator<Item = &PathBuf> {
        let key = match &self.key {
            TlsKey::File(path) => Some(path),
            TlsKey::Text(_) => None,
        };
        [&self.cert].into_iter().chain(key)
    }

    fn load_pair(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let key = match &self.key {
            TlsKey::File(path) => {
                let wrong = |_| TlsError::File { path: path.clone(), error: io::Error::other("it is no text") };
                Secret::new(String::from_utf8(read_small(path)?).map_err(wrong)?)
            }
            TlsKey::Text(key) => key.clone(),
        };
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
            .map_err(|error| TlsError::Pem { what: "the private key".into(), error: pem::in_words(&error) })?;
        let pair = CertifiedKey::from_der(certificates(&self.cert)?, key, &provider()).map_err(TlsError::Server)?;
        Ok(Arc::new(pair))
    }

    /// `None` where clients are asked for no certificate.
    fn load_authorities(&self) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        if self.client_ca.is_empty() {
            return Ok(None);
        }
        let roots = roots_of(self.client_ca.iter().map(PathBuf::as_path))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = if self.demands_certificate { verifier } else { verifier.allow_unauthenticated() };
        // Fails without a root alone, and each file has one.
        verifier.build().map(Some).map_err(|_| TlsError::NoRoots)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn config(
    pair: Arc<CertifiedKey>,
    authorities: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Server)?;
    let asks = authorities.is_some();
    let builder = match authorities {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Shows(pair)));
    if asks {
        // A session that is taken up again would bring its certificate along, unlooked at: expired by now, or of an authority that is gone.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// Shows one certificate to everybody.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

fn stamps<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let of = std::fs::metadata(path).ok()?;
        // As numbers to compare, nothing else.
        let (inode, length) = (of.ino().cast_signed(), of.len().cast_signed());
        Some([inode, length, of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()])
    };
    paths.map(stamp).collect()
}

/// TLS set up for clients: TLS 1.2 and 1.3, ring.
pub struct TlsServer {
    files: TlsFiles,
    /// Held by whoever looks at the files: one at a time, however many connections wait for what it finds.
    loaded: Arc<AsyncMutex<Loaded>>,
}

struct Loaded {
    pair: Arc<CertifiedKey>,
    pair_tried: Tried,
    authorities_tried: Tried,
    /// `None` while the authorities cannot be read: nobody comes in by those of before, which may have been taken away for a reason.
    config: Option<Arc<ServerConfig>>,
}

/// The last try of reading some files.
struct Tried {
    /// As they were then.
    stamps: Vec<Stamp>,
    /// When, if it failed, and that was told.
    failed: Option<Moment>,
}

impl Tried {
    /// Whether the files are to be read again: they have changed, or could not be read and some time has passed since, as it is with a disk that fails.
    fn is_due(&self, stamps: &[Stamp], now: Moment) -> bool {
        self.stamps != stamps || self.failed.is_some_and(|failed| now.since(failed) >= TLS_FILES_AGAIN)
    }
}

impl Loaded {
    /// What the files say now. Certificate and key of before stay in use while they cannot be, such as a key whose certificate is still to come; authorities
    /// do not. Blocks for as long as the disk does.
    fn look(&mut self, files: &TlsFiles, now: Moment) -> Option<Arc<ServerConfig>> {
        let of_pair = stamps(files.pair_paths());
        let mut is_new = false;
        if self.pair_tried.is_due(&of_pair, now) {
            let loaded = files.load_pair();
            match &loaded {
                Ok(_) => tracing::info!(cert = %files.cert.display(), "certificate for clients read again"),
                Err(error) if self.pair_tried.failed.is_none() => {
                    tracing::warn!(%error, "certificate for clients has changed and cannot be used, the one of before stays in use");
                }
                Err(_) => {}
            }
            self.pair_tried = Tried { stamps: of_pair, failed: loaded.is_err().then_some(now) };
            if let Ok(pair) = loaded {
                self.pair = pair;
                is_new = true;
            }
        }
        let of_authorities = stamps(files.client_ca.iter());
        if is_new || self.authorities_tried.is_due(&of_authorities, now) {
            let loaded = files.load_authorities().and_then(|authorities| config(self.pair.clone(), authorities));
            match &loaded {
                Ok(_) if self.config.is_none() => tracing::info!("authorities of clients can be read again"),
                Err(error) if self.authorities_tried.failed.is_none() => {
                    tracing::warn!(%error, "authorities of clients cannot be read, nobody comes in by TLS until they can");
                }
                _ => {}
            }
            self.authorities_tried = Tried { stamps: of_authorities, failed: loaded.is_err().then_some(now) };
            self.config = loaded.ok();
        }
        self.config.clone()
    }
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
    /// Reads the files. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it.
    pub fn new(files: TlsFiles) -> Result<Self, TlsError> {
        // Looked at first: what changes while it is read is read again.
        let [pair_tried, authorities_tried] =
            [stamps(files.pair_paths()), stamps(files.client_ca.iter())].map(|stamps| Tried { stamps, failed: None });
        let authorities = files.load_authorities()?;
        let pair = files.load_pair()?;
        let config = Some(config(pair.clone(), authorities)?);
        let loaded = Loaded { pair, pair_tried, authorities_tried, config };
        Ok(Self { files, loaded: Arc::new(AsyncMutex::new(loaded)) })
    }

    /// What it is made of.
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// The setup by the files as they are now; `None` while the authorities cannot be read.
    async fn current(&self, now: Moment) -> Option<Arc<ServerConfig>> {
        let mut loaded = self.loaded.clone().lock_owned().await;
        let files = self.files.clone();
        // Who waits for it may go in the meantime; the look ends all the same, and the next one begins after it.
        tokio::task::spawn_blocking(move || loaded.look(&files, now)).await.ok()?
    }

    /// Shakes hands. There is no time limit in here.
    ///
    /// # Errors
    /// What the stream, or TLS, says: [`refusal`] puts it in words.
    pub async fn accept(&self, tcp: TcpStream, now: Moment) -> io::Result<(Stream, Shown)> {
        let config = self.current(now).await.ok_or_else(|| io::Error::other(NoAuthorities))?;
        let mut stream = TlsAcceptor::from(config).accept(tcp).await?;
        let session = stream.get_mut().1;
        session.set_buffer_limit(Some(SOCKET_UNSENT_BYTES as usize));
        let own = session.peer_certificates().and_then(|chain| chain.first());
        let shown = own.map_or(Shown::Nothing, |own| Shown::Certificate(common_name(own)));
        Ok((Stream::Tls(Box::new(stream.into())), shown))
    }
}

/// Whom to let in is not known.
#[derive(Debug, thiserror::Error)]
#[error("the authorities in `client_ca` cannot be read, and nobody is let in without them")]
struct NoAuthorities;

/// Why a client's handshake failed, in words; `None` where it was not for TLS but for the connection.
pub fn refusal(error: &io::Error) -> Option<String> {
    use CertificateError as C;
    if let Some(none) = error.get_ref()?.downcast_ref::<NoAuthorities>() {
        return Some(none.to_string());
    }
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
    use std::time::Duration;

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

    const NOW: Moment = Moment::at(Duration::from_secs(1_000));

    #[tokio::test]
    async fn files_that_change_are_read_again_once_they_fit_each_other() {
        let pair = Pair::new();
        let server = TlsServer::new(pair.files()).unwrap();
        let before = server.current(NOW).await.unwrap();
        let is_before = async || Arc::ptr_eq(&before, &server.current(NOW).await.unwrap());
        assert!(is_before().await, "nothing has changed");
        let (cert, key) = Pair::made();
        pair.write("cert.pem", &cert);
        assert!(is_before().await, "the key of another certificate");
        pair.write("key.pem", &key);
        let after = server.current(NOW).await.unwrap();
        assert!(!Arc::ptr_eq(&before, &after));
        std::fs::remove_file(pair.dir.path().join("cert.pem")).unwrap();
        assert!(Arc::ptr_eq(&after, &server.current(NOW).await.unwrap()), "a file that is gone changes nothing");
    }

    #[tokio::test]
    async fn nobody_comes_in_while_the_authorities_cannot_be_read_and_it_heals_by_itself() {
        let pair = Pair::new();
        pair.write("ca.pem", &Pair::made().0);
        let files = TlsFiles { client_ca: vec![pair.dir.path().join("ca.pem")], ..pair.files() };
        let server = TlsServer::new(files).unwrap();
        let before = server.current(NOW).await.unwrap();
        for broken in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            pair.write("ca.pem", broken);
            assert!(server.current(NOW).await.is_none(), "{broken}");
            assert!(server.current(NOW).await.is_none(), "{broken}, seen again");
        }
        // A renewed certificate does not bring them back.
        let (cert, key) = Pair::made();
        pair.write("cert.pem", &cert);
        pair.write("key.pem", &key);
        assert!(server.current(NOW).await.is_none());
        pair.write("ca.pem", &Pair::made().0);
        let after = server.current(NOW).await.unwrap();
        assert!(!Arc::ptr_eq(&before, &after));
        std::fs::remove_file(pair.dir.path().join("ca.pem")).unwrap();
        assert!(server.current(NOW).await.is_none(), "gone");
        let refused = refusal(&io::Error::other(NoAuthorities)).unwrap();
        assert!(refused.contains("`client_ca`"), "{refused}");
    }

    #[tokio::test]
    async fn what_could_not_be_read_is_not_read_again_for_each_connection_but_after_some_time() {
        let pair = Pair::new();
        let server = TlsServer::new(pair.files()).unwrap();
        let tried = async |now| {
            server.current(now).await.unwrap();
            server.loaded.lock().await.pair_tried.failed
        };
        assert_eq!(tried(NOW).await, None);
        pair.write("cert.pem", "nothing");
        let second = NOW + Duration::from_secs(1);
        assert_eq!(tried(NOW).await, Some(NOW));
        assert_eq!(tried(second).await, Some(NOW), "as it was");
        assert_eq!(tried(NOW + TLS_FILES_AGAIN).await, Some(NOW + TLS_FILES_AGAIN), "looked at again");
        pair.write("cert.pem", "nothing else");
        assert_eq!(tried(second).await, Some(second), "it has changed");
    }

    #[test]
    fn a_file_that_is_too_large_or_no_file_at_all_is_not_read() {
        let pair = Pair::new();
        let most = usize::try_from(crate::limits::TLS_FILE_BYTES_MAX).unwrap();
        let cert = std::fs::read_to_string(pair.dir.path().join("cert.pem")).unwrap();
        let padding = "#".repeat(most - cert.len());
        pair.write("cert.pem", &format!("{cert}{padding}"));
        TlsServer::new(pair.files()).unwrap();
        pair.write("cert.pem", &format!("{cert}{padding}#"));
        let error = TlsServer::new(pair.files()).unwrap_err().to_string();
        assert!(error.ends_with("it is larger than 1 MiB"), "{error}");
        let device = TlsFiles { cert: "/dev/zero".into(), ..pair.files() };
        let error = TlsServer::new(device).unwrap_err().to_string();
        assert_eq!(error, "read `/dev/zero`: it is no regular file");
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
