//! How many connections there are, and who may have one of the last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::settings::{Place, Settings};
use crate::limits::LOCAL_SEATS;

/// How many connections there are. What the most is, is asked each time: a reload that lowers it closes none, and the next ones are refused
/// until enough have gone.
#[derive(Debug, Default)]
pub(super) struct Room {
    all: AtomicUsize,
    /// Those that are not plain ones from this machine.
    from_elsewhere: AtomicUsize,
    by: [AtomicUsize; 3],
}

/// By what a connection comes: each has a limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Tcp = 0,
    WebSocket = 1,
    Tls = 2,
}

impl Way {
    fn to(place: Place) -> Self {
        match (place.tls, place.websocket) {
            (true, _) => Self::Tls,
            (false, true) => Self::WebSocket,
            (false, false) => Self::Tcp,
        }
    }

    fn most(self, settings: &Settings) -> Option<usize> {
        match self {
            Self::Tcp => settings.caps.listen_max_connections,
            Self::WebSocket => settings.caps.websocket_max_connections,
            Self::Tls => settings.tls.as_ref().and_then(|tls| tls.max_connections),
        }
    }
}

impl Room {
    /// A place for one more from there, or the key that says how many there may be.
    pub(super) fn seat(
        self: &Arc<Self>,
        settings: &Settings,
        place: Place,
        peer: SocketAddr,
    ) -> Result<Seat, &'static str> {
        let way = Way::to(place);
        let most = settings.max_connections;
        let is_local = way == Way::Tcp && peer.ip().to_canonical().is_loopback();
        // Dropped half filled, it gives back what it has.
        let mut seat = Seat { room: self.clone(), taken: [None; 3] };
        seat.take(0, Count::All, most, "max_connections")?;
        if !is_local {
            seat.take(1, Count::FromElsewhere, most - LOCAL_SEATS.min(most / 4), "max_connections")?;
        }
        if let Some(most) = way.most(settings) {
            let key = ["listen_max_connections", "websocket_max_connections", "max_connections of TLS"][way as usize];
            seat.take(2, Count::By(way), most, key)?;
        } else {
            // Counted all the same: a reload may set a limit.
            seat.take(2, Count::By(way), usize::MAX, "")?;
        }
        Ok(seat)
    }

    fn count(&self, count: Count) -> &AtomicUsize {
        match count {
            Count::All => &self.all,
            Count::FromElsewhere => &self.from_elsewhere,
            Count::By(way) => &self.by[way as usize],
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Count {
    All,
    FromElsewhere,
    By(Way),
}

/// A connection's place; free again once it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    room: Arc<Room>,
    taken: [Option<Count>; 3],
}

impl Seat {
    fn take(&mut self, nth: usize, count: Count, most: usize, key: &'static str) -> Result<(), &'static str> {
        let one_more = |taken| (taken < most).then_some(taken + 1);
        let outcome = self.room.count(count).fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        outcome.map_err(|_| key)?;
        self.taken[nth] = Some(count);
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        for count in self.taken.into_iter().flatten() {
            self.room.count(count).fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probes::harness;
    use super::super::settings::{Caps, Routing};
    use super::*;

    const TCP: Place = Place {
        address: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 1),
        tls: false,
        websocket: false,
    };

    fn peer(text: &str) -> SocketAddr {
        format!("{text}:5").parse().unwrap()
    }

    fn fill(room: &Arc<Room>, settings: &Settings, place: Place, peer: SocketAddr) -> (Vec<Seat>, &'static str) {
        let mut seats = Vec::new();
        loop {
            match room.seat(settings, place, peer) {
                Ok(seat) => seats.push(seat),
                Err(key) => return (seats, key),
            }
        }
    }

    #[test]
    fn whatever_comes_from_elsewhere_or_by_tls_the_plain_clients_of_this_machine_get_in() {
        let settings = Settings { max_connections: 100, ..harness::settings(Routing::Trie) };
        for (place, from) in [
            (TCP, "192.0.2.1"),
            (Place { tls: true, ..TCP }, "127.0.0.1"),
            (Place { websocket: true, ..TCP }, "127.0.0.1"),
        ] {
            let room = Arc::default();
            let (elsewhere, key) = fill(&room, &settings, place, peer(from));
            assert_eq!((elsewhere.len(), key), (84, "max_connections"), "{place:?}");
            let (here, _) = fill(&room, &settings, TCP, peer("127.0.0.1"));
            assert_eq!(here.len(), 16);
            drop(elsewhere);
            assert_eq!(fill(&room, &settings, TCP, peer("[::ffff:127.0.0.1]")).0.len(), 84, "the others' as well");
            drop(here);
            assert_eq!(room.all.load(Ordering::Relaxed), 0);
        }
        let few = Settings { max_connections: 3, ..settings };
        assert_eq!(fill(&Arc::default(), &few, TCP, peer("192.0.2.1")).0.len(), 3, "a quarter at most is kept");
    }

    #[test]
    fn each_way_in_has_a_limit_of_its_own() {
        let caps = Caps { listen_max_connections: Some(2), websocket_max_connections: Some(3), ..Caps::default() };
        let settings = Settings { max_connections: 100, caps, ..harness::settings(Routing::Trie) };
        let room = Arc::default();
        let (tcp, key) = fill(&room, &settings, TCP, peer("127.0.0.1"));
        assert_eq!((tcp.len(), key), (2, "listen_max_connections"));
        let (web, key) = fill(&room, &settings, Place { websocket: true, ..TCP }, peer("192.0.2.1"));
        assert_eq!((web.len(), key), (3, "websocket_max_connections"));
        drop(tcp);
        assert_eq!(fill(&room, &settings, TCP, peer("192.0.2.1")).0.len(), 2, "those that were refused left nothing");
        assert_eq!(room.all.load(Ordering::Relaxed), 3);
    }
}
