//! What a person may do where the way to a cloud ends. By the words that the rooms have for it, so that there is one list of those.

use super::probe::{HUNG_UP, Stage, TEST_SUFFIX, Who};
use super::settings::{Auth, Settings};
use crate::model::Timestamp;
use crate::mqtt::certificate::{Certificate, minute};

/// What a hint hangs on beside the words.
pub(super) struct Hint<'a> {
    pub(super) settings: &'a Settings,
    pub(super) who: Who,
    pub(super) wall: Timestamp,
}

/// The hint; empty where there is nothing to say.
pub(super) fn of(asked: &Hint<'_>, stage: Stage, reason: &str, certificate: Option<&Certificate>) -> String {
    let has = |words: &str| reason.contains(words);
    let tls = asked.settings.tls.as_ref();
    let web = asked.settings.url.path.is_some();
    match stage {
        Stage::Name => "is the name in `url` right, and does this board have a name server (/etc/resolv.conf)?".into(),
        Stage::Tcp if has("refused") => {
            "something is there, and nothing listens at this port: is the port in `url` right?".into()
        }
        Stage::Tcp if has("unreachable") || has("no route") => "is this board's network up?".into(),
        Stage::Tcp => "is the host in `url` right? A firewall on the way may let nothing through to this port".into(),
        Stage::Tls if has("expired") && !has("our certificate") => format!(
            "whoever runs the cloud has to renew it; this board's clock says {}{}",
            minute(asked.wall.unix_ms),
            unset(asked.wall)
        ),
        Stage::Tls if has("not valid yet") => format!(
            "this board's clock says {}{}: set it (timedatectl), or wait until it has been",
            minute(asked.wall.unix_ms),
            unset(asked.wall)
        ),
        Stage::Tls if has("name mismatch") => {
            let names = certificate.map_or_else(String::new, |certificate| format!(": {}", certificate.names_told()));
            format!("use a name that the certificate has in `url`, or as `server_name` of `tls`{names}")
        }
        Stage::Tls if has("unknown authority") => match tls.and_then(|tls| tls.ca.as_ref()) {
            Some(ca) => format!("`{}` does not hold the authority that signed it", ca.display()),
            None => "if the cloud has an authority of its own, give its certificate as `ca` of `tls`".into(),
        },
        Stage::Tls if has("our certificate") || has("client certificate") => "see `cert` and `key` of `tls`".into(),
        Stage::Tls if has("closed") || has("reset") || has("handshake") => {
            "is this a port for TLS, and does the cloud want a client certificate (`cert` and `key` of `tls`)?".into()
        }
        Stage::WebSocket => "is the path in `url` that of its MQTT?".into(),
        Stage::Connect if has("clock is not set") => "set the clock (timedatectl), or wait until it has been".into(),
        Stage::Connect if has("bad user name") || has("0x8c") => login(&asked.settings.auth).into(),
        Stage::Connect if has("not authorized") || has("client id") || has(HUNG_UP) || has("reset") => {
            let login = login(&asked.settings.auth);
            match asked.who {
                Who::Test => format!(
                    "{login}; a cloud that lets in only one client id refuses `{}{TEST_SUFFIX}`: then stop the gateway and say --as-bridge",
                    asked.settings.client_id.strip_suffix(TEST_SUFFIX).unwrap_or(&asked.settings.client_id),
                ),
                Who::Bridge => format!("{login}, and what the cloud allows `{}`", asked.settings.client_id),
            }
        }
        Stage::Connect if (has("no CONNACK") || has("closed")) && tls.is_none() && !web => {
            "is this a port for MQTT without TLS? With TLS the URL begins with mqtts://".into()
        }
        Stage::Tls | Stage::Connect => String::new(),
        Stage::Subscribe => "does the cloud allow this client what `in` asks for?".into(),
        Stage::Publish => "does the cloud allow this client to publish there? --topic names another topic".into(),
    }
}

fn unset(wall: Timestamp) -> &'static str {
    if wall.synced { "" } else { ", and may not be set" }
}

fn login(auth: &Auth) -> &'static str {
    match auth {
        Auth::Password => "look at `username` and `password`",
        _ => "look at `auth`, and at this board's clock",
    }
}
