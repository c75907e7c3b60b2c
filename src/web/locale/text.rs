//! Texts of pages, put into a language when they are written.

use std::borrow::Cow;
use std::fmt::{self, Write};

use askama::filters::HtmlSafe;
use askama::{FastWritable, Values};
use jiff::SignedDuration;

use super::Reader;
use super::catalogue::{Language, translated};
use domain::finding::Finding;
use domain::message::{self, Part, Piece, pieces, thousands};

/// A text of a page: a message that is put into the reader's language when the page is rendered, or something
/// that is the same in all of them (names, numbers, what a server said).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// The same in all languages.
    Plain(Cow<'static, str>),
    /// A message of the catalogue, and what is in it.
    Message { english: &'static str, with: Vec<Text> },
    /// Made in each language, such as a date.
    Each { english: String, korean: String },
    /// Texts one after the other.
    Joined { between: &'static str, parts: Vec<Text> },
    /// A text as a sentence.
    Sentence(Box<Text>),
}

impl Default for Text {
    fn default() -> Self {
        Self(Kind::Plain(Cow::Borrowed("")))
    }
}

impl Text {
    /// What is the same in all languages.
    pub fn plain(text: impl Into<Cow<'static, str>>) -> Self {
        Self(Kind::Plain(text.into()))
    }

    /// A message of the catalogue: [`say!`](crate::locale::say) and the filter `t` make them, so that a test
    /// finds every one.
    pub fn message(english: &'static str) -> Self {
        Self(Kind::Message { english, with: Vec::new() })
    }

    /// Something that each language makes by rules of its own.
    pub fn each(english: String, korean: String) -> Self {
        Self(Kind::Each { english, korean })
    }

    /// Texts one after the other, with a mark of punctuation between them.
    pub fn joined(between: &'static str, parts: Vec<Self>) -> Self {
        Self(Kind::Joined { between, parts })
    }

    /// A length of time: `6m12s`, `6분 12초`.
    pub fn length(length: SignedDuration) -> Self {
        let seconds = length.as_secs().max(0);
        let korean = match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
            (0, 0, s) => format!("{s}초"),
            (0, m, s) => format!("{m}분 {s}초"),
            (h, m, _) => format!("{h}시간 {m}분"),
        };
        Self::each(message::human(length), korean)
    }

    /// Messages are lower case without a full stop; where one stands alone it is a sentence.
    #[must_use]
    pub fn sentence(self) -> Self {
        Self(Kind::Sentence(Box::new(self)))
    }

    /// Puts the next thing into a message.
    #[must_use]
    pub fn with(mut self, value: impl ToText) -> Self {
        if let Kind::Message { with, .. } = &mut self.0 {
            with.push(value.to_text());
        }
        self
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Kind::Plain(text) => text.is_empty(),
            Kind::Message { english, .. } => english.is_empty(),
            Kind::Each { english, .. } => english.is_empty(),
            Kind::Joined { parts, .. } => parts.iter().all(Self::is_empty),
            Kind::Sentence(text) => text.is_empty(),
        }
    }

    /// The text in a language.
    pub(crate) fn in_language(&self, language: Language) -> String {
        let mut out = String::new();
        // A String takes everything.
        let _ = self.write(language, &mut out);
        out
    }

    fn write(&self, language: Language, out: &mut dyn Write) -> fmt::Result {
        match &self.0 {
            Kind::Plain(text) => out.write_str(text),
            Kind::Each { english, .. } if language == Language::English => out.write_str(english),
            Kind::Each { korean, .. } => out.write_str(korean),
            Kind::Message { english, with } => {
                pieces(translated(language, english), with.len(), &mut |piece| match piece {
                    Piece::Words(words) => out.write_str(words),
                    Piece::Place(at) => with[at].write(language, out),
                })
            }
            Kind::Joined { between, parts } => {
                let mut first = true;
                for part in parts.iter().filter(|part| !part.is_empty()) {
                    if !first {
                        out.write_str(between)?;
                    }
                    first = false;
                    part.write(language, out)?;
                }
                Ok(())
            }
            Kind::Sentence(text) => out.write_str(&sentence(&text.in_language(language), language)),
        }
    }
}

