//! From a config's text to the whole plan, and what is told of certificates.

use std::fs;
use std::time::Duration;

use super::*;
use crate::bridge::{
    Auth, CloudLimits, CloudUrl, Durability, Full, InRule, OnSessionLoss, OutRule, OutboxSettings, Reconnect, Share,
    Tls, TopicTemplate, VersionChoice,
};
use crate::bus::settings::{Device, Parity, Rs485Settings, Rts, SerialSettings};
use crate::logic::lanes::Order;
use crate::logic::pipeline::{Range, SensorSettings, ValueSettings};
use crate::logic::route::{PayloadForm, PublishSettings};
use crate::model::{BridgeId, Priority, Qos, Quota, Rate, Secret, Timestamp, TopicFilter};

/// 2026-11-26T12:00:00Z
const NOW_MS: i64 = 1_795_694_400_000;

fn environment(secrets: Secrets) -> Environment {
    let variable = |name: &str| match name {
        "STATE_DIRECTORY" => Some("/var/lib/private/tidegate:/var/lib/other".to_owned()),
        "CLOUD" => Some("a secret".to_owned()),
        _ => None,
    };
    let wall = Timestamp { unix_ms: NOW_MS, synced: true, at: None };
    Environment { variable: Box::new(variable), host_name: "pump house".into(), secrets, wall }
}

fn plan_of(text: &str) -> Plan {
    let loaded = config::load_text(Path::new("etc/gateway.toml"), text);
    let (plan, report) =
        plan(loaded, &environment(Secrets::Needed)).unwrap_or_else(|report| panic!("{}", report.render(false)));
    assert_eq!(report.render(false), "");
    plan
}

