//! What is told of a bridge to a cloud that is known, and what it is then told to be.

use std::path::Path;

use crate::bridge::Settings;
use crate::config;
use crate::plan::{Environment, plan};

/// The bridges and everything that is told, colourless.
fn planned(text: &str) -> (Option<Vec<Settings>>, String) {
    let variable = |name: &str| match name {
        "KEY" => Some("AAECAwQFBgcICQoLDA0ODw==".to_owned()),
        "TOKEN" => Some("a-token-of-an-account".to_owned()),
        _ => None,
    };
    let environment =
        Environment { variable: Box::new(variable), host_name: "box".into(), ..Environment::of_process() };
    match plan(config::load_text(Path::new("etc/gateway.toml"), text), &environment) {
        Ok((plan, report)) => (Some(plan.bridges), report.render(false)),
        Err(report) => (None, report.render(false)),
    }
}

fn bridge(preset: &str, url: &str, more: &str) -> String {
    format!("[[bridge]]\nid = \"b\"\npreset = \"{preset}\"\nurl = \"{url}\"\n{more}\n")
}

/// A bridge with one rule that carries something anywhere.
fn told(preset: &str, url: &str, more: &str) -> String {
    planned(&bridge(preset, url, &format!("out = [{{ from = \"a/+\" }}]\n{more}"))).1
}

fn settings(text: &str) -> Settings {
    let (bridges, told) = planned(text);
    bridges.unwrap_or_else(|| panic!("{told}")).remove(0)
}

#[test]
fn a_port_for_websockets_takes_no_mqtt_and_the_other_way_round() {
    let plain = [
        ("azure-event-grid", "mqtts://h.azure.net:443", "mqtts:// goes to 8883, wss:// goes to 443"),
        ("azure-event-grid", "wss://h.azure.net:8883", "mqtts:// goes to 8883, wss:// goes to 443"),
        ("flespi", "mqtts://mqtt.flespi.io:443", "MQTT without a WebSocket at this port"),
        ("flespi", "wss://mqtt.flespi.io:8883", "a WebSocket at this port"),
        ("azure-event-grid", "mqtts://h.azure.net:1883", "this port"),
    ];
    for (preset, url, expected) in plain {
        let told = told(preset, url, "");
        assert!(told.contains("error[G036]") && told.contains(expected), "{preset} {url}: {told}");
    }
    for (preset, feed) in [("adafruit-io", "ada/feeds/x"), ("azure-iot-hub", "devices/box/messages/events/x")] {
        let more = format!("out = [{{ from = \"a\", to = \"{feed}\" }}]");
        for url in ["mqtts://h.example:443", "wss://h.example:8883"] {
            let told = planned(&bridge(preset, url, &more)).1;
            assert!(told.contains("error[G036]") && told.contains("at this port"), "{preset} {url}: {told}");
        }
        for url in ["mqtts://h.example", "wss://h.example", "wss://127.0.0.1:8883"] {
            assert_eq!(planned(&bridge(preset, url, &more)).1, "", "{preset} {url}");
        }
    }
}

#[test]
fn alpn_goes_with_mqtt_alone_and_a_websocket_to_where_the_cloud_has_it() {
    let rule = "out = [{ from = \"a/+\" }]";
    let alpn = |url: &str| settings(&bridge("aws-iot", url, rule)).tls.unwrap().alpn;
    assert_eq!(alpn("mqtts://h.amazonaws.com:443"), ["x-amzn-mqtt-ca"]);
    assert!(alpn("wss://h.amazonaws.com").is_empty());
    let rule = "out = [{ from = \"a\", to = \"devices/box/messages/events/x\" }]";
    let path = |url: &str| settings(&bridge("azure-iot-hub", url, rule)).url.path;
    assert_eq!(path("wss://h.azure-devices.net").as_deref(), Some("/$iothub/websocket"));
    assert_eq!(path("wss://127.0.0.1:8443/").as_deref(), Some("/$iothub/websocket"), "behind a relay too");
    assert_eq!(path("wss://127.0.0.1:8443/other").as_deref(), Some("/other"));
    assert_eq!(path("mqtts://h.azure-devices.net"), None);
    let told = planned(&bridge("azure-iot-hub", "wss://h.azure-devices.net/mqtt", rule)).1;
    assert!(told.contains("this path") && told.contains("its WebSocket is at /$iothub/websocket"), "{told}");
}

