//! Who reads: in which tongue, and below which path of the address.
//!
//! Views make [`Text`]s; they are put into a tongue only when a template is rendered for a [`Reader`], so views stay functions of a snapshot
//! alone. In a template `{{ "Dead letters"|t }}` is a text, `("{} of {}"|t).with(a).with(b)` one with something in it, `|rich` one that holds
//! markup, and `{{ "/dags"|link }}` an address below the base path. In Rust it is [`say!`](crate::reader::say). English is the key of
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
mod who;
pub mod words;

pub use catalogue::Tongue;
pub(crate) use text::say;
pub use text::{Rich, Text, ToText};
pub use who::Reader;

pub use config::BasePath;
