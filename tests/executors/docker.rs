//! Containers on a real engine: what happens to them is told as what it is, and they outlive the daemon.
//!
//! The engine is the one at `DOCKER_HOST`, the image `OPENBELL_TEST_IMAGE` (`scripts/engine test-image`: a shell and the usual small tools).

use openbell::config::{DockerSettings, Pull};
use openbell::executor::docker::{Docker, Surroundings};

use super::floor::*;
use super::*;

/// The image with the small tools; a line that says why the test does nothing where there is no engine.
pub fn image(test: &str) -> Option<String> {
    let image = std::env::var("OPENBELL_TEST_IMAGE").ok().filter(|image| !image.is_empty());
    if image.is_none() {
        let required = std::env::var("OPENBELL_ENGINE").is_ok();
        assert!(!required, "{test}: OPENBELL_TEST_IMAGE is not set; scripts/engine up and scripts/engine test-image");
        println!("skipped: {test} (OPENBELL_TEST_IMAGE is not set; scripts/engine up)");
    }
    image
}

fn settings() -> DockerSettings {
    DockerSettings { network: "none".into(), pull: Pull::Missing, ..DockerSettings::default() }
}

fn with(floor: &Floor, settings: DockerSettings) -> Docker {
    let data = floor.dir.path().to_owned();
    let around = Surroundings { dags: data.join("dags"), data, environment: vec![], owner: owner(floor) };
    Docker::new(floor.clock.clone(), floor.runs(), settings, around)
}

fn owner(floor: &Floor) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let folder = std::fs::metadata(floor.dir.path()).expect("a folder");
    (folder.uid(), folder.gid())
}

/// An executor on the engine.
pub fn executor(floor: &Floor) -> Docker {
    with(floor, settings())
}

fn spec(floor: &Floor, attempt: u32, script: &str) -> AttemptSpec {
    numbered(floor, ExecutorKind::Docker, attempt, &["sh", "-c", script])
}

/// The containers of a floor's installation, running or not.
fn containers(floor: &Floor) -> Vec<String> {
    let data = floor.dir.path().to_owned();
    let installation = Surroundings { dags: data.clone(), data, environment: vec![], owner: (0, 0) }.installation();
    let filter = format!("label=openbell.installation={installation}");
    let listed = std::process::Command::new("docker").args(["ps", "-aq", "--filter", &filter]).output().expect("a docker client");
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
    let flood =
        spec(&floor, 3, "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 120000000; exit 5");
    assert_eq!(start(&limited, &flood).await.exit().await.0, Exit::Code(5));
    let log = std::fs::metadata(flood.folder.join("output.log")).expect("output").len();
    assert!((64 << 20..=(64 << 20) + 1000).contains(&log), "{log} bytes");
    // An image that nobody has, and a program that the image does not have.
    let mut missing = spec(&floor, 4, "true");
    missing.step.program = Program::Command { argv: vec!["true".into()], image: Some("openbell-no-such-image:1".into()) };
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
    assert_eq!((found[0].attempt.clone(), found[0].ended.clone(), found[0].status.ready), (spec.id.clone(), None, true));
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
    assert_eq!(found.iter().map(|f| f.ended.clone()).collect::<Vec<_>>(), [Some((Exit::Code(3), Some(json!({ "rows": 2 }))))]);
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
    let (exit, _) = tokio::select! { exit = second.exit() => exit, () = moving => unreachable!("moves for ever") };
    assert_eq!(exit, Exit::Signal(9));
    assert!(output(&spec).contains("deadline") && output(&spec).matches("deaf").count() == 1, "{}", output(&spec));
    // A start after the end tells the end, and runs nothing.
    assert_eq!(start(&executor, &spec).await.exit().await.0, Exit::Signal(9));
    assert_eq!(output(&spec).matches("deaf").count(), 1);
    executor.forget(&spec.id).await;
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_no_fault_of_the_step() {
    let floor = Floor::new();
    let gone = DockerSettings { host: Some(format!("unix://{}", floor.file("no.sock").display())), ..settings() };
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
