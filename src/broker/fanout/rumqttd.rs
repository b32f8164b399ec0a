//! Routing by rumqttd's router, in the one way of use that none of its faults reaches (docs/decisions/0002).
//!
//! One link is all the router ever sees, and it is never dropped: connections, client ids, wills, QoS, retained messages and shared
//! subscriptions stay with the broker. Each filter is subscribed to once at QoS 0, with its number as subscription identifier. Topics are
//! mapped, `x` to `t/x` and `$x` to `s/x`: a first character that is not ASCII would panic its thread, and `$` is special to it. What it
//! rewrites or hides (sender, QoS, retain flag, properties) travels in front of the payload:
//!
//! ```text
//! number u64 | sender u64 | received, nanoseconds u64 | QoS u8 | retain u8 | property block, length in front | payload
//! ```
//!
//! Known limits: every filter keeps a log of up to [`limits::ROUTER_LOG_BYTES`] that is never freed, and a filter whose messages come faster
//! than they are taken loses the oldest beyond it. Messages over a segment take a segment each. A client with overlapping subscriptions gets
//! one copy for each.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rumqttd::local::{LinkBuilder, LinkError, LinkRx, LinkTx};
use rumqttd::protocol::{Filter, Packet, QoS, RetainForwardRule, Subscribe, SubscribeProperties};
use rumqttd::{Notification, Router, RouterConfig};

use super::{Envelope, Fanout, FilterId, Full};
use crate::limits;
use crate::model::{Message, Moment, Origin, Properties, Qos, TopicFilter, TopicName};
use crate::mqtt::properties;

/// Told of each message for each filter that means it.
pub(in crate::broker) type Deliver = Box<dyn Fn(&Envelope, FilterId) -> Alive + Send>;

/// Whether the broker is still there to deliver to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Alive {
    Yes,
    No,
}

/// See the module.
pub(in crate::broker) struct Rumqttd {
    link: LinkTx,
    is_lost: bool,
}

impl Rumqttd {
    /// Starts the router's thread, and one that takes from it.
    pub(in crate::broker) fn start(deliver: Deliver) -> std::io::Result<Self> {
        let config = RouterConfig {
            max_connections: 2,
            max_outgoing_packet_count: OUTGOING_PACKETS,
            max_segment_size: limits::ROUTER_LOG_BYTES / SEGMENTS,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        };
        let router = Router::new(0, config).spawn();
        let (link, taken, _) =
            LinkBuilder::new("broker", router).build().map_err(|error| std::io::Error::other(error.to_string()))?;
        std::thread::Builder::new().name("routed".into()).spawn(move || take(taken, &deliver))?;
        Ok(Self { link, is_lost: false })
    }

    /// Says once that the router has stopped.
    fn judge(&mut self, outcome: Result<usize, LinkError>) -> Result<(), Full> {
        let Err(error) = outcome else { return Ok(()) };
        if !self.is_lost {
            tracing::error!(%error, "rumqttd's router has stopped, messages reach no local subscriber");
            self.is_lost = true;
        }
        Err(Full)
    }
}

impl Fanout for Rumqttd {
    fn subscribe(&mut self, filter: &TopicFilter, id: FilterId) {
        let path = mapped(filter.as_str());
        let filter = Filter {
            path,
            qos: QoS::AtMostOnce,
            nolocal: false,
            preserve_retain: false,
            retain_forward_rule: RetainForwardRule::Never,
        };
        let properties = SubscribeProperties { id: Some(id as usize), user_properties: Vec::new() };
        let packet = Packet::Subscribe(Subscribe { pkid: 0, filters: vec![filter] }, Some(properties));
        // The future has nothing to wait for inside: it is ready the first time it is asked.
        let outcome = pin!(self.link.send(packet)).poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(outcome) = outcome {
            // A router that has stopped is told of; there is nobody else to tell.
            let _ = self.judge(outcome);
        }
    }

    fn unsubscribe(&mut self, filter: &TopicFilter, _id: FilterId) {
        let outcome = self.link.unsubscribe(mapped(filter.as_str()));
        // As above.
        let _ = self.judge(outcome);
    }

