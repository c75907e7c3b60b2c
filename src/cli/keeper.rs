//! `openbell keep`: the door to [`executor::keeper`](executor::keeper), for the executors of containers only.

use std::path::PathBuf;

use super::exit::{Exit, Failure};
use executor::keeper;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folder of the attempt
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// Address of the engine that its container is on
    #[arg(long, value_name = "ADDRESS")]
    host: String,
    /// Virtual clock to follow; without one, the system's clock
    #[arg(long, env = "OPENBELL_CLOCK", value_name = "FILE")]
    clock: Option<PathBuf>,
}

/// Carries out the command.
pub fn main(arguments: Arguments) -> super::exit::Result {
    let Arguments { folder, host, clock } = arguments;
    let failed = |error| Failure::unusable(format!("attempt in {}: {error}", folder.display()));
    keeper::run(&folder, &host, clock.as_deref()).map(|()| Exit::Fine).map_err(failed)
}
