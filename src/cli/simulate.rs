//! `openbell simulate`: an exchange to connect to.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;

use clap::{ArgMatches, FromArgMatches, Subcommand};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::{Exit, Failure, Result};
use simulate::arguments::ArgumentError;
use simulate::{EXCHANGES, Exchange, Running};

/// The subcommands: one for each exchange of the table.
#[derive(Debug)]
pub struct Command {
    exchange: &'static dyn Exchange,
    line: ArgMatches,
}

impl FromArgMatches for Command {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let chosen = matches.subcommand().and_then(|(name, line)| Some((simulate::find(name)?, line)));
        let (exchange, line) =
            chosen.ok_or_else(|| clap::Error::new(clap::error::ErrorKind::MissingSubcommand))?;
        Ok(Self { exchange, line: line.clone() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Subcommand for Command {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        let command = command.subcommand_required(true).arg_required_else_help(true);
        EXCHANGES.iter().fold(command, |command, exchange| command.subcommand(exchange.command()))
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        simulate::find(name).is_some()
    }
}

impl From<ArgumentError> for Failure {
    fn from(error: ArgumentError) -> Self {
        match error {
            ArgumentError::Usage(why) => Self::usage(why),
            ArgumentError::Unusable(why) => Self::unusable(why),
        }
    }
}

/// Carries out the command.
pub fn main(command: Command) -> Result {
    // Fails when something else in this process has set up its output already, which then is used.
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .try_init()
        .unwrap_or_default();
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::unusable(format!("cannot start worker threads: {error}")))?;
    runtime.block_on(run(&command))
}

async fn run(command: &Command) -> Result {
    let planned = command.exchange.planned(&command.line)?;
    // Before the port is announced, so that a stop is never missed.
    let signals = signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
    let (mut interrupt, mut terminate) =
        signals.map_err(|error| Failure::unusable(format!("cannot listen for signals: {error}")))?;
    let simulator = planned.start.await.map_err(|error| unusable_address(planned.listen, &error))?;
    if let Some(file) = planned.ledger {
        write_ledger(&file, simulator.as_ref()).map_err(|error| {
            Failure::unusable(format!("cannot write the ledger to {}: {error}", file.display()))
        })?;
    }
    let line = if planned.json {
        announced(simulator.as_ref(), planned.seed).to_string()
    } else {
        let words =
            |key: &str| if key == "rest" { "REST".to_owned() } else { key.replace("websocket", "WebSocket") };
        let places = simulator
            .addresses()
            .iter()
            .map(|(key, url)| format!("{} {url}", words(key)))
            .collect::<Vec<_>>();
        format!("{} simulator {}: {}", command.exchange.title(), simulator.plays(), places.join(" "))
    };
    let mut out = io::stdout();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| Failure::unusable(format!("cannot print: {error}")))?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    simulator.stop().await;
    Ok(Exit::Fine)
}

/// What programs read: the addresses, and the day.
fn announced(simulator: &dyn Running, seed: u64) -> serde_json::Value {
    let mut announced = json!({"date": simulator.date(), "seed": seed, "trades": simulator.traded().len()});
    if let Some(fields) = announced.as_object_mut() {
        fields.extend(simulator.addresses().into_iter().map(|(key, url)| (key.to_owned(), url.into())));
    }
    announced
}

fn unusable_address(listen: SocketAddr, error: &io::Error) -> Failure {
    let (host, port) = (listen.ip(), listen.port());
    Failure::unusable(match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "port {port} on {host} is taken; stop what listens there, or pass --port 0 for a free one"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("port {port} on {host} is not allowed for this user; take one above 1023")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("{host} is not an address of this machine; pass another --host")
        }
        _ => format!("cannot listen on {listen}: {error}"),
    })
}

fn write_ledger(file: &Path, simulator: &dyn Running) -> io::Result<()> {
    let mut out = BufWriter::new(fs::File::create(file)?);
    simulator.write_ledger(&mut out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(exchange: &'static dyn Exchange, arguments: &[&str]) -> Command {
        let words = ["simulate", exchange.feed()].into_iter().chain(arguments.iter().copied());
        let matches =
            Command::augment_subcommands(clap::Command::new("simulate")).try_get_matches_from(words);
        Command::from_arg_matches(&matches.expect("a good command line")).expect("an exchange")
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_remedy() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("its address").port().to_string();
        for exchange in EXCHANGES {
            let failure =
                run(&command(*exchange, &["--port", &port, "--trades", "100"])).await.expect_err("taken");
            assert_eq!(failure.exit, Exit::Unusable);
            assert!(
                failure.message.contains(&port) && failure.message.contains("--port 0"),
                "{}",
                failure.message
            );
        }
    }

    #[tokio::test]
    async fn every_exchange_says_where_it_is_and_writes_its_ledger() {
        let dir = tempfile::tempdir().expect("a folder");
        for exchange in EXCHANGES {
            let command = command(
                *exchange,
                &["--port", "0", "--date", "2026-11-20", "--trades", "200", "--seed", "3"],
            );
            let simulator =
                command.exchange.planned(&command.line).expect("planned").start.await.expect("started");
            let said = announced(simulator.as_ref(), 3);
            assert_eq!((said["date"].as_str(), said["seed"].as_u64()), (Some("2026-11-20"), Some(3)));
            let feed = feed::find(exchange.feed()).expect("every exchange serves a feed");
            for address in feed.addresses() {
                assert!(said[address.key].as_str().is_some_and(|url| url.contains("127.0.0.1")), "{said}");
            }
            let file = dir.path().join(exchange.feed());
            write_ledger(&file, simulator.as_ref()).expect("written");
            let text = fs::read_to_string(&file).expect("read");
            let first: serde_json::Value =
                serde_json::from_str(text.lines().next().expect("a line")).expect("json");
            assert_eq!(Some(text.lines().count() as u64), said["trades"].as_u64());
            assert_eq!(first["id"].as_str(), Some(simulator.traded()[0].id.as_str()));
            simulator.stop().await;
        }
    }
}
