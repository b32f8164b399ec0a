//! How a connection came in, and what that is worth once the settings have changed.

use std::net::SocketAddr;
use std::sync::Arc;

use super::settings::Place;
use super::shared::Live;
use crate::mqtt::backlog::Backlog;
use crate::mqtt::stream::Allowance;
use crate::mqtt::tls_server::TlsFiles;
use crate::mqtt::websocket::Origins;

/// How a connection came in.
pub(super) struct Arrival {
    /// From where.
    pub(super) peer: SocketAddr,
    /// To which of our places.
    pub(super) place: Place,
    /// By which settings it has come so far.
    pub(super) under: Arc<Live>,
    /// Who it is by its certificate, where that counts; then nothing else does.
    pub(super) user: Option<String>,
    /// What it may send until it is known.
    pub(super) allowance: Option<Allowance>,
    /// How much of what is written to it waits in the kernel.
    pub(super) backlog: Option<Backlog>,
}

/// What a peer has to show before it may say CONNECT.
#[derive(PartialEq, Eq)]
struct Demands<'a> {
    tls: Option<(&'a TlsFiles, bool)>,
    origins: Option<Origins>,
}

impl<'a> Demands<'a> {
    /// `None` where that is no place of ours.
    fn at(place: Place, live: &'a Live) -> Option<Self> {
        let is_ours = live.settings.places().contains(&place);
        let tls = live.settings.tls.as_ref().filter(|_| place.tls).map(|tls| (&tls.files, tls.user_from_cert));
        is_ours.then(|| Self { tls, origins: place.websocket.then(|| origins(place, live)) })
    }
}

impl Arrival {
    /// Whether it would have come as far by these settings, and with the same to show. Else who it is must not be judged by them: a client that
    /// came while passwords were asked for, to a listener beyond loopback, is not let in by settings that ask for none and listen on loopback.
    pub(super) fn counts_under(&self, live: &Live) -> bool {
        let now = Demands::at(self.place, live);
        now.is_some() && now == Demands::at(self.place, &self.under)
    }

    /// What stays known of it once the client is inside.
    pub(super) fn entry(&self) -> Entry {
        Entry { place: self.place, is_vouched: self.user.is_some() }
    }
}

/// By which way a client is inside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    place: Place,
    is_vouched: bool,
}

impl Entry {
    /// Whether a client that is let in by these settings may stay without coming in again. One whose certificate said who it is may as long as
    /// certificates do; one that is let in as just anyone, where it came by loopback or by a listener that is still there.
    pub(super) fn counts_under(self, live: &Live, user: Option<&str>) -> bool {
        if user.is_some_and(|user| live.guests.knows(user)) {
            return !self.is_vouched || live.settings.tls.as_ref().is_some_and(|tls| tls.user_from_cert);
        }
        self.place.address.ip().is_loopback() || live.settings.places().contains(&self.place)
    }
}

/// Which pages may open a WebSocket there. A browser comes from this machine, and shows its person's certificate, whatever page asks for it: where
/// either is all that lets a client in, pages of elsewhere may not.
pub(super) fn origins(place: Place, live: &Live) -> Origins {
    let lets_anyone_in = live.guests.lets_anyone_in();
    let asks = live.settings.tls.as_ref().filter(|tls| !tls.files.client_ca.is_empty());
    origins_of(place, lets_anyone_in, asks.is_some_and(|tls| tls.user_from_cert || lets_anyone_in))
}

fn origins_of(place: Place, lets_anyone_in: bool, by_certificate: bool) -> Origins {
    let by_address = lets_anyone_in && place.address.ip().is_loopback();
    if by_address || (place.tls && by_certificate) { Origins::ThisMachine } else { Origins::Any }
}

#[cfg(test)]
mod tests {
    use super::super::probes::harness;
    use super::super::settings::{PasswordHash, Rights, Routing, Settings, Tls, TlsKey, User};
    use super::*;
    use crate::broker::door::Guests;

    fn place(address: &str, tls: bool, websocket: bool) -> Place {
        Place { address: address.parse().unwrap(), tls, websocket }
    }

    fn live(settings: Settings) -> Arc<Live> {
        Arc::new(Live { guests: Arc::new(Guests::new(&settings)), settings, tls: None, revision: 0 })
    }

