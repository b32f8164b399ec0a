//! The kinds of single values: how each is written, and what is wrong with one that is not.

use std::net::SocketAddr;

use serde_json::{Value as Json, json};

use super::code::Code;
use super::decode::{Refusal, Scalar, text_schema};
use super::tree::Value;
use crate::model::{self, SensorId};

fn text(value: &Value) -> Result<&str, Refusal> {
    match value {
        Value::Text(text) => Ok(text),
        _ => Err(Refusal::Type),
    }
}

fn form(reason: impl Into<String>) -> Refusal {
    Refusal::Form(reason.into())
}

impl Scalar for bool {
    const EXPECTED: &'static str = "true or false";
    const NAME: &'static str = "flag";

    fn schema() -> Json {
        json!({ "type": "boolean" })
    }

    fn read(value: &Value) -> Result<Self, Refusal> {
        match value {
            Value::Flag(flag) => Ok(*flag),
            _ => Err(Refusal::Type),
        }
    }
}

macro_rules! newtype {
    ($(#[doc = $doc:literal])+ $Name:ident($Inner:ty), $name:literal, $expected:literal, $code:expr, $schema:expr, $read:expr) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, PartialOrd)]
        pub struct $Name(pub $Inner);

        impl Scalar for $Name {
            const EXPECTED: &'static str = $expected;
            const NAME: &'static str = $name;
            const CODE: Code = $code;

            fn schema() -> Json {
                $schema
            }

            fn read(value: &Value) -> Result<Self, Refusal> {
                let read: fn(&Value) -> Result<$Inner, Refusal> = $read;
                read(value).map(Self)
            }
        }

        impl std::ops::Deref for $Name {
            type Target = $Inner;
            fn deref(&self) -> &$Inner {
                &self.0
            }
        }
    };
}

newtype!(
    /// Any text.
    Text(String), "text", "a text in quotes", Code::Malformed, json!({ "type": "string" }),
    |value| text(value).map(str::to_owned)
);
newtype!(
    /// A path, relative to the file it stands in.
    Path(String), "path", "a path in quotes", Code::Malformed, json!({ "type": "string" }),
    |value| match text(value)? {
        "" => Err(form("is empty")),
        path if path.contains('\0') => Err(form("contains the character U+0000")),
        path => Ok(path.to_owned()),
    }
);
newtype!(
    /// A topic with holes in braces; checked by `plan`, which knows what fills them.
    TopicText(String), "topic template", "a topic in quotes", Code::BadTopic, text_schema("plants/{gateway}/{1}"),
    |value| text(value).map(str::to_owned)
);
newtype!(
    /// A topic filter with `{gateway}` as its only hole; checked by `plan`.
    FilterText(String), "topic filter", "a topic filter in quotes", Code::BadTopic, text_schema("tidegate/+/air"),
    |value| text(value).map(str::to_owned)
);
newtype!(
    /// A name that becomes a topic level and part of a file name.
    Id(String), "id", "an id such as \"air-1\"", Code::BadId,
    json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" }),
    |value| {
        let text = text(value)?;
        // All ids follow one rule; which newtype checks it makes no difference.
        SensorId::parse(text).map_err(|error| form(error.to_string()))?;
        Ok(text.to_owned())
    }
);
newtype!(
    /// A whole number.
    Whole(i64), "whole number", "a whole number", Code::Malformed, json!({ "type": "integer" }),
    |value| match value {
        Value::Integer(literal) => whole(literal).ok_or_else(|| form("has more digits than a whole number can have")),
        _ => Err(Refusal::Type),
    }
);
newtype!(
    /// A number; finite.
    Decimal(f64), "number", "a number", Code::Malformed, json!({ "type": "number" }),
    |value| decimal(value)
);
newtype!(
    /// Quality of service.
    Qos(model::Qos), "0, 1 or 2", "0, 1 or 2", Code::OutOfRange, json!({ "enum": [0, 1, 2] }),
    |value| {
        let level = Whole::read(value)?.0;
        let known = u8::try_from(level).ok().and_then(model::Qos::from_level);
        known.ok_or_else(|| form(format!("cannot be {level}")))
    }
);
newtype!(
    /// A span of time with unit.
    Duration(std::time::Duration), "duration", "a duration with unit, such as \"500ms\", \"30s\" or \"1h30m\"", Code::Malformed,
    json!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$", "examples": ["500ms", "30s", "1h30m", "14d"] }),
    |value| with_unit(value, &TIME_UNITS).and_then(|ms| {
        u64::try_from(ms).map(std::time::Duration::from_millis).map_err(|_| form("is too long"))
    })
);
newtype!(
    /// A number of bytes with unit.
    Size(u64), "size", "a size with unit, such as \"64kB\" or \"256MiB\"", Code::Malformed,
    json!({ "type": "string", "pattern": "^[0-9]+(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)$", "examples": ["64kB", "256MiB"] }),
    |value| with_unit(value, &SIZE_UNITS).and_then(|bytes| u64::try_from(bytes).map_err(|_| form("is too large")))
);
newtype!(
    /// Address and port to listen at.
    Address(SocketAddr), "address and port", "an address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\"", Code::Malformed,
    text_schema("127.0.0.1:1883"),
    |value| {
        let text = text(value)?;
        text.parse().map_err(|_| match text.parse::<std::net::IpAddr>() {
            Ok(_) => form(format!("has no port: `{text}`")),
            Err(_) => form(format!("is no address and port: `{text}`")),
        })
    }
);

/// Reads a duration from the command line.
///
/// # Errors
/// What is wrong with it, as a fragment that follows the name of the option.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    Duration::read(&Value::Text(text.to_owned())).map(|duration| duration.0).map_err(|refusal| match refusal {
        Refusal::Form(reason) | Refusal::Secret(reason) => reason,
        Refusal::Type => format!("expected {}", Duration::EXPECTED),
    })
}

