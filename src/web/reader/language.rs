//! The choice of a language: a link, a cookie, and back to the page.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE};
use axum::response::{IntoResponse, Redirect, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Reader, Tongue};
use crate::auth::{Visitor, on_site};
use crate::reply::{PageRefusal, Refusal};

/// Name of the cookie. It is no secret: it holds `en` or `ko`.
const NAME: &str = "openbell-language";
/// How long a browser remembers the choice, in seconds: a year.
const SECONDS: u32 = 365 * 24 * 60 * 60;

/// What a browser has chosen.
pub(super) fn chosen(headers: &HeaderMap) -> Option<Tongue> {
    let all = headers.get_all(COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    let mut found = all.filter_map(|pair| pair.trim().split_once('=')).filter(|(name, _)| *name == NAME);
    found.next().and_then(|(_, code)| Tongue::of(code))
}

/// The link that chooses a tongue and comes back to a page.
pub(crate) fn address(tongue: Tongue, place: &str) -> String {
    format!("/language?to={}&back={}", tongue.code(), utf8_percent_encode(place, NON_ALPHANUMERIC))
}

/// Remembers a choice and goes back.
pub(crate) async fn choose(
    Extension(visitor): Extension<Visitor>,
    asked: Result<Query<BTreeMap<String, String>>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    let remedy = "ask for /language?to=en or /language?to=ko, with back=/PATH";
    let Query(asked) = asked.map_err(|error| Refusal::bad(error.body_text().to_lowercase(), remedy))?;
    let to = asked.get("to").map_or("", String::as_str);
    let tongue = Tongue::of(to).ok_or_else(|| Refusal::bad("there are no pages in this language", remedy))?;
    let base = Reader::current().base;
    let path = if base.is_root() { "/" } else { base.as_str() };
    let only = if visitor.is_encrypted() { "; Secure" } else { "" };
    let cookie = format!("{NAME}={}; Path={path}; HttpOnly; SameSite=Lax; Max-Age={SECONDS}{only}", tongue.code());
    let back = asked.get("back").map_or("/", |back| on_site(back));
    // Back to the choice itself would be a circle.
    let back = if back.split('?').next() == Some("/language") { "/" } else { back };
    let headers = [(SET_COOKIE, cookie), (CACHE_CONTROL, "no-store".to_owned())];
    Ok((headers, Redirect::to(back)).into_response())
}
