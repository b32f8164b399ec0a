//! How an answer looks on the wire.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

/// What an answer carries.
pub(super) enum Content {
    /// All of it.
    Whole(Option<Bytes>),
    /// Updates, as they come.
    Updates(mpsc::Receiver<Bytes>),
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Updates(updates) => updates.poll_recv(cx).map(|update| update.map(|update| Ok(Frame::data(update)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Updates(_) => SizeHint::default(),
        }
    }
}

/// An answer.
pub(super) type Answer = Response<Content>;

/// Nothing but what this page itself brings: no script of anybody else, none written into the page, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// An answer of this kind.
pub(super) fn with(status: StatusCode, kind: &'static str, content: Content) -> Answer {
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

    let mut answer = Response::new(content);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (RESOURCE_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// A text, whole.
pub(super) fn text(kind: &'static str, text: impl Into<Bytes>) -> Answer {
    with(StatusCode::OK, kind, Content::Whole(Some(text.into())))
}

/// A value as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // A value of ours has text keys and finite numbers alone, so it can be written.
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    with(status, "application/json", Content::Whole(Some(bytes.into())))
}

/// Why there is nothing else to answer.
pub(super) fn error(status: StatusCode, reason: &str) -> Answer {
    json(status, &json!({ "error": reason }))
}

/// Another method is asked for.
pub(super) fn wrong_method(allowed: &'static str) -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "this can be asked with another method only");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// The token is asked for.
pub(super) fn unauthorized(reason: &str) -> Answer {
    let mut answer = error(StatusCode::UNAUTHORIZED, reason);
    let challenge = HeaderValue::from_static("Basic realm=\"Tidegate\", charset=\"UTF-8\"");
    answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    answer
}

/// There is no room; there may be some soon.
pub(super) fn busy(reason: &str) -> Answer {
    let mut answer = error(StatusCode::SERVICE_UNAVAILABLE, reason);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    answer
}
