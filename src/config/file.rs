//! What a config file may say. The doc comments are the reference: `docs/config.md` and the JSON Schema are made from them.

mod auth;
mod broker;

pub use auth::{Auth, AuthKind};
pub use broker::{Anonymous, Anyone, Broker, BrokerTls, ClientCert, Engine, External, Routing, User};

use super::block::{block, choice};
use super::decode::Named;
use super::kinds::{
    Address, Age, Decimal, Duration, FilterText, Id, NameOrSecret, Path, Qos, Range, Rate, SecretRef, SerialLine, Size,
    Text, TopicText, Url, Whole,
};
use super::source::At;
pub use policy::{Durability, Full};

mod policy;

block! {
    /// The whole config.
    pub struct File {
        /// More files to read, by path or pattern (`conf.d/*.toml`), relative to this file, in the order of their names.
        /// Tables of several files are joined, lists put one after the other; one key given twice is an error.
        include: Vec<At<Text>> => default([]);
        /// Who this gateway is and where it keeps its data.
        gateway: Gateway => default({});
        /// What is logged, and how.
        log: Log => default({});
        /// Ports of this machine, each under a name for sensors to refer to.
        bus: Named<Bus> => default({});
        /// GPIO lines.
        gpio: Gpio => default({});
        /// What is measured.
        sensor: Vec<At<Sensor>> => default([]);
        /// What is moved.
        actuator: Vec<At<Actuator>> => default([]);
        /// The broker for local clients.
        broker: Broker => default({});
        /// Ways to the cloud.
        bridge: Vec<At<Bridge>> => default([]);
        /// The page, with metrics and health beside it. Left out, there is none.
        http: Http => optional;
    }
}

block! {
    /// Who this gateway is and where it keeps its data.
    pub struct Gateway {
        /// Its name: second level of its topics, `{gateway}` in templates, client id at the cloud. Left out, the host name.
        id: Id => optional;
        /// Directory of the databases. Left out, systemd's `$STATE_DIRECTORY`, else `/var/lib/tidegate`.
        state_dir: Path => optional;
    }
}

block! {
    /// What is logged, and how.
    pub struct Log {
        /// Least level told: `error`, `warn`, `info`, `debug`, `trace`; by room: `info,tidegate::bridge=debug`.
        level: Text => default("info");
        /// Form of the log.
        format: LogFormat => default("auto");
    }
}

choice! {
    /// Form of the log.
    pub enum LogFormat {
        /// text, under systemd with the journal's priorities
        Auto = "auto",
        /// lines for people
        Text = "text",
        /// one JSON object a line
        Json = "json",
        /// the journal's own protocol, every field searchable
        Journald = "journald",
    }
}

block! {
    /// A serial port or an I²C bus.
    pub struct Bus {
        /// Which port: a path (best below `/dev/serial/by-id/`), a USB adapter whatever name it gets
        /// (`usb:0403:6001`, with `:SERIAL` where there are two of a kind), a simulated one (`sim:greenhouse`) or a file of recorded lines (`replay:wind.txt`, relative to this
        /// file, `?rate=N` for lines a second). An I²C bus is a path such as
        /// `/dev/i2c-1`, or `sim:i2c`.
        device: Text => required;
        /// What it is.
        kind: BusKind => default("auto");
        /// Baud, data bits, parity (N, E, O), stop bits. For serial ports.
        serial: SerialLine => default("9600 8N1");
        /// For an RS-485 transceiver that the port's own driver switches between sending and listening. Left out, the port is left as it is; an adapter
        /// that switches by itself, as most with USB do, needs nothing.
        rs485: Rs485 => optional;
    }
}

block! {
    /// How a serial port's driver switches an RS-485 transceiver.
    pub struct Rs485 {
        /// When RTS is active, as the transceiver is wired.
        rts: Rts => default("on-send");
        /// From RTS to the first bit that is sent, in whole milliseconds.
        delay_before: Duration => default("0ms"), "0ms" to "100ms";
        /// From the last bit that is sent to RTS, in whole milliseconds.
        delay_after: Duration => default("0ms"), "0ms" to "100ms";
    }
}

choice! {
    /// When RTS is active.
    pub enum Rts {
        /// while the port sends
        OnSend = "on-send",
        /// while it listens
        AfterSend = "after-send",
    }
}

choice! {
    /// What a bus is.
    pub enum BusKind {
        /// `i2c` where the device is named `/dev/i2c-…` or `sim:i2c`, else `serial`
        Auto = "auto",
        /// a serial port
        Serial = "serial",
        /// an I²C bus
        I2c = "i2c",
    }
}

