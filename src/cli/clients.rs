//! `tidegate clients`: who is at the local broker of the running gateway, and showing one out.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::ConfigFile;
use super::control::{self, ControlError, Daemon};
use super::status::ms;
use super::table::{Table, plain};
use crate::exit;
use crate::model::clients::{ClientOverview, ClientsOverview, Kick, KickReport};
use crate::model::percent;

#[derive(Debug, Args)]
pub(super) struct Clients {
    /// Only client ids that this fits: `*` stands for any text, `?` for one character
    #[arg(value_name = "PATTERN", conflicts_with = "kick")]
    pattern: Option<String>,
    /// End the connection of this client; one that keeps a session may come back to it
    #[arg(long, value_name = "CLIENT")]
    kick: Option<String>,
    /// End its session too, with its subscriptions and all that waits for it; also of a client that is away
    #[arg(long, requires = "kick")]
    forget: bool,
    #[command(flatten)]
    file: ConfigFile,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// `tidegate clients`.
pub(super) fn run(options: &Clients) -> ExitCode {
    let plan = control::plan_of(&options.file.path);
    let daemon = match Daemon::find(plan.as_ref()) {
        Ok(daemon) => daemon,
        Err(error) => return error.tell(),
    };
    let done = match &options.kick {
        Some(client) => kick(&daemon, client, options),
        None => list(&daemon, options),
    };
    done.unwrap_or_else(|error| error.tell())
}

fn list(daemon: &Daemon, options: &Clients) -> Result<ExitCode, ControlError> {
    let query = options.pattern.as_deref().map(|pattern| format!("?match={}", percent::encode(pattern)));
    let told: Value = daemon.get(&format!("/api/clients{}", query.unwrap_or_default()))?;
    if options.json {
        return Ok(super::print(&format!("{told:#}\n")));
    }
    match serde_json::from_value::<ClientsOverview>(told) {
        Ok(overview) => Ok(super::print(&page(&overview))),
        Err(error) => {
            eprintln!("error: the gateway speaks of what this program does not know: {error}");
            Ok(exit::code(exit::UNAVAILABLE))
        }
    }
}

fn kick(daemon: &Daemon, client: &str, options: &Clients) -> Result<ExitCode, ControlError> {
    let kick = Kick { client: client.to_owned(), forget: options.forget };
    let report: KickReport = daemon.post("/api/clients/kick", &json!(kick))?;
    if options.json {
        return Ok(super::print(&format!("{}\n", json!(report))));
    }
    let name = plain(client);
    let words = match (report.was_connected, report.is_forgotten) {
        (true, true) => "its connection is ended, and it has no session any more",
        (true, false) => "its connection is ended; its session waits for it to come back",
        (false, _) => "its session is ended",
    };
    Ok(super::print(&format!("{name}: {words}\n")))
}

fn page(overview: &ClientsOverview) -> String {
    let ClientsOverview { clients, more } = overview;
    let connected = clients.iter().filter(|client| client.connected).count();
    let more = if *more > 0 { format!("{more} more are not told; a pattern chooses fewer\n") } else { String::new() };
    let mut table = Table::new(&[
        "client",
        "user",
        "from",
        "mqtt",
        "state",
        "heard",
        "keep alive",
        "subs",
        "queued",
        "in flight",
        "dropped",
        "session",
    ]);
    for client in clients {
        table.row(row(client));
    }
    let table = if table.is_empty() { String::new() } else { format!("\n{table}") };
    format!("{connected} connected, {} away\n{more}{table}", clients.len() - connected)
}

fn row(client: &ClientOverview) -> [String; 12] {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let ago = |span: Option<u64>| span.map_or_else(|| "-".to_owned(), ms);
    let from = match (&client.transport, &client.address) {
        (Some(transport), Some(address)) => format!("{transport} {address}"),
        _ => "-".into(),
    };
    let state = if client.connected { "connected" } else { "away" };
    let state = client.for_ms.map_or_else(|| state.to_owned(), |span| format!("{state} {}", ms(span)));
    let queued = match client.queued {
        0 => "0".to_owned(),
        queued => format!("{queued} ({} B)", client.queued_bytes),
    };
    [
        client.id.clone(),
        or_dash(&client.user),
        from,
        or_dash(&client.protocol),
        state,
        ago(client.heard_ms),
        client
            .keep_alive_s
            .map_or_else(|| "-".into(), |keep| if keep == 0 { "none".into() } else { format!("{keep} s") }),
        client.subscriptions.to_string(),
        queued,
        client.in_flight.to_string(),
        client.dropped.to_string(),
        session(client),
    ]
}

/// How long its session is there.
fn session(client: &ClientOverview) -> String {
    match (client.connected, client.expiry_s, client.ends_ms) {
        (true, Some(0), _) => "clean".into(),
        (true, Some(expiry_s), _) => format!("for {}", ms(u64::from(expiry_s) * 1_000)),
        (true, None, _) | (false, _, None) => "for ever".into(),
        (false, _, Some(left)) => format!("ends in {}", ms(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_in_a_table() {
        let here = ClientOverview {
            id: "ha".into(),
            user: Some("home".into()),
            connected: true,
            address: Some("192.0.2.7:4711".into()),
            transport: Some("tls".into()),
            protocol: Some("5.0".into()),
            for_ms: Some(180_000),
            heard_ms: Some(400),
            keep_alive_s: Some(60),
            subscriptions: 3,
            expiry_s: Some(3_600),
            ..ClientOverview::default()
        };
        let away = ClientOverview {
            id: "pump".into(),
            subscriptions: 1,
            queued: 7,
            queued_bytes: 1_200,
            dropped: 2,
            ..ClientOverview::default()
        };
        assert_eq!(
            page(&ClientsOverview { clients: vec![here, away], more: 0 }),
            "1 connected, 1 away\n\n\
             CLIENT  USER  FROM                MQTT  STATE            HEARD  KEEP ALIVE  SUBS  QUEUED      IN FLIGHT  DROPPED  SESSION\n\
             ha      home  tls 192.0.2.7:4711  5.0   connected 3 min  0.4 s  60 s        3     0           0          0        for 60 min\n\
             pump    -     -                   -     away             -      -           1     7 (1200 B)  0          2        for ever\n"
        );
    }
}
