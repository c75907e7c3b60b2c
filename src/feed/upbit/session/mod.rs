//! The session as a pure state machine: what to send, when to connect, when to give up.
//!
//! ```text
//! idle ──due──▶ opening ──opened──▶ online: subscribe ──every market confirmed──▶ up ──closed, silent, refused──▶ idle (after a wait)
//!                                     └─ after a while: ask what is subscribed, and go on with what there is
//! ```
//!
//! A market is confirmed by its data: each sends its last trade at once when it is subscribed. What sends
//! nothing, or is not in the server's own list, is told as degraded and asked for again. Beside the
//! connection, and whatever becomes of it, the candles of the REST side are asked for, minute by minute
//! ([`Totals`]).

mod markets;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod totals;

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use self::markets::{Markets, Send};
use self::totals::Totals;
use super::answer::{self, Outcome};
use super::message::{Fault, Message, Remedy, parse};
use super::request::{self, PING};
use super::{Channel, Format, KOREA, trade};
use crate::{
    Answer, Connect, Data, Input, Malformed, Outgoing, Output, Parameters, Refused, Session, Setup,
    SetupError,
};
use domain::retry::{Backoff, mix};

/// What a session wants and how patient it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(super) websocket: String,
    pub(super) rest: String,
    pub(super) channel: Channel,
    pub(super) format: Format,
    pub(super) codes: Vec<String>,
    /// Time between two messages to the server: it takes five a second and a hundred a minute.
    pub(super) pace: Duration,
    /// Markets that sent nothing for this long are looked for in the server's list.
    pub(super) confirm_within: Duration,
    /// Markets that are not confirmed are asked for again after this.
    pub(super) retry_after: Duration,
    /// Time between two signs of life; the server closes a connection after 120 s without traffic.
    pub(super) ping_every: Duration,
    /// A connection without any message for this long is dead.
    pub(super) stale_after: Duration,
    /// Waits between connections.
    pub(super) backoff: Backoff,
    /// A connection that lasted this long starts the backoff anew.
    pub(super) stable_after: Duration,
    /// Time between two calls: the server takes ten a second.
    pub(super) call_pace: Duration,
    /// A call is given up after this, in real time.
    pub(super) call_within: Duration,
    /// How long after a minute's end its candle is asked for.
    pub(super) settle: Duration,
    /// The day from whose first minute on candles are asked for.
    pub(super) day: jiff::civil::Date,
}

/// A subscription that the server does not understand is tried so often in a row.
const TRIES: u32 = 3;

impl Settings {
    /// The settings for these markets, with the exchange's own figures.
    pub(super) fn new(channel: Channel, codes: Vec<String>, day: jiff::civil::Date) -> Self {
        Self {
            websocket: String::new(),
            rest: String::new(),
            channel,
            format: Format::Default,
            codes,
            pace: Duration::from_millis(700),
            confirm_within: Duration::from_secs(10),
            retry_after: Duration::from_secs(300),
            ping_every: Duration::from_secs(30),
            stale_after: Duration::from_secs(75),
            backoff: Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60), jitter: true },
            stable_after: Duration::from_secs(180),
            call_pace: Duration::from_millis(125),
            call_within: Duration::from_secs(10),
            settle: Duration::from_secs(10),
            day,
        }
    }

    /// Reads a step's parameters.
    pub(super) fn read(setup: &Setup<'_>, codes: Vec<String>) -> Result<Self, SetupError> {
        let with = &setup.with;
        let mut settings =
            Self::new(word(with, "channel", Channel::WORDS, Channel::of)?, codes, setup.session_date);
        settings.websocket = setup.address("websocket").to_owned();
        settings.rest = setup.address("rest").to_owned();
        settings.format = word(with, "format", Format::WORDS, Format::of)?;
        settings.stale_after = with.duration("stale_after")?;
        settings.settle = with.duration("settle")?;
        settings.ping_every = settings.ping_every.min(settings.stale_after.mul_f64(0.4));
        // The session waits in the clock's time, but servers answer in real time.
        let least = Duration::from_millis(300).mul_f64(setup.speed.clamp(1.0, 1e6));
        settings.confirm_within = settings.confirm_within.max(least);
        settings.stale_after = settings.stale_after.max(least + settings.ping_every);
        Ok(settings)
    }
}

