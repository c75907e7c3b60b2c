//! The head of a page of the stores' figures: what it is about, when it was read, and what does not answer.

use askama::Template;
use jiff::Timestamp;

use super::format::Zone;
use super::{Fragment, Pair};
use crate::web::data::kept::{Reading, Trouble};

/// The head.
#[derive(Debug, Template)]
#[template(path = "reading.html")]
pub(crate) struct Head {
    title: String,
    /// Ways back: words and where they lead.
    back: Vec<Pair>,
    /// When it was read.
    at: Option<String>,
    /// Where the same page is.
    address: String,
    trouble: Option<String>,
}

/// What is wrong, since when, and what that means for the page.
pub(crate) fn in_words(trouble: &Trouble, known: bool, zone: &Zone) -> String {
    let rest = if known { "What is shown was read before." } else { "Nothing was read yet; reload the page to try again." };
    format!("Since {}: {}. {rest}", zone.full(trouble.since), trouble.text)
}

/// The head of a page.
pub(crate) fn head<T>(title: &str, back: Vec<Pair>, address: String, reading: &Reading<T>, zone: &Zone) -> Fragment {
    let at: Option<Timestamp> = reading.value.as_ref().map(|(at, _)| *at);
    Fragment::new(
        "reading",
        &Head {
            title: title.to_owned(),
            back,
            at: at.map(|at| zone.full(at)),
            address,
            trouble: reading.trouble.as_ref().map(|t| in_words(t, at.is_some(), zone)),
        },
    )
}
