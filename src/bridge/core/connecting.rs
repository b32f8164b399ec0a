//! How a connection begins, and how it ends.

use std::sync::Arc;

use bytes::BytesMut;

use super::link::{Link, Own, Phase};
use super::{Close, Core, OFFLINE, QOS2_OF, Turn, identity};
use crate::bridge::signers::{self, SignError};
use crate::limits::{DOWN_PACKET_MAX, DOWN_RECEIVE_MAXIMUM};
use crate::logic::window::Learnt;
use crate::model::{Moment, Qos, Timestamp};
use crate::mqtt::client::{self, Connect, Version};
use crate::store::StoreError;

/// Why no CONNECT can be said.
#[derive(Debug, thiserror::Error)]
pub(in crate::bridge) enum ConnectError {
    /// Something in it does not fit.
    #[error(transparent)]
    Encode(#[from] client::EncodeError),
    /// What has to be noted first cannot be.
    #[error("the store cannot note that a connection begins: {0}")]
    Store(#[from] StoreError),
    /// The credentials cannot be made.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// By whom a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bridge) enum Ended {
    /// By us.
    Here,
    /// By the cloud, which closed it in order.
    Closed,
    /// By nobody: the line broke.
    Broken,
}

impl Core {
    /// CONNECT, for a connection that was just made.
    pub(in crate::bridge) fn connect(
        &mut self,
        version: Version,
        now: Moment,
        wall: Timestamp,
    ) -> Result<BytesMut, ConnectError> {
        let settings = Arc::clone(&self.settings);
        let credentials = signers::credentials(&settings, wall, fastrand::u32(..))?;
        self.open_connect()?;
        // A clean session of 3.1.1 ends with its connection: it is opened to be thrown away, and does not speak for the gateway.
        let purge = self.clean_needed && version == Version::V311;
        let seconds = |span: std::time::Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        let connect = Connect {
            client_id: &credentials.client_id,
            clean: self.clean_needed,
            keep_alive_s: u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX),
            username: credentials.username.as_ref().map(crate::model::Secret::expose),
            password: credentials.password.as_ref().map(crate::model::Secret::expose),
            will: (!purge && settings.limits.will && settings.limits.status)
                .then_some((&settings.cloud_status_topic, OFFLINE)),
            will_retained: settings.limits.retain,
            will_delay_s: seconds(settings.will_delay),
            session_expiry_s: seconds(settings.session_expiry),
            receive_maximum: DOWN_RECEIVE_MAXIMUM,
            max_packet: u32::try_from(DOWN_PACKET_MAX).unwrap_or(u32::MAX),
        };
        let mut bytes = BytesMut::new();
        client::put_connect(&mut bytes, version, &connect)?;
        let mut link = Link::new(version, self.clean_needed, DOWN_PACKET_MAX, settings.keep_alive, now);
        link.renew_at = credentials.lasts.map(|lasts| now + lasts);
        self.link = Some(link);
        Ok(bytes)
    }

    /// Ends a connection whose token ends soon, in order: nothing is taken from the store any more ([`Core::hold`]), and when what is in flight
    /// is acknowledged, or after a grace, a DISCONNECT leaves, which takes the will with it. The cloud hears no `offline`.
    pub(super) fn renew(&mut self, now: Moment, turn: &mut Turn) {
        let Some(link) = self.link.as_ref().filter(|link| link.renewing && link.phase == Phase::Online) else { return };
        let late = link.renew_due().is_some_and(|at| now >= at);
        if turn.close.is_none() && (!link.awaits() || late) {
            client::put_disconnect(&mut turn.bytes);
            turn.close = Some(Close::Renewed);
        }
    }

    /// Whether the cloud has yet to say CONNACK; or, where it was this gateway's own broker, whose it is now.
    pub(in crate::bridge) fn is_greeting(&self) -> bool {
        let link = self.link.as_ref();
        link.is_some_and(|link| link.phase == Phase::Greeting || (link.phase == Phase::Welcomed && self.own_broker))
    }

    /// The cloud has QoS 2, by its own word: that is remembered, also over a restart.
    pub(super) fn speaks_qos2(&mut self) {
        if self.window.knows_qos2() {
            self.notes.push((QOS2_OF, identity(&self.settings)));
        }
    }

    /// The connection ended.
    pub(in crate::bridge) fn disconnected(&mut self, ended: Ended) {
        if ended != Ended::Here {
            self.ended_over_aliases();
        }
        let Some(link) = self.link.take() else { return };
        if ended != Ended::Here
            && link.is_online()
            && let Some(learnt) = self.window.hung_up(link.said_qos2(), link.progressed, ended == Ended::Closed)
        {
            let bridge = self.settings.id.as_str();
            match learnt {
                Learnt::Smaller(window) => {
                    tracing::warn!(bridge, window, "the cloud hung up on its QoS 2 window: the window is made smaller");
                }
                Learnt::NoQos2 => {
                    tracing::warn!(bridge, "the cloud hangs up on every QoS 2 message: it gets QoS 1 instead");
                }
            }
        }
        // What was received and not committed was not acknowledged either: the cloud sends it again, and then it must count as new.
        self.down_notes.retain(|(pkid, noted)| {
            if *noted {
                self.received.remove(pkid);
            }
            !noted
        });
    }

    /// Starts to leave: `offline` goes out, and the goodbye when it is acknowledged.
    pub(in crate::bridge) fn leave(&mut self) {
        let Some(link) = &mut self.link else { return };
        if !link.is_online() {
            return;
        }
        link.phase = Phase::Leaving;
        self.say_status(OFFLINE, Own::Goodbye);
    }

    /// `online` or `offline`, QoS 1, retained, under a packet id of its own.
    pub(super) fn say_status(&mut self, word: &str, own: Own) {
        let Some(link) = &mut self.link else { return };
        if !self.settings.limits.status {
            if own == Own::Goodbye {
                client::put_disconnect(&mut link.replies);
                self.left = true;
            }
            return;
        }
        let Some(pkid) = self.flight.free_pkid(|pkid| link.own.contains_key(&pkid)) else { return };
        let publish = client::Outgoing {
            topic: self.settings.cloud_status_topic.as_str(),
            alias: None,
            payload: word.as_bytes(),
            qos: Qos::AtLeastOnce.min(link.max_qos),
            retain: link.retain,
            dup: false,
            pkid,
            properties: None,
        };
        client::put_publish(&mut link.replies, link.version, &publish, link.max_packet);
        if publish.qos > Qos::AtMostOnce {
            link.own.insert(pkid, own);
        } else if own == Own::Goodbye {
            client::put_disconnect(&mut link.replies);
            self.left = true;
        }
    }
}
