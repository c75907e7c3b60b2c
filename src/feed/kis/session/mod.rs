//! The session protocol as a pure state machine: what to send, when to connect, when to give up.
//!
//! ```text
//! idle ──due──▶ asking (approval key) ──key──▶ opening ──opened──▶ online ──closed, stale, refused──▶ idle (after a wait)
//!                 └─ a key younger than 23 h is used again ─▲          └─ fatal reply ──▶ ended
//! ```
//!
//! The shell (the collector step) owns the socket: it carries out every [`Output`] in order, feeds back what
//! happens as [`Input`], and wakes the machine at [`Session::wake_at`]. All times are the clock's. Rules and
//! limits are KIS's own or were measured by its users.

#[cfg(test)]
mod properties;
mod registrations;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

pub use registrations::Request;
use registrations::{Registrations, Verdict};

use super::approval::Refusal;
use super::control::{Action, Control, Reply};
use super::frame::Frame;
use super::request;
use domain::retry::{Backoff, mix};

/// What a session wants and how patient it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Message types.
    pub tr_ids: Vec<String>,
    /// Instruments; each is registered for each type, and what comes first is registered first.
    pub symbols: Vec<String>,
    /// Registrations one app key may hold (41, but some accounts were given 3).
    pub limit: usize,
    /// Time between two requests.
    pub pace: Duration,
    /// A request without a reply is sent once more after this.
    pub ack_within: Duration,
    /// A connection without any message for this long is dead.
    pub stale_after: Duration,
    /// This long after a reconnect, liquid instruments that stayed silent are registered anew.
    pub verify_after: Duration,
    /// An instrument is liquid when this many trades of it came within `verify_after` before the connection
    /// was lost.
    pub liquid_ticks: usize,
    /// A registration that KIS called a duplicate is left alone for this long.
    pub leave_alone: Duration,
    /// A refused or unanswered registration is tried again after this.
    pub retry_after: Duration,
    /// Waits between connections.
    pub backoff: Backoff,
    /// A connection that lasted this long starts the backoff anew.
    pub stable_after: Duration,
    /// Shortest and longest wait when another session holds the app key's slot; quick retries prolong its
    /// hold.
    pub slot_wait: (Duration, Duration),
    /// How long an approval key is used (KIS: 24 h).
    pub key_life: Duration,
    /// Least time between two calls for a key (KIS: one a second).
    pub key_pace: Duration,
}

