//! What a bridge's cloud is known to take, held against what the config asks of it; and how the bridge proves who it is.

use super::bridges::is_loopback;
use super::{Planner, rules};
use crate::bridge::presets::{self, AuthKind, Caps, Preset, Retain, Spoken, Transport};
use crate::bridge::{Auth, CloudLimits, InRule, OutRule, signers};
use crate::config::code::Code;
use crate::config::kinds::{Text, Url};
use crate::config::{At, Span, file};
use crate::model::{Quota, Rate, Secret, TopicFilter, TopicName};
use crate::mqtt::endpoint::VersionChoice;

/// A bridge whose parts were read one by one.
pub(super) struct Judged<'a> {
    pub written: &'a file::Bridge,
    pub preset: &'static Preset,
    pub names: &'a Names,
    /// Each rule and where it stands, beside what was written.
    pub out: &'a [(OutRule, Span)],
    pub inward: &'a [(InRule, Span)],
}

/// Who a bridge is to its cloud.
pub(super) struct Names {
    /// Client id as it is sent: some signatures make it of the device's name. Huawei's ends in the hour, which stands here as `YYYYMMDDHH`.
    pub client_id: String,
    device: String,
    /// `+` where none is given.
    product: String,
}

impl Names {
    pub(super) fn of(auth: &file::Auth, written: &str) -> Self {
        let text = |given: &Option<At<Text>>| given.as_ref().map(|given| given.value.0.clone());
        let (device, product) = (text(&auth.device).unwrap_or_else(|| written.to_owned()), text(&auth.product));
        let client_id = match auth.kind.value {
            file::AuthKind::Password | file::AuthKind::Aliyun => written.to_owned(),
            file::AuthKind::Sas => device.clone(),
            file::AuthKind::Tencent => format!("{}{device}", product.as_deref().unwrap_or_default()),
            file::AuthKind::Huawei => format!("{device}_0_0_YYYYMMDDHH"),
        };
        Self { client_id, device, product: product.unwrap_or_else(|| "+".to_owned()) }
    }

    /// Filters of a preset with their holes filled.
    fn fill(&self, filters: &[String]) -> Vec<String> {
        let fill = |filter: &String| {
            let filter = filter.replace("{client_id}", &self.client_id);
            filter.replace("{device}", &self.device).replace("{product}", &self.product)
        };
        filters.iter().map(fill).collect()
    }
}

