//! Slows down guessing: after some failures a name or an address has to wait, twice as long each time. Pure:
//! time is an argument.
//!
//! An attempt counts as a failure before its password is looked at, and is forgiven when it was right. So
//! many at once are as slow as one after the other. A name is never locked for longer than a minute, since
//! anybody can fail in its name.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Most names and addresses remembered.
const ROOM: usize = 10_000;
/// Failures are forgotten after this long without one.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(1);

/// What is slowed down.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// The name of a user, whether there is one or not.
    Name(String),
    /// Where attempts come from.
    Address(IpAddr),
}

impl Key {
    /// A name as it was typed; only its begin is remembered.
    pub(crate) fn name(name: &str) -> Self {
        Self::Name(name.chars().take(64).collect())
    }

    /// An address. A machine with IPv6 has a whole network of them: they count as one.
    pub(crate) fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(six) => IpAddr::V6((six.to_bits() & (u128::MAX << 64)).into()),
            four => four,
        })
    }

    /// Failures that cost nothing, and the longest wait. Many people may share an address.
    fn limits(&self) -> (u32, u64) {
        match self {
            Self::Name(_) => (5, 60),
            Self::Address(_) => (20, 900),
        }
    }

    /// How long the next attempt has to wait after so many failures.
    fn wait(&self, failures: u32) -> SignedDuration {
        let (free, longest) = self.limits();
        let Some(over) = failures.checked_sub(free) else { return SignedDuration::ZERO };
        let seconds = 1u64.checked_shl(over).unwrap_or(longest).min(longest);
        SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(900))
    }
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last_at: Timestamp,
    until: Timestamp,
}

/// Who failed lately.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    failures: HashMap<Key, Failures>,
}

impl Throttle {
    /// Counts an attempt as failed, unless one of its keys has to wait: then it is how long.
    pub(crate) fn attempt(&mut self, keys: &[Key], now: Timestamp) -> Result<(), Duration> {
        let wait = keys.iter().filter_map(|key| self.waits(key, now)).max();
        if let Some(wait) = wait {
            return Err(wait);
        }
        keys.iter().for_each(|key| self.count(key, now));
        Ok(())
    }

    fn waits(&self, key: &Key, now: Timestamp) -> Option<Duration> {
        let until = self.failures.get(key)?.until;
        Duration::try_from(until.duration_since(now)).ok().filter(|wait| !wait.is_zero())
    }

    fn count(&mut self, key: &Key, now: Timestamp) {
        if !self.failures.contains_key(key) && self.failures.len() >= ROOM {
            self.make_room(now);
        }
        let entry =
            self.failures.entry(key.clone()).or_insert(Failures { count: 0, last_at: now, until: now });
        if now.duration_since(entry.last_at) >= FORGOTTEN {
            entry.count = 0;
        }
        entry.count = entry.count.saturating_add(1);
        entry.last_at = now;
        entry.until = now.checked_add(key.wait(entry.count)).unwrap_or(now);
    }

    /// Drops what is forgotten, or else whoever failed longest ago.
    fn make_room(&mut self, now: Timestamp) {
        self.failures.retain(|_, entry| now.duration_since(entry.last_at) < FORGOTTEN);
        if self.failures.len() >= ROOM
            && let Some(key) =
                self.failures.iter().min_by_key(|(_, entry)| entry.last_at).map(|(key, _)| key.clone())
        {
            self.failures.remove(&key);
        }
    }

    /// The attempt was right: its name is clear again. Its address only gets this one attempt back, or else
    /// somebody with one right password could go on guessing others.
    pub(crate) fn forgive(&mut self, keys: &[Key]) {
        for key in keys {
            match key {
                Key::Name(_) => drop(self.failures.remove(key)),
                Key::Address(_) => self.take_back(key),
            }
        }
    }

    /// An attempt whose password was never looked at does not count.
    pub(crate) fn take_back(&mut self, key: &Key) {
        if let Some(entry) = self.failures.get_mut(key) {
            entry.count = entry.count.saturating_sub(1);
            entry.until = entry.last_at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn name() -> Vec<Key> {
        vec![Key::name("ann")]
    }

    #[test]
    fn waits_double_up_to_a_minute_for_a_name() {
        let mut throttle = Throttle::default();
        for _ in 0..4 {
            throttle.attempt(&name(), at(0)).expect("free");
        }
        let mut now = 0;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            throttle.attempt(&name(), at(now)).expect("waited long enough");
            assert_eq!(throttle.attempt(&name(), at(now)), Err(Duration::from_secs(seconds)));
            now += seconds as i64;
            assert_eq!(throttle.attempt(&name(), at(now - 1)), Err(Duration::from_secs(1)));
        }
        assert!(throttle.attempt(&[Key::name("bob")], at(now)).is_ok(), "others do not wait");
        throttle.attempt(&name(), at(now + 3600)).expect("forgotten");
        assert!(throttle.attempt(&name(), at(now + 3600)).is_ok());
    }

    #[test]
    fn a_right_password_clears_the_name_but_not_the_address() {
        let mut throttle = Throttle::default();
        let address = Key::address("192.0.2.7".parse().expect("an address"));
        for n in 0..20 {
            throttle.attempt(&[Key::name(&format!("user{n}")), address.clone()], at(0)).expect("free");
        }
        assert!(throttle.attempt(&[Key::name("other"), address.clone()], at(0)).is_err());
        throttle.attempt(&[Key::name("ann"), address.clone()], at(10)).expect("waited");
        throttle.forgive(&[Key::name("ann"), address.clone()]);
        throttle.attempt(&[Key::name("ann"), address.clone()], at(10)).expect("forgiven");
        assert_eq!(throttle.attempt(&[Key::name("bob"), address], at(10)), Err(Duration::from_secs(2)));
    }

    #[test]
    fn a_refused_attempt_does_not_make_the_wait_longer() {
        let mut throttle = Throttle::default();
        for _ in 0..5 {
            throttle.attempt(&name(), at(0)).expect("free");
        }
        for _ in 0..100 {
            assert_eq!(throttle.attempt(&name(), at(0)), Err(Duration::from_secs(1)));
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_ipv4() {
        let key = |text: &str| Key::address(text.parse().expect("an address"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.7"), key("192.0.2.7"));
    }

    #[test]
    fn however_many_names_are_tried_the_room_is_bounded() {
        let mut throttle = Throttle::default();
        for n in 0..ROOM + 50 {
            let now = Timestamp::from_millisecond(n as i64).expect("a time");
            throttle.attempt(&[Key::name(&format!("user{n}"))], now).expect("free");
        }
        assert_eq!(throttle.failures.len(), ROOM);
        assert!(!throttle.failures.contains_key(&Key::name("user0")));
        assert!(matches!(Key::name(&"x".repeat(100_000)), Key::Name(kept) if kept.len() == 64));
    }
}
