use super::super::Factory;
use super::super::registry;
use super::*;
use crate::bus::i2c::{I2cHandle, Pause, Replay};

fn factory(name: &str) -> std::sync::Arc<dyn super::super::I2cFactory> {
    let spec = registry::find(name).unwrap();
    match spec.build(toml::de::DeTable::parse("").unwrap().into_inner()) {
        Ok(Factory::I2c(factory)) => factory,
        Ok(_) => panic!("{name} is on another bus"),
        Err(mistakes) => panic!("{name}: {mistakes:?}"),
    }
}

/// What a chip that was heard like this measures.
fn play(name: &str, lines: &[&str]) -> Result<Vec<f64>, String> {
    let replay = Replay::default();
    for line in lines {
        replay.expect(line).unwrap();
    }
    let outcome = factory(name).make(I2cHandle::new(replay.clone()), Pause::None).sample();
    assert_eq!(replay.finish(), None, "{name}");
    match outcome {
        Ok(samples) => Ok(samples.iter().map(|sample| sample.value.as_f64().unwrap()).collect()),
        Err(error) => Err(error.to_string()),
    }
}

/// One temperature register, read at each of these words.
fn temperatures(name: &str, before: &[&str], at: &str, table: &[(&str, f64)]) {
    for (word, expected) in table {
        let (ask, answer) = (format!("w {at}"), format!("r {} {word}", &at[..2]));
        let lines: Vec<&str> = before.iter().copied().chain([ask.as_str(), answer.as_str()]).collect();
        assert_eq!(play(name, &lines), Ok(vec![*expected]), "{name} {word}");
    }
}

#[test]
fn every_preset_gives_the_values_that_its_line_promises() {
    for (name, _) in TEXTS {
        let spec = registry::find(name).unwrap();
        let factory = factory(name);
        let promised: Vec<&str> = spec.channels.iter().map(|channel| channel.name).collect();
        assert_eq!(factory.channels().iter().map(AsRef::as_ref).collect::<Vec<&str>>(), promised, "{name}");
        let units: Vec<(&str, &str)> = spec.channels.iter().map(|channel| (channel.name, channel.unit)).collect();
        let found = factory.units();
        assert_eq!(found.iter().map(|(name, unit)| (&**name, &**unit)).collect::<Vec<_>>(), units, "{name}");
    }
}

#[test]
fn every_simulated_chip_answers_its_preset_with_values_that_move_within_their_ranges() {
    for (name, _) in TEXTS {
        let spec = registry::find(name).unwrap();
        let factory = factory(name);
        let target = factory.simulated(11);
        let mut driver = factory.make(I2cHandle::simulated(factory.address(), target), Pause::None);
        let mut seen = Vec::new();
        for _ in 0..50 {
            let samples = driver.sample().unwrap_or_else(|error| panic!("{name}: {error}"));
            for (sample, channel) in samples.iter().zip(spec.channels) {
                let value = sample.value.as_f64().unwrap();
                assert!(value > channel.range.0 && value < channel.range.1, "{name} {} {value}", channel.name);
            }
            seen.push(samples);
        }
        seen.dedup();
        assert!(seen.len() > 10, "{name} hardly moves: {seen:?}");
    }
}

/// ROHM 11046EDT01, p. 7: high byte 1000_0011, low byte 1001_0000 is 28067 lx.
#[test]
fn bh1750_reads_the_example_of_its_technical_note() {
    assert_eq!(play("bh1750", &["w 23 20", "r 23 8390"]), Ok(vec![28_066.7]));
    assert_eq!(play("bh1750", &["w 23 20", "r 23 0000"]), Ok(vec![0.0]), "darkness is a value");
}

/// HPC199_6, p. 14: 0x683a has the checksum 0x7c; p. 15: it is 24.7 °C, and 0x7c80 is 54.8 %.
#[test]
fn htu21d_reads_the_examples_of_its_datasheet() {
    let lines = ["w 40 fe", "w 40 f3", "r 40 683a7c", "w 40 f5", "r 40 7c80f5"];
    let found = play("htu21d", &lines);
    assert_eq!(found, Ok(vec![24.69, 54.79]));
    let lines = ["w 40 fe", "w 40 f3", "r 40 683b7c"];
    assert_eq!(play("htu21d", &lines), Err("0x40: checksum mismatch in bytes 0 to 1: expected 4d, got 7c".into()));
}

/// Rev. 1.2 has the formulas of its sister, §5.1.1 and §5.1.2.
#[test]
fn si7021_reads_as_its_sister_does() {
    let lines = ["w 40 fe", "w 40 f3", "r 40 683a7c", "w 40 f5", "r 40 7c80f5"];
    assert_eq!(play("si7021", &lines), Ok(vec![24.69, 54.79]));
}

/// NXP LM75B rev. 6.1, table 10.
#[test]
fn lm75_reads_the_table_of_its_datasheet() {
    let table = [
        ("7f00", 127.0),
        ("7ee0", 126.875),
        ("7de0", 125.875),
        ("1900", 25.0),
        ("0020", 0.125),
        ("0000", 0.0),
        ("ffe0", -0.125),
        ("e700", -25.0),
        ("c920", -54.875),
        ("c900", -55.0),
    ];
    temperatures("lm75", &[], "48 00", &table);
}

