//! What is sent when: the ledger's trades, wrong messages and faults, into the queues of the sessions that
//! want them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio_tungstenite::tungstenite::Bytes;

use super::Event;
use super::exchange::{Exchange, State};
use super::ledger::{Channel, Format, LedgerTrade, Stream};
use super::protocol::Refusal;
use super::script::Fault;
use crate::connection::{Outgoing, without_room};
use crate::event_log::Why;
use crate::pacing::{Action, Due, FrameFaults, Paced};
use crate::simulator::Played;

impl Paced for Exchange {
    type Fault = Fault;
    type Trade = LedgerTrade;

    fn played(&self) -> &Played<Fault, LedgerTrade> {
        &self.played
    }

    /// Each trade travels alone.
    fn frames(&self) -> Vec<(Timestamp, usize)> {
        self.played.ledger.iter().map(|trade| (trade.at, 1)).collect()
    }

    fn carry_out(&self, due: &Due<Fault>, faults: &mut FrameFaults<Fault>, now: Timestamp) {
        let mut state = self.state();
        match &due.action {
            Action::Frame { first, .. } => self.send_trade(&mut state, faults, *first, now),
            Action::Malformed(index) => self.send_malformed(&mut state, *index, now),
            Action::Fault(fault) => self.carry_out_fault(&mut state, faults, fault, (due.at, now)),
        }
    }

    async fn wait_for_room(&self) {
        let queues = self.state().live.iter().map(|(session, live)| (*session, live.queue.clone())).collect();
        for session in without_room(queues, self.options.patience).await {
            self.end(session, Why::Slow);
        }
    }
}

impl Exchange {
    fn send_trade(&self, state: &mut State, faults: &mut FrameFaults<Fault>, index: usize, now: Timestamp) {
        let code = self.played.ledger[index].code.clone();
        state.latest.insert(code.clone(), index);
        if !state.live.values().any(|live| live.wants(Channel::Trade, &code)) {
            return self.send(state, index, now);
        }
        let held_back = faults.held_back.take_if(|(held, ..)| *held == code);
        let fault =
            if held_back.is_some() || faults.held_back.is_some() { None } else { faults.waiting.pop_front() };
        match &fault {
            Some(Fault::Duplicate) => {
                self.send(state, index, now);
                self.send(state, index, now);
            }
            Some(Fault::OutOfOrder) => faults.held_back = Some((code, index, 1)),
            Some(Fault::Drop) => {}
            _ => self.send(state, index, now),
        }
        if let Some((_, index, _)) = held_back {
            self.send(state, index, now);
        }
        if let Some(fault) = fault {
            state.journal.note(now, Event::Incident { fault });
        }
    }

    /// Sends a trade to those who want it, on each of their channels and in each of their formats.
    fn send(&self, state: &mut State, index: usize, now: Timestamp) {
        let trade = &self.played.ledger[index];
        for channel in Channel::ALL {
            let formats: BTreeSet<Format> = state
                .live
                .values()
                .filter(|live| live.wants(channel, &trade.code))
                .map(|live| live.format)
                .collect();
            let messages: BTreeMap<Format, Outgoing> = formats
                .into_iter()
                .map(|format| (format, self.outgoing(trade.message(channel, format, Stream::Realtime))))
                .collect();
            let mut taken = false;
            let mut full = Vec::new();
            for (session, live) in state.live.iter().filter(|(_, live)| live.wants(channel, &trade.code)) {
                let Some(message) = messages.get(&live.format) else { continue };
                match live.queue.try_send(message.clone()) {
                    Ok(()) => taken = true,
                    Err(_) => full.push(*session),
                }
            }
            full.into_iter().for_each(|session| state.end(session, Why::Slow, now));
            if taken && channel == Channel::Trade {
                state.mark_sent(index);
            }
        }
    }

    fn send_malformed(&self, state: &mut State, index: usize, now: Timestamp) {
        let Some((_, mangled)) = self.played.script.mangled().into_iter().nth(index) else { return };
        let bytes = Bytes::from(mangled.bytes);
        let outgoing = if mangled.text { Outgoing::RawText(bytes) } else { Outgoing::Binary(bytes) };
        let taken = offer(state, &outgoing, now);
        state.journal.note(
            now,
            if taken { Event::MalformedSent { index } } else { Event::MalformedSkipped { index } },
        );
    }

    /// Carries out a fault that was due at `at`: its length counts from there, whenever the clock was looked
    /// at.
    fn carry_out_fault(
        &self,
        state: &mut State,
        faults: &mut FrameFaults<Fault>,
        fault: &Fault,
        (at, now): (Timestamp, Timestamp),
    ) {
        match fault {
            Fault::Disconnect { .. } => {
                let sessions: Vec<u64> = state.live.keys().copied().collect();
                sessions.into_iter().for_each(|session| state.end(session, Why::Disconnect, now));
            }
            Fault::HalfOpen { lasts } => {
                for live in state.live.values_mut() {
                    live.half_open = true;
                    // A full queue needs no order to fall silent, and its session ends as too slow.
                    if live.queue.try_send(Outgoing::HalfOpen(at + *lasts)).is_err() {
                        tracing::debug!("a session is too slow to be told that it is half open");
                    }
                }
            }
            Fault::Error { name } => {
                offer(state, &self.outgoing(Refusal::new(name).text()), now);
            }
            Fault::Duplicate | Fault::OutOfOrder | Fault::Drop => {
                // Noted when it finds its trade.
                faults.waiting.push_back(fault.clone());
                return;
            }
            _ => {}
        }
        state.journal.note(now, Event::Incident { fault: fault.clone() });
    }
}

/// Gives a message to every session that is not silent; says whether one took it.
fn offer(state: &mut State, message: &Outgoing, now: Timestamp) -> bool {
    let live = state.live.iter().filter(|(_, live)| !live.half_open && live.is_subscribed());
    let taken: Vec<(u64, bool)> =
        live.map(|(session, live)| (*session, live.queue.try_send(message.clone()).is_ok())).collect();
    for (session, _) in taken.iter().filter(|(_, taken)| !taken) {
        state.end(*session, Why::Slow, now);
    }
    taken.iter().any(|(_, taken)| *taken)
}
