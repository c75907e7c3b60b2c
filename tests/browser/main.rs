//! The pages in a real headless Chromium (`scripts/browser up`): every one in light and dark, on a desktop and a phone, and what people do there.

mod driver;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use driver::{Browser, LOOKS};
use serde_json::{Value, json};
use support::{Daemon, openbell, wait_within};

/// The pages of a demo day. `RUN` is the day's run.
const PAGES: [(&str, &str); 13] = [
    ("today", "/"),
    ("dags", "/dags"),
    ("run", "/runs/RUN"),
    ("output", "/runs/RUN/steps/collector/output"),
    ("dag", "/dags/kis-trading-day"),
    ("find", "/runs/RUN/steps/collector/output?find=session"),
    ("alerts", "/alerts"),
    ("audit", "/audit"),
    ("topics", "/topics"),
    ("topic", "/topics/kis.trades"),
    ("dead-letters", "/dead-letters"),
    ("market", "/market"),
    ("symbol", "/market/005930"),
];
const RUN: &str = "kis-trading-day@2026-11-20";

/// A demo day that runs until the test ends.
struct Day {
    child: std::process::Child,
    url: String,
    _data: tempfile::TempDir,
}

impl Day {
    /// Starts one, and waits until it has gone on for some checks.
    fn start() -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let dags = Path::new(env!("CARGO_MANIFEST_DIR")).join("dags");
        let mut command = openbell();
        command.args(["demo", "--quiet", "--port", "0", "--speed", "120", "--seed", "21", "--dags"]).arg(dags);
        let child =
            command.arg("--data").arg(data.path()).stdout(std::process::Stdio::null()).spawn().expect("the binary starts");
        let limit = Duration::from_secs(120);
        let url = wait_within(limit, "the demo's note", || {
            let note: Value = serde_json::from_str(&std::fs::read_to_string(data.path().join("daemon.json")).ok()?).ok()?;
            note["url"].as_str().map(str::to_owned)
        });
        let checks = data.path().join("runs").join(RUN).join("freshness");
        wait_within(limit, "the day's first checks", || checks.join("4").exists().then_some(()));
        Self { child, url, _data: data }
    }
}

impl Drop for Day {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).unwrap_or_default();
    }
}

