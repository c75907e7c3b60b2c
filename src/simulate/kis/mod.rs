//! Korea Investment & Securities: the REST side that gives out keys, and the real-time WebSocket.
//!
//! | file | what it decides |
//! |---|---|
//! | [`market`] | the exchange's own ledger of a day, from a seed ([`grid`], [`profile`], [`symbols`] help) |
//! | [`ledger`] | a trade, and the wire fields it is rendered to |
//! | [`script`], [`mangle`] | what goes wrong, and when; frames that are wrong |
//! | `protocol`, `credentials` | what a client may say, and what it is answered (WebSocket, REST) |
//! | `exchange` | who is connected and registered: the shared state behind the doors |
//! | `pacing`, [`replay`] | what is sent when: the ledger on the clock, or recorded frames |
//! | `session` | one WebSocket connection |
//! | [`server`] | the whole of it |
//! | `arguments` | `openbell simulate kis`, and the demo's day |

pub mod grid;
pub mod ledger;
pub mod mangle;
pub mod market;
pub mod profile;
pub mod replay;
pub mod script;
pub mod server;
pub mod symbols;

mod arguments;
mod credentials;
mod exchange;
mod pacing;
mod protocol;
mod session;

pub use arguments::Kis;
pub use ledger::LedgerTrade;
pub use mangle::Mangling;
pub use market::{Market, TARGET_TRADES, regular_session};
pub use replay::Replay;
pub use script::{Fault, Incident, Script};
pub use server::{Simulator, SimulatorOptions};
pub use symbols::KRX41;

pub use crate::event_log::Why;

/// What it can do.
pub type Event = crate::event_log::Event<Fault>;

/// One thing that it did.
pub type SimEvent = crate::event_log::SimEvent<Fault>;
