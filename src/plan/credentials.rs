//! What bridges and the broker show and trust: secrets, certificates and keys, read so that a wrong one is told before the start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use super::{Planner, Secrets};
use crate::broker::settings::{TlsFiles, TlsKey};
use crate::config::code::Code;
use crate::config::kinds::{SecretRef, Url};
use crate::config::{At, Span, file, secret};
use crate::model::Secret;
use crate::mqtt::endpoint::Tls;

impl Planner<'_> {
    /// TLS towards a cloud; `None` where the URL asks for none.
    pub(super) fn tls(&mut self, url: Option<&At<Url>>, written: &At<file::Tls>) -> Option<Tls> {
        let ca = written.ca.as_ref().map(|ca| self.path(&ca.value.0, ca.span));
        let cert = written.cert.as_ref().map(|cert| self.path(&cert.value.0, cert.span));
        if let (Some(path), Some(at)) = (&ca, &written.ca)
            && let Some(certificates) = self.certificates("ca", path, at.span)
        {
            self.check_authorities("ca", &certificates, path, at.span);
            self.check_authorities_validity("ca", &certificates, path, at.span);
        }
        let chain = match (&cert, &written.cert) {
            (Some(path), Some(at)) => self.certificates("cert", path, at.span).zip(Some(at.span)),
            _ => None,
        };
        if let (Some((chain, at)), Some(path)) = (&chain, &cert) {
            self.check_chain_validity(chain, path, *at);
        }
        let key = written.key.as_ref().and_then(|key| self.secret("key", &key.value, key.span).zip(Some(key.span)));
        let signing = key.as_ref().and_then(|(key, span)| self.signing_key(key, *span));
        if let (Some((chain, at)), Some((signing, key_at))) = (chain, signing) {
            self.check_pair(chain, at, signing, key_at);
        }
        self.check_complete(url, written);
        url.filter(|url| url.value.tls)?;
        Some(Tls {
            ca,
            cert,
            key: key.map(|(key, _)| key),
            server_name: written.server_name.as_ref().map(|name| name.value.0.clone()),
            alpn: written.alpn.iter().map(|protocol| protocol.value.0.clone()).collect(),
        })
    }

    /// What the broker shows to clients that come by TLS, and which of theirs it takes; `None` when a part is missing or cannot be used, which
    /// is noted.
    pub(super) fn tls_files(&mut self, written: &file::BrokerTls) -> Option<TlsFiles> {
        let cert = written.cert.as_ref().map(|cert| (self.path(&cert.value.0, cert.span), cert.span));
        let chain = cert.as_ref().and_then(|(path, span)| self.certificates("cert", path, *span).zip(Some(*span)));
        if let (Some((chain, at)), Some((path, _))) = (&chain, &cert) {
            self.check_chain_validity(chain, path, *at);
        }
        let key = written.key.as_ref().and_then(|key| self.secret("key", &key.value, key.span).zip(Some(key)));
        let signing = key.as_ref().and_then(|(secret, at)| self.signing_key(secret, at.span));
        if let (Some((chain, at)), Some((signing, key_at))) = (chain, signing) {
            self.check_pair(chain, at, signing, key_at);
        }
        let mut client_ca = Vec::new();
        for ca in &written.client_ca.value.0 {
            let path = self.path(&ca.value.0, ca.span);
            if let Some(certificates) = self.certificates("client_ca", &path, ca.span) {
                self.check_authorities("client_ca", &certificates, &path, ca.span);
                self.check_authorities_validity("client_ca", &certificates, &path, ca.span);
            }
            client_ca.push(path);
        }
        let (key, at) = key?;
        Some(TlsFiles {
            cert: cert?.0,
            key: self.key_place(&at.value, at.span).map_or(TlsKey::Text(key), TlsKey::File),
            client_ca,
            demands_certificate: written.client_cert.value == file::ClientCert::Required,
        })
    }

    /// The file that a secret is in, where it is in one.
    fn key_place(&self, written: &SecretRef, span: Span) -> Option<PathBuf> {
        match written {
            SecretRef::File(path) => Some(self.path(path, span)),
            SecretRef::Credential(name) => {
                (self.environment.variable)("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(name))
            }
            SecretRef::Env(_) => None,
        }
    }

    fn check_complete(&mut self, url: Option<&At<Url>>, written: &At<file::Tls>) {
        match (&written.cert, &written.key) {
            // A key that was refused is there all the same.
            _ if self.problems.any(Code::SecretInFile) => {}
            (Some(cert), None) => {
                self.problems
                    .error(Code::Incomplete, cert.span, "`cert` without `key`")
                    .label("a certificate is of use with its key");
            }
            (None, Some(key)) => {
                self.problems
                    .error(Code::Incomplete, key.span, "`key` without `cert`")
                    .label("a key is of use with its certificate");
            }
            _ => {}
        }
        let given =
            written.ca.is_some() || written.cert.is_some() || written.key.is_some() || written.server_name.is_some();
        if let Some(url) = url.filter(|url| !url.value.tls)
            && (given || !written.alpn.is_empty())
        {
            let (clear, secure) = if url.value.path.is_some() { ("ws", "wss") } else { ("mqtt", "mqtts") };
            self.problems
                .error(Code::Incomplete, url.span, "`tls` with a URL in clear text")
                .label(format!("{clear}:// speaks no TLS"))
                .and(written.span, "asked for here")
                .help(format!("use {secure}://{}", url.value.host));
        }
    }

    /// The certificates of a file; `None` when they are not to be read, or cannot be, which is noted.
    fn certificates(&mut self, key: &str, path: &Path, span: Span) -> Option<Vec<CertificateDer<'static>>> {
        if self.environment.secrets == Secrets::Ignored {
            return None;
        }
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let reason = match read {
            Ok(certificates) if !certificates.is_empty() => return Some(certificates),
            Ok(_) | Err(pem::Error::NoItemsFound) => "holds no certificate in PEM form".to_owned(),
            Err(pem::Error::Io(error)) => format!("cannot be read: {error}"),
            Err(error) => format!("is damaged: {}", crate::mqtt::pem::in_words(&error)),
        };
        self.problems.error(Code::BadPem, span, format!("`{key}`: `{}` {reason}", path.display()));
        None
    }

    fn check_authorities(&mut self, key: &str, certificates: &[CertificateDer<'static>], path: &Path, span: Span) {
        let mut roots = RootCertStore::empty();
        let refused = certificates.iter().find_map(|certificate| roots.add(certificate.clone()).err());
        if let Some(error) = refused {
            self.problems.error(
                Code::BadPem,
                span,
                format!("`{key}`: `{}` holds no authority to trust: {error}", path.display()),
            );
        }
    }

    /// The key in a form that can sign; `None` when it was not to be read, or is none, which is noted.
    fn signing_key(&mut self, key: &Secret, span: Span) -> Option<(Arc<dyn SigningKey>, Span)> {
        if key.expose().is_empty() {
            return None;
        }
        let Ok(der) = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()) else {
            self.problems
                .error(Code::BadPem, span, "`key` is no private key in PEM form")
                .label("expected a file that begins with -----BEGIN PRIVATE KEY-----");
            return None;
        };
        let signing = any_supported_type(&der).ok();
        if signing.is_none() {
            self.problems
                .error(Code::BadPem, span, "`key` cannot be used")
                .label("expected RSA of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519");
        }
        signing.zip(Some(span))
    }

    fn check_pair(
        &mut self,
        chain: Vec<CertificateDer<'static>>,
        at: Span,
        signing: Arc<dyn SigningKey>,
        key_at: Span,
    ) {
        match CertifiedKey::new(chain, signing).keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                self.problems
                    .error(Code::BadPem, key_at, "`key` does not belong to `cert`")
                    .label("the key of another certificate")
                    .and(at, "the certificate; its own comes first in the file, its issuers after it");
            }
            Err(error) => {
                self.problems.error(Code::BadPem, at, format!("`cert` cannot be used: {error}"));
            }
        }
    }

    /// Fetches a secret. Empty when it was not to be looked at; `None` when it cannot be had, which is noted.
    pub(super) fn secret(&mut self, key: &str, written: &SecretRef, span: Span) -> Option<Secret> {
        if let SecretRef::Credential(name) = written {
            self.credentials.insert(name.clone());
        }
        let unread = Some(Secret::new(String::new()));
        if self.environment.secrets == Secrets::Ignored {
            return unread;
        }
        if let SecretRef::Credential(name) = written
            && self.environment.secrets == Secrets::Checked
            && (self.environment.variable)("CREDENTIALS_DIRECTORY").is_none()
        {
            self.problems
                .warning(Code::CredentialUnseen, span, format!("credential `{name}` was not looked at"))
                .label("systemd hands it to the service alone");
            return unread;
        }
        let directory = self.sources.directory(span);
        match secret::fetch(written, directory, &*self.environment.variable) {
            Ok(found) => {
                if let Some(path) = found.exposed {
                    self.problems
                        .warning(
                            Code::SecretExposed,
                            span,
                            format!("`{}` can be read by others than its owner", path.display()),
                        )
                        .help(format!("chmod 600 {}", path.display()));
                }
                Some(found.secret)
            }
            Err(reason) => {
                self.problems.error(Code::SecretUnreadable, span, format!("`{key}`: {reason}"));
                None
            }
        }
    }

    fn path(&self, written: &str, span: Span) -> PathBuf {
        self.sources.directory(span).join(written)
    }
}
