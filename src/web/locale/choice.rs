//! The language somebody chose: its cookie, and the link that chooses it.

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Language;

/// Name of the cookie. It is no secret: it holds `en` or `ko`.
pub(crate) const NAME: &str = "openbell-language";

/// What a browser has chosen.
pub(crate) fn chosen(headers: &HeaderMap) -> Option<Language> {
    let all = headers.get_all(COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    let mut found = all.filter_map(|pair| pair.trim().split_once('=')).filter(|(name, _)| *name == NAME);
    found.next().and_then(|(_, code)| Language::of(code))
}

/// The link that chooses a language and comes back to a page.
pub(crate) fn address(language: Language, place: &str) -> String {
    format!("/language?to={}&back={}", language.code(), utf8_percent_encode(place, NON_ALPHANUMERIC))
}
