//! The log: where it goes and what it lets through.
//!
//! On a terminal it is text with colours; under systemd it is the same text with the priority the journal sorts by (sd-daemon(3)), so that
//! `journalctl -u tidegate` shows the cause beside the message; elsewhere it is text, a line an event.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// What the log is told to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A level, and levels of parts of the program: `info`, or `info,tidegate::bridge=debug`. `$RUST_LOG` overrides it.
    pub level: String,
    /// Form of a line.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

/// Form of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text; under systemd with the journal's priorities.
    #[default]
    Auto,
    /// Text on standard error, coloured on a terminal.
    Text,
    /// One JSON object a line on standard error.
    Json,
    /// The journal's own protocol: every field can be searched for, but plain `journalctl` shows the message without them.
    Journald,
}

/// Why there is no log as asked for.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("log level `{level}`: {error}")]
    Filter {
        /// As written.
        level: String,
        /// What is wrong with it.
        error: String,
    },
    /// The journal's socket cannot be reached.
    #[error("connect to the journal: {0}")]
    Journal(io::Error),
    /// The filter cannot be exchanged any more.
    #[error("change the log level: {0}")]
    Reload(String),
}

/// Checks a filter without using it.
///
/// # Errors
/// [`LogError::Filter`] when it cannot be read.
pub fn check_level(level: &str) -> Result<(), LogError> {
    filter(level).map(drop)
}

/// The filter of the environment, for whoever looks into a fault without touching the config.
fn effective(level: &str) -> Result<Targets, LogError> {
    match std::env::var("RUST_LOG") {
        Ok(own) if !own.is_empty() => filter(&own),
        _ => filter(level),
    }
}

fn filter(level: &str) -> Result<Targets, LogError> {
    // rumqttd's router tells each subscription as INFO; whoever wants that says so: a later directive overrides an earlier one.
    // The WebSocket library tells whole messages as TRACE, and no payload belongs into a log because someone looks for something else.
    let mut directives = String::from("rumqttd=warn,tungstenite=info,tokio_tungstenite=info");
    for directive in level.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        directives.push(',');
        directives.push_str(directive);
    }
    // No filter by spans and the values in them: there are none here, and it brings a second engine of regular expressions.
    directives.parse().map_err(|error: ParseError| LogError::Filter { level: level.into(), error: error.to_string() })
}

type Handle = reload::Handle<Targets, Registry>;

/// The one filter of the process, exchanged by a reload.
static FILTER: OnceLock<Handle> = OnceLock::new();

/// Sets the log up, once per process.
///
/// # Errors
/// [`LogError`] when the filter cannot be read, or the journal was asked for by name and is not there.
pub fn init(settings: &LogSettings) -> Result<(), LogError> {
    let (filter, handle) = reload::Layer::new(effective(&settings.level)?);
    let output: Box<dyn Layer<_> + Send + Sync> = match settings.format {
        LogFormat::Journald => Box::new(journal().map_err(LogError::Journal)?),
        LogFormat::Auto if under_journal() => fmt::layer()
            .with_ansi(false)
            .event_format(WithPriority(fmt::format().with_ansi(false).with_target(false).without_time()))
            .with_writer(io::stderr)
            .boxed(),
        LogFormat::Auto | LogFormat::Text => {
            fmt::layer().with_ansi(super::colours()).with_target(false).with_writer(io::stderr).boxed()
        }
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed(),
    };
    install(Registry::default().with(filter).with(output), handle);
    Ok(())
}

/// Sets the log up to write to `sink`, a line at a time, without colours: a screen of our own shows it.
///
/// # Errors
/// [`LogError::Filter`] when the filter cannot be read.
pub fn init_into(level: &str, sink: Arc<dyn Fn(&str) + Send + Sync>) -> Result<(), LogError> {
    let (filter, handle) = reload::Layer::new(effective(level)?);
    let output = fmt::layer()
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_writer(move || LineSink { sink: Arc::clone(&sink), line: Vec::new() });
    install(Registry::default().with(filter).with(output), handle);
    Ok(())
}

fn install(subscriber: impl SubscriberInitExt, handle: Handle) {
    // A second log in one process is a test starting a second gateway; the first goes on.
    if subscriber.try_init().is_ok() {
        FILTER.set(handle).ok();
    }
}

/// Changes the filter while the process runs.
///
/// # Errors
/// [`LogError`] when the filter cannot be read; the old one goes on then.
pub fn set_level(level: &str) -> Result<(), LogError> {
    let filter = effective(level)?;
    match FILTER.get() {
        Some(handle) => handle.reload(filter).map_err(|e| LogError::Reload(e.to_string())),
        None => Ok(()),
    }
}

/// Puts the priority before the line, as the journal reads it from standard error; the journal adds the time itself.
struct WithPriority<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithPriority<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        write!(line, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, line, event)
    }
}

/// Severity of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

fn journal() -> io::Result<tracing_journald::Layer> {
    tracing_journald::layer().map(|layer| layer.with_syslog_identifier("tidegate".into()))
}

/// Whether standard error is the journal: systemd then names device and inode of the stream (systemd.exec(5), `$JOURNAL_STREAM`).
fn under_journal() -> bool {
    use std::os::unix::fs::MetadataExt;

    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Some((device, inode)) = stream.split_once(':') else { return false };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|meta| device.parse() == Ok(meta.dev()) && inode.parse() == Ok(meta.ino()))
}

/// Gathers one event's bytes and hands them on as a line.
struct LineSink {
    sink: Arc<dyn Fn(&str) + Send + Sync>,
    line: Vec<u8>,
}

impl Write for LineSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineSink {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        for line in text.lines() {
            (self.sink)(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_a_priority_and_the_whole_line() {
        let lines = Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink: Arc<dyn Fn(&str) + Send + Sync> = {
            let lines = Arc::clone(&lines);
            Arc::new(move |line| lines.lock().unwrap().push(line.to_owned()))
        };
        let layer = fmt::layer()
            .with_ansi(false)
            .event_format(WithPriority(fmt::format().with_ansi(false).with_target(false).without_time()))
            .with_writer(move || LineSink { sink: Arc::clone(&sink), line: Vec::new() });
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            tracing::warn!(bridge = "cloud", error = "connection refused", "the cloud is out of reach");
            tracing::info!("gateway is up");
        });
        let expected = [
            r#"<4> WARN the cloud is out of reach bridge="cloud" error="connection refused""#,
            "<6> INFO gateway is up",
        ];
        assert_eq!(*lines.lock().unwrap(), expected);
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        assert!(check_level("info,tidegate::bridge=debug").is_ok());
        let error = check_level("info,tidegate=loud").unwrap_err().to_string();
        assert!(error.starts_with("log level `info,tidegate=loud`: "), "{error}");
    }

    #[test]
    fn a_part_of_the_program_has_its_own_level_and_the_later_word_counts() {
        let told = |level: &str, target: &str, of: Level| filter(level).unwrap().would_enable(target, &of);
        assert!(told("info", "tidegate::bridge::engine", Level::INFO));
        assert!(!told("info", "tidegate::bridge::engine", Level::DEBUG));
        assert!(told("info, tidegate::bridge=debug,", "tidegate::bridge::engine", Level::DEBUG));
        assert!(!told("info,tidegate::bridge=debug", "tidegate::broker", Level::DEBUG));
        assert!(!told("debug", "rumqttd::router", Level::INFO));
        assert!(told("info,rumqttd=info", "rumqttd::router", Level::INFO));
    }
}