#[test]
fn a_hivemq_of_ones_own_is_found_by_address_and_the_cloud_s_by_name_and_tls() {
    for url in ["mqtts://192.168.1.5", "mqtt://hive.lan", "mqtts://hive.lan:8443", "ws://hive.lan:8000"] {
        assert_eq!(told("hivemq", url, ""), "", "{url}");
    }
    assert!(told("hivemq", "mqtt://1a2b.s1.eu.hivemq.cloud", "").contains("it needs TLS"));
    assert!(
        told("hivemq", "mqtts://1a2b.s1.eu.HiveMQ.cloud:1883", "")
            .contains("mqtts:// goes to 8883, wss:// goes to 8884")
    );
    assert_eq!(told("hivemq", "wss://1a2b.s1.eu.hivemq.cloud:8884", ""), "");
}

#[test]
fn a_rate_above_what_is_known_is_told_and_taken() {
    let text =
        bridge("aws-iot", "mqtts://h.amazonaws.com", "out = [{ from = \"a/+\" }]\noutbox = { rate = \"500/s\" }");
    let (bridges, told) = planned(&text);
    assert!(told.contains("warning[G067]: `aws-iot` is not known to take this rate"), "{told}");
    let rate = bridges.unwrap()[0].outbox.rate.unwrap();
    assert_eq!(rate.to_string(), "500/s");
}

#[test]
fn what_the_owner_of_a_broker_can_have_set_is_told_and_not_refused() {
    let deep = vec!["x"; 129].join("/");
    let rule = format!("out = [{{ from = \"a\", to = \"{deep}\" }}]");
    let (bridges, told) = planned(&bridge("emqx", "mqtts://emqx.lan", &rule));
    assert!(told.contains("warning[G067]: `emqx` is not known to take so many levels"), "{told}");
    assert!(bridges.is_some());
    let rule =
        "out = [{ from = \"a\", to = \"my/own/telemetry\" }]\nin = [{ from = \"my/own/rpc/#\", to = \"rpc/{1}\" }]";
    let (bridges, told) = planned(&bridge("thingsboard", "mqtts://tb.lan", rule));
    assert!(told.contains("to take this topic") && told.contains("to take this subscription"), "{told}");
    assert!(bridges.is_some());
    // The protocol it speaks is nobody's choice.
    let rule = "out = [{ from = \"a\", to = \"v1/devices/me/telemetry\", qos = 2 }]";
    assert!(planned(&bridge("thingsboard", "mqtts://tb.lan", rule)).1.contains("error[G036]"));
}

const TENCENT: &str = "auth = { kind = \"tencent\", product = \"PRODUCT\", device = \"dev\", key = \"env:KEY\" }\nout = [{ from = \"a\", to = \"PRODUCT/dev/a\" }]";

#[test]
fn the_client_id_is_the_one_that_is_sent() {
    let text = bridge("tencent", "mqtts://p.tencentdevices.com", TENCENT);
    assert_eq!(settings(&text).client_id, "PRODUCTdev");
    // The keys differ, the ids that the cloud sees do not.
    let second = text.replace("id = \"b\"", "id = \"c\"\nclient_id = \"other\"");
    let (bridges, told) = planned(&format!("{text}{second}"));
    assert!(bridges.is_none() && told.contains("client id `PRODUCTdev` is used by two bridges"), "{told}");
    assert!(told.contains("its own `device`"), "{told}");
    let third = second.replace("device = \"dev\"", "device = \"dev2\"").replace("PRODUCT/dev/a", "PRODUCT/dev2/a");
    assert_eq!(planned(&format!("{text}{third}")).1, "");

    let hub = |device: &str| {
        let auth = format!("auth = {{ kind = \"sas\", device = \"{device}\", key = \"env:KEY\" }}");
        let rule = format!("out = [{{ from = \"a\", to = \"devices/{device}/messages/events/a\" }}]");
        bridge("azure-iot-hub", "mqtts://h.azure-devices.net", &format!("client_id = \"x\"\n{auth}\n{rule}"))
    };
    assert_eq!(settings(&hub("pump")).client_id, "pump", "and its topics are the device's");
    let told = planned(&hub(&"d".repeat(129))).1;
    assert!(told.contains("to take this client id") || told.contains("does not take this client id"), "{told}");
    assert!(told.contains("129 bytes; at most 128"), "{told}");

    let huawei = |length: usize| {
        let device = "d".repeat(length);
        let more = format!(
            "auth = {{ kind = \"huawei\", device = \"{device}\", key = \"env:KEY\" }}\nout = [{{ from = \"a\" }}]"
        );
        planned(&bridge("huawei", "mqtts://h.myhuaweicloud.com", &more)).1
    };
    // `_0_0_` and the hour come after the device.
    assert_eq!(huawei(256 - 15), "");
    assert!(huawei(256 - 14).contains("257 bytes; at most 256"));
}

