//! Floor 0: the words of the house as types and pure arithmetic.
//!
//! Nothing here touches tokio, files, the clock or randomness: time is always an argument.

pub mod advice;
pub mod alert;
pub mod calendar;
pub mod cron;
pub mod dag;
pub mod event;
pub mod exact;
pub mod finding;
pub mod format;
pub mod freshness;
pub mod gaps;
pub mod hop;
pub mod id_counts;
pub mod ids;
pub mod message;
pub mod parameters;
pub mod program;
pub mod recent;
pub mod results;
pub mod retry;
pub mod run;
pub mod schedule;
pub mod trade;
pub mod units;
pub mod vwap;
