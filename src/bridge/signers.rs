//! How a bridge proves who it is: from what the config gives, client id, user name and password for one CONNECT.
//!
//! Pure: the time and the chance that goes in are arguments. What a maker calls its key, and which text is signed, is cited at each; the tests hold
//! the results against vectors that the makers published.

use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use ring::hmac;

use super::settings::{Auth, Settings};
use crate::limits::{CLOCK_PLAUSIBLE_MS, TOKEN_MARGIN_MAX};
use crate::model::time::rfc3339;
use crate::model::{Secret, Timestamp};

/// What one CONNECT says of who connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) client_id: String,
    pub(super) username: Option<Secret>,
    pub(super) password: Option<Secret>,
    /// How long the connection may last before it has to be made anew; `None`: without end.
    pub(super) lasts: Option<Duration>,
}

/// Why there can be none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The key is no base64.
    #[error("the key is no base64")]
    Key,
    /// A token made by this clock is out of date before it is made.
    #[error("the clock is not set: a token would be out of date")]
    Clock,
}

/// Makes the credentials of one connection. `chance` goes into what has to differ from connection to connection.
///
/// # Errors
/// [`SignError::Clock`] where a token needs the time and the clock cannot be right.
pub(super) fn credentials(settings: &Settings, wall: Timestamp, chance: u32) -> Result<Credentials, SignError> {
    let id = &settings.client_id;
    let given = |password: Option<&Secret>| Credentials {
        client_id: id.clone(),
        username: settings.username.clone(),
        password: password.cloned(),
        lasts: None,
    };
    match &settings.auth {
        Auth::Password => Ok(given(settings.password.as_ref())),
        Auth::Sas { host, device, policy, key, ttl } => {
            let ends_s = ends_s(wall, *ttl)?;
            // learn.microsoft.com: communicate with an IoT hub using the MQTT protocol, "as a device".
            let username = format!("{host}/{device}/?api-version=2021-04-12");
            let password = sas(&format!("{host}/devices/{device}"), key, policy.as_deref(), ends_s)?;
            Ok(Credentials {
                client_id: device.clone(),
                username: Some(settings.username.clone().unwrap_or_else(|| Secret::new(username))),
                password: Some(password),
                lasts: Some(until_renewal(*ttl)),
            })
        }
        Auth::Aliyun { product, device, key } => {
            // help.aliyun.com: MQTT connections over TCP. The time stamp may be left out, and a board without a clock has none.
            let mode = if settings.tls.is_some() { 2 } else { 3 };
            let signed = aliyun_text(id, device, product, None);
            Ok(Credentials {
                client_id: format!("{id}|securemode={mode},signmethod=hmacsha256|"),
                username: Some(Secret::new(format!("{device}&{product}"))),
                password: Some(hex(hmac::HMAC_SHA256, key.expose().as_bytes(), &signed)),
                lasts: None,
            })
        }
        Auth::Tencent { product, device, key, ttl } => {
            // tencentcloud.com: IoT Hub, device access by MQTT. 12010126 stands for a device that uses no SDK of theirs.
            let client_id = format!("{product}{device}");
            let username = format!("{client_id};12010126;{:05x};{}", chance & 0xf_ffff, ends_s(wall, *ttl)?);
            let signature = hex(hmac::HMAC_SHA256, &decoded(key)?, &username);
            Ok(Credentials {
                client_id,
                username: Some(Secret::new(username)),
                password: Some(Secret::new(format!("{};hmacsha256", signature.expose()))),
                lasts: Some(until_renewal(*ttl)),
            })
        }
        Auth::Huawei { device, key } => {
            // support.huaweicloud.com: device connection authentication. Signature type 0: the hour is told and not checked.
            let hour = hour(wall);
            Ok(Credentials {
                client_id: format!("{device}_0_0_{hour}"),
                username: Some(Secret::new(device.clone())),
                password: Some(hex(hmac::HMAC_SHA256, hour.as_bytes(), key.expose())),
                lasts: None,
            })
        }
    }
}

/// Why no connection is worth trying yet.
pub(super) fn not_yet(auth: &Auth, wall: Timestamp) -> Option<SignError> {
    let too_early = needs_clock(auth) && !plausible(wall);
    too_early.then_some(SignError::Clock)
}

/// Whether a clock that is wrong makes the cloud refuse the token.
pub(super) fn needs_clock(auth: &Auth) -> bool {
    matches!(auth, Auth::Sas { .. } | Auth::Tencent { .. })
}

/// Whether the key can sign: for `check`, so that a mistake in it is told before the start.
///
/// # Errors
/// [`SignError::Key`] when it cannot.
pub fn check_key(auth: &Auth) -> Result<(), SignError> {
    match auth {
        Auth::Sas { key, .. } | Auth::Tencent { key, .. } => decoded(key).map(|_| ()),
        Auth::Password | Auth::Aliyun { .. } | Auth::Huawei { .. } => Ok(()),
    }
}

/// A clock that the kernel holds for set, or that shows a time at which this program existed: in a network without a time server it
/// is never held for set, and may be right.
fn plausible(wall: Timestamp) -> bool {
    wall.synced || wall.unix_ms >= CLOCK_PLAUSIBLE_MS
}

