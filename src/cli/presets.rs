//! `tidegate presets`: which clouds are known, and what each takes.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::bridge::presets::{self, Preset, Retain, Transport};
use crate::config::diagnostic::nearest;
use crate::exit;

pub(super) fn run(name: Option<&str>, as_json: bool) -> ExitCode {
    let all = presets::all();
    let Some(name) = name else {
        if as_json {
            let all: Vec<Value> = all.iter().map(to_json).collect();
            return super::print(&format!("{:#}\n", Value::from(all)));
        }
        return super::print(&table(all));
    };
    let Some(preset) = presets::find(name) else {
        let near = nearest(name, all.iter().map(|preset| preset.name));
        let hint =
            near.map_or_else(|| "How far the signatures are held against the makers' own:

| `auth` | the maker's | computed by another program (Python) |
|---|---|---|
| `sas` | HMAC of a text by a key (tests of Microsoft's Python SDK); order, encoding and user name (tests of its C SDK) | the signature of a whole token |
| `aliyun` | the example of its documentation, which has a time stamp and SHA-1 | what is sent: no time stamp, SHA-256 |
| `huawei` | the example of its documentation | |
| `tencent` | none was found | user name and password |

None of them has been tried at the cloud itself.

`tidegate presets` lists them".into(), |near| format!("did you mean `{near}`?"));
        eprintln!("error: no preset named `{name}`; {hint}");
        return exit::code(exit::USAGE);
    };
    if as_json { super::print(&format!("{:#}\n", to_json(preset))) } else { super::print(&sheet(preset)) }
}

fn table(all: &[Preset]) -> String {
    let width = all.iter().map(|preset| preset.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for preset in all {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:width$}  {}: {}", preset.name, preset.title, preset.summary);
    }
    text
}

/// What a cloud takes, as words: what, and how much. A number that its maker does not state is not there.
fn facts(preset: &Preset) -> Vec<(&'static str, String)> {
    let caps = &preset.caps;
    let versions: Vec<_> = caps.versions.iter().map(|version| version.word()).collect();
    let retain = match caps.retain {
        Retain::Kept => "kept",
        Retain::NotKept => "taken, not kept: not sent",
        Retain::Refused => "not taken: not sent",
        Retain::Unknown => "not stated: sent as the rule says",
    };
    let auth: Vec<_> = caps.auth.iter().map(|kind| kind.word()).collect();
    let mut facts = vec![
        ("MQTT", versions.join(", ")),
        ("QoS", format!("up to {}", caps.qos)),
        ("retained messages", retain.to_owned()),
    ];
    if !caps.will {
        facts.push(("will", "not taken: none is sent".into()));
    }
    let numbers = [
        ("payload", caps.max_payload, "bytes"),
        ("packet", caps.max_packet, "bytes"),
        ("levels of a topic", caps.topic_levels, ""),
        ("length of a topic", caps.topic_bytes, "bytes"),
        ("length of a client id", caps.client_id_bytes, "bytes"),
        ("subscriptions", caps.subscriptions, ""),
        ("subscriptions of one packet", caps.subscriptions_per_packet, ""),
        ("messages in flight", caps.window.map(usize::from), ""),
    ];
    for (what, number, unit) in numbers {
        facts.extend(number.map(|number| (what, format!("up to {number} {unit}").trim_end().to_owned())));
    }
    if caps.fixed_client_id {
        facts.push(("client id", "the device's: `bridge test` needs --as-bridge".into()));
    }
    facts.extend(caps.keep_alive_s.map(|(least, most)| ("keep alive", format!("{least} s to {most} s"))));
    facts.extend(preset.rate().map(|rate| ("rate", format!("up to {rate}"))));
    facts.push(("session", caps.session.clone()));
    let hosts =
        if caps.hosts.is_empty() { String::new() } else { format!(" (hosts that end in {})", caps.hosts.join(", ")) };
    if caps.tls == Transport::Required {
        let tls = if caps.sni { "required, by the host's name" } else { "required" };
        facts.push(("TLS", format!("{tls}{hosts}")));
    }
    let ports = caps.ports.iter().map(|port| {
        let alpn = if port.alpn.is_empty() { String::new() } else { format!(" (ALPN {})", port.alpn.join(" or ")) };
        let web = match &port.path {
            Some(path) => format!(" (WebSocket at {path})"),
            None if port.websocket => " (WebSocket)".to_owned(),
            None => String::new(),
        };
        format!("{}{alpn}{web}", port.port)
    });
    let ports: Vec<String> = ports.collect();
    if !ports.is_empty() {
        facts.push(("ports with TLS", format!("{}{hosts}", ports.join(", "))));
    }
    if caps.adjustable {
        facts.push(("its owner", "can set other numbers: more is a warning".into()));
    }
    facts.push(("proof of identity", auth.join(", ")));
    for (what, filters) in [("topics to publish to", &caps.publish), ("topics to subscribe to", &caps.subscribe)] {
        if !filters.is_empty() {
            facts.push((what, filters.join(", ")));
        }
    }
    let defaults = &preset.defaults;
    facts.extend(defaults.version.map(|version| ("`version`, left out", version.word().to_owned())));
    facts.extend(defaults.window.map(|window| ("`window`, left out", window.to_string())));
    facts
}

/// What nobody looked up, said so.
fn unverified(preset: &Preset) -> Option<String> {
    (!preset.unverified.is_empty()).then(|| format!("Not verified: {}.", preset.unverified.join("; ")))
}

fn sheet(preset: &Preset) -> String {
    let mut text = format!("{}: {}, {}\n\n", preset.name, preset.title, preset.summary);
    for (what, value) in facts(preset) {
        let _ = writeln!(text, "  {what}: {value}");
    }
    let _ = writeln!(text, "\n{}\n\nFor example:\n{}", preset.notes.trim(), preset.example.trim());
    let _ = writeln!(text, "\nRead on {} in: {}", preset.checked, preset.sources.join("; "));
    if let Some(open) = unverified(preset) {
        let _ = writeln!(text, "{open}");
    }
    text
}

fn to_json(preset: &Preset) -> Value {
    let caps = &preset.caps;
    json!({
        "name": preset.name,
        "title": preset.title,
        "summary": preset.summary,
        "versions": caps.versions.iter().map(|version| version.word()).collect::<Vec<_>>(),
        "qos": caps.qos,
        "max_payload": caps.max_payload,
        "max_packet": caps.max_packet,
        "topic_levels": caps.topic_levels,
        "topic_bytes": caps.topic_bytes,
        "client_id_bytes": caps.client_id_bytes,
        "subscriptions": caps.subscriptions,
        "subscriptions_per_packet": caps.subscriptions_per_packet,
        "keep_alive_s": caps.keep_alive_s,
        "rate": preset.rate().map(|rate| rate.to_string()),
        "facts": facts(preset).into_iter().map(|(what, value)| json!({ "what": what, "value": value })).collect::<Vec<_>>(),
        "notes": preset.notes.trim(),
        "example": preset.example.trim(),
        "checked": preset.checked,
        "sources": preset.sources,
        "unverified": preset.unverified,
    })
}

/// `docs/clouds.md`.
pub fn page() -> String {
    let mut page = String::from(HEAD);
    page.push_str("\n| preset | cloud | |\n|---|---|---|\n");
    for preset in presets::all() {
        let _ = writeln!(page, "| [`{0}`](#{0}) | {1} | {2} |", preset.name, preset.title, preset.summary);
    }
    for preset in presets::all() {
        let _ = write!(page, "\n## {}\n\n{}: {}.\n\n| | |\n|---|---|\n", preset.name, preset.title, preset.summary);
        for (what, value) in facts(preset) {
            let _ = writeln!(page, "| {what} | {} |", cell(&value));
        }
        let _ = write!(page, "\n{}\n\n```toml\n{}\n```\n", preset.notes.trim(), preset.example.trim());
        let _ = writeln!(page, "\nRead on {} in {}.", preset.checked, preset.sources.join("; "));
        if let Some(open) = unverified(preset) {
            let _ = writeln!(page, "{open}");
        }
    }
    page
}

/// Topics are code, so that Markdown leaves their stars and braces alone.
fn cell(value: &str) -> String {
    if value.contains(['#', '{', '+', '$']) {
        let items: Vec<_> = value.split(", ").map(|item| format!("`{item}`")).collect();
        return items.join(", ");
    }
    value.to_owned()
}

const HEAD: &str = "\
# Clouds

<!-- Generated: see tests/house/clouds.rs. -->

`preset` of a [bridge](bridge.md) names the cloud that it goes to. What is known of that cloud is used in three ways:

- **`check` tells what the cloud would refuse**, at its line: a QoS, a topic, a version, a keep alive, a port ([G036](errors.md)). What an account or the owner of
  a broker can have more of (`rate` anywhere; numbers and topics of a broker of your own) is a warning ([G067](errors.md)).
- **The bridge keeps to it** where the config leaves it open: what has a higher QoS than the cloud takes is sent with the highest that it takes, the retain flag
  is left off where it means nothing, and a payload that is too large is dropped and told as `too-large`, instead of having the cloud hang up.
- **Its values stand in for keys that are left out**: version, window, `rate` of the outbox, ALPN by port, the path of a
  WebSocket. A key you write counts.

`online`, `offline` and the will are sent where the cloud takes the topic that they would have there: the one a rule takes
`tidegate/GATEWAY/status` to, else that one itself. Where it does not, none of them is.

A number that the cloud's maker does not state is not in the tables: it is not known, and not checked. What was not found in the maker's own text stands
below the sources as not verified. Behind a loopback address ports and TLS
are not judged: there is a relay.

`auth` says how the bridge proves who it is where a password does not do. With `sas` and `tencent` the password is a token that ends: a fifth of `ttl` before that, five minutes at
most, the connection is made anew, in order, and nobody hears `offline`. A token needs the time: while the clock shows one before this program was made, no attempt is made, and the bridge's state says why; a clock
that is plausible and not held for set is tried, and a refusal says so.

`tidegate presets` lists them, `tidegate presets NAME` shows one; both take `--json`.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_listed_and_shown_with_its_example() {
        assert_eq!(table(presets::all()).lines().count(), presets::all().len());
        for preset in presets::all() {
            assert!(sheet(preset).contains(preset.example.trim()), "{}", preset.name);
            assert_eq!(to_json(preset)["name"], preset.name);
            assert!(preset.unverified.iter().all(|open| sheet(preset).contains(open)), "{}", preset.name);
        }
    }
}
