//! From bytes to a value, and back for a chip made of software.

use std::sync::Arc;

use crate::drivers::i2c::places;
use crate::logic::formula::Formula;

/// How bytes make a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// Its name in `type = "…"`.
    pub(super) name: &'static str,
    /// Bytes.
    pub(super) len: usize,
    form: Form,
    little: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Unsigned,
    Signed,
    Float,
    Decimal,
}

/// Every type.
pub(super) const KINDS: &[Kind] = &[
    Kind { name: "u8", len: 1, form: Form::Unsigned, little: false },
    Kind { name: "i8", len: 1, form: Form::Signed, little: false },
    Kind { name: "u16be", len: 2, form: Form::Unsigned, little: false },
    Kind { name: "u16le", len: 2, form: Form::Unsigned, little: true },
    Kind { name: "i16be", len: 2, form: Form::Signed, little: false },
    Kind { name: "i16le", len: 2, form: Form::Signed, little: true },
    Kind { name: "u24be", len: 3, form: Form::Unsigned, little: false },
    Kind { name: "u24le", len: 3, form: Form::Unsigned, little: true },
    Kind { name: "i24be", len: 3, form: Form::Signed, little: false },
    Kind { name: "i24le", len: 3, form: Form::Signed, little: true },
    Kind { name: "u32be", len: 4, form: Form::Unsigned, little: false },
    Kind { name: "u32le", len: 4, form: Form::Unsigned, little: true },
    Kind { name: "i32be", len: 4, form: Form::Signed, little: false },
    Kind { name: "i32le", len: 4, form: Form::Signed, little: true },
    Kind { name: "f32be", len: 4, form: Form::Float, little: false },
    Kind { name: "f32le", len: 4, form: Form::Float, little: true },
    Kind { name: "bcd", len: 1, form: Form::Decimal, little: false },
];

impl Kind {
    /// Bits of the type.
    pub(super) fn width(self) -> u32 {
        u32::try_from(self.len).unwrap_or(0) * 8
    }

    /// Whether single bits of it mean something.
    pub(super) fn has_bits(self) -> bool {
        self.form != Form::Float
    }
}

/// A value, and which bytes it comes from.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Arc<str>,
    /// Index of the buffer.
    pub(super) buffer: usize,
    /// First byte in the buffer.
    pub(super) at: usize,
    pub(super) kind: Kind,
    /// Bits that count, all others are taken for 0.
    pub(super) mask: u32,
    /// Highest and lowest bit, cut out.
    pub(super) bits: Option<(u32, u32)>,
    /// Places to the right, behind mask and bits.
    pub(super) shift: u32,
    pub(super) scale: f64,
    pub(super) offset: f64,
    /// In place of scale and offset, of `x` and the values before this one.
    pub(super) formula: Option<Formula>,
    pub(super) precision: Option<i32>,
    pub(super) unit: Option<Arc<str>>,
    /// Raw values that are none.
    pub(super) invalid: Vec<u32>,
    /// Between which raw values a chip made of software moves.
    pub(super) simulate: (f64, f64),
}

impl Field {
    /// The value; `before` are those of the fields in front of this one.
    ///
    /// # Errors
    /// Why the bytes are no value, in words.
    pub(super) fn value(&self, bytes: &[u8], before: &[f64]) -> Result<f64, String> {
        let raw = self.bytes(bytes).ok_or_else(|| format!("`{}` lies beyond what was read", self.name))?;
        if self.invalid.contains(&raw) {
            let digits = self.kind.len * 2;
            return Err(format!("`{}` reads 0x{raw:0digits$x}, which stands for no value", self.name));
        }
        let x = self.number(raw)?;
        let value = match &self.formula {
            Some(formula) => {
                let mut variables = Vec::with_capacity(before.len() + 1);
                variables.push(x);
                variables.extend_from_slice(before);
                formula.value(&variables).map_err(|why| format!("`{}`: {why}", self.name))?
            }
            None => x * self.scale + self.offset,
        };
        if !value.is_finite() {
            return Err(format!("`{}` is no number", self.name));
        }
        Ok(self.precision.map_or(value, |digits| places(value, digits)))
    }

    fn bytes(&self, bytes: &[u8]) -> Option<u32> {
        let bytes = bytes.get(self.at..self.at + self.kind.len)?;
        let join = |raw: u32, byte: &u8| raw << 8 | u32::from(*byte);
        Some(if self.kind.little { bytes.iter().rev().fold(0, join) } else { bytes.iter().fold(0, join) })
    }

    /// `x` of a formula.
    fn number(&self, raw: u32) -> Result<f64, String> {
        if self.kind.form == Form::Float {
            return Ok(f64::from(f32::from_bits(raw)));
        }
        let mut bits = raw & self.mask;
        let mut width = self.kind.width();
        if let Some((high, low)) = self.bits {
            width = high - low + 1;
            bits = bits >> low & ones(width);
        }
        match self.kind.form {
            Form::Signed => {
                // The highest of its bits is the sign.
                let free = 64 - width;
                #[allow(clippy::cast_precision_loss)] // 32 bits fit
                let number = ((i64::from(bits) << free) >> free >> self.shift) as f64;
                Ok(number)
            }
            Form::Decimal => {
                let bits = bits >> self.shift;
                let (tens, ones) = (bits >> 4, bits & 0xf);
                if tens > 9 || ones > 9 {
                    return Err(format!("`{}` reads 0x{raw:02x}, which is no BCD", self.name));
                }
                Ok(f64::from(tens * 10 + ones))
            }
            _ => Ok(f64::from(bits >> self.shift)),
        }
    }

    /// Writes a raw number to where it would be read from.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` keeps a float within the type
    pub(super) fn put(&self, number: f64, bytes: &mut [u8]) {
        let raw = match self.kind.form {
            Form::Float => (number as f32).to_bits(),
            Form::Decimal => {
                let number = number as u32 % 100;
                ((number / 10) << 4) | (number % 10)
            }
            Form::Signed => (number as i64 as u32).wrapping_shl(self.shift),
            Form::Unsigned => (number as u32).wrapping_shl(self.shift),
        };
        let raw = match self.bits {
            Some((high, low)) => (raw & ones(high - low + 1)) << low,
            None => raw,
        };
        let mut all = (raw & self.mask).to_be_bytes()[4 - self.kind.len..].to_vec();
        if self.kind.little {
            all.reverse();
        }
        if let Some(place) = bytes.get_mut(self.at..self.at + self.kind.len) {
            for (to, from) in place.iter_mut().zip(all) {
                *to |= from;
            }
        }
    }
}

/// So many low bits.
pub(super) fn ones(width: u32) -> u32 {
    u32::MAX.checked_shr(32 - width.min(32)).unwrap_or(0)
}
