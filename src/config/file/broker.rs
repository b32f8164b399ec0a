//! `[broker]`: the broker for local clients, where it listens, and who comes in; or where the one is that is there already.

use crate::config::block::{block, choice};
use crate::config::decode::OneOrMore;
use crate::config::file::{Tls, Version};
use crate::config::kinds::{
    Address, Duration, FilterText, NameOrSecret, Path, SecretRef, Size, Text, TopicText, Url, Whole,
};
use crate::config::source::At;

block! {
    /// The broker for local clients.
    pub struct Broker {
        /// Whose broker it is. All other keys but `max_packet` are for the gateway's own.
        engine: Engine => default("embedded");
        /// Where the broker is that is there already. For `engine = "external"`.
        external: External => optional;
        /// Address and port to listen at, or a list of them. Beyond loopback it needs `users`.
        listen: OneOrMore<Address> => default("127.0.0.1:1883");
        /// Address and port to listen at for MQTT in WebSockets, or a list of them. Beyond loopback it needs `users`.
        websocket_listen: OneOrMore<Address> => default([]);
        /// Where TLS is spoken. Left out, nowhere.
        tls: BrokerTls => optional;
        /// How messages find their subscribers.
        routing: Routing => default("trie");
        /// Largest packet taken or sent, bytes in all. `"256MiB"` takes the largest that MQTT has, which is 4 bytes more.
        max_packet: Size => default("1MiB"), "1KiB" to "256MiB";
        /// Most clients at one time, over all listeners; 16 of them, or a quarter where that is less, are kept for plain connections from this machine.
        max_connections: Whole => default(1000), 1 to 100_000;
        /// Of them, most that come to `listen`. Left out, as many as that.
        listen_max_connections: Whole => optional, 1 to 100_000;
        /// Of them, most that come to `websocket_listen`. Left out, as many as that.
        websocket_max_connections: Whole => optional, 1 to 100_000;
        /// Most connections in a minute from one address (of IPv6: from one /64), by any listener; one more is closed at once. Left out, any number.
        connects_per_minute: Whole => optional, 1 to 1_000_000;
        /// Longest keep alive. A client of MQTT 5 that asks for a longer one, or for none, is given this one; a client of 3.1.1 is refused. Left out, any.
        max_keep_alive: Duration => optional, "1s" to "18h";
        /// Most messages on their way to one client that it has not acknowledged, as far as its own Receive Maximum allows; the others wait.
        max_inflight: Whole => default(256), 1 to 65_535;
        /// Most messages waiting for one client; the oldest goes when one more comes, and is counted.
        max_queued: Whole => default(1000), 1 to 1_000_000;
        /// Most bytes of messages waiting for one client; likewise.
        max_queued_bytes: Size => default("64MiB"), "64KiB" to "4GiB";
        /// Most bytes of messages in all queues together, each message once; the oldest of the fullest queue go, and are counted.
        max_queued_bytes_total: Size => default("128MiB"), "64KiB" to "16GiB";
        /// Most bytes of all retained messages together; a new topic beyond it is not retained, and counted.
        max_retained: Size => default("64MiB"), "64KiB" to "4GiB";
        /// How often the counters below `$SYS` are told; `0s` turns them off.
        sys_interval: Duration => default("10s"), "0s" to "1d";
        /// Who is let in without a user name.
        anonymous: Anonymous => default("without-users");
        /// What a client may do that is let in without being one of the `users`. Left out, everything.
        anyone: Anyone => optional;
        /// Who may connect.
        users: Vec<At<User>> => default([]);
    }
}

choice! {
    /// Whose broker local clients are at.
    pub enum Engine {
        /// the gateway's own
        Embedded = "embedded",
        /// one that is there already, such as Mosquitto: the gateway is its client
        External = "external",
    }
}

block! {
    /// The broker that is there already, and how the gateway comes to it.
    pub struct External {
        /// Where it is: `mqtt://HOST[:PORT]` (1883), or in a WebSocket `ws://HOST[:PORT][/PATH]` (80, `/mqtt`); with TLS `mqtts://` (8883)
        /// or `wss://` (443).
        url: Url => required;
        /// Version of MQTT.
        version: Version => default("auto");
        /// Client id; `{gateway}` is filled in. It must not change: under it the broker keeps what comes while the gateway is away.
        client_id: TopicText => default("tidegate-{gateway}");
        /// User name; where that is a token, as a reference: `credential:NAME`, `file:PATH` or `env:NAME`.
        username: NameOrSecret => optional;
        /// Password, as a reference: `credential:NAME`, `file:PATH` or `env:NAME`.
        password: SecretRef => optional;
        /// Silence after which a ping is sent.
        keep_alive: Duration => default("30s"), "5s" to "18h";
        /// TLS, for `mqtts://` and `wss://`.
        tls: Tls => default({});
    }
}

