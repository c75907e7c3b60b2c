//! What is said to people, as a value: a message with what is in it. It is made once, where something is
//! found or refused, and put into words once per reader: English here (mails, outputs, the API), the reader's
//! tongue on pages, whose catalogue knows a message by its English.

use std::borrow::Cow;
use std::fmt;

use jiff::SignedDuration;
use rust_decimal::Decimal;

/// A message: lower-case words without a full stop, with places (`{}`, `{1}`) for what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    words: Cow<'static, str>,
    /// A text with places, which a catalogue may know; otherwise somebody else's words, which stay as they
    /// are.
    ours: bool,
    with: Vec<Part>,
}

/// What stands in a place of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Something that is the same in all tongues: a name, a time, what a server said.
    Text(String),
    /// A number of things.
    Count(u64),
    /// A length of time.
    Length(SignedDuration),
    /// Another message.
    Message(Message),
}

impl Message {
    /// A message of the house; [`said!`](crate::said) makes it, so that a test finds every one.
    pub const fn new(english: &'static str) -> Self {
        Self { words: Cow::Borrowed(english), ours: true, with: Vec::new() }
    }

    /// Nothing.
    pub const fn none() -> Self {
        Self { words: Cow::Borrowed(""), ours: false, with: Vec::new() }
    }

    /// Somebody else's words: a server's, a parser's.
    pub fn foreign(words: impl Into<String>) -> Self {
        Self { words: Cow::Owned(words.into()), ours: false, with: Vec::new() }
    }

    /// Puts the next thing into it.
    #[must_use]
    pub fn with(mut self, part: impl ToPart) -> Self {
        self.with.push(part.to_part());
        self
    }

