//! The broker that is there already, in place of the gateway's own.

use super::brokers::packet;
use super::rules::covers;
use super::{ActuatorPlan, Planner};
use crate::bridge;
use crate::broker::settings::External;
use crate::config::code::Code;
use crate::config::kinds::Url;
use crate::config::{At, Span, file};
use crate::logic::filters::intersect;
use crate::model::TopicFilter;
use crate::mqtt::endpoint::{CloudUrl, VersionChoice};

impl<'a> Planner<'a> {
    /// Where that broker is, if there is one.
    pub(super) fn external_url(&self) -> Option<&'a At<Url>> {
        let broker = &self.file.broker.value;
        let external = broker.external.as_ref().filter(|_| broker.engine.value == file::Engine::External)?;
        external.value.url.as_ref()
    }

    /// The broker that is there already; `None` where the gateway runs its own.
    pub(super) fn external(&mut self, bridges: &[bridge::Settings], actuators: &[ActuatorPlan]) -> Option<External> {
        let broker = &self.file.broker.value;
        if broker.engine.refused {
            return None;
        }
        if broker.engine.value == file::Engine::Embedded {
            if let Some(external) = &broker.external {
                self.problems
                    .error(Code::OtherEngine, external.span, "`external` without `engine = \"external\"`")
                    .label("the gateway runs a broker of its own, and is no client of this one")
                    .help("write `engine = \"external\"` under [broker], or leave this block out");
            }
            return None;
        }
        self.refuse_own_broker(broker);
        let Some(external) = &broker.external else {
            self.problems
                .error(Code::MissingKey, broker.engine.span, "`external` is missing")
                .label("where is the broker?")
                .help("add [broker.external] with `url = \"mqtt://127.0.0.1:1883\"`");
            return None;
        };
        let written = &external.value;
        let client_id = self.client_id(&written.client_id);
        let username = written.username.as_ref().and_then(|name| self.username(name));
        let password = written.password.as_ref().and_then(|place| self.secret("password", &place.value, place.span));
        self.check_login(written.url.as_ref(), written.username.as_ref(), written.password.as_ref());
        let tls = self.tls(written.url.as_ref(), &written.tls);
        let url = &written.url.as_ref()?.value;
        let commands = actuators.iter().filter_map(|actuator| TopicFilter::parse(actuator.topics.set.as_str()).ok());
        let out = bridges.iter().flat_map(|bridge| &bridge.out).map(|rule| rule.from.clone());
        Some(External {
            gateway: self.gateway.clone(),
            url: CloudUrl { tls: url.tls, host: url.host.clone(), port: url.port, path: url.path.clone() },
            version: match written.version.value {
                file::Version::Auto => VersionChoice::Auto,
                file::Version::V5 => VersionChoice::V5,
                file::Version::V311 => VersionChoice::V311,
            },
            client_id: client_id?,
            username,
            password,
            keep_alive: written.keep_alive.value.0,
            tls,
            max_packet: packet(broker),
            status_topic: self.status_topic.clone(),
            filters: apart(commands.chain(out).collect()),
        })
    }

    /// What is said of the gateway's own broker, which there is not.
    fn refuse_own_broker(&mut self, broker: &file::Broker) {
        let block = broker.span;
        // What was left out stands where its block does.
        for (key, span) in own_keys(broker).into_iter().filter(|(_, span)| *span != block) {
            self.problems
                .error(Code::OtherEngine, span, format!("`{key}` is for the gateway's own broker"))
                .label("with `engine = \"external\"` there is none")
                .and(broker.engine.span, "the broker is another program")
                .help("leave it out: this is for the configuration of that broker");
        }
    }
}

