//! Whether there is a link to a cloud: while any bridge is online.

use tokio::sync::watch;

use crate::bridge::{LinkState, Status};

/// Tells every change, for as long as it is let.
pub(super) async fn watch(mut links: Vec<watch::Receiver<Status>>, up: watch::Sender<bool>) {
    loop {
        let online = any(&mut links, |status| status.state == LinkState::Online);
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

/// Whether any says so. Every one is looked at, also behind one that does: a change that was not seen would ring again at once, for ever.
fn any<T>(links: &mut [watch::Receiver<T>], says: impl Fn(&T) -> bool) -> bool {
    let mut any = false;
    for link in links {
        any |= says(&link.borrow_and_update());
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_behind_a_link_that_is_online_is_seen() {
        let (_first, first) = watch::channel(true);
        let (second, receiver) = watch::channel(false);
        let mut links = [first, receiver];
        for online in [true, false] {
            second.send_replace(online);
            assert!(any(&mut links, |online| *online));
            assert!(!links[1].has_changed().unwrap());
        }
    }
}