/// Milliseconds of each unit.
const TIME_UNITS: [(&str, u128); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// Bytes of each unit.
const SIZE_UNITS: [(&str, u128); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Sums up `1h30m`: whole numbers, each with its unit.
fn with_unit(value: &Value, units: &[(&str, u128)]) -> Result<u128, Refusal> {
    let known = || units.iter().map(|(unit, _)| *unit).collect::<Vec<_>>().join(", ");
    if let Value::Integer(number) = value {
        return Err(form(format!("has no unit: `{number}`; known: {}", known())));
    }
    let text = text(value)?;
    let mut rest = text;
    let mut sum: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if unit.is_empty() && !number.is_empty() {
            return Err(form(format!("has no unit: `{text}`; known: {}", known())));
        }
        let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
            return Err(form(format!("has an unknown unit: `{text}`; known: {}", known())));
        };
        let Ok(number) = number.parse::<u64>() else {
            return Err(form(format!("is not whole numbers with units: `{text}`")));
        };
        sum = sum.saturating_add(u128::from(number).saturating_mul(*factor));
        rest = after;
    }
    if text.is_empty() { Err(form("is empty")) } else { Ok(sum) }
}

/// The number of a TOML literal, `0x`, `0o` and `0b` included.
fn whole(literal: &str) -> Option<i64> {
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find_map(|(prefix, radix)| Some((literal.strip_prefix(prefix)?, radix)));
    let (digits, radix) = radix.unwrap_or((literal, 10));
    i64::from_str_radix(digits, radix).ok()
}

fn decimal(value: &Value) -> Result<f64, Refusal> {
    let number = match value {
        Value::Float(literal) => literal.parse::<f64>().map_err(|_| Refusal::Type)?,
        // A calibration factor of more than 2^53 is beyond any sensor; the rounding is that of every f64.
        #[allow(clippy::cast_precision_loss)]
        Value::Integer(_) => Whole::read(value)?.0 as f64,
        _ => return Err(Refusal::Type),
    };
    if number.is_finite() { Ok(number) } else { Err(form("is not finite")) }
}

/// Least and greatest good value.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Range {
    /// Least.
    pub min: f64,
    /// Greatest.
    pub max: f64,
}

impl Scalar for Range {
    const EXPECTED: &'static str = "two numbers, the lesser first, such as [-40, 85]";
    const NAME: &'static str = "two numbers";
    const CODE: Code = Code::Processing;

