//! I²C: the way of one driver to one bus.
//!
//! A driver owns an [`I2cHandle`], which is any of three ways behind one face: the kernel's (`linux`), a device made of software
//! (`simulated`), or a recorded conversation (`replay`). It implements `embedded_hal::i2c::I2c`, so the well-kept drivers of that
//! ecosystem run on it as they are. Transactions of several handles on one bus may interleave but never mix: the kernel holds the adapter for
//! each (Documentation/i2c/dev-interface).

mod fault;
mod handle;
mod linux;
mod replay;
mod scan;
mod simulated;

pub use self::fault::I2cFault;
pub use self::handle::{I2cAccess, I2cHandle, Pause};
pub use self::replay::{Replay, ReplayError};
pub use self::scan::{Adapter, Found, adapters, probe};
pub use self::simulated::{Registers, Target};
