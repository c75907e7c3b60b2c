//! What checks and reconciliations find, as values: a code and what goes with it. A result carries them
//! beside its words, so that mails, outputs and the API tell them in English and pages in the reader's
//! tongue, and nobody reads words back.

use jiff::SignedDuration;
use jiff::civil::Date;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::ids::{DagName, RunId};
use super::message::{Message, Refused};
use super::said;

/// Something that was found. Lengths are in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Finding {
    /// A hop has what the hop before it has.
    HasEverything,
    /// The calendar has no session today.
    NoSession,
    /// The session has not begun, or only just.
    NotBegun,
    /// Collection began only just.
    JustBegun,
    /// The session has ended.
    SessionEnded,
    /// Orders are collected, and nothing trades.
    ClosingAuction,
    /// The newest trade.
    LastTrade {
        /// How long ago.
        seconds: i64,
    },
    /// None came for too long.
    NoTrade {
        /// For how long.
        seconds: i64,
    },
    /// None came at all.
    NoTradeInSession {
        /// How long ago the session began.
        seconds: i64,
    },
    /// None came at all since collection began, inside the session.
    NoTradeSinceStart {
        /// How long ago collection began.
        seconds: i64,
    },
    /// A hop lacks a record that the hop before it has had for too long.
    Waiting {
        /// For how long.
        seconds: i64,
    },
    /// A hop lacks a record, for no longer than it may.
    Behind {
        /// For how long.
        seconds: i64,
    },
    /// A store could not be asked.
    Unreachable {
        /// What it, or the network, said.
        why: String,
    },
    /// Every hop has what it should have.
    Arrives,
    /// A hop does not.
    Stalled {
        /// The hop.
        hop: String,
        /// What was found there.
        what: Box<Finding>,
        /// Time of day of the feed's last trade, where the feed is silent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<String>,
        /// How long the feed's session has been down, in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        down: Option<i64>,
    },
    /// A hop is behind, and whoever fills it was started only just now.
    Settling {
        /// The hop.
        hop: String,
        /// What was found there.
        what: Box<Finding>,
        /// The step that fills it.
        step: String,
    },
    /// A store lacks records that were received.
    Misses {
        /// The hop.
        hop: String,
        /// How many.
        records: u64,
    },
    /// A store holds records more than once.
    Repeats {
        /// The hop.
        hop: String,
        /// How many too many.
        records: u64,
    },
    /// Sums of what was received are not those of the exchange.
    TotalsDiffer {
        /// Of how many symbols.
        symbols: u64,
    },
    /// A day does not reconcile.
    NotReconciled {
        /// Its date.
        date: Date,
        /// What is wrong with it.
        because: Vec<Finding>,
    },
    /// What a collector could not forward from its spool.
    NotForwarded {
        /// Whither.
        hop: String,
        /// How many records.
        records: u64,
        /// The first entry of the spool that waits.
        from: u64,
        /// What held it up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A collector had to stop before all of its spool was forwarded.
    LeftInSpool {
        /// What waits.
        left: Vec<Finding>,
    },
    /// A check that names no hop says that data arrives.
    Flows,
    /// A check that says no more names the hops without new data.
    NothingNew {
        /// The hops.
        hops: Vec<String>,
    },
    /// A stall lasts.
    Lasting {
        /// For how long.
        seconds: i64,
        /// What is found now.
        what: Box<Finding>,
    },
    /// A stall is over.
    Recovered {
        /// How long it lasted.
        seconds: i64,
    },
    /// A run has more dead letters than its DAG allows.
    TooManyDeadLetters {
        /// How many came during the run.
        letters: u64,
        /// The run.
        run: RunId,
        /// How many are allowed.
        over: u64,
    },
    /// A day passed without a run.
    NoRun {
        /// The day.
        date: Date,
        /// The DAG that should have run.
        dag: DagName,
        /// How many minutes after the open openbell came up, where it may not join so late; else it was down
        /// for the whole window.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        late: Option<i64>,
    },
    /// Words of somebody who has no code for it: an older version, a program of the user's own.
    Text {
        /// The words.
        text: String,
    },
    /// A code of another version.
    #[serde(other)]
    Unknown,
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

impl Finding {
    /// What is said of it.
    pub fn message(&self) -> Message {
        match self {
            Self::HasEverything => said!("has everything"),
            Self::NoSession => said!("no session today"),
            Self::NotBegun => said!("the session has not begun"),
            Self::JustBegun => said!("collection has just begun"),
            Self::SessionEnded => said!("the session has ended"),
            Self::ClosingAuction => said!("closing auction: no trades are expected"),
            Self::LastTrade { seconds: ago } => said!("last trade {} ago", seconds(*ago)),
            Self::NoTrade { seconds: long } => said!("no trade for {}", seconds(*long)),
            Self::NoTradeInSession { seconds: ago } => {
                said!("no trade since the session began {} ago", seconds(*ago))
            }
            Self::NoTradeSinceStart { seconds: ago } => {
                said!("no trade since collection began {} ago", seconds(*ago))
            }
            Self::Waiting { seconds: long } => said!("a record has been waiting for {}", seconds(*long)),
            Self::Behind { seconds: lag } => said!("{} behind", seconds(*lag)),
            Self::Unreachable { why } => said!("unreachable: {}", why),
            Self::Arrives => said!("data arrives at every hop"),
            Self::Stalled { hop, what, last, down } => stalled(hop, what, last.as_deref(), *down),
            Self::Settling { hop, what, step } => {
                said!("{}: {}, and {} was started only just now", hop, what.message(), step)
            }
            Self::Misses { hop, records: 1 } => said!("{} misses 1 record", hop),
            Self::Misses { hop, records } => said!("{} misses {} records", hop, records),
            Self::Repeats { hop, records: 1 } => said!("{} holds 1 record twice", hop),
            Self::Repeats { hop, records } => said!("{} holds {} records twice", hop, records),
            Self::TotalsDiffer { symbols } => {
                said!("the totals of {} symbols differ from the exchange's", symbols)
            }
            Self::NotReconciled { date, because } => said!("{} does not reconcile: {}", date, all(because)),
            Self::NotForwarded { hop, records, from, why } => {
                not_forwarded(hop, *records, &from.to_string(), why.as_deref())
            }
            Self::LeftInSpool { left } => {
                said!(
                    "the time to stop is over; nothing is lost, the next start forwards the rest: {}",
                    all(left)
                )
            }
            Self::Flows => said!("data arrives"),
            Self::NothingNew { hops } => said!("no new data: {}", hops.join(", ")),
            Self::Lasting { seconds, what } => {
                said!("still, after {}: {}", roughly(*seconds), what.message())
            }
            Self::Recovered { seconds } => said!("data arrives again after {}", roughly(*seconds)),
            Self::TooManyDeadLetters { letters, run, over } => {
                said!("{} dead letters in {}, more than the {} allowed", letters, run, over)
            }
            Self::NoRun { date, late: None, .. } => {
                said!("{} had no run: openbell was down for the whole window", date)
            }
            Self::NoRun { date, late: Some(minutes), .. } => {
                said!(
                    "{} had no run: openbell came up {} min after its open, and late_start is skip",
                    date,
                    minutes
                )
            }
            Self::Text { text } => Message::foreign(text.as_str()),
            Self::Unknown => Message::none(),
        }
    }

    /// What to do about it; says nothing where that depends on more than the finding.
    pub fn remedy(&self) -> Message {
        match self {
            Self::TooManyDeadLetters { .. } => said!("see `openbell dlq list`"),
            Self::NoRun { date, dag, .. } => {
                said!(
                    "if the data can still be had: openbell run backfill {0} --from {1} --to {1}",
                    dag,
                    date
                )
            }
            Self::Lasting { what, .. } => what.remedy(),
            _ => Message::none(),
        }
    }

    /// Somebody's own words.
    pub fn text(words: impl Into<String>) -> Self {
        Self::Text { text: words.into() }
    }

    /// What stands under `finding`, or else the words beside it: an older version wrote only those, a newer
    /// one may have codes that this one does not know.
    pub fn read(finding: Option<&Value>, words: Option<&str>) -> Option<Self> {
        let known = finding.and_then(|finding| Self::deserialize(finding).ok()).filter(Self::is_known);
        known.or_else(|| words.map(Self::text))
    }

    fn is_known(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::Stalled { what, .. } | Self::Settling { what, .. } | Self::Lasting { what, .. } => {
                what.is_known()
            }
            Self::NotReconciled { because: all, .. } | Self::LeftInSpool { left: all } => {
                all.iter().all(Self::is_known)
            }
            _ => true,
        }
    }

    /// What is wrong with a store that lacks or repeats this many records.
    pub fn of_counts(hop: &str, missing: u64, repeated: u64) -> Vec<Self> {
        let misses = (missing > 0).then(|| Self::Misses { hop: hop.to_owned(), records: missing });
        let repeats = (repeated > 0).then(|| Self::Repeats { hop: hop.to_owned(), records: repeated });
        misses.into_iter().chain(repeats).collect()
    }
}

