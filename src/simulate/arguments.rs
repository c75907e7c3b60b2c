//! What every `openbell simulate` takes.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use jiff::civil::{Date, Time, time};

use super::korea::{instant, korean};
use super::script::{Fault, Script};
use super::{BoxFuture, Planned, Running};
use clock::Clock;

/// Why a command line is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// It is wrong by itself.
    #[error("{0}")]
    Usage(String),
    /// It names something that cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// Options of all simulators.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Port to listen on; 0 takes a free one and prints it
    #[arg(long)]
    pub port: u16,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Decides the market; the same seed and date give the same trades
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Day to play, Korean date [default: today]
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<Date>,
    /// Times real time; starts a virtual clock
    #[arg(long)]
    pub speed: Option<f64>,
    /// Korean time at which the virtual clock starts [default: 08:50]
    #[arg(long, value_name = "HH:MM")]
    pub start: Option<Time>,
    /// File of symbols, one a line, the busiest first [default: the exchange's largest]
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,
    /// A fault at a time, repeatable; see below
    #[arg(long, value_name = "KIND[=ARG]@HH:MM")]
    pub fault: Vec<String>,
    /// Faults to begin with: the demo's day, or none
    #[arg(long, value_enum, default_value = "none")]
    pub script: Prepared,
    /// Write the day's trades to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Print the addresses as JSON
    #[arg(long)]
    pub json: bool,
}

/// A script that is at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Prepared {
    /// A quiet day.
    None,
    /// The demo's.
    Demo,
}

impl Arguments {
    /// What is planned with these options.
    pub fn planned(self, start: BoxFuture<io::Result<Box<dyn Running>>>) -> Planned {
        Planned { listen: self.listen(), seed: self.seed, ledger: self.ledger, json: self.json, start }
    }

    /// The address to listen on.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// The clock and the day.
    ///
    /// # Errors
    /// When the speed is out of range, or the virtual clock cannot be made.
    pub fn clock(&self) -> Result<(Clock, Date), ArgumentError> {
        let system = Clock::system();
        let date = self.date.unwrap_or_else(|| korean(system.now()).date());
        if self.date.is_none() && self.speed.is_none() && self.start.is_none() {
            return Ok((system, date));
        }
        let speed = self.speed.unwrap_or(1.0);
        if !(speed > 0.0 && speed <= 100_000.0) {
            let why = format!("--speed {speed} is not between 0 and 100000; 600 plays a day in 43 seconds");
            return Err(ArgumentError::Usage(why));
        }
        let start = instant(date, self.start.unwrap_or(time(8, 50, 0, 0)));
        let clock =
            Clock::virtual_owner(start, speed, None).map_err(|e| ArgumentError::Unusable(e.to_string()))?;
        Ok((clock, date))
    }

    /// The script: the demo's or a quiet one, and the faults named.
    ///
    /// # Errors
    /// A fault that cannot be read.
    pub fn script<F: Fault>(
        &self,
        date: Date,
        demo: impl Fn(u64, Date) -> Script<F>,
    ) -> Result<Script<F>, ArgumentError> {
        let mut script = match self.script {
            Prepared::None => Script::quiet(self.seed, date),
            Prepared::Demo => demo(self.seed, date),
        };
        for fault in &self.fault {
            script = script.with_text(fault).map_err(|e| ArgumentError::Usage(e.to_string()))?;
        }
        Ok(script)
    }

    /// The symbols of the file, or `default`. `is_symbol` says whether one can be, and `example` is one that
    /// can.
    ///
    /// # Errors
    /// When the file cannot be read, or holds none or a bad one.
    pub fn symbols(
        &self,
        default: &[&str],
        is_symbol: impl Fn(&str) -> bool,
        example: &str,
    ) -> Result<Vec<String>, ArgumentError> {
        let Some(file) = &self.symbols else { return Ok(default.iter().map(ToString::to_string).collect()) };
        let refuse = |why: String| Err(ArgumentError::Unusable(why));
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => return refuse(format!("cannot read the symbols in {}: {error}", file.display())),
        };
        let words = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let symbols: Vec<String> = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        match symbols.iter().find(|symbol| !is_symbol(symbol)) {
            Some(bad) => refuse(format!("\"{bad}\" in {} is not a code like {example}", file.display())),
            None if symbols.is_empty() => {
                refuse(format!("{} holds no symbol; write one a line", file.display()))
            }
            None => Ok(symbols),
        }
    }
}
