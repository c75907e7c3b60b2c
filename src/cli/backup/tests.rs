use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use super::*;
use crate::serve::{self, RunningDaemon};
use daemon::handle::Command;
use daemon::snapshot::RunView;
use steps::testing::fixtures;

const PATIENCE: Duration = Duration::from_secs(120);
const DAG: &str = "name: day
steps:
  topics: { uses: topics, with: { create: [kis.trades], partitions: 1 } }
  sink-index: { kind: service, uses: sink/index, needs: [topics] }
";

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn backup(words: &[&str]) -> Arguments {
    Line::try_parse_from([&["backup"], words].concat()).expect("a command line").arguments
}

/// A daemon on a data folder.
async fn up(data: &Path, dags: &Path) -> RunningDaemon {
    let config = config::Config { listen: "127.0.0.1:0".into(), ..Default::default() };
    let (data, dags) = (data.to_owned(), dags.to_owned());
    let options = serve::Options {
        config,
        data,
        dags,
        clock: Clock::system(),
        only: None,
        stand_ins: Default::default(),
    };
    serve::start(options).await.expect("it comes up")
}

/// Waits until the daemon shows a run of which this is true.
async fn until(daemon: &RunningDaemon, what: impl Fn(&RunView) -> bool) -> RunView {
    let mut snapshots = daemon.handle.subscribe();
    let found = async {
        loop {
            if let Some(view) = snapshots.borrow_and_update().runs.iter().find(|view| what(view)) {
                return view.clone();
            }
            snapshots.changed().await.expect("the daemon lives");
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("in time")
}

fn ready(view: &RunView) -> bool {
    view.run.steps.values().all(|step| step.ready_at.is_some() || step.state.is_terminal())
}

struct Place {
    _folder: tempfile::TempDir,
    data: PathBuf,
    dags: PathBuf,
    file: PathBuf,
    fresh: PathBuf,
}

/// A data folder with users and a spool, and a DAG folder beside it.
fn place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let [data, dags, file, fresh] = ["data", "dags", "day.tar", "fresh"].map(|name| folder.path().join(name));
    fs::create_dir_all(dags.join("symbols")).expect("a folder");
    fs::write(dags.join("day.yaml"), DAG).expect("written");
    fs::write(dags.join("symbols/two.txt"), "005930\n000660\n").expect("written");
    let trades: Vec<_> = (1..=200).map(|n| fixtures::trade("005930", n)).collect();
    fixtures::spool(&data, &trades);
    let spool = steps::spool_tail::folder(&data, "day", "collector");
    backends::spool::store_cursor(&spool, "log", 100).expect("stored");
    Place { _folder: folder, data, dags, file, fresh }
}

impl Place {
    fn arguments(&self) -> Arguments {
        let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
        backup(&[&text(&self.file), "--data", &text(&self.data), "--dags", &text(&self.dags)])
    }
}

fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(tree(&entry));
        } else {
            found.push((entry.clone(), fs::read(&entry).expect("a file")));
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_day_is_backed_up_and_a_daemon_goes_on_from_the_backup() {
    let place = place();
    let daemon = up(&place.data, &place.dags).await;
    let trigger = Command::Trigger {
        dag: "day".parse().expect("a name"),
        params: Default::default(),
        until: Some(Clock::system().now() + jiff::SignedDuration::from_hours(1)),
        date: None,
    };
    daemon.handle.command("ann", trigger).await.expect("started");
    let before = until(&daemon, ready).await;
    let manifest = collect::collect(&place.arguments(), &place.file).await.expect("written");
    assert!(
        manifest.running && manifest.files.iter().any(|f| f.name.starts_with("spool/") && f.bytes > 1_000),
        "{manifest:?}"
    );
    let notes = |name: &str| [".cursor", ".topics", "/lock"].iter().any(|end| name.ends_with(end));
    assert!(
        !manifest.files.iter().any(|f| notes(&f.name)),
        "a collector that has no cursor fills its stores again: {manifest:?}"
    );
    assert_eq!(fs::metadata(&place.file).expect("a file").permissions().mode() & 0o777, 0o600);
    let again = collect::collect(&place.arguments(), &place.file).await.expect_err("it is there already");
    assert!(again.message.contains("there already"), "{again}");
    daemon.stop().await.expect("stopped");

    assert_eq!(check::check(&place.file).expect("readable").faults, Vec::<String>::new());
    let (restored, entries) = restore::restore(&place.file, &place.fresh).expect("restored");
    assert!(restored == manifest && entries > 5, "{entries}");
    let spooled = |data: &Path| {
        let within = data.join("spool");
        let all = tree(&within)
            .into_iter()
            .map(|(path, bytes)| (path.strip_prefix(&within).expect("within").to_owned(), bytes));
        all.filter(|(path, _)| !path.ends_with("lock") && !path.ends_with("log.cursor")).collect::<Vec<_>>()
    };
    assert_eq!(spooled(&place.fresh), spooled(&place.data));
    for (path, _) in tree(&place.fresh.join("spool")) {
        assert_eq!(
            fs::metadata(&path).expect("a file").permissions().mode() & 0o077,
            0,
            "{}",
            path.display()
        );
    }
    let daemon = up(&place.fresh, &place.fresh.join("dags")).await;
    let after = until(&daemon, |view| view.run.id == before.run.id && ready(view)).await;
    assert_eq!((after.run.created_at, &after.run.dag), (before.run.created_at, &before.run.dag));
    let known = daemon.handle.snapshot();
    assert!(
        known.audit.iter().any(|entry| entry.who == "ann" && entry.what == "trigger"),
        "the audit, too: {:?}",
        known.audit
    );
    daemon.stop().await.expect("stopped");
    let twice = restore::restore(&place.file, &place.fresh).expect_err("it holds something");
    assert!(twice.message.contains("is not empty"), "{twice}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_found_wherever_it_is() {
    let place = place();
    up(&place.data, &place.dags).await.stop().await.expect("stopped");
    let manifest =
        collect::collect(&place.arguments(), &place.file).await.expect("written, without a daemon");
    assert!(!manifest.running && !place.data.join("backup-export").exists());
    let good = fs::read(&place.file).expect("a file");
    let spool = manifest
        .files
        .iter()
        .find(|f| f.name.starts_with("spool/") && f.bytes > 600)
        .expect("a spool")
        .name
        .clone();
    let inside = good.windows(6).rposition(|w| w == b"H0STCN" || w == b"005930").expect("a trade");
    for at in (0..good.len()).step_by(509).chain([inside]) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&place.file, &bad).expect("written");
        // A head's fields that nothing reads (owner, time) are covered by the head's own sum.
        let faults = check::check(&place.file).expect("readable").faults;
        assert!(!faults.is_empty(), "byte {at} of {} is not missed", good.len());
        if at == inside {
            assert!(faults.iter().any(|f| f.contains(&spool) && f.contains("is damaged")), "{faults:?}");
        }
    }
    let torn = restore::restore(&place.file, &place.fresh).expect_err("damaged");
    assert!(torn.exit == Exit::Fault && torn.message.contains("nothing was restored"), "{torn}");
    assert!(!place.fresh.exists());
    for length in [0, 100, 512, good.len() / 2, good.len() - 600] {
        fs::write(&place.file, &good[..length]).expect("written");
        assert!(!check::check(&place.file).expect("readable").faults.is_empty(), "{length} bytes");
    }
    let newer = String::from_utf8_lossy(&good).contains("\"format\": 1");
    assert!(newer, "the manifest is plain text");
    fs::write(&place.file, &good).expect("written");
    assert_eq!(check::check(&place.file).expect("readable").faults, Vec::<String>::new());
}
