use proptest::prelude::*;

use super::*;
use crate::bus::i2c::Replay;
use crate::drivers::{Factory as Kind, OptionsError};

fn factory(options: &str) -> Result<Arc<dyn I2cFactory>, Vec<OptionsError>> {
    let table = DeTable::parse(options).unwrap().into_inner();
    SPEC.build(table).map(|kind| match kind {
        Kind::I2c(factory) => factory,
        _ => panic!("on another bus"),
    })
}

fn play(options: &str, lines: &[&str]) -> Result<Vec<(String, f64)>, String> {
    let replay = Replay::default();
    for line in lines {
        replay.expect(line).unwrap();
    }
    let factory = factory(options).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    let outcome = factory.make(I2cHandle::new(replay.clone()), Pause::None).sample();
    assert_eq!(replay.finish(), None);
    match outcome {
        Ok(samples) => Ok(samples.iter().map(|s| (s.name.to_string(), s.value.as_f64().unwrap())).collect()),
        Err(error) => Err(error.to_string()),
    }
}

/// One value from bytes, with these keys beside.
fn value(keys: &str, frame: &str) -> Result<f64, String> {
    let len = frame.len() / 2;
    let options = format!(
        "address = 0x36\nall_zeros = true\nall_ones = true\nsteps = [ {{ read = {len} }} ]\ndecode.v = {{ {keys} }}"
    );
    play(&options, &[&format!("r 36 {frame}")]).map(|values| values[0].1)
}

/// What is wrong with some options, each with the text it points at.
fn mistakes(options: &str) -> Vec<String> {
    let Err(mistakes) = factory(options) else { panic!("nothing is wrong with {options}") };
    mistakes.into_iter().map(|error| format!("{} @ {}", error.message, &options[error.span])).collect()
}

#[test]
fn every_type_reads_its_bytes() {
    for (keys, frame, expected) in [
        ("type = 'u8'", "ff", 255.0),
        ("type = 'i8'", "ff", -1.0),
        ("type = 'u16be'", "0102", 258.0),
        ("type = 'u16le'", "0102", 513.0),
        ("type = 'i16be'", "8000", -32768.0),
        ("type = 'i16le'", "feff", -2.0),
        ("type = 'u24be'", "010203", 66051.0),
        ("type = 'i24be'", "ffffff", -1.0),
        ("type = 'u24le'", "010000", 1.0),
        ("type = 'i24le'", "000080", -8_388_608.0),
        ("type = 'u32be'", "ffffffff", 4_294_967_295.0),
        ("type = 'i32be'", "fffffffe", -2.0),
        ("type = 'u32le'", "01000000", 1.0),
        ("type = 'i32le'", "00000080", -2_147_483_648.0),
        ("type = 'f32be'", "41a80000", 21.0),
        ("type = 'f32le'", "0000a841", 21.0),
        ("type = 'bcd'", "59", 59.0),
        ("type = 'u8', at = 2", "000107", 7.0),
    ] {
        assert_eq!(value(keys, frame), Ok(expected), "{keys}");
    }
}

#[test]
fn bits_are_cut_out_and_a_signed_type_keeps_its_sign() {
    for (keys, frame, expected) in [
        ("type = 'u16be', mask = 0x0ff0", "abcd", 3008.0),
        ("type = 'u16be', mask = 0x0ff0, shift = 4", "abcd", 188.0),
        ("type = 'u16be', bits = [11, 4]", "abcd", 188.0),
        ("type = 'i16be', shift = 4", "fff0", -1.0),
        ("type = 'i16be', bits = [12, 0]", "1fff", -1.0),
        ("type = 'i16be', bits = [12, 0]", "e010", 16.0),
        ("type = 'u8', bits = [3, 3]", "08", 1.0),
        ("type = 'bcd', mask = 0x3f", "d9", 19.0),
        ("type = 'u16be', scale = 0.1, offset = -40, precision = 1", "0281", 24.1),
        ("type = 'u16be', formula = '((x - 200) / 10) | clamp(0, 100)'", "0320", 60.0),
    ] {
        assert_eq!(value(keys, frame), Ok(expected), "{keys}");
    }
}

#[test]
fn what_stands_for_no_value_is_none() {
    assert_eq!(
        value("type = 'u16be', invalid = [0xffff]", "ffff"),
        Err("0x36: `v` reads 0xffff, which stands for no value".into())
    );
    assert_eq!(value("type = 'bcd'", "5a"), Err("0x36: `v` reads 0x5a, which is no BCD".into()));
    assert_eq!(value("type = 'f32be'", "7fc00000"), Err("0x36: `v` is no number".into()));
    assert_eq!(value("type = 'u8', formula = '1 / x'", "00"), Err("0x36: `v`: division by zero".into()));
}

