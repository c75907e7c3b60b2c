//! The openbell binary: parses the command line and hands over.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    openbell::cli::main(openbell::cli::Arguments::parse())
}
