//! The openbell binary: parses the command line and hands over.

use std::process::ExitCode;

fn main() -> ExitCode {
    openbell::cli::main(openbell::cli::parse())
}
