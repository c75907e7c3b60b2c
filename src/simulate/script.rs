//! What goes wrong in a day, and when: data, so that the same seed gives the same faults and a test can
//! compute what follows.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, Time};

use super::korea::{KST, instant};
use domain::retry::mix;

/// What can go wrong on an exchange. Its text is `KIND[=ARGUMENT]`.
pub trait Fault:
    Clone + fmt::Debug + fmt::Display + Eq + FromStr<Err = String> + Send + Sync + 'static
{
    /// The kinds there are, for people: `disconnect=60s, stall=12m, …`.
    const KINDS: &'static str;

    /// How long data is held back by it; what the exchange sent meanwhile leaves at the end.
    fn stalls(&self) -> Option<Duration>;

    /// The HTTP status with which it refuses handshakes, and how long.
    fn refuses_handshakes(&self) -> Option<(u16, Duration)>;

    /// The wrong message that it sends, on top of the right ones and in place of none. Its bytes depend on
    /// `unique` in more than one place.
    fn mangled(&self, unique: u64, date: Date) -> Option<Mangled>;

    /// Whether it waits for something that a client does.
    fn waits_for_a_client(&self) -> bool;
}

/// A wrong message as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mangled {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// As a text message, or else as a binary one.
    pub text: bool,
}

/// One fault at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident<F> {
    /// When it starts, or from when on it waits for its occasion.
    pub at: Timestamp,
    /// What happens.
    pub fault: F,
}

/// The incidents of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script<F> {
    seed: u64,
    date: Date,
    incidents: Vec<Incident<F>>,
}

impl<F: Fault> Script<F> {
    /// A day on which nothing goes wrong. The seed decides the bytes of frames that [`with`](Self::with) may
    /// add.
    pub fn quiet(seed: u64, date: Date) -> Self {
        Self { seed, date, incidents: Vec::new() }
    }

    /// The same script with one more incident.
    #[must_use]
    pub fn with(mut self, at: Timestamp, fault: F) -> Self {
        self.incidents.push(Incident { at, fault });
        self.incidents.sort_by_key(|i| i.at);
        self
    }

    /// Reads `KIND[=ARGUMENT]@HH:MM[:SS]`, Korean time on the script's date, and adds it.
    ///
    /// # Errors
    /// What is wrong with the text, and what may be written.
    pub fn with_text(self, text: &str) -> Result<Self, FaultError> {
        let refuse = |why: String| FaultError { text: text.to_owned(), why, kinds: F::KINDS };
        let (fault, at) = text.split_once('@').ok_or_else(|| refuse("the time is missing".to_owned()))?;
        let at: Time = at.parse().map_err(|error| refuse(format!("\"{at}\" is not a time: {error}")))?;
        let at = instant(self.date, at);
        Ok(self.with(at, fault.parse().map_err(refuse)?))
    }

    /// All incidents, earliest first.
    pub fn incidents(&self) -> &[Incident<F>] {
        &self.incidents
    }

    /// When which wrong message is due. Each one's bytes differ from all others', so that arrivals can be
    /// counted by them.
    pub fn malformed_frames(&self) -> Vec<(Timestamp, Vec<u8>)> {
        self.mangled().into_iter().map(|(at, mangled)| (at, mangled.bytes)).collect()
    }

    pub(crate) fn mangled(&self) -> Vec<(Timestamp, Mangled)> {
        let mut found = Vec::new();
        for incident in &self.incidents {
            let unique = mix(self.seed ^ mix(found.len() as u64));
            found.extend(incident.fault.mangled(unique, self.date).map(|mangled| (incident.at, mangled)));
        }
        found
    }

    /// When something that the exchange sent at `at` leaves the simulator: then, or when the stall is over.
    pub fn release(&self, at: Timestamp) -> Timestamp {
        let mut release = at;
        // In order of start: a stall that begins in another one's end holds back what that one let go.
        for incident in &self.incidents {
            if let Some(lasts) = incident.fault.stalls() {
                let end = incident.at + lasts;
                if release >= incident.at && release < end {
                    release = end;
                }
            }
        }
        release
    }

    /// The HTTP status that refuses handshakes now, if they are refused.
    pub fn handshake_refusal(&self, now: Timestamp) -> Option<u16> {
        self.incidents.iter().find_map(|incident| {
            let (status, lasts) = incident.fault.refuses_handshakes()?;
            (now >= incident.at && now < incident.at + lasts).then_some(status)
        })
    }
}

/// Why the text of a fault was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a fault: {why}; write KIND[=ARGUMENT]@HH:MM[:SS], where KIND is one of {kinds}")]
pub struct FaultError {
    text: String,
    why: String,
    kinds: &'static str,
}

/// Reads `30s`, `2m`, `1h30m`.
///
/// # Errors
/// Why the text is not a length of time.
pub fn duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text
        .parse()
        .map_err(|error| format!("\"{text}\" is not a length of time like 30s or 2m: {error}"))?;
    Duration::try_from(signed).map_err(|_| format!("\"{text}\" is negative"))
}

/// Finds the kind of wrong message that a text means among those there are.
pub(crate) fn malformed_kind<K: Copy + fmt::Display>(all: &[K], text: &str) -> Result<K, String> {
    let known = all.iter().copied().find(|kind| kind.to_string() == text);
    known.ok_or_else(|| format!("there is no malformed kind \"{text}\""))
}

/// The text of a fault, taken apart.
pub(crate) struct FaultText<'a> {
    pub(crate) kind: &'a str,
    argument: Option<&'a str>,
}

impl<'a> FaultText<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let (kind, argument) =
            text.split_once('=').map_or((text, None), |(kind, argument)| (kind, Some(argument)));
        Self { kind, argument }
    }

    /// The argument as a length of time, or so many seconds where there is none.
    pub(crate) fn lasting(&self, default: u64) -> Result<Duration, String> {
        self.argument.map_or(Ok(Duration::from_secs(default)), duration)
    }

    /// The argument, which must be there.
    pub(crate) fn word(&self, what: &str) -> Result<String, String> {
        self.argument.map(str::to_owned).ok_or_else(|| format!("\"{}\" needs {what} after '='", self.kind))
    }
}

impl<F: fmt::Display> fmt::Display for Incident<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.fault, KST.to_datetime(self.at).time())
    }
}
