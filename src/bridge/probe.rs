//! Walks the way to a cloud once, stage by stage, and says where it ends: `tidegate bridge test`.
//!
//! Beside the running bridge it goes by a client id of its own, [`TEST_SUFFIX`] behind the bridge's, in a session that ends with it: what the
//! cloud keeps for the bridge is not touched. Under the bridge's own id ([`Who::Bridge`]) nothing is subscribed or published, and a session that
//! the cloud did not have before is forgotten again, since the bridge would take it for its own.
//!
//! What is published is empty, not retained, and goes to a topic beside the gateway's status. What comes down is left unacknowledged.

mod talk;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::timeout;

use self::talk::Talk;
use super::core::Close;
use super::hints::{self, Hint};
use super::settings::{Settings, VersionChoice};
use super::words;
use crate::clock::Clock;
use crate::logic::flight::FAILURE;
use crate::model::{Moment, Qos, TopicFilter, TopicName};
use crate::mqtt::certificate::Certificate;
use crate::mqtt::client::{Version, Welcome};
use crate::mqtt::dial::{self, DialError, Progress, Stream};
use crate::mqtt::resolve::Resolver;
use crate::mqtt::tls::TlsClient;

pub(super) use self::talk::HUNG_UP;

/// What the client id of a test ends with.
pub const TEST_SUFFIX: &str = "-test";

/// Under whose client id the walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// One of its own, beside the bridge.
    Test,
    /// The bridge's, which must not be running.
    Bridge,
}

/// A stage of the way, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The name is looked up.
    Name,
    /// A TCP connection.
    Tcp,
    /// TLS in it.
    Tls,
    /// A WebSocket in that.
    WebSocket,
    /// CONNECT and its answer.
    Connect,
    /// SUBSCRIBE with the filters of `in`.
    Subscribe,
    /// An empty message.
    Publish,
}

impl Stage {
    /// Its name, as it is told.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Name => "name",
            Stage::Tcp => "tcp",
            Stage::Tls => "tls",
            Stage::WebSocket => "websocket",
            Stage::Connect => "connect",
            Stage::Subscribe => "subscribe",
            Stage::Publish => "publish",
        }
    }
}

/// What became of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done; what was found.
    Done(String),
    /// It was left out; why.
    Skipped(String),
    /// The way ends here.
    Failed(Failure),
}

/// Why the way ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// What is wrong.
    pub reason: String,
    /// What to do about it; empty where there is nothing to say.
    pub hint: String,
    /// The certificate that was turned down.
    pub certificate: Option<Box<Certificate>>,
}

/// One stage, told as soon as it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub stage: Stage,
    /// How long it took.
    pub took: Duration,
    /// What became of it.
    pub outcome: Outcome,
    /// The cloud's code for each filter, of a SUBACK.
    pub codes: Vec<(TopicFilter, u8)>,
}

/// Goes the way and tells each stage as it ends; whether it got to the end. `topic` is where the empty message goes, if not beside the gateway's
/// status. Each stage may take as long as the bridge has for its connection (`connect_timeout`).
pub async fn walk(
    settings: &Settings,
    who: Who,
    topic: Option<TopicName>,
    clock: &dyn Clock,
    told: &mut dyn FnMut(Step),
) -> bool {
    let mut settings = settings.clone();
    if who == Who::Test {
        settings.client_id.push_str(TEST_SUFFIX);
    }
    let topic = topic.or_else(|| beside_status(&settings));
    let resolver = Resolver::default();
    let mut walk = Walk { limit: settings.connect_timeout, settings, who, resolver, clock, told, since: clock.now() };
    walk.go(topic).await.is_some()
}

/// Where an empty message harms nobody: beside the gateway's own status. `None` at a cloud with topics of its own only, where it would be a reading.
fn beside_status(settings: &Settings) -> Option<TopicName> {
    if !settings.limits.status {
        return None;
    }
    let status = settings.cloud_status_topic.as_str();
    let above = status.rsplit_once('/').map_or("", |(above, _)| above);
    TopicName::parse(&if above.is_empty() { "test".to_owned() } else { format!("{above}/test") }).ok()
}

struct Walk<'a> {
    settings: Settings,
    who: Who,
    resolver: Resolver,
    limit: Duration,
    clock: &'a dyn Clock,
    told: &'a mut dyn FnMut(Step),
    /// When the stage that is under way began.
    since: Moment,
}

