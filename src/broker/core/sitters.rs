//! Who sits where, and having one leave.

use std::sync::Arc;

use super::super::door::Guests;
use super::super::journal::Receipt;
use super::super::keeper::Urgency;
use super::super::subscribers::Slot;
use super::{Core, Farewell};
use crate::model::clients::{KickRefusal, KickReport};
use crate::model::{Message, Moment};

/// A client's place, and whose it is.
#[derive(Debug)]
pub(in crate::broker) struct Sitter {
    pub(in crate::broker) slot: Arc<Slot>,
    pub(in crate::broker) user: Option<String>,
    /// When the session of a client that is away ends.
    pub(in crate::broker) ends: Option<Moment>,
}

/// What showing a client out has done.
#[derive(Debug)]
pub(in crate::broker) struct Kicked {
    pub(in crate::broker) report: KickReport,
    /// Wills that it sets free.
    pub(in crate::broker) wills: Vec<Arc<Message>>,
}

impl Core {
    /// Everyone there is, connected or not, with whose session it is.
    pub(in crate::broker) fn sitters(&self) -> impl Iterator<Item = Sitter> {
        self.lives.values().map(|life| Sitter { slot: life.slot.clone(), user: life.user.clone(), ends: life.ends })
    }

    /// Takes a client's connection off its session, and has that connection end; `forget` ends the session too.
    pub(in crate::broker) fn kick(&mut self, client: &str, forget: bool, now: Moment) -> Result<Kicked, KickRefusal> {
        let slot = self.lives.get(client).ok_or_else(|| KickRefusal::Unknown(client.to_owned()))?.slot.clone();
        let connected = slot.session().connected();
        if connected.is_none() && !forget {
            return Err(KickRefusal::Away);
        }
        let mut wills = Vec::new();
        if let Some(generation) = connected {
            slot.presence.kick(generation);
            slot.presence.end(generation, now);
            slot.session().wake();
            wills.extend(self.detach(&slot, generation, Farewell::Abrupt, now));
        }
        if forget {
            // The will is published at the end of the session at the latest [MQTT-3.1.3-9].
            let waiting = self.lives.get_mut(client).and_then(|life| life.will.take());
            wills.extend(waiting.map(|will| will.message.clone()));
            self.remove(&slot.client);
            if let Some(desk) = &self.desk {
                // The answer does not wait for it, but whoever has it may pull the plug soon.
                desk.hurry();
            }
        }
        let is_forgotten = !self.lives.contains_key(client);
        Ok(Kicked { report: KickReport { was_connected: connected.is_some(), is_forgotten }, wills })
    }

    /// Ends every subscription that its user is not allowed any more, of clients that are away too, and takes back wills likewise; what is denied is
    /// kept from them from here on. Ends the sessions of users that are not let in any more: of those away at once, of the others with their
    /// connection, which ends by itself. Whoever is given the name later finds nothing.
    pub(in crate::broker) fn withdraw(&mut self, guests: &Guests, now: Moment) {
        let mut refused = Vec::new();
        for (client, life) in &mut self.lives {
            let access = guests.access(life.user.as_deref(), client);
            if let Some(access) = &access {
                life.slot.withheld.follow(access);
                if life.will.take_if(|will| !access.may_publish(&will.message.topic)).is_some() {
                    tracing::info!(%client, "client may not publish its will any more, it is void");
                    // What is due at that moment may be the session's end as well: that finds no will.
                    life.will_due = None;
                }
            }
            let mut session = life.slot.session();
            for (asked, subscription) in &session.subscriptions {
                if !access.as_ref().is_some_and(|access| access.may_subscribe(&subscription.filter)) {
                    refused.push((life.slot.clone(), asked.clone()));
                }
            }
            if access.is_some() {
                continue;
            }
            if session.is_connected() {
                session.set_expiry_s(0);
                continue;
            }
            tracing::info!(%client, "the user of this client is not let in any more, its session ends");
            for at in [life.ends.replace(now), life.will_due.replace(now)].into_iter().flatten() {
                self.due.remove(&(at, client.clone()));
            }
            self.due.insert((now, client.clone()));
        }
        for (slot, asked) in refused {
            tracing::info!(client = %slot.client, filter = %asked, "client may not subscribe to this filter any more, its subscription ends");
            self.unsubscribe(&slot, &asked, &mut Receipt::new(Urgency::Next));
        }
    }
}
