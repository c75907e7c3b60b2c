//! What can go wrong on Upbit, and the demo's day.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;
use jiff::SignedDuration;
use jiff::civil::{Date, Time};

use super::mangle::Mangling;
use crate::korea::instant;
use crate::script::{self, FaultText, Mangled};
use domain::retry::{hash, mix};

/// A day's incidents.
pub type Script = script::Script<Fault>;

/// Faults.
///
/// The first group happens at its time and is over when the simulator starts later than that. The second
/// group waits, from its time on, for the next occasion (a subscription, a message), and happens once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Every session loses its connection without a close frame, and handshakes are refused for a while.
    Disconnect {
        /// How long.
        lasts: Duration,
    },
    /// No data: sessions stay up, signs of life are answered, and what the exchange traded meanwhile comes
    /// late, in order, at the end.
    Stall {
        /// How long.
        lasts: Duration,
    },
    /// Total silence of the sessions that are up: no data, no answers; what was traded is lost to them. At
    /// the end they are gone.
    HalfOpen {
        /// How long.
        lasts: Duration,
    },
    /// A message that is wrong, on top of the right ones and in place of none.
    Malformed {
        /// How it is wrong.
        what: Mangling,
    },
    /// Every session is told of an error, which changes nothing.
    Error {
        /// For example `WRONG_FORMAT`.
        name: String,
    },
    /// WebSocket handshakes are refused with an HTTP status.
    HandshakeRefused {
        /// How long.
        lasts: Duration,
    },
    /// Calls over HTTP are answered with 429.
    TooMany {
        /// How long.
        lasts: Duration,
    },
    /// Calls over HTTP are answered with 418 and the time that is left.
    Blocked {
        /// How long.
        lasts: Duration,
    },
    /// The next trade is sent twice.
    Duplicate,
    /// The next trade comes after its market's following one.
    OutOfOrder,
    /// The next trade is not sent.
    Drop,
    /// The next subscription with this market brings no data of it, and the list does not have it.
    Silent {
        /// The market.
        code: String,
    },
    /// The next subscription is refused with this error, and the one before stays.
    RefuseNext {
        /// For example `INVALID_PARAM`.
        name: String,
    },
}

impl Script {
    /// The demo's day: one disconnect of a minute and a half about 10:17, one stall of twelve minutes that
    /// starts between 13:02 and 13:04 (a look every five minutes sees it at 13:10 and sees its end at 13:15
    /// or 13:20), wrong messages of every kind that a collector keeps, a refusal of calls, trades that come
    /// twice or out of order, and an error, away from both.
    pub fn demo(seed: u64, date: Date) -> Self {
        let mut rng = Rng::with_seed(mix(seed ^ hash("upbit script") ^ hash(&date.to_string())));
        let mut at = |hour: i8, minute: i8, spread_s: i64| {
            instant(date, Time::constant(hour, minute, 0, 0))
                + SignedDuration::from_millis(rng.i64(0..spread_s * 1000))
        };
        let minutes = |m: u64| Duration::from_secs(m * 60);
        let mut script = Self::quiet(seed, date)
            .with(at(10, 16, 120), Fault::Disconnect { lasts: Duration::from_secs(90) })
            .with(at(13, 2, 120), Fault::Stall { lasts: minutes(12) })
            .with(at(4, 0, 600), Fault::TooMany { lasts: minutes(2) })
            .with(at(7, 30, 600), Fault::Blocked { lasts: minutes(5) })
            .with(at(8, 15, 600), Fault::Duplicate)
            .with(at(9, 5, 600), Fault::OutOfOrder)
            .with(at(12, 10, 600), Fault::Error { name: "WRONG_FORMAT".to_owned() });
        let times = [
            at(1, 30, 600),
            at(5, 45, 600),
            at(9, 30, 600),
            at(11, 10, 600),
            at(15, 20, 600),
            at(18, 0, 600),
            at(22, 5, 600),
        ];
        let mut kinds = Mangling::KEPT_BY_COLLECTORS;
        rng.shuffle(&mut kinds);
        for (at, what) in times.into_iter().zip(kinds) {
            script = script.with(at, Fault::Malformed { what });
        }
        script
    }
}

impl script::Fault for Fault {
    const KINDS: &'static str = "disconnect=90s, stall=12m, half-open=2m, malformed=truncated (or wrong-type, missing-field, \
        not-a-number, unknown-type, binary, oversize), error=WRONG_FORMAT, handshake-refused=2m, too-many=2m, blocked=5m, duplicate, \
        out-of-order, drop, silent=KRW-BTC, refuse-next=INVALID_PARAM";

    fn stalls(&self) -> Option<Duration> {
        if let Self::Stall { lasts } = self { Some(*lasts) } else { None }
    }

    fn refuses_handshakes(&self) -> Option<(u16, Duration)> {
        match self {
            Self::Disconnect { lasts } => Some((503, *lasts)),
            Self::HandshakeRefused { lasts } => Some((429, *lasts)),
            _ => None,
        }
    }

