//! An attempt and an installation, for the unit tests of the ways to run one.

use std::collections::BTreeMap;

use crate::AttemptSpec;
use crate::container::Installation;
use domain::dag::Step;
use domain::ids::AttemptId;
use domain::schedule::Window;

/// An attempt of a step, in the run of a day, whose deadline is when the window opens.
pub(crate) fn attempt(step: Step, number: u32) -> AttemptSpec {
    let id =
        AttemptId { run: "day@2026-11-20".parse().expect("a run"), step: step.name.clone(), attempt: number };
    let at = "2026-11-20T08:50:00+09:00".parse().expect("a time");
    AttemptSpec {
        folder: format!("/data/runs/{}/{}/{number}", id.run, id.step).into(),
        id,
        step,
        session_date: "2026-11-20".parse().expect("a date"),
        timezone: "Asia/Seoul".into(),
        calendar: None,
        window: Window { open_at: at, close_at: None },
        deadline: Some(at),
        params: BTreeMap::new(),
        replica: 0,
        hops: Vec::new(),
    }
}

/// An installation that gives built-in programs no environment.
pub(crate) fn installation() -> Installation {
    Installation { data: "/data".into(), dags: "/dags".into(), environment: Vec::new(), owner: (1000, 1001) }
}
