//! What goes on telling: live pages for many viewers, and changes for programs.
//!
//! A page is drawn once for all who look at the same ([`Key`]), when a snapshot is published and only while
//! somebody looks. Each of its parts knows in which version of the page it last changed, so whoever stands at
//! an older version, after a lost connection too, gets what is new since then and nothing else; the bytes of
//! that are made once and shared. Nobody waits for anybody: a viewer asks for what is new when its connection
//! takes more, and what it was too slow for it never sees.

mod changes;
mod channel;
mod feed;
mod key;
mod places;
mod state;
mod stream;
mod subscriber;

#[cfg(test)]
mod tests;

pub(crate) use channel::Channels;
pub(crate) use feed::{Feed, Reader};
pub(crate) use key::{Key, Watched};
pub(crate) use places::{Place, Places};
pub(crate) use stream::{BEAT, Viewer, answer, last_id};
pub(crate) use subscriber::Subscriber;
