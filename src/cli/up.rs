//! Stub: filled by its owner.

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Carries out the command.
pub fn main(_arguments: Arguments) -> super::exit::Result {
    unimplemented!()
}

/// Arguments of `down`.
#[derive(Debug, clap::Args)]
pub struct DownArguments {}

/// Stops the daemon.
pub fn down(_arguments: DownArguments) -> super::exit::Result {
    unimplemented!()
}
