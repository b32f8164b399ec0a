//! From what was gathered to rows of the file.

use super::desk::{Batch, Changes};
use super::gather::{Body, Gathered, Place};
use super::restore::Stale;
use crate::broker::journal::Sent;
use crate::broker::session::Delivery;
use crate::model::{Qos, TopicName};
use crate::mqtt::properties;
use crate::store::{
    BodyRow, OnWire, QueuedRow, RetainedChange, RetainedRow, SessionChange, SessionRow, Sessions, StoreError,
    SubscriptionRow,
};

/// Writes a batch in one commit, and takes out before what is for nobody.
pub(super) fn write(store: &mut Sessions, stale: &Stale, batch: &Batch, era: Option<i64>) -> Result<(), StoreError> {
    let kept = Kept::of(&batch.sessions);
    let retained = stale.retained().chain(retained(&batch.retained));
    let era = era.map(SessionChange::Era);
    store.write(retained, stale.sessions().chain(changes(&batch.sessions, &kept)).chain(era))
}

fn retained(changes: &Changes) -> impl Iterator<Item = RetainedChange<'_>> {
    changes.iter().map(|(topic, change)| match change {
        None => RetainedChange::Clear(topic.as_str()),
        Some(kept) => RetainedChange::Keep(RetainedRow {
            topic: topic.as_str(),
            qos: kept.message.qos,
            expires_ms: kept.expires_ms,
            properties: kept.properties.as_deref(),
            payload: &kept.message.payload,
        }),
    })
}

/// What rows are made of that is nowhere in memory as the file has it.
struct Kept {
    properties: Vec<Option<bytes::Bytes>>,
    places: Vec<(Option<Vec<u8>>, Option<String>)>,
}

impl Kept {
    fn of(gathered: &Gathered) -> Self {
        let properties = gathered.bodies.values().map(|body| match body {
            Body::Put { message, .. } => message.properties.as_deref().map(properties::to_block),
            Body::Gone => None,
        });
        let places = gathered.places.values().map(|place| match place {
            Place::New { delivery: Some(delivery), .. } => (ids(delivery), share(delivery)),
            _ => (None, None),
        });
        Self { properties: properties.collect(), places: places.collect() }
    }
}

fn ids(delivery: &Delivery) -> Option<Vec<u8>> {
    Some(delivery.subscription_ids.as_deref()?.iter().flat_map(|id| id.to_be_bytes()).collect())
}

fn share(delivery: &Delivery) -> Option<String> {
    let by_group = delivery.by_group.as_ref()?;
    Some(format!("$share/{}/{}", by_group.group, by_group.topics))
}

fn on_wire(sent: Sent) -> OnWire {
    OnWire { packet_id: sent.packet_id, turn: sent.turn }
}

fn changes<'a>(gathered: &'a Gathered, kept: &'a Kept) -> impl Iterator<Item = SessionChange<'a>> {
    let wiped = gathered.wiped.iter().map(|id| SessionChange::Ended(*id));
    let sessions = gathered.sessions.iter().map(|(&id, state)| match state {
        None => SessionChange::Ended(id),
        Some((about, left_ms)) => SessionChange::Session(SessionRow {
            id,
            client: &about.client,
            user: about.user.as_deref(),
            peer: about.peer.as_ref().map(crate::model::GatewayId::as_str),
            expiry_s: about.expiry_s,
            left_ms: *left_ms,
        }),
    });
    let subscriptions = gathered.subscriptions.iter().map(|((session, asked), state)| match state {
        None => SessionChange::Unsubscribed(*session, asked.as_str()),
        Some((subscription, hungry)) => SessionChange::Subscribed(SubscriptionRow {
            session: *session,
            asked: asked.as_str(),
            qos: subscription.qos,
            no_local: subscription.no_local,
            retain_as_published: subscription.retain_as_published,
            hungry: hungry.is_some(),
            after: hungry.as_ref().and_then(|hungry| hungry.after.as_ref()).map(TopicName::as_str),
            identifier: subscription.identifier,
        }),
    });
    let bodies = gathered.bodies.iter().zip(&kept.properties).map(|((&id, body), properties)| match body {
        Body::Gone => SessionChange::BodyGone(id),
        Body::Put { message, expires_ms } => SessionChange::Body(BodyRow {
            id,
            qos: message.qos,
            retain: message.retain,
            expires_ms: *expires_ms,
            topic: message.topic.as_str(),
            properties: properties.as_deref(),
            payload: &message.payload,
        }),
    });
    let places = gathered.places.iter().zip(&kept.places);
    let places = places.map(|((&(session, row), place), (ids, share))| match place {
        Place::Gone => SessionChange::Gone(session, row),
        Place::Sent { sent, released } => SessionChange::Sent(session, row, on_wire(*sent), *released),
        Place::New { body, delivery, sent, .. } => SessionChange::Queued(QueuedRow {
            session,
            row,
            body: *body,
            qos: delivery.as_ref().map_or(Qos::ExactlyOnce, |delivery| delivery.qos),
            retain: delivery.as_ref().is_some_and(|delivery| delivery.retain),
            ids: ids.as_deref(),
            share: share.as_deref(),
            sent: sent.map(on_wire),
        }),
    });
    let received = gathered.received.iter().map(|(&(session, id), held)| {
        if *held { SessionChange::Received(session, id) } else { SessionChange::Forgotten(session, id) }
    });
    wiped.chain(sessions).chain(subscriptions).chain(bodies).chain(places).chain(received)
}