    /// Listens on all networks with TLS and a user, whose certificates count or do not.
    fn guarded(user_from_cert: bool) -> Settings {
        let files = TlsFiles {
            cert: "cert.pem".into(),
            key: TlsKey::File("key.pem".into()),
            client_ca: vec!["ca.pem".into()],
            demands_certificate: true,
        };
        let listen = vec![FAR.parse().unwrap()];
        let hash = Some(PasswordHash(String::new()));
        Settings {
            users: vec![User { name: "ha".into(), hash, rights: Rights::default() }],
            tls: Some(Tls { listen, websocket_listen: Vec::new(), files, user_from_cert, max_connections: None }),
            listen: vec![PLAIN.parse().unwrap()],
            websocket_listen: vec![NEAR.parse().unwrap()],
            ..harness::settings(Routing::Trie)
        }
    }

    const FAR: &str = "0.0.0.0:8883";
    const PLAIN: &str = "0.0.0.0:1883";
    const NEAR: &str = "127.0.0.1:9001";

    #[test]
    fn a_page_of_elsewhere_does_not_come_in_by_an_address_or_a_certificate_alone() {
        let (near, far) = ("127.0.0.1:1", "192.0.2.1:1");
        for (place, lets_anyone_in, by_certificate, expected) in [
            (place(near, false, true), true, false, Origins::ThisMachine),
            (place(near, false, true), false, false, Origins::Any),
            (place(far, false, true), true, false, Origins::Any),
            (place(far, true, true), false, true, Origins::ThisMachine),
            (place(far, true, true), true, true, Origins::ThisMachine),
            (place(far, true, true), true, false, Origins::Any),
            // Of its certificate nobody hears there.
            (place(far, false, true), false, true, Origins::Any),
        ] {
            assert_eq!(origins_of(place, lets_anyone_in, by_certificate), expected, "{place:?}");
        }
    }

    #[test]
    fn what_a_peer_has_shown_counts_for_settings_that_ask_for_the_same_at_the_same_place() {
        let arrival = |place| Arrival {
            peer: "192.0.2.1:5".parse().unwrap(),
            place,
            under: live(guarded(true)),
            user: None,
            allowance: None,
            backlog: None,
        };
        let (plain, by_tls, web) = (place(PLAIN, false, false), place(FAR, true, false), place(NEAR, false, true));
        let same = Settings { max_queued: 7, ..guarded(true) };
        let open = Settings { users: Vec::new(), ..guarded(true) };
        let near = Settings { listen: vec!["127.0.0.1:1883".parse().unwrap()], tls: None, ..open.clone() };
        let mut other_files = guarded(true);
        other_files.tls.as_mut().unwrap().files.demands_certificate = false;
        let counts = |place, settings: &Settings| arrival(place).counts_under(&live(settings.clone()));
        for place in [plain, by_tls, web] {
            assert!(counts(place, &same), "{place:?}");
        }
        assert!(counts(plain, &open), "a listener that is still there is open for all now");
        assert!(!counts(plain, &near), "it came from beyond loopback");
        assert!(!counts(by_tls, &near) && !counts(by_tls, &other_files) && !counts(by_tls, &guarded(false)));
        assert!(!counts(web, &open), "its page was not asked where it is from");
    }

    #[test]
    fn just_anyone_stays_inside_where_just_anyone_could_come_in() {
        let entry = |place, is_vouched| Entry { place, is_vouched };
        let (plain, near) = (place(PLAIN, false, false), place("127.0.0.1:1883", false, false));
        let open = Settings { users: Vec::new(), anonymous: true, ..guarded(true) };
        let moved = Settings { listen: vec!["127.0.0.1:1884".parse().unwrap()], ..open.clone() };
        for user in [None, Some("ha")] {
            assert!(entry(plain, false).counts_under(&live(open.clone()), user));
            assert!(!entry(plain, false).counts_under(&live(moved.clone()), user), "from beyond loopback");
            assert!(entry(near, false).counts_under(&live(moved.clone()), user));
        }
        let moved = Settings { listen: Vec::new(), ..guarded(false) };
        assert!(entry(plain, false).counts_under(&live(moved.clone()), Some("ha")), "it has shown a password");
        assert!(!entry(place(FAR, true, false), true).counts_under(&live(moved), Some("ha")), "it has shown none");
    }
}
