//! Services on a real swarm of two engines: `OPENBELL_SWARM` is its manager's address (`scripts/swarm up`),
//! and the image `OPENBELL_TEST_IMAGE` is on both.

use openbell::config::{Config, DockerSettings, Pull};
use openbell::domain::dag::{SecretRef, StepKind};
use openbell::executor::container::{self, Installation};

use super::floor::*;
use super::*;

/// The manager's address; a line that says why the test does nothing where there is no swarm.
pub fn manager(test: &str) -> Option<String> {
    let host = std::env::var("OPENBELL_SWARM").ok().filter(|host| !host.is_empty());
    if host.is_none() {
        let required = std::env::var("OPENBELL_ENGINE").is_ok();
        assert!(!required, "{test}: OPENBELL_SWARM is not set; scripts/swarm up and eval its env");
        println!("skipped: {test} (OPENBELL_SWARM is not set; scripts/swarm up)");
    }
    host
}

fn settings() -> DockerSettings {
    // The network of each engine's host: a service on the bridge takes two seconds longer to stop.
    DockerSettings {
        host: manager("a swarm"),
        network: "host".into(),
        pull: Pull::Never,
        ..DockerSettings::default()
    }
}

fn installation(floor: &Floor) -> Installation {
    let data = floor.dir.path().to_owned();
    Installation { dags: data.join("dags"), data, environment: vec![], owner: docker::owner(floor) }
}

fn with(floor: &Floor, settings: DockerSettings) -> impl Executor + use<> {
    let config = Config { docker: settings, ..Config::default() };
    let binary = env!("CARGO_BIN_EXE_openbell").into();
    container::swarm::executor_with(floor.clock.clone(), floor.runs(), &config, installation(floor), binary)
}

/// An executor on the swarm.
pub fn executor(floor: &Floor) -> impl Executor + use<> {
    with(floor, settings())
}

fn spec(floor: &Floor, attempt: u32, script: &str) -> AttemptSpec {
    numbered(floor, ExecutorKind::Swarm, attempt, &["sh", "-c", script])
}

/// A service that tells where it runs, as often as copies of it do, and lives until it is stopped.
fn service(floor: &Floor, attempt: u32, replicas: u32) -> AttemptSpec {
    let folder = "$OPENBELL_FOLDER${OPENBELL_REPLICA:+/replica-$OPENBELL_REPLICA}";
    let script = format!(
        "trap 'exit 0' TERM; echo '{{\"ready\":true,\"degraded\":null,\"facts\":{{\"copies\":1}}}}' > {folder}/status.json; \
         echo up $(hostname); while :; do sleep 0.05; done"
    );
    let mut spec = spec(floor, attempt, &script);
    spec.step.kind = StepKind::Service;
    spec.step.replicas = replicas;
    spec
}

fn client(arguments: &[&str]) -> String {
    let mut command = std::process::Command::new("docker");
    command.args(["--host", &manager("a swarm").expect("a manager")]).args(arguments);
    String::from_utf8_lossy(&command.output().expect("a docker client").stdout).into_owned()
}

/// What a floor's installation has on the swarm: services and secrets.
fn left(floor: &Floor) -> Vec<(&'static str, String)> {
    let filter = format!("label=openbell.installation={}", installation(floor).id());
    let of = |kind: &'static str| {
        let listed = client(&[kind, "ls", "--quiet", "--filter", &filter]);
        listed.split_whitespace().map(|id| (kind, id.to_owned())).collect::<Vec<_>>()
    };
    [of("service"), of("secret")].concat()
}

/// Removes what a test left on the swarm.
pub fn tidy(floor: &Floor) {
    if std::env::var_os("OPENBELL_SWARM").is_some() {
        left(floor).iter().for_each(|(kind, id)| drop(client(&[kind, "rm", id])));
    }
}

