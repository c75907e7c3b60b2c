//! The languages, and the catalogue from English to the others.

use std::collections::HashMap;
use std::sync::LazyLock;

/// English to Korean, a text each.
pub(crate) const KOREAN: &str = include_str!("../assets/ko.json");

/// A language of the pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Language {
    /// English, in which the pages are written.
    #[default]
    English,
    /// Korean.
    Korean,
}

impl Language {
    /// Those there are.
    pub const ALL: [Self; 2] = [Self::English, Self::Korean];

    /// Its code in HTML and HTTP (ISO 639-1).
    pub fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Korean => "ko",
        }
    }

    /// Its name, in itself.
    pub fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Korean => "한국어",
        }
    }

    /// The one a page can be read in besides this one.
    pub fn other(self) -> Self {
        match self {
            Self::English => Self::Korean,
            Self::Korean => Self::English,
        }
    }

    /// The language of a code; a region behind it does not matter (`ko-KR`).
    pub fn of(code: &str) -> Option<Self> {
        let main = code.trim().split('-').next().unwrap_or_default();
        Self::ALL.into_iter().find(|language| main.eq_ignore_ascii_case(language.code()))
    }

    /// The one that an `Accept-Language` header likes best (RFC 9110, 12.5.4); of equal ones the first.
    pub fn accepted(header: &str) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for wish in header.split(',') {
            let (range, weight) = wish.split_once(';').unwrap_or((wish, ""));
            let weight = match weight.trim().strip_prefix("q=") {
                Some(text) => text.trim().parse::<f32>().unwrap_or(0.0),
                None => 1.0,
            };
            // `*` is any of them: the one the pages are written in.
            let language = if range.trim() == "*" { Some(Self::English) } else { Self::of(range) };
            let Some(language) = language.filter(|_| weight > 0.0) else { continue };
            if best.is_none_or(|(before, _)| weight > before) {
                best = Some((weight, language));
            }
        }
        best.map(|(_, language)| language)
    }
}

static CATALOGUE: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    serde_json::from_str(KOREAN).unwrap_or_else(|error| {
        // A test reads it; pages without it are English.
        tracing::error!(%error, "the Korean catalogue cannot be read");
        HashMap::new()
    })
});

/// An English text in a language; itself where the catalogue does not have it. What follows `##` tells equal
/// English texts apart and is not shown.
pub(crate) fn translated(language: Language, english: &str) -> &str {
    let own = match language {
        Language::English => None,
        Language::Korean => CATALOGUE.get(english).map(String::as_str),
    };
    own.unwrap_or_else(|| english.split("##").next().unwrap_or_default())
}
