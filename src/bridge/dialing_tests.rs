//! When TLS is kept and when it is set up anew, and what a cloud sees of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::core::tests::settings;
use super::settings::{CloudLimits, CloudUrl, Settings, Tls, VersionChoice};
use super::{Bridge, LinkState, Status};
use crate::clock::SystemClock;
use crate::health::Health;
use crate::limits::TLS_KEPT;
use crate::model::{Message, Moment, Secret};
use crate::mqtt::dialer::Dialer;
use crate::ports::Publish;

/// Longest anything here may take: far more than it needs, so that a busy machine fails nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// A root, the key of a client, and its certificate in a file.
struct Papers {
    dir: tempfile::TempDir,
    root: CertifiedIssuer<'static, KeyPair>,
    client_key: KeyPair,
}

impl Papers {
    fn make() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let papers = Self { dir: tempfile::tempdir().unwrap(), root, client_key: KeyPair::generate().unwrap() };
        std::fs::write(papers.path("ca.pem"), papers.root.pem()).unwrap();
        papers.renew("first");
        papers
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts another certificate for the client's key in the place of the one that is there, by rename; returns it.
    fn renew(&self, name: &str) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let made = params.signed_by(&self.client_key, &self.root).unwrap();
        std::fs::write(self.path("next.pem"), made.pem()).unwrap();
        std::fs::rename(self.path("next.pem"), self.path("cert.pem")).unwrap();
        made.der().to_vec()
    }

    fn settings(&self, port: u16) -> Settings {
        Settings {
            url: CloudUrl { tls: true, host: "127.0.0.1".into(), port, path: None },
            version: VersionChoice::V5,
            tls: Some(Tls {
                ca: Some(self.path("ca.pem")),
                cert: Some(self.path("cert.pem")),
                key: Some(Secret::new(self.client_key.serialize_pem())),
                server_name: Some("cloud.example".into()),
                alpn: vec![],
            }),
            inward: vec![],
            limits: CloudLimits { greet: false, ..CloudLimits::default() },
            ..settings(self.dir.path())
        }
    }
}

#[test]
fn tls_is_kept_until_something_that_it_is_made_of_changes_or_a_day_has_passed() {
    let (papers, dialer) = (Papers::make(), Dialer::default());
    let mut settings = papers.settings(1);
    let mut now = Moment::ZERO;
    let mut kept = dialer.client(&settings.endpoint(), now).unwrap();
    // Set up anew once, and kept from then on.
    let mut is_anew = |settings: &Settings, now: Moment, what: &str| {
        let anew = dialer.client(&settings.endpoint(), now).unwrap();
        assert!(!anew.is(&kept), "kept though {what}");
        assert!(dialer.client(&settings.endpoint(), now).unwrap().is(&anew), "not kept after {what}");
        kept = anew;
    };
    is_anew(&settings, now + TLS_KEPT, "a day has passed");
    now = now + TLS_KEPT * 2;
    is_anew(&settings, now, "another has");

    let change = |settings: &mut Settings, change: fn(&mut Tls)| change(settings.tls.as_mut().unwrap());
    change(&mut settings, |tls| tls.server_name = Some("other.example".into()));
    is_anew(&settings, now, "the name to ask for changed");
    change(&mut settings, |tls| tls.alpn = vec!["mqtt".into()]);
    is_anew(&settings, now, "the protocols changed");
    change(&mut settings, |tls| tls.key = Some(Secret::new(tls.key.as_ref().unwrap().expose().to_owned() + "\n")));
    is_anew(&settings, now, "the key changed");
    std::fs::copy(papers.path("cert.pem"), papers.path("cert-2.pem")).unwrap();
    change(&mut settings, |tls| tls.cert = tls.cert.as_ref().map(|path| path.with_file_name("cert-2.pem")));
    is_anew(&settings, now, "the certificate is another file");
    std::fs::copy(papers.path("ca.pem"), papers.path("ca-2.pem")).unwrap();
    change(&mut settings, |tls| tls.ca = tls.ca.as_ref().map(|path| path.with_file_name("ca-2.pem")));
    is_anew(&settings, now, "the roots are another file");
    change(&mut settings, |tls| tls.server_name = None);
    is_anew(&settings, now, "the URL's host is asked for");
    settings.url.host = "127.0.0.2".into();
    is_anew(&settings, now, "the URL's host changed");

    for name in ["cert-2.pem", "ca-2.pem"] {
        let path = papers.path(name);
        let (text, modified) = (std::fs::read(&path).unwrap(), std::fs::metadata(&path).unwrap().modified().unwrap());
        let date = |at: SystemTime| File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        std::fs::write(papers.path("next.pem"), &text).unwrap();
        std::fs::rename(papers.path("next.pem"), &path).unwrap();
        date(modified);
        is_anew(&settings, now, &format!("`{name}` is another file of the same length and date"));
        std::fs::write(&path, [&text[..], b"\n"].concat()).unwrap();
        date(modified);
        is_anew(&settings, now, &format!("`{name}` is longer"));
        date(modified + Duration::from_millis(1));
        is_anew(&settings, now, &format!("`{name}` is of another time"));
    }
    let last = dialer.client(&settings.endpoint(), now + TLS_KEPT.saturating_sub(Duration::from_millis(1))).unwrap();
    assert!(last.is(&kept), "nothing changed, and a day has not passed");
}

