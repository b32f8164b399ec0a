//! The page itself, in the program: a gateway is looked at when the network is gone.

use super::answer::{Answer, text};

/// A file of the page; `None` when it has none of that path.
pub(super) fn find(path: &str) -> Option<Answer> {
    let (kind, bytes): (_, &'static [u8]) = match path {
        "/" => ("text/html; charset=utf-8", include_bytes!("assets/index.html")),
        "/style.css" => ("text/css; charset=utf-8", include_bytes!("assets/style.css")),
        "/app.js" => ("text/javascript; charset=utf-8", include_bytes!("assets/app.js")),
        "/spark.js" => ("text/javascript; charset=utf-8", include_bytes!("assets/spark.js")),
        "/icon.svg" => ("image/svg+xml", include_bytes!("assets/icon.svg")),
        _ => return None,
    };
    Some(text(kind, bytes))
}
