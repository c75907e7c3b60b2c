//! `openbell dag test`: one DAG once, in the foreground, with its output on the terminal and its outcome as
//! the exit code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;

use crate::exit::{Exit, Failure, Result};
use crate::serve::{self, RunningDaemon};
use crate::table::print_json;
use clock::Clock;
use config::Config;
use daemon::handle::Command;
use domain::ids::{DagName, RunId};
use domain::run::RunState;

/// What to try.
#[derive(Debug, Clone)]
pub struct Test {
    /// The DAG file.
    pub file: PathBuf,
    /// The session date the steps are told; default today.
    pub date: Option<Date>,
    /// How long a DAG with services may run; default until its close of today, else ten minutes.
    pub until: Option<std::time::Duration>,
    /// Data folder; default a new temporary one.
    pub data: Option<PathBuf>,
    /// The run as JSON at its end; everything else goes to standard error then.
    pub json: bool,
    /// Configuration.
    pub config: Config,
}

impl Test {
    /// Tells how it goes.
    fn say(&self, text: std::fmt::Arguments<'_>) {
        if self.json { eprintln!("{text}") } else { println!("{text}") }
    }
}

/// Runs the DAG once.
///
/// # Errors
/// When the file is broken or the daemon cannot be started. A run that fails is [`Exit::Fault`].
pub fn main(test: &Test) -> Result {
    let runtime = serve::runtime()?;
    let result = runtime.block_on(play(test));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    result
}

async fn play(test: &Test) -> Result {
    let dags = test.file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    let (calendars, _) = daemon::folder::calendars(&dags);
    let file = daemon::folder::read_file(
        &test.file,
        &dags,
        &dagfile::Known { programs: steps::programs(), calendars: &calendars },
    );
    let shown = test.file.display().to_string();
    let name = file.dag.as_ref().map(|dag| dag.name.clone()).map_err(|errors| {
        Failure::fault(errors.iter().map(|e| e.render(&shown)).collect::<Vec<_>>().join("\n"))
    })?;
    let data = match &test.data {
        Some(data) => data.clone(),
        None => std::env::temp_dir().join(format!("openbell-test-{}", std::process::id())),
    };
    let clock = Clock::system();
    let mut config = test.config.clone();
    config.listen = "127.0.0.1:0".into();
    let options = serve::Options {
        config,
        data: data.clone(),
        dags,
        clock: clock.clone(),
        only: Some(name.clone()),
        stand_ins: BTreeMap::new(),
    };
    let daemon = serve::start(options).await?;
    test.say(format_args!("page: {}  data: {}", daemon.url, data.display()));
    let outcome = watch(test, &daemon, &name, clock.now()).await;
    daemon.stop().await?;
    outcome
}

async fn watch(test: &Test, daemon: &RunningDaemon, name: &DagName, now: Timestamp) -> Result {
    let until = test.until.map(|d| now.checked_add(d).unwrap_or(Timestamp::MAX));
    let trigger =
        |until| Command::Trigger { dag: name.clone(), params: BTreeMap::new(), until, date: test.date };
    let id = match daemon.handle.command("cli", trigger(until)).await {
        Ok(id) => id,
        // A DAG with services outside its window: ten minutes are enough for a test.
        Err(_) if until.is_none() => {
            let ten_minutes = now.checked_add(std::time::Duration::from_secs(600)).unwrap_or(Timestamp::MAX);
            daemon.handle.command("cli", trigger(Some(ten_minutes))).await.map_err(Failure::fault)?
        }
        Err(refused) => return Err(Failure::fault(refused)),
    };
    let id: RunId = id.parse().map_err(Failure::fault)?;
    let mut shown = BTreeMap::new();
    let mut printed: BTreeMap<(String, u32), u64> = BTreeMap::new();
    let mut snapshots = daemon.handle.subscribe();
    loop {
        let state = {
            let snapshot = snapshots.borrow_and_update().clone();
            let view = snapshot.runs.iter().find(|v| v.run.id == id);
            if let Some(view) = view {
                for (step, now) in &view.run.steps {
                    if now.attempt > 0 {
                        follow(test, daemon, &id, step, now.attempt, &mut printed);
                    }
                    if shown.insert(step.clone(), (now.state, now.attempt)) != Some((now.state, now.attempt))
                    {
                        let reason = now.reason.as_deref().map_or(String::new(), |r| format!(" ({r})"));
                        test.say(format_args!("{step}: {}{reason}", now.state.as_str()));
                    }
                }
            }
            if let Some(view) = view.filter(|view| view.run.state.is_terminal()) {
                test.say(format_args!("{id}: {}", view.run.state.as_str()));
                if test.json {
                    print_json(&serde_json::json!({ "run": view.run }))?;
                }
            }
            view.map(|v| v.run.state)
        };
        match state {
            Some(RunState::Succeeded) => return Ok(Exit::Fine),
            Some(RunState::Failed | RunState::Cancelled) => return Ok(Exit::Fault),
            _ => {}
        }
        tokio::select! {
            changed = snapshots.changed() => changed.map_err(|_| Failure::fault("the daemon ended before the run did"))?,
            _ = tokio::signal::ctrl_c() => {
                test.say(format_args!("stopping; press Ctrl-C again to leave at once"));
                daemon.handle.command("cli", Command::Cancel(id.clone())).await.map_err(Failure::fault)?;
            }
        }
    }
}

/// Prints what an attempt's output grew by.
fn follow(
    test: &Test,
    daemon: &RunningDaemon,
    run: &RunId,
    step: &domain::ids::StepName,
    attempt: u32,
    printed: &mut BTreeMap<(String, u32), u64>,
) {
    use std::io::{Read, Seek, SeekFrom};
    let at = printed.entry((step.to_string(), attempt)).or_insert(0);
    let Ok(mut file) = std::fs::File::open(daemon.handle.output_file(run, step, attempt)) else { return };
    let mut text = Vec::new();
    if file.seek(SeekFrom::Start(*at)).and_then(|_| file.take(1 << 20).read_to_end(&mut text)).is_err() {
        return;
    }
    // Whole lines only; the rest is printed when its line is complete.
    let Some(end) = text.iter().rposition(|b| *b == b'\n') else { return };
    *at += end as u64 + 1;
    for line in String::from_utf8_lossy(&text[..end]).lines() {
        test.say(format_args!("{step} | {line}"));
    }
}
