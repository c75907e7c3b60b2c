//! `openbell run backfill`: runs of days that passed without one, one after the other.
//!
//! The daemon creates a few runs at a time when it is asked, and this command asks until none is left. A
//! backfilled run is the run of its session, so that asking again creates nothing twice: if this command is
//! killed, what it started goes on, and the same command takes up the rest.

use std::time::Duration;

use domain::format::part;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::client::Client;
use super::exit::{Exit, Failure};
use super::table::{columns, print, print_json};
use super::target::Target;
use daemon::handle::{BackfillSession, BackfillState};

/// How often open runs are looked at, in real time.
const LOOK: Duration = Duration::from_secs(1);

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Runs a DAG for each session of its calendar in a range of days that passed without a run, one after the other. A run ends when its \
    tasks are done; with services or checks, after the length of the session's window. Sessions that have a run are passed over: to do one again, \
    clear its steps.",
    after_help = "Examples:
  openbell run backfill reports --from 2026-11-02 --to 2026-11-20 --dry-run
  openbell run backfill reports --from 2026-11-02 --to 2026-11-20 --param venue=NXT --at-a-time 4

If this command ends early, what it started goes on, and the same command goes on from there.

Exit codes: 0 every run that it waited for succeeded; 1 one did not."
)]
pub struct Arguments {
    /// The DAG
    dag: String,
    /// First local date
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Date,
    /// Last local date
    #[arg(long, value_name = "YYYY-MM-DD")]
    to: Date,
    /// Run parameter
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = super::run::pair)]
    params: Vec<(String, String)>,
    /// How many runs may be open at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    at_a_time: u64,
    /// Only list the sessions
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) at: Target,
}

/// Carries out the command.
pub async fn main(arguments: &Arguments) -> super::exit::Result {
    let client = arguments.at.client()?;
    let mut sessions = ask(&client, arguments, 0).await?;
    let json = arguments.at.json;
    if arguments.dry_run {
        if json {
            print_json(&json!({ "dag": arguments.dag, "sessions": sessions }))?;
        } else {
            print(listed(&sessions, arguments))?;
        }
        return Ok(Exit::Fine);
    }
    let say = |line: String| if json { Ok(()) } else { print(format!("{line}\n")) };
    for session in sessions.iter().filter(|s| s.state != BackfillState::Due) {
        say(format!("{}  {}", session.run, words(session.state)))?;
    }
    let all = due(&sessions);
    let mut open: Vec<String> =
        sessions.iter().filter(|s| s.state == BackfillState::Running).map(|s| s.run.to_string()).collect();
    let (mut started, mut ended) = (0, Vec::new());
    while due(&sessions) > 0 || !open.is_empty() {
        let room = usize::try_from(arguments.at_a_time).unwrap_or(usize::MAX).saturating_sub(open.len());
        if room > 0 && due(&sessions) > 0 {
            sessions = ask(&client, arguments, room).await.map_err(cut_short)?;
            for session in sessions.iter().filter(|s| s.state == BackfillState::Created) {
                started += 1;
                say(format!("{}  started ({started} of {all})", session.run))?;
                open.push(session.run.to_string());
            }
        }
        let before = open.len();
        let mut still = Vec::new();
        for run in open {
            match end_of(&client, &run).await.map_err(cut_short)? {
                None => still.push(run),
                Some((state, took)) => {
                    say(format!("{run}  {state} after {took}"))?;
                    ended.push(json!({ "run": run, "state": state }));
                }
            }
        }
        open = still;
        if open.len() == before {
            tokio::time::sleep(LOOK).await;
        }
    }
    let bad = ended.iter().filter(|run| run["state"] != "succeeded").count();
    if json {
        print_json(
            &json!({ "dag": arguments.dag, "sessions": ask(&client, arguments, 0).await?, "ended": ended }),
        )?;
    } else if ended.is_empty() {
        print(format!(
            "no session of {} from {} to {} is without a run\n",
            arguments.dag, arguments.from, arguments.to
        ))?;
    } else {
        print(format!("{} runs ended, {bad} of them did not succeed\n", ended.len()))?;
    }
    Ok(if bad == 0 { Exit::Fine } else { Exit::Fault })
}

/// The sessions, after at most so many runs were created.
async fn ask(
    client: &Client,
    arguments: &Arguments,
    at_most: usize,
) -> Result<Vec<BackfillSession>, Failure> {
    let params: serde_json::Map<_, _> =
        arguments.params.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect();
    let body = json!({ "from": arguments.from, "to": arguments.to, "params": params, "at_most": at_most });
    let mut answer =
        client.post_json(&format!("/api/v1/dags/{}/backfill", part(&arguments.dag)), &body).await?;
    serde_json::from_value(answer["sessions"].take()).map_err(|error| {
        Failure::unusable(format!("the daemon's answer cannot be read: {error}; is it of the same version?"))
    })
}

fn due(sessions: &[BackfillSession]) -> usize {
    sessions.iter().filter(|s| s.state == BackfillState::Due).count()
}

fn cut_short(failure: Failure) -> Failure {
    Failure {
        message: format!(
            "{}; what was started goes on, and the same command goes on from there",
            failure.message
        ),
        ..failure
    }
}

/// How a run ended, and how long it took; `None` while it is open.
async fn end_of(client: &Client, run: &str) -> Result<Option<(String, String)>, Failure> {
    let view = client.get_json(&format!("/api/v1/runs/{}", part(run))).await?;
    let word = |key: &str| view["run"][key].as_str().unwrap_or_default();
    if matches!(word("state"), "running" | "closing") {
        return Ok(None);
    }
    let time = |key: &str| word(key).parse::<Timestamp>().ok();
    let took =
        time("created_at").zip(time("finished_at")).map(|(from, to)| to.duration_since(from).as_secs());
    let took =
        took.map_or_else(|| "–".to_owned(), |seconds| format!("{:#}", SignedDuration::from_secs(seconds)));
    Ok(Some((word("state").to_owned(), took)))
}

/// How a session stands, for people.
fn words(state: BackfillState) -> &'static str {
    match state {
        BackfillState::Created => "started",
        BackfillState::Running => "has an open run, which is waited for",
        BackfillState::Ended => "has its run, passed over",
        BackfillState::Window => {
            "its window is open, passed over: the schedule or `openbell run trigger` is for that"
        }
        BackfillState::Ahead => "has not opened yet, passed over",
        BackfillState::Due => "without a run",
    }
}

fn listed(sessions: &[BackfillSession], arguments: &Arguments) -> String {
    if sessions.is_empty() {
        return format!("{} has no session from {} to {}\n", arguments.dag, arguments.from, arguments.to);
    }
    let mut table = vec![["session", "run", "would be"].map(str::to_owned)];
    table.extend(sessions.iter().map(|session| {
        let word = if session.state == BackfillState::Due { "started" } else { words(session.state) };
        [session.date.to_string(), session.run.to_string(), word.to_owned()]
    }));
    format!("{}{} runs would be started\n", columns(&table), due(sessions))
}

#[cfg(test)]
mod tests;