impl Planner<'_> {
    /// The preset a bridge names; that of no cloud in particular where there is none of this name, which is noted.
    pub(super) fn preset(&mut self, written: &file::Bridge) -> &'static Preset {
        let named = presets::find(&written.preset.value.0);
        if named.is_none() {
            let given = &written.preset.value.0;
            self.problems
                .error(Code::NotAChoice, written.preset.span, format!("no preset named `{given}`"))
                .suggest(given, presets::all().iter().map(|preset| preset.name));
        }
        named.or_else(|| presets::find(presets::GENERIC)).unwrap_or(&presets::all()[0])
    }

    /// What the cloud would refuse, each at its place.
    pub(super) fn hold_against_preset(&mut self, judged: &Judged<'_>) {
        self.judge_connection(judged);
        self.judge_transport(judged);
        for (rule, _) in judged.out {
            let written = judged.written.out.value.iter().find(|w| is_of(w, rule, self.gateway.as_str()));
            if let Some(written) = written {
                self.judge_out(judged, rule, written);
            }
        }
        self.judge_in(judged);
    }

    /// What the cloud does not take whoever owns it.
    fn not_taken(&mut self, preset: &Preset, span: Span, what: impl Into<String>, label: impl Into<String>) {
        self.problems
            .error(Code::NotTaken, span, format!("`{}` does not take {}", preset.name, what.into()))
            .label(label)
            .help(format!("`tidegate presets {}` says what it takes", preset.name));
    }

    /// What it does not take as it comes: an owner can have set another number.
    fn beyond(&mut self, preset: &Preset, span: Span, what: &str, label: impl Into<String>) {
        if preset.caps.adjustable {
            self.not_known(preset, span, what, label);
        } else {
            self.not_taken(preset, span, what, label);
        }
    }

    /// What may be in order, and is not known to be.
    fn not_known(&mut self, preset: &Preset, span: Span, what: &str, label: impl Into<String>) {
        self.problems
            .warning(Code::NotKnown, span, format!("`{}` is not known to take {what}", preset.name))
            .label(label)
            .help(format!(
                "all is well where that was set or bought otherwise; `tidegate presets {}` says what is known",
                preset.name
            ));
    }

    #[allow(clippy::cast_precision_loss)] // A rate beyond 2^53 is no rate.
    fn judge_connection(&mut self, judged: &Judged<'_>) {
        let Judged { written, preset, names, .. } = *judged;
        let caps = &preset.caps;
        let version = match written.version.value {
            file::Version::Auto => None,
            file::Version::V5 => Some(Spoken::V5),
            file::Version::V311 => Some(Spoken::V311),
        };
        if let Some(version) = version.filter(|version| !caps.versions.contains(version)) {
            let spoken: Vec<_> = caps.versions.iter().map(|version| version.word()).collect();
            self.not_taken(
                preset,
                written.version.span,
                format!("MQTT {}", version.word()),
                format!("it speaks {}", spoken.join(" and ")),
            );
        }
        let keep_alive_s = written.keep_alive.value.0.as_secs();
        if let Some((least, most)) = caps.keep_alive_s
            && !written.keep_alive.refused
            && !(least..=most).contains(&keep_alive_s)
        {
            let span = written.keep_alive.span;
            self.beyond(preset, span, "this keep alive", format!("from {least} s to {most} s"));
        }
        let length = names.client_id.len();
        if let Some(most) = caps.client_id_bytes.filter(|most| length > *most) {
            let device = written.auth.value.device.as_ref();
            let span = device.map_or(written.client_id.span, |device| device.span);
            self.beyond(preset, span, "this client id", format!("{length} bytes; at most {most}"));
        }
        let kind = auth_kind(written.auth.value.kind.value);
        if kind != AuthKind::Password && preset.name != presets::GENERIC && !caps.auth.contains(&kind) {
            let known: Vec<_> = caps.auth.iter().map(|kind| kind.word()).collect();
            let span = written.auth.value.kind.span;
            self.not_taken(preset, span, format!("`{}`", kind.word()), format!("it takes {}", known.join(", ")));
        }
        let pace = |quota: Option<Quota>| quota.map(|quota| quota.count as f64 / quota.per.as_secs_f64());
        if let (Some(written), Some(most)) = (&written.outbox.value.rate, preset.rate())
            && (pace(written.value.0.messages) > pace(most.messages).or(Some(f64::INFINITY))
                || pace(written.value.0.bytes) > pace(most.bytes).or(Some(f64::INFINITY)))
        {
            // An account that pays has more.
            self.not_known(preset, written.span, "this rate", format!("{most} is known"));
        }
        if let Some(most) = caps.window.filter(|most| written.window.value.0 > i64::from(*most)) {
            self.beyond(preset, written.window.span, "this window", format!("at most {most} in flight"));
        }
    }

    /// Behind a loopback address is a relay or a bench, and the cloud's ports are not ours to know.
    fn judge_transport(&mut self, judged: &Judged<'_>) {
        let Judged { written, preset, .. } = *judged;
        let Some(url) = written.url.as_ref().filter(|url| !is_loopback(&url.value.host)) else { return };
        let caps = &preset.caps;
        let host = url.value.host.to_lowercase();
        if !caps.hosts.is_empty() && !caps.hosts.iter().any(|end| host.ends_with(end)) {
            return;
        }
        if caps.tls == Transport::Required && !url.value.tls {
            self.not_taken(preset, url.span, "clear text", "it needs TLS");
            return;
        }
        if caps.sni && url.value.tls && written.tls.value.server_name.is_none() && is_address(&url.value.host) {
            self.not_taken(preset, url.span, "an address", "it is found by its host name");
        }
        if caps.ports.is_empty() || !url.value.tls {
            return;
        }
        let Url { port, path, path_left_out, .. } = &url.value;
        let Some(known) = caps.port(*port, path.is_some()) else {
            let what = match (caps.port(*port, path.is_none()), path) {
                (None, _) => "this port",
                (Some(_), None) => "MQTT without a WebSocket at this port",
                (Some(_), Some(_)) => "a WebSocket at this port",
            };
            self.not_taken(preset, url.span, what, listens(caps));
            return;
        };
        if let Some(usual) = known.path.as_ref().filter(|usual| !path_left_out && path.as_ref() != Some(*usual)) {
            self.not_taken(preset, url.span, "this path", format!("its WebSocket is at {usual}"));
        }
        let alpn = &written.tls.value.alpn;
        let meant = alpn.value.iter().any(|protocol| known.alpn.contains(&protocol.value.0));
        if !alpn.value.is_empty() && !known.alpn.is_empty() && !meant {
            let known = known.alpn.join(" or ");
            self.not_taken(preset, alpn.span, "these protocols", format!("at this port: {known}"));
        }
    }

    fn judge_out(&mut self, judged: &Judged<'_>, rule: &OutRule, written: &At<file::OutRule>) {
        let Judged { preset, names, .. } = *judged;
        let caps = &preset.caps;
        if let Some(qos) = written.qos.as_ref().filter(|qos| qos.value.0.level() > caps.qos) {
            let label = format!("at most {}; left out, what has a higher QoS is sent with this", caps.qos);
            self.not_taken(preset, qos.span, format!("QoS {}", qos.value.0.level()), label);
        }
        if let Some(retain) = written.retain.as_ref().filter(|retain| retain.value && caps.retain == Retain::Refused) {
            self.not_taken(preset, retain.span, "retained messages", "it retains nothing");
        }
        let (template, span) = match (&rule.to, &written.to) {
            (Some(to), Some(at)) => (to.0.as_str(), at.span),
            _ => (rule.from.as_str(), written.from.as_ref().map_or(written.span, |from| from.span)),
        };
        self.judge_topic(preset, template, span);
        // A rule without `to` takes topics as they are: its filter has to lie within what may be published to.
        let allowed = names.fill(&caps.publish);
        let topics = if rule.to.is_some() { rules::replace_holes(template, &["x"; 9]) } else { template.to_owned() };
        if !caps.publish.is_empty() && !allowed.iter().any(|filter| rules::covers(filter, &topics)) {
            let known: Vec<String> = allowed.iter().map(|filter| format!("`{filter}`")).collect();
            self.beyond(preset, span, "this topic", format!("it takes {}", known.join(", ")));
        }
    }

    /// What of a topic is known before its holes are filled.
    fn judge_topic(&mut self, preset: &Preset, template: &str, span: Span) {
        let caps = &preset.caps;
        let levels = template.split('/').filter(|level| *level != "#").count();
        if let Some(most) = caps.topic_levels.filter(|most| levels > *most) {
            self.beyond(preset, span, "so many levels", format!("{levels}; at most {most}"));
        }
        let bytes = rules::replace_holes(template, &[""; 9]).len();
        if let Some(most) = caps.topic_bytes.filter(|most| bytes > *most) {
            self.beyond(preset, span, "so long a topic", format!("{bytes} bytes; at most {most}"));
        }
        if let Some(character) = caps.forbidden_in_topics.chars().find(|character| template.contains(*character)) {
            self.not_taken(preset, span, "this topic", format!("no topic may have the character {character:?}"));
        }
    }

    fn judge_in(&mut self, judged: &Judged<'_>) {
        let Judged { written, preset, names, inward, .. } = *judged;
        let caps = &preset.caps;
        if let Some(most) = caps.subscriptions.filter(|most| inward.len() > *most) {
            let (count, span) = (inward.len(), written.inward.span);
            self.beyond(preset, span, "so many subscriptions", format!("{count} rules; at most {most}"));
        }
        for (rule, span) in inward {
            self.judge_topic(preset, rule.from.as_str(), *span);
            let allowed = names.fill(&caps.subscribe);
            if !allowed.is_empty() && !allowed.iter().any(|filter| rules::covers(filter, rule.from.as_str())) {
                let known: Vec<String> = allowed.iter().map(|filter| format!("`{filter}`")).collect();
                self.beyond(preset, *span, "this subscription", format!("it takes {}", known.join(", ")));
            }
        }
    }

    /// What the engine keeps to. Will and birth go where the cloud takes them, or nowhere. `carried`: a rule takes them there.
    pub(super) fn cloud_limits(preset: &Preset, names: &Names, status: &TopicName, carried: bool) -> CloudLimits {
        let (caps, topic) = (&preset.caps, status.as_str());
        let takes = |filter: &String| TopicFilter::parse(filter).is_ok_and(|filter| filter.matches(status));
        let known = (caps.publish.is_empty() || names.fill(&caps.publish).iter().any(takes))
            && caps.topic_levels.is_none_or(|most| topic.split('/').count() <= most)
            && caps.topic_bytes.is_none_or(|most| topic.len() <= most);
        let forbidden = caps.forbidden_in_topics.chars().any(|character| topic.contains(character));
        // Where a rule was written for a broker of one's own, its owner will have seen to it.
        CloudLimits { status: (known || (carried && caps.adjustable)) && !forbidden, ..preset.limits() }
    }

    /// How the bridge proves who it is. `None` when a key is missing or of no use, which is noted.
    pub(super) fn auth(&mut self, bridge: &file::Bridge, client_id: &str) -> Option<Auth> {
        let written = &bridge.auth.value;
        if written.kind.value == file::AuthKind::Password {
            return Some(Auth::Password);
        }
        let word = auth_kind(written.kind.value).word();
        let Some(reference) = &written.key else {
            self.missing(written.kind.span, word, "key");
            return None;
        };
        let key = self.secret("key", &reference.value, reference.span)?;
        let device = written.device.as_ref().map_or_else(|| client_id.to_owned(), |device| device.value.0.clone());
        let product = written.product.as_ref().map(|product| product.value.0.clone());
        let ttl = written.ttl.value.0;
        let auth = match (written.kind.value, product) {
            (file::AuthKind::Password, _) => Auth::Password,
            (file::AuthKind::Sas, _) => {
                let host = written.host.as_ref().map(|host| host.value.0.clone());
                let policy = written.policy.as_ref().map(|policy| policy.value.0.clone());
                Auth::Sas {
                    host: host.or_else(|| Some(bridge.url.as_ref()?.value.host.clone()))?,
                    device,
                    policy,
                    key,
                    ttl,
                }
            }
            (file::AuthKind::Huawei, _) => Auth::Huawei { device, key },
            (file::AuthKind::Aliyun, Some(product)) => Auth::Aliyun { product, device, key },
            (file::AuthKind::Tencent, Some(product)) => Auth::Tencent { product, device, key, ttl },
            (file::AuthKind::Aliyun | file::AuthKind::Tencent, None) => {
                self.missing(written.kind.span, word, "product");
                return None;
            }
        };
        self.check_signing_key(&auth, reference.span)?;
        Some(auth)
    }

    fn missing(&mut self, span: Span, kind: &str, key: &str) {
        self.problems
            .error(Code::Incomplete, span, format!("`{kind}` without `{key}`"))
            .label(format!("`auth` needs `{key}` for it"));
    }

    fn check_signing_key(&mut self, auth: &Auth, span: Span) -> Option<()> {
        // One that was not looked at is empty.
        let unseen = match auth {
            Auth::Password => true,
            Auth::Sas { key, .. } | Auth::Aliyun { key, .. } | Auth::Tencent { key, .. } | Auth::Huawei { key, .. } => {
                Secret::expose(key).is_empty()
            }
        };
        if unseen {
            return Some(());
        }
        match signers::check_key(auth) {
            Ok(()) => Some(()),
            Err(error) => {
                self.problems.error(Code::Malformed, span, format!("`key` cannot sign: {error}"));
                None
            }
        }
    }
}

