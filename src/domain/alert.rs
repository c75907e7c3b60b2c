//! Alert rules that stay open over time: one mail when trouble starts, reminders while it lasts, one mail
//! when it is over.
//!
//! A rule is open or resolved per run and step. Feeding the same finding again changes nothing and sends
//! nothing, so a restarted daemon that looks at the same check result twice does not write twice. The states
//! are kept in the journal together with the mails they caused.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::finding::{self, Finding};
use super::ids::{RunId, StepName};
use super::results::Freshness;

/// How bad what an alert tells is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Trouble is over.
    Good,
    /// Nothing is wrong.
    Plain,
    /// Somebody should look at it.
    Warning,
    /// Data is missing or late, or a day is at risk.
    Bad,
}

impl Severity {
    /// The word used in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Plain => "plain",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// What a mail of a kind carries beside the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailPart {
    /// What can be done about the step, and what it noticed.
    Advice,
    /// Where the step's output is.
    Output,
    /// What the run's reconciliation found.
    Reconciliation,
}

/// All that is to be known of a kind of alert.
#[derive(Debug)]
pub struct Spec {
    /// The word used in files, mails and reports.
    pub word: &'static str,
    /// What happened, in a few words.
    pub title: &'static str,
    /// What it means and what to do, in a line or two.
    pub help: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Whether it is told where a DAG does not say which alerts it wants.
    pub unasked: bool,
    /// What its mail carries beside the summary.
    pub mail: &'static [MailPart],
    /// The rule that remembers it: it opens, people are reminded while it lasts, and it ends. Every other
    /// kind is told once, when it happens.
    pub rule: Option<Rule>,
}

macro_rules! kinds {
    ($($kind:ident $word:literal, $title:literal, $severity:ident, unasked: $unasked:literal, mail: [$($part:ident),*], rule: $rule:expr, $help:literal;)+) => {
        /// The kinds of alert a DAG can ask for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum AlertKind {
            $(#[doc = $title] #[serde(rename = $word)] $kind,)+
        }

        impl AlertKind {
            /// All of them, in the order in which they are listed.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+];
            /// Their words, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word,)+];

            /// What is to be known of it.
            pub fn spec(self) -> &'static Spec {
                match self {
                    $(Self::$kind => &Spec {
                        word: $word,
                        title: $title,
                        help: $help,
                        severity: Severity::$severity,
                        unasked: $unasked,
                        mail: &[$(MailPart::$part,)*],
                        rule: $rule,
                    },)+
                }
            }
        }
    };
}

// An alert kind is one row here; its translation stands in the catalogue of pages, and whoever notices it
// raises it.
kinds! {
    StepFailed "step_failed", "a step failed for good", Bad, unasked: true, mail: [Advice, Output], rule: None,
        "its retries are used up; of a check: a round failed. See the reason and its output, mend it, and clear the step while the window is open";
    RunFailed "run_failed", "a run ended badly", Bad, unasked: true, mail: [Output, Reconciliation], rule: None,
        "something in it failed or was left unfinished; a day that does not reconcile fails so. Its page says which steps";
    RunMissed "run_missed", "a day passed without a run", Warning, unasked: true, mail: [Output], rule: None,
        "openbell was down from open to close, or came late with late_start: skip. A backfill makes up for it where its data can still be had";
    RunFinished "run_finished", "a run ended", Plain, unasked: false, mail: [Output, Reconciliation], rule: None,
        "a sign of life each day, with the reconciliation";
    Stalled "stalled", "data does not arrive at a hop", Bad, unasked: true, mail: [Output], rule: Some(Rule::Freshness),
        "a hop lacks what it should have for longer than stale_after, or its store did not answer; the mail names the hop. People are reminded every hour";
    Recovered "recovered", "data arrives again", Good, unasked: true, mail: [], rule: Some(Rule::Freshness),
        "a stall is over; the mail says after how long";
    DeadLetters "dead_letters", "more dead letters than the DAG allows", Warning, unasked: true, mail: [Output], rule: Some(Rule::DeadLetters),
        "see them by cause, mend the cause and replay them. Told again, at most hourly, while they grow";
    DeadlineMissed "deadline_missed", "something took too long", Warning, unasked: true, mail: [Advice, Output], rule: None,
        "a service was not ready in time, an attempt hit its timeout, or a step had to be killed or cut at the close. See in its output what it waits for";
    TopicRemade "topic_remade", "a topic was deleted and made anew under the run", Warning, unasked: true, mail: [Output], rule: None,
        "openbell has filled it again from the spool; other readers of the topic meet those records twice";
    OutputCut "output_cut", "a step printed more than is kept", Warning, unasked: true, mail: [Output], rule: None,
        "the beginning and the end of its output are kept; let it print less";
}

