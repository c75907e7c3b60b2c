//! Plays a demo day: simulator, virtual clock, daemon and page in one process.
//!
//! Everything needed to go on after a crash is in the data folder: the clock file says what time it is on
//! that day, and the market follows from the seed. A day that is continued lost what was traded while nobody
//! listened, as a real day would.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::report::Report;
use super::{Arguments, hold, pace, proof, servers, view};
use crate::exit::Failure;
use crate::serve::{self, RunningDaemon};
use clock::Clock;
use config::{Config, DockerSettings, Feeds, Pull};
use daemon::handle::Command;
use domain::calendar::{Calendar, TradingSession};
use domain::dag::{Dag, Program};
use domain::hop;
use domain::ids::{DagName, RunId};
use domain::schedule::Window;
use feed::Feed;
use simulate::{Day, EXCHANGES, Exchange, Running};

/// What a day that goes on must have in common with its beginning; `demo.json` in the data folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct DayFile {
    date: Date,
    seed: u64,
    dag: String,
    exchange_port: u16,
    /// The part of the names on real servers that is this day's own.
    #[serde(default)]
    name: String,
    #[serde(default)]
    finished: bool,
}

/// Plays the day, and tells what it came to.
///
/// # Errors
/// What keeps it from being played; a day that was played but does not reconcile is a report, not an error.
pub async fn play(arguments: &Arguments) -> Result<Report, Failure> {
    let data = data_folder(arguments)?;
    let dags = dag_folder(arguments, &data)?;
    let (dag, calendar) = find_dag(&dags, &arguments.dag)?;
    let Some(played) = PlayedDay::of(arguments, &dag, calendar.as_ref())? else {
        println!("{} is not a day for {}: no run", arguments.date, dag.name);
        let hops = hop::of(&dag, steps::programs());
        let report = Report::closed(arguments.date, arguments.speed, arguments.seed, &hops);
        super::tell(arguments, &report)?;
        return Ok(report);
    };
    let Source { exchange, feed, symbols, topic } = source(&dag, &dags)?;

    let before = day_file(&data)?;
    if let Some(before) = &before {
        check_billing(before, arguments, &data)?;
    }
    let clock = played.clock(arguments, &data)?;
    let port = before.as_ref().map_or(0, |b| b.exchange_port);
    let simulator = exchange
        .demo(Day { clock: clock.clone(), seed: arguments.seed, session: played.session, symbols, port })
        .await
        .map_err(|e| Failure::unusable(format!("the exchange simulator cannot start: {e}")))?;
    let mut day_file = DayFile {
        date: arguments.date,
        seed: arguments.seed,
        dag: arguments.dag.clone(),
        exchange_port: simulator.listens_on().port(),
        name: before.as_ref().map_or_else(
            || format!("{}-{:06x}", arguments.seed, fastrand::u32(..1 << 24)),
            |b| b.name.clone(),
        ),
        finished: false,
    };
    write_day_file(&data, &day_file)?;

    let publishing = tokio::spawn({
        let clock = clock.clone();
        async move { clock.keep_published().await }
    });
    let demo = DemoDay {
        exchange,
        feed,
        topic: &topic,
        simulator: simulator.as_ref(),
        dag: &dag,
        name: &day_file.name,
        data: &data,
        dags: &dags,
    };
    let report = perform(arguments, &demo, played, &clock).await?;
    simulator.stop().await;
    publishing.abort();
    day_file.finished = true;
    write_day_file(&data, &day_file)?;
    Ok(report)
}

/// The day of a DAG that is played.
struct PlayedDay {
    session: TradingSession,
    zone: TimeZone,
    window: Window,
    close: Timestamp,
    run: RunId,
    held_at: Option<Timestamp>,
}

impl PlayedDay {
    /// `None` where the DAG has no run on that day.
    fn of(arguments: &Arguments, dag: &Dag, calendar: Option<&Calendar>) -> Result<Option<Self>, Failure> {
        let unfit = |what: &str| Failure::usage(format!("DAG {} has no {what}", dag.name));
        let schedule = dag.schedule.as_ref().ok_or_else(|| unfit("schedule, so it has no day to play"))?;
        let Some(window) = schedule.window_on(arguments.date, calendar) else { return Ok(None) };
        let close = window.close_at.ok_or_else(|| unfit("close, so its day never ends"))?;
        let zone = schedule.zone().map_err(Failure::usage)?;
        let session = session(dag, calendar, &zone, arguments.date)?;
        let run = RunId::new(&dag.name, &arguments.date.to_string());
        let held_at =
            arguments.hold_at.map(|time| hold::instant(time, arguments.date, window, &zone)).transpose()?;
        Ok(Some(Self { session, zone, window, close, run, held_at }))
    }