/// The version to speak: what was written, else the preset's.
pub(super) fn version(written: &file::Bridge, preset: &Preset) -> VersionChoice {
    let left_out = written.version.span == written.span;
    match (written.version.value, preset.defaults.version) {
        (file::Version::Auto, Some(version)) if left_out => version.choice(),
        (file::Version::Auto, _) => match preset.caps.versions.as_slice() {
            [only] => only.choice(),
            _ => VersionChoice::Auto,
        },
        (file::Version::V5, _) => VersionChoice::V5,
        (file::Version::V311, _) => VersionChoice::V311,
    }
}

/// The window: what was written, else the preset's.
pub(super) fn window(written: &file::Bridge, preset: &Preset) -> i64 {
    let left_out = written.window.span == written.span;
    preset.defaults.window.filter(|_| left_out).map_or(written.window.value.0, i64::from)
}

/// The pace: what was written, else the most that the cloud takes.
pub(super) fn rate(written: &file::Bridge, preset: &Preset) -> Option<Rate> {
    written.outbox.value.rate.as_ref().map(|rate| rate.value.0).or_else(|| preset.rate())
}

/// What ALPN offers where nothing was written.
pub(super) fn alpn(preset: &Preset, url: &Url) -> Vec<String> {
    let port = preset.caps.port(url.port, url.path.is_some());
    port.and_then(|port| port.alpn.first()).cloned().into_iter().collect()
}

