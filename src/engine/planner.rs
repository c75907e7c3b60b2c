//! What is due: (now, DAGs, calendars, what is already decided) → decisions. Pure; a late, lost or double
//! tick cannot cause a late, lost or double run.
//!
//! Two facts decide. The ids of the runs that exist: a session (DAG and session key) that has a run never
//! gets a second one. And, per DAG, the instant up to which everything was decided (`planned_until`), which
//! the caller stores together with the decisions and hands back at the next look:
//!
//! * sessions that opened since then are decided now, each exactly once: started, skipped or reported as
//!   missed;
//! * the window that is open right now is wanted whether or not its open was seen, so a DAG that was paused,
//!   added or
//!   brought back inside its window joins it.
//!
//! The caller sets `planned_until` to `now` after carrying the decisions out, also when the clock went
//! backwards: then the time in between is decided again, and the existing runs keep it from starting anything
//! twice.

use std::collections::VecDeque;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use domain::calendar::Calendar;
use domain::dag::{Dag, StepKind};
use domain::ids::{DagName, RunId};
use domain::schedule::{Catchup, LateStart, Occurrence, Schedule, Window};

/// A DAG as the planner sees it.
#[derive(Debug, Clone, Copy)]
pub struct PlannedDag<'a> {
    /// The DAG.
    pub dag: &'a Dag,
    /// The calendar its schedule names.
    pub calendar: Option<&'a Calendar>,
    /// Whether somebody paused it: nothing starts, nothing is reported as missed.
    pub paused: bool,
    /// Up to when its sessions are decided; `None` for a DAG never seen before, whose past is nobody's
    /// business.
    pub planned_until: Option<Timestamp>,
}

/// What the daemon is to do about one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Create the scheduled run.
    Start(Start),
    /// Its window passed while nobody could start it; it is not replayed. Tell people.
    Missed {
        /// The session.
        session: SessionOf,
    },
    /// So many windows passed that they are reported together.
    MissedMany {
        /// The DAG.
        dag: DagName,
        /// How many.
        count: usize,
        /// Date of the first of them.
        first: Date,
        /// Date of the last of them.
        last: Date,
    },
    /// The daemon came up inside the window, and the schedule says to leave such a day out.
    Skipped {
        /// The session.
        session: SessionOf,
        /// How long after its open.
        late_by: SignedDuration,
    },
}

/// A session of a DAG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOf {
    /// The DAG.
    pub dag: DagName,
    /// The id of its scheduled run, whether that exists or not.
    pub id: RunId,
    /// The local date it is about.
    pub session_date: Date,
    /// From open to close, as scheduled.
    pub window: Window,
}

/// A scheduled run to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Id of the run.
    pub id: RunId,
    /// The DAG.
    pub dag: DagName,
    /// The local date it is about.
    pub session_date: Date,
    /// Its life. For a session that is being caught up, the scheduled length from now on.
    pub window: Window,
    /// How long after its scheduled open.
    pub late_by: SignedDuration,
    /// Whether it replaces a window that passed.
    pub catch_up: bool,
}

/// A start later than this is late even for a daemon that was up all along (a machine that slept).
pub const LATE_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// How far back the open of a window that is still open may lie.
const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(72);

