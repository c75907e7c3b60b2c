//! What the simulator did: for a test or a demo that must tell what was sent from what arrived.

use jiff::Timestamp;

use super::script::Fault;

/// One thing that the simulator did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimEvent {
    /// When, on its clock.
    pub at: Timestamp,
    /// What.
    pub what: Happening,
}

/// What the simulator can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A session proved its approval key and took the slot of its app key.
    SessionUp {
        /// Number of the connection, rising.
        session: u64,
    },
    /// A session that was up is gone.
    SessionDown {
        /// Number of the connection.
        session: u64,
        /// Why.
        why: Why,
    },
    /// A session registered; from here on it gets data.
    Registered {
        /// Number of the connection.
        session: u64,
        /// Message type.
        tr_id: String,
        /// Instrument.
        symbol: String,
    },
    /// A session gave a registration back.
    Unregistered {
        /// Number of the connection.
        session: u64,
        /// Message type.
        tr_id: String,
        /// Instrument.
        symbol: String,
    },
    /// A message was answered with an error code.
    Refused {
        /// Number of the connection.
        session: u64,
        /// For example `OPSP8996`.
        code: String,
    },
    /// A handshake was answered with an HTTP status.
    HandshakeRefused {
        /// The status.
        status: u16,
    },
    /// A fault of the script was carried out (a malformed frame has its own line).
    Incident {
        /// Which.
        fault: Fault,
    },
    /// A malformed frame went to every session that was up.
    MalformedSent {
        /// Index in [`Script::malformed`](super::Script::malformed).
        index: usize,
    },
    /// A malformed frame was due and nobody was there to get it; it is not sent later.
    MalformedSkipped {
        /// Index in [`Script::malformed`](super::Script::malformed).
        index: usize,
    },
    /// The recorded frames were sent.
    Replayed {
        /// How many.
        frames: usize,
    },
}

/// Why a session went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The client closed it with a close frame; its slot is free at once.
    ClientClosed,
    /// The client's connection ended without one; the slot stays taken for a while.
    ClientLost,
    /// A disconnect of the script.
    Disconnect,
    /// A half-open connection of the script came to its end.
    HalfOpen,
    /// The client answered no PINGPONG.
    Silent,
    /// The client did not read fast enough.
    Slow,
    /// A refusal that ends the session.
    Refused,
    /// The simulator was stopped.
    Stopped,
}