    /// A clock that begins a little before the day does.
    fn clock(&self, arguments: &Arguments, data: &Path) -> Result<Clock, Failure> {
        let start = self.window.open_at.checked_sub(Duration::from_secs(5)).unwrap_or(self.window.open_at);
        let (file, until) = (Some(data.join("clock")), self.held_at.unwrap_or(Timestamp::MAX));
        Clock::virtual_until(start, arguments.speed.min(10.0), file, until).map_err(Failure::unusable)
    }
}

/// Starts the daemon, lets the day pass, and proves it.
async fn perform(
    arguments: &Arguments,
    demo: &DemoDay<'_>,
    played: PlayedDay,
    clock: &Clock,
) -> Result<Report, Failure> {
    let PlayedDay { session, zone, close, run, held_at, .. } = played;
    let daemon = start_daemon(arguments, demo, clock).await?;
    if !arguments.quiet {
        println!(
            "{} at {} times real speed, seed {}; page: {}",
            arguments.date, arguments.speed, arguments.seed, daemon.url
        );
        println!("data: {}", demo.data.display());
    }
    // Containers need real time to start as well.
    let embedded = arguments.backends != "real" && !matches!(arguments.executor.as_str(), "docker" | "swarm");
    let speeds = (arguments.speed, if embedded { pace::Speeds::EMBEDDED } else { pace::Speeds::SERVERS });
    let (hold, holds) = watch::channel(held_at);
    let (say, said) = mpsc::channel(8);
    let hands = || (daemon.handle.clone(), run.clone());
    let (handle, day) = hands();
    let pacing = tokio::spawn(pace::keep(clock.clone(), handle, day, speeds, holds));
    let (handle, day) = hands();
    let viewing = tokio::spawn(view::show(handle, day, demo.topic.to_owned(), arguments.quiet, said));
    let holding =
        held_at.map(|at| tokio::spawn(hold::until_told(clock.clone(), at, zone, hold.clone(), say)));
    let kill_at = Timestamp::from_second(session.open.as_second() + 150 * 60).unwrap_or(session.open);
    let (handle, day) = hands();
    let killing =
        (clock.now() < kill_at).then(|| tokio::spawn(kill_a_sink(clock.clone(), handle, day, kill_at)));

    let outcome = wait_for_the_end(&daemon, &run, close, clock).await;
    if arguments.stay && outcome.is_ok() {
        // The next day is not played.
        hold.send_replace(Some(clock.now()));
    }
    let report = match outcome {
        Ok(()) => proof::prove(arguments, &daemon, demo).await,
        Err(failure) => Err(failure),
    };
    for task in [Some(viewing), killing, holding].into_iter().flatten() {
        leave(task).await;
    }
    let told = report.and_then(|report| super::tell(arguments, &report).map(|()| report));
    if arguments.stay && told.is_ok() {
        eprintln!("the day has ended; its page stays until Ctrl-C: {}", daemon.url);
        tokio::signal::ctrl_c().await.map_err(Failure::fault)?;
    }
    leave(pacing).await;
    // Whoever has to stop now may wait for the clock.
    clock.set_speed(clock.speed().max(1.0));
    daemon.stop().await?;
    told
}

/// Ends a task, and waits until it does nothing any more; that it was cancelled is no news.
async fn leave(task: tokio::task::JoinHandle<()>) {
    task.abort();
    task.await.unwrap_or_default();
}

/// Where a day is played.
pub(super) struct DemoDay<'a> {
    exchange: &'static dyn Exchange,
    pub(super) feed: &'static dyn Feed,
    /// Topic of the trades.
    topic: &'a str,
    pub(super) simulator: &'a dyn Running,
    pub(super) dag: &'a Dag,
    /// The part of the names on real servers that is this day's own.
    name: &'a str,
    pub(super) data: &'a Path,
    dags: &'a Path,
}

