//! The registrations of a session: one message type for one instrument each, at most as many as the app key
//! may hold.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::{Output, Settings, after};
use crate::kis::control::Action;
use crate::kis::request::Type;

/// A request to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Register or remove.
    pub kind: Type,
    /// Message type.
    pub tr_id: String,
    /// Instrument.
    pub tr_key: String,
}

/// What a reply meant.
pub(super) enum Verdict {
    /// Nothing to say.
    Fine,
    /// A registration works.
    Works,
    /// Something to tell people.
    Noted(String),
}

#[derive(Debug, Clone, PartialEq)]
enum RegistrationState {
    /// To be sent when pace and limit allow.
    Wanted,
    /// Sent; `again`: for the second time.
    Asked { at: Timestamp, again: bool },
    /// KIS sends its data.
    Active,
    /// Being removed, to be registered anew.
    Leaving { at: Timestamp, again: bool },
    /// Asked twice without a reply: it may be active or not.
    Unanswered { until: Timestamp },
    /// Refused for now.
    Refused { until: Timestamp },
    /// Refused for good: why.
    Failed(String),
}

struct Registration {
    tr_id: String,
    tr_key: String,
    standing: RegistrationState,
    /// Data came in this session.
    ticked: bool,
    /// When the last trades came, oldest first; at most `liquid_ticks`.
    recent: VecDeque<Timestamp>,
    /// Silent after a reconnect although liquid before: to be registered anew.
    suspect: bool,
    leave_alone_until: Option<Timestamp>,
}

impl Registration {
    /// Whether it uses one of the app key's registrations, as far as we know.
    fn counts(&self) -> bool {
        use RegistrationState::*;
        matches!(self.standing, Asked { .. } | Active | Leaving { .. } | Unanswered { .. })
    }

    fn request(&self, kind: Type) -> Request {
        Request { kind, tr_id: self.tr_id.clone(), tr_key: self.tr_key.clone() }
    }
}

pub(super) struct Registrations {
    all: Vec<Registration>,
    by_key: HashMap<String, Vec<usize>>,
    limit: usize,
    /// What KIS taught with OPSP0008.
    learned: Option<usize>,
    next_send: Timestamp,
    verify_at: Option<Timestamp>,
    last_data: Option<Timestamp>,
    /// `last_data` when the session began.
    data_before: Option<Timestamp>,
    pace: Duration,
    ack_within: Duration,
    verify_after: Duration,
    liquid_ticks: usize,
    leave_alone: Duration,
    retry_after: Duration,
}

impl Registrations {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut all = Vec::new();
        let mut by_key: HashMap<String, Vec<usize>> = HashMap::new();
        for tr_key in &settings.symbols {
            for tr_id in &settings.tr_ids {
                by_key.entry(tr_key.clone()).or_default().push(all.len());
                all.push(Registration {
                    tr_id: tr_id.clone(),
                    tr_key: tr_key.clone(),
                    standing: RegistrationState::Wanted,
                    ticked: false,
                    recent: VecDeque::new(),
                    suspect: false,
                    leave_alone_until: None,
                });
            }
        }
        Self {
            all,
            by_key,
            limit: settings.limit,
            learned: None,
            next_send: Timestamp::MIN,
            verify_at: None,
            last_data: None,
            data_before: None,
            pace: settings.pace,
            ack_within: settings.ack_within,
            verify_after: settings.verify_after,
            liquid_ticks: settings.liquid_ticks.max(1),
            leave_alone: settings.leave_alone,
            retry_after: settings.retry_after,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.learned.map_or(self.limit, |l| l.min(self.limit))
    }

    pub(super) fn active(&self) -> usize {
        self.all.iter().filter(|r| r.standing == RegistrationState::Active).count()
    }

    fn has_room(&self) -> bool {
        self.all.iter().filter(|r| r.counts()).count() < self.limit()
    }

    /// A connection is open; it knows none of the registrations.
    pub(super) fn opened(&mut self, reconnected: bool, now: Timestamp) {
        self.verify_at = reconnected.then(|| after(now, self.verify_after));
        self.data_before = self.last_data;
        for registration in &mut self.all {
            registration.ticked = false;
            registration.suspect = false;
        }
    }

    /// The connection is gone, and with it everything the server knew.
    pub(super) fn closed(&mut self) {
        for registration in &mut self.all {
            if !matches!(registration.standing, RegistrationState::Failed(_)) {
                registration.standing = RegistrationState::Wanted;
            }
            registration.leave_alone_until = None;
            registration.suspect = false;
        }
    }

