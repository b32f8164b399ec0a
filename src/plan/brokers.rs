//! The local broker.

use std::collections::HashMap;
use std::net::SocketAddr;

use argon2::password_hash::phc;

use super::Planner;
use super::topics::{self, Holes};
use crate::broker::{self, FilterTemplate, PasswordHash, Rights, Routing, User};
use crate::config::code::Code;
use crate::config::decode::OneOrMore;
use crate::config::file::{self, Anonymous};
use crate::config::kinds::{Address, FilterText};
use crate::config::{At, Span};

impl Planner<'_> {
    /// The settings of the gateway's own broker.
    pub(super) fn broker(&mut self) -> broker::Settings {
        let broker = &self.file.broker.value;
        let routing = match broker.routing.value {
            file::Routing::Trie => Routing::Trie,
            file::Routing::Rumqttd => Routing::Rumqttd,
        };
        if routing == Routing::Rumqttd && !cfg!(feature = "rumqttd") {
            self.problems
                .error(
                    Code::NotAChoice,
                    broker.routing.span,
                    "`routing` cannot be `rumqttd`: it was left out of this build",
                )
                .help("build with the feature `rumqttd`");
        }
        let users = self.users(&broker.users.value);
        let anyone = broker.anyone.as_ref().map(|anyone| self.rights(&Lists::from(&anyone.value)));
        self.check_listeners();
        broker::Settings {
            gateway: Some(self.gateway.clone()),
            listen: addresses(&broker.listen.value),
            websocket_listen: addresses(&broker.websocket_listen.value),
            tls: self.broker_tls(),
            routing,
            max_packet: packet(broker),
            max_connections: number(broker.max_connections.value.0),
            caps: caps(broker),
            max_queued: number(broker.max_queued.value.0),
            max_queued_bytes: broker.max_queued_bytes.value.0,
            max_queued_bytes_total: broker.max_queued_bytes_total.value.0,
            max_retained_bytes: broker.max_retained.value.0,
            users,
            anonymous: broker.anonymous.value != Anonymous::WithoutUsers,
            anyone,
            store: Some(self.state_dir.clone()),
            sys_interval: broker.sys_interval.value.0,
        }
    }

    fn broker_tls(&mut self) -> Option<broker::Tls> {
        let written = &self.file.broker.value.tls.as_ref()?.value;
        if written.client_ca.value.0.is_empty() && !written.client_ca.refused {
            let asked = [
                ("client_cert", written.client_cert.span, true),
                ("user_from_cert", written.user_from_cert.span, written.user_from_cert.value),
            ];
            // What was left out stands where its block does.
            for (key, span, _) in asked.into_iter().filter(|(_, span, counts)| *span != written.span && *counts) {
                self.problems
                    .error(Code::Incomplete, span, format!("`{key}` without `client_ca`"))
                    .label("without authorities no client is asked for a certificate");
            }
        }
        let files = self.tls_files(written)?;
        Some(broker::Tls {
            listen: written.listen.as_ref().map(|listen| addresses(&listen.value)).unwrap_or_default(),
            websocket_listen: addresses(&written.websocket_listen.value),
            files,
            user_from_cert: written.user_from_cert.value,
            max_connections: written.max_connections.as_ref().map(|most| number(most.value.0)),
        })
    }

    /// No place twice, and none where just anyone comes in unless that is said twice.
    fn check_listeners(&mut self) {
        let broker = &self.file.broker.value;
        let refused = broker.anonymous.refused || broker.users.refused;
        let has_no_users = broker.users.value.is_empty();
        let mut listeners: Vec<(SocketAddr, Span)> = Vec::new();
        for (by_tls, address) in listeners_of(broker) {
            let listener = address.value.0;
            if let Some((_, first)) = listeners.iter().find(|(other, _)| same_port(*other, listener)) {
                self.problems
                    .error(Code::Duplicate, address.span, format!("`{listener}` is taken already"))
                    .label("listened at again here")
                    .and(*first, "listened at here first");
            }
            // A certificate of one of the authorities is something to show; who comes in so is not anyone.
            let asks = |tls: &file::BrokerTls| {
                let certified = tls.client_cert.value == file::ClientCert::Required || tls.client_cert.refused;
                certified && (!tls.client_ca.value.0.is_empty() || tls.client_ca.refused)
            };
            let is_certified = by_tls && broker.tls.as_ref().is_some_and(|tls| asks(&tls.value));
            let open = !refused
                && match broker.anonymous.value {
                    Anonymous::WithoutUsers => has_no_users && !is_certified,
                    Anonymous::Loopback => true,
                    Anonymous::BeyondLoopback => false,
                };
            if open && !listener.ip().is_loopback() {
                self.problems
                    .error(
                        Code::OpenBroker,
                        address.span,
                        match &broker.anyone {
                            None => format!("anyone who reaches `{listener}` could read and write everything"),
                            Some(_) => format!("anyone who reaches `{listener}` could do what [broker.anyone] allows"),
                        },
                    )
                    .label("beyond loopback, and anonymous clients are let in")
                    .help(match (broker.anonymous.value, has_no_users) {
                        (Anonymous::WithoutUsers, _) if by_tls => {
                            "declare `users`, demand certificates by `client_ca`, or write `anonymous = \"beyond-loopback\"` under [broker] as well"
                        }
                        (Anonymous::WithoutUsers, _) => {
                            "declare `users`, or write `anonymous = \"beyond-loopback\"` under [broker] as well"
                        }
                        (_, true) => {
                            "leave `anonymous` out and declare `users`, or write `anonymous = \"beyond-loopback\"`"
                        }
                        (_, false) => "leave `anonymous` out, or write `anonymous = \"beyond-loopback\"`",
                    });
            }
            listeners.push((listener, address.span));
        }
    }

    fn users(&mut self, written: &[At<file::User>]) -> Vec<User> {
        let mut names: HashMap<&str, Span> = HashMap::new();
        let mut users = Vec::new();
        let tls = self.file.broker.value.tls.as_ref();
        let certified = tls.is_some_and(|tls| tls.value.user_from_cert.value || tls.value.user_from_cert.refused);
        for user in written {
            if let Some(name) = &user.name
                && let Some(first) = names.insert(&name.value.0, name.span)
            {
                self.problems
                    .error(Code::Duplicate, name.span, format!("two users are named `{}`", name.value.0))
                    .label("named again here")
                    .and(first, "named here first");
            }
            match &user.hash {
                Some(hash) => self.check_hash(&hash.value.0, hash.span),
                // A value of the wrong type is told of by itself.
                None if certified || self.problems.any(Code::WrongType) => {}
                None => {
                    self.problems
                        .error(Code::MissingKey, user.span, "`hash` is missing")
                        .label("this block needs `hash`, unless clients come in by certificate (`user_from_cert`)");
                }
            }
            let rights = self.rights(&Lists::from(&user.value));
            let Some(name) = &user.name else { continue };
            users.push(User {
                name: name.value.0.clone(),
                hash: user.hash.as_ref().map(|hash| PasswordHash(hash.value.0.clone())),
                rights,
            });
        }
        users
    }

    /// Checks the four lists of one kind of client.
    fn rights(&mut self, written: &Lists<'_>) -> Rights {
        for (key, allowed, denied) in [
            ("publish", written.publish, written.deny_publish),
            ("subscribe", written.subscribe, written.deny_subscribe),
        ] {
            // A value of the wrong type is told of by itself.
            if allowed.value.is_empty() && !allowed.refused && !denied.value.is_empty() {
                self.problems
                    .error(Code::Incomplete, denied.span, format!("`deny_{key}` without `{key}`"))
                    .label(format!("nothing is allowed that it could deny: add `{key}`, such as `[\"#\"]`"));
            }
        }
        Rights {
            publish: self.client_filters("publish", written.publish, written.names),
            subscribe: self.client_filters("subscribe", written.subscribe, written.names),
            deny_publish: self.client_filters("deny_publish", written.deny_publish, written.names),
            deny_subscribe: self.client_filters("deny_subscribe", written.deny_subscribe, written.names),
        }
    }

    fn check_hash(&mut self, text: &str, span: Span) {
        let reason = match phc::PasswordHash::new(text) {
            Ok(hash) if !hash.algorithm.as_str().starts_with("argon2") => format!("is made with `{}`", hash.algorithm),
            Ok(hash) if hash.salt.is_none() || hash.hash.is_none() => "is cut off".to_owned(),
            Ok(_) => return,
            Err(_) => "is no hash in PHC form".to_owned(),
        };
        self.problems
            .error(Code::BadHash, span, format!("`hash` {reason}"))
            .label("expected $argon2id$…")
            .help("`tidegate user hash` asks for a password and prints its hash");
        // Whoever takes the key for a password must not find it in the log.
        self.problems.hide(span);
    }

    /// `names`: the holes that are filled in for each connection.
    fn client_filters(&mut self, key: &str, written: &Filters, names: &[&str]) -> Vec<FilterTemplate> {
        let holes = Holes { filled: &[("gateway", self.gateway.as_str())], numbered: 0, later: names };
        let mut filters = Vec::new();
        for text in &written.value {
            let Some(filled) = topics::fill(key, &text.value.0, text.span, &holes, self.problems) else { continue };
            if filled.split('/').any(|level| level.contains('{') && level != "{user}" && level != "{client}") {
                self.problems
                    .error(Code::BadHole, text.span, format!("`{key}` has a hole that does not fill its level"))
                    .label("`{user}` and `{client}` stand for a whole level");
                continue;
            }
            filters.extend(topics::filter(key, &filled, text.span, self.problems).map(FilterTemplate));
        }
        filters
    }
}

