//! Who is connected and what they registered: the state that the doors and the pacer share.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, watch};

use super::credentials::Credentials;
use super::ledger::LedgerTrade;
use super::protocol::{self, Refusal, Request};
use super::script::{Fault, Incident};
use super::server::SimulatorOptions;
use super::{Event, session};
use crate::connection::Outgoing;
use crate::event_log::{EventLog, Why};
use crate::port::{self, Call, Handler};
use crate::script::Fault as _;
use crate::simulator::Played;
use domain::retry::mix;
use feed::kis;

/// What a client's message leads to.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) text: Option<String>,
    pub(super) late: Option<Duration>,
    pub(super) drop: bool,
    /// Sent right after the acknowledgement.
    pub(super) then: Option<String>,
}

/// The exchange.
pub struct Exchange {
    pub(super) played: Played<Fault, LedgerTrade>,
    pub(super) options: SimulatorOptions,
    sent: Box<[AtomicBool]>,
    sessions: AtomicU64,
    state: Mutex<State>,
    /// Counts registrations, for those who wait for one.
    pub(super) registered: watch::Sender<u64>,
}

pub(super) struct State {
    credentials: Credentials,
    pub(super) live: BTreeMap<u64, Live>,
    /// App keys whose slot stays taken until then.
    held: HashMap<String, Timestamp>,
    /// Faults that wait for a subscribe message.
    armed: Vec<Incident>,
    pub(super) journal: EventLog<Fault>,
    /// Each symbol's last trade so far, as an index into the ledger.
    pub(super) latest: HashMap<Arc<str>, usize>,
}

/// A session that holds its app key's slot. Dropping it closes its queue, and the session ends when that is
/// empty.
pub(super) struct Live {
    app_key: String,
    pub(super) queue: mpsc::Sender<Outgoing>,
    /// (message type, key) and whether it brings data.
    pub(super) registrations: HashMap<(String, String), bool>,
    pub(super) half_open: bool,
}

impl Live {
    pub(super) fn wants(&self, tr_id: &str, symbol: &str) -> bool {
        !self.half_open
            && self.registrations.get(&(tr_id.to_owned(), symbol.to_owned())).copied().unwrap_or(false)
    }
}

impl Exchange {
    pub(super) fn new(options: SimulatorOptions, ledger: Arc<[LedgerTrade]>) -> Self {
        let now = options.clock.now();
        let on_subscribe = |i: &&Incident| i.fault.waits_for_a_client();
        let before = ledger.iter().enumerate().take_while(|(_, trade)| trade.at < now);
        let state = State {
            credentials: Credentials::new(options.seed, &options.accounts),
            live: BTreeMap::new(),
            held: HashMap::new(),
            armed: options.script.incidents().iter().filter(on_subscribe).cloned().collect(),
            journal: EventLog::new(),
            latest: before.map(|(index, trade)| (trade.symbol.clone(), index)).collect(),
        };
        let played = Played {
            clock: options.clock.clone(),
            script: options.script.clone(),
            seed: options.seed,
            date: options.session.date,
            ledger,
            started: now,
        };
        Self {
            sent: played.ledger.iter().map(|_| AtomicBool::new(false)).collect(),
            played,
            options,
            sessions: AtomicU64::new(0),
            state: Mutex::new(state),
            registered: watch::Sender::new(0),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change.
        self.state.lock()
    }

    /// Number of a new connection.
    pub(super) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn mark_sent(&self, index: usize) {
        self.sent[index].store(true, Ordering::Relaxed);
    }

    pub(super) fn was_sent(&self, index: usize) -> bool {
        self.sent.get(index).is_some_and(|sent| sent.load(Ordering::Relaxed))
    }

    /// Answers a client's message. `queue` is taken when the session gets its app key's slot.
    pub(super) fn handle(
        &self,
        session: u64,
        queue: &mut Option<mpsc::Sender<Outgoing>>,
        text: &str,
    ) -> Reply {
        let now = self.played.clock.now();
        let mut state = self.state();
        let result =
            protocol::parse(text).and_then(|request| self.act(&mut state, session, queue, &request, now));
        result.unwrap_or_else(|refusal| {
            state.note(now, Event::Refused { session, code: refusal.code.clone() });
            Reply { text: Some(refusal.text()), drop: refusal.fatal(), ..Reply::default() }
        })
    }

    fn act(
        &self,
        state: &mut State,
        session: u64,
        queue: &mut Option<mpsc::Sender<Outgoing>>,
        request: &Request,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        state.claim(session, queue, request, now)?;
        protocol::check(request)?;
        let registration = (request.tr_id.clone(), request.tr_key.clone());
        if !request.subscribe {
            // A session without a slot has been refused above.
            let known =
                state.live.get_mut(&session).and_then(|live| live.registrations.remove(&registration));
            if known.is_none() {
                return Err(Refusal::of_code("OPSP0003").about(request));
            }
            state.note(now, Event::Unregistered { session, channel: registration.0, symbol: registration.1 });
            return Ok(Reply { text: Some(self.acknowledge(session, request)), ..Reply::default() });
        }

        if let Some(Fault::RefuseNext { code }) =
            state.strike(now, |fault| matches!(fault, Fault::RefuseNext { .. }))
        {
            let refusal = Refusal::of_code(&code);
            return Err(if refusal.fatal() { refusal } else { refusal.about(request) });
        }
        let taken = state.live.get(&session).map_or(0, |live| live.registrations.len());
        if state.live.get(&session).is_some_and(|live| live.registrations.contains_key(&registration)) {
            return Err(Refusal::of_code("OPSP0002").about(request));
        }
        if taken >= self.options.limit {
            return Err(Refusal::of_code("OPSP0008").about(request));
        }
        let dumb =
            |fault: &Fault| matches!(fault, Fault::AckWithoutTicks { symbol } if *symbol == request.tr_key);
        let brings_data = state.strike(now, dumb).is_none();
        if let Some(live) = state.live.get_mut(&session) {
            live.registrations.insert(registration.clone(), brings_data);
        }
        state.note(now, Event::Registered { session, channel: registration.0, symbol: registration.1 });
        self.registered.send_modify(|count| *count += 1);

        let text = (state.strike(now, |fault| *fault == Fault::NoAck).is_none())
            .then(|| self.acknowledge(session, request));
        let late = match state.strike(now, |fault| matches!(fault, Fault::DelayedAck { .. })) {
            Some(Fault::DelayedAck { by }) => Some(by),
            _ => None,
        };
        let book = (request.tr_id == "H0STASP0" && brings_data)
            .then(|| state.latest.get(request.tr_key.as_str()))
            .flatten();
        let then = book.map(|index| kis::encode("H0STASP0", &[self.played.ledger[*index].book_fields()]));
        Ok(Reply { text, late, drop: false, then })
    }

    fn acknowledge(&self, session: u64, request: &Request) -> String {
        protocol::acknowledgement(request, &protocol::session_secret(mix(self.options.seed ^ mix(session))))
    }

    /// A connection ended. Its slot stays taken for a while unless the client said good-bye.
    pub(super) fn end(&self, session: u64, why: Why) {
        let now = self.played.clock.now();
        let held_until = match why {
            Why::ClientClosed | Why::HalfOpen | Why::Stopped => now,
            _ => now.checked_add(self.options.slot_hold).unwrap_or(Timestamp::MAX),
        };
        self.state().end(session, why, held_until, now);
    }
}

impl Handler for Exchange {
    fn call(&self, call: &Call) -> port::Reply {
        let now = self.played.clock.now();
        let (status, body) = self.state().credentials.answer(&call.method, &call.path, &call.body, now);
        port::Reply { status, headers: Vec::new(), body: body.to_string() }
    }

