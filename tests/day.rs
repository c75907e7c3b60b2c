//! Whole days on the real binary: the demo is the product's main job, so its report is the test.
//!
//! `kill` tests are short here; `scripts/kill-day` runs the long form (ten kills at speed 120).

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::{Condvar, Mutex};
use serde_json::Value;
use support::{A_DAY, snapshot, until_held, url_of, wait_for, wait_within};

/// How many days are played at a time: on a machine that has no time left, a day stalls that should not.
const SEATS: usize = 2;
static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

struct Seat;

impl Seat {
    fn take() -> Self {
        let mut taken = TAKEN.lock();
        FREED.wait_while(&mut taken, |taken| *taken >= SEATS);
        *taken += 1;
        Self
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *TAKEN.lock() -= 1;
        FREED.notify_one();
    }
}

/// A day that is played, ended with the test.
struct Playing(Child);

impl Drop for Playing {
    fn drop(&mut self) {
        // One that has ended is fine.
        self.0.kill().and_then(|()| self.0.wait()).map(drop).unwrap_or_default();
    }
}

struct Day {
    data: tempfile::TempDir,
    arguments: Vec<String>,
    _seat: Seat,
}

impl Day {
    fn new(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        Self { data: tempfile::tempdir().expect("a folder"), arguments, _seat: Seat::take() }
    }

    fn folder(&self) -> &Path {
        self.data.path()
    }

    fn report_file(&self) -> PathBuf {
        self.folder().join("report.json")
    }

    fn start(&self) -> Playing {
        Playing(self.command().spawn().expect("the binary starts"))
    }

    fn command(&self) -> Command {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder().join("demo.out"))
            .expect("an output file");
        // A day that is held waits until the test lets go of the other end of its standard input.
        let held = self.arguments.iter().any(|argument| argument == "--hold-at");
        let mut command = Command::new(env!("CARGO_BIN_EXE_openbell"));
        command
            .args(["demo", "--quiet", "--port", "0", "--dags"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("dags"))
            .arg("--data")
            .arg(self.folder())
            .arg("--report")
            .arg(self.report_file())
            .args(&self.arguments)
            .stdin(if held { Stdio::piped() } else { Stdio::null() })
            .stdout(log.try_clone().expect("the file"))
            .stderr(log);
        command
    }

    /// Waits until the day is held; gives the address of its page.
    fn until_held(&self, day: &mut Playing) -> String {
        until_held(&mut day.0, self.folder(), || self.output())
    }

    /// Waits until the day has come to a moment of its own, or is held.
    fn until(&self, day: &mut Playing, moment: Timestamp) {
        wait_within(A_DAY, "a moment of the day", || {
            if let Some(status) = day.0.try_wait().expect("a child") {
                panic!("the day ended with {status} before {moment}:\n{}", self.output());
            }
            let snapshot = snapshot(&url_of(self.folder(), day.0.id())?)?;
            let now: Timestamp = snapshot["now"].as_str()?.parse().expect("a time");
            (now >= moment || snapshot["speed"] == 0.0).then_some(())
        });
    }

    /// Lets the day go on if it is held, waits for its end, and gives the report.
    fn finish(&self, mut day: Playing) -> Value {
        drop(day.0.stdin.take());
        let ended = wait(&mut day.0, A_DAY);
        let status =
            ended.unwrap_or_else(|| panic!("the day did not end within {A_DAY:?}:\n{}", self.output()));
        let text = std::fs::read_to_string(self.report_file())
            .unwrap_or_else(|e| panic!("no report ({e}), exit {status}:\n{}", self.output()));
        let report: Value = serde_json::from_str(&text).expect("the report is JSON");
        assert_eq!(report["ok"], Value::Bool(true), "faults {:#}\n{}", report["faults"], self.output());
        assert!(status.success(), "exit {status}");
        report
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder().join("demo.out")).unwrap_or_default()
    }

    fn mails(&self) -> Vec<String> {
        let mut mails: Vec<_> = std::fs::read_dir(self.folder().join("outbox"))
            .map(|dir| dir.filter_map(|e| std::fs::read_to_string(e.ok()?.path()).ok()).collect())
            .unwrap_or_default();
        mails.sort();
        mails
    }
}

fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let begin = std::time::Instant::now();
    while begin.elapsed() < limit {
        if let Some(status) = child.try_wait().expect("the process can be waited for") {
            return Some(status);
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    None
}

fn check_hops(report: &Value) {
    for hop in ["spool", "log", "raw", "index", "objects"] {
        let figures = &report["hops"][hop];
        assert_eq!(
            (figures["missing"].as_u64(), figures["duplicates"].as_u64()),
            (Some(0), Some(0)),
            "{hop}: {figures}"
        );
        assert_eq!(
            figures["unique"].as_u64().expect("a count"),
            report["exchange_records"].as_u64().expect("a count")
                - report["undelivered"].as_u64().expect("a count"),
            "{hop}"
        );
    }
}

fn gap_shares(report: &Value) -> i64 {
    report["gaps"].as_array().expect("gaps").iter().map(|g| g["shares"].as_i64().expect("shares")).sum()
}

#[test]
fn a_day_reconciles_with_one_stall_and_one_recovery() {
    let day = Day::new(&["--speed", "300", "--seed", "11"]);
    let report = day.finish(day.start());
    check_day(&report);
    assert_eq!(day.mails().len(), 2, "{:#?}", day.mails());
}

#[test]
fn a_day_that_is_held_waits_and_reconciles_all_the_same() {
    let day = Day::new(&["--speed", "300", "--seed", "16", "--hold-at", "13:30"]);
    let mut playing = day.start();
    let url = day.until_held(&mut playing);
    let now = snapshot(&url).expect("an answer")["now"].as_str().expect("a time").to_owned();
    assert!(now.as_str() >= "2026-11-20T04:30:00", "{now}");
    support::wait_for("the word that it is held", || day.output().contains("held at 13:").then_some(()));
    // Whoever goes away lets it go on.
    check_day(&day.finish(playing));
    assert!(day.output().contains("the day goes on\n"), "{}", day.output());
}

#[test]
fn the_same_day_reconciles_on_real_servers() {
    if SERVERS.iter().any(|name| support::server(name, "the_same_day_reconciles_on_real_servers").is_none()) {
        return;
    }
    let day = Day::new(&["--speed", "300", "--seed", "13", "--backends", "real"]);
    let report = day.finish(day.start());
    check_day(&report);
    assert!(day.mails().is_empty(), "mails go to the server");
}

#[test]
fn the_same_day_reconciles_in_containers() {
    if std::env::var("OPENBELL_IMAGE").is_err() {
        let required = std::env::var("OPENBELL_ENGINE").is_ok();
        assert!(
            !required,
            "OPENBELL_IMAGE is not set; scripts/engine up, scripts/engine image, and eval its env"
        );
        println!(
            "skipped: the_same_day_reconciles_in_containers (OPENBELL_IMAGE is not set; scripts/engine up)"
        );
        return;
    }
    let day = Day::new(&["--speed", "300", "--seed", "14", "--executor", "docker"]);
    check_day(&day.finish(day.start()));
    let named = format!(
        "openbell-{:08x}-",
        crc32fast::hash(day.folder().canonicalize().expect("a folder").as_os_str().as_encoded_bytes())
    );
    let listed = Command::new("docker")
        .args(["ps", "-a", "--format", "{{.Names}}"])
        .output()
        .expect("a docker client");
    let left: Vec<_> = std::str::from_utf8(&listed.stdout)
        .expect("names")
        .lines()
        .filter(|n| n.starts_with(&named))
        .collect();
    assert!(left.is_empty(), "containers are left: {left:?}");
}

const SERVERS: [&str; 5] =
    ["OPENBELL_KAFKA", "OPENBELL_MONGO", "OPENBELL_ELASTICSEARCH", "OPENBELL_S3", "OPENBELL_SMTP"];

#[test]
fn a_day_on_two_engines_survives_the_loss_of_one() {
    let name = "a_day_on_two_engines_survives_the_loss_of_one";
    if SERVERS.iter().any(|server| support::server(server, name).is_none()) {
        return;
    }
    let Ok(manager) = std::env::var("OPENBELL_SWARM") else {
        let required = std::env::var("OPENBELL_ENGINE").is_ok();
        assert!(
            !required,
            "OPENBELL_SWARM is not set; scripts/swarm up, scripts/swarm image, and eval its env"
        );
        println!("skipped: {name} (OPENBELL_SWARM is not set; scripts/swarm up)");
        return;
    };
    // However long it takes until a step has moved, the day is still there.
    let day = Day::new(&[
        "--speed",
        "120",
        "--seed",
        "15",
        "--backends",
        "real",
        "--executor",
        "swarm",
        "--hold-at",
        "15:00",
    ]);
    let playing = Playing(day.command().env("DOCKER_HOST", manager).spawn().expect("the binary starts"));
    let steps = ["collector", "sink-index", "sink-objects", "vwap"];
    wait_within(A_DAY, "some checks", || (attempts(day.folder(), "freshness").len() >= 5).then_some(()));
    // Which of them the worker has is the swarm's choice.
    let worker = swarm(&["at", "b", "ps", "--format", "{{.Names}}"]);
    assert!(
        steps.iter().any(|step| worker.contains(&format!("-{step}-"))),
        "the worker has nothing to lose: {worker}"
    );
    swarm(&["kill", "b"]);
    wait_within(A_DAY, "a step that moves", || {
        steps.iter().any(|step| moved(day.folder(), step)).then_some(())
    });
    swarm(&["start", "b"]);
    check_day(&day.finish(playing));
    let left = swarm(&["at", "a", "service", "ls", "--quiet"]);
    assert_eq!(left.trim(), "", "services are left");
}

fn swarm(arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/swarm");
    let done = Command::new(script).args(arguments).output().expect("scripts/swarm");
    assert!(done.status.success(), "scripts/swarm {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// The folders of a step's attempts, the newest last.
fn attempts(data: &Path, step: &str) -> Vec<PathBuf> {
    let runs = std::fs::read_dir(data.join("runs")).into_iter().flatten().flatten();
    let steps = runs.flat_map(|run| std::fs::read_dir(run.path().join(step)).into_iter().flatten().flatten());
    let mut all: Vec<PathBuf> = steps.map(|attempt| attempt.path()).collect();
    let number = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()?.parse::<u32>().ok());
    all.sort_by_key(number);
    all
}

/// Whether a step was fenced on a lost node and started again, in this order.
fn moved(data: &Path, step: &str) -> bool {
    let all = attempts(data, step);
    all.windows(2).any(|pair| {
        let named = |start: &str| {
            let entries = std::fs::read_dir(&pair[0]).into_iter().flatten().flatten();
            entries.filter(|e| e.file_name().to_string_lossy().starts_with(start)).map(|e| e.path()).next()
        };
        let (Some(_), Some(gone)) = (named("fence."), named("gone.")) else { return false };
        let time = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        let (ended, started) = (time(&gone), time(&pair[1].join("service")));
        assert!(
            ended.is_some() && (started.is_none() || ended <= started),
            "{step} ran twice at once: {ended:?}, {started:?}"
        );
        started.is_some()
    })
}

/// What every day of the demo comes to.
fn check_day(report: &Value) {
    check_hops(report);
    assert!(report["exchange_records"].as_u64().expect("a count") >= 20_000);
    assert!(report["undelivered"].as_u64().expect("a count") > 0, "the scripted disconnect loses trades");
    assert_eq!(gap_shares(report), report["undelivered_shares"].as_i64().expect("shares"));
    assert!(report["dead_letters"]["expected"].as_u64().expect("a count") > 0);
    assert_eq!(report["dead_letters"]["expected"], report["dead_letters"]["actual"]);
    let states: Vec<_> = report["alerts"]
        .as_array()
        .expect("alerts")
        .iter()
        .map(|a| a["state"].as_str().expect("a state"))
        .collect();
    assert_eq!(states, ["stalled", "recovered"]);
    for step in report["steps"].as_array().expect("steps") {
        let stopped = step["stopped_at"].as_str().unwrap_or_else(|| panic!("{step} never stopped"));
        assert!(stopped < "2026-11-20T16:01", "{step}");
    }
}

#[test]
fn a_holiday_has_no_run() {
    let day = Day::new(&["--date", "2026-12-25"]);
    let report = day.finish(day.start());
    assert_eq!(report["exchange_records"], 0);
    assert_eq!(report["steps"].as_array().map(Vec::len), Some(0));
    assert!(day.mails().is_empty());
}

/// A small generator, so that a failing run can be repeated by its seed.
fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Where the day is held until all kills are done: every symbol has a print after that, so no loss stays
/// invisible.
const LAST_KILL: &str = "15:48";

/// Moments of the day's own clock, sorted: from a minute after the open to the last.
fn moments(count: u64, random: &mut impl FnMut(u64) -> u64) -> Vec<Timestamp> {
    let open: Timestamp = "2026-11-20T08:50:00+09:00".parse().expect("a time");
    let mut all: Vec<_> =
        (0..count).map(|_| open + SignedDuration::from_secs(60 + random(417 * 60) as i64)).collect();
    all.sort_unstable();
    all
}

#[test]
fn the_daemon_killed_at_random_moments_loses_nothing_it_accepted() {
    let (kills, speed, seed) = (
        setting("OPENBELL_KILLS", 3),
        setting("OPENBELL_KILL_SPEED", 300),
        setting("OPENBELL_KILL_SEED", 20261120),
    );
    println!("seed {seed}");
    let day = Day::new(&["--speed", &speed.to_string(), "--seed", "12", "--hold-at", LAST_KILL]);
    let mut playing = day.start();
    for moment in moments(kills, &mut random(seed)) {
        day.until(&mut playing, moment);
        playing.0.kill().expect("kill -9");
        playing.0.wait().expect("reaped");
        playing = day.start();
    }
    let report = day.finish(playing);
    check_hops(&report);
    assert_eq!(gap_shares(&report), report["undelivered_shares"].as_i64().expect("shares"), "seed {seed}");
}

#[test]
fn the_collector_killed_as_a_process_loses_nothing_it_accepted() {
    let (kills, speed, seed) = (
        setting("OPENBELL_KILLS", 3),
        setting("OPENBELL_KILL_SPEED", 300),
        setting("OPENBELL_KILL_SEED", 20261120),
    );
    println!("seed {seed}");
    let day = Day::new(&[
        "--speed",
        &speed.to_string(),
        "--seed",
        "13",
        "--executor",
        "process",
        "--hold-at",
        LAST_KILL,
    ]);
    let mut playing = day.start();
    let mut killed = BTreeMap::new();
    for moment in moments(kills, &mut random(seed ^ 1)) {
        day.until(&mut playing, moment);
        let pid = wait_for("a collector", || newest_collector(day.folder()));
        Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill runs");
        *killed.entry(pid).or_insert(0) += 1;
    }
    let report = day.finish(playing);
    check_hops(&report);
    let collector = report["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .find(|s| s["name"] == "collector")
        .expect("the collector");
    assert!(
        collector["attempts"].as_u64().expect("a count") > killed.len() as u64,
        "{collector} after killing {killed:?}"
    );
}

/// Process id of the newest attempt at the collector, from its attempt folder.
fn newest_collector(data: &Path) -> Option<u32> {
    let run = std::fs::read_dir(data.join("runs")).ok()?.filter_map(Result::ok).next()?;
    let newest = std::fs::read_dir(run.path().join("collector"))
        .ok()?
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .max()?;
    let note =
        std::fs::read_to_string(run.path().join("collector").join(newest.to_string()).join("pid")).ok()?;
    let note: Value = serde_json::from_str(&note).ok()?;
    u32::try_from(note["child"]["pid"].as_u64()?).ok()
}