type Filters = At<Vec<At<FilterText>>>;

/// What is written of one kind of client.
struct Lists<'a> {
    publish: &'a Filters,
    subscribe: &'a Filters,
    deny_publish: &'a Filters,
    deny_subscribe: &'a Filters,
    names: &'static [&'static str],
}

impl<'a> From<&'a file::User> for Lists<'a> {
    fn from(user: &'a file::User) -> Self {
        let file::User { publish, subscribe, deny_publish, deny_subscribe, .. } = user;
        Self { publish, subscribe, deny_publish, deny_subscribe, names: &["user", "client"] }
    }
}

impl<'a> From<&'a file::Anyone> for Lists<'a> {
    fn from(anyone: &'a file::Anyone) -> Self {
        let file::Anyone { publish, subscribe, deny_publish, deny_subscribe, .. } = anyone;
        // Nobody vouches for the user name that such a client may give.
        Self { publish, subscribe, deny_publish, deny_subscribe, names: &["client"] }
    }
}

/// Everywhere the broker is to listen, and whether by TLS.
pub(super) fn listeners_of(broker: &file::Broker) -> Vec<(bool, &At<Address>)> {
    if broker.engine.value == file::Engine::External {
        return Vec::new();
    }
    let plain = [&broker.listen.value, &broker.websocket_listen.value];
    let mut all: Vec<_> = plain.into_iter().flat_map(|list| &list.0).map(|address| (false, address)).collect();
    if let Some(tls) = &broker.tls {
        let listen = tls.value.listen.iter().map(|listen| &listen.value);
        let lists = listen.chain([&tls.value.websocket_listen.value]);
        all.extend(lists.flat_map(|list| &list.0).map(|address| (true, address)));
    }
    all
}

