//! What a person asks of the store of a bridge (`tidegate outbox purge`, `retry`), a piece at a time.
//!
//! A piece is bounded ([`crate::limits::CHORE_ROWS`]) and its report says where to go on, so that whoever owns the store is never held up by
//! a large one, and nothing has to be remembered between two pieces.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Seq, TopicFilter, TopicName};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Errand {
    /// Records that wait are removed, never one that is in flight. Counted and told as drops.
    Purge,
    /// Dead letters are removed.
    PurgeDead,
    /// Dead letters wait again, under new numbers.
    Retry,
}

/// Which records are meant: those that all parts of it fit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Choice {
    /// These numbers; any where there is none.
    pub seqs: Vec<u64>,
    /// Topics at the cloud that this filter matches.
    pub topic: Option<String>,
    /// Accepted longer ago than this, milliseconds. A record whose age is not known does not fit.
    pub older_ms: Option<u64>,
}

/// One piece of an errand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chore {
    /// What is to be done.
    pub errand: Errand,
    /// With which records.
    pub choice: Choice,
    /// Only with those behind this number.
    pub after: u64,
    /// Only count them.
    #[serde(default)]
    pub dry_run: bool,
}

/// What came of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChoreReport {
    /// Records it was done with.
    pub done: u64,
    /// Where the next piece begins; `None` when nothing is left.
    pub next: Option<u64>,
}

/// A choice that was looked through.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    seqs: Vec<u64>,
    topic: Option<TopicFilter>,
    older: Option<Duration>,
}

impl Selection {
    /// Looks a choice through.
    ///
    /// # Errors
    /// In words, when its topic is no topic filter.
    pub fn of(choice: &Choice) -> Result<Self, String> {
        let parse = |text: &String| {
            TopicFilter::parse(text).map_err(|error| format!("`{}` is no topic filter: {error}", text.escape_debug()))
        };
        let mut seqs = choice.seqs.clone();
        seqs.sort_unstable();
        Ok(Self {
            seqs,
            topic: choice.topic.as_ref().map(parse).transpose()?,
            older: choice.older_ms.map(Duration::from_millis),
        })
    }

    /// Whether a record is meant. `age`: since it was accepted, as far as that is known.
    pub fn fits(&self, seq: Seq, topic: &str, age: Option<Duration>) -> bool {
        (self.seqs.is_empty() || self.seqs.binary_search(&seq.0).is_ok())
            && self.topic.as_ref().is_none_or(|filter| TopicName::parse(topic).is_ok_and(|name| filter.matches(&name)))
            && self.older.is_none_or(|older| age.is_some_and(|age| age > older))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_must_fit_all_of_a_choice() {
        let hour = Duration::from_secs(3_600);
        let choice = Choice { seqs: vec![9, 3], topic: Some("plants/#".into()), older_ms: Some(3_600_000) };
        let selection = Selection::of(&choice).unwrap();
        assert!(selection.fits(Seq(3), "plants/air", Some(hour * 2)));
        assert!(!selection.fits(Seq(4), "plants/air", Some(hour * 2)), "another number");
        assert!(!selection.fits(Seq(3), "pumps/air", Some(hour * 2)), "another topic");
        assert!(!selection.fits(Seq(3), "plants/air", Some(hour)), "not older than an hour");
        assert!(!selection.fits(Seq(3), "plants/air", None), "of unknown age");
        assert!(Selection::of(&Choice::default()).unwrap().fits(Seq(1), "a", None), "nothing said is all");
    }

    #[test]
    fn a_wrong_filter_is_told() {
        let choice = Choice { topic: Some("a/#/b".into()), ..Choice::default() };
        assert!(Selection::of(&choice).unwrap_err().starts_with("`a/#/b` is no topic filter: "));
    }

    #[test]
    fn a_piece_is_said_in_json_as_documented() {
        let text = r#"{"errand":"purge-dead","choice":{"topic":"a/#"},"after":0}"#;
        let chore: Chore = serde_json::from_str(text).unwrap();
        assert_eq!(
            chore,
            Chore {
                errand: Errand::PurgeDead,
                choice: Choice { topic: Some("a/#".into()), ..Choice::default() },
                after: 0,
                dry_run: false
            }
        );
        assert!(serde_json::from_str::<Chore>(r#"{"errand":"purge","choice":{"topik":"a"},"after":0}"#).is_err());
    }
}