/// Where pictures go, to be looked at.
fn pictures() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/browser/pictures");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[test]
fn every_page_fits_and_is_accessible_and_asks_nobody_else() {
    let Some(browser) = Browser::start("every_page_fits_and_is_accessible") else { return };
    let axe = std::fs::read_to_string(std::env::var("OPENBELL_AXE").expect("scripts/browser env")).expect("axe");
    let day = Day::start();
    let mut faults = Vec::new();
    for look in LOOKS {
        browser.look(look);
        for (name, path) in PAGES {
            browser.open(&format!("{}{}", day.url, path.replace("RUN", RUN)));
            let place = format!("{name} {} {}", look.width, look.scheme);
            let wide = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
            if wide.as_i64() != Some(0) {
                faults.push(format!("{place}: {wide} pixels wider than the window"));
            }
            browser.run(&axe);
            let found = browser.run_async(
                "const done = arguments[0]; axe.run(document).then(r => done(r.violations.flatMap(v => \
                 v.nodes.map(n => v.id + ': ' + n.target.join(' ') + ': ' + n.failureSummary))))",
            );
            let found = found.as_array().cloned().unwrap_or_default();
            faults.extend(found.iter().map(|f| format!("{place}: {}", f.as_str().unwrap_or_default())));
            std::fs::write(pictures().join(format!("{name}-{}-{}.png", look.width, look.scheme)), browser.picture())
                .expect("written");
        }
    }
    faults.extend(browser.complaints());
    let elsewhere = browser
        .requests()
        .into_iter()
        .filter(|url| !url.starts_with(&day.url) && !["data:", "chrome:", "about:"].iter().any(|own| url.starts_with(own)));
    faults.extend(elsewhere.map(|url| format!("a request left the host: {url}")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

const DAG: &str = "name: report
alerts: { email: [a@example.com] }
steps:
  first: { command: [sh, -c, \"echo it begins\"] }
  gate: { command: [sh, -c, \"while [ ! -e GATE ]; do sleep 0.05; done\"], needs: [first] }
  last: { command: [sh, -c, \"echo it ends\"], needs: [gate] }
";

#[test]
fn a_run_is_started_watched_cleared_and_cancelled() {
    let Some(browser) = Browser::start("a_run_is_started_watched_cleared_and_cancelled") else { return };
    let (data, dags) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let gate = data.path().join("gate");
    std::fs::write(dags.path().join("report.yaml"), DAG.replace("GATE", gate.to_str().expect("a plain path"))).expect("written");
    let daemon = Daemon::start(data.path(), dags.path(), &[]);
    let start_a_run = |key: &str| {
        browser.open(&format!("{}/dags", daemon.url));
        browser.press("Run now");
        browser.until_it_says(key);
        if !browser.url().contains("/runs/") {
            browser.press(key);
        }
        browser.until("the run's page", || browser.url().contains("/runs/report"));
    };
    let today = daemon.get("/api/v1/snapshot")["now"].as_str().expect("a time")[..10].to_owned();
    start_a_run(&format!("{today}+manual.1"));
    // Live: this page is not loaded again.
    browser.run("window.kept = true");
    browser.until("the first step's end", || step_says(&browser, "first", "succeeded") && step_says(&browser, "gate", "running"));
    std::fs::write(&gate, "").expect("written");
    browser.until("the last step's end", || step_says(&browser, "last", "succeeded"));
    assert_eq!(browser.run("return window.kept === true"), json!(true), "the page was not loaded again");

    // Once more, to be cancelled.
    std::fs::remove_file(&gate).expect("removed");
    start_a_run(&format!("{today}+manual.2"));
    browser.until("the second step", || step_says(&browser, "gate", "running"));
    browser.press("Cancel this run");
    browser.press("Cancel the run");
    browser.until_it_says("cancelled");
    let id = browser.url().rsplit('/').next().expect("an id").to_owned();
    wait_within(Duration::from_secs(30), "the end", || {
        daemon.run_view(&id.replace("%40", "@")).filter(|r| r["state"] != "running")
    });
    assert!(browser.complaints().is_empty());
}

/// Whether the row of a step holds a word.
fn step_says(browser: &Browser, step: &str, word: &str) -> bool {
    let script = format!(
        "return [...document.querySelectorAll('tr')].some(r => r.innerText.includes('{step}') && r.innerText.includes('{word}'))"
    );
    browser.run(&script) == json!(true)
}

#[test]
fn an_import_error_appears_and_goes() {
    let Some(browser) = Browser::start("an_import_error_appears_and_goes") else { return };
    let (data, dags) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let file = dags.path().join("report.yaml");
    let good = "name: report\nsteps:\n  first: { command: [\"true\"] }\n";
    std::fs::write(&file, good).expect("written");
    let daemon = Daemon::start(data.path(), dags.path(), &[]);
    browser.open(&format!("{}/dags", daemon.url));
    browser.until_it_says("report");
    std::fs::write(&file, good.replace("command", "comand")).expect("written");
    // It is folded away until somebody opens it.
    let holds = |words: &str| browser.run("return document.body.textContent").as_str().is_some_and(|text| text.contains(words));
    browser.until("the error", || holds("comand") && holds("report.yaml:3"));
    std::fs::write(&file, good).expect("written");
    browser.until("the error to go", || !holds("comand"));
    // A calm page hears that it is live.
    let beat = "const done = arguments[0]; new EventSource('/events?page=dags').addEventListener('beat', () => done(true));";
    assert_eq!(browser.run_async(beat), json!(true));
    assert!(browser.complaints().is_empty());
}
