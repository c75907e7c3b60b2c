//! Who reads: in which language, and below which path of the address.
//!
//! Views make [`Text`]s; they are put into a language only when a template is rendered for a [`Reader`], so
//! views stay functions of a snapshot alone. In a template `{{ "Dead letters"|t }}` is a text, `("{} of
//! {}"|t).with(a).with(b)` one with something in it, `|rich` one that holds markup, and `{{ "/dags"|link }}`
//! an address below the base path. In Rust it is [`say!`](crate::locale::say). English is the key of the
//! catalogue (`assets/ko.json`); what is not in it is shown in English.
//!
//! `http::reader` finds out the language of a request, and takes the base path off it.

mod catalogue;
pub(crate) mod choice;
pub(crate) mod filters;
mod reader;
#[cfg(test)]
mod tests;
mod text;
pub mod words;

pub use catalogue::Language;
pub use reader::Reader;
pub(crate) use text::say;
pub use text::{Rich, Text, ToText};

pub use config::BasePath;
