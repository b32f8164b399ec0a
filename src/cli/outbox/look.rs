//! Looking: the status, the list, the export.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Failure, Which, bridge_of, choice, plan_of};
use crate::cli::control::{self, ControlError, Daemon};
use crate::cli::status::ms;
use crate::cli::table::{Table, span};
use crate::clock::{Clock as _, SystemClock};
use crate::exit;
use crate::model::chore::Selection;
use crate::model::overview::BridgeOverview;
use crate::model::time::rfc3339;
use crate::model::{Seq, Timestamp};
use crate::plan::Plan;
use crate::store::Peek;
use crate::store::browse::{Browse, Listed, Shelf};

pub(super) fn status(config: &Path, json: bool) -> ExitCode {
    let plan = control::plan_of(config);
    let bridges = match (Daemon::find(plan.as_ref()).and_then(|daemon| daemon.get("/api/outbox")), &plan) {
        (Ok(bridges), _) => bridges,
        (Err(ControlError::Nobody(_)), Some(plan)) => match peek(plan) {
            Ok(bridges) => bridges,
            Err(code) => return code,
        },
        (Err(error), _) => return error.tell(),
    };
    if json {
        return crate::cli::print(&format!("{:#}\n", serde_json::json!(bridges)));
    }
    crate::cli::print(&waiting(&bridges))
}

/// What the store files hold while nobody owns them.
fn peek(plan: &Plan) -> Result<Vec<BridgeOverview>, ExitCode> {
    let wall = SystemClock.wall();
    let mut bridges = Vec::new();
    for bridge in &plan.bridges {
        let path = bridge.store_path();
        let peek = Peek::at(&path).map_err(|error| {
            eprintln!("error: `{}` cannot be read: {error}", path.display());
            exit::code(exit::IO)
        })?;
        let peek = peek.unwrap_or_default();
        let oldest = peek.oldest.filter(|(_, synced)| *synced == wall.synced);
        bridges.push(BridgeOverview {
            id: bridge.id.to_string(),
            url: bridge.url.to_string(),
            state: "stopped".into(),
            queued: peek.queued,
            bytes: peek.bytes,
            oldest_ms: oldest.map(|(time, _)| u64::try_from(wall.unix_ms.saturating_sub(time)).unwrap_or(0)),
            ..BridgeOverview::default()
        });
    }
    Ok(bridges)
}

fn waiting(bridges: &[BridgeOverview]) -> String {
    if bridges.is_empty() {
        return "the config declares no bridge\n".into();
    }
    let mut table = Table::new(&["bridge", "state", "waiting", "oldest", "empty in", "delivered", "dropped", "store"]);
    for bridge in bridges {
        let known = |time: Option<u64>| time.map_or_else(|| "-".into(), ms);
        let running = bridge.state != "stopped";
        let since_start = |count: u64| if running { count.to_string() } else { "-".into() };
        table.row([
            bridge.id.clone(),
            bridge.state.clone(),
            bridge.queued.to_string(),
            known(bridge.oldest_ms),
            known(bridge.drain_ms),
            since_start(bridge.delivered),
            since_start(bridge.dropped.iter().map(|dropped| dropped.count).sum()),
            format!("{} KiB", bridge.bytes / 1024),
        ]);
    }
    table.to_string()
}

/// Reads what is chosen, page by page, and hands each record on until that says stop.
pub(super) fn leaf(
    path: &Path,
    which: &Which,
    shelf: Shelf,
    with_payload: bool,
    mut each: impl FnMut(Listed) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let selection = Selection::of(&choice(which)).map_err(Failure::Usage)?;
    let broken = |error| Failure::Store { path: path.to_owned(), error };
    let Some(browse) = Browse::open(path).map_err(broken)? else { return Ok(()) };
    let wall = SystemClock.wall();
    let mut after = Seq(0);
    loop {
        let page = browse.page(shelf, after, with_payload).map_err(broken)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.seq;
        for listed in page {
            if selection.fits(listed.seq, &listed.topic, age(&listed, wall)) && !each(listed)? {
                return Ok(());
            }
        }
    }
}

/// How long ago it was accepted; between a clock that was set and one that was not there is no time that could be told.
fn age(listed: &Listed, wall: Timestamp) -> Option<Duration> {
    let (at, synced) = listed.accepted;
    (synced == wall.synced).then(|| Duration::from_millis(u64::try_from(wall.unix_ms.saturating_sub(at)).unwrap_or(0)))
}

