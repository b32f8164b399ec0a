//! What the cloud's packets mean. Nothing here writes: what must be durable first is noted for the turn's commit.

use std::time::Duration;

use serde_json::Map;

use super::link::{Own, Phase};
use super::{Cause, Core, ONLINE, SESSION_OF, SUBSCRIBED, V5_OF, event, identity};
use crate::bridge::rules;
use crate::bridge::settings::OnSessionLoss;
use crate::limits::DOWN_WAITING_BYTES;
use crate::logic::echo::Echoes;
use crate::logic::flight::{Claim, FAILURE, Flight, Stage, Verdict};
use crate::logic::marks;
use crate::model::{GatewayId, Message, Moment, Origin, Qos, Timestamp};
use crate::mqtt::client::{self, Delivery, Elsewhere, Incoming, Version, Welcome, WireError};

/// Why a connection is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bridge) enum Close {
    /// The cloud's CONNACK says no.
    Refused(Version, u8, Elsewhere),
    /// The cloud said goodbye, with this reason of MQTT 5.
    Dismissed(u8, Elsewhere),
    /// Its bytes are no MQTT.
    Wire(WireError),
    /// It did not answer a ping.
    Silent,
    /// It takes one of our packet ids for another message's.
    Mismatch,
    /// The cloud was made to forget an old session, and a new connection is to be made at once.
    Purged,
    /// The token ends soon: a new connection is to be made at once, with a new one.
    Renewed,
    /// We left in order.
    Left,
    /// The store was replaced, and the session at the cloud fits it no more.
    NewStore,
    /// It is this gateway's own broker.
    Itself(GatewayId),
}

impl Core {
    /// Whether the connection is to be read: not while too much of what came waits for a commit.
    pub(in crate::bridge) fn listens(&self) -> bool {
        self.link.as_ref().is_none_or(|link| link.waiting_bytes() < DOWN_WAITING_BYTES)
    }

    /// Takes bytes of the cloud in. On an error what came before it still counts: make a turn, then close.
    pub(in crate::bridge) fn receive(&mut self, bytes: &[u8], now: Moment, wall: Timestamp) -> Result<(), Close> {
        let Some(link) = &mut self.link else { return Ok(()) };
        link.keep_alive.received(now);
        link.decoder.feed(bytes);
        loop {
            let Some(link) = &mut self.link else { return Ok(()) };
            match link.decoder.next_packet() {
                Ok(Some(packet)) => self.packet(packet, now, wall)?,
                Ok(None) => return Ok(()),
                Err(error) => return Err(Close::Wire(error)),
            }
        }
    }

    fn packet(&mut self, packet: Incoming, now: Moment, wall: Timestamp) -> Result<(), Close> {
        let Some(link) = &mut self.link else { return Ok(()) };
        match (link.phase, packet) {
            (Phase::Greeting, Incoming::Connack(welcome)) if welcome.code != 0 => {
                Err(Close::Refused(link.version, welcome.code, welcome.elsewhere))
            }
            (Phase::Greeting, Incoming::Connack(welcome)) => {
                self.welcomed(&welcome, wall);
                Ok(())
            }
            (_, Incoming::Disconnect(reason, elsewhere)) => {
                self.dismissed_over_aliases(reason);
                Err(Close::Dismissed(reason, elsewhere))
            }
            (Phase::Greeting, _) => Err(Close::Wire(WireError::Malformed("greeting"))),
            (_, Incoming::Connack(_)) => Err(Close::Wire(WireError::Malformed("second CONNACK"))),
            (_, packet) => self.session_packet(packet, now, wall),
        }
    }

    /// The session is resumed, or everything in flight waits again.
    fn welcomed(&mut self, welcome: &Welcome, wall: Timestamp) {
        let Some(link) = &mut self.link else { return };
        link.phase = Phase::Welcomed;
        // What the cloud is known to take holds beside what it says: 3.1.1 cannot say anything.
        let limits = self.settings.limits;
        let its_word = limits.adjustable && welcome.max_packet != usize::MAX;
        link.max_packet = if its_word { welcome.max_packet } else { welcome.max_packet.min(limits.max_packet) };
        link.max_qos = welcome.max_qos.min(limits.max_qos).min(self.window.max_qos());
        link.retain = welcome.retain && limits.retain;
        link.aliases.allow(if self.aliases.are_off() { 0 } else { welcome.topic_aliases });
        let max_qos = link.max_qos;
        if let Some(seconds) = welcome.keep_alive_s {
            link.keep_alive.set_interval(Duration::from_secs(seconds.into()));
        }
        let asked_s = self.settings.session_expiry.as_secs();
        if let Some(granted_s) = welcome.session_expiry_s.filter(|granted_s| u64::from(*granted_s) < asked_s) {
            let bridge = self.settings.id.as_str();
            tracing::info!(bridge, asked_s, granted_s, "the cloud keeps the session for less than was asked");
        }
        self.window.connected(welcome.receive_maximum);
        if welcome.session_present && !link.clean {
            // A cloud that takes less than it did gets less.
            for claim in self.flight.in_order() {
                if claim.stage == Stage::Publish && claim.qos > max_qos {
                    let qos = max_qos.max(Qos::AtLeastOnce);
                    self.flight.insert(Claim { qos, ..claim });
                }
            }
            link.resend = self.flight.in_order().into();
            self.doubt();
        } else {
            self.session_lost(wall);
        }
        self.doubt_subscriptions();
        if self.link.as_ref().is_some_and(|link| link.version == Version::V5) && !self.cloud_speaks_v5() {
            let identity = identity(&self.settings);
            self.v5_of = Some(identity.clone());
            self.notes.push((V5_OF, identity));
        }
        if self.link.as_ref().is_some_and(|link| link.clean) {
            self.notes.push((SESSION_OF, identity(&self.settings)));
        }
        self.must_commit = true;
    }

