//! The keys of an `i2c-map`, and those of a preset: their description for the schema, and their decoding with every mistake at its place.

mod steps;
mod values;

use std::collections::BTreeMap;
use std::ops::Range;

use schemars::JsonSchema;
use toml::de::{DeTable, DeValue};

use super::check::{self, Check};
use super::program::{Act, Program, Step};
use crate::drivers::OptionsError;
use crate::drivers::options::{Fields, Text, kind};
use crate::limits::MAP_BYTES_MAX;

/// Keys of a sensor with `driver = "i2c-map"`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand.
pub(super) struct Options {
    /// The chip's 7-bit address, 0x08 to 0x77.
    address: u8,
    /// What is done once, and again after a failure: at most 32 steps. Left out, nothing.
    init: Option<Vec<StepOptions>>,
    /// What is done for each sample: 1 to 32 steps.
    steps: Vec<StepOptions>,
    /// Checksums in what is read: they are compared, then taken out. Left out, there are none.
    crc: Option<CrcOptions>,
    /// Whether a read that brings nothing but 0x00 is good. Default `false`: a line held low reads so.
    all_zeros: Option<bool>,
    /// Whether a read that brings nothing but 0xff is good. Default `false`: a line that nobody drives reads so.
    all_ones: Option<bool>,
    /// The values, 1 to 32, each under its name. A formula may use those that stand before it.
    decode: BTreeMap<String, DecodeOptions>,
}

/// One step: one of `write`, `read`, `poll` and `expect`, or `delay` alone.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct StepOptions {
    /// Bytes to write, in hexadecimal: `"0f10"`. At most 64.
    write: Option<String>,
    /// How many bytes to read, 1 to 64, checksums counted.
    read: Option<u8>,
    /// With `read`: the register, written first with a repeated start behind it. A number up to 0xff, or bytes in hexadecimal.
    reg: Option<serde_json::Value>,
    /// With `read`: the buffer it goes to, for `from`. Needed where there is more than one read.
    into: Option<String>,
    /// Asks until a byte is as wanted.
    poll: Option<PollOptions>,
    /// Fails unless bytes are as wanted: the id of the chip.
    expect: Option<ExpectOptions>,
    /// Wait behind the step, such as `"15ms"`.
    delay: Option<String>,
}

/// Asks until a byte is as wanted.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct PollOptions {
    /// The register; left out, a byte is read as it comes.
    reg: Option<serde_json::Value>,
    /// Bits that are looked at. Default 0xff.
    mask: Option<u8>,
    /// What they must be.
    equals: u8,
    /// Wait between two looks. Default `"2ms"`.
    every: Option<String>,
    /// Longest wait. Default `"100ms"`.
    timeout: Option<String>,
}

/// Fails unless bytes are as wanted.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct ExpectOptions {
    /// The register; left out, bytes are read as they come.
    reg: Option<serde_json::Value>,
    /// What they must be, in hexadecimal: `"60"`.
    equals: String,
    /// Bits that are looked at, in hexadecimal, as long as `equals`. Default all.
    mask: Option<String>,
}

/// Checksums in what is read.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct CrcOptions {
    /// Name in the catalogue of parametrised CRC algorithms, such as `CRC-8/NRSC-5`.
    algorithm: String,
    /// What it begins with, where the chip differs from the catalogue.
    init: Option<u16>,
    /// How many bytes stand before each checksum, 1 to 62.
    every: u8,
}

/// One value.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)]
struct DecodeOptions {
    /// The buffer. Left out, the only one.
    from: Option<String>,
    /// First byte in the buffer, from 0. Default 0.
    at: Option<u8>,
    /// `u8`, `i8`, `bcd`; `u16`, `i16`, `u24`, `i24`, `u32`, `i32`, `f32` with `be` (high byte first) or `le` behind it.
    r#type: String,
    /// Bits that count; all others are taken for 0.
    mask: Option<u32>,
    /// Highest and lowest bit, cut out; of a signed type the highest is the sign.
    bits: Option<[u8; 2]>,
    /// Places to the right.
    shift: Option<u8>,
    /// Factor. Default 1.
    scale: Option<f64>,
    /// Sum, behind the factor. Default 0.
    offset: Option<f64>,
    /// In place of factor and sum: a formula of `x` and the values before this one.
    formula: Option<String>,
    /// Digits after the decimal point, 0 to 9. Left out, all.
    precision: Option<u8>,
    /// Unit it is in, for people.
    unit: Option<String>,
    /// Raw numbers that stand for no value.
    invalid: Option<Vec<u32>>,
    /// Least and greatest raw number of a simulated chip. Left out, the middle of what the type holds.
    simulate: Option<[f64; 2]>,
}

const KEYS: &[&str] = &["address", "init", "steps", "crc", "all_zeros", "all_ones", "decode"];
const PRESET_KEYS: &[&str] = &["addresses", "init", "steps", "crc", "all_zeros", "all_ones", "decode"];

