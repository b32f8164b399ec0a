//! A page over a gateway that does as the test says, and a visitor that speaks raw HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};

use crate::clock::SystemClock;
use crate::health::Health;
use crate::http::{HttpError, Patience, Server, Settings};
use crate::model::chore::{Chore, ChoreReport};
use crate::model::clients::{ClientOverview, ClientsOverview, Kick, KickRefusal, KickReport};
use crate::model::overview::{BusOverview, Event, HealthReport, Overview, SensorOverview, Shown, ValueOverview};
use crate::model::{Ack, ActuatorId, ActuatorView, Command, Message, Outcome, Secret, TopicName};
use crate::ports::{Acceptance, Answer, ChoreDone, Commands, Stage, Watch};

const WAIT: Duration = Duration::from_secs(60);

/// The gateway.
#[derive(Default)]
struct Puppet {
    overview: Mutex<Overview>,
    broken: Mutex<Vec<String>>,
    given: Mutex<Vec<String>>,
    answer: Mutex<Option<(Outcome, &'static str)>>,
}

struct Hand(Arc<Puppet>);

impl Commands for Hand {
    fn offer(&self, _message: &Arc<Message>) -> Option<Acceptance> {
        None
    }

    fn command(&self, actuator: &ActuatorId, command: Command) -> Option<Answer> {
        if actuator.as_str() != "pump" {
            return None;
        }
        assert_eq!(command, Command::of_page(command.payload.clone()), "it comes from the page");
        self.0.given.lock().unwrap().push(String::from_utf8(command.payload.to_vec()).unwrap());
        let ack = match *self.0.answer.lock().unwrap() {
            None => Ack::done(None),
            Some((outcome, reason)) => Ack::because(None, outcome, reason),
        };
        Some(Box::pin(std::future::ready(ack)))
    }

    fn takes(&self, _topic: &TopicName) -> bool {
        false
    }

    fn actuators(&self) -> Vec<ActuatorView> {
        Vec::new()
    }
}

/// What the page is given: the puppet, and who takes its commands.
struct Strings(Arc<Puppet>);

impl Watch for Strings {
    fn overview(&self) -> Overview {
        let mut overview = self.0.overview.lock().unwrap();
        overview.uptime_ms += 1;
        overview.clone()
    }

    fn events_after(&self, _number: u64) -> Vec<Event> {
        Vec::new()
    }

    fn alive(&self) -> HealthReport {
        HealthReport::of("g", Vec::new())
    }

    fn ready(&self) -> HealthReport {
        HealthReport::of("g", self.0.broken.lock().unwrap().clone())
    }

    fn reconnect(&self, bridge: &str) -> bool {
        bridge == "cloud"
    }

    fn chore(&self, bridge: &str, chore: Chore) -> Option<ChoreDone> {
        self.0.given.lock().unwrap().push(format!("{:?} after {}", chore.errand, chore.after));
        let report = ChoreReport { done: 3, next: Some(42) };
        (bridge == "cloud").then(|| -> ChoreDone { Box::pin(std::future::ready(Ok(report))) })
    }

    fn clients(&self, pattern: &str) -> Option<ClientsOverview> {
        let client = ClientOverview { id: pattern.to_owned(), ..ClientOverview::default() };
        Some(ClientsOverview { clients: vec![client], more: 0 })
    }

    fn kick(&self, kick: &Kick) -> Result<KickReport, KickRefusal> {
        self.0.given.lock().unwrap().push(format!("kick {} {}", kick.client, kick.forget));
        match kick.client.as_str() {
            "here" => Ok(KickReport { was_connected: true, is_forgotten: kick.forget }),
            "away" => Err(KickRefusal::Away),
            _ => Err(KickRefusal::Unknown(kick.client.clone())),
        }
    }

    fn commands(&self) -> Option<Arc<dyn Commands>> {
        Some(Arc::new(Hand(Arc::clone(&self.0))))
    }

    fn stage(&self) -> Option<Arc<dyn Stage>> {
        None
    }
}

/// One whose control socket cannot be made: a file is in its place.
pub(super) async fn without_control() -> Page {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("control.sock"), "in the way").unwrap();
    Page::start_in(dir, Patience { control: SHORT, ..Patience::default() }, |_| ()).await
}

/// A running page.
pub(super) struct Page {
    server: Server,
    puppet: Arc<Puppet>,
    settings: Settings,
    pub(super) address: SocketAddr,
    dir: TempDir,
}

/// A page as it comes.
pub(super) async fn page() -> Page {
    Page::start(|_| ()).await
}

/// What a hasty page waits.
pub(super) const SHORT: Duration = Duration::from_millis(300);

/// A page that waits for nobody long.
pub(super) async fn hasty() -> Page {
    Page::start_with(Patience { head: SHORT, body: SHORT, write: SHORT, control: SHORT }, |_| ()).await
}

pub(super) fn with_token(settings: &mut Settings) {
    settings.token = Some(Secret::new("open sesame".into()));
}

pub(super) async fn open(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect(address).await
}

fn sensor(id: &str, value: f64, good: u64) -> SensorOverview {
    let value = ValueOverview { name: "t".into(), value: Shown::Number(value), unit: None };
    SensorOverview { id: id.into(), quality: "good".into(), values: vec![value], good, ..SensorOverview::default() }
}