/// What is due at `now`. `up_since` is when this daemon came up; `exists` says whether a run of this id
/// exists.
///
/// Decisions come DAG by DAG, oldest session first.
pub fn plan(
    now: Timestamp,
    up_since: Timestamp,
    dags: &[PlannedDag<'_>],
    exists: impl Fn(&RunId) -> bool,
) -> Vec<Decision> {
    let mut decisions = Vec::new();
    for planned in dags {
        if let Some(schedule) = &planned.dag.schedule
            && !planned.paused
        {
            Planning { now, up_since, planned, schedule, exists: &exists }.decide(&mut decisions);
        }
    }
    decisions
}

/// The next instant at which there is something to decide: the earliest open or close of any DAG after `now`.
pub fn next_wake(now: Timestamp, dags: &[PlannedDag<'_>]) -> Option<Timestamp> {
    let of = |planned: &PlannedDag<'_>| {
        let schedule = planned.dag.schedule.as_ref()?;
        let next = schedule.next_windows(now, planned.calendar, 1).into_iter().map(|s| s.window.open_at);
        let closes = open_windows(schedule, planned.calendar, now).filter_map(|s| s.window.close_at);
        if planned.paused { closes.min() } else { next.chain(closes).min() }
    };
    dags.iter().filter_map(of).min()
}

/// A session of the dates that a backfill is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// The id of its run, whether that exists or not.
    pub id: RunId,
    /// The local date it is about.
    pub session_date: Date,
    /// What is to be done about it.
    pub status: BackfillStatus,
}

/// How a session stands when a backfill comes to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackfillStatus {
    /// It has its run.
    Exists,
    /// Its window is open: that is the schedule's business, or that of a run by hand.
    Open,
    /// It has not opened yet.
    Ahead,
    /// It passed without a run, which would be this one.
    Due(Box<Start>),
}

/// The sessions of the dates `[first, last]`, in order, at most [`Catchup::CAP`] and one. The run of one that
/// is due ends when its tasks are done; where services or checks would go on for ever, after the length of
/// its window, from `now` on.
pub fn backfill(
    now: Timestamp,
    planned: PlannedDag<'_>,
    first: Date,
    last: Date,
    exists: impl Fn(&RunId) -> bool,
) -> Vec<Backfill> {
    let Some(schedule) = &planned.dag.schedule else { return Vec::new() };
    let look = Planning { now, up_since: now, planned: &planned, schedule, exists: &exists };
    let lasts =
        planned.dag.steps().iter().any(|step| matches!(step.kind, StepKind::Service | StepKind::Check));
    let status = |session: &Occurrence| match session.window.close_at {
        _ if exists(&look.id(session)) => BackfillStatus::Exists,
        _ if session.window.open_at > now => BackfillStatus::Ahead,
        Some(close_at) if close_at > now => BackfillStatus::Open,
        _ => {
            let mut start = look.catch_up(session);
            start.window.close_at = start.window.close_at.filter(|_| lasts);
            BackfillStatus::Due(Box::new(start))
        }
    };
    first
        .series(jiff::Span::new().days(1))
        .take_while(|date| *date <= last)
        .flat_map(|date| schedule.sessions_on(date, planned.calendar))
        .take(Catchup::CAP + 1)
        .map(|s| Backfill { id: look.id(&s), session_date: s.date, status: status(&s) })
        .collect()
}

/// The windows that contain `now`.
fn open_windows<'a>(
    schedule: &'a Schedule,
    calendar: Option<&'a Calendar>,
    now: Timestamp,
) -> impl Iterator<Item = Occurrence> + 'a {
    let from = if schedule.close.is_some() { now.saturating_sub(LONGEST_WINDOW).unwrap_or(now) } else { now };
    schedule.sessions_between(from, now, calendar).filter(move |s| s.window.contains(now))
}

struct Planning<'a, F> {
    now: Timestamp,
    up_since: Timestamp,
    planned: &'a PlannedDag<'a>,
    schedule: &'a Schedule,
    exists: &'a F,
}

