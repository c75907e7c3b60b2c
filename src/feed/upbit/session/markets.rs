//! The markets of a session: which are confirmed, and what is to be sent about them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::{Settings, after};

/// A message to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Send {
    /// All markets that are wanted.
    Subscription,
    /// A question for what is subscribed.
    List,
    /// A sign of life.
    Ping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MarketState {
    /// Nothing came in this session yet.
    Wanted,
    /// Something came.
    Confirmed,
    /// It is in the server's list, and nothing came.
    Silent,
    /// It is not in the server's list.
    Unlisted,
    /// There is no such market.
    Unknown,
}

/// How far the subscription is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No connection, or nothing to be sent before somebody says so.
    Held,
    /// To be sent.
    Due,
    /// Sent at this time: markets confirm themselves.
    Asked(Timestamp),
    /// The list was asked for at this time.
    Listing(Timestamp),
    /// Every market has its standing; those that are not confirmed are asked for again then.
    Settled(Option<Timestamp>),
}

pub(super) struct Markets {
    all: Vec<(String, MarketState)>,
    by_code: HashMap<String, usize>,
    stage: Stage,
    /// The earliest time for another message.
    next_send: Timestamp,
    last_send: Timestamp,
    open: bool,
    pace: Duration,
    confirm_within: Duration,
    retry_after: Duration,
    ping_every: Duration,
}