fn ends_s(wall: Timestamp, ttl: Duration) -> Result<i64, SignError> {
    if !plausible(wall) {
        return Err(SignError::Clock);
    }
    Ok((wall.unix_ms / 1000).saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)))
}

/// A token is made anew a fifth of its life before its end, and not earlier than [`TOKEN_MARGIN_MAX`] before it.
fn until_renewal(ttl: Duration) -> Duration {
    ttl.saturating_sub((ttl / 5).min(TOKEN_MARGIN_MAX))
}

/// A shared access signature (learn.microsoft.com: control access to IoT Hub by using shared access signatures).
fn sas(resource: &str, key: &Secret, policy: Option<&str>, ends_s: i64) -> Result<Secret, SignError> {
    let resource = percent_encoded(resource);
    let tag = sign(hmac::HMAC_SHA256, &decoded(key)?, format!("{resource}\n{ends_s}").as_bytes());
    let signature = percent_encoded(&Base64::encode_string(tag.as_ref()));
    let policy = policy.map(|name| format!("&skn={}", percent_encoded(name))).unwrap_or_default();
    Ok(Secret::new(format!("SharedAccessSignature sr={resource}&sig={signature}&se={ends_s}{policy}")))
}

/// What Alibaba's platform has signed: names and values in the order of the names.
fn aliyun_text(client_id: &str, device: &str, product: &str, timestamp: Option<&str>) -> String {
    let timestamp = timestamp.map(|stamp| format!("timestamp{stamp}")).unwrap_or_default();
    format!("clientId{client_id}deviceName{device}productKey{product}{timestamp}")
}

/// The hour, UTC, as YYYYMMDDHH.
fn hour(wall: Timestamp) -> String {
    let time = rfc3339(wall.unix_ms);
    time.chars().filter(char::is_ascii_digit).take(10).collect()
}

fn decoded(key: &Secret) -> Result<Vec<u8>, SignError> {
    Base64::decode_vec(key.expose().trim()).ok().filter(|key| !key.is_empty()).ok_or(SignError::Key)
}

fn sign(algorithm: hmac::Algorithm, key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(algorithm, key), text)
}

fn hex(algorithm: hmac::Algorithm, key: &[u8], text: &str) -> Secret {
    let tag = sign(algorithm, key, text.as_bytes());
    Secret::new(tag.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect())
}

fn digit(half: u8) -> char {
    char::from_digit(half.into(), 16).unwrap_or('0')
}

