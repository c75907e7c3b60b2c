//! The head of a page of the stores' figures: what it is about, when it was read, and what does not answer.

use askama::Template;
use jiff::Timestamp;

use super::format::Zone;
use super::{Fragment, Pair};
use crate::cache::{Reading, Trouble};
use crate::locale::{Reader, Text, ToText, filters, say};

/// The head.
#[derive(Debug, Template)]
#[template(path = "view/reading.html")]
pub(crate) struct Head {
    title: Text,
    /// Ways back: words and where they lead.
    back: Vec<Pair>,
    /// When it was read.
    at: Option<String>,
    /// Where the same page is.
    address: String,
    trouble: Option<Text>,
}

/// What is wrong, since when, and what that means for the page.
pub(crate) fn in_words(trouble: &Trouble, known: bool, zone: &Zone) -> Text {
    let rest = if known {
        say!("What is shown was read before.")
    } else {
        say!("Nothing was read yet; reload the page to try again.")
    };
    let said = Text::joined("; ", vec![trouble.said.why.to_text(), trouble.said.remedy.to_text()]);
    Text::joined(" ", vec![say!("Since {}: {}.", zone.full(trouble.since), said), rest])
}

/// The head of a page.
pub(crate) fn head<T>(
    title: &Text,
    back: Vec<Pair>,
    address: String,
    reading: &Reading<T>,
    zone: &Zone,
    reader: &Reader,
) -> Fragment {
    let at: Option<Timestamp> = reading.value.as_ref().map(|(at, _)| *at);
    Fragment::new(
        "reading",
        &Head {
            title: title.clone(),
            back,
            at: at.map(|at| zone.full(at)),
            address,
            trouble: reading.trouble.as_ref().map(|t| in_words(t, at.is_some(), zone)),
        },
        reader,
    )
}
