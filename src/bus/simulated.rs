//! Ports without hardware: generators of believable lines, by name. For the demo, for tests, and to try a config before the cable is there.
//!
//! `sim:NAME`, with `?rate=LINES_A_SECOND` and `&seed=NUMBER` behind it. The same name and seed make the same lines; only their pace is
//! the clock's. A port may also play a file of recorded lines, over and over: `replay:FILE?rate=LINES_A_SECOND`.

use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};
use tracing::warn;

use super::PortEvent;
use crate::limits::{REPLAY_BYTES_MAX, SIMULATED_RATE_MAX};
use crate::model::BusId;

/// Names of the generators, and what they play.
pub const NAMES: &[(&str, &str)] = &[
    ("burst", "a counter, 50 lines a second"),
    ("greenhouse", "temperature and humidity as JSON, once a second"),
    ("meter", "an electricity meter as key=value, 5 lines a second"),
    ("tank", "level in mm and temperature as CSV, every 2 seconds"),
    ("weather", "wind as NMEA with its checksum, once a second"),
];

/// Why a name names no generator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimulatedError {
    /// No generator of that name.
    #[error("no simulated port named `{0}`")]
    Name(String),
    /// Something behind the `?` that no generator knows, or a number out of its range.
    #[error("`{0}` is no option of a simulated port; `rate=1` to `rate={SIMULATED_RATE_MAX}` and `seed=NUMBER` are")]
    Option(String),
}

/// A generator of lines.
#[derive(Debug, Clone)]
pub struct Simulated {
    kind: Kind,
    rate: f64,
    random: fastrand::Rng,
    /// Number of the next line, from 1.
    line: u64,
    /// What wanders from line to line, around 0.
    drift: [f64; 2],
    /// What only rises.
    total: f64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Lines of somebody else's making: in turn, and again from the first. A `%` in a template is a number that wanders.
    Given {
        lines: Arc<[String]>,
        templates: bool,
    },
    Burst,
    Greenhouse,
    Meter,
    Tank,
    Weather,
}

impl Simulated {
    /// The generator of that name.
    ///
    /// # Errors
    /// [`SimulatedError`] for a name or an option that is not known.
    pub fn new(name: &str) -> Result<Self, SimulatedError> {
        let (name, options) = name.split_once('?').unwrap_or((name, ""));
        let (kind, mut rate) = match name {
            "burst" => (Kind::Burst, 50.0),
            "greenhouse" => (Kind::Greenhouse, 1.0),
            "meter" => (Kind::Meter, 5.0),
            "tank" => (Kind::Tank, 0.5),
            "weather" => (Kind::Weather, 1.0),
            other => return Err(SimulatedError::Name(other.to_owned())),
        };
        let mut seed = 1;
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let wrong = || SimulatedError::Option(option.to_owned());
            match option.split_once('=') {
                Some(("rate", number)) => {
                    let lines: u32 = number.parse().map_err(|_| wrong())?;
                    if !(1..=SIMULATED_RATE_MAX).contains(&lines) {
                        return Err(wrong());
                    }
                    rate = f64::from(lines);
                }
                Some(("seed", number)) => seed = number.parse().map_err(|_| wrong())?,
                _ => return Err(wrong()),
            }
        }
        let random = fastrand::Rng::with_seed(seed);
        Ok(Self { kind, rate, random, line: 0, drift: [0.0; 2], total: 10_250.0 })
    }

    /// Lines by templates in turn, once a second each: `%` stands for a number that wanders around 20.
    pub fn templates(lines: Vec<String>, seed: u64) -> Self {
        let rate = f64::from(u32::try_from(lines.len()).unwrap_or(u32::MAX).max(1));
        Self::given(lines, true, rate, seed)
    }

    /// Recorded lines, over and over, `rate` a second.
    pub fn recorded(lines: Vec<String>, rate: u32) -> Self {
        Self::given(lines, false, f64::from(rate), 1)
    }

    fn given(lines: Vec<String>, templates: bool, rate: f64, seed: u64) -> Self {
        let kind = Kind::Given { lines: lines.into(), templates };
        Self { kind, rate, random: fastrand::Rng::with_seed(seed), line: 0, drift: [0.0; 2], total: 0.0 }
    }

    /// The next line, its end included.
    pub fn next_line(&mut self) -> String {
        self.line += 1;
        // Where a day stands that takes ten minutes of lines: long enough to look calm, short enough to be seen.
        #[allow(clippy::cast_precision_loss)] // 2^53 lines are 28 million years at ten a second.
        let day = (self.line as f64 / (self.rate * 600.0)).fract() * TAU;
        let [slow, quick] = self.wander();
        match &self.kind {
            Kind::Given { lines, templates } => {
                let Some(count) = u64::try_from(lines.len()).ok().filter(|count| *count > 0) else {
                    return String::new();
                };
                let at = usize::try_from((self.line - 1) % count).unwrap_or(0);
                if !templates {
                    return lines[at].clone();
                }
                let mut parts = lines[at].split('%');
                let mut text = parts.next().unwrap_or_default().to_owned();
                for part in parts {
                    let number = 20.0 + 3.0 * day.sin() + slow + 0.2 * self.random.f64();
                    // Writing to a String cannot fail.
                    let _ = write!(text, "{number:.2}{part}");
                }
                text + "\n"
            }
            Kind::Burst => format!("{{\"n\":{}}}\n", self.line),
            Kind::Greenhouse => {
                let temperature = 21.5 + 4.0 * day.sin() + 0.4 * slow;
                let humidity = (58.0 - 12.0 * day.sin() + 1.5 * quick).clamp(20.0, 98.0);
                format!("{{\"temperature\":{temperature:.1},\"humidity\":{humidity:.1}}}\n")
            }
            Kind::Meter => {
                let power = (420.0 + 160.0 * day.sin() + 25.0 * quick).max(12.0);
                let voltage = 230.0 + 1.2 * slow;
                self.total += power / self.rate / 3600.0;
                format!("power={power:.1} voltage={voltage:.1} energy={:.0}\n", self.total)
            }
            Kind::Tank => {
                let level = 1800.0 + 150.0 * (day / 2.0).cos() + 2.0 * quick;
                let temperature = 14.0 + 0.3 * slow;
                format!("{level:.0},{temperature:.1}\n")
            }
            Kind::Weather => {
                let direction = (214.0 + 25.0 * slow).rem_euclid(360.0);
                let speed = (3.5 + 1.5 * day.sin() + 0.8 * quick).max(0.0);
                let data = format!("WIMWV,{direction:.0},R,{speed:.1},M,A");
                let sum = data.bytes().fold(0, |sum, byte| sum ^ byte);
                format!("${data}*{sum:02X}\r\n")
            }
        }
    }

    /// Two values that go their own way and come back: one calm, one nervous.
    fn wander(&mut self) -> [f64; 2] {
        for (drift, pull) in self.drift.iter_mut().zip([0.02, 0.2]) {
            *drift += (self.random.f64() * 2.0 - 1.0) * f64::sqrt(pull) - *drift * pull;
        }
        self.drift
    }
}