impl Settings {
    /// The settings for these registrations with KIS's figures.
    pub fn new(tr_ids: Vec<String>, symbols: Vec<String>) -> Self {
        Self {
            tr_ids,
            symbols,
            limit: 41,
            pace: Duration::from_millis(100),
            ack_within: Duration::from_secs(5),
            stale_after: Duration::from_secs(90),
            verify_after: Duration::from_secs(60),
            liquid_ticks: 10,
            leave_alone: Duration::from_secs(300),
            retry_after: Duration::from_secs(30),
            backoff: Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(120), jitter: true },
            stable_after: Duration::from_secs(180),
            slot_wait: (Duration::from_secs(60), Duration::from_secs(120)),
            key_life: Duration::from_secs(23 * 3600),
            key_pace: Duration::from_secs(1),
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Time passed.
    Wake,
    /// The approval call ended.
    Key(Result<String, Refusal>),
    /// The connection is open.
    Opened,
    /// The connection could not be opened: why.
    NotOpened(String),
    /// A control message came.
    Control(Control),
    /// A data frame came.
    Data(&'a Frame<'a>),
    /// Something else came: a sign of life without content for the machine.
    Traffic,
    /// The connection ended: how.
    Closed(String),
    /// Nobody wants the session any more.
    Stop,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Call for an approval key; [`Input::Key`] follows.
    AskKey,
    /// Open the connection; [`Input::Opened`] or [`Input::NotOpened`] follows.
    Open,
    /// Send a request; [`Session::text`] gives its text.
    Request(Request),
    /// Send this text back as it is.
    Echo(String),
    /// Close the connection; no [`Input::Closed`] follows.
    Close(String),
    /// Every registration that can be had is settled: from here on a trade that does not come was lost, not
    /// refused.
    Up {
        /// Number of the session, from 1.
        number: u64,
        /// Active registrations.
        active: usize,
    },
    /// A session that was up is over.
    Down {
        /// Its number.
        number: u64,
        /// Why.
        reason: String,
        /// When the last message came: silence before the end belongs to the outage.
        last_message_at: Timestamp,
    },
    /// A line for people.
    Note(String),
    /// Nothing helps but a person; the machine has ended.
    Fatal {
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Idle { until: Timestamp },
    Asking,
    Opening,
    Online { since: Timestamp, last_message: Timestamp, up: bool },
    Ended,
}

/// The machine.
pub struct Session {
    settings: Settings,
    registrations: Registrations,
    phase: Phase,
    /// The approval key and when it was given.
    key: Option<(String, Timestamp)>,
    key_asked: Option<Timestamp>,
    /// The key was refused and renewed, and no registration worked since.
    renewed: bool,
    number: u64,
    failures: u32,
    reconnects: u64,
    spread: u64,
    trouble: Option<String>,
    /// Another session held the app key's slot at the last try.
    slot: Option<String>,
}

const CREDENTIALS: &str = "check the secrets app_key and app_secret, and that feeds.kis points at the server (real or paper) they belong to";

impl Session {
    /// A machine that connects at its first wake. `seed` spreads its waits; any number that differs between
    /// collectors will do.
    pub fn new(settings: Settings, seed: u64, now: Timestamp) -> Self {
        Self {
            registrations: Registrations::new(&settings),
            settings,
            phase: Phase::Idle { until: now },
            key: None,
            key_asked: None,
            renewed: false,
            number: 0,
            failures: 0,
            reconnects: 0,
            spread: mix(seed),
            trouble: None,
            slot: None,
        }
    }

    /// When the machine wants to be woken, if nothing else happens.
    pub fn wake_at(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Idle { until } => Some(until),
            Phase::Asking | Phase::Opening | Phase::Ended => None,
            Phase::Online { last_message, .. } => {
                let stale = after(last_message, self.settings.stale_after);
                Some(self.registrations.due().map_or(stale, |due| due.min(stale)))
            }
        }
    }

    /// Takes in what happened and says what to do, in order.
    pub fn handle(&mut self, input: Input<'_>, now: Timestamp) -> Vec<Output> {
        let mut out = Vec::new();
        if self.phase == Phase::Ended {
            return out;
        }
        if let Phase::Online { last_message, .. } = &mut self.phase
            && matches!(input, Input::Control(_) | Input::Data(_) | Input::Traffic)
        {
            *last_message = now;
        }
        match input {
            Input::Wake | Input::Traffic => {}
            Input::Key(result) => self.on_key(result, now, &mut out),
            Input::Opened => self.on_opened(now),
            Input::NotOpened(why) => {
                if self.phase == Phase::Opening {
                    self.retry(format!("cannot connect: {why}"), now, &mut out);
                }
            }
            Input::Control(control) => self.on_control(control, now, &mut out),
            Input::Data(frame) => {
                if matches!(self.phase, Phase::Online { .. }) {
                    for record in frame.records() {
                        self.registrations.ticked(record.tr_id(), record.symbol(), now);
                    }
                }
            }
            Input::Closed(why) => {
                if matches!(self.phase, Phase::Online { .. }) {
                    self.retry(why, now, &mut out);
                }
            }
            Input::Stop => {
                self.leave("stopped", now, &mut out);
                self.phase = Phase::Ended;
            }
        }
        self.advance(now, &mut out);
        out
    }

    /// Text of a request, with the approval key in it: for the socket, not for a log.
    pub fn text(&self, request: &Request) -> Option<String> {
        let (key, _) = self.key.as_ref()?;
        Some(request::text(key, request.kind, &request.tr_id, &request.tr_key))
    }

    /// Whether every registration that can be had is settled and at least one is active.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Online { up: true, .. })
    }

