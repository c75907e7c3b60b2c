//! Stub: filled by its owner.

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Carries out the command.
pub fn main(_arguments: Arguments) -> super::exit::Result {
    unimplemented!()
}