block! {
    /// GPIO lines.
    pub struct Gpio {
        /// Which version of the kernel's GPIO interface is spoken.
        backend: GpioBackend => default("auto");
    }
}

choice! {
    /// Which version of the kernel's GPIO interface is spoken.
    pub enum GpioBackend {
        /// version 2 where the kernel offers it, else version 1
        Auto = "auto",
        /// version 2 (by gpiocdev), which Linux has since 5.10
        V2 = "v2",
        /// version 1 (by gpio-cdev), which newer kernels leave out: it keeps 16 edges of a line and does not number them
        V1 = "v1",
    }
}

block! {
    /// One sensor: a driver on a bus. Keys beyond these are the driver's (for `uart`, see drivers/uart.md).
    pub struct Sensor open options {
        /// Its name: last level of its topic.
        id: Id => required;
        /// What it is.
        driver: Text => required;
        /// The bus it hangs on, as in `[bus.NAME]`. For drivers of serial ports and I²C.
        bus: Text => optional;
        /// How often it is asked, for drivers that ask; left out, `30s`. For drivers of GPIO lines, how often their values are told when nothing
        /// happens; left out, the driver's own.
        every: Duration => optional, "20ms" to "7d";
        /// Age from which its last good frame no longer counts: the last reading is told again as `stale`, and the sensor is offline. A few
        /// times the pause between its frames; `never` for a device that speaks only when something happens. Left out, `1h`, and for a sensor
        /// that is asked three times `every` and 10 s.
        max_age: Age => optional, "100ms" to "never";
        /// How its readings are published.
        publish: Publish => default({});
        /// What is done to its values, each under its name as the driver gives it; other values pass as they are.
        values: Named<Value> => default({});
    }
}

block! {
    /// How a sensor's readings are published.
    pub struct Publish {
        /// Topic; `{gateway}` and `{sensor}` are filled in. Availability is told at this topic with `/availability` after it.
        topic: TopicText => default("tidegate/{gateway}/{sensor}");
        /// 0: at most once, 1: at least once, 2: exactly once.
        qos: Qos => default(1);
        /// Whether brokers keep the last reading for later subscribers.
        retain: bool => default(true);
        /// Form of the payload.
        payload: Payload => default("json");
        /// Whether each JSON payload carries a number that rises by one (`"seq"`).
        seq: bool => default(false);
    }
}

choice! {
    /// Form of a reading's payload.
    pub enum Payload {
        /// one object with `ts` and the values
        Json = "json",
        /// one bare value a topic, the value's name as one more level
        Value = "value",
    }
}

block! {
    /// What is done to one value, in this order: scale, offset, range, median, round, deadband.
    pub struct Value {
        /// Name it is published under. Left out, its own.
        rename: Id => optional;
        /// Unit it is in, for people; nothing is converted.
        unit: Text => optional;
        /// Factor, applied first.
        scale: Decimal => optional;
        /// Sum, applied after the factor.
        offset: Decimal => optional;
        /// Least and greatest good value: outside, the reading's quality is `range`.
        range: Range => optional;
        /// Median over this many good values; an odd number.
        median: Whole => optional, 3 to 31;
        /// Digits after the decimal point; -1 rounds to tens.
        round: Whole => optional, -9 to 9;
        /// A change no larger than this since the value last told is not told.
        deadband: Decimal => optional, 0 to 1e300;
        /// Told at least this often, deadband or not.
        heartbeat: Duration => optional, "100ms" to "365d";
    }
}

block! {
    /// One actuator. Keys beyond these are its driver's (see actuators.md).
    pub struct Actuator open options {
        /// Its name: last level of its topic. No sensor has the same.
        id: Id => required;
        /// What it is: `gpio-out`, `gpio-pulse`, `i2c-write`, `uart-write`.
        driver: Text => required;
        /// The bus it hangs on, as in `[bus.NAME]`. For drivers of serial ports and I²C.
        bus: Text => optional;
        /// Where it goes at start, at stop, when its device comes back and after `link_loss`. Left out, `off`; a `uart-write` is then left as
        /// it is.
        safe: Text => optional;
        /// How long no bridge may be online before it goes to `safe`: once for each outage, and a later local command holds. Left out, it stays.
        link_loss: Duration => optional, "1s" to "365d";
        /// How long it may be on at a stretch; then it goes off by itself. A repeated `on` does not prolong it.
        max_on: Duration => optional, "100ms" to "365d";
        /// How long it stays off before it may be on again, also after the start.
        min_off: Duration => optional, "100ms" to "7d";
        /// From where commands are taken.
        allow_from: Vec<At<From>> => default(["local", "cloud"]);
        /// Where and how it publishes.
        publish: ActuatorPublish => default({});
    }
}