/// Korean needs its full stop only behind a verb: what is named behind a colon ends by itself.
fn sentence(fragment: &str, language: Language) -> String {
    let mut letters = fragment.chars();
    let Some(first) = letters.next() else { return String::new() };
    let ends = match language {
        Language::English => fragment.ends_with(['.', '!', '?']),
        Language::Korean => !fragment.ends_with(['다', '요']),
    };
    format!("{}{}{}", first.to_uppercase(), letters.as_str(), if ends { "" } else { "." })
}

#[cfg(test)]
impl Text {
    /// Whether the English text holds another.
    pub(crate) fn contains(&self, english: &str) -> bool {
        self.to_string().contains(english)
    }

    /// Whether the English text begins with another.
    pub(crate) fn starts_with(&self, english: &str) -> bool {
        self.to_string().starts_with(english)
    }
}

/// The text in English, for what is not a page.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(Language::English, f)
    }
}

impl FastWritable for Text {
    fn write_into(&self, dest: &mut dyn Write, values: &dyn Values) -> askama::Result<()> {
        Ok(self.write(Reader::of(values).language, dest)?)
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, english: &str) -> bool {
        self.in_language(Language::English) == english
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, english: &&str) -> bool {
        self == *english
    }
}

/// A message that holds markup of ours. What is put into it is escaped like everything else.
#[derive(Debug, Clone)]
pub struct Rich(Text);

impl Rich {
    pub(crate) fn new(english: &'static str) -> Self {
        Self(Text::message(english))
    }

    /// Puts the next thing into it.
    #[must_use]
    pub fn with(self, value: impl ToText) -> Self {
        Self(self.0.with(value))
    }

    fn write(&self, language: Language, out: &mut dyn Write) -> fmt::Result {
        let Kind::Message { english, with } = &self.0.0 else { return Ok(()) };
        pieces(translated(language, english), with.len(), &mut |piece| match piece {
            Piece::Words(markup) => out.write_str(markup),
            Piece::Place(at) => {
                let text = with[at].in_language(language);
                askama::filters::Escaper::write_escaped_str(&askama::filters::Html, &mut *out, &text)
            }
        })
    }
}

impl fmt::Display for Rich {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(Language::English, f)
    }
}

impl FastWritable for Rich {
    fn write_into(&self, dest: &mut dyn Write, values: &dyn Values) -> askama::Result<()> {
        Ok(self.write(Reader::of(values).language, dest)?)
    }
}

impl HtmlSafe for Rich {}

/// What can stand in a message or on a page.
pub trait ToText {
    /// It as a text. Plain words stay as they are.
    fn to_text(&self) -> Text;
}

impl ToText for Text {
    fn to_text(&self) -> Text {
        self.clone()
    }
}

impl ToText for message::Message {
    fn to_text(&self) -> Text {
        let Some((english, with)) = self.ours() else { return Text::plain(self.to_string()) };
        with.iter().fold(Text::message(english), |text, part| text.with(part))
    }
}

impl ToText for Part {
    fn to_text(&self) -> Text {
        match self {
            Self::Text(text) => Text::plain(text.clone()),
            Self::Count(count) => Text::plain(thousands(*count)),
            Self::Length(length) => Text::length(*length),
            Self::Message(message) => message.to_text(),
        }
    }
}

/// What was found, and what to do about it.
impl ToText for Finding {
    fn to_text(&self) -> Text {
        Text::joined("; ", vec![self.message().to_text(), self.remedy().to_text()])
    }
}

impl<T: ToText + ?Sized> ToText for &T {
    fn to_text(&self) -> Text {
        (**self).to_text()
    }
}

macro_rules! plain {
    ($($kind:ty),*) => {
        $(impl ToText for $kind {
            fn to_text(&self) -> Text {
                Text::plain(self.to_string())
            }
        })*
    };
}

plain!(str, String, Cow<'_, str>, char, u16, u32, u64, usize, i8, i64);
plain!(domain::ids::DagName, domain::ids::RunId, domain::ids::StepName, jiff::civil::Date);

/// A text of the catalogue, with what stands in its places: `say!("{} of {} symbols", few, all)`.
macro_rules! say {
    ($english:literal $(, $value:expr)* $(,)?) => {
        $crate::locale::Text::message($english)$(.with(&$value))*
    };
}
pub(crate) use say;
