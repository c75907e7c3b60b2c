//! The pages for people: a room for each, with its handlers, what it reads, how it is drawn, and its
//! templates.

pub(crate) mod account;
pub(crate) mod alerts;
pub(crate) mod assets;
pub(crate) mod audit;
pub(crate) mod dag;
pub(crate) mod dags;
pub(crate) mod dead_letters;
pub(crate) mod events;
pub(crate) mod language;
pub(crate) mod market;
pub(crate) mod output;
pub(crate) mod run;
pub(crate) mod today;
pub(crate) mod topics;
