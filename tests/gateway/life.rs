//! Does it start, end and refuse as the exit codes say, and does the cloud hear of an orderly end?

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::need_mosquitto;
use crate::support::client::Client;
use crate::support::process::Log;
use crate::support::{Gateway, Lateness, Process, Receiver, Subscriber, Terms, publish, wait_for};

const LIMIT: Duration = Duration::from_secs(20);
/// A refusal to start is told within this.
const REFUSAL: Duration = Duration::from_secs(2);

/// The code it ends with, in time.
#[track_caller]
fn in_time(process: &mut Process) -> Option<i32> {
    let (late, start) = (Lateness::watch(), Instant::now());
    let status = process.wait(LIMIT);
    assert!(start.elapsed() < late.widen(REFUSAL), "it took {:?}", start.elapsed());
    status.code()
}

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
out = [ { from = "tidegate/box/#" } ]
"#;

const ALONE: &str = "[gateway]\nid = \"box\"\nstate_dir = \"@state@\"\n[broker]\nlisten = \"@listen@\"\n";

/// The config that README.md shows, and nothing put in but what the test's machine has: a simulated port, and a port of its own to listen at.
fn shown_in_the_readme() -> String {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let block =
        page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("README.md shows a config");
    let device = "\"/dev/ttyUSB0\"";
    assert!(block.contains(device) && !block.contains("[broker]"), "{block}");
    format!("{}\n[broker]\nlisten = \"@listen@\"\n", block.replace(device, "\"sim:greenhouse\""))
}

#[test]
fn the_config_in_the_readme_runs_for_anyone() {
    let mut gateway = Gateway::new(&shown_in_the_readme(), &[]);
    let state = gateway.dir().join("state");
    std::fs::remove_dir(&state).unwrap();
    gateway.start();
    let mut watch = Client::connect(gateway.door().port, "watch").unwrap();
    watch.subscribe("tidegate/greenhouse/air", 0).unwrap();
    let reading = String::from_utf8(watch.next_message().unwrap().payload).unwrap();
    assert!(reading.contains("\"temperature\":"), "{reading}");
    assert!(state.join("sessions.db").exists(), "the state is beside the config");
    assert_eq!(gateway.stop().code(), Some(0));
}

#[test]
fn a_state_directory_that_cannot_be_made_is_told_with_its_key_and_74() {
    let gateway = Gateway::new(&ALONE.replace("@state@", "@dir@/tidegate.toml/state"), &[]);
    let log = Log::default();
    let mut process =
        Process::start("tidegate", gateway.command(&["run", "--config"]).arg(gateway.config_path()), &log);
    assert_eq!(in_time(&mut process), Some(74));
    log.wait_for_line(LIMIT, 0, &["tidegate.toml/state", "Not a directory", "set `[gateway] state_dir`"]);
}

#[test]
fn an_orderly_stop_says_offline_above_and_ends_with_0() {
    let receiver = Receiver::start(Terms::default(), 71);
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &receiver.url())]);
    gateway.start();
    let words = || {
        let of_status = receiver.accepted().into_iter().filter(|message| message.topic == "tidegate/box/status");
        of_status.map(|m| (String::from_utf8(m.payload).unwrap(), m.retain)).collect::<Vec<_>>()
    };
    wait_for(LIMIT, "the birth", || if words().is_empty() { Err("none".to_owned()) } else { Ok(()) });
    let status = gateway.stop();
    assert_eq!(status.code(), Some(0));
    assert_eq!(words(), [("online".to_owned(), true), ("offline".to_owned(), true)]);
    assert_eq!(receiver.wills(), [], "a goodbye takes the will back");
}

#[test]
fn a_stop_does_not_wait_for_a_cloud_that_is_away() {
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &format!("mqtt://{}", nobody.local_addr().unwrap()))]);
    gateway.start();
    // The kernel completes the handshake; nobody ever speaks.
    assert_eq!(gateway.stop().code(), Some(0));
}

#[test]
fn a_taken_port_is_refused_with_its_address_and_69() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let gateway = Gateway::new(&ALONE.replace("@listen@", &address), &[]);
    let log = Log::default();
    let mut command = gateway.command(&["run", "--config"]);
    let mut process = Process::start("tidegate", command.arg(gateway.config_path()), &log);
    assert_eq!(in_time(&mut process), Some(69));
    log.wait_for_line(LIMIT, 0, &[&address, "in use"]);
}

