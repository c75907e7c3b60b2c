//! Users and tokens of programs, as `openbell user` and `openbell token` write them and the site reads them.
//! What somebody may do with one is decided in front of the site's handlers.

pub mod password;
pub mod secret;
pub mod store;
mod users;

pub use users::{Accounts, Role, Token, User};
