//! Who may come in, and what they may do.
//!
//! * [`accounts`](Accounts) are users and tokens of programs, kept in a file by `openbell user` and `openbell token`; the site reads it again
//!   when it changed. While there is none, nobody has to log in, and only loopback addresses are served.
//! * `door` stands in front of every handler. What a request needs (`need`) does not depend on the handler: what is not named there needs a login,
//!   and what is not a question needs an operator. Forms must carry the token of the session they came from.
//! * `sessions`, `throttle`, `need`, `visitor` and `accounts` decide, as functions of state and time; `access` holds the state; `store`
//!   reads and writes the file.

pub(crate) mod access;
mod accounts;
mod caller;
pub(crate) mod cookie;
pub(crate) mod door;
pub(crate) mod need;
mod password;
pub(crate) mod secret;
mod sessions;
mod store;
pub(crate) mod throttle;
mod trail;
mod visitor;

#[cfg(test)]
mod tests;

pub use access::Settings;
pub use accounts::{Accounts, Role, Token, User};
pub use password::{PasswordError, hash as hash_password};
pub use secret::{api_token, digest as token_digest, token as random_token};
pub use store::{edit, last_used, read};

pub(crate) use access::Access;
pub(crate) use caller::{Caller, Who};
pub(crate) use door::door;
pub(crate) use need::on_site;
pub(crate) use secret::equal;
pub(crate) use visitor::Visitor;