/// A length in which seconds count only while there is not a minute of them.
fn roughly(seconds: i64) -> Message {
    match seconds.max(0) {
        seconds @ ..60 => said!("{} s", seconds.to_string()),
        seconds => said!("{} min", (seconds / 60).to_string()),
    }
}

fn stalled(hop: &str, what: &Finding, last: Option<&str>, down: Option<i64>) -> Message {
    let what = what.message();
    match (last, down.map(seconds)) {
        (None, None) => said!("{}: {}", hop, what),
        (Some(at), None) => said!("{}: {} (last at {})", hop, what, at),
        (None, Some(down)) => said!("{}: {}; the feed's session has been down for {}", hop, what, down),
        (Some(at), Some(down)) => {
            said!("{}: {} (last at {}); the feed's session has been down for {}", hop, what, at, down)
        }
    }
}

fn not_forwarded(hop: &str, records: u64, from: &str, why: Option<&str>) -> Message {
    match why {
        Some(why) => {
            said!("{}: {} records from entry {} of the spool on are not there ({})", hop, records, from, why)
        }
        None => said!("{}: {} records from entry {} of the spool on are not there", hop, records, from),
    }
}

/// In one line: what was found, and after a semicolon what to do.
impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Refused::new(self.message(), self.remedy()).fmt(f)
    }
}