/// A parameter that is one of some words.
fn word<T>(
    with: &Parameters<'_>,
    name: &str,
    words: &[&str],
    of: impl Fn(&str) -> Option<T>,
) -> Result<T, SetupError> {
    let text = with.text(name)?;
    of(&text).ok_or_else(|| with.wrong(name, format!("it is \"{text}\"; write one of {}", words.join(", "))))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Idle { until: Timestamp },
    Opening,
    Online { since: Timestamp, last_message: Timestamp, up: bool },
    Ended,
}

/// A call whose answer is to come.
#[derive(Debug, Clone, PartialEq)]
enum Call {
    /// The candles of [`Totals`].
    Candles,
    /// Which markets there are: for the connection with this number.
    Markets(u64),
}

/// The machine.
pub(crate) struct Machine {
    settings: Settings,
    markets: Markets,
    totals: Option<Totals>,
    phase: Phase,
    /// Calls without an answer, the oldest first.
    calls: VecDeque<Call>,
    number: u64,
    failures: u32,
    reconnects: u64,
    spread: u64,
    trouble: Option<String>,
    /// How often in a row the server refused the subscription.
    refused: u32,
}

const REPORT: &str = "check that feeds.upbit.websocket is the address of Upbit's public data; if it is, its protocol has changed";

impl Machine {
    /// A machine that connects at its first tick. `seed` spreads its waits and makes its tickets.
    pub(crate) fn new(settings: Settings, seed: u64, now: Timestamp) -> Self {
        Self {
            markets: Markets::new(&settings),
            // A ticker comes only now and then: there is no sum to compare.
            totals: (settings.channel == Channel::Trade).then(|| Totals::new(&settings)),
            settings,
            phase: Phase::Idle { until: now },
            calls: VecDeque::new(),
            number: 0,
            failures: 0,
            reconnects: 0,
            spread: mix(seed),
            trouble: None,
            refused: 0,
        }
    }

    fn on_message(&mut self, bytes: &[u8], now: Timestamp, out: &mut Vec<Output>) {
        match parse(bytes) {
            Ok(Message::Records(records)) => self.on_records(records, bytes, now, out),
            Ok(Message::Status(status)) if status == "UP" => {}
            Ok(Message::Status(status)) => {
                out.push(Output::Note(format!("Upbit says that its status is {status}")))
            }
            Ok(Message::Subscriptions(lines)) => {
                let ours = lines.into_iter().filter(|line| line.channel == self.settings.channel.as_str());
                self.markets.listed(ours.flat_map(|line| line.codes).collect(), now);
            }
            Ok(Message::Fault(fault)) => self.on_fault(&fault, now, out),
            Err(refused) => out.push(malformed(refused, bytes)),
        }
    }

    fn on_records(
        &mut self,
        records: Vec<Result<super::message::Record<'_>, Refused>>,
        bytes: &[u8],
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        let (several, mut fault) = (records.len() > 1, None);
        for (n, record) in records.into_iter().enumerate() {
            let judged = record.and_then(|record| {
                if record.channel == self.settings.channel {
                    return trade::trade(&record, now);
                }
                let message = format!(
                    "a record of the channel {} came, which was not asked for",
                    record.channel.as_str()
                );
                Err(Refused { cause: "unexpected_type", message })
            });
            match judged {
                Ok(trade) => {
                    self.markets.came(&trade.symbol, now);
                    out.push(Output::Data(Data::Trade(Box::new(trade))));
                }
                Err(mut refused) => {
                    if several {
                        refused.message = format!("record {}: {}", n + 1, refused.message);
                    }
                    fault.get_or_insert(refused);
                }
            }
        }
        if let Some(refused) = fault {
            out.push(malformed(refused, bytes));
        }
    }