impl AlertKind {
    /// The word used in files, mails and reports.
    pub fn as_str(self) -> &'static str {
        self.spec().word
    }

    /// The kind of this word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == word)
    }
}

/// The rules with a memory. Everything else ([`AlertKind`]) is sent the moment it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A freshness check finds a hop without new data.
    Freshness,
    /// A run has more dead letters than its policy allows.
    DeadLetters,
}

impl Rule {
    /// The word used in files, pages and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Freshness => "freshness",
            Self::DeadLetters => "dead_letters",
        }
    }
}

/// What an alert is about. All hops of one check share one alert: a stalled socket starves every hop behind
/// it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The run.
    pub run: RunId,
    /// The step that found it.
    pub step: StepName,
    /// The rule.
    pub rule: Rule,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.run, self.step, self.rule.as_str())
    }
}

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The trouble lasts.
    Open,
    /// Somebody looks after it: no more reminders.
    Acknowledged,
    /// It is over.
    Resolved,
    /// The run ended before it was over.
    Ended,
}

impl State {
    /// Whether the trouble lasts.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Acknowledged)
    }
    /// The word used in tables, pages and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Ended => "ended",
        }
    }
}

/// An alert that is or was open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// What it is about.
    pub key: Key,
    /// Where it stands.
    pub state: State,
    /// When it opened.
    pub opened_at: Timestamp,
    /// When the last notice was sent.
    pub noticed_at: Timestamp,
    /// Notices sent since it opened, the first included.
    pub notices: u32,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// The newest finding.
    #[serde(flatten, with = "finding::in_words")]
    pub finding: Finding,
    /// All that the step returned with it.
    pub detail: serde_json::Value,
    /// Who acknowledged it.
    pub acknowledged_by: Option<String>,
    /// How often it opened in this run.
    pub times: u32,
    /// The count at the last notice (dead letters).
    pub count: u64,
}

impl Alert {
    /// When the trouble began: as the newest finding says, and no later than the alert opened.
    fn began_at(&self) -> Timestamp {
        let since =
            self.detail.get("since").and_then(serde_json::Value::as_str).and_then(|since| since.parse().ok());
        since.map_or(self.opened_at, |since: Timestamp| since.min(self.opened_at))
    }
}

/// Something to tell people; the caller asks the DAG's policy who hears of it.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertNotice {
    /// Which kind of alert it is.
    pub kind: AlertKind,
    /// What it is about.
    pub key: Key,
    /// The trouble was reported before and lasts.
    pub reminder: bool,
    /// When the trouble began, as far as that is known: before anybody found it.
    pub began_at: Timestamp,
    /// When this was decided.
    pub at: Timestamp,
    /// What was found.
    pub finding: Finding,
    /// All that the step returned with it.
    pub detail: serde_json::Value,
}

impl AlertNotice {
    /// The same notice has the same id, whoever decides it: an outbox that holds it already has nothing to
    /// add.
    pub fn id(&self) -> String {
        format!("{}/{}/{}", self.key, self.kind.as_str(), self.at)
    }
}

/// Reminders come at most this often, unless the daemon is told otherwise.
pub const DEFAULT_REMINDER: Duration = Duration::from_secs(3600);

/// All alerts a daemon knows of.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AlertStates {
    alerts: BTreeMap<String, Alert>,
    /// Dead letters held when a run was first seen, by run: they are not its own.
    #[serde(default)]
    dead_letters_before: BTreeMap<RunId, u64>,
}

impl AlertStates {
    /// The alert of this key, open or not.
    pub fn get(&self, key: &Key) -> Option<&Alert> {
        self.alerts.get(&key.to_string())
    }

    /// All alerts, by key.
    pub fn all(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }

    /// Alerts whose trouble lasts.
    pub fn open(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values().filter(|alert| alert.state.is_open())
    }

