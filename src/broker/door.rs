//! Who may come in: user names, argon2 hashes, and what is done about guessing.
//!
//! One password is verified at a time, off the runtime's threads: argon2 takes 19 MiB and tens of milliseconds by design. A password verified
//! once is recognised by a keyed hash as long as the process lives. An unknown user costs the same time as a wrong password. Failures slow
//! down the answers to failures from the same address, and nothing else: a gateway's clients often share an address.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc;
use tokio::sync::Semaphore;

use super::access::Access;
use super::settings::{PasswordHash, Rights, Settings, User};
use crate::limits;
use crate::logic::failures::Failures;
use crate::logic::knocks::Knocks;
use crate::logic::notices::Notices;
use crate::model::Moment;

/// Who is let in, by what the settings say.
#[derive(Debug, Default)]
pub(super) struct Guests {
    users: HashMap<String, User>,
    anonymous: bool,
    /// What those may do who are none of the users; `None`: everything.
    anyone: Option<Rights>,
}

/// The outcome of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// Come in.
    Welcome(Arc<Access>),
    /// A wrong password, or no such user.
    Wrong,
    /// No user name, and nobody is let in without.
    Nameless,
    /// Too many passwords are to be verified before this one.
    Busy,
}

impl Guests {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            users: settings.users.iter().map(|user| (user.name.clone(), user.clone())).collect(),
            anonymous: settings.anonymous || settings.users.is_empty(),
            anyone: settings.anyone.clone(),
        }
    }

    /// The permissions of a client that was let in earlier; `None` when it would not be let in any more.
    pub(super) fn access(&self, user: Option<&str>, client: &str) -> Option<Arc<Access>> {
        match user.and_then(|name| self.users.get(name)) {
            Some(user) => Some(Access::of(&user.rights, &user.name, client)),
            None if user.is_none() || self.users.is_empty() => self.anonymous.then(|| self.anyones(client)),
            None => None,
        }
    }

    /// The permissions of a client that is none of the users. Nobody vouches for the name that it may give itself: it fills nothing in.
    fn anyones(&self, client: &str) -> Arc<Access> {
        self.anyone.as_ref().map_or_else(|| Arc::new(Access::All), |rights| Access::of(rights, "", client))
    }

    /// The permissions of a client whose certificate says who it is.
    pub(super) fn vouched(&self, user: &str, client: &str) -> Login {
        self.access(Some(user), client).map_or(Login::Wrong, Login::Welcome)
    }

    /// Whether a user of this name is declared.
    pub(super) fn knows(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// Whether a client without a user name is let in.
    pub(super) fn lets_anyone_in(&self) -> bool {
        self.anonymous
    }

    /// Whether a name that a client gives itself says whose its session is. Not where nobody can be asked for a password and not everyone may do
    /// everything: what waits for a user of before must not go to whoever gives the name.
    pub(super) fn names_count(&self) -> bool {
        !self.users.is_empty() || self.anyone.is_none()
    }

    /// Some hash, for whoever has none.
    fn any_hash(&self) -> Option<&PasswordHash> {
        self.users.values().find_map(|user| user.hash.as_ref())
    }

    /// Whether the user's password is another one by now.
    pub(super) fn is_same_user(&self, other: &Self, user: Option<&str>) -> bool {
        user.is_none_or(|name| {
            self.users.get(name).map(|user| &user.hash) == other.users.get(name).map(|user| &user.hash)
        })
    }
}

/// Verifies passwords.
#[derive(Debug)]
pub(super) struct Door {
    /// One at a time.
    verifying: Arc<Semaphore>,
    /// How long one waits for its turn.
    pub(super) patience: Duration,
    keys: (RandomState, RandomState),
    /// Keyed hashes of what was verified.
    verified: Mutex<HashMap<String, (u64, u64)>>,
    failures: Mutex<Failures>,
    notices: Mutex<Notices>,
    knocks: Mutex<Knocks>,
}

impl Door {
    pub(super) fn new() -> Self {
        Self {
            verifying: Arc::new(Semaphore::new(1)),
            patience: limits::LOGIN_WAIT,
            keys: (RandomState::new(), RandomState::new()),
            verified: Mutex::default(),
            failures: Mutex::default(),
            notices: Mutex::default(),
            knocks: Mutex::default(),
        }
    }

    /// Judges a login.
    pub(super) async fn login(
        &self,
        guests: &Guests,
        user: Option<&str>,
        password: Option<Vec<u8>>,
        client: &str,
    ) -> Login {
        let Some(name) = user.filter(|_| !guests.users.is_empty()) else {
            return if guests.anonymous { Login::Welcome(guests.anyones(client)) } else { Login::Nameless };
        };
        // A user without a password does not come in by one.
        let known = guests.users.get(name).filter(|user| user.hash.is_some());
        // Verified against some hash in any case: the time must not tell whether the user exists.
        let hash = known.and_then(|user| user.hash.as_ref()).or_else(|| guests.any_hash());
        let Some(hash) = hash.map(|hash| hash.0.clone()) else {
            return Login::Wrong;
        };
        let password = password.unwrap_or_default();
        let mark = self.mark(name, &hash, &password);
        let is_recognised = known.is_some() && self.lock_verified().get(name) == Some(&mark);
        if !is_recognised {
            match self.verify(hash, password).await {
                None => return Login::Busy,
                Some(false) => return Login::Wrong,
                Some(true) => {}
            }
        }
        let Some(user) = known else { return Login::Wrong };
        self.lock_verified().insert(name.to_owned(), mark);
        Login::Welcome(Access::of(&user.rights, &user.name, client))
    }

