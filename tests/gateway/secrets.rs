//! Does the log, told to tell everything, still keep what is not its own: passwords, hashes, and what messages and sensors say?

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use crate::need_mosquitto;
use crate::support::{Gateway, Receiver, Subscriber, Terms, Tty, publish, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

const CONFIG: &str = r##"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[[broker.users]]
name = "ha"
hash = "@hash@"
publish = ["data/#"]
subscribe = ["#"]

[bus.port]
device = "@port@"
serial = "115200 8N1"

[[sensor]]
id = "air"
driver = "uart"
bus = "port"
match = { json = true }

[[bridge]]
id = "cloud"
url = "@cloud@"
username = "box"
password = "file:@dir@/cloud.password"
reconnect = { min = "100ms", max = "200ms" }
out = [ { from = "data/#" }, { from = "tidegate/box/air" } ]
"##;

const OF_THE_BRIDGE: &str = "bridge-correct-horse";
const OF_THE_USER: &str = "user-correct-horse";
const WRONG: &str = "wrong-correct-horse";
const PAYLOAD: &str = "payload-of-a-client";
/// A value that no counter or time of the log comes to by chance.
const READING: &str = "90817.26354";
const GARBLED: &str = "payload-of-a-sensor-that-is-no-json";

fn hash_of(gateway: &Gateway, password: &str) -> String {
    let mut command = gateway.command(&["user", "hash"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), format!("{password}\n").as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

#[test]
fn the_log_at_level_trace_tells_no_secret_and_no_payload() {
    need_mosquitto!();
    let dir = tempfile::tempdir().unwrap();
    let mut tty = Tty::plug(dir.path().join("port"));
    let receiver = Receiver::start(Terms::default(), 81);
    let words = [("cloud", receiver.url()), ("port", tty.device()), ("hash", "to be made".into())];
    let words: Vec<(&str, &str)> = words.iter().map(|(word, value): &(&str, String)| (*word, value.as_str())).collect();
    let mut gateway = Gateway::new(CONFIG, &words).log_level("trace");
    let hash = hash_of(&gateway, OF_THE_USER);
    gateway.set("hash", &hash);
    let password = gateway.dir().join("cloud.password");
    fs::write(&password, OF_THE_BRIDGE).unwrap();
    fs::set_permissions(&password, PermissionsExt::from_mode(0o600)).unwrap();
    gateway.start();

    let door = gateway.door().login("ha", OF_THE_USER);
    let below = Subscriber::new(&door, "data/#");
    let refused = publish(&gateway.door().login("ha", WRONG), "data/x", PAYLOAD, &["-q", "1"]);
    assert!(!refused.status.success(), "{refused:?}");
    for qos in ["0", "1", "2"] {
        let taken = publish(&door, "data/x", PAYLOAD, &["-q", qos, "-r"]);
        assert!(taken.status.success(), "{taken:?}");
    }
    below.wait_count(LIMIT, 3, |message| message.payload == PAYLOAD);
    tty.line(&format!("{{\"t\":{READING}}}"));
    let above = |text: &str| {
        wait_for(LIMIT, &format!("{text} in the cloud"), || {
            let got = receiver.accepted();
            let there = got.iter().any(|message| String::from_utf8_lossy(&message.payload).contains(text));
            if there { Ok(()) } else { Err(format!("{} messages", got.len())) }
        });
    };
    above(PAYLOAD);
    above(READING);
    // Only behind a good one: the first line of a port may have lost its beginning, and is nobody's fault.
    tty.line(&format!("{{\"t\":{GARBLED}}}"));
    gateway.wait_for_log(LIMIT, 0, &["bad frame"]);
    gateway.reload();
    gateway.wait_for_log(LIMIT, 0, &["config reloaded"]);
    assert_eq!(gateway.stop().code(), Some(0));

    let lines = gateway.log().lines();
    for (level, witness) in [("DEBUG", "client connected"), ("WARN", "login refused"), ("WARN", "bad frame")] {
        let there = lines.iter().any(|line| line.contains(level) && line.contains(witness));
        assert!(there, "the log is not as loud as it was told: {witness}");
    }
    for kept in [OF_THE_BRIDGE, OF_THE_USER, WRONG, &hash, PAYLOAD, READING, GARBLED] {
        let told: Vec<&String> = lines.iter().filter(|line| line.contains(kept)).collect();
        assert!(told.is_empty(), "`{kept}` stands in the log: {told:?}");
    }
}
