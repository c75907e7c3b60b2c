use clap::Parser;

use super::*;
use backends::log::Record;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

fn command(words: &[&str]) -> Command {
    Line::try_parse_from([&["dlq"], words].concat()).expect("a command line").command
}

async fn run(words: &[&str], backends: &Backends) -> (Result<Exit, String>, String) {
    let mut out = Vec::new();
    let zone = Zone::new("Asia/Seoul");
    let result = match command(words) {
        Command::List(which) => list(&which, backends, &zone, &mut out).await,
        Command::Show(show) => show_some(&show, backends, &zone, &mut out).await,
        Command::Replay(which) => {
            let clock = Clock::manual("2026-11-20T10:00:00+09:00".parse().expect("a time"));
            resend(&which, backends, &clock, &mut out).await
        }
    };
    (result.map_err(|f| f.to_string()), String::from_utf8(out).expect("text"))
}

#[tokio::test]
async fn times_are_in_the_zone_of_the_dag_folder_when_no_daemon_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a plain path");
    let Command::List(which) = command(&["list", "--data", path, "--dags", path]) else {
        unreachable!("it is a list")
    };
    let at = "2026-11-20T00:30:00Z".parse().expect("a time");
    assert_eq!(zone(&which).await.full(at), "2026-11-20 00:30:00 UTC", "there is no DAG");
    let dag = "name: day\nschedule: { timezone: Asia/Seoul, open: \"50 8 * * *\" }\nsteps:\n  a: { command: [\"true\"] }\n";
    std::fs::write(folder.path().join("day.yaml"), dag).expect("written");
    assert_eq!(zone(&which).await.full(at), "2026-11-20 09:30:00 KST");
}

/// A message that is no text, with a control sequence in it.
fn bad_text() -> Record {
    let header = |n: &str, v: &str| (format!("{}{n}", steps::dead_letters::PREFIX), v.as_bytes().to_vec());
    Record {
        key: None,
        value: b"0|H0STCNT0|001|\xff\x1b[2J".to_vec(),
        headers: vec![
            ("openbell.spool".into(), b"s:1".to_vec()),
            header("connector.name", "day/collector"),
            header("exception.class.name", "bad_utf8"),
        ],
        timestamp: "2026-11-20T09:30:00+09:00".parse().expect("a time"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_shows_and_replays_on_stores_opened_from_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let within = |folder: &Path| {
        let folder = folder.to_str().expect("a plain path");
        let Command::List(which) = command(&["list", "--data", folder]) else { unreachable!("it is a list") };
        which
    };
    assert!(
        open(&within(&folder.path().join("none"))).await.err().expect("no folder").message.contains("--data")
    );
    let backends = open(&within(folder.path())).await.expect("opened");
    let (result, _) = run(&["list"], &backends).await;
    assert!(result.expect_err("no topic").contains("kis.trades.dlq"));
    backends.log.create_topic("kis.trades", 3).await.expect("created");
    backends.log.create_topic("kis.trades.dlq", 1).await.expect("created");
    assert_eq!(run(&["list"], &backends).await.1, "no dead letters of kis.trades\n");
    backends.log.append("kis.trades.dlq", vec![bad_text()]).await.expect("appended");
    let (_, text) = run(&["list"], &backends).await;
    assert!(
        text.contains("bad_utf8")
            && text.contains("day/collector")
            && text.contains("2026-11-20 09:30:00 KST"),
        "{text}"
    );
    let (_, text) = run(&["show", "5", "--cause", "bad_utf8"], &backends).await;
    assert!(text.contains("exception.class.name: bad_utf8") && text.contains("30 7c 48 30"), "{text}");
    assert!(text.contains("offset 0  2026-11-20 09:30:00 KST"), "{text}");
    assert!(!text.contains('\u{1b}'), "an escape sequence must not reach the terminal: {text:?}");
    // Through the API of a daemon over the same stores it is told in the same words.
    let daemon = daemon::testing::Daemon::showing(daemon::testing::snapshot());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let stop = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(web::serve(listener, daemon.handle.clone(), backends.clone(), stop.clone()));
    for words in [
        &["list"][..],
        &["list", "--json"],
        &["list", "--cause", "none"],
        &["show", "3"],
        &["show", "--json"],
    ] {
        let command = command(&[words, &["--url", &url]].concat());
        let client = command.which().daemon.client().expect("a client");
        let mut out = Vec::new();
        remote::carry_out(&command, &client, &mut out).await.expect("told");
        assert_eq!(String::from_utf8(out).expect("text"), run(words, &backends).await.1, "{words:?}");
    }
    let command = command(&["replay", "--json", "--url", &url]);
    let mut out = Vec::new();
    let result =
        remote::carry_out(&command, &command.which().daemon.client().expect("a client"), &mut out).await;
    assert_eq!(result.map_err(|f| f.to_string()), Ok(Exit::Fault));
    assert!(String::from_utf8_lossy(&out).contains("\"bad_utf8\": 1"), "{out:?}");
    stop.cancel();
    server.await.expect("no panic").expect("a clean end");

    let (result, text) = run(&["replay", "--json"], &backends).await;
    assert_eq!(result, Ok(Exit::Fault));
    let done: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&done["sent"], &done["refused"]), (&json!(0), &json!({"bad_utf8": 1})));
}