/// Decodes the keys of a sensor.
pub(super) fn decode(table: DeTable<'_>) -> Result<Program, Vec<OptionsError>> {
    let mut fields = Fields::new(table, KEYS);
    if !fields.has("address") {
        fields.error(0..0, "missing key `address`", Some("such as `address = 0x48`".into()));
    }
    let at = fields.span("address");
    let written =
        fields.integer("address", i64::MIN..=i64::MAX).map(|written| u8::try_from(written).unwrap_or(u8::MAX));
    if let (Some(at), Some(written)) = (at, written)
        && !(0x08..=0x77).contains(&written)
    {
        fields.error(
            at,
            "a 7-bit address is 0x08 to 0x77",
            Some("eight bits with the direction are twice that".into()),
        );
    }
    program(fields, written.unwrap_or(0))
}

/// Decodes a preset: a program, and the addresses that the chip can have, of which the first is its usual one.
pub(super) fn decode_preset(table: DeTable<'_>) -> Result<(Program, Vec<u8>), Vec<OptionsError>> {
    let mut fields = Fields::new(table, PRESET_KEYS);
    let mut addresses = Vec::new();
    if let Some(value) = fields.take("addresses")
        && let DeValue::Array(items) = value.get_ref()
    {
        addresses = items.iter().filter_map(|item| whole(item.get_ref()).and_then(|n| u8::try_from(n).ok())).collect();
    }
    let first = addresses.first().copied().unwrap_or(0);
    program(fields, first).map(|program| (program, addresses))
}

fn program(mut fields: Fields<'_>, address: u8) -> Result<Program, Vec<OptionsError>> {
    let mut errors = Vec::new();
    let check = fields.table("crc").and_then(|(table, span)| decode_check(table, span, &mut errors));
    let all_zeros = flag(&mut fields, "all_zeros");
    let all_ones = flag(&mut fields, "all_ones");
    let mut buffers = steps::Buffers::new(check);
    let init = steps::decode(&mut fields, "init", &mut buffers, &mut errors);
    if !fields.has("steps") {
        let help = "such as `steps = [ { reg = 0x00, read = 2 } ]`".to_owned();
        fields.error(0..0, "missing key `steps`", Some(help));
    }
    let steps = steps::decode(&mut fields, "steps", &mut buffers, &mut errors);
    if !fields.has("decode") {
        let help = "such as `decode.temperature = { type = \"i16be\", scale = 0.0625 }`".to_owned();
        fields.error(0..0, "missing key `decode`", Some(help));
    }
    let values = match fields.table("decode") {
        Some((table, span)) => values::decode(table, span, &buffers, &mut errors),
        None => Vec::new(),
    };
    errors.extend(fields.finish());
    errors.sort_by_key(|error| error.span.start);
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Program { address, init, steps, buffers: buffers.lens(), check, all_zeros, all_ones, fields: values })
}

fn decode_check(table: DeTable<'_>, span: Range<usize>, errors: &mut Vec<OptionsError>) -> Option<Check> {
    let mut fields = Fields::new(table, &["algorithm", "init", "every"]);
    for key in ["algorithm", "every"] {
        if !fields.has(key) {
            fields.error(span.clone(), format!("`crc` needs `{key}`"), None);
        }
    }
    let init = fields.integer("init", 0..=0xffff).and_then(|init| u16::try_from(init).ok());
    let every = fields.integer("every", 1..=62).and_then(|every| usize::try_from(every).ok());
    let check = fields.text("algorithm").and_then(|word| {
        let check = Check::new(&word.content, init, every.unwrap_or(1));
        if check.is_none() {
            let help = match crate::config::diagnostic::nearest(&word.content, check::names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known: {}", check::names().join(", ")),
            };
            fields.error(word.span, format!("no checksum is named `{}`", word.content), Some(help));
        }
        check
    });
    errors.extend(fields.finish());
    every.and(check)
}

fn flag(fields: &mut Fields<'_>, key: &'static str) -> bool {
    match fields.take(key) {
        None => false,
        Some(value) => match value.get_ref() {
            DeValue::Boolean(flag) => *flag,
            other => {
                let what = format!("`{key}` must be true or false, not {}", kind(other));
                fields.error(value.span(), what, None);
                false
            }
        },
    }
}

/// A whole number, where the value is one.
fn whole(value: &DeValue<'_>) -> Option<i64> {
    match value {
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok(),
        _ => None,
    }
}

/// Reads bytes in hexadecimal.
fn bytes(fields: &mut Fields<'_>, key: &str, word: &Text) -> Option<Vec<u8>> {
    let digits: Vec<u8> = word.content.bytes().filter(|byte| *byte != b' ').collect();
    let pair = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
    match bytes {
        Some(bytes) if is_hex && digits.len().is_multiple_of(2) && (1..=MAP_BYTES_MAX).contains(&bytes.len()) => {
            Some(bytes)
        }
        _ => {
            let what = format!("`{key}` must be 1 to {MAP_BYTES_MAX} bytes in hexadecimal, such as \"0f10\"");
            fields.error(word.span.clone(), what, None);
            None
        }
    }
}
