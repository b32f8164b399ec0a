//! I²C targets made of software.

use embedded_hal::i2c::Operation;

use super::{I2cAccess, I2cFault, I2cHandle};

/// A target, as the bus sees it: what is written to it, and what it answers.
pub trait Target: Send {
    /// Takes what a controller writes between START and the next START or STOP.
    ///
    /// # Errors
    /// A fault such as [`I2cFault::nack`] where the real device would not acknowledge.
    fn write(&mut self, bytes: &[u8]) -> Result<(), I2cFault>;

    /// Fills what a controller reads.
    ///
    /// # Errors
    /// As [`Target::write`].
    fn read(&mut self, into: &mut [u8]) -> Result<(), I2cFault>;
}

/// A bus with one target.
struct Simulated {
    address: u8,
    target: Box<dyn Target>,
}

impl I2cHandle {
    /// A bus on which this target answers at this address, and nobody else.
    pub fn simulated(address: u8, target: Box<dyn Target>) -> Self {
        Self::new(Simulated { address, target })
    }
}

impl I2cAccess for Simulated {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), I2cFault> {
        if address != self.address {
            return Err(I2cFault::nack(address));
        }
        for operation in operations {
            match operation {
                Operation::Write(bytes) => self.target.write(bytes)?,
                Operation::Read(into) => self.target.read(into)?,
            }
        }
        Ok(())
    }
}

/// A target with 256 registers of a byte and a pointer that moves on, as most have.
#[derive(Debug, Clone)]
pub struct Registers {
    /// What the registers hold.
    pub bytes: [u8; 256],
    pointer: u8,
}

impl Registers {
    /// All zero.
    pub fn new() -> Self {
        Self { bytes: [0; 256], pointer: 0 }
    }

    /// Fills registers from `first` on.
    pub fn set(&mut self, first: u8, values: &[u8]) {
        for (offset, value) in values.iter().enumerate() {
            self.bytes[(usize::from(first) + offset) % 256] = *value;
        }
    }
}

impl Default for Registers {
    fn default() -> Self {
        Self::new()
    }
}

impl Target for Registers {
    fn write(&mut self, bytes: &[u8]) -> Result<(), I2cFault> {
        if let Some((pointer, values)) = bytes.split_first() {
            self.pointer = *pointer;
            for value in values {
                self.bytes[usize::from(self.pointer)] = *value;
                self.pointer = self.pointer.wrapping_add(1);
            }
        }
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), I2cFault> {
        for byte in into {
            *byte = self.bytes[usize::from(self.pointer)];
            self.pointer = self.pointer.wrapping_add(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal::i2c::I2c;

    use super::*;

    #[test]
    fn a_register_is_written_and_read_back_and_the_pointer_moves_on() {
        let mut bus = I2cHandle::simulated(0x40, Box::new(Registers::new()));
        bus.write(0x40, &[0x10, 1, 2]).unwrap();
        let mut read = [0; 3];
        bus.write_read(0x40, &[0x0f], &mut read).unwrap();
        assert_eq!(read, [0, 1, 2]);
    }

    #[test]
    fn nobody_answers_at_another_address() {
        let mut bus = I2cHandle::simulated(0x40, Box::new(Registers::new()));
        assert_eq!(bus.write(0x41, &[0]), Err(I2cFault::nack(0x41)));
    }
}