async fn start_daemon(
    arguments: &Arguments,
    demo: &DemoDay<'_>,
    clock: &Clock,
) -> Result<RunningDaemon, Failure> {
    let DemoDay { exchange, simulator, dag, name, data, dags, .. } = *demo;
    let wanted = arguments.port.unwrap_or(8650);
    let mut config = Config {
        listen: format!("127.0.0.1:{wanted}"),
        executor: arguments.executor.clone(),
        // The simulator, and servers for tests, listen on this machine's loopback.
        docker: DockerSettings {
            network: "host".into(),
            image: std::env::var("OPENBELL_IMAGE").unwrap_or_else(|_| DockerSettings::default().image),
            pull: Pull::Never,
            ..DockerSettings::default()
        },
        feeds: Feeds::from([(
            exchange.feed().to_owned(),
            simulator.addresses().into_iter().map(|(key, url)| (key.to_owned(), url)).collect(),
        )]),
        ..Config::default()
    };
    if arguments.backends == "real" {
        config = servers::configured(config, name, |variable| std::env::var(variable).ok())?;
        if !arguments.quiet {
            println!("names on the servers begin with openbell-demo-{name}");
        }
    }
    if arguments.port.is_none() && std::net::TcpListener::bind(("127.0.0.1", wanted)).is_err() {
        config.listen = "127.0.0.1:0".into();
    }
    let stand_ins = dag
        .steps()
        .iter()
        .flat_map(|s| s.secrets.values())
        .map(|r| (r.to_string(), "demo-key-of-the-simulator".to_owned()))
        .collect();
    serve::start(serve::Options {
        config,
        data: data.to_owned(),
        dags: dags.to_owned(),
        clock: clock.clone(),
        only: Some(dag.name.clone()),
        stand_ins,
    })
    .await
}

/// The scripted incident on our side: kill -9 for a sink, two and a half hours after the open.
async fn kill_a_sink(clock: Clock, handle: daemon::Handle, day: RunId, at: Timestamp) {
    clock.sleep_until(at).await;
    let snapshot = handle.snapshot();
    let Some(run) = pace::of(&snapshot, &day).map(|view| &view.run) else { return };
    let Some(sink) = hop::of_run(run, steps::programs()).into_iter().find(|hop| hop.group.is_some()) else {
        return;
    };
    if let Err(refused) = handle.command("demo", Command::Kill(day, sink.step)).await {
        tracing::warn!(%refused, "the scripted kill of a sink was not carried out");
    }
}

/// Returns when the day's run has ended; a day whose loop hangs is given up after an hour past close.
async fn wait_for_the_end(
    daemon: &RunningDaemon,
    day: &RunId,
    close: Timestamp,
    clock: &Clock,
) -> Result<(), Failure> {
    let mut snapshots = daemon.handle.subscribe();
    let give_up = close.checked_add(Duration::from_secs(3600)).unwrap_or(close);
    loop {
        if pace::of(&snapshots.borrow_and_update(), day).is_some_and(|view| view.run.state.is_terminal()) {
            return Ok(());
        }
        tokio::select! {
            changed = snapshots.changed() => {
                changed.map_err(|_| Failure::fault("the daemon ended before the day did"))?;
            }
            () = clock.sleep_until(give_up) => {
                return Err(Failure::fault("the run has not ended an hour after its close; look at the page's output of the steps"));
            }
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::fault("interrupted; the same command with this --data goes on with the day"));
            }
        }
    }
}

fn data_folder(arguments: &Arguments) -> Result<PathBuf, Failure> {
    let data = match &arguments.data {
        Some(data) => data.clone(),
        None => std::env::temp_dir().join(format!("openbell-demo-{}-{}", arguments.seed, std::process::id())),
    };
    std::fs::create_dir_all(&data).map_err(|e| {
        Failure::unusable(format!("--data {}: {e}; choose a folder you may write", data.display()))
    })?;
    data.canonicalize().map_err(|e| Failure::unusable(format!("--data {}: {e}", data.display())))
}

fn day_file(data: &Path) -> Result<Option<DayFile>, Failure> {
    let path = data.join("demo.json");
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|e| Failure::unusable(format!("{}: {e}", path.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::unusable(format!("{}: {e}", path.display()))),
    }
}

fn write_day_file(data: &Path, day_file: &DayFile) -> Result<(), Failure> {
    let path = data.join("demo.json");
    let text = serde_json::to_string_pretty(day_file).map_err(Failure::fault)?;
    files::replace(&path, text.as_bytes()).map_err(|e| Failure::unusable(format!("{}: {e}", path.display())))
}