block! {
    /// Where the broker speaks TLS. Paths are relative to the file they stand in. Certificate, key and authorities are read again when their
    /// files change; that needs neither a reload nor a restart.
    pub struct BrokerTls {
        /// Address and port to listen at, or a list of them; `[]` for none. Beyond loopback it needs `users` or `client_ca`.
        listen: OneOrMore<Address> => required;
        /// The same for MQTT in WebSockets (`wss://`).
        websocket_listen: OneOrMore<Address> => default([]);
        /// PEM file of the broker's certificate chain, its own first.
        cert: Path => required;
        /// PEM text of its private key, as a reference: `credential:NAME`, `file:PATH` or `env:NAME`.
        key: SecretRef => required;
        /// PEM file of the authorities that sign clients' certificates, or a list of such files. Left out, clients are asked for none.
        client_ca: OneOrMore<Path> => default([]);
        /// What of a client that has no certificate. For `client_ca`.
        client_cert: ClientCert => default("required");
        /// Whether the common name of a client's certificate is its user name: such a client needs no password, and what it says of itself
        /// does not count. Each of the authorities may issue any name. For `client_ca`.
        user_from_cert: bool => default(false);
        /// Most clients at one time that come by TLS, within the broker's own `max_connections`. Left out, as many as that.
        max_connections: Whole => optional, 1 to 100_000;
    }
}

choice! {
    /// What of a client that has no certificate.
    pub enum ClientCert {
        /// it is refused
        Required = "required",
        /// it comes in as elsewhere, by user name and password
        Optional = "optional",
    }
}

choice! {
    /// How messages find their subscribers.
    pub enum Routing {
        /// our own subscription trie
        Trie = "trie",
        /// the router of rumqttd, with the limits told in broker.md
        Rumqttd = "rumqttd",
    }
}

choice! {
    /// Who is let in without a user name.
    pub enum Anonymous {
        /// anyone, as long as there are no `users`; on loopback only
        WithoutUsers = "without-users",
        /// anyone, beside the `users`; on loopback only
        Loopback = "loopback",
        /// anyone from anywhere: said on purpose, for a network that is trusted
        BeyondLoopback = "beyond-loopback",
    }
}

block! {
    /// A user of the broker.
    pub struct User {
        /// User name.
        name: Text => required;
        /// Argon2 hash of the password in PHC form: `tidegate user hash` makes one. It may be left out where `user_from_cert` is on: the user then
        /// comes in by certificate alone.
        hash: Text => optional;
        /// Topic filters the user may publish to; the levels `{user}` and `{client}` stand for the connection's own names.
        publish: Vec<At<FilterText>> => default([]);
        /// Topic filters the user may subscribe to, likewise.
        subscribe: Vec<At<FilterText>> => default([]);
        /// Topic filters the user may not publish to, though `publish` allows it; likewise.
        deny_publish: Vec<At<FilterText>> => default([]);
        /// Topic filters whose messages the user is not sent, though `subscribe` allows it; likewise. A subscription that means more is allowed, without
        /// them.
        deny_subscribe: Vec<At<FilterText>> => default([]);
    }
}

block! {
    /// What a client may do that is let in without being one of the users: without a name, or by a certificate where there are no users.
    pub struct Anyone {
        /// Topic filters it may publish to; the level `{client}` stands for its client id.
        publish: Vec<At<FilterText>> => default([]);
        /// Topic filters it may subscribe to, likewise.
        subscribe: Vec<At<FilterText>> => default([]);
        /// Topic filters it may not publish to, though `publish` allows it; likewise.
        deny_publish: Vec<At<FilterText>> => default([]);
        /// Topic filters whose messages it is not sent, though `subscribe` allows it; likewise. A subscription that means more is allowed, without
        /// them.
        deny_subscribe: Vec<At<FilterText>> => default([]);
    }
}
