//! Do the commands that look and list answer people and programs alike, without a gateway that runs?

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::Gateway;
use crate::support::client::Client;

const CONFIG: &str = "\
[bus.port]
device = \"sim:greenhouse\"
[bus.i2c]
device = \"sim:i2c\"
[[sensor]]
id = \"air\"
driver = \"uart\"
bus = \"port\"
match = { json = true }
[[sensor]]
id = \"roof\"
driver = \"bme280\"
bus = \"i2c\"
[[sensor]]
id = \"boiler\"
driver = \"w1\"
device = \"28-000000000000\"
";

fn tidegate(arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("gateway.toml"), CONFIG).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.current_dir(dir.path()).env("TIDEGATE_CONFIG", "gateway.toml").args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = tidegate(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_sensor_is_read_once_whatever_it_hangs_on() {
    let air = words(&tidegate(&["read", "air"]).stdout);
    assert!(air.starts_with("temperature  "), "{air}");
    let roof = json(&["read", "roof", "--json"]);
    assert_eq!(roof["values"]["pressure"]["unit"], "hPa");
    assert!(roof["values"]["pressure"]["value"].as_f64().is_some_and(|value| value > 800.0), "{roof}");
    assert_eq!(roof["quality"], "good");
}

#[test]
fn a_sensor_that_does_not_answer_is_told_with_its_reason_and_69() {
    let output = tidegate(&["read", "boiler"]);
    assert_eq!(output.status.code(), Some(69));
    let told = words(&output.stderr);
    assert!(told.contains("the kernel sees no such chip on the 1-Wire bus"), "{told}");
    assert!(told.ends_with("sensor `boiler` gave no reading\n"), "{told}");
}

#[test]
fn a_sensor_that_is_not_configured_is_a_mistake_of_the_command_line() {
    let output = tidegate(&["read", "cellar"]);
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(words(&output.stderr), "error: no sensor named `cellar`; there are: air, roof, boiler\n");
}

#[test]
fn a_gateway_runs_without_its_hardware_when_it_is_asked_to() {
    let config = "[gateway]\nid = \"box\"\nstate_dir = \"@state@\"\n[broker]\nlisten = \"@listen@\"\n\
        [bus.port]\ndevice = \"/dev/nowhere\"\n[bus.i2c]\ndevice = \"/dev/i2c-77\"\n\
        [[sensor]]\nid = \"tank\"\ndriver = \"uart\"\nbus = \"port\"\nmatch = { csv = [\"level\", \"t\"] }\n\
        [[sensor]]\nid = \"roof\"\ndriver = \"bme280\"\nbus = \"i2c\"\nevery = \"100ms\"\n\
        [[sensor]]\nid = \"boiler\"\ndriver = \"w1\"\ndevice = \"28-000000000000\"\nevery = \"100ms\"\n";
    let mut gateway = Gateway::new(config, &[]).simulated();
    gateway.start();
    let mut watch = Client::connect(gateway.door().port, "watch").unwrap();
    watch.subscribe("tidegate/box/+", 0).unwrap();
    let mut heard = std::collections::BTreeSet::new();
    while heard.len() < 3 {
        let message = watch.next_message().unwrap();
        let reading = String::from_utf8(message.payload).unwrap();
        if reading.contains("\"ts\"") && !reading.contains("\"q\"") {
            heard.insert(message.topic);
        }
    }
    assert_eq!(
        heard.into_iter().collect::<Vec<_>>(),
        ["boiler", "roof", "tank"].map(|id| format!("tidegate/box/{id}"))
    );
    assert_eq!(gateway.stop().code(), Some(0));
}

#[test]
fn every_driver_is_listed_and_one_is_told_whole() {
    let all = json(&["drivers", "--json"]);
    let names: Vec<&str> = all.as_array().unwrap().iter().map(|driver| driver["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"bme280") && names.contains(&"uart"), "{names:?}");
    let one = words(&tidegate(&["drivers", "bme280"]).stdout);
    assert!(one.contains("address: 7-bit address") && one.contains("driver = \"bme280\""), "{one}");
    let output = words(&tidegate(&["drivers", "gpio-out"]).stdout);
    assert!(output.contains("[[actuator]]") && output.contains("active_low: "), "{output}");
    let unknown = tidegate(&["drivers", "bme28"]);
    assert_eq!(unknown.status.code(), Some(64));
    assert!(words(&unknown.stderr).contains("did you mean `bme280`?"));
}

#[test]
fn a_scan_answers_programs_with_a_list_and_people_with_what_to_do_where_there_is_nothing() {
    for what in ["serial", "w1", "iio", "hwmon"] {
        assert!(json(&["scan", what, "--json"]).is_array(), "{what}");
    }
    let people = tidegate(&["scan", "w1"]);
    assert!(people.status.success());
    assert!(!people.stdout.is_empty() || words(&people.stderr).contains("dtoverlay=w1-gpio"), "{people:?}");
}