/// A simulated port.
pub struct SimulatedPort {
    bus: BusId,
    state: State,
    buffer: Vec<u8>,
}

enum State {
    /// Not yet opened; the error is what the name is wrong in, or why its file cannot be played.
    Closed(Result<Simulated, String>),
    Open {
        lines: Simulated,
        ticks: Interval,
        /// Lines a tick.
        batch: u32,
    },
    /// There is no such generator, and there never will be.
    Away,
}

impl SimulatedPort {
    /// The port of a generator. A name that names none makes a port that is away.
    pub fn new(bus: BusId, name: &str) -> Self {
        Self::playing(bus, Simulated::new(name).map_err(|error| error.to_string()))
    }

    /// A port that plays these lines; an error makes one that is away.
    pub fn playing(bus: BusId, lines: Result<Simulated, String>) -> Self {
        Self { bus, state: State::Closed(lines), buffer: Vec::new() }
    }

    /// A port that plays a file.
    pub fn replaying(bus: BusId, path: &Path, rate: u32) -> Self {
        Self::playing(bus, recorded_lines(path).map(|lines| Simulated::recorded(lines, rate)))
    }

    /// Waits for what comes next. Cancel safe.
    pub async fn next(&mut self) -> PortEvent<'_> {
        match &mut self.state {
            State::Closed(Ok(lines)) => {
                // The timer has a resolution of 1 ms: at high rates several lines share a tick.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0.005 to 100
                let batch = (lines.rate / 100.0).ceil() as u32;
                let mut ticks = tokio::time::interval(Duration::from_secs_f64(f64::from(batch) / lines.rate));
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                self.state = State::Open { lines: lines.clone(), ticks, batch };
                PortEvent::Opened
            }
            State::Closed(Err(error)) => {
                warn!(bus = %self.bus, error = %error, "port cannot be opened");
                self.state = State::Away;
                PortEvent::Away
            }
            State::Open { lines, ticks, batch } => {
                ticks.tick().await;
                self.buffer.clear();
                for _ in 0..*batch {
                    self.buffer.extend_from_slice(lines.next_line().as_bytes());
                }
                PortEvent::Bytes { bytes: &self.buffer, midway: false }
            }
            State::Away => std::future::pending().await,
        }
    }
}