    /// A freshness check was done. `remind_every`: see [`DEFAULT_REMINDER`].
    pub fn freshness(
        &mut self,
        key: &Key,
        finding: &Freshness,
        now: Timestamp,
        remind_every: Duration,
    ) -> Option<AlertNotice> {
        if finding.stalled {
            return self.trouble(
                key,
                AlertKind::Stalled,
                &finding.finding,
                &finding.detail,
                now,
                remind_every,
            );
        }
        if finding.settling {
            return None;
        }
        let alert = self.alerts.get_mut(&key.to_string()).filter(|alert| alert.state.is_open())?;
        let began_at = alert.began_at();
        (alert.state, alert.resolved_at) = (State::Resolved, Some(now));
        alert.finding = finding.finding.clone();
        alert.detail = finding.detail.clone();
        Some(AlertNotice {
            kind: AlertKind::Recovered,
            key: key.clone(),
            reminder: false,
            began_at,
            at: now,
            finding: alert.finding.clone(),
            detail: alert.detail.clone(),
        })
    }

    /// `held` dead letters are there, of which those that came during the run count and `over` are allowed.
    /// Reminds only when there are more than last time; goes back to resolved without a word when they were
    /// replayed.
    pub fn dead_letters(
        &mut self,
        key: &Key,
        held: u64,
        over: u64,
        now: Timestamp,
        remind_every: Duration,
    ) -> Option<AlertNotice> {
        let count = held.saturating_sub(*self.dead_letters_before.entry(key.run.clone()).or_insert(held));
        if count <= over {
            if let Some(alert) = self.alerts.get_mut(&key.to_string()).filter(|alert| alert.state.is_open()) {
                (alert.state, alert.resolved_at, alert.count) = (State::Resolved, Some(now), count);
            }
            return None;
        }
        let grown = self.get(key).is_none_or(|alert| !alert.state.is_open() || count > alert.count);
        if !grown {
            return None;
        }
        let finding = Finding::TooManyDeadLetters { letters: count, run: key.run.clone(), over };
        let detail = serde_json::json!({ "count": count, "over": over });
        let notice = self.trouble(key, AlertKind::DeadLetters, &finding, &detail, now, remind_every);
        if notice.is_some()
            && let Some(alert) = self.alerts.get_mut(&key.to_string())
        {
            alert.count = count;
        }
        notice
    }

    fn trouble(
        &mut self,
        key: &Key,
        kind: AlertKind,
        finding: &Finding,
        detail: &serde_json::Value,
        now: Timestamp,
        remind_every: Duration,
    ) -> Option<AlertNotice> {
        let known = self.alerts.get_mut(&key.to_string());
        let times = known.as_ref().map_or(0, |alert| alert.times);
        let reminder = match known {
            Some(alert) if alert.state.is_open() => {
                alert.finding = finding.clone();
                alert.detail = detail.clone();
                let due = alert.noticed_at.checked_add(remind_every).unwrap_or(Timestamp::MAX);
                if alert.state == State::Acknowledged || now < due {
                    return None;
                }
                alert.noticed_at = now;
                alert.notices += 1;
                true
            }
            _ => {
                let alert = Alert {
                    key: key.clone(),
                    state: State::Open,
                    opened_at: now,
                    noticed_at: now,
                    notices: 1,
                    resolved_at: None,
                    finding: finding.clone(),
                    detail: detail.clone(),
                    acknowledged_by: None,
                    times: times + 1,
                    count: 0,
                };
                self.alerts.insert(key.to_string(), alert);
                false
            }
        };
        let began_at = self.get(key).map_or(now, Alert::began_at);
        let (finding, detail) = (finding.clone(), detail.clone());
        Some(AlertNotice { kind, key: key.clone(), reminder, began_at, at: now, finding, detail })
    }

    /// Somebody looks after it; gives `false` when it is not open.
    pub fn acknowledge(&mut self, key: &Key, by: &str) -> bool {
        match self.alerts.get_mut(&key.to_string()).filter(|alert| alert.state.is_open()) {
            Some(alert) => {
                (alert.state, alert.acknowledged_by) = (State::Acknowledged, Some(by.to_owned()));
                true
            }
            None => false,
        }
    }

