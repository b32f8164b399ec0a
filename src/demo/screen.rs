//! The demo on a terminal: a screen that refreshes, and keys.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};
use tokio::sync::mpsc;

use crate::bridge::LinkState;
use crate::limits::{DEMO_FRAME, DEMO_LOG_LINES};
use crate::model::Quality;
use crate::telemetry::log;

use super::plain::shown;
use super::scene::{Scene, Verdict, View};
use super::{DemoError, io as attempted};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Cable,
    Cloud,
    Quit,
}

/// Last lines of the log.
type LogLines = Arc<Mutex<VecDeque<String>>>;

/// Shows it on the terminal until a key, a signal or the duration ends it.
pub(super) async fn show(duration: Option<Duration>) -> Result<Verdict, DemoError> {
    let lines = LogLines::default();
    let sink = Arc::clone(&lines);
    log::init_into(
        // The stage is set in steps, and what `app` says of them would confuse.
        "info,tidegate::app=warn",
        Arc::new(move |line| {
            let mut lines = sink.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == DEMO_LOG_LINES {
                lines.pop_front();
            }
            lines.push_back(line.to_owned());
        }),
    )?;
    let mut scene = Scene::set().await?;
    let mut terminal = ratatui::try_init().map_err(attempted("take the terminal"))?;
    let outcome = watch(&mut scene, &mut terminal, &lines, duration).await;
    ratatui::restore();
    let verdict = match outcome {
        Ok(()) => scene.finish().await,
        Err(error) => Err(error),
    };
    scene.strike().await;
    verdict
}

async fn watch(
    scene: &mut Scene,
    terminal: &mut ratatui::DefaultTerminal,
    lines: &LogLines,
    duration: Option<Duration>,
) -> Result<(), DemoError> {
    let mut keys = keys();
    let mut frames = tokio::time::interval(DEMO_FRAME);
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(attempted("catch SIGTERM"))?;
    loop {
        tokio::select! {
            _ = frames.tick() => {
                let view = scene.view();
                terminal.draw(|frame| draw(frame, &view, lines)).map_err(attempted("draw"))?;
                if duration.is_some_and(|duration| view.elapsed >= duration) {
                    return Ok(());
                }
            }
            _ = term.recv() => return Ok(()),
            wish = keys.recv() => match wish {
                Some(Wish::Cable) => scene.set_link(!scene.is_mended()),
                Some(Wish::Cloud) => scene.toggle_cloud().await?,
                Some(Wish::Quit) | None => return Ok(()),
            },
        }
    }
}

