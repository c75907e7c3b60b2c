//! Which requests are this site's own: host and origin checks, the token of forms, headers that tell browsers
//! what a page may do.
//!
//! A page of another site must not be able to act here through a reader's browser. Forms carry a token it
//! cannot know; the API asks for a header it cannot set; a host name it made point here is refused.

use std::net::IpAddr;
use std::sync::Arc;

use accounts::secret::equal;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, STRICT_TRANSPORT_SECURITY};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::body::is_json;
use super::problem::Kind;
use super::reply::Refusal;
use domain::said;

/// Headers of every answer.
const HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// A host without its port: `localhost:8650` → `localhost`, `[::1]:80` → `[::1]`.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(at) if !authority[at..].contains(']') => &authority[..at],
        _ => authority,
    }
}

/// Whether a host name can only mean this machine, or is the one people reach the site by.
fn host_allowed(authority: &str, public_host: Option<&str>) -> bool {
    let host = without_port(authority).to_ascii_lowercase();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    // An address typed as digits cannot be made to point elsewhere by somebody's name server.
    host == "localhost" || bare.parse::<IpAddr>().is_ok() || public_host == Some(host.as_str())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// Checks that an answer would go to a page of this site.
fn check(method: &Method, path: &str, headers: &HeaderMap, public: Option<&str>) -> Result<(), Refusal> {
    // Probes of container engines come with any host name, and learn nothing but that the daemon lives.
    let probe = path == "/healthz" || path == "/readyz";
    let Some(host) = text(headers, &HOST) else {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            said!("the request names no host"),
            said!("send a Host header"),
        ));
    };
    if !probe && !host_allowed(host, public.map(without_port)) {
        let error = said!("this site is not called \"{}\"", without_port(host));
        let remedy = said!(
            "use its address (for example http://127.0.0.1:8650), or set public_url to the name people reach it by"
        );
        return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, error, remedy));
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    // A proxy may forward under a host name of its own; browsers name the public one.
    let own = |at: &str| {
        at.eq_ignore_ascii_case(host) || public.is_some_and(|public| at.eq_ignore_ascii_case(public))
    };
    let foreign_origin =
        text(headers, &ORIGIN).is_some_and(|origin| !origin.split_once("://").is_some_and(|(_, at)| own(at)));
    let site = headers.get("sec-fetch-site").and_then(|v| v.to_str().ok());
    if foreign_origin || site.is_some_and(|s| s != "same-origin" && s != "none") {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            said!("the request comes from a page of another site"),
            said!("use the forms of this site, or its API without a browser"),
        )
        .kind(Kind::ForeignRequest));
    }
    if path.starts_with("/api/") {
        let json = text(headers, &CONTENT_TYPE).is_some_and(is_json);
        if !json && !headers.contains_key("x-openbell") {
            let error = said!("the request could have been sent by a page of another site");
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                error,
                said!("send the header \"x-openbell: 1\", or a JSON body with its content type"),
            )
            .kind(Kind::ForeignRequest));
        }
    }
    Ok(())
}

/// Checks every request. What it is told is host and port of the site's public address.
pub(crate) async fn guard(State(public): State<Option<Arc<str>>>, request: Request, next: Next) -> Response {
    let programs = request.uri().path().starts_with("/api/");
    match check(request.method(), request.uri().path(), request.headers(), public.as_deref()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.answer(programs),
    }
}

/// Puts the headers of every answer on one.
pub(crate) fn dress(https: bool, response: &mut Response) {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if https {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
}

/// Compares a form's token with the site's in the same time whatever differs.
///
/// # Errors
/// A refusal, when they differ.
pub(crate) fn check_token(given: Option<&String>, expected: &str) -> Result<(), Refusal> {
    if equal(given.map_or("", String::as_str), expected) {
        return Ok(());
    }
    let remedy = said!(
        "go back, reload the page and try again; the daemon may have been started anew, or somebody logged in, since"
    );
    Err(Refusal::new(StatusCode::FORBIDDEN, said!("the form carries no valid token"), remedy)
        .kind(Kind::ForeignRequest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), v.parse().expect("a header"))).collect()
    }

    #[test]
    fn only_names_of_this_machine_and_the_public_one_are_answered() {
        for host in ["localhost", "LOCALHOST:8650", "127.0.0.1:80", "[::1]:80", "[::1]", "10.0.0.7"] {
            assert!(host_allowed(host, None), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
            assert!(!host_allowed(host, Some("ops.example.com")), "{host}");
        }
        assert!(host_allowed("ops.example.com:443", Some("ops.example.com")));
    }

    #[test]
    fn a_form_of_the_public_address_is_not_foreign() {
        let sent = |origin: &str| {
            let headers = headers(&[("host", "127.0.0.1:8650"), ("origin", origin)]);
            check(&Method::POST, "/login", &headers, Some("ops.example.com:8443")).map_err(|r| r.status)
        };
        assert_eq!(sent("https://ops.example.com:8443"), Ok(()));
        assert_eq!(sent("https://ops.example.com"), Err(StatusCode::FORBIDDEN));
        assert_eq!(sent("https://evil.example"), Err(StatusCode::FORBIDDEN));
    }

    #[test]
    fn writes_from_other_pages_are_refused() {
        let post = |path: &str, pairs: &[(&'static str, &str)]| {
            check(&Method::POST, path, &headers(pairs), None).map_err(|r| r.status)
        };
        let host = ("host", "127.0.0.1:8650");
        assert_eq!(post("/runs/x/cancel", &[host]), Ok(()));
        assert_eq!(post("/runs/x/cancel", &[host, ("origin", "http://127.0.0.1:8650")]), Ok(()));
        for other in ["http://evil.example", "null", "http://127.0.0.1:9999"] {
            assert_eq!(
                post("/runs/x/cancel", &[host, ("origin", other)]),
                Err(StatusCode::FORBIDDEN),
                "{other}"
            );
        }
        assert_eq!(
            post("/runs/x/cancel", &[host, ("sec-fetch-site", "cross-site")]),
            Err(StatusCode::FORBIDDEN)
        );
        assert_eq!(post("/api/v1/down", &[host]), Err(StatusCode::FORBIDDEN));
        assert_eq!(post("/api/v1/down", &[host, ("content-type", "text/plain")]), Err(StatusCode::FORBIDDEN));
        assert_eq!(post("/api/v1/down", &[host, ("x-openbell", "1")]), Ok(()));
        assert_eq!(
            post("/api/v1/down", &[host, ("content-type", "application/json; charset=utf-8")]),
            Ok(())
        );
        assert_eq!(post("/", &[]), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn tokens_must_be_equal() {
        let good = "abc".to_owned();
        assert!(check_token(Some(&good), "abc").is_ok());
        for bad in ["", "ab", "abcd", "abd"] {
            assert!(check_token(Some(&bad.to_owned()), "abc").is_err(), "{bad}");
        }
        assert!(check_token(None, "abc").is_err());
    }
}
