//! The web console as bytes: one page, its modules and its style, embedded into the binary as they stand in `assets/`.
//! Nothing is built, and nothing is fetched from elsewhere. Who serves them, to whom and with which headers is `sci`'s
//! affair; what they show comes from the API alone.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::sync::LazyLock;

/// A file of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Its content.
    pub bytes: &'static [u8],
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The value of `ETag`, quotes included (RFC 9110, section 8.8.3): it changes when the content does.
    pub etag: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// Files by their path on the server, with what they are.
macro_rules! files {
    ($($path:literal $content_type:ident),* $(,)?) => {
        &[$((concat!("/", $path), $content_type, include_bytes!(concat!("../assets/", $path)))),*]
    };
}

const FILES: &[(&str, &str, &[u8])] = files![
    "index.html" HTML,
    "console.css" STYLE,
    "icon.svg" IMAGE,
    "app.js" SCRIPT,
    "api.js" SCRIPT,
    "live.js" SCRIPT,
    "ui.js" SCRIPT,
    "drawing.js" SCRIPT,
    "pages/overview.js" SCRIPT,
    "pages/pair.js" SCRIPT,
    "pages/switchover.js" SCRIPT,
    "pages/incidents.js" SCRIPT,
    "pages/incident.js" SCRIPT,
    "pages/alarms.js" SCRIPT,
    "pages/log.js" SCRIPT,
    "pages/audit.js" SCRIPT,
    "pages/configuration.js" SCRIPT,
    "pages/hosts.js" SCRIPT,
    "pages/applications.js" SCRIPT,
    "pages/solutions.js" SCRIPT,
    "pages/calls.js" SCRIPT,
    "pages/times.js" SCRIPT,
    "pages/login.js" SCRIPT,
    "pages/users.js" SCRIPT,
];

/// Tags in the order of [`FILES`].
static ETAGS: LazyLock<Vec<String>> =
    LazyLock::new(|| FILES.iter().map(|(_, _, bytes)| etag(bytes)).collect());

/// The file at `path` (`/` is the page itself); none: there is no such file. Only exact names are found, so there is no
/// path by which anything else could be reached.
#[must_use]
pub fn asset(path: &str) -> Option<Asset> {
    let path = if path == "/" { "/index.html" } else { path };
    assets().find(|(known, _)| *known == path).map(|(_, asset)| asset)
}

/// All files with their paths.
pub fn assets() -> impl Iterator<Item = (&'static str, Asset)> {
    FILES
        .iter()
        .zip(ETAGS.iter())
        .map(|((path, content_type, bytes), etag)| (*path, Asset { bytes, content_type, etag }))
}

/// The first half of the SHA-256 is plenty: a tag tells two releases apart, and protects nothing.
fn etag(bytes: &[u8]) -> String {
    let mut tag = String::from("\"");
    for byte in &Sha256::digest(bytes)[..16] {
        // Writing to a string does not fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}

#[cfg(test)]
mod tests;