    fn schema() -> Json {
        json!({ "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 2 })
    }

    fn read(value: &Value) -> Result<Self, Refusal> {
        let Value::List(ends) = value else { return Err(Refusal::Type) };
        match ends.as_slice() {
            [min, max] => {
                let (min, max) = (decimal(&min.value)?, decimal(&max.value)?);
                if min < max { Ok(Self { min, max }) } else { Err(form("has its ends in the wrong order")) }
            }
            other => Err(form(format!("has {} numbers", other.len()))),
        }
    }
}

/// Baud, data bits, parity, stop bits: `9600 8N1`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct SerialLine {
    /// Baud.
    pub baud: u32,
    /// 5 to 8.
    pub data_bits: u8,
    /// `N`, `E` or `O`.
    pub parity: char,
    /// 1 or 2.
    pub stop_bits: u8,
}

impl Scalar for SerialLine {
    const EXPECTED: &'static str = "baud, data bits, parity and stop bits, such as \"9600 8N1\"";
    const NAME: &'static str = "serial line";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+ [5-8][NEO][12]$", "examples": ["9600 8N1", "4800 8E1"] })
    }

    fn read(value: &Value) -> Result<Self, Refusal> {
        let text = text(value)?;
        let wrong = |what: &str| form(format!("has {what}: `{text}`"));
        let (baud, frame) = text.split_once(' ').ok_or_else(|| wrong("no frame after the baud"))?;
        let baud = baud.parse().ok().filter(|baud| (50..=4_000_000).contains(baud));
        let baud = baud.ok_or_else(|| wrong("no baud between 50 and 4,000,000"))?;
        match frame.trim().as_bytes() {
            [data @ b'5'..=b'8', parity, stop @ b'1'..=b'2'] if b"NEO".contains(&parity.to_ascii_uppercase()) => {
                Ok(Self {
                    baud,
                    data_bits: data - b'0',
                    parity: char::from(parity.to_ascii_uppercase()),
                    stop_bits: stop - b'0',
                })
            }
            _ => Err(wrong("no frame such as 8N1")),
        }
    }
}

/// Address of a cloud broker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd)]
pub struct Url {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Scalar for Url {
    const EXPECTED: &'static str = "mqtts://HOST[:PORT] or mqtt://HOST[:PORT]";
    const NAME: &'static str = "URL";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^mqtts?://", "examples": ["mqtts://broker.example.com:8883"] })
    }

