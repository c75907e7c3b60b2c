//! What can go wrong on KIS, and the demo's day.

use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use jiff::civil::{Date, Time};

use super::mangle::Mangling;
use crate::korea::instant;
use crate::script::{self, FaultText, Mangled};
use domain::retry::{hash, mix};

/// A day's incidents.
pub type Script = script::Script<Fault>;

/// One of them.
pub type Incident = script::Incident<Fault>;

/// Faults.
///
/// The first group happens at its time and is over when the simulator starts later than that. The second
/// group waits, from its time on, for the next occasion (a subscribe message, a frame), and happens once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Every session loses its connection without a close frame; its slot stays taken for a while.
    Disconnect {
        /// How long a new session is refused with OPSP8996.
        hold_slot: Duration,
    },
    /// No data: sessions stay up, PINGPONG goes on, and what the exchange traded meanwhile comes late, in
    /// order, at the end.
    Stall {
        /// How long.
        lasts: Duration,
    },
    /// Total silence of the sessions that are up: no data, no PINGPONG, no answers; what was traded is lost
    /// to them. At the end they are gone, and only then are their slots free.
    HalfOpen {
        /// How long.
        lasts: Duration,
    },
    /// A frame that is wrong, on top of the right ones and in place of none.
    Malformed {
        /// How it is wrong.
        what: Mangling,
    },
    /// WebSocket handshakes are refused with an HTTP status.
    HandshakeRefused {
        /// The status.
        status: u16,
        /// How long.
        lasts: Duration,
    },
    /// The next data frame is sent twice.
    DuplicateFrame,
    /// The next data frame comes after its symbol's following frame.
    OutOfOrder,
    /// The last record of the next data frame is not sent (the accumulated volume jumps).
    DropRecord,
    /// The next subscription of the symbol is acknowledged but brings no data, until it is subscribed anew.
    AckWithoutTicks {
        /// The symbol.
        symbol: String,
    },
    /// The next acknowledgement is late.
    DelayedAck {
        /// By how much.
        by: Duration,
    },
    /// The next subscription is made but not acknowledged.
    NoAck,
    /// The next subscription is refused with this code.
    RefuseNext {
        /// For example `OPSP0008`.
        code: String,
    },
}

impl Script {
    /// The demo's day: one disconnect about 10:17 whose slot is held for a minute, one stall of twelve
    /// minutes that starts between 13:02 and 13:04 (a look every five minutes sees it at 13:10 and sees its
    /// end at 13:15 or 13:20), and five malformed frames of five kinds, away from both.
    pub fn demo(seed: u64, date: Date) -> Self {
        let mut rng = Rng::with_seed(mix(seed ^ hash("script") ^ hash(&date.to_string())));
        let mut at = |hour: i8, minute: i8, spread_s: i64| {
            let start = instant(date, Time::constant(hour, minute, 0, 0));
            start + jiff::SignedDuration::from_millis(rng.i64(0..spread_s * 1000))
        };
        let minutes = |m: u64| Duration::from_secs(m * 60);
        let mut incidents = vec![
            Incident { at: at(10, 16, 120), fault: Fault::Disconnect { hold_slot: minutes(1) } },
            Incident { at: at(13, 2, 120), fault: Fault::Stall { lasts: minutes(12) } },
        ];
        let times = [at(9, 15, 600), at(9, 45, 600), at(11, 5, 600), at(12, 10, 600), at(14, 20, 600)];
        let mut kinds = Mangling::REFUSED_BY_DECODERS;
        rng.shuffle(&mut kinds);
        incidents.extend(
            times.into_iter().zip(kinds).map(|(at, what)| Incident { at, fault: Fault::Malformed { what } }),
        );
        incidents.into_iter().fold(Self::quiet(seed, date), |script, i| script.with(i.at, i.fault))
    }

