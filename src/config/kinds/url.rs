//! The address of a cloud broker.

use serde_json::{Value as Json, json};

use super::{form, text};
use crate::config::decode::{Refusal, Scalar};
use crate::config::tree::Value;

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

#[cfg(test)]
mod tests {
    use super::super::test::read;
    use super::*;

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
}
