//! `openbell reconcile`: compares a day's trades in all stores once more, as its `reconcile` step did.
//!
//! It reads the spool in the data folder and the stores, through the daemon's socket while it runs, and
//! changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::Date;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::exit::{Exit, Failure};
use super::table::{columns, print, print_json};
use backends::{Backends, address};
use clock::Clock;
use config::Feeds;
use daemon::action_runner;
use daemon::lock::Lock;
use domain::dag::Step;
use domain::format::part;
use domain::hop;
use domain::ids::{AttemptId, DagName, RunId};
use domain::message::{quantity, thousands};
use domain::program::{self, Program, Role};
use domain::results::Reconciliation;
use domain::run::Run;
use executor::Status;
use state::sled::Sled;
use state::{Journaled, Store};
use steps::{Context, Reporter, StepError};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  openbell reconcile                                            the newest run
  openbell reconcile trading-day@2026-11-20 --json
  openbell reconcile --dag trading-day --date 2026-11-20
  openbell reconcile --data /var/lib/openbell --config openbell.yaml

What is compared follows from the run's steps: what each collecting step received, its topic and raw documents, every sink, dead letters.
Nothing is changed. While the run goes on, what is on its way counts as missing. Without a daemon the stores are opened by this command.
It reads the spool, so it runs where the data folder is.

