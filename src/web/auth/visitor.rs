//! Where a request comes from, and whether it came encrypted: the peer of the connection, or what a trusted
//! proxy says.

use std::net::IpAddr;

use axum::http::HeaderMap;

use config::Network;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// Its address.
    pub(crate) address: IpAddr,
    /// The browser's connection is encrypted, says a trusted proxy.
    pub(crate) encrypted: bool,
}

impl Visitor {
    /// Whether the browser's connection is encrypted.
    pub(crate) fn is_encrypted(self) -> bool {
        self.encrypted
    }

    /// Who is behind a connection. Each proxy appends the address it was asked from to `X-Forwarded-For`, so
    /// the list is believed from its end up to the first address that is no trusted proxy; what a stranger
    /// wrote in front of it is not looked at.
    pub(crate) fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Self {
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        let peer = peer.to_canonical();
        if !is_trusted(peer) {
            return Self { address: peer, encrypted: false };
        }
        let list: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .collect();
        let mut address = peer;
        for hop in list.iter().rev() {
            let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
            address = hop.to_canonical();
            if !is_trusted(address) {
                break;
            }
        }
        let proto = headers.get_all("x-forwarded-proto").iter().next_back().and_then(|v| v.to_str().ok());
        let encrypted =
            proto.and_then(|p| p.rsplit(',').next()).is_some_and(|p| p.trim().eq_ignore_ascii_case("https"));
        Self { address, encrypted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visitor(peer: &str, forwarded: &[&str], proto: &str) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().expect("a value"));
        }
        headers.insert("x-forwarded-proto", proto.parse().expect("a value"));
        let trusted = ["10.0.0.0/8".parse().expect("a range"), "127.0.0.1".parse().expect("a range")];
        let found = Visitor::of(peer.parse().expect("an address"), &headers, &trusted);
        (found.address.to_string(), found.encrypted)
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let is = |address: &str, encrypted| (address.to_owned(), encrypted);
        assert_eq!(visitor("192.0.2.1", &["198.51.100.9"], "https"), is("192.0.2.1", false));
        assert_eq!(visitor("10.1.1.1", &["198.51.100.9"], "https"), is("198.51.100.9", true));
        assert_eq!(visitor("10.1.1.1", &["198.51.100.9"], "http"), is("198.51.100.9", false));
        assert_eq!(visitor("::ffff:10.1.1.1", &["198.51.100.9"], "https"), is("198.51.100.9", true));
    }

    #[test]
    fn what_a_stranger_wrote_into_the_list_does_not_count() {
        assert_eq!(visitor("127.0.0.1", &["1.1.1.1, 198.51.100.9, 10.0.0.2"], "http").0, "198.51.100.9");
        assert_eq!(visitor("127.0.0.1", &["1.1.1.1", "198.51.100.9"], "http").0, "198.51.100.9");
        assert_eq!(visitor("127.0.0.1", &["198.51.100.9, what"], "http").0, "127.0.0.1");
        assert_eq!(visitor("127.0.0.1", &["10.0.0.3, 10.0.0.2"], "http").0, "10.0.0.3");
        assert_eq!(visitor("127.0.0.1", &[], "https, http"), ("127.0.0.1".into(), false));
    }
}
