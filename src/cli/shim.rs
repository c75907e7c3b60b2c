//! `openbell shim`: the door to [`executor::process::shim`](executor::process::shim), for the process
//! executor only.

use std::path::PathBuf;

use super::exit::{Exit, Failure};
use executor::process::shim;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folder of the attempt
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// Virtual clock to follow; without one, the system's clock
    #[arg(long, env = "OPENBELL_CLOCK", value_name = "FILE")]
    clock: Option<PathBuf>,
}

/// Carries out the command.
pub fn main(arguments: Arguments) -> super::exit::Result {
    let Arguments { folder, clock } = arguments;
    let failed = |error| Failure::unusable(format!("attempt in {}: {error}", folder.display()));
    shim::run(&folder, clock.as_deref()).map(|()| Exit::Fine).map_err(failed)
}
