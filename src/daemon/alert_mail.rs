//! The words of alert mails: pure text from what happened.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::alerts::Letterhead;
use backends::mail::Message;
use domain::advice::advice;
use domain::alert::MailPart;
use domain::dag::{AlertKind, Step, StepKind};
use domain::finding::Finding;
use domain::hop;
use domain::ids::StepName;
use domain::message::{quantity, thousands};
use domain::program::{self, Program, Role};
use domain::results::{Averages, Different, Reconciliation};
use domain::run::Run;

/// Everything a mail is made of.
pub struct AlertMail<'a> {
    /// Which kind.
    pub kind: AlertKind,
    /// The run it is about.
    pub run: &'a Run,
    /// The step it is about.
    pub step: Option<&'a StepName>,
    /// What was found.
    pub finding: &'a Finding,
    /// More lines: the finding of a check, a reconciliation.
    pub detail: Option<&'a Value>,
    /// When.
    pub at: Timestamp,
    /// Distinguishes several mails of a kind and step in one run; the same number gives the same Message-ID.
    pub number: u64,
}

/// Gaps that a mail lists; the page has all of them.
const GAPS: usize = 10;
/// Symbols with other totals than the exchange's that a mail lists.
const DIFFERENT: usize = 5;

/// Characters of a summary that stand in a subject; all of it stands in the text.
const SUBJECT: usize = 120;

/// The mail of a notice.
pub fn mail(notice: &AlertMail<'_>, head: &Letterhead) -> Message {
    let Letterhead { from, public_url, programs } = head;
    let AlertMail { kind, run, step, finding, detail, at, number } = notice;
    let summary = finding.to_string();
    let carries = |part: MailPart| kind.spec().mail.contains(&part);
    let zone =
        run.dag.schedule.as_ref().and_then(|s| TimeZone::get(&s.timezone).ok()).unwrap_or(TimeZone::UTC);
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
            if let Some(value) = detail.get(name).and_then(Value::as_str) {
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
    if let Some((name, step, state)) =
        step.and_then(|name| Some((name, run.dag.step(name)?, run.steps.get(name)?)))
    {
        if carries(MailPart::Advice) {
            if let Some(notice) = &state.notice {
                line("noticed", notice);
            }
            if let Some(advice) = advice(step, state) {
                line("to do", &advice.to_string());
            }
        }
        if carries(MailPart::Output) && state.started_at.is_some() && step.kind != StepKind::Check {
            line(
                "output",
                &format!("{public_url}/runs/{}/steps/{name}/output?attempt={}", run.id, state.attempt),
            );
        }
    }
    line("page", &format!("{public_url}/runs/{}", run.id));
    text.push_str(&hops_table(detail.and_then(|d| d.get("hops"))));
    if carries(MailPart::Reconciliation) {
        text.push_str(
            &results(run, programs)
                .filter_map(reconciliation)
                .map(|told| format!("\n{told}"))
                .collect::<String>(),
        );
    }
    Message {
        key: format!("{}/{}/{}/{number}", run.id, step.map_or("run", StepName::as_str), kind.as_str()),
        from: from.clone(),
        to: run.dag.alerts.email.clone(),
        subject: format!("[openbell] {}: {}", kind.as_str(), clipped(&summary)),
        text,
        at: *at,
    }
}

/// What a check found at each hop, a line each; empty where it did not look at hops.
fn hops_table(hops: Option<&Value>) -> String {
    let Some(hops) = hops.and_then(Value::as_array) else { return String::new() };
    let mut text = "\nhops\n".to_owned();
    for hop in hops {
        let word = |name: &str| {
            hop.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).unwrap_or_default()
        };
        let state = if hop.get("stale").and_then(Value::as_bool) == Some(true) { "STALE" } else { "ok" };
        let found = Finding::read(hop.get("finding"), hop.get("detail").and_then(Value::as_str));
        let found = found.map(|found| found.to_string()).unwrap_or_default();
        text.push_str(&format!("  {:<8} {state:<6} newest {} {found}\n", word("hop"), word("newest")));
    }
    text
}

