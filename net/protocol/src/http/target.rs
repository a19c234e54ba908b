//! The request target: which key or page a path names.

use memchr::memchr;
use percent_encoding::percent_decode;

use super::error::RequestError;
use super::request::Page;

/// The longest key, in bytes, after decoding: what the engine holds.
pub const KEY_BYTES_MAX: usize = 16 * 1024 - 1;

/// What a path that decodes to this begins with is a page.
const PAGE_PREFIX: &[u8] = b"-/";

/// The parts of a request target. The fragment that it cannot have is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// The host in a target like `http://host/path`; it goes before the Host header.
    pub(super) authority: Option<&'a [u8]>,
    /// The path after its first `/`, still encoded.
    path: &'a [u8],
    has_query: bool,
}

impl<'a> Target<'a> {
    pub(super) fn parse(target: &'a str) -> Result<Self, RequestError> {
        let (authority, path) = split_authority(target).ok_or(RequestError::Target)?;
        if path.contains('#') {
            return Err(RequestError::Target);
        }
        let (path, has_query) = match path.split_once('?') {
            Some((path, _)) => (path, true),
            None => (path, false),
        };
        let path = path.strip_prefix('/').unwrap_or(path);
        Ok(Self {
            authority: authority.map(str::as_bytes),
            path: path.as_bytes(),
            has_query,
        })
    }

    /// Tells keys and pages apart. A key that has to be decoded goes to `decoded`.
    pub(super) fn route(&self, decoded: &mut Vec<u8>) -> Result<Route<'a>, RequestError> {
        let (key, key_source) = if memchr(b'%', self.path).is_none() {
            (self.path, KeySource::Input(self.path))
        } else {
            check_percent_encoding(self.path)?;
            decoded.clear();
            decoded.extend(percent_decode(self.path));
            (decoded.as_slice(), KeySource::Decoded)
        };
        if let Some(page) = key.strip_prefix(PAGE_PREFIX) {
            return match page {
                b"healthz" => Ok(Route::Page(Page::Healthz)),
                b"readyz" => Ok(Route::Page(Page::Readyz)),
                b"metrics" => Ok(Route::Page(Page::Metrics)),
                _ => Err(RequestError::NoSuchPage),
            };
        }
        match key.len() {
            _ if self.has_query => Err(RequestError::Query),
            0 => Err(RequestError::KeyEmpty),
            1..=KEY_BYTES_MAX => Ok(Route::Key(key_source)),
            _ => Err(RequestError::KeyTooLong),
        }
    }
}

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Key(KeySource<'a>),
    Page(Page),
}

/// Where the bytes of a key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeySource<'a> {
    /// In the path as it came.
    Input(&'a [u8]),
    /// In the buffer for decoded keys.
    Decoded,
}

/// Splits `http://host/path`; `None` if the target is neither that nor a path.
fn split_authority(target: &str) -> Option<(Option<&str>, &str)> {
    const SCHEME: &str = "http://";
    if target.starts_with('/') {
        return Some((None, target));
    }
    let scheme = target.get(..SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let rest = &target[SCHEME.len()..];
    let authority_length = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_length);
    Some((Some(authority), path))
}

fn check_percent_encoding(path: &[u8]) -> Result<(), RequestError> {
    let mut rest = path;
    while let Some(position) = memchr(b'%', rest) {
        match &rest[position + 1..] {
            [high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = tail;
            }
            _ => return Err(RequestError::PercentEncoding),
        }
    }
    Ok(())
}
