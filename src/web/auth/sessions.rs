//! Who is logged in. Kept in memory: a restart of the daemon logs everybody out. Pure: time and secrets are
//! arguments.

use std::collections::HashMap;

use accounts::secret;
use jiff::{SignedDuration, Timestamp};

/// Most sessions of one user; a further one ends the one that was not used for longest.
const OF_ONE: usize = 32;
/// Most sessions of all.
const OF_ALL: usize = 4096;
/// Digits of an id by which it is found; the rest is compared in constant time.
const FOUND_BY: usize = 32;

/// A login that has not ended.
#[derive(Clone)]
pub(crate) struct Session {
    secret: String,
    /// Who logged in.
    pub(crate) user: String,
    /// The hash of the password they logged in with: with another one, or without the user, the session is
    /// worth nothing.
    pub(crate) password: String,
    /// Hidden in the forms of its pages.
    pub(crate) csrf: String,
    opened_at: Timestamp,
    used_at: Timestamp,
}

/// Who a session is opened for.
pub(crate) struct Opening {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) csrf: String,
}

/// All sessions.
pub(crate) struct Sessions {
    idle: SignedDuration,
    longest: SignedDuration,
    open: HashMap<String, Session>,
}

impl Sessions {
    pub(crate) fn new(idle: SignedDuration, longest: SignedDuration) -> Self {
        Self { idle, longest, open: HashMap::new() }
    }

    /// How long a browser keeps the cookie.
    pub(crate) fn longest(&self) -> SignedDuration {
        self.longest
    }

    fn lives(&self, session: &Session, now: Timestamp) -> bool {
        now.duration_since(session.used_at) < self.idle
            && now.duration_since(session.opened_at) < self.longest
    }

    /// Opens a session under a new random id of 64 digits.
    pub(crate) fn open(&mut self, id: &str, who: Opening, now: Timestamp) {
        let Some((found_by, rest)) = id.split_at_checked(FOUND_BY) else { return };
        let (idle, longest) = (self.idle, self.longest);
        self.open
            .retain(|_, s| now.duration_since(s.used_at) < idle && now.duration_since(s.opened_at) < longest);
        while self.open.values().filter(|s| s.user == who.user).count() >= OF_ONE {
            self.drop_oldest(|s| s.user == who.user);
        }
        while self.open.len() >= OF_ALL {
            self.drop_oldest(|_| true);
        }
        let Opening { user, password, csrf } = who;
        let session = Session { secret: rest.to_owned(), user, password, csrf, opened_at: now, used_at: now };
        self.open.insert(found_by.to_owned(), session);
    }

    fn drop_oldest(&mut self, of: impl Fn(&Session) -> bool) {
        let oldest = self
            .open
            .iter()
            .filter(|(_, s)| of(s))
            .min_by_key(|(_, s)| s.used_at)
            .map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.open.remove(&key);
        }
    }

    /// The living session of an id; finding it is using it.
    pub(crate) fn find(&mut self, id: &str, now: Timestamp) -> Option<&Session> {
        let (found_by, rest) = id.split_at_checked(FOUND_BY)?;
        let session = self.open.get(found_by)?;
        if !secret::equal(rest, &session.secret) {
            return None;
        }
        if !self.lives(session, now) {
            self.open.remove(found_by);
            return None;
        }
        let session = self.open.get_mut(found_by)?;
        session.used_at = now.max(session.used_at);
        Some(session)
    }

    /// Ends a session.
    pub(crate) fn close(&mut self, id: &str) {
        if let Some((found_by, rest)) = id.split_at_checked(FOUND_BY)
            && self.open.get(found_by).is_some_and(|s| secret::equal(rest, &s.secret))
        {
            self.open.remove(found_by);
        }
    }

    /// Ends all sessions of a user.
    pub(crate) fn close_all(&mut self, user: &str) {
        self.open.retain(|_, s| s.user != user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn of(user: &str) -> Opening {
        Opening { user: user.into(), password: "hash".into(), csrf: "form".into() }
    }

    fn id(n: usize) -> String {
        format!("{n:032}{n:032}")
    }

    fn table() -> Sessions {
        Sessions::new(SignedDuration::from_secs(100), SignedDuration::from_secs(1000))
    }

    #[test]
    fn a_session_ends_when_it_is_idle_and_when_it_is_old() {
        let mut all = table();
        all.open(&id(1), of("ann"), at(0));
        assert!(all.find(&id(1), at(99)).is_some_and(|s| s.user == "ann"));
        assert!(all.find(&id(1), at(198)).is_some(), "using it keeps it");
        assert!(all.find(&id(1), at(298)).is_none(), "idle");
        assert!(all.find(&id(1), at(199)).is_none(), "and gone for good");
        all.open(&id(2), of("ann"), at(0));
        for now in (50..1000).step_by(50) {
            assert!(all.find(&id(2), at(now)).is_some(), "{now}");
        }
        assert!(all.find(&id(2), at(1000)).is_none(), "old");
    }

    #[test]
    fn only_the_whole_id_finds_and_ends_a_session() {
        let mut all = table();
        all.open(&id(1), of("ann"), at(0));
        let half = format!("{}{}", &id(1)[..32], "0".repeat(32));
        for wrong in ["", &id(2), &half, &id(1)[..63], &id(1)[..32], "é".repeat(40).as_str()] {
            assert!(all.find(wrong, at(1)).is_none(), "{wrong}");
            all.close(wrong);
        }
        assert!(all.find(&id(1), at(1)).is_some());
        all.close(&id(1));
        assert!(all.find(&id(1), at(1)).is_none());
    }

    #[test]
    fn a_user_can_be_logged_out_everywhere() {
        let mut all = table();
        all.open(&id(1), of("ann"), at(0));
        all.open(&id(2), of("ann"), at(0));
        all.open(&id(3), of("bob"), at(0));
        all.close_all("ann");
        assert!(
            all.find(&id(1), at(1)).is_none()
                && all.find(&id(2), at(1)).is_none()
                && all.find(&id(3), at(1)).is_some()
        );
    }

    #[test]
    fn sessions_take_bounded_room() {
        let mut all = table();
        all.open(&id(0), of("bob"), at(0));
        for n in 1..=OF_ONE + 5 {
            all.open(&id(n), of("ann"), at(n as i64));
        }
        assert_eq!(all.open.len(), OF_ONE + 1);
        assert!(
            all.find(&id(5), at(40)).is_none()
                && all.find(&id(6), at(40)).is_some()
                && all.find(&id(0), at(40)).is_some()
        );
    }
}
