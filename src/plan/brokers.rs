//! The local broker.

use std::collections::HashMap;
use std::net::SocketAddr;

use argon2::password_hash::phc;

use super::Planner;
use super::topics::{self, Holes};
use crate::broker::{self, FilterTemplate, PasswordHash, Routing, User};
use crate::config::code::Code;
use crate::config::file::{self, Anonymous};
use crate::config::kinds::{Address, FilterText};
use crate::config::{At, Span};

impl Planner<'_> {
    /// The local broker's settings.
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
        let listen = self.listeners(&broker.listen.value.0);
        broker::Settings {
            listen,
            routing,
            max_packet: number(broker.max_packet.value.0),
            max_connections: number(broker.max_connections.value.0),
            max_queued: number(broker.max_queued.value.0),
            max_retained_bytes: broker.max_retained.value.0,
            users,
            anonymous: broker.anonymous.value != Anonymous::WithoutUsers,
            store: Some(self.state_dir.clone()),
            sys_interval: broker.sys_interval.value.0,
        }
    }

    fn listeners(&mut self, written: &[At<Address>]) -> Vec<SocketAddr> {
        let broker = &self.file.broker.value;
        let refused = broker.anonymous.refused || broker.users.refused;
        let open = !refused
            && match broker.anonymous.value {
                Anonymous::WithoutUsers => broker.users.value.is_empty(),
                Anonymous::Loopback => true,
                Anonymous::BeyondLoopback => false,
            };
        let mut listeners: Vec<(SocketAddr, Span)> = Vec::new();
        for address in written {
            let listener = address.value.0;
            if let Some((_, first)) = listeners.iter().find(|(other, _)| same_port(*other, listener)) {
                self.problems
                    .error(Code::Duplicate, address.span, format!("`{listener}` is taken already"))
                    .label("listened at again here")
                    .and(*first, "listened at here first");
            }
            if open && !listener.ip().is_loopback() {
                self.problems
                    .error(
                        Code::OpenBroker,
                        address.span,
                        format!("anyone who reaches `{listener}` could read and write everything"),
                    )
                    .label("beyond loopback, and anonymous clients are let in")
                    .help(match (broker.anonymous.value, broker.users.value.is_empty()) {
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
        listeners.into_iter().map(|(listener, _)| listener).collect()
    }

    fn users(&mut self, written: &[At<file::User>]) -> Vec<User> {
        let mut names: HashMap<&str, Span> = HashMap::new();
        let mut users = Vec::new();
        for user in written {
            if let Some(name) = &user.name
                && let Some(first) = names.insert(&name.value.0, name.span)
            {
                self.problems
                    .error(Code::Duplicate, name.span, format!("two users are named `{}`", name.value.0))
                    .label("named again here")
                    .and(first, "named here first");
            }
            if let Some(hash) = &user.hash {
                self.check_hash(&hash.value.0, hash.span);
            }
            let publish = self.user_filters("publish", &user.publish.value);
            let subscribe = self.user_filters("subscribe", &user.subscribe.value);
            let (Some(name), Some(hash)) = (&user.name, &user.hash) else { continue };
            users.push(User {
                name: name.value.0.clone(),
                hash: PasswordHash(hash.value.0.clone()),
                publish,
                subscribe,
            });
        }
        users
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

    fn user_filters(&mut self, key: &str, written: &[At<FilterText>]) -> Vec<FilterTemplate> {
        let holes = Holes { filled: &[("gateway", self.gateway.as_str())], numbered: 0, later: &["user", "client"] };
        let mut filters = Vec::new();
        for text in written {
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

/// Whether the kernel would refuse the second of two listeners.
pub(super) fn same_port(a: SocketAddr, b: SocketAddr) -> bool {
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    // Port 0 asks for any free port.
    a.port() != 0 && a.port() == b.port() && overlap
}

/// A number whose bounds the config has checked.
pub(super) fn number<T, U: TryFrom<T> + Default>(value: T) -> U {
    U::try_from(value).unwrap_or_default()
}
