//! `openbell dlq`: looks at dead letters and sends them again.

mod remote;

use std::io::Write;
use std::path::{Path, PathBuf};

use domain::format::{Zone, dump};
use serde_json::json;

use super::exit::{Exit, Failure};
use super::target::Daemon;
use backends::{Backends, address};
use clock::Clock;
use steps::dead_letters::{self, CauseGroup, DeadLetter, Summary};
use steps::replay::{self, Replayed, Which};

/// Subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Group dead letters by cause
    List(Selection),
    /// Show dead letters with their headers and original bytes, the newest first
    #[command(after_help = "Example:\n  openbell dlq show 3 --cause wrong_width")]
    Show(Show),
    /// Send dead letters to the topic they came from; sending them twice does no harm
    #[command(
        long_about = "Sends dead letters again: a sink's record as it was, a collector's frame as the trades it holds, once it can be decoded. \
        Stores fold by event id, and a dead letter that was sent before is passed over.",
        after_help = "Example:\n  openbell dlq replay --cause rejected\n\nExit codes: 0 everything asked for was sent; 1 some letters still cannot be read."
    )]
    Replay(Selection),
}

/// Which dead letters.
#[derive(Debug, clap::Args)]
pub struct Selection {
    #[command(flatten)]
    daemon: Daemon,
    /// Configuration of the daemon (YAML), to find its stores when it does not run
    #[arg(long, value_name = "FILE", env = "OPENBELL_CONFIG")]
    config: Option<PathBuf>,
    /// DAG folder: its zone is that of the times when no daemon runs
    #[arg(long, value_name = "DIR", default_value = "dags")]
    dags: PathBuf,
    /// Topic the records were on
    #[arg(long, value_name = "TOPIC", default_value = steps::default_topic())]
    topic: String,
    /// Only letters of this cause
    #[arg(long, value_name = "CAUSE")]
    cause: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// How many
    #[arg(default_value_t = 1)]
    count: usize,
    #[command(flatten)]
    which: Selection,
}

impl Command {
    fn which(&self) -> &Selection {
        match self {
            Self::List(which) | Self::Replay(which) => which,
            Self::Show(show) => &show.which,
        }
    }
}

/// Carries out the command.
pub fn main(command: Command) -> super::exit::Result {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::unusable(format!("the runtime cannot start: {e}")))?;
    runtime.block_on(async {
        let mut out = Vec::new();
        let result = match &command {
            // On this machine the stores are read themselves, which also goes without a daemon.
            command if command.which().daemon.url.is_some() => {
                remote::carry_out(command, &command.which().daemon.client()?, &mut out).await
            }
            Command::List(which) => list(which, &open(which).await?, &zone(which).await, &mut out).await,
            Command::Show(show) => {
                show_some(show, &open(&show.which).await?, &zone(&show.which).await, &mut out).await
            }
            Command::Replay(which) => {
                // A running daemon sends them itself, so that its audit tells by whom.
                match which.daemon.client() {
                    Ok(daemon) if is_up(&which.daemon.data).await => {
                        remote::carry_out(&command, &daemon, &mut out).await
                    }
                    _ => {
                        let clock = clock_of(&which.daemon.data)?;
                        resend(which, &open(which).await?, &clock, &mut out).await
                    }
                }
            }
        };
        match std::io::stdout().write_all(&out) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Failure::unusable(format!("writing to stdout: {e}")))
            }
            // A reader that went away has what it wanted.
            _ => result,
        }
    })
}

/// A demo's data folder has its own time.
fn clock_of(data: &Path) -> Result<Clock, Failure> {
    let file = data.join("clock");
    if file.exists() {
        return Clock::follow(&file).map_err(Failure::unusable);
    }
    Ok(Clock::system())
}

/// The zone of the pages: the running daemon's, else that of the DAG folder.
async fn zone(which: &Selection) -> Zone {
    let asked = async { which.daemon.client()?.get_json("/api/v1/runs").await }.await;
    let told = asked.ok().and_then(|answer| Some(Zone::new(answer.get("timezone")?.as_str()?)));
    let of_folder = || {
        let folder = daemon::folder::read(&which.dags, steps::programs()).ok()?;
        folder.dags().values().find_map(|dag| dag.schedule.as_ref().map(|s| Zone::new(&s.timezone)))
    };
    // Without either, UTC; the zone is always named.
    told.or_else(of_folder).unwrap_or_else(|| Zone::new("UTC"))
}

async fn list(
    which: &Selection,
    backends: &Backends,
    zone: &Zone,
    out: &mut impl Write,
) -> super::exit::Result {
    let lines: Vec<_> = wanted(which, backends).await?.iter().map(DeadLetter::summary).collect();
    tell_groups(which, &lines, zone, out)
}

fn tell_groups(
    which: &Selection,
    lines: &[Summary],
    zone: &Zone,
    out: &mut impl Write,
) -> super::exit::Result {
    let groups = dead_letters::by_cause(lines);
    if which.json {
        return print(out, &json!({ "topic": which.topic, "total": lines.len(), "groups": groups }));
    }
    let mut text = String::new();
    if groups.is_empty() {
        text.push_str(&format!("no dead letters of {}\n", which.topic));
    } else {
        let width =
            |of: fn(&CauseGroup) -> usize, least: usize| groups.iter().map(of).max().unwrap_or(0).max(least);
        let (cause, connector) = (width(|g| g.cause.len(), 5), width(|g| g.connector.len(), 7));
        text.push_str(&format!(
            "{:<cause$}  {:<connector$}  {:>7}  {:>8}  {:<24}  {:<24}  NEWEST MESSAGE\n",
            "CAUSE", "REFUSER", "COUNT", "REPLAYED", "FIRST", "LAST"
        ));
        for g in &groups {
            text.push_str(&format!(
                "{:<cause$}  {:<connector$}  {:>7}  {:>8}  {:<24}  {:<24}  {}\n",
                g.cause,
                g.connector,
                g.count,
                g.replayed,
                zone.full(g.first),
                zone.full(g.last),
                printable(&g.message)
            ));
        }
    }
    write(out, &text)
}

