//! A recorded conversation, played back: the driver must say what was recorded, and hears what was answered.
//!
//! A line is one operation of a transaction: `w 76 d0` (written to 0x76), `r 76 60` (read from it), with the bytes in hexadecimal; `nack` in
//! place of the bytes read, or behind those written, for a target that did not acknowledge.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use embedded_hal::i2c::Operation;

use super::{I2cAccess, I2cFault};

/// A conversation that several drivers take part in. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Replay(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Line>,
    /// The first thing that was not as recorded.
    difference: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Write { address: u8, bytes: Vec<u8>, nack: bool },
    Read { address: u8, bytes: Vec<u8>, nack: bool },
}

/// A line that is no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no operation: `w ADDRESS BYTES…`, `r ADDRESS BYTES…`, in hexadecimal, with `nack` for no answer")]
pub struct ReplayError(String);

impl Replay {
    /// Adds a line to what is expected.
    ///
    /// # Errors
    /// [`ReplayError`] for a text that is no operation.
    pub fn expect(&self, line: &str) -> Result<(), ReplayError> {
        let parsed = parse(line).ok_or_else(|| ReplayError(line.to_owned()))?;
        self.state().script.push_back(parsed);
        Ok(())
    }

    /// What was not as recorded: the first difference, or what was expected and never asked. Forgets both.
    pub fn finish(&self) -> Option<String> {
        let mut state = self.state();
        let left = state.script.pop_front().map(|line| format!("never happened: {line:?}"));
        state.script.clear();
        state.difference.take().or(left)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn differs(&mut self, address: u8, what: &str) -> I2cFault {
        self.difference.get_or_insert_with(|| what.to_owned());
        I2cFault::other(address, what)
    }
}

impl I2cAccess for Replay {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), I2cFault> {
        let mut state = self.state();
        for operation in operations {
            let expected = state.script.pop_front();
            match (operation, expected) {
                (Operation::Write(said), Some(Line::Write { address: to, bytes, nack }))
                    if to == address && *said == bytes =>
                {
                    if nack {
                        return Err(I2cFault::nack(address));
                    }
                }
                (Operation::Read(into), Some(Line::Read { address: from, bytes, nack })) if from == address => {
                    if nack {
                        return Err(I2cFault::nack(address));
                    }
                    if bytes.len() != into.len() {
                        let what = format!("{} bytes are read where {} were recorded", into.len(), bytes.len());
                        return Err(state.differs(address, &what));
                    }
                    into.copy_from_slice(&bytes);
                }
                (operation, expected) => {
                    let what = format!("{operation:02x?} at {address:#04x} where {expected:02x?} was recorded");
                    return Err(state.differs(address, &what));
                }
            }
        }
        Ok(())
    }
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.split_whitespace();
    let kind = words.next()?;
    let address = u8::from_str_radix(words.next()?, 16).ok().filter(|address| *address < 0x80)?;
    let mut nack = false;
    let mut bytes = Vec::new();
    for word in words {
        if word == "nack" {
            nack = true;
            continue;
        }
        if word.len() % 2 != 0 || nack || !word.is_ascii() {
            return None;
        }
        for at in (0..word.len()).step_by(2) {
            bytes.push(u8::from_str_radix(&word[at..at + 2], 16).ok()?);
        }
    }
    match kind {
        "w" => Some(Line::Write { address, bytes, nack }),
        "r" => Some(Line::Read { address, bytes, nack }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal::i2c::I2c;

    use super::*;
    use crate::bus::i2c::I2cHandle;

    fn replay(lines: &[&str]) -> (Replay, I2cHandle) {
        let replay = Replay::default();
        for line in lines {
            replay.expect(line).unwrap();
        }
        (replay.clone(), I2cHandle::new(replay))
    }

    #[test]
    fn what_was_recorded_is_answered() {
        let (replay, mut bus) = replay(&["w 76 d0", "r 76 60", "w 76 f4 nack"]);
        let mut id = [0];
        bus.write_read(0x76, &[0xd0], &mut id).unwrap();
        assert_eq!(id, [0x60]);
        assert_eq!(bus.write(0x76, &[0xf4]), Err(I2cFault::nack(0x76)));
        assert_eq!(replay.finish(), None);
    }

    #[test]
    fn what_was_not_recorded_is_a_difference() {
        let (replay, mut bus) = replay(&["w 76 d0"]);
        assert!(bus.write(0x76, &[0xd1]).is_err());
        assert!(replay.finish().unwrap().contains("was recorded"));

        replay.expect("w 76 d0").unwrap();
        assert!(replay.finish().unwrap().contains("never happened"));
    }

    #[test]
    fn what_is_no_operation_is_told() {
        for line in ["", "x 76 00", "w 80 00", "w 76 0", "w 76 zz", "r"] {
            assert!(Replay::default().expect(line).is_err(), "{line}");
        }
    }
}