    fn on_fault(&mut self, fault: &Fault, now: Timestamp, out: &mut Vec<Output>) {
        let Phase::Online { up, .. } = self.phase else { return };
        let said = format!("Upbit says {} {}", fault.name, fault.message);
        match fault.remedy() {
            Remedy::Fatal => self.give_up(format!("Upbit refuses the session: {said}"), REPORT, now, out),
            // What works goes on; it was about something less than the subscription.
            _ if up => out.push(Output::Note(said)),
            _ if self.markets.is_listing() => {
                out.push(Output::Note(said));
                self.markets.unlisted(now);
            }
            Remedy::CheckCodes => {
                out.push(Output::Note(format!("{said}; asking which markets there are")));
                self.calls.push_back(Call::Markets(self.number));
                out.push(Output::Request(request::markets(&self.settings.rest, self.settings.call_within)));
                self.markets.hold();
            }
            Remedy::Reconnect => self.subscription_refused(said, now, out),
        }
    }

    fn subscription_refused(&mut self, said: String, now: Timestamp, out: &mut Vec<Output>) {
        self.refused += 1;
        if self.refused >= TRIES {
            self.give_up(format!("Upbit refuses the subscription: {said}"), REPORT, now, out);
        } else {
            self.retry(said, now, out);
        }
    }

    fn on_answer(&mut self, result: Result<Answer, String>, now: Timestamp, out: &mut Vec<Output>) {
        match self.calls.pop_front() {
            Some(Call::Candles) => {
                if let Some(totals) = &mut self.totals {
                    totals.answered(result, now, out);
                }
            }
            Some(Call::Markets(number))
                if number == self.number && matches!(self.phase, Phase::Online { .. }) =>
            {
                self.on_markets(result, now, out);
            }
            // Of a connection that is gone; or of nobody's call.
            Some(Call::Markets(_)) | None => {}
        }
    }

    /// The subscription was refused for a value in it: without the markets that do not exist it may be taken.
    fn on_markets(&mut self, result: Result<Answer, String>, now: Timestamp, out: &mut Vec<Output>) {
        let outcome = result.map_or_else(Outcome::Failed, |answer| answer::markets(&answer));
        let Outcome::Good(known) = outcome else {
            return self.retry(
                "Upbit refuses the subscription, and does not say which markets there are".into(),
                now,
                out,
            );
        };
        match self.markets.keep_only(&known) {
            0 => self.subscription_refused(
                "it refuses a subscription of markets that all exist".into(),
                now,
                out,
            ),
            _ if self.markets.none_left() => {
                let reason = self.markets.trouble().unwrap_or_default();
                self.give_up(reason, "check the symbols of the step", now, out);
            }
            _ => {
                out.push(Output::Note(self.markets.trouble().unwrap_or_default()));
                self.markets.subscribe();
            }
        }
    }