async fn show_some(
    show: &Show,
    backends: &Backends,
    zone: &Zone,
    out: &mut impl Write,
) -> super::exit::Result {
    let letters = wanted(&show.which, backends).await?;
    let newest: Vec<_> = letters.into_iter().rev().take(show.count).collect();
    tell_letters(&show.which, &newest, zone, out)
}

fn tell_letters(
    which: &Selection,
    letters: &[DeadLetter],
    zone: &Zone,
    out: &mut impl Write,
) -> super::exit::Result {
    if which.json {
        let letters: Vec<_> = letters.iter().map(as_json).collect();
        return print(out, &json!(letters));
    }
    let mut text = String::new();
    for letter in letters {
        let record = &letter.record.record;
        text.push_str(&format!(
            "{} offset {}  {}{}\n",
            letter.record.partition,
            letter.record.offset,
            zone.full(record.timestamp),
            if letter.replayed { "  replayed" } else { "" }
        ));
        for (name, value) in dead_letters::headers(record) {
            text.push_str(&format!("  {name}: {}\n", printable(&value)));
        }
        if let Some(key) = &record.key {
            text.push_str(&format!("  key: {}\n", printable(&String::from_utf8_lossy(key))));
        }
        text.push_str(&format!(
            "  value ({} bytes): {}\n",
            record.value.len(),
            printable(&String::from_utf8_lossy(&record.value))
        ));
        if std::str::from_utf8(&record.value).is_err() {
            for line in dump(&record.value).lines() {
                text.push_str(&format!("    {line}\n"));
            }
        }
    }
    if text.is_empty() {
        text.push_str(&format!("no dead letters of {}\n", which.topic));
    }
    write(out, &text)
}

async fn resend(
    which: &Selection,
    backends: &Backends,
    clock: &Clock,
    out: &mut impl Write,
) -> super::exit::Result {
    let wanted = which.cause.clone().map_or(Which::All, Which::Cause);
    let done = replay::replay(backends, &which.topic, &which.topic, &wanted, clock.now())
        .await
        .map_err(Failure::unusable)?;
    tell_replayed(which, &done, out)
}

fn tell_replayed(which: &Selection, done: &Replayed, out: &mut impl Write) -> super::exit::Result {
    let refused: u64 = done.refused.values().sum();
    if which.json {
        print(out, &json!(done))?;
    } else {
        let mut text = format!(
            "{} dead letters: {} sent again as {} records, {} were sent before, {refused} still cannot be read\n",
            done.letters, done.sent, done.records, done.before
        );
        for (cause, count) in &done.refused {
            text.push_str(&format!("  {cause}: {count}\n"));
        }
        write(out, &text)?;
    }
    Ok(if refused == 0 { Exit::Fine } else { Exit::Fault })
}

async fn wanted(which: &Selection, backends: &Backends) -> Result<Vec<DeadLetter>, Failure> {
    let mut letters =
        dead_letters::read_all(backends.log.as_ref(), &which.topic).await.map_err(Failure::unusable)?;
    if let Some(only) = &which.cause {
        letters.retain(|l| steps::dead_letters::cause(&l.record.record) == only);
    }
    Ok(letters)
}

fn as_json(letter: &DeadLetter) -> serde_json::Value {
    let record = &letter.record.record;
    let headers: Vec<_> =
        dead_letters::headers(record).into_iter().map(|(name, value)| json!([name, value])).collect();
    json!({
        "partition": letter.record.partition.to_string(),
        "offset": letter.record.offset,
        "time": record.timestamp.to_string(),
        "replayed": letter.replayed,
        "headers": headers,
        "key": record.key.as_deref().map(String::from_utf8_lossy),
        "value": String::from_utf8_lossy(&record.value),
        "value_hex": hex::encode(&record.value),
    })
}

/// Bytes of an exchange go to a terminal: control characters are made visible.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn print(out: &mut impl Write, value: &serde_json::Value) -> super::exit::Result {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| Failure::fault(format!("writing JSON: {e}")))?;
    write(out, &format!("{text}\n"))
}

fn write(out: &mut impl Write, text: &str) -> super::exit::Result {
    out.write_all(text.as_bytes()).map_err(|e| Failure::unusable(format!("writing: {e}")))?;
    Ok(Exit::Fine)
}

/// Whether a daemon has the stores. A socket nobody answers was left by one that died; they are free then.
async fn is_up(data: &Path) -> bool {
    tokio::net::UnixStream::connect(data.join("openbell.sock")).await.is_ok()
}

/// The stores: through the daemon when it runs, else opened here.
async fn open(which: &Selection) -> Result<Backends, Failure> {
    let data: &Path = &which.daemon.data;
    if !data.is_dir() {
        return Err(Failure::unusable(format!(
            "there is no data folder {}; name the daemon's with --data",
            data.display()
        )));
    }
    if is_up(data).await {
        return Ok(backends::socket::connect(data.join("openbell.sock")));
    }
    let config = super::serve::configuration(which.config.as_deref())?;
    let folder = data.to_owned();
    let opened = tokio::task::spawn_blocking(move || address::open(&config, &folder)).await;
    opened.map_err(Failure::unusable)?.map_err(Failure::unusable)
}

#[cfg(test)]
mod tests;
