//! What a driver holds of its bus.

use std::time::Duration;

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::{ErrorType, I2c, Operation, SevenBitAddress};

use super::I2cFault;

/// A way to an I²C bus.
pub trait I2cAccess: Send {
    /// Carries out the operations on the target as one transaction: START, a repeated START between them, one STOP.
    ///
    /// # Errors
    /// [`I2cFault`]; what of the transaction took place is unknown.
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), I2cFault>;
}

/// A driver's own way to its bus.
pub struct I2cHandle(Box<dyn I2cAccess>);

impl I2cHandle {
    /// Takes the way in.
    pub fn new(access: impl I2cAccess + 'static) -> Self {
        Self(Box::new(access))
    }
}

impl ErrorType for I2cHandle {
    type Error = I2cFault;
}

impl I2c<SevenBitAddress> for I2cHandle {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), I2cFault> {
        self.0.transaction(address, operations)
    }
}

/// Waits between two steps of a conversation; a replayed one does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Sleeps.
    Real,
    /// Returns at once: the device is made of software.
    None,
}

impl DelayNs for Pause {
    fn delay_ns(&mut self, ns: u32) {
        if *self == Pause::Real {
            std::thread::sleep(Duration::from_nanos(u64::from(ns)));
        }
    }
}
