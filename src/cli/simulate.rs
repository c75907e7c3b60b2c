//! `openbell simulate`: an exchange to connect to.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::{Date, Time, time};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::{Exit, Failure, Result};
use clock::Clock;
use simulate::ledger::{instant, korean};
use simulate::script::duration;
use simulate::{KRX41, LedgerTrade, Replay, Script, Simulator, SimulatorOptions, TARGET_TRADES};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Korea Investment & Securities: REST keys and the real-time WebSocket on one port
    Kis(Box<Kis>),
}

/// Arguments of `simulate kis`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --date, --start and --speed it plays today in real time. Faults: KIND[=ARGUMENT]@HH:MM[:SS] with \
disconnect=60s, stall=12m, half-open=2m, malformed=wrong-width|invalid-utf8|invalid-utf8-text|truncated|not-a-number|unknown-tr|oversize, \
handshake-refused=2m, duplicate-frame, out-of-order, drop-record, ack-without-ticks=SYMBOL, delayed-ack=3s, no-ack, refuse-next=CODE."
)]
pub struct Kis {
    /// Port to listen on; 0 takes a free one and prints it
    #[arg(long)]
    port: u16,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Decides the market; the same seed and date give the same trades
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Day to play, Korean date [default: today]
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<Date>,
    /// Times real time; starts a virtual clock
    #[arg(long)]
    speed: Option<f64>,
    /// Korean time at which the virtual clock starts [default: 08:50]
    #[arg(long, value_name = "HH:MM")]
    start: Option<Time>,
    /// File of symbols, one a line, the busiest first [default: 41 large shares]
    #[arg(long, value_name = "FILE")]
    symbols: Option<PathBuf>,
    /// About how many trades the day has
    #[arg(long, default_value_t = TARGET_TRADES)]
    trades: usize,
    /// Let trading go on from 16:00 to 20:00
    #[arg(long)]
    after_market: bool,
    /// Fields of a trade record
    #[arg(long, default_value_t = 47, value_parser = parse_width)]
    width: usize,
    /// Registrations that a session may hold
    #[arg(long, default_value_t = 41)]
    limit: usize,
    /// The only app key that is accepted [default: any]
    #[arg(long, requires = "app_secret")]
    app_key: Option<String>,
    /// Its secret
    #[arg(long, requires = "app_key")]
    app_secret: Option<String>,
    /// How long a slot stays taken after a session ended without a close frame
    #[arg(long, default_value = "30s", value_parser = duration)]
    slot_hold: Duration,
    /// Time between two PINGPONGs; 0s for none
    #[arg(long, default_value = "10s", value_parser = duration)]
    pingpong: Duration,
    /// A fault at a time, repeatable; see below
    #[arg(long, value_name = "KIND[=ARG]@HH:MM")]
    fault: Vec<String>,
    /// Faults to begin with: the demo's day, or none
    #[arg(long, value_enum, default_value = "none")]
    script: Prepared,
    /// Serve recorded frames, one a line, instead of a market
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Start the replay when a session has this many registrations [default: all that the file is about, or 300 ms without a new one]
    #[arg(long, requires = "replay", value_name = "N")]
    replay_after: Option<usize>,
    /// Pause between two replayed frames
    #[arg(long, requires = "replay", default_value = "0s", value_parser = duration)]
    replay_interval: Duration,
    /// Write the day's trades to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Print the addresses as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Prepared {
    None,
    Demo,
}

fn parse_width(text: &str) -> std::result::Result<usize, String> {
    match text {
        "46" => Ok(46),
        "47" => Ok(47),
        _ => Err("a trade record has 47 fields, or 46 before 2026-09-14".to_owned()),
    }
}

/// Carries out the command.
pub fn main(command: Command) -> Result {
    let Command::Kis(arguments) = command;
    // Fails when something else in this process has set up its output already, which then is used.
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .try_init()
        .unwrap_or_default();
    let options = arguments.options()?;
    let runtime =
        tokio::runtime::Runtime::new().map_err(|error| Failure::unusable(format!("cannot start worker threads: {error}")))?;
    runtime.block_on(arguments.run(options))
}

