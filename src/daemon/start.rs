//! Puts the daemon's tasks together and takes them down in order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::action_runner::{self, Executors};
use super::alerts::Letterhead;
use super::cron_tick::CronTick;
use super::daemon_state::DaemonState;
use super::dispatcher::{Dispatcher, Inputs};
use super::folder;
use super::handle::Handle;
use super::journal::{Journal, JournalError};
use super::outbox::Outbox;
use super::snapshot::{Gauges, Snapshot};
use super::{gauges, reload, watcher};
use backends::Backends;
use backends::mail::Mail;
use clock::Clock;
use domain::ids::DagName;
use domain::program::Program;

/// What a daemon is made of.
pub struct Options {
    /// Time.
    pub clock: Clock,
    /// Data folder, locked and absolute.
    pub data: PathBuf,
    /// DAG folder, absolute.
    pub dags: PathBuf,
    /// What steps may use.
    pub programs: &'static [Program],
    /// Run only this DAG, whatever its file says about being enabled.
    pub only: Option<DagName>,
    /// Executors.
    pub executors: Executors,
    /// Stores.
    pub backends: Backends,
    /// Mail.
    pub mail: Arc<dyn Mail>,
    /// How mails are addressed.
    pub letterhead: Letterhead,
    /// Ended runs older than this are removed.
    pub keep_days: u32,
    /// Ends the daemon.
    pub stop: CancellationToken,
}

/// Why the daemon cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The DAG folder.
    #[error(transparent)]
    Folder(#[from] folder::FolderError),
    /// The cron scheduler.
    #[error("the cron scheduler cannot start: {0}")]
    CronTick(#[from] tokio_cron_scheduler::JobSchedulerError),
}

/// Between two looks at the stores' figures, of real time.
const GAUGES_EVERY: Duration = Duration::from_millis(250);

/// Starts a daemon: recovers what an earlier life left, then runs until [`Options::stop`] is cancelled.
///
/// # Errors
/// When journal or DAG folder are not usable.
pub async fn start(options: Options) -> Result<(Handle, JoinHandle<Result<(), Failed>>), Failed> {
    let Options { clock, data, dags, programs, only, executors, backends, mail, letterhead, keep_days, stop } =
        options;
    let runs_dir = data.join("runs");
    let now = clock.now();
    let folder = folder::read(&dags, programs)?;
    let opened = Journal::open(&data, &letterhead).await?;
    let (commands_in, commands) = mpsc::channel(64);
    let (notes_in, notes) = mpsc::channel(64);
    let (reports_in, reports) = mpsc::unbounded_channel();
    let (ticks_in, cron_ticks) = mpsc::channel(1);
    let (folder_in, folder_changes) = mpsc::channel(1);
    let (gauges_in, gauges_out) = watch::channel(Gauges::default());
    let (queued_in, queued) = watch::channel(Vec::new());
    let (snapshots, snapshot) = watch::channel(Arc::new(Snapshot::default()));
    let (calls_in, calls) = mpsc::unbounded_channel();
    let mail_wake = Arc::new(Notify::new());
    let (store, records) = (opened.journal.store(), opened.journal.store());

    let (in_force, problems) = reload::merge(&BTreeMap::new(), &folder);
    let mut dispatcher = Dispatcher {
        clock: clock.clone(),
        state: DaemonState::new(opened.journal, letterhead, opened.runs, opened.book),
        folder,
        dags: in_force,
        problems,
        only,
        executors: executors.clone(),
        action_runner: calls_in,
        runs_dir: runs_dir.clone(),
        programs,
        data,
        exported: None,
        snapshots,
        mail_wake: mail_wake.clone(),
        up_since: now,
        notices: opened.notices,
        stop: stop.clone(),
        draining: false,
        keep_days,
        trends: Arc::default(),
        views_at: None,
        views: Vec::new(),
    };
    let actions = tokio::spawn(action_runner::run(executors, calls, reports_in));
    dispatcher.pause_disabled().await?;
    dispatcher.recover().await?;

    let helpers = CancellationToken::new();
    let outbox = tokio::spawn(
        Outbox { store, mail, clock: clock.clone(), wake: mail_wake, queued: queued_in }.run(helpers.clone()),
    );
    let watching = tokio::spawn(watcher::watch(dags, programs, folder_in, helpers.clone()));
    let measuring = tokio::spawn(measure(backends, clock.clone(), gauges_in, helpers.clone()));
    let cron = if clock.is_system() { Some(CronTick::start(ticks_in.clone()).await?) } else { None };
    let inputs =
        Inputs { reports, commands, notes, cron_ticks, folder: folder_changes, gauges: gauges_out, queued };
    dispatcher.publish(&inputs);
    let handle = Handle::new(commands_in, snapshot, runs_dir).with_store(&records).with_notes(notes_in);
    let tasks = [actions, outbox, watching, measuring];
    let task = tokio::spawn(async move {
        let ended = dispatcher.run(inputs).await;
        // Whoever else waits for the daemon's end learns of it, also when the loop failed.
        stop.cancel();
        helpers.cancel();
        end(cron, ticks_in, tasks).await;
        ended.map_err(Failed::from)
    });
    Ok((handle, task))
}

/// Waits for what works beside the loop. The scheduler keeps a sender to the loop, so that goes last.
async fn end(cron: Option<CronTick>, ticks: mpsc::Sender<()>, tasks: [JoinHandle<()>; 4]) {
    if let Some(cron) = cron {
        cron.stop().await;
    }
    drop(ticks);
    for task in tasks {
        if let Err(error) = task.await {
            tracing::error!(%error, "a task of the daemon failed");
        }
    }
}

async fn measure(backends: Backends, clock: Clock, gauges: watch::Sender<Gauges>, stop: CancellationToken) {
    let mut meter = gauges::Meter::default();
    loop {
        let now = clock.now();
        gauges.send_replace(meter.read(&backends, now).await);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(GAUGES_EVERY) => {}
        }
    }
}
