//! `openbell run …`: looks at runs and acts on them, through the daemon's API.

use domain::format::{Zone, part};
use serde_json::{Value, json};

use super::client::{Client, block_on};
use super::exit::{Exit, Failure};
use super::table::{columns, print, print_json};
pub use super::target::Target;

/// Subcommands. A run is named by its id (`trading-day@2026-11-20`), or by its DAG while one run of it is
/// open; to be looked at, also when its newest has ended.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Start a run by hand
    Trigger {
        /// The DAG
        dag: String,
        /// Run parameter
        #[arg(long = "param", value_name = "KEY=VALUE", value_parser = pair)]
        params: Vec<(String, String)>,
        /// Local date the run is about [default: today]
        #[arg(long)]
        date: Option<jiff::civil::Date>,
        /// End of the run, for a DAG without a window on that day (RFC 3339)
        #[arg(long, value_name = "TIME")]
        until: Option<jiff::Timestamp>,
        #[command(flatten)]
        at: Target,
    },
    /// Run a DAG for days that passed without a run
    Backfill(super::backfill::Arguments),
    /// List runs, open ones first
    List {
        /// Only those of this DAG
        dag: Option<String>,
        #[command(flatten)]
        at: Target,
    },
    /// Show a run and its steps
    Show {
        /// The run
        run: String,
        #[command(flatten)]
        at: Target,
    },
    /// Print what a step printed
    Output {
        /// The run
        run: String,
        /// The step
        step: String,
        /// Number of the attempt [default: the newest]
        #[arg(long, value_name = "N")]
        attempt: Option<u32>,
        /// Only the last so many bytes
        #[arg(long, value_name = "BYTES")]
        tail: Option<u64>,
        /// Go on as it grows, until the attempt ends
        #[arg(long, short)]
        follow: bool,
        #[command(flatten)]
        at: Target,
    },
    /// End a run now, in order: collectors stop, sinks drain, teardown steps run
    Cancel {
        /// The run
        run: String,
        #[command(flatten)]
        at: Target,
    },
    /// Run steps, and what needs them, again
    Clear {
        /// The run
        run: String,
        /// The steps
        #[arg(required = true)]
        steps: Vec<String>,
        #[command(flatten)]
        at: Target,
    },
    /// Set a step's end by hand
    Mark {
        /// The run
        run: String,
        /// The step
        step: String,
        /// How it ended
        #[arg(long = "as", value_name = "END", value_parser = ["succeeded", "failed"])]
        end: String,
        #[command(flatten)]
        at: Target,
    },
    /// Block scheduled starts of a DAG; running runs go on
    Pause {
        /// The DAG
        dag: String,
        #[command(flatten)]
        at: Target,
    },
    /// Allow scheduled starts of a DAG again
    Resume {
        /// The DAG
        dag: String,
        #[command(flatten)]
        at: Target,
    },
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a parameter is KEY=VALUE".to_owned()),
    }
}

/// Carries out the command.
pub fn main(command: Command) -> super::exit::Result {
    block_on(carry_out(command))
}

async fn carry_out(command: Command) -> super::exit::Result {
    match command {
        Command::Trigger { dag, params, date, until, at } => {
            let params: serde_json::Map<_, _> =
                params.into_iter().map(|(key, value)| (key, Value::String(value))).collect();
            let body = json!({ "dag": dag, "params": params, "date": date, "until": until });
            post(&at.client()?, "/api/v1/runs", body, at.json).await
        }
        Command::Backfill(arguments) => super::backfill::main(&arguments).await,
        Command::List { dag, at } => list(&at.client()?, dag.as_deref(), at.json).await,
        Command::Show { run, at } => show(&at.client()?, &run, at.json).await,
        Command::Output { run, step, attempt, tail, follow, at } => {
            let client = at.client()?;
            let run = look_up(&client, &run).await?;
            let tail = tail.map_or_else(|| "all".to_owned(), |t| t.to_string());
            let attempt = attempt.map(|n| format!("&attempt={n}")).unwrap_or_default();
            let follow = if follow { "&follow=1" } else { "" };
            let path = format!(
                "/api/v1/runs/{}/steps/{}/output?tail={tail}{attempt}{follow}",
                part(&run),
                part(&step)
            );
            client.get_pieces(&path, |piece| print(piece)).await?;
            Ok(Exit::Fine)
        }
        Command::Cancel { run, at } => {
            let client = at.client()?;
            let run = resolve(&client, &run).await?;
            post(&client, &format!("/api/v1/runs/{}/cancel", part(&run)), json!({}), at.json).await
        }
        Command::Clear { run, steps, at } => {
            let client = at.client()?;
            let run = resolve(&client, &run).await?;
            post(&client, &format!("/api/v1/runs/{}/clear", part(&run)), json!({ "steps": steps }), at.json)
                .await
        }
        Command::Mark { run, step, end, at } => {
            let client = at.client()?;
            let run = resolve(&client, &run).await?;
            let body = json!({ "step": step, "success": end == "succeeded" });
            post(&client, &format!("/api/v1/runs/{}/mark", part(&run)), body, at.json).await
        }
        Command::Pause { dag, at } => {
            post(&at.client()?, &format!("/api/v1/dags/{}/pause", part(&dag)), json!({}), at.json).await
        }
        Command::Resume { dag, at } => {
            post(&at.client()?, &format!("/api/v1/dags/{}/resume", part(&dag)), json!({}), at.json).await
        }
    }
}

