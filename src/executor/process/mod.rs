//! Attempts as local processes.
