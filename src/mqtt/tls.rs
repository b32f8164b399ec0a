//! TLS towards the cloud, and its failures in words that tell a person what to repair.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, ProtocolVersion, RootCertStore, SignatureScheme,
};

use super::certificate::{Certificate, minute};
use super::pem;
use crate::limits::{TLS_FILE_BYTES_MAX, TLS_SESSIONS};

/// What is needed to speak TLS with one cloud.
#[derive(Debug, Clone, Copy)]
pub struct TlsOptions<'a> {
    /// PEM file of the roots to trust; the system's when `None`.
    pub ca: Option<&'a Path>,
    /// PEM file of our certificate chain.
    pub cert: Option<&'a Path>,
    /// PEM text of our private key.
    pub key: Option<&'a str>,
    /// Name the certificate has to be for, and that is asked for (SNI).
    pub server_name: &'a str,
    /// Application protocols to offer.
    pub alpn: &'a [String],
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read `{}`: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// A file or text holds no usable PEM.
    #[error("{what}: {error}")]
    Pem {
        /// What was read.
        what: String,
        /// What was found.
        error: String,
    },
    /// The name is neither a host name nor an address.
    #[error("`{0}` is no name a certificate could be for")]
    Name(String),
    /// Certificate and key do not fit each other, or are of no known kind.
    #[error("client certificate: {0}")]
    Client(rustls::Error),
    /// The same of the certificate that clients are shown.
    #[error("server certificate: {0}")]
    Server(rustls::Error),
    /// The system has no roots to trust.
    #[error("the system has no certificates of authorities: install ca-certificates, or give `ca`")]
    NoRoots,
}

/// TLS set up for one cloud: TLS 1.2 and 1.3, ring. Its clones share the sessions that its connections may resume ([`TLS_SESSIONS`]).
#[derive(Clone)]
pub struct TlsClient {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
    judge: Arc<Judge>,
}

impl TlsClient {
    /// Reads the files. What is made of them does not change with them, and knows no session of another.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it.
    pub fn new(options: TlsOptions<'_>) -> Result<Self, TlsError> {
        let roots = match options.ca {
            Some(path) => roots_of([path])?,
            None => system_roots()?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let judge = Arc::new(Judge::new(roots, &provider)?);
        // As with the library's own verifier alone, which the judge asks.
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Client)?
            .dangerous()
            .with_custom_certificate_verifier(judge.clone());
        let mut config = match (options.cert, options.key) {
            (Some(cert), Some(key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|error| TlsError::Pem { what: "the private key".into(), error: pem::in_words(&error) })?;
                builder.with_client_auth_cert(certificates(cert)?, key).map_err(TlsError::Client)?
            }
            _ => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(TLS_SESSIONS);
        config.alpn_protocols = options.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(options.server_name.to_owned())
            .map_err(|_| TlsError::Name(options.server_name.to_owned()))?;
        Ok(Self { config: Arc::new(config), name, judge })
    }

    /// Whether the other is a clone of this, with the same sessions.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }

    /// A failed handshake in words, and the certificate that it failed by.
    pub(super) fn refusal(&self, error: &io::Error) -> (String, Option<Box<Certificate>>) {
        let reason = in_words(error);
        let refused = self.judge.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        match refused {
            Some(certificate) if reason.starts_with(MISMATCH) => {
                let names = certificate.names_told();
                (format!("{reason} ({names}): {certificate}"), Some(certificate))
            }
            Some(certificate) => (format!("{reason}: {certificate}"), Some(certificate)),
            None => (reason, None),
        }
    }
}

/// The library's judgement on a cloud's certificates, with a note of the one that it turned down.
///
/// It is asked in a full handshake alone. One that resumes a session shows no certificate: the cloud proves by the session's secret that it is
/// the one that was judged when that began, and nothing is turned down here, also when its certificate has expired since or its root is no longer
/// trusted. That ends with the [`TlsClient`], whose owner limits its age. A resumed handshake that fails has no certificate to tell either.
#[derive(Debug)]
struct Judge {
    verifier: Arc<WebPkiServerVerifier>,
    refused: Mutex<Option<Box<Certificate>>>,
}

impl Judge {
    fn new(roots: RootCertStore, provider: &Arc<rustls::crypto::CryptoProvider>) -> Result<Self, TlsError> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        // Fails without a root alone, and there is one.
        Ok(Self { verifier: verifier.map_err(|_| TlsError::NoRoots)?, refused: Mutex::default() })
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let refused = judged.as_ref().err().and_then(|error| blamed(error, end_entity, intermediates, now));
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused.map(Box::new);
        judged
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Which of the certificates it is: of a wrong date the one whose date it is, else the cloud's own.
fn blamed(
    error: &rustls::Error,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Option<Certificate> {
    let rustls::Error::InvalidCertificate(reason) = error else { return None };
    let dated = matches!(
        reason,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    );
    let now_ms = i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_mul(1_000);
    let of_wrong_date = std::iter::once(end_entity)
        .chain(intermediates)
        .filter_map(|der| Certificate::read(der))
        .find(|certificate| dated && !certificate.is_valid_at(now_ms));
    of_wrong_date.or_else(|| Certificate::read(end_entity))
}

/// What a handshake agreed on, and with whom.
pub(super) fn told(connection: &CommonState) -> String {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS 1.3",
    };
    let own = connection.peer_certificates().and_then(|chain| Certificate::read(chain.first()?));
    let with = own.map_or_else(String::new, |own| {
        format!(", `{}`, issued by `{}`, valid until {} UTC", own.subject, own.issuer, minute(own.not_after_ms))
    });
    format!("{version}{with}")
}

const MISMATCH: &str = "name mismatch";

/// A file of certificates or a key: a regular one, of at most [`TLS_FILE_BYTES_MAX`].
pub(super) fn read_small(path: &Path) -> Result<Vec<u8>, TlsError> {
    let wrong = |error| TlsError::File { path: path.to_path_buf(), error };
    let read = || {
        // Looked at before it is opened: to open a pipe takes as long as its other end does.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(TLS_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > TLS_FILE_BYTES_MAX {
            return Err(io::Error::other(format!("it is larger than {} MiB", TLS_FILE_BYTES_MAX >> 20)));
        }
        Ok(bytes)
    };
    read().map_err(wrong)
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read_small(path)?;
    let wrong = |error: String| TlsError::Pem { what: format!("`{}`", path.display()), error };
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(pem::in_words(&error)))?;
    if found.is_empty() { Err(wrong("no certificate in it".into())) } else { Ok(found) }
}

