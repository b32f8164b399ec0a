//! What was accepted, and the verdict on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::wire::Publish;

/// A message as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) topic: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) payload: Vec<u8>,
    /// The number its payload carries; messages without one are kept but not judged.
    pub(crate) number: Option<u64>,
}

/// Numbered messages that a test sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) topic: String,
    pub(crate) qos: u8,
    pub(crate) numbers: RangeInclusive<u64>,
}

impl Sent {
    pub(crate) fn new(topic: &str, qos: u8, numbers: RangeInclusive<u64>) -> Self {
        Self { topic: topic.to_owned(), qos, numbers }
    }
}

/// How a campaign went. All zero but for `repeated` is what is promised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Sent and never accepted.
    pub(crate) lost: u64,
    /// QoS 2 accepted more than once.
    pub(crate) doubled: u64,
    /// QoS 1 accepted more than once: allowed.
    pub(crate) repeated: u64,
    /// First deliveries, or deliveries within one connection, that did not rise, by topic and QoS.
    pub(crate) disordered: u64,
    /// Packet ids used for another message while the first was held.
    pub(crate) ids_reused: u64,
    /// Accepted and never sent.
    pub(crate) strange: u64,
    /// Other breaches of the specification.
    pub(crate) violations: Vec<String>,
}

impl Verdict {
    /// A faultless campaign that had this many QoS 1 repetitions.
    pub(crate) fn faultless(repeated: u64) -> Self {
        Self { repeated, ..Self::default() }
    }
}

/// Where a number is looked up: by topic and QoS.
type Stream = (String, u8);

/// All that was accepted.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accepted: Vec<Accepted>,
    /// How often each number came.
    counts: BTreeMap<Stream, BTreeMap<u64, u64>>,
    /// Highest number of each stream: over all, and within the open connection.
    highest: BTreeMap<Stream, u64>,
    highest_here: BTreeMap<Stream, u64>,
    /// Numbers accepted since the session began, for which a repetition must carry DUP.
    this_session: BTreeSet<(Stream, u64)>,
    disordered: u64,
    ids_reused: u64,
    violations: Vec<String>,
    connections: u64,
}

impl Ledger {
    pub(crate) fn accept(&mut self, publish: &Publish) {
        let number = number(&publish.payload);
        if let Some(number) = number {
            self.number(publish, number);
        }
        self.accepted.push(Accepted {
            topic: publish.topic.clone(),
            qos: publish.qos,
            retain: publish.retain,
            payload: publish.payload.clone(),
            number,
        });
    }

    fn number(&mut self, publish: &Publish, number: u64) {
        let stream = (publish.topic.clone(), publish.qos);
        let count = self.counts.entry(stream.clone()).or_default().entry(number).or_default();
        *count += 1;
        let first = *count == 1;
        let rises = |highest: &mut BTreeMap<Stream, u64>| match highest.insert(stream.clone(), number) {
            Some(before) if before >= number => {
                highest.insert(stream.clone(), before);
                false
            }
            _ => true,
        };
        let in_order_here = rises(&mut self.highest_here);
        let in_order = rises(&mut self.highest);
        self.disordered += u64::from(!in_order_here || (first && !in_order));
        if !self.this_session.insert((stream.clone(), number)) && !publish.dup && publish.qos == 1 {
            self.violation(format!("{number} on `{}` came again without DUP [MQTT-3.3.1-1]", stream.0));
        }
    }

    pub(crate) fn new_connection(&mut self) {
        self.connections += 1;
        self.highest_here.clear();
    }

    pub(crate) fn new_session(&mut self) {
        self.this_session.clear();
    }

    pub(crate) fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    pub(crate) fn id_reused(&mut self, id: u16) {
        self.ids_reused += 1;
        self.violations.push(format!("packet id {id} used for another message while it was held [MQTT-2.2.1-4]"));
    }

    /// Connections that got a CONNACK.
    pub(crate) fn connections(&self) -> u64 {
        self.connections
    }

    /// Everything accepted, in order.
    pub(crate) fn accepted(&self) -> &[Accepted] {
        &self.accepted
    }

    /// Different numbers accepted on this topic at this QoS.
    pub(crate) fn distinct(&self, topic: &str, qos: u8) -> u64 {
        self.counts.get(&(topic.to_owned(), qos)).map_or(0, |numbers| numbers.len() as u64)
    }

    /// How many of these numbers have not been accepted on this topic at this QoS.
    pub(crate) fn missing(&self, topic: &str, qos: u8, numbers: &BTreeSet<u64>) -> u64 {
        let counts = self.counts.get(&(topic.to_owned(), qos));
        numbers.iter().filter(|number| !counts.is_some_and(|counts| counts.contains_key(number))).count() as u64
    }

    /// Compares with what was sent.
    pub(crate) fn verdict(&self, sent: &[Sent]) -> Verdict {
        let mut verdict = Verdict {
            disordered: self.disordered,
            ids_reused: self.ids_reused,
            violations: self.violations.clone(),
            ..Verdict::default()
        };
        for sent in sent {
            let counts = self.counts.get(&(sent.topic.clone(), sent.qos));
            for number in sent.numbers.clone() {
                match counts.and_then(|counts| counts.get(&number)).copied().unwrap_or(0) {
                    0 => verdict.lost += 1,
                    count if sent.qos == 2 => verdict.doubled += count - 1,
                    count => verdict.repeated += count - 1,
                }
            }
        }
        let was_sent = |stream: &Stream, number| {
            sent.iter().any(|sent| sent.topic == stream.0 && sent.qos == stream.1 && sent.numbers.contains(&number))
        };
        let numbers = self.counts.iter().flat_map(|(stream, counts)| counts.keys().map(move |n| (stream, *n)));
        verdict.strange = numbers.filter(|(stream, number)| !was_sent(stream, *number)).count() as u64;
        verdict
    }
}

/// The number in a payload: the payload itself, or the member `n` of a JSON object.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    if let Ok(number) = text.trim().parse() {
        return Some(number);
    }
    let (_, rest) = text.split_once("\"n\":")?;
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
