use clap::Parser;

use super::*;
use steps::testing::fixtures;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn arguments(words: &[&str]) -> Arguments {
    Line::try_parse_from([&["reconcile"], words].concat()).expect("a command line").arguments
}

const DAG: &str = "name: day
schedule: { timezone: Asia/Seoul, open: \"50 8 * * *\", close: \"0 16 * * *\" }
steps:
  topics: { uses: topics, with: { create: [kis.trades], partitions: 1 } }
  collector: { uses: collect/kis, kind: service, needs: [topics], with: { symbols: [\"005930\"] }, secrets: { app_key: env:K, app_secret: env:S } }
  reconcile: { uses: reconcile, kind: teardown }
";

/// A data folder with a run of a DAG that has ended, whose spool holds trades that nobody forwarded.
async fn day(folder: &Path, dag: &str) -> RunId {
    let (data, dags) = (folder.join("data"), folder.join("dags"));
    std::fs::create_dir_all(&dags).expect("a folder");
    std::fs::write(dags.join("day.yaml"), dag).expect("written");
    let config = config::Config { listen: "127.0.0.1:0".into(), ..Default::default() };
    let options = super::super::serve::Options {
        config,
        data,
        dags,
        clock: Clock::system(),
        only: None,
        stand_ins: Default::default(),
    };
    let running = super::super::serve::start(options).await.expect("it comes up");
    let trigger = daemon::handle::Command::Trigger {
        dag: "day".parse().expect("a name"),
        params: Default::default(),
        until: Some(Clock::system().now() + jiff::SignedDuration::from_hours(1)),
        date: Some("2026-11-20".parse().expect("a date")),
    };
    let id: RunId = running.handle.command("ann", trigger).await.expect("started").parse().expect("an id");
    running.handle.command("ann", daemon::handle::Command::Cancel(id.clone())).await.expect("cancelled");
    let mut snapshots = running.handle.subscribe();
    let ended = snapshots.wait_for(|s| s.runs.iter().any(|v| v.run.id == id && v.run.state.is_terminal()));
    let patience = std::time::Duration::from_secs(120);
    tokio::time::timeout(patience, ended).await.expect("in time").map(drop).expect("the daemon lives");

    let asked = arguments(&[id.as_str(), "--data", folder.join("data").to_str().expect("a plain path")]);
    let (run, backends, lock) = find(&asked).await.expect("found through the daemon");
    assert!(run.id == id && lock.is_none());
    assert_eq!(
        compare(&run, backends, &asked.data).await.expect("compared")["ok"],
        true,
        "nothing was received, nothing is missing"
    );
    running.stop().await.expect("stopped");
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_is_compared_again_with_a_daemon_and_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let id = day(folder.path(), DAG).await;
    let data = folder.path().join("data");
    let trades: Vec<_> = (1..=7).map(|n| fixtures::trade("005930", n)).collect();
    fixtures::spool(&data, &trades);
    let plain = data.to_str().expect("a plain path").to_owned();
    let newest = arguments(&["--data", &plain]);
    let (run, backends, lock) = find(&newest).await.expect("found in the journal");
    assert!(run.id == id && lock.is_some(), "no daemon starts meanwhile");
    let found = compare(&run, backends.clone(), &data).await.expect("compared");
    assert_eq!(
        (&found["ok"], &found["hops"]["log"]["missing"], &found["hops"]["spool"]["unique"]),
        (&false.into(), &7.into(), &7.into())
    );
    let told = text(&run, &Reconciliation::of(&found).expect("a reconciliation's"));
    for words in [
        "HOP",
        "log    0       0         7",
        "log misses of 005930: kis:2026-11-20:005930:1, ",
        " and 2 more",
        "does NOT reconcile",
    ] {
        assert!(told.contains(words), "{told} lacks {words}");
    }
    drop((backends, lock));
    let unknown = arguments(&["--dag", "day", "--date", "2001-01-01", "--data", &plain]);
    let refused = find(&unknown).await.err().expect("there is none");
    assert!(refused.exit == Exit::Fault && refused.message.contains("no run day@2001-01-01"), "{refused}");
    let nowhere = arguments(&["--data", "/nowhere"]);
    assert_eq!(find(&nowhere).await.err().expect("no folder").exit, Exit::Unusable);
}

#[test]
fn a_dag_wants_a_date() {
    assert!(Line::try_parse_from(["reconcile", "--dag", "day"]).is_err());
    assert!(Line::try_parse_from(["reconcile", "a@1", "--dag", "day", "--date", "2026-11-20"]).is_err());
}
