use clap::Parser;

use super::*;
use daemon::Refused;
use daemon::handle::Command;
use daemon::testing;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn session(day: &str, state: BackfillState) -> BackfillSession {
    BackfillSession {
        run: format!("kis-trading-day@{day}").parse().expect("an id"),
        date: day.parse().expect("a date"),
        state,
    }
}

fn line(url: &str, more: &[&str]) -> Arguments {
    let words = [
        "x",
        "kis-trading-day",
        "--from",
        "2026-11-18",
        "--to",
        "2026-11-20",
        "--param",
        "venue=NXT",
        "--url",
        url,
    ];
    Line::try_parse_from([&words[..], more].concat()).expect("a command line").arguments
}

#[test]
fn sessions_are_listed_with_what_would_be_done() {
    use BackfillState::{Due, Ended};
    let arguments = line("http://x", &["--dry-run"]);
    let text = listed(&[session("2026-11-18", Ended), session("2026-11-19", Due)], &arguments);
    assert!(text.contains("kis-trading-day@2026-11-18  has its run, passed over\n"), "{text}");
    assert!(
        text.contains("kis-trading-day@2026-11-19  started\n") && text.ends_with("1 runs would be started\n"),
        "{text}"
    );
    assert_eq!(listed(&[], &arguments), "kis-trading-day has no session from 2026-11-18 to 2026-11-20\n");
    assert!(
        Line::try_parse_from(["x", "d", "--from", "2026-11-18", "--to", "2026-11-20", "--at-a-time", "0"])
            .is_err()
    );
}

#[tokio::test]
async fn runs_are_asked_for_until_none_is_due_and_waited_for() {
    use BackfillState::{Created, Due, Ended};
    // The fixture's run of the 20th has ended.
    let mut daemon = testing::Daemon::showing(testing::ended());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let stop = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(web::serve(
        listener,
        daemon.handle.clone(),
        steps::testing::fakes::empty(),
        stop.clone(),
    ));
    let arguments = line(&url, &[]);
    let work = tokio::spawn(async move { main(&arguments).await });
    let old = session("2026-11-18", Ended);
    for (at_most, state) in [(0, Due), (1, Created)] {
        let asked =
            tokio::time::timeout(Duration::from_secs(120), daemon.commands.recv()).await.expect("in time");
        let asked = asked.expect("a command");
        let Command::Backfill { dag, first, last, params, at_most: most } = asked.command else {
            panic!("{asked:?}")
        };
        assert_eq!(
            (dag.as_str(), first.to_string(), last.to_string()),
            ("kis-trading-day", "2026-11-18".into(), "2026-11-20".into())
        );
        assert_eq!((params["venue"].as_str(), most), ("NXT", at_most));
        let answer = serde_json::to_string(&[old.clone(), session("2026-11-20", state)]).expect("JSON");
        asked.answer.send(Ok(daemon::handle::Answer::Done(answer))).expect("awaited");
    }
    assert_eq!(work.await.expect("no panic").map_err(|f| f.message), Ok(Exit::Fine));

    let arguments = line(&url, &["--json"]);
    let work = tokio::spawn(async move { main(&arguments).await });
    let asked =
        tokio::time::timeout(Duration::from_secs(120), daemon.commands.recv()).await.expect("in time");
    asked
        .expect("a command")
        .answer
        .send(Err(Refused::foreign("x has no schedule", "trigger it")))
        .expect("awaited");
    assert_eq!(
        work.await.expect("no panic").map_err(|f| f.message),
        Err("x has no schedule; trigger it".to_owned())
    );
    stop.cancel();
    server.await.expect("no panic").expect("a clean end");
}