fn caps(broker: &file::Broker) -> broker::Caps {
    broker::Caps {
        listen_max_connections: broker.listen_max_connections.as_ref().map(|most| number(most.value.0)),
        websocket_max_connections: broker.websocket_max_connections.as_ref().map(|most| number(most.value.0)),
        connects_per_minute: broker.connects_per_minute.as_ref().map(|most| number(most.value.0)),
        max_inflight: number(broker.max_inflight.value.0),
        // A part of a second is none: it is told in whole ones.
        max_keep_alive_s: broker.max_keep_alive.as_ref().map(|most| number(most.value.0.as_secs())),
    }
}

fn addresses(written: &OneOrMore<Address>) -> Vec<SocketAddr> {
    written.0.iter().map(|address| address.value.0).collect()
}

/// Whether the kernel would refuse the second of two listeners.
pub(super) fn same_port(a: SocketAddr, b: SocketAddr) -> bool {
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    // Port 0 asks for any free port.
    a.port() != 0 && a.port() == b.port() && overlap
}

/// Bytes of the largest packet. 256 MiB, the most that may be said, is meant as MQTT's own limit, which is a little more.
pub(super) fn packet(broker: &file::Broker) -> u32 {
    let bytes: u32 = number(broker.max_packet.value.0);
    if bytes < 256 << 20 { bytes } else { broker::Settings::PACKET_MAX }
}

/// A number whose bounds the config has checked.
pub(super) fn number<T, U: TryFrom<T> + Default>(value: T) -> U {
    U::try_from(value).unwrap_or_default()
}
