//! What a client may do by the settings alone: the running broker's own judgement, for a person who asks beforehand.

use super::access::{Access, Scope, fill, fill_widely};
use super::conversation::subscribing::take_apart;
use super::door::Guests;
use super::settings::{FilterTemplate, Rights, Settings};
use crate::logic::filters::intersect;
use crate::model::{TopicFilter, TopicName};

/// Judges for one client.
#[derive(Debug)]
pub struct Judge<'a> {
    /// `None`: nothing is kept from the client.
    rights: Option<&'a Rights>,
    /// User name; empty for a client that is none of the users.
    user: &'a str,
    client: &'a str,
}

/// One of the filters in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Which one of its list, from 0.
    pub nth: usize,
    /// The same with the connection's own names filled in.
    pub means: TopicFilter,
}

/// What is said of one topic or filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed: nothing is kept from this client.
    Unrestricted,
    /// Allowed by one of the filters that grant.
    Granted {
        /// The first that covers it.
        by: Filter,
        /// Denials that mean a part of it: of these topics no message comes.
        except: Vec<Filter>,
    },
    /// Denied, whatever is granted; by the first denial that covers it.
    Denied(Filter),
    /// No filter that grants covers it.
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
        let rights = user.map(|user| &user.rights).or(settings.anyone.as_ref());
        Some(Self { rights, user: user.map_or("", |user| user.name.as_str()), client })
    }

    /// Whether it may publish to the topic.
    pub fn publish(&self, topic: &str) -> Verdict {
        match TopicName::parse(topic) {
            Ok(name) if name.is_sys() => Verdict::OfTheBroker,
            Ok(name) => {
                let lists = |rights: &'a Rights| (&rights.publish[..], &rights.deny_publish[..]);
                self.judge(topic, lists, |access| access.may_publish(&name))
            }
            Err(error) => Verdict::Malformed(error.to_string()),
        }
    }

    /// Whether it may subscribe with the filter. Of a shared subscription (`$share/<group>/<filter>`) the filter in it is judged.
    pub fn subscribe(&self, filter: &str) -> Verdict {
        match (take_apart(filter), TopicFilter::parse(filter)) {
            (Some(asked), _) => {
                let lists = |rights: &'a Rights| (&rights.subscribe[..], &rights.deny_subscribe[..]);
                self.judge(asked.filter.as_str(), lists, |access| access.may_subscribe(&asked.filter))
            }
            (None, Err(error)) => Verdict::Malformed(error.to_string()),
            (None, Ok(_)) => Verdict::Malformed("is no shared subscription, or has too many levels".into()),
        }
    }

    /// Asks the broker's own rules with one grant at a time, since any of them is enough there too, and with one denial at a time against that.
    fn judge(
        &self,
        asked: &str,
        lists: impl Fn(&'a Rights) -> (&'a [FilterTemplate], &'a [FilterTemplate]),
        allows: impl Fn(&Access) -> bool,
    ) -> Verdict {
        let Some((grants, denials)) = self.rights.map(lists) else {
            return if allows(&Access::All) { Verdict::Unrestricted } else { Verdict::NotGranted };
        };
        let with = |grant: &TopicFilter, denial: Option<&TopicFilter>| {
            let scope = Scope { granted: vec![grant.clone()], denied: denial.into_iter().cloned().collect() };
            allows(&Access::Some { publish: scope.clone(), subscribe: scope })
        };
        let meant = |templates: &'a [FilterTemplate], fill: fn(&TopicFilter, &str, &str) -> Option<TopicFilter>| {
            let filled = move |(nth, template): (usize, &FilterTemplate)| {
                fill(&template.0, self.user, self.client).map(|means| Filter { nth, means })
            };
            templates.iter().enumerate().filter_map(filled)
        };
        let Some(by) = meant(grants, fill).find(|grant| with(&grant.means, None)) else { return Verdict::NotGranted };
        if let Some(denial) = meant(denials, fill_widely).find(|denial| !with(&by.means, Some(&denial.means))) {
            return Verdict::Denied(denial);
        }
        let is_met = |denial: &Filter| intersect(denial.means.as_str(), asked).is_some();
        Verdict::Granted { by, except: meant(denials, fill_widely).filter(is_met).collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::settings::{Caps, PasswordHash, Routing, User};
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
            anyone: None,
            store: None,
            sys_interval: Duration::ZERO,
        }
    }

    fn ha() -> User {
        User {
            name: "ha".into(),
            hash: Some(PasswordHash(String::new())),
            rights: Rights {
                publish: templates(&["a/b", "{user}/#", "dev/{client}/+", "$SYS/#"]),
                subscribe: templates(&["dev/{client}/#", "a/#", "$SYS/broker/+"]),
                deny_publish: templates(&["ha/x/z", "dev/{client}/x/#", "dev/+/y"]),
                deny_subscribe: templates(&["a/{client}/#", "a/b/c"]),
            },
        }
    }

    #[test]
    fn it_names_the_first_grant_that_covers_what_is_asked() {
        let settings = settings(vec![ha()], false);
        let judge = Judge::of(&settings, Some("ha"), "c1").unwrap();
        let the = |nth, means: &str| Filter { nth, means: filter(means) };
        let granted = |nth, means: &str| Verdict::Granted { by: the(nth, means), except: Vec::new() };
        assert_eq!(judge.publish("a/b"), granted(0, "a/b"));
        assert_eq!(judge.publish("ha/x/y"), granted(1, "ha/#"));
        assert_eq!(judge.publish("dev/c1/z"), granted(2, "dev/c1/+"));
        assert_eq!(judge.publish("dev/c2/x"), Verdict::NotGranted);
        assert_eq!(judge.publish("$SYS/x"), Verdict::OfTheBroker, "whatever is granted");
        assert_eq!(judge.subscribe("dev/c1/+/x"), granted(0, "dev/c1/#"));
        assert_eq!(judge.subscribe("$share/g/a/b"), granted(1, "a/#"));
        assert_eq!(judge.subscribe("+/b"), Verdict::NotGranted, "it means more than is granted");
        assert!(matches!(judge.publish("a/+"), Verdict::Malformed(_)));
        assert!(matches!(judge.subscribe("$share//a"), Verdict::Malformed(_)));
        assert!(matches!(judge.subscribe("a+"), Verdict::Malformed(_)));
    }

    #[test]
    fn it_names_the_denial_that_refuses_and_those_that_mean_a_part() {
        let settings = settings(vec![ha()], false);
        let judge = Judge::of(&settings, Some("ha"), "c1").unwrap();
        let the = |nth, means: &str| Filter { nth, means: filter(means) };
        assert_eq!(judge.publish("ha/x/z"), Verdict::Denied(the(0, "ha/x/z")));
        assert_eq!(judge.publish("dev/c1/x"), Verdict::Denied(the(1, "dev/c1/x/#")));
        assert_eq!(judge.publish("dev/c1/y"), Verdict::Denied(the(2, "dev/+/y")));
        assert_eq!(judge.publish("dev/c2/y"), Verdict::NotGranted, "nor would it be without the denial");
        assert_eq!(judge.subscribe("a/c1/+"), Verdict::Denied(the(0, "a/c1/#")));
        let in_part = |except| Verdict::Granted { by: the(1, "a/#"), except };
        assert_eq!(judge.subscribe("a/#"), in_part(vec![the(0, "a/c1/#"), the(1, "a/b/c")]));
        assert_eq!(judge.subscribe("$share/g/a/b/+"), in_part(vec![the(1, "a/b/c")]));
        let judge = Judge::of(&settings, Some("ha"), "x/y").unwrap();
        assert_eq!(judge.subscribe("a/x/z"), Verdict::Denied(the(0, "a/x/#")), "whatever the name could stand for");
    }

    #[test]
    fn it_agrees_with_what_a_connection_may_do() {
        let settings = settings(vec![ha()], false);
        let topics = [
            "a",
            "a/b",
            "a/b/c",
            "ha",
            "ha/x",
            "ha/x/z",
            "dev/c1",
            "dev/c1/x",
            "dev/c1/y",
            "dev/+/x",
            "a/c1",
            "a/a",
            "a/+/c",
            "#",
            "+/b",
            "$SYS/broker/x",
        ];
        for client in ["c1", "c2", "+", "a/b", ""] {
            let access = Access::of(&settings.users[0].rights, "ha", client);
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
        let anyone =
            Rights { publish: templates(&["#"]), deny_publish: templates(&["b/{client}"]), ..Rights::default() };
        let held = Settings { anyone: Some(anyone), ..settings(vec![ha()], true) };
        let judge = Judge::of(&held, None, "c").unwrap();
        assert!(judge.publish("b/d").allows() && !judge.publish("b/c").allows());
        assert_eq!(judge.subscribe("x"), Verdict::NotGranted);
        assert_eq!(
            Judge::of(&held, Some("ha"), "c").unwrap().publish("b/d"),
            Verdict::NotGranted,
            "a user is not anyone"
        );
    }
}