    /// When which kind of malformed frame is due, in the order of
    /// [`malformed_frames`](Self::malformed_frames).
    pub fn malformed(&self) -> Vec<(Timestamp, Mangling)> {
        let malformed = self.incidents().iter().filter_map(|i| match i.fault {
            Fault::Malformed { what } => Some((i.at, what)),
            _ => None,
        });
        malformed.collect()
    }
}

impl script::Fault for Fault {
    const KINDS: &'static str = "disconnect=60s, stall=12m, half-open=2m, malformed=wrong-width (or invalid-utf8, invalid-utf8-text, \
truncated, not-a-number, unknown-tr, oversize), handshake-refused=2m, duplicate-frame, out-of-order, drop-record, \
ack-without-ticks=005930, delayed-ack=3s, no-ack, refuse-next=OPSP0008";

    fn stalls(&self) -> Option<Duration> {
        if let Self::Stall { lasts } = self { Some(*lasts) } else { None }
    }

    fn refuses_handshakes(&self) -> Option<(u16, Duration)> {
        if let Self::HandshakeRefused { status, lasts } = self { Some((*status, *lasts)) } else { None }
    }

    fn mangled(&self, unique: u64, date: Date) -> Option<Mangled> {
        if let Self::Malformed { what } = self { Some(what.frame(unique, date)) } else { None }
    }