    /// Data came.
    pub(super) fn ticked(&mut self, tr_id: &str, tr_key: &str, now: Timestamp) {
        self.last_data = Some(now);
        let Some(at) = self.find(tr_id, tr_key) else { return };
        let registration = &mut self.all[at];
        registration.ticked = true;
        registration.suspect = false;
        if registration.recent.len() == self.liquid_ticks {
            registration.recent.pop_front();
        }
        registration.recent.push_back(now);
        // The reply may be lost or late; data is the better proof.
        if matches!(
            registration.standing,
            RegistrationState::Asked { .. } | RegistrationState::Unanswered { .. }
        ) {
            registration.standing = RegistrationState::Active;
        }
    }

    fn find(&self, tr_id: &str, tr_key: &str) -> Option<usize> {
        self.by_key.get(tr_key)?.iter().copied().find(|at| self.all[*at].tr_id == tr_id)
    }

    /// A reply that concerns one registration.
    pub(super) fn reply(
        &mut self,
        key: Option<(&str, &str)>,
        action: Action,
        said: &str,
        now: Timestamp,
    ) -> Verdict {
        let Some(at) = key.and_then(|(tr_id, tr_key)| self.find(tr_id, tr_key)) else {
            return Verdict::Noted(format!("a reply that belongs to no registration: {said}"));
        };
        let active = self.active();
        let registration = &mut self.all[at];
        let name = format!("{} {}", registration.tr_id, registration.tr_key);
        match action {
            Action::MarkActive => registration.standing = RegistrationState::Active,
            Action::TreatAsActive => {
                registration.standing = RegistrationState::Active;
                registration.leave_alone_until = Some(after(now, self.leave_alone));
                registration.suspect = false;
            }
            Action::MarkInactive => {
                // A second reply to a removal may overtake the new registration, whose own reply is still to
                // come.
                if !matches!(
                    registration.standing,
                    RegistrationState::Asked { .. } | RegistrationState::Failed(_)
                ) {
                    registration.standing = RegistrationState::Wanted;
                }
                return Verdict::Fine;
            }
            Action::LearnLimit if active == 0 => {
                registration.standing = RegistrationState::Refused { until: after(now, self.retry_after) };
                return Verdict::Noted(format!("{name}: {said}, although none is active"));
            }
            Action::LearnLimit => {
                registration.standing = RegistrationState::Wanted;
                let before = self.limit();
                self.learned = Some(active.min(before));
                return if before == active {
                    Verdict::Fine
                } else {
                    Verdict::Noted(format!("{said}: the limit is {active}"))
                };
            }
            Action::RejectedRequest => {
                registration.standing = RegistrationState::Failed(said.to_owned());
                return Verdict::Noted(format!("{name} is left out: {said}"));
            }
            _ => {
                registration.standing = RegistrationState::Refused { until: after(now, self.retry_after) };
                return Verdict::Noted(format!(
                    "{name}: {said}; asked again in {} s",
                    self.retry_after.as_secs()
                ));
            }
        }
        // Replies to requests that were on their way when the limit was learned.
        if let Some(learned) = self.learned {
            self.learned = Some(learned.max(self.active()));
        }
        Verdict::Works
    }

    /// Gives up a message type; false if it is not one of ours.
    pub(super) fn fail_type(&mut self, tr_id: Option<&str>, said: &str) -> bool {
        let Some(tr_id) = tr_id else { return false };
        let mut found = false;
        for registration in self.all.iter_mut().filter(|r| r.tr_id == tr_id) {
            registration.standing = RegistrationState::Failed(said.to_owned());
            found = true;
        }
        found
    }

    pub(super) fn all_failed(&self) -> bool {
        self.all.iter().all(|r| matches!(r.standing, RegistrationState::Failed(_)))
    }

    /// Nothing is on its way and nothing more can be asked for now; at least one is active.
    pub(super) fn is_settled(&self) -> bool {
        let room = self.has_room();
        let open = |r: &Registration| match r.standing {
            RegistrationState::Wanted => room,
            RegistrationState::Asked { .. } | RegistrationState::Leaving { .. } => true,
            _ => false,
        };
        !self.all.iter().any(open) && self.active() > 0
    }

