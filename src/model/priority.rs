//! How urgent a record is, and which rule took it up.

use super::TopicFilter;

/// In what order records go up: all of a higher priority before any of a lower one. The records of one priority are a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// First of all: alarms.
    Urgent,
    /// Before what is normal.
    High,
    /// What no rule says otherwise of.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Priority; 4] = [Priority::Urgent, Priority::High, Priority::Normal, Priority::Low];

    /// Its place among them, 0 for the most urgent.
    pub fn index(self) -> usize {
        match self {
            Priority::Urgent => 0,
            Priority::High => 1,
            Priority::Normal => 2,
            Priority::Low => 3,
        }
    }

    /// The one at this place; `None` when there is none.
    pub fn at(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }

    /// The word for it in the config and for a person.
    pub fn word(self) -> &'static str {
        match self {
            Priority::Urgent => "urgent",
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }
}

/// Names an `out` rule of a bridge for as long as its `from` stays what it is, in other places of the list and over a restart as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

impl RuleId {
    /// The rule for these topics. Of two rules with one filter the second never takes a message, so the filter is name enough; two filters may
    /// have one name by chance, once in a hundred million pairs.
    pub fn of(from: &TopicFilter) -> Self {
        // FNV-1a (draft-eastlake-fnv): it is written to disk, so it must not change with a library.
        let hash = from
            .as_str()
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_s_name_is_what_it_was_when_the_file_was_written() {
        let of = |text: &str| RuleId::of(&TopicFilter::parse(text).unwrap()).0;
        assert_eq!(
            [of("a"), of("foobar")],
            [0xe40c_292c, 0xbf9c_f968],
            "test vectors of draft-eastlake-fnv, appendix C"
        );
        assert_ne!(of("a/#"), of("a/+"));
    }

    #[test]
    fn places_and_priorities_are_each_other_s_inverse() {
        for priority in Priority::ALL {
            assert_eq!(Priority::at(priority.index()), Some(priority));
        }
        assert!(Priority::Urgent < Priority::Low);
        assert_eq!(Priority::at(4), None);
    }
}