/// Findings one after the other.
fn all(findings: &[Finding]) -> Message {
    let mut messages = findings.iter().map(Finding::message);
    let first = messages.next().unwrap_or_default();
    messages.fold(first, |before, next| said!("{}; {}", before, next))
}

/// How a finding is stored and shown to programs: its words under `summary`, which is all that older versions
/// know, and itself under `finding`.
pub mod in_words {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Stored {
        summary: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        finding: Option<Value>,
    }

    /// Both of it.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(finding: &Finding, to: S) -> Result<S::Ok, S::Error> {
        let summary = finding.to_string();
        let finding = match finding {
            Finding::Text { .. } | Finding::Unknown => None,
            known => serde_json::to_value(known).ok(),
        };
        Stored { summary, finding }.serialize(to)
    }

    /// The finding, else the words.
    ///
    /// # Errors
    /// Those of the format, and where there are no words.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Finding, D::Error> {
        let stored = Stored::deserialize(from)?;
        Ok(Finding::read(stored.finding.as_ref(), None).unwrap_or(Finding::Text { text: stored.summary }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_finding_is_told_in_words_and_stored_as_its_code() {
        let what = Box::new(Finding::NoTrade { seconds: 372 });
        let finding =
            Finding::Stalled { hop: "feed".into(), what, last: Some("13:04:48".into()), down: Some(30) };
        assert_eq!(
            finding.to_string(),
            "feed: no trade for 6m12s (last at 13:04:48); the feed's session has been down for 30s"
        );
        let stored = json!({ "code": "stalled", "hop": "feed", "what": { "code": "no_trade", "seconds": 372 }, "last": "13:04:48", "down": 30 });
        assert_eq!(serde_json::to_value(&finding).expect("JSON"), stored);
        assert_eq!(serde_json::from_value::<Finding>(stored).expect("reads back"), finding);
    }

    #[test]
    fn a_code_of_another_version_says_nothing() {
        let read: Finding =
            serde_json::from_value(json!({ "code": "sings", "why": "spring" })).expect("a finding");
        assert_eq!((&read, read.to_string().as_str()), (&Finding::Unknown, ""));
    }

    #[test]
    fn a_day_that_does_not_reconcile_says_everything_in_one_line() {
        let mut because = Finding::of_counts("index", 1_200, 0);
        because.extend(Finding::of_counts("raw", 0, 0));
        because.extend(Finding::of_counts("objects", 1, 2));
        because.push(Finding::TotalsDiffer { symbols: 2 });
        let found = Finding::NotReconciled { date: jiff::civil::date(2026, 11, 20), because };
        let line = "2026-11-20 does not reconcile: index misses 1,200 records; objects misses 1 record; objects holds 2 records twice; \
                    the totals of 2 symbols differ from the exchange's";
        assert_eq!(found.to_string(), line);
        let stored = serde_json::to_value(&found).expect("JSON");
        assert_eq!(Finding::read(Some(&stored), Some("other words")), Some(found));
    }

    #[test]
    fn what_has_no_code_that_is_known_is_told_in_the_words_beside_it() {
        let words = || Some(Finding::text("feed: hums"));
        let strange = json!({ "code": "stalled", "hop": "feed", "what": { "code": "hums" } });
        for finding in
            [json!(null), json!({ "code": "hums" }), json!("hums"), json!({ "code": "no_trade" }), strange]
        {
            assert_eq!(Finding::read(Some(&finding), Some("feed: hums")), words(), "{finding}");
        }
        assert_eq!((Finding::read(None, Some("feed: hums")), Finding::read(None, None)), (words(), None));
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Kept {
        #[serde(flatten, with = "in_words")]
        finding: Finding,
        count: u64,
    }

    #[test]
    fn words_and_value_are_kept_side_by_side() {
        let run: RunId = "day@2026-11-20".parse().expect("an id");
        let kept = |finding| Kept { finding, count: 3 };
        let letters = kept(Finding::TooManyDeadLetters { letters: 12, run, over: 10 });
        let stored = json!({
            "summary": "12 dead letters in day@2026-11-20, more than the 10 allowed; see `openbell dlq list`",
            "finding": { "code": "too_many_dead_letters", "letters": 12, "run": "day@2026-11-20", "over": 10 },
            "count": 3,
        });
        assert_eq!(serde_json::to_value(&letters).expect("JSON"), stored);
        assert_eq!(serde_json::from_value::<Kept>(stored).expect("reads back"), letters);
        let old = json!({ "summary": "feed: no trade for 6m12s", "count": 3 });
        let read: Kept = serde_json::from_value(old.clone()).expect("an older version's");
        assert_eq!(read, kept(Finding::text("feed: no trade for 6m12s")));
        assert_eq!(serde_json::to_value(&read).expect("JSON"), old);
    }

    #[test]
    fn how_long_a_stall_lasts_is_told_in_minutes() {
        let lasting = |seconds| Finding::Lasting { seconds, what: Box::new(Finding::Arrives) }.to_string();
        assert_eq!(
            [lasting(7), lasting(4_320)],
            ["still, after 7 s: data arrives at every hop", "still, after 72 min: data arrives at every hop"]
        );
        assert_eq!(Finding::Recovered { seconds: 90_000 }.to_string(), "data arrives again after 1500 min");
    }
}