    fn session_lost(&mut self, wall: Timestamp) {
        let uncertain: Vec<Claim> =
            self.flight.in_order().into_iter().filter(|claim| claim.stage == Stage::Release).collect();
        if !self.flight.is_empty() {
            let (bridge, in_flight) = (self.settings.id.as_str(), self.flight.len());
            tracing::warn!(bridge, in_flight, uncertain = uncertain.len(), "the cloud forgot the session");
            self.store.sessions_lost += 1;
            let mut more = Map::new();
            more.insert("in_flight".into(), in_flight.into());
            more.insert("uncertain".into(), uncertain.len().into());
            self.publish.push(event(bridge, &self.settings.event_topic, "session-lost", wall, more));
        }
        if self.settings.on_session_loss == OnSessionLoss::DropUncertain {
            for claim in uncertain {
                let record = self.outbox.as_ref().and_then(|outbox| outbox.record(claim.priority, claim.seq).ok()?);
                let boots = self.outbox.as_ref().map(crate::store::Outbox::boots);
                let accepted = record.zip(boots).map(|(record, boots)| boots.mended(claim.seq, record.accepted));
                self.drops.add_record(Cause::Uncertain, claim.seq, accepted.unwrap_or(wall));
                self.finished.push(claim);
            }
        }
        self.flight = Flight::default();
        self.refusals.forget_all();
        self.doubtful.clear();
        self.close_connect();
        self.lanes.rewind();
        self.caps.look_anew();
        self.received.clear();
        self.releases.clear();
        self.down_notes.clear();
        self.subscribed = None;
        // In the same commit: the next process must not take subscriptions for held that went with the session.
        self.notes.push((SUBSCRIBED, String::new()));
        self.forget = true;
    }

    /// The welcome is committed: says `online`, and asks for what is to come down.
    pub(super) fn go_online(&mut self, now: Moment) -> Option<Close> {
        let link = self.link.as_mut()?;
        if link.clean {
            self.clean_needed = false;
        }
        if link.clean && link.version == Version::V311 {
            client::put_disconnect(&mut link.replies);
            return Some(Close::Purged);
        }
        if self.own_broker {
            self.greet();
            return None;
        }
        link.phase = Phase::Online;
        if let Some(outbox) = &self.outbox {
            self.lanes.link_up(outbox.next());
        }
        self.greet();
        self.say_status(ONLINE, Own::Birth);
        self.subscribe(now);
        None
    }

    fn session_packet(&mut self, packet: Incoming, now: Moment, wall: Timestamp) -> Result<(), Close> {
        match packet {
            Incoming::Publish(delivery) => match marks::greets(delivery.topic.as_str()) {
                Some(gateway) => return self.greeted(gateway),
                None => self.delivered_to_us(delivery, now),
            },
            Incoming::Puback(pkid, reason) if self.own_acknowledged(pkid, reason) => {}
            Incoming::Puback(pkid, reason) => {
                let verdict = self.flight.puback(pkid, reason);
                return self.verdict(verdict, now, wall);
            }
            Incoming::Pubrec(pkid, reason) => {
                if reason < FAILURE {
                    self.speaks_qos2();
                }
                let verdict = self.flight.pubrec(pkid, reason);
                return self.verdict(verdict, now, wall);
            }
            Incoming::Pubcomp(pkid) => {
                self.speaks_qos2();
                if self.may_be_lost(pkid) {
                    return Ok(());
                }
                let verdict = self.flight.pubcomp(pkid);
                return self.verdict(verdict, now, wall);
            }
            Incoming::Pubrel(pkid) => {
                if self.received.remove(&pkid) {
                    self.down_notes.push((pkid, false));
                    self.must_commit = true;
                }
                self.reply(|out| client::put_pubcomp(out, pkid));
            }
            Incoming::Suback(pkid, codes) => self.subscribed(pkid, &codes, wall),
            Incoming::Unsuback(pkid) => self.unsubscribed(pkid),
            Incoming::Pingresp | Incoming::Connack(_) | Incoming::Disconnect(..) => {}
        }
        Ok(())
    }