/// SBOS397H, table 7-1.
#[test]
fn tmp102_reads_the_table_of_its_datasheet() {
    let table = [
        ("7ff0", 127.9375),
        ("6400", 100.0),
        ("5000", 80.0),
        ("4b00", 75.0),
        ("3200", 50.0),
        ("1900", 25.0),
        ("0040", 0.25),
        ("0000", 0.0),
        ("ffc0", -0.25),
        ("e700", -25.0),
        ("c900", -55.0),
    ];
    temperatures("tmp102", &["w 48 01", "r 48 60a0"], "48 00", &table);
    let extended = play("tmp102", &["w 48 01", "r 48 60b0"]).unwrap_err();
    assert!(extended.contains("register 01 reads 60b0 where 0000 is expected"), "{extended}");
}

/// DS25095A, figure 5-5: 0xc194 is +25.25 °C, alert bits set.
#[test]
fn mcp9808_reads_the_example_of_its_datasheet() {
    let id = ["w 18 06", "r 18 0054", "w 18 07", "r 18 0400"];
    temperatures("mcp9808", &id, "18 05", &[("c194", 25.25), ("0000", 0.0), ("1ff0", -1.0), ("1d80", -40.0)]);
    let other = play("mcp9808", &["w 18 06", "r 18 1050"]).unwrap_err();
    assert_eq!(other, "0x18: register 06 reads 1050 where 0054 is expected: another chip?");
}

/// SNOSD82D, table 7-1.
#[test]
fn tmp117_reads_the_table_of_its_datasheet() {
    let id = ["w 48 0f", "r 48 0117"];
    let table = [
        ("7fff", 255.9922),
        ("3200", 100.0),
        ("0c80", 25.0),
        ("0001", 0.0078),
        ("0000", 0.0),
        ("ffff", -0.0078),
        ("f380", -25.0),
    ];
    temperatures("tmp117", &id, "48 00", &table);
    let early = play("tmp117", &["w 48 0f", "r 48 0117", "w 48 00", "r 48 8000"]).unwrap_err();
    assert_eq!(early, "0x48: `temperature` reads 0x8000, which stands for no value");
}

/// Sensirion version 6.5, §4.4: 0xbeef has the checksum 0x92; §4.6 gives the formulas.
#[test]
fn sht4x_reads_by_the_formulas_of_its_datasheet() {
    assert_eq!(play("sht4x", &["w 44 fd", "r 44 beef920000 81"]), Ok(vec![85.52, 0.0]), "humidity is cut at 0");
    assert_eq!(play("sht4x", &["w 44 fd", "r 44 000081ffffac"]), Ok(vec![-45.0, 100.0]));
}

/// Sensirion version 4, §5.9 and §5.11.
#[test]
fn shtc3_makes_sure_of_its_chip_and_lets_it_sleep() {
    let id = ["w 70 3517", "w 70 efc8", "r 70 4887", "w 70 b098"];
    let measure = ["w 70 3517", "w 70 7866", "r 70 beef92beef92", "w 70 b098"];
    assert_eq!(play("shtc3", &[id, measure].concat()), Ok(vec![85.52, 74.58]));
}

/// Manual 1.0, §6: half of 2^20 is 50 % and 50 °C.
#[test]
fn aht20_waits_for_its_measurement() {
    let crc = crc::Crc::<u8>::new(&crc::CRC_8_NRSC_5).checksum(&[0x1c, 0x80, 0, 0x08, 0, 0]);
    let last = format!("r 38 1c8000080000{crc:02x}");
    let lines = ["w 38 be0800", "w 38 ac3300", "r 38 9c", "r 38 1c", &last];
    assert_eq!(play("aht20", &lines), Ok(vec![50.0, 50.0]));
}

/// SNAS672A, §8.6.1 and §8.6.2: half of 2^16 is 42.5 °C and 50 %.
#[test]
fn hdc1080_measures_both_at_once() {
    let id = ["w 40 fe", "r 40 5449", "w 40 ff", "r 40 1050", "w 40 021000"];
    assert_eq!(play("hdc1080", &[id.as_slice(), &["w 40 00", "r 40 80008000"]].concat()), Ok(vec![42.5, 50.0]));
}

/// SBOS656C, §8.6.2 to §8.6.4: 0x2570 is 11.98 V, 0x1f40 is 10 A, 0x2ecc is 119.8 W.
#[test]
fn ina260_reads_current_voltage_and_power() {
    let id = ["w 40 fe", "r 40 5449", "w 40 ff", "r 40 2271", "w 40 006527"];
    let read = ["w 40 01", "r 40 1f40", "w 40 02", "r 40 2570", "w 40 03", "r 40 2ecc"];
    assert_eq!(play("ina260", &[id.as_slice(), read.as_slice()].concat()), Ok(vec![10.0, 11.98, 119.8]));
}