    /// The run is over: nothing more will be heard of its alerts. Gives those that were still open.
    pub fn end_run(&mut self, run: &RunId, now: Timestamp) -> Vec<Alert> {
        let mut left = Vec::new();
        self.dead_letters_before.remove(run);
        for alert in self.alerts.values_mut().filter(|alert| alert.key.run == *run && alert.state.is_open()) {
            left.push(alert.clone());
            (alert.state, alert.resolved_at) = (State::Ended, Some(now));
        }
        left
    }

    /// Forgets alerts that were over before `before`.
    pub fn prune(&mut self, before: Timestamp) {
        self.alerts
            .retain(|_, alert| alert.state.is_open() || alert.resolved_at.is_none_or(|at| at >= before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(rule: Rule) -> Key {
        Key {
            run: "day@2026-11-20".parse().expect("an id"),
            step: "freshness".parse().expect("a name"),
            rule,
        }
    }

    fn at(minute: i64) -> Timestamp {
        let open: Timestamp = "2026-11-20T08:50:00+09:00".parse().expect("a time");
        open + Duration::from_secs(60 * u64::try_from(minute).expect("positive"))
    }

    fn found(stalled: bool) -> Freshness {
        let result = json!({ "stalled": stalled, "hops": [{ "hop": "raw", "stale": false }, { "hop": "index", "stale": stalled }] });
        Freshness::of(&result).expect("a finding")
    }

    #[test]
    fn each_kind_is_stored_as_its_word() {
        for (kind, word) in AlertKind::ALL.iter().zip(AlertKind::WORDS) {
            assert_eq!(
                (serde_json::to_value(kind).expect("JSON"), AlertKind::of(word)),
                (json!(word), Some(*kind))
            );
            assert!(!kind.spec().help.is_empty());
        }
        assert_eq!(AlertKind::of("other"), None);
    }

    #[test]
    fn one_mail_when_it_stalls_reminders_and_one_when_it_recovers() {
        let (mut states, key) = (AlertStates::default(), key(Rule::Freshness));
        let mut sent = Vec::new();
        // Stalled from minute 10 to 89, checked every five minutes.
        for minute in (0..120).step_by(5) {
            let finding = found((10..90).contains(&minute));
            if let Some(notice) = states.freshness(&key, &finding, at(minute), DEFAULT_REMINDER) {
                sent.push((minute, notice.kind, notice.reminder, notice.finding.to_string()));
            }
        }
        let stalled = || "no new data: index".to_owned();
        assert_eq!(
            sent,
            [
                (10, AlertKind::Stalled, false, stalled()),
                (70, AlertKind::Stalled, true, stalled()),
                (90, AlertKind::Recovered, false, "data arrives".to_owned()),
            ]
        );
        let again =
            states.freshness(&key, &found(true), at(125), DEFAULT_REMINDER).expect("a second stall is news");
        assert!(!again.reminder);
        assert_eq!(states.get(&key).map(|alert| alert.times), Some(2));
    }

    #[test]
    fn what_settles_opens_nothing_and_ends_nothing() {
        let (mut states, key) = (AlertStates::default(), key(Rule::Freshness));
        let settling =
            Freshness::of(&json!({ "stalled": false, "settling": true, "summary": "s" })).expect("a finding");
        assert_eq!(states.freshness(&key, &settling, at(0), DEFAULT_REMINDER), None);
        assert_eq!(states.open().count(), 0);
        assert!(states.freshness(&key, &found(true), at(5), DEFAULT_REMINDER).is_some());
        assert_eq!(
            states.freshness(&key, &settling, at(100), DEFAULT_REMINDER),
            None,
            "and reminds of nothing"
        );
        assert_eq!(states.open().count(), 1);
        assert!(states.freshness(&key, &found(false), at(105), DEFAULT_REMINDER).is_some());
    }

    #[test]
    fn a_trouble_began_before_it_was_found() {
        let (mut states, key) = (AlertStates::default(), key(Rule::Freshness));
        let stalled = |since: i64| {
            Freshness::of(&json!({ "stalled": true, "summary": "s", "since": at(since).to_string() }))
                .expect("a finding")
        };
        let began = |notice: Option<AlertNotice>| notice.expect("news").began_at;
        assert_eq!(began(states.freshness(&key, &stalled(3), at(10), DEFAULT_REMINDER)), at(3));
        assert_eq!(began(states.freshness(&key, &stalled(3), at(70), DEFAULT_REMINDER)), at(3));
        assert_eq!(
            states.freshness(&key, &stalled(40), at(75), DEFAULT_REMINDER),
            None,
            "a sink that catches up"
        );
        assert_eq!(
            began(states.freshness(&key, &found(false), at(80), DEFAULT_REMINDER)),
            at(10),
            "no later than it was found"
        );
    }

    #[test]
    fn states_survive_a_restart_and_do_not_write_twice() {
        let (mut states, key) = (AlertStates::default(), key(Rule::Freshness));
        assert!(states.freshness(&key, &found(true), at(0), DEFAULT_REMINDER).is_some());
        let text = serde_json::to_string(&states).expect("JSON");
        let mut states: AlertStates = serde_json::from_str(&text).expect("reads back");
        assert_eq!(states.freshness(&key, &found(true), at(0), DEFAULT_REMINDER), None);
        assert_eq!(states.open().count(), 1);
    }

    #[test]
    fn states_of_an_older_version_are_read_and_hold_its_words() {
        let (mut states, key) = (AlertStates::default(), key(Rule::Freshness));
        let result = json!({ "stalled": true, "summary": "index: 6m12s behind" });
        states.freshness(&key, &Freshness::of(&result).expect("a finding"), at(0), DEFAULT_REMINDER);
        let stored = serde_json::to_value(&states).expect("JSON");
        let alert = &stored["alerts"][key.to_string()];
        assert_eq!(
            (&alert["summary"], alert.get("finding")),
            (&json!("index: 6m12s behind"), None),
            "as it was written before"
        );
        let what = Box::new(Finding::Waiting { seconds: 372 });
        let finding = Finding::Stalled { hop: "index".into(), what, last: None, down: None };
        let result = json!({ "stalled": true, "summary": "index: 6m12s behind", "finding": finding });
        let mut states: AlertStates = serde_json::from_value(stored).expect("reads back");
        let notice =
            states.freshness(&key, &Freshness::of(&result).expect("a finding"), at(70), DEFAULT_REMINDER);
        assert_eq!(notice.map(|notice| (notice.reminder, notice.finding)), Some((true, finding)));
    }

    #[test]
    fn an_acknowledged_alert_is_quiet_but_still_recovers() {
        let (mut states, key) = (AlertStates::default(), key(Rule::Freshness));
        assert!(!states.acknowledge(&key, "ann"));
        states.freshness(&key, &found(true), at(0), DEFAULT_REMINDER);
        assert!(states.acknowledge(&key, "ann"));
        assert_eq!(states.freshness(&key, &found(true), at(500), DEFAULT_REMINDER), None);
        assert_eq!(
            states.freshness(&key, &found(false), at(505), DEFAULT_REMINDER).map(|n| n.kind),
            Some(AlertKind::Recovered)
        );
    }

    #[test]
    fn dead_letters_alert_above_the_threshold_and_again_when_they_grow() {
        let (mut states, key) = (AlertStates::default(), key(Rule::DeadLetters));
        states.dead_letters(&key, 100, 2, at(0), DEFAULT_REMINDER);
        // A restart of the daemon comes between any two counts.
        let mut count = |n, minute| {
            let kept = serde_json::to_string(&states).expect("states are JSON");
            states = serde_json::from_str(&kept).expect("reads back");
            states
                .dead_letters(&key, 100_u64 + n, 2, at(minute), DEFAULT_REMINDER)
                .map(|notice| notice.reminder)
        };
        assert_eq!(count(2, 0), None);
        assert_eq!(count(3, 1), Some(false));
        assert_eq!(count(3, 100), None, "nothing new");
        assert_eq!(count(9, 30), None, "not so soon");
        assert_eq!(count(9, 70), Some(true));
        assert_eq!(count(0, 80), None);
        assert_eq!(count(3, 81), Some(false), "open again after a replay");
    }

    #[test]
    fn the_end_of_the_run_ends_its_alerts() {
        let (mut states, key) = (AlertStates::default(), key(Rule::Freshness));
        states.freshness(&key, &found(true), at(0), DEFAULT_REMINDER);
        assert_eq!(states.end_run(&key.run, at(430)).len(), 1);
        assert_eq!((states.open().count(), states.end_run(&key.run, at(431)).len()), (0, 0));
        states.prune(at(430));
        assert_eq!(states.all().count(), 1);
        states.prune(at(431));
        assert_eq!(states.all().count(), 0);
    }
}
