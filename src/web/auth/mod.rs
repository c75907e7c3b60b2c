//! Who may come in, and what they may do.
//!
//! * The [`accounts`] of people and programs are kept in a file, which the site reads again when it changed.
//!   While
//!   there is none, nobody has to log in, and only loopback addresses are served.
//! * `door` stands in front of every handler. What a request needs (`need`) does not depend on the handler:
//!   what is not named there needs a login,
//!   and what is not a question needs an operator. Forms must carry the token of the session they came from.
//! * `sessions`, `throttle`, `need` and `visitor` decide, as functions of state and time; `access` holds the
//!   state.

pub(crate) mod access;
pub(crate) mod cookie;
pub(crate) mod door;
pub(crate) mod need;
mod sessions;
pub(crate) mod throttle;
mod trail;
mod visitor;

#[cfg(test)]
mod tests;

pub use access::Settings;

pub(crate) use access::Access;
pub(crate) use door::{Door, door};
pub(crate) use need::on_site;
pub(crate) use visitor::Visitor;
