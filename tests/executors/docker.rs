//! Containers on a real engine: what happens to them is told as what it is, and they outlive the daemon.
//!
//! The engine is the one at `DOCKER_HOST`, the image `OPENBELL_TEST_IMAGE` (`scripts/engine test-image`: a
//! shell and the usual small tools).

use openbell::config::{DockerSettings, Pull};
use openbell::domain::dag::container::{Health, User};
use openbell::executor::container::{self, Installation};

use super::floor::*;
use super::*;

/// The image with the small tools; a line that says why the test does nothing where there is no engine.
pub fn image(test: &str) -> Option<String> {
    let image = std::env::var("OPENBELL_TEST_IMAGE").ok().filter(|image| !image.is_empty());
    if image.is_none() {
        let required = std::env::var("OPENBELL_ENGINE").is_ok();
        assert!(
            !required,
            "{test}: OPENBELL_TEST_IMAGE is not set; scripts/engine up and scripts/engine test-image"
        );
        println!("skipped: {test} (OPENBELL_TEST_IMAGE is not set; scripts/engine up)");
    }
    image
}

fn settings() -> DockerSettings {
    DockerSettings { network: "none".into(), pull: Pull::Missing, ..DockerSettings::default() }
}

fn with(floor: &Floor, settings: DockerSettings) -> impl Executor + use<> {
    let data = floor.dir.path().to_owned();
    let installation =
        Installation { dags: data.join("dags"), data, environment: vec![], owner: owner(floor) };
    let binary = env!("CARGO_BIN_EXE_openbell").into();
    container::docker::executor_with(floor.clock.clone(), floor.runs(), settings, installation, binary)
}

pub fn owner(floor: &Floor) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let folder = std::fs::metadata(floor.dir.path()).expect("a folder");
    (folder.uid(), folder.gid())
}

/// An executor on the engine.
pub fn executor(floor: &Floor) -> impl Executor + use<> {
    with(floor, settings())
}

fn spec(floor: &Floor, attempt: u32, script: &str) -> AttemptSpec {
    numbered(floor, ExecutorKind::Docker, attempt, &["sh", "-c", script])
}

/// The containers of a floor's installation, running or not.
fn containers(floor: &Floor) -> Vec<String> {
    let data = floor.dir.path().to_owned();
    let installation = Installation { dags: data.clone(), data, environment: vec![], owner: (0, 0) }.id();
    let filter = format!("label=openbell.installation={installation}");
    let listed = std::process::Command::new("docker")
        .args(["ps", "-aq", "--filter", &filter])
        .output()
        .expect("a docker client");
    String::from_utf8_lossy(&listed.stdout).split_whitespace().map(str::to_owned).collect()
}

/// Removes what a test left on the engine.
pub fn tidy(floor: &Floor) {
    let left = if std::env::var_os("OPENBELL_TEST_IMAGE").is_some() { containers(floor) } else { Vec::new() };
    if !left.is_empty() {
        let mut remove = std::process::Command::new("docker");
        remove.args(["rm", "-f"]).args(left).stdout(std::process::Stdio::null());
        remove.status().map(drop).unwrap_or_default();
    }
}

#[tokio::test]
async fn what_happens_to_a_container_is_told_as_what_it_is() {
    if image("what happens to a container").is_none() {
        return;
    }
    let floor = Floor::new();
    let limited = with(&floor, DockerSettings { memory_bytes: Some(32 << 20), ..settings() });
    // One that ends with 137 by itself was not killed.
    let own = spec(&floor, 1, "exit 137");
    assert_eq!(start(&limited, &own).await.exit().await.0, Exit::Code(137));
    // One that fills its memory: kept in a shell variable that doubles.
    let greedy = spec(&floor, 2, "x=0123456789abcdef; while :; do x=$x$x; done");
    assert_eq!(start(&limited, &greedy).await.exit().await.0, Exit::OutOfMemory);
    // One that floods its output.
    let flood = spec(
        &floor,
        3,
        "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 120000000; echo; echo the end; exit 5",
    );
    assert_eq!(start(&limited, &flood).await.exit().await.0, Exit::Code(5));
    let log = std::fs::read(flood.folder.join("output.log")).expect("output");
    assert!((64 << 20..=(65 << 20)).contains(&log.len()), "{} bytes", log.len());
    assert!(log.ends_with(b"\nthe end\n"), "what went wrong is told at the end");
    // An image that nobody has, and a program that the image does not have.
    let mut missing = spec(&floor, 4, "true");
    missing.step.program =
        Program::Command { argv: vec!["true".into()], image: Some("openbell-no-such-image:1".into()) };
    let exit = start(&limited, &missing).await.exit().await.0;
    let named = |exit: &Exit, word: &str| matches!(exit, Exit::NotStarted(why) if why.contains(word));
    assert!(named(&exit, "openbell-no-such-image:1"), "{exit}");
    let strange = numbered(&floor, ExecutorKind::Docker, 5, &["no-such-program"]);
    let exit = start(&limited, &strange).await.exit().await.0;
    assert!(named(&exit, "no-such-program"), "{exit}");
    for attempt in [&own, &greedy, &flood, &strange] {
        limited.forget(&attempt.id).await;
    }
    assert!(containers(&floor).is_empty(), "nothing is left on the engine");
}