#[test]
fn a_second_gateway_on_the_same_state_is_refused() {
    let mut first = Gateway::new(CONFIG, &[("cloud", "mqtt://127.0.0.1:@nobody@"), ("nobody", "1")]);
    first.start();
    // Another port, the same directory.
    let mut text = std::fs::read_to_string(first.config_path()).unwrap();
    let own = first.door().port.to_string();
    text = text.replace(&format!("127.0.0.1:{own}"), "127.0.0.1:0");
    let second = first.dir().join("second.toml");
    std::fs::write(&second, text).unwrap();
    let log = Log::default();
    let mut process = Process::start("second", first.command(&["run", "--config"]).arg(second), &log);
    assert_eq!(process.wait(LIMIT).code(), Some(69));
    log.wait_for_line(LIMIT, 0, &["state.db", "in use by another process"]);
    first.process().assert_running();
    TcpStream::connect(("127.0.0.1", first.door().port)).unwrap();
}

/// Runs a gateway that cannot start. Returns its exit code and its log.
fn refused(gateway: &Gateway) -> (Option<i32>, Log) {
    let log = Log::default();
    let mut command = gateway.command(&["run", "--config"]);
    let mut process = Process::start("tidegate", command.arg(gateway.config_path()), &log);
    (process.wait(LIMIT).code(), log)
}

#[test]
fn a_store_that_another_process_holds_ends_a_start_with_69_and_one_that_cannot_be_opened_does_not() {
    for file in ["sessions.db", "outbox-cloud.db"] {
        let mut gateway = Gateway::new(CONFIG, &[("cloud", "mqtt://127.0.0.1:1")]);
        let path = gateway.dir().join("state").join(file);
        let held = std::fs::File::create(path.with_file_name(format!("{file}.lock"))).unwrap();
        held.lock().unwrap();
        let (code, log) = refused(&gateway);
        assert_eq!(code, Some(69), "{file} is held");
        log.wait_for_line(LIMIT, 0, &["ERROR", file, "in use by another process"]);

        drop(held);
        std::fs::create_dir(&path).unwrap();
        gateway.start();
        gateway.wait_for_log(LIMIT, 0, &["ERROR", "unable to open"]);
        let mut client = Client::connect(gateway.door().port, "local").unwrap();
        client.subscribe("here", 0).unwrap();
        Client::connect(gateway.door().port, "other")
            .unwrap()
            .publish(&[("here".into(), 0, "1".into())], 1)
            .assert_sent();
        assert_eq!(client.next_message().unwrap().payload, b"1", "{file} is no file, and local clients are served");
        assert_eq!(gateway.stop().code(), Some(0));
    }
}

#[test]
fn a_wrong_config_ends_with_78_before_anything_listens() {
    let gateway = Gateway::new(&format!("{ALONE}lisen = 1\n"), &[]);
    let log = Log::default();
    let mut command = gateway.command(&["run", "--config"]);
    let mut process = Process::start("tidegate", command.arg(gateway.config_path()), &log);
    assert_eq!(in_time(&mut process), Some(78));
    log.wait_for_line(LIMIT, 0, &["lisen"]);
    let state: Vec<_> = std::fs::read_dir(gateway.dir().join("state")).unwrap().collect();
    assert!(state.is_empty(), "nothing was made: {state:?}");
}

#[test]
fn what_is_retained_is_there_again_after_a_kill() {
    need_mosquitto!();
    let mut gateway = Gateway::new(ALONE, &[]);
    gateway.start();
    for n in 1..=20 {
        let outcome = publish(&gateway.door(), &format!("kept/{n}"), &n.to_string(), &["-q", "1", "-r"]);
        assert!(outcome.status.success(), "{outcome:?}");
    }
    gateway.kill();
    gateway.start();
    let late = Subscriber::new(&gateway.door(), "kept/+");
    let mut kept: Vec<u32> =
        late.wait_count(LIMIT, 20, |m| m.retain).iter().map(|m| m.payload.parse().unwrap()).collect();
    kept.sort_unstable();
    assert_eq!(kept, (1..=20).collect::<Vec<_>>());
}
