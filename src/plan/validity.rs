//! Certificates that expire soon, told while there is time to renew them.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::Planner;
use crate::config::Span;
use crate::config::code::Code;
use crate::limits::CERTIFICATE_NOTICE;
use crate::model::Timestamp;
use crate::mqtt::certificate::{Certificate, minute};

impl Planner<'_> {
    /// A chain is of use while each of its certificates is valid.
    pub(super) fn check_chain_validity(&mut self, chain: &[CertificateDer<'_>], path: &Path, span: Span) {
        let told = self.validities(chain).min_by_key(|told| told.left_ms);
        self.tell_validity("cert", told, path, span);
    }

    /// Authorities are of use while one of them is valid: a new one stands beside the old one for a time.
    pub(super) fn check_authorities_validity(
        &mut self,
        key: &str,
        authorities: &[CertificateDer<'_>],
        path: &Path,
        span: Span,
    ) {
        let told = self.validities(authorities).max_by_key(|told| told.left_ms);
        self.tell_validity(key, told, path, span);
    }

    fn validities(&self, certificates: &[CertificateDer<'_>]) -> impl Iterator<Item = Validity> {
        let wall = self.environment.wall;
        certificates.iter().filter_map(|der| Certificate::read(der)).map(move |of| Validity::at(of, wall))
    }

    fn tell_validity(&mut self, key: &str, validity: Option<Validity>, path: &Path, span: Span) {
        let Some(Validity { of, left_ms }) = validity else { return };
        let (from, until, path) = (minute(of.not_before_ms), minute(of.not_after_ms), path.display());
        let message = match u64::try_from(left_ms).map(Duration::from_millis) {
            Ok(left) if left >= CERTIFICATE_NOTICE => return,
            Ok(left) => format!("`{key}`: `{path}` expires at {until} UTC, in {}", days(left)),
            Err(_) if left_ms == Validity::NOT_YET => format!("`{key}`: `{path}` is not valid before {from} UTC"),
            Err(_) => format!("`{key}`: `{path}` expired at {until} UTC"),
        };
        self.problems
            .warning(Code::CertificateExpires, span, message)
            .label(format!("`{}`, issued by `{}`", of.subject, of.issuer));
    }
}

/// A certificate, and for how long it is still valid.
struct Validity {
    of: Certificate,
    /// Less than zero: it has expired, or [`Self::NOT_YET`].
    left_ms: i64,
}

impl Validity {
    const NOT_YET: i64 = i64::MIN;

    /// A clock that is not set stands behind the true time, as far as boards go: what has expired by it has expired, but it does not know whether
    /// something is valid already.
    fn at(of: Certificate, wall: Timestamp) -> Self {
        let not_yet = wall.synced && wall.unix_ms < of.not_before_ms;
        let left_ms = if not_yet { Self::NOT_YET } else { of.not_after_ms.saturating_sub(wall.unix_ms) };
        Self { of, left_ms }
    }
}

fn days(left: Duration) -> String {
    match left.as_secs() / (24 * 3_600) {
        0 => "less than a day".into(),
        1 => "1 day".into(),
        days => format!("{days} days"),
    }
}
