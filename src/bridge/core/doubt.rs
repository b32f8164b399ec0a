//! `on_session_loss = "no-loss"`: what becomes of messages whose session may have been lost without our seeing it.
//!
//! A cloud that forgot the session says so once, in the CONNACK that makes the new one. Who is killed before that answer is committed finds
//! the new session present the next time, releases a message that nobody holds, and is told that all is well. So the file notes that a
//! CONNECT is under way while a message is between PUBREC and PUBCOMP. Found at the next CONNECT, the note makes such a message doubtful,
//! and it is published once more when its release is answered. That a PUBCOMP of MQTT 5 says success, not 0x92, proves nothing: Mosquitto
//! says so of packet ids that it does not know. The price is a double where the session was not lost after all (docs/bridge.md).

use super::{CONNECT_OPEN, Core};
use crate::bridge::settings::OnSessionLoss;
use crate::logic::flight::{Claim, Stage};
use crate::store::StoreError;

impl Core {
    /// Notes that a CONNECT is under way, where it matters.
    pub(super) fn open_connect(&mut self) -> Result<(), StoreError> {
        let released = self.flight.in_order().iter().any(|claim| claim.stage == Stage::Release);
        self.doubtful.clear();
        if self.settings.on_session_loss != OnSessionLoss::NoLoss || !released {
            return Ok(());
        }
        if self.connect_open {
            self.doubtful = self.released();
            return Ok(());
        }
        let Some(outbox) = &mut self.outbox else { return Ok(()) };
        // One that was to be taken back and is not yet is not to be taken back any more.
        self.notes.retain(|(key, _)| *key != CONNECT_OPEN);
        outbox.begin()?;
        let noted = outbox.set_meta(CONNECT_OPEN, "1").and_then(|()| outbox.commit());
        if noted.is_err() {
            outbox.rollback();
        }
        noted?;
        self.connect_open = true;
        Ok(())
    }

    fn released(&self) -> std::collections::BTreeSet<u16> {
        let claims = self.flight.in_order().into_iter();
        claims.filter(|claim| claim.stage == Stage::Release).map(|claim| claim.pkid).collect()
    }

    /// The session is there. Without doubt about any message the note has done its work.
    pub(super) fn doubt(&mut self) {
        if self.doubtful.is_empty() {
            self.close_connect();
        }
    }

    /// Takes the note back, with the turn's commit.
    pub(super) fn close_connect(&mut self) {
        if std::mem::take(&mut self.connect_open) {
            self.notes.push((CONNECT_OPEN, String::new()));
        }
    }

    /// PUBCOMP came. Whether it is for a doubtful message that the cloud may never have had: that is published once more.
    pub(super) fn may_be_lost(&mut self, pkid: u16) -> bool {
        if !self.doubtful.remove(&pkid) {
            return false;
        }
        self.doubt();
        let (Some(claim), Some(link)) = (self.flight.get(pkid), &mut self.link) else { return false };
        let claim = Claim { stage: Stage::Publish, ..claim };
        self.flight.insert(claim);
        link.say_anew(claim);
        self.unreleases.push(pkid);
        self.must_commit = true;
        true
    }
}