async fn post(client: &Client, path: &str, body: Value, json: bool) -> super::exit::Result {
    let answer = client.post_json(path, &body).await?;
    match answer.get("message").and_then(Value::as_str).filter(|_| !json) {
        Some(message) => print(format!("{message}\n"))?,
        None => print_json(&answer)?,
    }
    Ok(Exit::Fine)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("–")
}

fn list_of<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The id of the run that a command acts on: an id as it is, or a DAG's name while one run of it is open.
async fn resolve(client: &Client, named: &str) -> Result<String, Failure> {
    if named.contains('@') {
        return Ok(named.to_owned());
    }
    match choose(&runs_of(client, named).await?, named)? {
        Chosen::Open(id) => Ok(id),
        Chosen::Ended(newest) => {
            Err(Failure::usage(format!("no run of {named} is open; its newest is {newest}")))
        }
    }
}

/// The id of the run that is looked at: of a DAG the open run, else its newest, and then people are told that
/// it has ended.
async fn look_up(client: &Client, named: &str) -> Result<String, Failure> {
    if named.contains('@') {
        return Ok(named.to_owned());
    }
    match choose(&runs_of(client, named).await?, named)? {
        Chosen::Open(id) => Ok(id),
        Chosen::Ended(newest) => {
            // Not to standard output: that is the run's, or the step's own.
            eprintln!("no run of {named} is open; this is its newest, {newest}, which has ended");
            Ok(newest)
        }
    }
}

async fn runs_of(client: &Client, dag: &str) -> Result<Value, Failure> {
    client.get_json(&format!("/api/v1/runs?dag={}", part(dag))).await
}

/// A run that a DAG's name stands for.
#[derive(Debug, PartialEq, Eq)]
enum Chosen {
    /// The one that is open.
    Open(String),
    /// None is; the newest.
    Ended(String),
}

fn choose(answer: &Value, named: &str) -> Result<Chosen, Failure> {
    let of_dag: Vec<_> = list_of(answer, "runs").iter().filter(|r| text(r, "dag") == named).collect();
    let open: Vec<_> = of_dag
        .iter()
        .filter(|r| matches!(text(r, "state"), "running" | "closing"))
        .map(|r| text(r, "id"))
        .collect();
    match (open.as_slice(), of_dag.first()) {
        ([one], _) => Ok(Chosen::Open((*one).to_owned())),
        ([], Some(newest)) => Ok(Chosen::Ended(text(newest, "id").to_owned())),
        ([], None) => Err(Failure::usage(format!(
            "there is no run of {named}; `openbell run list` shows the runs there are"
        ))),
        (several, _) => Err(Failure::usage(format!(
            "{} runs of {named} are open: {}; name one",
            several.len(),
            several.join(", ")
        ))),
    }
}

/// A time of the answer in the daemon's zone, or a dash.
fn time(zone: &Zone, value: &Value, key: &str, style: fn(&Zone, jiff::Timestamp) -> String) -> String {
    text(value, key).parse().map_or_else(|_| "–".to_owned(), |at| style(zone, at))
}