impl Page {
    pub(super) async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_with(Patience::default(), change).await
    }

    async fn start_with(patience: Patience, change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), patience, change).await
    }

    async fn start_in(dir: TempDir, patience: Patience, change: impl FnOnce(&mut Settings)) -> Self {
        let puppet = Arc::new(Puppet::default());
        let sensors = vec![sensor("air", 21.5, 1), sensor("soil", 14.0, 1)];
        let bus = BusOverview { id: "usb".into(), sensors, ..BusOverview::default() };
        *puppet.overview.lock().unwrap() = Overview { gateway: "g".into(), buses: vec![bus], ..Overview::default() };
        let mut settings = Settings { listen: "127.0.0.1:0".parse().unwrap(), token: None, commands: true };
        change(&mut settings);
        let watch = Arc::new(Strings(Arc::clone(&puppet)));
        let control = dir.path().join("control.sock");
        let (clock, health) = (SystemClock::shared(), Health::new());
        let server = Server::start_with(Some(settings.clone()), &control, watch, clock, &health, patience).await;
        let server = server.unwrap();
        let address = server.address().unwrap();
        Self { server, puppet, settings, address, dir }
    }

    pub(super) async fn try_apply(&mut self, change: impl FnOnce(&mut Settings)) -> Result<(), HttpError> {
        let mut settings = self.settings.clone();
        change(&mut settings);
        self.server.apply(Some(settings.clone())).await?;
        self.settings = settings;
        self.address = self.server.address().unwrap();
        Ok(())
    }

    pub(super) async fn apply(&mut self, change: impl FnOnce(&mut Settings)) {
        self.try_apply(change).await.unwrap();
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    pub(super) async fn stop(self) {
        self.server.stop(Duration::from_secs(5)).await;
        // The directory goes last; what is in it is looked at before.
        std::mem::forget(self.dir);
    }

    /// The air has another temperature.
    pub(super) fn measure(&self, temperature: f64) {
        self.puppet.overview.lock().unwrap().buses[0].sensors[0] = sensor("air", temperature, 2);
    }

    pub(super) fn break_down(&self, reason: &str) {
        self.puppet.broken.lock().unwrap().push(reason.to_owned());
    }

    pub(super) fn answer_with(&self, outcome: Outcome, reason: &'static str) {
        *self.puppet.answer.lock().unwrap() = Some((outcome, reason));
    }

    /// Payloads of the commands that were handed in.
    pub(super) fn given(&self) -> Vec<String> {
        self.puppet.given.lock().unwrap().clone()
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "", "").await
    }

    pub(super) async fn ask(&self, method: &str, path: &str, fields: &str, body: &str) -> Reply {
        self.raw(&request(method, path, fields, body)).await
    }

    /// Sends these bytes and reads to the end.
    pub(super) async fn raw(&self, request: &str) -> Reply {
        let visitor = open(self.address).await.unwrap();
        exchange(visitor, request).await.expect("an answer")
    }

    /// `None` where the connection is closed without an answer.
    pub(super) async fn try_get(&self, path: &str) -> Option<Reply> {
        exchange(open(self.address).await.ok()?, &request("GET", path, "", "")).await
    }

    /// The same by the control socket.
    pub(super) async fn control(&self, method: &str, path: &str, body: &str) -> Reply {
        let visitor = UnixStream::connect(self.socket()).await.unwrap();
        exchange(visitor, &request(method, path, "Content-Type: application/json\r\n", body)).await.expect("an answer")
    }

    pub(super) async fn stream(&self, fields: &str) -> Stream {
        let mut visitor = open(self.address).await.unwrap();
        let request = format!("GET /api/stream HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        visitor.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(visitor);
        let mut status = String::new();
        lines.read_line(&mut status).await.unwrap();
        Stream { lines, status: status[9..12].parse().unwrap() }
    }
}

fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost:9273\r\nConnection: close\r\n{fields}{length}\r\n{body}")
}

async fn exchange(mut visitor: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Option<Reply> {
    // A server that refuses early may close before all is sent.
    let _ = visitor.write_all(request.as_bytes()).await;
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(WAIT, visitor.read_to_end(&mut bytes)).await.expect("the answer ends");
    if read.is_err() && bytes.is_empty() {
        return None;
    }
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.get(9..12)?.parse().ok()?;
    Some(Reply { status, head: head.to_owned(), body: body.to_owned() })
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Reply {
    /// A header field; empty when there is none.
    pub(super) fn field(&self, name: &str) -> &str {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
}

/// An open stream of events.
pub(super) struct Stream {
    lines: BufReader<TcpStream>,
    pub(super) status: u16,
}

impl Stream {
    /// Data of the next event, which must be of this name.
    pub(super) async fn next(&mut self, name: &str) -> String {
        let told = async {
            let mut event = String::new();
            loop {
                let mut line = String::new();
                assert!(self.lines.read_line(&mut line).await.unwrap() > 0, "the stream ended");
                if let Some(name) = line.strip_prefix("event: ") {
                    name.trim().clone_into(&mut event);
                } else if let Some(data) = line.strip_prefix("data: ") {
                    assert_eq!(event, name);
                    return data.trim().to_owned();
                }
            }
        };
        tokio::time::timeout(WAIT, told).await.expect("an event")
    }

    /// Waits until the server ends it.
    pub(super) async fn end(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = self.lines.read_to_end(&mut rest).await;
    }
}
