//! Certificates for the cloud and its client, made anew for each test.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// A certificate and its key, as PEM files.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// A root and what it signed. The name of the cloud is `localhost` and `127.0.0.1`.
pub(crate) struct Certificates {
    pub(crate) ca: PathBuf,
    /// A good certificate for the cloud.
    pub(crate) server: Pair,
    /// Ended in 2001.
    pub(crate) expired: Pair,
    /// Begins in 2090.
    pub(crate) future: Pair,
    /// Good, but for `elsewhere.example`.
    pub(crate) wrong_name: Pair,
    /// A client's, common name `gateway`.
    pub(crate) client: Pair,
    /// A root that signed none of these.
    pub(crate) other_ca: PathBuf,
}

impl Certificates {
    /// Makes all of them below `dir`.
    pub(crate) fn make(dir: &Path) -> Self {
        let root = issuer("Tidegate test root");
        let server = named("cloud", &["localhost", "127.0.0.1"]);
        let mut expired = server.clone();
        expired.not_before = date_time_ymd(2000, 1, 1);
        expired.not_after = date_time_ymd(2001, 1, 1);
        let mut future = server.clone();
        future.not_before = date_time_ymd(2090, 1, 1);
        future.not_after = date_time_ymd(2091, 1, 1);
        let mut client = named("gateway", &[]);
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Self {
            ca: write(dir, "ca.pem", &root.pem()),
            server: signed(dir, "server", &server, &root),
            expired: signed(dir, "expired", &expired, &root),
            future: signed(dir, "future", &future, &root),
            wrong_name: signed(dir, "wrong-name", &named("cloud", &["elsewhere.example"]), &root),
            client: signed(dir, "client", &client, &root),
            other_ca: write(dir, "other-ca.pem", &issuer("Another root").pem()),
        }
    }
}

fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("make a key")).expect("sign the root")
}

fn named(common: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names are valid");
    params.distinguished_name.push(DnType::CommonName, common);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

fn signed(dir: &Path, name: &str, params: &CertificateParams, root: &CertifiedIssuer<'static, KeyPair>) -> Pair {
    let key = KeyPair::generate().expect("make a key");
    let cert = params.signed_by(&key, root).expect("sign the certificate");
    Pair {
        cert: write(dir, &format!("{name}.pem"), &cert.pem()),
        key: write(dir, &format!("{name}.key"), &key.serialize_pem()),
    }
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    std::fs::write(&path, text).expect("write a certificate");
    // Mosquitto, started by root, reads them as another user; they guard nothing.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("make a certificate readable");
    path
}
