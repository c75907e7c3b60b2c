//! The choice of a language: a link, a cookie, and back to the page.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::header::{CACHE_CONTROL, SET_COOKIE};
use axum::response::{IntoResponse, Redirect, Response};

use crate::auth::{Visitor, on_site};
use crate::http::reply::{PageRefusal, Refusal};
use crate::locale::choice::NAME;
use crate::locale::{Language, Reader};
use domain::message::Message;
use domain::said;

/// How long a browser remembers the choice, in seconds: a year.
const SECONDS: u32 = 365 * 24 * 60 * 60;

/// Remembers a choice and goes back.
pub(crate) async fn choose(
    Extension(visitor): Extension<Visitor>,
    reader: Reader,
    asked: Result<Query<BTreeMap<String, String>>, QueryRejection>,
) -> Result<Response, PageRefusal> {
    const REMEDY: Message = said!("ask for /language?to=en or /language?to=ko, with back=/PATH");
    let Query(asked) = asked.map_err(|error| Refusal::unread(&error.body_text(), REMEDY))?;
    let to = asked.get("to").map_or("", String::as_str);
    let language =
        Language::of(to).ok_or_else(|| Refusal::bad(said!("there are no pages in this language"), REMEDY))?;
    let base = reader.base;
    let path = if base.is_root() { "/" } else { base.as_str() };
    let only = if visitor.is_encrypted() { "; Secure" } else { "" };
    let cookie =
        format!("{NAME}={}; Path={path}; HttpOnly; SameSite=Lax; Max-Age={SECONDS}{only}", language.code());
    let back = asked.get("back").map_or("/", |back| on_site(back));
    // Back to the choice itself would be a circle.
    let back = if back.split('?').next() == Some("/language") { "/" } else { back };
    let headers = [(SET_COOKIE, cookie), (CACHE_CONTROL, "no-store".to_owned())];
    Ok((headers, Redirect::to(back)).into_response())
}
