//! What the journal holds beside events.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use domain::alert::AlertStates;
use domain::event::Stamped;
use domain::ids::{DagName, RunId};
use domain::run::Run;

/// A record to write or remove.
#[derive(Debug, Clone, PartialEq)]
pub enum Put {
    /// A run ended: its final snapshot. An event appended later reopens the run.
    Finished(Box<Run>),
    /// All alert states.
    Alerts(AlertStates),
    /// A mail to deliver, or the same mail (same `key` and `created_at`) with its delivery attempts updated.
    Mail(OutboxMail),
    /// A mail was delivered or given up.
    MailDone {
        /// Its key.
        key: String,
        /// When it was put.
        created_at: Timestamp,
    },
    /// A DAG is paused.
    Pause(DagName, Paused),
    /// A DAG is no longer paused.
    Unpause(DagName),
    /// A DAG was planned up to here.
    HighWater(DagName, Timestamp),
    /// Somebody did something.
    Audit(Audit),
    /// A request with a key was answered.
    Answered(Answered),
    /// The answer to the request with this key is forgotten.
    AnswerGone(String),
}

/// The answer to a request that may be sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Who asked, and the key they gave.
    pub key: String,
    /// The request, in brief: the same one has the same text.
    pub request: String,
    /// What was answered.
    pub answer: String,
    /// When.
    pub at: Timestamp,
}

/// A mail waiting for delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxMail {
    /// Unique and stable: putting the same mail twice keeps one.
    pub key: String,
    /// When it was put.
    pub created_at: Timestamp,
    /// Deliveries tried so far.
    pub attempts: u32,
    /// Not before.
    pub next_at: Timestamp,
    /// Why the last delivery failed.
    pub last_error: Option<String>,
    /// The message, as the mail backend reads it.
    pub message: serde_json::Value,
}

/// Why a DAG does not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Who paused it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What came of something that somebody did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not done, because it cannot be.
    Refused,
    /// It was tried and did not succeed.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Done, Self::Refused, Self::Failed];
}

/// Somebody did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredAudit")]
pub struct Audit {
    /// When.
    pub at: Timestamp,
    /// Who: a user, or the door they came through.
    pub who: String,
    /// What, in one word or two: `trigger`, `cancel`, `clear`, `pause`.
    pub what: String,
    /// To which DAG, run or step.
    pub subject: String,
    /// What came of it.
    pub outcome: Outcome,
    /// More, for people.
    pub detail: String,
}

/// An entry as it is stored; before there were outcomes, they stood in its words alone.
#[derive(Deserialize)]
struct StoredAudit {
    at: Timestamp,
    who: String,
    what: String,
    subject: String,
    outcome: Option<Outcome>,
    detail: String,
}

impl From<StoredAudit> for Audit {
    fn from(stored: StoredAudit) -> Self {
        let StoredAudit { at, who, what, subject, outcome, detail } = stored;
        let outcome = outcome.unwrap_or_else(|| match detail.split([':', ',', ' ']).next() {
            Some("refused") => Outcome::Refused,
            Some("failed") => Outcome::Failed,
            _ => Outcome::Done,
        });
        Self { at, who, what, subject, outcome, detail }
    }
}

/// A run's events in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Journaled {
    /// The run.
    pub run: RunId,
    /// Its events, from the first on without a gap.
    pub events: Vec<Stamped>,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Runs; their folders can go too.
    pub runs: Vec<RunId>,
    /// Audit entries.
    pub audit_entries: usize,
}

/// Why the journal could not be opened, read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("{} is in use by another daemon; stop that one, or give this one another --data folder", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder cannot be used at all.
    #[error("{} cannot be used: {why}; check its owner, its permissions and the room on its disk", path.display())]
    Unusable {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A newer openbell wrote it.
    #[error(
        "{what} was written by a newer openbell (format {version}, this one reads up to {known}); start the newer version again"
    )]
    Newer {
        /// Which entry.
        what: String,
        /// Its format.
        version: u8,
        /// The newest format this version reads.
        known: u8,
    },
    /// An entry does not decode.
    #[error(
        "{what} cannot be read: {why}; restart the daemon: it moves the damaged journal aside and restores the newest export"
    )]
    Unreadable {
        /// Which entry: run and event number, where it is one.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Writing failed; what was to follow must not happen.
    #[error("the journal cannot be written: {why}; free some room on its disk and restart the daemon")]
    Write {
        /// What the system said.
        why: String,
    },
    /// The store stopped working.
    #[error("the journal stopped working: {why}; restart the daemon")]
    Broken {
        /// What happened.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_an_earlier_version_tells_its_outcome_in_its_words() {
        for (detail, outcome) in [
            ("done: day@2026-11-20", Outcome::Done),
            ("refused: it has ended", Outcome::Refused),
            ("failed, from 10.0.0.1", Outcome::Failed),
        ] {
            let old = serde_json::json!({ "at": "2026-11-20T09:00:00Z", "who": "ann", "what": "trigger", "subject": "day", "detail": detail });
            let read: Audit = serde_json::from_value(old).expect("an older entry");
            assert_eq!(read.outcome, outcome, "{detail}");
            let again: Audit =
                serde_json::from_value(serde_json::to_value(&read).expect("JSON")).expect("reads back");
            assert_eq!(again, read);
        }
    }
}
