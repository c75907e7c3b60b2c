//! Floor 4: the command line. One file per command; this one only names them.

mod about;
mod alerts;
mod backfill;
mod backup;
mod client;
mod completions;
mod dag;
mod demo;
mod dlq;
mod doctor;
mod exit;
mod keeper;
mod kis;
mod man;
mod reconcile;
mod run;
mod serve;
mod shim;
mod simulate;
mod step;
mod table;
mod target;
mod token;
mod topics;
mod up;
mod user;

pub use exit::{Exit, Failure};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Runs a market-data day: scheduler, collectors, sinks, freshness checks and reconciliation in one binary.
#[derive(Debug, Parser)]
#[command(name = "openbell", version, about, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play a whole trading day against the exchange simulator and prove that it reconciles
    Demo(demo::Arguments),
    /// Run the daemon: scheduler, workers, status page
    Up(up::Arguments),
    /// Stop the daemon; with --drain also every running step
    Down(up::DownArguments),
    /// Say what is missing on this machine, with the remedy for each
    Doctor(doctor::Arguments),
    /// Look at DAG files
    #[command(subcommand)]
    Dag(dag::Command),
    /// Look at runs and act on them
    #[command(subcommand)]
    Run(run::Command),
    /// Look at topics, groups and records
    #[command(subcommand)]
    Topics(topics::Command),
    /// Look at alerts and their mails
    #[command(subcommand)]
    Alerts(alerts::Command),
    /// Look at and replay dead letters
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// Compare a day's trades in all stores once more, id by id
    Reconcile(reconcile::Arguments),
    /// Copy what cannot be made again into one file, or check such a file
    Backup(backup::Arguments),
    /// Make a data folder out of a backup
    Restore(backup::RestoreArguments),
    /// Say who may log in to the page
    #[command(subcommand)]
    User(user::Command),
    /// Make tokens for programs that use the API
    #[command(subcommand)]
    Token(token::Command),
    /// Run an exchange simulator
    #[command(subcommand)]
    Simulate(simulate::Command),
    /// Tools for the KIS feed
    #[command(subcommand)]
    Kis(kis::Command),
    /// Print what a shell needs to complete openbell's commands
    Completions(completions::Arguments),
    /// Print the manual page, or write those of all commands
    Man(man::Arguments),
    /// Run one step attempt from its spec.json (what processes and containers call)
    #[command(hide = true)]
    Step(step::Arguments),
    /// Stand between the daemon and a process step (internal)
    #[command(hide = true)]
    Shim(shim::Arguments),
    /// Hold the deadline of a step in a container (internal)
    #[command(hide = true)]
    Keep(keeper::Arguments),
}

/// The command line as it is defined, with the help that all commands share.
fn command() -> clap::Command {
    about::complete(Arguments::command())
}

/// Parses the command line of this process; one that is wrong ends it.
pub fn parse() -> Arguments {
    let mut matches = command().get_matches();
    Arguments::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
}

/// Carries out a command line; the exit code says how it went.
pub fn main(arguments: Arguments) -> std::process::ExitCode {
    let result = match arguments.command {
        Command::Demo(a) => demo::main(a),
        Command::Up(a) => up::main(a),
        Command::Down(a) => up::down(a),
        Command::Doctor(a) => doctor::main(a),
        Command::Dag(a) => dag::main(a),
        Command::Run(a) => run::main(a),
        Command::Topics(a) => topics::main(a),
        Command::Alerts(a) => alerts::main(a),
        Command::Dlq(a) => dlq::main(a),
        Command::Reconcile(a) => reconcile::main(a),
        Command::Backup(a) => backup::main(a),
        Command::Restore(a) => backup::restore_main(a),
        Command::User(a) => user::main(a),
        Command::Token(a) => token::main(a),
        Command::Simulate(a) => simulate::main(a),
        Command::Kis(a) => kis::main(a),
        Command::Completions(a) => completions::main(a),
        Command::Man(a) => man::main(a),
        Command::Step(a) => step::main(a),
        Command::Shim(a) => shim::main(a),
        Command::Keep(a) => keeper::main(a),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit.into()
        }
    }
}
