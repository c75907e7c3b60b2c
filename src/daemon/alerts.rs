//! Which events people hear of: from what the machine says and what checks find to mails, once each.
//!
//! What was raised by events is not stored a second time: it follows from the journal, and is told again from
//! it after a restart ([`Book::retell`]). Only the states of rules with a memory are kept (`domain::alert`).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::alert_mail::{AlertMail, mail};
use backends::mail::Message;
use domain::alert::{AlertStates, DEFAULT_REMINDER, Key, Rule};
use domain::dag::{AlertKind, StepKind};
use domain::event::{Action, RunEvent, Stamped};
use domain::finding::Finding;
use domain::ids::{RunId, StepName};
use domain::program::Program;
use domain::results::Freshness;
use domain::run::{Run, RunState};
use engine::machine;

/// An alert that was raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    /// When.
    pub at: Timestamp,
    /// Kind.
    pub kind: AlertKind,
    /// The check's name for a stall, else the kind.
    pub rule: String,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: Option<StepName>,
    /// What was found.
    pub finding: Finding,
    /// Key of its mail, if the DAG asked for one.
    pub mail: Option<String>,
}

/// Everything remembered about alerts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Book {
    /// Newest last.
    pub raised: Vec<Raised>,
    /// Rules with a memory.
    pub states: AlertStates,
    /// Alerts raised in each run; numbers its mails, so that each has its own key, and the same one when told
    /// again.
    count: BTreeMap<RunId, u64>,
}

/// Alerts kept.
const KEPT: usize = 500;

/// What mails are written with.
#[derive(Debug, Clone)]
pub struct Letterhead {
    /// Sender.
    pub from: String,
    /// The page, without a trailing slash.
    pub public_url: String,
    /// What built-in programs are.
    pub programs: &'static [Program],
}

impl Book {
    /// Notes an alert; gives its mail if the run's DAG asks for this kind.
    #[expect(clippy::too_many_arguments, reason = "an alert is made of this many things")]
    pub fn raise(
        &mut self,
        head: &Letterhead,
        run: &Run,
        kind: AlertKind,
        step: Option<&StepName>,
        finding: &Finding,
        detail: Option<&serde_json::Value>,
        at: Timestamp,
    ) -> Option<Message> {
        let count = self.count.entry(run.id.clone()).or_default();
        *count += 1;
        let number = *count;
        let wanted = run.dag.alerts.on.contains(&kind) && !run.dag.alerts.email.is_empty();
        let message = wanted.then(|| mail(&AlertMail { kind, run, step, finding, detail, at, number }, head));
        let rule = match (kind.spec().rule, step) {
            (Some(Rule::Freshness), Some(step)) => step.to_string(),
            _ => kind.as_str().to_owned(),
        };
        self.raised.push(Raised {
            at,
            kind,
            rule,
            run: run.id.clone(),
            step: step.cloned(),
            finding: finding.clone(),
            mail: message.as_ref().map(|m| m.key.clone()),
        });
        if self.raised.len() > KEPT {
            self.raised.remove(0);
        }
        message
    }

    /// Takes an event that the machine accepted: what it said, and what a check found.
    pub fn event(
        &mut self,
        head: &Letterhead,
        run: &Run,
        event: &RunEvent,
        actions: &[Action],
        at: Timestamp,
    ) -> Vec<Message> {
        let mut mails = Vec::new();
        let mut told = None;
        for action in actions {
            let Action::Alert { kind, step, summary } = action else { continue };
            // A last try that took too long is a failure and a missed deadline: one alert, of the kind that
            // the DAG asks for.
            if *kind == AlertKind::DeadlineMissed && told == Some((AlertKind::StepFailed, step.clone())) {
                let wanted = |kind| run.dag.alerts.on.contains(&kind);
                if wanted(AlertKind::StepFailed) || !wanted(*kind) {
                    continue;
                }
            }
            told = Some((*kind, step.clone()));
            mails.extend(self.raise(head, run, *kind, step.as_ref(), &Finding::text(summary), None, at));
        }
        if let RunEvent::Exited { step, result: Some(result), .. } = event
            && run.dag.step(step).is_some_and(|s| s.kind == StepKind::Check)
        {
            mails.extend(self.check(head, run, step, result, at));
        }
        if run.state.is_terminal() {
            self.states.end_run(&run.id, at);
        }
        mails
    }

