//! Stub: filled by its owner.

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {}

/// Carries out the command.
pub fn main(_command: Command) -> super::exit::Result {
    unimplemented!()
}
