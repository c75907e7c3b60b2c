//! Who may use the page and the API, and which proxies are believed.

use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Users, sessions, and who may read `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// `file:PATH` of the users and tokens, kept by `openbell user` and `openbell token`; a relative path is
    /// below the data folder. Without it `users.json` of the data folder counts, if it is there.
    pub users: Option<String>,
    /// Who may read `/metrics`.
    pub metrics: MetricsAccess,
    /// A session ends when it was not used for this long; a page that is open uses it.
    pub idle_hours: u32,
    /// A session ends after this long, however much it is used.
    pub session_days: u32,
}

/// Who may read `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricsAccess {
    /// Whoever may read the pages: a token, or a session.
    #[default]
    Token,
    /// Everybody.
    Open,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self { users: None, metrics: MetricsAccess::Token, idle_hours: 12, session_days: 7 }
    }
}

impl AuthSettings {
    /// The file of users where none is named, below the data folder.
    pub const USERS_FILE: &'static str = "users.json";

    /// The path of the users file, as it is written or by default.
    pub fn users_path(&self) -> &str {
        self.users.as_deref().map_or(Self::USERS_FILE, |users| users.strip_prefix("file:").unwrap_or(users))
    }

    /// The rules that types cannot say.
    ///
    /// # Errors
    /// The first rule broken and what to write instead.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(users) = &self.users
            && users.strip_prefix("file:").is_none_or(str::is_empty)
        {
            return Err(format!(
                "auth.users: \"{users}\" is not the address of a file; write for example file:users.json"
            ));
        }
        if !(1..=24 * 30).contains(&self.idle_hours) {
            return Err(format!(
                "auth.idle_hours: {} is not a time for a session; write 1 to 720 hours",
                self.idle_hours
            ));
        }
        if !(1..=90).contains(&self.session_days) {
            return Err(format!(
                "auth.session_days: {} is not a time for a session; write 1 to 90 days",
                self.session_days
            ));
        }
        Ok(())
    }
}

/// An address, or a range of them: `10.0.0.7`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether an address is in the range. One of IPv4 that came in IPv6's clothes counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "\"{text}\" is no address or range of addresses; write for example 10.0.0.7 or 10.0.0.0/8"
            )
        };
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| refuse()))?;
        if bits > most {
            return Err(refuse());
        }
        Ok(Self { address, bits })
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        format!("{}/{}", network.address, network.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_say() {
        let range = |text: &str| text.parse::<Network>().expect("a range");
        let holds =
            |network: &str, address: &str| range(network).contains(address.parse().expect("an address"));
        assert!(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.0.0.7", "10.0.0.7") && !holds("10.0.0.7", "10.0.0.8"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe80::1"));
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "proxy", "::/129", "10.0.0.0/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_with_words() {
        let with = |users: &str| AuthSettings { users: Some(users.into()), ..AuthSettings::default() };
        assert!(with("users.json").check().expect_err("no kind").contains("file:users.json"));
        assert!(with("file:").check().is_err() && with("file:/etc/openbell/users.json").check().is_ok());
        assert!(AuthSettings { idle_hours: 0, ..AuthSettings::default() }.check().is_err());
        assert!(AuthSettings { session_days: 91, ..AuthSettings::default() }.check().is_err());
        assert_eq!(with("file:x.json").users_path(), "x.json");
        assert_eq!(AuthSettings::default().users_path(), "users.json");
    }
}