pub(super) fn roots_of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for path in paths {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| TlsError::Pem { what: format!("`{}`", path.display()), error: error.to_string() })?;
        }
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // A single root that cannot be read must not keep the others from being used.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

/// A failed handshake or connection in words. What is not TLS's is left in the kernel's words.
pub fn in_words(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return kernel_words(error);
    };
    match tls {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the cloud's certificate has expired".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the cloud's certificate is not valid yet (is this board's clock set?)".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "name mismatch: the cloud's certificate is for another name".into()
            }
            CertificateError::UnknownIssuer => "the cloud's certificate is from an unknown authority".into(),
            CertificateError::Revoked => "the cloud's certificate was revoked".into(),
            other => format!("the cloud's certificate is not accepted: {other}"),
        },
        rustls::Error::AlertReceived(alert) => format!("the cloud refused the TLS handshake: {}", alert_words(*alert)),
        other => format!("TLS handshake failed: {other}"),
    }
}

fn alert_words(alert: rustls::AlertDescription) -> String {
    use rustls::AlertDescription as A;
    match alert {
        A::CertificateRequired => "it wants a client certificate".into(),
        A::CertificateExpired => "our certificate has expired".into(),
        A::CertificateRevoked => "our certificate was revoked".into(),
        A::UnknownCA => "our certificate is from an authority it does not know".into(),
        A::BadCertificate | A::UnsupportedCertificate | A::CertificateUnknown => {
            "it does not accept our certificate".into()
        }
        A::NoApplicationProtocol => "it speaks none of the protocols of `alpn`".into(),
        other => format!("{other:?}"),
    }
}

fn kernel_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::UnexpectedEof => "the cloud closed the connection".into(),
        io::ErrorKind::TimedOut => "the cloud does not answer".into(),
        io::ErrorKind::HostUnreachable => "no route to the host".into(),
        io::ErrorKind::NetworkUnreachable => "the network is unreachable".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(error: rustls::Error) -> String {
        in_words(&io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn the_usual_mistakes_are_told_apart() {
        assert_eq!(words(CertificateError::Expired.into()), "the cloud's certificate has expired");
        assert_eq!(
            words(CertificateError::NotValidForName.into()),
            "name mismatch: the cloud's certificate is for another name"
        );
        assert_eq!(
            words(CertificateError::UnknownIssuer.into()),
            "the cloud's certificate is from an unknown authority"
        );
        let required = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        assert_eq!(words(required), "the cloud refused the TLS handshake: it wants a client certificate");
        assert_eq!(in_words(&io::ErrorKind::ConnectionRefused.into()), "connection refused");
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let options = TlsOptions { ca: Some(&path), cert: None, key: None, server_name: "cloud", alpn: &[] };
        assert!(matches!(TlsClient::new(options), Err(TlsError::File { path: named, .. }) if named == path));
        std::fs::write(&path, "not a certificate").unwrap();
        let error = TlsClient::new(options).err().unwrap().to_string();
        assert_eq!(error, format!("`{}`: no certificate in it", path.display()));
    }
}
