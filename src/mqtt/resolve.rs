//! Looks up names, on threads of its own: the C library's resolver blocks, and with a dead name server for as long as it likes.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::limits::RESOLVER_THREADS;

/// What the C library said of a name.
type Answer = Result<Vec<IpAddr>, String>;

/// The resolver of one bridge: at most [`RESOLVER_THREADS`] of its threads hang in the C library at a time. While all do, nothing new is
/// asked, and an answer to any of them counts for all who wait for that name. So the lookups of an outage do not pile up, and the first answer
/// after it is the one that is waited for.
#[derive(Debug, Clone, Default)]
pub struct Resolver(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Threads that are asking.
    asking: usize,
    /// Answers so far; the last is kept.
    answers: u64,
    last: Option<(String, Answer)>,
}

impl Resolver {
    /// Addresses of `host`, one at least. An address is its own.
    ///
    /// There is no time limit in here; whoever stops waiting leaves its thread to answer the next.
    ///
    /// # Errors
    /// What the resolver said.
    pub async fn lookup(&self, host: &str) -> Answer {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let seen = self.0.state().answers;
        let mut asked = false;
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // Before the state is looked at: an answer that comes between is then not missed.
            changed.as_mut().enable();
            if let Some(answer) = self.0.answer(host, seen) {
                return answer;
            }
            if !asked {
                asked = self.ask(host)?;
            }
            changed.await;
        }
    }

    /// Starts a thread that asks; false when as many as may are asking.
    fn ask(&self, host: &str) -> Result<bool, String> {
        let mut state = self.0.state();
        if state.asking >= RESOLVER_THREADS {
            return Ok(false);
        }
        let (inner, host) = (Arc::clone(&self.0), host.to_owned());
        let thread = std::thread::Builder::new().name("resolver".into()).spawn(move || {
            let answer = ask_system(&host);
            inner.tell(host, answer);
        });
        thread.map_err(|error| format!("no thread to ask on: {error}"))?;
        state.asking += 1;
        Ok(true)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what one of the threads was told.
    fn tell(&self, host: String, answer: Answer) {
        {
            let mut state = self.state();
            state.asking = state.asking.saturating_sub(1);
            state.answers += 1;
            state.last = Some((host, answer));
        }
        self.changed.notify_waiters();
    }

    /// The last answer, if it is of this name and came after `seen` others.
    fn answer(&self, host: &str, seen: u64) -> Option<Answer> {
        let state = self.state();
        let (name, answer) = state.last.as_ref()?;
        (state.answers > seen && name == host).then(|| answer.clone())
    }
}

fn ask_system(host: &str) -> Answer {
    match (host, 0).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found.map(|address| address.ip()) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            if addresses.is_empty() { Err("it has no address".into()) } else { Ok(addresses) }
        }
        // The standard library puts its own words before the resolver's.
        Err(error) => {
            let text = error.to_string();
            Err(text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_lowercase())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// A resolver all of whose threads hang, and somebody who waits for `host`.
    async fn waits_for(host: &'static str) -> (Resolver, tokio::task::JoinHandle<Answer>) {
        let resolver = Resolver::default();
        resolver.0.state().asking = RESOLVER_THREADS;
        let waiting = tokio::spawn({
            let resolver = resolver.clone();
            async move { resolver.lookup(host).await }
        });
        tokio::task::yield_now().await;
        (resolver, waiting)
    }

    #[test]
    fn an_address_is_asked_of_nobody() {
        let resolver = Resolver::default();
        resolver.0.state().asking = RESOLVER_THREADS;
        assert_eq!(block_on(resolver.lookup("::1")), Ok(vec!["::1".parse().unwrap()]));
    }

    #[test]
    fn a_name_that_does_not_exist_is_told_in_the_resolver_s_words() {
        let told = block_on(Resolver::default().lookup("nobody.invalid")).unwrap_err();
        assert!(!told.contains("failed to lookup") && !told.is_empty(), "{told}");
    }

    #[test]
    fn while_every_thread_hangs_nothing_is_asked_and_the_first_answer_is_taken() {
        block_on(async {
            let (resolver, waiting) = waits_for("cloud.example").await;
            assert_eq!(resolver.0.state().asking, RESOLVER_THREADS, "a further thread was started");
            let found: Answer = Ok(vec!["192.0.2.1".parse().unwrap()]);
            resolver.0.tell("cloud.example".into(), found.clone());
            assert_eq!(waiting.await.unwrap(), found);
        });
    }

    #[test]
    fn an_answer_to_another_name_makes_room_to_ask() {
        block_on(async {
            let (resolver, waiting) = waits_for("localhost").await;
            resolver.0.tell("other.example".into(), Err("no".into()));
            assert!(waiting.await.unwrap().unwrap().iter().all(IpAddr::is_loopback));
        });
    }

    #[test]
    fn an_old_answer_is_not_taken_for_a_new_question() {
        block_on(async {
            let resolver = Resolver::default();
            resolver.0.tell("localhost".into(), Err("an hour ago".into()));
            assert!(resolver.lookup("localhost").await.is_ok());
        });
    }
}
