//! Plays what came over the wire through the sensors of a plan, on a clock that the transcript moves.

use std::fmt::Write as _;
use std::time::Duration;

use tidegate::bus::gpio::LineEdge;
use tidegate::bus::i2c::{I2cHandle, Pause, Replay};
use tidegate::clock::{Clock, FakeClock};
use tidegate::drivers::{Factory, PolledDriver, SampleError};
use tidegate::model::{LineTotals, Message, Moment, Timestamp};
use tidegate::plan::Plan;
use tidegate::sensing::{Chain, LineChain, StreamChain};

/// 2026-11-23T01:15:00Z, when every transcript begins.
const START_UNIX_MS: i64 = 1_795_396_500_000;

struct Stage {
    clock: FakeClock,
    start: Moment,
    chains: Vec<Player>,
    wire: Replay,
    /// What the kernel shows.
    sys: tempfile::TempDir,
    told: String,
    /// Of the line: whether it is active, and how many edges were lost since the last that was told.
    active: bool,
    lost: u32,
}

/// A sensor, and how it is heard.
enum Player {
    Stream(StreamChain),
    Polled(Chain, Box<dyn PolledDriver>),
    Line(LineChain),
}

impl Player {
    fn chain(&self) -> &Chain {
        match self {
            Player::Stream(stream) => stream.chain(),
            Player::Polled(chain, _) => chain,
            Player::Line(line) => line.chain(),
        }
    }

    /// When its task would wake: to tick, or to look at the line.
    fn timeout(&self) -> Option<Moment> {
        match self {
            Player::Stream(_) | Player::Polled(..) => self.chain().timeout(),
            Player::Line(line) => [line.timeout(), line.look_at()].into_iter().flatten().min(),
        }
    }

    fn wake(&mut self, active: bool, now: Moment, wall: Timestamp, out: &mut Vec<Message>) {
        match self {
            Player::Stream(stream) => stream.chain_mut().tick(now, out),
            Player::Polled(chain, _) => chain.tick(now, out),
            Player::Line(line) => {
                if line.look_at().is_some_and(|at| now >= at) {
                    line.level(active, now, wall, out);
                }
                line.tick(now, wall, out);
            }
        }
    }
}

/// The messages of a transcript, one JSON object a line.
pub(crate) fn play(plan: &Plan, transcript: &str) -> String {
    let clock = FakeClock::new(START_UNIX_MS);
    let start = clock.now();
    let wire = Replay::default();
    let sys = tempfile::tempdir().unwrap();
    let chains = plan
        .sensors
        .iter()
        .map(|sensor| match &sensor.factory {
            Factory::Stream(factory) => Player::Stream(StreamChain::new(sensor.clone(), factory.as_ref(), start)),
            Factory::I2c(factory) => {
                let driver = factory.make(I2cHandle::new(wire.clone()), Pause::None);
                Player::Polled(Chain::new(sensor.clone(), start), driver)
            }
            Factory::Line(factory) => Player::Line(LineChain::new(sensor.clone(), factory.as_ref(), start)),
            Factory::Files(factory) => Player::Polled(Chain::new(sensor.clone(), start), factory.make(sys.path())),
        })
        .collect();
    let mut stage = Stage { clock, start, chains, wire, sys, told: String::new(), active: false, lost: 0 };
    let mut lines = transcript.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = format!("bus.txt:{}", index + 1);
        let (time, what) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let wait = time.strip_prefix('+').and_then(duration).unwrap_or_else(|| panic!("{at}: no time in `{line}`"));
        stage.pass(wait);
        let what = what.trim_start();
        if let Some(id) = what.strip_prefix("read ") {
            while let Some((_, operation)) = lines.next_if(|(_, line)| line.starts_with(' ')) {
                stage.wire.expect(operation.trim()).unwrap_or_else(|error| panic!("{at}: {error}"));
            }
            stage.read(id.trim(), &at);
        } else if let Some(file) = what.strip_prefix("file ") {
            stage.show(file);
        } else {
            stage.happen(what, &at);
        }
    }
    stage.count();
    stage.told
}

impl Stage {
    /// Lets time pass, ticking at each deadline on the way as the bus's task does.
    fn pass(&mut self, wait: Duration) {
        let end = self.clock.now() + wait;
        while let Some(deadline) = self.chains.iter().filter_map(Player::timeout).min().filter(|at| *at <= end) {
            self.clock.advance(deadline.since(self.clock.now()));
            let (active, wall) = (self.active, self.clock.wall());
            self.each(|chain, now, out| chain.wake(active, now, wall, out));
        }
        self.clock.advance(end.since(self.clock.now()));
    }

    fn happen(&mut self, what: &str, at: &str) {
        let wall = self.clock.wall();
        match what.split_at_checked(1) {
            None => {}
            Some((sign @ ("<" | "?"), text)) => {
                let bytes = unescape(text.trim_start()).unwrap_or_else(|bad| panic!("{at}: `{bad}` is no escape"));
                self.streams(|chain, now, out| chain.received(&bytes, sign == "?", now, wall, out));
            }
            Some(_) => match what {
                "away" => self.each(|chain, now, out| match chain {
                    Player::Stream(stream) => stream.port_away(now, out),
                    Player::Polled(chain, _) => chain.port_away(now, out),
                    Player::Line(line) => line.away(now, out),
                }),
                "back" => self.streams(|chain, _, _| chain.port_opened()),
                "synced" | "unsynced" => self.clock.set_wall(Timestamp { synced: what == "synced", ..wall }),
                other => self.happen_to_lines(other, at),
            },
        }
    }

