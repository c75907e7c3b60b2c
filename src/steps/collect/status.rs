//! The collector's status: what its parts know, put together and reported a few times a second at most.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::{Mutex, MutexGuard};
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::recorder::{Counts, Latest};
use crate::Reporter;
use clock::Clock;
use domain::trade::{quantity, rfc3339};
use executor::{Notice, Status, Wait};

/// Reports follow each other no faster than this, in real time.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// What the parts know.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) counts: Counts,
    pub(super) gaps: usize,
    /// What is missing in them, shares or units.
    pub(super) gap_shares: Decimal,
    pub(super) session: u64,
    pub(super) active: usize,
    pub(super) reconnects: u64,
    pub(super) last_frame_at: Option<Timestamp>,
    pub(super) last_trades: Latest,
    pub(super) spool_seq: u64,
    pub(super) log_seq: u64,
    pub(super) raw_seq: u64,
    /// Every registration was settled once.
    pub(super) ready: bool,
    /// The feed's session waits for something outside of it.
    pub(super) waits: Option<Wait>,
    /// Another run's collector still has the spool.
    pub(super) hand_over: Option<Wait>,
    /// What people should hear of.
    pub(super) notice: Option<Notice>,
    /// Part → what is wrong with it.
    pub(super) troubles: BTreeMap<&'static str, String>,
}

/// Where the parts put what they know.
pub(super) struct CollectorStatus {
    facts: Mutex<Facts>,
    changed: Notify,
    zone: TimeZone,
    reporter: Arc<dyn Reporter>,
}

impl CollectorStatus {
    pub(super) fn new(zone: TimeZone, reporter: Arc<dyn Reporter>) -> Self {
        Self { facts: Mutex::new(Facts::default()), changed: Notify::new(), zone, reporter }
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    /// Sets or clears a part's trouble; what is new goes to the output as well, once.
    pub(super) fn trouble(&self, part: &'static str, trouble: Option<String>) {
        let line = {
            let mut facts = self.lock();
            match trouble {
                Some(new) if facts.troubles.get(part) == Some(&new) => return,
                Some(new) => {
                    let line = format!("{part}: {new}");
                    facts.troubles.insert(part, new);
                    line
                }
                None if facts.troubles.remove(part).is_some() => format!("{part}: works again"),
                None => return,
            }
        };
        self.reporter.line(&line);
        self.changed.notify_one();
    }

    pub(super) fn line(&self, line: &str) {
        self.reporter.line(line);
    }

    pub(super) fn facts(&self) -> Facts {
        self.lock().clone()
    }

    /// The facts as a JSON object: of the status, and of the step's result. Flat, but for the newest trade of
    /// each instrument.
    pub(super) fn object(&self) -> Map<String, Value> {
        let f = self.facts();
        let at = f.last_frame_at.map(|at| rfc3339(at, &self.zone));
        let last_trades: BTreeMap<_, _> =
            f.last_trades.iter().map(|(symbol, at)| (symbol, at.map(|at| rfc3339(at, &self.zone)))).collect();
        let Value::Object(map) = json!({
            "frames": f.counts.frames, "records": f.counts.records, "malformed": f.counts.malformed,
            "duplicates": f.counts.duplicates, "gaps": f.gaps, "gap_shares": quantity::value(&f.gap_shares), "session": f.session,
            "active": f.active, "reconnects": f.reconnects, "last_frame_at": at, "spool_seq": f.spool_seq,
            "log_seq": f.log_seq, "raw_seq": f.raw_seq, "last_trades": last_trades,
        }) else {
            return Map::new();
        };
        map
    }

    /// Reports the status now.
    pub(super) fn report(&self) {
        let (ready, degraded, waits, notice) = {
            let facts = self.lock();
            let troubles: Vec<_> =
                facts.troubles.iter().map(|(part, trouble)| format!("{part}: {trouble}")).collect();
            // What is held in memory only is nothing that anybody should build on.
            let ready = facts.ready && facts.hand_over.is_none();
            // Once it was ready, nobody counts the time until it is.
            let waits = facts.hand_over.as_ref().or(facts.waits.as_ref()).cloned().filter(|_| !ready);
            (ready, (!troubles.is_empty()).then(|| troubles.join("; ")), waits, facts.notice.clone())
        };
        self.reporter.status(Status { ready, degraded, facts: self.object(), waits, notice });
    }

    /// Reports on change, and once in a while without one, until it is dropped.
    pub(super) async fn keep_reported(self: Arc<Self>, clock: Clock) {
        loop {
            self.report();
            tokio::time::sleep(REPORT_EVERY).await;
            tokio::select! {
                () = self.changed.notified() => {}
                () = clock.sleep(Duration::from_secs(1)) => {}
            }
        }
    }
}