/// The keys of the gateway's own broker, and where each stands; one that was left out stands where its block does.
fn own_keys(broker: &file::Broker) -> [(&'static str, Span); 18] {
    fn place<T>(key: Option<&At<T>>, broker: &file::Broker) -> Span {
        key.map_or(broker.span, |key| key.span)
    }

    let users = broker.users.value.first().map_or(broker.users.span, |user| user.span);
    [
        ("listen", broker.listen.span),
        ("websocket_listen", broker.websocket_listen.span),
        ("tls", place(broker.tls.as_ref(), broker)),
        ("routing", broker.routing.span),
        ("max_connections", broker.max_connections.span),
        ("listen_max_connections", place(broker.listen_max_connections.as_ref(), broker)),
        ("websocket_max_connections", place(broker.websocket_max_connections.as_ref(), broker)),
        ("connects_per_minute", place(broker.connects_per_minute.as_ref(), broker)),
        ("max_keep_alive", place(broker.max_keep_alive.as_ref(), broker)),
        ("max_inflight", broker.max_inflight.span),
        ("max_queued", broker.max_queued.span),
        ("max_queued_bytes", broker.max_queued_bytes.span),
        ("max_queued_bytes_total", broker.max_queued_bytes_total.span),
        ("max_retained", broker.max_retained.span),
        ("sys_interval", broker.sys_interval.span),
        ("anonymous", broker.anonymous.span),
        ("anyone", place(broker.anyone.as_ref(), broker)),
        ("users", users),
    ]
}

/// As few filters as mean these topics without any two of them meaning one in common. Two that overlap become one that may mean more: what is
/// not wanted is then not taken, whereas a message that comes twice could not be told from two.
fn apart(filters: Vec<TopicFilter>) -> Vec<TopicFilter> {
    let mut apart: Vec<String> = Vec::new();
    for filter in filters {
        let mut filter = filter.as_str().to_owned();
        while let Some(at) = apart.iter().position(|other| intersect(other, &filter).is_some()) {
            filter = around(&apart.swap_remove(at), &filter);
        }
        apart.push(filter);
    }
    apart.sort_unstable();
    apart.iter().filter_map(|filter| TopicFilter::parse(filter).ok()).collect()
}

/// The narrowest filter that means all topics of two that have some in common.
fn around(a: &str, b: &str) -> String {
    if covers(a, b) {
        return a.to_owned();
    }
    if covers(b, a) {
        return b.to_owned();
    }
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    let mut levels = Vec::new();
    loop {
        match (a.next(), b.next()) {
            (None, None) => return levels.join("/"),
            (Some(one), Some(other)) if one == other && one != "#" => levels.push(one),
            (Some(one), Some(other)) if one != "#" && other != "#" => levels.push("+"),
            _ => {
                levels.push("#");
                return levels.join("/");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(filters: &[&str]) -> Vec<String> {
        let filters = filters.iter().map(|filter| TopicFilter::parse(filter).unwrap()).collect();
        apart(filters).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn no_two_filters_mean_a_topic_in_common() {
        assert_eq!(of(&["a/b", "a/#", "c", "c"]), ["a/#", "c"]);
        assert_eq!(of(&["a/+/c", "a/b/+"]), ["a/+/+"]);
        assert_eq!(of(&["a/b/#", "a/+/c"]), ["a/+/#"]);
        assert_eq!(of(&["a", "a/#"]), ["a/#"], "`#` stands for no level, too");
        assert_eq!(of(&["x/+", "y/+", "+/z"]), ["+/+"], "what was apart is not any more");
        assert_eq!(of(&["#", "$SYS/a"]), ["#", "$SYS/a"]);
    }

    #[test]
    fn every_key_of_the_gateway_s_own_broker_is_known_as_one() {
        let file = crate::config::load_text(std::path::Path::new("x.toml"), "").file;
        let own = own_keys(&file.broker.value).map(|(key, _)| key);
        let shared = ["engine", "external", "max_packet"];
        let keys: Vec<_> =
            file::Broker::BLOCK.keys.iter().map(|key| key.name).filter(|key| !shared.contains(key)).collect();
        assert_eq!(keys, own, "a new key is the other engine's to refuse");
    }

    #[test]
    fn every_topic_that_was_meant_still_is() {
        let mut random = fastrand::Rng::with_seed(5);
        let words = ["a", "b", "+"];
        for _ in 0..2_000 {
            let mut filter = |wild: &[&str]| {
                let mut levels: Vec<&str> = (0..random.usize(1..4)).map(|_| wild[random.usize(..wild.len())]).collect();
                if wild.len() > 2 && random.bool() {
                    levels.push("#");
                }
                levels.join("/")
            };
            let filters: Vec<TopicFilter> = (0..4).map(|_| TopicFilter::parse(&filter(&words)).unwrap()).collect();
            let topic = crate::model::TopicName::parse(&filter(&words[..2])).unwrap();
            let apart = apart(filters.clone());
            let (meant, means) =
                (filters.iter().filter(|f| f.matches(&topic)), apart.iter().filter(|f| f.matches(&topic)));
            assert!(means.clone().count() <= 1, "{topic} twice in {apart:?}");
            assert!(meant.count() == 0 || means.count() == 1, "{topic}: {filters:?} became {apart:?}");
        }
    }
}
