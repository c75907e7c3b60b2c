//! What is sent when: the ledger's frames, wrong frames and faults, into the queues of the sessions that want
//! them.

use jiff::Timestamp;
use tokio_tungstenite::tungstenite::Bytes;

use super::Event;
use super::exchange::{Exchange, Live, State};
use super::ledger::LedgerTrade;
use super::script::Fault;
use crate::connection::{Outgoing, without_room};
use crate::event_log::Why;
use crate::pacing::{Action, Due, FrameFaults, Paced};
use crate::simulator::Played;
use feed::kis;

impl Paced for Exchange {
    type Fault = Fault;
    type Trade = LedgerTrade;

    fn played(&self) -> &Played<Fault, LedgerTrade> {
        &self.played
    }

    fn frames(&self) -> Vec<(Timestamp, usize)> {
        let frames = self.played.ledger.chunk_by(|a, b| a.frame == b.frame);
        frames.map(|frame| (frame[0].at, frame.len())).collect()
    }

    fn carry_out(&self, due: &Due<Fault>, faults: &mut FrameFaults<Fault>, now: Timestamp) {
        let mut state = self.state();
        match &due.action {
            Action::Frame { first, count } => self.send_frame(&mut state, faults, *first, *count, now),
            Action::Malformed(index) => self.send_malformed(&mut state, *index, now),
            Action::Fault(fault) => carry_out_fault(&mut state, faults, fault, (due.at, now)),
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
    fn send_frame(
        &self,
        state: &mut State,
        faults: &mut FrameFaults<Fault>,
        first: usize,
        count: usize,
        now: Timestamp,
    ) {
        let symbol = self.played.ledger[first].symbol.clone();
        state.latest.insert(symbol.clone(), first + count - 1);
        if !state.live.values().any(|live| live.wants("H0STCNT0", &symbol)) {
            return self.send_trades(state, first, count, now);
        }
        let held_back = faults.held_back.take_if(|(held, ..)| *held == symbol);
        let fault =
            if held_back.is_some() || faults.held_back.is_some() { None } else { faults.waiting.pop_front() };
        match &fault {
            Some(Fault::DuplicateFrame) => {
                self.send_trades(state, first, count, now);
                self.send_trades(state, first, count, now);
            }
            Some(Fault::OutOfOrder) => faults.held_back = Some((symbol, first, count)),
            Some(Fault::DropRecord) => self.send_trades(state, first, count - 1, now),
            _ => self.send_trades(state, first, count, now),
        }
        if let Some((_, first, count)) = held_back {
            self.send_trades(state, first, count, now);
        }
        if let Some(fault) = fault {
            state.note(now, Event::Incident { fault });
        }
    }

    /// Sends trades of one symbol to those who want them; the unified feed has the same, for there is no
    /// other venue.
    fn send_trades(&self, state: &mut State, first: usize, count: usize, now: Timestamp) {
        let Some(last) = count.checked_sub(1) else { return };
        let trades = &self.played.ledger[first..first + count];
        for tr_id in ["H0STCNT0", "H0UNCNT0", "H0STASP0"] {
            let wanting = state.live.values().any(|live| live.wants(tr_id, &trades[0].symbol));
            if !wanting {
                continue;
            }
            let frame = if tr_id == "H0STASP0" {
                kis::encode(tr_id, &[trades[last].book_fields()])
            } else {
                kis::encode(
                    tr_id,
                    &trades.iter().map(|trade| trade.fields(self.options.width)).collect::<Vec<_>>(),
                )
            };
            let taken = self
                .offer(state, now, Outgoing::Text(frame.into()), |live| live.wants(tr_id, &trades[0].symbol));
            if taken && tr_id == "H0STCNT0" {
                (first..first + count).for_each(|index| self.mark_sent(index));
            }
        }
    }

    fn send_malformed(&self, state: &mut State, index: usize, now: Timestamp) {
        let Some((_, frame)) = self.played.script.mangled().into_iter().nth(index) else { return };
        let bytes = Bytes::from(frame.bytes);
        let outgoing = if frame.text { Outgoing::RawText(bytes) } else { Outgoing::Binary(bytes) };
        let taken =
            self.offer(state, now, outgoing, |live| !live.half_open && !live.registrations.is_empty());
        state.note(
            now,
            if taken { Event::MalformedSent { index } } else { Event::MalformedSkipped { index } },
        );
    }

    /// Puts a message into the queues of some sessions; ends those that have no room. Says whether one took
    /// it.
    fn offer(
        &self,
        state: &mut State,
        now: Timestamp,
        message: Outgoing,
        to: impl Fn(&Live) -> bool,
    ) -> bool {
        let mut taken = false;
        let mut full = Vec::new();
        for (session, live) in state.live.iter().filter(|(_, live)| to(live)) {
            match live.queue.try_send(message.clone()) {
                Ok(()) => taken = true,
                Err(_) => full.push(*session),
            }
        }
        for session in full {
            state.end(session, Why::Slow, now + self.options.slot_hold, now);
        }
        taken
    }
}

/// Carries out a fault that was due at `at`: its length counts from there, whenever the clock was looked at.
fn carry_out_fault(
    state: &mut State,
    faults: &mut FrameFaults<Fault>,
    fault: &Fault,
    (at, now): (Timestamp, Timestamp),
) {
    match fault {
        Fault::Disconnect { hold_slot } => {
            let sessions: Vec<u64> = state.live.keys().copied().collect();
            for session in sessions {
                state.end(session, Why::Disconnect, at + *hold_slot, now);
            }
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
        Fault::DuplicateFrame | Fault::OutOfOrder | Fault::DropRecord => {
            // Noted when it finds its frame.
            faults.waiting.push_back(fault.clone());
            return;
        }
        _ => {}
    }
    state.note(now, Event::Incident { fault: fault.clone() });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::civil::{Date, date, time};

    use super::*;
    use crate::kis::{KRX41, Market, Script, regular_session};
    use crate::korea::instant;
    use crate::pacing;

    const DAY: Date = date(2026, 11, 20);

    fn ledger() -> Vec<LedgerTrade> {
        let symbols: Vec<String> = KRX41.iter().map(ToString::to_string).collect();
        Market::generate(1, &regular_session(DAY), &symbols, 3_000)
    }

    fn plan(ledger: &[LedgerTrade], script: &Script, start: Timestamp) -> Vec<Due<Fault>> {
        let frames: Vec<_> = ledger.chunk_by(|a, b| a.frame == b.frame).map(|f| (f[0].at, f.len())).collect();
        pacing::plan(&frames, script, start)
    }

    fn trades(plan: &[Due<Fault>]) -> Vec<usize> {
        let frames = plan.iter().filter_map(|due| match due.action {
            Action::Frame { first, count } => Some(first..first + count),
            _ => None,
        });
        frames.flatten().collect()
    }

    #[test]
    fn a_plan_sends_every_trade_once_in_order_whatever_stalls() {
        let ledger = ledger();
        let script = Script::demo(1, DAY);
        let plan = plan(&ledger, &script, Timestamp::UNIX_EPOCH);
        assert!(plan.is_sorted_by_key(|due| due.at));
        assert_eq!(trades(&plan), (0..ledger.len()).collect::<Vec<_>>());
        for due in &plan {
            if let Action::Frame { first, .. } = due.action {
                assert_eq!(due.at, script.release(ledger[first].at));
            }
        }
        assert_eq!(plan.iter().filter(|due| matches!(due.action, Action::Malformed(_))).count(), 5);
    }

    #[test]
    fn a_later_start_goes_on_there() {
        let ledger = ledger();
        let script = Script::demo(1, DAY);
        let start = instant(DAY, time(13, 8, 0, 0));
        let plan = plan(&ledger, &script, start);
        let first = ledger.partition_point(|trade| trade.at < start);
        assert_eq!(trades(&plan), (first..ledger.len()).collect::<Vec<_>>());
        assert!(matches!(plan[0].action, Action::Fault(Fault::Stall { .. })), "the stall is under way");
        assert!(plan[1].at > start + Duration::from_secs(300), "and holds back what comes");
        let malformed: Vec<_> = plan
            .iter()
            .filter(|due| matches!(due.action, Action::Malformed(_)))
            .map(|due| &due.action)
            .collect();
        assert_eq!(malformed, [&Action::Malformed(4)], "past ones are not repeated");
    }
}
