//! Who is connected and what they subscribed to: the state that the doors and the pacer share.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Bytes;

use super::ledger::{Channel, Format, LedgerTrade, Stream};
use super::protocol::{self, Refusal, Request, UP, Wanted};
use super::rest::{self, Budget, Past, Refused};
use super::script::Fault;
use super::server::SimulatorOptions;
use super::{Event, session};
use crate::connection::Outgoing;
use crate::event_log::{EventLog, Why};
use crate::port::{Call, Handler, Reply};
use crate::script::{Fault as _, Incident};
use crate::simulator::Played;

/// Messages that a session may send in a second and in a minute.
const A_SECOND: usize = 5;
const A_MINUTE: usize = 100;

/// The exchange.
pub struct Exchange {
    pub(super) played: Played<Fault, LedgerTrade>,
    pub(super) options: SimulatorOptions,
    past: Past,
    sessions: AtomicU64,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) live: BTreeMap<u64, Live>,
    budget: Budget,
    /// Faults that wait for a subscription.
    armed: Vec<Incident<Fault>>,
    pub(super) journal: EventLog<Fault>,
    /// Each market's last trade so far, as an index into the ledger.
    pub(super) latest: HashMap<Arc<str>, usize>,
    /// Trades that were handed to a session.
    sent: HashSet<usize>,
}

/// A session. Dropping it closes its queue, and the session ends when that is empty.
pub(super) struct Live {
    pub(super) queue: mpsc::Sender<Outgoing>,
    subscribed: BTreeMap<Channel, BTreeSet<String>>,
    pub(super) format: Format,
    pub(super) half_open: bool,
    /// When its messages of the last minute came.
    heard: Vec<Timestamp>,
}

impl Live {
    pub(super) fn is_subscribed(&self) -> bool {
        !self.subscribed.is_empty()
    }

    pub(super) fn wants(&self, channel: Channel, code: &str) -> bool {
        !self.half_open && self.subscribed.get(&channel).is_some_and(|codes| codes.contains(code))
    }
}

