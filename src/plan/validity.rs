//! Certificates that expire soon, told while there is time to renew them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::Planner;
use crate::config::Span;
use crate::config::code::Code;
use crate::limits::CERTIFICATE_NOTICE;
use crate::model::Timestamp;
use crate::mqtt::certificate::{Certificate, minute};

impl Planner<'_> {
    /// A chain is of use while each of its certificates is valid.
    pub(super) fn check_chain_validity(&mut self, chain: &[CertificateDer<'_>], path: &Path, span: Span) {
        self.tell_validity(&Dated { key: "cert".into(), path: path.to_path_buf(), kind: Kind::Chain }, chain, span);
    }

    /// Authorities are of use while one of them is valid: a new one stands beside the old one for a time.
    pub(super) fn check_authorities_validity(
        &mut self,
        key: &str,
        authorities: &[CertificateDer<'_>],
        path: &Path,
        span: Span,
    ) {
        self.tell_validity(
            &Dated { key: key.into(), path: path.to_path_buf(), kind: Kind::Authorities },
            authorities,
            span,
        );
    }

    fn tell_validity(&mut self, dated: &Dated, certificates: &[CertificateDer<'_>], span: Span) {
        if let Some((message, whose)) = dated.judge(certificates, self.environment.wall) {
            self.problems.warning(Code::CertificateExpires, span, message).label(whose);
        }
        if !self.dated.contains(dated) {
            self.dated.push(dated.clone());
        }
    }
}

/// A file of certificates that a running gateway goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dated {
    /// Key of the config.
    key: String,
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of use while each is valid.
    Chain,
    /// Of use while one is valid.
    Authorities,
}

impl Dated {
    /// What there is to tell of the file as it is now: that it expires soon, or has. Nothing of one that cannot be read, which whoever needs it tells. Blocks for
    /// as long as the disk does.
    pub fn look(&self, wall: Timestamp) -> Option<String> {
        let certificates: Vec<_> = CertificateDer::pem_file_iter(&self.path).ok()?.filter_map(Result::ok).collect();
        self.judge(&certificates, wall).map(|(message, whose)| format!("{message}: {whose}"))
    }

    fn judge(&self, certificates: &[CertificateDer<'_>], wall: Timestamp) -> Option<(String, String)> {
        let all = certificates.iter().filter_map(|der| Certificate::read(der)).map(|of| Validity::at(of, wall));
        let Validity { of, left_ms } = match self.kind {
            Kind::Chain => all.min_by_key(|told| told.left_ms),
            Kind::Authorities => all.max_by_key(|told| told.left_ms),
        }?;
        let (key, from, until) = (&self.key, minute(of.not_before_ms), minute(of.not_after_ms));
        let path = self.path.display();
        let message = match u64::try_from(left_ms).map(Duration::from_millis) {
            Ok(left) if left >= CERTIFICATE_NOTICE => return None,
            Ok(left) => format!("`{key}`: `{path}` expires at {until} UTC, in {}", days(left)),
            Err(_) if left_ms == Validity::NOT_YET => format!("`{key}`: `{path}` is not valid before {from} UTC"),
            Err(_) if !wall.synced => format!("`{key}`: `{path}` expired at {until} UTC, by a clock that is not set"),
            Err(_) => format!("`{key}`: `{path}` expired at {until} UTC"),
        };
        Some((message, format!("`{}`, issued by `{}`", of.subject, of.issuer)))
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

    /// A clock that is not set mostly stands behind the true time, so it does not know whether something is valid already. What has expired by it is told, and by
    /// what clock: one that has lost its date may show any year.
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
