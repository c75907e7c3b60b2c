//! Upbit: the public WebSocket, and the quotation part of the REST side.
//!
//! | file | what it decides |
//! |---|---|
//! | [`market`], [`markets`] | the exchange's own ledger of a day, from a seed |
//! | [`ledger`] | a trade, and the messages it is rendered to |
//! | [`script`], [`mangle`] | what goes wrong, and when; messages that are wrong |
//! | `protocol` | what a client may say, and what it is answered |
//! | `rest` | candles, markets, past trades, and the budget of calls |
//! | `exchange` | who is connected and subscribed: the shared state behind the doors |
//! | `pacing`, `session` | what is sent when; one WebSocket connection |
//! | [`server`] | the whole of it |
//! | `arguments` | `openbell simulate upbit`, and the demo's day |

pub mod ledger;
pub mod mangle;
pub mod market;
pub mod markets;
pub mod script;
pub mod server;

mod arguments;
mod exchange;
mod pacing;
mod protocol;
mod rest;
mod session;

pub use arguments::Upbit;
pub use ledger::LedgerTrade;
pub use mangle::Mangling;
pub use market::{Market, TARGET_TRADES};
pub use script::{Fault, Script};
pub use server::{Simulator, SimulatorOptions};

/// What it can do.
pub type Event = crate::event_log::Event<Fault>;

/// One thing that it did.
pub type SimEvent = crate::event_log::SimEvent<Fault>;
