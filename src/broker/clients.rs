//! The clients for a person who asks: who they are, and showing one out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::core::Sitter;
use super::shared::Shared;
use crate::limits;
use crate::model::Moment;
use crate::model::clients::{ClientOverview, ClientsOverview, Kick, KickRefusal, KickReport, fits};
use crate::mqtt::server::Version;

/// See the module.
#[derive(Clone)]
pub struct Clients(pub(super) Arc<Shared>);

impl Clients {
    /// Everyone whose client id fits the pattern, connected or away.
    pub fn list(&self, pattern: &str) -> ClientsOverview {
        let now = self.0.clock.now();
        // Whose sessions they are is gathered under the core's lock; everything else is looked at without it.
        let mut sitters: Vec<Sitter> = self.0.core().sitters().collect();
        sitters.retain(|sitter| fits(pattern, &sitter.slot.client));
        sitters.sort_by(|a, b| a.slot.client.cmp(&b.slot.client));
        let mut overview = ClientsOverview::default();
        let mut bytes = 0;
        for sitter in &sitters {
            let names = sitter.slot.client.len() + sitter.user.as_ref().map_or(0, String::len);
            bytes += limits::CLIENT_TOLD_BYTES + limits::CLIENT_NAME_FACTOR * names;
            if bytes > limits::CLIENTS_TOLD_BYTES {
                overview.more += 1;
            } else {
                overview.clients.push(view(sitter, now));
            }
        }
        overview
    }

    /// Ends a client's connection, with reason 0x98 in MQTT 5. The will is published as for one that breaks: only a client's own DISCONNECT makes it
    /// void [MQTT-3.1.2-8], and EMQX does the same (Mosquitto leaves it to the plugin that asks). When this returns, the client does not have
    /// its session any more.
    ///
    /// # Errors
    /// [`KickRefusal`] when there is no such client, or no connection to end.
    pub fn kick(&self, kick: &Kick) -> Result<KickReport, KickRefusal> {
        let now = self.0.clock.now();
        let kicked = self.0.core().kick(&kick.client, kick.forget, now)?;
        self.0.due_changed.notify_one();
        tracing::info!(client = %kick.client, forgotten = kicked.report.is_forgotten, "client shown out by the control socket");
        for will in &kicked.wills {
            self.0.publish_will(will);
        }
        Ok(kicked.report)
    }
}

fn view(sitter: &Sitter, now: Moment) -> ClientOverview {
    let slot = &sitter.slot;
    let last = slot.presence.last();
    let session = slot.session();
    let connected = session.is_connected();
    let (queued, queued_bytes) = session.queued();
    let since = last.and_then(|last| if connected { Some(last.since) } else { last.ended });
    let expiry_s = session.expiry_s();
    ClientOverview {
        id: slot.client.to_string(),
        user: sitter.user.clone(),
        connected,
        address: last.map(|last| last.peer.to_string()),
        transport: last.map(|last| last.transport.word().to_owned()),
        protocol: last.map(|last| if last.version == Version::V5 { "5.0" } else { "3.1.1" }.to_owned()),
        for_ms: since.map(|since| ms(now - since)),
        heard_ms: last.map(|_| ms(now - slot.presence.heard())),
        keep_alive_s: last.map(|last| last.keep_alive_s),
        subscriptions: session.subscriptions.len() as u64,
        queued: queued as u64,
        queued_bytes: queued_bytes as u64,
        in_flight: session.in_flight() as u64,
        dropped: slot.presence.dropped.load(Ordering::Relaxed),
        expiry_s: (expiry_s != u32::MAX).then_some(expiry_s),
        ends_ms: sitter.ends.map(|ends| ms(ends - now)),
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
