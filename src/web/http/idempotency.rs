//! `Idempotency-Key`: a request that is sent again, because its answer got lost, is carried out once and
//! answered alike.
//!
//! The daemon keeps the answers in its journal ([`idempotency`](daemon::idempotency)), each in one piece with
//! what it tells. A request that was refused did nothing, and is not remembered.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::problem::Kind;
use super::reply::Refusal;
use daemon::idempotency::Idempotency;
use domain::said;

/// The header with the key.
pub(crate) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key.
const LONGEST: usize = 128;

/// A key is bare, or a quoted string as structured headers (RFC 9651) have it.
fn key(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut given = headers.get_all(KEY).iter();
    let Some(first) = given.next() else { return Ok(None) };
    let text = first.to_str().unwrap_or_default();
    let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    let fine = (1..=LONGEST).contains(&bare.len())
        && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    if fine && given.next().is_none() {
        return Ok(Some(bare));
    }
    let remedy =
        said!("send it once, with 1 to 128 letters, digits, '-', '_', '.' or ':'; a fresh UUID is fine");
    Err(Refusal::bad(said!("the header Idempotency-Key is not usable"), remedy))
}

/// The request as the daemon remembers it, if it has a key: by whom, and what is asked for.
///
/// # Errors
/// A refusal, when the key is not usable.
pub(crate) fn once(
    headers: &HeaderMap,
    by: &str,
    what: &str,
    subject: &str,
    body: &[u8],
) -> Result<Option<Idempotency>, Refusal> {
    let Some(key) = key(headers)? else { return Ok(None) };
    let request = fingerprint(&[what.as_bytes(), subject.as_bytes(), body]);
    Ok(Some(Idempotency { key: format!("{by} {key}"), request: format!("{what} {request:032x}") }))
}

/// FNV-1a of 128 bits (draft-eastlake-fnv): it tells apart what differs by mistake, and is the same in every
/// version.
fn fingerprint(parts: &[&[u8]]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let take = |hash: u128, byte: u8| (hash ^ u128::from(byte)).wrapping_mul(PRIME);
    // The length of a part is a part of it: what is moved from one to the next is another request.
    parts.iter().fold(BASIS, |hash, part| {
        part.len().to_be_bytes().into_iter().chain(part.iter().copied()).fold(hash, take)
    })
}

/// The refusal of a key that came with another request.
pub(crate) fn taken() -> Refusal {
    let remedy =
        said!("choose a new key for a new request; send the same body to ask for the first answer again");
    Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        said!("the idempotency key came before, with another request"),
        remedy,
    )
    .kind(Kind::KeyReused)
}

/// An answer that may have been given before.
pub(crate) fn answer(body: Value, again: bool) -> Response {
    let mut response = Json(body).into_response();
    if again {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(keys: &[&str]) -> HeaderMap {
        keys.iter().map(|key| (KEY, key.parse().expect("a value"))).collect()
    }

    #[test]
    fn keys_are_bare_or_quoted_and_nothing_else() {
        assert_eq!(key(&HeaderMap::new()), Ok(None));
        for (sent, read) in [("8e03978e-40d5", "8e03978e-40d5"), ("\"a.b:c_d\"", "a.b:c_d")] {
            assert_eq!(key(&headers(&[sent])), Ok(Some(read)));
        }
        let long = "x".repeat(129);
        for bad in [
            &["a", "a"][..],
            &[""],
            &["\"\""],
            &["a b"],
            &["a\tb"],
            &["\"a"],
            &["a;b"],
            &["../x"],
            &[long.as_str()],
        ] {
            assert!(key(&headers(bad)).is_err(), "{bad:?}");
        }
        assert!(key(&headers(&["x".repeat(128).as_str()])).is_ok());
    }

    #[test]
    fn requests_are_told_apart_by_who_what_subject_and_body() {
        let of = |by: &str, what: &str, subject: &str, body: &str| {
            once(&headers(&["k"]), by, what, subject, body.as_bytes()).expect("a key").expect("a request")
        };
        let first = of("ann", "clear", "a@1", "{}");
        assert_eq!(first, of("ann", "clear", "a@1", "{}"));
        assert_ne!(first.key, of("bob", "clear", "a@1", "{}").key, "one person's key is nobody else's");
        for other in [
            of("ann", "mark", "a@1", "{}"),
            of("ann", "clear", "a@2", "{}"),
            of("ann", "clear", "a@1", "{} "),
            of("ann", "clear", "a@1{", "}"),
        ] {
            assert_eq!(first.key, other.key);
            assert_ne!(first.request, other.request);
        }
        assert_eq!(fingerprint(&[]), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
    }
}
