//! A member of a group in a process of its own, which is killed: nobody tells the cluster.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use openbell::backends::ErrorKind;
use openbell::backends::log::Committed;

use crate::log::{LONG, assigned, fill, partition, records};
use crate::log_names::assigned_in_order;
use crate::places::Kafka;

/// Where the process's member joins; without it the test that plays the process does nothing.
const PREFIX: &str = "OPENBELL_TEST_PREFIX";
const JOINED: &str = "the member has its partitions";

/// Well below the ten seconds after which a cluster gives a silent member up, and how often that may take
/// longer because the machine is busy with something else. A successor that had to wait for it would take
/// longer each time.
const SOON: Duration = Duration::from_secs(6);
const TRIES: u32 = 5;

/// Is the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_in_a_process_of_its_own() {
    let (Ok(prefix), Ok(address)) = (std::env::var(PREFIX), std::env::var("OPENBELL_KAFKA")) else { return };
    let log = Kafka::with_prefix(&address, &prefix).open();
    let mut member = log.join("g", &["t".into()], Some("n")).await.expect("joins");
    assert_eq!(assigned(&mut *member).await.len(), 2);
    // The first of twenty may be committed already.
    records(&mut *member, 19).await;
    member.commit(&[Committed { partition: partition("t", 0), next: 1 }]).await.expect("commits");
    println!("{JOINED}");
    loop {
        // Until it is killed, or told that another one has its place.
        if let Err(error) = member.poll(Duration::from_secs(1)).await {
            assert_eq!(error.kind, ErrorKind::Replaced, "{error}");
            return;
        }
    }
}

/// Runs that process until its member has its partitions.
fn start(place: &Kafka) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "killed::a_member_in_a_process_of_its_own", "--nocapture"])
        .env(PREFIX, place.prefix())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    // Ends with the process.
    assert!(lines.any(|line| line.expect("text").contains(JOINED)), "the process ended before it had joined");
    (child, lines)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_member_holds_nobody_up_and_one_that_lives_on_ends_kafka() {
    let Some(place) = Kafka::new() else { return };
    let log = place.open();
    log.create_topic("t", 2).await.expect("creates");
    fill(&*log, "t", 20).await;
    let starts = [(0, 1), (1, 0)].map(|(number, next)| Committed { partition: partition("t", number), next });
    let mut took = Duration::MAX;
    for _ in 0..TRIES {
        let (mut killed, _output) = start(&place);
        killed.kill().expect("kill -9");
        killed.wait().expect("reaped");
        let begun = Instant::now();
        let mut next = log.join("g", &["t".into()], Some("n")).await.expect("joins");
        assert_eq!(assigned_in_order(&mut *next).await, starts);
        took = begun.elapsed();
        next.leave().await.expect("leaves");
        if took < SOON {
            break;
        }
    }
    assert!(took < SOON, "{took:?} and more, {TRIES} times: the dead one was waited for");
    // The other way round: the process is the one that takes over, and a member here the one that is told.
    let (mut ghost, output) = start(&place);
    let mut next = log.join("g", &["t".into()], Some("n")).await.expect("joins");
    assert_eq!(assigned_in_order(&mut *next).await, starts);
    let ended = tokio::task::spawn_blocking(move || {
        let said: Vec<String> = output.map(|line| line.expect("text")).collect();
        (ghost.wait().expect("reaped"), said)
    });
    let (status, said) = tokio::time::timeout(LONG, ended).await.expect("in time").expect("no panic");
    assert!(status.success(), "the ghost was not told: {said:?}");
    next.commit(&starts).await.expect("its own");
    drop(next);
    place.clear().await;
}
