//! Who reads: in which tongue, and below which path of the address.
//!
//! Views make [`Text`]s; they are put into a tongue only when a template is rendered for a [`Reader`], so views stay functions of a snapshot
//! alone. In a template `{{ "Dead letters"|t }}` is a text, `("{} of {}"|t).with(a).with(b)` one with something in it, `|rich` one that holds
//! markup, and `{{ "/dags"|link }}` an address below the base path. In Rust it is [`say!`](crate::web::reader::say). English is the key of
//! the catalogue (`assets/ko.json`); what is not in it is shown in English.
//!
//! `front` stands before everything else: it takes the base path off a request, and finds out the tongue.

mod catalogue;
pub(crate) mod filters;
pub(super) mod front;
pub(super) mod language;
pub(super) mod refusals;
#[cfg(test)]
mod tests;
mod text;
pub mod words;

use std::any::Any;

pub use catalogue::Tongue;
pub(crate) use text::say;
pub use text::{Rich, Text, ToText};

pub use crate::config::BasePath;

/// Who reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Reader {
    /// The language of the pages.
    pub tongue: Tongue,
    /// What every address of the site begins with.
    pub base: BasePath,
}

/// The name under which templates find their reader.
const NAME: &str = "reader";

impl Reader {
    /// The reader a template is rendered for. Without one it is English, at the root.
    pub(crate) fn of(values: &dyn askama::Values) -> Self {
        askama::get_value::<Self>(values, NAME).cloned().unwrap_or_default()
    }

    /// A text as this reader has it.
    pub fn read(&self, text: &Text) -> String {
        text.in_tongue(self.tongue)
    }
}

impl askama::Values for Reader {
    fn get_value<'a>(&'a self, key: &str) -> Option<&'a dyn Any> {
        (key == NAME).then_some(self as &dyn Any)
    }
}