async fn facts(ear: &mut Ear, holds: impl Fn(&Status) -> bool) -> Status {
    loop {
        match ear.next().await {
            News::Status(status) if holds(&status) => return status,
            News::Exited { exit, .. } => panic!("it ended: {exit}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn what_happens_to_a_task_is_told_as_what_it_is() {
    if manager("what happens to a task").is_none() {
        return;
    }
    let floor = Floor::new();
    let swarm = executor(&floor);
    let own = spec(&floor, 1, "exit 137");
    assert_eq!(start(&swarm, &own).await.exit().await.0, Exit::Code(137), "nobody killed it");
    let missing = |attempt, pull| {
        let mut spec = spec(&floor, attempt, "true");
        spec.step.program =
            Program::Command { argv: vec!["true".into()], image: Some("127.0.0.1:9/no-such-image:1".into()) };
        (with(&floor, DockerSettings { pull, ..settings() }), spec)
    };
    for (attempt, pull) in [(2, Pull::Never), (3, Pull::Missing)] {
        let (swarm, spec) = missing(attempt, pull);
        let exit = start(&swarm, &spec).await.exit().await.0;
        assert!(matches!(&exit, Exit::NotStarted(why) if why.contains("docker load")), "{exit}");
        swarm.forget(&spec.id).await;
    }
    let strange = numbered(&floor, ExecutorKind::Swarm, 4, &["no-such-program"]);
    let exit = start(&swarm, &strange).await.exit().await.0;
    assert!(matches!(&exit, Exit::NotStarted(why) if why.contains("no-such-program")), "{exit}");
    let nowhere = with(&floor, DockerSettings { network: "no-such-network".into(), ..settings() });
    let exit = start(&nowhere, &spec(&floor, 5, "true")).await.exit().await.0;
    assert!(matches!(&exit, Exit::NotStarted(why) if why.contains("no-such-network")), "{exit}");
    for attempt in [&own, &strange] {
        swarm.forget(&attempt.id).await;
    }
    assert!(left(&floor).is_empty(), "nothing is left on the swarm: {:?}", left(&floor));
}

#[tokio::test]
async fn built_in_programs_need_stores_that_every_node_reaches() {
    let floor = Floor::new();
    let swarm = with(
        &floor,
        DockerSettings { host: Some("unix:///nonexistent".into()), ..DockerSettings::default() },
    );
    let mut spec = numbered(&floor, ExecutorKind::Process, 1, &["true"]);
    spec.step.program = Program::Uses("sink/index".into());
    let exit = start(&swarm, &spec).await.exit().await.0;
    assert!(
        matches!(&exit, Exit::NotStarted(why) if why.contains("log: embedded:log") && why.contains("kafka://")),
        "{exit}"
    );
}

#[tokio::test]
async fn a_service_outlives_the_daemon_with_its_output_and_its_secrets() {
    if manager("a service outlives the daemon").is_none() {
        return;
    }
    let floor = Floor::new();
    std::fs::write(floor.file("key"), "s3cret").expect("written");
    let first = executor(&floor);
    let mut spec = spec(
        &floor,
        1,
        "echo one; cat /run/secrets/key > $OPENBELL_FOLDER/seen; while [ ! -e $OPENBELL_FOLDER/go ]; do sleep 0.05; done; echo two; exit 3",
    );
    spec.step.secrets.insert("key".into(), SecretRef::File(floor.file("key").display().to_string()));
    let mut ear = start(&first, &spec).await;
    ear.started().await;
    wait_until("its first line is here", || output(&spec).contains("one")).await;
    assert_eq!(read(spec.folder.join("seen")), "s3cret");
    drop((first, ear));
    let second = executor(&floor);
    let found = second.find().await;
    assert_eq!(found.iter().map(|f| (&f.attempt, &f.ended)).collect::<Vec<_>>(), [(&spec.id, &None)]);
    let (reports, ear) = mpsc::unbounded_channel();
    second.adopt(&spec.id, reports).await;
    let mut ear = Ear(ear);
    ear.started().await;
    std::fs::write(spec.folder.join("go"), "").expect("written");
    assert_eq!(ear.exit().await.0, Exit::Code(3));
    assert_eq!(output(&spec), "one\ntwo\n", "each line once, across both daemons");
    let third = executor(&floor);
    assert_eq!(
        third.find().await.iter().map(|f| f.ended.clone()).collect::<Vec<_>>(),
        [Some((Exit::Code(3), None))]
    );
    third.forget(&spec.id).await;
    assert!(third.find().await.is_empty() && left(&floor).is_empty(), "{:?}", left(&floor));
}

#[tokio::test]
async fn the_keeper_evicts_a_command_at_its_deadline_with_nobody_watching() {
    if manager("a deadline with nobody watching").is_none() {
        return;
    }
    let mut floor = Floor::new();
    floor.clock = left_running(&floor, 1.0);
    let first = executor(&floor);
    let mut spec = spec(&floor, 1, "trap '' TERM; echo deaf; while :; do sleep 0.05; done");
    spec.deadline = Some(start_of_day() + LONG);
    let mut ear = start(&first, &spec).await;
    ear.started().await;
    wait_until("it runs, and its keeper", || output(&spec).contains("deaf") && has_keeper(&spec)).await;
    drop((first, ear));
    let name = read(spec.folder.join("service"));
    let wanted = || client(&["service", "ps", "--quiet", "--filter", "desired-state=running", name.trim()]);
    assert!(!wanted().is_empty() && !spec.folder.join("stop.json").exists(), "its deadline has not come");
    // From now on an hour takes a second.
    left_running(&floor, 3600.0);
    wait_until("it was evicted", || spec.folder.join("stop.json").exists() && wanted().is_empty()).await;
    wait_until("its keeper ended", || has_ended(&keeper(&spec))).await;
    let next = executor(&floor);
    assert_eq!(next.find().await.len(), 1);
    let (reports, ear) = mpsc::unbounded_channel();
    next.adopt(&spec.id, reports).await;
    assert_eq!(Ear(ear).exit().await.0, Exit::Signal(9));
    assert_eq!(output(&spec).matches("has passed").count(), 1, "{}", output(&spec));
    next.forget(&spec.id).await;
    assert!(left(&floor).is_empty());
}

#[tokio::test]
async fn copies_run_side_by_side_and_end_together() {
    if manager("copies run side by side").is_none() {
        return;
    }
    let floor = Floor::new();
    let swarm = executor(&floor);
    let spec = service(&floor, 1, 3);
    let mut ear = start(&swarm, &spec).await;
    // A swarm spreads copies. They may say that they are ready before it says where they are.
    let nodes = |s: &Status| s.facts.get("node").is_some_and(|nodes| nodes == "openbell-a, openbell-b");
    let status = facts(&mut ear, |s| s.ready && s.facts["copies"] == 3 && nodes(s)).await;
    assert_eq!(status.facts["replicas"], "3 of 3 ready");
    swarm.stop(&spec.id, StopSignal::Term, LONG).await;
    assert_eq!(ear.exit().await.0, Exit::Code(0));
    swarm.forget(&spec.id).await;
    assert!(left(&floor).is_empty());
}
