//! Floor 1: the feeds' codecs (bytes ↔ records and control messages) and their session protocols as pure state machines.

pub mod kis;