    /// Whether the machine has ended.
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Number of the current or last session; 0 before the first.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Connections lost or refused so far.
    pub fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// Active registrations.
    pub fn active(&self) -> usize {
        self.registrations.active()
    }

    /// The limit in force: the configured one, or the lower one that KIS taught.
    pub fn limit(&self) -> usize {
        self.registrations.limit()
    }

    /// What is not as wanted, in one line: no session, or instruments left out.
    pub fn degraded(&self) -> Option<String> {
        match &self.trouble {
            Some(trouble) if !self.is_up() => Some(trouble.clone()),
            _ => self.registrations.trouble(),
        }
    }

    /// Until when the machine keeps silent because another session holds the app key's slot, and what KIS
    /// said.
    pub fn waits(&self) -> Option<(Timestamp, &str)> {
        match (self.phase, &self.slot) {
            (Phase::Idle { until }, Some(said)) => Some((until, said)),
            _ => None,
        }
    }

    fn on_key(&mut self, result: Result<String, Refusal>, now: Timestamp, out: &mut Vec<Output>) {
        if self.phase != Phase::Asking {
            return;
        }
        match result {
            Ok(key) => {
                self.key = Some((key, now));
                self.phase = Phase::Opening;
                out.push(Output::Open);
            }
            Err(Refusal::Credentials(why)) => {
                self.give_up(format!("KIS refuses the credentials: {why}"), CREDENTIALS, now, out)
            }
            Err(refusal @ (Refusal::TooOften(_) | Refusal::Failed(_))) => {
                self.retry(format!("no approval key: {refusal}"), now, out);
            }
        }
    }

    fn on_opened(&mut self, now: Timestamp) {
        if self.phase == Phase::Opening {
            self.number += 1;
            self.phase = Phase::Online { since: now, last_message: now, up: false };
            self.registrations.opened(self.number > 1, now);
        }
    }

    fn on_control(&mut self, control: Control, now: Timestamp, out: &mut Vec<Output>) {
        if !matches!(self.phase, Phase::Online { .. }) {
            return;
        }
        match control {
            Control::PingPong { text } => out.push(Output::Echo(text)),
            Control::Reply(reply) => self.on_reply(&reply, now, out),
        }
    }

    fn on_reply(&mut self, reply: &Reply, now: Timestamp, out: &mut Vec<Output>) {
        let said = format!("{} {}", reply.code.as_str(), reply.text);
        match reply.code.action() {
            Action::RenewKey if self.renewed => {
                self.give_up(
                    format!("KIS does not accept the approval key it has just given: {said}"),
                    CREDENTIALS,
                    now,
                    out,
                );
            }
            Action::RenewKey => {
                self.renewed = true;
                self.key = None;
                self.leave("approval key refused, asking for a new one", now, out);
                self.rest(after(now, self.settings.key_pace));
            }
            Action::WaitForSlot => {
                let (shortest, longest) = self.settings.slot_wait;
                let wait = shortest + longest.saturating_sub(shortest).mul_f64(self.share());
                let taken = format!("another session uses this app key ({said})");
                self.leave(&format!("{taken}; the next try is in {} s", wait.as_secs()), now, out);
                self.rest(after(now, wait));
                self.slot = Some(taken);
            }
            Action::FatalConfig => {
                self.give_up(format!("KIS refuses the configuration: {said}"), CREDENTIALS, now, out)
            }
            Action::FatalForType if !self.registrations.fail_type(reply.tr_id.as_deref(), &said) => {
                self.give_up(format!("KIS refuses the configuration: {said}"), CREDENTIALS, now, out);
            }
            Action::FatalForType => out.push(Output::Note(format!("{said}: this message type is left out"))),
            action => {
                let key = reply.tr_id.as_deref().zip(reply.tr_key.as_deref());
                match self.registrations.reply(key, action, &said, now) {
                    Verdict::Fine => {}
                    Verdict::Works => {
                        self.renewed = false;
                        self.trouble = None;
                    }
                    Verdict::Noted(note) => out.push(Output::Note(note)),
                }
            }
        }
        if matches!(self.phase, Phase::Online { .. }) && self.registrations.all_failed() {
            let why = self.registrations.trouble().unwrap_or_default();
            self.give_up(
                format!("no registration can be had: {why}"),
                "check the symbols and message types of the step",
                now,
                out,
            );
        }
    }