    fn waits_for_a_client(&self) -> bool {
        matches!(
            self,
            Self::AckWithoutTicks { .. } | Self::DelayedAck { .. } | Self::NoAck | Self::RefuseNext { .. }
        )
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = FaultText::new(text);
        Ok(match text.kind {
            "disconnect" => Self::Disconnect { hold_slot: text.lasting(60)? },
            "stall" => Self::Stall { lasts: text.lasting(720)? },
            "half-open" => Self::HalfOpen { lasts: text.lasting(120)? },
            "malformed" => Self::Malformed { what: text.word("a kind")?.parse()? },
            "handshake-refused" => Self::HandshakeRefused { status: 503, lasts: text.lasting(120)? },
            "duplicate-frame" => Self::DuplicateFrame,
            "out-of-order" => Self::OutOfOrder,
            "drop-record" => Self::DropRecord,
            "ack-without-ticks" => Self::AckWithoutTicks { symbol: text.word("a symbol")? },
            "delayed-ack" => Self::DelayedAck { by: text.lasting(3)? },
            "no-ack" => Self::NoAck,
            "refuse-next" => Self::RefuseNext { code: text.word("a code")? },
            kind => return Err(format!("there is no kind \"{kind}\"")),
        })
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disconnect { hold_slot } => write!(f, "disconnect={}s", hold_slot.as_secs()),
            Self::Stall { lasts } => write!(f, "stall={}s", lasts.as_secs()),
            Self::HalfOpen { lasts } => write!(f, "half-open={}s", lasts.as_secs()),
            Self::Malformed { what } => write!(f, "malformed={what}"),
            Self::HandshakeRefused { lasts, .. } => write!(f, "handshake-refused={}s", lasts.as_secs()),
            Self::DuplicateFrame => f.write_str("duplicate-frame"),
            Self::OutOfOrder => f.write_str("out-of-order"),
            Self::DropRecord => f.write_str("drop-record"),
            Self::AckWithoutTicks { symbol } => write!(f, "ack-without-ticks={symbol}"),
            Self::DelayedAck { by } => write!(f, "delayed-ack={}s", by.as_secs()),
            Self::NoAck => f.write_str("no-ack"),
            Self::RefuseNext { code } => write!(f, "refuse-next={code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::{date, time};
    use std::collections::BTreeSet;

    const DAY: Date = date(2026, 11, 20);

    fn at(hour: i8, minute: i8) -> Timestamp {
        instant(DAY, time(hour, minute, 0, 0))
    }

    #[test]
    fn the_demo_day_keeps_its_promises_for_every_seed() {
        for seed in 0..500 {
            let script = Script::demo(seed, DAY);
            assert_eq!(script, Script::demo(seed, DAY));
            let disconnects: Vec<_> =
                script.incidents().iter().filter(|i| matches!(i.fault, Fault::Disconnect { .. })).collect();
            let [disconnect] = disconnects[..] else { panic!("{disconnects:?}") };
            assert!(disconnect.at >= at(10, 16) && disconnect.at < at(10, 18));
            let stalls: Vec<_> =
                script.incidents().iter().filter(|i| matches!(i.fault, Fault::Stall { .. })).collect();
            let [stall] = stalls[..] else { panic!("{stalls:?}") };
            // Five minutes stale at 13:10, and fresh again by 13:20.
            assert!(stall.at >= at(13, 2) && stall.at < at(13, 4));
            assert_eq!(stall.fault, Fault::Stall { lasts: Duration::from_secs(720) });
            let malformed = script.malformed();
            assert_eq!(malformed.iter().map(|(_, what)| what.to_string()).collect::<BTreeSet<_>>().len(), 5);
            for (when, _) in malformed {
                assert!(when.duration_since(disconnect.at).abs() > jiff::SignedDuration::from_mins(5));
                assert!(when < at(12, 30) || when > at(14, 15));
            }
        }
        assert_ne!(Script::demo(1, DAY), Script::demo(2, DAY));
    }

    #[test]
    fn stalls_hold_back_and_let_go_in_order() {
        let stall = |m: u64| Fault::Stall { lasts: Duration::from_secs(m * 60) };
        let script = Script::quiet(1, DAY).with(at(13, 10), stall(10)).with(at(13, 2), stall(12));
        assert_eq!(script.release(at(13, 1)), at(13, 1));
        assert_eq!(script.release(at(13, 2)), at(13, 20), "the second stall begins before the first ends");
        assert_eq!(script.release(at(13, 19)), at(13, 20));
        assert_eq!(script.release(at(13, 20)), at(13, 20));
    }

    #[test]
    fn malformed_frames_are_reproducible_and_all_different() {
        let mut script = Script::quiet(3, DAY);
        for minute in 0..30 {
            script = script.with(
                at(11, minute),
                Fault::Malformed { what: Mangling::ALL[minute as usize % Mangling::ALL.len()] },
            );
        }
        let frames = script.malformed_frames();
        assert_eq!(frames, script.malformed_frames());
        assert_eq!(frames.iter().map(|(_, bytes)| bytes).collect::<BTreeSet<_>>().len(), 30);
    }

    #[test]
    fn faults_are_read_from_text_and_written_back() {
        let script = Script::quiet(1, DAY);
        for text in [
            "disconnect=60s@10:17:00",
            "stall=720s@13:02:00",
            "half-open=120s@11:00:00",
            "malformed=invalid-utf8@11:00:00",
            "handshake-refused=90s@11:00:00",
            "duplicate-frame@11:00:00",
            "out-of-order@11:00:00",
            "drop-record@11:00:00",
            "ack-without-ticks=005930@08:50:00",
            "delayed-ack=3s@08:50:00",
            "no-ack@08:50:00",
            "refuse-next=OPSP0008@08:50:00",
        ] {
            let read = script.clone().with_text(text).expect(text);
            assert_eq!(read.incidents()[0].to_string(), text);
        }
        assert_eq!(
            script.clone().with_text("stall=12m@13:02").expect("short").incidents()[0].fault,
            Fault::Stall { lasts: Duration::from_secs(720) }
        );
        for (text, why) in [
            ("stall", "the time is missing"),
            ("stall@25:00", "is not a time"),
            ("flood@10:00", "no kind \"flood\""),
            ("malformed@10:00", "needs a kind"),
            ("malformed=odd@10:00", "odd"),
            ("stall=long@10:00", "long"),
        ] {
            let error = script.clone().with_text(text).expect_err(text).to_string();
            assert!(error.contains(why) && error.contains("disconnect=60s"), "{error}");
        }
    }
}