fn check_billing(before: &DayFile, arguments: &Arguments, data: &Path) -> Result<(), Failure> {
    if before.finished {
        return Err(Failure::usage(format!(
            "{} holds a demo day that has ended; choose another --data",
            data.display()
        )));
    }
    if (before.date, before.seed, before.dag.as_str())
        != (arguments.date, arguments.seed, arguments.dag.as_str())
    {
        return Err(Failure::usage(format!(
            "{} holds another day that was interrupted (--date {} --seed {} --dag {}); go on with these, or choose another --data",
            data.display(),
            before.date,
            before.seed,
            before.dag
        )));
    }
    Ok(())
}

fn dag_folder(arguments: &Arguments, data: &Path) -> Result<PathBuf, Failure> {
    if let Some(dags) = &arguments.dags {
        return Ok(dags.clone());
    }
    let here = PathBuf::from("dags");
    if here.join(format!("{}.yaml", arguments.dag)).is_file() {
        return Ok(here);
    }
    let built_in = data.join("dags");
    // For a binary that runs outside its source tree.
    for (name, text) in EXCHANGES.iter().flat_map(|exchange| exchange.shipped()) {
        let path = built_in.join(name);
        let written = std::fs::create_dir_all(path.parent().unwrap_or(&built_in))
            .and_then(|()| std::fs::write(&path, text));
        written.map_err(|e| Failure::unusable(format!("{}: {e}", path.display())))?;
    }
    Ok(built_in)
}

fn find_dag(dags: &Path, name: &str) -> Result<(Dag, Option<Calendar>), Failure> {
    let folder = daemon::folder::read(dags, steps::programs()).map_err(Failure::unusable)?;
    let dags_there = folder.dags();
    if let Some(dag) =
        dags_there.iter().find(|(known, _)| known.as_str() == name).map(|(_, dag)| (*dag).clone())
    {
        let calendar = folder.calendar_of(&dag).cloned();
        return Ok((dag, calendar));
    }
    if let Some(broken) = folder.files.iter().find(|f| f.name.as_deref() == Some(name)) {
        let path = broken.path.display().to_string();
        let errors: Vec<_> = broken.diagnostics().map(|d| d.render(&path)).collect();
        return Err(Failure::usage(format!("--dag {name} does not work:\n{}", errors.join("\n"))));
    }
    let names: Vec<_> = dags_there.keys().map(DagName::as_str).collect();
    Err(Failure::usage(format!(
        "--dag {name}: there is no such DAG in {}; there are {}",
        dags.display(),
        names.join(", ")
    )))
}

/// What the DAG's collector listens to, and where its trades go.
struct Source {
    exchange: &'static dyn Exchange,
    feed: &'static dyn Feed,
    symbols: Vec<String>,
    topic: String,
}

fn source(dag: &Dag, dags: &Path) -> Result<Source, Failure> {
    let found = dag.steps().iter().find_map(|step| {
        let Program::Uses(program) = &step.program else { return None };
        let name = program.strip_prefix("collect/")?;
        Some((simulate::find(name)?, feed::find(name)?, &step.with))
    });
    let Some((exchange, feed, with)) = found else {
        let served = EXCHANGES
            .iter()
            .map(|exchange| format!("collect/{}", exchange.feed()))
            .collect::<Vec<_>>()
            .join(" or ");
        return Err(Failure::usage(format!(
            "DAG {} has no {served} step for the simulator to serve",
            dag.name
        )));
    };
    let symbols = steps::collect::symbols(feed, with, dags).map_err(Failure::usage)?;
    let topic =
        with.get("topic").and_then(serde_json::Value::as_str).unwrap_or(feed.default_topic()).to_owned();
    Ok(Source { exchange, feed, symbols, topic })
}

/// The exchange's session of the day: the calendar's, or from midnight to midnight where there is none.
fn session(
    dag: &Dag,
    calendar: Option<&Calendar>,
    zone: &TimeZone,
    date: Date,
) -> Result<TradingSession, Failure> {
    if let Some(calendar) = calendar {
        let closed = || Failure::usage(format!("{date} is no session of the calendar of DAG {}", dag.name));
        return calendar.session(date).ok_or_else(closed);
    }
    let midnight = |date: Date| Some(date.to_zoned(zone.clone()).ok()?.timestamp());
    let day = midnight(date).zip(date.tomorrow().ok().and_then(midnight));
    let (open, close) =
        day.ok_or_else(|| Failure::usage(format!("--date {date} is beyond what a calendar has")))?;
    Ok(TradingSession { date, open, close })
}
