//! The contract of executors, held against each of them; and what only processes promise: to outlive the
//! daemon.

mod docker;
mod floor;
mod swarm;

use std::time::Duration;

use openbell::domain::dag::{ExecutorKind, Program, SecretRef, StopSignal};
use openbell::domain::run::Exit;
use openbell::executor::process::Pids;
use openbell::executor::{AttemptSpec, Executor, News, Status};
use serde_json::json;
use tokio::sync::mpsc;

use floor::*;

#[tokio::test]
async fn attempts_start_once_and_end_with_their_code() {
    let floor = Floor::new();
    for executor in executors(&floor) {
        let parts = cast(executor.kind());
        let spec = numbered(&floor, executor.kind(), 1, &parts.good);
        let mut ear = start(&*executor, &spec).await;
        ear.started().await;
        assert_eq!(ear.exit().await.0, Exit::Code(0));
        assert!(ear.is_silent(), "the exit is the last report");
        assert!(output(&spec).contains("hello"), "{:?}: {}", executor.kind(), output(&spec));
        assert_eq!(openbell::executor::folder::read_spec(&spec.folder).expect("a specification"), spec);
        let mut ear = start(&*executor, &numbered(&floor, executor.kind(), 2, &parts.bad)).await;
        assert_eq!(ear.exit().await.0, parts.bad_exit);
    }
}

