//! The bridges.

use std::collections::HashMap;
use std::net::IpAddr;

use super::brokers::number;
use super::rules::{self, Rule};
use super::topics::{self, Holes};
use super::{ActuatorPlan, Planner};
use crate::bridge::{
    self, CloudUrl, InRule, OnSessionLoss, OutRule, OutboxSettings, Reconnect, TopicTemplate, VersionChoice,
};
use crate::config::code::Code;
use crate::config::kinds::{FilterText, TopicText};
use crate::config::{At, Span, file};
use crate::model::{BridgeId, TopicFilter, TopicName};

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
                let cloud = (url.value.host.to_lowercase(), url.value.port);
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
            let out: Vec<OutRule> = out.into_iter().map(|(rule, _)| rule).collect();
            let inward = inward.into_iter().map(|(rule, _)| rule).collect();
            let Some(settings) = self.bridge(&written.value, out, inward, &never_out) else { continue };
            let client = (settings.url.host.to_lowercase(), settings.url.port, settings.client_id.clone());
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
                    .help("give one of them a `client_id` of its own, such as \"{gateway}-2\"");
            }
            bridges.push(settings);
        }
        self.tell_loops(&all_rules, &never_out);
        bridges
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
        out: Vec<OutRule>,
        inward: Vec<InRule>,
        never_out: &[TopicFilter],
    ) -> Option<bridge::Settings> {
        let client_id = self.client_id(&written.client_id);
        let url = written.url.as_ref();
        let tls = self.tls(url, &written.tls);
        let password = written.password.as_ref().and_then(|password| self.secret("password", password));
        self.check_login(written);
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
        let cloud_status_topic = mapped_status(&self.status_topic, &out);
        Some(bridge::Settings {
            id,
            gateway: self.gateway.clone(),
            url: CloudUrl { tls: url.tls, host: url.host.clone(), port: url.port },
            version: match written.version.value {
                file::Version::Auto => VersionChoice::Auto,
                file::Version::V5 => VersionChoice::V5,
                file::Version::V311 => VersionChoice::V311,
            },
            client_id: client_id?,
            username: written.username.as_ref().map(|name| name.value.0.clone()),
            password,
            keep_alive: written.keep_alive.value.0,
            connect_timeout: written.connect_timeout.value.0,
            reconnect: Reconnect {
                min: reconnect.min.value.0,
                max: reconnect.max.value.0,
                stable: reconnect.stable.value.0,
            },
            window: number(written.window.value.0),
            on_session_loss: match written.on_session_loss.value {
                file::OnSessionLoss::Resend => OnSessionLoss::Resend,
                file::OnSessionLoss::DropUncertain => OnSessionLoss::DropUncertain,
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
                linger: written.outbox.linger.value.0,
            },
            state_topic,
            event_topic: self.event_topic.clone(),
            local_status_topic: self.status_topic.clone(),
            cloud_status_topic,
            never_out: never_out.to_vec(),
        })
    }

    fn client_id(&mut self, written: &At<TopicText>) -> Option<String> {
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

    fn check_login(&mut self, written: &file::Bridge) {
        let Some(password) = &written.password else { return };
        if written.username.is_none() {
            self.problems
                .error(Code::Incomplete, password.span, "`password` without `username`")
                .label("MQTT has no password without a user name");
        }
        if let Some(url) = &written.url
            && !url.value.tls
            && !is_loopback(&url.value.host)
        {
            self.problems
                .warning(Code::ClearPassword, url.span, "the password goes over the network in clear text")
                .help(format!("use mqtts://{}", url.value.host));
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
            rules.push((OutRule { from, to, qos, retain }, rule.span));
        }
        rules
    }

    fn in_rules(&mut self, written: &[At<file::InRule>]) -> Vec<(InRule, Span)> {
        let mut rules: Vec<(InRule, Span)> = Vec::new();
        for rule in written {
            let Some((from, to)) = self.ends(rule.from.as_ref(), rule.to.as_ref()) else { continue };
            let overlap =
                rules.iter().find(|(other, _)| rules::intersect(other.from.as_str(), from.as_str()).is_some());
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

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
