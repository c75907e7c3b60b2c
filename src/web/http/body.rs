//! JSON bodies of the API.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::problem::Kind;
use super::reply::Refusal;
use domain::message::Message;
use domain::said;

pub(crate) type Body = Result<Bytes, BytesRejection>;

/// A JSON body, with its bytes; an empty one counts as `{}`.
pub(crate) fn body<T: DeserializeOwned>(headers: &HeaderMap, sent: Body) -> Result<(T, Bytes), Refusal> {
    let bytes = sent.map_err(|error| {
        Refusal::new(
            error.status(),
            Message::foreign(error.body_text().to_lowercase()),
            said!("send at most 64 KiB"),
        )
    })?;
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default());
    if let Some(kind) = kind.filter(|kind| !bytes.is_empty() && !is_json(kind)) {
        let error = said!("the body is \"{}\"", kind);
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            error,
            said!("send it as Content-Type: application/json"),
        ));
    }
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    let refuse = |why: &dyn std::fmt::Display| {
        let error = said!("the body is not what was asked for: {}", why.to_string());
        Refusal::bad(error, said!("GET /api/v1/openapi.json says what each request takes"))
            .kind(Kind::BadBody)
    };
    // A list of the fields' values would be taken for an object, too.
    if text.trim_ascii_start().first().is_some_and(|first| *first == b'[') {
        return Err(refuse(&"a list, where an object is wanted"));
    }
    let value = serde_json::from_slice(text).map_err(|error| refuse(&error))?;
    Ok((value, bytes))
}

/// Whether a content type is JSON's.
pub(crate) fn is_json(kind: &str) -> bool {
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Nothing has to be said.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// A whole number, also one that is written as `3.0`: to JSON Schema, and to programs that know one kind of
/// number, it is the same.
pub(crate) fn whole<'de, D: Deserializer<'de>, N: TryFrom<u64>>(from: D) -> Result<Option<N>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(from)? else { return Ok(None) };
    // Beyond 2^53 a float does not say which number is meant.
    let float =
        |n: f64| ((0.0..9_007_199_254_740_992.0).contains(&n) && n.fract() == 0.0).then_some(n as u64);
    let found = number.as_u64().or_else(|| number.as_f64().and_then(float)).and_then(|n| N::try_from(n).ok());
    found.map(Some).ok_or_else(|| D::Error::custom(format!("{number} is no whole number that can be meant")))
}