fn topic(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

#[test]
fn a_sensor_needs_a_bus_an_id_and_a_match() {
    let plan = plan_of(
        "[bus.usb]\ndevice = \"/dev/ttyUSB0\"\n[[sensor]]\nid = \"air\"\ndriver = \"uart\"\nbus = \"usb\"\nmatch = { json = true }\n",
    );
    assert_eq!(plan.gateway.as_str(), "pump-house");
    assert_eq!(plan.state_dir, Path::new("/var/lib/private/tidegate"));
    assert_eq!(
        plan.buses,
        [BusSettings::Serial(SerialSettings {
            id: BusId::parse("usb").unwrap(),
            device: Device::Path("/dev/ttyUSB0".into()),
            baud: 9600,
            data_bits: 8,
            parity: Parity::None,
            stop_bits: 1,
            rs485: None,
        })]
    );
    let [sensor] = &plan.sensors[..] else { panic!("{:?}", plan.sensors) };
    assert_eq!(sensor.options, "{ \"match\" = { \"json\" = true } }");
    let hour = Some(Duration::from_secs(3600));
    let patience = Duration::from_secs(10);
    assert_eq!(sensor.pipeline, SensorSettings { values: Vec::new(), max_age: hour, patience });
    assert_eq!(
        sensor.publish,
        PublishSettings {
            topic: topic("tidegate/pump-house/air"),
            availability_topic: topic("tidegate/pump-house/air/availability"),
            qos: Qos::AtLeastOnce,
            retain: true,
            payload: PayloadForm::Json,
            seq: false,
        }
    );
    assert_eq!(plan.broker.listen, ["127.0.0.1:1883".parse().unwrap()]);
    assert_eq!((plan.broker.users.len(), plan.broker.anonymous), (0, false));
    assert_eq!(plan.broker.store.as_deref(), Some(Path::new("/var/lib/private/tidegate")));
}

#[test]
fn a_state_directory_below_etc_is_warned_of() {
    let told = |path: &str| {
        let loaded = config::load_text(Path::new(path), "[gateway]\nstate_dir = \"state\"\n");
        plan(loaded, &environment(Secrets::Needed)).map(|(_, report)| report.render(false)).unwrap()
    };
    let warned = told("/etc/tidegate/tidegate.toml");
    assert!(warned.starts_with("warning[G066]: `state_dir` leads to `/etc/tidegate/state`\n"), "{warned}");
    assert_eq!(told("/srv/tidegate.toml"), "");
}

#[test]
fn every_step_of_the_processing_arrives() {
    let plan = plan_of(
        "[bus.usb]\ndevice = \"usb:0403:6001:A5\"\nserial = \"4800 7O2\"\n\
         rs485 = { rts = \"after-send\", delay_before = \"2ms\" }\n[[sensor]]\nid = \"air\"\ndriver = \"uart\"\nbus = \"usb\"\n\
         match = { json = true }\nmax_age = \"5m\"\n[sensor.values.t]\nrename = \"temperature\"\nunit = \"°C\"\nscale = 0.1\noffset = -1\n\
         range = [-40, 85.5]\nmedian = 5\nround = 2\ndeadband = 0.05\nheartbeat = \"10m\"\n",
    );
    let device = Device::Usb { vendor: 0x0403, product: 0x6001, serial: Some("A5".into()) };
    let bus = &plan.buses[0];
    let BusSettings::Serial(bus) = bus else { panic!("{bus:?}") };
    assert_eq!((&bus.device, bus.baud, bus.data_bits, bus.parity, bus.stop_bits), (&device, 4800, 7, Parity::Odd, 2));
    let (delay_before, delay_after) = (Duration::from_millis(2), Duration::ZERO);
    assert_eq!(bus.rs485, Some(Rs485Settings { rts: Rts::AfterSend, delay_before, delay_after }));
    assert_eq!(
        plan.sensors[0].pipeline,
        SensorSettings {
            values: vec![ValueSettings {
                name: "t".into(),
                rename: Some("temperature".into()),
                unit: Some("°C".into()),
                scale: Some(0.1),
                offset: Some(-1.0),
                range: Some(Range { min: -40.0, max: 85.5 }),
                median: Some(5),
                round: Some(2),
                deadband: Some(0.05),
                heartbeat: Some(Duration::from_secs(600)),
            }],
            max_age: Some(Duration::from_secs(300)),
            patience: Duration::from_secs(300),
        }
    );
}

#[test]
fn a_device_that_speaks_only_when_something_happens_is_never_too_old() {
    let plan = plan_of(
        "[bus.usb]\ndevice = \"/dev/ttyUSB0\"\n[[sensor]]\nid = \"rain\"\ndriver = \"uart\"\nbus = \"usb\"\nmatch = { json = true }\nmax_age = \"never\"\n",
    );
    assert_eq!(plan.sensors[0].pipeline, SensorSettings::default());
}

#[test]
fn a_bridge_is_planned_whole() {
    let plan = plan_of(
        "[gateway]\nid = \"g\"\nstate_dir = \"state\"\n[[bridge]]\nid = \"cloud\"\nurl = \"mqtts://broker.example.com\"\nusername = \"me\"\n\
         password = \"env:CLOUD\"\nclient_id = \"x-{gateway}\"\ntls = { server_name = \"other\", alpn = [\"mqtt\"] }\n\
         out = [{ from = \"tidegate/+/status\", to = \"plants/{1}/online\" }, { from = \"tidegate/{gateway}/#\", to = \"p/{1}\", qos = 2, retain = false, priority = \"high\", max_age = \"1h\", max_messages = 1000, max_bytes = \"1MiB\" }]\n\
         in = [{ from = \"cmd/{gateway}/+\", to = \"tidegate/{gateway}/{1}/set\" }]\noutbox = { max_age = \"14d\", full = \"thin\", rate = \"50/s, 64KiB/s\", durability = \"process\", order = \"live-first\" }\n",
    );
    let state = Path::new("etc").join("state");
    assert_eq!(
        plan.bridges,
        [bridge::Settings {
            id: BridgeId::parse("cloud").unwrap(),
            gateway: GatewayId::parse("g").unwrap(),
            url: CloudUrl { tls: true, host: "broker.example.com".into(), port: 8883, path: None },
            version: VersionChoice::Auto,
            client_id: "x-g".into(),
            username: Some(Secret::new("me".into())),
            password: Some(Secret::new("a secret".into())),
            keep_alive: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            reconnect: Reconnect {
                min: Duration::from_secs(1),
                max: Duration::from_secs(60),
                stable: Duration::from_secs(30),
            },
            window: 100,
            on_session_loss: OnSessionLoss::Resend,
            session_expiry: Duration::from_secs(7 * 86_400),
            will_delay: Duration::from_secs(10),
            tls: Some(Tls {
                ca: None,
                cert: None,
                key: None,
                server_name: Some("other".into()),
                alpn: vec!["mqtt".into()],
            }),
            out: vec![
                OutRule {
                    from: filter("tidegate/+/status"),
                    to: Some(TopicTemplate("plants/{1}/online".into())),
                    qos: None,
                    retain: None,
                    priority: Priority::Normal,
                    share: Share::default(),
                },
                OutRule {
                    from: filter("tidegate/g/#"),
                    to: Some(TopicTemplate("p/{1}".into())),
                    qos: Some(Qos::ExactlyOnce),
                    retain: Some(false),
                    priority: Priority::High,
                    share: Share {
                        max_age: Some(Duration::from_secs(3_600)),
                        max_messages: Some(1_000),
                        max_bytes: Some(1 << 20),
                    },
                },
            ],
            inward: vec![InRule {
                from: filter("cmd/g/+"),
                to: Some(TopicTemplate("tidegate/g/{1}/set".into())),
                qos: Qos::AtLeastOnce,
            }],
            auth: Auth::Password,
            limits: CloudLimits::default(),
            outbox: OutboxSettings {
                dir: state,
                max_bytes: 256 << 20,
                max_messages: 1_000_000,
                max_age: Some(Duration::from_secs(14 * 86_400)),
                full: Full::Thin,
                rate: Some(Rate {
                    messages: Some(Quota { count: 50, per: Duration::from_secs(1) }),
                    bytes: Some(Quota { count: 64 << 10, per: Duration::from_secs(1) }),
                }),
                durability: Durability::Process,
                order: Order::LiveFirst,
                linger: Duration::from_millis(50),
            },
            state_topic: topic("tidegate/g/bridge/cloud"),
            event_topic: topic("tidegate/g/event"),
            local_status_topic: topic("tidegate/g/status"),
            cloud_status_topic: topic("plants/g/online"),
            never_out: vec![
                filter("tidegate/g/bridge/#"),
                filter("tidegate/g/status"),
                filter("tidegate/g/+/set"),
                filter("tidegate/g/+/+/set"),
            ],
        }]
    );
}

#[test]
fn two_plans_of_one_text_are_equal_and_a_changed_sensor_differs_alone() {
    let sensor = |id: &str, round: u8| {
        format!(
            "[[sensor]]\nid = \"{id}\"\ndriver = \"uart\"\nbus = \"p\"\nmatch = {{ csv = [\"t\"] }}\nvalues.t = {{ round = {round} }}\n"
        )
    };
    let bus = "[bus.p]\ndevice = \"sim:tank\"\n";
    let before = plan_of(&format!("{bus}{}{}", sensor("a", 1), sensor("b", 1)));
    // A reload sees other places, and the same keys in another order.
    let moved = plan_of(&format!("# moved\n\n{}{}{bus}", sensor("a", 1), sensor("b", 1)));
    assert_eq!(before, moved);
    let changed = plan_of(&format!("{bus}{}{}", sensor("a", 1), sensor("b", 2)));
    assert_eq!(before.sensors[0], changed.sensors[0]);
    assert_ne!(before.sensors[1], changed.sensors[1]);
}

#[test]
fn a_rule_that_no_message_gets_to_is_told() {
    let rules = |out: &str| {
        let text = format!("[[bridge]]\nid = \"c\"\nurl = \"mqtt://h\"\nout = [{out}]\n");
        let (_, report) = plan(config::load_text(Path::new("t"), &text), &environment(Secrets::Ignored)).unwrap();
        report.problems.sorted().iter().map(|d| d.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(rules("{ from = \"a/#\", qos = 1 }, { from = \"a/alarm\", qos = 2 }"), ["no message gets to this rule"]);
    assert_eq!(rules("{ from = \"a/alarm\", qos = 2 }, { from = \"a/#\", qos = 1 }"), Vec::<String>::new());
    assert_eq!(rules("{ from = \"a/+\" }, { from = \"a/#\" }"), Vec::<String>::new());
}

/// A self-signed certificate and its key, as PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// What is told of a bridge with these files.
fn told_of_tls(ca: &str, cert: &str, key: &str) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("ca.pem", ca), ("cert.pem", cert), ("key.pem", key)] {
        fs::write(dir.path().join(name), text).unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let text = "[[bridge]]\nid = \"c\"\nurl = \"mqtts://localhost\"\nout = [{ from = \"a\" }]\n\
                tls = { ca = \"ca.pem\", cert = \"cert.pem\", key = \"file:key.pem\" }\n";
    fs::write(dir.path().join("gateway.toml"), text).unwrap();
    let told = |report: Report| {
        report.problems.sorted().iter().map(|d| d.message.replace(&format!("{}/", dir.path().display()), "")).collect()
    };
    match read(&dir.path().join("gateway.toml"), &environment(Secrets::Needed)) {
        Ok((_, report)) | Err(report) => told(report),
    }
}

#[test]
fn a_certificate_and_its_key_are_taken_and_another_key_is_refused() {
    let (cert, key) = certificate();
    let (_, other) = certificate();
    assert_eq!(told_of_tls(&cert, &cert, &key), Vec::<String>::new());
    assert_eq!(told_of_tls(&cert, &cert, &other), ["`key` does not belong to `cert`"]);
}

/// What a running gateway tells of a file when that has become this.
fn looked_at(text: &str, file: &str, synced: bool) -> Option<String> {
    let (cert, key) = certificate();
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("ca.pem", &cert), ("cert.pem", &cert), ("key.pem", &key)] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let path = dir.path().join("t.toml");
    let tls = "tls = { ca = \"ca.pem\", cert = \"cert.pem\", key = \"file:key.pem\" }";
    std::fs::write(&path, format!("[[bridge]]\nid = \"c\"\nurl = \"mqtts://h\"\n{tls}\n")).unwrap();
    let environment = environment(Secrets::Needed);
    let (planned, _) =
        plan(config::load(&path), &environment).unwrap_or_else(|report| panic!("{}", report.render(false)));
    let wall = Timestamp { synced, ..environment.wall };
    let tell = || -> Vec<String> { planned.certificates.iter().filter_map(|dated| dated.look(wall)).collect() };
    assert_eq!(tell(), Vec::<String>::new());
    std::fs::write(dir.path().join(file), text).unwrap();
    let told = tell().pop()?;
    let told = told.split_once(&format!("{file}` ")).expect("it names the file").1;
    Some(told.rsplit_once(": `").unwrap_or((told, "")).0.to_owned())
}

#[test]
fn a_certificate_that_expires_soon_or_has_is_told() {
    let made = |from: (u8, u8), until: (i32, u8, u8)| {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, from.0, from.1);
        params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        let key = rcgen::KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let (sound, sound_key) = made((1, 1), (2026, 12, 27));
    assert_eq!(told_of_tls(&sound, &sound, &sound_key), Vec::<String>::new());
    for (from, until, told) in [
        ((1, 1), (2026, 12, 26), "expires at 2026-12-26 00:00 UTC, in 29 days"),
        ((1, 1), (2026, 11, 28), "expires at 2026-11-28 00:00 UTC, in 1 day"),
        ((1, 1), (2026, 11, 27), "expires at 2026-11-27 00:00 UTC, in less than a day"),
        ((1, 1), (2026, 11, 26), "expired at 2026-11-26 00:00 UTC"),
        ((11, 27), (2027, 11, 27), "is not valid before 2026-11-27 00:00 UTC"),
    ] {
        let (cert, key) = made(from, until);
        assert_eq!(told_of_tls(&cert, &sound, &sound_key), [format!("`ca`: `ca.pem` {told}")]);
        assert_eq!(told_of_tls(&sound, &cert, &key), [format!("`cert`: `cert.pem` {told}")]);
        // Of authorities one that is good for long is enough; of a chain each must be.
        for (kind, text) in [("cert.pem", &cert), ("ca.pem", &cert)] {
            assert_eq!(looked_at(text, kind, true), Some(told.to_owned()), "a day later");
        }
        let both = format!("{sound}{cert}");
        assert_eq!(
            (looked_at(&both, "ca.pem", true), looked_at(&both, "cert.pem", true)),
            (None, Some(told.to_owned()))
        );
        assert_eq!(told_of_tls(&both, &sound, &sound_key), Vec::<String>::new());
        assert_eq!(told_of_tls(&sound, &both, &sound_key), [format!("`cert`: `cert.pem` {told}")]);
    }
}

#[test]
fn a_clock_that_is_not_set_says_so_of_what_has_expired_by_it_and_of_what_is_not_valid_yet_nothing() {
    let of = |year| {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(year, 1, 1), rcgen::date_time_ymd(year, 2, 1));
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    };
    let told = "expired at 2025-02-01 00:00 UTC, by a clock that is not set";
    assert_eq!(looked_at(&of(2025), "ca.pem", false), Some(told.to_owned()));
    assert_eq!(looked_at(&of(2028), "ca.pem", false), None);
}