/// RFC 3986, section 2.3: everything but unreserved characters is encoded.
fn percent_encoded(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    });
    encoded.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::bridge::core::tests::settings;

    const KEY: &str = "NMgJDvdKTxjLi+xBxxkDDEwDJxEvOE5u8BiT0mVgPeg=";

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    fn at(unix_ms: i64, synced: bool) -> Timestamp {
        Timestamp { unix_ms, synced, at: None }
    }

    fn with(auth: Auth) -> Settings {
        Settings { auth, ..settings(Path::new("/nowhere")) }
    }

    fn sas_auth(ttl: Duration) -> Auth {
        let (host, device) = ("myiothub.azure-devices.net".into(), "my_device".into());
        Auth::Sas { host, device, policy: None, key: secret(KEY), ttl }
    }

    #[test]
    fn a_text_is_signed_as_microsofts_python_sdk_signs_it() {
        // azure-iot-sdk-python, tests/unit/common/auth/test_signing_mechanism.py
        let tag = sign(hmac::HMAC_SHA256, &decoded(&secret(KEY)).unwrap(), b"sign this message");
        assert_eq!(Base64::encode_string(tag.as_ref()), "8NJRMT83CcplGrAGaUVIUM/md5914KpWVNngSVoF9/M=");
    }

    #[test]
    fn a_shared_access_signature_has_the_form_of_microsofts_c_sdk() {
        // azure-sdk-for-c, sdk/tests/iot/hub/test_az_iot_hub_client_sas.c has this host, device, end and order of parts; the signature is
        // over them by the key of the Python SDK's tests, computed by Python's hmac and urllib.
        let ttl = Duration::from_secs(3600);
        let made = credentials(&with(sas_auth(ttl)), at((1_578_941_692 - 3600) * 1000, true), 0).unwrap();
        assert_eq!(
            made.password.unwrap().expose(),
            "SharedAccessSignature sr=myiothub.azure-devices.net%2Fdevices%2Fmy_device&sig=dIMMdDDBGFR8eqAfYkiMxoOphaFMPtMgj7Wg%2FYB1AvU%3D&se=1578941692"
        );
        assert_eq!(
            made.username.as_ref().map(Secret::expose),
            Some("myiothub.azure-devices.net/my_device/?api-version=2021-04-12")
        );
        assert_eq!(made.client_id, "my_device", "whatever the bridge's own is");
        assert_eq!(made.lasts, Some(Duration::from_secs(3300)), "renewed five minutes before its end");
        let named = sas("h", &secret(KEY), Some("a b"), 1).unwrap();
        assert!(named.expose().ends_with("&se=1&skn=a%20b"));
    }

    #[test]
    fn a_signature_is_encoded_as_microsofts_c_sdk_encodes_it() {
        // The same file: TEST_SIG and TEST_URL_ENC_SIG.
        let encoded = percent_encoded("cS1eHM/lDjsRsrZV9508wOFrgmZk4g8FNg8NwHVSiSQ");
        assert_eq!(encoded, "cS1eHM%2FlDjsRsrZV9508wOFrgmZk4g8FNg8NwHVSiSQ");
    }

    #[test]
    fn a_password_for_alibaba_is_that_of_its_documentation() {
        // help.aliyun.com, "MQTT connections over TCP": client id 12345, device, pk, time stamp 789, secret `secret`, hmacsha1.
        let text = aliyun_text("12345", "device", "pk", Some("789"));
        let signed = hex(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"secret", &text);
        assert_eq!(signed.expose().to_uppercase(), "FAFD82A3D602B37FB0FA8B7892F24A477F851A14");
        // What we send: SHA-256 and no time stamp; the value is Python's.
        let auth = Auth::Aliyun { product: "pk".into(), device: "device".into(), key: secret("secret") };
        let made = credentials(&Settings { client_id: "12345".into(), ..with(auth) }, at(0, false), 0).unwrap();
        assert_eq!(made.client_id, "12345|securemode=3,signmethod=hmacsha256|");
        assert_eq!(made.username.as_ref().map(Secret::expose), Some("device&pk"));
        assert_eq!(made.password.unwrap().expose(), "c8cb3dcb7159682438e5fd9a9c34f398e41bb8edb6f222795e307bafee151090");
        assert_eq!(made.lasts, None);
    }

    #[test]
    fn a_password_for_huawei_is_that_of_its_documentation() {
        // support.huaweicloud.com, "device connection authentication": secret 12345678 in the hour 2025041401; the hour of
        // 2018-07-24 17:56:20 is 2018072417.
        let auth = Auth::Huawei { device: "d".into(), key: secret("12345678") };
        let made = credentials(&with(auth.clone()), at(1_744_593_900_000, true), 0).unwrap();
        assert_eq!(made.client_id, "d_0_0_2025041401");
        assert_eq!(made.username.as_ref().map(Secret::expose), Some("d"));
        assert_eq!(made.password.unwrap().expose(), "c75150e6cb841417396819e4d2ee4358a416344a03a083e3a8567074ddec820a");
        assert_eq!(hour(at(1_532_454_980_000, true)), "2018072417");
    }

    #[test]
    fn a_password_for_tencent_signs_the_user_name_with_the_decoded_key() {
        // No maker's vector was found; the value is Python's.
        let key = secret("AAECAwQFBgcICQoLDA0ODw==");
        let ttl = Duration::from_secs(3600);
        let auth = Auth::Tencent { product: "ABCDE12345".into(), device: "dev1".into(), key, ttl };
        let made = credentials(&with(auth), at(1_700_000_000_000, true), 0xa1b2c).unwrap();
        assert_eq!(made.client_id, "ABCDE12345dev1");
        assert_eq!(made.username.as_ref().map(Secret::expose), Some("ABCDE12345dev1;12010126;a1b2c;1700003600"));
        assert_eq!(
            made.password.unwrap().expose(),
            "f0e2be1580e440620acd9e66bb50a260f3db2f338c5a0c6976a624ae6ac50e4a;hmacsha256"
        );
    }

    #[test]
    fn a_token_waits_for_a_clock_that_can_be_right_and_no_longer() {
        let auth = sas_auth(Duration::from_secs(60));
        assert_eq!(not_yet(&auth, at(5_000, false)), Some(SignError::Clock));
        assert_eq!(credentials(&with(auth.clone()), at(5_000, false), 0), Err(SignError::Clock));
        // Never held for set by the kernel, where there is no time server.
        assert_eq!(not_yet(&auth, at(CLOCK_PLAUSIBLE_MS, false)), None);
        assert_eq!(not_yet(&Auth::Password, at(0, false)), None);
    }

    #[test]
    fn a_key_that_is_no_base64_is_found_before_the_start() {
        let auth = |key: &str| match sas_auth(Duration::from_secs(60)) {
            Auth::Sas { host, device, policy, ttl, .. } => Auth::Sas { host, device, policy, ttl, key: secret(key) },
            other => other,
        };
        assert_eq!(check_key(&auth("no base64!")), Err(SignError::Key));
        assert_eq!(check_key(&auth("")), Err(SignError::Key));
        assert_eq!(check_key(&auth(&format!("{KEY}\n"))), Ok(()));
    }

    #[test]
    fn nothing_of_a_key_or_a_token_is_printed() {
        let settings = with(sas_auth(Duration::from_secs(60)));
        let made = credentials(&settings, at(1_800_000_000_000, true), 0).unwrap();
        let printed = format!("{settings:?} {made:?}");
        assert!(!printed.contains("NMgJ") && !printed.contains("sig="), "{printed}");
    }
}