    /// Waits while the router has a thousand packets to take. It never waits for us in turn, so that ends.
    fn publish(&mut self, envelope: &Envelope, _found: &mut Vec<FilterId>) -> Result<(), Full> {
        let outcome = self.link.publish(mapped(envelope.message.topic.as_str()), wrap(envelope));
        self.judge(outcome)
    }

    /// The router's thread has no end of its own: it and its link are left idle until the process ends.
    fn stop(&mut self) {}
}

/// Takes what the router forwards until the broker is gone, or the router.
fn take(mut link: LinkRx, deliver: &Deliver) {
    loop {
        match link.recv() {
            Ok(Some(Notification::Forward(forward))) => {
                let ids = forward.properties.map(|properties| properties.subscription_identifiers).unwrap_or_default();
                let Some(envelope) = unwrap(&forward.publish.topic, forward.publish.payload) else { continue };
                for id in ids.into_iter().filter_map(|id| FilterId::try_from(id).ok()) {
                    if deliver(&envelope, id) == Alive::No {
                        // A link that is dropped under a running router is one of the ways to break it.
                        std::mem::forget(link);
                        return;
                    }
                }
            }
            // Without this answer nothing is forwarded any more, after about 199 messages.
            Ok(Some(Notification::Unschedule)) => {
                if link.ready().is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

fn mapped(text: &str) -> String {
    match text.strip_prefix('$') {
        Some(rest) => format!("s/{rest}"),
        None => format!("t/{text}"),
    }
}

fn wrap(envelope: &Envelope) -> Bytes {
    let message = &envelope.message;
    let mut out = BytesMut::with_capacity(HEAD + 1 + message.payload.len());
    out.put_u64(envelope.number);
    out.put_u64(envelope.sender);
    out.put_u64(u64::try_from(envelope.received.since_start().as_nanos()).unwrap_or(u64::MAX));
    out.put_u8(message.qos.level());
    out.put_u8(u8::from(message.retain));
    match &message.properties {
        None => out.put_u8(0),
        Some(travelling) => out.extend_from_slice(&properties::to_block(travelling)),
    }
    out.extend_from_slice(&message.payload);
    out.freeze()
}

fn unwrap(topic: &[u8], mut payload: Bytes) -> Option<Envelope> {
    let topic = std::str::from_utf8(topic).ok()?;
    let topic = match topic.strip_prefix("s/") {
        Some(rest) => TopicName::parse(&format!("${rest}")),
        None => TopicName::parse(topic.strip_prefix("t/")?),
    };
    if payload.len() < HEAD {
        return None;
    }
    let (number, sender, received) = (payload.get_u64(), payload.get_u64(), payload.get_u64());
    let (qos, retain) = (Qos::from_level(payload.get_u8())?, payload.get_u8() != 0);
    let (found, consumed) = properties::decode(&payload).ok()?;
    let properties = (found.message != Properties::default()).then(|| Arc::new(found.message));
    // Where it came from is settled before it is routed: nobody behind the router asks.
    let message =
        Message { properties, ..Message::new(topic.ok()?, payload.slice(consumed..), qos, retain, Origin::Client) };
    Some(Envelope { number, sender, received: Moment::at(Duration::from_nanos(received)), message: Arc::new(message) })
}

/// Bytes before the property block.
const HEAD: usize = 8 + 8 + 8 + 1 + 1;
/// Segments of a filter's log; the oldest is dropped whole.
const SEGMENTS: usize = 10;
/// Messages forwarded at one time before the router asks whether we are ready for more.
const OUTGOING_PACKETS: u64 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_survives_the_router() {
        let properties = Properties { expiry_s: Some(9), ..Properties::default() };
        for (topic, properties) in [("über/x", None), ("$SYS/x", Some(Arc::new(properties)))] {
            let topic = TopicName::parse(topic).unwrap();
            let message =
                Message { properties, ..Message::new(topic, *b"payload", Qos::ExactlyOnce, true, Origin::Client) };
            let received = Moment::at(Duration::from_nanos(77));
            let envelope = Envelope { number: 5, sender: 6, received, message: Arc::new(message) };
            let found = unwrap(mapped(envelope.message.topic.as_str()).as_bytes(), wrap(&envelope)).unwrap();
            assert_eq!(format!("{found:?}"), format!("{envelope:?}"));
        }
    }
}
