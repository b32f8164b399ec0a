//! Records of a damaged store are brought over into the one that took its place, a piece a turn, so that the link and the intake are served.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Map;

use super::{Cause, Core, event};
use crate::bridge::settings::OnSessionLoss;
use crate::limits::{SALVAGE_HOLD, SALVAGE_PAGES, SALVAGE_RETRY, SALVAGE_TRIES};
use crate::model::{Moment, Qos, Seq, Timestamp};
use crate::mqtt::properties;
use crate::store::salvage::Salvage;
use crate::store::{Dropped, Outbox, Progress, Record, StoreError};

/// A damaged store that is being read.
pub(super) struct Rescue {
    file: Salvage,
    progress: Progress,
    /// Until then what is new waits for what is older.
    hold_until: Moment,
    /// With `drop-uncertain`: which records were half handed over; `None` when that cannot be read.
    released: Option<HashSet<Seq>>,
}

/// A damaged store that did not open, and how often in a row.
#[derive(Default)]
pub(super) struct Shut {
    directory: PathBuf,
    tries: u32,
}

impl Shut {
    /// This one did not open. Returns how often by now.
    fn tried(&mut self, directory: &Path) -> u32 {
        if self.directory != directory {
            *self = Self { directory: directory.to_path_buf(), tries: 0 };
        }
        self.tries = self.tries.saturating_add(1);
        self.tries
    }
}

