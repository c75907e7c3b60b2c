//! Walks a ledger and a script on the clock, and hands over what is due.
//!
//! The whole walk is planned at the start: [`plan`] is a pure function of ledger, script and the time of the
//! start, so a simulator that is started again in the middle of a day goes on exactly there.

use std::sync::Arc;

use jiff::Timestamp;

use super::script::{Fault, Script};
use super::simulator::Played;

/// What is due at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due<F> {
    pub(crate) at: Timestamp,
    pub(crate) action: Action<F>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<F> {
    /// These trades of the ledger, in one frame.
    Frame { first: usize, count: usize },
    /// The malformed frame with this index.
    Malformed(usize),
    /// This fault.
    Fault(F),
}

/// Who is walked.
pub trait Paced: Send + Sync + 'static {
    /// What can go wrong on it.
    type Fault: Fault;
    /// A trade of its ledger.
    type Trade: Send + Sync;

    /// What it plays.
    fn played(&self) -> &Played<Self::Fault, Self::Trade>;

    /// The frames of its ledger: when each is sent, and how many of the ledger's trades are in it.
    fn frames(&self) -> Vec<(Timestamp, usize)>;

    /// Does what is due.
    fn carry_out(&self, due: &Due<Self::Fault>, memory: &mut FrameFaults<Self::Fault>, now: Timestamp);

    /// Waits until every session has room for more, or is ended.
    fn wait_for_room(&self) -> impl Future<Output = ()> + Send;
}

/// Faults of the data frames that wait for their frame.
#[derive(Debug)]
pub struct FrameFaults<F> {
    pub(crate) waiting: std::collections::VecDeque<F>,
    /// A frame that comes after its symbol's next one.
    pub(crate) held_back: Option<(Arc<str>, usize, usize)>,
}

/// Actions between two looks at how full the queues are.
const CHUNK: usize = 256;

/// What is still to do for a simulator that starts at `start`, in order. What the exchange traded before was
/// not delivered by it, and faults of the past are not repeated; a stall that is under way goes on.
pub(crate) fn plan<F: Fault>(
    frames: &[(Timestamp, usize)],
    script: &Script<F>,
    start: Timestamp,
) -> Vec<Due<F>> {
    let mut dues = Vec::new();
    let mut first = 0;
    for (sent, count) in frames {
        if *sent >= start {
            dues.push((script.release(*sent), *sent, Action::Frame { first, count: *count }));
        }
        first += count;
    }
    let mangled = script.mangled();
    for (index, (at, _)) in mangled.iter().enumerate().filter(|(_, (at, _))| *at >= start) {
        dues.push((script.release(*at), *at, Action::Malformed(index)));
    }
    let is_malformed = |fault: &F| fault.mangled(0, jiff::civil::Date::default()).is_some();
    for incident in script.incidents() {
        let (at, fault) = (incident.at, &incident.fault);
        if is_malformed(fault) || fault.waits_for_a_client() {
            continue;
        }
        if at >= start {
            dues.push((at, at, Action::Fault(fault.clone())));
        } else if fault.stalls().is_some_and(|lasts| at + lasts > start) {
            dues.push((start, start, Action::Fault(fault.clone())));
        }
    }
    // What a stall let go of at one instant leaves in the order in which it was sent.
    dues.sort_by_key(|(at, sent, _)| (*at, *sent));
    dues.into_iter().map(|(at, _, action)| Due { at, action }).collect()
}

/// Sends the day until it is over.
pub(crate) async fn run<E: Paced>(exchange: Arc<E>) {
    let Played { clock, script, started, .. } = exchange.played();
    let plan = plan(&exchange.frames(), script, *started);
    let mut memory = FrameFaults { waiting: std::collections::VecDeque::new(), held_back: None };
    let mut left = &plan[..];
    while let Some(next) = left.first() {
        clock.sleep_until(next.at).await;
        let now = clock.now();
        let due = left.partition_point(|due| due.at <= now).min(CHUNK);
        let (batch, rest) = left.split_at(due);
        left = rest;
        for due in batch {
            exchange.carry_out(due, &mut memory, now);
        }
        exchange.wait_for_room().await;
    }
    tracing::debug!("the simulated day has been sent");
}