    /// The English of a message of the house, by which a catalogue knows it, and what is in it.
    pub fn ours(&self) -> Option<(&'static str, &[Part])> {
        match (&self.words, self.ours) {
            (Cow::Borrowed(english), true) => Some((english, &self.with)),
            _ => None,
        }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

/// A message of the house, with what stands in its places: `said!("there is no run {}", id)`.
#[macro_export]
macro_rules! said {
    ($english:literal $(, $part:expr)* $(,)?) => {
        $crate::message::Message::new($english)$(.with(&$part))*
    };
}

impl Default for Message {
    fn default() -> Self {
        Self::none()
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.ours {
            return f.write_str(&self.words);
        }
        pieces(&self.words, self.with.len(), &mut |piece| match piece {
            Piece::Words(words) => f.write_str(words),
            Piece::Place(at) => write!(f, "{}", self.with[at]),
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Count(count) => f.write_str(&thousands(*count)),
            Self::Length(length) => f.write_str(&human(*length)),
            Self::Message(message) => message.fmt(f),
        }
    }
}

/// What can stand in a place of a message.
pub trait ToPart {
    /// It as a part.
    fn to_part(&self) -> Part;
}

impl<T: ToPart + ?Sized> ToPart for &T {
    fn to_part(&self) -> Part {
        (**self).to_part()
    }
}

impl ToPart for Message {
    fn to_part(&self) -> Part {
        Part::Message(self.clone())
    }
}

impl ToPart for SignedDuration {
    fn to_part(&self) -> Part {
        Part::Length(*self)
    }
}

macro_rules! counts {
    ($($kind:ty),*) => {
        $(impl ToPart for $kind {
            fn to_part(&self) -> Part {
                Part::Count(u64::try_from(*self).unwrap_or_default())
            }
        })*
    };
}

macro_rules! texts {
    ($($kind:ty),*) => {
        $(impl ToPart for $kind {
            fn to_part(&self) -> Part {
                Part::Text(self.to_string())
            }
        })*
    };
}

counts!(u32, u64, usize, i64);
texts!(str, String, Cow<'_, str>, jiff::Timestamp, jiff::civil::Date);
texts!(crate::ids::DagName, crate::ids::StepName, crate::ids::RunId);

/// A piece of a message.
pub enum Piece<'a> {
    /// Words between places.
    Words(&'a str),
    /// A place, by the number of what stands there.
    Place(usize),
}

/// Cuts a message at its places: `{}` takes the next thing, `{1}` the second. A place for which there is
/// nothing stays empty.
///
/// # Errors
/// What `each` fails with.
pub fn pieces(message: &str, things: usize, each: &mut dyn FnMut(Piece<'_>) -> fmt::Result) -> fmt::Result {
    let (mut rest, mut next) = (message, 0);
    while let Some((before, after)) = rest.split_once('{') {
        let Some((number, tail)) = after.split_once('}') else { break };
        each(Piece::Words(before))?;
        let at = number.parse().unwrap_or(next);
        next += usize::from(number.is_empty());
        if at < things {
            each(Piece::Place(at))?;
        }
        rest = tail;
    }
    each(Piece::Words(rest))
}

/// A count with commas between thousands.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A quantity of shares or units, with commas between thousands.
pub fn quantity(quantity: &Decimal) -> String {
    let text = quantity.to_string();
    let (whole, fraction) =
        text.split_once('.').map_or((text.as_str(), ""), |(whole, _)| (whole, &text[whole.len()..]));
    match whole.parse() {
        Ok(whole) => format!("{}{fraction}", thousands(whole)),
        // Below zero, or of more digits than a count has.
        Err(_) => text,
    }
}

/// A length for people: `6m12s`.
pub fn human(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

/// Something that is not done: why, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub why: Message,
    /// What to do instead; says nothing where there is nothing to do.
    pub remedy: Message,
}

impl Refused {
    /// A refusal with its remedy.
    pub fn new(why: Message, remedy: Message) -> Self {
        Self { why, remedy }
    }

    /// A refusal in somebody else's words.
    pub fn foreign(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { why: Message::foreign(why), remedy: Message::foreign(remedy) }
    }

    /// A refusal for which there is no remedy but to ask for something else.
    pub fn bare(why: Message) -> Self {
        Self { why, remedy: Message::none() }
    }
}

impl std::error::Error for Refused {}

/// In one line: why, and after a semicolon what to do.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)?;
        if self.remedy.is_empty() {
            return Ok(());
        }
        write!(f, "; {}", self.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_put_into_words_where_it_is_read() {
        let length = SignedDuration::from_secs(372);
        let inner = said!("no trade for {}", length);
        let outer = said!("{1} of {0}: {2}", "feed", 1_234_567_u64, inner);
        assert_eq!(outer.to_string(), "1,234,567 of feed: no trade for 6m12s");
        assert_eq!(outer.ours().map(|(english, with)| (english, with.len())), Some(("{1} of {0}: {2}", 3)));
        let foreign = Message::foreign("as {} said");
        assert_eq!((foreign.to_string().as_str(), foreign.ours()), ("as {} said", None));
    }

    #[test]
    fn a_refusal_is_one_line_in_english() {
        let run: crate::ids::RunId = "day@2026-11-20".parse().expect("an id");
        let refusal = Refused::new(said!("run {} is closing", run), said!("wait until it has ended"));
        assert_eq!(refusal.to_string(), "run day@2026-11-20 is closing; wait until it has ended");
        assert_eq!(
            Refused::bare(said!("there is no run {}", run)).to_string(),
            "there is no run day@2026-11-20"
        );
    }

    #[test]
    fn lengths_and_counts_for_people() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (372, "6m12s"), (7260, "2h01m")] {
            assert_eq!(human(SignedDuration::from_secs(seconds)), text);
        }
        for (number, text) in
            [("0", "0"), ("1234.50", "1,234.50"), ("0.00012", "0.00012"), ("-1500", "-1500")]
        {
            assert_eq!(quantity(&number.parse().expect("a decimal")), text);
        }
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(count), text);
        }
    }
}