    /// Does what is due.
    fn advance(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Idle { until } if now >= until => {
                let usable =
                    self.key.as_ref().is_some_and(|(_, since)| now < after(*since, self.settings.key_life));
                let key_due = self.key_asked.map_or(now, |asked| after(asked, self.settings.key_pace));
                if usable {
                    self.phase = Phase::Opening;
                    out.push(Output::Open);
                } else if now >= key_due {
                    self.key = None;
                    self.key_asked = Some(now);
                    self.phase = Phase::Asking;
                    out.push(Output::AskKey);
                } else {
                    self.phase = Phase::Idle { until: key_due };
                }
            }
            Phase::Online { last_message, .. } if now >= after(last_message, self.settings.stale_after) => {
                let silence = now.duration_since(last_message).as_secs();
                self.retry(format!("no message of any kind for {silence} s"), now, out);
            }
            Phase::Online { up, .. } => {
                while let Some(request) = self.registrations.next(now, out) {
                    out.push(Output::Request(request));
                }
                if !up && self.registrations.is_settled() {
                    if let Phase::Online { up, .. } = &mut self.phase {
                        *up = true;
                    }
                    self.trouble = None;
                    out.push(Output::Up { number: self.number, active: self.registrations.active() });
                }
            }
            _ => {}
        }
    }

    /// Leaves the connection, if there is one.
    fn leave(&mut self, reason: &str, now: Timestamp, out: &mut Vec<Output>) {
        if let Phase::Online { since, last_message, up } = self.phase {
            if up {
                out.push(Output::Down {
                    number: self.number,
                    reason: reason.to_owned(),
                    last_message_at: last_message,
                });
            }
            if now >= after(since, self.settings.stable_after) {
                self.failures = 0;
            }
            self.registrations.closed();
            out.push(Output::Close(reason.to_owned()));
        } else if self.phase == Phase::Opening {
            out.push(Output::Close(reason.to_owned()));
        }
        self.trouble = Some(reason.to_owned());
        self.slot = None;
    }

    fn rest(&mut self, until: Timestamp) {
        self.reconnects += 1;
        self.phase = Phase::Idle { until };
    }

    /// Tries again after a wait that doubles with each failure in a row.
    fn retry(&mut self, reason: String, now: Timestamp, out: &mut Vec<Output>) {
        self.leave(&reason, now, out);
        self.failures = self.failures.saturating_add(1);
        self.spread = mix(self.spread.wrapping_add(1));
        let wait = self.settings.backoff.delay(self.failures, self.spread);
        out.push(Output::Note(format!("{reason}; the next try is in {} ms", wait.as_millis())));
        self.rest(after(now, wait));
    }

    fn give_up(&mut self, reason: String, remedy: &str, now: Timestamp, out: &mut Vec<Output>) {
        self.leave(&reason, now, out);
        self.phase = Phase::Ended;
        out.push(Output::Fatal { reason, remedy: remedy.to_owned() });
    }

    /// The next number in 0..1.
    fn share(&mut self) -> f64 {
        self.spread = mix(self.spread.wrapping_add(1));
        (self.spread >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}