choice! {
    /// From where commands are taken.
    pub enum From {
        /// clients of the local broker, the page and `tidegate set`
        Local = "local",
        /// a cloud, by an `in` rule
        Cloud = "cloud",
    }
}

block! {
    /// How an actuator publishes its state, which is always retained, and its answers, which never are.
    pub struct ActuatorPublish {
        /// Topic of its state; `{gateway}` and `{actuator}` are filled in. Commands are taken at this topic with `/set` after it, answers are
        /// told at `/ack`, availability at `/availability`.
        topic: TopicText => default("tidegate/{gateway}/{actuator}");
        /// 0: at most once, 1: at least once, 2: exactly once.
        qos: Qos => default(1);
    }
}

block! {
    /// A way to one cloud broker. What is to go up waits in a store on disk until the cloud has acknowledged it.
    pub struct Bridge {
        /// Its name: in topics, in the log, and in its store's file name.
        id: Id => required;
        /// Where the cloud broker is: `mqtts://HOST[:PORT]` (8883), or in a WebSocket `wss://HOST[:PORT][/PATH]` (443, `/mqtt`); in clear text
        /// `mqtt://` (1883) or `ws://` (80).
        url: Url => required;
        /// Which cloud it is, by name (see clouds.md): its limits are held against this config, and its own values stand in for keys that are left out.
        preset: Text => default("generic");
        /// Version of MQTT.
        version: Version => default("auto");
        /// Client id at the cloud; `{gateway}` is filled in. It must not change while messages wait: the cloud's session hangs on it.
        client_id: TopicText => default("{gateway}");
        /// User name at the cloud; where that is a token, as a reference: `credential:NAME`, `file:PATH` or `env:NAME`.
        username: NameOrSecret => optional;
        /// Password at the cloud, as a reference: `credential:NAME`, `file:PATH` or `env:NAME`.
        password: SecretRef => optional;
        /// How the bridge proves who it is, where that is not by `username` and `password`.
        auth: Auth => default({});
        /// Silence after which a ping is sent.
        keep_alive: Duration => default("30s"), "5s" to "18h";
        /// Time for name lookup, TCP, TLS and CONNACK together.
        connect_timeout: Duration => default("10s"), "1s" to "5m";
        /// Pauses between attempts.
        reconnect: Reconnect => default({});
        /// Most messages in flight; never above what the cloud allows.
        window: Whole => default(100), 1 to 1000;
        /// What becomes of QoS 2 messages whose handshake was half done when the cloud forgot the session.
        on_session_loss: OnSessionLoss => default("resend");
        /// How long the cloud is asked to keep the session (MQTT 5): longer than the longest outage expected.
        session_expiry: Duration => default("7d"), "0s" to "3650d";
        /// How long the cloud waits before it tells that the gateway is offline (MQTT 5).
        will_delay: Duration => default("10s"), "0s" to "1d";
        /// TLS, for `mqtts://` and `wss://`.
        tls: Tls => default({});
        /// What goes up: the first rule that matches a topic counts.
        out: Vec<At<OutRule>> => default([]);
        /// What comes down: the first rule that matches a topic counts.
        inward as "in": Vec<At<InRule>> => default([]);
        /// The store on disk.
        outbox: Outbox => default({});
    }
}

choice! {
    /// Version of MQTT.
    pub enum Version {
        /// 5, and 3.1.1 when the cloud refuses it
        Auto = "auto",
        /// 5.0 only
        V5 = "5",
        /// 3.1.1 only
        V311 = "3.1.1",
    }
}

choice! {
    /// What becomes of QoS 2 messages whose handshake was half done when the cloud forgot the session.
    pub enum OnSessionLoss {
        /// sent again: may arrive twice, is not lost
        Resend = "resend",
        /// dropped and counted: may be lost, does not arrive twice
        DropUncertain = "drop-uncertain",
        /// sent again also where the loss may have gone unseen, in a crash while connecting: never lost, and such a crash alone may make one arrive twice
        NoLoss = "no-loss",
    }
}

block! {
    /// Pauses between attempts to connect: random between zero and a bound that doubles from `min` to `max`.
    pub struct Reconnect {
        /// First bound.
        min: Duration => default("1s"), "100ms" to "1h";
        /// Last bound.
        max: Duration => default("60s"), "100ms" to "1d";
        /// How long a connection must last for the bound to start anew.
        stable: Duration => default("30s"), "0s" to "1d";
    }
}

