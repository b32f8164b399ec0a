//! Who may see what and do what.
//!
//! The page listens on loopback unless it has a token. Loopback alone keeps no web page out that a person at this machine has open: its scripts
//! can send requests here, and a name that first leads elsewhere and then to 127.0.0.1 makes them look like the page's own (DNS rebinding).
//! So `Host` must be a name of loopback where there is no token, and whatever changes something must come from this page itself.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};

use super::settings::Settings;

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `Host` names neither loopback nor the address that is listened on.
    Host,
    /// Another page sent it.
    Foreign,
    /// What changes something comes as JSON, which no form of another page can send.
    NotJson,
    /// There is a token, and it was not shown.
    NoToken,
    /// Another was shown.
    WrongToken,
}

/// Whether the visitor may see anything.
pub(super) fn may_see(settings: &Settings, headers: &HeaderMap) -> Result<(), Refusal> {
    match &settings.token {
        Some(token) => match shown(headers.get(AUTHORIZATION)) {
            None => Err(Refusal::NoToken),
            Some(shown) if is_same(&shown, token.expose().as_bytes()) => Ok(()),
            Some(_) => Err(Refusal::WrongToken),
        },
        None if host(headers).is_some_and(|host| is_ours(host, settings.listen.ip())) => Ok(()),
        None => Err(Refusal::Host),
    }
}

/// Whether a browser says that another page sent the request (W3C Fetch Metadata).
fn is_foreign(headers: &HeaderMap) -> bool {
    const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    headers.get(FETCH_SITE).is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}

/// Whether the page's visitor may hold one of the few streams, beside [`may_see`]: another page could not read it, and would keep the seat.
pub(super) fn may_follow(headers: &HeaderMap) -> Result<(), Refusal> {
    if is_foreign(headers) { Err(Refusal::Foreign) } else { Ok(()) }
}

/// Whether the page's visitor may change something, beside [`may_see`].
pub(super) fn may_change(headers: &HeaderMap) -> Result<(), Refusal> {
    if is_foreign(headers) {
        return Err(Refusal::Foreign);
    }
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        if origin.is_none() || !origin.zip(host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host)) {
            return Err(Refusal::Foreign);
        }
    }
    is_json(headers).then_some(()).ok_or(Refusal::NotJson)
}

/// Whether the body is said to be JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The host of `Host`, without its port.
fn host(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(HOST).iter();
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    let text = one.to_str().ok()?;
    match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(address, _)| address),
        None => text.split(':').next(),
    }
}

/// Any port will do: behind `ssh -L` it is another one than ours.
fn is_ours(host: &str, listen: IpAddr) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address == listen)
}

/// The password of Basic (RFC 7617), whatever the user name; the token of Bearer (RFC 6750).
fn shown(header: Option<&HeaderValue>) -> Option<Vec<u8>> {
    let (scheme, rest) = header?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64(rest.trim())?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(decoded[colon + 1..].to_vec())
}

/// Decodes base64 (RFC 4648, section 4); `None` for a character that is none of its own.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0_u32, 0);
    for character in text.trim_end_matches('=').bytes() {
        let six = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// Compares keyed hashes, whose keys nobody knows: how long it takes says nothing of where two texts differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let keys = (RandomState::new(), RandomState::new());
    (keys.0.hash_one(a), keys.1.hash_one(a)) == (keys.0.hash_one(b), keys.1.hash_one(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields =
            fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name, value);
        }
        map
    }

    fn settings(listen: &str, token: Option<&str>) -> Settings {
        let token = token.map(|token| Secret::new(token.to_owned()));
        Settings { listen: listen.parse().unwrap(), token, commands: true }
    }

    fn see(listen: &str, token: Option<&str>, fields: &[(&'static str, &'static str)]) -> Result<(), Refusal> {
        may_see(&settings(listen, token), &headers(fields))
    }

    #[test]
    fn without_a_token_only_names_of_loopback_are_answered() {
        for host in ["127.0.0.1:9273", "localhost", "LOCALHOST:8080", "[::1]:9273", "127.0.0.9"] {
            assert_eq!(see("127.0.0.1:9273", None, &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["rebound.example", "127.0.0.1.example:9273", "192.0.2.7:9273", "[::1", "", "localhost."] {
            assert_eq!(see("127.0.0.1:9273", None, &[("host", host)]), Err(Refusal::Host), "{host}");
        }
        assert_eq!(see("127.0.0.1:9273", None, &[]), Err(Refusal::Host));
        assert_eq!(see("127.0.0.1:9273", None, &[("host", "localhost"), ("host", "x")]), Err(Refusal::Host));
    }

    #[test]
    fn with_a_token_whoever_shows_it_may_see_under_any_name() {
        let listen = "0.0.0.0:9273";
        let see = |value| see(listen, Some("tide:gate"), &[("host", "greenhouse.local"), ("authorization", value)]);
        // "pi:tide:gate", ":tide:gate" and "pi:wrong"
        for good in ["Basic cGk6dGlkZTpnYXRl", "basic OnRpZGU6Z2F0ZQ==", "Bearer tide:gate"] {
            assert_eq!(see(good), Ok(()), "{good}");
        }
        for wrong in ["Basic cGk6d3Jvbmc=", "Bearer tide:gat", "Bearer "] {
            assert_eq!(see(wrong), Err(Refusal::WrongToken), "{wrong}");
        }
        for none in ["Basic %%%", "Basic", "Digest cGk6dGlkZTpnYXRl"] {
            assert_eq!(see(none), Err(Refusal::NoToken), "{none}");
        }
    }

    #[test]
    fn another_page_gets_no_stream() {
        assert_eq!(may_follow(&headers(&[])), Ok(()), "curl");
        assert_eq!(may_follow(&headers(&[("sec-fetch-site", "same-origin")])), Ok(()));
        assert_eq!(may_follow(&headers(&[("sec-fetch-site", "cross-site")])), Err(Refusal::Foreign));
    }

    #[test]
    fn only_the_page_itself_changes_something() {
        const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
        let change = |fields: &[(&'static str, &'static str)]| may_change(&headers(fields));
        let host = ("host", "localhost:9273");
        assert_eq!(change(&[host, JSON]), Ok(()), "curl");
        assert_eq!(change(&[host, JSON, ("origin", "http://localhost:9273")]), Ok(()));
        assert_eq!(change(&[host, JSON, ("sec-fetch-site", "same-origin")]), Ok(()));
        for foreign in [
            ("origin", "http://evil.example"),
            ("origin", "http://localhost:3000"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(change(&[host, JSON, foreign]), Err(Refusal::Foreign), "{foreign:?}");
        }
        for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
            assert_eq!(change(&[host, ("content-type", kind)]), Err(Refusal::NotJson), "{kind}");
        }
    }
}