Exit codes: 0 every trade received is in every store, once; 1 it is not; 2 the command line was wrong; 3 a store or file is not usable.")]
pub struct Arguments {
    /// The run, for example trading-day@2026-11-20 [default: the newest]
    #[arg(conflicts_with = "dag")]
    run: Option<RunId>,
    /// DAG whose scheduled run of --date is meant
    #[arg(long, value_name = "NAME", requires = "date")]
    dag: Option<DagName>,
    /// Session date of that run
    #[arg(long, value_name = "YYYY-MM-DD", requires = "dag")]
    date: Option<Date>,
    /// Data folder of the daemon (running or not)
    #[arg(long, value_name = "DIR", default_value = "data", env = "OPENBELL_DATA")]
    data: PathBuf,
    /// Configuration of the daemon (YAML), to find its stores when it does not run
    #[arg(long, value_name = "FILE", env = "OPENBELL_CONFIG")]
    config: Option<PathBuf>,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

/// Carries out the command.
pub fn main(arguments: Arguments) -> super::exit::Result {
    super::serve::runtime()?.block_on(async {
        let (run, backends, _lock) = find(&arguments).await?;
        let mut found = compare(&run, backends, &arguments.data).await?;
        found["run"] = run.id.as_str().into();
        if arguments.json {
            print_json(&found)?
        } else {
            print(text(&run, &Reconciliation::of(&found).unwrap_or_default()))?
        }
        Ok(if found["ok"] == true { Exit::Fine } else { Exit::Fault })
    })
}

/// The run and the stores: from the daemon while it runs, else opened here, with the lock that keeps a daemon
/// from starting meanwhile.
async fn find(arguments: &Arguments) -> Result<(Run, Backends, Option<Lock>), Failure> {
    let data = arguments.data.as_path();
    if !data.is_dir() {
        return Err(Failure::unusable(format!(
            "there is no data folder {}; name the daemon's with --data",
            data.display()
        )));
    }
    let wanted = match (&arguments.run, &arguments.dag, arguments.date) {
        (Some(run), ..) => Some(run.clone()),
        (None, Some(dag), Some(date)) => Some(format!("{dag}@{date}").parse().map_err(Failure::usage)?),
        _ => None,
    };
    let socket = data.join("openbell.sock");
    // A socket nobody answers was left by a daemon that died; the stores are free then.
    if tokio::net::UnixStream::connect(&socket).await.is_ok() {
        let run = of_daemon(&Client::find(data)?, wanted).await?;
        return Ok((run, backends::socket::connect(socket), None));
    }
    let lock = Lock::take(data).map_err(Failure::unusable)?;
    let run = of_journal(data, wanted).await?;
    let config = super::serve::configuration(arguments.config.as_deref())?;
    let folder = data.to_owned();
    let opened = tokio::task::spawn_blocking(move || address::open(&config, &folder)).await;
    Ok((run, opened.map_err(Failure::unusable)?.map_err(Failure::unusable)?, Some(lock)))
}

fn none(data: &Path) -> Failure {
    Failure::fault(format!(
        "no run is known in {}; `openbell run list` shows those a running daemon keeps",
        data.display()
    ))
}

async fn of_daemon(client: &Client, wanted: Option<RunId>) -> Result<Run, Failure> {
    let id = match wanted {
        Some(id) => id.to_string(),
        None => {
            let newest = client.get_json("/api/v1/runs?limit=1").await?;
            let id = newest["runs"][0]["id"].as_str().map(str::to_owned);
            id.ok_or_else(|| {
                Failure::fault("the daemon knows no run; start one with `openbell run trigger DAG`")
            })?
        }
    };
    let answer = client.get_json(&format!("/api/v1/runs/{}", part(&id))).await?;
    serde_json::from_value(answer["run"].clone()).map_err(|error| {
        Failure::unusable(format!(
            "the daemon's answer about {id} is not understood: {error}; is it of another version?"
        ))
    })
}

async fn of_journal(data: &Path, wanted: Option<RunId>) -> Result<Run, Failure> {
    if !data.join("state").is_dir() {
        return Err(none(data));
    }
    let (store, _) =
        Sled::open(&data.join("state"), &data.join("state-export")).await.map_err(Failure::unusable)?;
    let found = match &wanted {
        Some(id) => match store.finished_run(id).await.map_err(Failure::unusable)? {
            Some(run) => Some(run),
            None => folded(&store, id).await?,
        },
        None => newest(&store).await?,
    };
    found.ok_or_else(|| match wanted {
        Some(id) => Failure::fault(format!(
            "there is no run {id} in the journal of {}; it may be older than keep_days",
            data.display()
        )),
        None => none(data),
    })
}

/// The run that began last, ended or not.
async fn newest(store: &Sled) -> Result<Option<Run>, Failure> {
    let mut found: Vec<Run> = store.finished(None, 1).await.map_err(Failure::unusable)?;
    for open in store.unfinished().await.map_err(Failure::unusable)? {
        found.extend(fold(&open.run, &open)?);
    }
    Ok(found.into_iter().max_by_key(|run| run.created_at))
}

/// A run that has not ended, as its events say.
async fn folded(store: &Sled, id: &RunId) -> Result<Option<Run>, Failure> {
    fold(id, &store.events(id).await.map_err(Failure::unusable)?)
}

fn fold(id: &RunId, journaled: &Journaled) -> Result<Option<Run>, Failure> {
    engine::machine::replay(&journaled.events).map_err(|(number, refused)| {
        Failure::unusable(format!("event {number} of {id} cannot be replayed: {refused:?}"))
    })
}

/// The step of a run that compares its stores, and its program.
fn step(run: &Run) -> Result<(&Step, &'static Program), Failure> {
    let compares = |step| {
        let program = program::of(steps::programs(), step)?;
        (program.role == Role::Reconcile).then_some((step, program))
    };
    run.dag.steps().iter().find_map(compares).ok_or_else(|| {
        Failure::fault(format!(
            "{} has no step that uses reconcile; add one: reconcile: {{ kind: teardown, uses: reconcile }}",
            run.dag.name
        ))
    })
}

/// What the comparison found.
async fn compare(run: &Run, backends: Backends, data: &Path) -> Result<Value, Failure> {
    let (step, program) = step(run)?;
    let data = data.canonicalize().map_err(|e| Failure::unusable(format!("{}: {e}", data.display())))?;
    let file = data.join("clock");
    // A demo's data folder has its own time.
    let clock =
        if file.exists() { Clock::follow(&file).map_err(Failure::unusable)? } else { Clock::system() };
    let attempt = AttemptId { run: run.id.clone(), step: step.name.clone(), attempt: 0 };
    let context = Context {
        spec: action_runner::spec(run, step, attempt, None, &data.join("runs"), steps::programs()),
        clock,
        backends,
        feeds: Feeds::default(),
        calendar: None,
        secrets: Default::default(),
        dags: data.clone(),
        data,
        stop: CancellationToken::new(),
        reporter: Arc::new(Silent),
    };
    match steps::run(program.name, context).await {
        Ok(found) => Ok(found),
        Err(StepError::Unmet { result, .. }) => Ok(result),
        Err(error) => Err(Failure::unusable(error)),
    }
}

/// What the step would print is in its result.
struct Silent;

impl Reporter for Silent {
    fn status(&self, _: Status) {}
    fn line(&self, line: &str) {
        tracing::debug!("{line}");
    }
}

fn text(run: &Run, found: &Reconciliation) -> String {
    let open =
        if run.state.is_terminal() { "" } else { "; it has not ended: what is on its way counts as missing" };
    let mut text = format!("{}, session of {}{open}\n\n", run.id, run.session_date);
    let mut rows = vec![["HOP", "TRADES", "REPEATED", "MISSING", "OF OTHERS"].map(str::to_owned)];
    let hops = hop::in_order(found.hops.keys().map(String::as_str));
    for name in &hops {
        let counts = &found.hops[*name];
        let [unique, repeated, missing, extra] =
            [counts.unique, counts.duplicates, counts.missing, counts.extra].map(thousands);
        rows.push([(*name).to_owned(), unique, repeated, missing, extra]);
    }
    text.push_str(&columns(&rows));
    for name in hops {
        for (symbol, ids) in &found.hops[name].missing_ids {
            let more = ids
                .len()
                .checked_sub(5)
                .filter(|n| *n > 0)
                .map_or(String::new(), |n| format!(" and {n} more"));
            text.push_str(&format!(
                "{name} misses of {symbol}: {}{more}\n",
                ids[..ids.len().min(5)].join(", ")
            ));
        }
    }
    let causes: Vec<_> =
        found.dead_letters.by_cause.iter().map(|(cause, n)| format!("{cause} {n}")).collect();
    let causes = if causes.is_empty() { String::new() } else { format!(": {}", causes.join(", ")) };
    text.push_str(&format!("\ndead letters {}{causes}\n", thousands(found.dead_letters.total)));
    text.push_str(&format!(
        "gaps         {} with {} shares\n",
        found.gaps.len(),
        quantity(&found.gap_quantity())
    ));
    let (equal, checked) = (thousands(found.vwap.equal), thousands(found.vwap.checked));
    text.push_str(&format!(
        "averages     {equal} of {checked} symbols without gaps equal the exchange's own\n"
    ));
    text.push_str(match found.ok {
        true => "\nevery trade received is in every store, once\n",
        false => "\nthe day does NOT reconcile\n",
    });
    text
}

#[cfg(test)]
mod tests;
