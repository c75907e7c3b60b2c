use super::*;
use daemon::testing;
use std::time::Duration;

#[test]
fn a_dag_name_stands_for_its_open_run() {
    let run = |id: &str, state: &str| json!({ "id": id, "dag": id.split('@').next(), "state": state });
    let runs = json!({ "runs": [run("a@2", "closing"), run("a@1", "succeeded"), run("b@1", "failed"), run("c@2", "running"), run("c@1", "running")] });
    assert_eq!(choose(&runs, "a").expect("one is open"), Chosen::Open("a@2".into()));
    assert_eq!(choose(&runs, "b").expect("none is open"), Chosen::Ended("b@1".into()));
    assert!(choose(&runs, "c").expect_err("two are open").message.contains("c@2, c@1"));
    assert!(choose(&runs, "d").expect_err("there is none").message.contains("run list"));
}

#[test]
fn a_run_is_shown_with_its_steps() {
    let snapshot = testing::snapshot();
    let text = shown(&json!(snapshot.runs[0]), &Zone::new("Asia/Seoul"));
    assert!(
        text.starts_with(
            "kis-trading-day@2026-11-20  running  2026-11-20 08:50:00 KST to 2026-11-20 16:00:00 KST\n"
        ),
        "{text}"
    );
    let collector = text.lines().find(|l| l.starts_with("collector")).expect("a row");
    assert_eq!(
        collector.split_whitespace().collect::<Vec<_>>(),
        ["collector", "service", "ready", "2", "08:50:01", "08:50:04", "–", "exit", "code", "1"]
    );
    let waiting = json!({ "reason": "the slot is taken", "not_before": "2026-11-20T13:12:40+09:00" });
    assert_eq!(reason(&waiting, &Zone::new("Asia/Seoul")), "waits until 13:12:40: the slot is taken");
}

#[test]
fn what_is_to_be_said_of_a_step_stands_below_the_table() {
    let zone = Zone::new("Asia/Seoul");
    assert_eq!(said("fine", "exit code 0", &json!({ "reason": null }), None, &zone), "");
    assert_eq!(
        said("odd", "exit code 3", &json!({ "reason": "exit code 3" }), None, &zone),
        "",
        "its row says it"
    );
    let flood = json!({ "reason": "exit code 3", "notice": "printed more than 64 MiB" });
    assert_eq!(
        said("flood", "exit code 3", &flood, Some("see the end of its output"), &zone),
        "flood: exit code 3\n    printed more than 64 MiB\n    to do: see the end of its output\n"
    );
    let mut view = json!(testing::snapshot().runs[0]);
    let why = "could not be started: image \"registry.example.com/openbell:1\" is not on the engine; build or load it there";
    view["run"]["steps"]["collector"]["reason"] = why.into();
    view["run"]["steps"]["collector"]["history"][0]["exit"] =
        json!({ "not_started": &why["could not be started: ".len()..] });
    view["advice"] = json!({ "collector": "do this" });
    let text = shown(&view, &zone);
    assert!(
        text.lines()
            .find(|l| l.starts_with("collector "))
            .is_some_and(|row| row.ends_with("  could not be started")),
        "{text}"
    );
    assert!(text.contains(&format!("\ncollector: {why}\n    to do: do this\n")), "{text}");
}

#[test]
fn odd_names_cannot_leave_their_place_in_a_path() {
    assert_eq!(part("a@2026-11-20+manual.1"), "a@2026-11-20+manual.1");
    assert_eq!(part("../x y?"), "..%2Fx%20y%3F");
    assert_eq!(part(".."), "%2E%2E");
}

#[tokio::test]
async fn commands_reach_a_daemon_and_its_refusals_come_back() {
    let mut daemon = testing::Daemon::showing(testing::snapshot());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let stop = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(web::serve(
        listener,
        daemon.handle.clone(),
        steps::testing::fakes::empty(),
        stop.clone(),
    ));
    let at = || Target::at(&url, false);

    let shown = carry_out(Command::Show { run: "kis-trading-day".into(), at: at() }).await;
    assert_eq!(shown.map_err(|f| f.message), Ok(Exit::Fine));
    let cancel = tokio::spawn(carry_out(Command::Cancel { run: "kis-trading-day".into(), at: at() }));
    let asked = tokio::time::timeout(Duration::from_secs(120), daemon.commands.recv())
        .await
        .expect("in time")
        .expect("a command");
    assert_eq!(asked.by, "cli");
    assert_eq!(
        asked.command,
        daemon::handle::Command::Cancel("kis-trading-day@2026-11-20".parse().expect("an id"))
    );
    asked
        .answer
        .send(Err(daemon::Refused::foreign("it is closing already", "wait for its end")))
        .expect("awaited");
    let refused = cancel.await.expect("no panic").expect_err("refused");
    assert_eq!(
        (refused.exit, refused.message.as_str()),
        (Exit::Fault, "it is closing already; wait for its end")
    );
    let nothing = carry_out(Command::Output {
        run: "kis-trading-day".into(),
        step: "../x".into(),
        attempt: None,
        tail: None,
        follow: false,
        at: at(),
    });
    assert!(nothing.await.expect_err("refused").message.contains("not a usable name"));
    stop.cancel();
    server.await.expect("no panic").expect("a clean end");
}
