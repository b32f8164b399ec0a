//! The bridges.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::brokers::{listeners_of, number};
use super::clouds::{self, Judged, Names};
use super::rules::{self, Rule};
use super::topics::{self, Holes};
use super::{ActuatorPlan, Planner};
use crate::bridge::{
    self, Auth, Durability, Full, InRule, OnSessionLoss, OutRule, OutboxSettings, Reconnect, Share, TopicTemplate,
};
use crate::config::code::Code;
use crate::config::kinds::{FilterText, NameOrSecret, SecretRef, TopicText, Url};
use crate::config::{At, Span, file};
use crate::logic::filters::intersect;
use crate::logic::lanes::Order;
use crate::model::{BridgeId, Priority, Secret, TopicFilter, TopicName};
use crate::mqtt::endpoint::CloudUrl;

impl Planner<'_> {
    /// The declared bridges, and what must not be between them.
    pub(super) fn bridges(&mut self, actuators: &[ActuatorPlan]) -> Vec<bridge::Settings> {
        let never_out = self.never_out(actuators);
        let mut bridges = Vec::new();
        let mut all_rules = Vec::new();
        let mut ids: HashMap<&str, Span> = HashMap::new();
        let mut clients: HashMap<(String, u16, String), Span> = HashMap::new();
        for (index, written) in self.file.bridge.iter().enumerate() {
            if let Some(id) = &written.id
                && let Some(first) = ids.insert(&id.value.0, id.span)
            {
                self.problems
                    .error(Code::Duplicate, id.span, format!("two bridges are named `{}`", id.value.0))
                    .label("named again here")
                    .and(first, "named here first");
            }
            let out = self.out_rules(&written.out.value);
            let inward = self.in_rules(&written.inward.value);
            if let (Some(id), Some(url)) = (&written.id, &written.url) {
                let cloud = (one_name(&url.value.host), url.value.port);
                self.not_our_own(&url.value.host, url.value.port, url.span);
                let rule = |out, from: &TopicFilter, to: &Option<TopicTemplate>, span| Rule {
                    bridge: index,
                    bridge_id: id.value.0.clone(),
                    out,
                    cloud: cloud.clone(),
                    from: from.clone(),
                    to: to.as_ref().map(|to| to.0.clone()),
                    span,
                };
                all_rules.extend(out.iter().map(|(r, span)| rule(true, &r.from, &r.to, *span)));
                all_rules.extend(inward.iter().map(|(r, span)| rule(false, &r.from, &r.to, *span)));
            }
            let Some(settings) = self.bridge(&written.value, out, inward, &never_out) else { continue };
            let client = (one_name(&settings.url.host), settings.url.port, settings.client_id.clone());
            let span = written.id.as_ref().map_or(written.span, |id| id.span);
            if let Some(first) = clients.insert(client, span) {
                self.problems
                    .error(
                        Code::ClientIdTwice,
                        span,
                        format!("client id `{}` is used by two bridges to one cloud", settings.client_id),
                    )
                    .label("and by this one")
                    .and(first, "by this bridge")
                    .help(match settings.auth {
                        Auth::Password | Auth::Aliyun { .. } => {
                            "give one of them a `client_id` of its own, such as \"{gateway}-2\""
                        }
                        _ => "it is made of the device's name there: give each its own `device`",
                    });
            }
            bridges.push(settings);
        }
        self.tell_loops(&all_rules, &never_out);
        bridges
    }

    /// A cloud that is the gateway's own broker, as far as the config tells.
    fn not_our_own(&mut self, host: &str, port: u16, span: Span) {
        let literal: Option<IpAddr> = host.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified());
        let listens = |listener: SocketAddr| {
            let ip = listener.ip();
            // Two addresses are two brokers, also of this machine; a name of it may be either.
            let is_same = match literal {
                Some(literal) => literal == ip,
                None => one_name(&ip.to_string()) == one_name(host),
            };
            listener.port() == port && (is_same || (ip.is_unspecified() && is_loopback(host)))
        };
        if let Some(external) = self.external_url()
            && (one_name(&external.value.host), external.value.port) == (one_name(host), port)
        {
            self.problems
                .error(Code::RulesLoop, span, "the cloud of this bridge is the gateway's local broker")
                .and(external.span, "where local clients are")
                .help("a bridge leads to another broker: what goes up would be where it came from");
        }
        let listeners = listeners_of(&self.file.broker.value);
        if self.file.broker.value.listen.refused {
            return;
        }
        if let Some((_, listener)) = listeners.into_iter().find(|(_, listener)| listens(listener.value.0)) {
            self.problems
                .error(Code::RulesLoop, span, "the cloud of this bridge is the gateway's own broker")
                .label(format!("the gateway listens at `{}` itself", listener.value.0))
                .help("a bridge leads to another broker; if that one runs on this machine, give one of the two another port");
        }
    }

    /// What no `out` rule forwards (docs/topics.md).
    fn never_out(&self, actuators: &[ActuatorPlan]) -> Vec<TopicFilter> {
        let own = ["bridge/#", "status", "+/set", "+/+/set"].map(|rest| format!("tidegate/{}/{rest}", self.gateway));
        let mut never: Vec<TopicFilter> = own.iter().filter_map(|text| TopicFilter::parse(text).ok()).collect();
        for command in actuators.iter().map(|actuator| &actuator.topics.set) {
            if !never.iter().any(|filter| filter.matches(command)) {
                never.extend(TopicFilter::parse(command.as_str()));
            }
        }
        never
    }

    fn tell_loops(&mut self, all: &[Rule], never_out: &[TopicFilter]) {
        for circle in rules::loops(all, never_out) {
            let Some((first, rest)) = circle.split_first() else { continue };
            let first = &all[*first];
            let mut names: Vec<String> = circle.iter().map(|index| format!("`{}`", all[*index].bridge_id)).collect();
            names.dedup();
            let names = names.join(", ");
            let told = self.problems.error(
                Code::RulesLoop,
                first.span,
                format!("messages would run in a circle through {names}"),
            );
            told.label(if first.out { "what goes up here" } else { "what comes down here" });
            for index in rest {
                let rule = &all[*index];
                told.and(rule.span, if rule.out { "goes up again here" } else { "comes down again here" });
            }
            told.help("let the two directions use different topics");
        }
    }

    fn bridge(
        &mut self,
        written: &file::Bridge,
        out: Vec<(OutRule, Span)>,
        inward: Vec<(InRule, Span)>,
        never_out: &[TopicFilter],
    ) -> Option<bridge::Settings> {
        let client_id = self.client_id(&written.client_id);
        let url = written.url.as_ref();
        let preset = self.preset(written);
        let given = client_id.as_deref().unwrap_or_default();
        let names = Names::of(&written.auth.value, given);
        self.hold_against_preset(&Judged { written, preset, names: &names, out: &out, inward: &inward });
        let auth = self.auth(written, given);
        let out: Vec<OutRule> = out.into_iter().map(|(rule, _)| rule).collect();
        let inward = inward.into_iter().map(|(rule, _)| rule).collect();
        let mut tls = self.tls(url, &written.tls);
        if let (Some(tls), Some(url)) = (tls.as_mut().filter(|tls| tls.alpn.is_empty()), url) {
            tls.alpn = clouds::alpn(preset, &url.value);
        }
        let password =
            written.password.as_ref().and_then(|password| self.secret("password", &password.value, password.span));
        let username = written.username.as_ref().and_then(|name| self.username(name));
        self.check_login(written.url.as_ref(), written.username.as_ref(), written.password.as_ref());
        let reconnect = &written.reconnect;
        let refused = reconnect.min.refused || reconnect.max.refused;
        if !refused && reconnect.min.value.0 > reconnect.max.value.0 {
            self.problems
                .error(Code::OutOfRange, reconnect.max.span, "`max` is less than `min`")
                .and(reconnect.min.span, "the least pause");
        }
        let id = BridgeId::parse(&written.id.as_ref()?.value.0).ok()?;
        let url = &url?.value;
        let state_topic = TopicName::parse(&format!("tidegate/{}/bridge/{id}", self.gateway)).ok()?;
        let carried = out.iter().any(|rule| rule.from.matches(&self.status_topic));
        let cloud_status_topic = mapped_status(&self.status_topic, &out);
        Some(bridge::Settings {
            id,
            gateway: self.gateway.clone(),
            url: CloudUrl { tls: url.tls, host: url.host.clone(), port: url.port, path: clouds::path(preset, url) },
            version: clouds::version(written, preset),
            limits: Self::cloud_limits(preset, &names, &cloud_status_topic, carried),
            auth: auth?,
            client_id: client_id.map(|_| names.client_id)?,
            username,
            password,
            keep_alive: written.keep_alive.value.0,
            connect_timeout: written.connect_timeout.value.0,
            reconnect: Reconnect {
                min: reconnect.min.value.0,
                max: reconnect.max.value.0,
                stable: reconnect.stable.value.0,
            },
            window: number(clouds::window(written, preset)),
            on_session_loss: match written.on_session_loss.value {
                file::OnSessionLoss::Resend => OnSessionLoss::Resend,
                file::OnSessionLoss::DropUncertain => OnSessionLoss::DropUncertain,
                file::OnSessionLoss::NoLoss => OnSessionLoss::NoLoss,
            },
            session_expiry: written.session_expiry.value.0,
            will_delay: written.will_delay.value.0,
            tls,
            out,
            inward,
            outbox: OutboxSettings {
                dir: self.state_dir.clone(),
                max_bytes: written.outbox.max_bytes.value.0,
                max_messages: number(written.outbox.max_messages.value.0),
                max_age: written.outbox.max_age.as_ref().map(|age| age.value.0),
                full: match written.outbox.full.value {
                    file::Full::DropOldest => Full::DropOldest,
                    file::Full::DropNewest => Full::DropNewest,
                    file::Full::Thin => Full::Thin,
                    file::Full::Block => Full::Block,
                },
                rate: clouds::rate(written, preset),
                durability: match written.outbox.durability.value {
                    file::Durability::Power => Durability::Power,
                    file::Durability::Process => Durability::Process,
                },
                order: match written.outbox.order.value {
                    file::Order::OldestFirst => Order::OldestFirst,
                    file::Order::LiveFirst => Order::LiveFirst,
                },
                linger: written.outbox.linger.value.0,
            },
            state_topic,
            event_topic: self.event_topic.clone(),
            local_status_topic: self.status_topic.clone(),
            cloud_status_topic,
            never_out: never_out.to_vec(),
        })
    }

    pub(super) fn client_id(&mut self, written: &At<TopicText>) -> Option<String> {
        let holes = Holes { filled: &[("gateway", self.gateway.as_str())], numbered: 0, later: &[] };
        let text = topics::fill("client_id", &written.value.0, written.span, &holes, self.problems)?;
        if text.is_empty() || text.len() > usize::from(u16::MAX) || text.contains('\0') {
            self.problems
                .error(Code::Malformed, written.span, "`client_id` cannot be used")
                .label("1 to 65,535 bytes: the cloud's session hangs on it");
            return None;
        }
        Some(text)
    }

    /// A name, or a token that is one.
    pub(super) fn username(&mut self, written: &At<NameOrSecret>) -> Option<Secret> {
        match &written.value {
            NameOrSecret::Name(name) => Some(Secret::new(name.clone())),
            NameOrSecret::Secret(place) => self.secret("username", place, written.span),
        }
    }

    /// What of a login does not fit together, or is seen by others.
    pub(super) fn check_login(
        &mut self,
        url: Option<&At<Url>>,
        username: Option<&At<NameOrSecret>>,
        password: Option<&At<SecretRef>>,
    ) {
        let token = matches!(username, Some(At { value: NameOrSecret::Secret(_), .. }));
        if let (Some(password), None) = (password, username) {
            self.problems
                .error(Code::Incomplete, password.span, "`password` without `username`")
                .label("MQTT has no password without a user name");
        }
        if password.is_none() && !token {
            return;
        }
        if let Some(url) = url
            && !url.value.tls
            && !is_loopback(&url.value.host)
        {
            let what = if password.is_some() { "password" } else { "token" };
            self.problems
                .warning(Code::ClearPassword, url.span, format!("the {what} goes over the network in clear text"))
                .help(format!("use {}://{}", if url.value.path.is_some() { "wss" } else { "mqtts" }, url.value.host));
        }
    }

    fn out_rules(&mut self, written: &[At<file::OutRule>]) -> Vec<(OutRule, Span)> {
        let mut rules: Vec<(OutRule, Span)> = Vec::new();
        for rule in written {
            let Some((from, to)) = self.ends(rule.from.as_ref(), rule.to.as_ref()) else { continue };
            let hides = rules.iter().find(|(earlier, _)| rules::covers(earlier.from.as_str(), from.as_str()));
            if let Some((_, earlier)) = hides {
                self.problems
                    .warning(Code::Unused, rule.span, "no message gets to this rule")
                    .and(*earlier, "this one takes them all: the first that matches counts")
                    .help("put the narrower rule first");
            }
            let qos = rule.qos.as_ref().map(|qos| qos.value.0);
            let retain = rule.retain.as_ref().map(|retain| retain.value);
            let priority = match rule.priority.value {
                file::Priority::Urgent => Priority::Urgent,
                file::Priority::High => Priority::High,
                file::Priority::Normal => Priority::Normal,
                file::Priority::Low => Priority::Low,
            };
            let share = Share {
                max_age: rule.max_age.as_ref().map(|age| age.value.0),
                max_messages: rule.max_messages.as_ref().map(|most| number(most.value.0)),
                max_bytes: rule.max_bytes.as_ref().map(|most| most.value.0),
            };
            rules.push((OutRule { from, to, qos, retain, priority, share }, rule.span));
        }
        rules
    }

    fn in_rules(&mut self, written: &[At<file::InRule>]) -> Vec<(InRule, Span)> {
        let mut rules: Vec<(InRule, Span)> = Vec::new();
        for rule in written {
            let Some((from, to)) = self.ends(rule.from.as_ref(), rule.to.as_ref()) else { continue };
            let overlap = rules.iter().find(|(other, _)| intersect(other.from.as_str(), from.as_str()).is_some());
            if let (Some((other, first)), Some(at)) = (overlap, &rule.from) {
                self.problems
                    .error(Code::RulesOverlap, at.span, format!("`{from}` and `{}` mean topics in common", other.from))
                    .label("the cloud may deliver such a message twice")
                    .and(*first, "the other rule");
            }
            rules.push((InRule { from, to, qos: rule.qos.value.0 }, rule.span));
        }
        rules
    }

    /// Both ends of a rule, holes filled and checked.
    fn ends(
        &mut self,
        from: Option<&At<FilterText>>,
        to: Option<&At<TopicText>>,
    ) -> Option<(TopicFilter, Option<TopicTemplate>)> {
        let from = topics::gateway_filter("from", from?, self.gateway.as_str(), self.problems)?;
        let Some(to) = to else { return Some((from, None)) };
        let holes =
            Holes { filled: &[("gateway", self.gateway.as_str())], numbered: from.wildcards().min(9), later: &[] };
        let template = topics::fill("to", &to.value.0, to.span, &holes, self.problems)?;
        // With its holes filled by a plain level the template must be a topic.
        let sample = rules::replace_holes(&template, &["x"; 9]);
        topics::name("to", &sample, to.span, self.problems)?;
        Some((from, Some(TopicTemplate(template))))
    }
}

/// Topic of will and birth at the cloud: where the first rule that takes the local one would put it.
fn mapped_status(status: &TopicName, out: &[OutRule]) -> TopicName {
    let mapped = out.iter().find_map(|rule| Some((rule, rule.from.capture(status)?)));
    let Some((rule, captured)) = mapped else { return status.clone() };
    let Some(to) = &rule.to else { return status.clone() };
    TopicName::parse(&rules::replace_holes(&to.0, &captured)).unwrap_or_else(|_| status.clone())
}

/// The host of a cloud, the same for the names of this machine that everyone knows.
fn one_name(host: &str) -> String {
    let host = host.to_lowercase();
    if ["127.0.0.1", "::1", "0.0.0.0", "::"].contains(&&*host) { "localhost".into() } else { host }
}

pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
