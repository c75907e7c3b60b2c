//! What checks and reconciliations find, as values: a code and what goes with it. A result carries them beside its words, so that mails, outputs and
//! the API tell them in English and pages in the reader's tongue, and nobody reads words back.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::message::Message;
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
            Self::NoTradeInSession { seconds: ago } => said!("no trade since the session began {} ago", seconds(*ago)),
            Self::NoTradeSinceStart { seconds: ago } => said!("no trade since collection began {} ago", seconds(*ago)),
            Self::Waiting { seconds: long } => said!("a record has been waiting for {}", seconds(*long)),
            Self::Behind { seconds: lag } => said!("{} behind", seconds(*lag)),
            Self::Unreachable { why } => said!("unreachable: {}", why),
            Self::Arrives => said!("data arrives at every hop"),
            Self::Stalled { hop, what, last, down } => stalled(hop, what, last.as_deref(), *down),
            Self::Settling { hop, what, step } => said!("{}: {}, and {} was started only just now", hop, what.message(), step),
            Self::Misses { hop, records } => said!("{} misses {} records", hop, records),
            Self::Repeats { hop, records } => said!("{} holds {} records twice", hop, records),
            Self::TotalsDiffer { symbols } => said!("the totals of {} symbols differ from the exchange's", symbols),
            Self::Unknown => Message::none(),
        }
    }
}

fn stalled(hop: &str, what: &Finding, last: Option<&str>, down: Option<i64>) -> Message {
    let what = what.message();
    match (last, down.map(seconds)) {
        (None, None) => said!("{}: {}", hop, what),
        (Some(at), None) => said!("{}: {} (last at {})", hop, what, at),
        (None, Some(down)) => said!("{}: {}; the feed's session has been down for {}", hop, what, down),
        (Some(at), Some(down)) => said!("{}: {} (last at {}); the feed's session has been down for {}", hop, what, at, down),
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.message().fmt(f)
    }
}

/// Findings in one line.
pub fn line(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_finding_is_told_in_words_and_stored_as_its_code() {
        let what = Box::new(Finding::NoTrade { seconds: 372 });
        let finding = Finding::Stalled { hop: "feed".into(), what, last: Some("13:04:48".into()), down: Some(30) };
        assert_eq!(finding.to_string(), "feed: no trade for 6m12s (last at 13:04:48); the feed's session has been down for 30s");
        let stored = json!({ "code": "stalled", "hop": "feed", "what": { "code": "no_trade", "seconds": 372 }, "last": "13:04:48", "down": 30 });
        assert_eq!(serde_json::to_value(&finding).expect("JSON"), stored);
        assert_eq!(serde_json::from_value::<Finding>(stored).expect("reads back"), finding);
    }

    #[test]
    fn a_code_of_another_version_says_nothing() {
        let read: Finding = serde_json::from_value(json!({ "code": "sings", "why": "spring" })).expect("a finding");
        assert_eq!((&read, read.to_string().as_str()), (&Finding::Unknown, ""));
    }

    #[test]
    fn several_are_one_line() {
        let found = [Finding::Misses { hop: "index".into(), records: 1_200 }, Finding::TotalsDiffer { symbols: 2 }];
        assert_eq!(line(&found), "index misses 1,200 records; the totals of 2 symbols differ from the exchange's");
    }
}
