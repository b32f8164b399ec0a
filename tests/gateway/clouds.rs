//! What does a cloud get to see of who connects: client id, user name and password, as the running gateway sends them?

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Encoding as _};
use ring::hmac;

use crate::need_mosquitto;
use crate::support::receiver::wire::Connect;
use crate::support::{Gateway, Receiver, Terms, publish, wait_for};

const LIMIT: Duration = Duration::from_secs(30);
/// How far the moment at which we look may be from the one at which the token was made.
const TOLERANCE_S: u64 = 30;

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"

[[bridge]]
id = "cloud"
url = "@url@"
@more@
reconnect = { min = "100ms", max = "500ms", stable = "1s" }
"#;

/// A gateway with a secret in a file of its own, started, and the CONNECT that the cloud got.
fn meet(cloud: &Receiver, more: &str, secret: &str) -> (Gateway, Connect) {
    let mut gateway = Gateway::new(CONFIG, &[("url", &cloud.url()), ("more", more)]).log_level("trace");
    let path = gateway.dir().join("secret");
    fs::write(&path, secret).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    gateway.start();
    let connect = wait_for(LIMIT, "a CONNECT", || cloud.greeted().ok_or_else(String::new));
    (gateway, connect)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// When the token ends; its signature is computed here by itself.
fn end_of(connect: &Connect, key: &[u8]) -> u64 {
    let password = String::from_utf8(connect.password.clone().expect("a password")).unwrap();
    let resource = "contoso.azure-devices.net%2Fdevices%2Fpump";
    let rest = password.strip_prefix(&format!("SharedAccessSignature sr={resource}&sig=")).expect(&password);
    let (signature, end) = rest.split_once("&se=").expect(&password);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), format!("{resource}\n{end}").as_bytes());
    let expected = Base64::encode_string(tag.as_ref());
    assert_eq!(signature.replace("%2B", "+").replace("%2F", "/").replace("%3D", "="), expected, "{password}");
    end.parse().expect("an end in seconds")
}

#[test]
fn azure_gets_its_device_its_user_name_and_a_token_and_a_new_one_before_that_ends() {
    need_mosquitto!();
    let cloud = Receiver::start(Terms::default(), 1);
    let key = b"a key of thirty-two bytes length";
    let more = r#"preset = "azure-iot-hub"
auth = { kind = "sas", host = "contoso.azure-devices.net", device = "pump", key = "file:secret", ttl = "10s" }
out = [{ from = "up/+", to = "devices/pump/messages/events/sensor={1}" }]"#;
    let (gateway, first) = meet(&cloud, more, &format!("{}\n", Base64::encode_string(key)));
    assert!(!first.v5, "IoT Hub speaks 3.1.1");
    assert_eq!(first.client, "pump");
    assert_eq!(first.username.as_deref(), Some("contoso.azure-devices.net/pump/?api-version=2021-04-12"));
    assert_eq!(first.will, None, "the status topic is none of the device's");
    let end = end_of(&first, key);
    assert!(end.abs_diff(now_s() + 10) <= TOLERANCE_S, "{end}");
    let published = publish(&gateway.door(), "up/air", "21.5", &["-q", "2"]);
    assert!(published.status.success(), "{published:?}");
    wait_for(LIMIT, "the message at the hub", || {
        let accepted = cloud.accepted();
        if accepted.is_empty() { Err(String::new()) } else { Ok(()) }
    });
    wait_for(LIMIT, "a connection with a new token", || match cloud.greeted() {
        Some(connect) if end_of(&connect, key) > end => Ok(()),
        _ => Err(format!("{} connections", cloud.connections())),
    });
    assert!(cloud.wills().is_empty());
    let log = gateway.log().lines().join("\n");
    assert!(!log.contains("SharedAccessSignature") && !log.contains("YSBrZXk"), "{log}");
}

#[test]
fn a_token_that_is_the_user_name_gets_to_the_cloud_and_nowhere_else() {
    let cloud = Receiver::start(Terms::default(), 2);
    let more = "preset = \"flespi\"\nusername = \"file:secret\"\nout = [{ from = \"up/#\" }]";
    let (gateway, connect) = meet(&cloud, more, "FlespiToken-abc\n");
    assert_eq!((connect.client.as_str(), connect.v5), ("box", true));
    assert_eq!((connect.username.as_deref(), connect.password), (Some("FlespiToken-abc"), None));
    let mut shown = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let shown = shown.args(["config", "show", "--config"]).arg(gateway.config_path()).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("username = \"file:secret\""), "{shown}");
    let said = shown + &gateway.log().lines().join("\n");
    assert!(!said.contains("FlespiToken"), "{said}");
}

/// What `tidegate config show` prints of a config.
fn shown(config: &str, more: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidegate.toml");
    fs::write(&path, config).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output = command.args(["config", "show"]).args(more).arg("--config").arg(&path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn config_show_has_what_stands_in_because_of_a_preset_and_says_so() {
    let config = r#"
[gateway]
id = "box"

[[bridge]]
id = "own"
preset = "mosquitto"
url = "mqtts://broker.example"
out = [{ from = "a" }]

[[bridge]]
id = "aws"
preset = "aws-iot"
url = "mqtts://x.amazonaws.com:443"
out = [{ from = "b" }]

[[bridge]]
id = "hub"
preset = "azure-iot-hub"
url = "mqtts://contoso.azure-devices.net"
username = "x"
window = 7
out = [{ from = "c", to = "devices/box/messages/events/c" }]
"#;
    let text = shown(config, &[]);
    let bridges: Vec<&str> = text.split("[[bridge]]").skip(1).collect();
    for (nth, line) in [
        (0, "window = 19  # from preset mosquitto"),
        (0, "version = \"auto\"  # default"),
        (1, "window = 100  # default"),
        (1, "alpn = [\"x-amzn-mqtt-ca\"]  # from preset aws-iot"),
        (1, "rate = \"100/s, 524288B/s\"  # from preset aws-iot"),
        (2, "version = \"3.1.1\"  # from preset azure-iot-hub"),
        (2, "window = 7\n"),
        (2, "alpn = []  # default"),
    ] {
        assert!(bridges[nth].contains(line), "{line} of {nth}: {text}");
    }
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(&shown(text, &["--json"])).unwrap();
    let (first, again) = (json(config), json(&text));
    assert_eq!(first["bridge"][0]["window"], 19);
    assert_eq!(first["bridge"][1]["tls"]["alpn"][0], "x-amzn-mqtt-ca");
    assert_eq!(first["bridge"], again["bridge"], "what is shown means the same");
}
