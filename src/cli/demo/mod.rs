//! `openbell demo`: a whole trading day on a virtual clock against the exchange simulator, with its
//! incidents, and the proof that it reconciles.

mod hold;
mod pace;
mod play;
mod proof;
mod report;
mod servers;
mod view;

use std::path::PathBuf;

use jiff::civil::{Date, Time};

use super::exit::{Exit, Failure};
use report::Report;

/// Arguments.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  openbell demo                                  a day in about a minute and a half
  openbell demo --speed 60 --seed 7              slower, another market
  openbell demo --executor process               every step in a process of its own
  openbell demo --data DIR --report day.json     keep everything; the same command goes on after a crash
  openbell demo --hold-at 13:30 --stay           wait in the middle of the day until Enter, and after its end until Ctrl-C

The same day on Kafka, MongoDB, Elasticsearch, S3 and SMTP, from a checkout:
  scripts/services up && eval \"$(scripts/services env)\"
  openbell demo --backends real")]
pub struct Arguments {
    /// How many times faster than real time the day runs (1 to 3600)
    #[arg(long, default_value_t = 300.0, value_name = "N")]
    pub speed: f64,
    /// Seed of the simulated market; the same seed gives the same day
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Keep the day's data here; a day that was interrupted is continued. Default: a new temporary folder
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Write the JSON report to this file (`-` for standard output)
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Port of the status page; 0 takes a free one. Default: 8650, or a free one if that is taken
    #[arg(long, value_name = "P")]
    pub port: Option<u16>,
    /// Which DAG to play
    #[arg(long, default_value = "kis-trading-day", value_name = "NAME")]
    pub dag: String,
    /// DAG folder. Default: ./dags if it has that DAG, else the one built into this binary
    #[arg(long, value_name = "DIR")]
    pub dags: Option<PathBuf>,
    /// The day to play
    #[arg(long, default_value = "2026-11-20", value_name = "YYYY-MM-DD")]
    pub date: Date,
    /// Stores the day runs on; real ones are found by OPENBELL_KAFKA, OPENBELL_MONGO, OPENBELL_ELASTICSEARCH,
    /// OPENBELL_S3 and OPENBELL_SMTP (addresses as in the configuration), and all names on them begin with a
    /// prefix of this day's own
    #[arg(long, default_value = "embedded", value_parser = ["embedded", "real"], value_name = "WHICH")]
    pub backends: String,
    /// Where steps run; docker takes the image OPENBELL_IMAGE (default openbell:VERSION) from the engine at
    /// DOCKER_HOST, and swarm from each node of the swarm whose manager that is
    #[arg(long, default_value = "embedded", value_parser = ["embedded", "process", "docker", "swarm"], value_name = "WHERE")]
    pub executor: String,
    /// Hold the day at this time (of the exchange): its clock stands still while the page and all services go
    /// on, until standard input has a line (Enter) or ends; a program that starts this gives it a pipe
    #[arg(long, value_parser = hold::time, value_name = "HH:MM")]
    pub hold_at: Option<Time>,
    /// Keep the page when the day has ended and its report is out, until Ctrl-C
    #[arg(long)]
    pub stay: bool,
    /// No terminal view, only the summary
    #[arg(long)]
    pub quiet: bool,
}

/// Carries out the command.
pub fn main(arguments: Arguments) -> super::exit::Result {
    if !(1.0..=3600.0).contains(&arguments.speed) {
        return Err(Failure::usage(format!("--speed {}: choose 1 to 3600", arguments.speed)));
    }
    if arguments.executor == "swarm" && arguments.backends != "real" {
        return Err(Failure::usage(
            "--executor swarm runs steps on other machines, which do not reach embedded stores; add --backends real",
        ));
    }
    let runtime = super::serve::runtime()?;
    let report = runtime.block_on(play::play(&arguments))?;
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    Ok(if report.ok { Exit::Fine } else { Exit::Fault })
}

/// Tells what the day came to.
fn tell(arguments: &Arguments, report: &Report) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(report).map_err(Failure::fault)?;
    match &arguments.report {
        Some(path) if path.as_os_str() == "-" => println!("{json}"),
        Some(path) => {
            std::fs::write(path, json + "\n")
                .map_err(|e| Failure::unusable(format!("--report {}: {e}", path.display())))?;
            println!("{}", report.summary());
        }
        None => println!("{}", report.summary()),
    }
    Ok(())
}