impl Core {
    /// Looks whether the store that was just opened has a damaged one before it.
    pub(super) fn begin_salvage(&mut self, now: Moment, wall: Timestamp) -> Result<(), StoreError> {
        (self.rescue, self.rescue_again) = (None, None);
        while let Some(outbox) = &mut self.outbox {
            let Some(mut progress) = outbox.to_salvage()? else { break };
            let bridge = self.settings.id.as_str();
            let from = progress.directory.display().to_string();
            let name = outbox.path().file_name().map_or(Path::new(""), Path::new);
            let path = progress.directory.join(name);
            let mut opened = Salvage::open(&path, progress.page);
            let mut given_up = None;
            if let Err(error) = &opened
                && error.kind() != io::ErrorKind::NotFound
            {
                let tries = self.shut.tried(&progress.directory);
                if tries >= SALVAGE_TRIES {
                    // After a note in the file, that it was counted stands there.
                    progress.lost_ranges += u64::from(progress.page <= 1 || tries == SALVAGE_TRIES);
                    given_up = Some(error.to_string());
                    if let Err(error) = outbox.give_up_salvage(&progress.directory) {
                        tracing::warn!(bridge, from, %error, "the damaged store may be removed as one that was brought over");
                    }
                    opened = Salvage::open_without_log(&path, progress.page);
                }
            }
            match opened {
                Ok(mut file) => {
                    if let Some(error) = &given_up {
                        tracing::error!(
                            bridge,
                            from,
                            error,
                            "the log of the damaged store does not open: what was in it alone is lost"
                        );
                    }
                    if let Some(next) = file.first_unused() {
                        outbox.number_above(next)?;
                    }
                    let uncertain = self.settings.on_session_loss == OnSessionLoss::DropUncertain;
                    let released = match (uncertain, &given_up) {
                        (false, _) => Some(HashSet::new()),
                        (true, None) => file.released(),
                        // The log may have said more.
                        (true, Some(_)) => None,
                    };
                    tracing::info!(
                        bridge,
                        from,
                        page = progress.page,
                        "the records of the damaged store are brought over"
                    );
                    self.rescue = Some(Rescue { file, progress, hold_until: now + SALVAGE_HOLD, released });
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(bridge, from, "nothing is there of the damaged store");
                    outbox.end_salvage(&progress.directory)?;
                }
                Err(error) if given_up.is_some() => {
                    tracing::error!(bridge, from, %error, "the damaged store does not open: its records are lost, it stays where it is");
                    if let Err(error) = outbox.end_salvage(&progress.directory) {
                        // The store itself is well: it goes on, and this is tried again.
                        tracing::warn!(bridge, from, %error, "the end of the salvage cannot be noted");
                        self.rescue_again = Some(now + SALVAGE_RETRY);
                        return Ok(());
                    }
                    self.tell_salvaged(&progress, wall);
                }
                // No handles left, or not allowed: that says nothing of what is in it.
                Err(error) => {
                    tracing::warn!(bridge, from, %error, "the damaged store cannot be read now");
                    self.rescue_again = Some(now + SALVAGE_RETRY);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether records wait for older ones that are being brought over.
    pub(super) fn salvage_holds(&self, now: Moment) -> bool {
        self.rescue.as_ref().is_some_and(|rescue| now < rescue.hold_until)
    }

    /// Whether there is more to bring over, and a store to bring it to.
    pub(super) fn salvages(&self) -> bool {
        self.rescue.is_some() && self.fault.is_none() && self.outbox.is_some()
    }

    /// Brings the next piece over, in a transaction of its own.
    pub(super) fn salvage(&mut self, now: Moment, wall: Timestamp) {
        if self.fault.is_none()
            && self.rescue_again.is_some_and(|at| now >= at)
            && let Err(error) = self.begin_salvage(now, wall)
        {
            tracing::warn!(bridge = self.settings.id.as_str(), %error, "the salvage cannot go on yet");
            self.rescue_again = Some(now + SALVAGE_RETRY);
        }
        // What the store has too much of goes first.
        if !self.salvages() || self.must_commit || self.caps.behind {
            return;
        }
        if let Err(error) = self.fit_for_intake(now) {
            return self.failed(&error, now, wall, true);
        }
        let (Some(mut rescue), Some(mut outbox)) = (self.rescue.take(), self.outbox.take()) else { return };
        let most = outbox.intake_max().min(u64::from(SALVAGE_PAGES) * 4096);
        let records = rescue.file.step(SALVAGE_PAGES, most);
        let outcome = self.bring(&mut outbox, &mut rescue, records);
        if outcome.is_err() {
            outbox.rollback();
        }
        self.outbox = Some(outbox);
        match outcome {
            Ok(drops) => {
                for (seq, accepted) in drops {
                    self.drops.add(Cause::Uncertain, Dropped::one(seq, accepted));
                }
                self.lanes.rewind();
                self.caps.look_anew();
                self.caps.behind |= self.is_too_large();
                if rescue.file.is_done() {
                    self.end_salvage(&rescue, now, wall);
                } else {
                    self.rescue = Some(rescue);
                }
            }
            // What was read in vain is read again from the note in the file.
            Err(error) => {
                self.failed(&error, now, wall, true);
                self.rescue_again = Some(now);
            }
        }
    }

    fn bring(
        &mut self,
        outbox: &mut Outbox,
        rescue: &mut Rescue,
        records: Vec<Record>,
    ) -> Result<Vec<(Seq, Timestamp)>, StoreError> {
        outbox.begin()?;
        let (mut drops, mut brought, mut taken) = (Vec::new(), 0, 0);
        for mut record in records {
            let is_uncertain = record.qos == Qos::ExactlyOnce
                && rescue.released.as_ref().is_none_or(|released| released.contains(&record.seq));
            if is_uncertain {
                drops.push((record.seq, record.accepted));
                continue;
            }
            record.properties = Some(marked(record.properties.as_deref()));
            if outbox.bring(&record)? {
                brought += 1;
            } else if outbox.record(record.priority, record.seq)?.is_none_or(|there| there.payload != record.payload) {
                // Another has its number; a page that was met twice has the same.
                taken += 1;
            }
        }
        let mut progress = rescue.progress.clone();
        progress.recovered += brought;
        progress.page = rescue.file.position();
        // What was lost before a restart stands in the note; the file's own count began anew with it.
        progress.lost_ranges = rescue.progress.lost_ranges + rescue.file.take_lost_ranges() + taken;
        progress.dead += rescue.file.take_dead();
        outbox.note_salvage(&progress)?;
        outbox.commit()?;
        rescue.progress = progress;
        self.store.salvaged += brought;
        self.store.commits += 1;
        Ok(drops)
    }

    fn end_salvage(&mut self, rescue: &Rescue, now: Moment, wall: Timestamp) {
        self.tell_salvaged(&rescue.progress, wall);
        let directory = &rescue.progress.directory;
        let ended = self.outbox.as_ref().map_or(Ok(()), |outbox| outbox.end_salvage(directory));
        // There may be an older one that a second damage interrupted.
        if let Err(error) = ended.and_then(|()| self.begin_salvage(now, wall)) {
            tracing::warn!(bridge = self.settings.id.as_str(), %error, "the end of the salvage cannot be noted");
        }
        self.hold(now, wall);
    }

    fn tell_salvaged(&mut self, progress: &Progress, wall: Timestamp) {
        let Progress { directory, recovered, lost_ranges, dead, .. } = progress;
        let (bridge, from) = (self.settings.id.as_str(), directory.display().to_string());
        tracing::warn!(
            bridge,
            from,
            recovered,
            lost_ranges,
            dead,
            "what could be read of the damaged store was brought over"
        );
        let mut more = Map::new();
        more.insert("recovered".into(), (*recovered).into());
        more.insert("lost_ranges".into(), (*lost_ranges).into());
        more.insert("dead".into(), (*dead).into());
        more.insert("from".into(), from.into());
        self.publish.push(event(bridge, &self.settings.event_topic, "store-salvaged", wall, more));
    }
}

/// The properties with a mark that says that the message may have arrived before. MQTT 3.1.1 has no place for it.
fn marked(block: Option<&[u8]>) -> Vec<u8> {
    let found = block.and_then(|block| properties::decode(block).ok());
    let mut properties = found.map(|(found, _)| found.message).unwrap_or_default();
    properties.user.push((Arc::from("may-duplicate"), Arc::from("salvaged")));
    properties::to_block(&properties).to_vec()
}
