//! What is said to a chip, step by step.

use std::sync::Arc;
use std::time::Duration;

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;

use super::check::{Check, hex};
use super::field::Field;
use crate::bus::i2c::{I2cFault, I2cHandle, Pause};
use crate::drivers::i2c::{measured, stuck, wrong};
use crate::drivers::{PolledDriver, SampleError};
use crate::model::Sample;

/// A chip, as a config or a preset describes it.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) address: u8,
    /// Once, and after a failure.
    pub(super) init: Vec<Step>,
    /// For each sample.
    pub(super) steps: Vec<Step>,
    /// Bytes of each buffer, without checksums.
    pub(super) buffers: Vec<usize>,
    pub(super) check: Option<Check>,
    /// Whether a frame of nothing but 0x00, or 0xff, may be one.
    pub(super) all_zeros: bool,
    /// See `all_zeros`.
    pub(super) all_ones: bool,
    pub(super) fields: Vec<Field>,
}

/// What is done, and how long is waited behind it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) act: Act,
    pub(super) delay: Duration,
}

/// What is done. `ask` is written first, with a repeated start behind it; nothing when it is empty.
#[derive(Debug)]
pub(super) enum Act {
    Wait,
    Write(Vec<u8>),
    Read { ask: Vec<u8>, len: usize, buffer: usize },
    Poll { ask: Vec<u8>, mask: u8, equals: u8, every: Duration, times: u32 },
    Expect { ask: Vec<u8>, equals: Vec<u8>, mask: Vec<u8> },
}

/// A driver that carries a program out.
pub(super) struct Driver {
    program: Arc<Program>,
    i2c: I2cHandle,
    pause: Pause,
    /// What `init` has read, which its values need as long as the chip is set up. `None`: it has to be.
    set_up: Option<Vec<Vec<u8>>>,
}

impl Driver {
    pub(super) fn new(program: Arc<Program>, i2c: I2cHandle, pause: Pause) -> Self {
        Self { program, i2c, pause, set_up: None }
    }

    fn carry_out(&mut self, steps: &[Step], buffers: &mut [Vec<u8>]) -> Result<(), SampleError> {
        let address = self.program.address;
        for step in steps {
            match &step.act {
                Act::Wait => {}
                Act::Write(bytes) => self.i2c.write(address, bytes)?,
                Act::Read { ask, len, buffer } => {
                    let mut frame = vec![0; *len];
                    self.read(ask, &mut frame)?;
                    buffers[*buffer] = self.program.judge(frame).map_err(|why| wrong(address, why))?;
                }
                Act::Poll { ask, mask, equals, every, times } => self.poll(ask, *mask, *equals, *every, *times)?,
                Act::Expect { ask, equals, mask } => {
                    let mut found = vec![0; equals.len()];
                    self.read(ask, &mut found)?;
                    let differs =
                        found.iter().zip(equals).zip(mask).any(|((found, equals), mask)| (found ^ equals) & mask != 0);
                    if differs {
                        let (ask, found, equals) = (hex(ask), hex(&found), hex(equals));
                        return Err(wrong(
                            address,
                            format!("register {ask} reads {found} where {equals} is expected: another chip?"),
                        ));
                    }
                }
            }
            self.wait(step.delay);
        }
        Ok(())
    }

    fn read(&mut self, ask: &[u8], into: &mut [u8]) -> Result<(), I2cFault> {
        let address = self.program.address;
        if ask.is_empty() { self.i2c.read(address, into) } else { self.i2c.write_read(address, ask, into) }
    }

    fn poll(&mut self, ask: &[u8], mask: u8, equals: u8, every: Duration, times: u32) -> Result<(), SampleError> {
        let mut byte = [0];
        for _ in 0..times {
            self.read(ask, &mut byte)?;
            if byte[0] & mask == equals {
                return Ok(());
            }
            self.wait(every);
        }
        let what = format!("register {} stays at {:02x}: the chip is not done", hex(ask), byte[0]);
        Err(wrong(self.program.address, what))
    }

    fn wait(&mut self, delay: Duration) {
        if !delay.is_zero() {
            // Delays are bounded by seconds when the config is read.
            self.pause.delay_us(u32::try_from(delay.as_micros()).unwrap_or(u32::MAX));
        }
    }
}

impl PolledDriver for Driver {
    fn sample(&mut self) -> Result<Vec<Sample>, SampleError> {
        let program = Arc::clone(&self.program);
        let mut buffers = if let Some(buffers) = &self.set_up {
            buffers.clone()
        } else {
            let mut buffers = vec![Vec::new(); program.buffers.len()];
            self.carry_out(&program.init, &mut buffers)?;
            self.set_up.insert(buffers).clone()
        };
        self.carry_out(&program.steps, &mut buffers)?;
        program.decode(&buffers).map_err(|why| wrong(program.address, why))
    }

    fn reset(&mut self) {
        self.set_up = None;
    }
}

impl Program {
    /// A frame without its checksums, if it can be one.
    fn judge(&self, frame: Vec<u8>) -> Result<Vec<u8>, String> {
        let zeros = frame.iter().all(|byte| *byte == 0);
        if let Some(why) = stuck(&frame)
            && !(if zeros { self.all_zeros } else { self.all_ones })
        {
            return Err(why.to_owned());
        }
        match &self.check {
            Some(check) => check.strip(&frame),
            None => Ok(frame),
        }
    }

    fn decode(&self, buffers: &[Vec<u8>]) -> Result<Vec<Sample>, String> {
        let mut values = Vec::with_capacity(self.fields.len());
        let mut samples = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let value = field.value(buffers.get(field.buffer).map_or(&[], Vec::as_slice), &values)?;
            values.push(value);
            samples.push(measured(&field.name, value));
        }
        Ok(samples)
    }
}
