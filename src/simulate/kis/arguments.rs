//! KIS as an exchange that can be simulated: `openbell simulate kis`, and the demo's day.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, FromArgMatches};

use super::replay::Replay;
use super::script::Script;
use super::server::{Simulator, SimulatorOptions};
use super::{KRX41, TARGET_TRADES};
use crate::arguments::{ArgumentError, Arguments};
use crate::script::duration;
use crate::simulator::running;
use crate::{BoxFuture, Day, Exchange, Planned, Running};

/// Korea Investment & Securities.
#[derive(Debug, Clone, Copy)]
pub struct Kis;

/// Options of `openbell simulate kis`.
#[derive(Debug, clap::Args)]
struct Line {
    #[command(flatten)]
    common: Arguments,
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
    /// Serve recorded frames, one a line, instead of a market
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Start the replay when a session has this many registrations [default: all that the file is about, or
    /// 300 ms without a new one]
    #[arg(long, requires = "replay", value_name = "N")]
    replay_after: Option<usize>,
    /// Pause between two replayed frames
    #[arg(long, requires = "replay", default_value = "0s", value_parser = duration)]
    replay_interval: Duration,
}

fn parse_width(text: &str) -> Result<usize, String> {
    match text {
        "46" => Ok(46),
        "47" => Ok(47),
        _ => Err("a trade record has 47 fields, or 46 before 2026-09-14".to_owned()),
    }
}

impl Line {
    fn options(&self) -> Result<SimulatorOptions, ArgumentError> {
        let (clock, date) = self.common.clock()?;
        let is_code = |code: &str| code.len() <= 9 && code.bytes().all(|b| b.is_ascii_alphanumeric());
        let symbols = self.common.symbols(&KRX41, is_code, "005930")?;
        let mut options = SimulatorOptions::new(clock, self.common.seed, date, symbols);
        options.listen = self.common.listen();
        options.width = self.width;
        options.limit = self.limit;
        options.accounts = self.app_key.clone().zip(self.app_secret.clone()).into_iter().collect();
        options.script = self.common.script(date, Script::demo)?;
        options.slot_hold = self.slot_hold;
        options.pingpong = self.pingpong;
        options.target_trades = self.trades;
        options.after_market = self.after_market;
        if let Some(file) = &self.replay {
            let recorded = Replay::read(file).map_err(|e| ArgumentError::Unusable(e.to_string()))?;
            options.replay =
                Some(Replay { after: self.replay_after, interval: self.replay_interval, ..recorded });
        }
        Ok(options)
    }
}

impl Exchange for Kis {
    fn feed(&self) -> &'static str {
        "kis"
    }

