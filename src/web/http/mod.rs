//! What every request goes through, and what every answer is made of.

pub(crate) mod body;
pub(crate) mod caller;
pub(crate) mod command;
pub(crate) mod connections;
pub(crate) mod form;
pub(crate) mod guard;
pub(crate) mod idempotency;
pub(crate) mod lookup;
pub(crate) mod page;
pub(crate) mod parts;
pub(crate) mod problem;
pub(crate) mod query;
pub(crate) mod reader;
pub(crate) mod reading;
pub(crate) mod reply;

pub(crate) use reader::reader;