#[test]
fn a_formula_may_use_the_values_before_it() {
    let options = "address = 0x36
steps = [ { read = 2 } ]
decode.temperature = { type = 'u8' }
decode.humidity = { at = 1, type = 'u8' }
decode.dew = { type = 'u8', formula = 'dewpoint(temperature, humidity) | round(1)' }";
    let found = play(options, &["r 36 193c"]).unwrap();
    assert_eq!(found[2], ("dew".to_owned(), 16.7));
}

#[test]
fn a_read_of_nothing_but_zeros_or_ones_is_a_stuck_line_unless_it_may_be_a_value() {
    let options =
        |more: &str| format!("address = 0x36\n{more}\nsteps = [ {{ read = 2 }} ]\ndecode.v = {{ type = 'u16be' }}");
    assert!(play(&options(""), &["r 36 0000"]).unwrap_err().contains("held low"));
    assert!(play(&options(""), &["r 36 ffff"]).unwrap_err().contains("nobody"));
    assert!(play(&options("all_zeros = true"), &["r 36 ffff"]).is_err());
    assert!(play(&options("all_zeros = true"), &["r 36 0000"]).is_ok());
}

#[test]
fn init_is_said_once_and_again_after_a_failure() {
    let options =
        "address = 0x36\ninit = [ { write = '01' } ]\nsteps = [ { reg = 0x02, read = 1 } ]\ndecode.v = { type = 'u8' }";
    let replay = Replay::default();
    for line in ["w 36 01", "w 36 02", "r 36 05", "w 36 02", "r 36 nack", "w 36 01", "w 36 02", "r 36 07"] {
        replay.expect(line).unwrap();
    }
    let mut driver = factory(options).unwrap().make(I2cHandle::new(replay.clone()), Pause::None);
    assert!(driver.sample().is_ok());
    assert_eq!(driver.sample().unwrap_err().to_string(), "no answer at 0x36 (NACK)");
    driver.reset();
    assert!(driver.sample().is_ok());
    assert_eq!(replay.finish(), None);
}

#[test]
fn what_init_has_read_is_there_for_every_sample() {
    let options = "address = 0x36
init = [ { reg = 0x10, read = 1, into = 'factor' } ]
steps = [ { reg = 0x02, read = 1, into = 'raw' } ]
decode.factor = { from = 'factor', type = 'u8' }
decode.v = { from = 'raw', type = 'u8', formula = 'x * factor' }";
    let replay = Replay::default();
    for line in ["w 36 10", "r 36 03", "w 36 02", "r 36 05", "w 36 02", "r 36 07"] {
        replay.expect(line).unwrap();
    }
    let mut driver = factory(options).unwrap().make(I2cHandle::new(replay.clone()), Pause::None);
    let mut values = || driver.sample().map(|found| found[1].value.as_f64()).map_err(|error| error.to_string());
    assert_eq!([values(), values()], [Ok(Some(15.0)), Ok(Some(21.0))]);
    assert_eq!(replay.finish(), None);
}

#[test]
fn a_poll_ends_when_the_byte_is_as_wanted_or_its_time_is_over() {
    let options = "address = 0x36
steps = [ { write = 'aa' }, { poll = { reg = 0xf3, mask = 0x08, equals = 0, every = '2ms', timeout = '6ms' } }, { reg = 0x0f, read = 1 } ]
decode.v = { type = 'u8' }";
    let done = ["w 36 aa", "w 36 f3", "r 36 0c", "w 36 f3", "r 36 04", "w 36 0f", "r 36 2a"];
    assert_eq!(play(options, &done), Ok(vec![("v".to_owned(), 42.0)]));
    let never = ["w 36 aa", "w 36 f3", "r 36 0c", "w 36 f3", "r 36 0c", "w 36 f3", "r 36 0c"];
    assert_eq!(play(options, &never), Err("0x36: register f3 stays at 0c: the chip is not done".to_owned()));
}

#[test]
fn bits_are_whole_numbers() {
    for bits in ["[-1, 0]", "[3.7, 0]", "[7, -0.5]"] {
        let options = format!(
            "address = 0x36\nsteps = [ {{ read = 1, into = 'a' }} ]\ndecode.v = {{ type = 'u8', from = 'a', bits = {bits} }}"
        );
        assert_eq!(mistakes(&options), [format!("`bits` must be two of 7 to 0, the higher first @ bits = {bits}")]);
    }
}

