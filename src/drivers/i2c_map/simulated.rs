//! A chip made of software that answers a program: what is expected is there, what is polled for has come, and values move.

use std::sync::Arc;

use super::program::{Act, Program};
use crate::bus::i2c::{I2cFault, Target};
use crate::drivers::i2c::Wave;

pub(super) struct Simulated {
    program: Arc<Program>,
    /// A raw number for each field.
    waves: Vec<Wave>,
    /// What was written last, which is what a read is about.
    said: Vec<u8>,
}

impl Simulated {
    pub(super) fn new(program: Arc<Program>, seed: u64) -> Self {
        let wave = |(index, (low, high)): (u64, (f64, f64))| Wave::new(low, high, seed.wrapping_add(index));
        let waves = (0..).zip(program.fields.iter().map(|field| field.simulate)).map(wave).collect();
        Self { program, waves, said: Vec::new() }
    }

    /// What the chip answers to a read of so many bytes, as the program goes.
    fn answer(&mut self, len: usize) -> Option<Vec<u8>> {
        let program = Arc::clone(&self.program);
        let mut said: &[u8] = &[];
        for step in program.init.iter().chain(&program.steps) {
            let ask = match &step.act {
                Act::Wait => continue,
                Act::Write(bytes) => {
                    said = bytes;
                    continue;
                }
                Act::Read { ask, .. } | Act::Poll { ask, .. } | Act::Expect { ask, .. } => ask,
            };
            let about = if ask.is_empty() { said } else { ask };
            said = about;
            if about != self.said {
                continue;
            }
            match &step.act {
                Act::Read { len: wanted, buffer, .. } if *wanted == len => return Some(self.frame(*buffer)),
                Act::Poll { equals, .. } if len == 1 => return Some(vec![*equals]),
                Act::Expect { equals, .. } if equals.len() == len => return Some(equals.clone()),
                _ => {}
            }
        }
        None
    }

    fn frame(&mut self, buffer: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.program.buffers[buffer]];
        for (field, wave) in self.program.fields.iter().zip(&mut self.waves).filter(|(field, _)| field.buffer == buffer)
        {
            field.put(wave.step(), &mut bytes);
        }
        match &self.program.check {
            Some(check) => check.add(&bytes),
            None => bytes,
        }
    }
}

impl Target for Simulated {
    fn write(&mut self, bytes: &[u8]) -> Result<(), I2cFault> {
        self.said = bytes.to_vec();
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), I2cFault> {
        let answer = self.answer(into.len()).ok_or_else(|| I2cFault::nack(self.program.address))?;
        for (to, from) in into.iter_mut().zip(answer) {
            *to = from;
        }
        Ok(())
    }
}