#[test]
fn a_certificate_that_only_looks_like_one_is_refused() {
    let (cert, key) = certificate();
    let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(
        told_of_tls(hollow, &cert, &key),
        ["`ca`: `ca.pem` holds no authority to trust: invalid peer certificate: BadEncoding"]
    );
    assert_eq!(told_of_tls(&cert, hollow, &key), ["`cert` cannot be used: invalid peer certificate: BadEncoding"]);
    assert_eq!(told_of_tls("", &cert, &key), ["`ca`: `ca.pem` holds no certificate in PEM form"]);
}

#[test]
fn a_broker_at_another_address_of_this_machine_is_not_our_own() {
    for (host, is_own) in [("[::1]", false), ("127.0.0.1", true), ("localhost", true), ("0.0.0.0", true)] {
        let text =
            format!("[broker]\nlisten = \"127.0.0.1:1883\"\n[[bridge]]\nid = \"c\"\nurl = \"mqtt://{host}:1883\"\n");
        let planned = plan(config::load_text(Path::new("t"), &text), &environment(Secrets::Ignored));
        assert_eq!(planned.is_err_and(|report| report.render(false).contains("own broker")), is_own, "{host}");
    }
}

#[test]
fn the_largest_packet_that_may_be_asked_for_is_the_largest_that_mqtt_has() {
    for (asked, bytes) in [("1KiB", 1024), ("255MiB", 255 << 20), ("256MiB", 268_435_460)] {
        assert_eq!(plan_of(&format!("[broker]\nmax_packet = \"{asked}\"\n")).broker.max_packet, bytes, "{asked}");
    }
}