    /// Takes what a check found. One alert opens per check, whatever number of hops is behind; people are
    /// reminded while it stays open, and told once when it ends.
    pub fn check(
        &mut self,
        head: &Letterhead,
        run: &Run,
        step: &StepName,
        result: &serde_json::Value,
        at: Timestamp,
    ) -> Option<Message> {
        let finding = Freshness::of(result)?;
        if finding.stalled && run.state != RunState::Running {
            // Past the close nothing flows, and no later round could tell that it is over; the reconciliation
            // says what is missing.
            return None;
        }
        let key = Key { run: run.id.clone(), step: step.clone(), rule: Rule::Freshness };
        let notice = self.states.freshness(&key, &finding, at, DEFAULT_REMINDER)?;
        let seconds = at.duration_since(notice.began_at).as_secs();
        let finding = match (notice.kind, notice.reminder) {
            (AlertKind::Recovered, _) => Finding::Recovered { seconds },
            (_, true) => Finding::Lasting { seconds, what: Box::new(notice.finding) },
            (_, false) => notice.finding,
        };
        self.raise(head, run, notice.kind, Some(step), &finding, Some(&notice.detail), at)
    }

    /// Takes the number of dead letters held now; raises an alert when a run has more than its DAG allows.
    pub fn dead_letters(
        &mut self,
        head: &Letterhead,
        run: &Run,
        held: u64,
        at: Timestamp,
    ) -> Option<Message> {
        // The rule belongs to the whole run; its key names the run's first step, because a key has one.
        let step = run.dag.steps().first()?.name.clone();
        let key = Key { run: run.id.clone(), step, rule: Rule::DeadLetters };
        let notice =
            self.states.dead_letters(&key, held, run.dag.alerts.dead_letters_over, at, DEFAULT_REMINDER)?;
        self.raise(head, run, AlertKind::DeadLetters, None, &notice.finding, None, at)
    }

    /// Starts with the rule states that were kept.
    pub fn new(states: AlertStates) -> Self {
        Self { states, ..Self::default() }
    }