/// Reads keys on a thread of its own, since the terminal's reads block. The thread ends with the receiver.
fn keys() -> mpsc::Receiver<Wish> {
    let (wishes, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        while !wishes.is_closed() {
            match next_key() {
                // A person who types faster than the demo answers loses a key, not the demo.
                Ok(Some(wish)) => drop(wishes.try_send(wish)),
                Ok(None) => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

fn next_key() -> io::Result<Option<Wish>> {
    if !event::poll(Duration::from_millis(100))? {
        return Ok(None);
    }
    let Event::Key(key) = event::read()? else { return Ok(None) };
    if key.kind != KeyEventKind::Press {
        return Ok(None);
    }
    Ok(match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
        KeyCode::Char('c' | 'l') => Some(Wish::Cable),
        KeyCode::Char('k') => Some(Wish::Cloud),
        KeyCode::Char('q') | KeyCode::Esc => Some(Wish::Quit),
        _ => None,
    })
}

const GOOD: Color = Color::Green;
const CARE: Color = Color::Yellow;
const BAD: Color = Color::Red;

fn draw(frame: &mut Frame<'_>, view: &View, lines: &LogLines) {
    let sensors = u16::try_from(view.sensors.len()).unwrap_or(u16::MAX).saturating_add(3);
    let [head, table, chain, counts, log, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(sensors),
        Constraint::Length(5),
        Constraint::Length(3),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, view);
    draw_sensors(frame, table, view);
    draw_chain(frame, chain, view);
    draw_counts(frame, counts, view);
    draw_log(frame, log, lines);
    let keys = [
        ("c", if view.mended { "cut the link" } else { "mend the link" }),
        ("k", if view.cloud_up { "kill the cloud" } else { "start the cloud" }),
        ("q", "quit"),
    ];
    let mut spans = Vec::new();
    for (key, what) in keys {
        spans.extend([Span::from(format!(" {key} ")).reversed(), Span::from(format!(" {what}   "))]);
    }
    frame.render_widget(Line::from(spans), foot);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let text = vec![
        Line::from(vec![
            "tidegate demo".bold(),
            format!("   {:.0} s", view.elapsed.as_secs_f64()).into(),
            view.page.map_or_else(String::new, |page| format!("   the page: http://{page}/")).into(),
        ]),
        Line::from(format!("listen in from another terminal:  mosquitto_sub -p {} -t '#' -v", view.local.port())).dim(),
    ];
    frame.render_widget(Paragraph::new(text), area);
}

fn draw_sensors(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let rows = view.sensors.iter().map(|sensor| {
        let values: Vec<String> = sensor.values.iter().map(shown).collect();
        let age = sensor.at.map_or_else(|| "-".into(), |at| format!("{:.1} s", view.clock.since(at).as_secs_f64()));
        let (state, colour) = match (sensor.online, sensor.quality) {
            (Some(false), _) => ("offline", BAD),
            (None, _) => ("waiting", CARE),
            (Some(true), Quality::Good) => ("good", GOOD),
            (Some(true), quality) => (quality.word().unwrap_or("good"), CARE),
        };
        Row::new([
            Cell::from(sensor.id.to_string()),
            Cell::from(values.join("   ")),
            Cell::from(Span::styled(state, Style::new().fg(colour))),
            Cell::from(age),
        ])
    });
    let widths = [Constraint::Length(12), Constraint::Min(30), Constraint::Length(9), Constraint::Length(8)];
    let table = Table::new(rows, widths)
        .header(Row::new(["sensor", "values", "quality", "age"]).style(Style::new().add_modifier(Modifier::DIM)))
        .block(Block::bordered().title(" sensors "));
    frame.render_widget(table, area);
}

fn draw_chain(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let (state, colour) = match view.bridge.state {
        LinkState::Online => ("online", GOOD),
        LinkState::Connecting => ("connecting", CARE),
        LinkState::Offline => ("offline", BAD),
    };
    let cable = if view.mended {
        "━━━━━━━━━━━━".fg(GOOD)
    } else {
        "━━━━━  ━━━━━".fg(BAD)
    };
    let cloud = if view.cloud_up { "cloud".fg(GOOD) } else { "cloud (killed)".fg(BAD) };
    let text = vec![
        Line::from(vec!["gateway ".into(), cable, " ".into(), cloud]),
        Line::from(vec![
            "bridge ".into(),
            Span::styled(state, Style::new().fg(colour).bold()),
            view.bridge.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}")).into(),
        ]),
        Line::from(format!("store: {} waiting, {} kB", view.bridge.queued, view.bridge.bytes / 1024)),
    ];
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title(" link ")), area);
}

fn draw_counts(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let zero = |name: &str, count: u64, bad: Color| {
        let colour = if count == 0 { GOOD } else { bad };
        [Span::from(format!("   {name} ")), Span::styled(count.to_string(), Style::new().fg(colour).bold())]
    };
    let mut spans = vec![
        Span::from(format!("told below {}   delivered ", view.below.arrived)),
        view.above.arrived.to_string().bold(),
    ];
    spans.extend(zero("lost", view.above.lost, BAD));
    spans.extend(zero("QoS 2 doubled", view.above.doubled, BAD));
    spans.extend(zero("QoS 1 repeated", view.above.repeated, CARE));
    let block = Block::bordered().title(" counted by a subscriber at the cloud ");
    frame.render_widget(Paragraph::new(Line::from(spans)).block(block), area);
}

fn draw_log(frame: &mut Frame<'_>, area: Rect, lines: &LogLines) {
    let room = usize::from(area.height.saturating_sub(2));
    let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    let last: Vec<Line<'_>> =
        lines.iter().skip(lines.len().saturating_sub(room)).map(|line| Line::from(line.clone())).collect();
    frame.render_widget(Paragraph::new(last).block(Block::bordered().title(" log ")), area);
}
