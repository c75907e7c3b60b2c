//! `openbell doctor`: says what is missing on this machine, with the remedy for each. It changes nothing.

mod days;
mod machine;
mod network;

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::client::block_on;
use super::exit::{Exit, Failure};
use super::table::{print, print_json};
use super::target::DataFolder;
use clock::Clock;
use config::Config;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Configuration file (YAML), as for `openbell up`
    #[arg(long, env = "OPENBELL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    data: DataFolder,
    /// DAG folder
    #[arg(long, default_value = "dags", value_name = "DIR")]
    dags: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, or is not needed by everybody.
    Warn,
    /// A trading day would not run.
    Fail,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Cow<'static, str>,
    /// How it is.
    pub level: Level,
    /// What was found.
    pub message: String,
    /// What to do; empty when nothing is to be done.
    pub remedy: String,
}

impl Finding {
    fn ok(check: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { check: check.into(), level: Level::Ok, message: message.into(), remedy: String::new() }
    }
    fn warn(
        check: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { check: check.into(), level: Level::Warn, message: message.into(), remedy: remedy.into() }
    }
    fn fail(
        check: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { check: check.into(), level: Level::Fail, message: message.into(), remedy: remedy.into() }
    }
}

/// Carries out the command.
pub fn main(arguments: Arguments) -> super::exit::Result {
    let json = arguments.json;
    let findings = block_on(async { Ok(examine(&arguments, &Clock::system()).await) })?;
    report(&findings, json)?;
    let worst = findings.iter().map(|f| f.level).max();
    Ok(if worst == Some(Level::Fail) { Exit::Fault } else { Exit::Fine })
}

/// The configuration, or the default one with what is wrong.
fn configuration(path: Option<&Path>) -> (Config, Option<Finding>) {
    let Some(path) = path else { return (Config::default(), None) };
    let read = std::fs::read_to_string(path)
        .map_err(|error| format!("{}: {error}", path.display()))
        .and_then(|text| super::serve::parse(path, &text));
    match read {
        Ok(config) => (config, Some(Finding::ok("configuration", format!("{} is fine", path.display())))),
        Err(error) => (
            Config::default(),
            Some(Finding::fail(
                "configuration",
                error,
                "correct the file; the other checks use the defaults",
            )),
        ),
    }
}

async fn examine(arguments: &Arguments, clock: &Clock) -> Vec<Finding> {
    let (config, wrong) = configuration(arguments.config.as_deref());
    let mut findings: Vec<Finding> = wrong.into_iter().collect();
    let now = clock.now();
    let daemon = network::daemon(&arguments.data).await;
    let running = daemon.1;
    findings.push(daemon.0);
    findings.extend(machine::data_folder(&arguments.data));
    findings.extend(machine::stores(&config, &arguments.data));
    findings.push(network::port(&config.listen, running.as_deref()));
    findings.extend(days::dags(&arguments.dags, now));
    findings.push(machine::clock(now));
    let addresses: Vec<_> = feed::FEEDS
        .iter()
        .flat_map(|feed| {
            feed::addresses(*feed, &config.feeds)
                .into_iter()
                .map(|(key, url)| (format!("{} {key}", feed.name()), url))
        })
        .collect();
    let (servers, endpoints, docker) = tokio::join!(
        network::servers(&config, &arguments.data),
        futures_util::future::join_all(addresses.iter().map(|(name, url)| network::endpoint(name, url))),
        network::docker(&config)
    );
    findings.extend(servers);
    findings.extend(endpoints);
    findings.push(docker);
    findings
}

fn report(findings: &[Finding], json: bool) -> Result<(), Failure> {
    let count = |level| findings.iter().filter(|f| f.level == level).count();
    if json {
        let ok = count(Level::Fail) == 0;
        return print_json(&serde_json::json!({ "ok": ok, "findings": findings }));
    }
    let width = findings.iter().map(|f| f.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        // A message may be a whole diagnostic: its further lines stay below the first.
        let message = finding.message.trim_end().replace('\n', &format!("\n{}", " ".repeat(width + 8)));
        text.push_str(&format!("{:<4}  {:<width$}  {message}\n", finding.level, finding.check));
        if !finding.remedy.is_empty() {
            text.push_str(&format!("{}→ {}\n", " ".repeat(width + 8), finding.remedy));
        }
    }
    text.push_str(&format!(
        "\n{} ok, {} to look at, {} to repair\n",
        count(Level::Ok),
        count(Level::Warn),
        count(Level::Fail)
    ));
    print(text)
}

#[cfg(test)]
mod tests;
