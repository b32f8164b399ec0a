//! What an actuator is asked, and what it answers.

use std::fmt;
use std::sync::Arc;

use super::{ActuatorId, BridgeId, Moment, Payload, Qos, Timestamp};

/// Longest id of a command, bytes: a UUID three times over.
pub const COMMAND_ID_BYTES_MAX: usize = 128;

/// What its sender calls a command, so that a second arrival is known for what it is. Any text without control characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(Arc<str>);

impl CommandId {
    /// Checks the text and makes it an id; `None` when it is empty, longer than [`COMMAND_ID_BYTES_MAX`] or holds a control character.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= COMMAND_ID_BYTES_MAX && !text.chars().any(char::is_control);
        fits.then(|| Self(text.into()))
    }

    /// The id as it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Where a command came into this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandOrigin {
    /// A client of the local broker.
    Local,
    /// The cloud, by an `in` rule of this bridge.
    Cloud(BridgeId),
    /// A person at this machine: the page, or `tidegate set`. Counts as local.
    Page,
}

/// What an output is set to, and what it is read back as.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Setting {
    /// Not active, without power, at rest.
    Off,
    /// Active.
    On,
    /// A word or number of the actuator's own.
    Word(Arc<str>),
}

impl Setting {
    /// As it is written in a payload.
    pub fn word(&self) -> &str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Word(word) => word,
        }
    }

    /// The setting of a word; `on` and `off` in small letters are the two that every switch has.
    pub fn of(word: &str) -> Self {
        match word {
            "off" => Self::Off,
            "on" => Self::On,
            other => Self::Word(other.into()),
        }
    }
}

/// A command as it came in, not yet judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Payload, any bytes.
    pub payload: Payload,
    /// Where it came in.
    pub origin: CommandOrigin,
    /// QoS it was published with; a page's counts as exactly once, since nobody sends it a second time.
    pub qos: Qos,
    /// Whether it is what a broker had kept: the wish of some earlier time.
    pub retained: bool,
    /// When it stops being worth doing, by its message expiry (MQTT 5).
    pub expires: Option<Moment>,
}

impl Command {
    /// A command given by a person at this machine.
    pub fn of_page(payload: impl Into<Payload>) -> Self {
        let payload = payload.into();
        Self { payload, origin: CommandOrigin::Page, qos: Qos::ExactlyOnce, retained: false, expires: None }
    }
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The actuator moved, and reads back as it should.
    Done,
    /// It is no command, or not one that may be given this way. It will not be taken however often it is sent.
    Rejected,
    /// It is a command, and now is not the time for it: an interlock, or too many waiting.
    Refused,
    /// Its time had passed when it came, or while it waited.
    Expired,
    /// Its id was known: the answer it had then is told again, and nothing moved.
    Duplicate,
    /// It had begun and did not come to its end: the process died in between, or something cut it short.
    Interrupted,
    /// The device did not do it, or the store could not note it first.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 7] =
        [Self::Done, Self::Rejected, Self::Refused, Self::Expired, Self::Duplicate, Self::Interrupted, Self::Failed];

    /// The word in an answer.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Duplicate => "duplicate",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }

    /// The outcome of a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }
}

/// The answer to a command. Every command has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The command's id, where it had one.
    pub id: Option<CommandId>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, in words; `None` when it was done.
    pub reason: Option<Arc<str>>,
}

impl Ack {
    /// An answer without a reason.
    pub fn done(id: Option<CommandId>) -> Self {
        Self { id, outcome: Outcome::Done, reason: None }
    }

    /// An answer and why.
    pub fn because(id: Option<CommandId>, outcome: Outcome, reason: impl Into<Arc<str>>) -> Self {
        Self { id, outcome, reason: Some(reason.into()) }
    }
}

/// What a screen shows of an actuator.
#[derive(Debug, Clone, PartialEq)]
pub struct ActuatorView {
    /// Who it is.
    pub id: ActuatorId,
    /// Name of its driver.
    pub driver: &'static str,
    /// The bus it hangs on, as in `[bus.NAME]`, or the GPIO line.
    pub at: String,
    /// The words it takes.
    pub words: Vec<Arc<str>>,
    /// What it was read back as; `None` before it is known.
    pub value: Option<Setting>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Its safe state, where it has one.
    pub safe: Option<Setting>,
    /// Whether the device answers; `None` before it is known.
    pub online: Option<bool>,
    /// Its last answer, and when it was given.
    pub last_ack: Option<(Ack, Timestamp)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_any_text_that_can_be_printed() {
        assert_eq!(CommandId::parse("7f/ä b").unwrap().as_str(), "7f/ä b");
        for bad in ["", "a\nb", "\u{0}", &"x".repeat(COMMAND_ID_BYTES_MAX + 1)] {
            assert_eq!(CommandId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_word_leads_back_to_what_it_stands_for() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::of(outcome.word()), Some(outcome));
        }
        for setting in [Setting::Off, Setting::On, Setting::Word("55".into())] {
            assert_eq!(Setting::of(setting.word()), setting);
        }
    }
}
