//! The words of alert mails: pure text from what happened.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::backends::mail::Message;
use crate::domain::dag::AlertKind;
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
        subject: format!("[openbell] {}: {summary}", kind.as_str()),
        text,
        at: *at,
    }
}
