use proptest::prelude::*;

use super::*;
use crate::bus::i2c::Replay;
use crate::drivers::Factory as Kind;

fn factory(options: &str) -> Result<Arc<dyn I2cFactory>, Vec<OptionsError>> {
    let table = toml::de::DeTable::parse(options).unwrap().into_inner();
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
    let samples = factory(options).unwrap().make(I2cHandle::new(replay.clone()), Pause::None).sample();
    assert_eq!(replay.finish(), None);
    match samples {
        Ok(samples) => Ok(samples.iter().map(|s| (s.name.to_string(), s.value.as_f64().unwrap())).collect()),
        Err(error) => Err(error.to_string()),
    }
}

/// §8.6.3: 0xc383 is A0 against ground at ±4.096 V, 128 a second, single-shot; §8.5.4 table 3: code 0x4000 is half the full scale.
#[test]
fn one_input_is_one_conversion() {
    let options = r#"inputs = [ { name = "battery", input = "A0", full_scale = 4.096 } ]"#;
    let lines = [
        "w 48 01 8383", // the range; the crate writes it by itself, which starts a conversion
        "w 48 01",
        "r 48 8383",
        "w 48 01 c383",
        "w 48 01",
        "r 48 4383", // OS is 0: it converts
        "w 48 01",
        "r 48 c383",
        "w 48 00",
        "r 48 4000",
        "w 48 01",
        "r 48 c383",
    ];
    assert_eq!(play(options, &lines), Ok(vec![("battery".to_owned(), 2.048)]));
}

/// §8.5.4 table 3: 0xffff is one count below zero, which at ±2.048 V is 62.5 µV (§8.3.3 table 1).
#[test]
fn a_difference_may_be_negative() {
    let lines = [
        "w 49 01",
        "r 49 8583",
        "w 49 01 b583",
        "w 49 01",
        "r 49 b583",
        "w 49 00",
        "r 49 ffff",
        "w 49 01",
        "r 49 b583",
    ];
    let options = r#"
        address = 0x49
        inputs = [ { name = "bridge", input = "A2-A3" } ]"#;
    assert_eq!(play(options, &lines), Ok(vec![("bridge".to_owned(), -0.000_062_5)]));
}

#[test]
fn an_input_beyond_its_full_scale_is_no_value() {
    let lines = ["w 48 01", "r 48 8583", "w 48 01 c583", "w 48 01", "r 48 c583", "w 48 00", "r 48 7fff"];
    let found = play(r#"inputs = [ { name = "tank", input = "A0" } ]"#, &lines);
    assert_eq!(found, Err("0x48: `tank` is beyond its full scale of 2.048 V".to_owned()));
}

#[test]
fn a_chip_that_does_not_hold_what_was_written_is_none() {
    let lines = [
        "w 48 01",
        "r 48 ffff",
        "w 48 01 c583",
        "w 48 01",
        "r 48 ffff",
        "w 48 00",
        "r 48 ffff",
        "w 48 01",
        "r 48 ffff",
    ];
    let error = play(r#"inputs = [ { name = "tank", input = "A0" } ]"#, &lines).unwrap_err();
    assert!(error.contains("reads 0x7fff where 0x4583 was written: no ADS1115"), "{error}");
}

#[test]
fn a_conversion_that_never_ends_is_given_up() {
    let lines = ["w 48 01", "r 48 0000"].repeat(8);
    let found = play(r#"inputs = [ { name = "tank", input = "A0" } ]"#, &lines);
    assert_eq!(found, Err("0x48: the conversion never ended".to_owned()));
}

#[test]
fn every_mistake_in_the_keys_is_told_at_its_place() {
    let told = |options: &str| -> Vec<String> {
        factory(options)
            .map(|_| ())
            .unwrap_err()
            .into_iter()
            .map(|error| format!("{} @ {}", error.message, &options[error.span.clone()]))
            .collect()
    };
    assert_eq!(
        told(
            r#"address = 0x50
inputs = [ { name = "a", input = "A4" }, { name = "a", input = "A1", full_scale = 5 }, { input = "A0", gain = 1 } ]
rate = 100"#
        ),
        [
            "the device has no address 0x50 @ address = 0x50",
            "the chip has no input `A4` @ \"A4\"",
            "`full_scale` cannot be 5 @ full_scale = 5",
            "an input needs `name` @ { input = \"A0\", gain = 1 }",
            "unknown key `gain` @ gain",
            "`rate` cannot be 100 @ rate = 100",
        ]
    );
    assert_eq!(told("inputs = []"), ["`inputs` must hold 1 to 8 inputs @ inputs = []"]);
    assert_eq!(told("rate = 8"), ["missing key `inputs` @ "]);
}

#[test]
fn a_simulated_chip_converts_every_input_at_every_scale_and_rate() {
    let options = r#"
        rate = 860
        inputs = [ { name = "a", input = "A0" }, { name = "b", input = "A1", full_scale = 6.144 }, { name = "c", input = "A1-A3" } ]"#;
    let factory = factory(options).unwrap();
    let mut driver = factory.make(I2cHandle::simulated(0x48, factory.simulated(1)), Pause::None);
    for sample in driver.sample().unwrap() {
        assert!((0.6..=1.4).contains(&sample.value.as_f64().unwrap()), "{sample:?}");
    }
    assert_ne!(driver.sample().unwrap(), driver.sample().unwrap());
}

proptest! {
    #[test]
    fn no_word_of_a_wire_panics(word in any::<[u8; 2]>()) {
        struct Any([u8; 2]);
        impl Target for Any {
            fn write(&mut self, _: &[u8]) -> Result<(), I2cFault> {
                Ok(())
            }
            fn read(&mut self, into: &mut [u8]) -> Result<(), I2cFault> {
                into.copy_from_slice(&self.0[..into.len()]);
                Ok(())
            }
        }
        let factory = factory(SPEC.example).unwrap();
        let _ = factory.make(I2cHandle::simulated(0x48, Box::new(Any(word))), Pause::None).sample();
    }
}