    fn reply(&mut self, put: impl FnOnce(&mut bytes::BytesMut)) {
        if let Some(link) = &mut self.link {
            put(&mut link.replies);
        }
    }

    fn verdict(&mut self, verdict: Verdict, now: Moment, wall: Timestamp) -> Result<(), Close> {
        if let (Verdict::Release(_), Some(link)) = (verdict, &mut self.link) {
            link.progressed = true;
            self.window.took_qos2();
        }
        match verdict {
            Verdict::Finished(claim) => {
                self.taken(claim, now);
                self.took_number(claim.pkid);
                self.delivered += 1;
                self.end(claim);
            }
            Verdict::Refused(claim, reason) => self.refused(claim, reason),
            Verdict::Later(claim, reason) => self.refused_for_now(claim, reason, now, wall),
            Verdict::Mismatch => {
                // Whatever it knows of us is not what we know: it has to forget it.
                self.clean_needed = true;
                return Err(Close::Mismatch);
            }
            Verdict::Release(claim) => {
                self.taken(claim, now);
                self.took_number(claim.pkid);
                self.releases.push(claim.pkid);
                self.reply(|out| client::put_pubrel(out, claim.pkid));
            }
            Verdict::ReleaseAgain(pkid) => self.reply(|out| client::put_pubrel(out, pkid)),
            Verdict::Stray => tracing::debug!(bridge = self.settings.id.as_str(), "an acknowledgement fits nothing"),
        }
        Ok(())
    }

    /// The handshake is over; the record goes with the next commit.
    pub(super) fn end(&mut self, claim: Claim) {
        if let Some(link) = &mut self.link {
            link.unsay(claim.pkid);
        }
        self.finished.push(claim);
    }

    /// Whether the packet id was one of the engine's own.
    fn own_acknowledged(&mut self, pkid: u16, reason: u8) -> bool {
        let Some(link) = &mut self.link else { return false };
        match link.own.remove(&pkid) {
            None => false,
            Some(Own::Goodbye) => {
                // A cloud that did not take `offline` says it itself, by the will: that is lost with a DISCONNECT, and only with one.
                if reason < FAILURE {
                    client::put_disconnect(&mut link.replies);
                }
                self.left = true;
                true
            }
            Some(Own::Birth) if reason >= FAILURE => {
                let (bridge, code) = (self.settings.id.as_str(), format!("0x{reason:02x}"));
                tracing::error!(bridge, code, "the cloud does not take the gateway's status");
                true
            }
            Some(_) => true,
        }
    }

    fn delivered_to_us(&mut self, delivery: Delivery, now: Moment) {
        let pkid = delivery.pkid;
        let fresh = delivery.qos != Qos::ExactlyOnce || self.received.insert(pkid);
        if delivery.qos == Qos::ExactlyOnce && fresh {
            self.down_notes.push((pkid, true));
            self.must_commit = true;
        }
        let Some(link) = &mut self.link else { return };
        match delivery.qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => client::put_puback(&mut link.replies, pkid),
            Qos::ExactlyOnce => client::put_pubrec(&mut link.replies, pkid),
        }
        if !fresh {
            return;
        }
        let Some((rule, topic)) = rules::downward(&self.settings.inward, &delivery.topic) else { return };
        let went_through = marks::went_through(delivery.properties.as_deref(), self.settings.gateway.as_str())
            && rules::is_two_way(&self.settings.out, &delivery.topic, &topic);
        let comes_back =
            !delivery.retain && self.peer.is_none() && link.comes_back(&self.settings.inward, &delivery.topic);
        if went_through
            || (comes_back && self.echoes.came(Echoes::mark(delivery.topic.as_str(), &delivery.payload), now).is_some())
        {
            if !std::mem::replace(&mut link.echo_told, true) {
                let (bridge, topic) = (self.settings.id.as_str(), delivery.topic.as_str());
                tracing::info!(bridge, topic, "messages of ours come back from the cloud: they are not told again");
            }
            return;
        }
        let mut properties = delivery.properties;
        if let Some(peer) = &self.peer {
            marks::came_from(&mut properties, peer);
        }
        link.deliver.push(Message {
            topic,
            payload: delivery.payload,
            qos: delivery.qos.min(rule.qos),
            retain: delivery.retain,
            origin: Origin::Bridge(self.settings.id.clone()),
            properties,
            stamp: None,
            exchange: None,
        });
    }
}
