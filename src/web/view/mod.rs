//! What the pages show, as pure functions of a [`Snapshot`](daemon::Snapshot): no files, no clock, no
//! network.
//!
//! What they say is [`Text`]; it is put into the [`Reader`]'s language when a fragment is rendered, and only
//! then.
//!
//! A live page is a list of [`Fragment`]s. The first answer holds all of them; afterwards only those whose
//! HTML changed are sent and swapped in. Every dynamic text passes askama's escaping on its way into a
//! fragment.

pub(crate) mod axis;
pub(crate) mod dates;
pub(crate) mod findings;
pub mod format;
pub(crate) mod problems;
pub(crate) mod reading;
pub(crate) mod states;

use std::fmt;

use askama::Template;

use crate::locale::{Reader, Text, ToText};

/// HTML that was made by a template and is not escaped again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Html(String);

impl Html {
    /// Renders a template for a reader.
    pub fn of(template: &impl Template, reader: &Reader) -> Self {
        // A template writes into a String, which cannot fail; a failing Display would be a bug that the page
        // then shows.
        let text = template.render_with_values(reader).unwrap_or_else(|error| {
            tracing::error!(%error, "a page template failed");
            "<p>This part of the page could not be drawn; the daemon's log says why.</p>".to_owned()
        });
        // A part with nothing in it takes no room on the page.
        Self(text.trim().to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl askama::filters::HtmlSafe for Html {}

/// A part of a live page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The `id` of the element it fills, without the `live-` prefix.
    pub id: &'static str,
    /// Its content.
    pub html: Html,
}

impl Fragment {
    /// Renders a fragment for a reader.
    pub fn new(id: &'static str, template: &impl Template, reader: &Reader) -> Self {
        Self { id, html: Html::of(template, reader) }
    }
}

/// A label and a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// What it is.
    pub label: Text,
    /// How much it is.
    pub value: Text,
}

impl Pair {
    /// Puts a label and a value together. Plain words are the same in all languages; others are made with
    /// `say!`.
    pub fn new(label: impl ToText, value: impl ToText) -> Self {
        Self { label: label.to_text(), value: value.to_text() }
    }
}