    /// Does what is due.
    fn advance(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Ended => return,
            Phase::Idle { until } if now >= until => {
                self.phase = Phase::Opening;
                out.push(Output::Connect(Connect {
                    url: self.settings.websocket.clone(),
                    headers: Vec::new(),
                    accept_bad_text: false,
                }));
            }
            Phase::Online { last_message, .. } if now >= after(last_message, self.settings.stale_after) => {
                let silence = now.duration_since(last_message).as_secs();
                self.retry(format!("no message of any kind for {silence} s"), now, out);
            }
            Phase::Online { .. } => self.advance_online(now, out),
            _ => {}
        }
        if let Some(totals) = self.totals.as_mut().filter(|_| self.phase != Phase::Ended)
            && let Some(call) = totals.next(now)
        {
            self.calls.push_back(Call::Candles);
            out.push(Output::Request(call));
        }
    }

    fn advance_online(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let (settings, ticket) = (&self.settings, request::ticket(self.spread ^ mix(self.number)));
        if let Some(send) = self.markets.next(now) {
            let text = match send {
                Send::Subscription => {
                    request::subscription(&ticket, settings.channel, &self.markets.wanted(), settings.format)
                }
                Send::List => request::list(&ticket, settings.format),
                Send::Ping => PING.to_owned(),
            };
            out.push(Output::Send(Outgoing::Text(text)));
        }
        if !self.markets.is_settled() {
            return;
        }
        let active = self.markets.active();
        if active == 0 {
            let count = self.markets.wanted().len();
            return self.retry(
                format!("none of {count} markets sends anything or is in the server's list"),
                now,
                out,
            );
        }
        if let Phase::Online { up: up @ false, .. } = &mut self.phase {
            *up = true;
            (self.trouble, self.refused) = (None, 0);
            out.push(Output::Up { number: self.number, active });
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
            self.markets.closed();
        }
        if matches!(self.phase, Phase::Online { .. } | Phase::Opening) {
            out.push(Output::Close(reason.to_owned()));
        }
        self.trouble = Some(reason.to_owned());
    }

    /// Tries again after a wait that doubles with each failure in a row.
    fn retry(&mut self, reason: String, now: Timestamp, out: &mut Vec<Output>) {
        self.leave(&reason, now, out);
        self.failures = self.failures.saturating_add(1);
        self.spread = mix(self.spread.wrapping_add(1));
        let wait = self.settings.backoff.delay(self.failures, self.spread);
        out.push(Output::Note(format!("{reason}; the next try is in {} ms", wait.as_millis())));
        self.reconnects += 1;
        self.phase = Phase::Idle { until: after(now, wait) };
    }

    fn give_up(&mut self, reason: String, remedy: &str, now: Timestamp, out: &mut Vec<Output>) {
        self.leave(&reason, now, out);
        self.phase = Phase::Ended;
        out.push(Output::Fatal { reason, remedy: remedy.to_owned() });
    }
}

impl Session for Machine {
    fn handle(&mut self, input: Input<'_>, now: Timestamp, out: &mut Vec<Output>) {
        if self.phase == Phase::Ended {
            return;
        }
        if let Phase::Online { last_message, .. } = &mut self.phase
            && matches!(input, Input::Message(_) | Input::Traffic)
        {
            *last_message = now;
        }
        match input {
            Input::Tick | Input::Traffic => {}
            Input::Opened => {
                if self.phase == Phase::Opening {
                    self.number += 1;
                    self.phase = Phase::Online { since: now, last_message: now, up: false };
                    self.markets.opened(now);
                }
            }
            Input::NotOpened(why) => {
                if self.phase == Phase::Opening {
                    self.retry(format!("cannot connect: {why}"), now, out);
                }
            }
            Input::Message(bytes) => self.on_message(bytes, now, out),
            Input::Answer(result) => self.on_answer(result, now, out),
            Input::Closed(why) => {
                if matches!(self.phase, Phase::Online { .. }) {
                    self.retry(why, now, out);
                }
            }
            Input::Stop => {
                self.leave("stopped", now, out);
                self.phase = Phase::Ended;
            }
        }
        self.advance(now, out);
    }

    fn wake_at(&self) -> Option<Timestamp> {
        let call = self.totals.as_ref().and_then(Totals::due);
        let connection = match self.phase {
            Phase::Ended => return None,
            Phase::Idle { until } => Some(until),
            Phase::Opening => None,
            Phase::Online { last_message, .. } => {
                let stale = after(last_message, self.settings.stale_after);
                Some(self.markets.due().map_or(stale, |due| due.min(stale)))
            }
        };
        connection.into_iter().chain(call).min()
    }

    fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Online { up: true, .. })
    }

    fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn reconnects(&self) -> u64 {
        self.reconnects
    }

    fn active(&self) -> usize {
        self.markets.active()
    }

    fn degraded(&self) -> Option<String> {
        let connection = match &self.trouble {
            Some(trouble) if !self.is_up() => Some(trouble.clone()),
            _ => self.markets.trouble(),
        };
        let parts: Vec<String> =
            connection.into_iter().chain(self.totals.as_ref().and_then(Totals::trouble)).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn waits(&self) -> Option<(Timestamp, &str)> {
        None
    }

    fn symbols(&self) -> &[String] {
        &self.settings.codes
    }
}

fn malformed(refused: Refused, bytes: &[u8]) -> Output {
    Output::Data(Data::Malformed(Malformed { refused, bytes: bytes.to_vec() }))
}

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}