    fn read(value: &Value) -> Result<Self, Refusal> {
        let text = text(value)?;
        let Some((scheme, rest)) = text.split_once("://") else { return Err(form("has no scheme")) };
        let tls = match scheme {
            "mqtt" => false,
            "mqtts" => true,
            other => return Err(form(format!("has the unknown scheme `{other}`"))),
        };
        if rest.contains('@') {
            let reason = "holds a user name; `username` and `password` are keys of their own";
            return Err(Refusal::Secret(reason.to_owned()));
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_port(authority)?;
        if host.is_empty()
            || host.contains(|c: char| c == '/' || c == '?' || c == '#' || c.is_whitespace() || c.is_control())
        {
            return Err(form("has no host, or more than a host and a port"));
        }
        let port = match port {
            None => {
                if tls {
                    8883
                } else {
                    1883
                }
            }
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| form(format!("has no port from 1 to 65535: `{port}`")))?,
        };
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

/// Host and port of `host:port`, `[::1]:port` and either without the port.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), Refusal> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(|| form("has a bracket that is not closed"))?;
        return match (after.is_empty(), after.strip_prefix(':')) {
            (true, _) => Ok((host, None)),
            (false, Some(port)) => Ok((host, Some(port))),
            (false, None) => Err(form("has text after the bracket that is no port")),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(form("has an IPv6 address without brackets")),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

/// Where a secret is kept. The secret itself is never in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd)]
pub enum SecretRef {
    /// A credential that systemd hands over (`LoadCredential=`), by its name.
    Credential(String),
    /// A file, relative to the config file.
    File(String),
    /// An environment variable.
    Env(String),
}

impl Scalar for SecretRef {
    const EXPECTED: &'static str = "\"credential:NAME\", \"file:PATH\" or \"env:NAME\"";
    const NAME: &'static str = "secret";
    const CODE: Code = Code::SecretInFile;

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^(credential|file|env):.", "examples": ["credential:cloud.password"] })
    }

    fn read(value: &Value) -> Result<Self, Refusal> {
        // The text may be the secret: no message quotes it.
        match text(value)?.split_once(':') {
            Some((_, "")) => Err(form("names no place")),
            Some(("credential", name)) if name.contains('/') => Err(form("names a credential with a `/` in it")),
            Some(("credential", name)) => Ok(Self::Credential(name.to_owned())),
            Some(("file", path)) => Ok(Self::File(path.to_owned())),
            Some(("env", name)) => Ok(Self::Env(name.to_owned())),
            _ => Err(Refusal::Secret(
                "is no reference to a secret; a secret itself does not belong in this file".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Span;
    use super::super::tree::Node;
    use super::*;

    fn read<T: Scalar>(toml: &str) -> Result<T, String> {
        T::read(&Node::literal(toml, Span { start: 0, end: 0 }).value).map_err(|refusal| match refusal {
            Refusal::Type => "type".to_owned(),
            Refusal::Form(reason) | Refusal::Secret(reason) => reason,
        })
    }

    #[test]
    fn durations_are_sums_of_whole_numbers_with_units() {
        let ms = |toml| read::<Duration>(toml).map(|duration| duration.0.as_millis());
        assert_eq!(ms("\"500ms\""), Ok(500));
        assert_eq!(ms("\"1h30m\""), Ok(5_400_000));
        assert_eq!(ms("\"14d\""), Ok(1_209_600_000));
        assert_eq!(ms("\"0s\""), Ok(0));
        assert_eq!(ms("\"30\""), Err("has no unit: `30`; known: ms, s, m, h, d".into()));
        assert_eq!(ms("30"), Err("has no unit: `30`; known: ms, s, m, h, d".into()));
        assert_eq!(ms("\"30 s\""), Err("has an unknown unit: `30 s`; known: ms, s, m, h, d".into()));
        assert_eq!(ms("\"s\""), Err("is not whole numbers with units: `s`".into()));
        assert_eq!(ms("\"\""), Err("is empty".into()));
        assert_eq!(ms("\"18446744073709551615d\""), Err("is too long".into()));
        assert_eq!(ms("true"), Err("type".into()));
    }

    #[test]
    fn sizes_tell_thousands_from_powers_of_two() {
        assert_eq!(read::<Size>("\"64kB\"").unwrap().0, 64_000);
        assert_eq!(read::<Size>("\"256MiB\"").unwrap().0, 256 << 20);
        assert!(read::<Size>("\"1kb\"").is_err());
    }

    #[test]
    fn urls_carry_scheme_host_and_port() {
        let url = |tls, host: &str, port| Ok(Url { tls, host: host.to_owned(), port });
        assert_eq!(read("\"mqtt://a\""), url(false, "a", 1883));
        assert_eq!(read("\"mqtts://a.b/\""), url(true, "a.b", 8883));
        assert_eq!(read("\"mqtt://[::1]:99\""), url(false, "::1", 99));
        for wrong in
            ["a:1", "http://a", "mqtt://", "mqtt://a:0", "mqtt://a:x", "mqtt://u:p@a", "mqtt://::1", "mqtt://a/b"]
        {
            assert!(read::<Url>(&format!("\"{wrong}\"")).is_err(), "{wrong} was taken");
        }
    }

    #[test]
    fn a_serial_line_is_read_in_full() {
        assert_eq!(read("\"9600 8e1\""), Ok(SerialLine { baud: 9600, data_bits: 8, parity: 'E', stop_bits: 1 }));
        for wrong in ["9600", "9600 9N1", "9600 8N3", "9600 8X1", "0 8N1", "x 8N1"] {
            assert!(read::<SerialLine>(&format!("\"{wrong}\"")).is_err(), "{wrong} was taken");
        }
    }

    #[test]
    fn a_secret_in_the_file_is_refused_and_not_repeated() {
        let refusal = read::<SecretRef>("\"hunter2\"").unwrap_err();
        assert!(!refusal.contains("hunter2"));
        assert_eq!(read("\"env:CLOUD\""), Ok(SecretRef::Env("CLOUD".into())));
        assert!(read::<SecretRef>("\"credential:../x\"").is_err());
        assert!(read::<SecretRef>("\"file:\"").is_err());
    }
}