impl Markets {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            all: settings.codes.iter().map(|code| (code.clone(), MarketState::Wanted)).collect(),
            by_code: settings.codes.iter().enumerate().map(|(at, code)| (code.clone(), at)).collect(),
            stage: Stage::Held,
            next_send: Timestamp::MIN,
            last_send: Timestamp::MIN,
            open: false,
            pace: settings.pace,
            confirm_within: settings.confirm_within,
            retry_after: settings.retry_after,
            ping_every: settings.ping_every,
        }
    }

    /// A connection is open; it knows none of the markets.
    pub(super) fn opened(&mut self, now: Timestamp) {
        (self.open, self.next_send, self.last_send) = (true, now, now);
        self.subscribe();
    }

    /// The connection is gone, and with it everything the server knew. A market that does not exist does not
    /// come to be by that.
    pub(super) fn closed(&mut self) {
        (self.open, self.stage) = (false, Stage::Held);
        self.all
            .iter_mut()
            .filter(|(_, s)| *s != MarketState::Unknown)
            .for_each(|(_, s)| *s = MarketState::Wanted);
    }

    /// The subscription is to be sent (again).
    pub(super) fn subscribe(&mut self) {
        self.stage = Stage::Due;
    }

    /// Nothing more is sent about markets before [`Markets::subscribe`].
    pub(super) fn hold(&mut self) {
        self.stage = Stage::Held;
    }

    /// A record of a market came.
    pub(super) fn came(&mut self, code: &str, now: Timestamp) {
        if let Some(at) = self.by_code.get(code)
            && self.open
        {
            self.all[*at].1 = MarketState::Confirmed;
            if matches!(self.stage, Stage::Asked(_) | Stage::Listing(_)) && !self.any(MarketState::Wanted) {
                self.settle(now);
            }
        }
    }

    /// The server's list of what is subscribed came.
    pub(super) fn listed(&mut self, codes: BTreeSet<String>, now: Timestamp) {
        if !matches!(self.stage, Stage::Listing(_)) {
            return;
        }
        for (code, standing) in &mut self.all {
            if *standing == MarketState::Wanted {
                *standing = if codes.contains(code) { MarketState::Silent } else { MarketState::Unlisted };
            }
        }
        self.settle(now);
    }

    /// No list is to be had: what sent nothing is not confirmed.
    pub(super) fn unlisted(&mut self, now: Timestamp) {
        self.all
            .iter_mut()
            .filter(|(_, s)| *s == MarketState::Wanted)
            .for_each(|(_, s)| *s = MarketState::Unlisted);
        self.settle(now);
    }

    /// Gives up the markets that do not exist; says how many.
    pub(super) fn keep_only(&mut self, known: &BTreeSet<String>) -> usize {
        let unknown =
            self.all.iter_mut().filter(|(code, s)| *s != MarketState::Unknown && !known.contains(code));
        unknown.map(|(_, standing)| *standing = MarketState::Unknown).count()
    }

    fn settle(&mut self, now: Timestamp) {
        let again = self.any(MarketState::Silent) || self.any(MarketState::Unlisted);
        self.stage = Stage::Settled(again.then(|| after(now, self.retry_after)));
    }

    fn any(&self, standing: MarketState) -> bool {
        self.all.iter().any(|(_, s)| *s == standing)
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Settled(_))
    }

    pub(super) fn is_listing(&self) -> bool {
        matches!(self.stage, Stage::Listing(_))
    }

    pub(super) fn none_left(&self) -> bool {
        self.all.iter().all(|(_, s)| *s == MarketState::Unknown)
    }

    /// Markets that sent something or are in the server's list.
    pub(super) fn active(&self) -> usize {
        self.all.iter().filter(|(_, s)| matches!(s, MarketState::Confirmed | MarketState::Silent)).count()
    }

    /// What a subscription asks for.
    pub(super) fn wanted(&self) -> Vec<&str> {
        self.all.iter().filter(|(_, s)| *s != MarketState::Unknown).map(|(code, _)| code.as_str()).collect()
    }

    /// When [`Markets::next`] has something to do.
    pub(super) fn due(&self) -> Option<Timestamp> {
        if !self.open {
            return None;
        }
        let stage = match self.stage {
            Stage::Held => None,
            Stage::Due => Some(Timestamp::MIN),
            Stage::Asked(at) | Stage::Listing(at) => Some(after(at, self.confirm_within)),
            Stage::Settled(again) => again,
        };
        let ping = after(self.last_send, self.ping_every);
        Some(stage.map_or(ping, |at| at.min(ping)).max(self.next_send))
    }

    /// The message to send now, if one is due and the pace allows it.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Send> {
        if !self.open || now < self.next_send {
            return None;
        }
        let send = match self.stage {
            Stage::Due => Some(Send::Subscription),
            Stage::Asked(at) if now >= after(at, self.confirm_within) => Some(Send::List),
            Stage::Listing(at) if now >= after(at, self.confirm_within) => {
                self.unlisted(now);
                None
            }
            Stage::Settled(Some(again)) if now >= again => Some(Send::Subscription),
            _ => None,
        };
        let send = send.or_else(|| (now >= after(self.last_send, self.ping_every)).then_some(Send::Ping))?;
        match send {
            Send::Subscription => {
                self.all
                    .iter_mut()
                    .filter(|(_, s)| matches!(s, MarketState::Silent | MarketState::Unlisted))
                    .for_each(|(_, s)| {
                        *s = MarketState::Wanted;
                    });
                self.stage = Stage::Asked(now);
            }
            Send::List => self.stage = Stage::Listing(now),
            Send::Ping => {}
        }
        (self.last_send, self.next_send) = (now, after(now, self.pace));
        Some(send)
    }

    /// Markets that are not received although wanted, in one line.
    pub(super) fn trouble(&self) -> Option<String> {
        let named = |standing: MarketState, what: &str| {
            let names: Vec<&str> =
                self.all.iter().filter(|(_, s)| *s == standing).map(|(code, _)| code.as_str()).collect();
            let more = names.len().saturating_sub(10);
            let shown = names.iter().take(10).copied().collect::<Vec<_>>().join(", ");
            let shown = if more == 0 { shown } else { format!("{shown} and {more} more") };
            (!names.is_empty()).then(|| format!("{what}: {shown}"))
        };
        let parts: Vec<String> = [
            named(MarketState::Unknown, "Upbit has no such market"),
            named(MarketState::Unlisted, "not confirmed by Upbit"),
            named(MarketState::Silent, "subscribed, but Upbit sends nothing"),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}