/// Where MQTT is on the web server: what was written, else the preset's; behind a relay too.
pub(super) fn path(preset: &Preset, url: &Url) -> Option<String> {
    let usual = preset.caps.ports.iter().find_map(|port| port.path.clone());
    usual.filter(|_| url.path_left_out).or_else(|| url.path.clone())
}

/// Where it listens with TLS, in words.
fn listens(caps: &Caps) -> String {
    let at = |scheme, websocket| {
        let ports = caps.ports.iter().filter(|port| port.websocket == websocket);
        let ports: Vec<_> = ports.map(|port| port.port.to_string()).collect();
        (!ports.is_empty()).then(|| format!("{scheme}:// goes to {}", ports.join(" or ")))
    };
    let known: Vec<String> = [at("mqtts", false), at("wss", true)].into_iter().flatten().collect();
    known.join(", ")
}

fn is_of(written: &At<file::OutRule>, rule: &OutRule, gateway: &str) -> bool {
    let from = written.from.as_ref().map(|from| from.value.0.replace("{gateway}", gateway));
    from.as_deref() == Some(rule.from.as_str())
}

fn is_address(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok()
}

fn auth_kind(kind: file::AuthKind) -> AuthKind {
    match kind {
        file::AuthKind::Password => AuthKind::Password,
        file::AuthKind::Sas => AuthKind::Sas,
        file::AuthKind::Aliyun => AuthKind::Aliyun,
        file::AuthKind::Tencent => AuthKind::Tencent,
        file::AuthKind::Huawei => AuthKind::Huawei,
    }
}

#[cfg(test)]
mod tests;
