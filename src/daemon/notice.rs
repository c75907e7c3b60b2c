//! The words of alert mails: pure text from what happened.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::alerts::Letterhead;
use crate::backends::mail::Message;
use crate::domain::advice::advice;
use crate::domain::dag::{AlertKind, StepKind};
use crate::domain::ids::StepName;
use crate::domain::run::Run;

/// Everything a mail is made of.
pub struct Notice<'a> {
    /// Which kind.
    pub kind: AlertKind,
    /// The run it is about.
    pub run: &'a Run,
    /// The step it is about.
    pub step: Option<&'a StepName>,
    /// One line.
    pub summary: &'a str,
    /// More lines: the finding of a check, a reconciliation.
    pub detail: Option<&'a serde_json::Value>,
    /// When.
    pub at: Timestamp,
    /// Distinguishes several mails of a kind and step in one run; the same number gives the same Message-ID.
    pub number: u64,
}

/// Characters of a summary that stand in a subject; all of it stands in the text.
const SUBJECT: usize = 120;

/// The mail of a notice; `public_url` is the page's address without a trailing slash.
pub fn mail(notice: &Notice<'_>, from: &str, public_url: &str) -> Message {
    let Notice { kind, run, step, summary, detail, at, number } = notice;
    let zone = run.dag.schedule.as_ref().and_then(|s| TimeZone::get(&s.timezone).ok()).unwrap_or(TimeZone::UTC);
    let local = |t: Timestamp| t.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
    let mut text = format!("{summary}\n\n");
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<12} {value}\n"));
    line("alert", kind.as_str());
    line("run", run.id.as_str());
    if let Some(step) = step {
        line("step", step.as_str());
    }
    line("at", &local(*at));
    if let Some(detail) = detail {
        for name in ["hop", "since"] {
            if let Some(value) = detail.get(name).and_then(serde_json::Value::as_str) {
                let shown = value.parse::<Timestamp>().map_or_else(|_| value.to_owned(), local);
                line(name, &shown);
            }
        }
        if let Some(last) = detail.get("last").filter(|l| !l.is_null()) {
            line("last record", &last.to_string());
        }
    }
    if !run.dag.owner.is_empty() {
        line("owner", &run.dag.owner);
    }
    if let Some((name, step, state)) = step.and_then(|name| Some((name, run.dag.step(name)?, run.steps.get(name)?))) {
        if matches!(kind, AlertKind::StepFailed | AlertKind::DeadlineMissed) {
            if let Some(notice) = &state.notice {
                line("noticed", notice);
            }
            if let Some(advice) = advice(step, state) {
                line("to do", &advice);
            }
        }
        if state.started_at.is_some() && *kind != AlertKind::Recovered && step.kind != StepKind::Check {
            line("output", &format!("{public_url}/runs/{}/steps/{name}/output?attempt={}", run.id, state.attempt));
        }
    }
    line("page", &format!("{public_url}/runs/{}", run.id));
    if let Some(hops) = detail.and_then(|d| d.get("hops")).and_then(serde_json::Value::as_array) {
        text.push_str("\nhops\n");
        for hop in hops {
            let word =
                |name: &str| hop.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).unwrap_or_default();
            let state = if hop.get("stale").and_then(serde_json::Value::as_bool) == Some(true) { "STALE" } else { "ok" };
            text.push_str(&format!("  {:<8} {state:<6} newest {} {}\n", word("hop"), word("newest"), word("detail")));
        }
    }
    Message {
        key: format!("{}/{}/{}/{number}", run.id, step.map_or("run", StepName::as_str), kind.as_str()),
        from: from.to_owned(),
        to: run.dag.alerts.email.clone(),
        subject: format!("[openbell] {}: {}", kind.as_str(), clipped(summary)),
        text,
        at: *at,
    }
}

/// A mail that only shows that mail arrives.
pub fn test_mail(to: Vec<String>, head: &Letterhead, by: &str, at: Timestamp) -> Message {
    let Letterhead { from, public_url } = head;
    Message {
        key: format!("test/{at}"),
        from: from.clone(),
        to,
        subject: "[openbell] test: mail arrives".to_owned(),
        text: format!("This is a test: alerts of openbell reach you.\n\nasked for by {by}\npage         {public_url}/alerts\n"),
        at,
    }
}

/// The beginning of a long text, up to a whole word. Three dots in ASCII: a letter beyond would have the subject encoded.
fn clipped(text: &str) -> String {
    let Some((end, _)) = text.char_indices().nth(SUBJECT) else { return text.to_owned() };
    let begin = &text[..end];
    let word = begin.rfind(' ').filter(|at| *at > end / 2).unwrap_or(end);
    format!("{} ...", &begin[..word])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::dag::fixtures;
    use crate::domain::ids::RunId;
    use crate::domain::run::{AttemptRecord, Cause, Exit, RunState, StepRun, StepState};
    use crate::domain::schedule::Window;

    fn failed(exit: Exit) -> Run {
        let at = Timestamp::UNIX_EPOCH;
        let dag = fixtures::dag("day", vec![fixtures::step("load", StepKind::Task, &[])]);
        let mut step = StepRun::new(at);
        (step.state, step.attempt, step.started_at, step.reason) = (StepState::Failed, 2, Some(at), Some(exit.to_string()));
        step.history.push(AttemptRecord { attempt: 2, started_at: at, ended_at: at, exit });
        Run {
            id: RunId::new(&dag.name, "1970-01-01"),
            dag,
            cause: Cause::Manual,
            session_date: jiff::civil::date(1970, 1, 1),
            window: Window { open_at: at, close_at: None },
            params: BTreeMap::new(),
            created_at: at,
            state: RunState::Running,
            steps: BTreeMap::from([("load".parse().expect("a name"), step)]),
            cancelled_by: None,
            finished_at: None,
        }
    }

    fn of(run: &Run, kind: AlertKind, summary: &str) -> Message {
        let step = "load".parse().expect("a name");
        let notice = Notice { kind, run, step: Some(&step), summary, detail: None, at: run.created_at, number: 1 };
        mail(&notice, "openbell@localhost", "http://127.0.0.1:8650")
    }

    #[test]
    fn a_failed_step_comes_with_what_to_do_and_where_its_output_is() {
        let mut run = failed(Exit::OutOfMemory);
        run.steps.values_mut().next().expect("a step").notice = Some("printed too much".into());
        let text = of(&run, AlertKind::StepFailed, "task load: out of memory").text;
        for part in [
            "to do        let it hold less at once, or give its container more memory (container: { memory: … } of the step; docker.memory_bytes in the configuration is the limit of those that say nothing)\n",
            "noticed      printed too much\n",
            "output       http://127.0.0.1:8650/runs/day@1970-01-01/steps/load/output?attempt=2\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let text = of(&run, AlertKind::TopicRemade, "x").text;
        assert!(!text.contains("to do") && !text.contains("noticed"), "{text}");
    }

    #[test]
    fn a_long_summary_is_cut_in_the_subject_only() {
        let why = format!("image \"{}\" cannot be pulled; build it", "한".repeat(200));
        let mail = of(&failed(Exit::NotStarted(why.clone())), AlertKind::StepFailed, &why);
        assert!(mail.subject.chars().count() < 150 && mail.subject.ends_with("한 ..."), "{}", mail.subject);
        assert!(mail.text.starts_with(&format!("{why}\n")), "{}", mail.text);
        assert_eq!(clipped(&"word ".repeat(40)), format!("{} ...", "word ".repeat(24).trim_end()));
    }
}