#[test]
fn a_file_that_is_gone_is_told_though_tls_was_kept() {
    let (papers, dialer) = (Papers::make(), Dialer::default());
    let settings = papers.settings(1);
    let kept = dialer.client(&settings.endpoint(), Moment::ZERO).unwrap();
    std::fs::rename(papers.path("cert.pem"), papers.path("away.pem")).unwrap();
    let error = dialer.client(&settings.endpoint(), Moment::ZERO).err().unwrap().to_string();
    assert!(error.contains("cert.pem"), "{error}");
    std::fs::rename(papers.path("away.pem"), papers.path("cert.pem")).unwrap();
    assert!(!dialer.client(&settings.endpoint(), Moment::ZERO).unwrap().is(&kept), "its sessions were to be forgotten");
}

#[tokio::test]
async fn a_connection_that_never_came_to_tls_costs_no_session_and_one_that_failed_in_it_does() {
    let (papers, dialer) = (Papers::make(), Dialer::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = papers.settings(listener.local_addr().unwrap().port());
    settings.connect_timeout = Duration::from_millis(200);
    let kept = || dialer.client(&settings.endpoint(), Moment::ZERO).unwrap();

    let first = kept();
    let reason = dialer.connect(&settings.endpoint(), Moment::ZERO).await.err().unwrap();
    assert!(reason.ends_with("does not answer the TLS handshake"), "{reason}");
    let second = kept();
    assert!(!second.is(&first), "kept after a handshake without an answer");
    let closing = async {
        // The first is the one that was given up above.
        for _ in 0..2 {
            drop(listener.accept().await.unwrap());
        }
    };
    let endpoint = settings.endpoint();
    let (reason, ()) = tokio::join!(dialer.connect(&endpoint, Moment::ZERO), closing);
    assert!(reason.is_err());
    let third = kept();
    assert!(!third.is(&second), "kept after a handshake that was broken off");
    drop(listener);
    assert_eq!(dialer.connect(&settings.endpoint(), Moment::ZERO).await.err().unwrap(), "connection refused");
    assert!(kept().is(&third), "forgotten though no handshake had begun");
}

/// A cloud that wants a client certificate, and speaks enough MQTT 5 for a bridge to come online.
struct Cloud {
    listener: TcpListener,
    config: Arc<ServerConfig>,
}

/// What the cloud sees of a connection.
struct Seen {
    handshake: HandshakeKind,
    client: Vec<u8>,
    /// Both ways, CONNECT included, from the first byte.
    bytes: usize,
    /// Open while this lives.
    connection: ServerConnection,
    socket: Counted,
}

struct Counted {
    socket: TcpStream,
    bytes: usize,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(buffer)?;
        self.bytes += count;
        Ok(count)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.socket.write(bytes)?;
        self.bytes += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Cloud {
    fn new(papers: &Papers, version: &'static SupportedProtocolVersion) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(papers.root.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["cloud.example".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &papers.root).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap(), config: Arc::new(config) }
    }

    /// Takes the next connection, up to its CONNECT.
    fn accept(&self) -> Seen {
        let (socket, _) = self.listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut socket = Counted { socket, bytes: 0 };
        let mut connection = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        let mut connect = [0; 1024];
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        let length = stream.read(&mut connect).unwrap();
        stream.flush().unwrap();
        assert_eq!(connect[..length][0], 0x10, "CONNECT");
        let (handshake, bytes) = (connection.handshake_kind().unwrap(), socket.bytes);
        let client = connection.peer_certificates().unwrap()[0].to_vec();
        Seen { handshake, client, bytes, connection, socket }
    }
}

impl Seen {
    /// CONNACK.
    fn welcome(&mut self) {
        let mut stream = rustls::Stream::new(&mut self.connection, &mut self.socket);
        stream.write_all(&[0x20, 3, 0, 0, 0]).unwrap();
        stream.flush().unwrap();
    }
}

struct Nobody;

impl Publish for Nobody {
    fn publish(&self, _: Message) {}
}

async fn status(bridge: &Bridge, wanted: fn(&Status) -> bool) {
    let mut status = bridge.status();
    tokio::time::timeout(PATIENCE, status.wait_for(wanted)).await.expect("the status in time").unwrap();
}

/// The next connection, which comes online.
async fn next(cloud: &Cloud, bridge: &Bridge) -> Seen {
    let mut seen = cloud.accept();
    // The one before it is no longer told of.
    status(bridge, |status| status.state != LinkState::Online).await;
    seen.welcome();
    status(bridge, |status| status.state == LinkState::Online).await;
    seen
}

async fn sessions(version: &'static SupportedProtocolVersion) {
    let papers = Papers::make();
    let cloud = Cloud::new(&papers, version);
    let settings = papers.settings(cloud.listener.local_addr().unwrap().port());
    let first = papers.renew("first");
    let bridge = Bridge::start(settings, Arc::new(Nobody), SystemClock::shared(), &Health::new()).unwrap();

    let full = next(&cloud, &bridge).await;
    assert_eq!((full.handshake, &full.client), (HandshakeKind::Full, &first));
    let bytes = full.bytes;
    drop(full);
    let resumed = next(&cloud, &bridge).await;
    assert_eq!((resumed.handshake, &resumed.client), (HandshakeKind::Resumed, &first));
    println!("{:?}: {bytes} bytes, resumed {}", version.version, resumed.bytes);
    // Two certificates less, the cloud's being as long as ours.
    assert!(resumed.bytes + 2 * first.len() < bytes, "{} of {bytes} bytes", resumed.bytes);
    drop(resumed);

    // A session that the cloud closes in silence is not offered a second time.
    assert_eq!(cloud.accept().handshake, HandshakeKind::Resumed);
    let full = next(&cloud, &bridge).await;
    assert_eq!(full.handshake, HandshakeKind::Full);
    drop(full);
    let resumed = next(&cloud, &bridge).await;
    assert_eq!(resumed.handshake, HandshakeKind::Resumed);

    // Nor one of the certificate that was: the cloud would go on to see that.
    let second = papers.renew("second");
    drop(resumed);
    let renewed = next(&cloud, &bridge).await;
    assert_eq!((renewed.handshake, &renewed.client), (HandshakeKind::Full, &second));
    drop(renewed);
    let resumed = next(&cloud, &bridge).await;
    assert_eq!((resumed.handshake, &resumed.client), (HandshakeKind::Resumed, &second));
    bridge.stop(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn a_bridge_resumes_its_session_of_tls_1_3_until_its_certificate_is_renewed() {
    sessions(&TLS13).await;
}

#[tokio::test]
async fn a_bridge_resumes_its_session_of_tls_1_2_until_its_certificate_is_renewed() {
    sessions(&TLS12).await;
}