impl Exchange {
    pub(super) fn new(options: SimulatorOptions, ledger: Arc<[LedgerTrade]>) -> Self {
        let now = options.clock.now();
        let before = ledger.iter().enumerate().take_while(|(_, trade)| trade.at < now);
        let state = State {
            live: BTreeMap::new(),
            budget: Budget::default(),
            armed: options
                .script
                .incidents()
                .iter()
                .filter(|i| i.fault.waits_for_a_client())
                .cloned()
                .collect(),
            journal: EventLog::new(),
            latest: before.map(|(index, trade)| (trade.code.clone(), index)).collect(),
            sent: HashSet::new(),
        };
        let played = Played {
            clock: options.clock.clone(),
            script: options.script.clone(),
            seed: options.seed,
            date: options.day.date,
            ledger,
            started: now,
        };
        Self {
            past: Past::new(played.ledger.clone(), options.codes.clone()),
            played,
            options,
            sessions: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change.
        self.state.lock()
    }

    /// Lets a new connection in.
    pub(super) fn enter(&self, queue: mpsc::Sender<Outgoing>) -> u64 {
        let session = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let live = Live {
            queue,
            subscribed: BTreeMap::new(),
            format: Format::default(),
            half_open: false,
            heard: Vec::new(),
        };
        let mut state = self.state();
        state.live.insert(session, live);
        state.journal.note(self.played.clock.now(), Event::SessionUp { session });
        session
    }

    pub(super) fn was_sent(&self, index: usize) -> bool {
        self.state().sent.contains(&index)
    }

    /// A message as it is sent.
    pub(super) fn outgoing(&self, text: String) -> Outgoing {
        if self.options.text { Outgoing::Text(text.into()) } else { Outgoing::Binary(Bytes::from(text)) }
    }

    /// Answers a client's message, through its queue; says whether the session goes on.
    pub(super) fn handle(&self, session: u64, text: &str) -> bool {
        let now = self.played.clock.now();
        let mut state = self.state();
        let state = &mut *state;
        let Some(live) = state.live.get_mut(&session) else { return false };
        if !live.in_time(now) {
            state.journal.note(now, Event::Refused { session, code: "TOO_MANY_MESSAGES".to_owned() });
            return false;
        }
        let answers = match protocol::parse(text) {
            Ok(Request::Ping) => vec![UP.to_owned()],
            Ok(Request::List { ticket, format }) => {
                // As documented: it changes what is sent from here on.
                live.format = format.unwrap_or_default();
                let lines: Vec<_> = live
                    .subscribed
                    .iter()
                    .map(|(channel, codes)| (*channel, codes.iter().cloned().collect()))
                    .collect();
                vec![protocol::list(&lines, &ticket, live.format)]
            }
            Ok(Request::Subscribe { wanted, format }) => {
                match self.subscribe(state, session, &wanted, format, now) {
                    Ok(snapshots) => snapshots,
                    Err(refusal) => refused(state, session, &refusal, now),
                }
            }
            Err(refusal) => refused(state, session, &refusal, now),
        };
        let Some(live) = state.live.get(&session) else { return false };
        answers.into_iter().all(|answer| live.queue.try_send(self.outgoing(answer)).is_ok())
    }

    /// Replaces what was subscribed; gives the last trade of each market.
    fn subscribe(
        &self,
        state: &mut State,
        session: u64,
        wanted: &[Wanted],
        format: Format,
        now: Timestamp,
    ) -> Result<Vec<String>, Refusal> {
        if let Some(Fault::RefuseNext { name }) =
            state.strike(now, |fault| matches!(fault, Fault::RefuseNext { .. }))
        {
            return Err(Refusal::new(&name));
        }
        let unknown = |code: &String| !self.past.has(code);
        if self.options.strict && wanted.iter().flat_map(|w| &w.codes).any(unknown) {
            return Err(Refusal::new("INVALID_PARAM"));
        }
        let mut subscribed: BTreeMap<Channel, BTreeSet<String>> = BTreeMap::new();
        let mut snapshots = Vec::new();
        for want in wanted {
            // A market that does not exist brings no data, and no error either.
            for code in want.codes.iter().filter(|code| self.past.has(code)) {
                if state
                    .strike(now, |fault| matches!(fault, Fault::Silent { code: silent } if silent == code))
                    .is_some()
                {
                    continue;
                }
                if want.realtime {
                    subscribed.entry(want.channel).or_default().insert(code.clone());
                }
                if let Some(index) = state.latest.get(code.as_str()).copied().filter(|_| want.snapshot) {
                    snapshots.push(self.played.ledger[index].message(want.channel, format, Stream::Snapshot));
                    if want.channel == Channel::Trade {
                        state.sent.insert(index);
                    }
                }
            }
        }
        for (channel, code) in
            subscribed.iter().flat_map(|(channel, codes)| codes.iter().map(move |code| (channel, code)))
        {
            let (channel, symbol) = (channel.as_str().to_owned(), code.clone());
            state.journal.note(now, Event::Registered { session, channel, symbol });
        }
        if let Some(live) = state.live.get_mut(&session) {
            (live.subscribed, live.format) = (subscribed, format);
        }
        Ok(snapshots)
    }

    /// A connection ended.
    pub(super) fn end(&self, session: u64, why: Why) {
        let now = self.played.clock.now();
        self.state().end(session, why, now);
    }

    /// Why calls over HTTP are refused now, if the script says so.
    fn refusal(&self, now: Timestamp) -> Option<Refused> {
        self.played.script.incidents().iter().find_map(|incident| {
            let left = |lasts: std::time::Duration| (incident.at + lasts).duration_since(now);
            match &incident.fault {
                Fault::TooMany { lasts } if now >= incident.at && left(*lasts) > SignedDuration::ZERO => {
                    Some(Refused::TooMany)
                }
                Fault::Blocked { lasts } if now >= incident.at && left(*lasts) > SignedDuration::ZERO => {
                    Some(Refused::Blocked { seconds: left(*lasts).as_secs() + 1 })
                }
                _ => None,
            }
        })
    }
}

fn refused(state: &mut State, session: u64, refusal: &Refusal, now: Timestamp) -> Vec<String> {
    state.journal.note(now, Event::Refused { session, code: refusal.name.clone() });
    vec![refusal.text()]
}

impl Live {
    /// Counts a message; false when there are too many.
    fn in_time(&mut self, now: Timestamp) -> bool {
        let since = |at: &Timestamp| now.duration_since(*at);
        self.heard.retain(|at| since(at) < SignedDuration::from_mins(1));
        self.heard.push(now);
        self.heard.len() <= A_MINUTE
            && self.heard.iter().filter(|at| since(at) < SignedDuration::from_secs(1)).count() <= A_SECOND
    }
}

impl Handler for Exchange {
    fn call(&self, call: &Call) -> Reply {
        let now = self.played.clock.now();
        let group = rest::group(&call.path);
        let mut state = self.state();
        let spent = match self.refusal(now) {
            Some(refused) => Err(refused),
            None => state.budget.spend(group, now, self.played.clock.speed()),
        };
        let left = match spent {
            Ok(left) => left,
            Err(refused) => {
                let reply = rest::refusal(refused);
                state.journal.note(now, Event::CallRefused { status: reply.status });
                return reply;
            }
        };
        drop(state);
        let (status, body) = self.past.answer(call, now);
        Reply {
            status,
            headers: vec![("remaining-req", format!("group={group}; min=600; sec={}", left.min(9)))],
            body,
        }
    }

    fn refuse_handshake(&self) -> Option<u16> {
        let now = self.played.clock.now();
        let status = self.played.script.handshake_refusal(now)?;
        self.state().journal.note(now, Event::HandshakeRefused { status });
        Some(status)
    }

    async fn serve(self: Arc<Self>, stream: TokioIo<Upgraded>) {
        session::serve(self, stream).await;
    }
}

impl State {
    /// Takes the first waiting fault of this kind whose time has come.
    fn strike(&mut self, now: Timestamp, kind: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let place = self.armed.iter().position(|incident| incident.at <= now && kind(&incident.fault))?;
        let fault = self.armed.remove(place).fault;
        self.journal.note(now, Event::Incident { fault: fault.clone() });
        Some(fault)
    }

    /// A trade was handed to a session.
    pub(super) fn mark_sent(&mut self, index: usize) {
        self.sent.insert(index);
    }

    /// Ends a session that is up.
    pub(super) fn end(&mut self, session: u64, why: Why, now: Timestamp) {
        if self.live.remove(&session).is_some() {
            self.journal.note(now, Event::SessionDown { session, why });
        }
    }
}
