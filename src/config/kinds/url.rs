//! The address of a cloud broker.

use serde_json::{Value as Json, json};

use super::{form, text};
use crate::config::decode::{Refusal, Scalar};
use crate::config::tree::Value;
use crate::limits::WEBSOCKET_PATH_BYTES_MAX;

/// Address of a cloud broker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd)]
pub struct Url {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path of the WebSocket that MQTT is spoken in; `None`: MQTT by itself.
    pub path: Option<String>,
    /// Whether the path was left out, so that another usual one may stand in.
    pub path_left_out: bool,
}

/// Where MQTT is on a web server that is asked for no path: nearly every broker has it there.
const PATH: &str = "/mqtt";

impl Scalar for Url {
    const EXPECTED: &'static str =
        "mqtts://HOST[:PORT], wss://HOST[:PORT][/PATH], or the same in clear text as mqtt:// or ws://";
    const NAME: &'static str = "URL";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^(mqtts?|wss?)://", "examples": ["mqtts://broker.example.com:8883", "wss://broker.example.com/mqtt"] })
    }

    fn read(value: &Value) -> Result<Self, Refusal> {
        let text = text(value)?;
        let Some((scheme, rest)) = text.split_once("://") else { return Err(form("has no scheme")) };
        let (tls, web, usual) = match scheme {
            "mqtt" => (false, false, 1883),
            "mqtts" => (true, false, 8883),
            "ws" => (false, true, 80),
            "wss" => (true, true, 443),
            other => return Err(form(format!("has the unknown scheme `{other}`"))),
        };
        if rest.contains('@') {
            let reason = "holds a user name; `username` and `password` are keys of their own";
            return Err(Refusal::Secret(reason.to_owned()));
        }
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) if web => (authority, Some(path_of(path)?)),
            Some((authority, "")) => (authority, None),
            None if web => (rest, Some(PATH.to_owned())),
            _ => (rest, None),
        };
        let path_left_out = web && rest.split_once('/').is_none_or(|(_, path)| path.is_empty());
        let (host, port) = split_port(authority)?;
        if host.is_empty()
            || host.contains(|c: char| c == '/' || c == '?' || c == '#' || c.is_whitespace() || c.is_control())
        {
            return Err(form("has no host, or more than a host and a port"));
        }
        let port = match port {
            None => usual,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| form(format!("has no port from 1 to 65535: `{port}`")))?,
        };
        Ok(Self { tls, host: host.to_owned(), port, path, path_left_out })
    }
}

/// The path after its first slash, whole [RFC 3986 §3.3]. Without one it is [`PATH`].
fn path_of(rest: &str) -> Result<String, Refusal> {
    if rest.is_empty() {
        return Ok(PATH.to_owned());
    }
    if rest.contains('?') {
        // What clouds want there is signed or secret, and would stand in every line that names the cloud.
        return Err(Refusal::Secret("holds a query, and what is asked for there is mostly a secret".to_owned()));
    }
    if rest.len() >= WEBSOCKET_PATH_BYTES_MAX {
        return Err(form(format!("has a path of {} bytes; {WEBSOCKET_PATH_BYTES_MAX} are the most", rest.len() + 1)));
    }
    match rest.chars().find(|c| !(c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@%/".contains(*c))) {
        Some(c) => Err(form(format!("has a path with {c:?} in it, which has to be written with %"))),
        None => Ok(format!("/{rest}")),
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
        let url =
            |tls, host: &str, port| Ok(Url { tls, host: host.to_owned(), port, path: None, path_left_out: false });
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
    fn a_websocket_has_a_path_and_the_ports_of_the_web() {
        let url = |tls, host: &str, port, path: &str, path_left_out| {
            Ok(Url { tls, host: host.to_owned(), port, path: Some(path.to_owned()), path_left_out })
        };
        assert_eq!(read("\"ws://a\""), url(false, "a", 80, "/mqtt", true));
        assert_eq!(read("\"wss://a.b/\""), url(true, "a.b", 443, "/mqtt", true));
        assert_eq!(read("\"wss://a.b/mqtt\""), url(true, "a.b", 443, "/mqtt", false));
        assert_eq!(read("\"wss://[::1]:8084/x/y%20z\""), url(true, "::1", 8084, "/x/y%20z", false));
        for wrong in ["ws://", "ws:///mqtt", "ws://a/m q", "ws://a/#x", "ws://a/?token=x", "wss://a/mö", "wss://a?x"] {
            assert!(read::<Url>(&format!("\"{wrong}\"")).is_err(), "{wrong} was taken");
        }
    }
}
