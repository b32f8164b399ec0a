//! What the cloud's packets mean. Nothing here writes: what must be durable first is noted for the turn's commit.

use std::time::Duration;

use serde_json::Map;

use super::link::{Own, Phase};
use super::{Cause, Core, ONLINE, SESSION_OF, SUBSCRIBED, V5_OF, canonical, event, identity};
use crate::bridge::rules;
use crate::bridge::settings::OnSessionLoss;
use crate::logic::flight::{Claim, FAILURE, Flight, Stage, Verdict};
use crate::model::{Message, Moment, Origin, Qos, Seq, Timestamp, TopicFilter};
use crate::mqtt::client::{self, Delivery, Incoming, Version, Welcome, WireError};

/// Why a connection is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bridge) enum Close {
    /// The cloud's CONNACK says no.
    Refused(Version, u8),
    /// The cloud said goodbye, with this reason of MQTT 5.
    Dismissed(u8),
    /// Its bytes are no MQTT.
    Wire(WireError),
    /// It did not answer a ping.
    Silent,
    /// The cloud was made to forget an old session, and a new connection is to be made at once.
    Purged,
    /// We left in order.
    Left,
    /// The store was replaced, and the session at the cloud fits it no more.
    NewStore,
}

impl Core {
    /// Takes bytes of the cloud in. On an error what came before it still counts: make a turn, then close.
    pub(in crate::bridge) fn receive(&mut self, bytes: &[u8], now: Moment, wall: Timestamp) -> Result<(), Close> {
        let Some(link) = &mut self.link else { return Ok(()) };
        link.keep_alive.received(now);
        link.decoder.feed(bytes);
        loop {
            let Some(link) = &mut self.link else { return Ok(()) };
            match link.decoder.next_packet() {
                Ok(Some(packet)) => self.packet(packet, wall)?,
                Ok(None) => return Ok(()),
                Err(error) => return Err(Close::Wire(error)),
            }
        }
    }

    fn packet(&mut self, packet: Incoming, wall: Timestamp) -> Result<(), Close> {
        let Some(link) = &mut self.link else { return Ok(()) };
        match (link.phase, packet) {
            (Phase::Greeting, Incoming::Connack(welcome)) if welcome.code != 0 => {
                Err(Close::Refused(link.version, welcome.code))
            }
            (Phase::Greeting, Incoming::Connack(welcome)) => {
                self.welcomed(welcome, wall);
                Ok(())
            }
            (_, Incoming::Disconnect(reason)) => Err(Close::Dismissed(reason)),
            (Phase::Greeting, _) => Err(Close::Wire(WireError::Malformed("greeting"))),
            (_, Incoming::Connack(_)) => Err(Close::Wire(WireError::Malformed("second CONNACK"))),
            (_, packet) => {
                self.session_packet(packet, wall);
                Ok(())
            }
        }
    }

