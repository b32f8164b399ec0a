//! Chips that are data: each is a text in `presets/`, carried out by `i2c_map`. A new one is its text, its line here and its line in the registry.

use schemars::JsonSchema;

use super::{Build, Channel, DriverSpec, i2c_map};

/// Keys of a sensor whose chip is a preset.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand.
struct Options {
    /// 7-bit address, one of those that the chip can have. Left out, its usual one.
    address: Option<u8>,
}

macro_rules! presets {
    ($($NAME:ident: $name:literal, $address:literal, $summary:literal, [$($channel:expr),+];)+) => {
        $(
            #[doc = $summary]
            pub const $NAME: DriverSpec = DriverSpec {
                name: $name,
                summary: $summary,
                channels: &[$($channel),+],
                example: concat!("address = ", $address, "\n"),
                schema: || schemars::schema_for!(Options),
                build: Build::I2c(|table| i2c_map::build_preset(include_str!(concat!("presets/", $name, ".toml")), table)),
            };
        )+

        /// Each preset by name, and its text.
        pub const TEXTS: &[(&str, &str)] = &[$(($name, include_str!(concat!("presets/", $name, ".toml")))),+];
    };
}

/// The text of a preset: what `i2c-map` would be told.
pub fn text(name: &str) -> Option<&'static str> {
    TEXTS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

presets! {
    AHT20: "aht20", "0x38", "ASAIR AHT20, AHT21, DHT20: relative humidity and temperature",
        [Channel::new("humidity", "%", 0.0, 100.0), Channel::new("temperature", "°C", -40.0, 85.0)];
    BH1750: "bh1750", "0x23", "ROHM BH1750FVI: illuminance",
        [Channel::new("illuminance", "lx", 0.0, 54_612.5)];
    HDC1080: "hdc1080", "0x40", "Texas Instruments HDC1080: temperature and relative humidity",
        [Channel::new("temperature", "°C", -40.0, 125.0), Channel::new("humidity", "%", 0.0, 100.0)];
    HTU21D: "htu21d", "0x40", "TE Connectivity HTU21D, Sensirion SHT20, SHT21, SHT25: temperature and relative humidity",
        [Channel::new("temperature", "°C", -40.0, 125.0), Channel::new("humidity", "%", 0.0, 100.0)];
    INA260: "ina260", "0x40", "Texas Instruments INA260: current, voltage and power of a supply",
        [Channel::new("current", "A", -15.0, 15.0), Channel::new("voltage", "V", 0.0, 36.0), Channel::new("power", "W", 0.0, 540.0)];
    LM75: "lm75", "0x48", "NXP LM75A, LM75B and their like: temperature",
        [Channel::new("temperature", "°C", -55.0, 125.0)];
    MCP9808: "mcp9808", "0x18", "Microchip MCP9808: temperature",
        [Channel::new("temperature", "°C", -40.0, 125.0)];
    SHT4X: "sht4x", "0x44", "Sensirion SHT40, SHT41, SHT45: temperature and relative humidity",
        [Channel::new("temperature", "°C", -40.0, 125.0), Channel::new("humidity", "%", 0.0, 100.0)];
    SHTC3: "shtc3", "0x70", "Sensirion SHTC3: temperature and relative humidity",
        [Channel::new("temperature", "°C", -40.0, 125.0), Channel::new("humidity", "%", 0.0, 100.0)];
    SI7021: "si7021", "0x40", "Silicon Labs Si7021, Si7013, Si7020: temperature and relative humidity",
        [Channel::new("temperature", "°C", -40.0, 125.0), Channel::new("humidity", "%", 0.0, 100.0)];
    TMP102: "tmp102", "0x48", "Texas Instruments TMP102: temperature",
        [Channel::new("temperature", "°C", -40.0, 125.0)];
    TMP117: "tmp117", "0x48", "Texas Instruments TMP117: temperature",
        [Channel::new("temperature", "°C", -55.0, 150.0)];
}

#[cfg(test)]
mod tests;