impl Kis {
    fn options(&self) -> std::result::Result<SimulatorOptions, Failure> {
        let system = Clock::system();
        let date = self.date.unwrap_or_else(|| korean(system.now()).date());
        let clock = if self.date.is_none() && self.speed.is_none() && self.start.is_none() {
            system
        } else {
            let speed = self.speed.unwrap_or(1.0);
            if !(speed > 0.0 && speed <= 100_000.0) {
                return Err(Failure::usage(format!(
                    "--speed {speed} is not between 0 and 100000; 600 plays a day in 43 seconds"
                )));
            }
            let start = instant(date, self.start.unwrap_or(time(8, 50, 0, 0)));
            Clock::virtual_owner(start, speed, None).map_err(Failure::unusable)?
        };
        let mut script = match self.script {
            Prepared::None => Script::quiet(self.seed, date),
            Prepared::Demo => Script::demo(self.seed, date),
        };
        for fault in &self.fault {
            script = script.with_text(fault).map_err(Failure::usage)?;
        }
        let mut options = SimulatorOptions::new(clock, self.seed, date, self.symbols()?);
        options.listen = SocketAddr::new(self.host, self.port);
        options.width = self.width;
        options.limit = self.limit;
        options.accounts = self.app_key.clone().zip(self.app_secret.clone()).into_iter().collect();
        options.script = script;
        options.slot_hold = self.slot_hold;
        options.pingpong = self.pingpong;
        options.target_trades = self.trades;
        options.after_market = self.after_market;
        if let Some(file) = &self.replay {
            let recorded = Replay::read(file).map_err(Failure::unusable)?;
            options.replay = Some(Replay { after: self.replay_after, interval: self.replay_interval, ..recorded });
        }
        Ok(options)
    }

    fn symbols(&self) -> std::result::Result<Vec<String>, Failure> {
        let Some(file) = &self.symbols else { return Ok(KRX41.iter().map(ToString::to_string).collect()) };
        let text = fs::read_to_string(file)
            .map_err(|error| Failure::unusable(format!("cannot read the symbols in {}: {error}", file.display())))?;
        let words = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let symbols: Vec<String> = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        match symbols.iter().find(|s| s.len() > 9 || !s.bytes().all(|b| b.is_ascii_alphanumeric())) {
            Some(bad) => Err(Failure::unusable(format!("\"{bad}\" in {} is not a stock code like 005930", file.display()))),
            None if symbols.is_empty() => Err(Failure::unusable(format!("{} holds no symbol; write one a line", file.display()))),
            None => Ok(symbols),
        }
    }

    async fn run(&self, options: SimulatorOptions) -> Result {
        // Before the port is announced, so that a stop is never missed.
        let signals = signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
        let (mut interrupt, mut terminate) =
            signals.map_err(|error| Failure::unusable(format!("cannot listen for signals: {error}")))?;
        let (listen, date, replayed) = (options.listen, options.session.date, options.replay.as_ref().map(|r| r.frames.len()));
        let simulator = Simulator::start(options).await.map_err(|error| unusable_address(listen, &error))?;
        if let Some(file) = &self.ledger {
            write_ledger(file, &simulator.ledger())
                .map_err(|error| Failure::unusable(format!("cannot write the ledger to {}: {error}", file.display())))?;
        }
        let trades = simulator.ledger().len();
        let line = if self.json {
            json!({"rest": simulator.rest_url(), "websocket": simulator.websocket_url(), "date": date, "seed": self.seed, "trades": trades})
                .to_string()
        } else {
            let plays = match replayed {
                Some(frames) => format!("replays {frames} frames"),
                None => format!("plays {date}, {trades} trades, seed {}", self.seed),
            };
            format!("KIS simulator {plays}: REST {} WebSocket {}", simulator.rest_url(), simulator.websocket_url())
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
}

fn unusable_address(listen: SocketAddr, error: &io::Error) -> Failure {
    let (host, port) = (listen.ip(), listen.port());
    Failure::unusable(match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("port {port} on {host} is taken; stop what listens there, or pass --port 0 for a free one")
        }
        io::ErrorKind::PermissionDenied => format!("port {port} on {host} is not allowed for this user; take one above 1023"),
        io::ErrorKind::AddrNotAvailable => format!("{host} is not an address of this machine; pass another --host"),
        _ => format!("cannot listen on {listen}: {error}"),
    })
}

fn write_ledger(file: &Path, ledger: &[LedgerTrade]) -> io::Result<()> {
    let mut out = BufWriter::new(fs::File::create(file)?);
    for trade in ledger {
        serde_json::to_writer(&mut out, trade)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

#[cfg(test)]
#[path = "simulate_tests.rs"]
mod tests;
