//! Filters of templates.

use std::fmt::Display;

use askama::Values;

use super::{Reader, Rich, Text};

/// `"Dead letters"|t`: a text of the catalogue.
#[askama::filter_fn]
pub(crate) fn t(english: &'static str, _: &dyn Values) -> askama::Result<Text> {
    Ok(Text::message(english))
}

/// `"See <code>openbell dlq</code>"|rich`: a text of the catalogue with markup of ours.
#[askama::filter_fn]
pub(crate) fn rich(english: &'static str, _: &dyn Values) -> askama::Result<Rich> {
    Ok(Rich::new(english))
}

/// `"/dags"|link`: an address of this site below the base path. What begins with anything but a slash stays
/// as it is.
#[askama::filter_fn]
pub(crate) fn link<T: Display>(path: T, values: &dyn Values) -> askama::Result<String> {
    Ok(Reader::of(values).base.join(&path.to_string()))
}
