//! What a client asks to be sent: SUBSCRIBE and UNSUBSCRIBE, judged and answered.

use std::sync::Arc;

use bytes::BytesMut;

use super::{Conversation, Ending, refuse};
use crate::broker::journal::Receipt;
use crate::broker::keeper::Urgency;
use crate::broker::owed::Answer;
use crate::broker::session::{Delivery, Subscription};
use crate::limits;
use crate::logic::marks;
use crate::model::{Message, Origin, Qos, TopicFilter, TopicName};
use crate::mqtt::reason::Reason;
use crate::mqtt::server::{self, Ask, Version};

impl Conversation {
    pub(super) fn hear_subscribe(&mut self, id: u16, identifier: Option<u32>, asks: &[Ask]) -> Result<(), Ending> {
        let mut codes = Vec::with_capacity(asks.len());
        let mut receipt = Receipt::new(Urgency::Now);
        for ask in asks {
            codes.push(match self.subscribe(ask, identifier, &mut receipt)? {
                Ok(qos) => qos.level(),
                Err(reason) if self.version == Version::V5 => reason.code(),
                Err(_) => SUBACK_FAILURE,
            });
        }
        let mut suback = BytesMut::new();
        server::put_suback(&mut suback, self.version, id, &codes);
        self.owe(Answer::Whole(suback), receipt.pending());
        Ok(())
    }

    fn subscribe(
        &mut self,
        ask: &Ask,
        identifier: Option<u32>,
        receipt: &mut Receipt,
    ) -> Result<Result<Qos, Reason>, Ending> {
        if ask.retain_handling > 2 {
            return Err(refuse(Reason::ProtocolError, "retain handling 3"));
        }
        let Some(Asked { whole: asked, group, filter }) = take_apart(&ask.filter) else {
            return Ok(Err(Reason::FilterInvalid));
        };
        if group.is_some() && ask.no_local {
            return Err(refuse(Reason::ProtocolError, "no-local on a shared subscription"));
        }
        let shared = self.shared.clone();
        let mut core = shared.core();
        // Under the lock under which a reload takes subscriptions away: by its permissions, then, or before it.
        self.follow_reload()?;
        if !self.access.may_subscribe(&filter) {
            let client = &self.attached.slot.client;
            if self.shared.is_first(client, "subscribe") {
                tracing::warn!(%client, %filter, "client may not subscribe to this filter");
            }
            return Ok(Err(Reason::NotAuthorized));
        }
        let subscription = Subscription {
            filter,
            group,
            qos: ask.qos,
            no_local: ask.no_local,
            retain_as_published: ask.retain_as_published,
            identifier,
            since: 0,
        };
        let (is_new, count) = {
            let session = self.current()?;
            (!session.subscriptions.contains_key(&asked), session.subscriptions.len())
        };
        if is_new && (count >= limits::SUBSCRIPTIONS_MAX || !core.has_room_for(&self.attached.slot, &subscription)) {
            let client = &self.attached.slot.client;
            if self.shared.is_first(client, "filters") {
                tracing::warn!(%client, count, "client asks for more filters than there is room for");
            }
            return Ok(Err(Reason::QuotaExceeded));
        }
        core.subscribe(&self.attached.slot, &asked, subscription, ask.retain_handling, receipt);
        Ok(Ok(ask.qos))
    }

    pub(super) fn hear_unsubscribe(&mut self, id: u16, filters: &[String]) -> Result<(), Ending> {
        let mut codes = Vec::with_capacity(filters.len());
        let mut greeted = false;
        let mut receipt = Receipt::new(Urgency::Now);
        {
            let mut core = self.shared.core();
            drop(self.current()?);
            for filter in filters {
                if let Some(gateway) = marks::greets(filter) {
                    core.mark_will(&self.attached.slot, &gateway);
                    self.current()?.set_peer(gateway);
                    greeted = true;
                }
                let existed = TopicFilter::parse(filter)
                    .is_ok_and(|filter| core.unsubscribe(&self.attached.slot, &filter, &mut receipt));
                codes.push(if existed { Reason::Success.code() } else { Reason::NoSubscriptionExisted.code() });
            }
        }
        if greeted {
            self.greet()?;
        }
        let mut unsuback = BytesMut::new();
        server::put_unsuback(&mut unsuback, self.version, id, &codes);
        self.owe(Answer::Whole(unsuback), receipt.pending());
        Ok(())
    }
}

impl Conversation {
    /// Tells another gateway's bridge whose broker this is, ahead of the acknowledgement it waits for.
    fn greet(&mut self) -> Result<(), Ending> {
        let live = self.shared.live();
        let Some(topic) = live.settings.gateway.as_ref().and_then(|us| TopicName::parse(&marks::greeting(us)).ok())
        else {
            return Ok(());
        };
        let message = Message::new(topic, *b"", Qos::AtMostOnce, false, Origin::Gateway);
        let delivery = Delivery {
            message: Arc::new(message),
            qos: Qos::AtMostOnce,
            retain: false,
            expires: None,
            subscription_ids: None,
            by_group: None,
            row: 0,
            weight: None,
        };
        self.send(&delivery, 0, false, self.shared.clock.now())
    }
}

/// What a filter of SUBSCRIBE asks for.
pub(in crate::broker) struct Asked {
    /// All of it, `$share/<group>/` included: what the session knows it by.
    pub(in crate::broker) whole: TopicFilter,
    /// The group of a shared subscription.
    pub(in crate::broker) group: Option<Arc<str>>,
    /// The topics that are meant.
    pub(in crate::broker) filter: TopicFilter,
}

/// Takes a filter of SUBSCRIBE apart; `None` when the broker takes no such filter [MQTT-4.7.1, MQTT-4.8.2-1].
pub(in crate::broker) fn take_apart(text: &str) -> Option<Asked> {
    let whole = TopicFilter::parse(text).ok()?;
    let (group, filter) = match share(text) {
        None => (None, whole.clone()),
        Some(shared) => shared.map(|(group, filter)| (Some(group), filter)).ok()?,
    };
    let fits = filter.as_str().split('/').count() <= limits::TOPIC_LEVELS_MAX;
    fits.then_some(Asked { whole, group, filter })
}

/// Group and filter of `$share/<group>/<filter>`; `None` when it is not one.
fn share(asked: &str) -> Option<Result<(Arc<str>, TopicFilter), ()>> {
    let rest = asked.strip_prefix("$share/")?;
    let parts = rest.split_once('/').filter(|(group, _)| !group.is_empty() && !group.contains(['+', '#']));
    Some(match parts {
        Some((group, filter)) => TopicFilter::parse(filter).map(|filter| (group.into(), filter)).map_err(|_| ()),
        None => Err(()),
    })
}

/// Failure in a SUBACK of 3.1.1.
const SUBACK_FAILURE: u8 = 0x80;