    fn title(&self) -> &'static str {
        "KIS"
    }

    fn command(&self) -> clap::Command {
        let command = clap::Command::new(self.feed())
            .about("Korea Investment & Securities: REST keys and the real-time WebSocket on one port")
            .after_help(
                "Without --date, --start and --speed it plays today in real time. Faults: KIND[=ARGUMENT]@HH:MM[:SS] with \
                 disconnect=60s, stall=12m, half-open=2m, malformed=wrong-width|invalid-utf8|invalid-utf8-text|truncated|\
                 not-a-number|unknown-tr|oversize, handshake-refused=2m, duplicate-frame, out-of-order, drop-record, \
                 ack-without-ticks=SYMBOL, delayed-ack=3s, no-ack, refuse-next=CODE.\n\nExample:\n  \
                 openbell simulate kis --port 9090 --seed 7",
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
            ("kis-trading-day.yaml", include_str!("../../../dags/kis-trading-day.yaml")),
            ("symbols/krx41.txt", include_str!("../../../dags/symbols/krx41.txt")),
            ("calendars/krx.csv", include_str!("../../../dags/calendars/krx.csv")),
        ]
    }

    fn demo(&self, day: Day) -> BoxFuture<io::Result<Box<dyn Running>>> {
        let date = day.session.date;
        running(Simulator::start(SimulatorOptions {
            session: day.session,
            listen: ([127, 0, 0, 1], day.port).into(),
            script: Script::demo(day.seed, date),
            ..SimulatorOptions::new(day.clock, day.seed, date, day.symbols)
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Command;
    use jiff::civil::time;

    use super::*;
    use crate::korea::instant;

    fn line(arguments: &[&str]) -> Result<Line, clap::Error> {
        let matches =
            Line::augment_args(Command::new("kis")).try_get_matches_from(["kis"].iter().chain(arguments))?;
        Line::from_arg_matches(&matches)
    }

    fn kis(arguments: &[&str]) -> Line {
        line(arguments).expect("a good command line")
    }

    #[test]
    fn a_plain_port_plays_today_in_real_time() {
        let options = kis(&["--port", "0"]).options().expect("options");
        assert!(options.clock.is_system());
        assert_eq!((options.width, options.limit, options.symbols.len()), (47, 41, 41));
        assert!(options.script.incidents().is_empty() && options.accounts.is_empty());
    }

    #[test]
    fn a_day_at_speed_starts_at_ten_to_nine_with_the_faults_asked_for() {
        let text = "--port 0 --date 2026-11-20 --speed 60 --script demo --fault stall=2m@14:30 --app-key k --app-secret s --slot-hold 1m";
        let options = kis(&text.split(' ').collect::<Vec<_>>()).options().expect("options");
        let started = options
            .clock
            .now()
            .duration_since(instant("2026-11-20".parse().expect("a date"), time(8, 50, 0, 0)));
        assert!(started.as_secs() < 600 && options.clock.speed() == 60.0);
        assert_eq!(options.script.incidents().len(), 8);
        assert_eq!((options.accounts.len(), options.slot_hold), (1, Duration::from_secs(60)));
    }

    #[test]
    fn wrong_arguments_are_named() {
        let usage = |arguments: &[&str]| match kis(arguments).options().expect_err("wrong") {
            ArgumentError::Usage(why) => why,
            ArgumentError::Unusable(why) => panic!("{why}"),
        };
        assert!(usage(&["--port", "0", "--fault", "flood@10:00"]).contains("flood"));
        assert!(usage(&["--port", "0", "--speed", "0"]).contains("--speed"));
        let missing = kis(&["--port", "0", "--replay", "no/such/file"]).options().expect_err("missing");
        assert!(matches!(missing, ArgumentError::Unusable(why) if why.contains("no/such/file")));
        assert!(line(&["--port", "0", "--width", "45"]).is_err());
    }

    #[test]
    fn symbols_are_read_one_a_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("symbols.txt");
        let path = file.to_str().expect("a name");
        let read = || kis(&["--port", "0", "--symbols", path]).options();
        fs::write(&file, "# two\n005930\n\n000660 # the second\n").expect("written");
        assert_eq!(read().expect("two").symbols, ["005930", "000660"]);
        fs::write(&file, "not a code\n").expect("written");
        assert!(read().expect_err("bad").to_string().contains("not a code"));
        fs::write(&file, "# nothing\n").expect("written");
        assert!(read().expect_err("empty").to_string().contains("no symbol"));
    }

    #[tokio::test]
    async fn the_ledger_is_written_as_json_lines() {
        let options =
            kis(&["--port", "0", "--date", "2026-11-20", "--trades", "50"]).options().expect("options");
        let running = running(Simulator::start(options)).await.expect("started");
        let mut text = Vec::new();
        running.write_ledger(&mut text).expect("written");
        let text = String::from_utf8(text).expect("text");
        let first: serde_json::Value =
            serde_json::from_str(text.lines().next().expect("a line")).expect("json");
        let traded = running.traded();
        assert_eq!(text.lines().count(), traded.len());
        assert_eq!(
            (first["id"].as_str(), first["side"].as_str()),
            (Some(traded[0].id.as_str()), Some("auction"))
        );
        assert!(
            first["at"]
                .as_str()
                .is_some_and(|at| at.starts_with("2026-11-20T09:00:") && at.ends_with("+09:00"))
        );
        running.stop().await;
    }
}
