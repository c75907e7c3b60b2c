//! What people ask of the daemon, turned into events.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::handle::Command;
use domain::calendar::Calendar;
use domain::dag::{Dag, StepKind};
use domain::event::{Created, RunEvent};
use domain::ids::{RunId, StepName};
use domain::message::Refused;
use domain::run::{Cause, Run};
use domain::said;
use domain::schedule::Window;
use engine::machine;

/// The event a command on a run means, checked against the run, so that a refusal reaches whoever asked.
///
/// # Errors
/// No such run or step, or one that cannot take the command now.
pub fn event(
    runs: &BTreeMap<RunId, Run>,
    id: &RunId,
    command: &Command,
    by: &str,
    now: Timestamp,
) -> Result<RunEvent, Refused> {
    let run = runs.get(id).ok_or_else(|| {
        let open: Vec<_> = runs.values().filter(|r| !r.state.is_terminal()).map(|r| r.id.as_str()).collect();
        let open =
            if open.is_empty() { said!("none is open") } else { said!("open are {}", open.join(", ")) };
        Refused::new(said!("there is no run {}", id), open)
    })?;
    let by = by.to_owned();
    let event = match command {
        Command::Cancel(_) => RunEvent::CancelRequested { by },
        Command::Clear(_, steps) => RunEvent::Cleared { steps: steps.clone(), by },
        Command::Mark(_, step, success) => RunEvent::Marked { step: step.clone(), success: *success, by },
        other => return Err(Refused::bare(said!("{} is not a command on a run", other.in_words().0))),
    };
    machine::apply(Some(run.clone()), &event, now).map_err(|refused| refused.said())?;
    Ok(event)
}

/// The living attempt of a step.
///
/// # Errors
/// No such run or step, or it is not alive.
pub fn living(runs: &BTreeMap<RunId, Run>, id: &RunId, step: &StepName) -> Result<u32, Refused> {
    let run = runs.get(id).ok_or_else(|| Refused::bare(said!("there is no run {}", id)))?;
    let now = run.steps.get(step).ok_or_else(|| Refused::bare(said!("run {} has no step {}", id, step)))?;
    if now.state.is_alive() {
        Ok(now.attempt)
    } else {
        Err(Refused::bare(said!("step {} is {}, nothing is alive", step, now.state.as_str())))
    }
}

/// A manual run. No run lasts for ever: one with services or checks ends at today's close, or at `until`.
///
/// # Errors
/// When it would have no end, or one that has passed.
pub fn manual(
    dag: &Dag,
    calendar: Option<&Calendar>,
    params: BTreeMap<String, String>,
    until: Option<Timestamp>,
    taken: impl Fn(&RunId) -> bool,
    now: Timestamp,
) -> Result<Created, Refused> {
    let zone = dag
        .schedule
        .as_ref()
        .and_then(|s| jiff::tz::TimeZone::get(&s.timezone).ok())
        .unwrap_or(jiff::tz::TimeZone::UTC);
    let date = now.to_zoned(zone).date();
    let todays = dag
        .schedule
        .as_ref()
        .and_then(|s| s.window_on(date, calendar))
        .and_then(|w| w.close_at)
        .filter(|c| *c > now);
    let close_at = until.or(todays);
    if close_at.is_some_and(|c| c <= now) {
        return Err(Refused::bare(said!("the end given with --until has passed")));
    }
    let lasting = dag.steps().iter().find(|s| matches!(s.kind, StepKind::Service | StepKind::Check));
    if let (None, Some(step)) = (close_at, lasting) {
        return Err(Refused::new(
            said!(
                "step {0} of {1} is a {2} and would never end, because no window of {1} is left today",
                step.name,
                dag.name,
                step.kind.as_str()
            ),
            said!("say when with --until"),
        ));
    }
    let id = (1..).map(|n| RunId::new(&dag.name, &format!("{date}+manual.{n}"))).find(|id| !taken(id));
    let id = id.ok_or_else(|| Refused::bare(said!("no run id is left for today")))?;
    Ok(Created {
        id,
        dag: dag.clone(),
        cause: Cause::Manual,
        session_date: date,
        window: Window { open_at: now, close_at },
        params,
    })
}
