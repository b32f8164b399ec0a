//! What a client may publish to and subscribe to, and which topics are kept from one whose subscriptions are wider (docs/decisions/0024).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::settings::{FilterTemplate, Rights};
use crate::logic::filters::covers;
use crate::model::{TopicFilter, TopicName};

/// The permissions of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// Everything but the broker's own `$SYS`.
    All,
    /// What is granted and not denied.
    Some { publish: Scope, subscribe: Scope },
}

/// What may be done in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scope {
    /// What these cover…
    pub(super) granted: Vec<TopicFilter>,
    /// …but for what these do.
    pub(super) denied: Arc<[TopicFilter]>,
}

impl Scope {
    fn of(granted: &[FilterTemplate], denied: &[FilterTemplate], user: &str, client: &str) -> Self {
        Self {
            granted: granted.iter().filter_map(|template| fill(&template.0, user, client)).collect(),
            denied: denied.iter().filter_map(|template| fill_widely(&template.0, user, client)).collect(),
        }
    }

    /// Whether all that is asked for is granted by one filter, and not all of it denied by one.
    fn allows(&self, asked: &str) -> bool {
        self.granted.iter().any(|filter| covers(filter.as_str(), asked)) && !is_denied(&self.denied, asked)
    }
}

/// Whether one of the denials means all that is asked for. Of a wider filter, what it means beyond is still to be had.
fn is_denied(denied: &[TopicFilter], asked: &str) -> bool {
    denied.iter().any(|filter| covers(filter.as_str(), asked))
}

impl Access {
    /// The permissions of a kind of client, with the connection's own names filled in.
    pub(super) fn of(rights: &Rights, user: &str, client: &str) -> Arc<Self> {
        Arc::new(Self::Some {
            publish: Scope::of(&rights.publish, &rights.deny_publish, user, client),
            subscribe: Scope::of(&rights.subscribe, &rights.deny_subscribe, user, client),
        })
    }

    /// Whether a client may publish to the topic. Nobody may speak for the broker itself.
    pub(super) fn may_publish(&self, topic: &TopicName) -> bool {
        if topic.is_sys() {
            return false;
        }
        match self {
            Self::All => true,
            Self::Some { publish, .. } => publish.allows(topic.as_str()),
        }
    }

    /// Whether a client may subscribe: one of its filters must cover every topic the asked one means, and none of its denials may.
    pub(super) fn may_subscribe(&self, asked: &TopicFilter) -> bool {
        match self {
            Self::All => true,
            Self::Some { subscribe, .. } => subscribe.allows(asked.as_str()),
        }
    }
}

/// The topics that are kept from a client, whatever it subscribes to. It changes with its connection and with a reload, under the core's lock, and is asked for
/// each message and each of its subscribers: a client from whom nothing is kept costs one load.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    is_any: AtomicBool,
    filters: Mutex<Arc<[TopicFilter]>>,
}

impl Withheld {
    /// Takes over what these permissions keep from the client.
    pub(super) fn follow(&self, access: &Access) {
        let filters = match access {
            Access::All => Arc::default(),
            Access::Some { subscribe, .. } => subscribe.denied.clone(),
        };
        self.is_any.store(!filters.is_empty(), Ordering::Relaxed);
        *self.filters.lock().unwrap_or_else(PoisonError::into_inner) = filters;
    }

    /// Whether messages of the topic are kept from the client.
    pub(super) fn holds(&self, topic: &TopicName) -> bool {
        self.is_any.load(Ordering::Relaxed)
            && is_denied(&self.filters.lock().unwrap_or_else(PoisonError::into_inner), topic.as_str())
    }
}

/// Fills the names in. A name that would bring in a wildcard or a level of its own grants nothing, nor does one that would reach topics that begin
/// with `$`, such as the broker's own.
pub(super) fn fill(template: &TopicFilter, user: &str, client: &str) -> Option<TopicFilter> {
    let mut levels = Vec::new();
    for level in template.as_str().split('/') {
        let level = filled(level, user, client);
        levels.push(level.ok()?);
    }
    if levels[0].starts_with('$') && !template.as_str().starts_with('$') {
        return None;
    }
    TopicFilter::parse(&levels.join("/")).ok()
}

/// Fills the names of a denial in. A name that would bring in a wildcard or a level of its own must not open what is denied: all is denied that
/// it could stand for.
pub(super) fn fill_widely(template: &TopicFilter, user: &str, client: &str) -> Option<TopicFilter> {
    let mut levels = Vec::new();
    for level in template.as_str().split('/') {
        match filled(level, user, client) {
            Ok(level) => levels.push(level),
            Err(name) => {
                // All that begins like it: its first level is one, unless that is empty or has a wildcard.
                let first = name.split('/').next().filter(|first| !first.is_empty() && !first.contains(['+', '#']));
                levels.extend(first);
                levels.push("#");
                break;
            }
        }
    }
    // No filter can be longer than a topic: then all is denied.
    TopicFilter::parse(&levels.join("/")).or_else(|_| TopicFilter::parse("#")).ok()
}

