//! Floor 3: exchange simulators with a seed, a virtual clock and faults on demand.
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
//! | [`server`] | the port: HTTP and WebSocket |
//!
//! Everything that is decided is decided by the seed, the script and the clock, so that a test can compute what a client must
//! have received. In one session delivery is in ledger order and without holes for the symbols that are registered.

pub mod grid;
pub mod journal;
pub mod ledger;
pub mod mangle;
pub mod market;
pub mod profile;
pub mod replay;
pub mod script;
pub mod server;
pub mod symbols;

mod credentials;
mod exchange;
mod pacing;
mod protocol;
mod session;

pub use journal::{Happening, SimEvent, Why};
pub use ledger::LedgerTrade;
pub use mangle::Mangling;
pub use market::{Market, TARGET_TRADES, regular_session};
pub use replay::Replay;
pub use script::{Fault, Incident, Script};
pub use server::{Simulator, SimulatorOptions};
pub use symbols::KRX41;