/// The lines of a file, their ends included; the last one is given an end where it has none.
fn recorded_lines(path: &Path) -> Result<Vec<String>, String> {
    let told = |reason: &dyn std::fmt::Display| format!("`{}` cannot be played: {reason}", path.display());
    let size = std::fs::metadata(path).map_err(|error| told(&error))?.len();
    if size > REPLAY_BYTES_MAX {
        return Err(told(&format!("it has {size} bytes, more than {REPLAY_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| told(&error))?;
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    match lines.last_mut() {
        None => return Err(told(&"it is empty")),
        Some(last) if !last.ends_with('\n') => last.push('\n'),
        Some(_) => {}
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(name: &str, count: usize) -> Vec<String> {
        let mut simulated = Simulated::new(name).unwrap();
        (0..count).map(|_| simulated.next_line()).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_lines() {
        for (name, _) in NAMES {
            assert_eq!(lines(name, 100), lines(&format!("{name}?seed=1"), 100), "{name}");
        }
        assert_ne!(lines("greenhouse?seed=1", 100), lines("greenhouse?seed=2", 100));
    }

    #[test]
    fn a_greenhouse_stays_a_greenhouse() {
        for line in lines("greenhouse", 10_000) {
            let document: serde_json::Value = serde_json::from_str(&line).unwrap();
            let temperature = document["temperature"].as_f64().unwrap();
            let humidity = document["humidity"].as_f64().unwrap();
            assert!((10.0..35.0).contains(&temperature), "{line}");
            assert!((20.0..=98.0).contains(&humidity), "{line}");
        }
    }

    #[test]
    fn weather_is_true_nmea() {
        for line in lines("weather", 1_000) {
            let (data, sum) = line.trim_end().strip_prefix('$').unwrap().split_once('*').unwrap();
            let expected = data.bytes().fold(0, |sum, byte| sum ^ byte);
            assert_eq!(u8::from_str_radix(sum, 16).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn a_meter_only_counts_up() {
        let energies: Vec<f64> = lines("meter", 10_000)
            .iter()
            .map(|line| line.trim_end().rsplit_once("energy=").unwrap().1.parse().unwrap())
            .collect();
        assert!(energies.is_sorted());
        assert!(energies.last() > energies.first());
    }

    #[test]
    fn a_burst_counts_its_lines() {
        assert_eq!(lines("burst?rate=500", 3), ["{\"n\":1}\n", "{\"n\":2}\n", "{\"n\":3}\n"]);
    }

    #[test]
    fn a_template_s_holes_are_numbers_and_templates_take_turns() {
        let mut simulated = Simulated::templates(vec!["%;%".into(), "t=%".into()], 1);
        let (first, second) = (simulated.next_line(), simulated.next_line());
        let numbers: Vec<f64> = first.trim_end().split(';').map(|number| number.parse().unwrap()).collect();
        assert_eq!(numbers.len(), 2);
        assert!(numbers.iter().all(|number| (10.0..30.0).contains(number)), "{first}");
        assert!(second.starts_with("t="), "{second}");
    }

    #[tokio::test]
    async fn a_recording_is_played_over_and_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wind.txt");
        std::fs::write(&path, "a\r\nb").unwrap();
        let mut port = SimulatedPort::replaying(BusId::parse("wind").unwrap(), &path, 1_000);
        assert_eq!(port.next().await, PortEvent::Opened);
        let mut heard = Vec::new();
        while heard.len() < 9 {
            if let PortEvent::Bytes { bytes, .. } = port.next().await {
                heard.extend_from_slice(bytes);
            }
        }
        assert!(heard.starts_with(b"a\r\nb\na\r\n"), "{heard:?}");
    }

    #[tokio::test]
    async fn a_recording_that_cannot_be_played_is_a_port_that_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.txt");
        std::fs::write(&empty, "").unwrap();
        for path in [empty, folder.path().join("missing.txt")] {
            let mut port = SimulatedPort::replaying(BusId::parse("wind").unwrap(), &path, 1);
            assert_eq!(port.next().await, PortEvent::Away);
        }
    }

    #[test]
    fn what_is_no_generator_is_told() {
        assert_eq!(Simulated::new("sea").unwrap_err(), SimulatedError::Name("sea".into()));
        for option in ["rate=0", "rate=10001", "rate=x", "speed=1", "rate"] {
            assert_eq!(Simulated::new(&format!("burst?{option}")).unwrap_err(), SimulatedError::Option(option.into()));
        }
    }
}