    /// The kernel shows a file below `/sys`, or shows it no more.
    fn show(&self, file: &str) {
        let (path, content) = file.split_once(' ').map_or((file, None), |(path, content)| (path, Some(content)));
        let path = self.sys.path().join(path);
        match content {
            Some(content) => {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, format!("{content}\n")).unwrap();
            }
            None => std::fs::remove_file(path).unwrap(),
        }
    }

    /// Asks one sensor once. The conversation must go as recorded.
    fn read(&mut self, id: &str, at: &str) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let mut out = Vec::new();
        let mut reason = None;
        let player = self.chains.iter_mut().find(|player| player.chain().plan().id.as_str() == id);
        let Some(Player::Polled(chain, driver)) = player else { panic!("{at}: no sensor `{id}` is asked") };
        match driver.sample() {
            Ok(samples) => chain.sampled(samples, now, wall, &mut out),
            Err(SampleError::Away(why)) => {
                chain.port_away(now, &mut out);
                reason = Some(why);
            }
            Err(SampleError::Device(why)) => {
                driver.reset();
                chain.unread(&why, now, &mut out);
                reason = Some(why);
            }
        }
        if let Some(difference) = self.wire.finish() {
            panic!("{at}: {difference}");
        }
        if let Some(reason) = reason {
            let _ = writeln!(self.told, r#"{{"sensor":"{id}","error":{reason:?}}}"#);
        }
        for message in out {
            self.tell(&message, now);
        }
    }

    /// `opened active`, `edge inactive`, `lost 3`, `total 1000`.
    fn happen_to_lines(&mut self, what: &str, at: &str) {
        let wall = self.clock.wall();
        let (word, rest) = what.split_once(' ').unwrap_or((what, ""));
        let active = rest == "active";
        match (word, rest) {
            ("opened", "active" | "inactive") => {
                self.active = active;
                self.lost = 0;
                self.lines(|line, now, out| {
                    if line.totals().is_none() {
                        line.restore(LineTotals::default(), now, wall, out);
                    }
                    line.opened(active, now, wall, out);
                });
            }
            ("edge", "active" | "inactive") => {
                self.active = active;
                let lost = std::mem::take(&mut self.lost);
                self.lines(|line, now, out| line.edges(&[LineEdge { active, at: now, lost }], now, wall, out));
            }
            ("lost", count) => {
                let count: u32 = count.parse().unwrap_or_else(|_| panic!("{at}: `{count}` is no number of edges"));
                self.lost += count;
                self.active ^= count % 2 == 1;
            }
            ("total", count) => {
                let count = count.parse().unwrap_or_else(|_| panic!("{at}: `{count}` is no total"));
                self.lines(|line, now, out| line.restore(LineTotals { count, missed: 0 }, now, wall, out));
            }
            _ => panic!("{at}: `{what}` is nothing that happens"),
        }
    }

    fn streams(&mut self, mut act: impl FnMut(&mut StreamChain, Moment, &mut Vec<Message>)) {
        self.each(|chain, now, out| {
            if let Player::Stream(stream) = chain {
                act(stream, now, out);
            }
        });
    }

    fn lines(&mut self, mut act: impl FnMut(&mut LineChain, Moment, &mut Vec<Message>)) {
        self.each(|chain, now, out| {
            if let Player::Line(line) = chain {
                act(line, now, out);
            }
        });
    }

    fn each(&mut self, mut act: impl FnMut(&mut Player, Moment, &mut Vec<Message>)) {
        let now = self.clock.now();
        let mut out = Vec::new();
        for chain in &mut self.chains {
            act(chain, now, &mut out);
        }
        for message in out {
            self.tell(&message, now);
        }
    }

    /// What became of each sensor's frames.
    fn count(&mut self) {
        for view in self.chains.iter().map(Player::chain).map(Chain::view) {
            let (id, frames) = (&view.id, view.frames);
            let _ = writeln!(
                self.told,
                r#"{{"sensor":"{id}","good":{},"bad":{},"ignored":{}}}"#,
                frames.good, frames.bad, frames.ignored
            );
        }
    }

    fn tell(&mut self, message: &Message, now: Moment) {
        let text = String::from_utf8(message.payload.to_vec()).unwrap();
        // A JSON payload stands as it is, so that its order and its numbers are compared too.
        let payload = if text.starts_with('{') { text } else { format!("{text:?}") };
        let _ = writeln!(
            self.told,
            r#"{{"at":"{}ms","topic":"{}","qos":{},"retain":{},"payload":{payload}}}"#,
            now.since(self.start).as_millis(),
            message.topic,
            message.qos.level(),
            message.retain,
        );
    }
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number * 60)),
        _ => None,
    }
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend(c.to_string().as_bytes());
            continue;
        }
        match rest.next() {
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('t') => bytes.push(b'\t'),
            Some('\\') => bytes.push(b'\\'),
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits}"))?);
            }
            other => return Err(format!("\\{}", other.map(String::from).unwrap_or_default())),
        }
    }
    Ok(bytes)
}
