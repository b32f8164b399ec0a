//! Can a person look into the store, take records out and away, while the gateway runs and while it does not?

use std::time::Duration;

use serde_json::Value;

use crate::support::client::Client;
use crate::support::{Gateway, Receiver, Sent, Terms, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[[bridge]]
id = "cloud"
url = "@cloud@"
reconnect = { min = "100ms", max = "200ms" }
out = [ { from = "alarms/#", priority = "urgent" }, { from = "data/#" } ]
"#;

/// Exit code, what is said, and what is told of errors.
fn run(gateway: &Gateway, arguments: &[&str]) -> (i32, String, String) {
    let mut command = gateway.command(&["outbox"]);
    command.args(arguments).arg("--config").arg(gateway.config_path()).env_remove("RUNTIME_DIRECTORY");
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json(gateway: &Gateway, arguments: &[&str]) -> Value {
    let (code, said, told) = run(gateway, arguments);
    assert_eq!(code, 0, "{arguments:?}: {told}");
    serde_json::from_str(&said).unwrap()
}

/// Number and topic of each record.
fn waiting(gateway: &Gateway) -> Vec<(u64, String)> {
    let list = json(gateway, &["list", "--json"]);
    let records = list["records"].as_array().unwrap().iter();
    records.map(|record| (record["seq"].as_u64().unwrap(), record["topic"].as_str().unwrap().to_owned())).collect()
}

fn publish(gateway: &Gateway, topic: &str, count: usize) {
    let messages: Vec<_> = (1..=count).map(|n| (topic.to_owned(), 1, n.to_string())).collect();
    Client::connect(gateway.door().port, "producer").unwrap().publish(&messages, 10).assert_complete(count);
}

#[test]
fn records_are_listed_exported_and_purged_beside_a_running_gateway_and_without_one() {
    let receiver = Receiver::start(Terms::default(), 81);
    receiver.treat(|treatment| treatment.away = true);
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &receiver.url())]);
    gateway.start();
    publish(&gateway, "data/a", 5);
    publish(&gateway, "data/b", 5);
    publish(&gateway, "alarms/fire", 1);

    let (code, page, _) = run(&gateway, &["list"]);
    let row: Vec<&str> = page.lines().last().unwrap().split_whitespace().collect();
    assert_eq!((code, row[0], &row[3..]), (0, "11", &["urgent", "waiting", "1", "alarms/fire", "1"][..]), "{page}");
    let (_, page, _) = run(&gateway, &["list", "cloud", "--topic", "data/a", "--limit", "2", "--payload"]);
    assert!(page.ends_with("and more: see --limit, --topic and --older-than\n"), "{page}");
    assert_eq!(page.lines().count(), 4, "{page}");

    let file = gateway.dir().join("waiting.jsonl");
    let (code, said, told) = run(&gateway, &["export", "--output", file.to_str().unwrap()]);
    assert_eq!((code, &*said), (0, &*format!("11 records written to `{}`\n", file.display())), "{told}");
    let lines: Vec<Value> =
        std::fs::read_to_string(&file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[4]["topic"], &lines[4]["payload"]), (11, &"data/a".into(), &"5".into()));
    assert_eq!(run(&gateway, &["export", "--output", file.to_str().unwrap()]).0, 64, "it overwrites nothing");
    assert_eq!(waiting(&gateway).len(), 11, "they stay");

    assert_eq!(run(&gateway, &["purge", "--yes"]).0, 64, "it has to be said which");
    let (code, _, told) = run(&gateway, &["purge", "--topic", "data/a"]);
    assert!(code == 64 && told.contains("remove 5 waiting records of `cloud`") && told.contains("--yes"), "{told}");
    assert_eq!(json(&gateway, &["purge", "--topic", "data/a", "--yes", "--json"])["purged"], 5);
    assert_eq!(waiting(&gateway).len(), 6);
    let dropped = wait_for(LIMIT, "the drop to be counted", || {
        let status = json(&gateway, &["status", "--json"]);
        let dropped = status[0]["dropped"].clone();
        if dropped.as_array().is_some_and(|causes| !causes.is_empty()) { Ok(dropped) } else { Err(status.to_string()) }
    });
    assert_eq!((&dropped[0]["cause"], &dropped[0]["count"]), (&"purged".into(), &5.into()));

    gateway.stop();
    assert_eq!(waiting(&gateway).len(), 6, "the file is looked into");
    assert_eq!(json(&gateway, &["purge", "--seq", "6,7", "--yes", "--json"])["purged"], 2);
    assert_eq!(waiting(&gateway).iter().map(|record| record.0).collect::<Vec<_>>(), [8, 9, 10, 11]);
    assert_eq!(run(&gateway, &["list", "nowhere"]).0, 64);

    gateway.start();
    receiver.treat(|treatment| treatment.away = false);
    let sent = [Sent::new("data/b", 1, 3..=5), Sent::new("alarms/fire", 1, 1..=1)];
    wait_for(LIMIT, "what is left to arrive", || match receiver.arrived(&sent) {
        4 => Ok(()),
        some => Err(format!("{some} of 4")),
    });
    let topics: Vec<String> = receiver.accepted().into_iter().map(|message| message.topic).collect();
    assert!(!topics.iter().any(|topic| topic == "data/a"), "{topics:?}");
}

#[test]
fn the_page_cannot_take_records_away() {
    let config = format!("{CONFIG}\n[http]\nlisten = \"127.0.0.1:@http@\"\n");
    let port = crate::support::free_port();
    let mut gateway = Gateway::new(&config, &[("cloud", "mqtt://127.0.0.1:1"), ("http", &port.to_string())]);
    gateway.start();
    let body = r#"{"errand":"purge","choice":{},"after":0}"#;
    let mut stream = wait_for(LIMIT, "the page", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())
    });
    let head = format!(
        "POST /api/bridges/cloud/outbox HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    std::io::Write::write_all(&mut stream, format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("control socket"), "{answer}");
}

#[test]
fn a_damaged_store_is_left_to_the_gateway() {
    let mut gateway = Gateway::new(CONFIG, &[("cloud", "mqtt://127.0.0.1:1")]);
    gateway.start();
    publish(&gateway, "data/a", 200);
    gateway.stop();
    let state = gateway.dir().join("state");
    let file = std::fs::File::options().write(true).open(state.join("outbox-cloud.db")).unwrap();
    // The first page stays: the file says what it is, and is not what it says.
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 4_096], 4_096 * 3).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 4_096], 4_096 * 5).unwrap();
    let (code, _, told) = run(&gateway, &["purge", "--all", "--yes"]);
    assert!(code == 74 && told.contains("outbox-cloud.db"), "{code} {told}");
    assert!(!state.join("quarantine").exists(), "it is the gateway's to set aside");
}

#[test]
fn an_export_that_cannot_be_made_leaves_no_file() {
    let gateway = Gateway::new(CONFIG, &[("cloud", "mqtt://127.0.0.1:1")]);
    let file = gateway.dir().join("waiting.jsonl");
    let (code, _, told) = run(&gateway, &["export", "--topic", "a/#/b", "--output", file.to_str().unwrap()]);
    assert!(code == 64 && told.contains("no topic filter"), "{code} {told}");
    assert!(!file.exists());
}
