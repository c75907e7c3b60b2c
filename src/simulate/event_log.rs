//! What a simulator did: for a test or a demo that must tell what was sent from what arrived.

use jiff::Timestamp;

/// A journal stops here: a client that registers and unregisters for ever must not fill the memory.
const LONGEST: usize = 200_000;

/// One thing that a simulator did; `F` is the exchange's faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimEvent<F> {
    /// When, on its clock.
    pub at: Timestamp,
    /// What.
    pub what: Event<F>,
}

/// What a simulator can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<F> {
    /// A session has been let in.
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
        channel: String,
        /// Instrument.
        symbol: String,
    },
    /// A session gave a registration back.
    Unregistered {
        /// Number of the connection.
        session: u64,
        /// Message type.
        channel: String,
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
    /// A call over HTTP was answered with another status than 200.
    CallRefused {
        /// The status.
        status: u16,
    },
    /// A handshake was answered with an HTTP status.
    HandshakeRefused {
        /// The status.
        status: u16,
    },
    /// A fault of the script was carried out (a malformed frame has its own line).
    Incident {
        /// Which.
        fault: F,
    },
    /// A malformed frame went to every session that was up.
    MalformedSent {
        /// Index in [`Script::malformed_frames`](crate::script::Script::malformed_frames).
        index: usize,
    },
    /// A malformed frame was due and nobody was there to get it; it is not sent later.
    MalformedSkipped {
        /// Index in [`Script::malformed_frames`](crate::script::Script::malformed_frames).
        index: usize,
    },
    /// Recorded frames were sent.
    Replayed {
        /// How many.
        frames: usize,
    },
}

/// Why a session went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The client closed it with a close frame.
    ClientClosed,
    /// The client's connection ended without one.
    ClientLost,
    /// A disconnect of the script.
    Disconnect,
    /// A half-open connection of the script came to its end.
    HalfOpen,
    /// The client gave no sign of life for too long.
    Silent,
    /// The client did not read fast enough.
    Slow,
    /// A refusal that ends the session.
    Refused,
    /// The simulator was stopped.
    Stopped,
}

/// The journal as it is written.
#[derive(Debug)]
pub(crate) struct EventLog<F>(Vec<SimEvent<F>>);

impl<F: Clone> EventLog<F> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn note(&mut self, at: Timestamp, what: Event<F>) {
        if self.0.len() < LONGEST {
            self.0.push(SimEvent { at, what });
        }
    }

    pub(crate) fn events(&self) -> Vec<SimEvent<F>> {
        self.0.clone()
    }
}
