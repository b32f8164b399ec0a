//! The demo without a terminal: a line a second, the cable cut for the middle third.

use std::io::Write;
use std::time::Duration;

use crate::model::{Sample, Value};
use crate::telemetry::{LogSettings, log};

use super::scene::{Scene, Verdict, View};
use super::{DemoError, io};

/// How long it goes on when nobody says.
const DURATION: Duration = Duration::from_secs(30);
/// How often the state is looked at between two lines.
const LOOK: Duration = Duration::from_millis(50);

/// What happens to the cable over time.
enum Cable {
    Before,
    Cut,
    Mended(Duration),
    After,
}

/// Shows it on standard output.
pub(super) async fn show(duration: Option<Duration>) -> Result<Verdict, DemoError> {
    log::init(&LogSettings { level: "warn".into(), ..LogSettings::default() })?;
    let duration = duration.unwrap_or(DURATION);
    let mut scene = Scene::set().await?;
    let first = scene.view();
    say(format_args!(
        "local broker on {}; the link is cut from {:.0} s to {:.0} s of {:.0} s",
        first.local,
        duration.as_secs_f64() / 3.0,
        duration.as_secs_f64() / 1.5,
        duration.as_secs_f64(),
    ))?;
    if let Some(page) = first.page {
        say(format_args!("the page is at http://{page}/"))?;
    }

    let mut next_line = Duration::ZERO;
    let mut cable = Cable::Before;
    let mut interrupted = false;
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    while !interrupted {
        let view = scene.view();
        if view.elapsed >= duration {
            break;
        }
        let at = view.elapsed.as_secs_f64();
        match cable {
            Cable::Before if view.elapsed >= duration / 3 => {
                scene.set_link(false);
                cable = Cable::Cut;
                say(format_args!("{at:5.1} s  -- the link is cut --"))?;
            }
            Cable::Cut if view.elapsed >= duration / 3 * 2 => {
                scene.set_link(true);
                cable = Cable::Mended(view.elapsed);
                say(format_args!("{at:5.1} s  -- the link is mended --"))?;
            }
            Cable::Mended(since) if view.is_online() => {
                cable = Cable::After;
                let took = view.elapsed.saturating_sub(since).as_secs_f64();
                say(format_args!("{at:5.1} s  -- online again {took:.1} s after the mend --"))?;
            }
            _ => {}
        }
        if view.elapsed >= next_line {
            next_line = view.elapsed + Duration::from_secs(1);
            say(format_args!("{}", line(&view)))?;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = &mut stop => interrupted = true,
        }
    }
    let verdict = scene.finish().await;
    scene.strike().await;
    verdict
}

fn say(line: std::fmt::Arguments<'_>) -> Result<(), DemoError> {
    writeln!(std::io::stdout().lock(), "{line}").map_err(io("write to standard output"))
}

fn line(view: &View) -> String {
    let values: Vec<String> = view.sensors.iter().filter_map(|sensor| sensor.values.first().map(shown)).collect();
    format!(
        "{:5.1} s  {:10}  queue {:5}  delivered {:6}  lost {}  QoS 2 doubled {}  QoS 1 repeated {}   {}",
        view.elapsed.as_secs_f64(),
        view.bridge.state.word(),
        view.bridge.queued,
        view.above.arrived,
        view.above.lost,
        view.above.doubled,
        view.above.repeated,
        values.join("  "),
    )
}

/// A value as a person reads it.
pub(super) fn shown(sample: &Sample) -> String {
    match &sample.value {
        Value::Integer(i) => format!("{} {i}", sample.name),
        Value::Number(x) => format!("{} {x:.2}", sample.name),
        Value::Text(text) => format!("{} {text}", sample.name),
        Value::Flag(flag) => format!("{} {}", sample.name, if *flag { "on" } else { "off" }),
    }
}