async fn list(client: &Client, dag: Option<&str>, json: bool) -> super::exit::Result {
    let mut answer = client.get_json("/api/v1/runs").await?;
    if let (Some(dag), Some(runs)) = (dag, answer.get_mut("runs").and_then(Value::as_array_mut)) {
        runs.retain(|r| text(r, "dag") == dag);
    }
    if json {
        print_json(&answer)?;
        return Ok(Exit::Fine);
    }
    let zone = Zone::new(text(&answer, "timezone"));
    let mut table = vec![["run", "state", "cause", "opens", "closes", "ended"].map(str::to_owned)];
    for run in list_of(&answer, "runs") {
        table.push([
            text(run, "id").to_owned(),
            text(run, "state").to_owned(),
            text(run, "cause").to_owned(),
            time(&zone, run, "open_at", Zone::full),
            time(&zone, run, "close_at", Zone::full),
            time(&zone, run, "finished_at", Zone::full),
        ]);
    }
    print(if table.len() == 1 { "there are no runs yet\n".to_owned() } else { columns(&table) })?;
    Ok(Exit::Fine)
}

async fn show(client: &Client, named: &str, json: bool) -> super::exit::Result {
    let id = look_up(client, named).await?;
    let view = client.get_json(&format!("/api/v1/runs/{}", part(&id))).await?;
    if json {
        print_json(&view)?;
        return Ok(Exit::Fine);
    }
    let zone = Zone::new(text(&client.get_json("/api/v1/runs").await?, "timezone"));
    print(shown(&view, &zone))?;
    Ok(Exit::Fine)
}

/// A run as a head line, a table of its steps, and below what is to be said of some of them.
fn shown(view: &Value, zone: &Zone) -> String {
    let run = view.get("run").unwrap_or(&Value::Null);
    let window = run.get("window").unwrap_or(&Value::Null);
    let (open, close) =
        (time(zone, window, "open_at", Zone::full), time(zone, window, "close_at", Zone::full));
    let mut out = format!("{}  {}  {open} to {close}\n\n", text(run, "id"), text(run, "state"));
    let mut table = vec![
        ["step", "kind", "state", "attempt", "started", "ready", "stopped", "last exit"].map(str::to_owned),
    ];
    let mut words = String::new();
    let steps = run.pointer("/dag/steps").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for step in steps {
        let Some(state) = run.get("steps").and_then(|s| s.get(text(step, "name"))) else { continue };
        let exit = list_of(state, "history")
            .last()
            .and_then(|a| a.get("exit"))
            .and_then(|e| serde_json::from_value::<domain::run::Exit>(e.clone()).ok());
        let exit = exit.map_or_else(|| "–".to_owned(), |e| e.in_brief());
        let advice = view.pointer(&format!("/advice/{}", text(step, "name"))).and_then(Value::as_str);
        words.push_str(&said(text(step, "name"), &exit, state, advice, zone));
        table.push([
            text(step, "name").to_owned(),
            text(step, "kind").to_owned(),
            text(state, "state").to_owned(),
            state.get("attempt").map(Value::to_string).unwrap_or_default(),
            time(zone, state, "started_at", Zone::time),
            time(zone, state, "ready_at", Zone::time),
            time(zone, state, "stopped_at", Zone::time),
            exit,
        ]);
    }
    out.push_str(&columns(&table));
    if !words.is_empty() {
        out.push('\n');
        out.push_str(&words);
    }
    out
}

/// What is to be said of a step beyond its row: why, what was noticed, and what to do.
fn said(name: &str, exit: &str, state: &Value, advice: Option<&str>, zone: &Zone) -> String {
    let reason = reason(state, zone);
    let notice = state.get("notice").and_then(Value::as_str).unwrap_or_default();
    if (reason.is_empty() || reason == exit) && notice.is_empty() && advice.is_none() {
        return String::new();
    }
    let lines = [reason.as_str(), notice].into_iter().filter(|line| !line.is_empty()).map(str::to_owned);
    let lines: Vec<_> = lines.chain(advice.map(|advice| format!("to do: {advice}"))).collect();
    format!("{name}: {}\n", lines.join("\n    "))
}

/// Why a step stands where it stands, and until when it waits.
fn reason(state: &Value, zone: &Zone) -> String {
    let reason = state.get("reason").and_then(Value::as_str).unwrap_or_default();
    match state.get("not_before").and_then(Value::as_str) {
        Some(_) => format!("waits until {}: {reason}", time(zone, state, "not_before", Zone::time)),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