/// What the reconciliations of a run found.
fn results<'a>(run: &'a Run, programs: &[Program]) -> impl Iterator<Item = &'a Value> {
    let reconciles =
        |step: &Step| program::of(programs, step).is_some_and(|program| program.role == Role::Reconcile);
    run.dag
        .steps()
        .iter()
        .filter(move |step| reconciles(step))
        .filter_map(|step| run.steps.get(&step.name)?.result.as_ref())
}

/// A reconciliation for people; `None` for a result that counts nothing, as that of a step that failed before
/// it could.
fn reconciliation(result: &Value) -> Option<String> {
    let found = Reconciliation::of(result)?;
    let date = found.session_date.map_or_else(|| "?".to_owned(), |date| date.to_string());
    let verdict =
        if found.ok { "every trade received is in every store, once" } else { "the day does NOT reconcile" };
    let mut text = format!("reconciliation of {date}: {verdict}\n");
    text.push_str(&format!("  {:<8} {:>13} {:>9} {:>9}\n", "", "unique", "missing", "repeated"));
    for name in hop::in_order(found.hops.keys().map(String::as_str)) {
        let counts = &found.hops[name];
        let [unique, missing, repeated] = [counts.unique, counts.missing, counts.duplicates].map(thousands);
        text.push_str(&format!("  {name:<8} {unique:>13} {missing:>9} {repeated:>9}\n"));
    }
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<12} {value}\n"));
    let causes: String =
        found.dead_letters.by_cause.iter().map(|(cause, n)| format!(" · {cause} {n}")).collect();
    line("dead letters", format!("{}{causes}", thousands(found.dead_letters.total)));
    let gaps = &found.gaps;
    if gaps.is_empty() {
        line("gaps", "none".into());
    } else {
        let shares = quantity(&found.gap_quantity());
        line("gaps", format!("{}, {shares} shares traded and never received", thousands(gaps.len() as u64)));
        for gap in gaps.iter().take(GAPS) {
            let from = gap.from.as_deref().map_or("the open".to_owned(), of_day);
            line(
                "",
                format!(
                    "{} from {from} to {}: {} shares",
                    gap.symbol,
                    of_day(&gap.to),
                    quantity(&gap.quantity)
                ),
            );
        }
        if gaps.len() > GAPS {
            line("", format!("and {} more; the page lists them", thousands((gaps.len() - GAPS) as u64)));
        }
    }
    let Averages { checked, equal, different } = found.vwap;
    let (equal, checked) = (thousands(equal), thousands(checked));
    line("averages", format!("{equal} of {checked} symbols without gaps equal the exchange's own"));
    for Different { symbol, volume, exchange_volume, value, exchange_value } in
        different.iter().take(DIFFERENT)
    {
        let theirs = format!("{exchange_volume} for {exchange_value} at the exchange");
        line("", format!("{symbol} differs: {volume} shares for {value} here, {theirs}"));
    }
    Some(text)
}

/// The time of the day in an RFC 3339 time, as the exchange wrote it.
fn of_day(time: &str) -> String {
    time.split_once('T').and_then(|(_, rest)| rest.get(..8)).unwrap_or(time).to_owned()
}

/// A mail that only shows that mail arrives.
pub fn test_mail(to: Vec<String>, head: &Letterhead, by: &str, at: Timestamp) -> Message {
    let Letterhead { from, public_url, .. } = head;
    Message {
        key: format!("test/{at}"),
        from: from.clone(),
        to,
        subject: "[openbell] test: mail arrives".to_owned(),
        text: format!(
            "This is a test: alerts of openbell reach you.\n\nasked for by {by}\npage         {public_url}/alerts\n"
        ),
        at,
    }
}