impl<F: Fn(&RunId) -> bool> Planning<'_, F> {
    fn decide(&self, decisions: &mut Vec<Decision>) {
        // A new DAG starts with the present; a clock that went backwards is taken at its word.
        let decided = self.planned.planned_until.unwrap_or(self.now).min(self.now);
        let mut passed = VecDeque::new();
        let mut older = Older::default();
        let mut due = Vec::new();
        for session in self.schedule.sessions_between(decided, self.now, self.planned.calendar) {
            if (self.exists)(&self.id(&session)) {
                continue;
            }
            if self.has_passed(&session) {
                passed.push_back(session);
                if passed.len() > Catchup::CAP {
                    older.add(passed.pop_front());
                }
            } else {
                due.push(session);
            }
        }
        self.decide_passed(passed, older, decisions);
        // Windows decided before and still open, for whatever reason without a run.
        let joined = open_windows(self.schedule, self.planned.calendar, self.now).filter(|s| {
            s.window.open_at <= decided && !(self.exists)(&self.id(s)) && self.schedule.close.is_some()
        });
        for session in joined {
            if self.schedule.late_start == LateStart::Join {
                decisions.push(self.start(&session));
            }
        }
        for session in due {
            if self.schedule.late_start == LateStart::Skip && self.is_late(&session) {
                decisions.push(Decision::Skipped {
                    late_by: self.late_by(&session),
                    session: self.session_of(&session),
                });
            } else {
                decisions.push(self.start(&session));
            }
        }
    }

    /// Whether the session can no longer be started in its time. Without a window that is when it is late.
    fn has_passed(&self, session: &Occurrence) -> bool {
        match session.window.close_at {
            Some(close_at) => close_at <= self.now,
            None => self.is_late(session),
        }
    }

    /// Whether the daemon was down, or asleep, when the session opened.
    fn is_late(&self, session: &Occurrence) -> bool {
        session.window.open_at < self.up_since || self.late_by(session) > LATE_AFTER
    }

    fn decide_passed(&self, passed: VecDeque<Occurrence>, older: Older, decisions: &mut Vec<Decision>) {
        if let Some((count, first, last)) = older.0 {
            decisions.push(Decision::MissedMany { dag: self.planned.dag.name.clone(), count, first, last });
        }
        let replayed_from = match self.schedule.catchup {
            Catchup::None => passed.len(),
            Catchup::Last => passed.len().saturating_sub(1),
            Catchup::All => 0,
        };
        for (at, session) in passed.iter().enumerate() {
            decisions.push(if at < replayed_from {
                Decision::Missed { session: self.session_of(session) }
            } else {
                Decision::Start(self.catch_up(session))
            });
        }
    }

    fn id(&self, session: &Occurrence) -> RunId {
        RunId::new(&self.planned.dag.name, &session.key)
    }

    fn late_by(&self, session: &Occurrence) -> SignedDuration {
        self.now.duration_since(session.window.open_at).max(SignedDuration::ZERO)
    }

    fn session_of(&self, session: &Occurrence) -> SessionOf {
        SessionOf {
            dag: self.planned.dag.name.clone(),
            id: self.id(session),
            session_date: session.date,
            window: session.window,
        }
    }

    fn start(&self, session: &Occurrence) -> Decision {
        Decision::Start(Start {
            id: self.id(session),
            dag: self.planned.dag.name.clone(),
            session_date: session.date,
            window: session.window,
            late_by: self.late_by(session),
            catch_up: false,
        })
    }

    fn catch_up(&self, session: &Occurrence) -> Start {
        let length = session.window.close_at.map(|close| close.duration_since(session.window.open_at));
        let close_at = length.map(|length| self.now.checked_add(length).unwrap_or(Timestamp::MAX));
        Start {
            id: self.id(session),
            dag: self.planned.dag.name.clone(),
            session_date: session.date,
            window: Window { open_at: self.now, close_at },
            late_by: self.late_by(session),
            catch_up: true,
        }
    }
}

/// Passed sessions beyond the cap: how many, and the dates of the first and last.
#[derive(Default)]
struct Older(Option<(usize, Date, Date)>);

impl Older {
    fn add(&mut self, session: Option<Occurrence>) {
        if let Some(session) = session {
            let (count, first, _) = self.0.unwrap_or((0, session.date, session.date));
            self.0 = Some((count + 1, first, session.date));
        }
    }
}

#[cfg(test)]
mod tests;
