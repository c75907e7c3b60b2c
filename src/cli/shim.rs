//! `openbell shim`: stands between the daemon and a process step. Internal.

use std::path::PathBuf;

use super::exit::{Exit, Failure, Result};
use crate::executor::process::shim;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folder of the attempt, with its spec.json
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
}

/// Carries out the command.
pub fn main(arguments: Arguments) -> Result {
    shim::run(&arguments.folder).map_err(|e| Failure::unusable(format!("{}: {e}", arguments.folder.display())))?;
    Ok(Exit::Fine)
}