#[tokio::test]
async fn a_container_outlives_the_daemon_with_its_output() {
    if image("a container outlives the daemon").is_none() {
        return;
    }
    let floor = Floor::new();
    let go = floor.runs().join("docker-go");
    let first = executor(&floor);
    let script = "echo one; echo '{\"ready\":true,\"degraded\":null,\"facts\":{}}' > $OPENBELL_FOLDER/status.json; \
                  while [ ! -e $OPENBELL_FOLDER/go ]; do sleep 0.05; done; echo two; echo '{\"rows\":2}' > $OPENBELL_FOLDER/result.json; exit 3";
    let spec = spec(&floor, 1, script);
    let mut ear = start(&first, &spec).await;
    ear.started().await;
    wait_until("its first line is here", || output(&spec).contains("one")).await;
    drop((first, ear));
    assert!(!go.exists());
    let second = executor(&floor);
    let found = second.find().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].attempt.clone(), found[0].ended.clone(), found[0].status.ready),
        (spec.id.clone(), None, true)
    );
    let (reports, ear) = mpsc::unbounded_channel();
    second.adopt(&spec.id, reports).await;
    let mut ear = Ear(ear);
    ear.started().await;
    std::fs::write(spec.folder.join("go"), "").expect("written");
    assert_eq!(ear.exit().await, (Exit::Code(3), Some(json!({ "rows": 2 }))));
    assert_eq!(output(&spec), "one\ntwo\n", "each line once, across both daemons");
    // A third one finds how it ended, until it is forgotten.
    let third = executor(&floor);
    let found = third.find().await;
    assert_eq!(
        found.iter().map(|f| f.ended.clone()).collect::<Vec<_>>(),
        [Some((Exit::Code(3), Some(json!({ "rows": 2 }))))]
    );
    third.forget(&spec.id).await;
    assert!(third.find().await.is_empty() && containers(&floor).is_empty());
}

