//! What may be touched while the demo plays, by keys and by the page: the cable.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tokio::sync::watch;

use crate::model::overview::StageOverview;
use crate::ports::{Stage, Watch};

use super::scene::Counter;

/// The cable, and what is counted at its ends.
pub(super) struct Props {
    cable: Mutex<Cable>,
    cloud: AtomicBool,
    gateway: OnceLock<Weak<dyn Watch>>,
    pub(super) above: Counter,
    pub(super) below: OnceLock<Counter>,
}

struct Cable {
    switch: Arc<watch::Sender<bool>>,
    /// What a person asked for.
    whole: bool,
    /// Kept cut all the same, while the counter at the cloud takes its seat.
    held: bool,
}

impl Props {
    pub(super) fn new(switch: Arc<watch::Sender<bool>>, above: Counter) -> Arc<Self> {
        Arc::new(Self {
            cable: Mutex::new(Cable { switch, whole: true, held: false }),
            cloud: AtomicBool::new(true),
            gateway: OnceLock::new(),
            above,
            below: OnceLock::new(),
        })
    }

    /// The gateway that is to try at once when the cable is mended. The gateway knows the stage; so it is not held from here.
    pub(super) fn join(&self, gateway: &Arc<dyn Watch>) {
        // There is one, and it is joined before anybody may touch the cable.
        let _ = self.gateway.set(Arc::downgrade(gateway));
    }

    /// Keeps the cable cut, or lets it be again what a person asked for.
    pub(super) fn hold(&self, held: bool) {
        self.change(|cable| cable.held = held);
    }

    pub(super) fn set_cloud(&self, up: bool) {
        self.cloud.store(up, Ordering::Relaxed);
    }

    fn change(&self, change: impl FnOnce(&mut Cable)) {
        let mended = {
            let mut cable = self.cable.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut cable);
            let whole = cable.whole && !cable.held;
            cable.switch.send_replace(whole);
            whole
        };
        // As when a network comes up: nobody waits for the back-off.
        if let Some(gateway) = self.gateway.get().and_then(Weak::upgrade)
            && mended
        {
            gateway.reconnect(super::scene::BRIDGE);
        }
    }
}

impl Stage for Props {
    fn view(&self) -> StageOverview {
        let (above, below) = (self.above.totals(), self.below.get().map(Counter::totals).unwrap_or_default());
        StageOverview {
            link: self.cable.lock().unwrap_or_else(PoisonError::into_inner).whole,
            cloud: self.cloud.load(Ordering::Relaxed),
            told: below.arrived,
            arrived: above.arrived,
            lost: above.lost,
            doubled: above.doubled,
            repeated: above.repeated,
        }
    }

    fn set_link(&self, whole: bool) {
        self.change(|cable| cable.whole = whole);
    }
}
