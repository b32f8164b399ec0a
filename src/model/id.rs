//! Names of things, each its own type, so that the compiler refuses a bus where a sensor is meant.

use std::fmt;
use std::sync::Arc;

/// Longest id. Ids become topic levels and file names; 64 bytes keep both short and still fit a UUID twice.
pub const ID_BYTES_MAX: usize = 64;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text has no characters.
    #[error("is empty")]
    Empty,
    /// The text is longer than [`ID_BYTES_MAX`] bytes.
    #[error("is {0} bytes long; the longest is {ID_BYTES_MAX}")]
    TooLong(usize),
    /// A character that would not survive as a topic level or a file name.
    #[error("contains `{0}`; letters, digits, `-`, `_` and `.` are allowed, the first a letter or a digit")]
    Character(char),
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong(text.len()));
    }
    for (index, c) in text.chars().enumerate() {
        let inner = c == '-' || c == '_' || c == '.';
        if !(c.is_ascii_alphanumeric() || (inner && index > 0)) {
            return Err(IdError::Character(c));
        }
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text and makes it an id.
            ///
            /// # Errors
            /// [`IdError`] when the text is empty, too long or holds a character outside `[A-Za-z0-9._-]`.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The id as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

id!(
    /// Names this gateway: the second level of its topics, and its client id at the cloud unless told otherwise.
    GatewayId
);
id!(
    /// Names a sensor: one level of its topic.
    SensorId
);
id!(
    /// Names an actuator: one level of its topic. No sensor has the same.
    ActuatorId
);
id!(
    /// Names a bus, as in `[bus.NAME]`.
    BusId
);
id!(
    /// Names a bridge: a level of its state topic, and part of its store's file name.
    BridgeId
);

/// Number of a record in one bridge's store: rises by one for each accepted message, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_its_text() {
        assert_eq!(SensorId::parse("air_2-b.x").unwrap().as_str(), "air_2-b.x");
    }

    #[test]
    fn an_id_that_would_break_a_topic_or_a_path_is_refused() {
        assert_eq!(SensorId::parse(""), Err(IdError::Empty));
        assert_eq!(SensorId::parse("a/b"), Err(IdError::Character('/')));
        assert_eq!(SensorId::parse("+"), Err(IdError::Character('+')));
        assert_eq!(SensorId::parse(".."), Err(IdError::Character('.')));
        assert_eq!(SensorId::parse("ü"), Err(IdError::Character('ü')));
        assert_eq!(SensorId::parse(&"x".repeat(65)), Err(IdError::TooLong(65)));
    }
}
