//! The two cookies: the session's, and the one that proves that a login form was this browser's.

use axum::http::header::{COOKIE, HeaderMap};

use config::BasePath;

/// Which cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// Holds a session's id.
    Session,
    /// Holds the token of the login form.
    Login,
}

impl Cookie {
    /// With the prefix `__Host-` browsers take it only from this host itself, encrypted, never from a
    /// neighbour under the same domain. Such a cookie is the whole host's; below a base path, where it is
    /// not, `__Secure-` says at least that it came encrypted.
    fn name(self, secure: bool, base: &BasePath) -> &'static str {
        match (self, secure, base.is_root()) {
            (Self::Session, true, true) => "__Host-openbell",
            (Self::Session, true, false) => "__Secure-openbell",
            (Self::Session, false, _) => "openbell",
            (Self::Login, true, true) => "__Host-openbell-login",
            (Self::Login, true, false) => "__Secure-openbell-login",
            (Self::Login, false, _) => "openbell-login",
        }
    }

    /// Its value in a request.
    pub(crate) fn read<'a>(self, headers: &'a HeaderMap, secure: bool, base: &BasePath) -> Option<&'a str> {
        let all = headers.get_all(COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
        let own = self.name(secure, base);
        let mut found = all.filter_map(|pair| pair.trim().split_once('=')).filter(|(name, _)| *name == own);
        found.next().map(|(_, value)| value)
    }

    /// Sets it. The session's is `Lax`, so that a link in a mail opens the page it names; what acts is never
    /// a link. The login's is `Strict`: no other site's page may send that form.
    pub(crate) fn set(self, value: &str, secure: bool, base: &BasePath, seconds: i64) -> String {
        let site = if self == Self::Session { "Lax" } else { "Strict" };
        let only = if secure { "; Secure" } else { "" };
        let (name, path) = (self.name(secure, base), if base.is_root() { "/" } else { base.as_str() });
        format!("{name}={value}; Path={path}; HttpOnly; SameSite={site}; Max-Age={seconds}{only}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_read_by_their_whole_name() {
        let (mut headers, root) = (HeaderMap::new(), BasePath::default());
        headers.append(
            COOKIE,
            "xopenbell=1; openbell-login=2; openbell=3; openbell=4".parse().expect("a header"),
        );
        headers.append(COOKIE, "__Host-openbell=5".parse().expect("a header"));
        assert_eq!(Cookie::Session.read(&headers, false, &root), Some("3"));
        assert_eq!(Cookie::Session.read(&headers, true, &root), Some("5"));
        assert_eq!(Cookie::Login.read(&headers, false, &root), Some("2"));
        assert_eq!(Cookie::Login.read(&headers, true, &root), None);
    }

    #[test]
    fn flags_keep_scripts_and_other_sites_out() {
        let root = BasePath::default();
        assert_eq!(
            Cookie::Session.set("v", false, &root, 60),
            "openbell=v; Path=/; HttpOnly; SameSite=Lax; Max-Age=60"
        );
        assert_eq!(
            Cookie::Session.set("v", true, &root, 60),
            "__Host-openbell=v; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure"
        );
        assert_eq!(
            Cookie::Login.set("v", true, &root, 60),
            "__Host-openbell-login=v; Path=/; HttpOnly; SameSite=Strict; Max-Age=60; Secure"
        );
    }
}