    /// Tells the alerts of a run's journal again, without sending anything and without touching the rule
    /// states.
    pub fn retell(&mut self, head: &Letterhead, events: &[Stamped]) {
        let mut telling = Self { raised: Vec::new(), ..Self::default() };
        let mut run = None;
        for stamped in events {
            let Ok(applied) = machine::apply(run, &stamped.event, stamped.at) else { break };
            telling.event(head, &applied.run, &stamped.event, &applied.actions, stamped.at);
            run = Some(applied.run);
        }
        self.count.append(&mut telling.count);
        self.raised.append(&mut telling.raised);
        self.raised.sort_by_key(|r| r.at);
        let surplus = self.raised.len().saturating_sub(KEPT);
        self.raised.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use domain::dag::{AlertPolicy, fixtures};
    use domain::run::Cause;
    use domain::schedule::Window;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + 60 * minute).expect("a timestamp")
    }

    fn run() -> Run {
        let mut dag = fixtures::dag("day", vec![fixtures::step("freshness", StepKind::Check, &[])]);
        dag.alerts = AlertPolicy {
            email: vec!["oncall@example.com".into()],
            on: [AlertKind::Stalled, AlertKind::Recovered, AlertKind::DeadLetters].into(),
            dead_letters_over: 10,
        };
        Run {
            id: RunId::new(&dag.name, "2026-11-20"),
            dag,
            cause: Cause::Scheduled,
            session_date: "2026-11-20".parse().expect("a date"),
            window: Window { open_at: at(0), close_at: None },
            params: BTreeMap::new(),
            created_at: at(0),
            state: RunState::Running,
            steps: BTreeMap::new(),
            cancelled_by: None,
            finished_at: None,
        }
    }

    fn head() -> Letterhead {
        Letterhead {
            from: "openbell@localhost".into(),
            public_url: "http://127.0.0.1:8650".into(),
            programs: &[],
        }
    }

    #[test]
    fn one_mail_when_it_stalls_reminders_and_one_when_it_recovers() {
        let (mut book, run, step) = (Book::default(), run(), "freshness".parse().expect("a name"));
        let stale = json!({"stalled": true, "hop": "feed", "since": "2026-11-20T13:02:00+09:00", "summary": "no frame since 13:02"});
        let fresh = json!({"stalled": false});
        let mut mails = Vec::new();
        for minute in 0..130 {
            let finding = if (10..100).contains(&minute) { &stale } else { &fresh };
            mails.extend(book.check(&head(), &run, &step, finding, at(minute)).map(|m| (minute, m.subject)));
        }
        let minutes: Vec<_> = mails.iter().map(|(m, _)| *m).collect();
        assert_eq!(minutes, [10, 70, 100], "{mails:?}");
        assert!(mails[0].1.contains("stalled: no frame since 13:02"));
        assert!(mails[2].1.contains("recovered"));
    }

    #[test]
    fn a_recovery_tells_how_long_nothing_came() {
        let (mut book, run, step) = (Book::default(), run(), "freshness".parse().expect("a name"));
        let told = |book: &mut Book, finding: Value, minute| {
            book.check(&head(), &run, &step, &finding, at(minute)).map(|m| m.subject)
        };
        let stale = json!({"stalled": true, "since": at(20).to_string(), "summary": "feed: no trade"});
        assert!(told(&mut book, stale.clone(), 30).is_some());
        assert!(
            told(&mut book, json!({"stalled": false, "settling": true}), 31).is_none(),
            "whether it is over shows later"
        );
        assert!(told(&mut book, stale, 92).is_some_and(|s| s.contains("still, after 72 min")));
        assert!(
            told(&mut book, json!({"stalled": false}), 100)
                .is_some_and(|s| s.ends_with("data arrives again after 80 min"))
        );
        let short = json!({"stalled": true, "since": (at(110) - std::time::Duration::from_secs(7)).to_string(), "summary": "s"});
        assert!(told(&mut book, short, 110).is_some());
        assert!(told(&mut book, json!({"stalled": false}), 110).is_some_and(|s| s.ends_with("after 7 s")));
    }

    #[test]
    fn a_stall_found_after_the_close_wakes_nobody_but_a_recovery_is_told() {
        let (mut book, mut run, step) = (Book::default(), run(), "freshness".parse().expect("a name"));
        let (stale, fresh) =
            (json!({"stalled": true, "summary": "raw: unreachable"}), json!({"stalled": false}));
        run.state = RunState::Closing;
        assert!(book.check(&head(), &run, &step, &stale, at(1)).is_none());
        run.state = RunState::Running;
        assert!(book.check(&head(), &run, &step, &stale, at(1)).is_some());
        run.state = RunState::Closing;
        assert!(
            book.check(&head(), &run, &step, &fresh, at(2)).is_some_and(|m| m.subject.contains("recovered"))
        );
    }

    #[test]
    fn a_mail_names_hop_since_and_page() {
        let (mut book, run, step) = (Book::default(), run(), "freshness".parse().expect("a name"));
        let stale = json!({"stalled": true, "hop": "index", "since": "2026-11-20T13:02:00+09:00", "last": {"id": "kis:1"}, "summary": "s"});
        let mail = book.check(&head(), &run, &step, &stale, at(1)).expect("a mail");
        for part in ["index", "2026-11-20 04:02:00 UTC", "kis:1", "http://127.0.0.1:8650/runs/day@2026-11-20"]
        {
            assert!(mail.text.contains(part), "{part} in\n{}", mail.text);
        }
    }

    #[test]
    fn a_last_try_that_took_too_long_is_one_alert() {
        let step: StepName = "load".parse().expect("a name");
        let alert =
            |kind| Action::Alert { kind, step: Some(step.clone()), summary: "task load: timed out".into() };
        let actions = [alert(AlertKind::StepFailed), alert(AlertKind::DeadlineMissed)];
        for (on, raised, mailed) in [
            (vec![AlertKind::StepFailed, AlertKind::DeadlineMissed], vec!["step_failed"], 1),
            (vec![AlertKind::StepFailed], vec!["step_failed"], 1),
            (vec![AlertKind::DeadlineMissed], vec!["step_failed", "deadline_missed"], 1),
            (vec![], vec!["step_failed"], 0),
        ] {
            let (mut book, mut run) = (Book::default(), run());
            run.dag.alerts.on = on.iter().copied().collect();
            let mails = book.event(&head(), &run, &RunEvent::Tick, &actions, at(0));
            assert_eq!(mails.len(), mailed, "{on:?}");
            assert_eq!(book.raised.iter().map(|r| r.kind.as_str()).collect::<Vec<_>>(), raised, "{on:?}");
        }
    }

    #[test]
    fn dead_letters_alert_once_per_run_and_only_over_the_limit() {
        let (mut book, run) = (Book::default(), run());
        assert!(
            book.dead_letters(&head(), &run, 100, at(0)).is_none(),
            "what was there before the run does not count"
        );
        assert!(book.dead_letters(&head(), &run, 110, at(1)).is_none());
        assert!(book.dead_letters(&head(), &run, 111, at(2)).is_some());
        assert!(book.dead_letters(&head(), &run, 500, at(3)).is_none());
    }
}