#[test]
fn every_mistake_is_told_at_its_place() {
    assert_eq!(
        mistakes("addres = 0x36"),
        [
            "missing key `address` @ ",
            "missing key `steps` @ ",
            "missing key `decode` @ ",
            "unknown key `addres` @ addres"
        ]
    );
    let options = "address = 0x80
init = [ { write = '0g' }, { write = '01', read = 1 }, { delay = '5' }, {} ]
steps = [ { read = 2, into = 'a' }, { read = 65 }, { read = 1, into = 'a' }, { reg = 256, read = 1 }, { poll = { mask = 1, equals = 2 } } ]
crc = { algorithm = 'CRC-8/NRSC', every = 2 }
decode.a = { type = 'u16', from = 'b' }
decode.b = { type = 'u32be', from = 'a', bits = [3, 9], precison = 1 }
decode.c = { type = 'f32be', from = 'a', mask = 1, formula = 'x + ', scale = 2 }
decode.d = 7";
    assert_eq!(
        mistakes(options),
        [
            "a 7-bit address is 0x08 to 0x77 @ address = 0x80",
            "`write` must be 1 to 64 bytes in hexadecimal, such as \"0f10\" @ '0g'",
            "a step does one thing; `write` is there already @ read = 1",
            "`delay` has no unit: `5`; known: ms, s, m, h, d @ '5'",
            "a step does something: `write`, `read`, `poll`, `expect` or `delay` @ {}",
            "`read` must be 1 to 64 @ 65",
            "buffer `a` is read twice @ 'a'",
            "`reg` must be 0 to 0xff, or bytes in hexadecimal such as \"0f10\" @ 256",
            "`equals` has bits that `mask` takes away: it would never come @ equals = 2",
            "no checksum is named `CRC-8/NRSC` @ 'CRC-8/NRSC'",
            "unknown type `u16` @ 'u16'",
            "nothing is read into `b` @ 'b'",
            "`b` needs bytes 0 to 3 of a buffer of 2 @ b = { type = 'u32be', from = 'a', bits = [3, 9], precison = 1 }",
            "`bits` must be two of 31 to 0, the higher first @ bits = [3, 9]",
            "unknown key `precison` @ precison",
            "`c` needs bytes 0 to 3 of a buffer of 2 @ c = { type = 'f32be', from = 'a', mask = 1, formula = 'x + ', scale = 2 }",
            "the bits of an `f32` cannot be taken apart @ mask = 1",
            "a formula takes the place of `scale` and `offset` @ 'x + '",
            "the formula ends where a value should follow @ '",
            "`decode.d` must be a table @ d = 7",
        ]
    );
}

#[test]
fn what_would_take_too_long_or_too_much_is_refused() {
    let with = |more: &str| format!("address = 0x36\n{more}\ndecode.v = {{ type = 'u8' }}");
    assert!(
        mistakes(&with("steps = [ { read = 1, delay = '3s' }, { delay = '2s' } ]"))[0].contains("waits 5000 ms in all")
    );
    assert!(mistakes(&with("steps = [ { read = 1, delay = '1h' } ]"))[0].contains("is longer than 4000 ms"));
    let many = format!("steps = [ {} ]", "{ read = 1 }, ".repeat(33));
    assert!(mistakes(&with(&many))[0].contains("must hold 1 to 32 steps"));
    assert!(
        mistakes(&with("steps = [ { read = 4 } ]\ncrc = { algorithm = 'CRC-8/SMBUS', every = 2 }"))[0]
            .contains("groups of 3")
    );
}

#[test]
fn a_simulated_chip_answers_whatever_is_described() {
    let options = "address = 0x36
init = [ { expect = { reg = 0xd0, equals = '60' } }, { write = '0f10' } ]
steps = [ { write = 'aa' }, { poll = { mask = 0x80, equals = 0 } }, { read = 6 }, { reg = 0x01, read = 3, into = 'b' } ]
crc = { algorithm = 'CRC-8/NRSC-5', every = 2 }
decode.a = { from = '', type = 'i16be', scale = 0.01, simulate = [-1000, 1000] }
decode.c = { from = '', at = 2, type = 'u16le', bits = [11, 2] }
decode.d = { from = 'b', type = 'u16be' }";
    let factory = factory(options).unwrap();
    let mut driver = factory.make(I2cHandle::simulated(0x36, factory.simulated(5)), Pause::None);
    let mut signs = [false; 2];
    for _ in 0..240 {
        let samples = driver.sample().unwrap();
        let a = samples[0].value.as_f64().unwrap();
        assert!((-10.0..=10.0).contains(&a), "{a}");
        signs[usize::from(a < 0.0)] = true;
        assert!((0.0..=1023.0).contains(&samples[1].value.as_f64().unwrap()));
    }
    assert_eq!(signs, [true; 2]);
}

proptest! {
    #[test]
    fn no_bytes_of_a_wire_panic(frame in any::<[u8; 12]>(), kind in 0..field::KINDS.len(), shift in 0..8_u32) {
        let name = field::KINDS[kind].name;
        let shift = if name.starts_with('f') { 0 } else { shift };
        let frame = check::hex(&frame);
        let found = value(&format!("type = '{name}', at = 3, shift = {shift}, formula = 'sqrt(x) + 1 / x'"), &frame);
        prop_assert!(found.is_err() || found.unwrap().is_finite());
    }

    #[test]
    fn no_text_of_a_config_panics(text in "[a-z]{1,5} = [\\[{]{0,3}[a-z0-9=, '\"]{0,30}[\\]}]{0,3}") {
        if let Ok(table) = DeTable::parse(&text) {
            let _ = SPEC.build(table.into_inner());
        }
    }
}
