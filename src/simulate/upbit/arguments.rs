//! Upbit as an exchange that can be simulated: `openbell simulate upbit`, and the demo's day.

use std::io;

use clap::{Args, FromArgMatches};

use super::TARGET_TRADES;
use super::markets::KRW20;
use super::script::Script;
use super::server::{Simulator, SimulatorOptions};
use crate::arguments::{ArgumentError, Arguments};
use crate::simulator::running;
use crate::{BoxFuture, Day, Exchange, Planned, Running};

/// Upbit.
#[derive(Debug, Clone, Copy)]
pub struct Upbit;

/// Options of `openbell simulate upbit`.
#[derive(Debug, clap::Args)]
struct Line {
    #[command(flatten)]
    common: Arguments,
    /// About how many trades the day has
    #[arg(long, default_value_t = TARGET_TRADES)]
    trades: usize,
    /// Refuse subscriptions of markets that do not exist; else they bring no data
    #[arg(long)]
    strict: bool,
    /// Send text messages instead of binary ones
    #[arg(long)]
    text: bool,
}

impl Line {
    fn options(&self) -> Result<SimulatorOptions, ArgumentError> {
        let (clock, date) = self.common.clock()?;
        let is_code = |code: &str| {
            code.len() <= 40
                && code.split_once('-').is_some_and(|(quote, base)| !quote.is_empty() && !base.is_empty())
        };
        let mut options = SimulatorOptions::new(clock, self.common.seed, date);
        options.codes = self.common.symbols(&KRW20.map(|(code, _)| code), is_code, "KRW-BTC")?;
        options.listen = self.common.listen();
        options.script = self.common.script(date, Script::demo)?;
        options.strict = self.strict;
        options.text = self.text;
        options.target_trades = self.trades;
        Ok(options)
    }
}

impl Exchange for Upbit {
    fn feed(&self) -> &'static str {
        "upbit"
    }

    fn title(&self) -> &'static str {
        "Upbit"
    }

    fn command(&self) -> clap::Command {
        let command = clap::Command::new(self.feed())
            .about("Upbit: the public WebSocket, candles and past trades on one port, around the clock")
            .after_help(
                "Without --date, --start and --speed it plays today in real time. Faults: KIND[=ARGUMENT]@HH:MM[:SS] with \
                 disconnect=90s, stall=12m, half-open=2m, malformed=truncated|wrong-type|missing-field|not-a-number|unknown-type|\
                 binary|oversize, error=NAME, handshake-refused=2m, too-many=2m, blocked=5m, duplicate, out-of-order, drop, \
                 silent=MARKET, refuse-next=NAME.\n\nExample:\n  openbell simulate upbit --port 9091 --seed 7",
            );
        Line::augment_args(command)
    }

    fn planned(&self, line: &clap::ArgMatches) -> Result<Planned, ArgumentError> {
        let line = Line::from_arg_matches(line).map_err(|e| ArgumentError::Usage(e.to_string()))?;
        let options = line.options()?;
        Ok(line.common.planned(running(Simulator::start(options))))
    }

    fn shipped(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("upbit.yaml", include_str!("../../../dags/upbit.yaml")),
            ("symbols/upbit20.txt", include_str!("../../../dags/symbols/upbit20.txt")),
        ]
    }

    fn demo(&self, day: Day) -> BoxFuture<io::Result<Box<dyn Running>>> {
        let date = day.session.date;
        running(Simulator::start(SimulatorOptions {
            day: day.session,
            codes: day.symbols,
            listen: ([127, 0, 0, 1], day.port).into(),
            script: Script::demo(day.seed, date),
            ..SimulatorOptions::new(day.clock, day.seed, date)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_the_command_line() {
        let text = "upbit --port 0 --date 2026-11-20 --speed 60 --script demo --fault silent=KRW-XRP@00:01 --strict --text --trades 500";
        let matches = Upbit.command().try_get_matches_from(text.split(' ')).expect("a good command line");
        let options = Line::from_arg_matches(&matches).expect("read").options().expect("options");
        assert_eq!(
            (options.codes.len(), options.strict, options.text, options.target_trades),
            (20, true, true, 500)
        );
        assert_eq!(options.script.incidents().len(), Script::demo(1, options.day.date).incidents().len() + 1);
        assert!(Upbit.command().try_get_matches_from(["upbit"]).is_err(), "without a port");
    }
}