impl Walk<'_> {
    /// `None` where it ended before its end, which is told.
    async fn go(&mut self, topic: Option<TopicName>) -> Option<()> {
        let stream = self.reach().await?;
        let (mut talk, welcome) = self.connect(stream).await?;
        if self.who == Who::Bridge {
            talk.leave().await;
            if !welcome.session_present {
                self.forget(talk.version).await;
            }
            let why = "not tried under the bridge's own client id: its session would change";
            self.tell(Stage::Subscribe, Outcome::Skipped(why.into()));
            self.tell(Stage::Publish, Outcome::Skipped(why.into()));
            return Some(());
        }
        let done = self.subscribe(&mut talk).await;
        let done = if done.is_some() { self.publish(&mut talk, topic, welcome).await } else { None };
        talk.leave().await;
        done
    }

    fn tell(&mut self, stage: Stage, outcome: Outcome) {
        self.tell_with(stage, outcome, Vec::new());
    }

    fn tell_with(&mut self, stage: Stage, outcome: Outcome, codes: Vec<(TopicFilter, u8)>) {
        let now = self.clock.now();
        (self.told)(Step { stage, took: now.since(self.since), outcome, codes });
        self.since = self.clock.now();
    }

    fn done(&mut self, stage: Stage, what: impl Into<String>) {
        self.tell(stage, Outcome::Done(what.into()));
    }

    /// Tells that the way ends here.
    fn fail<T>(&mut self, stage: Stage, reason: String) -> Option<T> {
        self.fail_with(stage, reason, None)
    }

    fn fail_with<T>(&mut self, stage: Stage, reason: String, certificate: Option<Box<Certificate>>) -> Option<T> {
        let asked = Hint { settings: &self.settings, who: self.who, wall: self.clock.wall() };
        let hint = hints::of(&asked, stage, &reason, certificate.as_deref());
        self.tell(stage, Outcome::Failed(Failure { reason, hint, certificate }));
        None
    }

    fn too_late(&self, what: &str) -> String {
        format!("{what} within {} s", self.limit.as_secs())
    }

    async fn reach(&mut self) -> Option<Stream> {
        let url = self.settings.url.clone();
        let addresses = match timeout(self.limit, dial::lookup(&self.resolver, &url.host)).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => return self.fail(Stage::Name, error.to_string()),
            Err(_) => return self.fail(Stage::Name, self.too_late("no answer of the name server")),
        };
        if url.host.parse::<IpAddr>().is_ok() {
            self.tell(Stage::Name, Outcome::Skipped("the URL has an address".into()));
        } else {
            let found: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            self.done(Stage::Name, format!("`{}` is {}", url.host, found.join(", ")));
        }
        let tls = if url.tls { Some(TlsClient::new(self.settings.endpoint().tls_options())) } else { None };
        let (tls, tls_error) = match tls {
            Some(Ok(tls)) => (Some(tls), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, None),
        };
        let endpoint = self.settings.endpoint();
        let target = endpoint.target(tls.as_ref());
        let mut refused = String::new();
        let mut connected = None;
        for address in addresses {
            let address = SocketAddr::new(address, url.port);
            match dial::connect(address, target).await {
                Ok(tcp) => {
                    connected = Some((address, tcp));
                    break;
                }
                Err(error) => {
                    let _ = write!(refused, "{}{address}: {error}", if refused.is_empty() { "" } else { "; " });
                }
            }
        }
        let Some((address, tcp)) = connected else { return self.fail(Stage::Tcp, refused) };
        let before = if refused.is_empty() { refused } else { format!(", after {refused}") };
        self.done(Stage::Tcp, format!("{address}{before}"));
        if let Some(error) = tls_error {
            return self.fail(Stage::Tls, error);
        }
        let stream = match timeout(self.limit, dial::secure(tcp, target)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(DialError::Tls { reason, certificate })) => return self.fail_with(Stage::Tls, reason, certificate),
            Ok(Err(error)) => return self.fail(Stage::Tls, error.to_string()),
            Err(_) => return self.fail(Stage::Tls, self.too_late("no answer to the TLS handshake")),
        };
        match stream.tls_told() {
            Some(told) => self.done(Stage::Tls, told),
            None => self.tell(Stage::Tls, Outcome::Skipped("the URL asks for none".into())),
        }
        let Some(path) = &url.path else { return Some(stream) };
        match timeout(self.limit, dial::upgrade(stream, target)).await {
            Ok(Ok(stream)) => {
                self.done(Stage::WebSocket, format!("at `{path}`"));
                Some(stream)
            }
            Ok(Err(error)) => self.fail(Stage::WebSocket, error.to_string()),
            Err(_) => self.fail(Stage::WebSocket, self.too_late("no answer to the request for a WebSocket")),
        }
    }

    async fn connect(&mut self, stream: Stream) -> Option<(Talk, Welcome)> {
        let (mut version, auto) = match self.settings.version {
            VersionChoice::Auto => (Version::V5, true),
            VersionChoice::V5 => (Version::V5, false),
            VersionChoice::V311 => (Version::V311, false),
        };
        let mut stream = stream;
        loop {
            let mut talk = Talk::new(stream, version);
            let clean = self.who == Who::Test;
            let welcome = match timeout(self.limit, talk.greet(&self.settings, clean, self.clock)).await {
                Ok(Ok(welcome)) => welcome,
                Ok(Err(reason)) => return self.fail(Stage::Connect, reason),
                Err(_) => return self.fail(Stage::Connect, self.too_late("no CONNACK")),
            };
            // As the engine has it: a cloud that does not speak 5 is asked in 3.1.1.
            if auto && version == Version::V5 && matches!(welcome.code, 1 | 0x84) {
                version = Version::V311;
                stream = match self.again().await {
                    Ok(stream) => stream,
                    Err(reason) => return self.fail(Stage::Connect, format!("when connecting anew: {reason}")),
                };
                continue;
            }
            if welcome.code != 0 {
                return self.fail(Stage::Connect, words::of(&Close::Refused(version, welcome.code, welcome.elsewhere)));
            }
            let spoken = if version == Version::V5 { "5" } else { "3.1.1" };
            let session = match (self.who, welcome.session_present) {
                (Who::Test, _) => "in a session that ends with it",
                (Who::Bridge, true) => "whose session the cloud has",
                (Who::Bridge, false) => "of which the cloud has no session",
            };
            self.done(Stage::Connect, format!("MQTT {spoken}, as `{}`, {session}", talk.client_id));
            return Some((talk, welcome));
        }
    }

    /// The same way once more, untold.
    async fn again(&self) -> Result<Stream, String> {
        let progress = Progress::default();
        let tls =
            if self.settings.url.tls { Some(TlsClient::new(self.settings.endpoint().tls_options())) } else { None };
        let tls = tls.transpose().map_err(|error| error.to_string())?;
        let endpoint = self.settings.endpoint();
        let dialing = dial::dial(&self.resolver, endpoint.target(tls.as_ref()), &progress);
        match timeout(self.limit, dialing).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err(progress.waits_for().to_owned()),
        }
    }

    /// Has the cloud forget the session that this test has made under the bridge's id: the bridge would find it, and believe that its
    /// subscriptions are in it.
    async fn forget(&self, version: Version) {
        let Ok(stream) = self.again().await else { return };
        let mut talk = Talk::new(stream, version);
        if timeout(self.limit, talk.greet(&self.settings, true, self.clock)).await.is_ok_and(|heard| heard.is_ok()) {
            talk.leave().await;
        }
    }

    async fn subscribe(&mut self, talk: &mut Talk) -> Option<()> {
        // A member of a shared subscription takes messages away from the others.
        let shared = |filter: &TopicFilter| filter.as_str().starts_with("$share/");
        let rules = self.settings.inward.iter();
        let filters: Vec<_> =
            rules.filter(|rule| !shared(&rule.from)).map(|rule| (rule.from.clone(), rule.qos)).collect();
        if filters.is_empty() {
            self.tell(Stage::Subscribe, Outcome::Skipped("the bridge has no `in` rules that can be tried".into()));
            return Some(());
        }
        let mut codes = Vec::new();
        for filters in filters.chunks(self.settings.limits.subscriptions_per_packet.max(1)) {
            match timeout(self.limit, talk.subscribe(filters)).await {
                Ok(Ok(some)) => codes.extend(some),
                Ok(Err(reason)) => return self.fail(Stage::Subscribe, reason),
                Err(_) => return self.fail(Stage::Subscribe, self.too_late("no SUBACK")),
            }
        }
        let mut told = String::new();
        let mut refused = false;
        for ((filter, qos), code) in filters.iter().zip(&codes) {
            let comma = if told.is_empty() { "" } else { "; " };
            let _ = match code {
                code if *code >= FAILURE => {
                    refused = true;
                    write!(told, "{comma}`{filter}` refused: 0x{code:02x} {}", words::reason(*code))
                }
                code if *code < qos.level() => write!(told, "{comma}`{filter}` QoS {code}, not {}", qos.level()),
                code => write!(told, "{comma}`{filter}` QoS {code}"),
            };
        }
        let codes = filters.into_iter().map(|(filter, _)| filter).zip(codes).collect();
        if refused {
            let asked = Hint { settings: &self.settings, who: self.who, wall: self.clock.wall() };
            let hint = hints::of(&asked, Stage::Subscribe, &told, None);
            let failure = Failure { reason: told, hint, certificate: None };
            self.tell_with(Stage::Subscribe, Outcome::Failed(failure), codes);
            return None;
        }
        self.tell_with(Stage::Subscribe, Outcome::Done(told), codes);
        Some(())
    }

    async fn publish(&mut self, talk: &mut Talk, topic: Option<TopicName>, welcome: Welcome) -> Option<()> {
        let Some(topic) = topic else {
            let why =
                "this cloud takes its own topics only, and there an empty message may count as a reading: see --topic";
            self.tell(Stage::Publish, Outcome::Skipped(why.into()));
            return Some(());
        };
        let qos = Qos::AtLeastOnce.min(self.settings.limits.max_qos).min(welcome.max_qos);
        match timeout(self.limit, talk.publish(&topic, qos)).await {
            Ok(Ok(code)) if code >= FAILURE => {
                self.fail(Stage::Publish, format!("`{topic}` refused: 0x{code:02x} {}", words::reason(code)))
            }
            Ok(Ok(_)) => {
                // [MQTT-3.3.5-2]: the server acknowledges also what it does not take.
                let doubt =
                    if talk.version == Version::V311 { "; 3.1.1 cannot say whether it was let through" } else { "" };
                self.done(Stage::Publish, format!("an empty message to `{topic}`, QoS {}{doubt}", qos.level()));
                Some(())
            }
            Ok(Err(reason)) => self.fail(Stage::Publish, format!("`{topic}`: {reason}")),
            Err(_) => self.fail(Stage::Publish, self.too_late("no answer to it")),
        }
    }
}
