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
    const NAME: &'static str = "true or false";

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

mod rate;
mod units;
mod url;

pub use rate::Rate;
pub use units::{Age, Duration, Size, duration};
pub use url::Url;

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
    TopicText(String), "template", "a topic in quotes", Code::BadTopic, text_schema("plants/{gateway}/{1}"),
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

/// A name, or where one is kept that is a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd)]
pub enum NameOrSecret {
    /// The name itself.
    Name(String),
    /// Where it is kept.
    Secret(SecretRef),
}

impl Scalar for NameOrSecret {
    const EXPECTED: &'static str = "a text, or \"credential:NAME\", \"file:PATH\" or \"env:NAME\"";
    const NAME: &'static str = "text or secret";

    fn schema() -> Json {
        json!({ "type": "string", "examples": ["greenhouse-1", "credential:cloud.token"] })
    }

    fn read(value: &Value) -> Result<Self, Refusal> {
        let name = text(value)?;
        if ["credential:", "file:", "env:"].iter().any(|place| name.starts_with(place)) {
            return SecretRef::read(value).map(Self::Secret);
        }
        Ok(Self::Name(name.to_owned()))
    }
}

#[cfg(test)]
mod test {
    use super::super::source::Span;
    use super::super::tree::Node;
    use super::*;

    /// Reads a value as it stands in a file.
    pub(super) fn read<T: Scalar>(toml: &str) -> Result<T, String> {
        T::read(&Node::literal(toml, Span { start: 0, end: 0 }).value).map_err(|refusal| match refusal {
            Refusal::Type => "type".to_owned(),
            Refusal::Form(reason) | Refusal::Secret(reason) => reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::test::read;
    use super::*;

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
        assert_eq!(read("\"env:CLOUD\""), Ok(NameOrSecret::Secret(SecretRef::Env("CLOUD".into()))));
        assert_eq!(read("\"tenant/user:1\""), Ok(NameOrSecret::Name("tenant/user:1".into())));
        assert!(read::<NameOrSecret>("\"file:\"").is_err());
    }
}