#[test]
fn a_token_as_user_name_is_kept_like_any_secret() {
    let text = bridge("flespi", "mqtts://mqtt.flespi.io", "username = \"env:TOKEN\"\nout = [{ from = \"a\" }]");
    let settings = settings(&text);
    assert_eq!(settings.username.as_ref().unwrap().expose(), "a-token-of-an-account");
    assert!(!format!("{settings:?}").contains("a-token"));
    let shown = config::show::to_toml(&config::load_text(Path::new("t.toml"), &text).root, &[]);
    assert!(shown.contains("username = \"env:TOKEN\"\n"), "{shown}");
    let told = planned(&text.replace("env:TOKEN", "env:NONE")).1;
    assert!(told.contains("`username`: the environment has no variable `NONE`"), "{told}");
    let told = planned(&text.replace("mqtts://mqtt.flespi.io", "mqtt://own.lan").replace("flespi", "generic")).1;
    assert!(told.contains("the token goes over the network in clear text"), "{told}");
}

#[test]
fn the_status_goes_where_the_cloud_takes_it_or_nowhere() {
    let status = |preset: &str, more: &str| settings(&bridge(preset, "mqtts://h.example", more)).limits.status;
    assert!(status("aws-iot", "out = [{ from = \"a\" }]"), "tidegate/box/status is a topic like any other");
    // A rule that is within the limits takes the status beyond them.
    assert!(!status("aws-iot", "out = [{ from = \"#\", to = \"1/2/3/4/5/6/7/{1}\" }]"));
    let long = "x".repeat(250);
    assert!(!status("aws-iot", &format!("out = [{{ from = \"#\", to = \"{long}/{{1}}\" }}]")));
    assert!(!status("tencent", TENCENT), "tidegate/box/status is no topic of the device");
    let carried = TENCENT.replace("from = \"a\"", "from = \"tidegate/{gateway}/status\"");
    assert!(status("tencent", &carried));
    let own = "out = [{ from = \"tidegate/{gateway}/status\", to = \"my/status\" }]";
    assert!(status("thingsboard", own), "the owner's word counts");
    assert!(!status("thingsboard", "out = [{ from = \"a\", to = \"v1/devices/me/telemetry\" }]"));
}

#[test]
fn what_the_makers_pages_say_is_what_is_judged() {
    let out = |topic: &str| format!("out = [{{ from = \"a\", to = \"{topic}\", retain = true, qos = 2 }}]");
    let cumulocity = |topic: &str| planned(&bridge("cumulocity", "mqtts://mqtt.example.com", &out(topic)));
    let (bridges, told) = cumulocity("s/us");
    let limits = bridges.unwrap_or_else(|| panic!("{told}"))[0].limits;
    assert!(!limits.retain && limits.max_qos == crate::model::Qos::ExactlyOnce, "{limits:?}");
    assert!(cumulocity("error/x").1.contains("does not take this topic"), "nothing is published there");
    let down =
        "in = [{ from = \"time/seconds\" }, { from = \"ada/integration/weather/1\" }, { from = \"ada/throttle\" }]";
    assert_eq!(planned(&bridge("adafruit-io", "mqtts://io.adafruit.com", down)).1, "");
    let preset = |name| crate::bridge::presets::find(name).unwrap();
    assert_eq!(preset("aws-iot").limits().subscriptions_per_packet, 8);
    for name in ["cumulocity", "emqx", "flespi", "hivemq", "adafruit-io"] {
        assert!(!preset(name).unverified.is_empty(), "{name}");
    }
}
