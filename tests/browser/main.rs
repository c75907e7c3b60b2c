//! The pages in a real headless Chromium (`scripts/browser up`): every one in light and dark, on a desktop
//! and a phone, and what people do there.

mod day;
mod driver;
mod pages;
#[path = "../support/mod.rs"]
mod support;

use driver::Browser;
use serde_json::json;
use support::{Daemon, wait_for};

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
    std::fs::write(
        dags.path().join("report.yaml"),
        DAG.replace("GATE", gate.to_str().expect("a plain path")),
    )
    .expect("written");
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
    browser.until("the first step's end", || {
        step_says(&browser, "first", "succeeded", 1) && step_says(&browser, "gate", "running", 1)
    });
    std::fs::write(&gate, "").expect("written");
    browser.until("the last step's end", || step_says(&browser, "last", "succeeded", 1));
    assert_eq!(browser.run("return window.kept === true"), json!(true), "the page was not loaded again");

    // What is cleared runs again, with what needs it.
    browser.until_it_says("succeeded");
    browser.run("document.querySelectorAll('details[data-keep=step-gate]').forEach(d => { d.open = true; })");
    browser.run("document.querySelector('details[data-keep=clear-gate]').open = true");
    browser.press("Clear gate");
    browser.until("second attempts", || {
        step_says(&browser, "gate", "succeeded", 2) && step_says(&browser, "last", "succeeded", 2)
    });
    assert!(step_says(&browser, "first", "succeeded", 1), "what it needs was not run again");

    // Once more, to be cancelled.
    std::fs::remove_file(&gate).expect("removed");
    start_a_run(&format!("{today}+manual.2"));
    browser.until("the second step", || step_says(&browser, "gate", "running", 1));
    browser.press("Cancel this run");
    browser.press("Cancel the run");
    browser.until_it_says("cancelled");
    let id = browser.url().rsplit('/').next().expect("an id").to_owned();
    wait_for("the end", || daemon.run_view(&id.replace("%40", "@")).filter(|r| r["state"] != "running"));
    assert!(browser.complaints().is_empty());
}

/// Whether the row of a step holds a word, and the number of its attempt.
fn step_says(browser: &Browser, step: &str, word: &str, attempt: u32) -> bool {
    let script = format!(
        "const row = document.getElementById('step-{step}'); \
         return row !== null && row.innerText.includes('{word}') && row.cells[2].innerText.trim() === '{attempt}'"
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
    let holds = |words: &str| {
        browser.run("return document.body.textContent").as_str().is_some_and(|text| text.contains(words))
    };
    browser.until("the error", || holds("comand") && holds("report.yaml:3"));
    std::fs::write(&file, good).expect("written");
    browser.until("the error to go", || !holds("comand"));
    // A calm page hears that it is live.
    browser.until_a_beat();
    assert!(browser.complaints().is_empty());
}