#[tokio::test]
async fn a_stop_is_obeyed_or_enforced_by_the_clock() {
    let floor = Floor::new();
    for executor in executors(&floor) {
        let parts = cast(executor.kind());
        let polite = numbered(&floor, executor.kind(), 1, &parts.polite);
        let mut ear = start(&*executor, &polite).await;
        ear.started().await;
        wait_until("the polite one runs", || output(&polite).contains("counted")).await;
        executor.stop(&polite.id, StopSignal::Term, LONG).await;
        assert_eq!(ear.exit().await.0, Exit::Code(0));
        let order =
            openbell::executor::folder::read_stop(&polite.folder).expect("it was told how much time it has");
        assert_eq!(order.kill_at.duration_since(order.asked_at).unsigned_abs(), LONG);

        let stubborn = numbered(&floor, executor.kind(), 2, &parts.stubborn);
        let mut ear = start(&*executor, &stubborn).await;
        ear.started().await;
        let is_process = executor.kind() == ExecutorKind::Process;
        wait_until("it is deaf", || !is_process || output(&stubborn).contains("deaf")).await;
        executor.stop(&stubborn.id, StopSignal::Term, Duration::from_secs(60)).await;
        // Whenever the wait of the stop begins, the clock moves on until it is over.
        let moving = async {
            loop {
                floor.clock.advance(Duration::from_secs(61));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let (exit, _) =
            tokio::select! { exit = ear.exit() => exit, () = moving => unreachable!("moves for ever") };
        assert_eq!(exit, Exit::Signal(9));
        executor.stop(&stubborn.id, StopSignal::Term, LONG).await;
        executor.kill(&stubborn.id).await;
        assert!(ear.is_silent());
    }
}

#[tokio::test]
async fn a_second_start_adopts_and_a_kill_is_immediate() {
    let floor = Floor::new();
    for executor in executors(&floor) {
        let spec = numbered(&floor, executor.kind(), 1, &cast(executor.kind()).polite);
        let mut first = start(&*executor, &spec).await;
        first.started().await;
        let mut second = start(&*executor, &spec).await;
        second.started().await;
        wait_until("it runs", || output(&spec).contains("counted")).await;
        executor.kill(&spec.id).await;
        // A swarm kills nobody before it has asked.
        let swarm = executor.kind() == ExecutorKind::Swarm;
        assert_eq!(second.exit().await.0, if swarm { Exit::Code(0) } else { Exit::Signal(9) });
        assert!(first.is_silent(), "reports go to the last one who asked");
        assert_eq!(output(&spec).matches("counted").count(), 1);
    }
}

#[tokio::test]
async fn embedded_errors_and_panics_are_exits() {
    let floor = Floor::new();
    let executor = floor.embedded();
    let fail = numbered(&floor, ExecutorKind::Embedded, 1, &["fail"]);
    assert_eq!(
        start(&executor, &fail).await.exit().await,
        (Exit::Code(1), Some(json!({ "error": "no data" })))
    );
    assert!(output(&fail).contains("error: no data"));
    let panic = numbered(&floor, ExecutorKind::Embedded, 2, &["panic"]);
    assert_eq!(start(&executor, &panic).await.exit().await.0, Exit::Code(101));
    assert!(output(&panic).contains("panicked: broken invariant"));
    let value = numbered(&floor, ExecutorKind::Embedded, 3, &["value"]);
    assert_eq!(start(&executor, &value).await.exit().await, (Exit::Code(0), Some(json!({ "rows": 3 }))));
    assert!(executor.find().await.is_empty());
}

#[tokio::test]
async fn a_process_gets_its_environment_and_returns_output_status_and_result() {
    let floor = Floor::new();
    let executor = floor.process_with(vec![("CITY".into(), "Seoul".into())]);
    let script = r#"echo "$GREETING, $CITY"; echo oops >&2
        echo '{"ready":true,"degraded":null,"facts":{"rows":5}}' > "$OPENBELL_FOLDER/status.json"
        echo '{"rows":5}' > "$OPENBELL_FOLDER/result.json""#;
    let spec = floor.spec(&["sh", "-c", script]);
    let mut ear = start(&executor, &spec).await;
    ear.started().await;
    let facts = json!({ "rows": 5 }).as_object().cloned().expect("an object");
    assert_eq!(ear.next().await, News::Status(Status { ready: true, facts, ..Status::default() }));
    assert_eq!(ear.next().await, News::Exited { exit: Exit::Code(0), result: Some(json!({ "rows": 5 })) });
    assert_eq!(output(&spec), "good morning, Seoul\noops\n");
}

#[tokio::test]
async fn a_command_gets_its_secrets_and_nobody_else_does() {
    let floor = Floor::new();
    let executor = floor.process_with(vec![("VENDOR_TOKEN".into(), "s3cret".into())]);
    let file = floor.file("key");
    std::fs::write(&file, "k3y\n").expect("written");
    let mut spec = floor.spec(&["sh", "-c", r#"case "$API_TOKEN/$KEY" in s3c*/k3?) echo both;; esac"#]);
    spec.step.secrets.insert("API_TOKEN".into(), SecretRef::Env("VENDOR_TOKEN".into()));
    spec.step.secrets.insert("KEY".into(), SecretRef::File(file.display().to_string()));
    assert_eq!(start(&executor, &spec).await.exit().await.0, Exit::Code(0));
    assert_eq!(output(&spec), "both\n");
    for entry in std::fs::read_dir(&spec.folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let text = String::from_utf8_lossy(&std::fs::read(&path).expect("readable")).into_owned();
        assert!(!text.contains("s3cret") && !text.contains("k3y"), "{} holds a secret", path.display());
    }

    let mut without =
        numbered(&floor, ExecutorKind::Process, 2, &["touch", &floor.file("ran").display().to_string()]);
    without.step.secrets.insert("API_TOKEN".into(), SecretRef::Env("OPENBELL_SURELY_NOT_SET".into()));
    let why = "its secret \"API_TOKEN\" (env:OPENBELL_SURELY_NOT_SET) cannot be read: the environment variable \
               OPENBELL_SURELY_NOT_SET is not set; set it where openbell is started";
    assert_eq!(start(&executor, &without).await.exit().await.0, Exit::NotStarted(why.into()));
    assert!(!floor.file("ran").exists() && output(&without).contains(why), "{}", output(&without));
}

#[tokio::test]
async fn a_missing_program_is_not_started_and_says_why() {
    let floor = Floor::new();
    let executor = floor.process();
    let mut ear = start(&executor, &floor.spec(&["no-such-program-here"])).await;
    let why = "\"no-such-program-here\" not found; install it or give its full path";
    assert_eq!(ear.next().await, News::Exited { exit: Exit::NotStarted(why.into()), result: None });
}

#[tokio::test]
async fn the_whole_group_ends_with_the_program() {
    let floor = Floor::new();
    let executor = floor.process();
    let grandchild = floor.file("grandchild");
    let script = format!("sleep 3600 & echo $! > {}; wait", grandchild.display());
    let killed = numbered(&floor, ExecutorKind::Process, 1, &["sh", "-c", &script]);
    let mut ear = start(&executor, &killed).await;
    wait_until("the grandchild runs", || read(&grandchild).ends_with('\n')).await;
    executor.kill(&killed.id).await;
    assert_eq!(ear.exit().await.0, Exit::Signal(9));
    wait_until("the grandchild ended", || has_ended(&grandchild)).await;

    // Also one that the program leaves behind when it ends by itself.
    let script = format!("sleep 3600 & echo $! > {}", grandchild.display());
    let mut ear = start(&executor, &numbered(&floor, ExecutorKind::Process, 2, &["sh", "-c", &script])).await;
    assert_eq!(ear.exit().await.0, Exit::Code(0));
    wait_until("the straggler ended", || has_ended(&grandchild)).await;
}

#[tokio::test]
async fn a_running_attempt_is_adopted_with_its_later_code_and_output() {
    let floor = Floor::new();
    let go = floor.file("go");
    let spec = floor.spec(&[
        "sh",
        "-c",
        &format!("echo before; until [ -e {} ]; do sleep 0.01; done; echo after; exit 5", go.display()),
    ]);
    let first = floor.process();
    start(&first, &spec).await.started().await;
    drop(first);

    let second = floor.process();
    let found = second.find().await;
    assert_eq!(found.iter().map(|f| (&f.attempt, &f.ended)).collect::<Vec<_>>(), [(&spec.id, &None)]);
    let (reports, ear) = mpsc::unbounded_channel();
    second.adopt(&spec.id, reports).await;
    std::fs::write(&go, "").expect("written");
    assert_eq!(Ear(ear).exit().await.0, Exit::Code(5));
    assert_eq!(output(&spec), "before\nafter\n");
    second.forget(&spec.id).await;
    assert!(second.find().await.is_empty());
}

#[tokio::test]
async fn a_start_of_a_living_attempt_after_a_restart_adopts_it() {
    let floor = Floor::new();
    let spec = floor.spec(&cast(ExecutorKind::Process).polite);
    let first = floor.process();
    start(&first, &spec).await.started().await;
    drop(first);
    wait_until("it runs", || output(&spec).contains("counted")).await;
    let second = floor.process();
    let mut ear = start(&second, &spec).await;
    ear.started().await;
    second.stop(&spec.id, StopSignal::Term, LONG).await;
    assert_eq!(ear.exit().await.0, Exit::Code(0));
    assert_eq!(output(&spec).matches("counted").count(), 1);
    // And one that has ended is not run again.
    assert_eq!(start(&second, &spec).await.exit().await.0, Exit::Code(0));
    assert_eq!(output(&spec).matches("counted").count(), 1);
}

#[tokio::test]
async fn an_orphan_can_be_stopped_without_being_adopted() {
    let floor = Floor::new();
    let spec = floor.spec(&cast(ExecutorKind::Process).polite);
    let first = floor.process();
    start(&first, &spec).await.started().await;
    wait_until("it runs", || output(&spec).contains("counted")).await;
    drop(first);
    let second = floor.process();
    second.stop(&spec.id, StopSignal::Term, LONG).await;
    wait_until("it ended", || spec.folder.join("exit.json").exists()).await;
}

#[tokio::test]
async fn an_attempt_that_ended_with_nobody_watching_is_found_with_its_exit() {
    let floor = Floor::new();
    let go = floor.file("go");
    let script = format!(
        "until [ -e {} ]; do sleep 0.01; done; echo '[1]' > \"$OPENBELL_FOLDER/result.json\"; exit 3",
        go.display()
    );
    let spec = floor.spec(&["sh", "-c", &script]);
    let first = floor.process();
    start(&first, &spec).await.started().await;
    let shim = pids(&spec).shim;
    drop(first);
    std::fs::write(&go, "").expect("written");
    wait_until("the shim ended", || !shim.is_alive()).await;
    let found = floor.process().find().await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].ended, Some((Exit::Code(3), Some(json!([1])))));
}

#[tokio::test]
async fn a_killed_shim_is_a_loss_and_takes_its_program_along() {
    let floor = Floor::new();
    let executor = floor.process();
    // One process of it has left the group.
    let (own, stray) = (floor.file("own"), floor.file("stray"));
    let script = format!(
        "setsid sh -c 'echo $$ > {}; exec sleep 3600' & echo $$ > {}; exec sleep 3600",
        stray.display(),
        own.display()
    );
    let watched = numbered(&floor, ExecutorKind::Process, 1, &["sh", "-c", &script]);
    let mut ear = start(&executor, &watched).await;
    ear.started().await;
    wait_until("both run", || read(&own).ends_with('\n') && read(&stray).ends_with('\n')).await;
    kill(pids(&watched).shim.pid);
    let (exit, _) = ear.exit().await;
    assert!(matches!(&exit, Exit::Lost(why) if why.contains("signal: 9")), "{exit:?}");
    assert!(has_ended(&own) && has_ended(&stray), "the program ended before the loss is reported");

    // The same with nobody watching.
    let alone = numbered(&floor, ExecutorKind::Process, 2, &["sleep", "3600"]);
    start(&executor, &alone).await.started().await;
    let Pids { shim, child, .. } = pids(&alone);
    drop(executor);
    kill(shim.pid);
    wait_until("the shim ended", || !shim.is_alive()).await;
    let found = floor.process().find().await;
    let exit = found.iter().find(|f| f.attempt == alone.id).and_then(|f| f.ended.clone());
    assert!(matches!(exit, Some((Exit::Lost(_), None))), "{exit:?}");
    wait_until("the program ended", || !child.expect("a program").is_alive()).await;
}

#[tokio::test]
async fn the_shim_holds_the_deadline_with_nobody_watching() {
    let floor = Floor::new();
    left_running(&floor, 1.0);
    let executor =
        floor.process_with(vec![("OPENBELL_CLOCK".into(), floor.file("clock").display().to_string())]);
    let mut spec = floor.spec(&cast(ExecutorKind::Process).stubborn);
    spec.deadline = Some(start_of_day() + LONG);
    start(&executor, &spec).await.started().await;
    wait_until("it is deaf", || output(&spec).contains("deaf")).await;
    drop(executor);
    // From now on an hour takes a second.
    left_running(&floor, 3600.0);
    wait_until("the deadline is held", || spec.folder.join("exit.json").exists()).await;
    let found = floor.process().find().await;
    wait_until("the shim ended", || !pids(&spec).shim.is_alive()).await;
    let found = if found[0].ended.is_some() { found } else { floor.process().find().await };
    assert_eq!(found[0].ended, Some((Exit::Signal(9), None)));
    assert!(output(&spec).contains("has passed: sent SIGTERM"), "{}", output(&spec));
}

#[tokio::test]
async fn a_shim_survives_the_signals_that_end_others() {
    let floor = Floor::new();
    let executor = floor.process();
    let spec = floor.spec(&cast(ExecutorKind::Process).polite);
    let mut ear = start(&executor, &spec).await;
    ear.started().await;
    wait_until("it runs", || output(&spec).contains("counted")).await;
    let shim = rustix::process::Pid::from_raw(pids(&spec).shim.pid).expect("a pid");
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT, rustix::process::Signal::HUP]
    {
        rustix::process::kill_process(shim, signal).expect("sent");
    }
    executor.stop(&spec.id, StopSignal::Term, LONG).await;
    assert_eq!(ear.exit().await.0, Exit::Code(0));
}

#[tokio::test]
async fn many_attempts_run_one_after_the_other() {
    let floor = Floor::new();
    let executor = floor.process();
    for attempt in 1..=50 {
        let mut ear = start(&executor, &numbered(&floor, ExecutorKind::Process, attempt, &["true"])).await;
        ear.started().await;
        assert_eq!(ear.exit().await.0, Exit::Code(0));
    }
}