/// A level with its hole filled, or the name that does not fill one level.
fn filled<'a>(level: &'a str, user: &'a str, client: &'a str) -> Result<&'a str, &'a str> {
    let name = match level {
        "{user}" => user,
        "{client}" => client,
        level => return Ok(level),
    };
    if name.is_empty() || name.contains(['/', '+', '#']) { Err(name) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn templates(texts: &[&str]) -> Vec<FilterTemplate> {
        texts.iter().map(|text| FilterTemplate(filter(text))).collect()
    }

    fn rights(publish: &[&str], subscribe: &[&str]) -> Rights {
        Rights { publish: templates(publish), subscribe: templates(subscribe), ..Rights::default() }
    }

    /// May publish to and subscribe with anything but this.
    fn all_but(denied: &[&str]) -> Rights {
        let (wide, denied) = (templates(&["#", "$x/#"]), templates(denied));
        Rights { publish: wide.clone(), subscribe: wide, deny_publish: denied.clone(), deny_subscribe: denied }
    }

    fn topic(text: &str) -> TopicName {
        TopicName::parse(text).unwrap()
    }

    #[test]
    fn names_are_filled_in_whole_levels() {
        let access = Access::of(&rights(&["dev/{client}/{user}/+"], &["in/{client}/#"]), "ha", "c1");
        assert!(access.may_publish(&topic("dev/c1/ha/x")));
        assert!(!access.may_publish(&topic("dev/c2/ha/x")));
        assert!(access.may_subscribe(&filter("in/c1")));
        assert!(access.may_subscribe(&filter("in/c1/+/x")));
        assert!(!access.may_subscribe(&filter("in/+/x")));
    }

    #[test]
    fn a_client_id_with_a_wildcard_grants_nothing() {
        let own = rights(&["{client}/x"], &["{client}/#"]);
        assert!(Access::of(&own, "ha", "c1").may_subscribe(&filter("c1/x")));
        assert!(!Access::of(&own, "ha", "$SYS").may_subscribe(&filter("$SYS/#")));
        assert!(!Access::of(&own, "ha", "$else").may_publish(&topic("$else/x")));
        for client in ["+", "#", "a/b", ""] {
            let access = Access::of(&rights(&["dev/{client}"], &["dev/{client}"]), "ha", client);
            assert!(!access.may_subscribe(&filter("dev/+")), "{client}");
            assert!(!access.may_publish(&topic("dev/a")), "{client}");
        }
    }

    #[test]
    fn what_is_denied_is_denied_however_wide_the_grant_and_what_is_wider_is_not() {
        let access = Access::of(&all_but(&["secret/#", "+/set"]), "ha", "c");
        for (text, may) in [
            ("a", true),
            ("secret", false),
            ("secret/a/b", false),
            ("a/set", false),
            ("a/set/x", true),
            ("$x/set", true),
        ] {
            assert_eq!(access.may_publish(&topic(text)), may, "{text}");
            assert_eq!(access.may_subscribe(&filter(text)), may, "{text}");
        }
        for (text, may) in [("#", true), ("secret/+", false), ("secret/#", false), ("+/+", true), ("+/set", false)] {
            assert_eq!(access.may_subscribe(&filter(text)), may, "{text}");
        }
        let withheld = Withheld::default();
        assert!(!withheld.holds(&topic("secret/a")));
        withheld.follow(&access);
        assert!(
            withheld.holds(&topic("secret/a")) && withheld.holds(&topic("a/set")) && !withheld.holds(&topic("a/b"))
        );
        withheld.follow(&Access::All);
        assert!(!withheld.holds(&topic("secret/a")));
    }

    #[test]
    fn a_name_that_fills_no_level_denies_all_that_it_could_stand_for() {
        let means = |template: &str, client: &str| fill_widely(&filter(template), "ha", client).unwrap().to_string();
        assert_eq!(means("dev/{client}/{user}/+", "c1"), "dev/c1/ha/+");
        assert_eq!(means("dev/{client}/set", "+"), "dev/#");
        assert_eq!(means("dev/{client}/set", ""), "dev/#");
        assert_eq!(means("dev/{client}/set", "a/b"), "dev/a/#");
        assert_eq!(means("{client}/set", "$x/b"), "$x/#");
        assert_eq!(means("{client}/set", &"x".repeat(65_535)), "#");
        let access = Access::of(&all_but(&["dev/{client}/set"]), "ha", "#");
        assert!(!access.may_publish(&topic("dev/x/set")) && !access.may_publish(&topic("dev/x/y/set")));
        assert!(access.may_publish(&topic("data/x/set")));
    }

    #[test]
    fn nobody_publishes_to_sys() {
        assert!(!Access::All.may_publish(&topic("$SYS/broker/uptime")));
        assert!(Access::All.may_publish(&topic("$else/x")));
    }

    proptest! {
        #[test]
        fn a_topic_is_covered_by_the_filters_that_mean_it(
            wild in "(\\$)?[ab+]{0,1}(/[ab+]{0,1}){0,3}(/#)?", name in "(\\$)?[ab]{0,1}(/[ab]{0,1}){0,4}",
        ) {
            if let (Ok(filter), Ok(name)) = (TopicFilter::parse(&wild), TopicName::parse(&name)) {
                prop_assert_eq!(covers(&wild, name.as_str()), filter.matches(&name), "{} and {}", wild, name);
            }
        }

        #[test]
        fn no_client_id_opens_what_its_plain_words_would_be_denied(
            client in "[$ab/+#]{0,5}", before in "(a|b|\\{client\\})(/[ab])?", after in "(/a|/\\+)?(/#)?",
        ) {
            // What a broker that filled the id in as it is would deny.
            let template = format!("{before}/{{client}}{after}");
            let naive = template.replace("{client}", &client);
            let denied = fill_widely(&filter(&template), "ha", &client).unwrap();
            for name in ["a", "a/a", "a/b/a", "b/a/b/a", "$/a", "$a/b", "a//a", "a/a/b/a", "/a", naive.as_str()] {
                if let (Ok(name), Ok(naive)) = (TopicName::parse(name), TopicFilter::parse(&naive)) {
                    prop_assert!(!naive.matches(&name) || covers(denied.as_str(), name.as_str()), "{} opens {}", client, name);
                }
            }
        }
    }
}
