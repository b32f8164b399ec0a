//! Joins the counters to the file that keeps their totals.

use tokio::sync::oneshot;

use crate::model::{LineTotals, SensorId};
use crate::ports::{Recall, Remembered, Totals};
use crate::store::StateDesk;

/// The totals in `state.db`.
pub(super) struct KeptTotals(pub(super) StateDesk);

impl Totals for KeptTotals {
    fn recall(&self, sensor: &SensorId) -> Recall {
        let (tell, told) = oneshot::channel();
        let sensor = sensor.clone();
        self.0.write(move |state| state.totals(&sensor), move |outcome| drop(tell.send(outcome)));
        Box::pin(async move {
            match told.await {
                Ok(outcome) => outcome.map_err(|reason| reason.0),
                Err(_) => Err("the state is closed".into()),
            }
        })
    }

    fn remember(&self, sensor: &SensorId, totals: LineTotals) -> Remembered {
        let (tell, told) = oneshot::channel();
        let sensor = sensor.clone();
        self.0.write(move |state| state.keep_totals(&sensor, totals), move |outcome| drop(tell.send(outcome)));
        Box::pin(async move { matches!(told.await, Ok(Ok(()))) })
    }
}