    fn mangled(&self, unique: u64, date: Date) -> Option<Mangled> {
        if let Self::Malformed { what } = self { Some(what.message(unique, date)) } else { None }
    }

    fn waits_for_a_client(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::RefuseNext { .. })
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = FaultText::new(text);
        Ok(match text.kind {
            "disconnect" => Self::Disconnect { lasts: text.lasting(90)? },
            "stall" => Self::Stall { lasts: text.lasting(720)? },
            "half-open" => Self::HalfOpen { lasts: text.lasting(120)? },
            "malformed" => Self::Malformed { what: text.word("a kind")?.parse()? },
            "error" => Self::Error { name: text.word("a name")? },
            "handshake-refused" => Self::HandshakeRefused { lasts: text.lasting(120)? },
            "too-many" => Self::TooMany { lasts: text.lasting(120)? },
            "blocked" => Self::Blocked { lasts: text.lasting(300)? },
            "duplicate" => Self::Duplicate,
            "out-of-order" => Self::OutOfOrder,
            "drop" => Self::Drop,
            "silent" => Self::Silent { code: text.word("a market")? },
            "refuse-next" => Self::RefuseNext { name: text.word("a name")? },
            kind => return Err(format!("there is no kind \"{kind}\"")),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasting = |f: &mut fmt::Formatter<'_>, kind: &str, lasts: &Duration| {
            write!(f, "{kind}={}s", lasts.as_secs())
        };
        match self {
            Self::Disconnect { lasts } => lasting(f, "disconnect", lasts),
            Self::Stall { lasts } => lasting(f, "stall", lasts),
            Self::HalfOpen { lasts } => lasting(f, "half-open", lasts),
            Self::Malformed { what } => write!(f, "malformed={what}"),
            Self::Error { name } => write!(f, "error={name}"),
            Self::HandshakeRefused { lasts } => lasting(f, "handshake-refused", lasts),
            Self::TooMany { lasts } => lasting(f, "too-many", lasts),
            Self::Blocked { lasts } => lasting(f, "blocked", lasts),
            Self::Duplicate => f.write_str("duplicate"),
            Self::OutOfOrder => f.write_str("out-of-order"),
            Self::Drop => f.write_str("drop"),
            Self::Silent { code } => write!(f, "silent={code}"),
            Self::RefuseNext { name } => write!(f, "refuse-next={name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::civil::{date, time};

    use super::*;

    const DAY: Date = date(2026, 11, 20);

    #[test]
    fn the_demo_day_keeps_its_promises_for_every_seed() {
        for seed in 0..200 {
            let script = Script::demo(seed, DAY);
            assert_eq!(script, Script::demo(seed, DAY));
            let at = |hour, minute| instant(DAY, time(hour, minute, 0, 0));
            for incident in script.incidents() {
                assert!(incident.at > at(0, 30) && incident.at < at(23, 30));
                match &incident.fault {
                    Fault::Disconnect { .. } => {
                        assert!(incident.at >= at(10, 16) && incident.at < at(10, 18))
                    }
                    Fault::Stall { lasts } => {
                        assert!(
                            incident.at >= at(13, 2) && incident.at < at(13, 4) && lasts.as_secs() == 720
                        );
                    }
                    _ => assert!(
                        (incident.at < at(10, 10) || incident.at > at(10, 30))
                            && (incident.at < at(13, 0) || incident.at > at(13, 25))
                    ),
                }
            }
            assert_eq!(script.malformed_frames().len(), Mangling::KEPT_BY_COLLECTORS.len());
        }
    }

    #[test]
    fn malformed_messages_are_reproducible_and_all_different() {
        let mut script = Script::quiet(3, DAY);
        for minute in 0..30 {
            let what = Mangling::ALL[minute as usize % Mangling::ALL.len()];
            script = script.with(instant(DAY, time(11, minute, 0, 0)), Fault::Malformed { what });
        }
        let frames = script.malformed_frames();
        assert_eq!(frames, script.malformed_frames());
        assert_eq!(frames.iter().map(|(_, bytes)| bytes).collect::<BTreeSet<_>>().len(), 30);
    }

    #[test]
    fn faults_are_read_from_text_and_written_back() {
        let script = Script::quiet(1, DAY);
        for text in [
            "disconnect=90s@10:17:00",
            "stall=720s@13:02:00",
            "half-open=120s@11:00:00",
            "malformed=binary@11:00:00",
            "error=WRONG_FORMAT@11:00:00",
            "handshake-refused=90s@11:00:00",
            "too-many=120s@11:00:00",
            "blocked=300s@11:00:00",
            "duplicate@11:00:00",
            "out-of-order@11:00:00",
            "drop@11:00:00",
            "silent=KRW-BTC@08:50:00",
            "refuse-next=INVALID_PARAM@08:50:00",
        ] {
            let read = script.clone().with_text(text).expect(text);
            assert_eq!(read.incidents()[0].to_string(), text);
        }
        let error = script.with_text("flood@10:00").expect_err("no kind").to_string();
        assert!(error.contains("no kind \"flood\"") && error.contains("disconnect=90s"), "{error}");
    }
}