    /// `None` when its turn does not come in time.
    async fn verify(&self, hash: String, password: Vec<u8>) -> Option<bool> {
        let turn = self.verifying.clone().acquire_owned();
        let permit = tokio::time::timeout(self.patience, turn).await.ok()?.ok()?;
        let verify = move || {
            let _permit = permit;
            phc::PasswordHash::new(&hash).is_ok_and(|hash| Argon2::default().verify_password(&password, &hash).is_ok())
        };
        Some(tokio::task::spawn_blocking(verify).await.unwrap_or(false))
    }

    /// A keyed hash over 128 bits, whose keys are made anew with every process.
    fn mark(&self, name: &str, hash: &str, password: &[u8]) -> (u64, u64) {
        let all = (name, hash, password);
        (self.keys.0.hash_one(all), self.keys.1.hash_one(all))
    }

    fn lock_verified(&self) -> std::sync::MutexGuard<'_, HashMap<String, (u64, u64)>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps everybody from having a password verified.
    #[cfg(test)]
    pub(super) async fn hold(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.verifying.clone().acquire_owned().await.unwrap()
    }

    /// Notes a failed login. Returns how long its answer waits, and whether it is the first one in a while: one to tell.
    pub(super) fn failed(&self, address: IpAddr, now: Moment) -> (Duration, bool) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).failed(address, now)
    }

    /// Whether it is to be told, of whoever is behind the address, that a connection was refused for a reason of this kind.
    pub(super) fn is_news(&self, address: IpAddr, kind: &'static str, now: Moment) -> bool {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).is_due(address, kind, now)
    }

    /// Whether one more connection may come from there, where so many may in a minute.
    pub(super) fn may_knock(&self, address: IpAddr, per_minute: u32, now: Moment) -> bool {
        self.knocks.lock().unwrap_or_else(PoisonError::into_inner).admit(address, per_minute, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::PasswordHasher;

    fn guests(password: &str) -> Guests {
        let params = argon2::Params::new(64, 1, 1, None).unwrap();
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let hash = argon2.hash_password_with_salt(password.as_bytes(), b"salt-salt").unwrap().to_string();
        let user = User { name: "ha".into(), hash: Some(PasswordHash(hash)), rights: Rights::default() };
        Guests { users: HashMap::from([("ha".into(), user)]), ..Guests::default() }
    }

    #[tokio::test]
    async fn the_right_password_comes_in_and_everything_else_stays_out() {
        let (door, guests) = (Door::new(), guests("secret"));
        let login = async |user, password: &[u8]| door.login(&guests, user, Some(password.to_vec()), "c").await;
        assert_eq!(login(Some("ha"), b"wrong").await, Login::Wrong);
        assert!(matches!(login(Some("ha"), b"secret").await, Login::Welcome(_)));
        assert!(matches!(login(Some("ha"), b"secret").await, Login::Welcome(_)), "recognised");
        assert_eq!(login(Some("ha"), b"secret2").await, Login::Wrong);
        assert_eq!(login(Some("ho"), b"secret").await, Login::Wrong, "another user's password");
        assert_eq!(login(None, b"").await, Login::Nameless);
    }

    #[tokio::test]
    async fn a_user_without_a_password_comes_in_by_certificate_alone() {
        let mut guests = guests("secret");
        let pump = User { name: "pump".into(), hash: None, rights: Rights::default() };
        guests.users.insert("pump".into(), pump);
        let door = Door::new();
        for password in [None, Some(Vec::new()), Some(b"secret".to_vec())] {
            assert_eq!(door.login(&guests, Some("pump"), password, "c").await, Login::Wrong);
        }
        assert!(matches!(guests.vouched("pump", "c"), Login::Welcome(_)));
        assert_eq!(guests.vouched("stranger", "c"), Login::Wrong);
        guests.users.remove("ha");
        assert_eq!(door.login(&guests, Some("pump"), None, "c").await, Login::Wrong, "no hash at all");
    }

    #[tokio::test]
    async fn a_login_whose_turn_does_not_come_in_time_is_told_so() {
        let (mut door, guests) = (Door::new(), guests("secret"));
        door.patience = Duration::from_millis(10);
        let held = door.hold().await;
        let login = async |user| door.login(&guests, Some(user), Some(b"secret".to_vec()), "c").await;
        assert_eq!(login("ha").await, Login::Busy);
        assert_eq!(login("ho").await, Login::Busy, "nor does it tell who there is");
        drop(held);
        door.patience = limits::LOGIN_WAIT;
        let login = async |user| door.login(&guests, Some(user), Some(b"secret".to_vec()), "c").await;
        assert!(matches!(login("ha").await, Login::Welcome(_)));
        let _held = door.hold().await;
        assert!(matches!(login("ha").await, Login::Welcome(_)), "one that is recognised waits for nobody");
    }

    #[tokio::test]
    async fn a_changed_hash_is_not_served_from_memory() {
        let door = Door::new();
        let login = async |guests: &Guests| door.login(guests, Some("ha"), Some(b"secret".to_vec()), "c").await;
        assert!(matches!(login(&guests("secret")).await, Login::Welcome(_)));
        assert_eq!(login(&guests("other")).await, Login::Wrong);
    }
}