#[tokio::test]
async fn a_deadline_is_held_and_a_second_start_runs_nothing_twice() {
    if image("a deadline of a container").is_none() {
        return;
    }
    let floor = Floor::new();
    let executor = executor(&floor);
    let mut spec = spec(&floor, 1, "trap '' TERM; echo deaf; while :; do sleep 0.05; done");
    spec.deadline = Some(floor.clock.now() + Duration::from_secs(600));
    let mut first = start(&executor, &spec).await;
    first.started().await;
    let mut second = start(&executor, &spec).await;
    second.started().await;
    wait_until("it runs", || output(&spec).contains("deaf")).await;
    let moving = async {
        loop {
            floor.clock.advance(Duration::from_secs(61));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (exit, _) =
        tokio::select! { exit = second.exit() => exit, () = moving => unreachable!("moves for ever") };
    assert_eq!(exit, Exit::Signal(9));
    assert!(
        output(&spec).contains("deadline") && output(&spec).matches("deaf").count() == 1,
        "{}",
        output(&spec)
    );
    // A start after the end tells the end, and runs nothing.
    assert_eq!(start(&executor, &spec).await.exit().await.0, Exit::Signal(9));
    assert_eq!(output(&spec).matches("deaf").count(), 1);
    assert!(!keeper(&spec).exists(), "a clock that only this process reads gets no keeper");
    executor.forget(&spec.id).await;
}

#[tokio::test]
async fn the_keeper_holds_the_deadline_of_a_container_with_nobody_watching() {
    if image("a deadline with nobody watching").is_none() {
        return;
    }
    let mut floor = Floor::new();
    floor.clock = left_running(&floor, 1.0);
    let first = executor(&floor);
    let script = "trap '' TERM; echo deaf; until [ -e $OPENBELL_FOLDER/go ]; do sleep 0.05; done; \
                  echo unheard; touch $OPENBELL_FOLDER/gone; while :; do sleep 0.05; done";
    let mut spec = spec(&floor, 1, script);
    let deadline = start_of_day() + LONG;
    spec.deadline = Some(deadline);
    let mut ear = start(&first, &spec).await;
    ear.started().await;
    wait_until("it runs, and its keeper", || output(&spec).contains("deaf") && has_keeper(&spec)).await;
    drop((first, ear));
    // What ends other processes does not end it.
    let pid =
        rustix::process::Pid::from_raw(read(keeper(&spec)).trim().parse().expect("a number")).expect("a pid");
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT, rustix::process::Signal::HUP]
    {
        rustix::process::kill_process(pid, signal).expect("sent");
    }
    std::fs::write(spec.folder.join("go"), "").expect("written");
    wait_until("it printed what no daemon heard", || spec.folder.join("gone").exists()).await;
    assert_eq!(inspect(&spec, "{{.State.Running}}"), "true", "its deadline has not come");
    // From now on an hour takes a second.
    left_running(&floor, 3600.0);
    wait_until("it was ended", || inspect(&spec, "{{.State.Status}}") == "exited").await;
    wait_until("its keeper ended", || has_ended(&keeper(&spec))).await;
    let order = openbell::executor::folder::read_stop(&spec.folder).expect("it was asked to stop");
    assert!(
        order.asked_at >= deadline && order.kill_at == order.asked_at + spec.step.stop.grace,
        "{order:?}"
    );
    assert!(read(spec.folder.join("killed")).contains("deadline"), "{}", read(spec.folder.join("killed")));
    let next = executor(&floor);
    let found = next.find().await;
    assert_eq!(
        found,
        [openbell::executor::Found {
            attempt: spec.id.clone(),
            ended: Some((Exit::Signal(9), None)),
            status: Status::default()
        }]
    );
    next.forget(&spec.id).await;
    let said = output(&spec);
    for line in ["deaf\n", "unheard\n", "deadline 2026-11-20T00:50:00Z has passed\n", "sent SIGKILL"] {
        assert_eq!(said.matches(line).count(), 1, "{line} once, in: {said}");
    }
    assert!(containers(&floor).is_empty(), "nothing is left on the engine");
}

#[tokio::test]
async fn a_keeper_is_started_anew_and_ends_with_its_attempt() {
    if image("a keeper's own life").is_none() {
        return;
    }
    let mut floor = Floor::new();
    floor.clock = left_running(&floor, 1.0);
    let first = executor(&floor);
    let mut spec = numbered(&floor, ExecutorKind::Docker, 1, &cast(ExecutorKind::Docker).polite);
    spec.deadline = Some(start_of_day() + LONG);
    start(&first, &spec).await.started().await;
    wait_until("its keeper runs", || has_keeper(&spec)).await;
    let before = read(keeper(&spec));
    drop(first);
    kill(before.trim().parse().expect("a process id"));
    wait_until("its keeper is dead", || has_ended(&keeper(&spec))).await;
    let second = executor(&floor);
    let (reports, ear) = mpsc::unbounded_channel();
    second.adopt(&spec.id, reports).await;
    wait_until("it has another", || read(keeper(&spec)) != before && has_keeper(&spec)).await;
    wait_until("it runs", || output(&spec).contains("counted")).await;
    second.stop(&spec.id, StopSignal::Term, LONG).await;
    assert_eq!(Ear(ear).exit().await.0, Exit::Code(0));
    wait_until("its keeper ended", || has_ended(&keeper(&spec))).await;
    second.forget(&spec.id).await;

    // Whose folder is gone nobody will ask for: it is ended, and its keeper ends too.
    spec.id.attempt = 2;
    spec.folder = floor.runs().join(spec.id.path());
    start(&second, &spec).await.started().await;
    wait_until("its keeper runs", || has_keeper(&spec)).await;
    drop(second);
    let (pid, name) = (floor.file("keeper"), read(spec.folder.join("container")));
    std::fs::copy(keeper(&spec), &pid).expect("copied");
    std::fs::remove_dir_all(&spec.folder).expect("removed");
    wait_until("it was ended", || inspect_named(&name, "{{.State.Status}}") == "exited").await;
    wait_until("its keeper ended", || has_ended(&pid)).await;
    assert!(!spec.folder.exists(), "nothing is written for it");
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_no_fault_of_the_step() {
    let floor = Floor::new();
    let gone =
        DockerSettings { host: Some(format!("unix://{}", floor.file("no.sock").display())), ..settings() };
    let executor = with(&floor, gone);
    let mut spec = numbered(&floor, ExecutorKind::Process, 1, &["true"]);
    spec.step.program = Program::Command { argv: vec!["true".into()], image: Some("x:1".into()) };
    let exit = start(&executor, &spec).await.exit().await.0;
    assert!(matches!(&exit, Exit::Lost(why) if why.contains("docker.host")), "{exit}");
    assert!(executor.find().await.is_empty(), "nothing was made, so nothing can live");
    // What an earlier daemon started may live on an engine that is silent.
    std::fs::write(spec.folder.join("container"), "x\n").expect("written");
    let found = executor.find().await;
    assert_eq!(found.iter().map(|f| f.ended.clone()).collect::<Vec<_>>(), [None]);
}

/// What the engine says of an attempt's container, by a template of its client; empty while there is none.
fn inspect(spec: &AttemptSpec, template: &str) -> String {
    inspect_named(&read(spec.folder.join("container")), template)
}

fn inspect_named(name: &str, template: &str) -> String {
    let asked = std::process::Command::new("docker").args(["inspect", "-f", template, name.trim()]).output();
    String::from_utf8_lossy(&asked.expect("a docker client").stdout).trim().to_owned()
}

#[tokio::test]
async fn a_steps_own_limits_hold_and_not_those_of_the_configuration() {
    if image("limits of a step").is_none() {
        return;
    }
    let floor = Floor::new();
    let generous =
        with(&floor, DockerSettings { memory_bytes: Some(1 << 30), cpus: Some(2.0), ..settings() });
    let mut greedy = spec(&floor, 1, "x=0123456789abcdef; while :; do x=$x$x; done");
    greedy.step.container.memory_bytes = Some(32 << 20);
    greedy.step.container.pids = Some(20);
    assert_eq!(start(&generous, &greedy).await.exit().await.0, Exit::OutOfMemory);
    let limits =
        inspect(&greedy, "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.NanoCpus}}");
    assert_eq!(limits, "33554432 20 2000000000", "what it says nothing about is the configuration's");
    generous.forget(&greedy.id).await;
}

#[tokio::test]
async fn a_mount_is_read_only_unless_it_says_otherwise() {
    if image("mounts of a step").is_none() {
        return;
    }
    let floor = Floor::new();
    for folder in ["given", "kept"] {
        std::fs::create_dir(floor.file(folder)).expect("a folder");
    }
    std::fs::write(floor.file("given").join("note"), "from outside\n").expect("written");
    let script = "cat /given/note; touch /given/mine || touch /kept/mine";
    let mut looking = spec(&floor, 1, script);
    let mount = |text: String| text.parse().expect("a mount");
    looking.step.container.mounts = vec![
        mount(format!("{}:/given", floor.file("given").display())),
        mount(format!("{}:/kept:rw", floor.file("kept").display())),
    ];
    let executor = executor(&floor);
    assert_eq!(start(&executor, &looking).await.exit().await.0, Exit::Code(0), "{}", output(&looking));
    let said = output(&looking);
    assert!(said.contains("from outside") && said.contains("Read-only file system"), "{said}");
    assert_eq!(
        (floor.file("given").join("mine").exists(), floor.file("kept").join("mine").exists()),
        (false, true)
    );
    // What is not on the machine, and what would hide the attempt's folder, is no start, and says so.
    let mut nowhere = spec(&floor, 2, "true");
    nowhere.step.container.mounts = vec![mount(format!("{}:/x", floor.file("no-such-folder").display()))];
    let mut over = spec(&floor, 3, "true");
    over.step.container.mounts = vec![mount(format!("/srv:{}", floor.dir.path().display()))];
    for (spec, word) in [(&nowhere, "no-such-folder"), (&over, "which openbell gives the step")] {
        let exit = start(&executor, spec).await.exit().await.0;
        assert!(
            matches!(&exit, Exit::NotStarted(why) if why.contains(word) && why.contains("mounts:")),
            "{exit}"
        );
    }
    executor.forget(&looking.id).await;
    assert!(containers(&floor).is_empty(), "nothing is left on the engine");
}

#[tokio::test]
async fn a_health_command_makes_a_service_ready() {
    if image("a health command").is_none() {
        return;
    }
    let floor = Floor::new();
    let executor = executor(&floor);
    let script = "until [ -e $OPENBELL_FOLDER/go ]; do sleep 0.05; done; touch /tmp/serving; while :; do sleep 0.05; done";
    let mut service = spec(&floor, 1, script);
    service.step.kind = openbell::domain::dag::StepKind::Service;
    service.step.container.health = Some(Health {
        command: vec!["cat".into(), "/tmp/serving".into()],
        interval: Duration::from_millis(200),
        timeout: Duration::from_secs(20),
        start_period: Duration::ZERO,
        retries: 2,
    });
    let mut ear = start(&executor, &service).await;
    ear.started().await;
    wait_until("it was found not to serve", || inspect(&service, "{{.State.Health.Status}}") == "unhealthy")
        .await;
    assert!(ear.is_silent(), "it is not ready, and runs on");
    std::fs::write(service.folder.join("go"), "").expect("written");
    assert_eq!(ear.next().await, News::Status(Status { ready: true, ..Status::default() }));
    executor.kill(&service.id).await;
    assert_eq!(ear.exit().await.0, Exit::Signal(9));
    executor.forget(&service.id).await;
}

#[tokio::test]
async fn a_step_chooses_its_network_and_its_user() {
    if image("network and user of a step").is_none() {
        return;
    }
    let floor = Floor::new();
    let open = with(&floor, DockerSettings { network: "host".into(), ..settings() });
    let mut alone =
        spec(&floor, 1, "ls /sys/class/net; id -u; echo '{\"rows\":1}' > $OPENBELL_FOLDER/result.json");
    alone.step.container.network = Some("none".into());
    // Only root can give a folder away; anybody else stays who they are.
    let (uid, gid) = if owner(&floor).0 == 0 { (12345, 12345) } else { owner(&floor) };
    alone.step.container.user = Some(User { uid, gid: Some(gid) });
    let (exit, result) = start(&open, &alone).await.exit().await;
    assert_eq!((exit, result), (Exit::Code(0), Some(json!({ "rows": 1 }))), "{}", output(&alone));
    assert_eq!(output(&alone), format!("lo\n{uid}\n"), "no interface but its own");
    assert_eq!(inspect(&alone, "{{.HostConfig.NetworkMode}}"), "none");
    open.forget(&alone.id).await;
    let mut lost = spec(&floor, 2, "true");
    lost.step.container.network = Some("openbell-no-such-network".into());
    let exit = start(&open, &lost).await.exit().await.0;
    assert!(
        matches!(&exit, Exit::NotStarted(why) if why.contains("openbell-no-such-network") && why.contains("docker network create")),
        "{exit}"
    );
    assert!(containers(&floor).is_empty(), "nothing is left on the engine");
}

#[tokio::test]
async fn a_command_in_a_container_gets_its_secrets() {
    if image("secrets of a command").is_none() {
        return;
    }
    let floor = Floor::new();
    let executor = executor(&floor);
    let file = floor.file("key");
    std::fs::write(&file, "k3y\n").expect("written");
    let mut with = spec(&floor, 1, r#"case "$KEY" in k3?) echo got it;; esac"#);
    with.step.secrets.insert("KEY".into(), SecretRef::File(file.display().to_string()));
    assert_eq!(start(&executor, &with).await.exit().await.0, Exit::Code(0), "{}", output(&with));
    assert_eq!(output(&with), "got it\n");
    assert!(!read(with.folder.join("spec.json")).contains("k3y"));
    executor.forget(&with.id).await;

    let mut without = spec(&floor, 2, "true");
    without.step.secrets.insert("API_TOKEN".into(), SecretRef::Env("OPENBELL_SURELY_NOT_SET".into()));
    let exit = start(&executor, &without).await.exit().await.0;
    assert!(
        matches!(&exit, Exit::NotStarted(why) if why.contains("\"API_TOKEN\" (env:OPENBELL_SURELY_NOT_SET)")),
        "{exit}"
    );
    assert!(containers(&floor).is_empty(), "nothing is left on the engine");
}
