//! What is asked to come down, and what the cloud says to it.

use std::collections::BTreeSet;

use serde_json::Map;

use super::link::Own;
use super::{Close, Core, SUBSCRIBED, canonical, event};
use crate::bridge::words;
use crate::limits::SUBSCRIBE_WAIT;
use crate::logic::flight::FAILURE;
use crate::logic::marks;
use crate::model::{GatewayId, Moment, Timestamp, TopicFilter};
use crate::mqtt::client::{self, RetainedFirst};

impl Core {
    /// Before anything is asked: from the first packet to the last answer the cloud may hold what it held, what is wanted, or some of both.
    /// Nothing wanted equals that, so whatever dies in between, all is asked for again; and what is not wanted is known and taken back.
    pub(super) fn doubt_subscriptions(&mut self) {
        let wanted = canonical(&self.settings);
        let held = self.subscribed.as_deref().unwrap_or_default();
        if held == wanted {
            return;
        }
        let filters: BTreeSet<&str> = held.lines().chain(wanted.lines()).filter_map(filter_of).collect();
        self.remember_subscriptions(filters.iter().map(|filter| format!("? {filter}")).collect::<Vec<_>>().join("\n"));
    }

    fn remember_subscriptions(&mut self, text: String) {
        self.subscribed = Some(text.clone());
        self.notes.push((SUBSCRIBED, text));
        self.must_commit = true;
    }

    /// Subscribes where the cloud does not hold just these subscriptions already: each new one would bring the retained messages again.
    pub(super) fn subscribe(&mut self, now: Moment) {
        let wanted = canonical(&self.settings);
        let held = self.subscribed.as_deref().unwrap_or_default();
        if held == wanted {
            return;
        }
        let Some(link) = &mut self.link else { return };
        let gone: Vec<_> = held
            .lines()
            .filter_map(|line| TopicFilter::parse(filter_of(line)?).ok())
            .filter(|filter| self.settings.inward.iter().all(|rule| rule.from != *filter))
            .collect();
        // Some clouds close a connection over a packet that names too many filters.
        let most = self.settings.limits.subscriptions_per_packet.max(1);
        for gone in gone.chunks(most) {
            let own = &link.own;
            if let Some(pkid) = self.flight.free_pkid(|pkid| own.contains_key(&pkid))
                && client::put_unsubscribe(&mut link.replies, link.version, pkid, gone).is_ok()
            {
                link.own.insert(pkid, Own::Unsubscribe(gone.to_vec()));
            }
        }
        let filters: Vec<_> = self.settings.inward.iter().map(|rule| (rule.from.clone(), rule.qos)).collect();
        link.agreed = true;
        for filters in filters.chunks(most) {
            let own = &link.own;
            let Some(pkid) = self.flight.free_pkid(|pkid| own.contains_key(&pkid)) else {
                link.agreed = false;
                return;
            };
            if let Err(error) =
                client::put_subscribe(&mut link.replies, link.version, pkid, filters, RetainedFirst::Sent)
            {
                tracing::error!(bridge = self.settings.id.as_str(), %error, "the subscriptions cannot be sent");
                link.agreed = false;
                return;
            }
            link.own.insert(pkid, Own::Subscribe(filters.to_vec(), wanted.clone()));
            link.subscribing = Some(now + SUBSCRIBE_WAIT);
        }
    }

    /// Tells a cloud that may be a gateway whose bridge this is. It is acknowledged before the subscriptions are, and by then known.
    pub(super) fn greet(&mut self) {
        let Some(link) = self.link.as_mut().filter(|_| self.settings.limits.greet) else { return };
        let own = &link.own;
        if own.values().any(|own| matches!(own, Own::Greeting(_))) {
            return;
        }
        let Some(pkid) = self.flight.free_pkid(|pkid| own.contains_key(&pkid)) else { return };
        if let Ok(greeting) = TopicFilter::parse(&marks::greeting(&self.settings.gateway))
            && client::put_unsubscribe(&mut link.replies, link.version, pkid, &[greeting]).is_ok()
        {
            link.own.insert(pkid, Own::Greeting(false));
        }
    }

    /// The cloud is a gateway's broker.
    pub(super) fn greeted(&mut self, gateway: GatewayId) -> Result<(), Close> {
        for own in self.link.iter_mut().flat_map(|link| link.own.values_mut()) {
            if let Own::Greeting(answered) = own {
                *answered = true;
            }
        }
        if gateway == self.settings.gateway {
            self.own_broker = true;
            return Err(Close::Itself(gateway));
        }
        self.own_broker = false;
        if self.peer.as_ref() != Some(&gateway) {
            tracing::info!(bridge = self.settings.id.as_str(), cloud = gateway.as_str(), "the cloud is a gateway");
            self.peer = Some(gateway);
        }
        Ok(())
    }

    /// UNSUBACK came. What has not greeted by then is no gateway, and what was named is held no more.
    pub(super) fn unsubscribed(&mut self, pkid: u16) {
        match self.link.as_mut().and_then(|link| link.own.remove(&pkid)) {
            Some(Own::Greeting(false)) => {
                self.peer = None;
                self.own_broker = false;
            }
            Some(Own::Unsubscribe(gone)) => {
                let held = self.subscribed.as_deref().unwrap_or_default();
                let stays = |line: &&str| gone.iter().all(|gone| filter_of(line) != Some(gone.as_str()));
                let left = held.lines().filter(stays).collect::<Vec<_>>().join("\n");
                if left != held {
                    self.remember_subscriptions(left);
                }
            }
            _ => {}
        }
    }

    /// SUBACK came: what is refused, or granted with less than was asked, is told.
    pub(super) fn subscribed(&mut self, pkid: u16, codes: &[u8], wall: Timestamp) {
        let Some(link) = &mut self.link else { return };
        let Some(Own::Subscribe(filters, text)) = link.own.remove(&pkid) else { return };
        // One of several packets, maybe: what holds for all of them holds with the last answer.
        let last = !link.own.values().any(|own| matches!(own, Own::Subscribe(..)));
        if last {
            link.subscribing = None;
        }
        let mut agreed = link.agreed && codes.len() == filters.len();
        let mut told = Vec::new();
        for ((filter, asked), code) in filters.into_iter().zip(codes) {
            if *code >= FAILURE {
                agreed = false;
                link.refused.push((filter.clone(), *code));
                told.push((filter, format!("refused: 0x{code:02x} {}", words::reason(*code))));
            } else if *code < asked.level() {
                told.push((filter, format!("granted with QoS {code} where {} was asked for", asked.level())));
            }
        }
        link.agreed = agreed;
        for (filter, what) in told {
            self.tell_subscription(Some(filter), &what, wall);
        }
        // Left unsaid, they are asked for again at the next connection.
        if agreed && last {
            self.remember_subscriptions(text);
        }
    }

    /// A subscription that is not what was asked for.
    pub(super) fn tell_subscription(&mut self, filter: Option<TopicFilter>, reason: &str, wall: Timestamp) {
        let bridge = self.settings.id.as_str();
        let filter = filter.map(|filter| filter.to_string());
        tracing::warn!(bridge, filter, reason, "a subscription is not what was asked for");
        let mut more = Map::new();
        more.extend(filter.map(|filter| ("filter".to_owned(), filter.into())));
        more.insert("reason".into(), reason.into());
        self.publish.push(event(bridge, &self.settings.event_topic, "subscription", wall, more));
    }
}

/// The filter in a line of what is remembered.
fn filter_of(line: &str) -> Option<&str> {
    line.split_once(' ').map(|(_, filter)| filter)
}