    /// When [`Registrations::next`] has something to do.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let room = self.has_room();
        let due = |r: &Registration| match &r.standing {
            RegistrationState::Wanted => room.then_some(Timestamp::MIN),
            RegistrationState::Asked { at, .. } | RegistrationState::Leaving { at, .. } => {
                Some(after(*at, self.ack_within))
            }
            RegistrationState::Unanswered { until } | RegistrationState::Refused { until } => Some(*until),
            RegistrationState::Active => r.suspect.then_some(Timestamp::MIN),
            RegistrationState::Failed(_) => None,
        };
        let first = self.all.iter().filter_map(due).chain(self.verify_at).min()?;
        Some(first.max(self.next_send))
    }

    /// The request to send now, if one is due and the pace allows it.
    pub(super) fn next(&mut self, now: Timestamp, out: &mut Vec<Output>) -> Option<Request> {
        if now < self.next_send {
            return None;
        }
        self.verify(now);
        self.expire(now, out);
        let room = self.has_room();
        let ack_within = self.ack_within;
        let (registration, kind) = self.all.iter_mut().find_map(|r| {
            let kind = match &mut r.standing {
                RegistrationState::Asked { at, again: again @ false } if now >= after(*at, ack_within) => {
                    (*at, *again) = (now, true);
                    Type::Subscribe
                }
                RegistrationState::Leaving { at, again: again @ false } if now >= after(*at, ack_within) => {
                    (*at, *again) = (now, true);
                    Type::Unsubscribe
                }
                standing @ RegistrationState::Active if r.suspect => {
                    *standing = RegistrationState::Leaving { at: now, again: false };
                    r.suspect = false;
                    Type::Unsubscribe
                }
                RegistrationState::Unanswered { until } if now >= *until => {
                    r.standing = RegistrationState::Asked { at: now, again: false };
                    Type::Subscribe
                }
                standing @ RegistrationState::Wanted if room => {
                    *standing = RegistrationState::Asked { at: now, again: false };
                    Type::Subscribe
                }
                _ => return None,
            };
            Some((r, kind))
        })?;
        self.next_send = after(now, self.pace);
        Some(registration.request(kind))
    }

    /// Moves on what waited long enough.
    fn expire(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        for registration in &mut self.all {
            match registration.standing {
                RegistrationState::Asked { at, again: true } if now >= after(at, self.ack_within) => {
                    registration.standing =
                        RegistrationState::Unanswered { until: after(now, self.retry_after) };
                    out.push(Output::Note(format!(
                        "{} {}: no reply to two requests",
                        registration.tr_id, registration.tr_key
                    )));
                }
                // It may still be registered; asking for it brings a success or "already".
                RegistrationState::Leaving { at, again: true } if now >= after(at, self.ack_within) => {
                    registration.standing = RegistrationState::Unanswered { until: now };
                }
                RegistrationState::Refused { until } if now >= until => {
                    registration.standing = RegistrationState::Wanted
                }
                _ => {}
            }
        }
    }

    /// Some registrations are acknowledged after a reconnect and never send anything; those that were busy
    /// before are registered anew.
    fn verify(&mut self, now: Timestamp) {
        if self.verify_at.is_none_or(|at| now < at) {
            return;
        }
        self.verify_at = None;
        let Some(before) = self.data_before else { return };
        for r in &mut self.all {
            let liquid = r.recent.len() == self.liquid_ticks
                && r.recent.front().is_some_and(|f| after(*f, self.verify_after) >= before);
            let untouchable = r.leave_alone_until.is_some_and(|until| now < until);
            r.suspect = liquid && !r.ticked && !untouchable && r.standing == RegistrationState::Active;
        }
    }

    /// Instruments that are not received although wanted, in one line.
    pub(super) fn trouble(&self) -> Option<String> {
        let named = |keep: &dyn Fn(&Registration) -> bool| -> Vec<&str> {
            self.all.iter().filter(|r| keep(r)).map(|r| r.tr_key.as_str()).collect()
        };
        let list = |names: Vec<&str>| {
            let more = names.len().saturating_sub(10);
            let shown = names.into_iter().take(10).collect::<Vec<_>>().join(", ");
            if more == 0 { shown } else { format!("{shown} and {more} more") }
        };
        let full = !self.has_room();
        let left_out = named(&|r| full && r.standing == RegistrationState::Wanted);
        let failed = named(&|r| matches!(r.standing, RegistrationState::Failed(_)));
        let waiting = named(&|r| {
            matches!(r.standing, RegistrationState::Refused { .. } | RegistrationState::Unanswered { .. })
        });
        let mut parts = Vec::new();
        if !left_out.is_empty() {
            let limit = self.limit();
            parts.push(format!(
                "KIS allows {limit} registrations for this app key, left out: {}",
                list(left_out)
            ));
        }
        if !failed.is_empty() {
            let why = self.all.iter().find_map(|r| {
                if let RegistrationState::Failed(why) = &r.standing { Some(why.as_str()) } else { None }
            });
            parts.push(format!("refused by KIS ({}): {}", why.unwrap_or_default(), list(failed)));
        }
        if !waiting.is_empty() {
            parts.push(format!("not confirmed by KIS yet: {}", list(waiting)));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}