block! {
    /// TLS towards the cloud. Paths are relative to the file they stand in.
    pub struct Tls {
        /// PEM file of the authorities to trust. Left out, the system's.
        ca: Path => optional;
        /// PEM file of the client's certificate chain; needs `key`.
        cert: Path => optional;
        /// PEM text of the client's private key, as a reference: `credential:NAME`, `file:PATH` or `env:NAME`.
        key: SecretRef => optional;
        /// Name to ask for and to check the certificate against. Left out, the host of `url`.
        server_name: Text => optional;
        /// ALPN protocols to offer.
        alpn: Vec<At<Text>> => default([]);
    }
}

block! {
    /// What goes up. Never forwarded: `$SYS`, the gateway's own status and bridge states, commands (`.../set`), and what this
    /// bridge brought down.
    pub struct OutRule {
        /// Filter of local topics; `{gateway}` is filled in.
        from: FilterText => required;
        /// Topic at the cloud: `{1}`, `{2}`, … stand for what the wildcards of `from` matched, `{gateway}` is filled in.
        /// Left out, unchanged.
        to: TopicText => optional;
        /// QoS towards the cloud, whatever the message had. Left out, its own.
        qos: Qos => optional;
        /// Retain flag towards the cloud. Left out, its own.
        retain: bool => optional;
        /// What goes up before what, in strict order: while something more urgent waits, nothing less urgent is sent.
        priority: Priority => default("normal");
        /// Oldest message of this rule worth sending, where that is less than the store's. Left out, the store's.
        max_age: Duration => optional, "1s" to "3650d";
        /// Most messages of this rule waiting; the oldest of them go. Left out, as many as the store takes.
        max_messages: Whole => optional, 1 to 1_000_000_000;
        /// Most bytes, topics and payloads, of this rule waiting; the oldest go. Left out, as many as the store takes.
        max_bytes: Size => optional, "1KiB" to "1TiB";
    }
}

choice! {
    /// How urgent a message is.
    pub enum Priority {
        /// first of all: alarms
        Urgent = "urgent",
        /// before what is normal
        High = "high",
        /// after what is high
        Normal = "normal",
        /// when nothing else waits
        Low = "low",
    }
}

block! {
    /// What comes down.
    pub struct InRule {
        /// Filter of topics at the cloud; `{gateway}` is filled in.
        from: FilterText => required;
        /// Local topic, with holes as in `out`. Left out, unchanged.
        to: TopicText => optional;
        /// QoS of the subscription, and at most of the local message.
        qos: Qos => default(1);
    }
}

block! {
    /// The store of one bridge. What goes at a limit is counted and told as an event.
    pub struct Outbox {
        /// Most bytes on disk: the file with its write-ahead log, which has a quarter of it, 256 KiB to 4 MiB. A message larger than a
        /// third is dropped and counted.
        max_bytes: Size => default("256MiB"), "1MiB" to "1TiB";
        /// Most messages waiting.
        max_messages: Whole => default(1_000_000), 1 to 1_000_000_000;
        /// Oldest message worth sending. Left out, any age.
        max_age: Duration => optional, "1s" to "3650d";
        /// What happens at `max_bytes` and `max_messages`.
        full: Full => default("drop-oldest");
        /// Most messages, bytes (of topics and payloads), or both, that go up in a time: `"50/s"`, `"30/min"`, `"50/s, 64KiB/s"`. A tenth of a second's share
        /// may go at once. QoS 0 beyond it is dropped. Left out, as fast as the cloud takes them.
        rate: Rate => optional;
        /// What an acknowledged message survives.
        durability: Durability => default("power");
        /// What goes up first within one priority, when the link comes back and messages have waited.
        order: Order => default("oldest-first");
        /// Longest a message waits to be written together with others, when nobody waits for it.
        linger: Duration => default("50ms"), "0s" to "10s";
    }
}

choice! {
    /// What goes up first within one priority.
    pub enum Order {
        /// as they were accepted
        OldestFirst = "oldest-first",
        /// what is accepted while the link is up; what had waited goes in the room that is left, oldest first
        LiveFirst = "live-first",
    }
}

block! {
    /// The page, with metrics and health beside it; it is there when this block is, empty or not.
    pub struct Http {
        /// Address and port to listen at. Beyond loopback it needs `token`.
        listen: Address => default("127.0.0.1:9273");
        /// What a visitor has to show, as password with any user name; a reference: `credential:NAME`, `file:PATH` or `env:NAME`.
        token: SecretRef => optional;
        /// Whether the page may move actuators and have a bridge try at once; `false`: it only shows.
        commands: bool => default(true);
    }
}