fn object(listed: &Listed) -> Value {
    let mut object = Map::new();
    object.insert("seq".into(), listed.seq.0.into());
    object.insert("accepted".into(), rfc3339(listed.accepted.0).into());
    if !listed.accepted.1 {
        object.insert("accepted_tq".into(), "unsynced".into());
    }
    if let Some(expires) = listed.expires_ms {
        object.insert("expires".into(), rfc3339(expires).into());
    }
    object.insert("priority".into(), listed.priority.word().into());
    object.insert("state".into(), listed.state.clone().into());
    object.insert("qos".into(), listed.qos.level().into());
    object.insert("retain".into(), listed.retain.into());
    object.insert("topic".into(), listed.topic.clone().into());
    object.insert("bytes".into(), listed.bytes.into());
    match listed.payload.as_deref().map(std::str::from_utf8) {
        None => {}
        Some(Ok(text)) => {
            object.insert("payload".into(), text.into());
        }
        Some(Err(_)) => {
            let mut hex = String::new();
            for byte in listed.payload.iter().flatten() {
                // Writing to a String cannot fail.
                let _ = std::fmt::Write::write_fmt(&mut hex, format_args!("{byte:02x}"));
            }
            object.insert("payload_hex".into(), hex.into());
        }
    }
    Value::Object(object)
}

pub(super) fn list(which: &Which, shelf: Shelf, limit: usize, payload: bool, json: bool) -> Result<ExitCode, Failure> {
    let path = bridge_of(plan_of(which)?, which)?.store_path();
    let mut found = Vec::new();
    let mut more = false;
    leaf(&path, which, shelf, payload, |listed| {
        more = found.len() >= limit;
        if !more {
            found.push(listed);
        }
        Ok(!more)
    })?;
    if json {
        let records: Vec<Value> = found.iter().map(object).collect();
        return Ok(crate::cli::print(&format!("{:#}\n", json!({ "records": records, "more": more }))));
    }
    let mut text = page(&found, payload);
    if more {
        text.push_str("and more: see --limit, --topic and --older-than\n");
    }
    Ok(crate::cli::print(&text))
}

fn page(found: &[Listed], payload: bool) -> String {
    if found.is_empty() {
        return "nothing\n".into();
    }
    let wall = SystemClock.wall();
    let mut head = vec!["number", "age", "priority", "state", "qos", "topic", "bytes"];
    head.extend(payload.then_some("payload"));
    let mut table = Table::new(&head);
    for listed in found {
        let mut row = vec![
            listed.seq.to_string(),
            age(listed, wall).map_or_else(|| "-".into(), span),
            listed.priority.word().to_owned(),
            listed.state.clone(),
            format!("{}{}", listed.qos.level(), if listed.retain { " retain" } else { "" }),
            listed.topic.clone(),
            listed.bytes.to_string(),
        ];
        row.extend(listed.payload.as_ref().map(|payload| String::from_utf8_lossy(payload).into_owned()));
        table.row(row);
    }
    table.to_string()
}

pub(super) fn export(which: &Which, shelf: Shelf, output: Option<&Path>, json: bool) -> Result<ExitCode, Failure> {
    let path = bridge_of(plan_of(which)?, which)?.store_path();
    // Before a file is made for it.
    Selection::of(&choice(which)).map_err(Failure::Usage)?;
    Browse::open(&path).map_err(|error| Failure::Store { path: path.clone(), error })?;
    let mut out: Box<dyn Write> = match output {
        Some(file) => {
            let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
            let new = new.map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Failure::Usage(format!("`{}` exists already", file.display())),
                _ => Failure::Write(io::Error::new(error.kind(), format!("`{}`: {error}", file.display()))),
            })?;
            Box::new(io::BufWriter::new(new))
        }
        None => Box::new(io::BufWriter::new(io::stdout().lock())),
    };
    let mut count: u64 = 0;
    let written = leaf(&path, which, shelf, true, |listed| {
        writeln!(out, "{}", object(&listed)).map_err(Failure::Write)?;
        count += 1;
        Ok(true)
    });
    if let Err(failure) = written.and_then(|()| out.flush().map_err(Failure::Write)) {
        // A part of it must not pass for the whole.
        if let Some(file) = output {
            let _ = std::fs::remove_file(file);
        }
        return Err(failure);
    }
    match output {
        Some(file) if json => {
            Ok(crate::cli::print(&format!("{}\n", json!({ "records": count, "file": file.to_string_lossy() }))))
        }
        Some(file) => Ok(crate::cli::print(&format!("{count} records written to `{}`\n", file.display()))),
        None => Ok(exit::code(exit::OK)),
    }
}
