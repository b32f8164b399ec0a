//! What a client may do by the settings alone: the running broker's own judgement, for a person who asks beforehand.

use super::access::{Access, fill};
use super::conversation::subscribing::take_apart;
use super::door::Guests;
use super::settings::{FilterTemplate, Settings, User};
use crate::model::{TopicFilter, TopicName};

/// Judges for one client.
#[derive(Debug)]
pub struct Judge<'a> {
    /// `None`: it is no user's client, and nothing is kept from it.
    user: Option<&'a User>,
    client: &'a str,
}

/// What is said of one topic or filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed: nothing is kept from this client.
    Unrestricted,
    /// Allowed by one of the user's filters.
    Granted {
        /// Which one of them, from 0: the first that covers it.
        nth: usize,
        /// The same with the connection's own names filled in.
        means: TopicFilter,
    },
    /// None of the user's filters covers it.
    NotGranted,
    /// Nobody publishes to `$SYS`.
    OfTheBroker,
    /// It is no topic name, or no filter; the text completes "it …".
    Malformed(String),
}

impl Verdict {
    /// Whether it is allowed.
    pub fn allows(&self) -> bool {
        matches!(self, Self::Unrestricted | Self::Granted { .. })
    }
}

impl<'a> Judge<'a> {
    /// For a client with this user name, or without one, and this client id. `None` when no such client is let in, whatever its password.
    pub fn of(settings: &'a Settings, user: Option<&str>, client: &'a str) -> Option<Self> {
        Guests::new(settings).access(user, client)?;
        let user = settings.users.iter().find(|known| Some(known.name.as_str()) == user);
        Some(Self { user, client })
    }

    /// Whether it may publish to the topic.
    pub fn publish(&self, topic: &str) -> Verdict {
        match TopicName::parse(topic) {
            Ok(topic) if topic.is_sys() => Verdict::OfTheBroker,
            Ok(topic) => self.judge(|user| &user.publish, |access| access.may_publish(&topic)),
            Err(error) => Verdict::Malformed(error.to_string()),
        }
    }

    /// Whether it may subscribe with the filter. Of a shared subscription (`$share/<group>/<filter>`) the filter in it is judged.
    pub fn subscribe(&self, filter: &str) -> Verdict {
        match (take_apart(filter), TopicFilter::parse(filter)) {
            (Some(asked), _) => self.judge(|user| &user.subscribe, |access| access.may_subscribe(&asked.filter)),
            (None, Err(error)) => Verdict::Malformed(error.to_string()),
            (None, Ok(_)) => Verdict::Malformed("is no shared subscription, or has too many levels".into()),
        }
    }

    /// Asks the broker's own rules with one grant at a time: any of them is enough there too.
    fn judge(&self, grants: fn(&User) -> &Vec<FilterTemplate>, allows: impl Fn(&Access) -> bool) -> Verdict {
        let Some(user) = self.user else {
            return if allows(&Access::All) { Verdict::Unrestricted } else { Verdict::NotGranted };
        };
        let granted = grants(user).iter().enumerate().find_map(|(nth, template)| {
            let means = fill(&template.0, &user.name, self.client)?;
            let alone = Access::Some { publish: vec![means.clone()], subscribe: vec![means.clone()] };
            allows(&alone).then_some(Verdict::Granted { nth, means })
        });
        granted.unwrap_or(Verdict::NotGranted)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::settings::{Caps, PasswordHash, Routing};
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn templates(texts: &[&str]) -> Vec<FilterTemplate> {
        texts.iter().map(|text| FilterTemplate(filter(text))).collect()
    }

    fn settings(users: Vec<User>, anonymous: bool) -> Settings {
        Settings {
            gateway: None,
            listen: Vec::new(),
            websocket_listen: Vec::new(),
            tls: None,
            routing: Routing::Trie,
            max_packet: 1024,
            max_connections: 1,
            caps: Caps::default(),
            max_queued: 1,
            max_queued_bytes: 0,
            max_queued_bytes_total: 0,
            max_retained_bytes: 1,
            users,
            anonymous,
            store: None,
            sys_interval: Duration::ZERO,
        }
    }

    fn ha() -> User {
        User {
            name: "ha".into(),
            hash: Some(PasswordHash(String::new())),
            publish: templates(&["a/b", "{user}/#", "dev/{client}/+", "$SYS/#"]),
            subscribe: templates(&["dev/{client}/#", "a/#", "$SYS/broker/+"]),
        }
    }

    #[test]
    fn it_names_the_first_grant_that_covers_what_is_asked() {
        let settings = settings(vec![ha()], false);
        let judge = Judge::of(&settings, Some("ha"), "c1").unwrap();
        let granted = |nth, means: &str| Verdict::Granted { nth, means: filter(means) };
        assert_eq!(judge.publish("a/b"), granted(0, "a/b"));
        assert_eq!(judge.publish("ha/x/y"), granted(1, "ha/#"));
        assert_eq!(judge.publish("dev/c1/x"), granted(2, "dev/c1/+"));
        assert_eq!(judge.publish("dev/c2/x"), Verdict::NotGranted);
        assert_eq!(judge.publish("$SYS/x"), Verdict::OfTheBroker, "whatever is granted");
        assert_eq!(judge.subscribe("dev/c1/+/x"), granted(0, "dev/c1/#"));
        assert_eq!(judge.subscribe("$share/g/a/+"), granted(1, "a/#"));
        assert_eq!(judge.subscribe("+/b"), Verdict::NotGranted, "it means more than is granted");
        assert!(matches!(judge.publish("a/+"), Verdict::Malformed(_)));
        assert!(matches!(judge.subscribe("$share//a"), Verdict::Malformed(_)));
        assert!(matches!(judge.subscribe("a+"), Verdict::Malformed(_)));
    }

    #[test]
    fn it_agrees_with_what_a_connection_may_do() {
        let settings = settings(vec![ha()], false);
        let topics = ["a", "a/b", "a/b/c", "ha", "ha/x", "dev/c1", "dev/c1/x", "dev/+/x", "#", "+/b", "$SYS/broker/x"];
        for client in ["c1", "c2", "+", "a/b", ""] {
            let access = Access::of(&settings.users[0], client);
            let judge = Judge::of(&settings, Some("ha"), client).unwrap();
            for text in topics {
                if let Ok(topic) = TopicName::parse(text) {
                    assert_eq!(judge.publish(text).allows(), access.may_publish(&topic), "{client} to {text}");
                }
                assert_eq!(judge.subscribe(text).allows(), access.may_subscribe(&filter(text)), "{client} of {text}");
            }
        }
    }

    #[test]
    fn who_is_not_let_in_has_no_judge_and_who_needs_no_name_may_do_all_but_speak_for_the_broker() {
        let closed = settings(vec![ha()], false);
        assert!(Judge::of(&closed, None, "c").is_none());
        assert!(Judge::of(&closed, Some("he"), "c").is_none());
        for (open, user) in [(settings(vec![ha()], true), None), (settings(Vec::new(), false), Some("anyone"))] {
            let judge = Judge::of(&open, user, "c").unwrap();
            assert_eq!(judge.publish("x"), Verdict::Unrestricted);
            assert_eq!(judge.subscribe("$SYS/#"), Verdict::Unrestricted);
            assert_eq!(judge.publish("$SYS/x"), Verdict::OfTheBroker);
        }
    }
}
