//! What a certificate says of itself, for a person: whose it is, by whom, from when to when, for which names.
//!
//! Reads the few fields of RFC 5280 §4.1 that are told, and judges nothing: whether to trust it is rustls's business. Bytes that are no
//! certificate give `None`.

use std::fmt;
use std::net::IpAddr;

use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::oid_registry::{
    OID_X509_COMMON_NAME, OID_X509_COUNTRY_NAME, OID_X509_LOCALITY_NAME, OID_X509_ORGANIZATION_NAME,
    OID_X509_ORGANIZATIONAL_UNIT, OID_X509_STATE_OR_PROVINCE_NAME, Oid,
};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate, X509Name};

use crate::model::time::rfc3339;

/// What is told of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is, such as `CN=cloud.example, O=Example`.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// First moment it is valid at, milliseconds since the epoch.
    pub not_before_ms: i64,
    /// Last moment it is valid at.
    pub not_after_ms: i64,
    /// DNS names and addresses it is for (subjectAltName, §4.2.1.6); the common name counts for nothing.
    pub names: Vec<String>,
}

/// Longest part of a name that is told, characters, and most names: a certificate may hold kilobytes of both.
const TOLD_CHARS_MAX: usize = 64;
const TOLD_NAMES_MAX: usize = 16;
/// The attributes of a name that people know.
static KINDS: [(Oid<'static>, &str); 6] = [
    (OID_X509_COMMON_NAME, "CN"),
    (OID_X509_COUNTRY_NAME, "C"),
    (OID_X509_LOCALITY_NAME, "L"),
    (OID_X509_STATE_OR_PROVINCE_NAME, "ST"),
    (OID_X509_ORGANIZATION_NAME, "O"),
    (OID_X509_ORGANIZATIONAL_UNIT, "OU"),
];

impl Certificate {
    /// Reads one in DER form.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        // An extension that is there twice, or is none, says nothing.
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let names = alternatives.map_or(&[][..], |extension| &extension.value.general_names);
        Some(Self {
            subject: name(certificate.subject()),
            issuer: name(certificate.issuer()),
            not_before_ms: unix_ms(certificate.validity().not_before),
            not_after_ms: unix_ms(certificate.validity().not_after),
            names: names.iter().filter_map(alternative).take(TOLD_NAMES_MAX).collect(),
        })
    }

    /// Whether it is valid at this time, as far as its dates go.
    pub fn is_valid_at(&self, unix_ms: i64) -> bool {
        // The last second counts whole: the dates have no parts of it.
        (self.not_before_ms..self.not_after_ms.saturating_add(1_000)).contains(&unix_ms)
    }

    /// Its names, for a sentence.
    pub fn names_told(&self) -> String {
        if self.names.is_empty() { "no name".into() } else { self.names.join(", ") }
    }
}

/// The common name of whom a certificate in DER form is for, exact to the byte. `None` where there is none or more than one, and for a name
/// that could be taken for another: of an alphabet that is not UTF-8's, or with control characters.
pub fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut names = certificate.subject().iter_attributes().filter(|name| *name.attr_type() == OID_X509_COMMON_NAME);
    let (Some(one), None) = (names.next(), names.next()) else { return None };
    let value = one.attr_value();
    let is_plain = matches!(value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
    let text = std::str::from_utf8(value.data).ok().filter(|text| is_plain && !text.is_empty())?;
    (!text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// Day and minute of a time, UTC.
pub fn minute(unix_ms: i64) -> String {
    let text = rfc3339(unix_ms);
    text.get(..16).unwrap_or(&text).replace('T', " ")
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, until) = (minute(self.not_before_ms), minute(self.not_after_ms));
        write!(f, "`{}`, issued by `{}`, valid {from} to {until} UTC", self.subject, self.issuer)
    }
}

/// The dates have whole seconds.
fn unix_ms(time: ASN1Time) -> i64 {
    time.timestamp().saturating_mul(1_000)
}

/// A name (§4.1.2.4), by the attributes that people know.
fn name(name: &X509Name<'_>) -> String {
    let told: Vec<String> = name
        .iter_attributes()
        .filter_map(|attribute| {
            let (_, kind) = KINDS.iter().find(|(oid, _)| oid == attribute.attr_type())?;
            Some(format!("{kind}={}", text(attribute.attr_value())))
        })
        .collect();
    if told.is_empty() { "nobody".into() } else { told.join(", ") }
}

/// A text of any of the string types.
fn text(value: &Any<'_>) -> String {
    if value.tag() == Tag::BmpString {
        let units: Vec<u16> = value.data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        plain(&String::from_utf16_lossy(&units))
    } else {
        plain(&String::from_utf8_lossy(value.data))
    }
}

/// For one line of a terminal.
fn plain(text: &str) -> String {
    text.chars().take(TOLD_CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A DNS name or an address (§4.2.1.6); the other kinds name no server.
fn alternative(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(plain(name)),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

    use super::*;
    use crate::model::time::parse_rfc3339;

    fn made() -> Vec<u8> {
        let mut root = CertificateParams::default();
        root.distinguished_name.push(DnType::OrganizationName, "Roots\u{1b}[2J");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let names = ["cloud.example", "192.0.2.7", "2001:db8::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "cloud");
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.not_before = date_time_ymd(2024, 2, 29);
        // From 2050 on times have their other form.
        params.not_after = date_time_ymd(2051, 1, 1);
        params.signed_by(&KeyPair::generate().unwrap(), &root).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_tells_its_names_its_dates_and_who_signed_it() {
        let read = Certificate::read(&made()).unwrap();
        assert!(read.subject.contains("CN=cloud") && read.subject.contains("C=DE"), "{}", read.subject);
        assert!(read.issuer.contains("O=Roots\u{fffd}[2J"), "{}", read.issuer);
        assert_eq!(read.names, ["cloud.example", "192.0.2.7", "2001:db8::1"]);
        assert!(read.to_string().ends_with("valid 2024-02-29 00:00 to 2051-01-01 00:00 UTC"), "{read}");
        let at = |text: &str| read.is_valid_at(parse_rfc3339(text).unwrap());
        assert!(!at("2024-02-28T23:59:59Z") && at("2024-02-29T00:00:00Z") && at("2051-01-01T00:00:00.5Z"));
        assert!(!at("2051-01-01T00:00:01Z"));
    }

    #[test]
    fn a_common_name_is_exact_or_none() {
        assert_eq!(common_name(&made()).as_deref(), Some("cloud"));
        let with = |names: &[&str]| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, "Example");
            for (index, name) in names.iter().enumerate() {
                // Of one kind the library keeps one: the second is said by its number.
                let kind = if index == 0 { DnType::CommonName } else { DnType::CustomDnType(vec![2, 5, 4, 3]) };
                params.distinguished_name.push(kind, *name);
            }
            common_name(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
        };
        let long = "é".repeat(200);
        assert_eq!(with(&[&long]).as_deref(), Some(&*long));
        for wrong in [&[][..], &["ha\0x"], &["a\nb"], &["ha", "root"]] {
            assert_eq!(with(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_are_none_and_never_a_panic() {
        let whole = made();
        for length in 0..whole.len() {
            assert_eq!(Certificate::read(&whole[..length]), None, "the first {length} bytes");
            assert_eq!(common_name(&whole[..length]), None, "the first {length} bytes");
        }
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                drop(Certificate::read(&bytes));
                drop(common_name(&bytes));
            }
        }
    }
}