/// The beginning of a long text, up to a whole word. Three dots in ASCII: a letter beyond would have the
/// subject encoded.
fn clipped(text: &str) -> String {
    let Some((end, _)) = text.char_indices().nth(SUBJECT) else { return text.to_owned() };
    let begin = &text[..end];
    let word = begin.rfind(' ').filter(|at| *at > end / 2).unwrap_or(end);
    format!("{} ...", &begin[..word])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use domain::dag::fixtures;
    use domain::ids::RunId;
    use domain::program::testing::PROGRAMS;
    use domain::run::{AttemptRecord, Cause, Ending, Exit, RunState, StepRun, StepState};
    use domain::schedule::Window;

    fn failed(exit: Exit) -> Run {
        let at = Timestamp::UNIX_EPOCH;
        let dag = fixtures::dag("day", vec![fixtures::step("load", StepKind::Task, &[])]);
        let mut step = StepRun::new(at);
        (step.state, step.attempt, step.started_at, step.reason) =
            (StepState::Failed, 2, Some(at), Some(exit.to_string()));
        step.history.push(AttemptRecord {
            attempt: 2,
            started_at: at,
            ended_at: at,
            exit,
            ending: Ending::Itself,
        });
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
        let finding = &Finding::text(summary);
        let notice =
            AlertMail { kind, run, step: Some(&step), finding, detail: None, at: run.created_at, number: 1 };
        let (from, public_url) = ("openbell@localhost".into(), "http://127.0.0.1:8650".into());
        mail(&notice, &Letterhead { from, public_url, programs: PROGRAMS })
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
    fn the_mail_of_an_ended_run_carries_its_reconciliation() {
        let mut run = failed(Exit::Code(0));
        let mut step = fixtures::step("load", StepKind::Teardown, &[]);
        step.program = domain::dag::Program::Uses("reconcile".into());
        run.dag = fixtures::dag("day", vec![step]);
        let gap = |symbol: &str| json!({ "symbol": symbol, "from": null, "to": "2026-11-20T10:42:10+09:00", "shares": 1_200 });
        let hop =
            |unique: u64, missing: u64| json!({ "unique": unique, "duplicates": 0, "missing": missing });
        let mut result = json!({
            "session_date": "2026-11-20", "ok": false,
            "hops": { "spool": hop(23_957, 0), "log": hop(23_957, 0), "raw": hop(23_955, 2), "index": hop(1_234_567, 0), "objects": hop(7, 0) },
            "dead_letters": { "total": 5, "by_cause": { "wrong_width": 3, "not_a_number": 2 } },
            "gaps": [gap("005930"), gap("000660")],
            "vwap": { "checked": 39, "equal": 38, "different": [{ "symbol": "035720", "volume": "99", "exchange_volume": 100, "value": "5000.00", "exchange_value": 5050 }] },
        });
        let told = |run: &mut Run, kind, result: &Value| {
            run.steps.values_mut().next().expect("a step").result = Some(result.clone());
            of(run, kind, "run ended").text
        };
        let text = told(&mut run, AlertKind::RunFinished, &result);
        let page = text.find("page         http://127.0.0.1:8650/runs/day@1970-01-01\n").expect("a link");
        assert!(
            text.find("reconciliation of 2026-11-20: the day does NOT reconcile\n").expect("a verdict")
                > page,
            "{text}"
        );
        for part in [
            "                  unique   missing  repeated\n",
            "  raw             23,955         2         0\n",
            "  index        1,234,567         0         0\n",
            "dead letters 5 · not_a_number 2 · wrong_width 3\n",
            "gaps         2, 2,400 shares traded and never received\n",
            "             005930 from the open to 10:42:10: 1,200 shares\n",
            "averages     38 of 39 symbols without gaps equal the exchange's own\n",
            "             035720 differs: 99 shares for 5000.00 here, 100 for 5050 at the exchange\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert_eq!(told(&mut run, AlertKind::RunFailed, &result), text.replace("run_finished", "run_failed"));
        assert!(
            !told(&mut run, AlertKind::StepFailed, &result).contains("reconciliation"),
            "only when the run has ended"
        );

        (result["ok"], result["gaps"]) = (json!(true), json!(vec![gap("005930"); 25]));
        let text = told(&mut run, AlertKind::RunFinished, &result);
        assert!(text.contains(": every trade received is in every store, once\n"), "{text}");
        assert!(
            text.contains("gaps         25, 30,000 shares")
                && text.contains("and 15 more; the page lists them\n"),
            "{text}"
        );
        result["gaps"] = json!([]);
        assert!(told(&mut run, AlertKind::RunFinished, &result).contains("gaps         none\n"));
        let text = told(&mut run, AlertKind::RunFinished, &json!({ "error": "raw: not reached" }));
        assert!(!text.contains("reconciliation"), "a step that failed before it counted: {text}");
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