    fn refuse_handshake(&self) -> Option<u16> {
        let now = self.played.clock.now();
        let status = self.played.script.handshake_refusal(now)?;
        self.state().note(now, Event::HandshakeRefused { status });
        Some(status)
    }

    async fn serve(self: Arc<Self>, stream: TokioIo<Upgraded>) {
        session::serve(self, stream).await;
    }
}

impl State {
    /// Writes to the journal.
    pub(super) fn note(&mut self, at: Timestamp, what: Event) {
        self.journal.note(at, what);
    }

    /// Takes the app key's slot for a session that does not hold it yet.
    fn claim(
        &mut self,
        session: u64,
        queue: &mut Option<mpsc::Sender<Outgoing>>,
        request: &Request,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(app_key) = self.credentials.app_key(&request.approval_key, now) else {
            return Err(Refusal::new("OPSP0011", format!("invalid approval : {}", request.approval_key))
                .about(request));
        };
        if self.live.contains_key(&session) {
            return Ok(());
        }
        let taken = self.live.values().any(|live| live.app_key == app_key)
            || self.held.get(&app_key).is_some_and(|until| *until > now);
        // A session whose queue is gone was ended by the pacer and only has not noticed yet.
        let (false, Some(queue)) = (taken, queue.take()) else { return Err(Refusal::of_code("OPSP8996")) };
        self.held.remove(&app_key);
        self.live.insert(session, Live { app_key, queue, registrations: HashMap::new(), half_open: false });
        self.note(now, Event::SessionUp { session });
        Ok(())
    }

    /// Takes the first waiting fault of this kind whose time has come.
    fn strike(&mut self, now: Timestamp, kind: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let place = self.armed.iter().position(|incident| incident.at <= now && kind(&incident.fault))?;
        let fault = self.armed.remove(place).fault;
        self.note(now, Event::Incident { fault: fault.clone() });
        Some(fault)
    }

    /// Ends a session that is up; its slot stays taken until `held_until`.
    pub(super) fn end(&mut self, session: u64, why: Why, held_until: Timestamp, now: Timestamp) {
        let Some(live) = self.live.remove(&session) else { return };
        if held_until > now {
            self.held.insert(live.app_key, held_until);
        }
        self.note(now, Event::SessionDown { session, why });
    }
}
