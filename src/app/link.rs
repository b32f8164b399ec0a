//! Whether there is a link to a cloud: while any bridge is online.

use tokio::sync::watch;

use crate::bridge::{LinkState, Status};

/// Tells every change, for as long as it is let.
pub(super) async fn watch(mut links: Vec<watch::Receiver<Status>>, up: watch::Sender<bool>) {
    loop {
        let online = links.iter_mut().any(|link| link.borrow_and_update().state == LinkState::Online);
        up.send_if_modified(|known| std::mem::replace(known, online) != online);
        let mut changes = tokio::task::JoinSet::new();
        for mut link in links.clone() {
            changes.spawn(async move { link.changed().await.is_ok() });
        }
        // A bridge that has ended says nothing more; it is replaced by the next call.
        match changes.join_next().await {
            Some(Ok(true)) => {}
            _ => std::future::pending().await,
        }
    }
}