    /// The session is resumed, or everything in flight waits again.
    fn welcomed(&mut self, welcome: Welcome, wall: Timestamp) {
        let Some(link) = &mut self.link else { return };
        link.phase = Phase::Welcomed(welcome);
        link.max_packet = welcome.max_packet;
        link.max_qos = welcome.max_qos;
        link.retain = welcome.retain;
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
                if claim.stage == Stage::Publish && claim.qos > welcome.max_qos {
                    let qos = welcome.max_qos.max(Qos::AtLeastOnce);
                    self.flight.insert(Claim { qos, ..claim });
                }
            }
            link.resend = self.flight.in_order().into();
        } else {
            self.session_lost(wall);
        }
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
            let mut more = Map::new();
            more.insert("in_flight".into(), in_flight.into());
            more.insert("uncertain".into(), uncertain.len().into());
            self.publish.push(event(bridge, &self.settings.event_topic, "session-lost", wall, more));
        }
        if self.settings.on_session_loss == OnSessionLoss::DropUncertain {
            for claim in uncertain {
                self.drops.add_record(Cause::Uncertain, claim.seq, wall);
                self.finished.push(claim);
            }
        }
        self.flight = Flight::default();
        self.cursor = Seq(0);
        self.at_end = false;
        self.received.clear();
        self.releases.clear();
        self.down_notes.clear();
        self.subscribed = None;
        // In the same commit: the next process must not take subscriptions for held that went with the session.
        self.notes.push((SUBSCRIBED, String::new()));
        self.forget = true;
    }

    /// The welcome is committed: says `online`, and asks for what is to come down.
    pub(super) fn go_online(&mut self) -> Option<Close> {
        let link = self.link.as_mut()?;
        if link.clean {
            self.clean_needed = false;
        }
        if link.clean && link.version == Version::V311 {
            client::put_disconnect(&mut link.replies);
            return Some(Close::Purged);
        }
        link.phase = Phase::Online;
        self.say_status(ONLINE, Own::Birth);
        self.subscribe();
        None
    }

    /// Subscribes where the cloud does not hold just these subscriptions already: each new one would bring the retained messages again.
    fn subscribe(&mut self) {
        let wanted = canonical(&self.settings);
        let held = self.subscribed.as_deref().unwrap_or_default();
        if held == wanted {
            return;
        }
        let Some(link) = &mut self.link else { return };
        let gone: Vec<_> = held
            .lines()
            .filter_map(|line| TopicFilter::parse(line.split_once(' ')?.1).ok())
            .filter(|filter| self.settings.inward.iter().all(|rule| rule.from != *filter))
            .collect();
        let mut pkid = || {
            let own = &link.own;
            self.flight.free_pkid(|pkid| own.contains_key(&pkid))
        };
        if !gone.is_empty()
            && let Some(pkid) = pkid()
            && client::put_unsubscribe(&mut link.replies, link.version, pkid, &gone).is_ok()
        {
            link.own.insert(pkid, Own::Unsubscribe);
        }
        let filters: Vec<_> = self.settings.inward.iter().map(|rule| (rule.from.clone(), rule.qos)).collect();
        if filters.is_empty() {
            self.notes.push((SUBSCRIBED, wanted));
            self.must_commit = true;
            return;
        }
        let own = &link.own;
        let Some(pkid) = self.flight.free_pkid(|pkid| own.contains_key(&pkid)) else { return };
        match client::put_subscribe(&mut link.replies, link.version, pkid, &filters) {
            Ok(()) => {
                let filters = filters.into_iter().map(|(filter, _)| filter).collect();
                link.own.insert(pkid, Own::Subscribe(filters, wanted));
            }
            Err(error) => {
                tracing::error!(bridge = self.settings.id.as_str(), %error, "the subscriptions cannot be sent");
            }
        }
    }

    fn session_packet(&mut self, packet: Incoming, wall: Timestamp) {
        match packet {
            Incoming::Publish(delivery) => self.delivered_to_us(delivery),
            Incoming::Puback(pkid, reason) if self.own_acknowledged(pkid, reason) => {}
            Incoming::Puback(pkid, reason) => {
                let verdict = self.flight.puback(pkid, reason);
                self.verdict(verdict, wall);
            }
            Incoming::Pubrec(pkid, reason) => {
                let verdict = self.flight.pubrec(pkid, reason);
                self.verdict(verdict, wall);
            }
            Incoming::Pubcomp(pkid) => {
                let verdict = self.flight.pubcomp(pkid);
                self.verdict(verdict, wall);
            }
            Incoming::Pubrel(pkid) => {
                if self.received.remove(&pkid) {
                    self.down_notes.push((pkid, false));
                    self.must_commit = true;
                }
                self.reply(|out| client::put_pubcomp(out, pkid));
            }
            Incoming::Suback(pkid, codes) => self.subscribed(pkid, &codes),
            Incoming::Unsuback(pkid) => {
                self.own_acknowledged(pkid, 0);
            }
            Incoming::Pingresp | Incoming::Connack(_) | Incoming::Disconnect(_) => {}
        }
    }

    fn reply(&mut self, put: impl FnOnce(&mut bytes::BytesMut)) {
        if let Some(link) = &mut self.link {
            put(&mut link.replies);
        }
    }

    fn verdict(&mut self, verdict: Verdict, wall: Timestamp) {
        if let (Verdict::Release(_), Some(link)) = (verdict, &mut self.link) {
            link.progressed = true;
            self.window.took_qos2();
        }
        match verdict {
            Verdict::Finished(claim) => {
                self.delivered += 1;
                self.end(claim);
            }
            Verdict::Refused(claim, reason) => {
                self.drops.add_record(Cause::Refused(reason), claim.seq, wall);
                self.end(claim);
            }
            Verdict::Release(claim) => {
                self.releases.push(claim.pkid);
                self.reply(|out| client::put_pubrel(out, claim.pkid));
            }
            Verdict::ReleaseAgain(pkid) => self.reply(|out| client::put_pubrel(out, pkid)),
            Verdict::Stray => tracing::debug!(bridge = self.settings.id.as_str(), "an acknowledgement fits nothing"),
        }
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

    fn subscribed(&mut self, pkid: u16, codes: &[u8]) {
        let Some(Own::Subscribe(filters, text)) = self.link.as_mut().and_then(|link| link.own.remove(&pkid)) else {
            return;
        };
        let mut agreed = codes.len() == filters.len();
        for (filter, code) in filters.iter().zip(codes) {
            if *code >= FAILURE {
                agreed = false;
                let (bridge, filter, code) = (self.settings.id.as_str(), filter.as_str(), format!("0x{code:02x}"));
                tracing::error!(bridge, filter, code, "the cloud refused a subscription");
            }
        }
        // Left unsaid, they are asked for again at the next connection.
        if agreed {
            self.subscribed = Some(text.clone());
            self.notes.push((SUBSCRIBED, text));
            self.must_commit = true;
        }
    }

    fn delivered_to_us(&mut self, delivery: Delivery) {
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
        link.deliver.push(Message {
            topic,
            payload: delivery.payload,
            qos: delivery.qos.min(rule.qos),
            retain: delivery.retain,
            origin: Origin::Bridge(self.settings.id.clone()),
            properties: delivery.properties,
            stamp: None,
        });
    }
}
