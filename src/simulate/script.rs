//! What goes wrong in a day, and when: data, so that the same seed gives the same faults and a test can compute what follows.

use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;
use jiff::civil::{Date, Time};

use super::ledger::{KST, instant};
use super::mangle::{Mangled, Mangling};
use domain::retry::{hash, mix};

/// One fault at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// When it starts, or from when on it waits for its occasion.
    pub at: Timestamp,
    /// What happens.
    pub fault: Fault,
}

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
    /// No data: sessions stay up, PINGPONG goes on, and what the exchange traded meanwhile comes late, in order, at the end.
    Stall {
        /// How long.
        lasts: Duration,
    },
    /// Total silence of the sessions that are up: no data, no PINGPONG, no answers; what was traded is lost to them. At the
    /// end they are gone, and only then are their slots free.
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

/// The incidents of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    seed: u64,
    date: Date,
    incidents: Vec<Incident>,
}

impl Script {
    /// A day on which nothing goes wrong. The seed decides the bytes of frames that [`with`](Self::with) may add.
    pub fn quiet(seed: u64, date: Date) -> Self {
        Self { seed, date, incidents: Vec::new() }
    }

    /// The demo's day: one disconnect about 10:17 whose slot is held for a minute, one stall of twelve minutes that starts
    /// between 13:02 and 13:04 (a look every five minutes sees it at 13:10 and sees its end at 13:15 or 13:20), and five
    /// malformed frames of five kinds, away from both.
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
        incidents.extend(times.into_iter().zip(kinds).map(|(at, what)| Incident { at, fault: Fault::Malformed { what } }));
        incidents.sort_by_key(|i| i.at);
        Self { seed, date, incidents }
    }

    /// The same script with one more incident.
    #[must_use]
    pub fn with(mut self, at: Timestamp, fault: Fault) -> Self {
        self.incidents.push(Incident { at, fault });
        self.incidents.sort_by_key(|i| i.at);
        self
    }

    /// Reads `KIND[=ARGUMENT]@HH:MM[:SS]`, Korean time on the script's date, and adds it.
    ///
    /// # Errors
    /// What is wrong with the text, and what may be written.
    pub fn with_text(self, text: &str) -> Result<Self, FaultError> {
        let refuse = |why: String| FaultError { text: text.to_owned(), why };
        let (fault, at) = text.split_once('@').ok_or_else(|| refuse("the time is missing".to_owned()))?;
        let at: Time = at.parse().map_err(|error| refuse(format!("\"{at}\" is not a time: {error}")))?;
        let at = instant(self.date, at);
        Ok(self.with(at, parse_fault(fault).map_err(refuse)?))
    }

    /// All incidents, earliest first.
    pub fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    /// When which kind of malformed frame is due, in the order of [`malformed_frames`](Self::malformed_frames).
    pub fn malformed(&self) -> Vec<(Timestamp, Mangling)> {
        let malformed = self.incidents.iter().filter_map(|i| match i.fault {
            Fault::Malformed { what } => Some((i.at, what)),
            _ => None,
        });
        malformed.collect()
    }

    /// When which bytes are due. Each frame's bytes differ from all others', so that arrivals can be counted by them.
    pub fn malformed_frames(&self) -> Vec<(Timestamp, Vec<u8>)> {
        (0..).zip(self.malformed()).map(|(index, (at, _))| (at, self.mangled(index).bytes)).collect()
    }

    /// The malformed frame with this index in [`malformed`](Self::malformed).
    pub(super) fn mangled(&self, index: usize) -> Mangled {
        let what = self.malformed().get(index).map_or(Mangling::UnknownTr, |(_, what)| *what);
        what.frame(mix(self.seed ^ mix(index as u64)), self.date)
    }

    /// When something that the exchange sent at `at` leaves the simulator: then, or when the stall is over.
    pub fn release(&self, at: Timestamp) -> Timestamp {
        let mut release = at;
        // In order of start: a stall that begins in another one's end holds back what that one let go.
        for incident in &self.incidents {
            if let Fault::Stall { lasts } = incident.fault {
                let end = incident.at + lasts;
                if release >= incident.at && release < end {
                    release = end;
                }
            }
        }
        release
    }

    /// The HTTP status that refuses handshakes now, if they are refused.
    pub fn handshake_refusal(&self, now: Timestamp) -> Option<u16> {
        self.incidents.iter().find_map(|incident| match incident.fault {
            Fault::HandshakeRefused { status, lasts } if now >= incident.at && now < incident.at + lasts => Some(status),
            _ => None,
        })
    }
}

/// Why the text of a fault was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a fault: {why}; write KIND[=ARGUMENT]@HH:MM[:SS], where KIND is one of {KINDS}")]
pub struct FaultError {
    text: String,
    why: String,
}

const KINDS: &str = "disconnect=60s, stall=12m, half-open=2m, malformed=wrong-width (or invalid-utf8, invalid-utf8-text, \
truncated, not-a-number, unknown-tr, oversize), handshake-refused=2m, duplicate-frame, out-of-order, drop-record, \
ack-without-ticks=005930, delayed-ack=3s, no-ack, refuse-next=OPSP0008";

/// Reads `30s`, `2m`, `1h30m`.
///
/// # Errors
/// Why the text is not a length of time.
pub fn duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration =
        text.parse().map_err(|error| format!("\"{text}\" is not a length of time like 30s or 2m: {error}"))?;
    Duration::try_from(signed).map_err(|_| format!("\"{text}\" is negative"))
}

fn parse_fault(text: &str) -> Result<Fault, String> {
    let (kind, argument) = text.split_once('=').map_or((text, None), |(kind, argument)| (kind, Some(argument)));
    let lasting = |default: u64| match argument {
        None => Ok(Duration::from_secs(default)),
        Some(text) => duration(text),
    };
    let word = |what: &str| argument.map(str::to_owned).ok_or_else(|| format!("\"{kind}\" needs {what} after '='"));
    Ok(match kind {
        "disconnect" => Fault::Disconnect { hold_slot: lasting(60)? },
        "stall" => Fault::Stall { lasts: lasting(720)? },
        "half-open" => Fault::HalfOpen { lasts: lasting(120)? },
        "malformed" => Fault::Malformed { what: word("a kind")?.parse()? },
        "handshake-refused" => Fault::HandshakeRefused { status: 503, lasts: lasting(120)? },
        "duplicate-frame" => Fault::DuplicateFrame,
        "out-of-order" => Fault::OutOfOrder,
        "drop-record" => Fault::DropRecord,
        "ack-without-ticks" => Fault::AckWithoutTicks { symbol: word("a symbol")? },
        "delayed-ack" => Fault::DelayedAck { by: lasting(3)? },
        "no-ack" => Fault::NoAck,
        "refuse-next" => Fault::RefuseNext { code: word("a code")? },
        _ => return Err(format!("there is no kind \"{kind}\"")),
    })
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

impl std::fmt::Display for Incident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.fault, KST.to_datetime(self.at).time())
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
            let disconnects: Vec<_> = script.incidents().iter().filter(|i| matches!(i.fault, Fault::Disconnect { .. })).collect();
            let [disconnect] = disconnects[..] else { panic!("{disconnects:?}") };
            assert!(disconnect.at >= at(10, 16) && disconnect.at < at(10, 18));
            let stalls: Vec<_> = script.incidents().iter().filter(|i| matches!(i.fault, Fault::Stall { .. })).collect();
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
            script = script.with(at(11, minute), Fault::Malformed { what: Mangling::ALL[minute as usize % Mangling::ALL.len()] });
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
