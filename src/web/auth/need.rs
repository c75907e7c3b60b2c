//! What a request needs. Whatever is not named here needs a login, and whatever is not a question needs an
//! operator: a new path is closed until somebody opens it here.

use accounts::Role;
use axum::http::Method;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: probes, the style of the login page, the login itself.
    Nothing,
    /// A login, of whatever role: one's own account.
    Own,
    /// A role.
    Role(Role),
}

/// What a request needs.
pub(crate) fn need(method: &Method, path: &str, metrics_open: bool) -> Need {
    let asks = matches!(*method, Method::GET | Method::HEAD);
    match path {
        "/healthz" | "/readyz" if asks => Need::Nothing,
        "/metrics" if asks && metrics_open => Need::Nothing,
        "/login" => Need::Nothing,
        "/language" if asks => Need::Nothing,
        "/logout" | "/account" | "/account/password" | "/account/logout-everywhere" => Need::Own,
        path if asks && path.starts_with("/assets/") => Need::Nothing,
        _ if asks => Need::Role(Role::Viewer),
        _ => Need::Role(Role::Operator),
    }
}

/// A path of this site to go to after the login. Anything else, such as an address of another site, becomes
/// the first page.
pub(crate) fn local(next: &str) -> &str {
    let path = next.split(['?', '#']).next().unwrap_or_default();
    if path != "/login" && path != "/logout" && path != "/events" { on_site(next) } else { "/" }
}

/// A path of this site; anything else, such as an address of another site, becomes the first page.
pub(crate) fn on_site(next: &str) -> &str {
    let strange = |c: char| c.is_control() || c == '\\' || !c.is_ascii();
    let local =
        next.starts_with('/') && !next.starts_with("//") && !next.contains(strange) && next.len() <= 2000;
    if local { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_closed_but_what_is_named() {
        let get = |path| need(&Method::GET, path, false);
        for open in ["/healthz", "/readyz", "/login", "/assets/openbell.css"] {
            assert_eq!(get(open), Need::Nothing, "{open}");
        }
        for closed in [
            "/",
            "/dags",
            "/api/v1/openapi.json",
            "/events",
            "/metrics",
            "/nowhere",
            "/assets",
            "/loginx",
            "/healthz/",
            "//login",
        ] {
            assert_eq!(get(closed), Need::Role(Role::Viewer), "{closed}");
        }
        assert_eq!(need(&Method::GET, "/metrics", true), Need::Nothing);
        assert_eq!(get("/account"), Need::Own);
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            for path in ["/", "/api/v1/runs", "/nowhere", "/metrics", "/healthz", "/assets/x"] {
                assert_eq!(need(&method, path, true), Need::Role(Role::Operator), "{method} {path}");
            }
        }
    }

    #[test]
    fn a_login_leads_to_this_site_only() {
        for fine in ["/", "/dags", "/runs/kis-trading-day@2026-11-20", "/runs/a@1+manual.2?x=1&y=%2F#steps"] {
            assert_eq!(local(fine), fine);
        }
        for foreign in [
            "",
            "dags",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/a\r\nset-cookie: x=1",
            "/\tx",
            "/login?next=/x",
            "/logout",
            " /x",
            "/é",
        ] {
            assert_eq!(local(foreign), "/", "{foreign}");
        }
    }
}
